// Dense sums with lanes = output channels ("K-vector"): acc[PX][KV], KV weight vectors against PX neighbouring pixels
// broadcast from memory. 14 x 2 with 32 registers, 6 x 2 with 16.
//
// A run of up to 112 pixels (72 with 16 registers), eight tiles or more, takes the terms in blocks of 256, all tiles one block after the other:
// its weights (32 KB; 16) come from L2 or beyond once for the whole run, fetched ahead by software (without that a deep
// layer runs at half speed). The sums of the run wait in L1 (14 KB; 5), pixel by pixel, so that they leave in whole lines
// of the output whatever the tiles were. Runs of few terms whose sums don't wait may be twice as long.
//
// Pixels of dense channels (nhwc) are read in place, each a stream, and finished sums go from the registers to pixels of the
// output (`straight`); where they are one block of terms, runs are outside and weights inside, and tiles of a run that follow one
// another and have the same terms are one call (3x224 -> 32 k3 stride 2, 27 terms: 1.2 times as fast as before that). A tile took
// 14 to 24 cycles beside its products then (Zen 3, all in L1, undisturbed; 36 to 54 with a call for each, 85 to 140 when each set up
// what a whole run shares); `Tiles` has cut that since.
//
// One tile stands in channel_tile.hpp. Included by one kernel file per element type: together they would be an object of 0.8 MB.
//
// Where X is the image itself, tiles at the ends of its rows leave out the products with the padding: 9 % of a 3x3 layer
// with stride 2 on 14x14 pixels, 18 % with stride 1 on 7x7.
//
// bench/RESULTS.md has what layers reach. AVX-512 on Zen 4: 94 to 96 % of the FMA peak from 200 terms on in planes, 95 to 98 in pixels of dense
// channels (16 loads for 28 FMAs); on Zen 5, with two FMAs a cycle, 84 to 92 in planes, of which the loop over
// terms loses 4, transposes and fetches the rest, and 90 to 95 in pixels of dense channels. AVX2 on Zen 3, undisturbed: 72 to 84 % in planes
// where sums are deep (8 loads for 12), 83 to 89 from panels, whose tiles are one stream each (the sweep alone 93 to 97, the rest
// is the copy); pixels of dense channels in place 85 to 92 in large layers, 60 to 89 beside busy hyperthreads.
#pragma once

#include "gemm/channel_tile.hpp"
#include "gemm/kernel.hpp"
#include "gemm/tile.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

// 49 pixels, nine narrow tiles, must be one run: a last tile of its own would read all weights again (1.2 to 1.3 times as fast).
constexpr int run_pixels = registers == 16 ? 12 * most_pixels : 8 * most_pixels, run_entries = 16;
// Runs whose sums don't wait have twice as many pixels where these take no more of L1, up to 27 terms of 4 bytes (16x112 -> 96 k1 1.02
// times as fast).
constexpr std::int64_t near_run = 24 * 1024;
// How many pixels ahead the lines of a straight tile are fetched for writing, if they are: one tile of 27 terms is over before a
// line is there (3x224 -> 64 k3 took 1.2 times as long).
constexpr int fetch_distance = 3 * most_pixels;
constexpr std::int64_t near_weights = 128 * 1024;  // that L2 keeps beside all else: they need not be fetched ahead

// Tiles of one size and the same terms, whose pixels follow one another in X and in the output: what is said of all at once costs shallow
// layers nothing between two of them (32x112 -> 16 k1: 7 % of the time before).
template <class T> struct AlikeTiles {
    const DenseSum* sum;
    const T* x;
    int pixels, count;  // of each; how many
    bool two_rows;
};

// Tiles whose pixels follow one another in the output.
template <class T> struct Run {
    AlikeTiles<T> alike[run_entries];
    int entries = 0, pixels = 0, most = run_pixels;  // most: more than run_pixels only where no sums wait
    std::int64_t pixel = 0;  // index of the first

    // How many more tiles of n pixels fit in.
    NPCONV_INLINE int room(int n) const { return entries < run_entries ? (most - pixels) / n : 0; }
    NPCONV_INLINE void add(const AlikeTiles<T>& t) {
        alike[entries++] = t;
        pixels += t.count * t.pixels;
    }
};

// Whether all pixels of a tile lie in one set of L1: a multiple of 4 KB apart.
template <class T> NPCONV_INLINE bool in_one_set(const DenseSweep<T>& a) {
    constexpr int set_bytes = 4096;
    return registers == 32 && !a.x_tile && a.x_step * std::int64_t(sizeof(T)) % set_bytes == 0;
}

// Into how many tiles a row is cut. Tiles of such pixels have no more of them than a set has lines, unless tiles would then have fewer than
// five sixths of that on average: Zen 5, twelve lines: 1024x14 -> 256, 512 k1 1.03 to 1.05 times as fast, with ten or eleven pixels no faster. Zen 4, eight:
// 1024x14 -> 512 1.04 (95 -> 98 % of the FMA peak), 2048x7 -> 512 1.13 (87 -> 98), 512x28 -> 1024 stride 2 1.32 (73 -> 97). Where ends of rows
// have lists of terms of their own, these count on rows of one, of two and of more tiles.
template <class T> NPCONV_INLINE std::int64_t tiles_of_row(const DenseSweep<T>& a) {
    const std::int64_t widest = tiles_of(a.row_pixels, most_pixels), lines = a.set_lines, narrow = tiles_of(a.row_pixels, lines);
    const bool narrower = in_one_set(a) && narrow > widest && 6 * a.row_pixels >= 5 * lines * narrow;
    return narrower && (a.sums.edges == 1 || widest > 2) ? narrow : widest;
}

// Walks over the rows of a sweep, run by run.
template <class T> class Runs {
public:
    NPCONV_INLINE explicit Runs(const DenseSweep<T>& a)
        : a_(a), whole_rows_(a.row_pixels == a.pixel_row), tiles_(tiles_of_row(a)),
          end_(a.tile_end < tiles_ ? a.tile_end : tiles_), first_(tile_begin(a.row_pixels, tiles_, a.tile_begin)),
          size_(a.row_pixels / tiles_), longer_(a.row_pixels % tiles_), pairs_(can_pair(a)), tile_(a.tile_begin), begin_(first_) {}

    // Two rows make one tile: only whole rows are one run of output pixels. Two lines more than a set has cost little.
    static NPCONV_INLINE bool can_pair(const DenseSweep<T>& a) {
        const std::int64_t most = in_one_set(a) && a.set_lines + 2 < most_pixels ? a.set_lines + 2 : most_pixels;
        return a.row_pixels == a.pixel_row && 2 * a.row_pixels <= most && a.row_pixels > most_pixels / 4;
    }

    NPCONV_INLINE bool next(Run<T>& run) {
        run.entries = run.pixels = 0;
        run.pixel = a_.pixel + row_ * a_.pixel_row + begin_;
        while (row_ < a_.rows) {
            const bool two = pairs_ && row_ + 1 < a_.rows && kind(row_) == kind(row_ + 1);
            const std::int64_t size = size_ + (tile_ < longer_);
            const int n = int(two ? 2 * a_.row_pixels : size), room = run.room(n);
            if (room < 1) break;
            const int edge = a_.sums.edges > 1 ? (tile_ == 0) + 2 * (tile_ + 1 == tiles_) : 0;
            const std::int64_t alike = alike_tiles(), count = alike < room ? alike : room;
            const T* x = a_.x + (a_.x_tile ? tile_ * a_.x_tile : row_ * a_.x_row_stride + begin_ * a_.x_step);
            run.add({a_.sums.sums + kind(row_) * a_.sums.edges + edge, x, n, int(count), two});
            begin_ += count * size;
            tile_ += count;
            if (tile_ < end_) continue;
            tile_ = a_.tile_begin;
            begin_ = first_;
            row_ += two ? 2 : 1;
            if (!whole_rows_) break;
        }
        return run.entries > 0;
    }

private:
    // How many tiles of this row, from this one on, are as long and have the same terms; tiles of a panel don't follow one another.
    NPCONV_INLINE std::int64_t alike_tiles() const {
        if (a_.x_tile || (a_.sums.edges > 1 && tile_ == 0)) return 1;
        std::int64_t end = tile_ < longer_ && longer_ < end_ ? longer_ : end_;
        if (a_.sums.edges > 1 && end == tiles_ && tile_ + 1 < tiles_) --end;
        return end - tile_;
    }
    NPCONV_INLINE int kind(std::int64_t row) const { return a_.sums.row_kind ? a_.sums.row_kind[row] : 0; }

    const DenseSweep<T>& a_;
    const bool whole_rows_;
    const std::int64_t tiles_, end_;           // of a row; the first that isn't taken
    const std::int64_t first_, size_, longer_;  // pixel of the first tile; pixels of a tile; how many tiles have one more
    const bool pairs_;
    std::int64_t row_ = 0, tile_, begin_;
};

// Whether vectors of pixels of dense channels cross lines (NumPy's own arrays begin 16 bytes behind one). Such a store, where its
// second line is not in L1, takes some 50 cycles: the line has to be fetched before (16x112 -> 96 k1 took twice as long).
template <class T> NPCONV_INLINE bool crosses_lines(const DenseStore<T>& s) {
    return ((reinterpret_cast<std::uintptr_t>(s.dst) | std::uintptr_t(s.pixel_stride * std::int64_t(sizeof(T)))) & 63) != 0;
}
template <class T> NPCONV_INLINE void fetch_pixels(const T* dst, std::int64_t pixel_stride, int n) {
    for (int i = 0; i < n; ++i, dst += pixel_stride) prefetch_write(dst);
}

// Whether the output lines of a tile are fetched for writing while its last block is summed. With 32 registers only those that are far,
// or that a vector crosses: 64 fetches a tile are 1 to 5 % of its time (Zen 5: 160x7 -> 960 k1 1.05 times as fast without, 256x56 -> 64 1.02).
template <class T> NPCONV_INLINE bool fetches_output(const DenseSweep<T>& a) {
    return registers == 16 || a.fetch_output || (a.store.pixel_stride != 1 && crosses_lines(a.store));
}
template <class T>
NPCONV_INLINE void fetch_output(const DenseStore<T>& s, std::int64_t oc, std::int64_t channels, std::int64_t pixel, int n) {
    if (s.pixel_stride != 1) {
        const T* dst = s.dst + oc + pixel * s.pixel_stride;
        fetch_pixels(dst, s.pixel_stride, n);
        if (crosses_lines(s)) fetch_pixels(dst + channels - 1, s.pixel_stride, n);
        return;
    }
    T* dst = s.dst + oc * s.channel_stride + pixel;
    for (std::int64_t i = 0; i < channels; ++i, dst += s.channel_stride) {
        prefetch_write(dst);
        prefetch_write(dst + n - 1);
    }
}

// The terms [from, from + count) of a group that a tile takes.
template <class T> NPCONV_INLINE void cut_block(Block<T>& b, const DenseTerms& terms, std::int64_t from, std::int64_t count) {
    const std::int64_t size = terms.size(), first = from < size ? from : size;
    const std::int64_t end = size - first > count ? first + count : size;
    b.term = terms.term + first;
    b.end = terms.term + end;
    b.left = terms.left;
    b.all = terms.rows > 1 ? terms.all : std::int32_t(end - first) - terms.left - terms.right;  // several rows are one block
    b.right = terms.right;
    b.in_order = terms.in_order;
}

// Brings the weights of the next block into L2, evenly over the tiles of this one: each line of a large layer comes from
// L3 or from memory, and fetching them in one tile's time (as the caches would by themselves) took a third of all time.
template <class T> struct Ahead {
    const char* from = nullptr;
    std::int64_t bytes = 0, step = 0;  // of the next block; per fetch

    NPCONV_INLINE void next(const Run<T>& run, std::int64_t group, const T* weights, std::int64_t rows, int pitch) {
        from = reinterpret_cast<const char*>(weights);
        bytes = (rows < dense_block ? rows : dense_block) * pitch * std::int64_t(sizeof(T));
        std::int64_t all = 0, one = 0;
        for (int i = 0; i < run.entries; ++i) {
            if (i == 0 || run.alike[i].sum != run.alike[i - 1].sum) one = fetches(run.alike[i].sum->terms(group));
            all += one * run.alike[i].count;
        }
        step = (bytes + all) / (all + 1);  // less than a line, mostly: lines are fetched again and again, but never more of them
    }
    // What is one call takes `advance` bytes.
    NPCONV_INLINE void take(Block<T>& b, std::int64_t advance) {
        b.ahead = from;
        b.ahead_step = bytes > 0 ? step : 0;
        from += advance;
        bytes -= advance;
    }
    static NPCONV_INLINE std::int64_t fetches(const DenseTerms& t) { return t.in_order ? t.size() / unroll : t.size(); }
    static NPCONV_INLINE std::int64_t fetches(const Block<T>& b) { return b.in_order ? (b.end - b.term) / unroll : b.end - b.term; }
};

// Whether finished sums of a block of so many channels leave the registers for pixels of dense channels. Storing a part of a vector
// is cheap with 32 registers only.
template <class T> NPCONV_INLINE bool goes_straight(const DenseSweep<T>& a, std::int64_t channels) {
    return a.store.pixel_stride != 1 && (registers == 32 || channels % lanes<T> == 0) && is_simple(a.store.epilogue) &&
           !Runs<T>::can_pair(a) && a.terms < std::int64_t(dense_block) * dense_level2 / 2;
}

// Scale and bias of a block whose last vector of channels is not whole.
template <class T, int KV> struct WholeVectors {
    alignas(64) T scale[KV * lanes<T>], bias[KV * lanes<T>];

    static NPCONV_NOINLINE const T* copy(const T* from, std::int64_t n, T* to) {
        if (!from) return nullptr;
        for (int i = 0; i < KV * lanes<T>; ++i) to[i] = i < n ? from[i] : T(0);
        return to;
    }
};

template <class T> NPCONV_INLINE int most_of_run(const DenseSweep<T>& a) {
    const bool near = 2 * run_pixels * a.terms * std::int64_t(sizeof(T)) <= near_run;
    return registers == 32 && near && goes_straight(a, lanes<T>) ? 2 * run_pixels : run_pixels;
}

template <int KV, class T>
NPCONV_INLINE void set_output(Block<T>& b, const DenseSweep<T>& a, const Run<T>& run, std::int64_t oc, std::int64_t channels, WholeVectors<T, KV>& whole) {
    b.dst = a.store.dst + oc + run.pixel * a.store.pixel_stride;
    b.pixel_stride = a.store.pixel_stride;
    b.epilogue.set(a.store.epilogue, oc);
    b.last_channels = channels - (KV - 1) * lanes<T>;
    if (registers == 16 || !b.straight || b.last_channels == lanes<T>) return;
    b.epilogue.scale = WholeVectors<T, KV>::copy(b.epilogue.scale, channels, whole.scale);
    b.epilogue.bias = WholeVectors<T, KV>::copy(b.epilogue.bias, channels, whole.bias);
}

template <class T> NPCONV_INLINE void set_fetch(Block<T>& b, const DenseSweep<T>& a, const Run<T>& run, std::int64_t channels, int pitch) {
    b.fetch = nullptr;
    if (!a.fetch_output && !crosses_lines(a.store)) return;
    const std::int64_t wraps = run.pixels <= fetch_distance ? run.pixels : 0;
    b.fetch = b.dst + channels - 1 + (wraps ? pitch : 0) + (fetch_distance - wraps) * b.pixel_stride;
    b.fetch_left = wraps ? 0 : run.pixels - fetch_distance;
    b.fetch_jump = pitch - run.pixels * b.pixel_stride;
}

// A run whose sums are one block each and go straight to memory: little more than a call between the tiles of shallow layers,
// which are over in a few hundred cycles. With 16 registers two tiles at a time meet a single vector of channels: six sums are too few to
// hide how long a product takes (127 instructions for 48 products, none on the stack).
template <class T, int KV, bool Near> NPCONV_NOINLINE void run_straight(const DenseSweep<T>& a, const Run<T>& run, const T* w, std::int64_t oc, std::int64_t channels) {
    Block<T> block;
    WholeVectors<T, KV> whole;
    block.w = w;
    block.x_step = a.x_step;
    block.x_row = 0;
    block.panel = a.x_tile != 0;
    block.resume = block.accumulate = false;
    block.complete = block.straight = true;
    Ahead<T> ahead;
    ahead.from = reinterpret_cast<const char*>(w);
    if (a.terms * a.oc * std::int64_t(sizeof(T)) > near_weights) ahead.next(run, 0, w + a.terms * (KV * lanes<T>), a.terms, KV * lanes<T>);
    set_output<KV>(block, a, run, oc, channels, whole);
    set_fetch(block, a, run, channels, KV * lanes<T>);
    const DenseSum* sum = nullptr;
    const std::int64_t pixel_stride = a.store.pixel_stride;
    std::int64_t advance = 0;
    for (int i = 0; i < run.entries; ++i) {
        const AlikeTiles<T>& tiles = run.alike[i];
        if (tiles.sum != sum) {  // seldom: only tiles that meet padding have terms of their own
            sum = tiles.sum;
            cut_block(block, sum->last, 0, dense_block);
            block.dense = !Near && sum->last.step == 1;
            advance = ahead.fetches(block) * ahead.step;
        }
        block.x = tiles.x;
        block.tiles = tiles.count;
        ahead.take(block, tiles.count * advance);
        if constexpr (registers == 16 && KV == 1 && !Near)
            if (block.dense && tiles.pixels == most_pixels && tiles.count > 1 && block.term < block.end) {
                const int pairs = tiles.count / 2, pixels = pairs * 2 * most_pixels;
                block.tiles = pairs;
                even_sum<T, 2 * most_pixels, 1, false, 1>(block);
                block.x += pixels * a.x_step;
                block.dst += pixels * pixel_stride;
                block.tiles = tiles.count % 2;
                if (block.tiles == 0) continue;
            }
        any_tile<T, KV, Near, false>(tiles.pixels, block);
        block.dst += block.tiles * tiles.pixels * pixel_stride;
    }
}

template <class T, int KV, bool Near>
NPCONV_NOINLINE void run_sums(const DenseSweep<T>& a, const Run<T>& run, const T* w, std::int64_t oc, std::int64_t channels) {
    constexpr int pitch = KV * lanes<T>;
    alignas(64) T sums[(2 * run_pixels + lanes<T>) * pitch], part[near_terms < dense_block ? run_pixels * pitch : 1];
    BlockCount<T> count;
    Block<T> block;
    WholeVectors<T, KV> whole;
    block.fetch = nullptr;
    Ahead<T> ahead;
    block.w = w;
    block.x_step = a.x_step;
    block.x_row = a.x_row_stride;
    block.panel = a.x_tile != 0;
    const DenseSum& any = *run.alike[0].sum;  // the number of groups and what lies between them is common to all
    // Where edges have lists of their own one block is a whole group.
    const bool cut = near_terms < dense_block && !a.x_tile && (Near || any.terms(0).step != 1) && a.sums.edges == 1 && !a.sums.row_kind;
    const bool straight = goes_straight(a, channels), fetched = fetches_output(a);
    for (std::int64_t g = 0; g < any.groups; ++g, block.w += any.w_group * pitch) {
        const std::int64_t size = any.terms(g).size(), step = cut ? near_terms : dense_block;
        for (std::int64_t from = 0; from == 0 || from < size; from += step) {
            const bool last = g + 1 == any.groups && from + step >= size, begins = from % dense_block == 0;
            if (begins) ahead.next(run, g, block.w + (from + dense_block < any.w_group ? from + dense_block : any.w_group) * pitch, any.w_group, pitch);
            block.resume = !begins;
            block.complete = (from + step) % dense_block == 0 || from + step >= size;
            block.accumulate = count.blocks > 0;
            block.sums = sums;
            block.part = part;
            block.straight = last && straight;
            set_output<KV>(block, a, run, oc, channels, whole);
            std::int64_t pixel = run.pixel;
            const DenseSum* sum = nullptr;
            std::int64_t advance = 0;
            for (int i = 0; i < run.entries; ++i) {
                const AlikeTiles<T>& tiles = run.alike[i];
                if (tiles.sum != sum) {  // seldom: only tiles that meet padding have terms of their own
                    sum = tiles.sum;
                    cut_block(block, sum->terms(g), from, step);
                    block.dense = !Near && sum->terms(g).step == 1;
                    advance = ahead.fetches(block) * ahead.step;
                }
                block.x = tiles.x + g * any.x_group;
                block.tiles = last && fetched ? 1 : tiles.count;
                const int pixels = block.tiles * tiles.pixels;
                for (int k = 0; k < tiles.count; k += block.tiles) {
                    if (last && fetched) fetch_output(a.store, oc, channels, pixel, pixels);
                    ahead.take(block, block.tiles * advance);
                    if (tiles.two_rows)
                        any_tile<T, KV, Near, true>(tiles.pixels, block);
                    else
                        any_tile<T, KV, Near, false>(tiles.pixels, block);
                    block.x += pixels * a.x_step;
                    block.sums += pixels * pitch;
                    block.part += pixels * pitch;
                    block.dst += pixels * a.store.pixel_stride;
                    pixel += pixels;
                }
            }
            if (block.complete) count.next(sums, run.pixels * pitch);
        }
    }
    if (straight) return;
    count.finish(sums, run.pixels * pitch);
    store_run<T, KV>(a.store, sums, run.pixels, oc, channels, run.pixel);
}

template <class T> NPCONV_INLINE void block_sums(const DenseSweep<T>& a, const Run<T>& run, std::int64_t b, bool straight) {
    constexpr int L = lanes<T>;
    const T* w = a.weights + b * 2 * L * a.terms;
    const std::int64_t left = a.oc - b * 2 * L, channels = left < 2 * L ? left : 2 * L, oc = a.oc_first + b * 2 * L;
    if (straight && goes_straight(a, channels) && a.x_step == 1)
        channels > L ? run_straight<T, 2, true>(a, run, w, oc, channels) : run_straight<T, 1, true>(a, run, w, oc, channels);
    else if (straight && goes_straight(a, channels))
        channels > L ? run_straight<T, 2, false>(a, run, w, oc, channels) : run_straight<T, 1, false>(a, run, w, oc, channels);
    else if (channels > L)
        a.x_step == 1 ? run_sums<T, 2, true>(a, run, w, oc, channels) : run_sums<T, 2, false>(a, run, w, oc, channels);
    else
        a.x_step == 1 ? run_sums<T, 1, true>(a, run, w, oc, channels) : run_sums<T, 1, false>(a, run, w, oc, channels);
}

// Weights outside, pixels inside: one block of weights stays in L2 (often L1) while it meets every pixel of the band. Short
// sums for pixels of dense channels are taken the other way round, which needs no more of L2 (a byte of weights a cycle) and
// completes a few pixels of the output after the other.
template <class T> void sweep(const DenseSweep<T>& a) {
    const bool straight = a.sums.sums[0].groups == 1;
    Run<T> run;
    if (a.terms <= dense_block && a.store.pixel_stride != 1) {
        if (straight) run.most = most_of_run(a);
        for (Runs<T> runs(a); runs.next(run);)
            for (std::int64_t b = a.block_begin; b < a.block_end; ++b) block_sums(a, run, b, straight);
    } else {
        for (std::int64_t b = a.block_begin; b < a.block_end; ++b)
            for (Runs<T> runs(a); runs.next(run);) block_sums(a, run, b, false);
    }
}

}  // namespace

}  // namespace npconv::NPCONV_THIS_ISA

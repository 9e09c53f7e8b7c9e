// Dense sums with lanes = output pixels ("spatial"): acc[MR][NV], MR broadcast weights against NV vectors of neighbouring
// pixels. 8 x 3 with 32 registers, 4 x 3 with 16. Best where few terms meet many pixels (stems, shallow 1x1 layers): rows
// of pixels leave the registers without a transpose.
//
// A chunk of tiles whose pixels fit in L1 meets all weights, which stream from L2, before the next chunk; sums of more
// than 256 terms wait in L1 between their blocks. Chunks of a row differ by one tile at most: each fetches as much of the next as it
// has itself. Those that are alike are told of once (both 1.02 to 1.05 for 32x112 -> 16 k1, 83 -> 87 % of the peak, Zen 5). With 32
// registers a tile's copies of 256 terms meet sixteen blocks of weights before further terms do, whose sums wait in L2 (`tile_deep`;
// 1.01, and 1.10 where weights are beyond L2: 512x65 -> 2048 82 -> 90 %, Zen 5). In long runs all vectors but the first are aligned in
// the output: a store across two lines costs as much as two. A few pixels behind the last whole
// vector of a short row meet vectors of channels (kernel_tail.cpp).
//
// Under a tile of an image lie one to four lines, and a page, for each term. The first weights that meet a chunk store its pixels
// side by side (`stage`), all others find one stream near them, and meanwhile the next tile's lines are fetched: no pass
// over the image of its own, which took AVX2 11 to 20 % of a layer (256x56 -> 64 79 -> 86 % of the FMA peak, 512x28 -> 128 79 -> 85, pairs
// in bench/RESULTS.md; on Sapphire Rapids instead of reading in place, 256x56 -> 128 60 -> 79, 512x28 -> 128 64 -> 82). With 16 registers the loop over
// terms has no vector on the stack, the one that copies one for each term; with 32 both (180 and 187 instructions for 96 products)
// keep two pixel vectors of every fourth term there, which a loop of two terms at a time might not.
//
// One tile, and its loops over terms, stand in pixel_tile.hpp.
//
// bench/RESULTS.md has what layers reach. What shallow ones lack: on Zen 3 a vector stored takes the place of a product (192 products and
// 112 loads, all in L1, take 99 cycles for 96, with 12 stores 106 to 111), the loop 6.5 cycles a term for 6, and the rest of a tile, whose
// instructions a busy hyperthread makes dear, 10 to 20. Sums of 16 terms in L1 reach 79 % of the FMA peak so, of 32 terms 86, of 64 terms 89
// (64x24 -> 64 k1); 84 for 64x56 -> 256. On Zen 5 a vector stored takes half a cycle from the products (24 of them 12 of a tile's 192 for 16 terms,
// 5 more are what else lies between two tiles) and a call with its chunk 170 cycles, without far pixels: in L1 91 % for 16 terms, 94 for 32, 96 for 64.
#pragma once

#include "gemm/kernel.hpp"
#include "gemm/pixel_tile.hpp"
#include "gemm/tile.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int deep_blocks = 16;  // of weights that meet a tile's copies, and its tail, together
constexpr int most_chunk = 16, most_waiting = 8;  // tiles; of those whose sums wait in L1
constexpr int near_bytes = 20 * 1024;  // what the pixels of one chunk of tiles may take of L1
// Two tiles may take more: sums of 54 to 66 terms (64x56 -> 256 k1 1.03). With near_bytes as large sums of 16 and 32 terms lose 2 % (Zen 5).
constexpr int near_pair = wide ? 25 * 1024 : 0;
// Terms and weight blocks from which on copies of pixels pay: the lines under a tile of fewer terms are as near as copies of them, and
// with three blocks of eight channels 144x56 -> 24 k1 was a tenth slower (Sapphire Rapids), with four 144x28 -> 32 k1 4 % (Zen 5).
constexpr int staged_terms = wide ? 96 : 64, staged_blocks = wide ? 5 : 3;

template <class T> NPCONV_INLINE Staging staging_of(const DenseSweep<T>& a, std::int64_t j) {
    return !a.stage ? Staging::none : j == a.block_begin ? Staging::copies : Staging::finds;
}

template <class T> constexpr int tile_size = most_channels * most_vectors * lanes<T>;

template <class T> NPCONV_INLINE bool goes_straight(const DenseSweep<T>& a) {
    return is_simple(a.store.epilogue) && a.store.pixel_stride == 1 && a.terms < std::int64_t(dense_block) * dense_level2 / 2;
}

// Pixels [begin, begin + pixels) of a row. Where X must not be read behind the row's end, the vectors begin `back` pixels
// earlier, and only the tile's own pixels are stored.
struct Tile {
    std::int64_t begin, pixels, back;
    int vectors;
    std::ptrdiff_t x;  // from the first pixel of the row, or from the beginning of the panel
};

// Cuts a row into tiles of whole vectors whose numbers differ by one, behind a shorter vector where that aligns the rest.
struct RowTiles {
    std::int64_t pixels, lead, tiles, vectors;  // but for the tail; lead counts as a tile; vectors: without it
    std::int64_t least, longer;                 // vectors of a tile; how many tiles have one more
    std::ptrdiff_t x_tile;
    int lanes;
    bool slack;

    NPCONV_INLINE Tile tile(std::int64_t i) const {
        if (lead) {
            if (i == 0) return {0, lead, 0, 1, 0};
            --i;
        }
        const std::int64_t from = i * least + (i < longer ? i : longer), to = from + least + (i < longer);
        const std::int64_t begin = lead + from * lanes, end = lead + to * lanes < pixels ? lead + to * lanes : pixels;
        const std::int64_t back = slack ? 0 : lead + to * lanes - end;
        return {begin, end - begin, back, int(to - from), x_tile ? i * x_tile : begin - back};
    }
    // Where the run of whole tiles ends that tile i, which is whole, belongs to.
    NPCONV_INLINE std::int64_t run_end(std::int64_t i) const {
        const std::int64_t first = lead > 0, whole = tiles - ((pixels - lead) % lanes != 0);
        return i < first ? first : i < first + longer && first + longer < whole ? first + longer : whole;
    }
};

// How many pixels behind the whole vectors of a row TailKernel takes. It needs terms that lie evenly apart, those of all groups.
template <class T> NPCONV_INLINE std::int64_t tail_of(const DenseSweep<T>& a) {
    const std::int64_t vectors = a.row_pixels / lanes<T>, tail = a.row_pixels % lanes<T>;
    const DenseSum& sum = a.sums.sums[0];
    const bool even = sum.last.step && (sum.groups == 1 || sum.full.step == sum.last.step);
    if (a.x_tile || a.rows > 1 || a.weight_row || !even || vectors == 0 || vectors >= dense_long_row) return 0;
    return a.tail && tail <= a.tail->most ? tail : 0;
}

template <class T> NPCONV_INLINE RowTiles row_tiles(const DenseSweep<T>& a, std::int64_t tail) {
    constexpr int L = lanes<T>;
    RowTiles r = {a.row_pixels - tail, 0, 0, tiles_of(a.row_pixels - tail, L), 0, 0, a.x_tile, L, a.slack};
    if (r.vectors >= dense_long_row && rows_align(a.store) && !a.x_tile) {
        r.lead = unaligned(a.store.dst + a.pixel);
        r.vectors = tiles_of(r.pixels - r.lead, L);
    }
    r.tiles = tiles_of(r.vectors, most_vectors);
    r.least = r.vectors / r.tiles;
    r.longer = r.vectors % r.tiles;
    // The only tile of a row, shorter than its vectors, that must not be read to their end: all vectors but the last are one of their own.
    if (!a.slack && r.tiles == 1 && r.vectors > 1 && r.vectors * L > r.pixels) {
        r.tiles = 2;
        r.least = 1;
        r.longer = r.vectors - 2;
    }
    r.tiles += r.lead > 0;
    return r;
}

// The tile's sums, which may begin before it, to memory.
template <class T>
NPCONV_NOINLINE void store_sums(const DenseStore<T>& s, T* sums, const Tile& tile, std::int64_t oc, int channels, std::int64_t pixel) {
    constexpr int L = lanes<T>, turned_pitch = L > most_channels ? L : most_channels;
    const int pitch = tile.vectors * L;
    if (s.pixel_stride == 1) return store_tile<T, false>(s, sums + tile.back, pitch, channels, tile.pixels, oc, pixel);
    alignas(64) T turned[most_vectors * L * turned_pitch];
    transpose_tile(sums, pitch, channels, pitch, turned, turned_pitch);
    store_tile<T, true>(s, turned + tile.back * turned_pitch, turned_pitch, int(tile.pixels), channels, oc, pixel);
}

// Neighbouring tiles of a row whose pixels stay in L1 while they meet all weights.
struct Chunk {
    Tile tile[most_chunk];
    int tiles;
    std::int64_t row;
    std::int64_t alike;     // this chunk and those behind it that differ only in where they lie,
    std::ptrdiff_t x_next;  // so far apart in X

    NPCONV_INLINE std::int64_t pixels() const { return tile[tiles - 1].begin + tile[tiles - 1].pixels - tile[0].begin; }
};

// Terms [from, to) of a list, behind `before` others, for the tiles of a chunk.
template <class T> struct Pixels {
    Staging staging;
    std::ptrdiff_t first, step;   // of X, from a tile's pixel to those of the first term; from term to term
    std::int64_t before, fetched; // terms in front of these; what the first term is of those that are fetched, -1: none
    std::int64_t line, chunk;     // what is fetched of them; pixels of a chunk
    T* stage;

    // The first blocks of channels fetch pixels that are needed later, of a quarter of the terms each. With 16 registers four blocks fetch
    // the next chunk's; those that find copies, one of the next tile's two lines, so that eight fetch all. With 32 those that find copies
    // fetch the line in which each vector ends, and lists have `ahead`.
    NPCONV_INLINE Pixels(const DenseSweep<T>& a, const DenseTerms& terms, std::int64_t group, std::int64_t from, std::int64_t to,
                         std::int64_t j, std::int64_t chunk_)
        : staging(staging_of(a, j)), first(from < to ? terms.term[from].x : 0), step(terms.step), before(group + from), fetched(-1),
          line(0), chunk(chunk_), stage(a.stage) {
        const std::int64_t found = j - a.block_begin - (staging != Staging::none);
        constexpr std::int64_t elements = 64 / std::int64_t(sizeof(T));
        if (staging == Staging::copies || (staging == Staging::none && (wide || !a.far))) return;
        if (found >= (wide || staging == Staging::none ? 4 : 8)) return;
        fetched = found % 4 * (to - from) / 4;
        line = wide ? elements - 1 : found / 4 * elements;
    }
    // Whether further blocks of channels neither copy nor fetch anything.
    NPCONV_INLINE bool same_for_all() const { return staging != Staging::copies && fetched < 0; }
    // What all tiles have in common.
    NPCONV_INLINE void begin(Work<T>& work) const {
        work.step = step;
        work.tiles = 1;
        work.staged = staging != Staging::none;
        work.stage = nullptr;
        work.next = reinterpret_cast<const T*>(&work);  // near, where there is nothing to fetch
        work.next_step = fetched < 0 ? 0 : step;
    }
    NPCONV_INLINE void set(Work<T>& work, const DenseSweep<T>& a, const Tile& tile) {
        work.even = work.x + first;
        work.tile_step = a.x_tile ? a.x_tile : tile.pixels;
        if (fetched >= 0) work.next = work.even + (staging == Staging::none ? chunk : tile.pixels) + fetched * step + line;
        if (staging == Staging::none) return;
        const std::int64_t pitch = tile.vectors * lanes<T>;
        T* const copy = stage + before * pitch;
        stage += a.terms * pitch;
        if (staging == Staging::copies) {
            work.stage = copy;
            return;
        }
        work.even = copy;
        work.step = pitch;
        work.tile_step = a.terms * pitch;
    }
};

template <class T> NPCONV_INLINE std::ptrdiff_t block_pitch(const DenseSweep<T>& a) {
    return most_channels * (a.weight_row ? a.weight_row : a.terms);
}
template <class T> NPCONV_INLINE const T* block_weights(const DenseSweep<T>& a, std::int64_t j) {
    return a.weights + j * block_pitch(a);
}

// A chunk against weight block j.
template <class T> NPCONV_NOINLINE void chunk_sums(const DenseSweep<T>& a, const Chunk& chunk, std::int64_t j, bool straight) {
    alignas(64) T sums[2 * most_chunk * tile_size<T>];
    const std::int64_t oc = a.oc_first + j * most_channels, left = a.oc - j * most_channels;
    const int channels = int(left < most_channels ? left : most_channels);
    const std::int64_t row_pixel = a.pixel + chunk.row * a.pixel_row;
    const T* x = a.x + chunk.row * a.x_row_stride;
    T* const dst = a.store.dst + oc * a.store.channel_stride + row_pixel;  // where that is rows of pixels
    const DenseSum& sum = a.sums.sums[0];
    Work<T> work;
    work.fetch_from = 0;
    work.w = block_weights(a, j);
    work.w_block = block_pitch(a);
    work.weight_row = a.weight_row;
    work.ahead = wide && a.far && !a.stage && !a.weight_row && j == a.block_begin ? chunk.tiles * most_vectors * lanes<T> : 0;
    work.set_output(a.store, oc);
    BlockCount<T> count;
    for (std::int64_t g = 0; g < sum.groups; ++g, x += sum.x_group, work.w += sum.w_group * (a.weight_row ? 1 : channels)) {
        const DenseTerms& terms = sum.terms(g);
        for (std::int64_t from = 0; from == 0 || from < terms.all; from += dense_block) {
            const std::int64_t to = terms.all - from > dense_block ? from + dense_block : terms.all;
            const bool end = g + 1 == sum.groups && to == terms.all;
            work.term = terms.term + from;
            work.end = terms.term + to;
            work.in_order = terms.in_order;
            work.accumulate = count.blocks > 0;
            Pixels<T> pixels(a, terms, g * sum.w_group, from, to, j, chunk.pixels());
            pixels.begin(work);
            const TileSum<T>* const tile_sum_of = tile_sums<T>(work, channels, pixels.staging);
            for (int i = 0; i < chunk.tiles; ++i) {
                const Tile& tile = chunk.tile[i];
                work.x = x + tile.x;
                pixels.set(work, a, tile);
                work.sums = sums + i * tile_size<T>;
                work.straight = end && straight && tile.back == 0;
                work.fetch = work.straight && a.fetch_output;
                work.dst = dst + tile.begin;
                work.pixels = tile.pixels;
                tile_sum_of[tile.vectors - 1](work);
            }
            count.next(sums, chunk.tiles * tile_size<T>);
        }
    }
    count.finish(sums, chunk.tiles * tile_size<T>);
    for (int i = 0; i < chunk.tiles; ++i) {
        const Tile& tile = chunk.tile[i];
        if (!straight || tile.back) store_sums(a.store, sums + i * tile_size<T>, tile, oc, channels, row_pixel + tile.begin);
    }
}

// Weight blocks that meet the last pixels of a row right behind the others: for sums of up to a thousand terms they are still in L2.
template <class T> NPCONV_INLINE std::int64_t tail_blocks(const DenseSweep<T>& a) { return a.terms <= 512 ? deep_blocks : deep_blocks / 2; }

// How many tiles from tile i on are whole and of its size.
template <class T> NPCONV_INLINE int alike(const Chunk& chunk, int i) {
    const std::int64_t pixels = chunk.tile[i].vectors * lanes<T>;
    int n = 1;
    const auto whole = [&](const Tile& t) { return t.pixels == pixels && t.vectors * lanes<T> == pixels; };
    while (i + n < chunk.tiles && whole(chunk.tile[i]) && whole(chunk.tile[i + n])) ++n;
    return n;
}

// A chunk, and those behind it that are alike, against blocks [begin, end) of weights where one block of terms is the whole sum and goes
// straight to memory: little more than a call between the tiles of shallow layers, which are over in a few hundred cycles, and nothing
// between those that are alike: these meet all blocks of channels that neither copy nor fetch pixels, before others do (with 32
// registers). Returns how many chunks are done: all, if that is one call for each.
template <class T>
NPCONV_NOINLINE std::int64_t chunk_straight(const DenseSweep<T>& a, const Chunk& chunk, std::int64_t begin, std::int64_t end) {
    const std::int64_t row_pixel = a.pixel + chunk.row * a.pixel_row;
    const T* const row = a.x + chunk.row * a.x_row_stride;
    const DenseTerms& terms = a.sums.sums[0].last;
    Work<T> work;
    work.term = terms.term;
    work.end = terms.term + terms.all;
    work.in_order = terms.in_order;
    work.weight_row = a.weight_row;
    work.sums = nullptr;
    work.accumulate = false;
    work.straight = true;
    work.fetch = a.fetch_output;
    work.w_block = block_pitch(a);
    int same[most_chunk];  // tiles that are one call, by the first of them
    for (int i = 0; i < chunk.tiles; i += same[i]) same[i] = alike<T>(chunk, i);
    const std::int64_t whole = a.oc / most_channels, whole_end = whole < end ? whole : end;  // of the blocks that are whole
    const bool ahead = wide && a.far && !a.stage && !a.weight_row && begin == a.block_begin;
    std::int64_t done = 1;
    for (std::int64_t j = begin; j < end; j += work.blocks) {
        const std::int64_t oc = a.oc_first + j * most_channels, left = a.oc - j * most_channels;
        const int channels = int(left < most_channels ? left : most_channels);
        T* const dst = a.store.dst + oc * a.store.channel_stride + row_pixel;
        work.ahead = ahead && j == begin ? chunk.tiles * most_vectors * lanes<T> : 0;
        Pixels<T> pixels(a, terms, 0, 0, terms.all, j, chunk.pixels());
        pixels.begin(work);
        const TileSum<T>* const tile_sum_of = tile_sums<T>(work, channels, pixels.staging);
        work.blocks = wide && pixels.same_for_all() && j < whole_end ? int(whole_end - j) : 1;
        // A tile of few terms is over before a line is there: those of the next block of channels, or of the next chunk.
        const std::int64_t last = j + work.blocks - 1, block_stride = most_channels * a.store.channel_stride;
        work.fetch_last = last + 1 < a.block_end ? block_stride : chunk.pixels() + (a.block_begin - last) * block_stride;
        if (j == begin && j + work.blocks == end) done = chunk.alike;
        for (std::int64_t k = 0; k < done; ++k) {
            const T* const x = row + k * chunk.x_next;
            for (int i = 0, n = 0; i < chunk.tiles; i += n) {
                const Tile& tile = chunk.tile[i];
                work.x = x + tile.x;
                pixels.set(work, a, tile);
                n = same[i];
                if (pixels.staging != Staging::none) pixels.stage += (n - 1) * a.terms * tile.vectors * lanes<T>;
                work.tiles = n;
                work.w = block_weights(a, j);
                work.set_output(a.store, oc);
                work.fetch_from = work.blocks > 1 ? block_stride : work.fetch_last;
                work.dst = dst + k * chunk.pixels() + tile.begin;
                work.pixels = tile.pixels;
                tile_sum_of[tile.vectors - 1](work);
            }
        }
    }
    return done;
}

// A tile against blocks [begin, end) of weights in sums of several blocks of terms that go straight to memory: all weights meet the copies
// of one block of terms, which stay in L1, before the next; their sums wait in L2.
template <class T> NPCONV_NOINLINE void tile_deep(const DenseSweep<T>& a, const Tile& tile, std::int64_t row, std::int64_t begin, std::int64_t end) {
    alignas(64) T sums[deep_blocks * tile_size<T>];
    const std::int64_t row_pixel = a.pixel + row * a.pixel_row + tile.begin;
    const std::int64_t whole = a.oc / most_channels, whole_end = whole < end ? whole : end;
    const T* x = a.x + row * a.x_row_stride + tile.x;
    const DenseSum& sum = a.sums.sums[0];
    Work<T> work;
    work.weight_row = a.weight_row;
    work.w_block = block_pitch(a);
    work.sums_block = tile_size<T>;
    work.ahead = 0;
    work.accumulate = false;
    work.fetch_from = 0;
    work.pixels = tile.pixels;
    for (std::int64_t g = 0; g < sum.groups; ++g, x += sum.x_group) {
        const DenseTerms& terms = sum.terms(g);
        for (std::int64_t from = 0; from < terms.all; from += dense_block, work.accumulate = true) {
            const std::int64_t to = terms.all - from > dense_block ? from + dense_block : terms.all;
            work.term = terms.term + from;
            work.end = terms.term + to;
            work.in_order = terms.in_order;
            work.straight = g + 1 == sum.groups && to == terms.all;
            work.fetch = work.straight && a.fetch_output;
            for (std::int64_t j = begin; j < end; j += work.blocks) {
                const std::int64_t oc = a.oc_first + j * most_channels, left = a.oc - j * most_channels;
                const int channels = int(left < most_channels ? left : most_channels);
                Pixels<T> pixels(a, terms, g * sum.w_group, from, to, j, tile.pixels);
                pixels.begin(work);
                work.x = x;
                pixels.set(work, a, tile);
                work.blocks = pixels.same_for_all() && j < whole_end ? int(whole_end - j) : 1;
                work.w = block_weights(a, j) + g * sum.w_group * (a.weight_row ? 1 : channels);
                work.sums = sums + (j - begin) * tile_size<T>;
                work.set_output(a.store, oc);
                work.dst = a.store.dst + oc * a.store.channel_stride + row_pixel;
                tile_sums<T>(work, channels, pixels.staging)[tile.vectors - 1](work);
            }
        }
    }
}

template <class T> NPCONV_INLINE bool should_stage(const DenseSweep<T>& a) {
    const bool pays = a.terms >= staged_terms && a.block_end - a.block_begin >= staged_blocks;
    return a.stage && pays && a.sums.sums[0].last.step;
}

template <class T> void sweep(const DenseSweep<T>& sweep) {
    DenseSweep<T> a = sweep;
    if (!should_stage(a)) a.stage = nullptr;
    const std::int64_t tail = tail_of(a), together = tail ? tail_blocks(a) : deep_blocks;
    const RowTiles t = row_tiles(a, tail);
    const bool straight = goes_straight(a);
    const std::int64_t terms = a.terms < dense_block ? a.terms : dense_block;
    const std::int64_t tile_bytes = terms * most_vectors * lanes<T> * std::int64_t(sizeof(T));
    std::int64_t fit = near_bytes / (tile_bytes ? tile_bytes : 1);
    const bool one_block = straight && a.terms <= dense_block, deep = wide && straight && a.stage && !one_block;
    const std::int64_t most = one_block ? most_chunk : most_waiting;
    const std::int64_t least = !a.stage && 2 * tile_bytes <= near_pair ? 2 : 1;
    fit = fit < least ? least : fit > most ? most : fit;
    const std::int64_t end = a.tile_end < t.tiles ? a.tile_end : t.tiles, n = end - a.tile_begin, chunks = tiles_of(n, fit);
    Chunk chunk;
    for (chunk.row = 0; chunk.row < a.rows; ++chunk.row)
        for (std::int64_t c = 0, done; c < chunks; c += done) {
            const std::int64_t i = a.tile_begin + tile_begin(n, chunks, c), longer = n % chunks;
            chunk.tiles = int(n / chunks + (c < longer));
            for (int k = 0; k < chunk.tiles; ++k) chunk.tile[k] = t.tile(i + k);
            const bool last = tail && c + 1 == chunks, once = one_block && chunk.tile[chunk.tiles - 1].back == 0;
            chunk.alike = 1;
            if (once && !last) {
                const std::int64_t run = (t.run_end(i) - i) / chunk.tiles, same = c < longer ? longer : chunks - (tail > 0);
                chunk.alike = run < 1 ? 1 : run < same - c ? run : same - c;
                chunk.x_next = t.tile(i + chunk.tiles).x - chunk.tile[0].x;
            }
            done = 1;
            for (std::int64_t j = a.block_begin, next; j < a.block_end; j = next) {
                next = (last || deep) && a.block_end - j > together ? j + together : a.block_end;
                if (once) done = chunk_straight(a, chunk, j, next);
                else if (deep && fit == 1 && chunk.tile[0].back == 0) tile_deep(a, chunk.tile[0], chunk.row, j, next);
                else for (std::int64_t b = j; b < next; ++b) chunk_sums(a, chunk, b, straight);
                if (last) a.tail->sums(a, a.row_pixels - tail, j, next);
            }
        }
}

template <class T>
constexpr SweepKernel<T> pixel_kernel = {
    most_channels, 1, most_vectors * lanes<T>, lanes<T>, near_bytes, staged_terms, staged_blocks, true, sweep<T>};

}  // namespace
}  // namespace npconv::NPCONV_THIS_ISA

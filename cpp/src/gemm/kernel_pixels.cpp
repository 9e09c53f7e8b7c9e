// Dense sums with lanes = output pixels ("spatial"): acc[MR][NV], MR broadcast weights against NV vectors of neighbouring
// pixels. 8 x 3 with 32 registers, 4 x 3 with 16. Best where few terms meet many pixels (stems, shallow 1x1 layers): rows
// of pixels leave the registers without a transpose.
//
// A chunk of tiles whose pixels fit in L1 meets all weights, which stream from L2, before the next chunk; sums of more
// than 256 terms wait in L1 between their blocks. In long runs all vectors but the first are aligned in the output: a
// store across two lines costs as much as two.
//
// Under a tile of an image lie one to four lines, and a page, for each term. The first weights that meet a chunk store its pixels
// side by side (`stage`), all others find one stream near them, and meanwhile the next tile's lines are fetched: no pass
// over the image of its own, which took AVX2 11 to 20 % of a layer (256x56 -> 64 79 -> 86 % of the FMA peak, 512x28 -> 128 79 -> 85, pairs
// in bench/RESULTS.md; on Sapphire Rapids instead of reading in place, 256x56 -> 128 60 -> 79, 512x28 -> 128 64 -> 82). With 16 registers the loop over
// terms has no vector on the stack, the one that copies one for each term; with 32 both (180 and 187 instructions for 96 products)
// keep two pixel vectors of every fourth term there, which a loop of two terms at a time might not.
//
// The weights of a single call can be read where the caller holds them (`InRows`, `Either`), each channel a stream: in four terms 85
// instructions instead of 82 (AVX2), three of which reload a distance from the stack, and no pass over the weights, which takes 5 % where
// pixels are few (14x14, 7x7; pairs in bench/RESULTS.md).
//
// bench/RESULTS.md has what layers reach. What shallow ones lack: on Zen 3 a vector stored takes the place of a product (192 products and
// 112 loads, all in L1, take 99 cycles for 96, with 12 stores 106 to 111), the loop 6.5 cycles a term for 6, and the rest of a tile, whose
// instructions a busy hyperthread makes dear, 10 to 20. Sums of 16 terms in L1 reach 79 % of the FMA peak so, of 32 terms 86, of 64 terms 89
// (64x24 -> 64 k1); 84 for 64x56 -> 256.
#include "gemm/kernel.hpp"
#include "gemm/tile.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr bool wide = registers == 32;
constexpr int most_channels = wide ? 8 : 4;
constexpr int most_vectors = 3;
constexpr int most_chunk = 16, most_waiting = 8;  // tiles; of those whose sums wait in L1
constexpr int ahead_bytes = 1024;      // of weights
constexpr bool fetch_weights = wide;  // a term of 12 products has no room for it: AVX2 gains 2 to 6 % without
// Terms at a time: 23 instructions each, not 26, for 12 products; 20 where terms lie evenly apart and need no list.
constexpr int unroll = wide ? 1 : 4;
constexpr int near_bytes = 20 * 1024;  // what the pixels of one chunk of tiles may take of L1
// Two tiles may take more: sums of 54 to 66 terms (64x56 -> 256 k1 1.03). With near_bytes as large sums of 16 and 32 terms lose 2 % (Zen 5).
constexpr int near_pair = wide ? 25 * 1024 : 0;
constexpr int long_run = 64;           // vectors from which on one more is less than misaligned stores
// Terms and weight blocks from which on copies of pixels pay: the lines under a tile of fewer terms are as near as copies of them, and
// with three blocks of eight channels 144x56 -> 24 k1 was a tenth slower (Sapphire Rapids).
constexpr int staged_terms = wide ? 96 : 64, staged_blocks = wide ? 4 : 3;

// Whether a weight block meets the pixels where they are, or copies them as it does, or finds the copies of the first.
enum class Staging { none, copies, finds };
template <class T> NPCONV_INLINE Staging staging_of(const DenseSweep<T>& a, std::int64_t j) {
    return !a.stage ? Staging::none : j == a.block_begin ? Staging::copies : Staging::finds;
}

template <class T> constexpr int tile_size = most_channels * most_vectors * lanes<T>;

// One tile's share of one block of terms, and where it goes: on top of `sums` or not, to `sums` or, if `straight`, from the
// registers to rows of pixels, with at most a clamp for an activation and no residual.
template <class T> struct Work {
    const DenseTerm *term, *end;
    const T* x;
    std::ptrdiff_t step;   // from term to term, if they lie evenly apart; else 0
    std::ptrdiff_t ahead;  // with 32 registers, of lists: from these pixels to some that are needed later; 0: all are near
    int tiles;             // how many follow one another, tile_step apart in X and side by side in the output
    std::ptrdiff_t tile_step;
    const T* even;         // pixels of the first term of those that lie evenly apart
    bool staged;           // they are copies, or are copied
    T* stage;              // where they are copied to
    const T* next;         // pixels that are fetched, those of a term every four terms, next_step apart
    std::ptrdiff_t next_step;
    const T* w;
    std::ptrdiff_t weight_row;  // see DenseSweep
    int blocks;                 // of channels that follow one another, w_block apart; one if the tile copies pixels
    std::ptrdiff_t w_block;
    T* sums;
    bool in_order, accumulate, straight, fetch;
    std::ptrdiff_t fetch_from, fetch_last;  // lines that are fetched for writing, from dst; with the last block
    T* dst;
    std::int64_t channel_stride, pixels;
    Straight<T> epilogue;

    // What doesn't change from tile to tile.
    NPCONV_INLINE void set_output(const DenseStore<T>& s, std::int64_t oc) {
        channel_stride = s.channel_stride;
        epilogue.set(s.epilogue, oc);
    }
    NPCONV_INLINE void next_block(int channels, bool last) {
        w += w_block;
        dst += channels * channel_stride;
        if (epilogue.scale) epilogue.scale += channels;
        if (epilogue.bias) epilogue.bias += channels;
        if (last) fetch_from = fetch_last;
    }
};

// Whether even_sums() is the one that sums. With 32 registers lists are faster where pixels are not
// copied and weights packed: 24x56 -> 144 k1 lost a sixth without.
template <class T> NPCONV_INLINE bool takes_evenly(const Work<T>& work) {
    if (wide && !work.weight_row && !work.staged) return false;
    return work.step && work.term < work.end;
}

template <class T> NPCONV_INLINE bool goes_straight(const DenseSweep<T>& a) {
    return is_simple(a.store.epilogue) && a.store.pixel_stride == 1 && a.terms < std::int64_t(dense_block) * dense_level2 / 2;
}

template <class T, int MR, int NV> NPCONV_INLINE void store_straight(const Work<T>& work, T* dst, Vec<T> (&acc)[MR][NV]) {
    constexpr int L = lanes<T>;
    const T *scale = work.epilogue.scale, *bias = work.epilogue.bias;
    if (scale) {
        NPCONV_UNROLL for (int i = 0; i < MR; ++i) {
            NPCONV_OPAQUE(scale);
            const Vec<T> s = set1(scale[i]), b = set1(bias ? bias[i] : T(0));
            NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = fma(acc[i][v], s, b);
        }
    } else if (bias) {
        add_rows<T>(acc, bias);
    }
    work.epilogue.clamp(acc);
    const std::int64_t stride = work.channel_stride, last = work.pixels - (NV - 1) * L;
    if (last == L) return store_whole<T>(dst, stride, acc);
    NPCONV_UNROLL for (int i = 0; i < MR; ++i, dst += stride) {
        NPCONV_UNROLL for (int v = 0; v < NV - 1; ++v) store(dst + v * L, acc[i][v]);
        store_partial(dst + (NV - 1) * L, acc[i][NV - 1], last);
    }
}

template <class T, int MR, int NV> NPCONV_INLINE void clear_sums(Vec<T> (&acc)[MR][NV]) {
    NPCONV_UNROLL for (int i = 0; i < MR; ++i)
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = set1(T(0));
}
template <class T, int MR, int NV> NPCONV_INLINE void fetch_rows(const Work<T>& work, const T* dst) {
    dst += work.fetch_from;
    NPCONV_UNROLL for (int i = 0; i < MR; ++i, dst += work.channel_stride)
        NPCONV_UNROLL for (int b = 0; b < NV * lanes<T> * int(sizeof(T)); b += 64) prefetch_write(reinterpret_cast<const char*>(dst) + b);
}

template <class T, int MR, int NV> NPCONV_INLINE void put_sums(const Work<T>& work, T* dst, Vec<T> (&acc)[MR][NV]) {
    constexpr int L = lanes<T>;
    T* const sums = work.sums;
    if (work.accumulate) {
        NPCONV_UNROLL for (int i = 0; i < MR; ++i)
            NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = add(load(sums + (i * NV + v) * L), acc[i][v]);
    }
    if (work.straight) return store_straight<T, MR, NV>(work, dst, acc);
    NPCONV_UNROLL for (int i = 0; i < MR; ++i)
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) store(sums + (i * NV + v) * L, acc[i][v]);
}
// Where the sums of tiles that follow one another go. Whole tiles of finished sums leave with a minimum of instructions: what lies
// between the products of two tiles keeps those of the second out of the queues.
template <class T, int MR, int NV> struct Output {
    const Work<T>& work;
    T* dst;
    const std::int64_t stride;
    const T* const bias;
    const bool plain;
    int tiles;

    NPCONV_INLINE explicit Output(const Work<T>& w)
        : work(w), dst(w.dst), stride(w.channel_stride), bias(w.epilogue.bias), plain(is_plain(w)), tiles(w.tiles) {}
    static NPCONV_INLINE bool is_plain(const Work<T>& w) {
        if (MR < most_channels || w.pixels != NV * lanes<T>) return false;
        return w.straight && !w.accumulate && !w.fetch && !w.epilogue.scale;
    }
    NPCONV_INLINE void begin(Vec<T> (&acc)[MR][NV]) {
        if (!plain && work.fetch) fetch_rows<T, MR, NV>(work, dst);
        clear_sums<T>(acc);
    }
    // Returns whether another tile follows.
    NPCONV_INLINE bool put(Vec<T> (&acc)[MR][NV]) {
        if (plain) {
            if (bias) add_rows<T>(acc, bias);
            work.epilogue.clamp(acc);
            store_whole<T>(dst, stride, acc);
        } else {
            put_sums<T>(work, dst, acc);
        }
        dst += NV * lanes<T>;
        return --tiles > 0;
    }
};
// From the weight of one channel to those of the others, in bytes, and of one term to the next, in elements: side by side, or as
// the caller holds them, `row` apart.
struct Packed {
    NPCONV_INLINE Packed(std::ptrdiff_t, std::ptrdiff_t, int) {}
    NPCONV_INLINE std::ptrdiff_t ahead() const { return ahead_bytes; }
    template <int MR> NPCONV_INLINE std::ptrdiff_t term() const { return MR; }
    template <class T> NPCONV_INLINE const T* at(const T* weight, int i) const { return weight + i; }
    NPCONV_INLINE void hide() {}
};
struct InRows {
    std::ptrdiff_t step[4];
    NPCONV_INLINE InRows(std::ptrdiff_t row, std::ptrdiff_t, int) : step{0, row, 2 * row, 3 * row} {}
    NPCONV_INLINE std::ptrdiff_t ahead() const { return 0; }
    template <int MR> NPCONV_INLINE std::ptrdiff_t term() const { return 1; }
    template <class T> NPCONV_INLINE const T* at(const T* weight, int i) const {
        return i == 0 ? weight : reinterpret_cast<const T*>(reinterpret_cast<const char*>(weight) + step[i]);
    }
    // Sums of them and constants belong into addresses, not into registers, of which there are too few.
    NPCONV_INLINE void hide() {
        NPCONV_OPAQUE(step[1]);
        NPCONV_OPAQUE(step[2]);
        NPCONV_OPAQUE(step[3]);
    }
};
// Either, in one loop: 24 products hide what that takes, and two loops for each of 24 tiles are too much code.
struct Either {
    std::ptrdiff_t step[4], four, to_next, far;  // far: rows are streams that the CPU fetches
    NPCONV_INLINE Either(std::ptrdiff_t row, std::ptrdiff_t item, int channels)
        : four(4 * (row ? row : item)), to_next(row ? 1 : channels), far(row ? 0 : ahead_bytes) {
        NPCONV_UNROLL for (int i = 0; i < 4; ++i) step[i] = i * (row ? row : item);
    }
    NPCONV_INLINE std::ptrdiff_t ahead() const { return far; }
    template <int MR> NPCONV_INLINE std::ptrdiff_t term() const { return to_next; }
    template <class T> NPCONV_INLINE const T* at(const T* weight, int i) const {
        const char* from = reinterpret_cast<const char*>(weight) + (i < 4 ? 0 : four);
        return reinterpret_cast<const T*>(i % 4 == 0 ? from : from + step[i % 4]);
    }
    NPCONV_INLINE void hide() {
        NPCONV_OPAQUE(step[1]);
        NPCONV_OPAQUE(step[2]);
        NPCONV_OPAQUE(step[3]);
        NPCONV_OPAQUE(four);
    }
};
template <bool Wide> struct Layouts { using SideBySide = Packed; using Rows = InRows; };
template <> struct Layouts<true> { using SideBySide = Either; using Rows = Either; };
using SideBySide = Layouts<wide>::SideBySide;
using Rows = Layouts<wide>::Rows;

template <class T, int MR, int NV, bool Copies = false, class Channels>
NPCONV_INLINE void add_term(Vec<T> (&acc)[MR][NV], const T* p, const T* row, const Channels& channels, [[maybe_unused]] T* stage = nullptr) {
    constexpr int L = lanes<T>;
    if constexpr (fetch_weights) prefetch(reinterpret_cast<const char*>(row) + channels.ahead());
    Vec<T> pixels[NV];
    NPCONV_UNROLL for (int v = 0; v < NV; ++v) pixels[v] = load(p + v * L);
    if constexpr (Copies) {
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) store(stage + v * L, pixels[v]);
    }
    NPCONV_UNROLL for (int i = 0; i < MR; ++i) {
        const Vec<T> weight = set1(*channels.at(row, i));
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) fma_into(acc[i][v], weight, pixels[v]);
    }
}

// Pixels that are needed later: to L2 where blocks of channels find copies, which fill L1 (with pixels fetched to L1 256x56 -> 64 k1 loses
// 3 %), else to L1, the two lines in which a tile of three vectors lies (32x112 -> 16 and 96x56 -> 24 gain 4 %).
template <Staging S, int NV, class T> NPCONV_INLINE void fetch_pixels(const T* next) {
    constexpr int bytes = NV * lanes<T> * int(sizeof(T));
    if constexpr (S == Staging::copies) return;
    if constexpr (wide) {
        NPCONV_UNROLL for (int b = 0; b < bytes; b += 64) prefetch_l2(reinterpret_cast<const char*>(next) + b);
    } else if constexpr (S == Staging::finds) {
        prefetch_l2(next);
    } else {
        prefetch(next);
        prefetch(reinterpret_cast<const char*>(next) + bytes / 2);
    }
}

// Sums of MR channels x NV vectors over terms that lie evenly apart, of as many tiles as follow one another, and then of more blocks of
// channels: a call and what it reads take as long as two or three terms of a tile.
template <class T, int MR, int NV, Staging S, class Channels> NPCONV_NOINLINE void even_sums(Work<T>& work) {
    constexpr int L = lanes<T>;
    constexpr bool copies = S == Staging::copies;
    Channels channels(work.weight_row * std::ptrdiff_t(sizeof(T)), sizeof(T), MR);
    const std::ptrdiff_t W = channels.template term<MR>();
    const std::ptrdiff_t step = work.step, three = 3 * step, next_step = work.next_step;
    T* stage = work.stage;
    for (int block = 1;; ++block) {
        const T* const first = work.w + std::int64_t(work.term->w) * W;
        const T *const end = first + (work.end - work.term) * W, *const last = end - 3 * W;
        const T *even = work.even, *fetched = work.next;
        Output<T, MR, NV> output(work);
        Vec<T> acc[MR][NV];
        do {
            output.begin(acc);
            const T *p = even, *row = first, *next = fetched;
            const auto add = [&](const T* pixels, const T* weights) NPCONV_INLINE_LAMBDA {
                add_term<T, MR, NV, copies>(acc, pixels, weights, channels, stage);
                if constexpr (copies) stage += NV * L;
            };
            NPCONV_NO_UNROLL for (; row < last; p += 4 * step, row += 4 * W) {
                fetch_pixels<S, NV>(next);
                next += next_step;
                channels.hide();
                add(p, row);
                add(p + step, row + W);
                add(p + 2 * step, row + 2 * W);
                add(p + three, row + 3 * W);
            }
            NPCONV_NO_UNROLL for (; row < end; p += step, row += W) add(p, row);
            even += work.tile_step;
            fetched += NV * L;
        } while (output.put(acc));
        if (copies || block >= work.blocks) return;
        work.next_block(MR, block + 1 == work.blocks);
    }
}

// The same over any block of terms, with packed weights.
template <class T, int MR, int NV> NPCONV_NOINLINE void list_sums(Work<T>& work) {
    constexpr int L = lanes<T>;
    const DenseTerm *const begin = work.term, *const end = work.end;
    std::ptrdiff_t ahead = work.ahead;
    const Packed packed(0, 0, MR);
    const bool by_rows = unroll > 1 && work.in_order && begin < end;
    for (int block = 1;; ++block) {
        const T *const w = work.w, *x = work.x;
        Output<T, MR, NV> output(work);
        Vec<T> acc[MR][NV];
        do {
            output.begin(acc);
            const DenseTerm* t = begin;
            if (by_rows) {
                const T* row = w + std::int64_t(t->w) * MR;
                NPCONV_NO_UNROLL for (; end - t >= unroll; t += unroll, row += unroll * MR)
                    NPCONV_UNROLL for (int u = 0; u < unroll; ++u) add_term<T>(acc, x + t[u].x, row + u * MR, packed);
            }
            NPCONV_NO_UNROLL for (; t < end; ++t) {
                const T* p = x + t->x;
                if (wide && ahead) {
                    NPCONV_UNROLL for (int b = 0; b < NV * L * int(sizeof(T)); b += 64)
                        prefetch(reinterpret_cast<const char*>(p + ahead) + b);
                }
                add_term<T>(acc, p, w + std::int64_t(t->w) * MR, packed);
            }
            x += work.tile_step;
        } while (output.put(acc));
        if (block >= work.blocks) return;
        ahead = 0;
        work.next_block(MR, block + 1 == work.blocks);
    }
}

template <class T> using TileSum = void (*)(Work<T>&);

// The loops over terms by vectors, from 1: of lists, of terms evenly apart.
template <class T, int MR> struct Lists {
    static constexpr TileSum<T> of[most_vectors] = {list_sums<T, MR, 1>, list_sums<T, MR, 2>, list_sums<T, MR, 3>};
};
template <class T, int MR, Staging S, class Channels> struct Even {
    static constexpr TileSum<T> of[most_vectors] = {even_sums<T, MR, 1, S, Channels>, even_sums<T, MR, 2, S, Channels>,
                                                    even_sums<T, MR, 3, S, Channels>};
};
template <class T, int MR> NPCONV_INLINE const TileSum<T>* tile_sums(const Work<T>& work, int channels) {
    if constexpr (MR > 1)
        if (channels < MR) return tile_sums<T, MR - 1>(work, channels);
    if (work.weight_row) return Even<T, MR, Staging::none, Rows>::of;
    return takes_evenly(work) ? Even<T, MR, Staging::none, SideBySide>::of : Lists<T, MR>::of;
}
template <class T> NPCONV_INLINE const TileSum<T>* tile_sums(const Work<T>& work, int channels, Staging staging) {
    constexpr int most = most_channels;
    if (staging == Staging::copies)  // by the first of several blocks, which is a whole one
        return work.weight_row ? Even<T, most, Staging::copies, Rows>::of : Even<T, most, Staging::copies, SideBySide>::of;
    if (!wide && staging == Staging::finds && channels == most)
        return work.weight_row ? Even<T, most, Staging::finds, Rows>::of : Even<T, most, Staging::finds, SideBySide>::of;
    return tile_sums<T, most>(work, channels);
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
    std::int64_t pixels, lead, tiles, vectors;  // lead counts as a tile; vectors: without it
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
};

template <class T> NPCONV_INLINE RowTiles row_tiles(const DenseSweep<T>& a) {
    constexpr int L = lanes<T>;
    RowTiles r = {a.row_pixels, 0, 0, tiles_of(a.row_pixels, L), 0, 0, a.x_tile, L, a.slack};
    if (r.vectors >= long_run && rows_align(a.store) && !a.x_tile) {
        r.lead = unaligned(a.store.dst + a.pixel);
        r.vectors = tiles_of(a.row_pixels - r.lead, L);
    }
    r.tiles = tiles_of(r.vectors, most_vectors);
    r.least = r.vectors / r.tiles;
    r.longer = r.vectors % r.tiles;
    // The only tile of a row, shorter than its vectors, that must not be read to their end: all vectors but the last are one of their own.
    if (!a.slack && r.tiles == 1 && r.vectors > 1 && r.vectors * L > a.row_pixels) {
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

template <class T> NPCONV_INLINE const T* block_weights(const DenseSweep<T>& a, std::int64_t j) {
    return a.weights + j * most_channels * (a.weight_row ? a.weight_row : a.terms);
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
    work.blocks = 1;
    work.fetch_from = 0;
    work.w = block_weights(a, j);
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

// How many tiles from tile i on are whole and of its size.
template <class T> NPCONV_INLINE int alike(const Chunk& chunk, int i) {
    const std::int64_t pixels = chunk.tile[i].vectors * lanes<T>;
    int n = 1;
    const auto whole = [&](const Tile& t) { return t.pixels == pixels && t.vectors * lanes<T> == pixels; };
    while (i + n < chunk.tiles && whole(chunk.tile[i]) && whole(chunk.tile[i + n])) ++n;
    return n;
}

// A chunk against all weights where one block of terms is the whole sum and goes straight to memory: little more than a
// call between the tiles of shallow layers, which are over in a few hundred cycles, and nothing between those that are alike.
template <class T> NPCONV_NOINLINE void chunk_straight(const DenseSweep<T>& a, const Chunk& chunk) {
    const std::int64_t row_pixel = a.pixel + chunk.row * a.pixel_row;
    const T* x = a.x + chunk.row * a.x_row_stride;
    const DenseTerms& terms = a.sums.sums[0].last;
    Work<T> work;
    work.term = terms.term;
    work.end = terms.term + terms.all;
    work.ahead = wide && a.far && !a.stage && !a.weight_row ? chunk.tiles * most_vectors * lanes<T> : 0;
    work.in_order = terms.in_order;
    work.weight_row = a.weight_row;
    work.accumulate = false;
    work.straight = true;
    work.fetch = a.fetch_output;
    work.w_block = most_channels * (a.weight_row ? a.weight_row : a.terms);
    int same[most_chunk];  // tiles that are one call, by the first of them
    for (int i = 0; i < chunk.tiles; i += same[i]) same[i] = alike<T>(chunk, i);
    const std::int64_t whole = a.oc / most_channels, all_whole = whole < a.block_end ? whole : a.block_end;  // blocks; the end of those taken here
    for (std::int64_t j = a.block_begin; j < a.block_end; j += work.blocks, work.ahead = 0) {
        const std::int64_t oc = a.oc_first + j * most_channels, left = a.oc - j * most_channels;
        const int channels = int(left < most_channels ? left : most_channels);
        T* const dst = a.store.dst + oc * a.store.channel_stride + row_pixel;
        Pixels<T> pixels(a, terms, 0, 0, terms.all, j, chunk.pixels());
        pixels.begin(work);
        const TileSum<T>* const tile_sum_of = tile_sums<T>(work, channels, pixels.staging);
        work.blocks = pixels.same_for_all() && j < all_whole ? int(all_whole - j) : 1;
        // A tile of few terms is over before a line is there: those of the next block of channels, or of the next chunk.
        const std::int64_t last = j + work.blocks - 1, block_stride = most_channels * a.store.channel_stride;
        work.fetch_last = last + 1 < a.block_end ? block_stride : chunk.pixels() + (a.block_begin - last) * block_stride;
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
            work.dst = dst + tile.begin;
            work.pixels = tile.pixels;
            tile_sum_of[tile.vectors - 1](work);
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
    const RowTiles t = row_tiles(a);
    const bool straight = goes_straight(a);
    const std::int64_t terms = a.terms < dense_block ? a.terms : dense_block;
    const std::int64_t tile_bytes = terms * most_vectors * lanes<T> * std::int64_t(sizeof(T));
    std::int64_t fit = near_bytes / (tile_bytes ? tile_bytes : 1);
    const bool one_block = straight && a.terms <= dense_block;
    const std::int64_t most = one_block ? most_chunk : most_waiting;
    const std::int64_t least = !a.stage && 2 * tile_bytes <= near_pair ? 2 : 1;
    fit = fit < least ? least : fit > most ? most : fit;
    const std::int64_t end = a.tile_end < t.tiles ? a.tile_end : t.tiles;
    Chunk chunk;
    for (chunk.row = 0; chunk.row < a.rows; ++chunk.row)
        for (std::int64_t i = a.tile_begin; i < end; i += chunk.tiles) {
            chunk.tiles = int(end - i < fit ? end - i : fit);
            for (int k = 0; k < chunk.tiles; ++k) chunk.tile[k] = t.tile(i + k);
            if (one_block && chunk.tile[chunk.tiles - 1].back == 0)
                chunk_straight(a, chunk);
            else
                for (std::int64_t j = a.block_begin; j < a.block_end; ++j) chunk_sums(a, chunk, j, straight);
        }
}

}  // namespace

extern const PerType<SweepKernel> pixel_kernels = {
    {most_channels, 1, most_vectors * lanes<float>, lanes<float>, near_bytes, staged_terms, staged_blocks, true, sweep<float>},
    {most_channels, 1, most_vectors * lanes<double>, lanes<double>, near_bytes, staged_terms, staged_blocks, true, sweep<double>}};

}  // namespace npconv::NPCONV_THIS_ISA

// One register tile with lanes = output channels: acc[PX][KV], the loops over its terms, and how its sums leave the registers. Included by
// kernel_channels.hpp, which makes runs of tiles.
#pragma once

#include "gemm/kernel.hpp"
#include "gemm/tile.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int most_pixels = registers == 32 ? 14 : 6;
// A term of 12 products takes six cycles and leaves little room beside them: with 16 registers terms that meet the
// weights in order are taken four at a time (23 instructions a term, not 29: 1.02 to 1.16 times as fast on Zen 3, layer
// against layer). More products hide all that.
constexpr int unroll = registers == 16 ? 4 : 1;
constexpr int least_pixels = registers == 16 ? 1 : 4;  // of loops of their own for evenly spaced terms: for fewer not worth their code
// A block of terms takes 16 KB of weights and the pixels one line a term, too much for an L1 of 32 KB: with 16 registers,
// whose tiles are narrower than a line, a run takes half a block at a time (1.2 times as fast for 512x7 -> 2048 k1). A tile of
// a panel is half as large, and 4 % faster without.
constexpr int near_terms = registers == 16 ? dense_block / 2 : dense_block;
// The pixels of the next tile, where a term has room for that: in planes each channel is a line of its own, which no CPU foresees
// (Zen 5: 256x130 -> 64 k1 1.7, 1024x65 -> 256 1.15 times as fast; strided pixels lose 4 %).
template <int PX, class T> NPCONV_INLINE void fetch_next_tile(const T* pixels) {
    if constexpr (registers == 32) prefetch_l2(pixels + 2 * PX - 1);
}
template <class T> constexpr int panel_slots = (most_pixels + lanes<T> - 1) / lanes<T> * lanes<T>;

// One tile's share of one block of terms.
template <class T> struct Block {
    const DenseTerm *term, *end;
    std::int32_t left, all, right;  // of each row of terms
    bool in_order, panel, dense;  // dense: each pixel's terms are neighbours
    const T* x;
    std::ptrdiff_t x_step, x_row;  // from pixel to pixel; from a tile's first row to its second
    const T* w;
    const char* ahead;  // weights that are needed next
    std::ptrdiff_t ahead_step;
    T *sums, *part;  // of the tile; of this block alone, while it is not complete
    bool resume, complete, accumulate;  // from `part`; to sums, not to `part`; on top of what stands there
    bool straight;  // the sum is finished and leaves the registers for pixels of dense channels
    int tiles;  // how many follow one another in X and where their sums go
    T* dst;
    std::int64_t pixel_stride;
    std::int64_t last_channels;  // of the last vector
    Straight<T> epilogue;
    const T* fetch;  // last elements of the pixels whose lines are fetched next for writing, or null
    std::int64_t fetch_left, fetch_jump;  // pixels up to the end of the run; from there to the next block of channels
};

template <class T, int PX> NPCONV_INLINE void fetch_straight(Block<T>& b) {
    if (!b.fetch) return;
    const T* line = b.fetch;
    NPCONV_UNROLL for (int i = 0; i < PX; ++i, line += b.pixel_stride) prefetch_write(line);
    b.fetch_left -= PX;
    if (b.fetch_left <= 0 && b.fetch_left > -PX) line += b.fetch_jump;
    b.fetch = line;
}

// What KV weights add to PX pixels of one row, or to PX / 2 pixels of each of two rows, without the pixels that a row leaves
// out at its beginning and at its end. Pixels that aren't neighbours are reached three at a time: 0, 1 and 2 distances from
// an address are all within one instruction.
template <class T, int PX, int KV, bool Near, bool TwoRows, int First = 0, int Last = 0>
NPCONV_INLINE void add_term(Vec<T> (&acc)[PX][KV], const T* p, std::ptrdiff_t x_step, std::ptrdiff_t x_row, const T* w) {
    constexpr int row = TwoRows ? PX / 2 : PX;
    const T* q = TwoRows ? p + x_row : p;
    Vec<T> weight[KV];
    NPCONV_UNROLL for (int v = 0; v < KV; ++v) weight[v] = load(w + v * lanes<T>);
    NPCONV_UNROLL for (int i = 0; i < PX; ++i) {
        const int column = i % row;
        if (i == row) p = q;
        if (!Near && column > 0 && column % 3 == 0) {
            p += 3 * x_step;
            NPCONV_OPAQUE(p);
        }
        if (column < First || column >= row - Last) continue;
        const Vec<T> pixel = set1(p[Near ? column : column % 3 * x_step]);
        NPCONV_UNROLL for (int v = 0; v < KV; ++v) fma_into(acc[i][v], pixel, weight[v]);
    }
}

// Finished sums to pixels of dense channels.
template <class T, int PX, int KV> NPCONV_INLINE void store_pixels(const Block<T>& b, T* dst, Vec<T> (&acc)[PX][KV]) {
    if (registers == 16 || b.last_channels == lanes<T>) return store_whole<T>(dst, b.pixel_stride, acc);
    const std::int64_t stride = b.pixel_stride, last = b.last_channels;
    NPCONV_OPAQUE(dst);  // addresses common to both branches would be made before them, in registers of vectors
    NPCONV_UNROLL for (int i = 0; i < PX; ++i, dst += stride) {
        NPCONV_UNROLL for (int v = 0; v < KV - 1; ++v) store(dst + v * lanes<T>, acc[i][v]);
        store_partial(dst + (KV - 1) * lanes<T>, acc[i][KV - 1], last);
    }
}

template <class T, int PX, int KV, bool Straight>
NPCONV_INLINE void put_sums(const Block<T>& b, std::ptrdiff_t tile, T* dst, Vec<T> (&acc)[PX][KV]) {
    constexpr int L = lanes<T>;
    T* const sums = (near_terms == dense_block || b.complete ? b.sums : b.part) + tile;
    if ((near_terms == dense_block || b.complete) && b.accumulate) {
        NPCONV_UNROLL for (int i = 0; i < PX; ++i)
            NPCONV_UNROLL for (int v = 0; v < KV; ++v) acc[i][v] = add(load(sums + (i * KV + v) * L), acc[i][v]);
    }
    if (Straight && b.straight) {
        b.epilogue.finish_channels(acc);
        return store_pixels<T>(b, dst, acc);
    }
    NPCONV_UNROLL for (int i = 0; i < PX; ++i)
        NPCONV_UNROLL for (int v = 0; v < KV; ++v) store(sums + (i * KV + v) * L, acc[i][v]);
}

// Tiles that follow one another (more than one only of single rows): where they begin and where their sums go. Whole tiles of sums
// that are one block leave with a minimum of instructions: what lies between the products of two tiles keeps those of the second out of the queues.
template <class T, int PX, int KV, bool Straight> struct Tiles {
    static constexpr bool whole = Straight && PX >= most_pixels;
    Block<T>& b;
    const T* x;
    T* dst;
    const std::ptrdiff_t x_tile, dst_tile;
    const T* const bias;
    const bool plain;
    int left;
    std::ptrdiff_t sums = 0;  // of this tile, from those of the first

    NPCONV_INLINE explicit Tiles(Block<T>& block)
        : b(block), x(b.x), dst(b.dst), x_tile(PX * b.x_step), dst_tile(PX * b.pixel_stride), bias(b.epilogue.bias),
          plain(whole && b.straight && !b.accumulate && !b.epilogue.scale), left(b.tiles) {}
    NPCONV_INLINE void begin(Vec<T> (&acc)[PX][KV]) {
        if (Straight) fetch_straight<T, PX>(b);
        NPCONV_UNROLL for (int i = 0; i < PX; ++i)
            NPCONV_UNROLL for (int v = 0; v < KV; ++v) acc[i][v] = set1(T(0));
        if (near_terms == dense_block || !b.resume) return;
        const T* const part = b.part + sums;
        NPCONV_UNROLL for (int i = 0; i < PX; ++i)
            NPCONV_UNROLL for (int v = 0; v < KV; ++v) acc[i][v] = load(part + (i * KV + v) * lanes<T>);
    }
    // Returns whether another tile follows.
    NPCONV_INLINE bool put(Vec<T> (&acc)[PX][KV]) {
        if (plain) {
            if (bias) add_channels<T>(acc, bias);
            b.epilogue.clamp(acc);
            store_pixels<T>(b, dst, acc);
        } else {
            put_sums<T, PX, KV, Straight>(b, sums, dst, acc);
        }
        sums += PX * KV * lanes<T>;
        x += x_tile;
        dst += dst_tile;
        return Straight && --left > 0;
    }
};

// The sums of a tile over a block of terms that meet the weights row by row.
template <class T, int PX, int KV, bool Near, bool TwoRows> NPCONV_NOINLINE void ordered_sum(Block<T>& b) {
    constexpr int pitch = KV * lanes<T>;
    const std::ptrdiff_t x_step = b.x_step, x_row = b.x_row, ahead_step = b.ahead_step;
    const char* ahead = b.ahead;
    const T* const first = b.w + std::int64_t(b.term->w) * pitch;
    const T *const end = first + (b.end - b.term) * pitch, *const last = end - (unroll - 1) * pitch;
    Tiles<T, PX, KV, !TwoRows> tiles(b);
    Vec<T> acc[PX][KV];
    do {
        tiles.begin(acc);
        const DenseTerm* t = b.term;
        const T *const x = tiles.x, *w = first;
        NPCONV_NO_UNROLL for (; w < last; t += unroll, w += unroll * pitch) {
            prefetch_l2(ahead);
            prefetch_l2(ahead + 64);
            ahead += ahead_step;
            NPCONV_UNROLL for (int u = 0; u < unroll; ++u) add_term<T, PX, KV, Near, TwoRows>(acc, x + t[u].x, x_step, x_row, w + u * pitch);
        }
        NPCONV_NO_UNROLL for (; w < end; ++t, w += pitch) add_term<T, PX, KV, Near, TwoRows>(acc, x + t->x, x_step, x_row, w);
    } while (tiles.put(acc));
}

// The same of terms Step apart, in a panel or, where they are neighbours, in an image: no list, and distances that are
// constants of the instructions.
template <class T, int PX, int KV, bool Near, int Step> NPCONV_NOINLINE void even_sum(Block<T>& b) {
    constexpr int pitch = KV * lanes<T>;
    const std::ptrdiff_t x_step = b.x_step, ahead_step = b.ahead_step;
    const char* ahead = b.ahead;
    const T* const first = b.w + std::int64_t(b.term->w) * pitch;
    const T *const end = first + (b.end - b.term) * pitch, *const last = end - (unroll - 1) * pitch;
    const std::ptrdiff_t first_term = b.term->x;
    Tiles<T, PX, KV, true> tiles(b);
    Vec<T> acc[PX][KV];
    do {
        tiles.begin(acc);
        const T *x = tiles.x + first_term, *w = first;
        NPCONV_NO_UNROLL for (; w < last; x += unroll * Step, w += unroll * pitch) {
            prefetch_l2(ahead);
            prefetch_l2(ahead + 64);
            ahead += ahead_step;
            NPCONV_UNROLL for (int u = 0; u < unroll; ++u) add_term<T, PX, KV, Near, false>(acc, x + u * Step, x_step, 0, w + u * pitch);
        }
        NPCONV_NO_UNROLL for (; w < end; x += Step, w += pitch) add_term<T, PX, KV, Near, false>(acc, x, x_step, 0, w);
    } while (tiles.put(acc));
}

// One vector of channels meets dense terms four at a time: a product that reads its pixel from memory takes a load, and two of those a
// cycle are all that a core has. Every other pixel is therefore loaded once for four terms, whose copies are shuffles of registers (a loop in
// L1 92 -> 99 % of the FMA peak, Zen 5; the same for any share between a quarter and two thirds of the pixels, with all of them 78;
// 32x112 -> 16 k1 channels-last 71 -> 79).
template <class T, int PX> NPCONV_INLINE void add_quad(Vec<T> (&acc)[PX][1], const T* p, std::ptrdiff_t x_step, const T* w) {
    Vec<T> weight[4];
    NPCONV_UNROLL for (int u = 0; u < 4; ++u) weight[u] = load(w + u * lanes<T>);
    NPCONV_UNROLL for (int i = 0; i < PX; ++i) {
        if (i > 0 && i % 3 == 0) {
            p += 3 * x_step;
            NPCONV_OPAQUE(p);
        }
        const T* const pixel = p + i % 3 * x_step;
        if (i % 2 == 1) {
            Vec<T> four[4];
            load_four(pixel, four);
            NPCONV_UNROLL for (int u = 0; u < 4; ++u) fma_into(acc[i][0], four[u], weight[u]);
        } else {
            NPCONV_UNROLL for (int u = 0; u < 4; ++u) fma_into(acc[i][0], set1(pixel[u]), weight[u]);
        }
    }
}
template <class T, int PX> NPCONV_NOINLINE void quad_sum(Block<T>& b) {
    constexpr int pitch = lanes<T>;
    const std::ptrdiff_t x_step = b.x_step, ahead_step = b.ahead_step;
    const char* ahead = b.ahead;
    const T* const first = b.w + std::int64_t(b.term->w) * pitch;
    const T *const end = first + (b.end - b.term) * pitch, *const last = end - 3 * pitch;
    const std::ptrdiff_t first_term = b.term->x;
    Tiles<T, PX, 1, true> tiles(b);
    Vec<T> acc[PX][1];
    do {
        tiles.begin(acc);
        const T *x = tiles.x + first_term, *w = first;
        NPCONV_NO_UNROLL for (; w < last; x += 4, w += 4 * pitch) {
            NPCONV_UNROLL for (int u = 0; u < 4; ++u, ahead += ahead_step) prefetch_l2(ahead);
            add_quad<T, PX>(acc, x, x_step, w);
        }
        NPCONV_NO_UNROLL for (; w < end; ++x, w += pitch) add_term<T, PX, 1, false, false>(acc, x, x_step, 0, w);
    } while (tiles.put(acc));
}

// More than a vector of channels, at most one and a half: the second halves of two pixels share a vector, whose weights are loaded twice, so
// that a pair of pixels takes three products instead of four (144x56 -> 24 k1 channels-last 68 -> 88 % of the FMA peak, Zen 5; 14 pixels:
// 21 products and 7 blends, 16 loads). While terms are added acc[i][1] of an even pixel is that of both.
template <class T, int PX, bool Near> NPCONV_INLINE void add_half_term(Vec<T> (&acc)[PX][2], const T* p, std::ptrdiff_t x_step, const T* w) {
    const Vec<T> whole = load(w), twice = load_twice(w + lanes<T>);
    Vec<T> before = whole;  // of the pixel before; no warning of sanitizer builds
    NPCONV_UNROLL for (int i = 0; i < PX; ++i) {
        if (!Near && i > 0 && i % 3 == 0) {
            p += 3 * x_step;
            NPCONV_OPAQUE(p);
        }
        const Vec<T> pixel = set1(p[Near ? i : i % 3 * x_step]);
        fma_into(acc[i][0], pixel, whole);
        if (i % 2 == 1) fma_into(acc[i - 1][1], blend_halves(before, pixel), twice);
        else if (i + 1 == PX) fma_into(acc[i][1], pixel, twice);
        else before = pixel;
    }
}
// The same of four terms that are neighbours: what two pixels share is shuffled from two loads of four terms each, and the other products
// read their pixels from memory. A blend for each term costs Zen 4 most of a product (a loop in L1 80 -> 100 % of the FMA peak; one sum of 14 pixels
// waits on the stack, a load and a store for 84 products).
template <class T, int PX> NPCONV_INLINE void add_half_quad(Vec<T> (&acc)[PX][2], const T* p, std::ptrdiff_t x_step, const T* w) {
    Vec<T> whole[4], twice[4];
    NPCONV_UNROLL for (int u = 0; u < 4; ++u) whole[u] = load(w + 2 * u * lanes<T>), twice[u] = load_twice(w + (2 * u + 1) * lanes<T>);
    NPCONV_UNROLL for (int i = 0; i + 1 < PX; i += 2) {
        const T* const q = p + x_step;
        Vec<T> both[4];
        load_four(p, q, both);
        NPCONV_UNROLL for (int u = 0; u < 4; ++u) fma_into(acc[i][1], both[u], twice[u]);
        NPCONV_UNROLL for (int u = 0; u < 4; ++u) {
            fma_into(acc[i][0], set1(p[u]), whole[u]);
            fma_into(acc[i + 1][0], set1(q[u]), whole[u]);
        }
        p += 2 * x_step;
        NPCONV_OPAQUE(p);
    }
    if constexpr (PX % 2 == 1)
        NPCONV_UNROLL for (int u = 0; u < 4; ++u) {
            fma_into(acc[PX - 1][0], set1(p[u]), whole[u]);
            fma_into(acc[PX - 1][1], set1(p[u]), twice[u]);
        }
}
// Only terms that meet the weights row by row. Near: pixels side by side, terms from the list; else terms side by side, no list. In the end
// the upper halves of acc[i][1] hold sums of the next pixel, or copies: they are never stored as results.
template <class T, int PX, bool Near> NPCONV_NOINLINE void half_sum(Block<T>& b) {
    constexpr int pitch = 2 * lanes<T>;
    const std::ptrdiff_t x_step = b.x_step, ahead_step = b.ahead_step;
    const char* ahead = b.ahead;
    const T* const first = b.w + std::int64_t(b.term->w) * pitch;
    const T *const end = first + (b.end - b.term) * pitch, *const last = end - 3 * pitch;
    const std::ptrdiff_t first_term = b.term->x;
    Tiles<T, PX, 2, true> tiles(b);
    Vec<T> acc[PX][2];
    do {
        tiles.begin(acc);
        const DenseTerm* t = b.term;
        const T *x = tiles.x + (Near ? 0 : first_term), *w = first;
        if constexpr (!Near) {
            NPCONV_NO_UNROLL for (; w < last; x += 4, w += 4 * pitch) {
                NPCONV_UNROLL for (int u = 0; u < 4; ++u, ahead += ahead_step) prefetch_l2(ahead), prefetch_l2(ahead + 64);
                add_half_quad<T, PX>(acc, x, x_step, w);
            }
        }
        NPCONV_NO_UNROLL for (; w < end; w += pitch) {
            prefetch_l2(ahead);
            prefetch_l2(ahead + 64);
            ahead += ahead_step;
            if constexpr (Near) fetch_next_tile<PX>(x + t->x);
            add_half_term<T, PX, Near>(acc, Near ? x + t++->x : x++, x_step, w);
        }
        NPCONV_UNROLL for (int i = 1; i < PX; i += 2) {
            Vec<T> lower;
            join_halves(acc[i - 1][1], acc[i - 1][1], lower, acc[i][1]);
        }
    } while (tiles.put(acc));
}

// The sums of a tile over any block of terms.
template <class T, int PX, int KV, bool Near, bool TwoRows> NPCONV_NOINLINE void tile_sum(Block<T>& b) {
    if constexpr (registers == 32 && KV == 2 && !TwoRows && PX + 2 >= most_pixels)
        if (2 * b.last_channels <= lanes<T> && (Near ? b.in_order : b.dense) && b.term < b.end) return half_sum<T, PX, Near>(b);
    if constexpr (registers == 32 && KV == 1 && !Near && !TwoRows && PX >= least_pixels)
        if (b.dense && b.term < b.end) return quad_sum<T, PX>(b);
    if constexpr (!TwoRows && PX >= least_pixels && (registers == 16 || KV > 1 || Near))
        if ((Near ? b.panel : b.dense) && b.term < b.end) return even_sum<T, PX, KV, Near, Near ? panel_slots<T> : 1>(b);
    if (unroll > 1 && b.in_order && b.term < b.end) return ordered_sum<T, PX, KV, Near, TwoRows>(b);
    const T* const w = b.w;
    const std::ptrdiff_t x_step = b.x_step, x_row = b.x_row, ahead_step = b.ahead_step;
    const char* ahead = b.ahead;
    Tiles<T, PX, KV, !TwoRows> tiles(b);
    Vec<T> acc[PX][KV];
    do {
        tiles.begin(acc);
        const DenseTerm* t = b.term;
        const T* const x = tiles.x;
#define NPCONV_TERMS(COUNT, FIRST, LAST)                                                                                        \
    NPCONV_NO_UNROLL for (const DenseTerm* const end = t + COUNT; t < end; ++t) {                                               \
        prefetch_l2(ahead);                                                                                                     \
        prefetch_l2(ahead + 64);                                                                                                \
        ahead += ahead_step;                                                                                                    \
        if constexpr (Near) fetch_next_tile<PX>(x + t->x);                                                                      \
        add_term<T, PX, KV, Near, TwoRows, FIRST, LAST>(acc, x + t->x, x_step, x_row, w + std::int64_t(t->w) * (KV * lanes<T>)); \
    }
        NPCONV_NO_UNROLL while (t < b.end) {
            NPCONV_TERMS(b.left, 1, 0)
            NPCONV_TERMS(b.all, 0, 0)
            NPCONV_TERMS(b.right, 0, 1)
        }
#undef NPCONV_TERMS
    } while (tiles.put(acc));
}

template <class T, int KV, bool Near, bool TwoRows, int PX = most_pixels> NPCONV_INLINE void any_tile(int pixels, Block<T>& b) {
    if (pixels == PX) return tile_sum<T, PX, KV, Near, TwoRows>(b);
    if constexpr (PX > (TwoRows ? 2 : 1)) any_tile<T, KV, Near, TwoRows, PX - (TwoRows ? 2 : 1)>(pixels, b);
}

}  // namespace
}  // namespace npconv::NPCONV_THIS_ISA

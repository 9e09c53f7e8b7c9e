// Dense sums with lanes = output pixels ("spatial"): acc[MR][NV], MR broadcast weights against NV vectors of neighbouring
// pixels. 8 x 3 with 32 registers, 4 x 3 with 16. Best where few terms meet many pixels (stems, shallow 1x1 layers): rows
// of pixels leave the registers without a transpose.
//
// A chunk of tiles whose pixels fit in L1 meets all weights, which stream from L2, before the next chunk; sums of more
// than 256 terms wait in L1 between their blocks. In long runs all vectors but the first are aligned in the output: a
// store across two lines costs as much as two.
#include "gemm/kernel.hpp"
#include "gemm/tile.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int most_channels = registers == 32 ? 8 : 4;
constexpr int most_vectors = 3;
constexpr int most_chunk = 8;          // tiles
constexpr int ahead_bytes = 1024;      // of weights
constexpr int near_bytes = 20 * 1024;  // what the pixels of one chunk of tiles may take of L1
constexpr int long_run = 64;           // vectors from which on one more is less than misaligned stores

template <class T> constexpr int tile_size = most_channels * most_vectors * lanes<T>;

// Where a tile goes straight from its registers: rows of pixels, no residual, at most a clamp for an activation.
template <class T> struct RowsOut {
    T* dst;
    std::int64_t channel_stride, pixels;
    const T *scale, *bias;  // of the tile's first channel, or null
    bool clamp;
    T low, high;
};

template <class T> NPCONV_INLINE bool goes_straight(const DenseSweep<T>& a) {
    return is_simple(a.store.epilogue) && a.store.pixel_stride == 1 && a.terms < std::int64_t(dense_block) * dense_level2 / 2;
}

template <class T>
NPCONV_INLINE RowsOut<T> rows_out(const DenseStore<T>& s, std::int64_t oc, std::int64_t pixel, std::int64_t pixels) {
    const EpilogueArgs<T>& e = s.epilogue;
    RowsOut<T> out = {s.dst + oc * s.channel_stride + pixel, s.channel_stride, pixels, e.scale ? e.scale + oc : nullptr,
                      e.bias ? e.bias + oc : nullptr, e.activation != Activation::none, T(0), T(__builtin_huge_val())};
    if (e.activation == Activation::clip) {
        out.low = e.p0;
        out.high = e.p1;
    }
    return out;
}

template <class T, int MR, int NV> NPCONV_INLINE void store_rows_out(const RowsOut<T>& out, Vec<T> (&acc)[MR][NV]) {
    constexpr int L = lanes<T>;
    if (out.scale) {
        NPCONV_UNROLL for (int i = 0; i < MR; ++i) {
            const Vec<T> scale = set1(out.scale[i]), bias = set1(out.bias ? out.bias[i] : T(0));
            NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = fma(acc[i][v], scale, bias);
        }
    } else if (out.bias) {
        NPCONV_UNROLL for (int i = 0; i < MR; ++i) {
            const Vec<T> bias = set1(out.bias[i]);
            NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = add(acc[i][v], bias);
        }
    }
    if (out.clamp) {
        const Vec<T> low = set1(out.low), high = set1(out.high);
        NPCONV_UNROLL for (int i = 0; i < MR; ++i)
            NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = min(high, max(low, acc[i][v]));
    }
    T* dst = out.dst;
    const std::int64_t stride = out.channel_stride, last = out.pixels - (NV - 1) * L;
    if (last == L) {
        NPCONV_UNROLL for (int i = 0; i < MR; ++i, dst += stride)
            NPCONV_UNROLL for (int v = 0; v < NV; ++v) store(dst + v * L, acc[i][v]);
    } else {
        NPCONV_UNROLL for (int i = 0; i < MR; ++i, dst += stride) {
            NPCONV_UNROLL for (int v = 0; v < NV - 1; ++v) store(dst + v * L, acc[i][v]);
            store_partial(dst + (NV - 1) * L, acc[i][NV - 1], last);
        }
    }
}

// Sums of MR channels x NV vectors over the terms [t, end), on top of `sums` or not, to `out` or (null) to `sums`.
template <class T, int MR, int NV>
NPCONV_NOINLINE void tile_sum(const DenseTerm* t, const DenseTerm* end, const T* x, std::ptrdiff_t ahead,
                              const T* NPCONV_RESTRICT w, T* NPCONV_RESTRICT sums, bool accumulate, const RowsOut<T>* out) {
    constexpr int L = lanes<T>;
    Vec<T> acc[MR][NV];
    NPCONV_UNROLL for (int i = 0; i < MR; ++i)
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = set1(T(0));
    NPCONV_NO_UNROLL for (; t < end; ++t) {
        const T *p = x + t->x, *row = w + std::int64_t(t->w) * MR;
        prefetch(reinterpret_cast<const char*>(row) + ahead_bytes);
        if (ahead) {
            NPCONV_UNROLL for (int b = 0; b < NV * L * int(sizeof(T)); b += 64)
                prefetch(reinterpret_cast<const char*>(p + ahead) + b);
        }
        Vec<T> pixels[NV];
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) pixels[v] = load(p + v * L);
        NPCONV_UNROLL for (int i = 0; i < MR; ++i) {
            const Vec<T> weight = set1(row[i]);
            NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = fma(weight, pixels[v], acc[i][v]);
        }
    }
    if (accumulate) {
        NPCONV_UNROLL for (int i = 0; i < MR; ++i)
            NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = add(load(sums + (i * NV + v) * L), acc[i][v]);
    }
    if (out) return store_rows_out<T, MR, NV>(*out, acc);
    NPCONV_UNROLL for (int i = 0; i < MR; ++i)
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) store(sums + (i * NV + v) * L, acc[i][v]);
}

template <class T, int MR = most_channels>
NPCONV_INLINE void any_tile(int channels, int vectors, const DenseTerm* t, const DenseTerm* end, const T* x, std::ptrdiff_t ahead,
                            const T* w, T* sums, bool accumulate, const RowsOut<T>* out) {
    if (channels == MR) {
        if (vectors == 3) return tile_sum<T, MR, 3>(t, end, x, ahead, w, sums, accumulate, out);
        if (vectors == 2) return tile_sum<T, MR, 2>(t, end, x, ahead, w, sums, accumulate, out);
        return tile_sum<T, MR, 1>(t, end, x, ahead, w, sums, accumulate, out);
    }
    if constexpr (MR > 1) any_tile<T, MR - 1>(channels, vectors, t, end, x, ahead, w, sums, accumulate, out);
}

// Pixels [begin, begin + pixels) of a row. Where X must not be read behind the row's end, the vectors begin `back` pixels
// earlier, and only the tile's own pixels are stored.
struct Tile {
    std::int64_t begin, pixels, back;
    int vectors;
};

// Cuts a row into tiles of whole vectors whose numbers differ by one, behind a shorter vector where that aligns the rest.
struct RowTiles {
    std::int64_t pixels, lead, tiles, vectors;  // lead counts as a tile; vectors: without it
    int lanes;
    bool slack, split;  // split: the only tile of a row, shorter than its vectors, that must not be read to their end

    NPCONV_INLINE Tile tile(std::int64_t i) const {
        if (lead) {
            if (i == 0) return {0, lead, 0, 1};
            --i;
        }
        const std::int64_t n = tiles - (lead > 0), from = split ? (i ? vectors - 1 : 0) : tile_begin(vectors, n, i);
        const std::int64_t to = split ? (i ? vectors : vectors - 1) : tile_begin(vectors, n, i + 1);
        const std::int64_t begin = lead + from * lanes, end = lead + to * lanes < pixels ? lead + to * lanes : pixels;
        return {begin, end - begin, slack ? 0 : lead + to * lanes - end, int(to - from)};
    }
};

template <class T> NPCONV_INLINE RowTiles row_tiles(const DenseSweep<T>& a) {
    constexpr int L = lanes<T>;
    RowTiles r = {a.row_pixels, 0, 0, tiles_of(a.row_pixels, L), L, a.slack, false};
    if (r.vectors >= long_run && rows_align(a.store)) {
        r.lead = unaligned(a.store.dst + a.pixel);
        r.vectors = tiles_of(a.row_pixels - r.lead, L);
    }
    r.tiles = tiles_of(r.vectors, most_vectors);
    r.split = !a.slack && r.tiles == 1 && r.vectors > 1 && r.vectors * L > a.row_pixels;
    r.tiles += r.split || r.lead > 0;
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

// Tiles [first, last) of a row against weight block j.
template <class T>
NPCONV_NOINLINE void chunk_sums(const DenseSweep<T>& a, const RowTiles& tiles, std::int64_t first, std::int64_t last,
                                std::int64_t row, std::int64_t j, bool straight) {
    alignas(64) T sums[2 * most_chunk * tile_size<T>];
    const std::int64_t oc = a.oc_first + j * most_channels, left = a.oc - j * most_channels;
    const int channels = int(left < most_channels ? left : most_channels);
    const std::int64_t row_pixel = a.pixel + row * a.pixel_row;
    const T* x = a.x + row * a.x_row_stride;
    const T* w = a.weights + j * most_channels * a.terms;
    const std::ptrdiff_t ahead = a.far && j == a.block_begin ? (last - first) * most_vectors * lanes<T> : 0;
    const DenseSum& sum = a.sums.sums[0];
    BlockCount<T> count;
    for (std::int64_t g = 0; g < sum.groups; ++g, x += sum.x_group, w += sum.w_group * channels) {
        const DenseTerms& terms = sum.terms(g);
        for (std::int64_t from = 0; from == 0 || from < terms.all; from += dense_block) {
            const std::int64_t to = terms.all - from > dense_block ? from + dense_block : terms.all;
            const bool end = g + 1 == sum.groups && to == terms.all;
            T* s = sums;
            for (std::int64_t i = first; i < last; ++i, s += tile_size<T>) {
                const Tile tile = tiles.tile(i);
                const bool out_now = end && straight && tile.back == 0;
                RowsOut<T> out;
                if (out_now) out = rows_out(a.store, oc, row_pixel + tile.begin, tile.pixels);
                any_tile<T>(channels, tile.vectors, terms.term + from, terms.term + to, x + tile.begin - tile.back, ahead, w, s,
                            count.blocks > 0, out_now ? &out : nullptr);
            }
            count.next(sums, int(last - first) * tile_size<T>);
        }
    }
    count.finish(sums, int(last - first) * tile_size<T>);
    for (std::int64_t i = first; i < last; ++i) {
        const Tile tile = tiles.tile(i);
        if (!straight || tile.back) store_sums(a.store, sums + (i - first) * tile_size<T>, tile, oc, channels, row_pixel + tile.begin);
    }
}

template <class T> void sweep(const DenseSweep<T>& a) {
    const RowTiles t = row_tiles(a);
    const bool straight = goes_straight(a);
    const std::int64_t terms = a.terms < dense_block ? a.terms : dense_block;
    const std::int64_t tile_bytes = terms * most_vectors * lanes<T> * std::int64_t(sizeof(T));
    std::int64_t fit = near_bytes / (tile_bytes ? tile_bytes : 1);
    fit = fit < 1 ? 1 : fit > most_chunk ? most_chunk : fit;
    const std::int64_t chunks = tiles_of(t.tiles, fit);
    for (std::int64_t r = 0; r < a.rows; ++r)
        for (std::int64_t k = 0; k < chunks; ++k)
            for (std::int64_t j = a.block_begin; j < a.block_end; ++j)
                chunk_sums(a, t, tile_begin(t.tiles, chunks, k), tile_begin(t.tiles, chunks, k + 1), r, j, straight);
}

}  // namespace

extern const PerType<SweepKernel> pixel_kernels = {{most_channels, 1, most_vectors * lanes<float>, sweep<float>},
                                                   {most_channels, 1, most_vectors * lanes<double>, sweep<double>}};

}  // namespace npconv::NPCONV_THIS_ISA

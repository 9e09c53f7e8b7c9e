// Dense sums with lanes = output pixels ("spatial"): acc[MR][NV], MR broadcast weights against NV vectors of neighbouring
// pixels. 8 x 3 with 32 registers, 4 x 3 with 16. Rows of whole cache lines are stored without transposes, and their
// lines are fetched for writing before the sum: best where few terms meet many pixels (stems, shallow 1x1 layers),
// because there the stores, not the multiplications, set the pace.
// One core, fastest calls, AVX-512: 7x7 stem 93 % of the FMA peak, 1x1 64x56->256 89 %, 256x56->64 94 to 96 %; 3x3
// 3x224->64 and 3x224->32 with stride 2 reach 76 and 75 %, because 27 terms a result leave them bound by their stores.
// AVX2: stem 85 %, the 1x1 layers 82 and 81 %, the last 66 %.
#include "gemm/kernel.hpp"
#include "gemm/tile.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int most_channels = registers == 32 ? 8 : 4;
constexpr int most_vectors = 3;
constexpr int ahead_bytes = 1024;      // of weights
constexpr int near_bytes = 20 * 1024;  // what the pixels of one chunk of tiles may take of L1

template <class T> constexpr int tile_pitch = most_vectors * lanes<T>;
template <class T> constexpr int turned_pitch = lanes<T> > most_channels ? lanes<T> : most_channels;

// Where a tile goes straight from its registers: rows of pixels, no residual, at most a clamp for an activation.
template <class T> struct RowsOut {
    T* dst;
    std::int64_t channel_stride, pixels;
    const T *scale, *bias;  // of the tile's first channel, or null
    bool clamp;
    T low, high;
};

template <class T> NPCONV_INLINE bool goes_straight(const DenseSweep<T>& a) {
    const EpilogueArgs<T>& e = a.store.epilogue;
    const bool simple = e.activation == Activation::none || e.activation == Activation::relu || e.activation == Activation::clip;
    return simple && e.residual_kind == Residual::none && a.store.pixel_stride == 1 &&
           a.sum.terms() < std::int64_t(dense_block) * dense_level2 / 2;
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

template <class T, int MR, int NV, bool Clamp>
NPCONV_INLINE void store_rows_out(const RowsOut<T>& out, const Vec<T> (&acc)[MR][NV]) {
    constexpr int L = lanes<T>;
    const Vec<T> low = set1(out.low), high = set1(out.high);
    const bool full = out.pixels == NV * L;
    NPCONV_UNROLL for (int i = 0; i < MR; ++i) {
        const Vec<T> scale = set1(out.scale ? out.scale[i] : T(1)), bias = set1(out.bias ? out.bias[i] : T(0));
        T* dst = out.dst + i * out.channel_stride;
        NPCONV_UNROLL for (int v = 0; v < NV; ++v) {
            Vec<T> r = fma(acc[i][v], scale, bias);
            if (Clamp) r = min(high, max(low, r));
            if (v + 1 < NV || full) store(dst + v * L, r); else store_partial(dst + v * L, r, out.pixels - v * L);
        }
    }
}

// `out` null: the sums are left in `tile`.
template <class T, int MR, int NV>
NPCONV_NOINLINE void tile_sum(const DenseSum& s, const T* x, std::ptrdiff_t ahead, const T* NPCONV_RESTRICT w, T* tile,
                              const RowsOut<T>* out) {
    constexpr int L = lanes<T>, pitch = NV * L, n = MR * pitch;
    BlockCount<T> count;
    for (std::int64_t g = 0; g < s.groups; ++g, x += s.group_stride) {
        const std::int64_t entries = g + 1 < s.groups ? s.entries : s.last;
        const std::ptrdiff_t* offset = s.offset;
        const std::ptrdiff_t* const end = offset + entries;
        do {
            const std::ptrdiff_t* const stop = end - offset > dense_block ? offset + dense_block : end;
            Vec<T> acc[MR][NV];
            NPCONV_UNROLL for (int i = 0; i < MR; ++i)
                NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = set1(T(0));
            NPCONV_NO_UNROLL for (; offset < stop; ++offset, w += MR) {
                const T* p = x + *offset;
                prefetch(reinterpret_cast<const char*>(w) + ahead_bytes);
                if (ahead) {
                    NPCONV_UNROLL for (int b = 0; b < NV * L * int(sizeof(T)); b += 64)
                        prefetch(reinterpret_cast<const char*>(p + ahead) + b);
                }
                Vec<T> pixels[NV];
                NPCONV_UNROLL for (int v = 0; v < NV; ++v) pixels[v] = load(p + v * L);
                NPCONV_UNROLL for (int i = 0; i < MR; ++i) {
                    const Vec<T> weight = set1(w[i]);
                    NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = fma(weight, pixels[v], acc[i][v]);
                }
            }
            if (out && offset == end && g + 1 == s.groups) {
                if (count.blocks) {
                    NPCONV_UNROLL for (int i = 0; i < MR; ++i)
                        NPCONV_UNROLL for (int v = 0; v < NV; ++v) acc[i][v] = add(load(tile + i * pitch + v * L), acc[i][v]);
                }
                if (out->clamp) store_rows_out<T, MR, NV, true>(*out, acc);
                else store_rows_out<T, MR, NV, false>(*out, acc);
                return;
            }
            if (count.blocks == 0) {
                NPCONV_UNROLL for (int i = 0; i < MR; ++i)
                    NPCONV_UNROLL for (int v = 0; v < NV; ++v) store(tile + i * pitch + v * L, acc[i][v]);
            } else {
                NPCONV_UNROLL for (int i = 0; i < MR; ++i)
                    NPCONV_UNROLL for (int v = 0; v < NV; ++v) {
                        T* t = tile + i * pitch + v * L;
                        store(t, add(load(t), acc[i][v]));
                    }
            }
            count.next(tile, n);
        } while (offset < end);
    }
    count.finish(tile, n);
}

template <class T, int MR = most_channels>
NPCONV_INLINE void run_tile(int channels, int vectors, const DenseSum& s, const T* x, std::ptrdiff_t ahead, const T* w,
                            T* tile, const RowsOut<T>* out) {
    if (channels == MR) {
        if (vectors == 3) return tile_sum<T, MR, 3>(s, x, ahead, w, tile, out);
        if (vectors == 2) return tile_sum<T, MR, 2>(s, x, ahead, w, tile, out);
        return tile_sum<T, MR, 1>(s, x, ahead, w, tile, out);
    }
    if constexpr (MR > 1) run_tile<T, MR - 1>(channels, vectors, s, x, ahead, w, tile, out);
}

// Pixels [begin, end) of a row at x, in `vectors` vectors. Where X must not be read behind the row's end, the last tile
// is summed from `back` pixels earlier, and only its own pixels are stored.
template <class T>
NPCONV_NOINLINE void any_tile(const DenseSweep<T>& a, int channels, const T* x, std::int64_t pixels, int vectors,
                              std::int64_t back, const T* w, std::int64_t oc, std::int64_t pixel, bool straight) {
    constexpr int L = lanes<T>;
    alignas(64) T tile[2 * most_channels * tile_pitch<T>];
    if (a.store.pixel_stride == 1) {
        for (int i = 0; i < channels; ++i) {
            T* row = a.store.dst + (oc + i) * a.store.channel_stride + pixel;
            for (std::int64_t j = 0; j < pixels; j += 64 / sizeof(T)) prefetch_write(row + j);
            prefetch_write(row + pixels - 1);
        }
    }
    if (straight && back == 0) {
        const RowsOut<T> out = rows_out(a.store, oc, pixel, pixels);
        return run_tile<T>(channels, vectors, a.sum, x, a.x_ahead, w, tile, &out);
    }
    run_tile<T>(channels, vectors, a.sum, x - back, a.x_ahead, w, tile, nullptr);
    const int pitch = vectors * L;
    if (a.store.pixel_stride == 1) {
        store_tile<T, false>(a.store, tile + back, pitch, channels, pixels, oc, pixel);
    } else {
        alignas(64) T turned[(tile_pitch<T>)*turned_pitch<T>];
        transpose_tile(tile, pitch, channels, pitch, turned, turned_pitch<T>);
        store_tile<T, true>(a.store, turned + back * turned_pitch<T>, turned_pitch<T>, int(pixels), channels, oc, pixel);
    }
}

// The tiles of one row: runs of whole vectors whose lengths differ by one.
struct RowTiles {
    std::int64_t vectors, tiles, split;  // split: vectors in the first tile of a row that is shorter than its vectors
};
template <class T> NPCONV_INLINE RowTiles row_tiles(std::int64_t pixels, bool slack) {
    constexpr int L = lanes<T>;
    RowTiles r = {tiles_of(pixels, L), 0, 0};
    r.tiles = tiles_of(r.vectors, most_vectors);
    if (!slack && r.tiles == 1 && r.vectors > 1 && r.vectors * L > pixels) {
        r.split = r.vectors - 1;
        r.tiles = 2;
    }
    return r;
}

template <class T>
NPCONV_INLINE void row_tile(const DenseSweep<T>& a, const RowTiles& t, std::int64_t i, std::int64_t row, const T* w,
                            std::int64_t oc, int channels, bool straight) {
    constexpr int L = lanes<T>;
    const std::int64_t from = t.split ? i * t.split : tile_begin(t.vectors, t.tiles, i);
    const std::int64_t to = t.split ? (i ? t.vectors : t.split) : tile_begin(t.vectors, t.tiles, i + 1);
    const std::int64_t begin = from * L, end = to * L < a.row_pixels ? to * L : a.row_pixels;
    const std::int64_t back = a.slack ? 0 : to * L - end;
    any_tile(a, channels, a.x + row * a.x_row_stride + begin, end - begin, int(to - from), back, w, oc,
             a.pixel + row * a.pixel_row + begin, straight);
}

// A chunk of tiles whose pixels fit in L1 meets all weights (which stream from L2) before the next chunk.
template <class T> void sweep(const DenseSweep<T>& a) {
    constexpr int L = lanes<T>;
    const std::int64_t terms = a.sum.terms();
    const RowTiles t = row_tiles<T>(a.row_pixels, a.slack);
    const bool straight = goes_straight(a);
    const std::int64_t tile_bytes = terms * most_vectors * L * std::int64_t(sizeof(T));
    const std::int64_t fit = near_bytes / (tile_bytes ? tile_bytes : 1);
    const std::int64_t chunks = tiles_of(t.tiles, a.rows > 1 ? t.tiles : fit > 1 ? fit : 1);
    for (std::int64_t r = 0; r < a.rows; ++r)
        for (std::int64_t k = 0; k < chunks; ++k) {
            const std::int64_t first = tile_begin(t.tiles, chunks, k), last = tile_begin(t.tiles, chunks, k + 1);
            DenseSweep<T> b = a;
            for (std::int64_t j = a.block_begin; j < a.block_end; ++j, b.x_ahead = 0) {
                const std::int64_t left = a.oc - j * most_channels;
                for (std::int64_t i = first; i < last; ++i)
                    row_tile(b, t, i, r, a.weights + j * most_channels * terms, a.oc_first + j * most_channels,
                             int(left < most_channels ? left : most_channels), straight);
            }
        }
}

}  // namespace

extern const PixelKernels pixel_kernels = {{most_channels, 1, most_vectors * lanes<float>, sweep<float>},
                                           {most_channels, 1, most_vectors * lanes<double>, sweep<double>}};

}  // namespace npconv::NPCONV_THIS_ISA

// From a finished tile of sums to memory: epilogue, residual, transposes. Included by the sweep kernels only.
#pragma once

#include "gemm/kernel.hpp"
#include "isa/this_isa.hpp"
#include "isa/simd_epilogue.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

constexpr int widest_row = 64;     // elements of one row of a tile, pixels
constexpr int most_channels_of_run = 128;  // and of one pixel of a run

// Second level of long sums: `upper` takes what 256 blocks gave.
template <class T> NPCONV_NOINLINE void add_level2(T* tile, T* upper, int n, bool first) {
    for (int i = 0; i < n; i += lanes<T>) store(upper + i, first ? load(tile + i) : add(load(upper + i), load(tile + i)));
}

// Keeps count of the blocks that went into `tile` (n elements, as many again behind it for the second level).
template <class T> struct BlockCount {
    int blocks = 0;
    bool level2 = false;

    NPCONV_INLINE void next(T* tile, int n) {
        if (++blocks == dense_level2) {
            add_level2(tile, tile + n, n, !level2);
            level2 = true;
            blocks = 0;
        }
    }
    NPCONV_INLINE void finish(T* tile, int n) {
        if (!level2) return;
        if (blocks) add_level2(tile, tile + n, n, false);
        add_level2(tile + n, tile, n, true);
    }
};

// rows x columns -> columns x rows; both buffers hold whole lanes x lanes blocks.
template <class T>
NPCONV_INLINE void transpose_tile(const T* src, int src_pitch, int rows, int columns, T* dst, int dst_pitch) {
    constexpr int L = lanes<T>;
    for (int i = 0; i < rows; i += L)
        for (int j = 0; j < columns; j += L) {
            Vec<T> r[L];
            NPCONV_UNROLL for (int k = 0; k < L; ++k) r[k] = i + k < rows ? load(src + (i + k) * src_pitch + j) : set1(T(0));
            transpose(r);
            NPCONV_UNROLL for (int k = 0; k < L; ++k) store(dst + (j + k) * dst_pitch + i, r[k]);
        }
}

// `n` neighbouring residual elements (over channels or over pixels) that do not lie side by side in memory.
template <class T>
NPCONV_NOINLINE void gather_residual(const DenseStore<T>& s, bool over_channels, std::int64_t oc, std::int64_t pixel,
                                     std::int64_t n, T* out) {
    const std::int64_t* stride = s.epilogue.residual_stride;
    for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t c = over_channels ? oc + i : oc, p = over_channels ? pixel : pixel + i;
        const std::int64_t w = p % s.ow, h = p / s.ow % s.oh, d = p / s.ow / s.oh;
        out[i] = s.epilogue.residual[c * stride[1] + d * stride[2] + h * stride[3] + w * stride[4]];
    }
}

template <class T> NPCONV_INLINE bool residual_is_dense(const DenseStore<T>& s, bool over_channels) {
    const std::int64_t* stride = s.epilogue.residual_stride;
    return over_channels ? stride[1] == 1 : stride[4] == 1 && stride[3] == s.ow && stride[2] == s.oh * s.ow;
}

// Where the residual of a row begins if it can be read in place.
template <class T>
NPCONV_INLINE const T* residual_row(const DenseStore<T>& s, bool over_channels, std::int64_t oc, std::int64_t pixel) {
    const std::int64_t* stride = s.epilogue.residual_stride;
    if (!over_channels) return s.epilogue.residual + oc * stride[1] + pixel;
    const std::int64_t w = pixel % s.ow, h = pixel / s.ow % s.oh, d = pixel / s.ow / s.oh;
    return s.epilogue.residual + oc + d * stride[2] + h * stride[3] + w * stride[4];
}

// A tile whose rows are dense in memory: rows of pixels (one channel each) or rows of channels (one pixel each).
// A is a constant here so that the switch over activations happens once a tile.
template <class T, bool OverChannels, Activation A, bool HasResidual>
NPCONV_INLINE void store_rows(const DenseStore<T>& s, const T* tile, int pitch, int rows, std::int64_t n, std::int64_t oc,
                              std::int64_t pixel) {
    constexpr int L = lanes<T>;
    EpilogueArgs<T> e = s.epilogue;
    if (A != Activation::gelu_tanh) e.activation = A;  // gelu_tanh stands for "the rest"
    if (!HasResidual) e.residual_kind = Residual::none;
    const bool in_place = HasResidual && residual_is_dense(s, OverChannels);
    T gathered[OverChannels ? most_channels_of_run : widest_row];
    for (int i = 0; i < rows; ++i) {
        const std::int64_t c = OverChannels ? oc : oc + i, p = OverChannels ? pixel + i : pixel;
        T* dst = s.dst + c * s.channel_stride + p * s.pixel_stride;
        const T* residual = gathered;
        if (HasResidual) {
            if (in_place) residual = residual_row(s, OverChannels, c, p);
            else gather_residual(s, OverChannels, c, p, n, gathered);
        }
        const Vec<T> row_scale = OverChannels ? set1(T(1)) : channel_scale(e, c);
        const Vec<T> row_bias = OverChannels ? set1(T(0)) : channel_bias(e, c);
        for (std::int64_t j = 0; j < n; j += L) {
            const std::int64_t m = n - j;
            const Vec<T> scale = OverChannels ? channels_scale(e, c + j, m) : row_scale;
            const Vec<T> bias = OverChannels ? channels_bias(e, c + j, m) : row_bias;
            const Vec<T> r = HasResidual ? load_partial(residual + j, m) : set1(T(0));
            const Vec<T> v = finish<T>(e, load(tile + i * pitch + j), scale, bias, r);
            if (m >= L) store(dst + j, v); else store_partial(dst + j, v, m);
        }
    }
}

template <class T, bool OverChannels, Activation A>
NPCONV_NOINLINE void store_activated(const DenseStore<T>& s, const T* tile, int pitch, int rows, std::int64_t n,
                                     std::int64_t oc, std::int64_t pixel) {
    if (s.epilogue.residual_kind == Residual::none)
        store_rows<T, OverChannels, A, false>(s, tile, pitch, rows, n, oc, pixel);
    else
        store_rows<T, OverChannels, A, true>(s, tile, pitch, rows, n, oc, pixel);
}

template <class T, bool OverChannels>
NPCONV_INLINE void store_tile(const DenseStore<T>& s, const T* tile, int pitch, int rows, std::int64_t n, std::int64_t oc,
                              std::int64_t pixel) {
    switch (s.epilogue.activation) {
        case Activation::none:
            return store_activated<T, OverChannels, Activation::none>(s, tile, pitch, rows, n, oc, pixel);
        case Activation::relu:
            return store_activated<T, OverChannels, Activation::relu>(s, tile, pitch, rows, n, oc, pixel);
        case Activation::clip:
            return store_activated<T, OverChannels, Activation::clip>(s, tile, pitch, rows, n, oc, pixel);
        case Activation::leaky_relu:
            return store_activated<T, OverChannels, Activation::leaky_relu>(s, tile, pitch, rows, n, oc, pixel);
        default: return store_activated<T, OverChannels, Activation::gelu_tanh>(s, tile, pitch, rows, n, oc, pixel);
    }
}

// Whether rows of pixels of neighbouring channels can be aligned together.
template <class T> NPCONV_INLINE bool rows_align(const DenseStore<T>& s) {
    return s.pixel_stride == 1 && s.channel_stride % lanes<T> == 0;
}

// Whole vectors of channels.
template <class T, int KV>
NPCONV_INLINE void store_run_dense(const DenseStore<T>& s, const T* sums, std::int64_t pixels, std::int64_t oc, std::int64_t pixel) {
    constexpr int L = lanes<T>;
    const Simple<T> simple(s.epilogue);
    Vec<T> scale[KV], bias[KV];
    NPCONV_UNROLL for (int v = 0; v < KV; ++v) {
        scale[v] = channels_scale(s.epilogue, oc + v * L, L);
        bias[v] = channels_bias(s.epilogue, oc + v * L, L);
    }
    T* dst = s.dst + oc + pixel * s.pixel_stride;
    for (std::int64_t p = 0; p < pixels; ++p, dst += s.pixel_stride, sums += KV * L)
        NPCONV_UNROLL for (int v = 0; v < KV; ++v) store(dst + v * L, simple(load(sums + v * L), scale[v], bias[v]));
}

// Transposes lanes x lanes sums at a time on their way to rows of pixels; whole vectors are aligned where all rows can be.
template <class T, int KV>
NPCONV_INLINE void store_run_planar(const DenseStore<T>& s, const T* sums, std::int64_t pixels, std::int64_t oc,
                                    std::int64_t channels, std::int64_t pixel) {
    constexpr int L = lanes<T>;
    const Simple<T> simple(s.epilogue);
    T* dst = s.dst + oc * s.channel_stride + pixel;
    const std::int64_t lead = rows_align(s) ? unaligned(dst) : 0;
    NPCONV_UNROLL for (int v = 0; v < KV; ++v, dst += L * s.channel_stride) {
        const std::int64_t rows = channels - v * L < L ? channels - v * L : L;
        const Vec<T> scale = channels_scale(s.epilogue, oc + v * L, rows), bias = channels_bias(s.epilogue, oc + v * L, rows);
        for (std::int64_t p = 0, n; p < pixels; p += n) {
            n = p == 0 && lead ? lead : L;
            if (n > pixels - p) n = pixels - p;
            Vec<T> r[L];
            NPCONV_UNROLL for (int i = 0; i < L; ++i) r[i] = load(sums + (p + i) * (KV * L) + v * L);
            simple.finish(r, s.epilogue.scale != nullptr, scale, bias);
            transpose(r);
            T* out = dst + p;
            if (n == L && rows == L) {
                NPCONV_UNROLL for (int i = 0; i < L; ++i, out += s.channel_stride) store(out, r[i]);
            } else {
                NPCONV_UNROLL for (int i = 0; i < L; ++i, out += s.channel_stride)
                    if (i < rows) store_partial(out, r[i], n);
            }
        }
    }
}

// Sums [pixel][KV vectors of channels] of neighbouring output pixels. A vector's worth of pixels behind the last may be
// read, but is not stored.
template <class T, int KV>
NPCONV_NOINLINE void store_run(const DenseStore<T>& s, const T* sums, std::int64_t pixels, std::int64_t oc, std::int64_t channels,
                               std::int64_t pixel) {
    constexpr int pitch = KV * lanes<T>;
    static_assert(pitch <= most_channels_of_run, "store_rows() gathers the residual of one pixel");
    if (s.pixel_stride != 1 && channels == pitch && is_simple(s.epilogue)) return store_run_dense<T, KV>(s, sums, pixels, oc, pixel);
    if (s.pixel_stride != 1) return store_tile<T, true>(s, sums, pitch, int(pixels), channels, oc, pixel);
    if (is_simple(s.epilogue)) return store_run_planar<T, KV>(s, sums, pixels, oc, channels, pixel);
    alignas(64) T turned[pitch * widest_row];
    for (std::int64_t p = 0; p < pixels; p += widest_row) {
        const std::int64_t n = pixels - p < widest_row ? pixels - p : widest_row;
        transpose_tile(sums + p * pitch, pitch, int(n), pitch, turned, widest_row);
        store_tile<T, false>(s, turned, widest_row, int(channels), n, oc, pixel + p);
    }
}

// A tile's sums as they are in registers: rows of whole vectors, `stride` apart.
template <class T, int M, int N> NPCONV_INLINE void store_whole(T* dst, std::int64_t stride, Vec<T> (&acc)[M][N]) {
    NPCONV_UNROLL for (int i = 0; i < M; ++i, dst += stride)
        NPCONV_UNROLL for (int v = 0; v < N; ++v) store(dst + v * lanes<T>, acc[i][v]);
}

// How many tiles of at most `most` a run of n is cut into, and where tile i of `tiles` begins: the last are one shorter.
NPCONV_INLINE std::int64_t tiles_of(std::int64_t n, std::int64_t most) { return (n + most - 1) / most; }
NPCONV_INLINE std::int64_t tile_begin(std::int64_t n, std::int64_t tiles, std::int64_t i) {
    const std::int64_t longer = n % tiles;
    return n / tiles * i + (i < longer ? i : longer);
}

}  // namespace
}  // namespace npconv::NPCONV_THIS_ISA

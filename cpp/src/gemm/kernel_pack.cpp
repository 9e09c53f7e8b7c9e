// Packing for the dense sweeps: weight blocks [term][channel] and im2col panels [term][pixel].
#include "gemm/kernel.hpp"
#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

// `terms` neighbouring terms of up to lanes channels, dense in memory over the terms: lanes x lanes transposes.
template <class T>
NPCONV_INLINE void pack_transposed(const T* src, std::int64_t oc_stride, std::int64_t channels, std::int64_t columns,
                                   std::int64_t terms, T* dst, std::int64_t width, Vec<T>& check) {
    constexpr int L = lanes<T>;
    const Vec<T> zero = set1(T(0));
    for (std::int64_t t = 0; t < terms; t += L) {
        const std::int64_t m = terms - t;
        Vec<T> r[L];
        NPCONV_UNROLL for (int c = 0; c < L; ++c)
            r[c] = c >= channels ? set1(T(0)) : m >= L ? load(src + c * oc_stride + t) : load_partial(src + c * oc_stride + t, m);
        transpose(r);
        NPCONV_UNROLL for (int k = 0; k < L; ++k) {
            if (k >= m) continue;
            check = fma(zero, r[k], check);
            if (columns == L) store(dst + (t + k) * width, r[k]); else store_partial(dst + (t + k) * width, r[k], columns);
        }
    }
}

// Blocks half a vector wide: two runs of terms share a transpose, and neighbouring terms a store. Returns how many terms
// that took.
template <class T>
NPCONV_INLINE std::int64_t pack_half(const T* src, std::int64_t oc_stride, std::int64_t terms, T* dst, Vec<T>& check) {
    constexpr int L = lanes<T>, H = L / 2;
    const Vec<T> zero = set1(T(0));
    std::int64_t t = 0;
    for (; t + 2 * L <= terms; t += 2 * L) {
        Vec<T> r[L];
        NPCONV_UNROLL for (int c = 0; c < H; ++c) {
            r[c] = load(src + c * oc_stride + t);
            r[H + c] = load(src + c * oc_stride + t + L);
        }
        transpose(r);
        NPCONV_UNROLL for (int k = 0; k < L; k += 2) {
            Vec<T> lo, hi;
            join_halves(r[k], r[k + 1], lo, hi);
            check = fma(zero, lo, fma(zero, hi, check));
            store(dst + (t + k) * H, lo);
            store(dst + (t + L + k) * H, hi);
        }
    }
    return t;
}

// Dense over channels: one vector a term. Anything else: element by element.
template <class T>
NPCONV_INLINE void pack_term(const T* src, std::int64_t oc_stride, std::int64_t channels, std::int64_t columns, T* dst,
                             Vec<T>& check) {
    Vec<T> r;
    if (oc_stride == 1) {
        r = load_partial(src, channels);
    } else {
        T column[lanes<T>] = {};
        for (std::int64_t c = 0; c < channels; ++c) column[c] = src[c * oc_stride];
        r = load(column);
    }
    check = fma(set1(T(0)), r, check);
    store_partial(dst, r, columns);
}

template <class T> bool weights(const DenseWeights<T>& w, std::int64_t first, std::int64_t width, T* dst) {
    constexpr int L = lanes<T>;
    const std::int64_t terms = w.size[0] * w.size[1] * w.size[2] * w.size[3];
    bool dense = true;
    std::int64_t run = 1;
    for (int i = 3; i >= 0; run *= w.size[i--]) dense = dense && (w.size[i] == 1 || w.stride[i] == run);
    Vec<T> check = set1(T(0));  // NaN as soon as something isn't finite
    for (std::int64_t c = 0; c < width; c += L) {
        const std::int64_t columns = width - c < L ? width - c : L, left = w.oc - first - c;
        const std::int64_t channels = left < 0 ? 0 : left < columns ? left : columns;
        const T* src = w.data + (first + c) * w.oc_stride;
        T* d = dst + c;
        if (dense) {
            const bool half = 2 * width == L && channels == width;
            const std::int64_t done = half ? pack_half(src, w.oc_stride, terms, d, check) : 0;
            pack_transposed(src + done, w.oc_stride, channels, columns, terms - done, d + done * width, width, check);
            continue;
        }
        for (std::int64_t i = 0; i < w.size[0]; ++i)
            for (std::int64_t z = 0; z < w.size[1]; ++z)
                for (std::int64_t y = 0; y < w.size[2]; ++y)
                    for (std::int64_t x = 0; x < w.size[3]; ++x, d += width)
                        pack_term(src + i * w.stride[0] + z * w.stride[1] + y * w.stride[2] + x * w.stride[3], w.oc_stride,
                                  channels, columns, d, check);
    }
    return any_nonfinite(check);
}

// Narrow rows (below one vector) are copied with one partial vector each; the panel is written once and in order.
template <class T>
void expand(const T* strip, std::int64_t channels, std::int64_t channel_stride, const std::ptrdiff_t* tap, std::int64_t taps,
            std::int64_t rows, std::int64_t row_stride, std::int64_t width, T* panel, std::int64_t pitch) {
    constexpr int L = lanes<T>;
    for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t t = 0; t < taps; ++t, panel += pitch) {
            const T* src = strip + c * channel_stride + tap[t];
            T* dst = panel;
            for (std::int64_t r = 0; r < rows; ++r, src += row_stride, dst += width) {
                std::int64_t i = 0;
                for (; i + L <= width; i += L) store(dst + i, load(src + i));
                if (i < width) store_partial(dst + i, load_partial(src + i, width - i), width - i);
            }
        }
}

}  // namespace

extern const PerType<PackKernels> dense_pack_kernels = {{weights<float>, expand<float>}, {weights<double>, expand<double>}};

}  // namespace npconv::NPCONV_THIS_ISA

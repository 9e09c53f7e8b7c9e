// Shared by the depthwise kernels: epilogues without branches, residuals of any strides, rows of the padded image, packing.
// Included by kernel files only.
#pragma once

#include "algorithms/depthwise/kernel.hpp"
#include "isa/this_isa.hpp"
#include "isa/simd_epilogue.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

using depthwise::Problem;
using depthwise::Task;
using depthwise::WeightView;

constexpr std::int64_t block_terms = 256;  // accuracy.hpp's sum_block and sum_level2
constexpr std::int64_t block_blocks = 256;

NPCONV_INLINE std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
NPCONV_INLINE std::int64_t most(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
NPCONV_INLINE std::int64_t round_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b * b; }
NPCONV_INLINE std::int64_t extent(std::int64_t k, std::int64_t d) { return (k - 1) * d + 1; }

// Pixels [first, first + n) of a run of rows of `width`, each row_stride after the other.
template <class T>
NPCONV_INLINE Vec<T> load_pixels(const T* p, std::int64_t row_stride, std::int64_t stride, std::int64_t width,
                                 std::int64_t first, std::int64_t n) {
    constexpr int L = lanes<T>;
    n = least(n, L);
    if (row_stride == width * stride || first + n <= width) return load_strided(p + first * stride, stride, n);
    T t[L] = {};
    for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t y = (first + i) / width, x = (first + i) % width;
        t[i] = p[y * row_stride + x * stride];
    }
    return load(t);
}

template <class T>
NPCONV_INLINE const T* residual_at(const EpilogueArgs<T>& e, std::int64_t n, std::int64_t c, std::int64_t d,
                                   std::int64_t y, std::int64_t x) {
    const std::int64_t* s = e.residual_stride;
    return e.residual + n * s[0] + c * s[1] + d * s[2] + y * s[3] + x * s[4];
}

// Offset of a padded row from the image, or constant_row.
template <class T> NPCONV_INLINE std::int64_t row_offset(const Problem<T>& p, std::int64_t d, std::int64_t h) {
    const std::int64_t sd = p.d_map[d], sh = p.h_map[h];
    return sd < 0 || sh < 0 ? constant_row : sd * p.src_stride[2] + sh * p.src_stride[3];
}

// The columns that outputs [x0, x1) read; rows are filled in by the caller.
template <class T>
NPCONV_INLINE StripSource<T> strip_source(const Problem<T>& p, std::int64_t n, std::int64_t c, std::int64_t x0,
                                          std::int64_t x1) {
    StripSource<T> s;
    const std::int64_t first = x0 * p.sw;
    s.image = p.src + n * p.src_stride[0] + c * p.src_stride[1];
    s.channel_stride = p.src_stride[1];
    s.column_stride = p.src_stride[4];
    s.row_offset = nullptr;
    s.rows = 0;
    s.column = p.w_map + first;
    s.columns = (x1 - x0 - 1) * p.sw + extent(p.kw, p.dw);
    s.interior_lo = least(most(p.interior_lo - first, 0), s.columns);
    s.interior_hi = least(most(p.interior_hi - first, s.interior_lo), s.columns);
    s.value = p.value;
    return s;
}

// Weights of one output channel in tap order.
template <class T> NPCONV_INLINE void copy_taps(const WeightView<T>& w, std::int64_t oc, T* out, std::int64_t step) {
    const T* base = w.data + oc * w.stride[0];
    for (std::int64_t d = 0; d < w.size[0]; ++d)
        for (std::int64_t h = 0; h < w.size[1]; ++h) {
            const T* row = base + d * w.stride[2] + h * w.stride[3];
            for (std::int64_t k = 0; k < w.size[2]; ++k, out += step) *out = row[k * w.stride[4]];
        }
}

template <class T> void pack_taps(const WeightView<T>& w, std::int64_t c, std::int64_t n, T* packed) {
    const std::int64_t taps = w.size[0] * w.size[1] * w.size[2];
    for (std::int64_t oc = c * w.multiplier; oc < (c + n) * w.multiplier; ++oc)
        copy_taps(w, oc, packed + oc * taps, 1);
}

// [channel block][m][tap][L]; lanes beyond the last channel are zero.
template <class T> void pack_lanes(const WeightView<T>& w, std::int64_t c, std::int64_t n, T* packed) {
    constexpr std::int64_t L = lanes<T>;
    const std::int64_t taps = w.size[0] * w.size[1] * w.size[2], M = w.multiplier;
    const bool dense = w.stride[4] == 1 && (w.size[1] == 1 || w.stride[3] == w.size[2]) &&
                       (w.size[0] == 1 || w.stride[2] == w.size[1] * w.size[2]);
    for (std::int64_t c0 = c; c0 < c + n; c0 += L)
        for (std::int64_t m = 0; m < M; ++m) {
            T* out = packed + (c0 / L * M + m) * taps * L;
            const std::int64_t valid = least(L, c + n - c0);
            if (dense) {
                for (std::int64_t k = 0; k < taps; k += L) {
                    Vec<T> r[L];
                    for (std::int64_t i = 0; i < L; ++i) {
                        const T* row = w.data + ((c0 + i) * M + m) * w.stride[0] + k;
                        r[i] = i < valid ? load_partial(row, taps - k) : set1(T(0));
                    }
                    transpose(r);
                    for (std::int64_t i = 0; i < L && k + i < taps; ++i) store(out + (k + i) * L, r[i]);
                }
                continue;
            }
            for (std::int64_t i = 0; i < L; ++i) {
                if (i < valid) copy_taps(w, (c0 + i) * M + m, out + i, L);
                else for (std::int64_t k = 0; k < taps; ++k) out[k * L + i] = T(0);
            }
        }
}

}  // namespace
}  // namespace npconv::NPCONV_THIS_ISA

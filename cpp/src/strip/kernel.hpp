// Padded copies of a few image rows in a layout that a kernel can run over without looking at borders.
#pragma once

#include <cstddef>
#include <cstdint>

namespace npconv {

constexpr std::int64_t constant_row = INT64_MIN;  // a row that holds the padding value only

// Rows are given by their offset in elements from `image` (or constant_row), columns by their source index (or -1 for
// the padding value); columns [interior_lo, interior_hi) map to consecutive indices.
template <class T> struct StripSource {
    const T* image;                  // element [c=0, 0, 0, 0] of one image
    std::int64_t channel_stride;     // in elements; any sign, also zero
    std::int64_t column_stride;      // 1 for nchw
    const std::int64_t* row_offset;  // rows of them
    std::int64_t rows;
    const std::int32_t* column;      // columns of them
    std::int64_t columns;
    std::int64_t interior_lo, interior_hi;
    T value;                         // padding value
};

// planar: dst[c*channel_stride + row*row_stride + (column % phases)*phase_stride + column / phases], so that a kernel
//   with horizontal stride `phases` reads neighbouring outputs from neighbouring addresses.
// lanes: dst[(row*columns + column)*L + c], L = lanes of T; channels >= `channels` (<= L) are zero.
template <class T> struct StripKernelsOf {
    void (*planar)(const StripSource<T>&, std::int64_t channels, int phases, T* dst, std::int64_t channel_stride,
                   std::int64_t row_stride, std::int64_t phase_stride);
    void (*lanes)(const StripSource<T>&, std::int64_t channels, T* dst);
};

struct StripKernels {
    StripKernelsOf<float> f32;
    StripKernelsOf<double> f64;
    template <class T> const StripKernelsOf<T>& of() const {
        if constexpr (sizeof(T) == 4) return f32; else return f64;
    }
};

#define NPCONV_ISA(isa) namespace isa { extern const StripKernels strip_kernels; }
#include "isa/list.inc"

}  // namespace npconv

// Transforms of `lanes` tiles at once: every element of a tile is one vector, whose lanes are different tiles. Lanes
// never mix, so it does not matter which tile lies in which lane, and no shuffle is needed but at load and store.
//
// Layout. A tile of th rows and tw real columns has the spectrum [th][tw/2 + 1] of complex vectors (re, im: 2*lanes
// scalars), columns in natural order. Columns are transformed in place by decimation in frequency, which leaves them in
// the order of reversed digits; the filter's spectrum has the same order, so nobody ever sorts them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "npconv/epilogue.hpp"

namespace npconv {

constexpr int fft_max_lanes = 16;
constexpr int fft_max_passes = 8;

// A complex transform as passes of butterflies: pass p works on blocks of size / (radix[0] * ... * radix[p-1]) points.
// Its twiddles: for j >= 1 (j-th butterfly of a block) and i >= 1 (i-th point) cos and sin of 2 pi i j / block.
template <class T> struct FftPasses {
    int size, passes;
    int radix[fft_max_passes];
    const T* twiddles[fft_max_passes];
};

// A real transform of 2*half.size points: a complex one of neighbouring pairs, then the two are taken apart.
template <class T> struct FftRows {
    FftPasses<T> half;
    const T* twiddles;          // cos and sin of 2 pi k / (2 * half.size) for 1 <= k <= half.size / 2
    const std::int32_t* order;  // where frequency k lies after the passes
};

// Where the outputs of the tiles go and what happens to them on the way.
template <class T> struct FftStore {
    EpilogueArgs<T> epilogue;
    T* dst[fft_max_lanes];               // first output of each lane's tile
    const T* residual[fft_max_lanes];
    std::int64_t oc[fft_max_lanes];
    int rows[fft_max_lanes], columns[fft_max_lanes];  // valid outputs; 0 for unused lanes
    int finite_rows[fft_max_lanes];      // out: rows stored; the next one was not finite, and none was stored after it
    std::int64_t dst_row, dst_column;    // strides
    std::int64_t residual_row, residual_column;
    int dense_channels;  // > 0: lanes are that many channels which are neighbours in dst; it is stored in vectors
    bool residual_dense;  // and so are they in residual
};

template <class T> struct FftRowKernelsOf {
    // `rows` rows of lanes tiles, tile l's at lane[l] + row * row_stride[l], 2*half.size elements each, to spectra.
    // work: lanes * (2*half.size rounded up to lanes) elements.
    void (*forward)(const FftRows<T>&, const T* const* lane, const std::int64_t* row_stride, int rows, T* work, T* spectra);
    // The same from rows that have lanes already: [rows][2*half.size][lanes], destroyed.
    void (*forward_lanes)(const FftRows<T>&, T* slab, int rows, T* spectra);
    // Rows of spectra to outputs. Every row is checked before it is stored.
    void (*inverse)(const FftRows<T>&, const T* spectra, T* work, FftStore<T>&);
    // Accumulators of rows [first, first + rows) of one lane's tile to outputs.
    void (*store)(const FftStore<T>&, int lane, int first, int rows, const T* accumulators, std::int64_t row_stride);
};

template <class T> struct FftColumnKernelsOf {
    // Columns forward, times the filter's spectrum ([columns][size] complex), back; in place. lane_filter: the filter
    // has vectors (one filter per lane) instead of scalars (one for all).
    void (*convolve)(const FftPasses<T>&, int columns, T* spectra, const T* filter, bool lane_filter);
    void (*forward)(const FftPasses<T>&, int columns, T* spectra);
    // out = inverse of the sum of `inputs` transformed spectra times their filters.
    void (*inverse)(const FftPasses<T>&, int columns, int inputs, const T* spectra, std::int64_t spectra_stride,
                    const T* filter, std::int64_t filter_stride, T* out);
    // Transformed filters (one per lane) to what `convolve` takes: conjugate, scaled, [columns][size]. Vectors, or
    // `filters` filters of filter_stride scalars one after the other.
    void (*filter)(int size, int columns, const T* spectra, T scale, bool lane_filter, int filters, T* filter,
                   std::int64_t filter_stride);
};

template <template <class> class Of> struct FftTable {
    Of<float> f32;
    Of<double> f64;
    template <class T> const Of<T>& of() const {
        if constexpr (sizeof(T) == 4) return f32; else return f64;
    }
};
using FftRowKernels = FftTable<FftRowKernelsOf>;
using FftColumnKernels = FftTable<FftColumnKernelsOf>;

#define NPCONV_ISA(isa) \
    namespace isa { extern const FftRowKernels fft_row_kernels; extern const FftColumnKernels fft_column_kernels; }
#include "isa/list.inc"

}  // namespace npconv

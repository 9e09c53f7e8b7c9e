// What depthwise.cpp and its kernels share: the problem as plain data, one table of entry points per path and ISA level.
#pragma once

#include <cstddef>
#include <cstdint>

#include "npconv/epilogue.hpp"
#include "strip/kernel.hpp"

namespace npconv::depthwise {

// One call. Positions along an axis count from the first padded element, so that output o, tap k reads position
// o*stride + k*dilation; the maps turn positions into source indices (-1: the padding value).
template <class T> struct Problem {
    const T* src;
    T* dst;
    const T* weights;  // packed: [channel block][m][tap][lanes] (lanes), [oc][tap] (rows, planar), [tap][lanes]
    std::int64_t src_stride[5], dst_stride[5];
    EpilogueArgs<T> epilogue;
    std::int64_t channels, multiplier;  // oc = channel * multiplier + m
    std::int64_t od, oh, ow, ih, iw;
    std::int64_t kd, kh, kw, sd, sh, sw, dd, dh, dw;
    const std::int32_t* d_map;
    const std::int32_t* h_map;
    const std::int32_t* w_map;
    std::int64_t interior_lo, interior_hi;  // positions of w_map that run through the image without a jump
    T value;                                // padding value
    StripKernelsOf<T> strip;
    std::int64_t rows;      // most output rows of a register tile (all but lanes)
    bool direct;            // read the image itself where possible, not a padded copy
    bool flat;              // lanes: copy whole nchw rows without padding; columns are looked up near the borders
    std::int64_t h_begin;   // source row of position 0 if it lay in the image
    bool dst_nhwc;
};

// A part of the output: image n, output depth d, rows [y0, y1), columns [x0, x1) of `channels` input channels from c.
struct Task {
    std::int64_t n, c, channels, d, y0, y1, x0, x1;
    void* scratch;  // this worker's, 64-byte aligned
};

// Weights as a matrix of channels x taps.
template <class T> struct WeightView {
    const T* data;
    std::int64_t stride[5];  // O, I/g, KD, KH, KW
    std::int64_t size[3];    // KD, KH, KW
    std::int64_t channels, multiplier;
};

template <class T> struct PathKernels {
    void (*run)(const Problem<T>&, const Task&);
    // Bytes of scratch that one task of this size needs.
    std::size_t (*scratch)(const Problem<T>&, const Task&);
    // Weights of all outputs of the channels [c, c + n); n and c are multiples of the block unless at the end.
    void (*pack)(const WeightView<T>&, std::int64_t c, std::int64_t n, T* packed);
};

struct Kernels {
    PathKernels<float> f32;
    PathKernels<double> f64;
    template <class T> const PathKernels<T>& of() const {
        if constexpr (sizeof(T) == 4) return f32; else return f64;
    }
};

}  // namespace npconv::depthwise

namespace npconv {

#define NPCONV_ISA(isa)                                      \
    namespace isa {                                          \
    extern const depthwise::Kernels depthwise_lanes_kernels; \
    extern const depthwise::Kernels depthwise_rows_kernels;  \
    extern const depthwise::Kernels depthwise_planar_kernels; \
    extern const depthwise::Kernels depthwise_interleaved_kernels; \
    extern const depthwise::Kernels depthwise_nhwc_kernels; \
    }
#include "isa/list.inc"

}  // namespace npconv

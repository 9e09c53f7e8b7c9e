// Dense micro-kernels: sums of products of X with packed weights for a band of output pixels, epilogue and store included.
// X is whatever an offset table can describe: the image itself, a padded strip or an im2col panel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "npconv/epilogue.hpp"

namespace npconv {

// One accumulator sums at most `dense_block` terms; sums of more than dense_level2 blocks get a second level.
// All kernels add the same terms in the same order, so that their results are equal bit for bit.
constexpr int dense_block = 256;
constexpr int dense_level2 = 256;

// Where the terms of one output lie in X: groups of `entries` offsets (the last group has `last`), the groups
// `group_stride` apart. A group longer than dense_block is summed in several blocks.
struct DenseSum {
    const std::ptrdiff_t* offset;
    std::int64_t entries, groups, last;
    std::ptrdiff_t group_stride;

    std::int64_t terms() const { return (groups - 1) * entries + last; }
};

// Where results go. dst and residual are those of one image, element [oc = 0, pixel 0]; pixels are counted over D, H, W.
template <class T> struct DenseStore {
    T* dst;
    std::int64_t channel_stride, pixel_stride;  // one of them is 1
    std::int64_t oh, ow;
    EpilogueArgs<T> epilogue;
};

// `rows` rows of `row_pixels` neighbouring outputs each, for output channels [block_begin, block_end) * block.
template <class T> struct DenseSweep {
    DenseSum sum;
    const T* x;  // first pixel of the first row
    std::int64_t rows, x_row_stride, row_pixels;
    bool slack;                     // vectors may read past the end of a row
    std::ptrdiff_t x_ahead;         // the next pixels are not in a near cache: fetch those so many elements ahead
    std::int64_t pixel, pixel_row;  // index of the first output pixel, and from row to row
    const T* weights;               // of this group, as pack() wrote them
    std::int64_t oc_first, oc;      // first channel and number of channels of this group
    std::int64_t block_begin, block_end;
    DenseStore<T> store;
};

// Weights of one group: element [oc = 0, ic = 0, 0, 0, 0], strides in elements.
template <class T> struct DenseWeights {
    const T* data;
    std::int64_t oc, size[4], oc_stride, stride[4];  // size and stride of ic, kd, kh, kw
};

template <class T> struct SweepKernel {
    int block;   // output channels of a weight block
    int rest;    // a last block is a multiple of this many channels wide
    int pixels;  // of the largest tile
    void (*sweep)(const DenseSweep<T>&);
};

template <class T> struct PackKernels {
    // Block `b` of [term][width] into dst, zeros behind the last channel.
    void (*weights)(const DenseWeights<T>&, std::int64_t first, std::int64_t width, T* dst);
    // im2col: for each of `channels` strips and each tap, `rows` runs of `width` elements one behind the other.
    void (*expand)(const T* strip, std::int64_t channels, std::int64_t channel_stride, const std::ptrdiff_t* tap,
                   std::int64_t taps, std::int64_t rows, std::int64_t row_stride, std::int64_t width, T* panel,
                   std::int64_t pitch);
};

// lanes = output channels: weights are vectors, pixels are broadcast
struct ChannelKernels {
    SweepKernel<float> f32;
    SweepKernel<double> f64;
    template <class T> const SweepKernel<T>& of() const {
        if constexpr (sizeof(T) == 4)
            return f32;
        else
            return f64;
    }
};
// lanes = pixels: weights are broadcast
struct PixelKernels {
    SweepKernel<float> f32;
    SweepKernel<double> f64;
    template <class T> const SweepKernel<T>& of() const {
        if constexpr (sizeof(T) == 4)
            return f32;
        else
            return f64;
    }
};
struct DensePackKernels {
    PackKernels<float> f32;
    PackKernels<double> f64;
    template <class T> const PackKernels<T>& of() const {
        if constexpr (sizeof(T) == 4)
            return f32;
        else
            return f64;
    }
};

#define NPCONV_ISA(isa)                                                                                                          \
    namespace isa {                                                                                                              \
    extern const ChannelKernels channel_kernels;                                                                                 \
    extern const PixelKernels pixel_kernels;                                                                                     \
    extern const DensePackKernels dense_pack_kernels;                                                                            \
    }
#include "isa/list.inc"

}  // namespace npconv

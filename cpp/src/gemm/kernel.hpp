// Dense micro-kernels: sums of products of X with packed weights for a band of output pixels, epilogue and store included.
// X is whatever a list of terms can describe: the image itself, a padded strip or an im2col panel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa/per_type.hpp"
#include "npconv/epilogue.hpp"

namespace npconv {

// One accumulator sums at most `dense_block` terms; sums of more than dense_level2 blocks get a second level.
// All kernels add the same terms in the same order, so that their results are equal bit for bit.
constexpr int dense_block = 256;
constexpr int dense_level2 = 256;
// With lanes = pixels: rows of so many vectors begin with a short one, so that all others are aligned, and have no tail (TailKernel).
constexpr int dense_long_row = 64;

// One product of a sum: where its pixel lies in X, and which row of the packed weights it meets.
struct DenseTerm {
    std::int32_t x, w;
};

// The terms of a tile of neighbouring pixels of a row. `rows` times: `left` for all but the first pixel of the row, `all`
// for every pixel, `right` for all but the last. The pixels left out lie in the padding: what is zero need not be
// multiplied. A tile that leaves nothing out has one row of terms.
struct DenseTerms {
    const DenseTerm* term = nullptr;
    std::int32_t rows = 1, left = 0, all = 0, right = 0;
    bool in_order = true;  // the terms, each for every pixel, meet the weights row by row
    std::int32_t step = 0;  // and lie this far apart in X; 0: here and there (set where in_order)

    std::int64_t size() const { return std::int64_t(rows) * (left + all + right); }
};

// A sum is `groups` times the same terms (the last time perhaps those of fewer channels), X advancing by x_group and the
// weights by w_group rows. More than dense_block terms of a group are summed in several blocks.
struct DenseSum {
    DenseTerms full, last;
    std::int64_t groups;
    std::ptrdiff_t x_group, w_group;

    const DenseTerms& terms(std::int64_t group) const { return group + 1 < groups ? full : last; }
};

// Which sum a tile takes: sums[kind of its row * edges + (edges > 1 ? left edge + 2 * right edge : 0)].
struct DenseSums {
    const DenseSum* sums;
    const std::uint8_t* row_kind;  // of each row of a sweep; null: all are of kind 0
    int edges;                     // 1, or 4 where tiles at the ends of rows have sums of their own
};

// Where results go. dst and residual are those of one image, element [oc = 0, pixel 0]; pixels are counted over D, H, W.
template <class T> struct DenseStore {
    T* dst;
    std::int64_t channel_stride, pixel_stride;  // one of them is 1
    std::int64_t oh, ow;
    EpilogueArgs<T> epilogue;
};

template <class T> struct DenseSweep;

// Sums of the last pixels of a row, which are too few for a vector of them, from `pixel` on, for blocks [begin, end) of packed weights.
template <class T> struct TailKernel {
    int most;  // pixels that are better off here; 0: none
    void (*sums)(const DenseSweep<T>&, std::int64_t pixel, std::int64_t begin, std::int64_t end);
};

// `rows` rows of `row_pixels` neighbouring outputs each, for output channels [block_begin, block_end) * block.
template <class T> struct DenseSweep {
    DenseSums sums;
    std::int64_t terms;  // rows of a block of packed weights
    const T* x;          // first pixel of the first row
    std::ptrdiff_t x_step;  // from pixel to pixel; with lanes = pixels 1
    std::int64_t rows, x_row_stride, row_pixels;
    std::ptrdiff_t x_tile;              // from tile to tile of a panel, which is one row; 0: pixels lie side by side
    std::int64_t tile_begin, tile_end;  // the tiles of a row to be summed; what isn't a panel is summed as a whole
    int set_lines;                  // how many lines one set of L1 holds
    bool slack;                     // vectors may read past the end of a row
    bool far;                       // the pixels are not in a near cache: fetch them ahead
    T* stage;                       // memory where a chunk's pixels wait for all but the first weights, or null: see SweepKernel
    bool fetch_output;              // the output isn't either: fetch it for writing before it is needed
    std::int64_t pixel, pixel_row;  // index of the first output pixel, and from row to row
    const T* weights;               // of this group, as pack() wrote them, or, if `weight_row`, as the caller holds them:
    std::ptrdiff_t weight_row;      // 0, or from channel to channel of weights whose terms follow one another
    std::int64_t oc_first, oc;      // first channel and number of channels of this group
    std::int64_t block_begin, block_end;
    DenseStore<T> store;
    const TailKernel<T>* tail;  // with lanes = pixels: what may take a row's last pixels
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
    int granule;  // all tiles but a row's last are a multiple of it wide
    int stage_bytes;  // 0, or what a sweep of one row of an image stages at a time, if more than one tile
    int stage_terms, stage_blocks;  // terms and weight blocks from which on it does
    bool reads_rows;  // takes DenseSweep::weight_row, where terms lie evenly apart in X
    void (*sweep)(const DenseSweep<T>&);
};

// Neighbouring pixels that stay neighbours: elements of X and of a panel, and how many.
struct DensePiece {
    std::int64_t from, to, size;
};

// im2col: of each channel and each tap `rows` runs of `width` pixels, one behind the other, become one term of a panel
// [tile][term][slots], in which all that a tile needs is one stream. Nothing behind a single run is read; of several runs
// each may be read up to a vector beyond its end.
template <class T> struct DenseExpansion {
    const T* x;
    std::int64_t channels, channel_stride;
    const std::ptrdiff_t* tap;
    std::int64_t taps, rows, row_stride, width;
    DensePiece* pieces;            // memory for rows + tiles of them
    std::int64_t pixels, granule;  // how tiles are cut: SweepKernel's
    T* panel;                      // the first term to be written, of the first tile
    std::int64_t tile, slots;      // from tile to tile; elements of a term of one tile, whole vectors
};

template <class T> struct PackKernels {
    // Channels [first, first + width) as [term][width] into dst, zeros behind the last channel. Returns whether any weight
    // is not finite.
    bool (*weights)(const DenseWeights<T>&, std::int64_t first, std::int64_t width, T* dst);
    // Channels that lie side by side, of 1x1 kernels: `blocks` whole blocks half a vector wide, one behind the other in dst.
    void (*half_blocks)(const DenseWeights<T>&, std::int64_t first, std::int64_t blocks, T* dst);
    void (*expand)(const DenseExpansion<T>&);
};

// channel_kernel_*: lanes = output channels, weights are vectors, pixels are broadcast.
// pixel_kernel_*: lanes = pixels, weights are broadcast.
#define NPCONV_ISA(isa)                                       \
    namespace isa {                                           \
    extern const SweepKernel<float> channel_kernel_f32;       \
    extern const SweepKernel<double> channel_kernel_f64;      \
    extern const SweepKernel<float> pixel_kernel_f32;         \
    extern const SweepKernel<double> pixel_kernel_f64;        \
    extern const PerType<TailKernel> tail_kernels;            \
    extern const PerType<PackKernels> dense_pack_kernels;     \
    }
#include "isa/list.inc"

}  // namespace npconv

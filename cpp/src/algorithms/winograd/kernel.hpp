// Transforms of F(m x m, 3 x 3) for m = 2 and 4 and strides 1 and 2, lanes = channels, and the stores of finished rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "npconv/epilogue.hpp"

namespace npconv {

// Accumulators of L channels, slab[row * pitch + column * L + channel], and where they go.
template <class T> struct WinogradStore {
    const T* slab;
    std::int64_t pitch;
    std::int64_t rows, columns, channels;  // what is stored; channels <= L
    std::int64_t oc;                       // index of the first channel, for scale and bias
    T* dst;                                // element of the first channel, row and column
    std::int64_t channel_stride, row_stride, column_stride;
    const T* residual;  // likewise
    std::int64_t residual_channel, residual_row, residual_column;
    EpilogueArgs<T> epilogue;
};

template <class T> struct WinogradKernelsOf {
    // Each: m = 2, m = 4; m = 2, m = 4 with stride 2. `where`: how far from the first each value of a tile lies in u or
    // v (points.hpp); with stride 1 they are where[1] apart.
    // U = G g G^T of `count` input channels for L output channels: tap t of input channel i for channel o of the vector
    // is taps[o * oc_stride + i * ic_stride + offset[t]] (t = row * 3 + column); input channels are u_step apart. Lanes
    // >= channels become zero.
    void (*filter[4])(const T* taps, std::int64_t oc_stride, std::int64_t ic_stride, const std::int64_t* offset,
                      std::int64_t count, std::int64_t channels, T* u, const std::int64_t* where, std::int64_t u_step);
    // m = 4, stride 1 and 2. What a tile without its last two outputs along an axis reads in place of pixels that those alone would
    // see, such that the last finite point has nothing to add: in `count` lines of pixels, `across` apart, of which the first begins
    // at slab; pixels of a line are `along` apart. Lines of both axes cross the corner: all of each axis.
    void (*extend[2])(T* slab, std::int64_t along, std::int64_t across, std::int64_t count);
    // V = B^T d B of a row of `tiles` tiles; slab rows are `pitch` elements apart, pixels L.
    void (*input[4])(const T* slab, std::int64_t pitch, std::int64_t tiles, T* v, const std::int64_t* where);
    // A^T M A of a row of tiles to the m rows of a slab, from the last tile to the first, so that the pitch may be less
    // than the tiles' width: columns that don't exist are overwritten by the next row. nonfinite[i] says whether tile i
    // has a non-finite accumulator; returns whether any has.
    bool (*output[4])(const T* m, std::int64_t m_point, std::int64_t tiles, T* slab, std::int64_t pitch,
                      std::uint8_t* nonfinite);
    // Epilogue and store; `planar` for nchw (reads whole vectors behind the last column), `lanes` for nhwc.
    void (*planar)(const WinogradStore<T>&);
    void (*lanes)(const WinogradStore<T>&);
};

struct WinogradKernels {
    WinogradKernelsOf<float> f32;
    WinogradKernelsOf<double> f64;
    template <class T> const WinogradKernelsOf<T>& of() const {
        if constexpr (sizeof(T) == 4) return f32; else return f64;
    }
};

#define NPCONV_ISA(isa) namespace isa { extern const WinogradKernels winograd_kernels; }
#include "isa/list.inc"

}  // namespace npconv

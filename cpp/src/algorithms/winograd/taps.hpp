// F(4x4, 3x3) for blocks of at most four tiles, with weights that stay taps: nine for a pair of channels, where U has 36.
//
// Few tiles meet so many weights (512 channels at 7x7: 38 MB of U for four tiles) that U comes from L3 or memory more slowly than it
// can be multiplied. Here a row of points at a time is made from the taps in registers and multiplied at once: 6 points x 4 tiles
// of sums for a vector of output channels, each product's pixel broadcast from memory. Beside 22 products (7x7) a row and channel takes six
// multiplications down the columns of taps and four along the row (and four additions, which cost nothing beside them on Zen), so that
// 121 products cost as much as 169; F(2x2) has 225, and U twice the bytes of taps. All rows take their turns on 64 channels, whose taps
// stay in L1. What scales a point (points.hpp) waits until the sum is stored.
//
// Stride 2 the same way (289 products for 441) was no faster than the direct sum, 0.95 to 1.0: its V, 81 values a tile, is what L2 holds.
//
// Needs 32 registers.
#pragma once

#include <cstdint>

#include "gemm/points_kernel.hpp"
#include "isa/per_type.hpp"

namespace npconv {

// One vector of output channels: M[point][tile][L] from V (points_kernel.hpp) and taps[input channel][depth tap][9][L].
template <class T> struct WinogradTaps {
    const Point* points;  // their tiles and places in V
    const T* v;
    std::int64_t tiles;   // at most four
    const T* taps;
    std::int64_t channels, depth;
    T* m;
    std::int64_t m_point;
};

template <class T> using WinogradTapsRun = void (*)(const WinogradTaps<T>&);

struct WinogradTapsKernels : PerType<WinogradTapsRun> {
    int tiles;  // that a block may have; 0: this level has no kernels
};

#define NPCONV_ISA(isa) namespace isa { extern const WinogradTapsKernels winograd_taps_kernels; }
#include "isa/list.inc"

}  // namespace npconv

// The points GEMM: many small independent matrix products, one per point of a transform domain.
//
//   M[point][oc vector][tile][L] = sum over ic of V[point][ic / L][tile][L] * U[point][panel][ic][panel's vectors * L]
//
// L is the number of lanes of T, so V holds L neighbouring input channels per vector, U and M L neighbouring output
// channels. A panel is `points_panel` = 2 vectors of output channels; the last panel of an odd number has one, and its
// rows of U are one vector wide. The tile is where micro-kernels broadcast from: 14 x 2 accumulators with 32 registers,
// 6 x 2 with 16, every remainder included.
//
// What the points are is the caller's business: a Winograd tile's (m+2)^2 products, the classes of a polyphase or
// Toeplitz scheme, three real products per complex frequency. Each has its own inner dimension (stride-2 polyphase: 4C,
// 2C and C) and its own places in V and U.
//
// Tiles at the end of an axis may do without some points (an output less needs a product less): a point takes a range of
// the tiles, and M is zero for the others.
//
// The result for a tile depends neither on how many tiles there are nor on which points and panels a call covers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa/per_type.hpp"

namespace npconv {

constexpr int points_panel = 2;

struct Point {
    std::int64_t begin, end;  // its tiles
    std::int64_t v, u;        // its first elements in V and U
    std::int64_t ic;          // inner dimension; lanes of V behind it are not read
};

template <class T> struct PointsGemm {
    const T* v;
    const T* u;
    T* m;
    std::int64_t m_point;  // elements from one point to the next
    std::int64_t oc_vectors;
    std::int64_t tiles;  // the tile pitch inside v and m
    const Point* points;
    bool accumulate = false;  // M has the sums of other channels already
};

template <class T> using PointsRun = void (*)(const PointsGemm<T>&, std::int64_t point_begin, std::int64_t point_end,
                                              std::int64_t panel_begin, std::int64_t panel_end);

struct PointsKernels : PerType<PointsRun> {
    int micro_tiles;  // tiles of the largest micro-kernel: multiples of it run best
};

#define NPCONV_ISA(isa) namespace isa { extern const PointsKernels points_kernels; }
#include "isa/list.inc"

}  // namespace npconv

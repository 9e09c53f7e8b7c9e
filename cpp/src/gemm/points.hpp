// Sizes and layout of the points GEMM's operands, and the kernels of an ISA level. The layout itself is described in
// points_kernel.hpp.
#pragma once

#include <cstdint>
#include <vector>

#include "gemm/points_kernel.hpp"
#include "isa/isa.hpp"
#include "npconv/tensor.hpp"

namespace npconv {

const PointsKernels& points_kernels(const Isa&);

// Everything in elements. A point is followed by one cache line of nothing: points a power of two apart would meet in
// the same cache sets when a transform writes or reads one vector of each.
struct PointsLayout {
    std::int64_t lanes, ic, oc_vectors, panels;
    std::int64_t pad;
    std::vector<std::int64_t> units;   // the inner dimension of each point, in units of ic channels
    std::vector<std::int64_t> before;  // units of all points before each, and of all

    // With several units in a point ic is a multiple of the lanes.
    PointsLayout(const Isa&, DType, std::vector<std::int64_t> units, std::int64_t ic, std::int64_t oc);
    std::int64_t points() const { return static_cast<std::int64_t>(units.size()); }
    std::int64_t ic_vectors() const { return (ic + lanes - 1) / lanes; }
    std::int64_t inner(std::int64_t point) const { return units[static_cast<std::size_t>(point)] * ic; }
    // First elements of a point, or of one of its units; of point `points()`: the size of all.
    std::int64_t v_unit(std::int64_t tiles) const { return ic_vectors() * tiles * lanes; }
    std::int64_t v_begin(std::int64_t point, std::int64_t tiles) const { return begin(point) * v_unit(tiles) + point * pad; }
    std::int64_t u_begin(std::int64_t point) const { return begin(point) * oc_vectors * lanes * ic + point * pad; }
    std::int64_t m_point(std::int64_t tiles) const { return oc_vectors * tiles * lanes + pad; }
    // Element of U that holds output channel `vector` * lanes for an input channel of a point, and how far the next input
    // channel is.
    std::int64_t u_offset(std::int64_t point, std::int64_t vector, std::int64_t channel) const;
    std::int64_t u_step(std::int64_t vector) const;

private:
    std::int64_t begin(std::int64_t point) const { return before[static_cast<std::size_t>(point)]; }
};

}  // namespace npconv

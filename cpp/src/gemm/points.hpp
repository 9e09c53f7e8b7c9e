// Sizes and layout of the points GEMM's operands, and the kernels of an ISA level. The layout itself is described in
// points_kernel.hpp.
#pragma once

#include <cstdint>

#include "gemm/points_kernel.hpp"
#include "isa/isa.hpp"
#include "npconv/tensor.hpp"

namespace npconv {

const PointsKernels& points_kernels(const Isa&);

// Everything in elements. A point is followed by one cache line of nothing: points a power of two apart would meet in
// the same cache sets when a transform writes or reads one vector of each.
struct PointsLayout {
    std::int64_t lanes, points, ic, oc_vectors, panels;
    std::int64_t pad;
    std::int64_t u_point;

    PointsLayout(const Isa&, DType, std::int64_t points, std::int64_t ic, std::int64_t oc);
    std::int64_t ic_vectors() const { return (ic + lanes - 1) / lanes; }
    std::int64_t v_point(std::int64_t tiles) const { return ic_vectors() * tiles * lanes + pad; }
    std::int64_t m_point(std::int64_t tiles) const { return oc_vectors * tiles * lanes + pad; }
    std::int64_t u_size() const { return points * u_point; }
    // Element of U that holds output channel `vector` * lanes for input channel ic of the first point, and how far the
    // next input channel is.
    std::int64_t u_offset(std::int64_t vector, std::int64_t channel) const;
    std::int64_t u_step(std::int64_t vector) const;
};

}  // namespace npconv

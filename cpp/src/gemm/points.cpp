#include "gemm/points.hpp"

#include <utility>

namespace npconv {

const PointsKernels& points_kernels(const Isa& isa) {
    static const PointsKernels* const table[] = {
#define NPCONV_ISA(n) &n::points_kernels,
#include "isa/list.inc"
    };
    return *table[isa.level];
}

PointsLayout::PointsLayout(const Isa& isa, DType type, std::vector<std::int64_t> units_, std::int64_t ic_, std::int64_t oc)
    : lanes(isa.vector_bytes / static_cast<std::int64_t>(item_size(type))),
      ic(ic_),
      oc_vectors((oc + lanes - 1) / lanes),
      panels((oc_vectors + points_panel - 1) / points_panel),
      pad(64 / static_cast<std::int64_t>(item_size(type))),
      units(std::move(units_)),
      before{0} {
    for (const std::int64_t n : units) before.push_back(before.back() + n);
}

std::int64_t PointsLayout::u_offset(std::int64_t point, std::int64_t vector, std::int64_t channel) const {
    const std::int64_t panel = vector / points_panel * points_panel;
    return u_begin(point) + panel * lanes * inner(point) + channel * u_step(vector) + (vector - panel) * lanes;
}

std::int64_t PointsLayout::u_step(std::int64_t vector) const {
    const std::int64_t panel = vector / points_panel * points_panel;
    return (oc_vectors - panel < points_panel ? 1 : points_panel) * lanes;
}

}  // namespace npconv

// Borders: which source index a position outside the image stands for. Interior code never comes here.
#pragma once

#include <cstdint>
#include <vector>

#include "npconv/conv_desc.hpp"

namespace npconv {

constexpr std::int32_t constant_index = -1;  // "the padding value"

// Source index of position i of an axis with n elements; constant_index where the padding value stands.
// The modes bounce as often as needed (limits on the width are ConvDesc's business).
std::int64_t map_index(PadMode mode, std::int64_t i, std::int64_t n);

// Source indices of the positions begin, begin + 1, ... (count of them) of an axis, begin counted from the first image
// element, so that window o, tap k reads position o*stride + k*dilation - pad_begin.
// [interior_lo, interior_hi) is the longest run that maps to consecutive indices inside the image.
struct AxisMap {
    std::vector<std::int32_t> index;
    int interior_lo = 0, interior_hi = 0;
};
AxisMap axis_map(const Axis& axis, std::int64_t begin, std::int64_t count);

}  // namespace npconv

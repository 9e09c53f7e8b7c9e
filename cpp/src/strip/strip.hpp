// Which strip kernels an ISA level has, and the row offsets that they take.
#pragma once

#include <cstdint>
#include <vector>

#include "isa/isa.hpp"
#include "npconv/conv_desc.hpp"
#include "npconv/tensor.hpp"
#include "strip/kernel.hpp"

namespace npconv {

const StripKernels& strip_kernels(const Isa&);

// Row offsets (elements, relative to the image's [0, 0, 0, 0]) of the padded depth rows [d0, d0+nd) x height rows
// [h0, h0+nh), depth outermost. Positions count from the first image element, so -1 is the row above the image.
std::vector<std::int64_t> row_offsets(const ConvDesc&, const Tensor& src, std::int64_t d0, std::int64_t nd,
                                      std::int64_t h0, std::int64_t nh);

}  // namespace npconv

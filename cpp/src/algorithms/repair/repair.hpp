// Direct recomputation of a few outputs. Transform algorithms spread a non-finite input over a whole tile, and large
// finite data can overflow inside a transform where the direct sum would not. They look for non-finite accumulators
// before the epilogue and call this for the tile concerned, so that their non-finite results have the direct sum's
// footprint and finite results come back.
#pragma once

#include <cstdint>

#include "npconv/conv_desc.hpp"
#include "npconv/plan.hpp"

namespace npconv {

// Outputs oc <= channel < oc + ocs and so on of image n. A box may span groups.
struct OutputBox {
    std::int64_t n = 0;
    std::int64_t oc = 0, ocs = 1;
    std::int64_t od = 0, ods = 1;
    std::int64_t oh = 0, ohs = 1;
    std::int64_t ow = 0, ows = 1;
};

struct BoxStrides {  // of `out`, in elements
    std::int64_t oc = 0, od = 0, oh = 0, ow = 0;
};

// Writes the accumulators (before scale, bias, residual and activation) of the box to out[0...] from args.src,
// args.wei and args.padding_value, with explicit IEEE products, padding included. Sums are taken in double in blocks of
// at most `sum_block` terms, in an order that depends on the output element alone. T is the dtype of the descriptor.
// Serves every forward descriptor. Ordinary code, compiled once: for the rare case, yet within a few times a direct
// algorithm's work even if all of the image is NaN. Wide boxes (ows >= 16, several oc) are cheapest.
template <class T>
void repair(const ConvDesc&, const ConvArgs&, const OutputBox&, T* out, const BoxStrides&) noexcept;

}  // namespace npconv

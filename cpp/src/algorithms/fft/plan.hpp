// One problem with chosen transform sizes.
#pragma once

#include <memory>

#include "algorithms/algorithm.hpp"

namespace npconv::fft {

// Params: transform height (1: rows only), transform width, lanes (0: tiles of one channel, 1: channels).
enum Param { tile_h, tile_w, lanes_are_channels };

// Input channels of a group whose spectra a worker keeps at once.
constexpr std::int64_t most_inputs = 8;

std::unique_ptr<Plan> make_plan(const ConvDesc&, const Isa&, const Params&);

}  // namespace npconv::fft

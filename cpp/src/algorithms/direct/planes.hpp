// Channels-last images whose pixels meet in one set of L1: they are turned to planes first.
#pragma once

#include <memory>

#include "isa/isa.hpp"
#include "npconv/plan.hpp"

namespace npconv {

// Whether the kernels would read the pixels of a tile from one or two sets of L1, which hold fewer of them than a wide tile
// has: in images without gaps, whatever those of a call have. (512x14 -> 512 k3 stride 2, pixels 4 KB apart, Zen 5: in place
// 2.4 times the time of strips; turned 0.92 on one core, 0.87 on two, weights of one call 0.9. The six pixels of narrow tiles
// fit: no gain.)
bool direct_turns(const ConvDesc&, const Isa&);

// The same problem on planes, and `plan` for it as one for `desc`.
ConvDesc direct_on_planes(const ConvDesc&);
std::unique_ptr<Plan> make_turned_plan(const ConvDesc&, const Algorithm&, const Isa&, const Params&, std::unique_ptr<Plan> plan);

double turning_seconds(const ConvDesc&, int threads);

}  // namespace npconv

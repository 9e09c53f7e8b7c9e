// Executes a plan: leases its workspace and sets the floating-point mode of its accuracy class.
#pragma once

#include "npconv/plan.hpp"

namespace npconv {

// `args.workspace` is filled in here. Throws std::bad_alloc.
void run(const Plan&, ConvArgs args);

}  // namespace npconv

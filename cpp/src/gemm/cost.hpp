// What a dense plan costs: the model behind the estimates of im2col and direct.
#pragma once

#include <string>

#include "gemm/geometry.hpp"
#include "isa/machine.hpp"

namespace npconv {

double dense_seconds(const ConvDesc&, const Isa&, const DenseConfig&, int threads, const Machine&);

// A reason why neither im2col nor direct can serve this problem; empty = they can.
std::string dense_refusal(const ConvDesc&);

}  // namespace npconv

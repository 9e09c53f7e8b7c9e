// One row per algorithm. Tests, bench, tuner and explain iterate over algorithms(); adding one is its folder plus
// one line in list.inc.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "isa/isa.hpp"
#include "isa/machine.hpp"
#include "npconv/conv_desc.hpp"
#include "npconv/plan.hpp"

namespace npconv {

enum class Rigor : std::uint8_t { estimate, measure, exhaustive };

struct Algorithm {
    const char* name;
    int revision;                     // raised by every change of kernels or candidates: older wisdom is dropped
    const char* const* param_names;   // null-terminated, at most six
    // Why this problem can't be served on this ISA, as a sentence; empty = it can.
    std::string (*refuse)(const ConvDesc&, const Isa&);
    // Seconds for one call with these parameters. Must be finite and > 0, and monotone in the work.
    double (*estimate)(const ConvDesc&, const Isa&, const Params&, int threads, const Machine&);
    // At least one; at most 12 (measure) or 60 (exhaustive). Must not depend on anything but its arguments.
    std::vector<Params> (*candidates)(const ConvDesc&, const Isa&, int threads, Rigor);
    std::unique_ptr<Plan> (*make_plan)(const ConvDesc&, const Isa&, const Params&);
};

const std::vector<const Algorithm*>& algorithms();
const Algorithm* find_algorithm(const std::string& name);  // null if there is none

// Distinct ones among `found`, at most as many as a rigor allows: those that the row estimates to be the fastest with the
// built-in machine constants, since candidates depend on their arguments alone.
std::vector<Params> most_promising(std::vector<Params> found, decltype(Algorithm::estimate), const ConvDesc&, const Isa&, int threads,
                                   Rigor);

std::string params_text(const Algorithm&, const Params&);  // "tile=14,split=1"

}  // namespace npconv

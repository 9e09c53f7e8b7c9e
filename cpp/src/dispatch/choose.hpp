// The one place where a choice is made: forced algorithm, then wisdom, then the tuner, then the lowest estimate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "algorithms/algorithm.hpp"

namespace npconv {

struct ChoiceOptions {
    int threads = 1;                        // what the call may use
    const Algorithm* forced = nullptr;      // null = choose
    std::size_t workspace_limit = 0;        // bytes; 0 = none
    bool reproducible = false;              // see set_reproducible
    const char* function = "conv";          // named in errors
};

struct Choice {
    const Algorithm* algorithm = nullptr;
    Params params;
    double seconds = 0;             // estimated or measured
    const char* source = "estimate";  // "forced", "wisdom", "tuner", "estimate"
    int threads = 1;                // <= options.threads: small problems run faster alone
};

// Throws std::invalid_argument when a forced algorithm refuses, or nothing keeps the workspace limit.
Choice choose(const ConvDesc&, const Isa&, const ChoiceOptions&);

// The candidate with the lowest estimate among one algorithm's, corrected by wisdom unless reproducible.
struct Estimate {
    Params params;
    double seconds;
};
Estimate best_estimate(const Algorithm&, const ConvDesc&, const Isa&, const ChoiceOptions&);

// One row for each algorithm, in the order of list.inc.
struct Explanation {
    const Algorithm* algorithm;
    std::string refusal;  // empty = accepts
    Estimate estimate;
    double measured = 0;  // 0 = not measured
    bool picked = false;
    const char* source = "";
};
std::vector<Explanation> explain(const ConvDesc&, const Isa&, const ChoiceOptions&);

// Process-wide settings. In reproducible mode the choice depends on shape, ISA and accuracy class alone: it is the
// estimate for mb = 1, one thread, constant weights and the built-in machine constants.
void set_reproducible(bool on);
bool reproducible();
void set_tuning(Rigor mode);
Rigor tuning();
// Called on a plan miss in the modes measure and exhaustive; it measures and updates the wisdom.
using Tuner = std::function<void(const ConvDesc&, int threads, Rigor)>;
void set_tuner(Tuner);

}  // namespace npconv

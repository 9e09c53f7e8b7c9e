// Times and checks one candidate on data of its own. Which candidates, how often and in which order is the tuner
// loop's business, in Python.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "algorithms/algorithm.hpp"

namespace npconv {

class Measurement {
public:
    Measurement(const ConvDesc&, int threads);
    ~Measurement();

    // The candidate of these names; an invalid_argument says what is wrong with them.
    std::pair<const Algorithm*, Params> candidate(const std::string& algorithm, const std::string& parameters) const;

    // Median seconds of the calls that fit into `seconds` after a warm-up call. Constant weights are packed before
    // and rotate through copies larger than the last-level cache, because in a network they are never hot; fresh ones
    // are packed in every call.
    double run(const Algorithm&, const Params&, double seconds);

    // Largest error against a strict algorithm, divided by the bound of the descriptor's accuracy class: on the
    // scale S = max of conv(|x|, |w|) + |bias|, and on the scale max|y|.
    std::pair<double, double> error(const Algorithm&, const Params&);

private:
    struct Data;
    std::unique_ptr<Data> data_;
};

}  // namespace npconv

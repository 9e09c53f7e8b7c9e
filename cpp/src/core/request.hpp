// A convolution as a caller words it, before any rule was checked, and the way from there to a descriptor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "npconv/conv_desc.hpp"

namespace npconv {

struct PaddingRequest {
    enum Kind : std::uint8_t { amounts, same_upper, same_lower, full, causal } kind = amounts;
    std::int64_t begin = 0, end = 0;  // for amounts
};

struct ConvRequest {
    std::string function;                       // named in messages
    std::vector<std::int64_t> x_shape, w_shape;  // as the caller gave them, for messages
    int nd = 2;
    std::int64_t mb = 1, ic = 1, oc = 1, icg = 1, groups = 1;
    struct Dim {
        std::int64_t in = 1, kernel = 1, stride = 1, dilation = 1;
        PaddingRequest padding;
        PadMode mode = PadMode::constant;
    } dim[3];  // the first nd, outermost first
};

// Checks every size rule; throws std::invalid_argument. Sets sizes, groups and axes, nothing else.
ConvDesc make_desc(const ConvRequest&);

std::string shape_text(const std::vector<std::int64_t>&);  // "(1, 64, 56, 56)"

}  // namespace npconv

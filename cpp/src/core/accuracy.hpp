// The accuracy classes: the one table that refuse(), tests and documentation read.
#pragma once

#include "npconv/conv_desc.hpp"

namespace npconv {

struct AccuracyBound {
    double any_data;     // |error| <= any_data * S, S = max of conv(|x|, |w|) + |bias|, for any finite data (transforms of sparse data: README)
    double normal_data;  // |error| <= normal_data * max|y| for N(0, 1) data over the shape lists
};

// For f32; other types scale by their epsilon.
constexpr AccuracyBound accuracy_f32[] = {
    {4e-6, 1e-6},  // strict: blocked direct sums, F(2x2), FFT
    {1e-5, 1e-5},  // standard: adds F(4x4)
    {1e-3, 1e-3},  // fast
};

constexpr AccuracyBound accuracy_bound(Accuracy a, DType t) {
    const double k = t == DType::f32 ? 1.0 : 2.220446049250313e-16 / 1.1920928955078125e-07;
    const AccuracyBound& b = accuracy_f32[static_cast<int>(a)];
    return {b.any_data * k, b.normal_data * k};
}

// Terms that one f32 or f64 accumulator sums before its result is added to the next level.
constexpr int sum_block = 256;
constexpr int sum_level2 = 256;  // blocks that one second-level sum takes

}  // namespace npconv

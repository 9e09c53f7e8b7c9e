// Sizes, radices, twiddles and tilings of the tile FFT: everything that is known before the first image.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/fft/kernel.hpp"
#include "isa/isa.hpp"
#include "npconv/conv_desc.hpp"

namespace npconv::fft {

// Radices of a complex transform. Those of columns end in 4 or 8, which the fused middle pass exists for.
std::vector<int> radices(int size, bool columns, const Isa&);

// Cycles that a Zen 4 core takes for one complex transform on 512-bit vectors in L1: the unit of estimates.
double transform_cost(int size, bool columns, const Isa&);

// Passes with their twiddles, and where frequency k lies after them.
template <class T> class Transform {
public:
    Transform(int size, bool columns, const Isa&);
    Transform(const Transform&) = delete;
    Transform& operator=(const Transform&) = delete;
    const FftPasses<T>& passes() const { return passes_; }
    const std::vector<std::int32_t>& order() const { return order_; }

private:
    FftPasses<T> passes_ = {};
    std::vector<T> tables_[fft_max_passes];
    std::vector<std::int32_t> order_;
};

template <class T> class RowTransform {
public:
    RowTransform(int width, const Isa&);
    const FftRows<T>& rows() const { return rows_; }

private:
    Transform<T> half_;
    std::vector<T> twiddles_;
    FftRows<T> rows_ = {};
};

// Overlap-save along one axis: `tiles` tiles of `size` inputs, each giving `step` outputs.
struct Tiling {
    int size = 1;
    std::int64_t step = 1, tiles = 1;
};

// One tile is enough, although shorter than input plus both paddings, where what wraps around is padding on both sides.
Tiling tiling(const Axis&, int size);

// Transform sizes for an axis; `long_rows`: of 1-D problems, which have no columns.
const std::vector<int>& sizes(bool long_rows);

}  // namespace npconv::fft

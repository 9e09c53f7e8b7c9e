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

// Source indices of an axis, tile by tile. Tables exist for tiles at borders only: an axis may have 2^30 elements.
// Positions that no output needs, behind the last tile or cropped, count as padding: a large value there would cost
// accuracy, for errors are relative to a tile's largest element.
class TileMap {
public:
    TileMap(const Axis&, const Tiling&);

    struct View {
        const std::int32_t* index;  // of the tile's positions, -1 for padding
        std::int64_t offset;        // to be added to those that are not
        std::int64_t lo, hi;        // positions in between map to consecutive indices
    };
    View view(std::int64_t tile) const;
    bool interior(std::int64_t tile) const { return tile >= head_ && tile < tail_; }  // no padding
    std::int64_t first(std::int64_t tile) const { return tile * tiling_.step - axis_.pad_begin; }
    std::int32_t index(std::int64_t tile, int position) const;

private:
    Axis axis_;
    Tiling tiling_;
    std::int64_t needed_;      // positions of all tiles together that some output reads
    std::int64_t head_, tail_; // tiles before and from there on touch a border
    std::vector<std::int32_t> tables_;  // of the border tiles, then 0, 1, 2, ...
};

// Transform sizes for an axis; `long_rows`: of 1-D problems, which have no columns.
const std::vector<int>& sizes(bool long_rows);

}  // namespace npconv::fft

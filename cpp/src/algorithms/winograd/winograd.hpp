// Winograd's convolution: a tile of m x m outputs of a 3x3 kernel costs (m+2)^2 products instead of 9 m^2: 4 instead of
// 9 an output for m = 2, 2.25 for m = 4. Depth taps, if any, are summed in the transformed domain like channels.
//
// Stride 2 (polyphase; points.hpp): (2 m + 1)^2 products instead of 9 m^2, 6.25 an output for m = 2, 5.06 for m = 4, and as
// many times the weights. The finite points sum both phases of an axis, so that a point's inner dimension is four times the
// channels, twice at one infinity, once at both.
//
// The rest is transforms, which are additions, and a points GEMM, which runs at 94 to 97 % of the FMA peak. A tile at
// the end of an axis that has an output less does without the point at infinity there: 7 outputs of m = 2 need 4 + 4 + 4
// + 3 products along each axis. With two outputs less one input more is free: the value for which a finite point has
// nothing to add takes its place, 14 outputs of m = 4 need 6 + 6 + 6 + 4 products (kernel.hpp, `extend`). On one Zen 4
// core, 64 channels at 56x56 and F(4x4): GEMM 81 % of the time, input side 9 %, output side 9 %; from 256 channels on
// the transforms are below 10 %. Per tile and vector of 16 channels: strip 31 ns, input 43, output 37, store 23. Whole
// layers in percent of the direct sum at the FMA peak: 64x56 310, 128x28 340, 256x14 295, 512x7 178 (m = 2), 3x224 -> 64
// 135 (few.hpp).
//
// m = 4 wins unless its filters (4 times the weights; m = 2: 1.8 times) come from memory for few tiles. Up to four tiles are
// multiplied with weights that stay taps (taps.hpp; 512x7 192 on a Zen 5, 1.10 to 1.13 times as fast as m = 2, from memory 1.16 to 1.4
// times).
// (m = 3 with filters of 2.8 times the weights and 13 % fewer products than m = 2 was no faster there, and slower on two cores.)
// The error of m = 4 is 2e-6 to 3e-6 of max|y| on N(0, 1) data and at most 7.1e-6 of S = max conv(|x|, |w|) on data made to hurt
// (all channels alike; else 3.4e-6): class `standard`. m = 2: 7.4e-7 and 1.1e-6, class `strict`. In units of their epsilon f64 errs
// as f32 does.
// Stride 2, one Zen 3 core, times the best of direct and im2col: 128x56 1.7, 256x28 1.55, 512x14 1.2, 64x112 -> 128 1.7,
// 32x112 -> 64 1.5; 1.0 for 16 channels, mostly transforms. In percent of the direct sum at the FMA peak of the same run, one
// core and two: 128x56 120 and 113, 256x28 121 and 105, 512x14 96 and 75. The products alone could be 178 (m = 4) and 144 %
// (m = 2); 512x14 has 16 tiles, 64 outputs, for 49, and 26 MB of filters for two cores to fetch. Errors: those of stride 1.
//
// This header: how a problem is cut into tiles and blocks of tiles.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "isa/isa.hpp"
#include "npconv/plan.hpp"

namespace npconv {

struct WinogradParams {
    int m;      // outputs of a tile along each axis: 2 or 4
    int tiles;  // tiles that a block should have
    int split;  // 0: every worker computes whole blocks; 1: the workers share each block's three phases; 2: its output channels
    int few;    // 1: the plan for few input channels (few.hpp), which has no blocks
    int taps;   // 1: no U beforehand. Blocks of few tiles are multiplied with taps (taps.hpp); larger ones with U that the worker makes of
                // the weights of one call, a panel and winograd_made_channels at a time

    explicit WinogradParams(const Params& p) : m(p.v[0]), tiles(p.v[1]), split(p.v[2]), few(p.v[3]), taps(p.v[4]) {}
    bool in_registers(const Isa&) const;
    operator Params() const { return {{m, tiles, split, few, taps, 0}}; }
};

// An "image" is one output depth slice of one batch entry. A block is a rectangle of tiles of one image, or all tiles of
// several images where these are small.
struct WinogradGrid {
    int m, stride;
    int values, points;            // of a tile along each axis: points.hpp
    std::int64_t tile_rows, tile_cols;
    std::int64_t block_rows, block_cols;  // tiles of a block
    std::int64_t row_blocks, col_blocks;
    std::int64_t block_images;            // at most
    std::int64_t images_per_batch_entry;

    WinogradGrid(const ConvDesc&, const WinogradParams&);
    int transform() const { return (stride - 1) * 2 + (m == 4); }  // index into the kernels' tables
    std::int64_t step() const { return static_cast<std::int64_t>(m) * stride; }                  // inputs from tile to tile
    std::int64_t window(std::int64_t tiles) const { return tiles * step() + 3 - stride; }        // inputs of neighbouring tiles
    // How many points, the last ones, the last tile of an axis of `out` outputs can do without.
    int spared(std::int64_t tiles, std::int64_t out) const {
        const std::int64_t missing = tiles * m - out;
        return missing <= 0 ? 0 : missing == 1 || m == 2 ? 1 : 2;
    }
    // The point that value (i, j) of a tile belongs to, and its unit there: a finite point along an axis has the even phase
    // and the odd one, the point at infinity the even one.
    struct Value {
        int point, unit;
    };
    Value value(int i, int j) const;
    std::vector<std::int64_t> units() const;  // of each point
    std::int64_t images(std::int64_t mb) const { return mb * images_per_batch_entry; }
    std::int64_t images_of_block(std::int64_t mb) const;
    std::int64_t block_tiles(std::int64_t mb) const { return images_of_block(mb) * block_rows * block_cols; }
    std::int64_t blocks(std::int64_t mb) const;  // of one group
};

// Whether workers share blocks: where the parameters say so, or where there is less than one block for each. The results
// don't depend on it.
inline bool winograd_shares(const ConvDesc& d, const WinogradGrid& grid, int split, std::int64_t mb, int threads) {
    return split == 1 || (split == 0 && d.g * grid.blocks(mb) < threads);
}

// Tasks that a point of a shared block is cut into. A point is the natural task; of few points or for many workers the panels are
// shared out too. (512x7 k3, 16 points, two cores: a core waited 20 us of 270 for the other's last one; halves of its 36 points cost
// 256x14 k3 more.)
inline std::int64_t winograd_pieces(std::int64_t points, std::int64_t panels, int threads) {
    return std::clamp<std::int64_t>((12 * static_cast<std::int64_t>(threads) + points - 1) / points, 1, panels);
}

// Channels of one unit of the points GEMM's inner dimension. Depth taps are summed like channels; where there are several
// taps or units each starts at a whole vector.
std::int64_t winograd_inner(const ConvDesc&, std::int64_t lanes);

constexpr std::int64_t winograd_made_channels = 64;  // 295 KB of U of 36 points, F(4x4)
constexpr int winograd_most_values = 81, winograd_most_points = 36;  // of a tile

std::unique_ptr<Plan> make_winograd_plan(const ConvDesc&, const Isa&, const Params&);
std::unique_ptr<Plan> make_winograd_few_plan(const ConvDesc&, const Isa&, const Params&);

}  // namespace npconv

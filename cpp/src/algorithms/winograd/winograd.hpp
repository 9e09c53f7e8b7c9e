// How F(m x m, 3 x 3) cuts a problem into tiles and blocks of tiles.
#pragma once

#include <cstdint>
#include <memory>

#include "isa/isa.hpp"
#include "npconv/plan.hpp"

namespace npconv {

struct WinogradParams {
    int m;      // outputs of a tile along each axis: 2 or 4
    int tiles;  // tiles that a block should have
    int split;  // 0: every worker computes whole blocks; 1: the workers share each block's three phases

    explicit WinogradParams(const Params& p) : m(p.v[0]), tiles(p.v[1]), split(p.v[2]) {}
    operator Params() const { return {{m, tiles, split, 0, 0, 0}}; }
};

// An "image" is one output depth slice of one batch entry. A block is a rectangle of tiles of one image, or all tiles of
// several images where these are small.
struct WinogradGrid {
    int m, a, points;              // a = m + 2 inputs of a tile along each axis, points = a * a
    std::int64_t tile_rows, tile_cols;
    std::int64_t block_rows, block_cols;  // tiles of a block
    std::int64_t row_blocks, col_blocks;
    std::int64_t block_images;            // at most
    std::int64_t images_per_batch_entry;

    WinogradGrid(const ConvDesc&, const WinogradParams&);
    std::int64_t images(std::int64_t mb) const { return mb * images_per_batch_entry; }
    std::int64_t images_of_block(std::int64_t mb) const;
    std::int64_t block_tiles(std::int64_t mb) const { return images_of_block(mb) * block_rows * block_cols; }
    std::int64_t blocks(std::int64_t mb) const;  // of one group
};

// Depth taps are summed like channels: channels of the points GEMM. With several taps each starts at a whole vector.
std::int64_t winograd_inner(const ConvDesc&, std::int64_t lanes);

std::unique_ptr<Plan> make_winograd_plan(const ConvDesc&, const Isa&, const Params&);

}  // namespace npconv

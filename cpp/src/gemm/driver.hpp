// The one driver behind im2col and direct: cuts the output into bands, brings X where the kernels can read it, sweeps.
#pragma once

#include <memory>

#include "gemm/geometry.hpp"
#include "isa/machine.hpp"
#include "npconv/plan.hpp"

namespace npconv {

// Output channels a weight block holds, and of which a last block is a multiple; pixels of a tile; from how many terms and
// weight blocks on the first block copies the pixels of an image, if stage_blocks isn't 0; whether weights can be read where the caller
// holds them; how many pixels may be a tail (TailKernel), 0 with lanes = channels.
struct DenseBlocks {
    int block, rest, pixels, stage_terms, stage_blocks;
    bool reads_rows;
    int tail;
};
DenseBlocks dense_blocks(const ConvDesc&, const Isa&, bool lanes_are_pixels);

// Whether a plan takes the weights of a call as they are, if their terms follow one another.
bool dense_reads_rows(const ConvDesc&, const Isa&, const DenseConfig&);

std::unique_ptr<Plan> make_dense_plan(const ConvDesc&, const Algorithm&, const Isa&, const Params&, const DenseConfig&);

}  // namespace npconv

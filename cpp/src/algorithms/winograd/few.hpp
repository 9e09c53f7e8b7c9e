// F(4x4, 3x3) for few input channels: no points in memory. Lanes = tiles for planes, output channels for dense channels (nhwc).
//
// With three input channels the products of a tile are a tenth of its transforms' work, and the points GEMM would mostly
// store sums and read them back. Here a unit of as many tiles as a vector has lanes meets two output channels at a time (or each
// of its tiles one vector of output channels): 36 products for each input channel, column by column of points, each column
// transformed at once to four vectors that wait in L1 for the other five; then row by row 16 vectors of outputs. 154
// multiplications for 16 outputs where the direct sum takes 432.
#pragma once

#include <cstdint>

#include "npconv/epilogue.hpp"

namespace npconv {

constexpr int winograd_few_channels = 4;  // input channels of a group, at most

// A unit's tiles lie in four groups of lanes / 4 neighbours, each of which gives one vector of every output row. Lane
// 4 k + g is tile k of group g: eight shuffles within 128 bits bring there what four groups have side by side, and back.
struct WinogradFewGroup {
    std::int64_t source;         // of its first tile in the strip: element of row 0, column 0
    std::int64_t dst, residual;  // of its first output
    std::int64_t rows, columns;  // outputs that exist, at most 4 and `lanes`
    std::int64_t next;           // first output of the group that has this place in the next unit (or this one)
};

struct WinogradFewUnit {
    WinogradFewGroup group[4];
    int groups;  // the others repeat the first as a source, and are not stored
};

// The strip: [channel][row][column]; 4 + lanes columns are read of each group. V: [point column][point row][channel][lane].
struct WinogradFewInput {
    const float* strip;
    std::int64_t channel_stride, row_stride, channels;
};

// U: [output channel][point column][point row][channel] where lanes are tiles; where they are output channels, [vector of
// them][point column][point row][channel][lane].
struct WinogradFewOutput {
    const float *v, *u;
    std::int64_t channels, oc, ocs;     // input channels; first output channel and how many
    float* dst;                         // of channel oc
    const float* residual;              // likewise, or null
    std::int64_t channel_stride, row_stride, column_stride;
    std::int64_t residual_channel, residual_row, residual_column;
    bool fetch;                         // bring the lines of the output into the cache before they are written
    EpilogueArgs<float> epilogue;
};

struct WinogradFewKernels {
    int lanes;
    // taps[o * oc_stride + c * ic_stride + offset[t]], t = row * 3 + column. Returns the largest |U|, NaN if any is not finite.
    float (*filter)(const float* taps, std::int64_t oc_stride, std::int64_t ic_stride, const std::int64_t* offset, std::int64_t ocs,
                    std::int64_t channels, bool lanes_are_channels, float* u);
    // Returns the largest |V|, NaN if any is not finite.
    float (*input)(const WinogradFewInput&, const WinogradFewUnit&, float* v);
    void (*planes)(const WinogradFewOutput&, const WinogradFewUnit&);
    void (*pixels)(const WinogradFewOutput&, const WinogradFewUnit&);
};

#define NPCONV_ISA(isa) namespace isa { extern const WinogradFewKernels winograd_few_kernels; }
#include "isa/list.inc"

}  // namespace npconv

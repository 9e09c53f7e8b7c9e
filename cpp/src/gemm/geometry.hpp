// Sizes of everything a dense plan touches, from descriptor and configuration alone: plans and estimates share it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "isa/isa.hpp"
#include "npconv/conv_desc.hpp"

namespace npconv {

// Where the kernels read X.
enum class DenseSource : std::uint8_t {
    image,  // in place: planes of pixels or, with lanes = channels, pixels of dense channels
    strip,  // padded polyphase copy of the rows of a band: every tap is a run of neighbours
    panel,  // im2col of a band: [tile of pixels][term][pixel]
};

struct DenseConfig {
    DenseSource source = DenseSource::strip;
    bool lanes_are_pixels = false;
    // All workers load one band together and share out its channels; else each worker loads bands of its own.
    bool shared = false;
    std::int64_t band_rows = 1, band_columns = 1;  // outputs of one band
    // image and panel: into how many parts the channels of a band are cut, whose workers make panels of their own
    std::int64_t split = 1;
    // image only: outputs of a band where it has to be copied after all (a padding value, weights that are not finite)
    std::int64_t copy_rows = 1, copy_columns = 64;
    // Weights of a single call: each block is packed where it is used, into memory that stays near, by the worker that
    // takes it against all of X. Or, where all pixels are one row of lanes, read where the caller holds them.
    bool late = false;
};

struct DenseBand {
    std::int64_t d, h0, h1, w0, w1;
    std::int64_t rows() const { return h1 - h0; }
    std::int64_t columns() const { return w1 - w0; }
};

struct DenseGeometry {
    DenseGeometry(const ConvDesc&, const DenseConfig&, const Isa&, int block, int rest, int pixels);

    std::int64_t lanes, block, blocks;     // channels of a weight block, blocks of a group
    std::int64_t terms, group_weights;     // packed elements of one group
    bool flat;                             // all pixels are one row
    std::int64_t od, oh, ow;               // outputs; flat: one row of them
    std::int64_t band_rows, band_columns;  // clipped configuration: the most of a band
    std::int64_t row_bands, column_bands, bands;
    std::int64_t band_unit;  // pixels of a tile where the bands of a single row share out whole tiles evenly; else 0

    // strip
    bool skip_columns;     // kw = 1 without padding: only every sw-th column is loaded
    bool rows_per_tap;     // each kernel row has its own copy of its input rows (large dilations)
    bool columns_per_tap;  // the same for columns: large dilations and strides skip what no tap reads
    std::int64_t phases;   // or taps of a kernel row that have columns of their own
    std::int64_t segments, segment_rows;
    std::int64_t strip_columns;  // that one call of the loader moves
    std::int64_t phase_stride, row_stride, channel_stride;
    std::int64_t output_row_stride;  // in the strip, from one output row to the next
    std::int64_t strip_channels;     // loaded at a time
    // panel
    std::int64_t slots, tile_stride, tiles;  // elements of a term of a tile; from tile to tile; of a band

    std::int64_t strip_elements() const { return strip_channels * channel_stride; }
    std::int64_t panel_elements() const { return tiles * tile_stride; }
    DenseBand band(std::int64_t i) const;

    // Task t is a part of the channels of a band. What comes first changes least from task to task and is shared by
    // the fewest workers: the larger of weights and image.
    std::int64_t split;
    bool weights_first;
    std::int64_t tasks() const { return bands * split; }
    std::int64_t task_part(std::int64_t t) const { return weights_first ? t / bands : t % split; }
    std::int64_t task_band(std::int64_t t) const { return weights_first ? t % bands : t / split; }

    std::int64_t tap_offset(const ConvDesc&, std::int64_t kd, std::int64_t kh, std::int64_t kw) const;
};

// The most rows of a band, at most `rows` and at least half of them, that leave the busiest of `threads` workers the fewest.
std::int64_t even_rows(std::int64_t oh, std::int64_t rows, std::int64_t threads);

bool dense_flat(const ConvDesc&);  // 1x1, unit strides, no padding: rows don't matter
// Then bands are of any pixels: in place, and in panels of planes, whose pixels follow one another.
bool dense_is_one_row(const ConvDesc&, DenseSource);

// From one channel of an image without gaps to the next, and from pixel to pixel.
inline std::int64_t channel_pitch(const ConvDesc& d) { return d.src_order == Order::nchw ? d.in_pixels() : 1; }
inline std::int64_t pixel_pitch(const ConvDesc& d) { return d.src_order == Order::nchw ? 1 : d.ic; }

// Whether lists of terms can name every element of a group of channels that lie so far apart.
bool dense_lists_reach(const ConvDesc&, std::int64_t channel);

// Lines of one set of L1, whose sets repeat every page. Tiles of pixels that meet in one set are made no wider than that, unless rows
// then fall into tiles of fewer than five sixths of it (kernel_channels.hpp: tiles_of_row).
inline std::int64_t l1_set_lines(double l1_bytes) { return std::max<std::int64_t>(static_cast<std::int64_t>(l1_bytes) / 4096, 4); }

// DenseSource::image: zero padding (any value that a call brings is looked at then), and at most one pixel at each end of a
// row that meets padding; with lanes = pixels plain products of planes only.
bool dense_image_possible(const ConvDesc&, const Isa&, bool lanes_are_pixels);

}  // namespace npconv

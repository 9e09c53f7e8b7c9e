#include "gemm/cost.hpp"

#include <algorithm>
#include <cmath>

#include "gemm/driver.hpp"
#include "gemm/kernel.hpp"
#include "threading/makespan.hpp"

namespace npconv {
namespace {

// Calibrated on one core at the built-in shapes, AVX-512 and AVX2.
constexpr double tile_seconds = 9e-9;                                      // entering and leaving a register tile
constexpr double kept_seconds = 0.5e-9, turned_seconds = 1.9e-9;           // keeping a vector of sums, transposing one
constexpr double vector_seconds = 1.2e-9, straight_vector_seconds = 0.15e-9;  // epilogue and store of a vector
constexpr double straight_channels_seconds = 0.4e-9;                       // of channels, narrow tiles
constexpr double curved_seconds = 9e-9;                                    // activations that aren't lines, in narrow tiles
constexpr double run_seconds = 5e-9, copy_rate = 20e9;                     // copying image rows into strips
constexpr double wide_tile_rate = 33e9, tile_rate = 16e9;                  // straight into panels of wide and of other tiles
constexpr double panel_run_seconds = 2e-9, panel_rate = 25e9;              // and strips, which are near, into panels
constexpr double hidden = 0.15;                                            // of a stream that overlaps with arithmetic is felt
constexpr double barrier_seconds = 1.5e-6;
constexpr double task_seconds = 1e-7;
// Terms of a tile whose pages exceed the first and the second level of address translation, as Zen 3 feels them.
constexpr double first_pages = 224, second_pages = 1536, first_page_seconds = 0.4e-9, second_page_seconds = 1.6e-9;
// Narrow tiles: deep sums with lanes = pixels whose pixels wait in L2; over rows of strips, with lanes = pixels and channels; on an
// image itself, every other pixel of a line, and of every other line, channels that share the sets of L1, part of each line, channels
// of few lines; with lanes = pixels arrays that don't begin with a line, deep sums, vectors across two lines, both. Zen 3, AVX2.
constexpr double deep_copies = 1.05, deep_wide_strips = 1.15, deep_strips = 1.08, strided_image = 1.08, strided_points = 1.4, same_sets = 1.6;
constexpr double far_lines = 1.12, whole_lines = 1.03, small_images = 1.2, deep_rows = 1.06, torn_lines = 1.15, deep_torn_lines = 1.25;
// With 32 registers: channels of planes whose pages the first level of address translation holds; every other pixel of an image.
constexpr double wide_pages = 96, wide_strided_image = 1.15;  // Zen 4 has none of the latter (512x14 -> 512 k3 stride 2 1.06 of Winograd)
constexpr double wide_torn_lines = 1.06;  // lanes = pixels, few terms, rows of planes beyond L2 that don't begin with a line (65x65, 130x130)
constexpr double wide_copying = 0.25, hidden_copying = 0.15;  // what the weights that copy pixels take longer
// Shape::hides: entering a tile of copies, many of which are one call, and keeping a vector of its sums.
constexpr double hidden_tile_seconds = 4e-9, hidden_kept_seconds = 0.1e-9;
constexpr double hidden_copies = 0.1, quick_copies = 0.03;  // of a stream of copied pixels from L2 that a tile feels
// Vectors of a term where the halves of two pixels of planes share one: what is beside the products hides less.
constexpr double planes_half = 1.8;
// Machine::quick: every other pixel and line of planes, an image in place half as large as L2, strips with
// lanes = channels (Zen 5).
constexpr double quick_strided_points = 1.08, quick_far_image = 1.2, quick_strips = 1.1;
constexpr double late_rate = 24e9, quick_late_rate = 45e9, narrow_late_rate = 16e9;  // packing weights where they are used
constexpr double handover_rate = 20e9;                                     // weights that another core has packed
// A line that two workers write, each a part: 80 to 130 ns between cores without a common cache, hardly anything between near ones (256x56 -> 512 k1
// stride 2, parts of channels against bands of rows 1.07 and 1.00, 384x14 -> 96 k1 1.13 and 1.02; two near and far cores of Zen 4).
constexpr double torn_line_seconds = 6e-8;
// Weights read where they are, as four or eight streams; eight where tiles have two vectors of pixels at most.
constexpr double unpacked = 1.02, unpacked_small = 1.25;

double ceil_div(double a, double b) { return std::ceil(a / b); }

// A tile's inner loop is bound by multiplications, or by their latency and the loads where the tile is small. Narrow tiles have
// no slots left that hide the rest of the loop: 1.2 of 12 is what deep sums of the built-in layers lack on Zen 3, and 3 where the
// ends of rows have lists of their own.
double slots(double accumulators, double others) { return std::max(accumulators, 7.0) + others; }

// Which part of the products along an axis does not meet padding.
double inside(const Axis& a) {
    std::int64_t pairs = 0;
    for (std::int64_t k = 0; k < a.kernel; ++k) {
        const std::int64_t at = k * a.dilation - a.pad_begin;  // of the first output
        const std::int64_t first = at >= 0 ? 0 : (-at + a.stride - 1) / a.stride, end = at >= a.in ? 0 : (a.in - 1 - at) / a.stride + 1;
        pairs += std::max<std::int64_t>(0, std::min(end, a.out) - first);
    }
    return static_cast<double>(pairs) / static_cast<double>(std::max<std::int64_t>(1, a.kernel * a.out));
}

struct Shape {
    const ConvDesc& d;
    const Isa& isa;
    const DenseConfig& config;
    const DenseBlocks k;
    const DenseGeometry g;
    const Machine& machine;
    double item, terms, oc, kept;
    bool strip, straight;
    bool straight_channels;  // narrow tiles: sums of one block leave the registers for pixels of dense channels, many tiles in a call
    bool narrow;  // 16 registers: a term's products in a tile are over before what comes from beyond L1 and its page table can hide
    bool quick;  // 32 registers and Machine::quick
    bool hides;  // 32 registers, and a term is not over before a line from L2 is there
    double copies;  // 1, or what part of the weights meet pixels of the image itself, the others copies of them

    Shape(const ConvDesc& desc, const Isa& level, const DenseConfig& c, const Machine& m)
        : d(desc), isa(level), config(c), k(dense_blocks(desc, isa, c.lanes_are_pixels)), g(desc, c, isa, k.block, k.rest, k.pixels), machine(m),
          item(static_cast<double>(item_size(d.src))), terms(static_cast<double>(g.terms)), oc(static_cast<double>(desc.ocg())),
          kept(c.source == DenseSource::image ? inside(d.d()) * inside(d.h()) * inside(d.w()) : 1),
          strip(c.source != DenseSource::panel && !g.flat),
          straight(c.lanes_are_pixels && desc.dst_order == Order::nchw && desc.epilogue.residual == Residual::none),
          narrow(isa.registers <= 16), quick(!narrow && m.quick), hides(!narrow && m.line_seconds == 0), copies(1) {
        straight_channels = narrow && !c.lanes_are_pixels && desc.dst_order == Order::nhwc && desc.epilogue.residual == Residual::none &&
                            !curved() && g.terms <= dense_block;
        const std::int64_t blocks = g.blocks / std::max<std::int64_t>(g.split, 1);
        const bool rows_of_planes = c.source == DenseSource::image && g.flat && desc.src_order == Order::nchw &&
                                    (!c.late || dense_reads_rows(desc, isa, c));
        if (c.lanes_are_pixels && rows_of_planes && g.terms >= k.stage_terms && blocks >= k.stage_blocks)
            copies = 1 / static_cast<double>(blocks);
    }

    bool curved() const {
        const Activation a = d.epilogue.activation;
        return a == Activation::silu || a == Activation::sigmoid || a == Activation::tanh || a == Activation::gelu || a == Activation::gelu_tanh;
    }
    // One band of that many output rows and columns against all channels of a group.
    double sums(double rows, double columns) const;
    double narrowness() const;
    double farness(double rows, double columns) const;
    double wideness() const;
    double rest_slots(double rest, double tiles, double tile, bool joined, double others) const;
    double tail(double width) const;
    double unpacking() const {
        const std::int64_t vectors = (g.oh * g.ow + g.lanes - 1) / g.lanes, most = k.pixels / g.lanes, tiles = (vectors + most - 1) / most;
        return !narrow && vectors < most * tiles && tiles <= 2 ? unpacked_small : unpacked;
    }
    double same_set_pixels() const;
    bool in_one_set() const;
    bool fits_set() const;
    double stores(double runs, double tiles, double tile, double outputs) const;
    double loading(double rows, double columns) const;
    // With lanes = pixels: what a part of the channels takes to bring the band's pixels near. Zen 4 hides most of that behind products that
    // read them in place (192x28 -> 32, 144x28 -> 32 k1).
    double approach(double rows, double columns) const {
        const double felt = !config.lanes_are_pixels ? 0 : copies == 1 && hides && !quick ? 0.3 : 1;
        return felt * terms * rows * columns * item / machine.l2_bandwidth;
    }
};

// All tiles of a band entered and left, for every block of terms, and their sums stored.
double Shape::stores(double runs, double tiles, double tile, double outputs) const {
    const double lanes = static_cast<double>(g.lanes), blocks = std::max(1.0, ceil_div(terms, 256)), vectors = outputs / lanes;
    const double turned = config.lanes_are_pixels == (d.dst_order == Order::nchw) ? 0 : 1;
    // What a tile leaves idle while it is stored: nothing overlaps with a sum that is over at once.
    const bool near_copies = hides && copies < 1;
    const double entered = runs * tiles * static_cast<double>(g.blocks) * blocks * ((near_copies ? hidden_tile_seconds : tile_seconds) + (tile < 2 ? 3e-9 : 0));
    const double kept_vectors = config.lanes_are_pixels ? vectors * 2 * (blocks - 1) : vectors * (2 * blocks - 1);
    const double finished = straight ? straight_vector_seconds : straight_channels ? straight_channels_seconds : vector_seconds;
    // Three vectors of a row are too few to hide how long each takes from load to store.
    return entered + kept_vectors * (near_copies ? hidden_kept_seconds : kept_seconds) +
           vectors * (turned * turned_seconds + finished + (curved() && narrow && config.lanes_are_pixels ? curved_seconds : 0));
}

// The lines of a tile's taps, pixels of dense channels, share few sets of L1 where pixels are large powers of two apart.
double Shape::same_set_pixels() const {
    const std::int64_t bytes = d.ic * d.w().stride * static_cast<std::int64_t>(item_size(d.src));
    return bytes % 4096 == 0 ? 2.1 : bytes % 2048 == 0 ? 1.6 : bytes % 1024 == 0 ? 1.23 : bytes % 512 == 0 ? 1.08 : 1;
}

// Whether pixels of dense channels in rows of an image are a multiple of 4 KB apart; whether their tiles are no wider then than a set is.
bool Shape::in_one_set() const {
    return config.source == DenseSource::image && !g.flat && d.src_order == Order::nhwc &&
           d.ic * d.w().stride * static_cast<std::int64_t>(item_size(d.src)) % 4096 == 0;
}
bool Shape::fits_set() const {
    const std::int64_t lines = l1_set_lines(machine.l1_bytes), row = d.w().out;
    return 6 * row >= 5 * lines * ((row + lines - 1) / lines);
}

// What narrow tiles lose to the way X lies in memory.
double Shape::narrowness() const {
    const bool deep = terms >= 200;
    if (config.source != DenseSource::image && !strip) return deep && config.lanes_are_pixels ? deep_copies : 1;
    if (config.source != DenseSource::image) return !deep ? 1 : config.lanes_are_pixels ? deep_wide_strips : deep_strips;
    if (d.src_order == Order::nhwc) return d.taps() == 1 ? 1 : same_set_pixels();
    if (!g.flat) return d.taps() == 1 ? strided_points : strided_image;
    const std::int64_t channel = d.in_pixels() * static_cast<std::int64_t>(item_size(d.src));
    if (channel % 4096 == 0) return same_sets;
    if (!config.lanes_are_pixels) return channel < 256 ? small_images : far_lines;
    return channel % 64 == 0 ? (deep ? deep_rows : whole_lines) : deep ? deep_torn_lines : torn_lines;
}

// And wide ones, to strips, and to an image in place: fourteen pixels whose lines share a set exceed it, too. Zen 4 feels no fewer than those
// (256x56 -> 512 k1 stride 2, two sets, 1.03 times as fast in place as strips).
double Shape::wideness() const {
    if (config.source == DenseSource::strip && quick && !config.lanes_are_pixels) return quick_strips;
    if (config.source != DenseSource::image || g.flat || config.lanes_are_pixels) return 1;
    if (d.src_order == Order::nhwc && d.taps() > 1) return same_set_pixels();
    if (d.src_order == Order::nhwc) return (in_one_set() ? fits_set() : !quick) ? 1 : 1 + 0.1 * (same_set_pixels() - 1);
    if (d.w().stride == 1) return 1;
    if (d.taps() > 1) return quick || machine.line_seconds > 0 ? wide_strided_image : 1;
    return quick ? quick_strided_points : 1;
}

// What a term of a tile takes where the last weights have only `rest` channels. joined: of two rows.
double Shape::rest_slots(double rest, double tiles, double tile, bool joined, double others) const {
    if (rest <= 0) return 0;
    if (config.lanes_are_pixels) return slots(rest * tile, others);
    const double lanes = static_cast<double>(g.lanes), most = static_cast<double>(k.pixels);
    const bool in_place = config.source == DenseSource::image, planes = d.src_order == Order::nchw;
    const bool dense = in_place && !planes && d.taps() == 1 && d.icg() > 1;
    // Two full tiles of dense terms meet a single vector of channels together.
    if (straight_channels && rest == lanes && dense && g.flat && tiles > 1 && tile > most - 0.5) return slots(2 * tile, others) / 2;
    // The halves of two pixels share a vector, but not where edges have lists of their own.
    const bool in_order = dense || !in_place || (planes && kept == 1 && d.w().stride == 1);
    if (!narrow && rest > lanes && 2 * rest <= 3 * lanes && tile > most - 2.5 && !joined && in_order)
        return slots((dense ? 1.5 : planes_half) * tile, others);
    // With 32 registers a single vector of channels meets pixels in memory: as many loads as products, and more.
    return slots(rest > lanes ? 2 * tile : tile + (narrow ? 0 : 2), others);
}

// Pixels behind the whole vectors of a row that meet vectors of channels.
double Shape::tail(double width) const {
    const auto pixels = static_cast<std::int64_t>(width), vectors = pixels / g.lanes, rest = pixels % g.lanes;
    const bool possible = config.source == DenseSource::image && g.flat && !dense_reads_rows(d, isa, config);
    return possible && vectors > 0 && vectors < dense_long_row && rest <= k.tail ? static_cast<double>(rest) : 0;
}

double Shape::sums(double rows, double columns) const {
    const double lanes = static_cast<double>(g.lanes), outputs = rows * columns * oc;
    double runs = strip ? rows : 1, width = strip ? columns : rows * columns;
    const double most_joined = in_one_set() ? std::min<double>(k.pixels, static_cast<double>(l1_set_lines(machine.l1_bytes) + 2)) : k.pixels;
    const bool joined = !config.lanes_are_pixels && strip && g.column_bands == 1 && 2 * width <= most_joined && width > k.pixels / 4 && runs > 1;
    if (joined) {  // by the kernel, two rows
        width *= 2;
        runs /= 2;
    }
    const double end = config.lanes_are_pixels ? tail(width) : 0;
    const double units = config.lanes_are_pixels ? ceil_div(width - end, lanes) : width;  // vectors or pixels
    const double tiles = ceil_div(units, config.lanes_are_pixels ? k.pixels / lanes : k.pixels), tile = units / tiles;
    const double full = std::floor(oc / k.block), rest = oc - full * k.block;
    const double others = !narrow ? 0.5 : kept < 1 && !straight_channels ? 3 : 1.2;
    const double full_slots = slots((config.lanes_are_pixels ? k.block : 2) * tile, others);
    double seconds = runs * tiles * terms * kept * (full * full_slots + rest_slots(rest, tiles, tile, joined, others)) * 2 * lanes / machine.fma(d.src);
    // A vector of weights comes from L2: four products, or six where nothing else uses them but one tile.
    if (end > 0) seconds += terms * ceil_div(oc, lanes) * (std::max(end, tiles > 1 ? 4.0 : 6.0) + others) * 2 * lanes / machine.fma(d.src);
    const double all = runs * tiles * static_cast<double>(g.blocks);
    // What every tile reads anew comes from L2 if it is beyond L1: a block of weights, or the pixels under a tile.
    const double tile_bytes = std::min(terms, 256.0) * item * (config.lanes_are_pixels ? tile * lanes : static_cast<double>(k.block));
    if (tile_bytes > 0.75 * machine.l1_bytes) {
        const double from_l2 = all * std::max(1.0, terms / 256) * tile_bytes / machine.l2_bandwidth;
        const bool near_copies = hides && config.source == DenseSource::image;
        const double felt = !config.lanes_are_pixels ? 0.2 : narrow ? 0.4 : !near_copies ? 0.2 : quick ? quick_copies : hidden_copies;
        seconds += felt * from_l2 * std::min(1.0, from_l2 / seconds);
    }
    if (narrow) {
        const double copied = copies == 1 ? 0 : (1 - copies) * (terms >= 200 ? deep_copies : 1);
        seconds *= narrowness() * copies + copied;
        if (config.source == DenseSource::image && d.src_order == Order::nchw) {  // each channel of a tile lies on a page of its own
            const double channels = static_cast<double>(d.icg());
            const double pages = channels * std::min(1.0, static_cast<double>(d.in_pixels()) * item / 4096);
            const double visits = config.lanes_are_pixels ? 0.3 * all * copies * channels : all * channels;  // whose latency is felt
            seconds += visits * ((pages > first_pages ? first_page_seconds : 0) + (pages > second_pages ? second_page_seconds : 0));
        }
    }
    if (!narrow) seconds *= wideness() * (copies < 1 ? 1 + (hides ? hidden_copying : wide_copying) * copies : 1);
    if (!narrow && !config.lanes_are_pixels && d.src_order == Order::nchw) {
        const double channels = static_cast<double>(d.icg()), term = full_slots * 2 * lanes / machine.fma(d.src);
        const double pages = channels * std::min(1.0, static_cast<double>(d.in_pixels()) * item / 4096);
        const double arrives = config.source == DenseSource::panel ? machine.near_seconds : pages > wide_pages ? machine.page_seconds : machine.line_seconds;
        seconds += all * (config.source == DenseSource::panel ? terms : channels) * std::max(0.0, arrives - term);
    }
    seconds += stores(runs, tiles, tile, outputs);
    // All weights stream past each band once.
    const double weights = static_cast<double>(g.group_weights) * item, bytes = weights * static_cast<double>(d.g);
    const double rate = weights <= 0.6 * machine.l2_bytes ? machine.l2_bandwidth
                        : bytes <= machine.l3_bytes       ? machine.l3_bandwidth
                                                          : machine.dram_bandwidth;
    const double stream = weights / rate;
    seconds = std::max(seconds, stream) + hidden * std::min(seconds, stream);
    return seconds * farness(rows, columns);
}

// X that doesn't stay in L2 beside all else is read from farther away for every block of weights, except by wide tiles of flat rows, which meet all in turn.
double Shape::farness(double rows, double columns) const {
    const bool image = config.source == DenseSource::image;
    const double strip_bytes = rows / static_cast<double>(g.band_rows) * static_cast<double>(d.icg() * g.channel_stride) * item;
    // Rows that a kernel skips share lines with the others where they are short.
    const bool skips_lines = d.w().in * static_cast<std::int64_t>(item_size(d.src)) >= 128;
    const std::int64_t read_rows = skips_lines ? std::min(d.h().stride, d.h().kernel) : d.h().stride;
    const double image_bytes = static_cast<double>(d.icg() * d.w().in * read_rows) * rows * item;
    const double all = g.flat || config.source == DenseSource::panel ? terms * rows * columns * item : image ? image_bytes : strip_bytes;
    // Of planes a tile meets all weights before the next however long the row is; vectors of rows that don't begin with a line are torn.
    if (config.lanes_are_pixels && !strip && image && !narrow) {
        const std::int64_t channel = d.in_pixels() * static_cast<std::int64_t>(item_size(d.src));
        const bool torn = channel % 64 != 0 && terms <= dense_block && static_cast<double>(d.icg() * channel) > machine.l2_bytes;
        return (torn ? wide_torn_lines : 1) + (copies < 1 && !hides ? 0.02 : 0);
    }
    if (config.lanes_are_pixels && !strip && narrow) return all > machine.l2_bytes ? 1.06 : 1.02;
    const double near = narrow && strip && g.column_bands > 1 ? 0.2 : 0.5;  // 1-D strips of 90 KB beat those of 260 by a fifth
    if (all <= near * machine.l2_bytes) return 1;
    // Zen 4: 256x56 -> 512 k1 stride 2 the same in bands of 3, 7, 14 and 28 rows.
    if (hides && image && !g.flat) return quick ? quick_far_image : 1;
    return config.lanes_are_pixels ? 1.15 : 1.05;
}

double Shape::loading(double rows, double columns) const {
    if (config.source == DenseSource::image) return 0;
    const double channels = static_cast<double>(d.icg());
    const double panel = terms * rows * columns * item;
    if (!strip && dense_flat(d) && d.src_order == Order::nchw) return terms * panel_run_seconds + panel / (config.lanes_are_pixels ? wide_tile_rate : tile_rate);
    const double lines =
        channels * static_cast<double>(g.segments) *
        (g.rows_per_tap ? rows : (rows - 1) * static_cast<double>(d.h().stride) + static_cast<double>(d.h().extent()));
    double seconds = lines * (run_seconds + static_cast<double>(g.row_stride) * item / copy_rate);
    if (g.phases > 2 || g.columns_per_tap) seconds += lines * static_cast<double>(g.row_stride) * 0.6e-9;  // one by one
    if (!strip) seconds += terms * rows * panel_run_seconds + panel / panel_rate;
    return seconds;
}

// The costs of one call's bands, of which the last in a row or in a column of bands may be smaller.
struct Bands {
    const DenseGeometry& g;
    double sum[2], load[2], approach[2];  // of a band that isn't the last, of the last

    explicit Bands(const Shape& s) : g(s.g) {
        const double columns = static_cast<double>(g.ow) / static_cast<double>(g.column_bands);
        const std::int64_t rows[2] = {g.band_rows, g.oh - (g.row_bands - 1) * g.band_rows};
        // Several bands in a row differ in columns instead.
        const bool wide = g.column_bands > 1;
        const double end = wide ? static_cast<double>(g.band(g.column_bands - 1).columns()) : columns;
        const double others = wide ? (static_cast<double>(g.ow) - end) / static_cast<double>(g.column_bands - 1) : columns;
        // Those of whole tiles differ by one.
        const double unit = static_cast<double>(g.band_unit), few = unit > 0 ? std::max(1.0, std::floor(others / unit)) * unit : others;
        const double more = unit > 0 ? std::clamp(others / unit - few / unit, 0.0, 1.0) : 0;
        const auto cost = [&](double (Shape::*part)(double, double) const, int which) {
            const double high = wide ? 1 : static_cast<double>(rows[which]);
            if (which == 1 || more == 0) return (s.*part)(high, which == 1 ? end : few);
            return (1 - more) * (s.*part)(high, few) + more * (s.*part)(high, few + unit);
        };
        for (int which = 0; which < 2; ++which) {
            sum[which] = cost(&Shape::sums, which);
            load[which] = cost(&Shape::loading, which);
            approach[which] = cost(&Shape::approach, which);
        }
    }
    int last(std::int64_t band) const {
        return g.column_bands > 1 ? band % g.column_bands + 1 == g.column_bands : band / g.column_bands % g.row_bands + 1 == g.row_bands;
    }
    double average(const double (&cost)[2]) const {
        const double n = static_cast<double>(g.column_bands > 1 ? g.column_bands : g.row_bands);
        return (cost[1] + (n - 1) * cost[0]) / n;
    }
};

// How many lines of planes two workers write, each a part: where the bands of one end and those of the next begin, unless a line does, too.
double torn_lines_written(const Shape& s, std::int64_t workers) {
    const ConvDesc& d = s.d;
    const DenseGeometry& g = s.g;
    const auto starts_line = [&](std::int64_t pixels) { return pixels * static_cast<std::int64_t>(item_size(d.dst)) % 64 == 0; };
    const bool planes_start_lines = starts_line(d.out_pixels());
    if (d.dst_order != Order::nchw || g.bands == 1 || (s.config.lanes_are_pixels && g.flat && planes_start_lines)) return 0;
    const std::int64_t images = d.mb * d.g, all = images * g.tasks();
    double lines = 0;
    for (std::int64_t w = 1; w < std::min(workers, all); ++w) {
        const std::int64_t task = all * w / workers % g.tasks();
        const DenseBand b = g.band(g.task_band(task));
        const std::int64_t pixel = (b.d * g.oh + b.h0) * g.ow + b.w0;
        const bool between_planes = task == 0 || (g.weights_first && task % g.bands == 0);
        if (!between_planes && !(planes_start_lines && starts_line(pixel))) lines += s.oc / (g.weights_first ? static_cast<double>(g.split) : 1);
    }
    return lines;
}

}  // namespace

double dense_seconds(const ConvDesc& d, const Isa& isa, const DenseConfig& config, int threads, const Machine& machine) {
    const Shape s(d, isa, config, machine);
    const DenseGeometry& g = s.g;
    const Bands bands(s);
    const std::int64_t jobs = d.mb * d.g * g.bands;
    const double workers = std::max(threads, 1), blocks = static_cast<double>(g.blocks), groups = static_cast<double>(d.g);
    const bool image = config.source == DenseSource::image, rows = dense_reads_rows(d, isa, config), packs_late = config.late && !rows;
    const double late_packing = s.narrow ? narrow_late_rate : s.quick ? quick_late_rate : late_rate;
    const double packed = static_cast<double>(g.group_weights * d.g) * s.item;
    const auto share = [&](double tasks) { return ceil_div(tasks, workers) / tasks; };
    double seconds = machine.call_overhead;
    // All of X passes by for every block of late weights, which lanes = pixels feel where tiles are narrow.
    const double x_bytes = s.terms * static_cast<double>(d.out_pixels()) * s.item;
    const double passes = s.narrow && config.lanes_are_pixels ? 0.4 * blocks * x_bytes / machine.l2_bandwidth : 0;
    if (image && packs_late) {
        seconds += (static_cast<double>(jobs) * bands.average(bands.sum) + groups * passes + packed / late_packing) * share(groups * blocks);
    } else if (!image && (config.shared || packs_late)) {
        const double wanted = std::floor((config.late ? 1 : 4) * workers / blocks);
        const double parts = std::clamp(wanted, 1.0, s.strip ? static_cast<double>(g.band_rows) : 8.0);
        const double tasks = blocks * parts, chunks = ceil_div(static_cast<double>(d.icg()), static_cast<double>(g.lanes));
        // Half of a shared band was written by other cores, and all wait for the slowest at every barrier. On cores without
        // a common cache (22 instead of 79 GB/s from core to core) that made a call 1.9 times as long as one with bands of
        // its own, on busy ones far longer: sharing has to promise a clear gain. But one band that stays in L2 is handed over once.
        const double x = s.item * (s.strip ? static_cast<double>(g.strip_elements()) : s.terms * static_cast<double>(g.band_rows * g.band_columns));
        const bool once = jobs == 1 && x <= machine.l2_bytes;
        const double together = workers == 1 ? 1 : once ? 1.05 : 1.25;
        if (workers > 1 && once) seconds += x * (1 - 1 / workers) / handover_rate;
        seconds += static_cast<double>(jobs) * (bands.average(bands.load) / std::min(workers, chunks) +
                                                bands.average(bands.sum) * together * share(tasks) + (workers > 1 ? 2 * barrier_seconds : 0));
        if (config.late) seconds += static_cast<double>(jobs) / groups * (packed / late_packing + groups * passes) * share(blocks);
    } else {
        seconds += makespan(d.mb * d.g * g.tasks(), std::max(threads, 1), [&](std::int64_t task) {
            const std::int64_t part = g.task_part(task % g.tasks()), own = g.blocks * (part + 1) / g.split - g.blocks * part / g.split;
            const int last = bands.last(g.task_band(task % g.tasks()));
            const double sum = (rows ? s.unpacking() : 1) * bands.sum[last];
            return bands.load[last] + bands.approach[last] + sum * static_cast<double>(own) / blocks + task_seconds;
        });
        if (threads > 1) seconds += torn_lines_written(s, threads) * torn_line_seconds;
    }
    const bool alone = !config.shared && (packs_late ? image && d.g * g.blocks == 1 : d.mb * d.g * g.tasks() == 1);
    // Bands side by side copy pixels and read all weights at once. Of two plans that tie, parts of the channels of images in place were
    // faster with near weights and wherever the cores lie far apart (512x28 -> 1024 k1 stride 2 1.13, 1.05 to 1.2; else 0.95).
    if (workers > 1 && d.h().stride > 1 && g.split == 1 && g.bands > 1 && packed > machine.l2_bytes) seconds *= 1.02;
    if (workers > 1 && !alone) seconds += machine.parallel_overhead;
    if (d.weights == Weights::fresh && !config.late) {
        const double wide_rate = packed > machine.l2_bytes ? 12e9 : config.lanes_are_pixels ? 11e9 : 20e9;
        const double rate = s.narrow && config.lanes_are_pixels ? 16e9 : wide_rate;
        seconds += packed / (rate * std::min(workers, blocks * groups)) + packed * (1 - 1 / workers) / handover_rate;
    }
    return seconds;
}

std::string dense_refusal(const ConvDesc& d) {
    if (d.direction != Direction::fwd) return "computes forward convolutions only";
    if (d.wei != d.src || d.dst != d.src || d.acc != d.src) return "needs one type for source, weights, result and sums";
    if (d.empty()) return "there is nothing to compute";
    return "";
}

}  // namespace npconv

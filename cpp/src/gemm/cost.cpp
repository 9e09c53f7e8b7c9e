#include "gemm/cost.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "gemm/driver.hpp"

namespace npconv {
namespace {

double ceil_div(double a, double b) { return std::ceil(a / b); }

// FMA-bound seconds of all tiles of `rows` rows of `pixels` outputs against all channels of one group.
struct TileCost {
    double seconds = 0;  // register tiles
    double tiles = 0;
};

// A tile's inner loop is bound by multiplications, or by their latency where the tile is small.
double slots(double accumulators) { return std::max(accumulators, 8.0) + 0.5; }

TileCost channel_tiles(const ConvDesc& d, const DenseGeometry& g, const DenseBlocks& k, double rows, double pixels,
                       bool whole_rows, double slot_seconds) {
    double width = pixels;  // of a row, or of two where the kernel joins them
    if (whole_rows && rows >= 2 && 2 * pixels <= k.pixels && pixels > k.pixels / 4) {
        width = 2 * pixels;
        rows = std::ceil(rows / 2);
    }
    const double tiles = rows * ceil_div(width, k.pixels), px = width * rows / tiles;
    const double oc = static_cast<double>(d.ocg()), full = std::floor(oc / k.block), rest = oc - full * k.block;
    TileCost c;
    c.tiles = tiles * static_cast<double>(g.blocks);
    c.seconds = tiles * (full * slots(2 * px) + (rest > 0 ? slots((rest > k.rest ? 2 : 1) * px) : 0)) * slot_seconds *
                static_cast<double>(g.terms);
    return c;
}

TileCost pixel_tiles(const ConvDesc& d, const DenseGeometry& g, const DenseBlocks& k, double rows, double pixels,
                     double slot_seconds) {
    const double lanes = static_cast<double>(g.lanes), vectors = ceil_div(pixels, lanes);
    const double tiles = rows * ceil_div(vectors, k.pixels / lanes), nv = vectors * rows / tiles;
    const double oc = static_cast<double>(d.ocg()), full = std::floor(oc / k.block), rest = oc - full * k.block;
    TileCost c;
    c.tiles = tiles * static_cast<double>(g.blocks);
    c.seconds = tiles * (full * slots(k.block * nv) + (rest > 0 ? slots(rest * nv) : 0)) * slot_seconds *
                static_cast<double>(g.terms);
    return c;
}

}  // namespace

double dense_seconds(const ConvDesc& d, const Isa& isa, const DenseConfig& config, int threads, const Machine& machine) {
    const DenseBlocks k = dense_blocks(d, isa, config.lanes_are_pixels);
    const DenseGeometry g(d, config, isa, k.block, k.rest);
    const double item = static_cast<double>(item_size(d.src));
    const double bands = static_cast<double>(g.bands), jobs = static_cast<double>(d.mb) * static_cast<double>(d.g) * bands;
    const double rows_all = static_cast<double>(g.od * g.oh), columns_all = static_cast<double>(g.ow);
    const double band_rows = rows_all / static_cast<double>(g.od * g.row_bands), band_columns = columns_all / static_cast<double>(g.column_bands);

    // Multiplications and stores of one band.
    const double slot_seconds = 2 * static_cast<double>(g.lanes) / machine.fma(d.src);
    const bool strip = config.source == DenseSource::strip;
    const double rows = strip ? band_rows : 1, columns = strip ? band_columns : band_rows * band_columns;
    const TileCost t = config.lanes_are_pixels
                           ? pixel_tiles(d, g, k, rows, columns, slot_seconds)
                           : channel_tiles(d, g, k, rows, columns, g.column_bands == 1, slot_seconds);
    const double outputs = band_rows * band_columns * static_cast<double>(d.ocg());
    const double turned = config.lanes_are_pixels == (d.dst_order == Order::nchw) ? 1 : 2;
    double sum = t.seconds + t.tiles * 25e-9 + outputs / static_cast<double>(g.lanes) * 2.2e-9 * turned;

    // Weights stream past each band once, or once per row of pixel tiles.
    const double weights = static_cast<double>(g.group_weights) * item;
    const double stream = weights / (weights <= 0.6 * machine.l2_bytes ? machine.l2_bandwidth
                                     : weights * static_cast<double>(d.g) <= machine.l3_bytes ? machine.l3_bandwidth : machine.dram_bandwidth);
    sum = std::max(sum, stream) + 0.15 * std::min(sum, stream);

    // Bringing X to where the kernels read it.
    double load = 0;
    const double input = static_cast<double>(d.icg() * g.channel_stride) * item;
    const double panel = static_cast<double>(g.terms) * band_rows * band_columns * item;
    if (config.source != DenseSource::image) load = 5e-8 + (g.strip_is_panel && !strip ? panel : input) / 10e9;
    if (config.source == DenseSource::panel && !g.strip_is_panel) {
        const double runs = static_cast<double>(g.terms) * band_rows;
        load += runs * 3e-9 + panel / 18e9;
    }
    // Bands beyond L2 are read from farther away by every weight block.
    const double band_bytes = config.source == DenseSource::panel ? panel : config.source == DenseSource::strip ? input : static_cast<double>(g.terms) * band_columns * item;
    if (band_bytes > 0.75 * machine.l2_bytes) sum *= 1.15;

    const double workers = std::max(threads, 1);
    double seconds = machine.call_overhead;
    if (config.shared && config.source != DenseSource::image) {
        const double parts = std::clamp(std::floor(4 * workers / static_cast<double>(g.blocks)), 1.0, strip ? static_cast<double>(g.band_rows) : 8.0);
        const double tasks = static_cast<double>(g.blocks) * parts;
        seconds += jobs * (load / std::min(workers, std::max(1.0, static_cast<double>(d.icg()) / static_cast<double>(g.lanes))) +
                           sum * ceil_div(tasks, workers) / tasks + (workers > 1 ? 1.5e-6 : 0));
    } else {
        const double split = config.source == DenseSource::image ? static_cast<double>(std::min(config.split, g.blocks)) : 1;
        seconds += ceil_div(jobs * split, workers) * (load + sum / split + 5e-8);
    }
    if (workers > 1) seconds += machine.parallel_overhead;
    if (d.weights == Weights::fresh) seconds += 3 * weights * static_cast<double>(d.g) / (10e9 * std::min(workers, static_cast<double>(d.g * g.blocks)));
    return seconds;
}

std::string dense_refusal(const ConvDesc& d) {
    if (d.direction != Direction::fwd) return "computes forward convolutions only";
    if (d.wei != d.src || d.dst != d.src || d.acc != d.src) return "needs the same type for source, weights, result and sums";
    if (d.empty()) return "there is nothing to compute";
    return "";
}

}  // namespace npconv

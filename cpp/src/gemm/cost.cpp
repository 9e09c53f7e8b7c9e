#include "gemm/cost.hpp"

#include <algorithm>
#include <cmath>

#include "gemm/driver.hpp"

namespace npconv {
namespace {

// Calibrated on one core at 1x1, 3x3 and 7x7 layers of 3 to 3072 channels, AVX-512 and AVX2.
constexpr double tile_seconds = 25e-9, straight_tile_seconds = 12e-9;      // entering and leaving a register tile
constexpr double vector_seconds = 2.2e-9, straight_vector_seconds = 1e-9;  // epilogue and store of one vector
constexpr double run_seconds = 5e-9, copy_rate = 20e9;                     // copying image rows into strips
constexpr double panel_run_seconds = 2e-9, panel_rate = 25e9;              // and strips, which are near, into panels
constexpr double hidden = 0.2;                                             // of a stream that overlaps with arithmetic is felt
constexpr double barrier_seconds = 1.5e-6;

double ceil_div(double a, double b) { return std::ceil(a / b); }

// A tile's inner loop is bound by multiplications, or by their latency where the tile is small.
double slots(double accumulators) { return std::max(accumulators, 8.0) + 0.5; }

struct Shape {
    const ConvDesc& d;
    const DenseConfig& config;
    const DenseBlocks k;
    const DenseGeometry g;
    const Machine& machine;
    double item, terms, oc;
    bool strip, straight;

    Shape(const ConvDesc& desc, const Isa& isa, const DenseConfig& c, const Machine& m)
        : d(desc), config(c), k(dense_blocks(desc, isa, c.lanes_are_pixels)), g(desc, c, isa, k.block, k.rest), machine(m),
          item(static_cast<double>(item_size(desc.src))), terms(static_cast<double>(g.terms)),
          oc(static_cast<double>(desc.ocg())), strip(c.source == DenseSource::strip),
          straight(c.lanes_are_pixels && desc.dst_order == Order::nchw && desc.epilogue.residual == Residual::none) {}

    // One band of that many output rows and columns against all channels of a group.
    double sums(double rows, double columns) const;
    double loading(double rows, double columns) const;
};

double Shape::sums(double rows, double columns) const {
    const double lanes = static_cast<double>(g.lanes), outputs = rows * columns * oc;
    double runs = strip ? rows : 1, width = strip ? columns : rows * columns;
    if (!config.lanes_are_pixels && strip && g.column_bands == 1 && 2 * width <= k.pixels && width > k.pixels / 4 && runs > 1) {
        width *= 2;  // the kernel joins two rows
        runs /= 2;
    }
    const double units = config.lanes_are_pixels ? ceil_div(width, lanes) : width;  // vectors or pixels
    const double tiles = ceil_div(units, config.lanes_are_pixels ? k.pixels / lanes : k.pixels), tile = units / tiles;
    const double full = std::floor(oc / k.block), rest = oc - full * k.block;
    const double full_slots = slots((config.lanes_are_pixels ? k.block : 2) * tile);
    const double rest_slots = rest > 0 ? slots((config.lanes_are_pixels ? rest : rest > k.rest ? 2 : 1) * tile) : 0;
    double seconds = runs * tiles * terms * (full * full_slots + rest_slots) * 2 * lanes / machine.fma(d.src);
    const double all = runs * tiles * static_cast<double>(g.blocks);
    // What every tile reads anew comes from L2 if it is beyond L1: a block of weights, or the pixels under a tile.
    const double tile_bytes = terms * item * (config.lanes_are_pixels ? tile * lanes : static_cast<double>(k.block));
    if (tile_bytes > 0.75 * machine.l1_bytes) {
        const double from_l2 = all * tile_bytes / machine.l2_bandwidth;
        seconds += 0.35 * from_l2 * std::min(1.0, from_l2 / seconds);
    }
    seconds += all * (straight ? straight_tile_seconds : tile_seconds);
    const double turned = config.lanes_are_pixels == (d.dst_order == Order::nchw) ? 1 : 2;
    seconds += outputs / lanes * turned * (straight ? straight_vector_seconds : vector_seconds);
    // All weights stream past each band once.
    const double weights = static_cast<double>(g.group_weights) * item, bytes = weights * static_cast<double>(d.g);
    const double rate = weights <= 0.6 * machine.l2_bytes ? machine.l2_bandwidth
                        : bytes <= machine.l3_bytes       ? machine.l3_bandwidth
                                                          : machine.dram_bandwidth;
    const double stream = weights / rate;
    seconds = std::max(seconds, stream) + hidden * std::min(seconds, stream);
    // X beyond L2 is read from farther away for every block of weights.
    const double x = strip ? rows / static_cast<double>(g.band_rows) * static_cast<double>(d.icg() * g.channel_stride)
                           : terms * rows * columns;
    return x * item > 0.75 * machine.l2_bytes ? 1.15 * seconds : seconds;
}

double Shape::loading(double rows, double columns) const {
    if (config.source == DenseSource::image) return 0;
    const double channels = static_cast<double>(d.icg());
    const double panel = terms * rows * columns * item;
    if (config.source == DenseSource::panel && g.strip_is_panel) return channels * rows * run_seconds + panel / copy_rate;
    const double lines =
        channels * static_cast<double>(g.segments) *
        (g.rows_per_tap ? rows : (rows - 1) * static_cast<double>(d.h().stride) + static_cast<double>(d.h().extent()));
    double seconds = lines * (run_seconds + static_cast<double>(g.row_stride) * item / copy_rate);
    if (g.phases > 2 || g.columns_per_tap) seconds += lines * static_cast<double>(g.row_stride) * 0.6e-9;  // one by one
    if (!strip) seconds += terms * rows * panel_run_seconds + panel / panel_rate;
    return seconds;
}

}  // namespace

double dense_seconds(const ConvDesc& d, const Isa& isa, const DenseConfig& config, int threads, const Machine& machine) {
    const Shape s(d, isa, config, machine);
    const DenseGeometry& g = s.g;
    const double jobs = static_cast<double>(d.mb) * static_cast<double>(d.g) * static_cast<double>(g.bands);
    const double workers = std::max(threads, 1), blocks = static_cast<double>(g.blocks);
    // The last band of rows may be shorter; columns on average.
    const double columns = static_cast<double>(g.ow) / static_cast<double>(g.column_bands);
    const double bands = static_cast<double>(g.row_bands), last = static_cast<double>(g.oh - (g.row_bands - 1) * g.band_rows);
    const auto average = [&](auto cost) {
        const double all = cost(last, columns);
        return bands > 1 ? (all + (bands - 1) * cost(static_cast<double>(g.band_rows), columns)) / bands : all;
    };
    const double sum = average([&](double r, double c) { return s.sums(r, c); });
    const double load = average([&](double r, double c) { return s.loading(r, c); });

    double seconds = machine.call_overhead;
    if (config.shared && config.source != DenseSource::image) {
        const double parts = std::clamp(std::floor(4 * workers / blocks), 1.0, s.strip ? static_cast<double>(g.band_rows) : 8.0);
        const double tasks = blocks * parts, chunks = ceil_div(static_cast<double>(d.icg()), static_cast<double>(g.lanes));
        // Half of a shared band was written by other cores, and all wait for the slowest at every barrier. On cores without
        // a common cache (22 instead of 79 GB/s from core to core) that made a call 1.9 times as long as one with bands of
        // its own, on busy ones far longer: sharing has to promise a clear gain.
        const double together = workers > 1 ? 1.25 : 1;
        seconds += jobs * (load / std::min(workers, chunks) + sum * together * ceil_div(tasks, workers) / tasks +
                           (workers > 1 ? 2 * barrier_seconds : 0));
    } else {
        const double split =
            config.source == DenseSource::image ? static_cast<double>(std::clamp<std::int64_t>(config.split, 1, g.blocks)) : 1;
        seconds += ceil_div(jobs * split, workers) * (load + sum / split + 5e-8);
    }
    if (workers > 1) seconds += machine.parallel_overhead;
    if (d.weights == Weights::fresh) {
        const double bytes = static_cast<double>(g.group_weights * d.g) * s.item;
        seconds += bytes / ((config.lanes_are_pixels ? 11e9 : 18e9) * std::min(workers, blocks * static_cast<double>(d.g)));
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

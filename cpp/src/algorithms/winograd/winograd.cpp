#include "algorithms/winograd/winograd.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "algorithms/algorithm.hpp"
#include "algorithms/winograd/few.hpp"
#include "algorithms/winograd/parts.hpp"
#include "gemm/points.hpp"

namespace npconv {

bool WinogradParams::in_registers(const Isa& isa) const { return taps != 0 && tiles <= winograd_taps_kernels(isa).tiles; }

WinogradGrid::WinogradGrid(const ConvDesc& d, const WinogradParams& p)
    : m(p.m),
      stride(static_cast<int>(d.h().stride)),
      values(stride == 2 ? 2 * p.m + 1 : p.m + 2),
      points(stride == 2 ? p.m + 1 : p.m + 2) {
    const auto up = [](std::int64_t n, std::int64_t k) { return (n + k - 1) / k; };
    tile_rows = std::max<std::int64_t>(1, up(d.h().out, m));
    tile_cols = std::max<std::int64_t>(1, up(d.w().out, m));
    if (tile_cols >= p.tiles) {  // parts of one tile row, of equal length
        block_rows = 1;
        block_cols = up(tile_cols, up(tile_cols, p.tiles));
    } else {  // whole tile rows
        block_cols = tile_cols;
        block_rows = std::clamp<std::int64_t>(p.tiles / tile_cols, 1, tile_rows);
        block_rows = up(tile_rows, up(tile_rows, block_rows));
    }
    row_blocks = up(tile_rows, block_rows);
    col_blocks = up(tile_cols, block_cols);
    block_images = row_blocks * col_blocks == 1 ? std::max<std::int64_t>(1, p.tiles / (tile_rows * tile_cols)) : 1;
    images_per_batch_entry = d.d().out;
}

std::int64_t WinogradGrid::images_of_block(std::int64_t mb) const {
    return std::max<std::int64_t>(1, std::min(block_images, images(mb)));
}

std::int64_t WinogradGrid::blocks(std::int64_t mb) const {
    const std::int64_t most = images_of_block(mb);
    return (images(mb) + most - 1) / most * row_blocks * col_blocks;
}

WinogradGrid::Value WinogradGrid::value(int i, int j) const {
    const int row = i % points, col = j % points;
    // Units are counted without those that a point at infinity hasn't.
    return {row * points + col, (i / points) * (stride == 2 && col < m ? 2 : 1) + j / points};
}

std::vector<std::int64_t> WinogradGrid::units() const {
    std::vector<std::int64_t> found(static_cast<std::size_t>(points * points));
    for (int i = 0; i < values; ++i)
        for (int j = 0; j < values; ++j) ++found[static_cast<std::size_t>(value(i, j).point)];
    return found;
}

std::int64_t winograd_inner(const ConvDesc& d, std::int64_t lanes) {
    return d.d().kernel == 1 && d.h().stride == 1 ? d.icg() : d.d().kernel * ((d.icg() + lanes - 1) / lanes * lanes);
}

namespace {

bool few_possible(const ConvDesc& d) {
    const Axis& depth = d.d();
    const bool flat = depth.in == 1 && depth.out == 1 && depth.kernel == 1 && depth.pad_begin == 0;
    return flat && d.h().stride == 1 && d.src == DType::f32 && d.icg() <= winograd_few_channels && d.accuracy != Accuracy::strict;
}

std::string refuse(const ConvDesc& d, const Isa&) {
    if (d.direction != Direction::fwd) return "computes forward convolutions only";
    if (d.h().kernel != 3 || d.w().kernel != 3)
        return "needs a 3x3 kernel, got " + std::to_string(d.h().kernel) + "x" + std::to_string(d.w().kernel);
    if (d.h().stride != d.w().stride || d.h().stride > 2)
        return "needs stride 1 or 2 along height and width, got " + std::to_string(d.h().stride) + " and " + std::to_string(d.w().stride);
    if (d.h().dilation != 1 || d.w().dilation != 1) return "needs dilation 1 along height and width";
    if (d.empty()) return "there is nothing to compute";
    return "";
}

// Without U beforehand. Where there are fewer blocks than workers these share a block, or transform its whole input each.
void add_taps(const ConvDesc& d, int threads, int m, int tiles, std::vector<Params>& found) {
    WinogradParams p(Params{{m, tiles, 0, 0, 1, 0}});
    const bool few_blocks = threads > 1 && winograd_shares(d, WinogradGrid(d, p), 0, d.mb, threads);
    for (p.split = few_blocks ? 1 : 0; p.split < (few_blocks ? 3 : threads > 1 ? 2 : 1); ++p.split) found.push_back(p);
}

// Blocks that a row of points in registers has room for.
bool taps_possible(const ConvDesc& d, int tiles) {
    if (tiles == 0 || d.h().stride != 1 || d.accuracy == Accuracy::strict) return false;
    const WinogradGrid grid(d, WinogradParams(Params{{4, tiles, 0, 0, 1, 0}}));
    return grid.row_blocks * grid.col_blocks == 1;
}

std::vector<Params> candidates(const ConvDesc& d, const Isa& isa, int threads, Rigor rigor) {
    std::vector<int> tiles = {14, 28, 56};
    if (rigor == Rigor::exhaustive) tiles.insert(tiles.end(), {7, 42, 84, 112});
    std::vector<Params> found;
    for (int m : {2, 4}) {
        if (m == 4 && d.accuracy == Accuracy::strict) continue;  // errors: see winograd.hpp
        std::vector<std::pair<std::int64_t, std::int64_t>> cuts;  // tiles of a block, blocks
        for (int t : tiles) {
            const WinogradGrid grid(d, WinogradParams(Params{{m, t, 0}}));
            const std::pair cut(grid.block_tiles(d.mb), grid.blocks(d.mb));
            if (std::find(cuts.begin(), cuts.end(), cut) != cuts.end()) continue;  // alike
            cuts.push_back(cut);
            const bool only_shared = threads > 1 && winograd_shares(d, grid, 0, d.mb, threads);
            for (int split = only_shared ? 1 : 0; split < (threads > 1 ? 2 : 1); ++split)
                found.push_back(WinogradParams(Params{{m, t, split}}));
            if (only_shared && d.h().stride == 2) found.push_back(WinogradParams(Params{{m, t, 2}}));  // stride 1: see handover_rate
            // Weights of one call that meet all tiles at once (stride 1 and class `standard`: m = 2 was never faster).
            const bool made = d.weights == Weights::fresh && (m == 4 || d.h().stride == 2 || d.accuracy == Accuracy::strict);
            if (made && cut.second == 1) add_taps(d, threads, m, t, found);
        }
    }
    const int in_registers = winograd_taps_kernels(isa).tiles;
    if (taps_possible(d, in_registers)) add_taps(d, threads, 4, in_registers, found);
    if (few_possible(d)) found.push_back(WinogradParams(Params{{4, isa.vector_bytes / 4, 0, 1, 0, 0}}));
    return found;
}

// Measured on a Zen 4 core (512 and 256 bits alike; 128-bit vectors reach half of it): bytes of V written and of M read
// per second, strip loads and stores of the image included, while V and M stay in L2. The last two, stride 2, on Zen 3:
// every value has a pixel of its own in the strip, which weighs more than the transform.
struct TransformRate {
    double input, output;
};
constexpr TransformRate rates[] = {{37e9, 55e9}, {27e9, 34e9}, {15e9, 55e9}, {12e9, 34e9}};

// Seconds of one block's three phases on one core, and until another has what the first wrote.
struct BlockCost {
    double input, product, output, handover;
};

// The filter as it streams past one core, per block: from L2 if it stays there beside V and M, from L3, or from memory.
double filter_rate(double filter, double domain, const Machine& machine) {
    if (filter + domain <= machine.l2_bytes) return machine.l2_bandwidth;
    return filter <= machine.l3_bytes ? machine.l3_bandwidth : machine.dram_bandwidth;
}

// Filters come from memory or a cache beside the arithmetic. Wide tiles feel a quarter of what is hidden (Zen 5: 512x14 -> 512 k3
// stride 2, 25 MB of filter, 1.1 times the time that a tenth gives); narrow ones, which have filled all slots, most of it while another
// core fetches too.
double beside(double multiply, double stream, bool narrow, bool shared_bus) {
    const double felt = !narrow ? 0.25 : shared_bus ? 0.7 : 0.1;
    return std::max(multiply, stream) + felt * std::min(multiply, stream);
}

// What one core reads of what another wrote: cores near each other hide it, far apart it is up to half of a call (128x28 k3 150 and 225 us, in
// blocks of one worker each 160; functional 256x28 k3 stride 2 407 and 650, with an input transform for each worker 410 and 498). It counts
// in full where such a plan is as good for near cores (128x28 k3 stride 2 0.97), elsewhere (256x14 k3 0.95, 128x28 k3 0.5) in part.
constexpr double handover_rate = 12e9;

// Weights of one call, by the worker that multiplies with them: bytes of packed taps (Zen 5, Zen 4), of U made from the caller's, which lie in
// L3 (Zen 5; others, where a store takes twice as long, by their packing in gemm/cost.cpp; AVX2 as Zen 5 with 256 bits).
double late_taps_rate(const Machine& machine) { return machine.quick ? 45e9 : 38e9; }
double made_rate(const Isa& isa, const Machine& machine) { return isa.registers == 16 ? 45e9 : machine.quick ? 90e9 : 48e9; }

// With taps: of a channel and a vector of output channels products and, for each row of points, four multiplications along the row, for
// four of them six more down the columns. 77 % of the FMA peak's rate (Zen 5; addresses, sums that wait in M).
double taps_product(const ConvDesc& d, const WinogradGrid& grid, const PointsLayout& layout, double tiles, const Machine& machine) {
    const auto along = [&](std::int64_t axis_tiles, std::int64_t out) {  // points of an axis, over all tiles of it
        return static_cast<double>(6 * axis_tiles - (grid.spared(axis_tiles, out) > 0)) / static_cast<double>(axis_tiles);
    };
    const double products = tiles * along(grid.tile_rows, d.h().out) * along(grid.tile_cols, d.w().out) + 6 * 4 + 4 * 6;
    return products * 2 * static_cast<double>(layout.ic * layout.oc_vectors * layout.lanes) / (0.77 * machine.fma(d.src));
}

BlockCost block_cost(const ConvDesc& d, const Isa& isa, const WinogradGrid& grid, const PointsLayout& layout, int threads,
                     const WinogradParams& p, double filter, const Machine& machine) {
    const double size = static_cast<double>(item_size(d.src)), lanes = static_cast<double>(layout.lanes);
    const double blocks = static_cast<double>(grid.blocks(d.mb));
    const double tiles = static_cast<double>(grid.images(d.mb) * grid.tile_rows * grid.tile_cols) / blocks;  // on average
    const double groups = std::ceil(tiles / points_kernels(isa).micro_tiles), values = grid.values * grid.values;
    const double inner = static_cast<double>(layout.ic), oc = static_cast<double>(layout.oc_vectors) * lanes;
    const double v = values * tiles * static_cast<double>(layout.ic_vectors()) * lanes * size;
    const double m = static_cast<double>(layout.points()) * tiles * oc * size;
    const TransformRate rate = rates[grid.transform()];
    const double speed = (isa.vector_bytes >= 32 ? 1.0 : 0.5) * (v + m <= machine.l2_bytes ? 1.0 : machine.quick ? 0.8 : 0.7);
    const bool narrow = isa.registers == 16;
    const double stream = 0.8 * filter / filter_rate(filter, v + m, machine);
    if (p.in_registers(isa)) {
        const double multiply = taps_product(d, grid, layout, tiles, machine);
        const double product = d.weights == Weights::fresh ? multiply + filter / late_taps_rate(machine) : beside(multiply, stream, narrow, threads > 1);
        return {v / (rate.input * speed), product, m / (rate.output * speed), v / handover_rate};
    }
    // Two vectors of output channels times few tiles don't fill the FMA pipelines; 16 registers leave no slack at all, and
    // four tiles of six then wait for instructions.
    const double efficiency = narrow ? 0.93 * std::min(1.0, (tiles / groups + 0.5) / 5.5) : std::min(1.0, (tiles / groups + 1) * 2 / 10);
    // A short tile spares values: one at infinity, of finite points one for each phase.
    const auto needed = [&](std::int64_t axis_tiles, std::int64_t out) {
        const int spared = grid.spared(axis_tiles, out);
        return 1 - (spared > 1 ? 1 + grid.stride : spared) / static_cast<double>(axis_tiles * grid.values);
    };
    const double products = values * tiles * needed(grid.tile_rows, d.h().out) * needed(grid.tile_cols, d.w().out);
    const double multiply = 2 * products * inner * oc / (machine.fma(d.src) * efficiency);
    double entered = 0;
    for (const std::int64_t units : layout.units) entered += std::ceil(static_cast<double>(units) * inner / 256);
    // Narrow tiles hide nothing of that behind sums of a few terms (3 channels: 1.4 times the time of the whole layer).
    entered *= static_cast<double>(layout.panels) * groups * (12e-9 + (narrow ? 17e-9 * std::max(0.0, 1 - inner / 48) : 0));
    // Each panel meets all of V, from L3 where that is larger than L2; U, made in L2, doesn't stream.
    const double again = v > 0.5 * machine.l2_bytes ? 0.25 * v * static_cast<double>(layout.panels) / machine.l3_bandwidth : 0;
    const double product = p.taps ? multiply + filter / made_rate(isa, machine) + again
                                  : beside(multiply, stream, narrow, threads > 1 && filter > machine.l2_bytes);
    return {v / (rate.input * speed), product + entered, m / (rate.output * speed), (p.taps || grid.stride == 2 ? v : 0.3 * (v + m)) / handover_rate};
}

// Packing: small filters are transformed inside the caches, large ones at the rate of memory (reading, writing and the
// fetch before writing). The rates of 32 registers are Zen 4's, those of 16 Zen 3's.
double pack_cost(double filter, double workers, const Isa& isa, const Machine& machine) {
    const bool wide = isa.registers == 32, near = 2 * filter <= machine.l3_bytes;
    return filter / ((near ? (wide ? 40e9 : 20e9) : wide ? 12e9 : 8e9) * workers);
}

// A unit meets an output channel in 250 cycles for three channels, mostly loads and multiplications; its input transform
// takes as long as eight of these. With 16 registers, where two products are over in a cycle, 180 cycles (Zen 3, in L2); where
// lanes are output channels 205.
double few_seconds(const ConvDesc& d, const Isa& isa, int threads, const Machine& machine) {
    const double lanes = isa.vector_bytes / 4.0, product = 2 * lanes / machine.fma_f32, ic = static_cast<double>(d.icg());
    const double units = std::ceil(static_cast<double>(d.w().out) / lanes) * std::ceil(static_cast<double>(d.h().out) / 4) / 4;
    const bool wide = isa.registers == 32, pixels = d.dst_order == Order::nhwc;
    const double channel = wide ? 60 + 64 * ic : pixels ? 140 + 90 * ic : 170 + 64 * ic;
    const double unit = channel * static_cast<double>(d.ocg()) + (wide ? 700 * ic + 200 : 840 * ic + (pixels ? 600 : 200));
    double seconds = machine.call_overhead + static_cast<double>(d.mb * d.g) * units * unit * product / threads;
    if (threads > 1) seconds += machine.parallel_overhead;
    if (d.weights == Weights::fresh) seconds += static_cast<double>(d.oc) * ic * 60e-9;
    return seconds;
}

double estimate(const ConvDesc& d, const Isa& isa, const Params& params, int threads, const Machine& machine) {
    const WinogradParams p(params);
    const double image = static_cast<double>(d.mb * (d.ic * d.in_pixels() + d.oc * d.out_pixels())) * static_cast<double>(item_size(d.src));
    // Images that don't stay in L3 from call to call are waited for by strips and stores.
    const double far = image > 0.25 * machine.l3_bytes ? image * 25e-12 / threads : 0;
    if (p.few) return few_seconds(d, isa, threads, machine) + (isa.registers == 32 ? 0.5 : 1) * far;
    const WinogradGrid grid(d, p);
    const std::int64_t lanes = isa.vector_bytes / static_cast<std::int64_t>(item_size(d.src));
    const PointsLayout layout(isa, d.src, grid.units(), winograd_inner(d, lanes), d.ocg());
    const double weights = p.in_registers(isa) ? static_cast<double>(layout.oc_vectors * lanes * d.icg() * d.taps())
                                  : static_cast<double>(layout.u_begin(layout.points()));
    const double group_filter = weights * static_cast<double>(item_size(d.src)), filter = static_cast<double>(d.g) * group_filter;
    const BlockCost c = block_cost(d, isa, grid, layout, threads, p, group_filter, machine);
    const double blocks = static_cast<double>(d.g) * static_cast<double>(grid.blocks(d.mb));
    const double output_tasks = static_cast<double>(p.in_registers(isa) ? layout.oc_vectors : layout.panels);
    double seconds = machine.call_overhead + 1e-6 + far;
    if (p.split == 2) {
        const double parts = std::min<double>(threads, output_tasks);
        seconds += std::ceil(blocks * parts / threads) * (c.input + (c.product + c.output) / parts) + machine.parallel_overhead;
    } else if (!winograd_shares(d, grid, p.split, d.mb, threads)) {
        // The slowest worker has only whole blocks of full size, or a full one more than its share of all tiles.
        const double tiles = static_cast<double>(grid.images(d.mb) * grid.tile_rows * grid.tile_cols * d.g);
        const double full = static_cast<double>(grid.block_tiles(d.mb)) * blocks / tiles;
        const double slowest = std::min(std::ceil(blocks / threads) * full, blocks / threads + full * (1 - 1.0 / threads));
        seconds += slowest * (c.input + c.product + c.output);
        if (threads > 1) seconds += machine.parallel_overhead;
    } else {
        const auto share = [&](double tasks) { return std::ceil(tasks / threads) / tasks; };
        const double images = static_cast<double>(grid.images_of_block(d.mb));
        const double input = share(static_cast<double>(layout.ic_vectors()) * images) * c.input;
        const double output = share(static_cast<double>(layout.oc_vectors) * images) * c.output;
        const double barriers = 8e-6;  // with what the workers wait for each other and fetch from each other
        const double products =
            p.taps ? output_tasks : static_cast<double>(layout.points() * winograd_pieces(layout.points(), layout.panels, threads));
        const double waits = threads > 1 ? barriers + c.handover * (1 - 1.0 / threads) : 0;
        seconds += blocks * (input + share(products) * c.product + output + waits);
        seconds += machine.parallel_overhead;
    }
    if (d.weights == Weights::fresh && p.taps) return seconds;
    if (d.weights == Weights::fresh)
        return seconds + pack_cost(filter, std::min<double>(threads, static_cast<double>(layout.oc_vectors * d.g)), isa, machine);
    // In a network other layers' data have pushed large filters out of the caches by the next call.
    if (filter > machine.l2_bytes) seconds += 0.15 * filter / std::min(machine.dram_bandwidth * threads, machine.dram_total);
    return seconds;
}

const char* const param_names[] = {"m", "tiles", "split", "few", "taps", nullptr};

}  // namespace

extern const Algorithm winograd_algorithm;
const Algorithm winograd_algorithm = {"winograd", 8, param_names, refuse, estimate, candidates, make_winograd_plan};

}  // namespace npconv

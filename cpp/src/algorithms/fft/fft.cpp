// fft: tiled overlap-save. An image is cut into tiles that overlap by the kernel's extent less one; every tile is
// transformed, multiplied by the filter's spectrum, transformed back, and the outputs that did not wrap around are kept.
// The work per output grows with the logarithm of the tile instead of the kernel's area.
//
// Lanes of vectors are tiles: neighbouring tiles of one channel where a map has many, else neighbouring channels
// at the same tile (depthwise layers with small maps). Widths and heights of tiles are chosen separately from 24 sizes
// with factors 2, 3 and 5, so that 14 + 6 pixels take 20 points instead of 32. One-dimensional problems, and kernels of
// one row, transform rows only, up to 8192 points. With zero padding a single tile may let both paddings share the
// wrapped-around part: a map of 56 with a kernel of 31 needs 71 points instead of 86.
//
// Several input channels of a group are summed as spectra, as long as a worker can hold them all.
//
// Measured on one Zen 4 core (AVX-512, f32, CPU time): 2048 x 2048 with k = 15: 8.3 ms, 31: 10.4, 63: 13.4, 255: 33 (half
// of the first is waiting for memory: the same work in a cache takes 5.6 ms). Depthwise 128 x 56 x 56 with k = 31: 0.61 ms,
// 512 x 14 x 14 with k = 13: 0.145; two threads 0.38 and 0.087. 160,000 samples with 401 taps: 0.18 ms. AVX2 is 1.15 to 1.25
// times slower, 128-bit vectors 3 times. Errors: at most 3.5e-7 of S (accuracy.hpp) with one value of 1e6, or an offset
// of 1e4 and filters that sum to zero. They are relative to a tile's largest element times the filter's: S must see it.
// In the valid part of a convolution a huge corner element that only tiny taps ever meet is what it does not see.
#include <algorithm>
#include <cmath>
#include <vector>

#include "algorithms/algorithm.hpp"
#include "algorithms/fft/layout.hpp"
#include "algorithms/fft/plan.hpp"

namespace npconv {
namespace fft {
namespace {

constexpr std::int64_t longest_2d = 384, longest_1d = 6144;  // kernels: the largest tiles still give some outputs
constexpr double most_spectrum_bytes = 64e6;                 // of one worker

bool rows_only(const ConvDesc& d) { return d.h().kernel == 1; }
int vector_lanes(const ConvDesc& d, const Isa& isa) { return isa.vector_bytes / static_cast<int>(item_size(d.src)); }

std::string refuse(const ConvDesc& d, const Isa&) {
    if (d.direction != Direction::fwd) return "computes the forward direction only";
    if (d.empty()) return "there is nothing to transform";
    if (d.d().in != 1 || d.d().out != 1 || d.d().kernel != 1) return "transforms one and two spatial axes, not three";
    if (!d.unit_stride()) return "computes every output position; a stride would drop most of them";
    if (!d.unit_dilation()) return "has no transforms of dilated kernels";
    if (d.icg() > most_inputs)
        return "sums the spectra of at most " + std::to_string(most_inputs) + " input channels per group, not of " +
               std::to_string(d.icg());
    if (std::max(d.h().kernel, d.w().kernel) > (rows_only(d) ? longest_1d : longest_2d))
        return "the kernel is longer than the longest tile";
    for (const Axis& a : d.axis)
        if (a.in > (1 << 30) || a.out > (1 << 30)) return "an axis is longer than 2^30";
    return "";
}

// Tiles that lie inside the image, one axis alone.
std::int64_t interior_tiles(const Axis& a, const Tiling& t) {
    const std::int64_t head = a.pad_begin > 0 ? (a.pad_begin + t.step - 1) / t.step : 0;
    const std::int64_t end = std::min(a.in, a.out + a.kernel - 1 - a.pad_begin) - t.size + a.pad_begin;
    const std::int64_t tail = end < 0 ? 0 : std::min(t.tiles, end / t.step + 1);
    return std::max<std::int64_t>(0, tail - head);
}

// What one group of lanes costs, in cycles of a core with vectors of this ISA. The coefficients are fitted to single
// transforms, depthwise and single-channel layers of all sizes on a Zen 4 core; they hold within 15 % there.
struct Work {
    double pack = 0, task = 0;
    std::int64_t tasks = 0, packs = 0;
    double spectrum_bytes = 0, filter_bytes = 0;  // of a task; lanes = channels: its filters, others from group to group of lanes

    Work(const ConvDesc& d, const Isa& isa, const Params& p, double row_transform, double column_transform) {
        const Tiling v = tiling(d.h(), p.v[tile_h]), h = tiling(d.w(), p.v[tile_w]);
        const int lanes = vector_lanes(d, isa);
        const double width = p.v[tile_w], height = p.v[tile_h], bins = width / 2 + 1;
        const double icg = static_cast<double>(d.icg()), ocg = static_cast<double>(d.ocg());
        const bool fused = d.icg() == 1 && d.ocg() == 1;
        const double row = 55 + row_transform + 4 * width;  // and taking the half-size transform apart
        const double column = (p.v[tile_h] > 1 ? 45 : 0) + column_transform;
        // One pixel after the other, each in a line of its own (Zen 3, AVX2: 3x224 -> 32 k5 takes twice as long as in planes).
        const bool scattered = !p.v[lanes_are_channels] && d.dst_order == Order::nhwc && d.oc > 1;
        const double store = (7 + (scattered ? 6.5 * lanes : 0)) * static_cast<double>(h.step), product = fused ? 4 : 3 + 5.5 * icg;
        const double live = v.tiles > 1 ? height : std::min(height, static_cast<double>(d.h().in));  // other rows are zero
        double load = 6 * width;
        if (!p.v[lanes_are_channels]) {  // tiles that can't be read in place are copied, one lane after the other
            const double inside = d.src_order == Order::nchw || (d.src_order == Order::nhwc && d.ic == 1)
                                      ? static_cast<double>(interior_tiles(d.h(), v) * interior_tiles(d.w(), h)) /
                                            static_cast<double>(v.tiles * h.tiles)
                                      : 0;
            const double element = d.src_order == Order::nchw || d.ic == 1 ? 0.3 : 1.5;
            load += (1 - inside) * lanes * (12 + element * width);
        }
        task = 500 + icg * live * (row + load) + icg * bins * column +
               ocg * (200 + bins * (column + product * height) + static_cast<double>(v.step) * (row + store));
        pack = static_cast<double>(d.h().kernel) * (row + 7 * width) + bins * (column + 20 * height);
        packs = (d.oc * d.icg() + lanes - 1) / lanes;
        const std::int64_t tiles = d.mb * v.tiles * h.tiles;
        tasks = p.v[lanes_are_channels] ? (d.g + lanes - 1) / lanes * tiles : d.g * ((tiles + lanes - 1) / lanes);
        spectrum_bytes = (fused ? 1 : icg + 1) * bins * height * 2 * isa.vector_bytes;
        if (p.v[lanes_are_channels]) filter_bytes = icg * ocg * bins * height * 2 * isa.vector_bytes;
    }
};

double row_cost(int width, const Isa& isa) { return transform_cost(width / 2, false, isa); }
double column_cost(int height, const Isa& isa) { return height > 1 ? transform_cost(height, true, isa) : 0; }

double estimate(const ConvDesc& d, const Isa& isa, const Params& p, int threads, const Machine& m) {
    const Work w(d, isa, p, row_cost(p.v[tile_w], isa), column_cost(p.v[tile_h], isa));
    const double cycle = 2 * vector_lanes(d, isa) / m.moves(d.src);
    const auto rounds = [&](std::int64_t n) { return static_cast<double>((n + threads - 1) / threads); };
    double cycles = rounds(w.tasks) * w.task;
    if (d.weights == Weights::fresh) cycles += rounds(w.packs) * w.pack;
    // Spectra that leave L2 are written and read about three times.
    double moved = 0;
    if (w.spectrum_bytes > 0.75 * m.l2_bytes)
        moved = 6 * w.spectrum_bytes * rounds(w.tasks) / (m.bandwidth(w.spectrum_bytes * threads, threads) / threads);
    // Filters that don't stay in L2 from call to call, in bursts (Zen 4: depthwise layers with k7 and k13 take 1.2 to 1.5 times the estimate without).
    const double filters = std::ceil(static_cast<double>(d.g) / vector_lanes(d, isa)) * w.filter_bytes;
    if (filters > 0.5 * m.l2_bytes) moved += 1.6 * filters / std::min(m.l3_bandwidth, m.bandwidth(filters, 1)) / threads;
    const double item = static_cast<double>(item_size(d.src)), mb = static_cast<double>(d.mb);
    const double image = mb * item *
                         (static_cast<double>(d.ic) * static_cast<double>(d.in_pixels()) +
                          2 * static_cast<double>(d.oc) * static_cast<double>(d.out_pixels()));
    // An image in a cache is mostly read and written behind the arithmetic; one in DRAM, or many output planes, is not.
    const double traffic = image / m.bandwidth(image, threads) * (image > m.l3_bytes ? 1.3 : d.ocg() > 1 ? 0.8 : 0.5);
    const double stored = isa.registers < 32 ? 1.7 : 1;  // transforms larger than the register file wait in memory
    return m.call_overhead + (threads > 1 ? m.parallel_overhead : 0) + 0.85 * stored * cycles * cycle + moved + traffic;
}

// Ranked by work alone, so that the list does not depend on the machine.
std::vector<Params> candidates(const ConvDesc& d, const Isa& isa, int threads, Rigor rigor) {
    struct Ranked {
        Params params;
        double work;
    };
    std::vector<Ranked> ranked;
    const bool one = rows_only(d);
    const std::vector<int>& widths = sizes(one);
    const std::vector<int> heights = one ? std::vector<int>{1} : sizes(false);
    std::vector<double> row_costs, column_costs;
    for (const int t : widths) row_costs.push_back(row_cost(t, isa));
    for (const int t : heights) column_costs.push_back(column_cost(t, isa));
    for (std::size_t i = 0; i < heights.size(); ++i)
        for (std::size_t j = 0; j < widths.size(); ++j)
            for (int channels = 0; channels <= (d.g > 1 && d.icg() == 1 && d.ocg() == 1 ? 1 : 0); ++channels) {
                Params p;
                p.v[tile_h] = heights[i];
                p.v[tile_w] = widths[j];
                p.v[lanes_are_channels] = channels;
                if (tiling(d.h(), heights[i]).step < 1 || tiling(d.w(), widths[j]).step < 1) continue;
                const Work w(d, isa, p, row_costs[j], column_costs[i]);
                if (w.spectrum_bytes > most_spectrum_bytes) continue;
                const double rounds = static_cast<double>((w.tasks + threads - 1) / threads);
                const double far = w.spectrum_bytes > (768 << 10) ? 1.5 : 1;
                ranked.push_back({p, rounds * w.task * far});
            }
    std::stable_sort(ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) { return a.work < b.work; });
    const std::size_t most = rigor == Rigor::estimate ? 4 : rigor == Rigor::measure ? 12 : 60;
    std::vector<Params> list;
    for (std::size_t i = 0; i < ranked.size() && i < most; ++i) list.push_back(ranked[i].params);
    return list;
}

constexpr const char* param_names[] = {"tile_h", "tile_w", "channels", nullptr};

}  // namespace
}  // namespace fft

extern const Algorithm fft_algorithm;
const Algorithm fft_algorithm = {"fft", 1, fft::param_names, fft::refuse, fft::estimate, fft::candidates, fft::make_plan};

}  // namespace npconv

// im2col + GEMM without the column matrix: panels [tile][term][pixel] of a band of outputs are packed straight from the image,
// and a 1x1 layer with unit strides is read in place.
#include <algorithm>

#include "algorithms/algorithm.hpp"
#include "gemm/cost.hpp"
#include "gemm/driver.hpp"

namespace npconv {
namespace {

// tile: 0 lanes are channels, 1 lanes are pixels. shared: see DenseConfig. band: output pixels of a band.
// split: parts of the channels of a band. copy: panels although the image could be read in place.
// late: see DenseConfig.
struct Im2colParams {
    int tile, shared, band, split, copy, late;
    explicit Im2colParams(const Params& p)
        : tile(p.v[0]), shared(p.v[1]), band(p.v[2]), split(p.v[3]), copy(p.v[4]), late(p.v[5]) {}
};

bool in_place(const ConvDesc& d, const Isa& isa, int tile) { return dense_flat(d) && dense_image_possible(d, isa, tile == 1); }

std::int64_t row_pixels(const ConvDesc& d, DenseSource source) { return dense_is_one_row(d, source) ? d.out_pixels() : d.w().out; }

DenseConfig config(const ConvDesc& d, const Isa& isa, const Params& params) {
    const Im2colParams p(params);
    DenseConfig c;
    c.source = in_place(d, isa, p.tile) && !p.copy ? DenseSource::image : DenseSource::panel;
    c.lanes_are_pixels = p.tile == 1;
    c.shared = p.shared == 1;
    c.split = p.split;
    c.late = p.late == 1;
    c.copy_columns = std::min<std::int64_t>(d.w().out, 64);
    const std::int64_t ow = row_pixels(d, c.source), band = std::max(p.band, 1);
    c.band_rows = std::max<std::int64_t>(1, band / ow);
    c.band_columns = std::min<std::int64_t>(band, ow);
    return c;
}

std::string refuse(const ConvDesc& d, const Isa&) { return dense_refusal(d); }

double estimate(const ConvDesc& d, const Isa& isa, const Params& p, int threads, const Machine& machine) {
    return dense_seconds(d, isa, config(d, isa, p), threads, machine);
}

// Bands whose panel takes about `bytes`, a whole number of tiles or of rows, never above 16 MB.
int band_of(const ConvDesc& d, std::int64_t bytes, std::int64_t tile, DenseSource source) {
    const std::int64_t column = std::max<std::int64_t>(1, d.icg() * d.taps()) * static_cast<std::int64_t>(item_size(d.src));
    const std::int64_t ow = row_pixels(d, source), rows = dense_is_one_row(d, source) ? 1 : d.h().out;
    const std::int64_t most = std::max<std::int64_t>(1, (16 << 20) / column), all = rows * ow;
    std::int64_t band =
        std::clamp<std::int64_t>(bytes / column / tile * tile, std::min(tile, most), std::min<std::int64_t>(most, 1 << 20));
    if (band >= all) return static_cast<int>(all);
    if (band >= ow) return static_cast<int>(band / ow * ow);
    const std::int64_t parts = (ow + band - 1) / band, even = (ow + parts - 1) / parts;  // parts of a row alike
    band = std::min(band, (even + tile - 1) / tile * tile);
    return static_cast<int>(std::max<std::int64_t>(band, 1));
}

// Bands that stay in L2, with lanes = pixels and one thread also the whole row, and, for several threads, as many bands or parts of the
// channels as they can share out evenly.
void add_in_place(const ConvDesc& d, const Isa& isa, int threads, Rigor rigor, std::vector<Params>& found) {
    const bool exhaustive = rigor == Rigor::exhaustive;
    for (int tile = 0; tile < 2; ++tile) {
        const DenseBlocks k = dense_blocks(d, isa, tile == 1);
        if (!in_place(d, isa, tile)) continue;
        const std::int64_t blocks = (d.ocg() + k.block - 1) / k.block, units = (d.out_pixels() + k.pixels - 1) / k.pixels;
        const auto add = [&](std::int64_t band, std::int64_t split) {
            if (split > blocks) return;
            found.push_back(Params{{tile, 0, static_cast<int>(band), static_cast<int>(split), 0, 0}});
            if (k.reads_rows && d.weights == Weights::fresh)
                found.push_back(Params{{tile, 0, static_cast<int>(band), static_cast<int>(split), 0, 1}});
        };
        // Lanes = pixels meet all weights tile by tile.
        const std::vector<std::int64_t> usual = tile == 1 ? std::vector<std::int64_t>{128, 512, 1024} : std::vector<std::int64_t>{128, 512};
        for (std::int64_t kilobytes : exhaustive ? std::vector<std::int64_t>{64, 128, 256, 512, 1024} : usual) {
            const int band = band_of(d, kilobytes << 10, k.pixels, DenseSource::image);
            add(band, 1);
            if (threads == 1) continue;
            add(band, threads);
            add(band, 2 * threads);
            add(band, blocks);
        }
        if (threads == 1 && tile == 1) add(std::min<std::int64_t>(d.out_pixels(), 1 << 20), 1);
        if (threads == 1) continue;
        for (std::int64_t bands : {threads, 2 * threads, 4 * threads, 8 * threads}) {
            const std::int64_t band = std::min<std::int64_t>((units + bands - 1) / bands * k.pixels, 1 << 20);
            add(band, 1);
            if (exhaustive || bands == threads) add(band, 2);
            if (bands == threads) add(band, blocks);
        }
    }
}

// Packing where the weights are used pays if all of X is one band: each block is packed once.
void add_late(const ConvDesc& d, const Isa& isa, std::vector<Params>& found) {
    const int all = static_cast<int>(std::min<std::int64_t>(d.out_pixels(), 1 << 20));
    for (int tile = 0; tile < 2; ++tile) {
        const int image = in_place(d, isa, tile);
        if (image) found.push_back(Params{{tile, 0, all, 1, 0, 1}});
        if (d.mb == 1 && d.d().out == 1 && all * d.icg() * d.taps() * static_cast<std::int64_t>(item_size(d.src)) <= 4 << 20)
            found.push_back(Params{{tile, 1, all, 1, image, 1}});
    }
}

std::vector<Params> candidates(const ConvDesc& d, const Isa& isa, int threads, Rigor rigor) {
    std::vector<Params> found;
    add_in_place(d, isa, threads, rigor, found);
    for (int tile = 0; tile < 2; ++tile) {
        const DenseBlocks k = dense_blocks(d, isa, tile == 1);
        for (int shared = 0; shared < (threads > 1 ? 2 : 1); ++shared)
            for (std::int64_t kilobytes : rigor == Rigor::exhaustive ? std::vector<std::int64_t>{96, 192, 384, 640, 768, 1536}
                                                                     : std::vector<std::int64_t>{192, 640}) {
                const int band = band_of(d, kilobytes << 10, k.pixels, DenseSource::panel), copy = in_place(d, isa, tile);
                found.push_back(Params{{tile, shared, band, 1, copy, 0}});
                // Rows, or tiles of one long row, that leave the busiest worker the fewest.
                const bool one_row = dense_is_one_row(d, DenseSource::panel);
                const std::int64_t unit = one_row ? k.pixels : d.w().out;
                if (!shared && threads > 1 && band > unit) {
                    const std::int64_t all = one_row ? (d.out_pixels() + unit - 1) / unit : d.h().out;
                    const std::int64_t units = band / unit, even = even_rows(all, units, threads);
                    if (even < units) found.push_back(Params{{tile, 0, static_cast<int>(even * unit), 1, copy, 0}});
                }
                // Where bands are few each worker makes the same panel, and then needs nothing from the others.
                const std::int64_t bands = d.mb * d.g * ((d.out_pixels() + band - 1) / band);
                if (!shared && threads > 1 && bands < 4 * threads && d.ocg() > (threads - 1) * k.block)
                    found.push_back(Params{{tile, 0, band, threads, copy, 0}});
            }
    }
    if (d.weights == Weights::fresh) add_late(d, isa, found);
    return most_promising(found, estimate, d, isa, threads, rigor);
}

std::unique_ptr<Plan> make_plan(const ConvDesc& d, const Isa& isa, const Params& p);

const char* const param_names[] = {"tile", "shared", "band", "split", "copy", "late", nullptr};

}  // namespace

extern const Algorithm im2col_algorithm;
const Algorithm im2col_algorithm = {"im2col", 17, param_names, refuse, estimate, candidates, make_plan};

namespace {
std::unique_ptr<Plan> make_plan(const ConvDesc& d, const Isa& isa, const Params& p) {
    return make_dense_plan(d, im2col_algorithm, isa, p, config(d, isa, p));
}
}  // namespace

}  // namespace npconv

// Direct convolution over padded polyphase strips: a band of input rows is copied once, with the columns of each phase of
// the horizontal stride side by side, so that every tap of every output row is a run of neighbours.
#include <algorithm>

#include "algorithms/algorithm.hpp"
#include "algorithms/direct/planes.hpp"
#include "gemm/cost.hpp"
#include "gemm/driver.hpp"

namespace npconv {
namespace {

// tile: 0 lanes are channels, 1 lanes are pixels. shared: see DenseConfig. rows, columns: outputs of a band.
// split: 0 reads padded strips, n the image itself, or the planes that it is turned to (planes.hpp), with the channels of a band
// cut in n parts. late: see DenseConfig.
struct DirectParams {
    int tile, shared, rows, columns, split, late;
    explicit DirectParams(const Params& p)
        : tile(p.v[0]), shared(p.v[1]), rows(p.v[2]), columns(p.v[3]), split(p.v[4]), late(p.v[5]) {}
};

// The problem that the kernels sum in place, and whether it is another than the caller's: one of planes, to which the image is turned.
ConvDesc in_place(const ConvDesc& d, const Isa& isa) { return direct_turns(d, isa) ? direct_on_planes(d) : d; }
bool turned(const ConvDesc& d, const Isa& isa, const Params& p) { return DirectParams(p).split != 0 && direct_turns(d, isa); }

constexpr std::int64_t copy_bytes = 128 << 10;  // of strips that replace the image

Params band_of(const ConvDesc& d, int tile, int shared, std::int64_t bytes);

DenseConfig config(const ConvDesc& d, const Isa& isa, const Params& params) {
    const DirectParams p(params);
    DenseConfig c;
    c.lanes_are_pixels = p.tile == 1;
    c.shared = p.shared == 1;
    c.late = p.late == 1;
    c.band_rows = std::max(p.rows, 1);
    c.band_columns = p.columns > 0 ? p.columns : d.w().out;
    if (p.split == 0 || !dense_image_possible(d, isa, c.lanes_are_pixels)) return c;
    c.source = DenseSource::image;
    c.split = p.split;
    const DirectParams copy(band_of(d, 0, 0, copy_bytes));
    c.copy_rows = copy.rows;
    c.copy_columns = copy.columns > 0 ? copy.columns : d.w().out;
    return c;
}

std::string refuse(const ConvDesc& d, const Isa&) { return dense_refusal(d); }

double estimate(const ConvDesc& d, const Isa& isa, const Params& p, int threads, const Machine& machine) {
    if (!turned(d, isa, p)) return dense_seconds(d, isa, config(d, isa, p), threads, machine);
    const ConvDesc planes = direct_on_planes(d);
    return dense_seconds(planes, isa, config(planes, isa, p), threads, machine) + turning_seconds(d, threads);
}

// Rows and columns of a band whose strip takes about `bytes`; wide rows are cut when not even one fits.
Params band_of(const ConvDesc& d, int tile, int shared, std::int64_t bytes) {
    const auto item = static_cast<std::int64_t>(item_size(d.src));
    const std::int64_t slice = std::max<std::int64_t>(1, d.icg() * d.d().kernel * item);  // one column of one row
    const std::int64_t reach = (d.w().kernel - 1) * d.w().dilation + 1;
    const auto rows_of = [&](std::int64_t n) {
        return std::min((n - 1) * d.h().stride + (d.h().kernel - 1) * d.h().dilation + 1, n * d.h().kernel);
    };
    const auto columns_of = [&](std::int64_t n) { return std::min((n - 1) * d.w().stride + reach, n * d.w().kernel); };
    std::int64_t rows = 1, columns = d.w().out;
    if (slice * rows_of(1) * columns_of(columns) > 2 * bytes) {
        const std::int64_t fit = bytes / (slice * rows_of(1));
        columns = std::max(fit / d.w().kernel, (fit - reach) / d.w().stride) / 48 * 48;
        columns = std::min(std::max<std::int64_t>(columns, 48), d.w().out);
    } else {
        std::int64_t above = d.h().out + 1;  // rows fit, `above` do not
        while (above - rows > 1) {
            const std::int64_t middle = (rows + above) / 2;
            (slice * rows_of(middle) * columns_of(columns) <= bytes ? rows : above) = middle;
        }
        const std::int64_t bands = (d.h().out + rows - 1) / rows;
        rows = (d.h().out + bands - 1) / bands;  // alike
    }
    return Params{{tile, shared, static_cast<int>(rows), columns < d.w().out ? static_cast<int>(columns) : 0, 0, 0}};
}

void add_in_place(const ConvDesc& d, const Isa& isa, int threads, const std::vector<std::int64_t>& sizes, std::vector<Params>& found) {
    const DenseBlocks k = dense_blocks(d, isa, false);
    const std::int64_t blocks = (d.ocg() + k.block - 1) / k.block;
    for (std::int64_t kilobytes : sizes)
        for (std::int64_t split : {1, 2 * threads})
            if (split == 1 || (threads > 1 && split <= 2 * blocks)) {
                Params p = band_of(d, 0, 0, kilobytes << 10);
                p.v[3] = 0;  // rows stay whole
                p.v[4] = static_cast<int>(std::min(split, blocks));
                found.push_back(p);
            }
    const int all = static_cast<int>(d.h().out);
    if (threads > 1 && blocks > 1) found.push_back(Params{{0, 0, all, 0, static_cast<int>(std::min<std::int64_t>(2 * threads, blocks)), 0}});
    if (d.weights == Weights::fresh) found.push_back(Params{{0, 0, all, 0, 1, 1}});
}

std::vector<Params> candidates(const ConvDesc& d, const Isa& isa, int threads, Rigor rigor) {
    std::vector<Params> found;
    const std::vector<std::int64_t> sizes = rigor == Rigor::exhaustive ? std::vector<std::int64_t>{48, 96, 192, 256, 384, 640, 768, 1536}
                                                                       : std::vector<std::int64_t>{96, 256, 640};
    for (int tile = 0; tile < 2; ++tile)
        for (int shared = 0; shared < (threads > 1 ? 2 : 1); ++shared)
            for (std::int64_t kilobytes : sizes) {
                Params p = band_of(d, tile, shared, kilobytes << 10);
                found.push_back(p);
                const std::int64_t even = even_rows(d.h().out, p.v[2], threads);
                if (shared || p.v[3] > 0 || even == p.v[2]) continue;
                p.v[2] = static_cast<int>(even);
                found.push_back(p);
            }
    const ConvDesc image = in_place(d, isa);
    if (dense_image_possible(image, isa, false) && !dense_flat(d)) add_in_place(image, isa, threads, sizes, found);
    if (d.weights == Weights::fresh && d.mb == 1 && d.d().out == 1)  // one band: each block of weights is packed once
        for (int tile = 0; tile < 2; ++tile)
            if (const Params p = band_of(d, tile, 1, 4 << 20); p.v[2] == d.h().out && p.v[3] == 0) {
                found.push_back(p);
                found.back().v[5] = 1;
            }
    return most_promising(found, estimate, d, isa, threads, rigor);
}

std::unique_ptr<Plan> make_plan(const ConvDesc& d, const Isa& isa, const Params& p);

const char* const param_names[] = {"tile", "shared", "rows", "columns", "split", "late", nullptr};

}  // namespace

extern const Algorithm direct_algorithm;
const Algorithm direct_algorithm = {"direct", 17, param_names, refuse, estimate, candidates, make_plan};

namespace {
std::unique_ptr<Plan> make_plan(const ConvDesc& d, const Isa& isa, const Params& p) {
    if (!turned(d, isa, p)) return make_dense_plan(d, direct_algorithm, isa, p, config(d, isa, p));
    const ConvDesc planes = direct_on_planes(d);
    return make_turned_plan(d, direct_algorithm, isa, p, make_dense_plan(planes, direct_algorithm, isa, p, config(planes, isa, p)));
}
}  // namespace

}  // namespace npconv

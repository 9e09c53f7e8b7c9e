// Direct convolution over padded polyphase strips: a band of input rows is copied once, with the columns of each phase of
// the horizontal stride side by side, so that every tap of every output row is a run of neighbours.
#include <algorithm>

#include "algorithms/algorithm.hpp"
#include "gemm/cost.hpp"
#include "gemm/driver.hpp"

namespace npconv {
namespace {

// tile: 0 lanes are channels, 1 lanes are pixels. shared: see DenseConfig. rows, columns: outputs of a band.
DenseConfig config(const ConvDesc& d, const Params& p) {
    DenseConfig c;
    c.source = DenseSource::strip;
    c.lanes_are_pixels = p.v[0] == 1;
    c.shared = p.v[1] == 1;
    c.band_rows = std::max(p.v[2], 1);
    c.band_columns = p.v[3] > 0 ? p.v[3] : d.w().out;
    return c;
}

std::string refuse(const ConvDesc& d, const Isa&) { return dense_refusal(d); }

double estimate(const ConvDesc& d, const Isa& isa, const Params& p, int threads, const Machine& machine) {
    return dense_seconds(d, isa, config(d, p), threads, machine);
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

std::vector<Params> candidates(const ConvDesc& d, const Isa&, int threads, Rigor rigor) {
    std::vector<Params> found;
    const std::vector<std::int64_t> sizes = rigor == Rigor::exhaustive ? std::vector<std::int64_t>{48, 96, 192, 384, 768, 1536}
                                                                       : std::vector<std::int64_t>{96, 256, 640};
    for (int tile = 0; tile < 2; ++tile)
        for (int shared = 0; shared < (threads > 1 ? 2 : 1); ++shared)
            for (std::int64_t kilobytes : sizes) {
                const Params p = band_of(d, tile, shared, kilobytes << 10);
                if (std::find(found.begin(), found.end(), p) == found.end()) found.push_back(p);
            }
    return found;
}

std::unique_ptr<Plan> make_plan(const ConvDesc& d, const Isa& isa, const Params& p);

const char* const param_names[] = {"tile", "shared", "rows", "columns", nullptr};

}  // namespace

extern const Algorithm direct_algorithm;
const Algorithm direct_algorithm = {"direct", 1, param_names, refuse, estimate, candidates, make_plan};

namespace {
std::unique_ptr<Plan> make_plan(const ConvDesc& d, const Isa& isa, const Params& p) {
    return make_dense_plan(d, direct_algorithm, isa, p, config(d, p));
}
}  // namespace

}  // namespace npconv

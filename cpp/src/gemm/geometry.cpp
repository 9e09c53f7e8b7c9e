#include "gemm/geometry.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "gemm/kernel.hpp"

namespace npconv {

namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

// Strides that are large powers of two put everything into the same few cache sets.
std::int64_t spread(std::int64_t elements, std::int64_t item) {
    return elements * item % 1024 == 0 ? elements + 64 / item : elements;
}

constexpr std::int64_t strip_chunk_bytes = 32 << 10;  // strips that only feed a panel stay in L1

}  // namespace

std::int64_t even_rows(std::int64_t oh, std::int64_t rows, std::int64_t threads) {
    const auto busiest = [&](std::int64_t r) { return ceil_div(ceil_div(oh, r), threads) * r; };
    std::int64_t best = rows;
    for (std::int64_t r = rows - 1; r > 0 && r >= rows / 2; --r)
        if (busiest(r) < busiest(best)) best = r;
    return best;
}

bool dense_flat(const ConvDesc& d) {
    if (d.taps() != 1 || !d.unit_stride()) return false;
    for (const Axis& a : d.axis)
        if (a.pad_begin != 0 || a.pad_end != 0) return false;
    return true;
}

bool dense_is_one_row(const ConvDesc& d, DenseSource source) {
    return dense_flat(d) && (source == DenseSource::image || (source == DenseSource::panel && d.src_order == Order::nchw));
}

bool dense_lists_reach(const ConvDesc& d, std::int64_t channel) {
    return std::abs(channel) <= INT32_MAX / std::min<std::int64_t>(dense_block, std::max<std::int64_t>(d.icg(), 1));
}

bool dense_image_possible(const ConvDesc& d, const Isa& isa, bool lanes_are_pixels) {
    const bool planes = d.src_order == Order::nchw;
    if (d.src_order == Order::any || (lanes_are_pixels && !planes) || !dense_lists_reach(d, channel_pitch(d))) return false;
    // A vector of pixels must not reach beyond the image on either side of it.
    if (lanes_are_pixels && d.out_pixels() * static_cast<std::int64_t>(item_size(d.src)) < isa.vector_bytes) return false;
    if (dense_flat(d) || lanes_are_pixels) return dense_flat(d);
    const auto reads_outside = [](const Axis& a) {
        return a.pad_begin > 0 || (a.out - 1) * a.stride + a.extent() - a.pad_begin > a.in;
    };
    for (const Axis& a : d.axis)
        if (reads_outside(a) && a.mode != PadMode::constant) return false;
    const Axis& w = d.w();
    if (planes && w.stride > 2) return false;
    // Taps may lie far outside of the image where the padding is as large as the dilation.
    const auto last_tap = [](const Axis& a) { return static_cast<double>(a.kernel - 1) * static_cast<double>(a.dilation); };
    const double tap = (last_tap(d.d()) * static_cast<double>(d.h().in) + last_tap(d.h())) * static_cast<double>(w.in) + last_tap(w);
    const double channels = static_cast<double>(std::min<std::int64_t>(dense_block, d.icg()));
    if (tap * static_cast<double>(pixel_pitch(d)) + channels * static_cast<double>(channel_pitch(d)) > INT32_MAX) return false;
    if (!reads_outside(d.d()) && !reads_outside(d.h()) && !reads_outside(w)) return true;
    if (d.taps() > dense_block || d.d().kernel > 16 || d.h().kernel > 16) return false;  // kinds of rows are counted in a byte
    for (std::int64_t k = 0; k < w.kernel; ++k) {
        const std::int64_t first = k * w.dilation - w.pad_begin, last = first + (w.out - 1) * w.stride;
        if (first + w.stride < 0 || last - w.stride >= w.in || (first < 0 && last >= w.in)) return false;
    }
    return true;
}

DenseGeometry::DenseGeometry(const ConvDesc& desc, const DenseConfig& config, const Isa& isa, int block_, int rest, int pixels) {
    const Axis &d = desc.d(), &h = desc.h(), &w = desc.w();
    const std::int64_t item = static_cast<std::int64_t>(item_size(desc.src));
    lanes = isa.vector_bytes / item;
    block = block_;
    blocks = ceil_div(desc.ocg(), block);
    terms = desc.icg() * desc.taps();
    group_weights = terms * round_up(desc.ocg(), rest);
    split = config.shared || config.source == DenseSource::strip ? 1 : std::clamp<std::int64_t>(config.split, 1, blocks);
    weights_first = group_weights > desc.icg() * desc.in_pixels();
    flat = dense_is_one_row(desc, config.source);
    od = flat ? 1 : d.out;
    oh = flat ? 1 : h.out;
    ow = flat ? desc.out_pixels() : w.out;
    const std::int64_t least = flat && config.lanes_are_pixels ? lanes : 1;  // the vector before a band's end lies in the image
    band_columns = std::min(std::max(config.band_columns, least), std::max<std::int64_t>(ow, 1));
    band_rows = band_columns < ow ? 1 : std::clamp<std::int64_t>(config.band_rows, 1, std::max<std::int64_t>(oh, 1));
    row_bands = ceil_div(oh, band_rows);
    if (row_bands > 1) band_rows = ceil_div(oh, row_bands);  // all alike: two workers with 22 and 6 rows are no gain
    column_bands = ceil_div(ow, band_columns);
    bands = od * row_bands * column_bands;
    band_unit = flat && band_columns % pixels == 0 ? pixels : 0;

    skip_columns = w.kernel == 1 && w.pad_begin <= 0 && (w.out - 1) * w.stride - w.pad_begin < w.in;
    const std::int64_t column_range = (band_columns - 1) * w.stride + (w.kernel - 1) * w.dilation + 1;
    columns_per_tap = !skip_columns && column_range > 2 * w.kernel * band_columns;
    phases = skip_columns ? 1 : columns_per_tap ? w.kernel : w.stride;
    const std::int64_t reach = (h.kernel - 1) * h.dilation + 1, range = (band_rows - 1) * h.stride + reach;
    rows_per_tap = range > h.kernel * band_rows;
    segments = d.kernel * (rows_per_tap ? h.kernel : 1);
    segment_rows = rows_per_tap ? band_rows : range;
    strip_columns = skip_columns || columns_per_tap ? band_columns : column_range;
    slots = round_up(pixels, lanes);
    tile_stride = spread(terms * slots, item);
    tiles = ceil_div(band_rows * band_columns, pixels);
    // Vectors of pixels may read to the end of the last one.
    phase_stride = (config.lanes_are_pixels ? round_up(band_columns, lanes) : band_columns) + 1;
    if (!skip_columns && !columns_per_tap)
        phase_stride = std::max(ceil_div(strip_columns, phases), phase_stride + (w.kernel - 1) * w.dilation / w.stride);
    row_stride = phases * phase_stride;
    channel_stride = spread(segments * segment_rows * row_stride, item);
    output_row_stride = rows_per_tap ? row_stride : h.stride * row_stride;
    strip_channels = std::max<std::int64_t>(desc.icg(), 1);
    if (config.source == DenseSource::panel) {
        const std::int64_t fit = strip_chunk_bytes / (channel_stride * item);
        strip_channels =
            std::min(strip_channels, desc.src_order == Order::nchw ? std::max<std::int64_t>(fit, 1) : round_up(fit + 1, lanes));
    }
}

DenseBand DenseGeometry::band(std::int64_t i) const {
    const std::int64_t c = i % column_bands, r = i / column_bands % row_bands;
    DenseBand b;
    b.d = i / column_bands / row_bands;
    b.h0 = r * band_rows;
    b.h1 = std::min(b.h0 + band_rows, oh);
    const auto begin = [&](std::int64_t k) {
        return std::min(band_unit ? ceil_div(ow, band_unit) * k / column_bands * band_unit : k * band_columns, ow);
    };
    b.w0 = begin(c);
    b.w1 = begin(c + 1);
    return b;
}

std::int64_t DenseGeometry::tap_offset(const ConvDesc& desc, std::int64_t kd, std::int64_t kh, std::int64_t kw) const {
    const std::int64_t row =
        rows_per_tap ? (kd * desc.h().kernel + kh) * segment_rows : kd * segment_rows + kh * desc.h().dilation;
    if (columns_per_tap) return row * row_stride + kw * phase_stride;
    const std::int64_t column = skip_columns ? 0 : kw * desc.w().dilation;
    return row * row_stride + column % phases * phase_stride + column / phases;
}

}  // namespace npconv

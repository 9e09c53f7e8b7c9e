#include "gemm/loading.hpp"

#include <algorithm>

#include "core/index_map.hpp"

namespace npconv {
namespace {

std::size_t lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

template <class T>
DenseLoading<T>::DenseLoading(const ConvDesc& d, const DenseConfig& c, const DenseGeometry& g, const SweepKernel<T>& kernel,
                              const PackKernels<T>& packing, const StripKernelsOf<T>& strips)
    : desc_(d), config_(c), g_(g), kernel_(kernel), packing_(packing), strips_(strips) {
    taps_.reserve(static_cast<std::size_t>(d.taps()));
    for (std::int64_t kd = 0; kd < d.d().kernel; ++kd)
        for (std::int64_t kh = 0; kh < d.h().kernel; ++kh)
            for (std::int64_t kw = 0; kw < d.w().kernel; ++kw) taps_.push_back(g_.tap_offset(d, kd, kh, kw));
}

template <class T> std::size_t DenseLoading<T>::row_table_bytes() const { return lines(static_cast<std::size_t>(g_.segment_rows) * 8); }
template <class T> std::size_t DenseLoading<T>::column_table_bytes() const {
    return lines(static_cast<std::size_t>(g_.strip_columns) * 4);
}
template <class T> std::size_t DenseLoading<T>::band_bytes() const {
    if (config_.source == DenseSource::image) return 0;
    const std::int64_t n = config_.source == DenseSource::strip ? g_.strip_elements() : g_.panel_elements();
    return lines(static_cast<std::size_t>(n + 4 * g_.lanes) * sizeof(T));
}
template <class T> std::size_t DenseLoading<T>::scratch_bytes() const {
    if (config_.source == DenseSource::image) return 0;
    const bool panel = config_.source == DenseSource::panel;
    return row_table_bytes() + column_table_bytes() + (panel ? strip_bytes() + piece_bytes() : 0);
}
template <class T> std::size_t DenseLoading<T>::piece_bytes() const {
    return lines(static_cast<std::size_t>(g_.band_rows + g_.tiles) * sizeof(DensePiece));
}
template <class T> std::size_t DenseLoading<T>::strip_bytes() const {
    return lines(static_cast<std::size_t>(g_.strip_elements() + 4 * g_.lanes) * sizeof(T));
}

template <class T>
void DenseLoading<T>::load(const ConvArgs& a, std::int64_t n, std::int64_t group, const DenseBand& where, std::int64_t c0,
                           std::int64_t c1, T* x, void* memory) const noexcept {
    char* scratch = static_cast<char*>(memory);
    const T* image = a.src.at<T>(n, group * desc_.icg());
    if (config_.source == DenseSource::strip)
        return load_strip(a, image, where, c0, c1, {x + c0 * g_.channel_stride, g_.channel_stride, g_.row_stride, g_.phase_stride},
                          scratch);
    DenseExpansion<T> e;
    e.tap = taps_.data();
    e.taps = desc_.taps();
    e.pixels = kernel_.pixels;
    e.granule = kernel_.granule;
    e.tile = g_.tile_stride;
    e.slots = g_.slots;
    e.pieces = reinterpret_cast<DensePiece*>(scratch + row_table_bytes() + column_table_bytes() + strip_bytes());
    if (g_.flat || is_one_run(a, where)) {
        const Axis &d = desc_.d(), &h = desc_.h(), &w = desc_.w();
        const std::int64_t *stride = a.src.stride, id = where.d * d.stride - d.pad_begin, ih = where.h0 * h.stride - h.pad_begin;
        e.x = image + c0 * stride[1] + id * stride[2] + ih * stride[3] + (where.w0 - w.pad_begin);
        e.channels = c1 - c0;
        e.channel_stride = stride[1];
        e.rows = 1;
        e.row_stride = 0;
        e.width = where.rows() * where.columns();
        e.panel = x + c0 * g_.slots;
        return packing_.expand(e);
    }
    T* strip = reinterpret_cast<T*>(scratch + row_table_bytes() + column_table_bytes());
    e.x = strip;
    e.channel_stride = g_.channel_stride;
    e.rows = where.rows();
    e.row_stride = g_.output_row_stride;
    e.width = where.columns();
    for (std::int64_t c = c0; c < c1; c += g_.strip_channels) {
        e.channels = std::min(c + g_.strip_channels, c1) - c;
        load_strip(a, image, where, c, c + e.channels, {strip, g_.channel_stride, g_.row_stride, g_.phase_stride}, scratch);
        e.panel = x + c * desc_.taps() * g_.slots;
        packing_.expand(e);
    }
}

template <class T> bool DenseLoading<T>::is_one_run(const ConvArgs& a, const DenseBand& where) const noexcept {
    const Axis &d = desc_.d(), &h = desc_.h(), &w = desc_.w();
    const auto inside = [](const Axis& x, std::int64_t begin, std::int64_t end) {
        return begin * x.stride >= x.pad_begin && (end - 1) * x.stride - x.pad_begin < x.in;
    };
    return desc_.taps() == 1 && w.stride == 1 && a.src.stride[4] == 1 &&
           (where.rows() == 1 || h.stride * a.src.stride[3] == where.columns()) && inside(d, where.d, where.d + 1) &&
           inside(h, where.h0, where.h1) && inside(w, where.w0, where.w1);
}

template <class T>
void DenseLoading<T>::load_strip(const ConvArgs& a, const T* image, const DenseBand& where, std::int64_t c0, std::int64_t c1,
                                 const Target& to, char* scratch) const noexcept {
    const Axis &d = desc_.d(), &h = desc_.h();
    auto* rows = reinterpret_cast<std::int64_t*>(scratch);
    auto* columns = reinterpret_cast<std::int32_t*>(scratch + row_table_bytes());
    StripSource<T> s;
    s.image = image + c0 * a.src.stride[1];
    s.channel_stride = a.src.stride[1];
    s.column_stride = a.src.stride[4];
    s.row_offset = rows;
    s.column = columns;
    s.value = static_cast<T>(a.padding_value);
    s.rows = g_.rows_per_tap ? where.rows() : (where.rows() - 1) * h.stride + (h.kernel - 1) * h.dilation + 1;
    for (std::int64_t segment = 0; segment < g_.segments; ++segment) {
        const std::int64_t kd = g_.rows_per_tap ? segment / h.kernel : segment, kh = g_.rows_per_tap ? segment % h.kernel : 0;
        const std::int64_t id = map_index(d.mode, where.d * d.stride + kd * d.dilation - d.pad_begin, d.in);
        for (std::int64_t r = 0; r < s.rows; ++r) {
            const std::int64_t at = g_.rows_per_tap ? (where.h0 + r) * h.stride + kh * h.dilation : where.h0 * h.stride + r;
            const std::int64_t ih = map_index(h.mode, at - h.pad_begin, h.in);
            rows[r] = id < 0 || ih < 0 ? constant_row : id * a.src.stride[2] + ih * a.src.stride[3];
        }
        T* x = to.x + segment * g_.segment_rows * to.row_stride;
        const std::int64_t runs = g_.columns_per_tap ? g_.phases : 1;
        for (std::int64_t kw = 0; kw < runs; ++kw) {
            StripSource<T> run = s;
            set_columns(where, kw, run, columns);
            strips_.planar(run, c1 - c0, static_cast<int>(g_.columns_per_tap ? 1 : g_.phases), x + kw * to.phase_stride,
                           to.channel_stride, to.row_stride, to.phase_stride);
        }
    }
}

// The columns of a band; where taps have columns of their own, those of tap `kw`.
template <class T>
void DenseLoading<T>::set_columns(const DenseBand& where, std::int64_t kw, StripSource<T>& s, std::int32_t* columns) const noexcept {
    const Axis& w = desc_.w();
    const std::int64_t first = where.w0 * w.stride + kw * w.dilation - w.pad_begin, outputs = where.columns();
    const bool inside = first >= 0 && first + (outputs - 1) * w.stride < w.in;
    if (g_.skip_columns || (g_.columns_per_tap && inside)) {  // every sw-th column
        s.image += first * s.column_stride;
        s.column_stride *= w.stride;
        s.columns = s.interior_hi = outputs;
        s.interior_lo = 0;
        for (std::int64_t i = 0; i < outputs; ++i) columns[i] = static_cast<std::int32_t>(i);
        return;
    }
    const std::int64_t step = g_.columns_per_tap ? w.stride : 1;
    s.columns = g_.columns_per_tap ? outputs : (outputs - 1) * w.stride + (w.kernel - 1) * w.dilation + 1;
    s.interior_lo = step == 1 ? std::clamp<std::int64_t>(-first, 0, s.columns) : 0;
    s.interior_hi = step == 1 ? std::clamp<std::int64_t>(w.in - first, s.interior_lo, s.columns) : 0;
    const auto border = [&](std::int64_t i) {
        columns[i] = static_cast<std::int32_t>(map_index(w.mode, first + i * step, w.in));
    };
    for (std::int64_t i = 0; i < s.interior_lo; ++i) border(i);
    for (std::int64_t i = s.interior_lo; i < s.interior_hi; ++i) columns[i] = static_cast<std::int32_t>(first + i);
    for (std::int64_t i = s.interior_hi; i < s.columns; ++i) border(i);
}

template class DenseLoading<float>;
template class DenseLoading<double>;

}  // namespace npconv

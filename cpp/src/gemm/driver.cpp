#include "gemm/driver.hpp"

#include <algorithm>
#include <vector>

#include "core/accuracy.hpp"
#include "core/index_map.hpp"
#include "gemm/kernel.hpp"
#include "strip/strip.hpp"
#include "threading/parallel_for.hpp"

namespace npconv {

static_assert(dense_block == sum_block && dense_level2 == sum_level2, "kernels cannot include core/accuracy.hpp");

namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::size_t lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

template <class T> const SweepKernel<T>& sweep_kernel(const Isa& isa, bool lanes_are_pixels) {
    static const ChannelKernels* const channels[] = {
#define NPCONV_ISA(n) &n::channel_kernels,
#include "isa/list.inc"
    };
    static const PixelKernels* const pixels[] = {
#define NPCONV_ISA(n) &n::pixel_kernels,
#include "isa/list.inc"
    };
    return lanes_are_pixels ? pixels[isa.level]->of<T>() : channels[isa.level]->of<T>();
}

template <class T> const PackKernels<T>& pack_kernels(const Isa& isa) {
    static const DensePackKernels* const table[] = {
#define NPCONV_ISA(n) &n::dense_pack_kernels,
#include "isa/list.inc"
    };
    return table[isa.level]->of<T>();
}

template <class T> class DensePlan final : public Plan {
public:
    DensePlan(const ConvDesc& d, const Algorithm& a, const Isa& i, const Params& p, const DenseConfig& c)
        : Plan(d, a, i, p), config_(c), kernel_(sweep_kernel<T>(i, c.lanes_are_pixels)), packing_(pack_kernels<T>(i)),
          strips_(strip_kernels(i).of<T>()), g_(d, c, i, kernel_.block, kernel_.rest) {
        taps_.reserve(static_cast<std::size_t>(d.taps()));
        for (std::int64_t kd = 0; kd < d.d().kernel; ++kd)
            for (std::int64_t kh = 0; kh < d.h().kernel; ++kh)
                for (std::int64_t kw = 0; kw < d.w().kernel; ++kw) taps_.push_back(g_.tap_offset(d, kd, kh, kw));
        const std::int64_t together = std::max<std::int64_t>(1, dense_block / std::max<std::int64_t>(d.taps(), 1));
        sum_.entries = together * d.taps();
        sum_.groups = std::max<std::int64_t>(1, ceil_div(d.icg(), together));
        sum_.last = d.icg() * d.taps() - (sum_.groups - 1) * sum_.entries;
        sum_.group_stride = 0;
        if (c.source == DenseSource::image) return;
        const bool panel = c.source == DenseSource::panel;
        offsets_.resize(static_cast<std::size_t>(sum_.entries));
        for (std::int64_t e = 0; e < sum_.entries; ++e)
            offsets_[static_cast<std::size_t>(e)] =
                panel ? e * g_.pitch : e / d.taps() * g_.channel_stride + taps_[static_cast<std::size_t>(e % d.taps())];
        sum_.offset = offsets_.data();
        sum_.group_stride = panel ? sum_.entries * g_.pitch : together * g_.channel_stride;
    }

    std::size_t packed_bytes() const override { return static_cast<std::size_t>(desc.g * g_.group_weights) * sizeof(T); }

    void pack(const Tensor& wei, void* packed, int threads) const noexcept override {
        const std::int64_t tasks = desc.g * g_.blocks;
        const bool small = packed_bytes() < (64u << 10);
        parallel_for(tasks, small ? 1 : threads, [&](std::int64_t task, int) noexcept {
            const std::int64_t group = task / g_.blocks, b = task % g_.blocks;
            DenseWeights<T> w;
            w.data = wei.at<T>(group * desc.ocg());
            w.oc = desc.ocg();
            w.oc_stride = wei.stride[0];
            for (int i = 0; i < 4; ++i) {
                w.size[i] = wei.size[i + 1];
                w.stride[i] = wei.stride[i + 1];
            }
            const std::int64_t first = b * g_.block, left = std::min(g_.block, desc.ocg() - first);
            packing_.weights(w, first, ceil_div(left, kernel_.rest) * kernel_.rest,
                             static_cast<T*>(packed) + group * g_.group_weights + first * g_.terms);
        });
    }

    std::size_t workspace_bytes(std::int64_t, int threads) const override {
        return shared_bytes() + static_cast<std::size_t>(std::max(threads, 1)) * worker_bytes();
    }

    void execute(const ConvArgs& a) const noexcept override {
        if (config_.shared && config_.source != DenseSource::image)
            execute_shared(a);
        else
            execute_own(a);
    }

private:
    // Bands are the tasks: each worker loads and sweeps its own.
    void execute_own(const ConvArgs& a) const noexcept {
        const std::int64_t split =
            config_.source == DenseSource::image ? std::clamp<std::int64_t>(config_.split, 1, g_.blocks) : 1;
        const std::int64_t tasks = a.src.size[0] * desc.g * g_.bands * split;
        parallel_for(tasks, a.threads, [&](std::int64_t task, int worker) noexcept {
            const std::int64_t part = task % split, band = task / split % g_.bands;
            const std::int64_t group = task / split / g_.bands % desc.g, n = task / split / g_.bands / desc.g;
            const DenseBand where = g_.band(band);
            T* x = band_memory(worker_memory(a, worker));
            if (config_.source != DenseSource::image) load(a, n, group, where, 0, desc.icg(), x, worker);
            sweep(a, n, group, where, x, g_.blocks * part / split, g_.blocks * (part + 1) / split, 0, 1);
        });
    }

    // One band at a time: all workers load it, then share out its channels (and, where these are few, its pixels).
    void execute_shared(const ConvArgs& a) const noexcept {
        const std::int64_t chunk = std::clamp<std::int64_t>(ceil_div(ceil_div(desc.icg(), 4 * a.threads), g_.lanes) * g_.lanes, 1,
                                                            std::max<std::int64_t>(desc.icg(), 1));
        const std::int64_t chunks = ceil_div(desc.icg(), chunk);
        const std::int64_t parts = std::clamp<std::int64_t>(4 * a.threads / std::max<std::int64_t>(g_.blocks, 1), 1,
                                                            config_.source == DenseSource::strip ? g_.band_rows : 8);
        std::int64_t round = 0;
        T* x = static_cast<T*>(a.workspace);
        const auto decode = [&](std::int64_t& n, std::int64_t& group) {
            group = round / g_.bands % desc.g;
            n = round / g_.bands / desc.g;
            return g_.band(round % g_.bands);
        };
        const auto loading = [&](std::int64_t task, int worker) noexcept {
            std::int64_t n, group;
            const DenseBand where = decode(n, group);
            load(a, n, group, where, task * chunk, std::min((task + 1) * chunk, desc.icg()), x, worker);
        };
        const auto summing = [&](std::int64_t task, int) noexcept {
            std::int64_t n, group;
            const DenseBand where = decode(n, group);
            sweep(a, n, group, where, x, task / parts, task / parts + 1, task % parts, parts);
        };
        parallel_phases(a.threads, {{chunks, loading}, {g_.blocks * parts, summing}}, a.src.size[0] * desc.g * g_.bands, &round);
    }

    // Channels [c0, c1) of a band of one group, into strip or panel.
    void load(const ConvArgs& a, std::int64_t n, std::int64_t group, const DenseBand& where, std::int64_t c0, std::int64_t c1,
              T* x, int worker) const noexcept {
        char* memory = worker_memory(a, worker);
        const T* image = a.src.at<T>(n, group * desc.icg());
        if (config_.source == DenseSource::strip)
            return load_strip(a, image, where, c0, c1, x + c0 * g_.channel_stride, g_.channel_stride, g_.row_stride,
                              g_.phase_stride, memory);
        if (g_.strip_is_panel)
            return load_strip(a, image, where, c0, c1, x + c0 * g_.pitch, g_.pitch, where.columns(), 0, memory);
        T* strip = strip_memory(memory);
        for (std::int64_t c = c0; c < c1; c += g_.strip_channels) {
            const std::int64_t end = std::min(c + g_.strip_channels, c1);
            load_strip(a, image, where, c, end, strip, g_.channel_stride, g_.row_stride, g_.phase_stride, memory);
            packing_.expand(strip, end - c, g_.channel_stride, taps_.data(), desc.taps(), where.rows(), g_.output_row_stride,
                            where.columns(), x + c * desc.taps() * g_.pitch, g_.pitch);
        }
    }

    void load_strip(const ConvArgs& a, const T* image, const DenseBand& where, std::int64_t c0, std::int64_t c1, T* dst,
                    std::int64_t channel_stride, std::int64_t row_stride, std::int64_t phase_stride,
                    char* memory) const noexcept {
        const Axis &d = desc.d(), &h = desc.h();
        auto* rows = reinterpret_cast<std::int64_t*>(memory);
        auto* columns = reinterpret_cast<std::int32_t*>(memory + row_table_bytes());
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
            T* to = dst + segment * g_.segment_rows * row_stride;
            const std::int64_t runs = g_.columns_per_tap ? g_.phases : 1;
            for (std::int64_t kw = 0; kw < runs; ++kw) {
                StripSource<T> run = s;
                set_columns(where, kw, run, columns);
                strips_.planar(run, c1 - c0, static_cast<int>(g_.columns_per_tap ? 1 : g_.phases), to + kw * phase_stride,
                               channel_stride, row_stride, phase_stride);
            }
        }
    }

    // The columns of a band; where taps have columns of their own, those of tap `kw`.
    void set_columns(const DenseBand& where, std::int64_t kw, StripSource<T>& s, std::int32_t* columns) const noexcept {
        const Axis& w = desc.w();
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

    // Weight blocks [begin, end) against part `part` of `parts` of a band.
    void sweep(const ConvArgs& a, std::int64_t n, std::int64_t group, const DenseBand& where, const T* x, std::int64_t begin,
               std::int64_t end, std::int64_t part, std::int64_t parts) const noexcept {
        std::ptrdiff_t image_offsets[dense_block];
        DenseSweep<T> s;
        s.sum = sum_;
        s.rows = 1;
        s.x_row_stride = g_.output_row_stride;
        s.pixel_row = g_.ow;
        s.pixel = (where.d * g_.oh + where.h0) * g_.ow + where.w0;
        s.slack = true;
        s.x_ahead = 0;
        std::int64_t from, to;  // of the part, in rows (strip) or pixels
        if (config_.source == DenseSource::strip) {
            from = where.rows() * part / parts;
            to = where.rows() * (part + 1) / parts;
            s.rows = to - from;
            s.row_pixels = where.columns();
            s.x = x + from * s.x_row_stride;
            s.pixel += from * g_.ow;
        } else {
            const std::int64_t pixels = where.rows() * where.columns();
            const std::int64_t unit = std::max<std::int64_t>(kernel_.pixels, 1), units = ceil_div(pixels, unit);
            from = units * part / parts * unit;
            to = std::min(units * (part + 1) / parts * unit, pixels);
            s.row_pixels = to - from;
            s.pixel += from;
            s.x = x + from;
            if (config_.source == DenseSource::image) {
                for (std::int64_t e = 0; e < std::min(sum_.entries, desc.icg()); ++e) image_offsets[e] = e * a.src.stride[1];
                s.sum.offset = image_offsets;
                s.sum.group_stride = sum_.entries * a.src.stride[1];
                s.x = a.src.at<T>(n, group * desc.icg()) + s.pixel;
                s.slack = s.pixel + s.row_pixels + g_.lanes <= g_.ow;
                s.x_ahead = kernel_.pixels;
            }
        }
        if (from >= to) return;
        s.weights = static_cast<const T*>(a.packed) + group * g_.group_weights;
        s.oc_first = group * desc.ocg();
        s.oc = desc.ocg();
        s.block_begin = begin;
        s.block_end = end;
        s.store.dst = a.dst.at<T>(n);
        s.store.channel_stride = a.dst.stride[1];
        s.store.pixel_stride = a.dst.stride[4];
        s.store.oh = desc.h().out;
        s.store.ow = desc.w().out;
        s.store.epilogue = epilogue_args<T>(desc, a);
        if (a.residual.data) s.store.epilogue.residual += n * a.residual.stride[0];
        kernel_.sweep(s);
    }

    std::size_t row_table_bytes() const { return lines(static_cast<std::size_t>(g_.segment_rows) * 8); }
    std::size_t column_table_bytes() const { return lines(static_cast<std::size_t>(g_.strip_columns) * 4); }
    // What one band of X takes; vectors may read behind its end.
    std::size_t band_bytes() const {
        if (config_.source == DenseSource::image) return 0;
        const std::int64_t n = config_.source == DenseSource::strip ? g_.strip_elements() : g_.panel_elements();
        return lines(static_cast<std::size_t>(n + 4 * g_.lanes) * sizeof(T));
    }
    bool has_feeding_strip() const { return config_.source == DenseSource::panel && !g_.strip_is_panel; }
    std::size_t feeding_bytes() const {
        return has_feeding_strip() ? lines(static_cast<std::size_t>(g_.strip_elements() + 4 * g_.lanes) * sizeof(T)) : 0;
    }
    std::size_t shared_bytes() const { return config_.shared ? band_bytes() : 0; }
    std::size_t worker_bytes() const {
        if (config_.source == DenseSource::image) return 0;
        return row_table_bytes() + column_table_bytes() + feeding_bytes() + (config_.shared ? 0 : band_bytes());
    }
    char* worker_memory(const ConvArgs& a, int worker) const {
        return static_cast<char*>(a.workspace) + shared_bytes() + static_cast<std::size_t>(worker) * worker_bytes();
    }
    T* strip_memory(char* worker) const { return reinterpret_cast<T*>(worker + row_table_bytes() + column_table_bytes()); }
    T* band_memory(char* worker) const {
        return reinterpret_cast<T*>(worker + row_table_bytes() + column_table_bytes() + feeding_bytes());
    }

    const DenseConfig config_;
    const SweepKernel<T>& kernel_;
    const PackKernels<T>& packing_;
    const StripKernelsOf<T>& strips_;
    const DenseGeometry g_;
    DenseSum sum_;
    std::vector<std::ptrdiff_t> taps_, offsets_;
};

}  // namespace

DenseBlocks dense_blocks(const ConvDesc& d, const Isa& isa, bool lanes_are_pixels) {
    if (d.src == DType::f32) {
        const SweepKernel<float>& k = sweep_kernel<float>(isa, lanes_are_pixels);
        return {k.block, k.rest, k.pixels};
    }
    const SweepKernel<double>& k = sweep_kernel<double>(isa, lanes_are_pixels);
    return {k.block, k.rest, k.pixels};
}

std::unique_ptr<Plan> make_dense_plan(const ConvDesc& d, const Algorithm& a, const Isa& isa, const Params& p,
                                      const DenseConfig& c) {
    if (d.src == DType::f32) return std::make_unique<DensePlan<float>>(d, a, isa, p, c);
    return std::make_unique<DensePlan<double>>(d, a, isa, p, c);
}

}  // namespace npconv

#include "gemm/driver.hpp"

#include <algorithm>
#include <cstdint>

#include "core/accuracy.hpp"
#include "gemm/kernel.hpp"
#include "gemm/loading.hpp"
#include "gemm/packing.hpp"
#include "gemm/terms.hpp"
#include "strip/strip.hpp"
#include "threading/parallel_for.hpp"

namespace npconv {

static_assert(dense_block == sum_block && dense_level2 == sum_level2, "kernels cannot include core/accuracy.hpp");

namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::size_t lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

template <class T> using SweepKernelAddress = const SweepKernel<T>*;

template <class T> const TailKernel<T>& tail_kernel(const Isa& isa) {
    static const PerType<TailKernel>* const kernels[] = {
#define NPCONV_ISA(n) &n::tail_kernels,
#include "isa/list.inc"
    };
    return kernels[isa.level]->of<T>();
}

template <class T> const SweepKernel<T>& sweep_kernel(const Isa& isa, bool lanes_are_pixels) {
    static const PerType<SweepKernelAddress> channels[] = {
#define NPCONV_ISA(n) {&n::channel_kernel_f32, &n::channel_kernel_f64},
#include "isa/list.inc"
    };
    static const PerType<SweepKernelAddress> pixels[] = {
#define NPCONV_ISA(n) {&n::pixel_kernel_f32, &n::pixel_kernel_f64},
#include "isa/list.inc"
    };
    return *(lanes_are_pixels ? pixels : channels)[isa.level].of<T>();
}

// One way to read X, with everything that follows from it.
template <class T> struct Source {
    const DenseConfig config;
    const DenseGeometry g;
    const DenseLoading<T> loading;
    const DenseTermLists lists;

    Source(const ConvDesc& d, const DenseConfig& c, const Isa& isa, const SweepKernel<T>& kernel)
        : config(c), g(d, c, isa, kernel.block, kernel.rest, kernel.pixels),
          loading(d, config, g, kernel, pack_kernels<T>(isa), strip_kernels(isa).of<T>()), lists(d, c.source, channel(d), tap_offsets(d), kernel.pixels) {}

private:
    std::int64_t channel(const ConvDesc& d) const {
        return config.source == DenseSource::image ? channel_pitch(d) : config.source == DenseSource::panel ? d.taps() * g.slots : g.channel_stride;
    }
    std::vector<std::ptrdiff_t> tap_offsets(const ConvDesc& d) const {
        if (config.source == DenseSource::strip) return loading.taps();
        std::vector<std::ptrdiff_t> offsets;
        for (std::int64_t kd = 0; kd < d.d().kernel; ++kd)
            for (std::int64_t kh = 0; kh < d.h().kernel; ++kh)
                for (std::int64_t kw = 0; kw < d.w().kernel; ++kw)
                    offsets.push_back(config.source == DenseSource::panel
                                          ? static_cast<std::int64_t>(offsets.size()) * g.slots
                                          : ((kd * d.d().dilation * d.h().in + kh * d.h().dilation) * d.w().in + kw * d.w().dilation) * pixel_pitch(d));
        return offsets;
    }
};

template <class T> class DensePlan final : public Plan {
public:
    DensePlan(const ConvDesc& d, const Algorithm& a, const Isa& i, const Params& p, const DenseConfig& c)
        : Plan(d, a, i, p), kernel_(sweep_kernel<T>(i, c.lanes_are_pixels)), packing_(pack_kernels<T>(i)), main_(desc, c, i, kernel_),
          reads_rows_(dense_reads_rows(desc, i, c)), packs_late_(c.late && !reads_rows_) {
        if (c.source != DenseSource::image) return;
        DenseConfig copy = c;
        copy.source = main_.g.flat ? DenseSource::panel : DenseSource::strip;
        copy.band_rows = c.copy_rows;
        copy.band_columns = c.copy_columns;
        copied_ = std::make_unique<Source<T>>(desc, copy, i, kernel_);  // they keep a reference to the plan's own descriptor
    }

    std::size_t packed_bytes() const override { return packs_late_ ? 0 : weight_bytes() + flag_bytes(); }

    void pack(const Tensor& wei, void* packed, int threads) const noexcept override {
        if (packs_late_ || in_rows(wei)) return;
        const std::int64_t blocks = main_.g.blocks;
        const bool small = weight_bytes() < (64u << 10);
        if (reads_rows_ && wei.stride[0] == 1 && 2 * main_.g.block == main_.g.lanes)
            return pack_lines(wei, static_cast<T*>(packed), small ? 1 : threads);
        parallel_for(desc.g * blocks, small ? 1 : threads, [&](std::int64_t task, int) noexcept {
            const std::int64_t group = task / blocks, b = task % blocks;
            T* to = static_cast<T*>(packed) + group * main_.g.group_weights + b * main_.g.block * main_.g.terms;
            const bool nonfinite = pack_block(wei, group, b, to);
            if (copied_) flags(packed)[task] = nonfinite;
        });
    }

    std::size_t workspace_bytes(std::int64_t, int threads) const override {
        return shared_bytes() + static_cast<std::size_t>(std::max(threads, 1)) * worker_bytes();
    }

    void execute(const ConvArgs& a) const noexcept override {
        const bool image = main_.config.source == DenseSource::image;
        if (packs_late_)
            image ? execute_blocks(a) : execute_shared(a);
        else if (main_.config.shared && !image)
            execute_shared(a);
        else
            execute_own(a);
    }

private:
    // Weight blocks [begin, end) of a group: `data` holds block `first` of it first. row: see DenseSweep::weight_row.
    struct Blocks {
        const T* data;
        std::int64_t group, begin, end, first;
        bool finite;
        std::ptrdiff_t row = 0;
    };

    // Whether these weights are read where they are.
    bool in_rows(const Tensor& wei) const { return reads_rows_ && (wei.stride[1] == 1 || wei.size[1] == 1) && wei.stride[0] != 0; }

    bool pack_block(const Tensor& wei, std::int64_t group, std::int64_t b, T* to) const noexcept {
        const DenseWeights<T> w = weights_of_group<T>(desc, wei, group);
        const std::int64_t first = b * main_.g.block, left = std::min(main_.g.block, desc.ocg() - first);
        return packing_.weights(w, first, ceil_div(left, kernel_.rest) * kernel_.rest, to);
    }

    // Blocks of half a vector, as many as a line of weights has; what fills no line one by one.
    void pack_lines(const Tensor& wei, T* packed, int threads) const noexcept {
        const std::int64_t line = 64 / (main_.g.block * static_cast<std::int64_t>(sizeof(T)));
        const std::int64_t lines_of_blocks = ceil_div(main_.g.blocks, line);
        parallel_for(desc.g * lines_of_blocks, threads, [&](std::int64_t task, int) noexcept {
            const std::int64_t group = task / lines_of_blocks, first = task % lines_of_blocks * line;
            const std::int64_t whole = std::clamp<std::int64_t>(desc.ocg() / main_.g.block - first, 0, line);
            const auto to = [&](std::int64_t b) { return packed + group * main_.g.group_weights + b * main_.g.block * main_.g.terms; };
            packing_.half_blocks(weights_of_group<T>(desc, wei, group), first * main_.g.block, whole, to(first));
            for (std::int64_t b = first + whole; b < std::min(first + line, main_.g.blocks); ++b) pack_block(wei, group, b, to(b));
        });
    }

    Blocks blocks(const ConvArgs& a, std::int64_t group, std::int64_t begin, std::int64_t end) const noexcept {
        if (in_rows(a.wei)) return {a.wei.at<T>(group * desc.ocg()), group, begin, end, 0, true, a.wei.stride[0]};
        return packed_blocks(a, group, begin, end);
    }
    Blocks packed_blocks(const ConvArgs& a, std::int64_t group, std::int64_t begin, std::int64_t end) const noexcept {
        Blocks w = {static_cast<const T*>(a.packed) + group * main_.g.group_weights, group, begin, end, 0, true};
        if (copied_ && !main_.g.flat)
            for (std::int64_t b = begin; b < end; ++b) w.finite = w.finite && !flags(a.packed)[group * main_.g.blocks + b];
        return w;
    }
    // Packs one block into the worker's memory.
    Blocks late_block(const ConvArgs& a, std::int64_t group, std::int64_t b, int worker) const noexcept {
        T* to = reinterpret_cast<T*>(worker_memory(a, worker));
        const bool nonfinite = pack_block(a.wei, group, b, to);
        return {to, group, b, b + 1, b, !nonfinite};
    }

    // Bands and, where they are few, parts of their channels are the tasks: each worker sweeps its own, and loads it where
    // there is anything to load.
    void execute_own(const ConvArgs& a) const noexcept {
        const DenseGeometry& g = main_.g;
        parallel_for(a.src.size[0] * desc.g * g.tasks(), a.threads, [&](std::int64_t task, int worker) noexcept {
            const std::int64_t part = g.task_part(task % g.tasks()), band = g.task_band(task % g.tasks());
            const std::int64_t group = task / g.tasks() % desc.g, n = task / g.tasks() / desc.g;
            const Blocks w = blocks(a, group, g.blocks * part / g.split, g.blocks * (part + 1) / g.split);
            if (main_.config.source == DenseSource::image)
                in_place(a, n, aligned(g.band(band), a, n), w, worker);
            else
                own_band(main_, a, n, g.band(band), w, worker);
        });
    }

    // Bands of one long row moved so that all but the first begin with a line of the output.
    DenseBand aligned(DenseBand where, const ConvArgs& a, std::int64_t n) const noexcept {
        const DenseGeometry& g = main_.g;
        if (!g.flat || !main_.config.lanes_are_pixels || g.bands == 1 || a.dst.stride[1] % g.lanes != 0) return where;
        const auto bytes = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(a.dst.at<T>(n)) % 64);
        const std::int64_t lead = (64 - bytes) % 64 / static_cast<std::int64_t>(sizeof(T));
        if (where.w0 > 0) where.w0 = std::min(where.w0 + lead, g.ow);
        if (where.w1 < g.ow) where.w1 = std::min(where.w1 + lead, g.ow);
        return where;
    }

    // The same with the weights of one call: a worker packs a block and takes it against all images.
    void execute_blocks(const ConvArgs& a) const noexcept {
        const DenseGeometry& g = main_.g;
        parallel_for(desc.g * g.blocks, a.threads, [&](std::int64_t task, int worker) noexcept {
            const Blocks w = late_block(a, task / g.blocks, task % g.blocks, worker);
            for (std::int64_t n = 0; n < a.src.size[0]; ++n)
                for (std::int64_t band = 0; band < g.bands; ++band) in_place(a, n, g.band(band), w, worker);
        });
    }

    // One band at a time: all workers load it, then share out its channels (and, where these are few, its pixels).
    void execute_shared(const ConvArgs& a) const noexcept {
        const DenseGeometry& g = main_.g;
        const bool late = packs_late_;
        const std::int64_t chunk = std::clamp<std::int64_t>(ceil_div(ceil_div(desc.icg(), 4 * a.threads), g.lanes) * g.lanes, 1,
                                                            std::max<std::int64_t>(desc.icg(), 1));
        const std::int64_t chunks = ceil_div(desc.icg(), chunk);
        const std::int64_t wanted = (late ? 1 : 4) * a.threads / std::max<std::int64_t>(g.blocks, 1);
        const std::int64_t parts =
            std::clamp<std::int64_t>(wanted, 1, main_.config.source == DenseSource::strip ? g.band_rows : 8);
        std::int64_t round = 0;
        T* x = static_cast<T*>(a.workspace);
        const auto loading = [&](std::int64_t task, int worker) noexcept {
            main_.loading.load(a, round / g.bands / desc.g, round / g.bands % desc.g, g.band(round % g.bands), task * chunk,
                               std::min((task + 1) * chunk, desc.icg()), x, scratch_memory(a, worker));
        };
        const auto summing = [&](std::int64_t task, int worker) noexcept {
            const std::int64_t n = round / g.bands / desc.g, group = round / g.bands % desc.g, b = task / parts;
            const Blocks w = late ? late_block(a, group, b, worker) : packed_blocks(a, group, b, b + 1);
            sweep(main_, a, n, g.band(round % g.bands), x, w, task % parts, parts);
        };
        parallel_phases(a.threads, {{chunks, loading}, {g.blocks * parts, summing}}, a.src.size[0] * desc.g * g.bands, &round);
    }

    void own_band(const Source<T>& source, const ConvArgs& a, std::int64_t n, const DenseBand& where, const Blocks& w,
                  int worker) const noexcept {
        char* scratch = scratch_memory(a, worker);
        T* x = reinterpret_cast<T*>(scratch + source.loading.scratch_bytes());
        source.loading.load(a, n, w.group, where, 0, desc.icg(), x, scratch);
        sweep(source, a, n, where, x, w, 0, 1);
    }

    // As the lists have it. A single channel's distance to the next one is any number: NumPy's is 1 for channels-last images.
    bool channels_are_dense(const Tensor& src) const { return desc.icg() == 1 || src.stride[1] == channel_pitch(desc); }

    // Products with the padding are left out; where they count, or where the channels don't follow one another closely,
    // the same band is summed from padded copies.
    void in_place(const ConvArgs& a, std::int64_t n, const DenseBand& where, const Blocks& w, int worker) const noexcept {
        const bool dense = channels_are_dense(a.src) && a.src.stride[4] == pixel_pitch(desc);
        const bool possible = main_.g.flat ? dense_lists_reach(desc, a.src.stride[1]) : w.finite && a.padding_value == 0 && dense;
        if (possible) return sweep(main_, a, n, where, reinterpret_cast<T*>(scratch_memory(a, worker)), w, 0, 1);
        const DenseGeometry& g = copied_->g;
        if (main_.g.flat) {  // panels have bands of their own: all of them, by the worker of the first pixels
            for (std::int64_t band = 0; where.w0 == 0 && band < g.bands; ++band) own_band(*copied_, a, n, g.band(band), w, worker);
            return;
        }
        DenseBand part = where;
        for (part.h0 = where.h0; part.h0 < where.h1; part.h0 = part.h1) {
            part.h1 = std::min(part.h0 + g.band_rows, where.h1);
            for (part.w0 = 0; part.w0 < g.ow; part.w0 = part.w1) {
                part.w1 = std::min(part.w0 + g.band_columns, g.ow);
                own_band(*copied_, a, n, part, w, worker);
            }
        }
    }

    // Weight blocks against part `part` of `parts` of a band: rows of a strip, tiles of a panel; x is what was loaded, or memory
    // for what a sweep of an image stages.
    void sweep(const Source<T>& source, const ConvArgs& a, std::int64_t n, const DenseBand& where, T* x, const Blocks& w,
               std::int64_t part, std::int64_t parts) const noexcept {
        const DenseGeometry& g = source.g;
        DenseSweep<T> s;
        s.sums = source.lists.sums(where.d, where.h0);
        s.terms = g.terms;
        s.rows = where.rows();
        s.row_pixels = where.columns();
        s.pixel_row = g.ow;
        s.pixel = (where.d * g.oh + where.h0) * g.ow + where.w0;
        s.x = x;
        s.x_step = 1;
        s.x_row_stride = g.output_row_stride;
        s.x_tile = 0;
        s.tile_begin = 0;
        s.tile_end = INT64_MAX;
        s.set_lines = static_cast<int>(l1_set_lines(static_cast<double>(cpu_info().l1)));
        s.slack = true;
        s.far = false;
        s.stage = source.config.source == DenseSource::image && stage_bytes() ? x : nullptr;
        s.fetch_output = fetch_output_;
        s.tail = tail_->most ? tail_ : nullptr;
        if (source.config.source == DenseSource::strip) {
            const std::int64_t from = s.rows * part / parts;
            s.rows = s.rows * (part + 1) / parts - from;
            s.x += from * s.x_row_stride;
            s.pixel += from * g.ow;
        } else if (source.config.source == DenseSource::panel) {
            s.row_pixels *= s.rows;
            s.rows = 1;
            s.x_tile = g.tile_stride;
            const std::int64_t tiles = ceil_div(s.row_pixels, kernel_.pixels);
            s.tile_begin = tiles * part / parts;
            s.tile_end = tiles * (part + 1) / parts;
        }
        if (s.rows <= 0 || s.row_pixels <= 0 || s.tile_begin == s.tile_end) return;
        set_weights(s, w);
        set_store(s.store, a, n);
        if (source.config.source != DenseSource::image) return kernel_.sweep(s);
        sweep_image(s, a, n, where, w.group);
    }

    void sweep_image(DenseSweep<T>& s, const ConvArgs& a, std::int64_t n, const DenseBand& where, std::int64_t group) const noexcept {
        const DenseGeometry& g = main_.g;
        const Axis &d = desc.d(), &h = desc.h(), &w = desc.w();
        s.x = a.src.at<T>(n, group * desc.icg());
        if (g.flat) {
            s.slack = s.pixel + s.row_pixels + g.lanes <= g.ow;
            s.far = true;
            s.x_step = a.src.stride[4];
            s.x += s.pixel * s.x_step;
        } else {
            const std::int64_t pixel = pixel_pitch(desc);
            s.x_step = w.stride * pixel;
            s.x_row_stride = h.stride * w.in * pixel;
            s.x += (((where.d * d.stride - d.pad_begin) * h.in + where.h0 * h.stride - h.pad_begin) * w.in + where.w0 * w.stride - w.pad_begin) * pixel;
        }
        if (channels_are_dense(a.src)) return kernel_.sweep(s);
        // Plain products only: the one list, for another distance between channels.
        DenseTerm term[dense_block];
        DenseSum sum = s.sums.sums[0];
        DenseTerms* const lists[] = {&sum.full, &sum.last};
        for (int i = 0; i < std::max(sum.full.all, sum.last.all); ++i) term[i] = {static_cast<std::int32_t>(i * a.src.stride[1]), i};
        for (DenseTerms* list : lists) {
            list->term = term;
            list->step = static_cast<std::int32_t>(a.src.stride[1]);
        }
        sum.x_group = sum.w_group * a.src.stride[1];
        s.sums.sums = &sum;
        kernel_.sweep(s);
    }

    void set_weights(DenseSweep<T>& s, const Blocks& w) const noexcept {
        const std::int64_t skipped = w.first * main_.g.block;
        s.weights = w.data;
        s.weight_row = w.row;
        s.oc_first = w.group * desc.ocg() + skipped;
        s.oc = desc.ocg() - skipped;
        s.block_begin = w.begin - w.first;
        s.block_end = w.end - w.first;
    }

    void set_store(DenseStore<T>& s, const ConvArgs& a, std::int64_t n) const noexcept {
        s.dst = a.dst.at<T>(n);
        s.channel_stride = a.dst.stride[1];
        s.pixel_stride = a.dst.stride[4];
        s.oh = desc.h().out;
        s.ow = desc.w().out;
        s.epilogue = epilogue_args<T>(desc, a);
        if (a.residual.data) s.epilogue.residual += n * a.residual.stride[0];
    }

    std::size_t weight_bytes() const { return lines(static_cast<std::size_t>(desc.g * main_.g.group_weights) * sizeof(T)); }
    std::size_t flag_bytes() const { return copied_ ? static_cast<std::size_t>(desc.g * main_.g.blocks) : 0; }
    // One byte for each block of packed weights: whether any of them is not finite.
    unsigned char* flags(void* packed) const { return static_cast<unsigned char*>(packed) + weight_bytes(); }
    const unsigned char* flags(const void* packed) const { return static_cast<const unsigned char*>(packed) + weight_bytes(); }

    std::size_t shared_bytes() const {
        const bool one_band = main_.config.shared || packs_late_;
        return one_band ? main_.loading.band_bytes() : 0;
    }
    std::size_t block_bytes() const {
        return packs_late_ ? lines(static_cast<std::size_t>(main_.g.terms * main_.g.block) * sizeof(T)) : 0;
    }
    std::size_t worker_bytes() const {
        std::size_t bytes = main_.loading.scratch_bytes() + (shared_bytes() ? 0 : main_.loading.band_bytes());
        if (copied_) bytes = std::max({bytes, copied_->loading.scratch_bytes() + copied_->loading.band_bytes(), stage_bytes()});
        return block_bytes() + bytes;
    }
    // What one worker stages, if that stays near.
    std::size_t stage_bytes() const {
        const auto tile = static_cast<std::size_t>(main_.g.terms * kernel_.pixels) * sizeof(T);
        const bool possible = main_.g.flat && desc.src_order == Order::nchw && kernel_.stage_bytes > 0;
        if (!possible || tile > static_cast<std::size_t>(cpu_info().l2) / 2) return 0;
        return lines(std::max(tile, static_cast<std::size_t>(kernel_.stage_bytes)));
    }
    char* worker_memory(const ConvArgs& a, int worker) const {
        return static_cast<char*>(a.workspace) + shared_bytes() + static_cast<std::size_t>(worker) * worker_bytes();
    }
    char* scratch_memory(const ConvArgs& a, int worker) const { return worker_memory(a, worker) + block_bytes(); }

    // What stays in L3 from call to call need not be fetched where sums are short: 16x112 -> 96 k1 (5 MB) is 5 % faster without,
    // on two threads. What doesn't has to be: 3x224 -> 64 k3 (13 MB) is 20 % faster with it, the stem (3 MB) in most launches 1.1 to 1.6 times.
    bool fetches_output() const {
        const double bytes = static_cast<double>(desc.oc * desc.out_pixels()) * sizeof(T);
        return bytes > 0.25 * static_cast<double>(cpu_info().l3) || (main_.g.terms > 64 && bytes > 4 * static_cast<double>(cpu_info().l2));
    }

    const SweepKernel<T>& kernel_;
    const TailKernel<T>* const tail_ = &tail_kernel<T>(isa);
    const PackKernels<T>& packing_;
    const Source<T> main_;
    const bool fetch_output_ = fetches_output();
    const bool reads_rows_, packs_late_;  // of DenseConfig::late: weights that need no packing, and those that do
    std::unique_ptr<Source<T>> copied_;  // what replaces the image where padding counts
};

template <class T> DenseBlocks blocks_of(const Isa& isa, bool lanes_are_pixels) {
    const SweepKernel<T>& k = sweep_kernel<T>(isa, lanes_are_pixels);
    return {k.block, k.rest, k.pixels, k.stage_terms, k.stage_blocks, k.reads_rows, lanes_are_pixels ? tail_kernel<T>(isa).most : 0};
}

}  // namespace

DenseBlocks dense_blocks(const ConvDesc& d, const Isa& isa, bool lanes_are_pixels) {
    return d.src == DType::f32 ? blocks_of<float>(isa, lanes_are_pixels) : blocks_of<double>(isa, lanes_are_pixels);
}

bool dense_reads_rows(const ConvDesc& d, const Isa& isa, const DenseConfig& c) {
    return c.late && c.source == DenseSource::image && dense_flat(d) && dense_blocks(d, isa, c.lanes_are_pixels).reads_rows;
}

std::unique_ptr<Plan> make_dense_plan(const ConvDesc& d, const Algorithm& a, const Isa& isa, const Params& p,
                                      const DenseConfig& c) {
    if (d.src == DType::f32) return std::make_unique<DensePlan<float>>(d, a, isa, p, c);
    return std::make_unique<DensePlan<double>>(d, a, isa, p, c);
}

}  // namespace npconv

// One input channel per group. Five paths share one scheme of tasks (image, channels, depth, rows, columns):
//   lanes   lanes = channels; everything
//   nhwc    lanes = channels, all of them for a few pixels at a time; nhwc to nhwc, one output a channel
//   rows    lanes = pixels; 3x3, stride 1 or 2, nchw, mostly straight from the image
//   planar  lanes = pixels over a padded copy of one channel; few channels or large kernels, to nchw
//   interleaved  lanes = whole nhwc pixels of few channels
// All of them add the taps of an output in the same order, so that they agree bit for bit.
#include <algorithm>
#include <cmath>
#include <string>

#include "algorithms/algorithm.hpp"
#include "algorithms/depthwise/kernel.hpp"
#include "core/index_map.hpp"
#include "strip/strip.hpp"
#include "threading/parallel_for.hpp"

namespace npconv {

extern const Algorithm depthwise_algorithm;

namespace {

using depthwise::Kernels;
using depthwise::Problem;
using depthwise::Task;

enum Path : std::int32_t { lanes = 0, rows = 1, planar = 2, interleaved = 3, nhwc = 4 };

const Kernels& kernels_of(std::int32_t path, const Isa& isa) {
    static const Kernels* const table[][5] = {
#define NPCONV_ISA(n)                                                                                  \
    {&n::depthwise_lanes_kernels, &n::depthwise_rows_kernels, &n::depthwise_planar_kernels,            \
     &n::depthwise_interleaved_kernels, &n::depthwise_nhwc_kernels},
#include "isa/list.inc"
    };
    return *table[isa.level][path];
}

std::int64_t lanes_of(const Isa& isa, DType t) { return isa.vector_bytes / static_cast<std::int64_t>(item_size(t)); }

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Columns or rows of the padded image that `n` outputs read.
std::int64_t reach(const Axis& a, std::int64_t n) { return (n - 1) * a.stride + a.extent(); }

// Strides far beyond the window: everything between two windows is left out of the maps, as if the windows were
// neighbours. Keeps strips as small as what is read.
bool sparse(const Axis& a) { return a.stride > 8 * a.extent(); }

ConvDesc compact(ConvDesc d) {
    for (Axis& a : d.axis)
        if (sparse(a)) a.stride = a.extent();
    return d;
}

AxisMap compact_map(const Axis& a) {
    if (!sparse(a)) return axis_map(a, -a.pad_begin, reach(a, a.out));
    AxisMap m;
    m.index.reserve(static_cast<std::size_t>(a.out * a.extent()));
    for (std::int64_t o = 0; o < a.out; ++o)
        for (std::int64_t i = 0; i < a.extent(); ++i)
            m.index.push_back(static_cast<std::int32_t>(map_index(a.mode, o * a.stride + i - a.pad_begin, a.in)));
    return m;
}

bool rows_fits(const ConvDesc& d) {
    const Axis &h = d.h(), &w = d.w();
    return d.dst_order == Order::nchw && d.d().kernel == 1 && h.kernel == 3 && w.kernel == 3 && h.dilation == 1 &&
           w.dilation == 1 && h.stride == w.stride && w.stride <= 2;
}

bool interleaved_fits(const ConvDesc& d, const Isa& isa) {
    return d.src_order == Order::nhwc && d.dst_order == Order::nhwc && d.oc == d.ic && d.w().stride == 1 &&
           d.ic * 2 <= lanes_of(isa, d.src);
}

// Kernel rows that the lanes path has unrolled.
bool lanes_unrolled(const ConvDesc& d) {
    const Axis& w = d.w();
    return w.dilation == 1 && w.stride <= 2 && (w.kernel == 3 || w.kernel == 5 || w.kernel == 7) && d.taps() <= 256;
}

bool nhwc_fits(const ConvDesc& d) {
    return d.src_order == Order::nhwc && d.dst_order == Order::nhwc && d.oc == d.ic && lanes_unrolled(d);
}

// Whether the lanes path finds columns near the left and right border through the map, not in a padded copy: cheap where
// a column is loaded once, else only worth it if they are few.
bool lanes_mapped(const ConvDesc& d) {
    const Axis& w = d.w();
    const std::int64_t left = std::max<std::int64_t>(ceil_div(w.pad_begin, w.stride), 0);
    const std::int64_t right = std::max<std::int64_t>(ceil_div(w.pad_end, w.stride), 0);
    return lanes_unrolled(d) || (left + right + 14) * 4 <= w.out;
}

bool lanes_direct(const ConvDesc& d) { return d.src_order == Order::nhwc && lanes_mapped(d); }

bool lanes_flat(const ConvDesc& d) {
    const auto constant = [](const Axis& a) { return a.mode == PadMode::constant || (a.pad_begin <= 0 && a.pad_end <= 0); };
    return d.src_order == Order::nchw && lanes_mapped(d) && constant(d.h()) && constant(d.w()) && d.h().stride <= 8 &&
           d.w().stride <= 8;
}

// How the work is cut: sizes of one task. Threads may change it, for no output's sum depends on it.
struct Partition {
    std::int64_t channels, rows, columns;
    std::int64_t channel_tasks, row_tasks, column_tasks, tasks_per_image;
};

constexpr std::int64_t strip_budget = 256 << 10;  // bytes of padded rows that should stay in L2

Partition partition(const ConvDesc& d, const Isa& isa, const Params& params, std::int64_t mb, int threads) {
    const Axis &h = d.h(), &w = d.w();
    const std::int64_t size = static_cast<std::int64_t>(item_size(d.src)), L = lanes_of(isa, d.src);
    const std::int64_t wanted = threads > 1 ? 4 * threads : 1, path = params.v[0];
    Partition p{1, h.out, w.out, 0, 0, 0, 0};
    const std::int64_t vector = path == lanes || path == nhwc ? L : path == interleaved ? d.ic : 1;
    const std::int64_t column_bytes = path == rows || path == nhwc ? 0 : d.d().kernel * h.extent() * vector * size;
    if (column_bytes * reach(w, w.out) > strip_budget)  // narrower, but not so narrow that halos dominate
        p.columns = std::min(w.out, std::max((strip_budget / column_bytes - w.extent()) / w.stride, 8 * L));
    const std::int64_t row_bytes = d.d().kernel * reach(w, p.columns) * vector * size;
    std::int64_t least_rows = h.extent();
    if (path == lanes) {
        const std::int64_t blocks = ceil_div(d.ic, L), ring = h.extent() * row_bytes;
        // Whole nhwc pixels at a time; results on their way to planes are gathered for one block only.
        const bool many = d.src_order == Order::nhwc && d.dst_order == Order::nhwc;
        p.channels = L * (many ? std::clamp<std::int64_t>(lanes_direct(d) ? blocks : strip_budget / ring, 1, blocks) : 1);
        if (lanes_direct(d)) least_rows = 1;
    } else if (path == nhwc) {
        p.channels = ceil_div(d.ic, L) * L;
        least_rows = 2;
    } else {
        if (path != rows) p.rows = std::clamp((strip_budget / row_bytes - h.extent()) / h.stride,
                                                 std::min<std::int64_t>(h.out, h.dilation <= 8 ? 8 * h.dilation : 1), h.out);
        if (path == rows) least_rows = 14;
        const double work = static_cast<double>(d.taps() * d.ocg() * p.rows * p.columns);
        p.channels = path == interleaved ? d.ic : std::clamp(static_cast<std::int64_t>(1e5 / work), std::int64_t(1), d.ic);
    }
    const auto count = [&] {
        p.channel_tasks = ceil_div(d.ic, p.channels);
        p.row_tasks = ceil_div(h.out, p.rows);
        p.column_tasks = ceil_div(w.out, p.columns);
        p.tasks_per_image = p.channel_tasks * d.d().out * p.row_tasks * p.column_tasks;
        return mb * p.tasks_per_image;
    };
    // Large images are cut between rows, pairs of which stay together, not within pixels (96x112 with stride 2, two
    // threads: 1.3 times as fast), smaller ones would get tasks of unequal size.
    const std::int64_t most_rows = h.out > 32 ? 4 : 16;
    while (path == nhwc && count() < wanted && p.rows > most_rows) p.rows = ceil_div(ceil_div(p.rows, 2), 2) * 2;
    while (count() < wanted && p.channels > vector) p.channels = ceil_div(p.channels / vector, 2) * vector;
    while (count() < wanted && p.rows > least_rows) p.rows = ceil_div(p.rows, 2);
    const std::int64_t least_columns = std::max(16 * L, 4 * w.extent());  // signals: a single row
    while (count() < wanted && p.columns > least_columns) p.columns = ceil_div(ceil_div(p.columns, 2), L) * L;
    if (path == rows && p.rows < h.out) p.rows = std::min(ceil_div(p.rows, params.v[1]) * params.v[1], h.out);
    count();
    return p;
}

template <class T> class DepthwisePlan final : public Plan {
public:
    DepthwisePlan(const ConvDesc& d, const Isa& i, const Params& p)
        : Plan(d, depthwise_algorithm, i, p), compact_(compact(d)) {
        for (std::size_t a = 0; a < 3; ++a) map_[a] = compact_map(desc.axis[a]);
    }

    std::size_t packed_bytes() const override {
        const std::int64_t path = params.v[0];
        const std::int64_t c = path == lanes || path == nhwc ? ceil_div(desc.ic, L()) * L() : path == interleaved ? L() : desc.ic;
        return static_cast<std::size_t>(c * desc.ocg() * desc.taps()) * sizeof(T);
    }

    void pack(const Tensor& wei, void* packed, int threads) const noexcept override {
        depthwise::WeightView<T> w;
        w.data = static_cast<const T*>(wei.data);
        std::copy_n(wei.stride, 5, w.stride);
        std::copy_n(wei.size + 2, 3, w.size);
        w.channels = desc.ic;
        w.multiplier = desc.ocg();
        const auto& kernel = kernels_of(params.v[0], isa).template of<T>();
        const std::int64_t each = 16 * L();
        const auto body = [&](std::int64_t task, int) {
            kernel.pack(w, task * each, std::min(each, desc.ic - task * each), static_cast<T*>(packed));
        };
        const std::int64_t tasks = ceil_div(desc.ic, each);
        parallel_for(tasks, packed_bytes() < (256 << 10) ? 1 : threads, body);
    }

    std::size_t workspace_bytes(std::int64_t mb, int threads) const override {
        const Partition cut = partition(compact_, isa, params, mb, threads);
        return scratch_bytes(problem(), cut) * static_cast<std::size_t>(threads);
    }

    void execute(const ConvArgs& args) const noexcept override {
        Problem<T> p = problem();
        p.src = static_cast<const T*>(args.src.data);
        p.dst = static_cast<T*>(args.dst.data);
        p.weights = static_cast<const T*>(args.packed);
        std::copy_n(args.src.stride, 5, p.src_stride);
        std::copy_n(args.dst.stride, 5, p.dst_stride);
        p.epilogue = epilogue_args<T>(desc, args);
        p.value = static_cast<T>(args.padding_value);
        const Partition cut = partition(compact_, isa, params, args.src.size[0], args.threads);
        const std::size_t each = scratch_bytes(p, cut);
        if (params.v[0] == rows) p.direct = reads_image(p);
        const auto& kernel = kernels_of(params.v[0], isa).template of<T>();
        const auto body = [&](std::int64_t index, int worker) {
            Task t = task(cut, index);
            t.scratch = static_cast<char*>(args.workspace) + static_cast<std::size_t>(worker) * each;
            kernel.run(p, t);
        };
        parallel_for(args.src.size[0] * cut.tasks_per_image, args.threads, body);
    }

private:
    std::int64_t L() const { return lanes_of(isa, desc.src); }

    // Everything that does not depend on a call's arguments.
    Problem<T> problem() const {
        Problem<T> p{};
        const Axis &d = compact_.d(), &h = compact_.h(), &w = compact_.w();
        p.channels = desc.ic;
        p.multiplier = desc.ocg();
        p.od = d.out, p.oh = h.out, p.ow = w.out, p.ih = h.in, p.iw = w.in;
        p.kd = d.kernel, p.kh = h.kernel, p.kw = w.kernel;
        p.sd = d.stride, p.sh = h.stride, p.sw = w.stride;
        p.dd = d.dilation, p.dh = h.dilation, p.dw = w.dilation;
        p.d_map = map_[0].index.data(), p.h_map = map_[1].index.data(), p.w_map = map_[2].index.data();
        p.interior_lo = map_[2].interior_lo, p.interior_hi = map_[2].interior_hi;
        p.strip = strip_kernels(isa).template of<T>();
        p.rows = params.v[1];
        p.direct = params.v[0] == lanes && lanes_direct(compact_);
        p.flat = params.v[0] == lanes && lanes_flat(desc);
        p.h_begin = -h.pad_begin;
        p.dst_nhwc = desc.dst_order == Order::nhwc;
        return p;
    }

    // The rows path: masks put zeros where nothing is, so nothing or zero padding must stand there.
    bool reads_image(const Problem<T>& p) const {
        const Axis &h = desc.h(), &w = desc.w();
        const auto fine = [&](const Axis& a) {
            return (a.pad_begin <= 0 && a.pad_end <= 0) || (a.mode == PadMode::constant && p.value == T(0));
        };
        return p.src_stride[4] == 1 && p.interior_lo < p.interior_hi && fine(h) && fine(w) && fine(desc.d());
    }

    // Of the largest task; with lanes = channels a narrow one at the end may keep more rows than the others.
    std::size_t scratch_bytes(const Problem<T>& p, const Partition& cut) const {
        std::size_t bytes = 0;
        for (std::int64_t columns : {cut.columns, desc.w().out - (cut.column_tasks - 1) * cut.columns})
            bytes = std::max(bytes, kernels_of(params.v[0], isa).template of<T>().scratch(
                                        p, Task{0, 0, cut.channels, 0, 0, cut.rows, 0, columns, nullptr}));
        return (bytes + 127) / 64 * 64;
    }

    Task task(const Partition& cut, std::int64_t index) const {
        Task t;
        const std::int64_t x = index % cut.column_tasks;
        index /= cut.column_tasks;
        const std::int64_t y = index % cut.row_tasks;
        index /= cut.row_tasks;
        t.d = index % desc.d().out;
        index /= desc.d().out;
        t.c = index % cut.channel_tasks * cut.channels;
        t.n = index / cut.channel_tasks;
        t.channels = std::min(cut.channels, desc.ic - t.c);
        t.y0 = y * cut.rows, t.y1 = std::min(t.y0 + cut.rows, desc.h().out);
        t.x0 = x * cut.columns, t.x1 = std::min(t.x0 + cut.columns, desc.w().out);
        t.scratch = nullptr;
        return t;
    }

    const ConvDesc compact_;
    AxisMap map_[3];
};

std::string refuse(const ConvDesc& d, const Isa&) {
    if (d.direction != Direction::fwd) return "computes the forward direction only";
    if (d.g != d.ic) return "needs one input channel per group";
    if (d.empty()) return "there is nothing to compute";
    return "";
}

// Seconds of one thread's arithmetic and of moving elements between layouts. The figures are fits to measurements of
// Zen 4, most of them in units of one multiplication, or of one move of lanes, so that they scale with the vector length and the clock.
double lanes_seconds(const ConvDesc& d, double L, double in, double out, double fma, double move) {
    const double ic = static_cast<double>(d.ic), idle = std::ceil(ic / L) * L / ic;
    double each = 6;
    if (d.out_pixels() < 100) each += 4;  // entering and leaving a plane
    if (d.dst_order == Order::nchw) each += 5;
    else if (d.ocg() > 1) each += 12;
    double copy = 0;
    if (!lanes_direct(d)) copy = d.src_order == Order::nhwc ? 3 : lanes_flat(d) ? 5 : 9;
    if (d.src_order == Order::any) copy = 40;
    const double sums = static_cast<double>(d.taps()) / (!lanes_unrolled(d) ? 0.55 : d.taps() > 9 ? 1 : 0.92);
    return (out * (sums * fma + each * move) + in * copy * move) * idle;
}

// Of the two orders in which nhwc images can be read: 16 registers on Zen 3, 32 on Sapphire Rapids.
double order_factor(const ConvDesc& d, const Isa& isa, std::int32_t path) {
    if (!nhwc_fits(d)) return 1;
    const bool narrow = d.w().kernel == 3;
    if (isa.registers >= 32) return path == nhwc ? (narrow ? 0.75 : 0.88) : 1;
    if (d.w().stride == 2) return path == nhwc ? 1.5 : 2.4;
    return path == nhwc ? (narrow ? 0.8 : 1.1) : (narrow ? 1.8 : 1.4);
}

// What the products of so many rows at a time reach of their speed. Seven rows with stride 2 are more sums than 16 registers hold; with 32
// they are slower than four where a plane has several sevens (Zen 5: by 6 to 12 % of the whole time, Zen 4: 3 to 13).
double rows_efficiency(const ConvDesc& d, const Isa& isa, double at_once) {
    if (d.w().stride != 2) return at_once >= 7 ? 0.79 : 0.74;
    if (at_once < 7) return 0.58;
    return isa.registers < 32 ? 0.52 : d.h().out > 14 ? 0.44 : 0.58;
}

double rows_seconds(const ConvDesc& d, double efficiency, double L, double out, double fma, double at_once) {
    const double ow = static_cast<double>(d.w().out), oh = static_cast<double>(d.h().out);
    const double idle = std::ceil(ow / L) * L / ow, steps = std::ceil(oh / at_once) + (std::fmod(oh, at_once) > 0);
    const bool image = d.src_order == Order::nchw && d.h().mode == PadMode::constant && d.w().mode == PadMode::constant;
    const double planes = static_cast<double>(d.mb * d.oc * d.d().out);
    return out * idle * 9 * fma / efficiency + planes * (image ? 10e-9 + steps * (at_once >= 7 ? 2e-9 : 5e-9) : steps * 150e-9);
}

double planar_seconds(const ConvDesc& d, double L, double in, double out, double fma, double at_once) {
    const double ow = static_cast<double>(d.w().out), kh = static_cast<double>(d.h().kernel);
    const double idle = std::ceil(ow / L) * L / ow, taps = static_cast<double>(d.taps());
    const double strip_rows = static_cast<double>(d.mb * d.ic * d.d().out * d.d().kernel * reach(d.h(), d.h().out));
    const bool shared = d.h().stride == 1 && at_once >= 4;
    const double copy = d.w().stride > 2 ? 1.5e-9 : d.src_order == Order::nchw ? 5 * fma : 20 * fma;
    return out * idle * taps * fma * (shared ? 1.05 + 1.5 / kh : at_once >= 2 ? 2.2 : 2.8) + strip_rows * 22e-9 + in * copy;
}

double interleaved_seconds(const ConvDesc& d, double L, double in, double out, double fma, double at_once) {
    const double ic = static_cast<double>(d.ic), idle = L / (std::floor(L / ic) * ic);
    const double taps = static_cast<double>(d.taps()), kh = static_cast<double>(d.h().kernel);
    const bool shared = d.h().stride == 1 && at_once >= 4;
    return out * idle * fma * (taps * (shared ? 1.1 + 1.5 / kh : at_once >= 2 ? 2.2 : 2.8) + 10) + in * 6 * fma;
}

double estimate(const ConvDesc& desc, const Isa& isa, const Params& p, int threads, const Machine& m) {
    const ConvDesc d = compact(desc);
    const double L = static_cast<double>(lanes_of(isa, d.src)), size = static_cast<double>(item_size(d.src));
    double in = static_cast<double>(d.mb * d.ic);
    for (const Axis& a : d.axis) in *= static_cast<double>(std::min(a.in, reach(a, a.out)));
    const double out = static_cast<double>(d.mb * d.oc * d.out_pixels());
    const double slower = isa.registers >= 32 ? 1 : 1.3, fma = 2 / m.fma(d.src) * slower, move = 2 / m.moves(d.src) * slower;
    const double at_once = static_cast<double>(p.v[1]);
    double seconds = p.v[0] == lanes || p.v[0] == nhwc ? lanes_seconds(d, L, in, out, fma, move) * order_factor(d, isa, p.v[0])
                     : p.v[0] == rows ? rows_seconds(d, rows_efficiency(d, isa, at_once), L, out, fma, at_once)
                     : p.v[0] == planar ? planar_seconds(d, L, in, out, fma, at_once)
                                        : interleaved_seconds(d, L, in, out, fma, at_once);
    const Partition cut = partition(d, isa, p, d.mb, threads);
    const double tasks = static_cast<double>(d.mb * cut.tasks_per_image), share = std::min<double>(threads, tasks);
    const double bytes = (in + out) * size;
    // What overlaps is not quite free, so that the path with less arithmetic is taken where all wait for memory.
    const double sums = seconds / share * (share > 1 ? 1.1 : 1), traffic = 0.6 * bytes / m.bandwidth(bytes, threads);
    seconds = std::max(sums, traffic) + 0.1 * std::min(sums, traffic);
    if (d.weights == Weights::fresh) seconds += static_cast<double>(d.oc * d.taps()) * size / m.l2_bandwidth * 3;
    return m.call_overhead + (threads > 1 ? m.parallel_overhead : 0) + seconds;
}

std::vector<Params> candidates(const ConvDesc& d, const Isa& isa, int, Rigor) {
    std::vector<Params> list;
    const auto add = [&](Path path, std::int32_t r) {
        Params p;
        p.v[0] = path;
        p.v[1] = r;
        list.push_back(p);
    };
    if (nhwc_fits(d)) add(nhwc, 1);
    add(lanes, 1);
    if (rows_fits(d)) {
        add(rows, 7);
        add(rows, 4);
    }
    const bool fits = interleaved_fits(d, isa);
    if (d.dst_order == Order::nchw || fits) {
        const Path path = fits ? interleaved : planar;
        const bool shared = d.h().stride == 1;
        if (shared && isa.registers >= 32 && d.h().kernel >= 8) add(path, 8);
        if (shared && d.h().kernel >= 4) add(path, 4);
        if (shared && d.h().kernel >= 2) add(path, 2);
        else add(path, 1);
    }
    return list;
}

std::unique_ptr<Plan> make_plan(const ConvDesc& d, const Isa& isa, const Params& p) {
    if (d.src == DType::f32) return std::make_unique<DepthwisePlan<float>>(d, isa, p);
    return std::make_unique<DepthwisePlan<double>>(d, isa, p);
}

constexpr const char* param_names[] = {"path", "rows", nullptr};

}  // namespace

const Algorithm depthwise_algorithm = {"depthwise", 6, param_names, refuse, estimate, candidates, make_plan};

}  // namespace npconv

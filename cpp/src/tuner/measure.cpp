#include "tuner/measure.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>
#include <stdexcept>

#include "algorithms/run.hpp"
#include "core/accuracy.hpp"
#include "core/check.hpp"
#include "core/workspace.hpp"

namespace npconv {
namespace {

// Where image and result begin behind a cache line: NumPy's arrays are aligned to 16 bytes, and two of them seldom alike. With
// both on a line, what reads images in place seems 10 % faster than it is for users.
constexpr std::size_t src_offset = 16, dst_offset = 48;

constexpr std::size_t pattern_size = 65521;  // prime, so that the pattern never lines up with rows or channels

template <class T> void fill_normal(void* data, std::size_t n, double scale, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0, scale);
    std::vector<T> pattern(std::min(n, pattern_size));
    for (T& v : pattern) v = static_cast<T>(normal(random));
    for (std::size_t i = 0; i < n; ++i) static_cast<T*>(data)[i] = pattern[i % pattern.size()];
}

void fill(DType t, void* data, std::size_t n, double scale, unsigned seed) {
    if (t == DType::f32)
        fill_normal<float>(data, n, scale, seed);
    else
        fill_normal<double>(data, n, scale, seed);
}

template <class T> void absolute(void* data, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) static_cast<T*>(data)[i] = std::fabs(static_cast<T*>(data)[i]);
}

// Dense tensor of the given sizes in one of the two memory orders.
Tensor dense(void* data, DType t, std::int64_t n, std::int64_t c, const std::int64_t (&space)[3], bool nhwc) {
    Tensor r;
    r.data = data;
    r.dtype = t;
    const std::int64_t sizes[5] = {n, c, space[0], space[1], space[2]};
    const int order[2][5] = {{4, 3, 2, 1, 0}, {1, 4, 3, 2, 0}};
    std::int64_t stride = 1;
    for (int i : order[nhwc]) {
        r.size[i] = sizes[i];
        r.stride[i] = stride;
        stride *= sizes[i];
    }
    return r;
}

std::size_t elements(const Tensor& t) {
    std::size_t n = 1;
    for (std::int64_t s : t.size) n *= static_cast<std::size_t>(s);
    return n;
}

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

struct Measurement::Data {
    ConvDesc desc;
    int threads;
    Buffer src, wei, dst, residual, vectors;
    Buffer copies;  // of packed weights
    std::size_t copies_bytes = 0;
    Buffer expected;              // the strict algorithm's output without epilogue
    double s = 0, largest = 0;    // max of conv(|x|, |w|), max|y|
    ConvArgs args;

    std::size_t item() const { return item_size(desc.src); }

    Buffer packed(const Plan& plan, const Tensor& w) const {
        Buffer b = make_buffer(plan.packed_bytes());
        plan.pack(w, b.get(), threads);
        return b;
    }

    // Without an epilogue: errors are defined on the sums.
    ConvDesc bare(Accuracy accuracy) const {
        ConvDesc d = desc;
        d.epilogue = Epilogue{};
        d.accuracy = accuracy;
        return d;
    }

    void execute(const Plan& plan, Tensor x, Tensor w, void* out) const {
        ConvArgs a = args;
        a.bias = a.scale = nullptr;
        a.residual = Tensor{};
        a.src.data = x.data;
        a.wei = w;
        a.dst.data = out;
        const Buffer p = packed(plan, w);
        a.packed = p.get();
        npconv::run(plan, a);
    }

    void prepare_expected();
};

void Measurement::Data::prepare_expected() {
    if (expected) return;
    const ConvDesc strict = bare(Accuracy::strict);
    const Isa& isa = current_isa();
    const Algorithm* judge = find_algorithm("reference");
    for (const Algorithm* a : algorithms())
        if (a != judge && a->refuse(strict, isa).empty()) {
            judge = a;
            break;
        }
    const auto plan = judge->make_plan(strict, isa, judge->candidates(strict, isa, threads, Rigor::measure).front());
    const std::size_t n = elements(args.dst), nx = elements(args.src), nw = elements(args.wei);
    expected = make_buffer(n * item());
    execute(*plan, args.src, args.wei, expected.get());

    Buffer ax = make_buffer(nx * item()), aw = make_buffer(nw * item()), ay = make_buffer(n * item());
    std::memcpy(ax.get(), args.src.data, nx * item());
    std::memcpy(aw.get(), args.wei.data, nw * item());
    Tensor x = args.src, w = args.wei;
    x.data = ax.get();
    w.data = aw.get();
    const auto scan = [&](auto zero) {
        using T = decltype(zero);
        absolute<T>(ax.get(), nx);
        absolute<T>(aw.get(), nw);
        execute(*plan, x, w, ay.get());
        for (std::size_t i = 0; i < n; ++i) {
            s = std::max<double>(s, reinterpret_cast<const T*>(ay.get())[i]);
            largest = std::max<double>(largest, std::fabs(reinterpret_cast<const T*>(expected.get())[i]));
        }
    };
    if (desc.src == DType::f32)
        scan(0.0f);
    else
        scan(0.0);
}

Measurement::Measurement(const ConvDesc& given, int threads) : data_(std::make_unique<Data>()) {
    Data& d = *data_;
    d.desc = given;
    d.threads = threads;
    // `any` stands for every odd layout; the one that is measured is channels-last.
    const ConvDesc& desc = d.desc;
    if (desc.empty()) throw std::invalid_argument("measure: nothing to compute in '" + desc.text() + "'");
    const std::int64_t in[3] = {desc.d().in, desc.h().in, desc.w().in};
    const std::int64_t out[3] = {desc.d().out, desc.h().out, desc.w().out};
    const std::int64_t kernel[3] = {desc.d().kernel, desc.h().kernel, desc.w().kernel};
    ConvArgs& a = d.args;
    a.src = dense(nullptr, desc.src, desc.mb, desc.ic, in, desc.src_order != Order::nchw);
    a.dst = dense(nullptr, desc.dst, desc.mb, desc.oc, out, desc.dst_order == Order::nhwc);
    a.wei = dense(nullptr, desc.wei, desc.oc, desc.icg(), kernel, false);
    d.src = make_buffer(elements(a.src) * d.item() + src_offset);
    d.dst = make_buffer(elements(a.dst) * d.item() + dst_offset);
    a.src.data = d.src.get() + src_offset;
    a.dst.data = d.dst.get() + dst_offset;
    d.wei = make_buffer(elements(a.wei) * d.item());
    d.vectors = make_buffer(static_cast<std::size_t>(desc.oc) * 2 * d.item());
    fill(desc.src, a.src.data, elements(a.src), 1, 1);
    fill(desc.wei, d.wei.get(), elements(a.wei), 1, 2);
    fill(desc.dst, d.vectors.get(), static_cast<std::size_t>(desc.oc) * 2, 1, 3);
    std::memset(a.dst.data, 0, elements(a.dst) * d.item());
    a.wei.data = d.wei.get();
    if (desc.epilogue.bias) a.bias = d.vectors.get();
    if (desc.epilogue.scale) a.scale = d.vectors.get() + static_cast<std::size_t>(desc.oc) * d.item();
    if (desc.epilogue.residual != Residual::none) {
        d.residual = make_buffer(elements(a.dst) * d.item());
        std::memset(d.residual.get(), 0, elements(a.dst) * d.item());
        a.residual = a.dst;
        a.residual.data = d.residual.get();
    }
    a.activation_params[1] = 6;
    a.threads = threads;
}

Measurement::~Measurement() = default;

std::pair<const Algorithm*, Params> Measurement::candidate(const std::string& algorithm, const std::string& parameters) const {
    const Algorithm* a = find_algorithm(algorithm);
    if (!a) fail("Measurement", "algorithm '", algorithm, "' is unknown");
    const std::string reason = a->refuse(data_->desc, current_isa());
    if (!reason.empty()) fail("Measurement", algorithm, " ", reason);
    for (Rigor r : {Rigor::measure, Rigor::exhaustive})
        for (const Params& p : a->candidates(data_->desc, current_isa(), data_->threads, r))
            if (params_text(*a, p) == parameters) return {a, p};
    fail("Measurement", "'", parameters, "' is not among the candidates of ", algorithm);
}

double Measurement::run(const Algorithm& algorithm, const Params& params, double seconds) {
    Data& d = *data_;
    const auto plan = algorithm.make_plan(d.desc, current_isa(), params);
    const std::size_t bytes = plan->packed_bytes();
    const bool fresh = d.desc.weights == Weights::fresh;
    // Weights that fit into L2 many times over are hot in any network soon enough; larger ones rotate through copies
    // that exceed the last-level cache. The limit is for virtual machines, which report the whole socket's cache.
    const std::size_t cold = std::min<std::size_t>(3 * static_cast<std::size_t>(cpu_info().l3), std::size_t(128) << 20);
    const std::size_t copies = fresh || bytes < (std::size_t(64) << 10) ? 1 : std::clamp<std::size_t>(cold / bytes, 2, 64);
    const std::size_t stride = (bytes / 64 + 1) * 64;
    if (d.copies_bytes < copies * stride) {  // kept for later runs: new pages would cost more than the calls
        d.copies.reset();
        d.copies = make_buffer(copies * stride);
        d.copies_bytes = copies * stride;
    }
    char* const packed = d.copies.get();
    plan->pack(d.args.wei, packed, d.threads);
    for (std::size_t i = 1; i < copies; ++i) std::memcpy(packed + i * stride, packed, bytes);
    std::vector<double> times;
    ConvArgs args = d.args;
    const auto once = [&](std::size_t i) {
        const Clock::time_point start = Clock::now();
        if (fresh) plan->pack(d.args.wei, packed, d.threads);
        args.packed = packed + i % copies * stride;
        npconv::run(*plan, args);
        return seconds_since(start);
    };
    once(0);
    const Clock::time_point start = Clock::now();
    do times.push_back(once(times.size() + 1));
    while (seconds_since(start) + times.back() < seconds && times.size() < 10000);
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
    return times[times.size() / 2];
}

std::pair<double, double> Measurement::error(const Algorithm& algorithm, const Params& params) {
    Data& d = *data_;
    d.prepare_expected();
    const auto plan = algorithm.make_plan(d.bare(d.desc.accuracy), current_isa(), params);
    const std::size_t n = elements(d.args.dst);
    const Buffer got = make_buffer(n * d.item());
    d.execute(*plan, d.args.src, d.args.wei, got.get());
    double worst = 0;
    const auto scan = [&](auto zero) {
        using T = decltype(zero);
        const T* y = reinterpret_cast<const T*>(got.get());
        const T* e = reinterpret_cast<const T*>(d.expected.get());
        for (std::size_t i = 0; i < n; ++i) {
            const double difference = std::fabs(static_cast<double>(y[i]) - static_cast<double>(e[i]));
            if (!(difference <= worst)) worst = std::isnan(difference) ? HUGE_VAL : difference;
        }
    };
    if (d.desc.src == DType::f32)
        scan(0.0f);
    else
        scan(0.0);
    const AccuracyBound bound = accuracy_bound(d.desc.accuracy, d.desc.src);
    if (worst == 0) return {0, 0};
    return {worst / (bound.any_data * d.s), worst / (bound.normal_data * d.largest)};
}

}  // namespace npconv

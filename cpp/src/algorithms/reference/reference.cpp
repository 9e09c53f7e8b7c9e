// The definition, term by term: for tests, and for problems with a zero-size dimension. One double per output.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "algorithms/algorithm.hpp"
#include "core/index_map.hpp"
#include "threading/parallel_for.hpp"

namespace npconv {
namespace {

double activate(const EpilogueArgs<double>& e, double v) {
    switch (e.activation) {
        case Activation::none: return v;
        case Activation::relu: return v < 0 ? 0 : v;
        case Activation::clip: return v < e.p0 ? e.p0 : v > e.p1 ? e.p1 : v;
        case Activation::leaky_relu: return v > 0 ? v : v * e.p0;
        case Activation::silu: return v / (1 + std::exp(-v));
        case Activation::sigmoid: return 1 / (1 + std::exp(-v));
        case Activation::tanh: return std::tanh(v);
        case Activation::hardswish: return v * (std::isnan(v) ? v : std::clamp(v + 3, 0.0, 6.0)) / 6;
        case Activation::gelu: return v * 0.5 * (1 + std::erf(v * std::sqrt(0.5)));
        case Activation::gelu_tanh:
            return v * 0.5 * (1 + std::tanh(0.79788456080286535588 * (v + 0.044715 * v * v * v)));
    }
    return v;
}

template <class T> class ReferencePlan final : public Plan {
public:
    using Plan::Plan;

    void execute(const ConvArgs& args) const noexcept override {
        const std::int64_t rows = desc.d().out * desc.h().out;
        const auto body = [&](std::int64_t task, int) {
            const std::int64_t row = task % rows, channel = task / rows % desc.oc, n = task / rows / desc.oc;
            for (std::int64_t x = 0; x < desc.w().out; ++x)
                output(args, n, channel, row / desc.h().out, row % desc.h().out, x);
        };
        parallel_for(args.src.size[0] * desc.oc * rows, args.threads, body);
    }

private:
    static const T& at(const Tensor& t, std::int64_t n, std::int64_t c, std::int64_t d, std::int64_t h, std::int64_t w) {
        return t.at<const T>(n, c)[d * t.stride[2] + h * t.stride[3] + w * t.stride[4]];
    }

    double sum(const ConvArgs& a, std::int64_t n, std::int64_t oc, const std::int64_t (&out)[3]) const {
        const auto source = [&](int i, std::int64_t tap) {
            const Axis& x = desc.axis[static_cast<std::size_t>(i)];
            return map_index(x.mode, out[i] * x.stride + tap * x.dilation - x.pad_begin, x.in);
        };
        const std::int64_t first = oc / desc.ocg() * desc.icg();
        double total = 0;
        for (std::int64_t c = 0; c < desc.icg(); ++c)
            for (std::int64_t kd = 0; kd < desc.d().kernel; ++kd)
                for (std::int64_t kh = 0; kh < desc.h().kernel; ++kh)
                    for (std::int64_t kw = 0; kw < desc.w().kernel; ++kw) {
                        const std::int64_t d = source(0, kd), h = source(1, kh), w = source(2, kw);
                        const bool inside = d >= 0 && h >= 0 && w >= 0;
                        const double x = inside ? static_cast<double>(at(a.src, n, first + c, d, h, w))
                                                : static_cast<double>(static_cast<T>(a.padding_value));
                        total += x * static_cast<double>(at(a.wei, oc, c, kd, kh, kw));
                    }
        return total;
    }

    void output(const ConvArgs& a, std::int64_t n, std::int64_t oc, std::int64_t d, std::int64_t h, std::int64_t w) const {
        const EpilogueArgs<T> e = epilogue_args<T>(desc, a);
        EpilogueArgs<double> act;
        act.activation = e.activation;
        act.p0 = e.p0;
        act.p1 = e.p1;
        double v = sum(a, n, oc, {d, h, w});
        if (e.scale) v *= e.scale[oc];
        if (e.bias) v += e.bias[oc];
        const double residual = e.residual_kind == Residual::none ? 0 : at(a.residual, n, oc, d, h, w);
        if (e.residual_kind == Residual::before) v += residual;
        v = activate(act, v);
        if (e.residual_kind == Residual::after) v += residual;
        const_cast<T&>(at(a.dst, n, oc, d, h, w)) = static_cast<T>(v);
    }
};

std::string refuse(const ConvDesc& d, const Isa&) {
    return d.direction == Direction::fwd ? "" : "computes the forward direction only";
}

double estimate(const ConvDesc& d, const Isa&, const Params&, int threads, const Machine&) {
    return 1e-6 + d.macs() * 4e-9 / threads;
}

std::vector<Params> candidates(const ConvDesc&, const Isa&, int, Rigor) { return {Params{}}; }

std::unique_ptr<Plan> make_plan(const ConvDesc& d, const Isa& isa, const Params& p) {
    const Algorithm& row = *find_algorithm("reference");
    if (d.src == DType::f32) return std::make_unique<ReferencePlan<float>>(d, row, isa, p);
    return std::make_unique<ReferencePlan<double>>(d, row, isa, p);
}

constexpr const char* param_names[] = {nullptr};

}  // namespace

extern const Algorithm reference_algorithm;
const Algorithm reference_algorithm = {"reference", 1, param_names, refuse, estimate, candidates, make_plan};

}  // namespace npconv

#include "algorithms/direct/planes.hpp"

#include <algorithm>
#include <utility>

#include "core/pieces.hpp"
#include "gemm/geometry.hpp"
#include "strip/strip.hpp"
#include "threading/parallel_for.hpp"

namespace npconv {
namespace {

class TurnedPlan final : public Plan {
public:
    TurnedPlan(const ConvDesc& d, const Algorithm& a, const Isa& i, const Params& p, std::unique_ptr<Plan> plan)
        : Plan(d, a, i, p), planes_(std::move(plan)) {}

    std::size_t packed_bytes() const override { return planes_->packed_bytes(); }
    void pack(const Tensor& wei, void* packed, int threads) const override { planes_->pack(wei, packed, threads); }
    std::size_t workspace_bytes(std::int64_t mb, int threads) const override {
        return static_cast<std::size_t>(Workspace(desc, nullptr, mb).bytes) + planes_->workspace_bytes(mb, threads);
    }
    void execute(const ConvArgs& a) const noexcept override {
        const std::int64_t mb = a.src.size[0];
        const Workspace w(desc, a.workspace, mb);
        ConvArgs on_planes = a;
        Tensor& to = on_planes.src;
        to.data = w.planes;
        std::int64_t stride = 1;
        for (int i = 4; i >= 0; --i) {
            to.stride[i] = stride;
            stride *= to.size[i];
        }
        desc.src == DType::f32 ? turn<float>(a, w, to) : turn<double>(a, w, to);
        on_planes.workspace = static_cast<char*>(a.workspace) + w.bytes;
        planes_->execute(on_planes);
    }

private:
    struct Workspace {
        char* planes;
        std::int32_t* pixels;  // of an image
        std::int64_t bytes;
        Workspace(const ConvDesc& d, void* memory, std::int64_t mb) {
            Pieces pieces(memory);
            planes = pieces.take<char>(mb * d.ic * d.in_pixels() * static_cast<std::int64_t>(item_size(d.src)));
            pixels = pieces.take<std::int32_t>(d.in_pixels());
            bytes = pieces.used();
        }
    };

    // Four vectors of channels of an image are a task. Channels-last pixels are evenly apart: one row.
    template <class T> void turn(const ConvArgs& a, const Workspace& w, const Tensor& to) const noexcept {
        const std::int64_t row = 0;
        StripSource<T> s;
        s.channel_stride = a.src.stride[1];
        s.column_stride = a.src.stride[4];
        s.rows = 1;
        s.row_offset = &row;
        s.columns = s.interior_hi = desc.in_pixels();
        s.interior_lo = 0;
        for (std::int64_t i = 0; i < s.columns; ++i) w.pixels[i] = static_cast<std::int32_t>(i);
        s.column = w.pixels;
        s.value = 0;
        const std::int64_t some = 256 / static_cast<std::int64_t>(sizeof(T)), parts = (desc.ic + some - 1) / some;
        const StripKernelsOf<T>& kernels = strip_kernels(isa).of<T>();
        parallel_for(a.src.size[0] * parts, a.threads, [&](std::int64_t task, int) noexcept {
            const std::int64_t n = task / parts, c = task % parts * some;
            StripSource<T> part = s;
            part.image = a.src.at<T>(n, c);
            kernels.planar(part, std::min(some, desc.ic - c), 1, to.at<T>(n, c), to.stride[1], 0, 0);
        });
    }

    const std::unique_ptr<Plan> planes_;
};

}  // namespace

bool direct_turns(const ConvDesc& d, const Isa& isa) {
    const std::int64_t apart = d.ic * d.w().stride * static_cast<std::int64_t>(item_size(d.src));
    return d.src_order == Order::nhwc && isa.registers == 32 && d.taps() > 1 && apart % 2048 == 0 &&
           dense_image_possible(direct_on_planes(d), isa, false);
}

ConvDesc direct_on_planes(const ConvDesc& d) {
    ConvDesc planes = d;
    planes.src_order = Order::nchw;
    return planes;
}

std::unique_ptr<Plan> make_turned_plan(const ConvDesc& d, const Algorithm& a, const Isa& isa, const Params& p, std::unique_ptr<Plan> plan) {
    return std::make_unique<TurnedPlan>(d, a, isa, p, std::move(plan));
}

// 512x14, 400 KB read and written: 16 us on a Zen 5 core, and what they push out of L2.
double turning_seconds(const ConvDesc& d, int threads) {
    const double bytes = static_cast<double>(d.mb * d.ic * d.in_pixels()) * static_cast<double>(item_size(d.src));
    return bytes / 16e9 / std::max(threads, 1) + 1e-6;
}

}  // namespace npconv

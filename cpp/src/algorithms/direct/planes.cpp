#include "algorithms/direct/planes.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "gemm/geometry.hpp"
#include "strip/strip.hpp"
#include "threading/parallel_for.hpp"

namespace npconv {
namespace {

constexpr std::int64_t turned_bytes = 4 << 20;  // of planes at a time, or one image: what a large batch takes stays near and bounded

class TurnedPlan final : public Plan {
public:
    TurnedPlan(const ConvDesc& d, const Algorithm& a, const Isa& i, const Params& p, std::unique_ptr<Plan> plan)
        : Plan(d, a, i, p), planes_(std::move(plan)) {
        for (std::int64_t pixel = 0; pixel < d.in_pixels(); ++pixel) pixels_.push_back(static_cast<std::int32_t>(pixel));
    }

    std::size_t packed_bytes() const override { return planes_->packed_bytes(); }
    void pack(const Tensor& wei, void* packed, int threads) const override { planes_->pack(wei, packed, threads); }
    std::size_t workspace_bytes(std::int64_t mb, int threads) const override {
        return planes_bytes(images(mb)) + planes_->workspace_bytes(images(mb), threads);
    }
    void execute(const ConvArgs& a) const noexcept override { desc.src == DType::f32 ? execute_as<float>(a) : execute_as<double>(a); }

private:
    std::int64_t image_bytes() const { return desc.ic * desc.in_pixels() * static_cast<std::int64_t>(item_size(desc.src)); }
    std::int64_t images(std::int64_t mb) const { return std::min(mb, std::max<std::int64_t>(turned_bytes / image_bytes(), 1)); }
    std::size_t planes_bytes(std::int64_t images) const { return static_cast<std::size_t>((images * image_bytes() + 63) / 64 * 64); }

    template <class T> void execute_as(const ConvArgs& a) const noexcept {
        const std::int64_t mb = a.src.size[0], most = images(mb);
        ConvArgs part = a;
        part.workspace = static_cast<char*>(a.workspace) + planes_bytes(most);
        part.src.data = a.workspace;
        std::int64_t stride = 1;
        for (int i = 4; i >= 0; --i) {
            part.src.stride[i] = stride;
            stride *= a.src.size[i];
        }
        for (std::int64_t n = 0; n < mb; n += most) {
            part.src.size[0] = part.dst.size[0] = std::min(most, mb - n);
            part.dst.data = a.dst.at<T>(n);
            if (a.residual) part.residual.data = a.residual.at<T>(n);
            turn<T>(a, n, part.src);
            planes_->execute(part);
        }
    }

    // Images from the n-th on. Four vectors of channels of one are a task. Channels-last pixels are evenly apart: one row.
    template <class T> void turn(const ConvArgs& a, std::int64_t n, const Tensor& to) const noexcept {
        const std::int64_t row = 0;
        StripSource<T> s;
        s.channel_stride = a.src.stride[1];
        s.column_stride = a.src.stride[4];
        s.rows = 1;
        s.row_offset = &row;
        s.columns = s.interior_hi = desc.in_pixels();
        s.interior_lo = 0;
        s.column = pixels_.data();
        s.value = 0;
        const std::int64_t some = 256 / static_cast<std::int64_t>(sizeof(T)), parts = (desc.ic + some - 1) / some;
        const StripKernelsOf<T>& kernels = strip_kernels(isa).of<T>();
        parallel_for(to.size[0] * parts, a.threads, [&](std::int64_t task, int) noexcept {
            const std::int64_t image = task / parts, c = task % parts * some;
            StripSource<T> part = s;
            part.image = a.src.at<T>(n + image, c);
            kernels.planar(part, std::min(some, desc.ic - c), 1, to.at<T>(image, c), to.stride[1], 0, 0);
        });
    }

    const std::unique_ptr<Plan> planes_;
    std::vector<std::int32_t> pixels_;  // 0, 1, ...
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

// 512x14, 400 KB read and written: 16 us on a Zen 5 core, and what they push out of L2. Large batches gain less over strips
// (32 images 1.07 instead of 1.13).
double turning_seconds(const ConvDesc& d, int threads) {
    const double bytes = static_cast<double>(d.mb * d.ic * d.in_pixels()) * static_cast<double>(item_size(d.src));
    return bytes / 16e9 / std::max(threads, 1) + 1e-6;
}

}  // namespace npconv

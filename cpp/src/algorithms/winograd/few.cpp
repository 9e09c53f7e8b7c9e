// The plan for few input channels: see few.hpp. A task is a band of tile rows, whose padded input rows are copied once;
// its groups of tiles, row after row, are the units' groups, so that a unit may end one row and begin the next.
#include "algorithms/winograd/few.hpp"

#include <algorithm>
#include <cfloat>

#include "algorithms/algorithm.hpp"
#include "algorithms/winograd/parts.hpp"
#include "algorithms/winograd/winograd.hpp"
#include "core/pieces.hpp"
#include "strip/strip.hpp"
#include "threading/parallel_for.hpp"

namespace npconv {

extern const Algorithm winograd_algorithm;

namespace {

constexpr int m = 4, points = (m + 2) * (m + 2);
// What any sum of an output can exceed |V| |U| by: the squared row sums of the inverse transform (38) times the channels.
constexpr float growth = 6000;

const WinogradFewKernels& few_kernels(const Isa& isa) {
    static const WinogradFewKernels* const table[] = {
#define NPCONV_ISA(n) &n::winograd_few_kernels,
#include "isa/list.inc"
    };
    return *table[isa.level];
}

class FewPlan final : public Plan {
public:
    FewPlan(const ConvDesc& d, const Algorithm& a, const Isa& i, const Params& p)
        : Plan(d, a, i, p), kernels_(few_kernels(i)), others_(winograd_kernels(i).f32), strip_(strip_kernels(i).f32),
          grid_(d, WinogradParams(p)), lanes_(kernels_.lanes), row_groups_((d.w().out + lanes_ - 1) / lanes_),
          band_rows_(row_groups_ % 4 == 0 ? 1 : row_groups_ % 2 == 0 ? 2 : 4), bands_((grid_.tile_rows + band_rows_ - 1) / band_rows_),
          strip_rows_(band_rows_ * m + 2), row_stride_((row_groups_ + 1) * lanes_ + m), channel_stride_(strip_rows_ * row_stride_),
          large_output_(static_cast<double>(d.oc * d.out_pixels()) * sizeof(float) > 4 * static_cast<double>(cpu_info().l2)),
          pixels_(d.dst_order == Order::nhwc),
          rows_(tile_map(d.h(), bands_ * band_rows_, m)), columns_(tile_map(d.w(), grid_.tile_cols, m)) {}

    std::size_t packed_bytes() const override { return static_cast<std::size_t>(desc.g * group_size()) * sizeof(float); }
    void pack(const Tensor& wei, void* packed, int threads) const noexcept override;
    std::size_t workspace_bytes(std::int64_t, int threads) const override {
        Scratch s;
        return static_cast<std::size_t>(std::max(threads, 1) * s.lay_out(*this, nullptr));
    }
    void execute(const ConvArgs&) const noexcept override;

private:
    struct Scratch {
        float *strip, *v, *slab;
        std::int64_t* row_offset;
        std::int64_t lay_out(const FewPlan& plan, void* memory) {
            Pieces pieces(memory);
            strip = pieces.take<float>(plan.desc.icg() * plan.channel_stride_ + plan.lanes_);
            v = pieces.take<float>(points * plan.desc.icg() * plan.lanes_);
            slab = pieces.take<float>((m * plan.lanes_ + plan.lanes_) * plan.lanes_);  // stores read whole squares to the right
            row_offset = pieces.take<std::int64_t>(plan.strip_rows_);
            return pieces.used();
        }
    };
    struct Band {
        std::int64_t n, group, row, rows;  // in tile rows
    };

    // U of a group and, behind it, the largest of its elements.
    std::int64_t group_size() const { return ((desc.ocg() + lanes_ - 1) / lanes_ * lanes_ * points * desc.icg() / 16 + 2) * 16; }
    float& largest(float* u) const { return u[group_size() - 1]; }
    float largest(const float* u) const { return u[group_size() - 1]; }

    void load(const ConvArgs&, const Band&, const Scratch&) const noexcept;
    WinogradFewUnit unit(const ConvArgs&, const Band&, std::int64_t index) const noexcept;
    void repair_unit(const ConvArgs&, const EpilogueArgs<float>&, const Band&, std::int64_t index, const WinogradFewUnit&,
                     const Scratch&) const noexcept;

    const WinogradFewKernels& kernels_;
    const WinogradKernelsOf<float>& others_;
    const StripKernelsOf<float>& strip_;
    const WinogradGrid grid_;
    const std::int64_t lanes_, row_groups_, band_rows_, bands_, strip_rows_, row_stride_, channel_stride_;
    // Beyond L2 stores wait for their lines: fetched ahead, 3x224 -> 32 (6 MB) took 0.7 of the time. pixels: of dense channels
    // (nhwc), where lanes are output channels.
    const bool large_output_, pixels_;
    const AxisMap rows_, columns_;
};

void FewPlan::pack(const Tensor& wei, void* packed, int threads) const noexcept {
    std::int64_t offset[9];
    for (int t = 0; t < 9; ++t) offset[t] = t / 3 * wei.stride[3] + t % 3 * wei.stride[4];
    parallel_for(desc.g, desc.g < 64 ? 1 : threads, [&](std::int64_t group, int) noexcept {
        float* u = static_cast<float*>(packed) + group * group_size();
        largest(u) = kernels_.filter(wei.at<float>(group * desc.ocg()), wei.stride[0], wei.stride[1], offset, desc.ocg(), desc.icg(),
                                     pixels_, u);
    });
}

void FewPlan::load(const ConvArgs& args, const Band& band, const Scratch& scratch) const noexcept {
    const std::int64_t rows = band.rows * m + 2, row0 = band.row * m;
    for (std::int64_t r = 0; r < rows; ++r) {
        const std::int32_t h = rows_.index[static_cast<std::size_t>(row0 + r)];
        scratch.row_offset[r] = h < 0 ? constant_row : h * args.src.stride[3];
    }
    StripSource<float> s;
    s.image = args.src.at<float>(band.n, band.group * desc.icg());
    s.channel_stride = args.src.stride[1];
    s.column_stride = args.src.stride[4];
    s.row_offset = scratch.row_offset;
    s.rows = rows;
    s.column = columns_.index.data();
    s.columns = static_cast<std::int64_t>(columns_.index.size());
    s.interior_lo = columns_.interior_lo;
    s.interior_hi = columns_.interior_hi;
    s.value = static_cast<float>(args.padding_value);
    strip_.planar(s, desc.icg(), 1, scratch.strip, channel_stride_, row_stride_, 0);
}

WinogradFewUnit FewPlan::unit(const ConvArgs& args, const Band& band, std::int64_t index) const noexcept {
    WinogradFewUnit u;
    u.groups = static_cast<int>(std::min<std::int64_t>(4, band.rows * row_groups_ - index));
    for (int g = 0; g < 4; ++g) {
        const std::int64_t at = index + (g < u.groups ? g : 0), row = at / row_groups_, column = at % row_groups_ * lanes_;
        const std::int64_t oh = (band.row + row) * m;
        WinogradFewGroup& group = u.group[g];
        group.source = row * m * row_stride_ + column;
        group.rows = std::min<std::int64_t>(m, desc.h().out - oh);
        group.columns = std::min(lanes_, desc.w().out - column);
        group.dst = oh * args.dst.stride[3] + column * args.dst.stride[4];
        const std::int64_t next = index + 4 + g < band.rows * row_groups_ ? index + 4 + g : at;
        group.next = (band.row + next / row_groups_) * m * args.dst.stride[3] + next % row_groups_ * lanes_ * args.dst.stride[4];
        group.residual = oh * args.residual.stride[3] + column * args.residual.stride[4];
    }
    return u;
}

// What is not finite, or might overflow in a transform: the direct sum.
void FewPlan::repair_unit(const ConvArgs& args, const EpilogueArgs<float>& epilogue, const Band& band, std::int64_t index,
                          const WinogradFewUnit& unit, const Scratch& scratch) const noexcept {
    for (int g = 0; g < unit.groups; ++g) {
        OutputBox box;
        box.n = band.n;
        box.oh = (band.row + (index + g) / row_groups_) * m;
        box.ohs = unit.group[g].rows;
        box.ow = (index + g) % row_groups_ * lanes_;
        box.ows = unit.group[g].columns;
        BoxStrides stride;
        stride.oc = 1;
        stride.ow = lanes_;
        stride.oh = box.ows * lanes_;
        for (std::int64_t c = 0; c < desc.ocg(); c += lanes_) {
            box.oc = band.group * desc.ocg() + c;
            box.ocs = std::min(lanes_, desc.ocg() - c);
            repair(desc, args, box, scratch.slab, stride);
            (pixels_ ? others_.lanes : others_.planar)(winograd_store(args, epilogue, box, scratch.slab, stride.oh));
        }
    }
}

void FewPlan::execute(const ConvArgs& args) const noexcept {
    const EpilogueArgs<float> epilogue = epilogue_args<float>(desc, args);
    Scratch sizes;
    const std::int64_t scratch_bytes = sizes.lay_out(*this, nullptr);
    const FlushSubnormals flush(desc.accuracy != Accuracy::strict);
    parallel_for(args.src.size[0] * desc.g * bands_, args.threads, [&](std::int64_t task, int worker) noexcept {
        Scratch scratch;
        scratch.lay_out(*this, static_cast<char*>(args.workspace) + worker * scratch_bytes);
        Band band;
        band.row = task % bands_ * band_rows_;
        band.rows = std::min(band_rows_, grid_.tile_rows - band.row);
        band.group = task / bands_ % desc.g;
        band.n = task / bands_ / desc.g;
        // Tiles behind the image read zeros, whatever the memory held before.
        std::fill_n(scratch.strip, desc.icg() * channel_stride_ + lanes_, 0.0f);
        load(args, band, scratch);
        const float* u = static_cast<const float*>(args.packed) + band.group * group_size();
        WinogradFewOutput out;
        out.v = scratch.v;
        out.u = u;
        out.channels = desc.icg();
        out.oc = band.group * desc.ocg();
        out.ocs = desc.ocg();
        out.dst = args.dst.at<float>(band.n, out.oc);
        out.channel_stride = args.dst.stride[1];
        out.row_stride = args.dst.stride[3];
        out.column_stride = args.dst.stride[4];
        out.residual = epilogue.residual_kind == Residual::none ? nullptr : args.residual.at<float>(band.n, out.oc);
        out.residual_channel = args.residual.stride[1];
        out.residual_row = args.residual.stride[3];
        out.residual_column = args.residual.stride[4];
        out.fetch = large_output_;
        out.epilogue = epilogue;
        const WinogradFewInput in = {scratch.strip, channel_stride_, row_stride_, desc.icg()};
        for (std::int64_t index = 0; index < band.rows * row_groups_; index += 4) {
            const WinogradFewUnit units = unit(args, band, index);
            const float size = kernels_.input(in, units, scratch.v);
            if (size * largest(u) < FLT_MAX / growth)  // false for NaN
                (pixels_ ? kernels_.pixels : kernels_.planes)(out, units);
            else
                repair_unit(args, epilogue, band, index, units, scratch);
        }
    });
}

}  // namespace

std::unique_ptr<Plan> make_winograd_few_plan(const ConvDesc& d, const Isa& isa, const Params& p) {
    return std::make_unique<FewPlan>(d, winograd_algorithm, isa, p);
}

}  // namespace npconv

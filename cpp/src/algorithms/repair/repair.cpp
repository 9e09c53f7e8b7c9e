#include "algorithms/repair/repair.hpp"

#include <algorithm>
#include <vector>

#include "core/accuracy.hpp"
#include "core/index_map.hpp"

namespace npconv {
namespace {

constexpr int strip = 16;     // output pixels of one row that are summed together
constexpr int channels = 32;  // and output channels

// Sums of `channels` x `strip` outputs: `part` is the current block, `total` the finished ones.
struct Sums {
    double part[channels][strip];
    double total[channels][strip];
    std::int64_t terms;

    void clear(std::int64_t n) {
        for (std::int64_t c = 0; c < n; ++c)
            for (int p = 0; p < strip; ++p) part[c][p] = total[c][p] = 0;
        terms = 0;
    }
    void flush(std::int64_t n) {
        for (std::int64_t c = 0; c < n; ++c)
            for (int p = 0; p < strip; ++p) {
                total[c][p] += part[c][p];
                part[c][p] = 0;
            }
        terms = 0;
    }
};

// part[p] += sum of w[k] * x[k * dilation + p * stride], n taps. A copy of `part` lets it stay in registers.
template <bool UnitStride, class T>
void accumulate(double* part, const T* w, std::int64_t w_stride, std::int64_t n, const double* x, std::int64_t dilation,
                std::int64_t stride) {
    double sum[strip];
    for (int p = 0; p < strip; ++p) sum[p] = part[p];
    for (std::int64_t k = 0; k < n; ++k, x += dilation) {
        const double v = static_cast<double>(w[k * w_stride]);
        for (int p = 0; p < strip; ++p) sum[p] += v * x[UnitStride ? p : p * stride];
    }
    for (int p = 0; p < strip; ++p) part[p] = sum[p];
}

template <class T> class Repair {
public:
    Repair(const ConvDesc& desc, const ConvArgs& args) : desc_(desc), args_(args) {}

    // One strip of one output row: `pixels` outputs from column ow on, channels [oc, oc + ocs) of one group.
    void row(const OutputBox& box, std::int64_t oc, std::int64_t ocs, std::int64_t od, std::int64_t oh, std::int64_t ow,
             std::int64_t pixels) {
        map_columns(ow, pixels);
        sums_.clear(ocs);
        const std::int64_t ic0 = oc / desc_.ocg() * desc_.icg();
        for (std::int64_t ic = 0; ic < desc_.icg(); ++ic)
            for (std::int64_t kd = 0; kd < desc_.d().kernel; ++kd)
                for (std::int64_t kh = 0; kh < desc_.h().kernel; ++kh) {
                    load_row(box.n, ic0 + ic, source(desc_.d(), od, kd), source(desc_.h(), oh, kh));
                    taps(args_.wei.at<T>(oc, ic) + kd * args_.wei.stride[2] + kh * args_.wei.stride[3], ocs);
                }
        sums_.flush(ocs);
    }
    double result(std::int64_t c, std::int64_t pixel) const { return sums_.total[c][pixel]; }

private:
    static std::int64_t source(const Axis& a, std::int64_t o, std::int64_t k) {
        return map_index(a.mode, o * a.stride + k * a.dilation - a.pad_begin, a.in);
    }

    // Source columns of a strip; columns behind its last pixel repeat the last one and are never stored.
    void map_columns(std::int64_t ow, std::int64_t pixels) {
        const Axis& w = desc_.w();
        const std::int64_t count = (strip - 1) * w.stride + w.extent(), used = (pixels - 1) * w.stride + w.extent();
        columns_.resize(static_cast<std::size_t>(count));
        values_.resize(static_cast<std::size_t>(count));
        for (std::int64_t i = 0; i < count; ++i)
            columns_[static_cast<std::size_t>(i)] =
                map_index(w.mode, ow * w.stride - w.pad_begin + std::min(i, used - 1), w.in);
    }

    void load_row(std::int64_t n, std::int64_t c, std::int64_t d, std::int64_t h) {
        const bool constant = d < 0 || h < 0;
        const T* row = args_.src.at<T>(n, c) + (constant ? 0 : d * args_.src.stride[2] + h * args_.src.stride[3]);
        const double padding = static_cast<double>(static_cast<T>(args_.padding_value));
        for (std::size_t i = 0; i < columns_.size(); ++i)
            values_[i] = constant || columns_[i] < 0 ? padding : static_cast<double>(row[columns_[i] * args_.src.stride[4]]);
    }

    void taps(const T* wei, std::int64_t ocs) {
        const Axis& w = desc_.w();
        const std::int64_t oc_stride = args_.wei.stride[0], kw_stride = args_.wei.stride[4];
        for (std::int64_t kw = 0; kw < w.kernel;) {
            const std::int64_t n = std::min<std::int64_t>(w.kernel - kw, sum_block - sums_.terms);
            const double* x = values_.data() + kw * w.dilation;
            for (std::int64_t c = 0; c < ocs; ++c) {
                const T* from = wei + c * oc_stride + kw * kw_stride;
                if (w.stride == 1)
                    accumulate<true>(sums_.part[c], from, kw_stride, n, x, w.dilation, 1);
                else
                    accumulate<false>(sums_.part[c], from, kw_stride, n, x, w.dilation, w.stride);
            }
            sums_.terms += n;
            kw += n;
            if (sums_.terms == sum_block) sums_.flush(ocs);
        }
    }

    const ConvDesc& desc_;
    const ConvArgs& args_;
    std::vector<std::int64_t> columns_;
    std::vector<double> values_;
    Sums sums_;
};

}  // namespace

template <class T>
void repair(const ConvDesc& desc, const ConvArgs& args, const OutputBox& box, T* out, const BoxStrides& stride) noexcept {
    Repair<T> work(desc, args);
    for (std::int64_t oc = box.oc, next; oc < box.oc + box.ocs; oc = next) {
        const std::int64_t group_end = (oc / desc.ocg() + 1) * desc.ocg();
        next = std::min({oc + channels, group_end, box.oc + box.ocs});
        for (std::int64_t od = box.od; od < box.od + box.ods; ++od)
            for (std::int64_t oh = box.oh; oh < box.oh + box.ohs; ++oh)
                for (std::int64_t ow = box.ow; ow < box.ow + box.ows; ow += strip) {
                    const std::int64_t pixels = std::min<std::int64_t>(strip, box.ow + box.ows - ow);
                    work.row(box, oc, next - oc, od, oh, ow, pixels);
                    T* to = out + (oc - box.oc) * stride.oc + (od - box.od) * stride.od + (oh - box.oh) * stride.oh +
                            (ow - box.ow) * stride.ow;
                    for (std::int64_t c = 0; c < next - oc; ++c)
                        for (std::int64_t p = 0; p < pixels; ++p)
                            to[c * stride.oc + p * stride.ow] = static_cast<T>(work.result(c, p));
                }
    }
}

template void repair<float>(const ConvDesc&, const ConvArgs&, const OutputBox&, float*, const BoxStrides&) noexcept;
template void repair<double>(const ConvDesc&, const ConvArgs&, const OutputBox&, double*, const BoxStrides&) noexcept;

}  // namespace npconv

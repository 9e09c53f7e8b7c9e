#include "gemm/terms.hpp"

#include <algorithm>

namespace npconv {
namespace {

// Whether kernel column k of the first, of the last pixel of a row lies in the padding.
bool left_of_image(const Axis& w, std::int64_t k) { return k * w.dilation < w.pad_begin; }
bool right_of_image(const Axis& w, std::int64_t k) {
    return (w.out - 1) * w.stride + k * w.dilation - w.pad_begin >= w.in;
}

}  // namespace

DenseTermLists::Range DenseTermLists::inside(const Axis& a, std::int64_t out) {
    const std::int64_t at = out * a.stride - a.pad_begin;  // of the first tap
    const std::int64_t begin = at >= 0 ? 0 : (-at + a.dilation - 1) / a.dilation;
    const std::int64_t end = at >= a.in ? 0 : (a.in - 1 - at) / a.dilation + 1;
    return {std::min(begin, a.kernel), std::clamp(end, std::min(begin, a.kernel), a.kernel)};
}

void DenseTermLists::kinds(const Axis& a, std::vector<Range>& ranges, std::vector<std::uint8_t>& kind) const {
    for (std::int64_t o = 0; o < a.out; ++o) {
        const Range r = inside(a, o);
        const auto found = std::find(ranges.begin(), ranges.end(), r);
        kind.push_back(static_cast<std::uint8_t>(found - ranges.begin()));
        if (found == ranges.end()) ranges.push_back(r);
    }
}

DenseTerms DenseTermLists::list(const ConvDesc& d, const Range& kd, const Range& kh, int edge, std::int64_t channels,
                                std::int64_t channel, const std::vector<std::ptrdiff_t>& tap) {
    // Every tile has its terms in this order, so that edges and padded copies give the same bits.
    std::vector<DenseTerm> found;
    for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t z = kd.begin; z < kd.end; ++z)
            for (std::int64_t y = kh.begin; y < kh.end; ++y)
                for (std::int64_t x = 0; x < d.w().kernel; ++x) {
                    const std::int64_t t = (z * d.h().kernel + y) * d.w().kernel + x;
                    found.push_back({static_cast<std::int32_t>(c * channel + tap[static_cast<std::size_t>(t)]),
                                     static_cast<std::int32_t>(c * d.taps() + t)});
                }
    DenseTerms terms;
    terms.all = static_cast<std::int32_t>(found.size());
    if (edge != 0 && terms.all > 0) {
        terms.rows = static_cast<std::int32_t>(terms.all / d.w().kernel);
        for (std::int64_t x = 0; x < d.w().kernel; ++x) {
            if ((edge & 1) && left_of_image(d.w(), x)) ++terms.left;
            else if ((edge & 2) && right_of_image(d.w(), x)) ++terms.right;
        }
        terms.all = static_cast<std::int32_t>(d.w().kernel) - terms.left - terms.right;
        terms.in_order = terms.left + terms.right == 0;
    }
    for (std::size_t i = 1; i < found.size(); ++i)
        if (found[i].w - found[i - 1].w != 1) terms.in_order = false;
    if (terms.in_order && found.size() > 1) terms.step = found[1].x - found[0].x;
    for (std::size_t i = 1; i < found.size(); ++i)
        if (found[i].x - found[i - 1].x != terms.step) terms.step = 0;
    memory_.push_back(std::move(found));
    terms.term = memory_.back().data();  // stays when memory_ grows: moving a vector keeps its elements where they are
    return terms;
}

DenseTermLists::DenseTermLists(const ConvDesc& d, DenseSource source, std::int64_t channel, const std::vector<std::ptrdiff_t>& tap,
                               std::int64_t row_tile) {
    std::vector<Range> depth = {{0, d.d().kernel}}, rows = {{0, d.h().kernel}};
    if (source == DenseSource::image && !dense_flat(d)) {
        depth.clear();
        rows.clear();
        kinds(d.d(), depth, depth_kind_);
        kinds(d.h(), rows, row_kind_);
        if (left_of_image(d.w(), 0) || right_of_image(d.w(), d.w().kernel - 1)) edges_ = 4;
    }
    row_kinds_ = static_cast<std::int64_t>(rows.size());
    const std::int64_t together = std::max<std::int64_t>(1, dense_block / std::max<std::int64_t>(d.taps(), 1));
    const std::int64_t groups = std::max<std::int64_t>(1, (d.icg() + together - 1) / together);
    const std::int64_t last = d.icg() - (groups - 1) * together, tiles = (d.w().out + row_tile - 1) / row_tile;
    for (const Range& kd : depth)
        for (const Range& kh : rows)
            for (int edge = 0; edge < edges_; ++edge) {
                DenseSum s;
                s.groups = groups;
                s.x_group = together * channel;
                s.w_group = together * d.taps();
                // One tile in a row has both ends, two have one each, only more have an inside.
                const bool used = edges_ == 1 || (edge == 3 ? tiles == 1 : edge == 0 ? tiles > 2 : tiles > 1);
                if (used && groups > 1) s.full = list(d, kd, kh, edge, together, channel, tap);
                if (used) s.last = groups > 1 && last == together ? s.full : list(d, kd, kh, edge, last, channel, tap);
                sums_.push_back(s);
            }
}

DenseSums DenseTermLists::sums(std::int64_t d, std::int64_t h0) const {
    const std::int64_t depth = depth_kind_.empty() ? 0 : depth_kind_[static_cast<std::size_t>(d)];
    return {sums_.data() + depth * row_kinds_ * edges_, row_kind_.empty() ? nullptr : row_kind_.data() + h0, edges_};
}

}  // namespace npconv

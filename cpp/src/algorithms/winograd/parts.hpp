// What the two plans of this folder share.
#pragma once

#include <algorithm>

#include "algorithms/repair/repair.hpp"
#include "algorithms/winograd/kernel.hpp"
#include "algorithms/winograd/taps.hpp"
#include "core/index_map.hpp"
#include "isa/isa.hpp"
#include "npconv/plan.hpp"

namespace npconv {

inline const WinogradKernels& winograd_kernels(const Isa& isa) {
    static const WinogradKernels* const table[] = {
#define NPCONV_ISA(n) &n::winograd_kernels,
#include "isa/list.inc"
    };
    return *table[isa.level];
}

inline const WinogradTapsKernels& winograd_taps_kernels(const Isa& isa) {
    static const WinogradTapsKernels* const table[] = {
#define NPCONV_ISA(n) &n::winograd_taps_kernels,
#include "isa/list.inc"
    };
    return *table[isa.level];
}

// Source indices of the rows or columns that `tiles` tiles read. Positions behind the last output's window repeat the
// last one, so that what lies there (cropped data, say) can't add to the rounding errors of outputs that exist.
inline AxisMap tile_map(const Axis& axis, std::int64_t tiles, int m) {
    const std::int64_t used = (axis.out - 1) * axis.stride + 3;
    AxisMap map = axis_map(axis, -axis.pad_begin, used);
    map.index.resize(static_cast<std::size_t>(std::max(used, tiles * m * axis.stride + 3 - axis.stride)), map.index.back());
    return map;
}

// Sums of a box, slab[row * pitch + column * L + channel], on their way through the epilogue.
template <class T>
WinogradStore<T> winograd_store(const ConvArgs& args, const EpilogueArgs<T>& epilogue, const OutputBox& box, const T* slab,
                                std::int64_t pitch) {
    WinogradStore<T> s;
    s.slab = slab;
    s.pitch = pitch;
    s.rows = box.ohs;
    s.columns = box.ows;
    s.channels = box.ocs;
    s.oc = box.oc;
    const std::int64_t* d = args.dst.stride;
    s.dst = args.dst.at<T>(box.n, box.oc) + box.od * d[2] + box.oh * d[3] + box.ow * d[4];
    s.channel_stride = d[1];
    s.row_stride = d[3];
    s.column_stride = d[4];
    s.epilogue = epilogue;
    s.residual = nullptr;
    if (epilogue.residual_kind != Residual::none) {
        const std::int64_t* r = epilogue.residual_stride;
        s.residual = epilogue.residual + box.n * r[0] + box.oc * r[1] + box.od * r[2] + box.oh * r[3] + box.ow * r[4];
        s.residual_channel = r[1];
        s.residual_row = r[3];
        s.residual_column = r[4];
    }
    return s;
}

}  // namespace npconv

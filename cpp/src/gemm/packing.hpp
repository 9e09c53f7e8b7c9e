// Weights on their way into vectors of output channels: for whoever multiplies with taps.
#pragma once

#include "gemm/kernel.hpp"
#include "isa/isa.hpp"
#include "npconv/plan.hpp"

namespace npconv {

template <class T> const PackKernels<T>& pack_kernels(const Isa& isa) {
    static const PerType<PackKernels>* const table[] = {
#define NPCONV_ISA(n) &n::dense_pack_kernels,
#include "isa/list.inc"
    };
    return table[isa.level]->of<T>();
}

template <class T> DenseWeights<T> weights_of_group(const ConvDesc& d, const Tensor& wei, std::int64_t group) {
    DenseWeights<T> w;
    w.data = wei.at<T>(group * d.ocg());
    w.oc = d.ocg();
    w.oc_stride = wei.stride[0];
    for (int i = 0; i < 4; ++i) {
        w.size[i] = wei.size[i + 1];
        w.stride[i] = wei.stride[i + 1];
    }
    return w;
}

}  // namespace npconv

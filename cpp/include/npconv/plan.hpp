// The immutable, thread-safe executable of one ConvDesc. Owns neither weights nor workspace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "npconv/conv_desc.hpp"
#include "npconv/tensor.hpp"

namespace npconv {

struct Algorithm;
struct Isa;

// Up to six small integers that distinguish one algorithm's candidates; their names stand in its row.
struct Params {
    std::int32_t v[6] = {0, 0, 0, 0, 0, 0};
    friend bool operator==(const Params& a, const Params& b) {
        for (int i = 0; i < 6; ++i)
            if (a.v[i] != b.v[i]) return false;
        return true;
    }
};

// Everything one execution needs; plain data. mb is src.size[0]: a plan serves any batch size.
struct ConvArgs {
    Tensor src;                    // N, C, D, H, W
    Tensor dst;                    // class nchw or nhwc, never overlapping src
    Tensor wei;                    // the user's weights O, I/g, KD, KH, KW: read by repair, reference and what packs late
    const void* packed = nullptr;  // what Plan::pack wrote; null if packed_bytes() == 0
    const void* scale = nullptr;   // (oc,) of dst's dtype
    const void* bias = nullptr;
    Tensor residual;  // may be the very memory of dst
    double padding_value = 0;
    double activation_params[2] = {0, 0};
    void* workspace = nullptr;  // workspace_bytes(mb, threads), 64-byte aligned
    int threads = 1;
};

class Plan {
public:
    Plan(const ConvDesc& d, const Algorithm& a, const Isa& i, const Params& p)
        : desc(d), algorithm(a), isa(i), params(p) {}
    virtual ~Plan() = default;
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;

    virtual std::size_t packed_bytes() const { return 0; }
    // `packed` is 64-byte aligned. Threads split the work, never the arithmetic.
    // May throw std::bad_alloc where packing needs scratch memory of its own.
    virtual void pack(const Tensor& /*wei*/, void* /*packed*/, int /*threads*/) const {}
    virtual std::size_t workspace_bytes(std::int64_t /*mb*/, int /*threads*/) const { return 0; }
    virtual void execute(const ConvArgs&) const noexcept = 0;

    const ConvDesc desc;
    const Algorithm& algorithm;
    const Isa& isa;
    const Params params;
};

template <class T> EpilogueArgs<T> epilogue_args(const ConvDesc& d, const ConvArgs& a) {
    EpilogueArgs<T> e;
    e.scale = static_cast<const T*>(a.scale);
    e.bias = static_cast<const T*>(a.bias);
    e.residual = static_cast<const T*>(a.residual.data);
    for (int i = 0; i < 5; ++i) e.residual_stride[i] = a.residual.stride[i];
    e.residual_kind = a.residual.data ? d.epilogue.residual : Residual::none;
    e.activation = d.epilogue.activation;
    e.p0 = static_cast<T>(a.activation_params[0]);
    e.p1 = static_cast<T>(a.activation_params[1]);
    return e;
}

}  // namespace npconv

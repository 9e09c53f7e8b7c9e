// What happens to an accumulator before it is stored: y = act(scale*acc + bias + residual).
// Plain data without any dependency, because kernels compiled per ISA include it.
#pragma once

#include <cstdint>

namespace npconv {

enum class Activation : std::uint8_t { none, relu, clip, leaky_relu, silu, sigmoid, tanh, hardswish, gelu, gelu_tanh };
enum class Residual : std::uint8_t { none, before, after };  // added before or after the activation

// The kind is part of the descriptor; its values (bias, slopes, limits) are arguments of a call.
struct Epilogue {
    bool scale = false;
    bool bias = false;
    Residual residual = Residual::none;
    Activation activation = Activation::none;

    friend bool operator==(const Epilogue& a, const Epilogue& b) {
        return a.scale == b.scale && a.bias == b.bias && a.residual == b.residual && a.activation == b.activation;
    }
};

// What a kernel gets. Null pointers mean "unused". relu6 is clip(0, 6).
// `residual` has its own strides because it need not lie in memory as dst does.
template <class T> struct EpilogueArgs {
    const T* scale = nullptr;     // (oc,), contiguous
    const T* bias = nullptr;      // (oc,), contiguous
    const T* residual = nullptr;  // element [n=0, c=0, 0, 0, 0] of a tensor of dst's shape
    std::int64_t residual_stride[5] = {0, 0, 0, 0, 0};
    Residual residual_kind = Residual::none;
    Activation activation = Activation::none;
    T p0 = 0;  // leaky_relu: slope; clip: lower limit
    T p1 = 0;  // clip: upper limit
};

}  // namespace npconv

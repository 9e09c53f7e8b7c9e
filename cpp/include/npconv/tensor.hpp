// A view of somebody else's memory: what every room passes around instead of NumPy arrays.
#pragma once

#include <cstddef>
#include <cstdint>

namespace npconv {

enum class DType : std::uint8_t { f32, f64 };

constexpr std::size_t item_size(DType t) { return t == DType::f32 ? 4 : 8; }
constexpr const char* dtype_name(DType t) { return t == DType::f32 ? "f32" : "f64"; }

// Activations are N, C, D, H, W; weights are O, I/g, KD, KH, KW, whatever the order in memory is:
// memory order, flipping and broadcasting are nothing but strides, counted in elements.
struct Tensor {
    void* data = nullptr;
    DType dtype = DType::f32;
    std::int64_t size[5] = {0, 0, 0, 0, 0};
    std::int64_t stride[5] = {0, 0, 0, 0, 0};

    template <class T> T* at(std::int64_t n = 0, std::int64_t c = 0) const {
        return static_cast<T*>(data) + n * stride[0] + c * stride[1];
    }
    explicit operator bool() const { return data != nullptr; }
};

}  // namespace npconv

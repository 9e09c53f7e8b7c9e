// A kernel table for both element types.
#pragma once

namespace npconv {

template <template <class> class Kernels> struct PerType {
    Kernels<float> f32;
    Kernels<double> f64;

    template <class T> const Kernels<T>& of() const {
        if constexpr (sizeof(T) == 4)
            return f32;
        else
            return f64;
    }
};

}  // namespace npconv

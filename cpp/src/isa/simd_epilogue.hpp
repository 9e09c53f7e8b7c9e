// The epilogue on vectors. Kernels that hold accumulators of one channel (lanes = pixels) or of neighbouring channels
// (lanes = channels) call finish() with scale and bias broadcast or loaded accordingly.
#pragma once

#include "isa/simd_math.hpp"
#include "npconv/epilogue.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

// Out of line: one copy per object; an exponential dwarfs the call.
template <class T> NPCONV_NOINLINE Vec<T> activate_slow(Activation kind, Vec<T> v) {
    switch (kind) {
        case Activation::silu: return mul(v, sigmoid(v));
        case Activation::sigmoid: return sigmoid(v);
        case Activation::tanh: return tanh(v);
        case Activation::hardswish:
            return mul(v, mul(min(set1(T(6)), max(set1(T(0)), add(v, set1(T(3))))), set1(T(1) / 6)));
        case Activation::gelu: return mul(mul(v, set1(T(0.5))), add(set1(T(1)), erf(mul(v, set1(T(0.70710678118654752440))))));
        case Activation::gelu_tanh: {
            const Vec<T> u = mul(v, fma(mul(v, v), set1(T(0.044715)), set1(T(1))));
            return mul(mul(v, set1(T(0.5))), add(set1(T(1)), tanh(mul(u, set1(T(0.79788456080286535588))))));
        }
        default: return v;
    }
}

template <class T> NPCONV_INLINE Vec<T> activate(const EpilogueArgs<T>& e, Vec<T> v) {
    const Vec<T> zero = set1(T(0));
    switch (e.activation) {
        case Activation::none: return v;
        case Activation::relu: return max(zero, v);
        case Activation::clip: return min(set1(e.p1), max(set1(e.p0), v));
        case Activation::leaky_relu: return select_lt(zero, v, v, mul(v, set1(e.p0)));
        default: return activate_slow<T>(e.activation, v);
    }
}

// `residual` is ignored when the kind is none.
template <class T>
NPCONV_INLINE Vec<T> finish(const EpilogueArgs<T>& e, Vec<T> acc, Vec<T> scale, Vec<T> bias, Vec<T> residual) {
    Vec<T> v = fma(acc, scale, bias);
    if (e.residual_kind == Residual::before) v = add(v, residual);
    v = activate<T>(e, v);
    if (e.residual_kind == Residual::after) v = add(v, residual);
    return v;
}

// An activation that is a clamp, or none: without branches, the same bits as activate().
NPCONV_INLINE bool is_clamp(Activation a) { return a == Activation::none || a == Activation::relu || a == Activation::clip; }
template <class T> NPCONV_INLINE bool is_simple(const EpilogueArgs<T>& e) {
    return e.residual_kind == Residual::none && is_clamp(e.activation);
}
template <class T> struct Simple {
    Vec<T> lo, hi;
    bool clamps;
    NPCONV_INLINE explicit Simple(const EpilogueArgs<T>& e) : clamps(e.activation != Activation::none) {
        const T inf = T(__builtin_inf());
        lo = set1(e.activation == Activation::clip ? e.p0 : e.activation == Activation::relu ? T(0) : -inf);
        hi = set1(e.activation == Activation::clip ? e.p1 : inf);
    }
    NPCONV_INLINE Vec<T> clamp(Vec<T> v) const { return min(hi, max(lo, v)); }
    // Several at once, with a branch that is always the same; not an fma where nothing is scaled: additions have pipelines
    // of their own.
    template <int N> NPCONV_INLINE void finish(Vec<T> (&v)[N], bool scaled, Vec<T> scale, Vec<T> bias) const {
        if (scaled) {
            NPCONV_UNROLL for (int i = 0; i < N; ++i) v[i] = fma(v[i], scale, bias);
        } else {
            NPCONV_UNROLL for (int i = 0; i < N; ++i) v[i] = add(v[i], bias);
        }
        if (clamps) {
            NPCONV_UNROLL for (int i = 0; i < N; ++i) v[i] = clamp(v[i]);
        }
    }
    NPCONV_INLINE Vec<T> operator()(Vec<T> acc, Vec<T> scale, Vec<T> bias) const { return clamp(fma(acc, scale, bias)); }
};

// The bias of channels that lie side by side, and of one channel a row. Not an fma: additions have pipelines of their own.
template <class T, int M, int N> NPCONV_INLINE void add_channels(Vec<T> (&acc)[M][N], const T* bias) {
    NPCONV_UNROLL for (int v = 0; v < N; ++v) {
        const Vec<T> plus = load(bias + v * lanes<T>);
        NPCONV_UNROLL for (int i = 0; i < M; ++i) acc[i][v] = add(acc[i][v], plus);
    }
}
template <class T, int M, int N> NPCONV_INLINE void add_rows(Vec<T> (&acc)[M][N], const T* bias) {
    NPCONV_UNROLL for (int i = 0; i < M; ++i) {
        NPCONV_OPAQUE(bias);  // one after the other: there is no register for all
        const Vec<T> plus = set1(bias[i]);
        NPCONV_UNROLL for (int v = 0; v < N; ++v) acc[i][v] = add(acc[i][v], plus);
    }
}

// What a simple epilogue needs where finished sums leave the registers: of the first channel of a tile, and no vectors, which a
// tile with all its sums has no registers for until its end.
template <class T> struct Straight {
    const T *scale, *bias;  // or null
    bool clamps, caps;      // from below at least; from above too
    T low, high;

    NPCONV_INLINE void set(const EpilogueArgs<T>& e, std::int64_t oc) {
        scale = e.scale ? e.scale + oc : nullptr;
        bias = e.bias ? e.bias + oc : nullptr;
        clamps = e.activation != Activation::none;
        caps = e.activation == Activation::clip;
        low = e.activation == Activation::clip ? e.p0 : T(0);
        high = e.p1;
    }
    // Of pixels x vectors of neighbouring channels, `c` behind the first.
    template <int M, int N> NPCONV_INLINE void finish_channels(Vec<T> (&acc)[M][N], std::int64_t c = 0) const {
        if (scale) {
            NPCONV_UNROLL for (int v = 0; v < N; ++v) {
                const Vec<T> by = load(scale + c + v * lanes<T>), plus = bias ? load(bias + c + v * lanes<T>) : set1(T(0));
                NPCONV_UNROLL for (int i = 0; i < M; ++i) acc[i][v] = fma(acc[i][v], by, plus);
            }
        } else if (bias) {
            add_channels<T>(acc, bias + c);
        }
        clamp(acc);
    }
    template <int M, int N> NPCONV_INLINE void clamp(Vec<T> (&acc)[M][N]) const {
        if (!clamps) return;
        const Vec<T> lo = set1(low), hi = set1(high);
        NPCONV_UNROLL for (int i = 0; i < M; ++i)
            NPCONV_UNROLL for (int v = 0; v < N; ++v) acc[i][v] = max(lo, acc[i][v]);
        if (!caps) return;
        NPCONV_UNROLL for (int i = 0; i < M; ++i)
            NPCONV_UNROLL for (int v = 0; v < N; ++v) acc[i][v] = min(hi, acc[i][v]);
    }
};

// How many elements from p on lie before the next whole vector's alignment. Stores across two lines cost twice.
template <class T> NPCONV_INLINE std::int64_t unaligned(const T* p) {
    constexpr std::uintptr_t bytes = lanes<T> * sizeof(T);
    return static_cast<std::int64_t>((bytes - reinterpret_cast<std::uintptr_t>(p) % bytes) % bytes / sizeof(T));
}

// n elements at any stride, a residual's.
template <class T> NPCONV_INLINE Vec<T> load_strided(const T* p, std::int64_t stride, std::int64_t n) {
    constexpr int L = lanes<T>;
    if (stride == 1) return load_partial(p, n);
    T t[L] = {};
    for (std::int64_t i = 0; i < n && i < L; ++i) t[i] = p[i * stride];
    return load(t);
}

// Scale and bias of one channel, of `n` neighbouring channels; one and zero where absent.
template <class T> NPCONV_INLINE Vec<T> channel_scale(const EpilogueArgs<T>& e, std::int64_t oc) {
    return set1(e.scale ? e.scale[oc] : T(1));
}
template <class T> NPCONV_INLINE Vec<T> channel_bias(const EpilogueArgs<T>& e, std::int64_t oc) {
    return set1(e.bias ? e.bias[oc] : T(0));
}
template <class T> NPCONV_INLINE Vec<T> channels_scale(const EpilogueArgs<T>& e, std::int64_t oc, std::int64_t n) {
    return e.scale ? load_partial(e.scale + oc, n) : set1(T(1));
}
template <class T> NPCONV_INLINE Vec<T> channels_bias(const EpilogueArgs<T>& e, std::int64_t oc, std::int64_t n) {
    return e.bias ? load_partial(e.bias + oc, n) : set1(T(0));
}

}  // namespace
}  // namespace npconv::NPCONV_THIS_ISA

// Winograd's transforms F(m, 3) with the points 0, +-1, inf (m = 2) and 0, +-5/8, +-13/8, inf (m = 4). The latter pair
// was found by a search in simulated f32: a third to a quarter of the error of the textbook's 0, +-1, +-2, inf at the
// same cost, and all constants of the input transform are exact in binary. Included by kernel files only.
#pragma once

#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

template <int M> struct Points;

template <> struct Points<2> {
    template <class T> static NPCONV_INLINE void filter(const Vec<T> (&g)[3], Vec<T> (&u)[4]) {
        const Vec<T> half = set1(T(0.5)), e = mul(half, add(g[0], g[2])), o = mul(half, g[1]);
        u[0] = g[0];
        u[1] = add(e, o);
        u[2] = sub(e, o);
        u[3] = g[2];
    }
    template <class T> static NPCONV_INLINE void input(const Vec<T> (&d)[4], Vec<T> (&v)[4]) {
        v[0] = sub(d[0], d[2]);
        v[1] = add(d[1], d[2]);
        v[2] = sub(d[2], d[1]);
        v[3] = sub(d[3], d[1]);
    }
    static constexpr int parts = 1;
    template <class T> static NPCONV_INLINE void output(const Vec<T> (&m)[4], Vec<T> (&y)[2]) {
        y[0] = add(m[0], add(m[1], m[2]));
        y[1] = add(sub(m[1], m[2]), m[3]);
    }
};

template <> struct Points<4> {
    static constexpr double a = 0.625, b = 1.625, a2 = a * a, b2 = b * b;
    template <class T> static NPCONV_INLINE void filter(const Vec<T> (&g)[3], Vec<T> (&u)[6]) {
        const Vec<T> ra = set1(T(1 / (2 * a2 * (a2 - b2)))), rb = set1(T(1 / (2 * b2 * (b2 - a2))));
        const Vec<T> ea = mul(ra, fma(set1(T(a2)), g[2], g[0])), oa = mul(set1(T(a / (2 * a2 * (a2 - b2)))), g[1]);
        const Vec<T> eb = mul(rb, fma(set1(T(b2)), g[2], g[0])), ob = mul(set1(T(b / (2 * b2 * (b2 - a2)))), g[1]);
        u[0] = mul(set1(T(1 / (a2 * b2))), g[0]);
        u[1] = add(ea, oa);
        u[2] = sub(ea, oa);
        u[3] = add(eb, ob);
        u[4] = sub(eb, ob);
        u[5] = g[2];
    }
    // Three rows of six columns of points fit 32 registers.
    static constexpr int parts = registers == 32 ? 2 : 1;
    // Points 0, a, -a (part 0) or b, -b, infinity (part 1).
    template <class T, int Part> static NPCONV_INLINE void input_part(const Vec<T> (&d)[6], Vec<T> (&v)[3]) {
        constexpr double own = Part == 0 ? a : b, other2 = Part == 0 ? b2 : a2;
        const Vec<T> e = fnma(set1(T(other2)), d[2], d[4]), o = fnma(set1(T(other2)), d[1], d[3]);
        v[1 - Part] = fma(set1(T(own)), o, e);
        v[2 - Part] = fnma(set1(T(own)), o, e);
        v[2 * Part] = Part == 0 ? fma(set1(T(a2 * b2)), d[0], fnma(set1(T(a2 + b2)), d[2], d[4]))
                                : fma(set1(T(a2 * b2)), d[1], fnma(set1(T(a2 + b2)), d[3], d[5]));
    }
    template <class T> static NPCONV_INLINE void input(const Vec<T> (&d)[6], Vec<T> (&v)[6]) {
        Vec<T> low[3], high[3];
        input_part<T, 0>(d, low);
        input_part<T, 1>(d, high);
        NPCONV_UNROLL for (int i = 0; i < 3; ++i) {
            v[i] = low[i];
            v[3 + i] = high[i];
        }
    }
    template <class T> static NPCONV_INLINE void output(const Vec<T> (&m)[6], Vec<T> (&y)[4]) {
        const Vec<T> ea = add(m[1], m[2]), oa = sub(m[1], m[2]), eb = add(m[3], m[4]), ob = sub(m[3], m[4]);
        y[0] = add(m[0], add(ea, eb));
        y[1] = fma(set1(T(a)), oa, mul(set1(T(b)), ob));
        y[2] = fma(set1(T(a2)), ea, mul(set1(T(b2)), eb));
        y[3] = fma(set1(T(a2 * a)), oa, fma(set1(T(b2 * b)), ob, m[5]));
    }
};

}  // namespace
}  // namespace npconv::NPCONV_THIS_ISA

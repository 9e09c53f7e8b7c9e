// Winograd's transforms F(m, 3) with the points 0, +-1, inf (m = 2) and 0, +-5/8, +-13/8, inf (m = 4). The latter pair
// was found by a search in simulated f32: a third to a quarter of the error of the textbook's 0, +-1, +-2, inf at the
// same cost, and all constants of the input transform are exact in binary. Below them the same for stride 2.
// Included by kernel files only.
#pragma once

#include "isa/this_isa.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

// One axis of a tile: `values` transformed inputs, which meet as many transformed taps and are summed to `points`.
template <int M> struct Points;

template <> struct Points<2> {
    static constexpr int m = 2, inputs = 4, values = 4, points = 4;
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
    static constexpr int m = 4, inputs = 6, values = 6, points = 6;
    static constexpr double a = 0.625, b = 1.625, a2 = a * a, b2 = b * b, ra = 1 / (2 * a2 * (a2 - b2)), rb = 1 / (2 * b2 * (b2 - a2));
    // A point x has scale * (g0 + x g1 + x^2 g2), infinity g2.
    static constexpr double at[] = {0, a, -a, b, -b}, scale[] = {1 / (a2 * b2), ra, ra, rb, rb, 1};
    template <class T> static NPCONV_INLINE void filter(const Vec<T> (&g)[3], Vec<T> (&u)[6]) {
        const Vec<T> ea = mul(set1(T(ra)), fma(set1(T(a2)), g[2], g[0])), oa = mul(set1(T(a * ra)), g[1]);
        const Vec<T> eb = mul(set1(T(rb)), fma(set1(T(b2)), g[2], g[0])), ob = mul(set1(T(b * rb)), g[1]);
        u[0] = mul(set1(T(1 / (a2 * b2))), g[0]);
        u[1] = add(ea, oa);
        u[2] = sub(ea, oa);
        u[3] = add(eb, ob);
        u[4] = sub(eb, ob);
        u[5] = g[2];
    }
    // For a tile without its last two outputs, whose others don't see d4: one that makes nothing of the point -b, which has to be
    // the last but infinity (WinogradGrid::spared).
    template <class T> static NPCONV_INLINE void extend(T* d, std::int64_t step) {
        store(d + 4 * step, fma(set1(T(b)), load(d + 3 * step), mul(set1(T(a2)), fnma(set1(T(b)), load(d + step), load(d + 2 * step)))));
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

// Stride 2 by polyphase: inputs of even index d0, d2, ... meet the taps g0 and g2 as F(m, 2), those of odd index meet g1.
// F(m, 2) has m + 1 points, one of them at infinity; the single tap needs m, and takes the finite ones, so that both
// phases are summed before one common inverse transform. 2 m + 1 products for m outputs: values 0 to m belong to the even
// phase, the others to the odd one, value m + 1 + i to point i.
template <int M> struct PolyphasePoints;

template <> struct PolyphasePoints<2> {  // points 1, -1, inf
    static constexpr int m = 2, inputs = 5, values = 5, points = 3;
    template <class T> static NPCONV_INLINE void filter(const Vec<T> (&g)[3], Vec<T> (&u)[5]) {
        const Vec<T> half = set1(T(0.5)), first = mul(half, g[0]), last = mul(half, g[2]);
        u[0] = add(first, last);
        u[1] = sub(last, first);
        u[2] = g[2];
        u[3] = mul(half, g[1]);
        u[4] = mul(set1(T(-0.5)), g[1]);
    }
    template <class T> static NPCONV_INLINE void input(const Vec<T> (&d)[5], Vec<T> (&v)[5]) {
        v[0] = add(d[0], d[2]);
        v[1] = sub(d[2], d[0]);
        v[2] = sub(d[4], d[0]);
        v[3] = add(d[1], d[3]);
        v[4] = sub(d[3], d[1]);
    }
    template <class T> static NPCONV_INLINE void output(const Vec<T> (&m)[3], Vec<T> (&y)[2]) {
        y[0] = add(m[0], m[1]);
        y[1] = add(sub(m[0], m[1]), m[2]);
    }
};

// Points +-1/2, +-5/4, inf: half the error of 0, +-1, 2, inf in simulated f32.
template <> struct PolyphasePoints<4> {
    static constexpr int m = 4, inputs = 9, values = 9, points = 5;
    static constexpr double a = 0.5, b = 1.25, a2 = a * a, b2 = b * b;
    template <class T> static NPCONV_INLINE void filter(const Vec<T> (&g)[3], Vec<T> (&u)[9]) {
        constexpr double ra = 1 / (2 * a * (a2 - b2)), rb = 1 / (2 * b * (b2 - a2));
        const Vec<T> firsta = mul(set1(T(ra)), g[0]), lasta = mul(set1(T(ra * a)), g[2]);
        const Vec<T> firstb = mul(set1(T(rb)), g[0]), lastb = mul(set1(T(rb * b)), g[2]);
        u[0] = add(lasta, firsta);
        u[1] = sub(lasta, firsta);
        u[2] = add(lastb, firstb);
        u[3] = sub(lastb, firstb);
        u[4] = g[2];
        u[5] = mul(set1(T(ra)), g[1]);
        u[6] = mul(set1(T(-ra)), g[1]);
        u[7] = mul(set1(T(rb)), g[1]);
        u[8] = mul(set1(T(-rb)), g[1]);
    }
    template <class T>
    static NPCONV_INLINE void finite(Vec<T> d0, Vec<T> d1, Vec<T> d2, Vec<T> d3, Vec<T>* v) {
        const Vec<T> oa = fnma(set1(T(b2)), d1, d3), ea = fnma(set1(T(b2)), d0, d2);
        const Vec<T> ob = fnma(set1(T(a2)), d1, d3), eb = fnma(set1(T(a2)), d0, d2);
        v[0] = fma(set1(T(a)), ea, oa);
        v[1] = fnma(set1(T(a)), ea, oa);
        v[2] = fma(set1(T(b)), eb, ob);
        v[3] = fnma(set1(T(b)), eb, ob);
    }
    template <class T> static NPCONV_INLINE void extend(T* d, std::int64_t step) {  // as Points<4>'s, each phase
        for (int phase = 0; phase < 2; ++phase, d += step)
            store(d + 6 * step, fma(set1(T(b)), load(d + 4 * step), mul(set1(T(a2)), fnma(set1(T(b)), load(d), load(d + 2 * step)))));
    }
    template <class T> static NPCONV_INLINE void input(const Vec<T> (&d)[9], Vec<T> (&v)[9]) {
        finite<T>(d[0], d[2], d[4], d[6], v);
        v[4] = fma(set1(T(a2 * b2)), d[0], fnma(set1(T(a2 + b2)), d[4], d[8]));
        finite<T>(d[1], d[3], d[5], d[7], v + 5);
    }
    template <class T> static NPCONV_INLINE void output(const Vec<T> (&m)[5], Vec<T> (&y)[4]) {
        const Vec<T> ea = add(m[0], m[1]), oa = sub(m[0], m[1]), eb = add(m[2], m[3]), ob = sub(m[2], m[3]);
        y[0] = add(ea, eb);
        y[1] = fma(set1(T(a)), oa, mul(set1(T(b)), ob));
        y[2] = fma(set1(T(a2)), ea, mul(set1(T(b2)), eb));
        y[3] = fma(set1(T(a2 * a)), oa, fma(set1(T(b2 * b)), ob, m[4]));
    }
};

}  // namespace
}  // namespace npconv::NPCONV_THIS_ISA

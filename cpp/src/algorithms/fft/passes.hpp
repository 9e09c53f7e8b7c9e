// Butterflies on vectors and the passes made of them; included by this folder's kernels only.
//
// dif: butterfly, then twiddles (decimation in frequency), natural order in, reversed digits out. dit: twiddles, then
// butterfly, on swapped real and imaginary parts, which makes it the inverse: exactly undoes dif but for the factor.
// Both work in place, so a column of a tile stays in L1, and loop over butterflies: the code of all sizes is that of six
// radices. Unrolled transforms of 64 points would spill their 128 registers anyway.
#pragma once

#include "algorithms/fft/kernel.hpp"

namespace npconv::NPCONV_THIS_ISA {
namespace {

template <class T> struct Complex {
    Vec<T> re, im;
};

template <class T> NPCONV_INLINE Complex<T> get(const T* p) { return {load(p), load(p + lanes<T>)}; }
template <class T> NPCONV_INLINE void put(T* p, Complex<T> x) {
    store(p, x.re);
    store(p + lanes<T>, x.im);
}
template <class T> NPCONV_INLINE Complex<T> swapped(Complex<T> x) { return {x.im, x.re}; }
template <class T> NPCONV_INLINE Complex<T> operator+(Complex<T> a, Complex<T> b) {
    return {add(a.re, b.re), add(a.im, b.im)};
}
template <class T> NPCONV_INLINE Complex<T> operator-(Complex<T> a, Complex<T> b) {
    return {sub(a.re, b.re), sub(a.im, b.im)};
}
// x * (c - i s)
template <class T> NPCONV_INLINE Complex<T> rotate(Complex<T> x, Vec<T> c, Vec<T> s) {
    return {fma(x.im, s, mul(x.re, c)), fnma(x.re, s, mul(x.im, c))};
}
// a + f * b for real f
template <class T> NPCONV_INLINE Complex<T> plus(Complex<T> a, Vec<T> f, Complex<T> b) {
    return {fma(f, b.re, a.re), fma(f, b.im, a.im)};
}
template <class T> NPCONV_INLINE Complex<T> minus(Complex<T> a, Vec<T> f, Complex<T> b) {
    return {fnma(f, b.re, a.re), fnma(f, b.im, a.im)};
}
// a - i b and a + i b
template <class T> NPCONV_INLINE Complex<T> minus_i(Complex<T> a, Complex<T> b) { return {add(a.re, b.im), sub(a.im, b.re)}; }
template <class T> NPCONV_INLINE Complex<T> plus_i(Complex<T> a, Complex<T> b) { return {sub(a.re, b.im), add(a.im, b.re)}; }

template <class T> NPCONV_INLINE void dft2(Complex<T>& a, Complex<T>& b) {
    const Complex<T> s = a + b;
    b = a - b;
    a = s;
}

template <class T> NPCONV_INLINE void dft3(Complex<T>& a, Complex<T>& b, Complex<T>& c) {
    const Complex<T> s = b + c, d = b - c;
    const Complex<T> m = minus(a, set1(T(0.5)), s);
    const Vec<T> h = set1(T(0.86602540378443864676));
    const Complex<T> r = {mul(h, d.re), mul(h, d.im)};
    a = a + s;
    b = minus_i(m, r);
    c = plus_i(m, r);
}

template <class T> NPCONV_INLINE void dft4(Complex<T>& a, Complex<T>& b, Complex<T>& c, Complex<T>& d) {
    const Complex<T> p = a + c, q = a - c, r = b + d, s = b - d;
    a = p + r;
    b = minus_i(q, s);
    c = p - r;
    d = plus_i(q, s);
}

template <class T>
NPCONV_INLINE void dft5(Complex<T>& a, Complex<T>& b, Complex<T>& c, Complex<T>& d, Complex<T>& e) {
    const Vec<T> c1 = set1(T(0.30901699437494742410)), c2 = set1(T(-0.80901699437494742410));
    const Vec<T> s1 = set1(T(0.95105651629515357212)), s2 = set1(T(0.58778525229247312917));
    const Complex<T> p = b + e, q = b - e, r = c + d, s = c - d;
    const Complex<T> m = plus(plus(a, c1, p), c2, r), n = plus(plus(a, c2, p), c1, r);
    const Complex<T> u = plus({mul(s1, q.re), mul(s1, q.im)}, s2, s), v = minus({mul(s2, q.re), mul(s2, q.im)}, s1, s);
    a = a + (p + r);
    b = minus_i(m, u);
    e = plus_i(m, u);
    c = minus_i(n, v);
    d = plus_i(n, v);
}

template <class T> NPCONV_INLINE void dft(Complex<T> (&)[1]) {}
template <class T> NPCONV_INLINE void dft(Complex<T> (&x)[2]) { dft2(x[0], x[1]); }
template <class T> NPCONV_INLINE void dft(Complex<T> (&x)[3]) { dft3(x[0], x[1], x[2]); }
template <class T> NPCONV_INLINE void dft(Complex<T> (&x)[4]) { dft4(x[0], x[1], x[2], x[3]); }
template <class T> NPCONV_INLINE void dft(Complex<T> (&x)[5]) { dft5(x[0], x[1], x[2], x[3], x[4]); }
template <class T> NPCONV_INLINE void dft(Complex<T> (&x)[6]) {
    dft3(x[0], x[2], x[4]);
    dft3(x[1], x[3], x[5]);
    const Vec<T> h = set1(T(0.5)), s = set1(T(0.86602540378443864676));
    const Complex<T> e0 = x[0], e1 = x[2], e2 = x[4], o0 = x[1];
    const Complex<T> o1 = rotate(x[3], h, s), o2 = rotate(x[5], sub(set1(T(0)), h), s);
    x[0] = e0 + o0;
    x[1] = e1 + o1;
    x[2] = e2 + o2;
    x[3] = e0 - o0;
    x[4] = e1 - o1;
    x[5] = e2 - o2;
}
template <class T> NPCONV_INLINE void dft(Complex<T> (&x)[8]) {
    dft4(x[0], x[2], x[4], x[6]);
    dft4(x[1], x[3], x[5], x[7]);
    const Vec<T> h = set1(T(0.70710678118654752440));
    const Complex<T> e0 = x[0], e1 = x[2], e2 = x[4], e3 = x[6], o0 = x[1], o2 = x[5];
    const Complex<T> r1 = {add(x[3].re, x[3].im), sub(x[3].im, x[3].re)};  // times (1 - i), (-1 - i): sqrt(2) too long
    const Complex<T> r3 = {sub(x[7].im, x[7].re), add(x[7].re, x[7].im)};  // the imaginary part with the other sign
    x[0] = e0 + o0;
    x[4] = e0 - o0;
    x[1] = plus(e1, h, r1);
    x[5] = minus(e1, h, r1);
    x[2] = minus_i(e2, o2);
    x[6] = plus_i(e2, o2);
    x[3] = {fma(h, r3.re, e3.re), fnma(h, r3.im, e3.im)};
    x[7] = {fnma(h, r3.re, e3.re), fma(h, r3.im, e3.im)};
}

// One pass over `size` points, `stride` scalars apart, in blocks of `block`.
template <int R, class T>
NPCONV_NOINLINE void dif(T* x, std::int64_t stride, int size, int block, const T* twiddles) {
    const int q = block / R;
    const std::int64_t step = q * stride;
    for (int b = 0; b < size; b += block) {
        T* p = x + b * stride;
        Complex<T> v[R];
        NPCONV_UNROLL for (int i = 0; i < R; ++i) v[i] = get(p + i * step);
        dft(v);
        NPCONV_UNROLL for (int i = 0; i < R; ++i) put(p + i * step, v[i]);
        const T* w = twiddles;
        NPCONV_NO_UNROLL for (int j = 1; j < q; ++j, w += 2 * (R - 1)) {
            p += stride;
            NPCONV_UNROLL for (int i = 0; i < R; ++i) v[i] = get(p + i * step);
            dft(v);
            put(p, v[0]);
            NPCONV_UNROLL for (int i = 1; i < R; ++i)
                put(p + i * step, rotate(v[i], set1(w[2 * i - 2]), set1(w[2 * i - 1])));
        }
    }
}

template <int R, class T>
NPCONV_NOINLINE void dit(T* x, std::int64_t stride, int size, int block, const T* twiddles) {
    const int q = block / R;
    const std::int64_t step = q * stride;
    for (int b = 0; b < size; b += block) {
        T* p = x + b * stride;
        Complex<T> v[R];
        NPCONV_UNROLL for (int i = 0; i < R; ++i) v[i] = swapped(get(p + i * step));
        dft(v);
        NPCONV_UNROLL for (int i = 0; i < R; ++i) put(p + i * step, swapped(v[i]));
        const T* w = twiddles;
        NPCONV_NO_UNROLL for (int j = 1; j < q; ++j, w += 2 * (R - 1)) {
            p += stride;
            v[0] = swapped(get(p));
            NPCONV_UNROLL for (int i = 1; i < R; ++i)
                v[i] = rotate(swapped(get(p + i * step)), set1(w[2 * i - 2]), set1(w[2 * i - 1]));
            dft(v);
            NPCONV_UNROLL for (int i = 0; i < R; ++i) put(p + i * step, swapped(v[i]));
        }
    }
}

// Passes [0, count) forward, or back from the last of them to the first.
template <class T> NPCONV_INLINE void forward_passes(const FftPasses<T>& f, int count, T* x, std::int64_t stride) {
    int block = f.size;
    for (int p = 0; p < count; ++p) {
        switch (f.radix[p]) {
            case 2: dif<2>(x, stride, f.size, block, f.twiddles[p]); break;
            case 3: dif<3>(x, stride, f.size, block, f.twiddles[p]); break;
            case 4: dif<4>(x, stride, f.size, block, f.twiddles[p]); break;
            case 5: dif<5>(x, stride, f.size, block, f.twiddles[p]); break;
            case 6: dif<6>(x, stride, f.size, block, f.twiddles[p]); break;
            default: dif<8>(x, stride, f.size, block, f.twiddles[p]); break;
        }
        block /= f.radix[p];
    }
}
template <class T> NPCONV_INLINE void inverse_passes(const FftPasses<T>& f, int count, T* x, std::int64_t stride) {
    int block = f.size;
    for (int p = 0; p < count; ++p) block /= f.radix[p];
    for (int p = count; p-- > 0;) {
        block *= f.radix[p];
        switch (f.radix[p]) {
            case 2: dit<2>(x, stride, f.size, block, f.twiddles[p]); break;
            case 3: dit<3>(x, stride, f.size, block, f.twiddles[p]); break;
            case 4: dit<4>(x, stride, f.size, block, f.twiddles[p]); break;
            case 5: dit<5>(x, stride, f.size, block, f.twiddles[p]); break;
            case 6: dit<6>(x, stride, f.size, block, f.twiddles[p]); break;
            default: dit<8>(x, stride, f.size, block, f.twiddles[p]); break;
        }
    }
}

}  // namespace
}  // namespace npconv::NPCONV_THIS_ISA

// The level that every CPU has: 128-bit vectors in the compiler's own vector types (SSE2 on x86-64, NEON on AArch64),
// no intrinsics. It is also where the contract of the operations stands:
//
//   Vec<T>, lanes<T>, registers       the vector type, its length, how many the CPU has
//   load, store, stream               any alignment; stream needs natural vector alignment and stream_fence afterwards
//   load_partial(p, n)                the first n lanes, the others zero and not touched; any n
//   load_range(p, lo, hi)             lanes lo <= i < hi, the others zero and not touched; 0 <= lo, hi <= lanes
//   Mask<T>, mask_range<T>(lo, hi), load_masked(p, m)   load_range with a mask made once
//   store_partial(p, v, n)            the first n lanes
//   fma(a, b, c) = a*b + c            fnma(a, b, c) = c - a*b; one rounding where the CPU can
//   fma_into(acc, a, b)              acc = fma(a, b, acc), in the register that acc has
//   max(a, b), min(a, b)              b if either is NaN: max(zero, x) is a ReLU that lets NaN pass
//   select_lt(x, y, a, b)             x < y ? a : b, so b for NaN
//   round, scale_pow2(a, n)           to nearest even; a * 2^n for integral n
//   any_nonfinite, sum                over all lanes
//   part(a, b, even, odd)             the even and odd elements of the 2*lanes elements a, b, in an order that
//   line_up(v)                        turns into their own
//   shift_in(v, before)               the last lane of before, v[0], v[1], ...
//   join_halves(a, b, lo, hi)         the lower halves of a and b, the upper halves
//   load_halves(p, q)                 lanes / 2 floats of p below as many of q; where vectors are longer than 128 bits only
//   load_twice(p)                     lanes / 2 elements in both halves; with 32 registers only
//   blend_halves(a, b)                the lower half of a, the upper half of b; with 32 registers only
//   load_four(p, out)                 each of 4 elements in all lanes of a vector, by one load; with 32 registers only
//   load_four(p, q, out)              the same, those of p in the lower half, those of q in the upper
//   transpose(r)                      lanes x lanes in registers
//   unweave(r)                        of four float vectors, the transposes of 4x4 floats: r[0] becomes r[0][0], r[1][0], r[2][0],
//                                     r[3][0], r[0][4], r[1][4], ..., r[1] the same from lane 1 on; its own inverse
#pragma once

#include <cstddef>
#include <cstdint>

namespace npconv::scalar {
namespace {

typedef float F4 __attribute__((vector_size(16)));
typedef double D2 __attribute__((vector_size(16)));
typedef std::int32_t I4 __attribute__((vector_size(16)));
typedef std::int64_t L2 __attribute__((vector_size(16)));
typedef float F4u __attribute__((vector_size(16), aligned(4), may_alias));
typedef double D2u __attribute__((vector_size(16), aligned(8), may_alias));

template <class T> struct VecOf;
template <> struct VecOf<float> { using type = F4; };
template <> struct VecOf<double> { using type = D2; };
template <class T> using Vec = typename VecOf<T>::type;
template <class T> constexpr int lanes = 16 / sizeof(T);
constexpr int registers = 16;

NPCONV_INLINE F4 load(const float* p) { return *reinterpret_cast<const F4u*>(p); }
NPCONV_INLINE D2 load(const double* p) { return *reinterpret_cast<const D2u*>(p); }
NPCONV_INLINE void store(float* p, F4 v) { *reinterpret_cast<F4u*>(p) = v; }
NPCONV_INLINE void store(double* p, D2 v) { *reinterpret_cast<D2u*>(p) = v; }
NPCONV_INLINE void stream(float* p, F4 v) { store(p, v); }
NPCONV_INLINE void stream(double* p, D2 v) { store(p, v); }
NPCONV_INLINE void stream_fence() {}
NPCONV_INLINE F4 load_range(const float* p, int lo, int hi) {
    F4 v = {0, 0, 0, 0};
    for (int i = lo; i < hi; ++i) v[i] = p[i];
    return v;
}
NPCONV_INLINE D2 load_range(const double* p, int lo, int hi) {
    D2 v = {0, 0};
    for (int i = lo; i < hi; ++i) v[i] = p[i];
    return v;
}
struct Range { int lo, hi; };
template <class T> using Mask = Range;
template <class T> NPCONV_INLINE Range mask_range(int lo, int hi) { return {lo, hi}; }
template <class T> NPCONV_INLINE Vec<T> load_masked(const T* p, Range m) { return load_range(p, m.lo, m.hi); }
NPCONV_INLINE int clamp_lanes(std::int64_t n, int most) { return n > most ? most : n < 0 ? 0 : int(n); }
NPCONV_INLINE F4 load_partial(const float* p, std::int64_t n) { return n >= 4 ? load(p) : load_range(p, 0, clamp_lanes(n, 4)); }
NPCONV_INLINE D2 load_partial(const double* p, std::int64_t n) { return n >= 2 ? load(p) : load_range(p, 0, clamp_lanes(n, 2)); }
NPCONV_INLINE void store_partial(float* p, F4 v, std::int64_t n) {
    if (n >= 4) return store(p, v);
    for (int i = 0; i < n; ++i) p[i] = v[i];
}
NPCONV_INLINE void store_partial(double* p, D2 v, std::int64_t n) {
    if (n >= 2) return store(p, v);
    if (n == 1) p[0] = v[0];
}
NPCONV_INLINE F4 set1(float a) { return F4{a, a, a, a}; }
NPCONV_INLINE D2 set1(double a) { return D2{a, a}; }

NPCONV_INLINE F4 add(F4 a, F4 b) { return a + b; }
NPCONV_INLINE D2 add(D2 a, D2 b) { return a + b; }
NPCONV_INLINE F4 sub(F4 a, F4 b) { return a - b; }
NPCONV_INLINE D2 sub(D2 a, D2 b) { return a - b; }
NPCONV_INLINE F4 mul(F4 a, F4 b) { return a * b; }
NPCONV_INLINE D2 mul(D2 a, D2 b) { return a * b; }
NPCONV_INLINE F4 div(F4 a, F4 b) { return a / b; }
NPCONV_INLINE D2 div(D2 a, D2 b) { return a / b; }
NPCONV_INLINE F4 fma(F4 a, F4 b, F4 c) { return a * b + c; }
NPCONV_INLINE D2 fma(D2 a, D2 b, D2 c) { return a * b + c; }
NPCONV_INLINE void fma_into(F4& acc, F4 a, F4 b) { acc = a * b + acc; }
NPCONV_INLINE void fma_into(D2& acc, D2 a, D2 b) { acc = a * b + acc; }
NPCONV_INLINE F4 fnma(F4 a, F4 b, F4 c) { return c - a * b; }
NPCONV_INLINE D2 fnma(D2 a, D2 b, D2 c) { return c - a * b; }
NPCONV_INLINE F4 max(F4 a, F4 b) { return a > b ? a : b; }
NPCONV_INLINE D2 max(D2 a, D2 b) { return a > b ? a : b; }
NPCONV_INLINE F4 min(F4 a, F4 b) { return a < b ? a : b; }
NPCONV_INLINE D2 min(D2 a, D2 b) { return a < b ? a : b; }
NPCONV_INLINE F4 abs(F4 a) { return (F4)((I4)a & 0x7fffffff); }
NPCONV_INLINE D2 abs(D2 a) { return (D2)((L2)a & 0x7fffffffffffffffLL); }
NPCONV_INLINE F4 select_lt(F4 x, F4 y, F4 a, F4 b) { return x < y ? a : b; }
NPCONV_INLINE D2 select_lt(D2 x, D2 y, D2 a, D2 b) { return x < y ? a : b; }
// Adding and subtracting 1.5 * 2^mantissa rounds to an integer; exact for |a| < 2^22 (2^51), all that exp needs.
NPCONV_INLINE F4 round(F4 a) { return (a + 12582912.f) - 12582912.f; }
NPCONV_INLINE D2 round(D2 a) { return (a + 6755399441055744.) - 6755399441055744.; }
NPCONV_INLINE F4 scale_pow2(F4 a, F4 n) {
    const I4 k = __builtin_convertvector(n, I4), h = k >> 1, l = k - h;
    return a * (F4)((h + 127) << 23) * (F4)((l + 127) << 23);
}
NPCONV_INLINE D2 scale_pow2(D2 a, D2 n) {
    const L2 k = __builtin_convertvector(n, L2), h = k >> 1, l = k - h;
    return a * (D2)((h + 1023) << 52) * (D2)((l + 1023) << 52);
}
NPCONV_INLINE bool any_nonfinite(F4 a) {
    const I4 m = (a - a) != F4{0, 0, 0, 0};
    return (m[0] | m[1] | m[2] | m[3]) != 0;
}
NPCONV_INLINE bool any_nonfinite(D2 a) {
    const L2 m = (a - a) != D2{0, 0};
    return (m[0] | m[1]) != 0;
}
NPCONV_INLINE float sum(F4 a) { return (a[0] + a[2]) + (a[1] + a[3]); }
NPCONV_INLINE double sum(D2 a) { return a[0] + a[1]; }

NPCONV_INLINE void part(F4 a, F4 b, F4& even, F4& odd) {
    even = __builtin_shuffle(a, b, I4{0, 2, 4, 6});
    odd = __builtin_shuffle(a, b, I4{1, 3, 5, 7});
}
NPCONV_INLINE void part(D2 a, D2 b, D2& even, D2& odd) {
    even = __builtin_shuffle(a, b, L2{0, 2});
    odd = __builtin_shuffle(a, b, L2{1, 3});
}
NPCONV_INLINE F4 line_up(F4 v) { return v; }
NPCONV_INLINE D2 line_up(D2 v) { return v; }
NPCONV_INLINE F4 shift_in(F4 v, F4 before) { return __builtin_shuffle(v, before, I4{7, 0, 1, 2}); }
NPCONV_INLINE D2 shift_in(D2 v, D2 before) { return __builtin_shuffle(v, before, L2{3, 0}); }
NPCONV_INLINE void join_halves(F4 a, F4 b, F4& lo, F4& hi) {
    lo = __builtin_shuffle(a, b, I4{0, 1, 4, 5});
    hi = __builtin_shuffle(a, b, I4{2, 3, 6, 7});
}
NPCONV_INLINE void join_halves(D2 a, D2 b, D2& lo, D2& hi) {
    lo = __builtin_shuffle(a, b, L2{0, 2});
    hi = __builtin_shuffle(a, b, L2{1, 3});
}
NPCONV_INLINE void transpose(F4 (&r)[4]) {
    const F4 a = __builtin_shuffle(r[0], r[1], I4{0, 4, 1, 5}), b = __builtin_shuffle(r[2], r[3], I4{0, 4, 1, 5});
    const F4 c = __builtin_shuffle(r[0], r[1], I4{2, 6, 3, 7}), d = __builtin_shuffle(r[2], r[3], I4{2, 6, 3, 7});
    r[0] = __builtin_shuffle(a, b, I4{0, 1, 4, 5});
    r[1] = __builtin_shuffle(a, b, I4{2, 3, 6, 7});
    r[2] = __builtin_shuffle(c, d, I4{0, 1, 4, 5});
    r[3] = __builtin_shuffle(c, d, I4{2, 3, 6, 7});
}
NPCONV_INLINE void transpose(D2 (&r)[2]) {
    const D2 a = __builtin_shuffle(r[0], r[1], L2{0, 2}), b = __builtin_shuffle(r[0], r[1], L2{1, 3});
    r[0] = a;
    r[1] = b;
}

NPCONV_INLINE void unweave(F4 (&r)[4]) { transpose(r); }

NPCONV_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
NPCONV_INLINE void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }
NPCONV_INLINE void prefetch_write(const void* p) { __builtin_prefetch(p, 1, 3); }

}  // namespace
}  // namespace npconv::scalar

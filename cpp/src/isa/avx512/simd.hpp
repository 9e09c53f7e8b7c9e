// AVX-512 (F, BW, DQ, VL): 32 registers of 16 floats or 8 doubles. The operations' contract stands in scalar/simd.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <immintrin.h>

namespace npconv::avx512 {
namespace {

template <class T> struct VecOf;
template <> struct VecOf<float> { using type = __m512; };
template <> struct VecOf<double> { using type = __m512d; };
template <class T> using Vec = typename VecOf<T>::type;
template <class T> constexpr int lanes = 64 / sizeof(T);
constexpr int registers = 32;

NPCONV_INLINE __mmask16 first(std::int64_t n, float) {
    return n >= 16 ? __mmask16(0xffff) : n <= 0 ? __mmask16(0) : __mmask16((1u << n) - 1);
}
NPCONV_INLINE __mmask8 first(std::int64_t n, double) {
    return n >= 8 ? __mmask8(0xff) : n <= 0 ? __mmask8(0) : __mmask8((1u << n) - 1);
}

NPCONV_INLINE __m512 load(const float* p) { return _mm512_loadu_ps(p); }
NPCONV_INLINE __m512d load(const double* p) { return _mm512_loadu_pd(p); }
NPCONV_INLINE void store(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
NPCONV_INLINE void store(double* p, __m512d v) { _mm512_storeu_pd(p, v); }
NPCONV_INLINE void stream(float* p, __m512 v) { _mm512_stream_ps(p, v); }
NPCONV_INLINE void stream(double* p, __m512d v) { _mm512_stream_pd(p, v); }
NPCONV_INLINE void stream_fence() { _mm_sfence(); }
NPCONV_INLINE __m512 load_partial(const float* p, std::int64_t n) { return _mm512_maskz_loadu_ps(first(n, 0.f), p); }
NPCONV_INLINE __m512d load_partial(const double* p, std::int64_t n) { return _mm512_maskz_loadu_pd(first(n, 0.), p); }
NPCONV_INLINE void store_partial(float* p, __m512 v, std::int64_t n) { _mm512_mask_storeu_ps(p, first(n, 0.f), v); }
NPCONV_INLINE void store_partial(double* p, __m512d v, std::int64_t n) { _mm512_mask_storeu_pd(p, first(n, 0.), v); }
NPCONV_INLINE __m512 load_range(const float* p, int lo, int hi) {
    return _mm512_maskz_loadu_ps(__mmask16(first(hi, 0.f) & ~first(lo, 0.f)), p);
}
NPCONV_INLINE __m512d load_range(const double* p, int lo, int hi) {
    return _mm512_maskz_loadu_pd(__mmask8(first(hi, 0.) & ~first(lo, 0.)), p);
}
template <class T> struct MaskOf;
template <> struct MaskOf<float> { using type = __mmask16; };
template <> struct MaskOf<double> { using type = __mmask8; };
template <class T> using Mask = typename MaskOf<T>::type;
template <class T> NPCONV_INLINE Mask<T> mask_range(int lo, int hi) {
    return static_cast<Mask<T>>(first(hi, T(0)) & ~first(lo, T(0)));
}
NPCONV_INLINE __m512 load_masked(const float* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
NPCONV_INLINE __m512d load_masked(const double* p, __mmask8 m) { return _mm512_maskz_loadu_pd(m, p); }
NPCONV_INLINE __m512 set1(float a) { return _mm512_set1_ps(a); }
NPCONV_INLINE __m512d set1(double a) { return _mm512_set1_pd(a); }

NPCONV_INLINE __m512 add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
NPCONV_INLINE __m512d add(__m512d a, __m512d b) { return _mm512_add_pd(a, b); }
NPCONV_INLINE __m512 sub(__m512 a, __m512 b) { return _mm512_sub_ps(a, b); }
NPCONV_INLINE __m512d sub(__m512d a, __m512d b) { return _mm512_sub_pd(a, b); }
NPCONV_INLINE __m512 mul(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
NPCONV_INLINE __m512d mul(__m512d a, __m512d b) { return _mm512_mul_pd(a, b); }
NPCONV_INLINE __m512 div(__m512 a, __m512 b) { return _mm512_div_ps(a, b); }
NPCONV_INLINE __m512d div(__m512d a, __m512d b) { return _mm512_div_pd(a, b); }
NPCONV_INLINE __m512 fma(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
NPCONV_INLINE __m512d fma(__m512d a, __m512d b, __m512d c) { return _mm512_fmadd_pd(a, b, c); }
NPCONV_INLINE void fma_into(__m512& acc, __m512 a, __m512 b) { acc = _mm512_fmadd_ps(a, b, acc); }
NPCONV_INLINE void fma_into(__m512d& acc, __m512d a, __m512d b) { acc = _mm512_fmadd_pd(a, b, acc); }
NPCONV_INLINE __m512 fnma(__m512 a, __m512 b, __m512 c) { return _mm512_fnmadd_ps(a, b, c); }
NPCONV_INLINE __m512d fnma(__m512d a, __m512d b, __m512d c) { return _mm512_fnmadd_pd(a, b, c); }
NPCONV_INLINE __m512 max(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
NPCONV_INLINE __m512d max(__m512d a, __m512d b) { return _mm512_max_pd(a, b); }
NPCONV_INLINE __m512 min(__m512 a, __m512 b) { return _mm512_min_ps(a, b); }
NPCONV_INLINE __m512d min(__m512d a, __m512d b) { return _mm512_min_pd(a, b); }
NPCONV_INLINE __m512 abs(__m512 a) { return _mm512_abs_ps(a); }
NPCONV_INLINE __m512d abs(__m512d a) { return _mm512_abs_pd(a); }
NPCONV_INLINE __m512 select_lt(__m512 x, __m512 y, __m512 a, __m512 b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), b, a);
}
NPCONV_INLINE __m512d select_lt(__m512d x, __m512d y, __m512d a, __m512d b) {
    return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(x, y, _CMP_LT_OQ), b, a);
}
NPCONV_INLINE __m512 round(__m512 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
NPCONV_INLINE __m512d round(__m512d a) { return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
NPCONV_INLINE __m512 scale_pow2(__m512 a, __m512 n) { return _mm512_scalef_ps(a, n); }
NPCONV_INLINE __m512d scale_pow2(__m512d a, __m512d n) { return _mm512_scalef_pd(a, n); }
NPCONV_INLINE bool any_nonfinite(__m512 a) { return _mm512_cmp_ps_mask(_mm512_sub_ps(a, a), _mm512_setzero_ps(), _CMP_NEQ_UQ); }
NPCONV_INLINE bool any_nonfinite(__m512d a) { return _mm512_cmp_pd_mask(_mm512_sub_pd(a, a), _mm512_setzero_pd(), _CMP_NEQ_UQ); }
NPCONV_INLINE float sum(__m512 a) { return _mm512_reduce_add_ps(a); }
NPCONV_INLINE double sum(__m512d a) { return _mm512_reduce_add_pd(a); }

// On Zen 4 shuffles of two sources run beside multiplications, those within 128 bits at no cost; vpermt2ps, which has
// three, takes two cycles from them.
NPCONV_INLINE void part(__m512 a, __m512 b, __m512& even, __m512& odd) {
    even = _mm512_shuffle_ps(a, b, 0x88);
    odd = _mm512_shuffle_ps(a, b, 0xdd);
}
NPCONV_INLINE void part(__m512d a, __m512d b, __m512d& even, __m512d& odd) {
    even = _mm512_unpacklo_pd(a, b);
    odd = _mm512_unpackhi_pd(a, b);
}
NPCONV_INLINE __m512d line_up(__m512d v) { return _mm512_permutexvar_pd(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), v); }
NPCONV_INLINE __m512 line_up(__m512 v) { return _mm512_castpd_ps(line_up(_mm512_castps_pd(v))); }

NPCONV_INLINE __m512 shift_in(__m512 v, __m512 before) {
    return _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(v), _mm512_castps_si512(before), 15));
}
NPCONV_INLINE __m512d shift_in(__m512d v, __m512d before) {
    return _mm512_castsi512_pd(_mm512_alignr_epi64(_mm512_castpd_si512(v), _mm512_castpd_si512(before), 7));
}

NPCONV_INLINE __m512 load_halves(const float* p, const float* q) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(p)), _mm256_loadu_ps(q), 1);
}
NPCONV_INLINE __m512 load_twice(const float* p) { return _mm512_broadcast_f32x8(_mm256_loadu_ps(p)); }
NPCONV_INLINE __m512d load_twice(const double* p) { return _mm512_broadcast_f64x4(_mm256_loadu_pd(p)); }
NPCONV_INLINE __m512 blend_halves(__m512 a, __m512 b) { return _mm512_mask_blend_ps(0xff00, a, b); }
NPCONV_INLINE __m512d blend_halves(__m512d a, __m512d b) { return _mm512_mask_blend_pd(0xf0, a, b); }
// One load, four shuffles: kept from the compiler, which prefers a load for each.
NPCONV_INLINE void load_four(const float* p, __m512 (&out)[4]) {
    __m512 quad = _mm512_broadcast_f32x4(_mm_loadu_ps(p));
    __asm__("" : "+v"(quad));
    out[0] = _mm512_permute_ps(quad, 0x00), out[1] = _mm512_permute_ps(quad, 0x55);
    out[2] = _mm512_permute_ps(quad, 0xaa), out[3] = _mm512_permute_ps(quad, 0xff);
}
NPCONV_INLINE void load_four(const double* p, __m512d (&out)[4]) {
    __m512d quad = _mm512_broadcast_f64x4(_mm256_loadu_pd(p));
    __asm__("" : "+v"(quad));
    out[0] = _mm512_permutex_pd(quad, 0x00), out[1] = _mm512_permutex_pd(quad, 0x55);
    out[2] = _mm512_permutex_pd(quad, 0xaa), out[3] = _mm512_permutex_pd(quad, 0xff);
}
NPCONV_INLINE void load_four(const float* p, const float* q, __m512 (&out)[4]) {
    const __m256 low = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p)), high = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(q));
    __m512 quads = _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
    __asm__("" : "+v"(quads));
    out[0] = _mm512_permute_ps(quads, 0x00), out[1] = _mm512_permute_ps(quads, 0x55);
    out[2] = _mm512_permute_ps(quads, 0xaa), out[3] = _mm512_permute_ps(quads, 0xff);
}
NPCONV_INLINE void load_four(const double* p, const double* q, __m512d (&out)[4]) {
    __m512d quads = _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_loadu_pd(p)), _mm256_loadu_pd(q), 1);
    __asm__("" : "+v"(quads));
    out[0] = _mm512_permutex_pd(quads, 0x00), out[1] = _mm512_permutex_pd(quads, 0x55);
    out[2] = _mm512_permutex_pd(quads, 0xaa), out[3] = _mm512_permutex_pd(quads, 0xff);
}
NPCONV_INLINE void join_halves(__m512 a, __m512 b, __m512& lo, __m512& hi) {
    lo = _mm512_shuffle_f32x4(a, b, 0x44);
    hi = _mm512_shuffle_f32x4(a, b, 0xee);
}
NPCONV_INLINE void join_halves(__m512d a, __m512d b, __m512d& lo, __m512d& hi) {
    lo = _mm512_shuffle_f64x2(a, b, 0x44);
    hi = _mm512_shuffle_f64x2(a, b, 0xee);
}

// 16x16 in four rounds of 16 shuffles: 32-bit, then 64-bit pairs inside 128-bit lanes, then the lanes themselves.
NPCONV_INLINE void transpose(__m512 (&r)[16]) {
    __m512 t[16];
    NPCONV_UNROLL for (int i = 0; i < 8; ++i) {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    NPCONV_UNROLL for (int i = 0; i < 4; ++i) {
        const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 1]);
        const __m512d c = _mm512_castps_pd(t[4 * i + 2]), d = _mm512_castps_pd(t[4 * i + 3]);
        r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    NPCONV_UNROLL for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    NPCONV_UNROLL for (int i = 0; i < 8; ++i) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
}
NPCONV_INLINE void transpose(__m512d (&r)[8]) {
    __m512d t[8];
    NPCONV_UNROLL for (int i = 0; i < 4; ++i) {
        t[2 * i] = _mm512_unpacklo_pd(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_pd(r[2 * i], r[2 * i + 1]);
    }
    NPCONV_UNROLL for (int i = 0; i < 2; ++i) {
        r[i] = _mm512_shuffle_f64x2(t[i], t[i + 2], 0x88);
        r[i + 2] = _mm512_shuffle_f64x2(t[i], t[i + 2], 0xdd);
        r[i + 4] = _mm512_shuffle_f64x2(t[i + 4], t[i + 6], 0x88);
        r[i + 6] = _mm512_shuffle_f64x2(t[i + 4], t[i + 6], 0xdd);
    }
    NPCONV_UNROLL for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_f64x2(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f64x2(r[i], r[i + 4], 0xdd);
    }
    NPCONV_UNROLL for (int i = 0; i < 8; ++i) r[i] = t[i];
}

NPCONV_INLINE void unweave(__m512 (&r)[4]) {
    const __m512 a = _mm512_unpacklo_ps(r[0], r[1]), b = _mm512_unpackhi_ps(r[0], r[1]);
    const __m512 c = _mm512_unpacklo_ps(r[2], r[3]), d = _mm512_unpackhi_ps(r[2], r[3]);
    r[0] = _mm512_shuffle_ps(a, c, 0x44);
    r[1] = _mm512_shuffle_ps(a, c, 0xee);
    r[2] = _mm512_shuffle_ps(b, d, 0x44);
    r[3] = _mm512_shuffle_ps(b, d, 0xee);
}

NPCONV_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
NPCONV_INLINE void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }
NPCONV_INLINE void prefetch_write(const void* p) { __builtin_prefetch(p, 1, 3); }

}  // namespace
}  // namespace npconv::avx512

// AVX2 + FMA: 16 registers of 8 floats or 4 doubles. The operations' contract stands in scalar/simd.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <immintrin.h>

namespace npconv::avx2 {
namespace {

template <class T> struct VecOf;
template <> struct VecOf<float> { using type = __m256; };
template <> struct VecOf<double> { using type = __m256d; };
template <class T> using Vec = typename VecOf<T>::type;
template <class T> constexpr int lanes = 32 / sizeof(T);
constexpr int registers = 16;

NPCONV_INLINE __m256i range_mask(int lo, int hi, float) {
    const __m256i i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(lo), i), _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), i));
}
NPCONV_INLINE __m256i range_mask(int lo, int hi, double) {
    const __m256i i = _mm256_setr_epi64x(0, 1, 2, 3);
    return _mm256_andnot_si256(_mm256_cmpgt_epi64(_mm256_set1_epi64x(lo), i),
                               _mm256_cmpgt_epi64(_mm256_set1_epi64x(hi), i));
}
NPCONV_INLINE int clamp_lanes(std::int64_t n, int most) { return n > most ? most : n < 0 ? 0 : int(n); }

NPCONV_INLINE __m256 load(const float* p) { return _mm256_loadu_ps(p); }
NPCONV_INLINE __m256d load(const double* p) { return _mm256_loadu_pd(p); }
NPCONV_INLINE void store(float* p, __m256 v) { _mm256_storeu_ps(p, v); }
NPCONV_INLINE void store(double* p, __m256d v) { _mm256_storeu_pd(p, v); }
NPCONV_INLINE void stream(float* p, __m256 v) { _mm256_stream_ps(p, v); }
NPCONV_INLINE void stream(double* p, __m256d v) { _mm256_stream_pd(p, v); }
NPCONV_INLINE void stream_fence() { _mm_sfence(); }
NPCONV_INLINE __m256 load_range(const float* p, int lo, int hi) { return _mm256_maskload_ps(p, range_mask(lo, hi, 0.f)); }
NPCONV_INLINE __m256d load_range(const double* p, int lo, int hi) { return _mm256_maskload_pd(p, range_mask(lo, hi, 0.)); }
NPCONV_INLINE __m256 load_partial(const float* p, std::int64_t n) { return load_range(p, 0, clamp_lanes(n, 8)); }
NPCONV_INLINE __m256d load_partial(const double* p, std::int64_t n) { return load_range(p, 0, clamp_lanes(n, 4)); }
template <class T> using Mask = __m256i;
template <class T> NPCONV_INLINE __m256i mask_range(int lo, int hi) { return range_mask(lo, hi, T(0)); }
NPCONV_INLINE __m256 load_masked(const float* p, __m256i m) { return _mm256_maskload_ps(p, m); }
NPCONV_INLINE __m256d load_masked(const double* p, __m256i m) { return _mm256_maskload_pd(p, m); }
// Masked stores (vmaskmov) are microcoded on AMD, up to twice slower for a whole kernel: tails are stored in pieces.
NPCONV_INLINE void store_partial(float* p, __m256 v, std::int64_t n) {
    if (n >= 8) return _mm256_storeu_ps(p, v);
    __m128 h = _mm256_castps256_ps128(v);
    if (n >= 4) {
        _mm_storeu_ps(p, h);
        h = _mm256_extractf128_ps(v, 1);
        p += 4;
        n -= 4;
    }
    if (n >= 2) {
        _mm_storel_pi(reinterpret_cast<__m64*>(p), h);
        h = _mm_movehl_ps(h, h);
        p += 2;
        n -= 2;
    }
    if (n >= 1) _mm_store_ss(p, h);
}
NPCONV_INLINE void store_partial(double* p, __m256d v, std::int64_t n) {
    if (n >= 4) return _mm256_storeu_pd(p, v);
    __m128d h = _mm256_castpd256_pd128(v);
    if (n >= 2) {
        _mm_storeu_pd(p, h);
        h = _mm256_extractf128_pd(v, 1);
        p += 2;
        n -= 2;
    }
    if (n >= 1) _mm_store_sd(p, h);
}
NPCONV_INLINE __m256 set1(float a) { return _mm256_set1_ps(a); }
NPCONV_INLINE __m256d set1(double a) { return _mm256_set1_pd(a); }

NPCONV_INLINE __m256 add(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
NPCONV_INLINE __m256d add(__m256d a, __m256d b) { return _mm256_add_pd(a, b); }
NPCONV_INLINE __m256 sub(__m256 a, __m256 b) { return _mm256_sub_ps(a, b); }
NPCONV_INLINE __m256d sub(__m256d a, __m256d b) { return _mm256_sub_pd(a, b); }
NPCONV_INLINE __m256 mul(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }
NPCONV_INLINE __m256d mul(__m256d a, __m256d b) { return _mm256_mul_pd(a, b); }
NPCONV_INLINE __m256 div(__m256 a, __m256 b) { return _mm256_div_ps(a, b); }
NPCONV_INLINE __m256d div(__m256d a, __m256d b) { return _mm256_div_pd(a, b); }
NPCONV_INLINE __m256 fma(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
NPCONV_INLINE __m256d fma(__m256d a, __m256d b, __m256d c) { return _mm256_fmadd_pd(a, b, c); }
// With all registers taken gcc picks forms of the instruction that overwrite a factor, and then moves sums about.
NPCONV_INLINE void fma_into(__m256& acc, __m256 a, __m256 b) { __asm__("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(a), "x"(b)); }
NPCONV_INLINE void fma_into(__m256d& acc, __m256d a, __m256d b) { __asm__("vfmadd231pd %2, %1, %0" : "+x"(acc) : "x"(a), "x"(b)); }
NPCONV_INLINE __m256 fnma(__m256 a, __m256 b, __m256 c) { return _mm256_fnmadd_ps(a, b, c); }
NPCONV_INLINE __m256d fnma(__m256d a, __m256d b, __m256d c) { return _mm256_fnmadd_pd(a, b, c); }
NPCONV_INLINE __m256 max(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
NPCONV_INLINE __m256d max(__m256d a, __m256d b) { return _mm256_max_pd(a, b); }
NPCONV_INLINE __m256 min(__m256 a, __m256 b) { return _mm256_min_ps(a, b); }
NPCONV_INLINE __m256d min(__m256d a, __m256d b) { return _mm256_min_pd(a, b); }
NPCONV_INLINE __m256 abs(__m256 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.f), a); }
NPCONV_INLINE __m256d abs(__m256d a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.), a); }
NPCONV_INLINE __m256 select_lt(__m256 x, __m256 y, __m256 a, __m256 b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_LT_OQ));
}
NPCONV_INLINE __m256d select_lt(__m256d x, __m256d y, __m256d a, __m256d b) {
    return _mm256_blendv_pd(b, a, _mm256_cmp_pd(x, y, _CMP_LT_OQ));
}
NPCONV_INLINE __m256 round(__m256 a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
NPCONV_INLINE __m256d round(__m256d a) { return _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// In two steps of half the exponent, so that 2^n itself may over- or underflow.
NPCONV_INLINE __m256 scale_pow2(__m256 a, __m256 n) {
    const __m256i k = _mm256_cvtps_epi32(n), h = _mm256_srai_epi32(k, 1), l = _mm256_sub_epi32(k, h);
    const __m256i one = _mm256_set1_epi32(127);
    a = _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(h, one), 23)));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(l, one), 23)));
}
NPCONV_INLINE __m256d scale_pow2(__m256d a, __m256d n) {
    const __m128i k = _mm256_cvtpd_epi32(n), h = _mm_srai_epi32(k, 1), l = _mm_sub_epi32(k, h);
    const __m256i one = _mm256_set1_epi64x(1023);
    a = _mm256_mul_pd(a, _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_add_epi64(_mm256_cvtepi32_epi64(h), one), 52)));
    return _mm256_mul_pd(a, _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_add_epi64(_mm256_cvtepi32_epi64(l), one), 52)));
}
NPCONV_INLINE bool any_nonfinite(__m256 a) {
    return _mm256_movemask_ps(_mm256_cmp_ps(_mm256_sub_ps(a, a), _mm256_setzero_ps(), _CMP_NEQ_UQ)) != 0;
}
NPCONV_INLINE bool any_nonfinite(__m256d a) {
    return _mm256_movemask_pd(_mm256_cmp_pd(_mm256_sub_pd(a, a), _mm256_setzero_pd(), _CMP_NEQ_UQ)) != 0;
}
NPCONV_INLINE float sum(__m256 a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
NPCONV_INLINE double sum(__m256d a) {
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

NPCONV_INLINE void part(__m256 a, __m256 b, __m256& even, __m256& odd) {
    even = _mm256_shuffle_ps(a, b, 0x88);
    odd = _mm256_shuffle_ps(a, b, 0xdd);
}
NPCONV_INLINE void part(__m256d a, __m256d b, __m256d& even, __m256d& odd) {
    even = _mm256_unpacklo_pd(a, b);
    odd = _mm256_unpackhi_pd(a, b);
}
NPCONV_INLINE __m256d line_up(__m256d v) { return _mm256_permute4x64_pd(v, 0xd8); }
NPCONV_INLINE __m256 line_up(__m256 v) { return _mm256_castpd_ps(line_up(_mm256_castps_pd(v))); }

NPCONV_INLINE __m256 shift_in(__m256 v, __m256 before) {
    const __m256i next = _mm256_castps_si256(v), middle = _mm256_castps_si256(_mm256_permute2f128_ps(before, v, 0x21));
    return _mm256_castsi256_ps(_mm256_alignr_epi8(next, middle, 12));
}
NPCONV_INLINE __m256d shift_in(__m256d v, __m256d before) {
    return _mm256_shuffle_pd(_mm256_permute2f128_pd(before, v, 0x21), v, 0x5);
}

NPCONV_INLINE void join_halves(__m256 a, __m256 b, __m256& lo, __m256& hi) {
    lo = _mm256_permute2f128_ps(a, b, 0x20);
    hi = _mm256_permute2f128_ps(a, b, 0x31);
}
NPCONV_INLINE void join_halves(__m256d a, __m256d b, __m256d& lo, __m256d& hi) {
    lo = _mm256_permute2f128_pd(a, b, 0x20);
    hi = _mm256_permute2f128_pd(a, b, 0x31);
}
NPCONV_INLINE __m256 load_halves(const float* p, const float* q) { return _mm256_loadu2_m128(q, p); }
NPCONV_INLINE void transpose(__m256 (&r)[8]) {
    __m256 t[8];
    NPCONV_UNROLL for (int i = 0; i < 4; ++i) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    NPCONV_UNROLL for (int i = 0; i < 2; ++i) {
        r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    NPCONV_UNROLL for (int i = 0; i < 4; ++i) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    NPCONV_UNROLL for (int i = 0; i < 8; ++i) r[i] = t[i];
}
NPCONV_INLINE void transpose(__m256d (&r)[4]) {
    const __m256d a = _mm256_unpacklo_pd(r[0], r[1]), b = _mm256_unpackhi_pd(r[0], r[1]);
    const __m256d c = _mm256_unpacklo_pd(r[2], r[3]), d = _mm256_unpackhi_pd(r[2], r[3]);
    r[0] = _mm256_permute2f128_pd(a, c, 0x20);
    r[1] = _mm256_permute2f128_pd(b, d, 0x20);
    r[2] = _mm256_permute2f128_pd(a, c, 0x31);
    r[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

NPCONV_INLINE void unweave(__m256 (&r)[4]) {
    const __m256 a = _mm256_unpacklo_ps(r[0], r[1]), b = _mm256_unpackhi_ps(r[0], r[1]);
    const __m256 c = _mm256_unpacklo_ps(r[2], r[3]), d = _mm256_unpackhi_ps(r[2], r[3]);
    r[0] = _mm256_shuffle_ps(a, c, 0x44);
    r[1] = _mm256_shuffle_ps(a, c, 0xee);
    r[2] = _mm256_shuffle_ps(b, d, 0x44);
    r[3] = _mm256_shuffle_ps(b, d, 0xee);
}

NPCONV_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
NPCONV_INLINE void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }
NPCONV_INLINE void prefetch_write(const void* p) { __builtin_prefetch(p, 1, 3); }

}  // namespace
}  // namespace npconv::avx2

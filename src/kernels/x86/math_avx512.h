/* SPDX-License-Identifier: Apache-2.0
 *
 * Vector functions of the AVX-512 tier. Included by *_avx512.c alone.
 */
#ifndef KERNELS_X86_MATH_AVX512_H
#define KERNELS_X86_MATH_AVX512_H

#include <immintrin.h>
#include <stdint.h>

/* The first n of 16 lanes; all from n = 16 on. */
static inline __mmask16 first_lanes(int64_t n) {
    return n >= 16 ? (__mmask16)0xFFFF : (__mmask16)((1u << n) - 1u);
}

/* e^x within 2 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, with ln 2 in two parts (Cody and Waite) and
 * the Taylor polynomial of degree 7 (remainder below 2^-27 at that |r|). Below -87.33, where the
 * result would be subnormal, 0; -infinity gives 0; above 88.72 infinity; NaN gives NaN. */
static inline __m512 exp_512(__m512 x) {
    const __m512 log2_e = _mm512_set1_ps(1.44269504088896341f);
    const __m512 ln2_high = _mm512_set1_ps(0.693359375f), ln2_low = _mm512_set1_ps(-2.12194440e-4f);
    __mmask16 is_low = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.3365448f), _CMP_LT_OQ);
    __mmask16 is_high = _mm512_cmp_ps_mask(x, _mm512_set1_ps(88.7228394f), _CMP_GE_OQ);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, log2_e), 8);
    __m512 r = _mm512_fnmadd_ps(n, ln2_high, x);
    r = _mm512_fnmadd_ps(n, ln2_low, r);
    __m512 p = _mm512_set1_ps(1.0f / 5040.0f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
    p = _mm512_add_ps(p, _mm512_set1_ps(1.0f));
    __m512 y = _mm512_scalef_ps(p, n);
    y = _mm512_mask_mov_ps(y, is_high, _mm512_set1_ps(__builtin_inff()));
    return _mm512_mask_mov_ps(y, is_low, _mm512_setzero_ps());
}

/* The tree that every sum of lanes follows: i + (i + 8), + 4, + 2, + 1. */
static inline float sum_lanes(__m512 v) {
    v = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, 0x4E));
    v = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, 0xB1));
    v = _mm512_add_ps(v, _mm512_shuffle_ps(v, v, 0x4E));
    v = _mm512_add_ps(v, _mm512_shuffle_ps(v, v, 0xB1));
    return _mm512_cvtss_f32(v);
}

#endif

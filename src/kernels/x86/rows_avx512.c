/* SPDX-License-Identifier: Apache-2.0
 *
 * Row operations of the AVX-512 tier. Masked lanes do the last numbers by the same operations, so a
 * number's result does not depend on where it stands in a run.
 */
#include <math.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx512.h"

static void rms_norm(float *y, const float *x, const float *gain, int32_t dim, float eps) {
    __m512 sums = _mm512_setzero_ps();
    for (int32_t i = 0; i < dim; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(first_lanes(dim - i), x + i);
        sums = _mm512_fmadd_ps(v, v, sums);
    }
    __m512 inverse = _mm512_set1_ps(1.0f / sqrtf(sum_lanes(sums) / (float)dim + eps));
    for (int32_t i = 0; i < dim; i += 16) {
        __mmask16 mask = first_lanes(dim - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), inverse);
        _mm512_mask_storeu_ps(y + i, mask, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, gain + i)));
    }
}

static void rope(float *x, const float *cosines, const float *sines, int32_t half) {
    for (int32_t i = 0; i < half; i += 16) {
        __mmask16 mask = first_lanes(half - i);
        __m512 a = _mm512_maskz_loadu_ps(mask, x + i),
               b = _mm512_maskz_loadu_ps(mask, x + half + i);
        __m512 c = _mm512_maskz_loadu_ps(mask, cosines + i);
        __m512 s = _mm512_maskz_loadu_ps(mask, sines + i);
        _mm512_mask_storeu_ps(x + i, mask, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + half + i, mask, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
}

/* 1 / (1 + e^-z), times `top`. */
static inline __m512 over_one_plus_exp(__m512 top, __m512 z) {
    __m512 e = exp_512(_mm512_sub_ps(_mm512_setzero_ps(), z));
    return _mm512_div_ps(top, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
}

static void swiglu(float *y, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = first_lanes((int64_t)(n - i));
        __m512 g = _mm512_maskz_loadu_ps(mask, gate + i), u = _mm512_maskz_loadu_ps(mask, up + i);
        _mm512_mask_storeu_ps(y + i, mask, _mm512_mul_ps(over_one_plus_exp(g, g), u));
    }
}

static void add(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = first_lanes((int64_t)(n - i));
        __m512 sum =
            _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y + i), _mm512_maskz_loadu_ps(mask, x + i));
        _mm512_mask_storeu_ps(y + i, mask, sum);
    }
}

static void add_scaled(float *y, const float *x, float scale, size_t n) {
    __m512 s = _mm512_set1_ps(scale);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = first_lanes((int64_t)(n - i));
        __m512 sum = _mm512_fmadd_ps(s, _mm512_maskz_loadu_ps(mask, x + i),
                                     _mm512_maskz_loadu_ps(mask, y + i));
        _mm512_mask_storeu_ps(y + i, mask, sum);
    }
}

static void sigmoid(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = first_lanes((int64_t)(n - i));
        __m512 z = _mm512_maskz_loadu_ps(mask, x + i);
        _mm512_mask_storeu_ps(y + i, mask, over_one_plus_exp(_mm512_set1_ps(1.0f), z));
    }
}

static void softmax(float *y, const float *x, size_t n) {
    __m512 lowest = _mm512_set1_ps(-INFINITY), tops = lowest, sums = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16)
        tops =
            _mm512_max_ps(tops, _mm512_mask_loadu_ps(lowest, first_lanes((int64_t)(n - i)), x + i));
    __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(tops));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = first_lanes((int64_t)(n - i));
        __m512 e = exp_512(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + i), top));
        sums = _mm512_add_ps(sums, _mm512_maskz_mov_ps(mask, e));
        _mm512_mask_storeu_ps(y + i, mask, e);
    }
    __m512 sum = _mm512_set1_ps(sum_lanes(sums));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = first_lanes((int64_t)(n - i));
        _mm512_mask_storeu_ps(y + i, mask, _mm512_div_ps(_mm512_maskz_loadu_ps(mask, y + i), sum));
    }
}

void rows_fill_avx512(cpu_kernels *k) {
    k->rms_norm = rms_norm;
    k->rope = rope;
    k->swiglu = swiglu;
    k->add = add;
    k->add_scaled = add_scaled;
    k->sigmoid = sigmoid;
    k->softmax = softmax;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Row operations of the AVX2 tier. The last numbers go through the same vector operations as the
 * others, so a number's result does not depend on where it stands in a run.
 */
#include <math.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx2.h"

static void rms_norm(float *y, const float *x, const float *gain, int32_t dim, float eps) {
    __m256 sums = _mm256_setzero_ps();
    for (int32_t i = 0; i < dim; i += 8) {
        __m256 v = load_first(x + i, dim - i);
        sums = _mm256_fmadd_ps(v, v, sums);
    }
    __m256 inverse = _mm256_set1_ps(1.0f / sqrtf(sum_lanes(sums) / (float)dim + eps));
    for (int32_t i = 0; i < dim; i += 8) {
        __m256 v = _mm256_mul_ps(load_first(x + i, dim - i), inverse);
        store_first(y + i, dim - i, _mm256_mul_ps(v, load_first(gain + i, dim - i)));
    }
}

static void rope(float *x, const float *cosines, const float *sines, int32_t half) {
    for (int32_t i = 0; i < half; i += 8) {
        int32_t n = half - i;
        __m256 a = load_first(x + i, n), b = load_first(x + half + i, n);
        __m256 c = load_first(cosines + i, n), s = load_first(sines + i, n);
        store_first(x + i, n, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        store_first(x + half + i, n, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
    }
}

/* top / (1 + e^-z) */
static inline __m256 over_one_plus_exp(__m256 top, __m256 z) {
    __m256 e = exp_256(_mm256_sub_ps(_mm256_setzero_ps(), z));
    return _mm256_div_ps(top, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
}

static void swiglu(float *y, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        int64_t rest = (int64_t)(n - i);
        __m256 g = load_first(gate + i, rest);
        store_first(y + i, rest, _mm256_mul_ps(over_one_plus_exp(g, g), load_first(up + i, rest)));
    }
}

static void add(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        int64_t rest = (int64_t)(n - i);
        store_first(y + i, rest, _mm256_add_ps(load_first(y + i, rest), load_first(x + i, rest)));
    }
}

static void add_scaled(float *y, const float *x, float scale, size_t n) {
    __m256 s = _mm256_set1_ps(scale);
    for (size_t i = 0; i < n; i += 8) {
        int64_t rest = (int64_t)(n - i);
        __m256 sum = _mm256_fmadd_ps(s, load_first(x + i, rest), load_first(y + i, rest));
        store_first(y + i, rest, sum);
    }
}

static void sigmoid(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        int64_t rest = (int64_t)(n - i);
        __m256 one = _mm256_set1_ps(1.0f);
        store_first(y + i, rest, over_one_plus_exp(one, load_first(x + i, rest)));
    }
}

static void softmax(float *y, const float *x, size_t n) {
    __m256 lowest = _mm256_set1_ps(-INFINITY), tops = lowest, sums = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8) {
        int64_t rest = (int64_t)(n - i);
        tops = _mm256_max_ps(tops, keep_first(load_first(x + i, rest), rest, lowest));
    }
    __m256 top = _mm256_set1_ps(max_lanes(tops));
    for (size_t i = 0; i < n; i += 8) {
        int64_t rest = (int64_t)(n - i);
        __m256 e = exp_256(_mm256_sub_ps(load_first(x + i, rest), top));
        sums = _mm256_add_ps(sums, keep_first(e, rest, _mm256_setzero_ps()));
        store_first(y + i, rest, e);
    }
    __m256 sum = _mm256_set1_ps(sum_lanes(sums));
    for (size_t i = 0; i < n; i += 8) {
        int64_t rest = (int64_t)(n - i);
        store_first(y + i, rest, _mm256_div_ps(load_first(y + i, rest), sum));
    }
}

void rows_fill_avx2(cpu_kernels *k) {
    k->rms_norm = rms_norm;
    k->rope = rope;
    k->swiglu = swiglu;
    k->add = add;
    k->add_scaled = add_scaled;
    k->sigmoid = sigmoid;
    k->softmax = softmax;
}

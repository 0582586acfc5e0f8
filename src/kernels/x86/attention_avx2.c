/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention of the AVX2 tier: as the AVX-512 one (which says why garbage beyond visible_end is
 * harmless), with register tiles of 4 queries by 16 positions or dimensions.
 */
#include <math.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx2.h"

enum { GROUP = 4 /* queries of a register tile */, WIDTH = 16 /* its lanes, two vectors */ };

#define INLINE static inline __attribute__((always_inline))

/* Scores of n_q queries (a constant) and WIDTH positions of a page. */
INLINE void score_part(const attend_tile *t, const float *keys, int first_q, int n_q, float *scores,
                       size_t stride) {
    __m256 acc[GROUP][2];
    const float *q[GROUP];
#pragma GCC unroll 4
    for (int i = 0; i < n_q; i++) {
        q[i] = t->q[first_q + i];
        acc[i][0] = acc[i][1] = _mm256_setzero_ps();
    }
    for (int32_t d = 0; d < t->head_dim; d++) {
        __m256 k0 = _mm256_loadu_ps(keys + (size_t)d * KV_PAGE_LEN);
        __m256 k1 = _mm256_loadu_ps(keys + (size_t)d * KV_PAGE_LEN + 8);
#pragma GCC unroll 4
        for (int i = 0; i < n_q; i++) {
            __m256 qd = _mm256_set1_ps(q[i][d]);
            acc[i][0] = _mm256_fmadd_ps(qd, k0, acc[i][0]);
            acc[i][1] = _mm256_fmadd_ps(qd, k1, acc[i][1]);
        }
    }
    __m256 scale = _mm256_set1_ps(t->scale);
#pragma GCC unroll 4
    for (int i = 0; i < n_q; i++) {
        float *row = scores + (size_t)(first_q + i) * stride;
        _mm256_storeu_ps(row, _mm256_mul_ps(acc[i][0], scale));
        _mm256_storeu_ps(row + 8, _mm256_mul_ps(acc[i][1], scale));
    }
}

INLINE void score_page(const attend_tile *t, const float *keys, int first_q, int n_q, float *scores,
                       size_t stride) {
    for (int at = 0; at < KV_PAGE_LEN; at += WIDTH)
        score_part(t, keys + at, first_q, n_q, scores + at, stride);
}

/* scores [n] become exp(score - max), zero up to the page's end; returns their sum. */
static float to_weights(float *scores, int32_t n) {
    __m256 lowest = _mm256_set1_ps(-INFINITY), top = lowest, sums = _mm256_setzero_ps();
    for (int32_t p = 0; p < n; p += 8)
        top = _mm256_max_ps(keep_first(_mm256_loadu_ps(scores + p), n - p, lowest), top);
    __m256 max = _mm256_set1_ps(max_lanes(top));
    for (int32_t p = 0; p < n; p += 8) {
        __m256 e = exp_256(_mm256_sub_ps(_mm256_loadu_ps(scores + p), max));
        e = keep_first(e, n - p, _mm256_setzero_ps());
        sums = _mm256_add_ps(sums, e);
        _mm256_storeu_ps(scores + p, e);
    }
    return sum_lanes(sums);
}

/* Weighted values of n_q queries (a constant): dimensions d to d + WIDTH. */
INLINE void weigh_values(const attend_tile *t, int first_q, int n_q, const float *weights,
                         size_t stride, const float *totals, int32_t d) {
    int32_t n_dims = t->head_dim - d;
    bool is_whole = n_dims >= WIDTH;
    __m256i m0 = first_lanes(n_dims), m1 = first_lanes(n_dims - 8);
    __m256 acc[GROUP][2];
    const float *w[GROUP];
#pragma GCC unroll 4
    for (int i = 0; i < n_q; i++) {
        acc[i][0] = acc[i][1] = _mm256_setzero_ps();
        w[i] = weights + (size_t)(first_q + i) * stride;
    }
    for (int32_t p = 0; p < t->visible_end; p += KV_PAGE_LEN) {
        int32_t n = t->visible_end - p < KV_PAGE_LEN ? t->visible_end - p : KV_PAGE_LEN;
        const float *v =
            t->kv.values + d +
            kv_offset(t->pages[p / KV_PAGE_LEN], t->kv_head, t->n_kv_heads, t->head_dim);
        for (int32_t j = 0; j < n; j++, v += t->head_dim) {
            __m256 v0 = is_whole ? _mm256_loadu_ps(v) : _mm256_maskload_ps(v, m0);
            __m256 v1 = is_whole ? _mm256_loadu_ps(v + 8) : _mm256_maskload_ps(v + 8, m1);
#pragma GCC unroll 4
            for (int i = 0; i < n_q; i++) {
                __m256 e = _mm256_set1_ps(w[i][p + j]);
                acc[i][0] = _mm256_fmadd_ps(e, v0, acc[i][0]);
                acc[i][1] = _mm256_fmadd_ps(e, v1, acc[i][1]);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n_q; i++) {
        __m256 total = _mm256_set1_ps(totals[first_q + i]);
        float *out = t->out[first_q + i] + d;
        _mm256_maskstore_ps(out, m0, _mm256_div_ps(acc[i][0], total));
        _mm256_maskstore_ps(out + 8, m1, _mm256_div_ps(acc[i][1], total));
    }
}

static void attend(const attend_tile *t) {
    size_t stride = attend_padded(t->visible_end);
    float totals[ATTEND_QUERIES_MAX];
    int n = t->n_queries;
    if (t->visible_end == 0) {
        for (int i = 0; i < n; i++)
            for (int32_t d = 0; d < t->head_dim; d++) t->out[i][d] = 0.0f;
        return;
    }
    for (int32_t p = 0; p < t->visible_end; p += KV_PAGE_LEN) {
        const float *keys = t->kv.keys + kv_offset(t->pages[p / KV_PAGE_LEN], t->kv_head,
                                                   t->n_kv_heads, t->head_dim);
        int i = 0;
        for (; i + 4 <= n; i += 4) score_page(t, keys, i, 4, t->scores + p, stride);
        for (; i < n; i++) score_page(t, keys, i, 1, t->scores + p, stride);
    }
    for (int i = 0; i < n; i++)
        totals[i] = to_weights(t->scores + (size_t)i * stride, t->visible_end);
    for (int32_t d = 0; d < t->head_dim; d += WIDTH) {
        int i = 0;
        for (; i + 4 <= n; i += 4) weigh_values(t, i, 4, t->scores, stride, totals, d);
        for (; i < n; i++) weigh_values(t, i, 1, t->scores, stride, totals, d);
    }
}

void attention_fill_avx2(cpu_kernels *k) {
    k->attend = attend;
}

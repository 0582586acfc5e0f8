/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention of the AVX-512 tier, in two passes over a tile of queries. Scores: a page's keys have
 * the position innermost, so one load serves 16 positions of all queries. Values: dimensions are
 * the lanes, positions the loop, up to visible_end. Positions beyond it share a vector with visible
 * ones in the first pass alone, where lanes never meet; their weights are masked to zero after it,
 * and their values are not read, so garbage there may be NaN.
 */
#include <math.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx512.h"

enum { GROUP = 8 }; /* queries of a register tile */

#define INLINE static inline __attribute__((always_inline))

/* Raw products of n_q queries (a constant) and one page: rows of 32 scores. */
INLINE void score_page(const attend_tile *t, const float *keys, int first_q, int n_q, float *scores,
                       size_t stride) {
    __m512 acc[GROUP][2];
    const float *q[GROUP];
#pragma GCC unroll 8
    for (int i = 0; i < n_q; i++) {
        q[i] = t->q[first_q + i];
        acc[i][0] = acc[i][1] = _mm512_setzero_ps();
    }
    for (int32_t d = 0; d < t->head_dim; d++) {
        __m512 k0 = _mm512_loadu_ps(keys + (size_t)d * KV_PAGE_LEN);
        __m512 k1 = _mm512_loadu_ps(keys + (size_t)d * KV_PAGE_LEN + 16);
#pragma GCC unroll 8
        for (int i = 0; i < n_q; i++) {
            __m512 qd = _mm512_set1_ps(q[i][d]);
            acc[i][0] = _mm512_fmadd_ps(qd, k0, acc[i][0]);
            acc[i][1] = _mm512_fmadd_ps(qd, k1, acc[i][1]);
        }
    }
    __m512 scale = _mm512_set1_ps(t->scale);
#pragma GCC unroll 8
    for (int i = 0; i < n_q; i++) {
        float *row = scores + (size_t)(first_q + i) * stride;
        _mm512_storeu_ps(row, _mm512_mul_ps(acc[i][0], scale));
        _mm512_storeu_ps(row + 16, _mm512_mul_ps(acc[i][1], scale));
    }
}

/* scores [n] become exp(score - max), zero up to the page's end; returns their sum. */
static float to_weights(float *scores, int32_t n) {
    __m512 lowest = _mm512_set1_ps(-INFINITY), top = lowest, sums = _mm512_setzero_ps();
    for (int32_t p = 0; p < n; p += 16)
        top = _mm512_max_ps(_mm512_mask_loadu_ps(lowest, first_lanes(n - p), scores + p), top);
    __m512 max = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    for (int32_t p = 0; p < n; p += 16) {
        __mmask16 mask = first_lanes(n - p);
        __m512 e = exp_512(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, scores + p), max));
        e = _mm512_maskz_mov_ps(mask, e);
        sums = _mm512_add_ps(sums, e);
        _mm512_storeu_ps(scores + p, e);
    }
    return sum_lanes(sums);
}

/* Weighted values of n_q queries (a constant): dimensions d to d + 32. */
INLINE void weigh_values(const attend_tile *t, int first_q, int n_q, const float *weights,
                         size_t stride, const float *totals, int32_t d) {
    __mmask16 m0 = first_lanes(t->head_dim - d);
    __mmask16 m1 = t->head_dim - d > 16 ? first_lanes(t->head_dim - d - 16) : 0;
    __m512 acc[GROUP][2];
    const float *w[GROUP];
#pragma GCC unroll 8
    for (int i = 0; i < n_q; i++) {
        acc[i][0] = acc[i][1] = _mm512_setzero_ps();
        w[i] = weights + (size_t)(first_q + i) * stride;
    }
    for (int32_t p = 0; p < t->visible_end; p += KV_PAGE_LEN) {
        int32_t n = t->visible_end - p < KV_PAGE_LEN ? t->visible_end - p : KV_PAGE_LEN;
        const float *v =
            t->kv.values + d +
            kv_offset(t->pages[p / KV_PAGE_LEN], t->kv_head, t->n_kv_heads, t->head_dim);
        for (int32_t j = 0; j < n; j++, v += t->head_dim) {
            __m512 v0 = _mm512_maskz_loadu_ps(m0, v), v1 = _mm512_maskz_loadu_ps(m1, v + 16);
#pragma GCC unroll 8
            for (int i = 0; i < n_q; i++) {
                __m512 e = _mm512_set1_ps(w[i][p + j]);
                acc[i][0] = _mm512_fmadd_ps(e, v0, acc[i][0]);
                acc[i][1] = _mm512_fmadd_ps(e, v1, acc[i][1]);
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < n_q; i++) {
        __m512 total = _mm512_set1_ps(totals[first_q + i]);
        float *out = t->out[first_q + i] + d;
        _mm512_mask_storeu_ps(out, m0, _mm512_div_ps(acc[i][0], total));
        _mm512_mask_storeu_ps(out + 16, m1, _mm512_div_ps(acc[i][1], total));
    }
}

static void score_queries(const attend_tile *t, const float *keys, float *scores, size_t stride) {
    int i = 0, n = t->n_queries;
    for (; i + 8 <= n; i += 8) score_page(t, keys, i, 8, scores, stride);
    for (; i + 4 <= n; i += 4) score_page(t, keys, i, 4, scores, stride);
    for (; i + 2 <= n; i += 2) score_page(t, keys, i, 2, scores, stride);
    for (; i < n; i++) score_page(t, keys, i, 1, scores, stride);
}

static void weigh_queries(const attend_tile *t, size_t stride, const float *totals, int32_t d) {
    int i = 0, n = t->n_queries;
    for (; i + 8 <= n; i += 8) weigh_values(t, i, 8, t->scores, stride, totals, d);
    for (; i + 4 <= n; i += 4) weigh_values(t, i, 4, t->scores, stride, totals, d);
    for (; i + 2 <= n; i += 2) weigh_values(t, i, 2, t->scores, stride, totals, d);
    for (; i < n; i++) weigh_values(t, i, 1, t->scores, stride, totals, d);
}

/* A page of keys serves all queries while it is in the first-level cache; 32 dimensions of the
 * values serve them from the second. */
static void attend(const attend_tile *t) {
    size_t stride = attend_padded(t->visible_end);
    float totals[ATTEND_QUERIES_MAX];
    if (t->visible_end == 0) {
        for (int i = 0; i < t->n_queries; i++)
            for (int32_t d = 0; d < t->head_dim; d++) t->out[i][d] = 0.0f;
        return;
    }
    for (int32_t p = 0; p < t->visible_end; p += KV_PAGE_LEN) {
        const float *keys = t->kv.keys + kv_offset(t->pages[p / KV_PAGE_LEN], t->kv_head,
                                                   t->n_kv_heads, t->head_dim);
        score_queries(t, keys, t->scores + p, stride);
    }
    for (int i = 0; i < t->n_queries; i++)
        totals[i] = to_weights(t->scores + (size_t)i * stride, t->visible_end);
    for (int32_t d = 0; d < t->head_dim; d += 32) weigh_queries(t, stride, totals, d);
}

void attention_fill_avx512(cpu_kernels *k) {
    k->attend = attend;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention of the AVX-512 tier: online softmax over chunks of positions. A chunk's scores of all
 * queries are computed page by page, become weights, and weigh the chunk's values; what is held of
 * a query is a maximum, a sum and head_dim sums (cpu.h), never a score a position.
 *
 * Keys and values that are not float32 are decoded into scratch once for all queries, a page or two
 * at a time, so that they stay in the first-level cache and the products are the same for each
 * type. Keys: one vector is 16 positions of a dimension. Values: one vector is 16 dimensions of a
 * position, and positions are the loop, up to visible_end. Positions beyond it share a vector with
 * visible ones in the scores alone, where lanes never meet, and their weights are never read:
 * garbage there may be NaN.
 */
#include "kernels/x86/attention_work.h"
#include "kernels/x86/math_avx512.h"

enum {
    LANES = 16,
    GROUP = 8,         /* queries of a register tile */
    TILE_VECTORS = 16, /* vectors of a register tile: queries by dimensions */
};

/* ---- Decoding -------------------------------------------------------------------------------- */

INLINE __m512 low_halves(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

INLINE __m512 high_halves(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xFFFF0000)));
}

INLINE __m512 widen_int8(__m128i bytes) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* out [head_dim, KV_PAGE_LEN] */
static void decode_keys_bf16(const uint16_t *part, int32_t head_dim, float *out) {
    for (int32_t d = 0; d < head_dim; d += 2)
        for (int i = 0; i < KV_PAGE_LEN; i += 16) {
            __m512i pairs = _mm512_loadu_si512(part + d * KV_PAGE_LEN + 2 * i);
            _mm512_store_ps(out + d * KV_PAGE_LEN + i, low_halves(pairs));
            _mm512_store_ps(out + (d + 1) * KV_PAGE_LEN + i, high_halves(pairs));
        }
}

static void decode_keys_int8(void *part, int32_t head_dim, float *out) {
    const float *scales = kv_scales(part, head_dim);
    const int8_t *bytes = part;
    __m512 s0 = _mm512_loadu_ps(scales), s1 = _mm512_loadu_ps(scales + 16);
    for (int32_t d = 0; d < head_dim; d++, bytes += KV_PAGE_LEN, out += KV_PAGE_LEN) {
        __m512 k0 = widen_int8(_mm_loadu_si128((const __m128i *)(const void *)bytes));
        __m512 k1 = widen_int8(_mm_loadu_si128((const __m128i *)(const void *)(bytes + 16)));
        _mm512_store_ps(out, _mm512_mul_ps(k0, s0));
        _mm512_store_ps(out + 16, _mm512_mul_ps(k1, s1));
    }
}

/* The first n positions: out [n, padded], zero past head_dim; n rounded up to a pair for bf16. */
static void decode_values_f32(const float *part, int32_t head_dim, int32_t n, float *out,
                              size_t padded) {
    for (int32_t j = 0; j < n; j++, part += head_dim, out += padded)
        for (int32_t d = 0; d < head_dim; d += 16)
            _mm512_store_ps(out + d, _mm512_maskz_loadu_ps(first_lanes(head_dim - d), part + d));
}

static void decode_values_bf16(const uint16_t *part, int32_t head_dim, int32_t n, float *out,
                               size_t padded) {
    for (int32_t j = 0; j < n; j += 2, part += 2 * head_dim, out += 2 * padded)
        for (int32_t d = 0; d < head_dim; d += 16) {
            __m512i pairs = _mm512_maskz_loadu_epi32(first_lanes(head_dim - d), part + 2 * d);
            _mm512_store_ps(out + d, low_halves(pairs));
            _mm512_store_ps(out + padded + d, high_halves(pairs));
        }
}

static void decode_values_int8(void *part, int32_t head_dim, int32_t n, float *out, size_t padded) {
    const float *scales = kv_scales(part, head_dim);
    const int8_t *bytes = part;
    for (int32_t j = 0; j < n; j++, bytes += head_dim, out += padded) {
        __m512 scale = _mm512_set1_ps(scales[j]);
        for (int32_t d = 0; d < head_dim; d += 16) {
            __m128i some = _mm_maskz_loadu_epi8(first_lanes(head_dim - d), bytes + d);
            _mm512_store_ps(out + d, _mm512_mul_ps(widen_int8(some), scale));
        }
    }
}

/* ---- Scores ---------------------------------------------------------------------------------- */

/* Of n_q queries and n_v vectors of positions (constants), two vectors a page. */
INLINE void score_tile(const float *q, const float *const *keys, int n_q, int n_v, int32_t head_dim,
                       size_t padded, float *scores) {
    __m512 acc[GROUP][2 * KEY_PAGES];
#pragma GCC unroll 8
    for (int i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (int v = 0; v < n_v; v++) acc[i][v] = _mm512_setzero_ps();
    for (int32_t d = 0; d < head_dim; d++) {
        __m512 k[2 * KEY_PAGES];
#pragma GCC unroll 4
        for (int v = 0; v < n_v; v++)
            k[v] = _mm512_loadu_ps(keys[v / 2] + (size_t)d * KV_PAGE_LEN + v % 2 * 16);
#pragma GCC unroll 8
        for (int i = 0; i < n_q; i++) {
            __m512 qd = _mm512_set1_ps(q[(size_t)i * padded + (size_t)d]);
#pragma GCC unroll 4
            for (int v = 0; v < n_v; v++) acc[i][v] = _mm512_fmadd_ps(qd, k[v], acc[i][v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (int v = 0; v < n_v; v++)
            _mm512_store_ps(scores + i * ATTEND_CHUNK + v * 16, acc[i][v]);
}

/* Scores of KEY_PAGES pages; the second one may lie past the group's end. */
static void score_group(const work *w, const query_group *g, const float *const *keys,
                        int32_t position, float *scores) {
    const float *q = w->queries + (size_t)g->first * w->padded;
    int32_t head_dim = w->tile->head_dim;
    if (g->n == 8) {
        score_tile(q, keys, 8, 2, head_dim, w->padded, scores);
        if (g->end > position + KV_PAGE_LEN)
            score_tile(q, keys + 1, 8, 2, head_dim, w->padded, scores + KV_PAGE_LEN);
    } else if (g->n == 4) {
        score_tile(q, keys, 4, 4, head_dim, w->padded, scores);
    } else if (g->n == 2) {
        score_tile(q, keys, 2, 4, head_dim, w->padded, scores);
    } else {
        score_tile(q, keys, 1, 4, head_dim, w->padded, scores);
    }
}

/* ---- Weights --------------------------------------------------------------------------------- */

/* scores [n] become exp(score - max) with the maximum so far; the state follows. */
static void to_weights(float *scores, int32_t n, float *state, size_t padded) {
    __m512 top = _mm512_set1_ps(-FLT_MAX), sums = _mm512_setzero_ps();
    for (int32_t p = 0; p < n; p += 16)
        top = _mm512_max_ps(_mm512_mask_loadu_ps(top, first_lanes(n - p), scores + p), top);
    float before = state[padded], max = _mm512_reduce_max_ps(top);
    if (before > max) max = before;
    __m512 maxes = _mm512_set1_ps(max);
    for (int32_t p = 0; p < n; p += 16) {
        __mmask16 mask = first_lanes(n - p);
        __m512 e = exp_512(_mm512_sub_ps(_mm512_loadu_ps(scores + p), maxes));
        sums = _mm512_mask_add_ps(sums, mask, sums, e);
        _mm512_storeu_ps(scores + p, e);
    }
    float total = sum_lanes(sums);
    if (max != before) {
        __m512 factor = exp_512(_mm512_set1_ps(before - max));
        for (size_t d = 0; before > -FLT_MAX && d < padded; d += 16)
            _mm512_storeu_ps(state + d, _mm512_mul_ps(_mm512_loadu_ps(state + d), factor));
        state[padded + 1] *= _mm512_cvtss_f32(factor);
        state[padded] = max;
    }
    state[padded + 1] += total;
}

/* ---- Values ---------------------------------------------------------------------------------- */

/* Adds n weighted values to n_q states, n_v vectors of dimensions (constants) of each. */
INLINE void weigh_tile(const float *weights, const float *const *values, size_t stride, int32_t n,
                       int n_q, int n_v, float *states, size_t state_floats) {
    __m512 acc[GROUP][8];
#pragma GCC unroll 8
    for (int i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (int v = 0; v < n_v; v++)
            acc[i][v] = _mm512_loadu_ps(states + (size_t)i * state_floats + v * 16);
    for (int32_t page = 0; page * KV_PAGE_LEN < n; page++) {
        const float *value = values[page], *e = weights + page * KV_PAGE_LEN;
        int32_t n_here =
            n - page * KV_PAGE_LEN < KV_PAGE_LEN ? n - page * KV_PAGE_LEN : KV_PAGE_LEN;
        for (int32_t j = 0; j < n_here; j++, value += stride) {
            __m512 x[8];
#pragma GCC unroll 8
            for (int v = 0; v < n_v; v++) x[v] = _mm512_loadu_ps(value + v * 16);
#pragma GCC unroll 8
            for (int i = 0; i < n_q; i++) {
                __m512 ei = _mm512_set1_ps(e[i * ATTEND_CHUNK + j]);
#pragma GCC unroll 8
                for (int v = 0; v < n_v; v++) acc[i][v] = _mm512_fmadd_ps(ei, x[v], acc[i][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (int v = 0; v < n_v; v++)
            _mm512_storeu_ps(states + (size_t)i * state_floats + v * 16, acc[i][v]);
}

/* ---- A tile ---------------------------------------------------------------------------------- */

static void clear_state(float *state, size_t padded) {
    for (size_t d = 0; d < padded + 16; d += 16) _mm512_storeu_ps(state + d, _mm512_setzero_ps());
    state[padded] = -FLT_MAX;
}

static void copy_queries(const work *w, const query_group *g) {
    const attend_tile *t = w->tile;
    float *to = w->queries + (size_t)g->first * w->padded;
    __m512 scale = _mm512_set1_ps(t->scale);
    for (int32_t i = 0; i < g->n; i++, to += w->padded)
        for (int32_t d = 0; d < t->head_dim; d += 16) {
            __m512 q = _mm512_maskz_loadu_ps(first_lanes(t->head_dim - d), t->q[g->first + i] + d);
            _mm512_store_ps(to + d, _mm512_mul_ps(q, scale));
        }
}

#include "kernels/x86/attention_walk.h"

static void attend_merge(float *state, const float *part, int32_t head_dim) {
    size_t n = attend_padded(head_dim);
    float max = state[n] > part[n] ? state[n] : part[n];
    __m512 a = exp_512(_mm512_set1_ps(state[n] - max)), b = exp_512(_mm512_set1_ps(part[n] - max));
    for (size_t d = 0; d < n; d += 16) {
        __m512 more = _mm512_mul_ps(_mm512_loadu_ps(part + d), b);
        _mm512_storeu_ps(state + d, _mm512_fmadd_ps(_mm512_loadu_ps(state + d), a, more));
    }
    state[n] = max;
    state[n + 1] = state[n + 1] * _mm512_cvtss_f32(a) + part[n + 1] * _mm512_cvtss_f32(b);
}

static void attend_finish(float *out, const float *state, int32_t head_dim) {
    __m512 inverse = _mm512_set1_ps(1.0f / state[attend_padded(head_dim) + 1]);
    for (int32_t d = 0; d < head_dim; d += 16) {
        __m512 x = _mm512_mul_ps(_mm512_loadu_ps(state + d), inverse);
        _mm512_mask_storeu_ps(out + d, first_lanes(head_dim - d), x);
    }
}

void attention_fill_avx512(cpu_kernels *k) {
    k->attend = attend;
    k->attend_merge = attend_merge;
    k->attend_finish = attend_finish;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention of the AVX2 tier: as the AVX-512 one (which says how it goes and why garbage beyond
 * visible_end is harmless), with register tiles of 4 queries by 16 positions or dimensions.
 */
#include "kernels/x86/attention_work.h"
#include "kernels/x86/math_avx2.h"

enum {
    LANES = 8,
    GROUP = 4,        /* queries of a register tile */
    TILE_VECTORS = 8, /* vectors of a register tile: queries by dimensions */
    WIDE = 8,         /* vectors of a register tile of one query */
    PAGE_VECTORS = KV_PAGE_LEN / LANES
};

/* ---- Decoding -------------------------------------------------------------------------------- */

INLINE __m256 low_halves(__m256i pairs) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

INLINE __m256 high_halves(__m256i pairs) {
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xFFFF0000)));
}

INLINE __m256 widen_int8(const int8_t *bytes) {
    __m128i some = _mm_loadl_epi64((const __m128i *)(const void *)bytes);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(some));
}

/* out [head_dim, KV_PAGE_LEN] */
static void decode_keys_bf16(const uint16_t *part, int32_t head_dim, float *out) {
    for (int32_t d = 0; d < head_dim; d += 2)
        for (int i = 0; i < KV_PAGE_LEN; i += 8) {
            const void *at = part + d * KV_PAGE_LEN + 2 * i;
            __m256i pairs = _mm256_loadu_si256(at);
            _mm256_store_ps(out + d * KV_PAGE_LEN + i, low_halves(pairs));
            _mm256_store_ps(out + (d + 1) * KV_PAGE_LEN + i, high_halves(pairs));
        }
}

static void decode_keys_int8(void *part, int32_t head_dim, float *out) {
    const float *scales = kv_scales(part, head_dim);
    const int8_t *bytes = part;
    for (int i = 0; i < KV_PAGE_LEN; i += 8) {
        __m256 scale = _mm256_loadu_ps(scales + i);
        for (int32_t d = 0; d < head_dim; d++)
            _mm256_store_ps(out + d * KV_PAGE_LEN + i,
                            _mm256_mul_ps(widen_int8(bytes + d * KV_PAGE_LEN + i), scale));
    }
}

/* The first n positions: out [n, padded], zero past head_dim; n rounded up to a pair for bf16. */
static void decode_values_f32(const float *part, int32_t head_dim, int32_t n, float *out,
                              size_t padded) {
    for (int32_t j = 0; j < n; j++, part += head_dim, out += padded)
        for (int32_t d = 0; d < (int32_t)padded; d += 8)
            _mm256_store_ps(
                out + d, d < head_dim ? load_first(part + d, head_dim - d) : _mm256_setzero_ps());
}

static void decode_values_bf16(const uint16_t *part, int32_t head_dim, int32_t n, float *out,
                               size_t padded) {
    for (int32_t j = 0; j < n; j += 2, part += 2 * head_dim, out += 2 * padded)
        for (int32_t d = 0; d < (int32_t)padded; d += 8) {
            const void *at = part + 2 * (d < head_dim ? d : 0);
            __m256i pairs = _mm256_maskload_epi32(at, first_lanes(head_dim - d));
            _mm256_store_ps(out + d, low_halves(pairs));
            _mm256_store_ps(out + padded + d, high_halves(pairs));
        }
}

static void decode_values_int8(void *part, int32_t head_dim, int32_t n, float *out, size_t padded) {
    const float *scales = kv_scales(part, head_dim);
    const int8_t *bytes = part;
    int32_t whole = head_dim / 8 * 8;
    for (int32_t j = 0; j < n; j++, bytes += head_dim, out += padded) {
        __m256 scale = _mm256_set1_ps(scales[j]);
        for (int32_t d = 0; d < whole; d += 8)
            _mm256_store_ps(out + d, _mm256_mul_ps(widen_int8(bytes + d), scale));
        for (int32_t d = whole; d < (int32_t)padded; d++)
            out[d] = d < head_dim ? (float)bytes[d] * scales[j] : 0.0f;
    }
}

/* ---- Scores ---------------------------------------------------------------------------------- */

/* Of n_q queries and n_v vectors of positions from vector first_v on (constants). */
INLINE void score_tile(const float *q, const float *const *keys, int n_q, int first_v, int n_v,
                       int32_t head_dim, size_t padded, float *scores) {
    __m256 acc[GROUP][WIDE];
#pragma GCC unroll 4
    for (int i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (int v = 0; v < n_v; v++) acc[i][v] = _mm256_setzero_ps();
    for (int32_t d = 0; d < head_dim; d++) {
        __m256 k[WIDE];
#pragma GCC unroll 8
        for (int v = 0; v < n_v; v++)
            k[v] = _mm256_loadu_ps(keys[(first_v + v) / PAGE_VECTORS] + (size_t)d * KV_PAGE_LEN +
                                   (first_v + v) % PAGE_VECTORS * 8);
#pragma GCC unroll 4
        for (int i = 0; i < n_q; i++) {
            __m256 qd = _mm256_set1_ps(q[(size_t)i * padded + (size_t)d]);
#pragma GCC unroll 8
            for (int v = 0; v < n_v; v++) acc[i][v] = _mm256_fmadd_ps(qd, k[v], acc[i][v]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (int v = 0; v < n_v; v++)
            _mm256_store_ps(scores + i * ATTEND_CHUNK + (first_v + v) * 8, acc[i][v]);
}

/* Scores of KEY_PAGES pages; the second one may lie past the group's end. */
static void score_group(const work *w, const query_group *g, const float *const *keys,
                        int32_t position, float *scores) {
    const float *q = w->queries + (size_t)g->first * w->padded;
    int32_t head_dim = w->tile->head_dim;
    bool has_second = g->end > position + KV_PAGE_LEN;
    if (g->n == 4) {
        score_tile(q, keys, 4, 0, 2, head_dim, w->padded, scores);
        score_tile(q, keys, 4, 2, 2, head_dim, w->padded, scores);
        if (!has_second) return;
        score_tile(q, keys, 4, 4, 2, head_dim, w->padded, scores);
        score_tile(q, keys, 4, 6, 2, head_dim, w->padded, scores);
    } else if (g->n == 2) {
        score_tile(q, keys, 2, 0, 4, head_dim, w->padded, scores);
        if (!has_second) return;
        score_tile(q, keys, 2, 4, 4, head_dim, w->padded, scores);
    } else {
        score_tile(q, keys, 1, 0, 8, head_dim, w->padded, scores);
    }
}

/* ---- Weights --------------------------------------------------------------------------------- */

/* scores [n] become exp(score - max) with the maximum so far; the state follows. */
static void to_weights(float *scores, int32_t n, float *state, size_t padded) {
    __m256 lowest = _mm256_set1_ps(-FLT_MAX), top = lowest, sums = _mm256_setzero_ps();
    for (int32_t p = 0; p < n; p += 8)
        top = _mm256_max_ps(keep_first(_mm256_loadu_ps(scores + p), n - p, lowest), top);
    float before = state[padded], max = max_lanes(top);
    if (before > max) max = before;
    __m256 maxes = _mm256_set1_ps(max);
    for (int32_t p = 0; p < n; p += 8) {
        __m256 e = exp_256(_mm256_sub_ps(_mm256_loadu_ps(scores + p), maxes));
        sums = _mm256_add_ps(sums, keep_first(e, n - p, _mm256_setzero_ps()));
        _mm256_storeu_ps(scores + p, e);
    }
    if (max != before) {
        __m256 factor = exp_256(_mm256_set1_ps(before - max));
        for (size_t d = 0; before > -FLT_MAX && d < padded; d += 8)
            _mm256_storeu_ps(state + d, _mm256_mul_ps(_mm256_loadu_ps(state + d), factor));
        state[padded + 1] *= _mm256_cvtss_f32(factor);
        state[padded] = max;
    }
    state[padded + 1] += sum_lanes(sums);
}

/* ---- Values ---------------------------------------------------------------------------------- */

/* Adds n weighted values to n_q states, n_v vectors of dimensions (constants) of each. */
INLINE void weigh_tile(const float *weights, const float *const *values, size_t stride, int32_t n,
                       int n_q, int n_v, float *states, size_t state_floats) {
    __m256 acc[GROUP][WIDE];
#pragma GCC unroll 4
    for (int i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (int v = 0; v < n_v; v++)
            acc[i][v] = _mm256_loadu_ps(states + (size_t)i * state_floats + v * 8);
    for (int32_t page = 0; page * KV_PAGE_LEN < n; page++) {
        const float *value = values[page], *e = weights + page * KV_PAGE_LEN;
        int32_t n_here = n - page * KV_PAGE_LEN;
        if (n_here > KV_PAGE_LEN) n_here = KV_PAGE_LEN;
        for (int32_t j = 0; j < n_here; j++, value += stride) {
            __m256 x[WIDE];
#pragma GCC unroll 8
            for (int v = 0; v < n_v; v++) x[v] = _mm256_loadu_ps(value + v * 8);
#pragma GCC unroll 4
            for (int i = 0; i < n_q; i++) {
                __m256 ei = _mm256_set1_ps(e[i * ATTEND_CHUNK + j]);
#pragma GCC unroll 8
                for (int v = 0; v < n_v; v++) acc[i][v] = _mm256_fmadd_ps(ei, x[v], acc[i][v]);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (int v = 0; v < n_v; v++)
            _mm256_storeu_ps(states + (size_t)i * state_floats + v * 8, acc[i][v]);
}

/* ---- A tile ---------------------------------------------------------------------------------- */

static void clear_state(float *state, size_t padded) {
    for (size_t d = 0; d < padded + 16; d++) state[d] = 0.0f;
    state[padded] = -FLT_MAX;
}

static void copy_queries(const work *w, const query_group *g) {
    const attend_tile *t = w->tile;
    float *to = w->queries + (size_t)g->first * w->padded;
    __m256 scale = _mm256_set1_ps(t->scale);
    for (int32_t i = 0; i < g->n; i++, to += w->padded)
        for (int32_t d = 0; d < t->head_dim; d += 8) {
            __m256 q = load_first(t->q[g->first + i] + d, t->head_dim - d);
            _mm256_store_ps(to + d, _mm256_mul_ps(q, scale));
        }
}

#include "kernels/x86/attention_walk.h"

static void attend_merge(float *state, const float *part, int32_t head_dim) {
    size_t n = attend_padded(head_dim);
    float max = state[n] > part[n] ? state[n] : part[n];
    __m256 a = exp_256(_mm256_set1_ps(state[n] - max)), b = exp_256(_mm256_set1_ps(part[n] - max));
    for (size_t d = 0; d < n; d += 8) {
        __m256 more = _mm256_mul_ps(_mm256_loadu_ps(part + d), b);
        _mm256_storeu_ps(state + d, _mm256_fmadd_ps(_mm256_loadu_ps(state + d), a, more));
    }
    state[n] = max;
    state[n + 1] = state[n + 1] * _mm256_cvtss_f32(a) + part[n + 1] * _mm256_cvtss_f32(b);
}

static void attend_finish(float *out, const float *state, int32_t head_dim) {
    __m256 inverse = _mm256_set1_ps(1.0f / state[attend_padded(head_dim) + 1]);
    for (int32_t d = 0; d < head_dim; d += 8)
        store_first(out + d, head_dim - d, _mm256_mul_ps(_mm256_loadu_ps(state + d), inverse));
}

void attention_fill_avx2(cpu_kernels *k) {
    k->attend = attend;
    k->attend_merge = attend_merge;
    k->attend_finish = attend_finish;
}

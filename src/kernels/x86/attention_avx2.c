/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention of the AVX2 tier: as the AVX-512 one (which says how it goes and why garbage beyond
 * visible_end is harmless), with register tiles of 4 queries by 16 positions or dimensions.
 */
#include <float.h>
#include <math.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx2.h"

enum {
    GROUP = 4,       /* queries of a register tile */
    WIDE = 8,        /* vectors of a register tile of one query */
    KEY_PAGES = 2,   /* decoded at a time */
    VALUE_PAGES = 2, /* decoded at a time */
    PAGE_VECTORS = KV_PAGE_LEN / 8
};

#define INLINE static inline __attribute__((always_inline))

/* Queries with the same visible_end that go through a register tile together: 4, 2 or 1. */
typedef struct query_group {
    int32_t first, n, end; /* end: within the split */
} query_group;

typedef struct work {
    const attend_tile *tile;
    query_group groups[ATTEND_QUERIES_MAX];
    int32_t n_groups, end;
    size_t padded; /* head_dim in multiples of 16 */
    /* queries [n_queries, padded], scaled; scores [n_queries, ATTEND_CHUNK] */
    float *queries, *scores, *decoded;
} work;

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

static void *part_of(const attend_tile *t, void *keys_or_values, int32_t position) {
    return kv_part(keys_or_values, t->kv.type, t->pages[position / KV_PAGE_LEN], t->kv_head,
                   t->n_kv_heads, t->head_dim);
}

/* Keys of a page as float32, in place or in scratch. */
static const float *keys_of(const attend_tile *t, int32_t position, float *scratch) {
    void *part = part_of(t, t->kv.keys, position);
    if (t->kv.type == KV_F32) return part;
    if (t->kv.type == KV_BF16)
        decode_keys_bf16(part, t->head_dim, scratch);
    else
        decode_keys_int8(part, t->head_dim, scratch);
    return scratch;
}

/* The first n values of a page as float32, in whole vectors, `padded` from one to the next. */
static const float *values_of(const work *w, int32_t position, int32_t n, float *scratch) {
    const attend_tile *t = w->tile;
    void *part = part_of(t, t->kv.values, position);
    if (t->kv.type == KV_F32 && w->padded == (size_t)t->head_dim) return part;
    if (t->kv.type == KV_F32)
        decode_values_f32(part, t->head_dim, n, scratch, w->padded);
    else if (t->kv.type == KV_BF16)
        decode_values_bf16(part, t->head_dim, n, scratch, w->padded);
    else
        decode_values_int8(part, t->head_dim, n, scratch, w->padded);
    return scratch;
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

/* Scores of KEY_PAGES pages from `position` on; a page past the end is the first one again, and its
 * scores are not read. */
static void score_pages(const work *w, int32_t chunk, int32_t position) {
    const attend_tile *t = w->tile;
    const float *keys[KEY_PAGES];
    for (int i = 0; i < KEY_PAGES; i++) {
        int32_t p = position + i * KV_PAGE_LEN;
        float *decoded = w->decoded + (size_t)i * w->padded * KV_PAGE_LEN;
        keys[i] = p < w->end ? keys_of(t, p, decoded) : keys[0];
    }
    for (int32_t i = 0; i < w->n_groups; i++) {
        const query_group *g = &w->groups[i];
        if (g->end <= position) continue;
        const float *q = w->queries + (size_t)g->first * w->padded;
        float *scores = w->scores + g->first * ATTEND_CHUNK + (position - chunk);
        if (g->n == 4) {
            score_tile(q, keys, 4, 0, 2, t->head_dim, w->padded, scores);
            score_tile(q, keys, 4, 2, 2, t->head_dim, w->padded, scores);
            if (g->end <= position + KV_PAGE_LEN) continue;
            score_tile(q, keys, 4, 4, 2, t->head_dim, w->padded, scores);
            score_tile(q, keys, 4, 6, 2, t->head_dim, w->padded, scores);
        } else if (g->n == 2) {
            score_tile(q, keys, 2, 0, 4, t->head_dim, w->padded, scores);
            if (g->end <= position + KV_PAGE_LEN) continue;
            score_tile(q, keys, 2, 4, 4, t->head_dim, w->padded, scores);
        } else {
            score_tile(q, keys, 1, 0, 8, t->head_dim, w->padded, scores);
        }
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

/* All dimensions of one group: register tiles of n_q by n_v (constants), pairs of vectors last. */
INLINE void weigh_group(const float *weights, const float *const *values, int32_t n, int n_q,
                        int n_v, float *states, size_t padded) {
    const float *shifted[VALUE_PAGES];
    size_t d = 0;
    for (; d + 8 * (size_t)n_v <= padded; d += 8 * (size_t)n_v) {
        for (int i = 0; i < VALUE_PAGES; i++) shifted[i] = values[i] + d;
        weigh_tile(weights, shifted, padded, n, n_q, n_v, states + d, padded + 16);
    }
    for (; d < padded; d += 16) {
        for (int i = 0; i < VALUE_PAGES; i++) shifted[i] = values[i] + d;
        weigh_tile(weights, shifted, padded, n, n_q, 2, states + d, padded + 16);
    }
}

static void weigh_pages(const work *w, int32_t chunk, int32_t position) {
    const float *values[VALUE_PAGES];
    for (int i = 0; i < VALUE_PAGES; i++) {
        int32_t p = position + i * KV_PAGE_LEN, n = w->end - p;
        float *decoded = w->decoded + (size_t)i * w->padded * KV_PAGE_LEN;
        if (n > KV_PAGE_LEN) n = KV_PAGE_LEN;
        values[i] = n > 0 ? values_of(w, p, n, decoded) : values[0];
    }
    for (int32_t i = 0; i < w->n_groups; i++) {
        const query_group *g = &w->groups[i];
        int32_t n = g->end - position;
        if (n > VALUE_PAGES * KV_PAGE_LEN) n = VALUE_PAGES * KV_PAGE_LEN;
        if (n <= 0) continue;
        const float *weights = w->scores + g->first * ATTEND_CHUNK + (position - chunk);
        float *states = w->tile->states + (size_t)g->first * (w->padded + 16);
        if (g->n == 4)
            weigh_group(weights, values, n, 4, 2, states, w->padded);
        else if (g->n == 2)
            weigh_group(weights, values, n, 2, 4, states, w->padded);
        else
            weigh_group(weights, values, n, 1, 8, states, w->padded);
    }
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

/* Runs of queries that see the same positions, cut into 4, 2, 1. */
static void make_groups(work *w) {
    const attend_tile *t = w->tile;
    int32_t i = 0;
    while (i < t->n_queries) {
        int32_t end = t->visible_end[i], n = 1;
        while (n < GROUP && i + n < t->n_queries && t->visible_end[i + n] == end) n++;
        n = n >= 4 ? 4 : n >= 2 ? 2 : 1;
        if (end > t->first) {
            if (end > t->first + ATTEND_SPLIT) end = t->first + ATTEND_SPLIT;
            if (end > w->end) w->end = end;
            w->groups[w->n_groups] = (query_group){i, n, end};
            copy_queries(w, &w->groups[w->n_groups++]);
            for (int32_t j = i; j < i + n; j++)
                clear_state(t->states + (size_t)j * (w->padded + 16), w->padded);
        }
        i += n;
    }
}

static void attend(const attend_tile *t) {
    work w = {.tile = t, .padded = attend_padded(t->head_dim)};
    w.queries = t->scratch;
    w.scores = w.queries + w.padded * ATTEND_QUERIES_MAX;
    w.decoded = w.scores + ATTEND_CHUNK * ATTEND_QUERIES_MAX;
    make_groups(&w);
    for (int32_t chunk = t->first; chunk < w.end; chunk += ATTEND_CHUNK) {
        int32_t chunk_end = w.end - chunk < ATTEND_CHUNK ? w.end : chunk + ATTEND_CHUNK;
        for (int32_t p = chunk; p < chunk_end; p += KEY_PAGES * KV_PAGE_LEN)
            score_pages(&w, chunk, p);
        for (int32_t i = 0; i < w.n_groups; i++) {
            const query_group *g = &w.groups[i];
            int32_t n = g->end - chunk < ATTEND_CHUNK ? g->end - chunk : ATTEND_CHUNK;
            for (int32_t j = g->first; n > 0 && j < g->first + g->n; j++)
                to_weights(w.scores + j * ATTEND_CHUNK, n, t->states + (size_t)j * (w.padded + 16),
                           w.padded);
        }
        for (int32_t p = chunk; p < chunk_end; p += VALUE_PAGES * KV_PAGE_LEN)
            weigh_pages(&w, chunk, p);
    }
}

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

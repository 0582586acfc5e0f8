/* SPDX-License-Identifier: Apache-2.0
 *
 * The walk over pages that the x86 tiers of attention share. Included by a tier after its own
 *
 *   LANES, GROUP, TILE_VECTORS           floats of a vector; queries and vectors of a register tile
 *   decode_keys_*, decode_values_*       a page as float32
 *   score_group, to_weights, weigh_tile  the three products of a chunk
 *   clear_state, copy_queries            the start of a group
 */
#include "kernels/x86/attention_work.h"

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

/* Scores of KEY_PAGES pages from `position` on; a page past the end is the first one again, and its
 * scores are not read. */
static void score_pages(const work *w, int32_t chunk, int32_t position) {
    const float *keys[KEY_PAGES];
    for (int i = 0; i < KEY_PAGES; i++) {
        int32_t p = position + i * KV_PAGE_LEN;
        float *decoded = w->decoded + (size_t)i * w->padded * KV_PAGE_LEN;
        keys[i] = p < w->end ? keys_of(w->tile, p, decoded) : keys[0];
    }
    for (int32_t i = 0; i < w->n_groups; i++) {
        const query_group *g = &w->groups[i];
        if (g->end <= position) continue;
        float *scores = w->scores + g->first * ATTEND_CHUNK + (position - chunk);
        score_group(w, g, keys, position, scores);
    }
}

/* All dimensions of one group: register tiles of n_q by n_v (constants), what is left over
 * 16 at a time. */
INLINE void weigh_group(const float *weights, const float *const *values, int32_t n, int n_q,
                        int n_v, float *states, size_t padded) {
    const float *shifted[VALUE_PAGES];
    size_t d = 0;
    for (; d + (size_t)(LANES * n_v) <= padded; d += (size_t)(LANES * n_v)) {
        for (int i = 0; i < VALUE_PAGES; i++) shifted[i] = values[i] + d;
        weigh_tile(weights, shifted, padded, n, n_q, n_v, states + d, padded + 16);
    }
    for (; d < padded; d += 16) {
        for (int i = 0; i < VALUE_PAGES; i++) shifted[i] = values[i] + d;
        weigh_tile(weights, shifted, padded, n, n_q, 16 / LANES, states + d, padded + 16);
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
        if (GROUP == 8 && g->n == 8)
            weigh_group(weights, values, n, 8, TILE_VECTORS / 8, states, w->padded);
        else if (g->n == 4)
            weigh_group(weights, values, n, 4, TILE_VECTORS / 4, states, w->padded);
        else if (g->n == 2)
            weigh_group(weights, values, n, 2, TILE_VECTORS / 2, states, w->padded);
        else
            weigh_group(weights, values, n, 1, 8, states, w->padded);
    }
}

/* Runs of queries that see the same positions, cut into 8, 4, 2, 1. */
static void make_groups(work *w) {
    const attend_tile *t = w->tile;
    int32_t i = 0;
    while (i < t->n_queries) {
        int32_t end = t->visible_end[i], n = 1;
        while (n < GROUP && i + n < t->n_queries && t->visible_end[i + n] == end) n++;
        n = n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
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

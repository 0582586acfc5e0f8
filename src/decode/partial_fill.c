/* SPDX-License-Identifier: Apache-2.0
 *
 * Sets of states as bits. A position that is open passes a set on along every edge, one that is
 * taken along its token alone; either stops as soon as a set comes out as it was.
 */
#include "decode/partial_fill.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

static bool has_bit(const uint64_t *set, int32_t i) {
    return set[i / 64] >> (i % 64) & 1;
}

static void add_bit(uint64_t *set, int32_t i) {
    set[i / 64] |= (uint64_t)1 << (i % 64);
}

static uint64_t *row(const partial_fill *f, uint64_t *rows, int32_t i) {
    return rows + (size_t)i * f->n_words;
}

static bool is_stop(const partial_fill *f, int32_t token) {
    for (int32_t i = 0; i < f->n_stops; i++)
        if (f->stops[i] == token) return true;
    return false;
}

static bool is_barred(const partial_fill *f, int32_t token) {
    return token >= f->vocab || token >= f->graph->texts.n_ids || has_bit(f->barred, token);
}

/* ---- What does not change ---- */

static void find_void_sets(partial_fill *f) {
    const token_graph *g = f->graph;
    for (int32_t i = 0; i < g->n_sets; i++) {
        size_t at = g->first_token[i];
        while (at < g->first_token[i + 1] && is_barred(f, g->set_tokens[at])) at++;
        f->is_void[i] = i == TOKEN_SET_STOP ? f->n_stops == 0 : at == g->first_token[i + 1];
    }
}

/* By rounds: what reaches a state of the last round in one token. */
static void find_distances(partial_fill *f) {
    const token_graph *g = f->graph;
    for (int32_t s = 0; s < g->n_states; s++)
        f->distance[s] = s == g->end || g->dfa.accepts[s] ? 0 : INT32_MAX;
    bool has_grown = true;
    for (int32_t round = 1; has_grown; round++) {
        has_grown = false;
        for (int32_t s = 0; s < g->n_states; s++) {
            for (size_t e = g->first_edge[s]; f->distance[s] > round && e < g->first_edge[s + 1];
                 e++) {
                if (f->distance[g->edges[e].target] != round - 1 || f->is_void[g->edges[e].set])
                    continue;
                f->distance[s] = round;
                has_grown = true;
            }
        }
    }
}

um_status partial_fill_init(partial_fill *f, const token_graph *graph, int32_t capacity,
                            const int32_t *stops, int32_t n_stops, const int32_t *barred,
                            int32_t n_barred, int32_t vocab, um_error *err) {
    size_t n_states = (size_t)graph->n_states, n_sets = (size_t)graph->n_sets;
    size_t n_rows = (size_t)capacity + 1, n_bits = token_graph_words(graph) * 64;
    memset(f, 0, sizeof *f);
    f->graph = graph;
    f->stops = stops;
    f->n_stops = n_stops;
    f->vocab = vocab;
    f->capacity = capacity;
    f->n_words = (n_states + 63) / 64;
    f->barred = memory_calloc(token_graph_words(graph), sizeof *f->barred);
    f->is_void = memory_alloc(n_sets);
    f->distance = memory_alloc_array(n_states, sizeof *f->distance);
    f->tokens = memory_alloc_array((size_t)capacity, sizeof *f->tokens);
    f->before = memory_alloc_array(n_rows, f->n_words * sizeof *f->before);
    f->after = memory_alloc_array(n_rows, f->n_words * sizeof *f->after);
    f->states = memory_alloc_array(f->n_words, sizeof *f->states);
    f->marks = memory_alloc_array((n_sets + 63) / 64, sizeof *f->marks);
    if (!f->barred || !f->is_void || !f->distance || !f->tokens || !f->before || !f->after ||
        !f->states || !f->marks)
        FAIL(UM_NO_MEMORY, err, "no memory for a constraint on %d positions", capacity);
    for (int32_t i = 0; i < n_barred + n_stops; i++) {
        int32_t token = i < n_barred ? barred[i] : stops[i - n_barred];
        if (token >= 0 && (size_t)token < n_bits) add_bit(f->barred, token);
    }
    find_void_sets(f);
    find_distances(f);
    return UM_OK;
}

void partial_fill_deinit(partial_fill *f) {
    memory_free(f->barred);
    memory_free(f->is_void);
    memory_free(f->distance);
    memory_free(f->tokens);
    memory_free(f->before);
    memory_free(f->after);
    memory_free(f->states);
    memory_free(f->marks);
    memset(f, 0, sizeof *f);
}

int32_t partial_fill_shortest(const partial_fill *f) {
    return f->distance[0];
}

int32_t partial_fill_step(const partial_fill *f, int32_t state, int32_t token) {
    const token_graph *g = f->graph;
    if (is_stop(f, token)) return state == g->end || g->dfa.accepts[state] ? g->end : -1;
    return token_graph_step(g, state, token);
}

/* ---- Sets of states ---- */

/* Into f->states: where position i leads from before[i]. */
static void pass_on(partial_fill *f, int32_t i) {
    const token_graph *g = f->graph;
    const uint64_t *from = row(f, f->before, i);
    memset(f->states, 0, f->n_words * sizeof *f->states);
    for (size_t w = 0; w < f->n_words; w++) {
        for (uint64_t left = from[w]; left; left &= left - 1) {
            int32_t s = (int32_t)(w * 64) + __builtin_ctzll(left);
            if (f->tokens[i] >= 0) {
                int32_t target = partial_fill_step(f, s, f->tokens[i]);
                if (target >= 0) add_bit(f->states, target);
                continue;
            }
            for (size_t e = g->first_edge[s]; e < g->first_edge[s + 1]; e++)
                if (!f->is_void[g->edges[e].set]) add_bit(f->states, g->edges[e].target);
        }
    }
}

/* Into f->states: from where position i leads into after[i + 1]. */
static void trace_back(partial_fill *f, int32_t i) {
    const token_graph *g = f->graph;
    const uint64_t *into = row(f, f->after, i + 1);
    memset(f->states, 0, f->n_words * sizeof *f->states);
    for (int32_t s = 0; s < g->n_states; s++) {
        if (f->tokens[i] >= 0) {
            int32_t target = partial_fill_step(f, s, f->tokens[i]);
            if (target >= 0 && has_bit(into, target)) add_bit(f->states, s);
            continue;
        }
        for (size_t e = g->first_edge[s]; e < g->first_edge[s + 1]; e++) {
            if (!has_bit(into, g->edges[e].target) || f->is_void[g->edges[e].set]) continue;
            add_bit(f->states, s);
            break;
        }
    }
}

/* Stores f->states; false where that changes nothing. */
static bool store(partial_fill *f, uint64_t *to) {
    size_t n_bytes = f->n_words * sizeof *to;
    if (memcmp(to, f->states, n_bytes) == 0) return false;
    memcpy(to, f->states, n_bytes);
    return true;
}

bool partial_fill_load(partial_fill *f, int32_t state, const int32_t *tokens, int32_t n,
                       int32_t n_after) {
    size_t n_bytes = f->n_words * sizeof *f->before;
    assert(n <= f->capacity && state >= 0);
    f->n = n;
    f->n_after = n_after;
    memcpy(f->tokens, tokens, (size_t)n * sizeof *tokens);
    memset(f->before, 0, n_bytes);
    add_bit(f->before, state);
    for (int32_t i = 0; i < n; i++) {
        pass_on(f, i);
        memcpy(row(f, f->before, i + 1), f->states, n_bytes);
    }
    memset(row(f, f->after, n), 0, n_bytes);
    for (int32_t s = 0; s < f->graph->n_states; s++)
        if (f->distance[s] <= n_after) add_bit(row(f, f->after, n), s);
    for (int32_t i = n; i-- > 0;) {
        trace_back(f, i);
        memcpy(row(f, f->after, i), f->states, n_bytes);
    }
    return has_bit(f->after, state);
}

void partial_fill_put(partial_fill *f, int32_t i, int32_t token) {
    f->tokens[i] = token;
    for (int32_t k = i; k < f->n; k++) {
        pass_on(f, k);
        if (!store(f, row(f, f->before, k + 1))) break;
    }
    for (int32_t k = i; k >= 0; k--) {
        trace_back(f, k);
        if (!store(f, row(f, f->after, k))) break;
    }
}

bool partial_fill_allows(const partial_fill *f, int32_t i, int32_t token) {
    const uint64_t *from = row(f, f->before, i), *into = row(f, f->after, i + 1);
    if (token < 0 || (is_barred(f, token) && !is_stop(f, token))) return false;
    for (size_t w = 0; w < f->n_words; w++) {
        for (uint64_t left = from[w]; left; left &= left - 1) {
            int32_t s = (int32_t)(w * 64) + __builtin_ctzll(left);
            int32_t target = partial_fill_step(f, s, token);
            if (target >= 0 && has_bit(into, target)) return true;
        }
    }
    return false;
}

/* ---- Sets of tokens ---- */

static void mark_sets(partial_fill *f, int32_t i) {
    const token_graph *g = f->graph;
    const uint64_t *from = row(f, f->before, i), *into = row(f, f->after, i + 1);
    memset(f->marks, 0, ((size_t)g->n_sets + 63) / 64 * sizeof *f->marks);
    for (size_t w = 0; w < f->n_words; w++) {
        for (uint64_t left = from[w]; left; left &= left - 1) {
            int32_t s = (int32_t)(w * 64) + __builtin_ctzll(left);
            for (size_t e = g->first_edge[s]; e < g->first_edge[s + 1]; e++)
                if (has_bit(into, g->edges[e].target)) add_bit(f->marks, g->edges[e].set);
        }
    }
}

/* Words of 32 bits that have both a place in the bits and one in the graph's rows. */
static void add_row(const partial_fill *f, const uint64_t *from, uint32_t *bits) {
    size_t n_words = ((size_t)f->vocab + 31) / 32, n_there = token_graph_words(f->graph) * 2;
    if (n_words > n_there) n_words = n_there;
    for (size_t w = 0; w < n_words; w++) bits[w] |= (uint32_t)(from[w / 2] >> (w % 2 * 32));
}

static void add_set(const partial_fill *f, int32_t set, uint32_t *bits) {
    const token_graph *g = f->graph;
    if (g->set_bits[set] >= 0) {
        add_row(f, g->bits + (size_t)g->set_bits[set] * token_graph_words(g), bits);
        return;
    }
    for (size_t k = g->first_token[set]; k < g->first_token[set + 1]; k++)
        if (g->set_tokens[k] < f->vocab)
            bits[g->set_tokens[k] / 32] |= (uint32_t)1 << (g->set_tokens[k] % 32);
}

void partial_fill_allowed(partial_fill *f, int32_t i, uint32_t *bits) {
    const token_graph *g = f->graph;
    size_t n_words = ((size_t)f->vocab + 31) / 32, n_there = token_graph_words(g) * 2;
    mark_sets(f, i);
    memset(bits, 0, n_words * sizeof *bits);
    for (size_t w = 0; w < ((size_t)g->n_sets + 63) / 64; w++)
        for (uint64_t left = f->marks[w]; left; left &= left - 1)
            add_set(f, (int32_t)(w * 64) + __builtin_ctzll(left), bits);
    for (size_t w = 0; w < n_words && w < n_there; w++)
        bits[w] &= ~(uint32_t)(f->barred[w / 2] >> (w % 2 * 32));
    for (int32_t k = 0; k < f->n_stops && has_bit(f->marks, TOKEN_SET_STOP); k++)
        if (f->stops[k] < f->vocab) bits[f->stops[k] / 32] |= (uint32_t)1 << (f->stops[k] % 32);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * For each state one walk over the tokens in the order of their bytes, which is a walk over their
 * trie: what a token shares with the one before it is not read again, and what has died takes all
 * that begin with it along.
 */
#include "decode/token_graph.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/memory.h"

typedef struct sorted_token {
    const unsigned char *bytes;
    uint32_t n_bytes, n_shared; /* n_shared: bytes that the token before it begins with, too */
    int32_t id;
} sorted_token;

typedef struct builder {
    token_graph *g;
    sorted_token *tokens;
    size_t n_tokens, first_of_byte[257]; /* by first byte */
    int32_t *path;                       /* states after each byte of the token being read */
    /* What the walk from one state finds. */
    int32_t *found_ids, *found_slots; /* [n_tokens] */
    size_t n_found;
    int32_t *slot_of; /* [dfa states] or -1 */
    int32_t *targets; /* [n_slots] */
    size_t *counts;   /* [dfa states + 1] */
    int32_t *grouped; /* [n_tokens] found_ids by slot */
    int32_t n_slots;
    size_t n_edges, edges_capacity, n_set_tokens, set_tokens_capacity, sets_capacity;
    int32_t *table; /* [n_table] open addressing: set, or -1 */
    size_t n_table;
} builder;

static int compare_tokens(const void *left, const void *right) {
    const sorted_token *a = left, *b = right;
    size_t n = a->n_bytes < b->n_bytes ? a->n_bytes : b->n_bytes;
    int order = memcmp(a->bytes, b->bytes, n);
    if (order) return order;
    if (a->n_bytes != b->n_bytes) return a->n_bytes < b->n_bytes ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static um_status sort_tokens(builder *b, um_error *err) {
    const token_texts *texts = &b->g->texts;
    size_t longest = 0;
    b->tokens = memory_alloc_array((size_t)texts->n_ids, sizeof *b->tokens);
    if (!b->tokens) FAIL(UM_NO_MEMORY, err, "no memory for a constraint");
    for (int32_t id = 0; id < texts->n_ids; id++) {
        size_t n_bytes = texts->first[id + 1] - texts->first[id];
        if (!n_bytes) continue;
        b->tokens[b->n_tokens++] = (sorted_token){
            .bytes = texts->bytes + texts->first[id], .n_bytes = (uint32_t)n_bytes, .id = id};
        if (n_bytes > longest) longest = n_bytes;
    }
    qsort(b->tokens, b->n_tokens, sizeof *b->tokens, compare_tokens);
    for (size_t i = 0; i < b->n_tokens; i++) {
        sorted_token *t = &b->tokens[i];
        b->first_of_byte[t->bytes[0] + 1]++;
        if (i == 0 || t[-1].bytes[0] != t->bytes[0]) continue;
        while (t->n_shared < t->n_bytes && t->n_shared < t[-1].n_bytes &&
               t->bytes[t->n_shared] == t[-1].bytes[t->n_shared])
            t->n_shared++;
    }
    for (int byte = 0; byte < 256; byte++) b->first_of_byte[byte + 1] += b->first_of_byte[byte];
    b->path = memory_alloc_array(longest + 1, sizeof *b->path);
    if (!b->path) FAIL(UM_NO_MEMORY, err, "no memory for a constraint");
    return UM_OK;
}

static um_status prepare(builder *b, um_error *err) {
    size_t n_states = (size_t)b->g->dfa.n_states;
    TRY(sort_tokens(b, err));
    b->found_ids = memory_alloc_array(b->n_tokens, sizeof *b->found_ids);
    b->found_slots = memory_alloc_array(b->n_tokens, sizeof *b->found_slots);
    b->grouped = memory_alloc_array(b->n_tokens, sizeof *b->grouped);
    b->slot_of = memory_alloc_array(n_states, sizeof *b->slot_of);
    b->targets = memory_alloc_array(n_states, sizeof *b->targets);
    b->counts = memory_alloc_array(n_states + 1, sizeof *b->counts);
    b->g->first_edge = memory_calloc(n_states + 2, sizeof *b->g->first_edge);
    if (!b->found_ids || !b->found_slots || !b->grouped || !b->slot_of || !b->targets ||
        !b->counts || !b->g->first_edge)
        FAIL(UM_NO_MEMORY, err, "no memory for a constraint of %zu states", n_states);
    memset(b->slot_of, 0xFF, n_states * sizeof *b->slot_of);
    return UM_OK;
}

static void find(builder *b, int32_t id, int32_t target) {
    int32_t slot = b->slot_of[target];
    if (slot < 0) {
        slot = b->slot_of[target] = b->n_slots++;
        b->targets[slot] = target;
        b->counts[slot] = 0;
    }
    b->counts[slot]++;
    b->found_ids[b->n_found] = id;
    b->found_slots[b->n_found++] = slot;
}

static void walk(builder *b, int32_t state) {
    const byte_dfa *dfa = &b->g->dfa;
    b->n_found = 0;
    b->n_slots = 0;
    b->path[0] = state;
    for (int byte = 0; byte < 256; byte++) {
        if (byte_dfa_next(dfa, state, (uint8_t)byte) < 0) continue;
        uint32_t n_dead = UINT32_MAX; /* what begins with so many bytes of the last one is dead */
        for (size_t i = b->first_of_byte[byte]; i < b->first_of_byte[byte + 1]; i++) {
            const sorted_token *t = &b->tokens[i];
            if (t->n_shared >= n_dead) continue;
            uint32_t at = t->n_shared;
            int32_t next = b->path[at];
            for (; at < t->n_bytes && next >= 0; at++) {
                next = byte_dfa_next(dfa, next, t->bytes[at]);
                b->path[at + 1] = next;
            }
            n_dead = next < 0 ? at : UINT32_MAX;
            if (next >= 0) find(b, t->id, next);
        }
    }
}

static size_t table_slot(const builder *b, const int32_t *tokens, size_t n) {
    const token_graph *g = b->g;
    size_t at = XXH3_64bits(tokens, n * sizeof *tokens) & (b->n_table - 1);
    for (; b->table[at] >= 0; at = (at + 1) & (b->n_table - 1)) {
        size_t first = g->first_token[b->table[at]];
        size_t n_there = g->first_token[b->table[at] + 1] - first;
        if (n_there == n && memcmp(g->set_tokens + first, tokens, n * sizeof *tokens) == 0) break;
    }
    return at;
}

static um_status grow_table(builder *b, um_error *err) {
    token_graph *g = b->g;
    if ((size_t)g->n_sets * 2 < b->n_table) return UM_OK;
    size_t n_table = b->n_table ? b->n_table * 2 : 1024;
    int32_t *table = memory_alloc_array(n_table, sizeof *table);
    if (!table) FAIL(UM_NO_MEMORY, err, "no memory for a constraint");
    memset(table, 0xFF, n_table * sizeof *table);
    memory_free(b->table);
    b->table = table;
    b->n_table = n_table;
    for (int32_t i = TOKEN_SET_STOP + 1; i < g->n_sets; i++) {
        size_t first = g->first_token[i];
        table[table_slot(b, g->set_tokens + first, g->first_token[i + 1] - first)] = i;
    }
    return UM_OK;
}

/* Room for one set more; first_token has one item more than sets. */
static um_status add_set(builder *b, const int32_t *tokens, size_t n, um_error *err) {
    token_graph *g = b->g;
    size_t n_items = (size_t)g->n_sets + 2;
    while (b->sets_capacity < n_items)
        if (memory_grow(&g->first_token, &b->sets_capacity, b->sets_capacity,
                        sizeof *g->first_token) != 0)
            FAIL(UM_NO_MEMORY, err, "no memory for a constraint");
    while (b->set_tokens_capacity < b->n_set_tokens + n)
        if (memory_grow(&g->set_tokens, &b->set_tokens_capacity, b->set_tokens_capacity,
                        sizeof *g->set_tokens) != 0)
            FAIL(UM_NO_MEMORY, err, "no memory for a constraint");
    if (n) memcpy(g->set_tokens + b->n_set_tokens, tokens, n * sizeof *tokens);
    g->first_token[g->n_sets] = b->n_set_tokens;
    b->n_set_tokens += n;
    g->first_token[++g->n_sets] = b->n_set_tokens;
    return UM_OK;
}

static um_status add_edge(builder *b, int32_t target, int32_t set, um_error *err) {
    if (memory_grow(&b->g->edges, &b->edges_capacity, b->n_edges, sizeof *b->g->edges) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for a constraint");
    b->g->edges[b->n_edges++] = (token_edge){target, set};
    return UM_OK;
}

/* What the walk has found becomes edges, one for each target. */
static um_status add_edges(builder *b, um_error *err) {
    size_t at = 0;
    for (int32_t slot = 0; slot < b->n_slots; slot++) {
        size_t n = b->counts[slot];
        b->counts[slot] = at;
        at += n;
    }
    b->counts[b->n_slots] = at;
    /* counts[slot] runs from the slot's start to its end, which is the next one's start. */
    for (size_t i = 0; i < b->n_found; i++)
        b->grouped[b->counts[b->found_slots[i]]++] = b->found_ids[i];
    um_status status = UM_OK;
    for (int32_t slot = 0; slot < b->n_slots; slot++) {
        size_t first = slot ? b->counts[slot - 1] : 0, n = b->counts[slot] - first;
        b->slot_of[b->targets[slot]] = -1;
        if (status != UM_OK) continue;
        TRY_GOTO(grow_table(b, err), next);
        size_t place = table_slot(b, b->grouped + first, n);
        if (b->table[place] < 0) {
            TRY_GOTO(add_set(b, b->grouped + first, n, err), next);
            b->table[place] = b->g->n_sets - 1;
        }
        status = add_edge(b, b->targets[slot], b->table[place], err);
    next:;
    }
    return status;
}

/* Sets of more tokens than a row of bits has words are rows as well. */
static um_status add_bits(token_graph *g, um_error *err) {
    size_t n_words = token_graph_words(g), n_rows = 0;
    g->set_bits = memory_alloc_array((size_t)g->n_sets, sizeof *g->set_bits);
    if (!g->set_bits) FAIL(UM_NO_MEMORY, err, "no memory for a constraint");
    for (int32_t i = 0; i < g->n_sets; i++) {
        bool is_large = g->first_token[i + 1] - g->first_token[i] > n_words;
        g->set_bits[i] = is_large ? (int32_t)n_rows++ : -1;
    }
    g->bits = memory_calloc(n_rows * n_words, sizeof *g->bits);
    if (!g->bits) FAIL(UM_NO_MEMORY, err, "no memory for a constraint");
    for (int32_t i = 0; i < g->n_sets; i++) {
        if (g->set_bits[i] < 0) continue;
        uint64_t *row = g->bits + (size_t)g->set_bits[i] * n_words;
        for (size_t k = g->first_token[i]; k < g->first_token[i + 1]; k++)
            row[g->set_tokens[k] / 64] |= (uint64_t)1 << (g->set_tokens[k] % 64);
    }
    return UM_OK;
}

static um_status build(builder *b, um_error *err) {
    token_graph *g = b->g;
    TRY(prepare(b, err));
    TRY(add_set(b, NULL, 0, err));
    for (int32_t state = 0; state < g->dfa.n_states; state++) {
        g->first_edge[state] = b->n_edges;
        walk(b, state);
        TRY(add_edges(b, err));
        if (g->dfa.accepts[state]) TRY(add_edge(b, g->end, TOKEN_SET_STOP, err));
    }
    g->first_edge[g->end] = b->n_edges;
    TRY(add_edge(b, g->end, TOKEN_SET_STOP, err));
    g->first_edge[g->n_states] = b->n_edges;
    return add_bits(g, err);
}

um_status token_graph_build_take(byte_dfa *dfa, token_texts *texts, token_graph *g, um_error *err) {
    builder b = {.g = g};
    memset(g, 0, sizeof *g);
    g->dfa = *dfa;
    g->texts = *texts;
    memset(dfa, 0, sizeof *dfa);
    memset(texts, 0, sizeof *texts);
    g->n_states = g->dfa.n_states + 1;
    g->end = g->dfa.n_states;
    um_status status = build(&b, err);
    memory_free(b.table);
    memory_free(b.counts);
    memory_free(b.targets);
    memory_free(b.slot_of);
    memory_free(b.grouped);
    memory_free(b.found_slots);
    memory_free(b.found_ids);
    memory_free(b.path);
    memory_free(b.tokens);
    return status;
}

void token_texts_deinit(token_texts *texts) {
    memory_free(texts->bytes);
    memory_free(texts->first);
    memset(texts, 0, sizeof *texts);
}

void token_graph_deinit(token_graph *g) {
    byte_dfa_deinit(&g->dfa);
    token_texts_deinit(&g->texts);
    memory_free(g->first_edge);
    memory_free(g->edges);
    memory_free(g->first_token);
    memory_free(g->set_tokens);
    memory_free(g->set_bits);
    memory_free(g->bits);
    memset(g, 0, sizeof *g);
}

size_t token_graph_bytes(const token_graph *g) {
    size_t n_states = (size_t)g->n_states, n_sets = (size_t)g->n_sets, n_rows = 0;
    for (int32_t i = 0; i < g->n_sets; i++) n_rows += g->set_bits[i] >= 0;
    return (size_t)g->dfa.n_states * ((size_t)g->dfa.n_classes * sizeof *g->dfa.next + 1) +
           g->texts.first[g->texts.n_ids] + ((size_t)g->texts.n_ids + 1) * sizeof *g->texts.first +
           (n_states + 1) * sizeof *g->first_edge + g->first_edge[n_states] * sizeof *g->edges +
           (n_sets + 1) * sizeof *g->first_token + g->first_token[n_sets] * sizeof *g->set_tokens +
           n_sets * sizeof *g->set_bits + n_rows * token_graph_words(g) * sizeof *g->bits;
}

int32_t token_graph_step(const token_graph *g, int32_t state, int32_t token) {
    if (token < 0 || token >= g->texts.n_ids || state == g->end) return -1;
    size_t at = g->texts.first[token], end = g->texts.first[token + 1];
    if (at == end) return -1;
    for (; at < end && state >= 0; at++) state = byte_dfa_next(&g->dfa, state, g->texts.bytes[at]);
    return state;
}

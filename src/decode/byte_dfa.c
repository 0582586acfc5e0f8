/* SPDX-License-Identifier: Apache-2.0
 *
 * Subset construction, then the states from which nothing ends are cut away. It does not minimise:
 * what builders make has few states to merge.
 */
#include "decode/byte_dfa.h"

#include <string.h>
#include <xxhash.h>

#include "base/memory.h"

/* A state of the result: a set of states of the source, in rising order. */
typedef struct subset {
    size_t first; /* into `members` */
    int32_t n;
} subset;

typedef struct construction {
    const byte_nfa *nfa;
    int32_t end, n_states_max;
    byte_dfa *dfa;
    int32_t *members, *pending; /* pending [nfa->n_states]: the set being made */
    size_t n_members, members_capacity;
    subset *subsets;
    size_t n_subsets, subsets_capacity, rows_capacity, accepts_capacity;
    uint32_t *stamps, stamp; /* [nfa->n_states] in the set being made where equal to stamp */
    int32_t *slots;          /* [n_slots] open addressing: subset, or -1 */
    size_t n_slots;
} construction;

/* Bytes between two neighbouring bounds of edges are told apart by no state. */
static void find_classes(const byte_nfa *nfa, byte_dfa *dfa) {
    uint8_t is_bound[257] = {0};
    for (size_t i = 0; i < nfa->n_edges; i++) {
        if (nfa->edges[i].is_empty) continue;
        is_bound[nfa->edges[i].low] = is_bound[nfa->edges[i].high + 1] = 1;
    }
    int32_t n = 0;
    for (int byte = 0; byte < 256; byte++) {
        if (byte && is_bound[byte]) n++;
        dfa->classes[byte] = (uint8_t)n;
    }
    dfa->n_classes = n + 1;
}

/* Completes `pending` [n] by what empty edges reach, and sorts it. Returns its length. */
static int32_t close_set(construction *c, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        for (int32_t e = c->nfa->first_edge[c->pending[i]]; e >= 0; e = c->nfa->edges[e].next) {
            const nfa_edge *edge = &c->nfa->edges[e];
            if (!edge->is_empty || c->stamps[edge->target] == c->stamp) continue;
            c->stamps[edge->target] = c->stamp;
            c->pending[n++] = edge->target;
        }
    }
    /* Sets are small and nearly sorted. */
    for (int32_t i = 1; i < n; i++) {
        int32_t moving = c->pending[i], at = i;
        for (; at > 0 && c->pending[at - 1] > moving; at--) c->pending[at] = c->pending[at - 1];
        c->pending[at] = moving;
    }
    return n;
}

static size_t slot_of(const construction *c, const int32_t *set, int32_t n) {
    size_t n_bytes = (size_t)n * sizeof *set, at = XXH3_64bits(set, n_bytes) & (c->n_slots - 1);
    for (; c->slots[at] >= 0; at = (at + 1) & (c->n_slots - 1)) {
        const subset *s = &c->subsets[c->slots[at]];
        if (s->n == n && memcmp(c->members + s->first, set, n_bytes) == 0) break;
    }
    return at;
}

static um_status grow_slots(construction *c, um_error *err) {
    if (c->n_subsets * 2 < c->n_slots) return UM_OK;
    size_t n_slots = c->n_slots ? c->n_slots * 2 : 1024;
    int32_t *slots = memory_alloc_array(n_slots, sizeof *slots);
    if (!slots) FAIL(UM_NO_MEMORY, err, "no memory for an automaton");
    memset(slots, 0xFF, n_slots * sizeof *slots);
    memory_free(c->slots);
    c->slots = slots;
    c->n_slots = n_slots;
    for (size_t i = 0; i < c->n_subsets; i++)
        slots[slot_of(c, c->members + c->subsets[i].first, c->subsets[i].n)] = (int32_t)i;
    return UM_OK;
}

/* The state for the set `pending` [n], which is closed. */
static um_status intern(construction *c, int32_t n, int32_t *state, um_error *err) {
    TRY(grow_slots(c, err));
    size_t at = slot_of(c, c->pending, n);
    *state = c->slots[at];
    if (*state >= 0) return UM_OK;
    if (c->n_subsets >= (size_t)c->n_states_max)
        FAIL(UM_LIMIT, err, "an automaton of more than %d states", c->n_states_max);
    int grown = memory_grow(&c->subsets, &c->subsets_capacity, c->n_subsets, sizeof *c->subsets);
    for (int32_t i = 0; i < n && grown == 0; i++) {
        grown = memory_grow(&c->members, &c->members_capacity, c->n_members + (size_t)i,
                            sizeof(int32_t));
        if (grown == 0) c->members[c->n_members + (size_t)i] = c->pending[i];
    }
    if (grown != 0) FAIL(UM_NO_MEMORY, err, "no memory for an automaton");
    c->subsets[c->n_subsets] = (subset){.first = c->n_members, .n = n};
    c->n_members += (size_t)n;
    *state = c->slots[at] = (int32_t)c->n_subsets++;
    return UM_OK;
}

/* Where a byte of a class leads from a state: -1 or the state. */
static um_status follow(construction *c, size_t i_subset, uint8_t byte, int32_t *state,
                        um_error *err) {
    const subset *s = &c->subsets[i_subset];
    int32_t n = 0;
    c->stamp++;
    for (int32_t i = 0; i < s->n; i++) {
        int32_t e = c->nfa->first_edge[c->members[s->first + (size_t)i]];
        for (; e >= 0; e = c->nfa->edges[e].next) {
            const nfa_edge *edge = &c->nfa->edges[e];
            bool takes = !edge->is_empty && byte >= edge->low && byte <= edge->high;
            if (!takes || c->stamps[edge->target] == c->stamp) continue;
            c->stamps[edge->target] = c->stamp;
            c->pending[n++] = edge->target;
        }
    }
    *state = -1;
    return n ? intern(c, close_set(c, n), state, err) : UM_OK;
}

static um_status add_row(construction *c, size_t i_subset, um_error *err) {
    byte_dfa *dfa = c->dfa;
    size_t n_classes = (size_t)dfa->n_classes;
    if (memory_grow(&dfa->next, &c->rows_capacity, i_subset, n_classes * sizeof *dfa->next) != 0 ||
        memory_grow(&dfa->accepts, &c->accepts_capacity, i_subset, 1) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for an automaton");
    dfa->accepts[i_subset] = 0;
    for (int32_t i = 0; i < c->subsets[i_subset].n; i++)
        if (c->members[c->subsets[i_subset].first + (size_t)i] == c->end)
            dfa->accepts[i_subset] = 1;
    for (int byte = 0; byte < 256; byte++) {
        if (byte && dfa->classes[byte] == dfa->classes[byte - 1]) continue;
        int32_t state;
        TRY(follow(c, i_subset, (uint8_t)byte, &state, err));
        dfa->next[i_subset * n_classes + dfa->classes[byte]] = state;
    }
    return UM_OK;
}

/* Leaves the states from which a text can end, in their order. `number` [n_states] is scratch. */
static um_status trim(byte_dfa *dfa, int32_t *number, um_error *err) {
    size_t n_states = (size_t)dfa->n_states, n_classes = (size_t)dfa->n_classes;
    for (size_t i = 0; i < n_states; i++) number[i] = dfa->accepts[i] ? 0 : -1;
    for (bool has_grown = true; has_grown;) {
        has_grown = false;
        for (size_t i = n_states; i-- > 0;) {
            if (number[i] >= 0) continue;
            for (size_t k = 0; k < n_classes && number[i] < 0; k++) {
                int32_t next = dfa->next[i * n_classes + k];
                if (next >= 0 && number[next] >= 0) number[i] = 0;
            }
            has_grown |= number[i] >= 0;
        }
    }
    if (number[0] < 0) FAIL(UM_NOT_FOUND, err, "no text is in the language");
    int32_t n_left = 0;
    for (size_t i = 0; i < n_states; i++)
        if (number[i] >= 0) number[i] = n_left++;
    for (size_t i = 0; i < n_states; i++) {
        if (number[i] < 0) continue;
        size_t to = (size_t)number[i];
        for (size_t k = 0; k < n_classes; k++) {
            int32_t next = dfa->next[i * n_classes + k];
            dfa->next[to * n_classes + k] = next < 0 ? -1 : number[next];
        }
        dfa->accepts[to] = dfa->accepts[i];
    }
    dfa->n_states = n_left;
    return UM_OK;
}

um_status byte_dfa_build(const byte_nfa *nfa, int32_t start, int32_t end, int32_t n_states_max,
                         byte_dfa *dfa, um_error *err) {
    um_status status = UM_OK;
    construction c = {.nfa = nfa, .end = end, .n_states_max = n_states_max, .dfa = dfa};
    int32_t *numbers = NULL, first;
    memset(dfa, 0, sizeof *dfa);
    find_classes(nfa, dfa);
    c.pending = memory_alloc_array(nfa->n_states, sizeof *c.pending);
    c.stamps = memory_calloc(nfa->n_states, sizeof *c.stamps);
    if (!c.pending || !c.stamps) {
        status = um_error_set(err, UM_NO_MEMORY, "no memory for an automaton");
        goto cleanup;
    }
    c.pending[0] = start;
    c.stamps[start] = c.stamp = 1;
    TRY_GOTO(intern(&c, close_set(&c, 1), &first, err), cleanup);
    for (size_t i = 0; i < c.n_subsets; i++) TRY_GOTO(add_row(&c, i, err), cleanup);
    dfa->n_states = (int32_t)c.n_subsets;
    numbers = memory_alloc_array(c.n_subsets, sizeof *numbers);
    status = numbers ? trim(dfa, numbers, err)
                     : um_error_set(err, UM_NO_MEMORY, "no memory for an automaton");
cleanup:
    memory_free(numbers);
    memory_free(c.slots);
    memory_free(c.subsets);
    memory_free(c.members);
    memory_free(c.stamps);
    memory_free(c.pending);
    return status;
}

void byte_dfa_deinit(byte_dfa *dfa) {
    memory_free(dfa->next);
    memory_free(dfa->accepts);
    memset(dfa, 0, sizeof *dfa);
}

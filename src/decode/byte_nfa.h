/* SPDX-License-Identifier: Apache-2.0
 *
 * A nondeterministic automaton over bytes, while it is being built. A builder adds ways from one
 * state to another and never an edge into the state that it starts from, so that pieces can be put
 * together in any order. Failure sticks, as in strbuf: a builder looks at `status` once in a while.
 */
#ifndef DECODE_BYTE_NFA_H
#define DECODE_BYTE_NFA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct nfa_edge {
    int32_t target, next; /* next: of the same state, or -1 */
    uint8_t low, high;    /* the bytes that it takes; none where is_empty */
    bool is_empty;
} nfa_edge;

/* Owned by whoever called byte_nfa_init. */
typedef struct byte_nfa {
    int32_t *first_edge; /* [n_states] or -1 */
    nfa_edge *edges;
    size_t n_states, states_capacity, n_edges, edges_capacity;
    size_t n_states_max;
    um_status status; /* UM_OK, UM_NO_MEMORY, or UM_LIMIT: more than n_states_max */
} byte_nfa;

void byte_nfa_init(byte_nfa *nfa, size_t n_states_max);
void byte_nfa_deinit(byte_nfa *nfa);

/* A new state; after a failure some state that exists, or 0. */
int32_t byte_nfa_state(byte_nfa *nfa);
/* An edge that takes one byte of [low, high]. */
void byte_nfa_edge(byte_nfa *nfa, int32_t from, int low, int high, int32_t to);
/* An edge that takes nothing. */
void byte_nfa_empty(byte_nfa *nfa, int32_t from, int32_t to);
/* A way that takes these bytes; at least one. */
void byte_nfa_text(byte_nfa *nfa, int32_t from, const char *bytes, size_t n_bytes, int32_t to);

#endif

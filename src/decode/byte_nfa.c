/* SPDX-License-Identifier: Apache-2.0
 *
 * States and edges in two arrays; a state's edges are a list.
 */
#include "decode/byte_nfa.h"

#include <string.h>

#include "base/memory.h"

void byte_nfa_init(byte_nfa *nfa, size_t n_states_max) {
    memset(nfa, 0, sizeof *nfa);
    nfa->n_states_max = n_states_max;
}

void byte_nfa_deinit(byte_nfa *nfa) {
    memory_free(nfa->first_edge);
    memory_free(nfa->edges);
    memset(nfa, 0, sizeof *nfa);
}

int32_t byte_nfa_state(byte_nfa *nfa) {
    if (nfa->status == UM_OK && nfa->n_states >= nfa->n_states_max) nfa->status = UM_LIMIT;
    if (nfa->status == UM_OK && memory_grow(&nfa->first_edge, &nfa->states_capacity, nfa->n_states,
                                            sizeof *nfa->first_edge) != 0)
        nfa->status = UM_NO_MEMORY;
    if (nfa->status != UM_OK) return 0;
    nfa->first_edge[nfa->n_states] = -1;
    return (int32_t)nfa->n_states++;
}

static void add_edge(byte_nfa *nfa, int32_t from, nfa_edge edge) {
    if (nfa->status == UM_OK &&
        memory_grow(&nfa->edges, &nfa->edges_capacity, nfa->n_edges, sizeof *nfa->edges) != 0)
        nfa->status = UM_NO_MEMORY;
    if (nfa->status != UM_OK) return;
    edge.next = nfa->first_edge[from];
    nfa->edges[nfa->n_edges] = edge;
    nfa->first_edge[from] = (int32_t)nfa->n_edges++;
}

void byte_nfa_edge(byte_nfa *nfa, int32_t from, int low, int high, int32_t to) {
    add_edge(nfa, from, (nfa_edge){.target = to, .low = (uint8_t)low, .high = (uint8_t)high});
}

void byte_nfa_empty(byte_nfa *nfa, int32_t from, int32_t to) {
    add_edge(nfa, from, (nfa_edge){.target = to, .is_empty = true});
}

void byte_nfa_text(byte_nfa *nfa, int32_t from, const char *bytes, size_t n_bytes, int32_t to) {
    for (size_t i = 0; i < n_bytes; i++) {
        int32_t next = i + 1 < n_bytes ? byte_nfa_state(nfa) : to;
        byte_nfa_edge(nfa, from, (unsigned char)bytes[i], (unsigned char)bytes[i], next);
        from = next;
    }
}

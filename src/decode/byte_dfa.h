/* SPDX-License-Identifier: Apache-2.0
 *
 * A deterministic automaton over bytes, in which every state leads to the end of some text: what is
 * alive can be completed. Bytes that no state tells apart share a column of the table.
 */
#ifndef DECODE_BYTE_DFA_H
#define DECODE_BYTE_DFA_H

#include "decode/byte_nfa.h"

/* Immutable once built; any thread. State 0 is the start. */
typedef struct byte_dfa {
    int32_t n_states, n_classes;
    uint8_t classes[256]; /* byte -> column */
    int32_t *next;        /* [n_states, n_classes]; -1: no text of the language goes on so */
    uint8_t *accepts;     /* [n_states] 1 where a text may end */
} byte_dfa;

/* Builds the automaton of the ways from `start` to `end`. UM_LIMIT where it has more than
 * n_states_max states, UM_NOT_FOUND where no text leads from start to end. byte_dfa_deinit also
 * after a failure. */
um_status byte_dfa_build(const byte_nfa *nfa, int32_t start, int32_t end, int32_t n_states_max,
                         byte_dfa *dfa, um_error *err);
void byte_dfa_deinit(byte_dfa *dfa);

static inline int32_t byte_dfa_next(const byte_dfa *dfa, int32_t state, uint8_t byte) {
    return dfa->next[(size_t)state * (size_t)dfa->n_classes + dfa->classes[byte]];
}

#endif

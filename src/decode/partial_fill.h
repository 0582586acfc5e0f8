/* SPDX-License-Identifier: Apache-2.0
 *
 * A stretch of text of which some tokens stand and others do not yet, under a token graph: which
 * tokens may still be put where, so that the whole can be completed.
 *
 *   before[i]   states in which some choice of the open tokens before i arrives at i
 *   after[i]    states from which some choice of the open ones from i on comes to the end of a text
 *               within the tokens that are left behind the stretch
 *   token t may stand at i  if  step(s, t) is in after[i + 1] for an s in before[i]
 *
 * A token that stands may be replaced under the same rule, which reads nothing of position i
 * itself. What may stand at two positions need not go together: tokens are put one at a time, and
 * the sets follow. As long as only tokens that may stand are put, one that may is left everywhere.
 *
 * Allocates nothing but in init. Belongs to one thread at a time.
 */
#ifndef DECODE_PARTIAL_FILL_H
#define DECODE_PARTIAL_FILL_H

#include "decode/token_graph.h"

/* Owned by whoever called partial_fill_init. */
typedef struct partial_fill {
    const token_graph *graph;
    const int32_t *stops; /* [n_stops] tokens that end a text; borrowed */
    int32_t n_stops, vocab;
    uint64_t *barred;  /* [words] tokens that are never put, whatever they say */
    uint8_t *is_void;  /* [n_sets] 1 where all tokens of the set are barred */
    int32_t *distance; /* [n_states] the fewest tokens to the end of a text; INT32_MAX: none */
    size_t n_words;    /* of a set of states */
    int32_t n, capacity, n_after;
    int32_t *tokens;          /* [capacity] or -1: open */
    uint64_t *before, *after; /* [capacity + 1, n_words] */
    uint64_t *states, *marks; /* scratch: [n_words], [set words] */
} partial_fill;

/* For stretches of up to `capacity` tokens. barred [n_barred]: ids of the vocabulary that are never
 * put as text; stop tokens and ids from `vocab` on are not either. The graph and the stops are kept
 * and must outlive the fill. partial_fill_deinit also after a failure. */
um_status partial_fill_init(partial_fill *f, const token_graph *graph, int32_t capacity,
                            const int32_t *stops, int32_t n_stops, const int32_t *barred,
                            int32_t n_barred, int32_t vocab, um_error *err);
void partial_fill_deinit(partial_fill *f);

/* Tokens of the shortest text; INT32_MAX where these tokens spell none. */
int32_t partial_fill_shortest(const partial_fill *f);
/* Where a token leads from a state, stop tokens among them; -1: nowhere. */
int32_t partial_fill_step(const partial_fill *f, int32_t state, int32_t token);

/* Begins a stretch: it starts in `state` and has tokens [n] (-1: open), and n_after open tokens may
 * come behind it. Returns false where no choice of the open ones completes it. */
bool partial_fill_load(partial_fill *f, int32_t state, const int32_t *tokens, int32_t n,
                       int32_t n_after);
bool partial_fill_allows(const partial_fill *f, int32_t i, int32_t token);
/* Puts a token that is allowed, or opens the position (-1). */
void partial_fill_put(partial_fill *f, int32_t i, int32_t token);
/* Bits of all tokens that are allowed at i: [(vocab + 31) / 32], bit id % 32 of word id / 32. */
void partial_fill_allowed(partial_fill *f, int32_t i, uint32_t *bits);

#endif

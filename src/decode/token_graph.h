/* SPDX-License-Identifier: Apache-2.0
 *
 * A byte automaton seen through a vocabulary: from each state, which tokens lead where. Tokens that
 * lead from one state to one other are a set; sets are kept once however many edges have them, so
 * that the hundred thousand tokens that may stand inside a string are listed once and not for each
 * string of a schema.
 *
 * One state comes on top of the automaton's: the end, where a stop token leads from every state in
 * which a text may end, and where nothing but stop tokens follows. Which tokens stop is not known
 * here: their set has number 0 and is empty.
 */
#ifndef DECODE_TOKEN_GRAPH_H
#define DECODE_TOKEN_GRAPH_H

#include "decode/byte_dfa.h"

enum { TOKEN_SET_STOP = 0 };

/* The bytes of every token by id; none for ids that stand for no text. */
typedef struct token_texts {
    unsigned char *bytes;
    size_t *first; /* [n_ids + 1] into bytes */
    int32_t n_ids;
} token_texts;

typedef struct token_edge {
    int32_t target, set;
} token_edge;

/* Immutable once built; any thread. */
typedef struct token_graph {
    byte_dfa dfa;
    token_texts texts;
    int32_t n_states, end; /* end: n_states - 1 */
    size_t *first_edge;    /* [n_states + 1] */
    token_edge *edges;     /* by state; a target once */
    int32_t n_sets;
    size_t *first_token; /* [n_sets + 1] into set_tokens */
    int32_t *set_tokens;
    int32_t *set_bits; /* [n_sets] row of `bits`, or -1: a small set */
    uint64_t *bits;    /* [rows, token_graph_words]: the sets that are large */
} token_graph;

/* Takes the automaton and the texts in any case: they are cleared. token_graph_deinit also after a
 * failure. */
um_status token_graph_build_take(byte_dfa *dfa, token_texts *texts, token_graph *g, um_error *err);
void token_graph_deinit(token_graph *g);
void token_texts_deinit(token_texts *texts);
/* Memory that a built graph holds. */
size_t token_graph_bytes(const token_graph *g);

/* Where a token that is no stop token leads, or -1. */
int32_t token_graph_step(const token_graph *g, int32_t state, int32_t token);
/* Words of 64 bits that hold a bit for each id. */
static inline size_t token_graph_words(const token_graph *g) {
    return ((size_t)g->texts.n_ids + 63) / 64;
}

#endif

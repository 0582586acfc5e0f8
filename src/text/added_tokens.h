/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokens that are found in text before anything else happens: special tokens, and words that
 * were added to a trained vocabulary. Knows their flags; ids and texts come from tokenizer.c.
 */
#ifndef TEXT_ADDED_TOKENS_H
#define TEXT_ADDED_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct added_token {
    char *text; /* as written */
    size_t n_text;
    char *pattern; /* what is searched for, and decoded: the text, normalized if is_normalized */
    size_t n_pattern;
    int32_t id;
    bool is_special;
    bool is_single_word;       /* only between non-words */
    bool is_lstrip, is_rstrip; /* takes the white space on that side along */
    bool is_normalized;        /* searched for in normalized text */
} added_token;

/* Immutable once indexed; any thread. Owned by whoever called added_tokens_init. */
typedef struct added_tokens {
    added_token *items; /* sorted by id after added_tokens_index */
    size_t n, capacity;
    struct added_node *nodes; /* two tries: roots 0 and 1 */
    size_t n_nodes, nodes_capacity;
} added_tokens;

void added_tokens_init(added_tokens *a);
void added_tokens_deinit(added_tokens *a);

/* Takes `token` with its two strings, in any case. A token of the same id replaces the old one. */
um_status added_tokens_add_take(added_tokens *a, added_token *token, um_error *err);
/* Sorts and builds the tries. Called once, after the last token. */
um_status added_tokens_index(added_tokens *a, um_error *err);

/* Borrowed, or NULL; before and after indexing. */
const added_token *added_tokens_find(const added_tokens *a, int64_t id);

/* [start, end) of the text; id -1 where it is ordinary text. */
typedef struct added_span {
    size_t start, end;
    int32_t id;
} added_span;

typedef struct added_span_list {
    added_span *items;
    size_t n, capacity;
} added_span_list;

/* Splits valid UTF-8 at the added tokens, searching either those of normalized text or the others;
 * leftmost first, of those the longest. Replaces the contents of *spans. */
um_status added_tokens_split(const added_tokens *a, bool is_normalized, const char *text,
                             size_t n_bytes, added_span_list *spans, um_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Cuts text into the pieces that merges never cross: the "pre_tokenizer" of tokenizer.json. Only
 * chains that end in ByteLevel are taken, since the merges here are over bytes.
 */
#ifndef TEXT_PRE_TOKENIZER_H
#define TEXT_PRE_TOKENIZER_H

#include <jansson.h>

#include "base/strbuf.h"
#include "text/split_regex.h"

typedef enum split_behavior {
    SPLIT_BEHAVIOR_ISOLATED = 0,
    SPLIT_BEHAVIOR_REMOVED = 1,
    SPLIT_BEHAVIOR_MERGED_WITH_PREVIOUS = 2,
    SPLIT_BEHAVIOR_MERGED_WITH_NEXT = 3,
    SPLIT_BEHAVIOR_CONTIGUOUS = 4
} split_behavior;

/* One step: cut at the matches of a pattern. */
typedef struct pre_tokenizer_step {
    split_regex *regex; /* NULL: cut nothing */
    split_behavior behavior;
    bool is_inverted;      /* what lies between the matches counts as the matches */
    bool add_prefix_space; /* first put a space before each piece that has none */
} pre_tokenizer_step;

/* Immutable once parsed; any thread. */
typedef struct pre_tokenizer {
    pre_tokenizer_step *steps;
    size_t n_steps, capacity;
} pre_tokenizer;

/* [start, end) in the text of its list. */
typedef struct piece {
    size_t start, end;
    bool is_match; /* while a step is under way */
} piece;

typedef struct piece_list {
    piece *items;
    size_t n, capacity;
} piece_list;

/* Memory that successive texts share; all zero to begin with. One thread at a time. */
typedef struct pre_tokenizer_scratch {
    piece_list pieces, cut; /* the result is in `pieces` */
    strbuf spaced, respaced;
    split_regex_match *match; /* made at the first use; others may borrow it */
} pre_tokenizer_scratch;
void pre_tokenizer_scratch_deinit(pre_tokenizer_scratch *scratch);

/* Reads "pre_tokenizer". pre_tokenizer_deinit also after a failure. */
um_status pre_tokenizer_parse(const json_t *value, pre_tokenizer *p, um_error *err);
void pre_tokenizer_deinit(pre_tokenizer *p);

/* Cuts valid UTF-8. scratch->pieces are ranges of *cut_text, which is `text` or memory of the
 * scratch; both hold until the next call. No piece is empty. */
um_status pre_tokenizer_run(const pre_tokenizer *p, const char *text, size_t n_bytes,
                            pre_tokenizer_scratch *scratch, const char **cut_text, um_error *err);

/* Appends a range. */
um_status piece_list_append(piece_list *list, size_t start, size_t end, bool is_match,
                            um_error *err);

#endif

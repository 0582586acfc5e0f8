/* SPDX-License-Identifier: Apache-2.0
 *
 * The demonstration model's fixed items (eval.jsonl), ready to be asked: prompts in the chat
 * template, what the reference decoder answered, and what is right.
 */
#ifndef SUPPORT_EVAL_ITEMS_H
#define SUPPORT_EVAL_ITEMS_H

#include "unmask.h"

typedef struct eval_item {
    char kind[32];    /* "sum", "sudoku-25", ... */
    char puzzle[96];  /* of a sudoku: 81 digits, 0 where blank; else empty */
    char answer[128]; /* the right text; a sudoku may have others */
    int32_t *prompt, *expected;
    size_t n_prompt;
    int32_t n_expected, forwards, block_len, max_tokens;
    double threshold;
    bool is_correct; /* the reference's answer is the right one */
} eval_item;

/* Reads DIRECTORY/eval.jsonl. On failure prints a sentence and ends the program: for bench programs
 * alone. The items are the caller's, for eval_items_free. */
eval_item *eval_items_read(const char *directory, const um_tokenizer *tokenizer, int *n_items);
void eval_items_free(eval_item *items, int n_items);

/* Fills `options` with what an item asks for, under the threshold policy. */
void eval_item_options(const eval_item *item, um_request_options *options);

/* True where a text answers an item: the sum as it stands, a sudoku that is complete, valid and
 * keeps its clues. */
bool eval_item_is_right(const eval_item *item, const char *text);

/* Prints a sentence to standard error and ends the program. */
_Noreturn void bench_die(const char *what, const um_error *err);

#endif

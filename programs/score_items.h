/* SPDX-License-Identifier: Apache-2.0
 *
 * What `unmask score` scores: prompts with one answer or several choices, from the command line or
 * a file of JSON lines, as token ids. Both ways lead through one JSON object:
 *
 *   {"prompt": P, "answer": A}   or   {"prompt": P, "choices": [A, ...], "label": i}
 *
 * P and A are texts or arrays of token ids; further keys are not looked at.
 */
#ifndef PROGRAMS_SCORE_ITEMS_H
#define PROGRAMS_SCORE_ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "programs/options.h"

/* Token ids, freed with um_free. */
typedef struct score_ids {
    int32_t *ids;
    size_t n;
} score_ids;

typedef struct score_item {
    score_ids prompt;
    score_ids *answers; /* [n_answers] */
    size_t n_answers;
    bool has_choices;
    int32_t label; /* of the right choice; -1: not told */
} score_item;

typedef struct score_items {
    score_item *list; /* [n] */
    size_t n, capacity;
    size_t n_answers; /* of all items */
    size_t n_longest; /* tokens of the longest prompt with an answer */
} score_items;

/* Reads what the options name. UM_INVALID where the command line is wrong, other statuses where a
 * file is. Free with score_items_deinit, also after a failure. */
um_status score_items_read(const options *o, score_items *items, um_error *err);
void score_items_deinit(score_items *items);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * What becomes of an open block when its scores are there, decided where they are: the twin of
 * three rules of decode/, for steps that follow each other without the host in between. It knows
 * rules by their formulas, no policy by its name; the engine says which policy follows which rule
 * (engine/ahead.c), makes each decision again with the policy itself, and takes a step that was
 * made ahead only if the two agree.
 *
 * With p the confidence of a masked position, ranked by falling p, positions that prefer the mask
 * behind all others, ties to the lower index:
 *
 *   best     m = part i_step of n split over `steps`, no more than are willing, at least 1
 *            commit the m first, and every other willing one with p > threshold (>= where it is
 *            inclusive)
 *   random   the same m of all masked positions, by falling draws
 *   edit     commit the first, and every willing one with p > threshold; edit each position that
 *            was committed where its proposal differs and has p > edit_threshold. A proposal of the
 *            mask opens the position again, at most n times a block
 *   a block is finished   best, random: when no mask is left
 *            edit: when none is left and the step began without one and either changed nothing or
 *            is the post step number post_steps
 *
 * decode/policy_select.c, policy_schedule.c and policy_edit.c have the words and the sources.
 */
#ifndef KERNELS_DECIDE_H
#define KERNELS_DECIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "kernels/device.h"
#include "kernels/row_score.h"

enum { DECIDE_BLOCK_MAX = 1024 }; /* positions of a block */

typedef enum decide_rule { DECIDE_BEST = 0, DECIDE_RANDOM = 1, DECIDE_EDIT = 2 } decide_rule;

/* How a position stands; of unmask.h's um_position_state. */
typedef enum decide_state {
    DECIDE_FIXED = 0,
    DECIDE_MASKED = 1,
    DECIDE_COMMITTED = 2
} decide_state;

/* An open block: items [first, first + n) of the arrays of decide_args. */
typedef struct decide_block {
    rng_key key; /* of random draws: position of the first item; step of the first decision */
    double threshold, edit_threshold;
    int32_t rule; /* decide_rule */
    int32_t first, n, steps, post_steps, mask_token;
    bool is_inclusive;
    bool is_drawn, is_tempered; /* the confidence: of a draw; under the tempered softmax */
    bool needs_mask;            /* a block without a mask goes on in another shape */
    /* Written: as the next decision finds them. */
    int32_t i_step, n_post, n_reopened;
} decide_block;

/* All of it in the device's memory. Items are positions of open blocks. */
typedef struct decide_args {
    decide_block *blocks;   /* [n_blocks] */
    const score *scores;    /* of the step */
    const int32_t *i_score; /* [n_items] place in scores, or -1: the position was not scored */
    const int32_t *rows;    /* [n_items] place in row_tokens */
    int32_t *states;        /* [n_items] decide_state; written */
    int32_t *tokens;        /* [n_items] written */
    int32_t *row_tokens;    /* of the next step; written */
    /* Closed where the next step is not to be made: a block is finished, has no mask left and needs
     * one, or a score is not finite. Its n_steps grows by one. */
    device_gate *gate;
    /* Last, report_bytes (a multiple of 16) from `report` on go to reports[n_steps % 2], with
     * n_steps as it was before: the host's memory of device_alloc_host. 0: nothing is reported. */
    const void *report;
    void *reports[2];
    size_t report_bytes;
    int32_t n_blocks;
} decide_args;

/* One block on the CPU: the specification. Returns whether the next step is to be made. */
bool decide_block_scalar(const decide_args *args, decide_block *block, int32_t steps_made);

#endif

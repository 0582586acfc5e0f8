/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps that are queued before the one before them is known, so that a device never waits for the
 * host inside a block. Nothing depends on them: the host plans and decides every step as ever, and
 * takes the scores of one that was made ahead only where it is what the plan asks for, row by row
 * and token by token. Otherwise it is forgotten, like the next block of a fold in vain: what it has
 * written lies in slots of open blocks, which are written again before they are read.
 */
#ifndef ENGINE_AHEAD_H
#define ENGINE_AHEAD_H

#include "base/arena.h"
#include "models/chain.h"
#include "unmask.h"

typedef struct steps_ahead {
    bool is_on;
    bool is_queued; /* the step behind the last one that was taken is on its way */
    int64_t end_ns; /* when the last one ended, by the device's clock */
    model_chain chain;
    chain_place place;
    arena host;                                      /* the arrays of the chain, which are: */
    int32_t *tokens, *positions, *seq, *visible_end; /* [n_rows] tokens: of the step on its way */
    int32_t *pages;                                  /* of the tables, one after the other */
    kv_table *tables;
    score_request *score_requests;
    int32_t *i_score, *rows, *states, *item_tokens; /* [n_items] */
    decide_block *blocks;                           /* [n_blocks] as the first step found them */
    um_request **requests;                          /* [n_blocks] */
    int32_t n_made;                                 /* steps that were taken */
} steps_ahead;

/* Forgets a request's steps; before its pages are given back. step_lock held. */
void ahead_forget(um_engine *engine, const um_request *request);
/* Fills the scores of the planned step from a chain, or begins one with it, where that can be:
 * *is_made. UM_OK with *is_made false: the step is to be made in the ordinary way. */
um_status ahead_run(um_engine *engine, const model_batch *batch, bool *is_made, um_error *err);
/* While the device is open. */
void ahead_deinit(steps_ahead *ahead);

#endif

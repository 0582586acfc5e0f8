/* SPDX-License-Identifier: Apache-2.0
 *
 * `multi-block`: several blocks are denoised at once; a new one opens before the last is finished.
 *
 *   a block is ready to be finished where all before it are at least block_ready decided
 *   accept {masked, p > threshold} in every open block (entropy: H < threshold); a ready block that
 *   accepts none, the first open block always, takes its best position
 *   edit {committed, p > edit_threshold, proposal differs} in every open block, where
 * edit_threshold is at most 1: blocks stay unfrozen while they are in the window open the next
 * block where fewer than `window` are open and the last is block_add decided freeze the leading
 * blocks that are decided; with editing, that no edit touched or that have had post_steps forwards
 * without a mask
 *
 * Sources: D2F (zhijie-group/Discrete-Diffusion-Forcing, generate_llada_demo_block.py); MultiBD of
 * SJTU-DENG-Lab/Diffulex; d3LLM (hao-ai-lab/d3LLM, entropy); multi-block editing of the LLaDA2.1
 * report.
 */
#include <string.h>

#include "decode/policy.h"

typedef struct window_state {
    int32_t n_done; /* blocks frozen so far */
} window_state;

/* Forwards that a block has begun without a mask: a ring by the block's number. */
static int32_t *post_steps_of(const um_policy_view *view, int32_t i_block) {
    window_state *state = view->state;
    return (int32_t *)(state + 1) + (state->n_done + i_block) % view->params->window;
}

static size_t state_bytes(const um_policy_params *params, int32_t n) {
    (void)n;
    return sizeof(window_state) + (size_t)params->window * sizeof(int32_t);
}

typedef struct open_block {
    int32_t first, end;  /* in the window */
    int32_t n_masked;    /* before the step */
    int32_t n_answer;    /* positions that are not prompt */
    int32_t n_committed; /* masks that took a token in this step */
    int32_t n_edits;
} open_block;

static open_block block_at(const um_policy_view *view, int32_t i_block) {
    open_block b = {.first = i_block * view->block_len};
    b.end = b.first + view->block_len < view->n ? b.first + view->block_len : view->n;
    for (int32_t i = b.first; i < b.end; i++) {
        b.n_masked += view->states[i] == UM_POSITION_MASKED;
        b.n_answer += view->states[i] != UM_POSITION_PROMPT;
    }
    return b;
}

/* The share of the answer's positions in a block that is decided. */
static double progress(const open_block *b, int32_t n_masked) {
    return b->n_answer ? 1 - (double)n_masked / b->n_answer : 1;
}

static bool is_accepted(const um_policy_view *view, const um_candidate *c) {
    const um_policy_params *params = view->params;
    if (c->prefers_mask) return false;
    if (params->uses_entropy) return (double)c->entropy < params->threshold;
    double p = (double)c->probability;
    return p > params->threshold || (params->is_inclusive && p >= params->threshold);
}

/* True where position a is a better choice than b. */
static bool is_surer(const um_policy_view *view, int32_t a, int32_t b) {
    const um_candidate *x = &view->candidates[a], *y = &view->candidates[b];
    if (x->prefers_mask != y->prefers_mask) return y->prefers_mask;
    return view->params->uses_entropy ? x->entropy < y->entropy : x->probability > y->probability;
}

static void edit_position(const um_policy_view *view, int32_t i, open_block *b,
                          um_policy_decision *decision) {
    const um_candidate *c = &view->candidates[i];
    if (c->prefers_mask || c->token == view->tokens[i] ||
        (double)c->probability <= view->params->edit_threshold)
        return;
    policy_commit(view, i, decision);
    b->n_edits++;
}

static void step_block(const um_policy_view *view, open_block *b, bool must_commit,
                       um_policy_decision *decision) {
    int32_t best = -1;
    bool has_accepted = false;
    for (int32_t i = b->first; i < b->end; i++) {
        if (view->states[i] != UM_POSITION_MASKED) continue;
        if (best < 0 || is_surer(view, i, best)) best = i;
        has_accepted |= is_accepted(view, &view->candidates[i]);
    }
    for (int32_t i = b->first; i < b->end; i++) {
        if (view->states[i] == UM_POSITION_COMMITTED && view->params->edit_threshold <= 1) {
            edit_position(view, i, b, decision);
        } else if (view->states[i] == UM_POSITION_MASKED &&
                   (is_accepted(view, &view->candidates[i]) ||
                    (must_commit && !has_accepted && i == best))) {
            policy_commit(view, i, decision);
            b->n_committed++;
        }
    }
}

/* True where nothing more is to be done in a block. */
static bool has_settled(const um_policy_view *view, const open_block *b, int32_t n_post) {
    if (b->n_committed < b->n_masked) return false;
    if (view->params->edit_threshold > 1) return true;
    return (!b->n_masked && !b->n_edits) || n_post + 1 > view->params->post_steps;
}

static void step(const um_policy_view *view, um_policy_decision *decision) {
    const um_policy_params *params = view->params;
    window_state *state = view->state;
    int32_t n_blocks = (view->n + view->block_len - 1) / view->block_len;
    bool is_ready = true, is_front = true;
    double last = 1;
    for (int32_t k = 0; k < n_blocks; k++) {
        open_block b = block_at(view, k);
        step_block(view, &b, is_ready, decision);
        int32_t *n_post = post_steps_of(view, k);
        *n_post += b.n_masked == 0;
        is_ready &= progress(&b, b.n_masked) >= params->block_ready;
        last = progress(&b, b.n_masked - b.n_committed);
        is_front &= has_settled(view, &b, *n_post);
        if (is_front) {
            *n_post = 0;
            decision->n_finished++;
        }
    }
    state->n_done += decision->n_finished;
    int32_t n_open = n_blocks - decision->n_finished;
    if (last >= params->block_add && n_open < params->window && view->blocks_left > 0)
        decision->n_opened = 1;
}

const um_policy policy_multi_block = {
    .abi = UM_POLICY_ABI,
    .flags = UM_POLICY_SCORES_COMMITTED | UM_POLICY_MULTI_BLOCK | UM_POLICY_KEEPS_STATE,
    .reads = UM_READS_THRESHOLD | UM_READS_EDIT | UM_READS_WINDOW,
    .name = "multi-block",
    .source = "zhijie-group/Discrete-Diffusion-Forcing; SJTU-DENG-Lab/Diffulex; hao-ai-lab/d3LLM",
    .state_bytes = state_bytes,
    .step = step,
};

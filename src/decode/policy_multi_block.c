/* SPDX-License-Identifier: Apache-2.0
 *
 * `multi-block`: several blocks are denoised at once; a new one opens before the last is finished.
 *
 *   open     before a forward, one block, where the last open one is at least block_add decided and
 *            the window has room; a finished block that goes through the model once more counts
 *   ready    the first open block, and one whose neighbour before it is block_ready decided
 *   accept   {masked, p > threshold} in every open block; a ready block that accepts none takes its
 *            best position
 *            by entropy: {masked, H <= threshold} and the lowest of all; the first ready block that
 *            has masks and got nothing takes its lowest
 *   edit     {committed, p > edit_threshold, proposal differs} in every open block, where
 *            edit_threshold is at most 1: blocks stay unfrozen while they are in the window
 *   freeze   the leading blocks that are decided; with editing, those that no edit touched or that
 *            have had post_steps forwards without a mask
 *
 * Sources: D2F (zhijie-group/Discrete-Diffusion-Forcing, generate_llada_demo_block.py); MultiBD of
 * SJTU-DENG-Lab/Diffulex (its window is `window`); by entropy d3LLM (hao-ai-lab/d3LLM,
 * generate_multi_block()); multi-block editing: LLaDA2.1 report.
 */
#include <string.h>

#include "decode/policy.h"

typedef struct window_state {
    int32_t n_done; /* blocks frozen so far */
} window_state;

/* Forwards that a block has begun without a mask: a ring by the block's number. Behind it, the
 * step's blocks. */
static int32_t *post_steps_at(const um_policy_view *view, int32_t i) {
    return (int32_t *)((window_state *)view->state + 1) + i;
}

typedef struct open_block {
    int32_t first, end;  /* in the window */
    int32_t n_masked;    /* before the step */
    int32_t n_committed; /* masks that take a token in this step */
    int32_t n_edits;
    int32_t best; /* the masked position to force, or -1 */
    bool is_ready;
} open_block;

static open_block block_at(const um_policy_view *view, int32_t i_block) {
    open_block b = {.first = i_block * view->block_len, .best = -1};
    b.end = b.first + view->block_len < view->n ? b.first + view->block_len : view->n;
    for (int32_t i = b.first; i < b.end; i++) b.n_masked += view->states[i] == UM_POSITION_MASKED;
    return b;
}

/* The share of a block's positions that is decided; the prompt's part counts. */
static double progress(const open_block *b) {
    return 1 - (double)b->n_masked / (b->end - b->first);
}

static int32_t count_blocks(const um_policy_view *view) {
    return (view->n + view->block_len - 1) / view->block_len;
}

static int32_t open(const um_policy_view *view) {
    int32_t n_blocks = count_blocks(view);
    open_block last = block_at(view, n_blocks - 1);
    bool has_room = n_blocks + view->n_carried < view->params->window && view->blocks_left > 0;
    return has_room && progress(&last) >= view->params->block_add;
}

static bool is_accepted(const um_policy_view *view, const um_candidate *c) {
    const um_policy_params *params = view->params;
    if (c->prefers_mask) return false;
    if (params->metric == UM_METRIC_ENTROPY) return (double)c->entropy <= params->threshold;
    double p = (double)c->probability;
    return p > params->threshold || (params->is_inclusive && p >= params->threshold);
}

/* True where position a is a better choice than b. */
static bool is_surer(const um_policy_view *view, int32_t a, int32_t b) {
    const um_candidate *x = &view->candidates[a], *y = &view->candidates[b];
    if (x->prefers_mask != y->prefers_mask) return y->prefers_mask;
    return view->params->metric == UM_METRIC_ENTROPY ? x->entropy < y->entropy
                                                     : x->probability > y->probability;
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

/* Marks in view->order what a block accepts, and finds its best position. */
static void accept(const um_policy_view *view, open_block *b) {
    for (int32_t i = b->first; i < b->end; i++) {
        view->order[i] = 0;
        if (view->states[i] != UM_POSITION_MASKED) continue;
        if (b->best < 0 || is_surer(view, i, b->best)) b->best = i;
        view->order[i] = is_accepted(view, &view->candidates[i]);
        b->n_committed += view->order[i];
    }
}

static void force(const um_policy_view *view, open_block *b) {
    if (b->best < 0 || view->order[b->best]) return;
    view->order[b->best] = 1;
    b->n_committed++;
}

/* What is taken although nothing was sure enough. */
static void force_best(const um_policy_view *view, open_block *blocks, int32_t n_blocks) {
    if (view->params->metric != UM_METRIC_ENTROPY) {
        for (int32_t k = 0; k < n_blocks; k++)
            if (blocks[k].is_ready && blocks[k].n_committed == 0) force(view, &blocks[k]);
        return;
    }
    int32_t surest = -1;
    for (int32_t k = 0; k < n_blocks; k++)
        if (blocks[k].best >= 0 &&
            (surest < 0 || is_surer(view, blocks[k].best, blocks[surest].best)))
            surest = k;
    if (surest >= 0) force(view, &blocks[surest]);
    for (int32_t k = 0; k < n_blocks; k++) {
        if (!blocks[k].is_ready || blocks[k].n_masked == 0) continue;
        if (blocks[k].n_committed == 0) force(view, &blocks[k]);
        break;
    }
}

static void write_block(const um_policy_view *view, open_block *b, um_policy_decision *decision) {
    for (int32_t i = b->first; i < b->end; i++) {
        if (view->states[i] == UM_POSITION_COMMITTED && view->params->edit_threshold <= 1)
            edit_position(view, i, b, decision);
        else if (view->order[i])
            policy_commit(view, i, decision);
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
    open_block *blocks = (open_block *)(post_steps_at(view, 0) + params->window);
    int32_t n_blocks = count_blocks(view);
    for (int32_t k = 0; k < n_blocks; k++) {
        blocks[k] = block_at(view, k);
        blocks[k].is_ready = k == 0 || progress(&blocks[k - 1]) >= params->block_ready;
        accept(view, &blocks[k]);
    }
    force_best(view, blocks, n_blocks);
    bool is_front = true;
    for (int32_t k = 0; k < n_blocks; k++) {
        write_block(view, &blocks[k], decision);
        int32_t *n_post = post_steps_at(view, (state->n_done + k) % params->window);
        *n_post += blocks[k].n_masked == 0;
        is_front &= has_settled(view, &blocks[k], *n_post);
        if (!is_front) continue;
        *n_post = 0;
        decision->n_finished++;
    }
    state->n_done += decision->n_finished;
}

static size_t state_bytes(const um_policy_params *params, int32_t n) {
    (void)n;
    size_t window = (size_t)params->window;
    return sizeof(window_state) + window * (sizeof(int32_t) + sizeof(open_block));
}

const um_policy policy_multi_block = {
    .abi = UM_POLICY_ABI,
    .flags = UM_POLICY_SCORES_COMMITTED | UM_POLICY_MULTI_BLOCK | UM_POLICY_KEEPS_STATE,
    .reads = UM_READS_THRESHOLD | UM_READS_EDIT | UM_READS_WINDOW | UM_READS_METRIC,
    .name = "multi-block",
    .source = "zhijie-group/Discrete-Diffusion-Forcing; SJTU-DENG-Lab/Diffulex; hao-ai-lab/d3LLM",
    .state_bytes = state_bytes,
    .open = open,
    .step = step,
};

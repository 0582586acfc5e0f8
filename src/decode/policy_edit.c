/* SPDX-License-Identifier: Apache-2.0
 *
 * `edit`: commit and correct in one step.
 *
 *   commit = {masked, p > threshold}, or the best masked position if there is none
 *   edit   = {committed before this step, p > edit_threshold, proposal differs}
 *   both take their proposal; prompt positions never change
 *
 * Where the mask token is a committed position's proposal, the edit opens the position again, as in
 * the family's code. That code can do so for ever; here a block is opened again at most as often as
 * it has positions, so that every block ends.
 *
 * A forward that starts without a mask counts as a post step. The block is finished when such a
 * forward changes nothing, or when the next one would be number post_steps + 1.
 *
 * Source: generate() of inclusionAI/LLaDA2.1's modelling code (editing_threshold, max_post_steps,
 * num_to_transfer 1); LLaDA2.1 report, equations 1 to 3.
 */
#include "decode/policy.h"

typedef struct edit_state {
    int32_t n_post;     /* forwards of this block that started without a mask */
    int32_t n_reopened; /* committed positions that were masked again */
} edit_state;

/* Edits of committed positions; returns how many of them are open again. */
static int32_t edit(const um_policy_view *view, um_policy_decision *decision) {
    edit_state *state = view->state;
    int32_t n_reopened = 0;
    for (int32_t i = 0; i < view->n; i++) {
        const um_candidate *c = &view->candidates[i];
        if (view->states[i] != UM_POSITION_COMMITTED) continue;
        float p = c->prefers_mask ? c->mask_probability : c->probability;
        int32_t token = c->prefers_mask ? view->mask_token : c->token;
        if ((double)p <= view->params->edit_threshold || token == view->tokens[i]) continue;
        if (c->prefers_mask && state->n_reopened >= view->n) continue;
        n_reopened += c->prefers_mask;
        state->n_reopened += c->prefers_mask;
        decision->changes[decision->n_changes++] =
            (um_policy_change){.index = i, .token = token, .probability = p};
    }
    return n_reopened;
}

static void step(const um_policy_view *view, um_policy_decision *decision) {
    edit_state *state = view->state;
    int32_t n_willing, n_masked = policy_rank_confidence(view, &n_willing), n_commits = 0;
    while (n_commits < n_masked) {
        double p = (double)view->candidates[view->order[n_commits]].probability;
        bool is_high = n_commits < n_willing && p > view->params->threshold;
        if (!is_high && n_commits >= 1) break;
        policy_commit(view, view->order[n_commits++], decision);
    }
    int32_t n_reopened = edit(view, decision);
    policy_sort_changes(decision);
    if (!n_masked) state->n_post++;
    bool has_masks_left = n_commits < n_masked || n_reopened > 0;
    bool has_settled = !n_masked && !decision->n_changes;
    decision->n_finished =
        !has_masks_left && (has_settled || state->n_post + 1 > view->params->post_steps);
}

void policy_edit_counts(const void *state, int32_t *n_post, int32_t *n_reopened) {
    const edit_state *counts = state;
    *n_post = counts->n_post;
    *n_reopened = counts->n_reopened;
}

static size_t state_bytes(const um_policy_params *params, int32_t n) {
    (void)params;
    (void)n;
    return sizeof(edit_state);
}

const um_policy policy_edit = {
    .abi = UM_POLICY_ABI,
    .flags = UM_POLICY_SCORES_COMMITTED,
    .reads = UM_READS_THRESHOLD | UM_READS_EDIT,
    .name = "edit",
    .source = "inclusionAI/LLaDA2.1-mini modeling_llada2_moe.py, generate()",
    .state_bytes = state_bytes,
    .step = step,
};

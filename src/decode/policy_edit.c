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

/* Edits of committed positions; returns how many of them are open again. */
static int32_t edit(const policy_params *params, const policy_view *view, policy_state *state,
                    policy_decision *decision) {
    int32_t n_reopened = 0;
    for (int32_t i = 0; i < view->n; i++) {
        const candidate *c = &view->candidates[i];
        if (view->states[i] != POSITION_COMMITTED) continue;
        float p = c->prefers_mask ? c->mask_probability : c->probability;
        int32_t token = c->prefers_mask ? view->mask_token : c->token;
        if ((double)p <= params->edit_threshold || token == view->tokens[i]) continue;
        if (c->prefers_mask && state->n_reopened >= view->n) continue;
        n_reopened += c->prefers_mask;
        state->n_reopened += c->prefers_mask;
        decision->changes[decision->n_changes++] =
            (policy_change){.index = i, .token = token, .probability = p};
    }
    return n_reopened;
}

static void step(const policy_params *params, const policy_view *view, policy_state *state,
                 int32_t *order, policy_decision *decision) {
    decision->n_changes = 0;
    int32_t n_willing;
    int32_t n_masked = policy_rank_masked(view, order, &n_willing);
    int32_t n_commits = 0;
    while (n_commits < n_masked) {
        bool is_high = n_commits < n_willing &&
                       (double)view->candidates[order[n_commits]].probability > params->threshold;
        if (!is_high && n_commits >= 1) break;
        policy_commit(view, order[n_commits++], decision);
    }
    int32_t n_reopened = edit(params, view, state, decision);
    policy_sort_changes(decision);
    if (!n_masked) state->n_post++;
    bool has_masks_left = n_commits < n_masked || n_reopened > 0;
    bool has_settled = !n_masked && !decision->n_changes;
    decision->is_finished =
        !has_masks_left && (has_settled || state->n_post + 1 > params->post_steps);
}

const policy policy_edit = {.name = "edit", .scores_committed = true, .step = step};

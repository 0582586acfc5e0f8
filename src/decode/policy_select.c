/* SPDX-License-Identifier: Apache-2.0
 *
 * Ranking of masked positions and splitting of a block's tokens over its steps.
 */
#include "decode/policy.h"

/* True where position a comes before position b. Equal ones keep their order. */
static bool is_before(const policy_view *view, int32_t a, int32_t b) {
    const candidate *x = &view->candidates[a], *y = &view->candidates[b];
    if (x->prefers_mask != y->prefers_mask) return y->prefers_mask;
    return x->probability > y->probability;
}

/* Blocks have tens of positions, a canvas a few hundred that are partly ordered from the start:
 * insertion keeps the order stable, which the rule for ties needs. */
int32_t policy_rank_masked(const policy_view *view, int32_t *order, int32_t *n_willing) {
    int32_t n_masked = 0;
    *n_willing = 0;
    for (int32_t i = 0; i < view->n; i++) {
        if (view->states[i] != POSITION_MASKED) continue;
        *n_willing += !view->candidates[i].prefers_mask;
        int32_t at = n_masked++;
        for (; at > 0 && is_before(view, i, order[at - 1]); at--) order[at] = order[at - 1];
        order[at] = i;
    }
    return n_masked;
}

int32_t policy_schedule_part(int32_t n, int32_t steps, int32_t i) {
    if (i >= steps) return 0;
    return n / steps + (i < n % steps);
}

bool policy_is_above(const policy_params *params, float probability) {
    double p = (double)probability;
    return params->is_inclusive ? p >= params->threshold : p > params->threshold;
}

void policy_commit(const policy_view *view, int32_t index, policy_decision *decision) {
    decision->changes[decision->n_changes++] = (policy_change){
        .index = index,
        .token = view->candidates[index].token,
        .probability = view->candidates[index].probability,
    };
}

void policy_sort_changes(policy_decision *decision) {
    for (int32_t i = 1; i < decision->n_changes; i++) {
        policy_change moving = decision->changes[i];
        int32_t at = i;
        for (; at > 0 && decision->changes[at - 1].index > moving.index; at--)
            decision->changes[at] = decision->changes[at - 1];
        decision->changes[at] = moving;
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Ranking of masked positions, splitting of a block's tokens over its steps, and taking the best.
 */
#include "decode/policy.h"

/* True where position a comes before position b. Equal ones keep their order. */
static bool is_before(const um_policy_view *view, int32_t a, int32_t b) {
    const um_candidate *x = &view->candidates[a], *y = &view->candidates[b];
    if (x->prefers_mask != y->prefers_mask) return y->prefers_mask;
    return view->keys[a] > view->keys[b];
}

/* Blocks have tens of positions, a canvas a few hundred that are partly ordered from the start:
 * insertion keeps the order stable, which the rule for ties needs. */
int32_t policy_rank(const um_policy_view *view, int32_t *n_willing) {
    int32_t n_masked = 0, *order = view->order;
    *n_willing = 0;
    for (int32_t i = 0; i < view->n; i++) {
        if (view->states[i] != UM_POSITION_MASKED) continue;
        *n_willing += !view->candidates[i].prefers_mask;
        int32_t at = n_masked++;
        for (; at > 0 && is_before(view, i, order[at - 1]); at--) order[at] = order[at - 1];
        order[at] = i;
    }
    return n_masked;
}

int32_t policy_rank_confidence(const um_policy_view *view, int32_t *n_willing) {
    for (int32_t i = 0; i < view->n; i++) view->keys[i] = (double)view->candidates[i].probability;
    return policy_rank(view, n_willing);
}

int32_t policy_schedule_part(int32_t n, int32_t steps, int32_t i) {
    if (i >= steps) return 0;
    return n / steps + (i < n % steps);
}

int32_t policy_take_count(int32_t n_least, int32_t n_masked, int32_t n_willing) {
    if (n_least > n_willing) n_least = n_willing;
    if (n_least < 1)
        n_least = 1; /* a forward is never wasted, even if every position is unwilling */
    return n_least > n_masked ? n_masked : n_least;
}

void policy_take_best(const um_policy_view *view, int32_t n_least, double threshold,
                      bool is_inclusive, um_policy_decision *decision) {
    int32_t n_willing, n_masked = policy_rank_confidence(view, &n_willing);
    int32_t n_take = policy_take_count(n_least, n_masked, n_willing);
    while (n_take < n_willing) {
        double p = (double)view->candidates[view->order[n_take]].probability;
        if (!(p > threshold || (is_inclusive && p >= threshold))) break;
        n_take++;
    }
    for (int32_t i = 0; i < n_take; i++) policy_commit(view, view->order[i], decision);
    policy_sort_changes(decision);
    decision->n_finished = n_take == n_masked;
}

void policy_commit(const um_policy_view *view, int32_t index, um_policy_decision *decision) {
    decision->changes[decision->n_changes++] = (um_policy_change){
        .index = index,
        .token = view->candidates[index].token,
        .probability = view->candidates[index].probability,
    };
}

void policy_sort_changes(um_policy_decision *decision) {
    for (int32_t i = 1; i < decision->n_changes; i++) {
        um_policy_change moving = decision->changes[i];
        int32_t at = i;
        for (; at > 0 && decision->changes[at - 1].index > moving.index; at--)
            decision->changes[at] = decision->changes[at - 1];
        decision->changes[at] = moving;
    }
}

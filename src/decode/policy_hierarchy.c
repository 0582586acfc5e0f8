/* SPDX-License-Identifier: Apache-2.0
 *
 * `hierarchy`: in every run of neighbouring masks the best position, so that what is committed
 * together is far apart.
 *
 *   commit {best of its run, p > low_threshold}, {p > threshold}, and the best of all
 *
 * Source: HierarchyDecoder of inclusionAI/dInfer python/dinfer/decoding/parallel_strategy.py.
 */
#include "decode/policy.h"

/* Of a position that does not prefer the mask; below every confidence otherwise. */
static double confidence_of(const um_policy_view *view, int32_t i) {
    const um_candidate *c = &view->candidates[i];
    return c->prefers_mask ? (double)c->probability - 2 : (double)c->probability;
}

static void step(const um_policy_view *view, um_policy_decision *decision) {
    const um_policy_params *params = view->params;
    int32_t n_masked = 0, best = -1;
    for (int32_t i = 0; i < view->n; i++) {
        if (view->states[i] != UM_POSITION_MASKED) continue;
        n_masked++;
        if (best < 0 || confidence_of(view, i) > confidence_of(view, best)) best = i;
    }
    for (int32_t first = 0, end; first < view->n; first = end) {
        end = first + 1;
        if (view->states[first] != UM_POSITION_MASKED) continue;
        double highest = confidence_of(view, first);
        for (; end < view->n && view->states[end] == UM_POSITION_MASKED; end++)
            if (confidence_of(view, end) > highest) highest = confidence_of(view, end);
        for (int32_t i = first; i < end; i++) {
            double p = confidence_of(view, i);
            if ((p == highest && p > params->low_threshold) || p > params->threshold || i == best)
                policy_commit(view, i, decision);
        }
    }
    decision->n_finished = decision->n_changes == n_masked;
}

static const char *refuse(const um_policy_params *params) {
    return params->low_threshold > params->threshold ? "low_threshold is above threshold" : NULL;
}

const um_policy policy_hierarchy = {
    .abi = UM_POLICY_ABI,
    .reads = UM_READS_THRESHOLD | UM_READS_LOW_THRESHOLD,
    .name = "hierarchy",
    .source = "inclusionAI/dInfer parallel_strategy.py, HierarchyDecoder",
    .refuse = refuse,
    .step = step,
};

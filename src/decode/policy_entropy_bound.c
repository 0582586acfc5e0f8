/* SPDX-License-Identifier: Apache-2.0
 *
 * `entropy-bound`: as many of the surest positions as a budget of entropy allows.
 *
 *   by entropy (default)   H_1 <= H_2 <= ...; commit the first k, k the number of sums
 *                          H_1 + ... + H_j that are below the bound, at least 1
 *   by confidence          c_1 >= c_2 >= ...; commit the first k with
 *                          H_1 + ... + H_k - max(H_1 ... H_k) <= bound, at least 1
 *
 * Sources: entropy_bounded of JetAstra/SDAR, as its engine computes it (JetEngine,
 * Scheduler.postprocess(); generate.py's own branch cannot run); by confidence eb_gamma of
 * RadicalNumerics/RND1 rnd/sampling.py, after Ben-Hamu et al., arXiv 2505.24857.
 */
#include "decode/policy.h"

static int32_t rank(const um_policy_view *view, bool by_confidence, int32_t *n_willing) {
    if (by_confidence) return policy_rank_confidence(view, n_willing);
    for (int32_t i = 0; i < view->n; i++) view->keys[i] = -(double)view->candidates[i].entropy;
    return policy_rank(view, n_willing);
}

static void step(const um_policy_view *view, um_policy_decision *decision) {
    bool by_confidence = view->params->metric == UM_METRIC_CONFIDENCE;
    int32_t n_willing, n_masked = rank(view, by_confidence, &n_willing), n_take = 0;
    double sum = 0, highest = 0, bound = view->params->entropy_bound;
    for (; n_take < n_willing; n_take++) {
        double entropy = (double)view->candidates[view->order[n_take]].entropy;
        sum += entropy;
        if (entropy > highest) highest = entropy;
        if (by_confidence ? sum - highest > bound : sum >= bound) break;
    }
    n_take = policy_take_count(n_take, n_masked, n_willing);
    for (int32_t i = 0; i < n_take; i++) policy_commit(view, view->order[i], decision);
    policy_sort_changes(decision);
    decision->n_finished = n_take == n_masked;
}

const um_policy policy_entropy_bound = {
    .abi = UM_POLICY_ABI,
    .flags = UM_POLICY_SEES_SPREAD,
    .reads = UM_READS_ENTROPY_BOUND | UM_READS_METRIC,
    .name = "entropy-bound",
    .source = "JetAstra/SDAR JetEngine; RadicalNumerics/RND1 rnd/sampling.py; arXiv 2505.24857",
    .step = step,
};

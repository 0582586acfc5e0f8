/* SPDX-License-Identifier: Apache-2.0
 *
 * `entropy-bound`: as many of the surest positions as a budget of entropy allows.
 *
 *   H_1 <= H_2 <= ... entropies of the masked positions
 *   commit the first k, k the number of sums H_1 + ... + H_j that are below the bound, at least 1
 *
 * Source: entropy_bounded of block_diffusion_generate() in JetAstra/SDAR generate.py, with the
 * entropy of each position's distribution as its README words it (the script itself takes that of
 * the chosen token's probability alone); Ben-Hamu et al., arXiv 2505.24857.
 */
#include "decode/policy.h"

static void step(const um_policy_view *view, um_policy_decision *decision) {
    for (int32_t i = 0; i < view->n; i++) view->keys[i] = -(double)view->candidates[i].entropy;
    int32_t n_willing, n_masked = policy_rank(view, &n_willing), n_take = 0;
    double sum = 0;
    while (n_take < n_willing) {
        sum += (double)view->candidates[view->order[n_take]].entropy;
        if (sum >= view->params->entropy_bound) break;
        n_take++;
    }
    n_take = policy_take_count(n_take, n_masked, n_willing);
    for (int32_t i = 0; i < n_take; i++) policy_commit(view, view->order[i], decision);
    policy_sort_changes(decision);
    decision->n_finished = n_take == n_masked;
}

const um_policy policy_entropy_bound = {
    .abi = UM_POLICY_ABI,
    .flags = UM_POLICY_SEES_SPREAD,
    .reads = UM_READS_ENTROPY_BOUND,
    .name = "entropy-bound",
    .source = "JetAstra/SDAR generate.py, entropy_bounded; arXiv 2505.24857",
    .step = step,
};

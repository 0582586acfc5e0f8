/* SPDX-License-Identifier: Apache-2.0
 *
 * `factor`: the more positions are committed together, the surer each has to be.
 *
 *   c_1 >= c_2 >= ... confidences of the masked positions
 *   commit the longest run of the best with c_k >= 1 - factor / (k + 1), c_1 always
 *   where only the last masked position fails, it is committed as well
 *
 * The last line is what the authors' code does (its loop cannot tell "broke at the last" from "went
 * through"); with few masks left it saves a forward.
 * Source: get_transfer_index_dynamic() of NVlabs/Fast-dLLM llada/generate.py, after theorem 1 of
 * arXiv 2505.22618.
 */
#include "decode/policy.h"

static void step(const um_policy_view *view, um_policy_decision *decision) {
    int32_t n_willing, n_masked = policy_rank_confidence(view, &n_willing);
    int32_t n_take = n_masked > 0;
    while (n_take < n_willing) {
        double p = (double)view->candidates[view->order[n_take]].probability;
        if (p < 1 - view->params->factor / (n_take + 2)) break;
        n_take++;
    }
    if (n_take == n_masked - 1 && n_willing == n_masked) n_take = n_masked;
    for (int32_t i = 0; i < n_take; i++) policy_commit(view, view->order[i], decision);
    policy_sort_changes(decision);
    decision->n_finished = n_take == n_masked;
}

const um_policy policy_factor = {
    .abi = UM_POLICY_ABI,
    .reads = UM_READS_FACTOR,
    .name = "factor",
    .source = "NVlabs/Fast-dLLM llada/generate.py, get_transfer_index_dynamic(); arXiv 2505.22618",
    .step = step,
};

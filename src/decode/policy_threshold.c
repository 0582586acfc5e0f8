/* SPDX-License-Identifier: Apache-2.0
 *
 * `threshold`: commit every masked position whose confidence is above the threshold, and at least
 * as many of the best as the schedule of `steps` asks for.
 *
 *   hi = {masked, p > threshold};  m = part i of n split over `steps`, at least 1
 *   commit hi if |hi| >= m, else the m best
 *
 * Sources: generate() of inclusionAI/LLaDA2.0's modelling code (the schedule splits the whole
 * block, prompt positions included); with steps = n it is SGLang's LowConfidence, and with p >=
 * threshold Fast-dLLM v1's get_transfer_index (NVlabs/Fast-dLLM, llada/generate.py).
 */
#include "decode/policy.h"

static void step(const policy_params *params, const policy_view *view, policy_state *state,
                 int32_t *order, policy_decision *decision) {
    (void)state;
    decision->n_changes = 0;
    int32_t n_willing;
    int32_t n_masked = policy_rank_masked(view, order, &n_willing);
    int32_t n_least = policy_schedule_part(view->n, params->steps, view->i_step);
    if (n_least > n_willing) n_least = n_willing;
    if (n_least < 1) n_least = 1; /* even if every position prefers the mask */
    if (n_least > n_masked) n_least = n_masked;
    int32_t n_take = 0;
    while (n_take < n_masked && (n_take < n_willing || n_take < n_least)) {
        bool is_high = policy_is_above(params, view->candidates[order[n_take]].probability);
        if (!is_high && n_take >= n_least) break;
        n_take++;
    }
    for (int32_t i = 0; i < n_take; i++) policy_commit(view, order[i], decision);
    policy_sort_changes(decision);
    decision->is_finished = n_take == n_masked;
}

const policy policy_threshold = {.name = "threshold", .scores_committed = false, .step = step};

/* SPDX-License-Identifier: Apache-2.0
 *
 * `schedule`: a fixed number of tokens a step, the most confident ones or random ones.
 *
 *   m = part i of n split over `steps`;  commit the m best masked positions by
 *   low-confidence remasking: probability;  random remasking: a uniform draw
 *   with a threshold: and every other one whose probability is above it
 *
 * Source: generate() of ML-GSAI/LLaDA generate.py (masks split over the steps of a block);
 * LLaDA2.0's generate() with its threshold out of reach is the same rule over the whole block. A
 * step whose part is 0 (more steps than tokens) commits one token all the same.
 */
#include "decode/policy.h"

/* Random remasking chooses among all masked positions alike, whatever they propose: the largest
 * draws. */
static void take_random(const um_policy_view *view, int32_t n_least, um_policy_decision *decision) {
    int32_t n_masked = 0, *order = view->order;
    for (int32_t i = 0; i < view->n; i++) {
        if (view->states[i] != UM_POSITION_MASKED) continue;
        view->keys[i] = view->draw(view, i);
        int32_t at = n_masked++;
        for (; at > 0 && view->keys[order[at - 1]] < view->keys[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    int32_t n_take = policy_take_count(n_least, n_masked, n_masked);
    for (int32_t i = 0; i < n_take; i++) policy_commit(view, order[i], decision);
    policy_sort_changes(decision);
    decision->n_finished = n_take == n_masked;
}

static void step(const um_policy_view *view, um_policy_decision *decision) {
    const um_policy_params *params = view->params;
    int32_t n_least = policy_schedule_part(view->n, params->steps, view->i_step);
    if (params->is_random)
        take_random(view, n_least, decision);
    else
        policy_take_best(view, n_least, params->threshold, params->is_inclusive, decision);
}

const um_policy policy_schedule = {
    .abi = UM_POLICY_ABI,
    .reads = UM_READS_THRESHOLD | UM_READS_STEPS | UM_READS_REMASK,
    .name = "schedule",
    .source = "ML-GSAI/LLaDA generate.py, generate()",
    .step = step,
};

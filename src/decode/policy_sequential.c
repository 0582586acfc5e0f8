/* SPDX-License-Identifier: Apache-2.0
 *
 * `sequential`: from left to right, a fixed number of positions each step.
 *
 *   m = part i of n split over `steps`, at least 1;  commit the m leftmost masked positions
 *
 * A position whose best token is the mask takes its best real token.
 * Source: sequential of block_diffusion_generate() in JetAstra/SDAR generate.py.
 */
#include "decode/policy.h"

static void step(const um_policy_view *view, um_policy_decision *decision) {
    int32_t n_take = policy_schedule_part(view->n, view->params->steps, view->i_step), n_masked = 0;
    if (n_take < 1) n_take = 1;
    for (int32_t i = 0; i < view->n; i++) {
        if (view->states[i] != UM_POSITION_MASKED) continue;
        if (n_masked++ < n_take) policy_commit(view, i, decision);
    }
    decision->n_finished = n_masked <= n_take;
}

const um_policy policy_sequential = {
    .abi = UM_POLICY_ABI,
    .reads = UM_READS_STEPS,
    .name = "sequential",
    .source = "JetAstra/SDAR generate.py, sequential",
    .step = step,
};

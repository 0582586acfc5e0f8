/* SPDX-License-Identifier: Apache-2.0
 *
 * `maskgit`: the positions with the highest confidence, by Dream's schedule.
 *
 *   c = p(token)
 *   commit the floor(masks * (1 - s / t)) positions with the highest c, all in the last step;
 *   with alg_temp > 0 drawn without replacement from softmax(c / alg_temp)
 *
 * A step may commit nothing. Source: alg 'maskgit_plus' of _sample() in Dream's
 * generation_utils.py.
 */
#include "decode/policy.h"

static void step(const um_policy_view *view, um_policy_decision *decision) {
    for (int32_t i = 0; i < view->n; i++) {
        const um_candidate *c = &view->candidates[i];
        view->keys[i] = (double)c->probability;
    }
    noise_take(view, decision);
}

const um_policy policy_maskgit = {
    .abi = UM_POLICY_ABI,
    .flags = UM_POLICY_MAY_IDLE,
    .reads = UM_READS_STEPS | UM_READS_EPS | UM_READS_ALG_TEMP,
    .name = "maskgit",
    .source = "DreamLM/Dream generation_utils.py, alg 'maskgit_plus'",
    .step = step,
};

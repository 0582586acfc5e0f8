/* SPDX-License-Identifier: Apache-2.0
 *
 * `margin`: the positions whose best token is far ahead of the next, by Dream's schedule.
 *
 *   c = p(best) - p(second best)
 *   commit the floor(masks * (1 - s / t)) positions with the highest c, all in the last step;
 *   with alg_temp > 0 drawn without replacement from softmax(c / alg_temp)
 *
 * A step may commit nothing. Source: alg 'topk_margin' of _sample() in Dream's generation_utils.py.
 */
#include "decode/policy.h"

static void step(const um_policy_view *view, um_policy_decision *decision) {
    for (int32_t i = 0; i < view->n; i++) {
        const um_candidate *c = &view->candidates[i];
        view->keys[i] = (double)c->top_probability - (double)c->second_probability;
    }
    noise_take(view, decision);
}

const um_policy policy_margin = {
    .abi = UM_POLICY_ABI,
    .flags = UM_POLICY_MAY_IDLE | UM_POLICY_SEES_SPREAD,
    .reads = UM_READS_STEPS | UM_READS_EPS | UM_READS_ALG_TEMP,
    .name = "margin",
    .source = "DreamLM/Dream generation_utils.py, alg 'topk_margin'",
    .step = step,
};

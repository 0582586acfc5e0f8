/* SPDX-License-Identifier: Apache-2.0
 *
 * `origin`: every masked position is decided or left by a draw of its own, as the reverse process
 * says.
 *
 *   commit {masked, u < 1 - s / t}, u uniform, t and s the step's noise levels; all in the last
 * step
 *
 * A step may commit nothing. Source: alg 'origin' of _sample() in Dream's generation_utils.py.
 */
#include "decode/policy.h"

static void step(const um_policy_view *view, um_policy_decision *decision) {
    float share = noise_share(view->params, view->i_step);
    int32_t n_masked = 0;
    for (int32_t i = 0; i < view->n; i++) {
        if (view->states[i] != UM_POSITION_MASKED) continue;
        n_masked++;
        bool is_last = share >= 1.0f;
        if (is_last || (view->draw(view, i) < (double)share && !view->candidates[i].prefers_mask))
            policy_commit(view, i, decision);
    }
    decision->n_finished = decision->n_changes == n_masked;
}

const um_policy policy_origin = {
    .abi = UM_POLICY_ABI,
    .flags = UM_POLICY_MAY_IDLE,
    .reads = UM_READS_STEPS | UM_READS_EPS,
    .name = "origin",
    .source = "DreamLM/Dream generation_utils.py, alg 'origin'",
    .step = step,
};

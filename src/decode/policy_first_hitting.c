/* SPDX-License-Identifier: Apache-2.0
 *
 * `first-hitting`: one masked position each step, chosen uniformly; its token is the draw.
 *
 * With a temperature of 1 this is exact ancestral sampling of the reverse process: between two
 * events nothing changes, every masked position is equally likely to be the next one, and the time
 * of the event (t <- t u^(1/n), n masks) does not enter a model without time conditioning.
 *
 * Source: first_hitting of kuleshov-group/bd3lms diffusion.py; Zheng et al., "Masked diffusion
 * models are secretly time-agnostic masked models", arXiv 2409.02908, section 4.
 */
#include "decode/policy.h"

static void step(const um_policy_view *view, um_policy_decision *decision) {
    int32_t n_masked = 0, chosen = -1;
    double largest = -1;
    for (int32_t i = 0; i < view->n; i++) {
        if (view->states[i] != UM_POSITION_MASKED) continue;
        double draw = view->draw(view, i);
        n_masked++;
        if (draw <= largest) continue;
        largest = draw;
        chosen = i;
    }
    if (chosen >= 0) policy_commit(view, chosen, decision);
    decision->n_finished = n_masked <= 1;
}

const um_policy policy_first_hitting = {
    .abi = UM_POLICY_ABI,
    .name = "first-hitting",
    .source = "kuleshov-group/bd3lms diffusion.py, first_hitting; arXiv 2409.02908",
    .step = step,
};

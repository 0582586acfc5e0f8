/* SPDX-License-Identifier: Apache-2.0
 *
 * Dream's schedule: noise levels fall on a line from 1 to eps, and a step turns the share of masks
 * that the fall asks for into tokens. Float32 as in the family's code, because the number of tokens
 * is a floor: 64 masks over 64 steps start with floor(0.999).
 * Source: _sample() of Dream's generation_utils.py (torch.linspace(1, eps, steps + 1)).
 */
#include <math.h>

#include "decode/policy.h"

/* torch.linspace counts from the nearer end. */
static float noise_level(const um_policy_params *params, int32_t i) {
    float eps = (float)params->eps, width = (eps - 1.0f) / (float)params->steps;
    if (i < (params->steps + 1) / 2) return 1.0f + width * (float)i;
    return eps - width * (float)(params->steps - i);
}

float noise_share(const um_policy_params *params, int32_t i) {
    if (i >= params->steps - 1) return 1.0f;
    return 1.0f - noise_level(params, i + 1) / noise_level(params, i);
}

void noise_take(const um_policy_view *view, um_policy_decision *decision) {
    const um_policy_params *params = view->params;
    if (params->alg_temp > 0)
        for (int32_t i = 0; i < view->n; i++)
            if (view->states[i] == UM_POSITION_MASKED)
                view->keys[i] = view->keys[i] / params->alg_temp - log(-log(view->draw(view, i)));
    int32_t n_willing, n_masked = policy_rank(view, &n_willing);
    float share = noise_share(params, view->i_step);
    int32_t n_take = share < 1.0f ? (int32_t)((float)n_masked * share) : n_masked;
    if (share < 1.0f && n_take > n_willing) n_take = n_willing;
    for (int32_t i = 0; i < n_take; i++) policy_commit(view, view->order[i], decision);
    policy_sort_changes(decision);
    decision->n_finished = n_take == n_masked;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Dream's schedule: noise levels fall on a line from 1 to eps, and a step turns the share of masks
 * that the fall asks for into tokens. Float32 as in the family's code, because the number of tokens
 * is a floor: 64 masks over 64 steps start with floor(0.999).
 * Source: _sample() of Dream's generation_utils.py (torch.linspace(1, eps, steps + 1)).
 *
 * With eps 0 the steps are even: after step i of S, floor(n (S - 1 - i) / S) of a block's n
 * positions are still masked, in float32 as well: 22 * (15 / 22) is 15, and 22 * (13 / 22) is 12.
 * Source: diffusion_sample() of RadicalNumerics/RND1 rnd/sampling.py.
 */
#include <math.h>

#include "decode/policy.h"

/* torch.linspace counts from the nearer end, with one rounding. */
static float noise_level(const um_policy_params *params, int32_t i) {
    float eps = (float)params->eps, width = (eps - 1.0f) / (float)params->steps;
    if (i < (params->steps + 1) / 2) return fmaf(width, (float)i, 1.0f);
    return fmaf(-width, (float)(params->steps - i), eps);
}

float noise_share(const um_policy_params *params, int32_t i) {
    if (i >= params->steps - 1) return 1.0f;
    return 1.0f - noise_level(params, i + 1) / noise_level(params, i);
}

static int32_t count_taken(const um_policy_view *view, int32_t n_masked) {
    int32_t steps = view->params->steps, i = view->i_step, n = 0;
    if (i >= steps - 1) return n_masked;
    if (view->params->eps > 0) return (int32_t)((float)n_masked * noise_share(view->params, i));
    for (int32_t k = 0; k < view->n; k++) n += view->states[k] != UM_POSITION_PROMPT;
    float rate = (float)((double)(steps - 1 - i) / steps);
    int32_t n_left = (int32_t)((float)n * rate);
    return n_masked > n_left ? n_masked - n_left : 0;
}

void noise_take(const um_policy_view *view, um_policy_decision *decision) {
    const um_policy_params *params = view->params;
    if (params->alg_temp > 0)
        for (int32_t i = 0; i < view->n; i++)
            if (view->states[i] == UM_POSITION_MASKED)
                view->keys[i] = view->keys[i] / params->alg_temp - log(-log(view->draw(view, i)));
    int32_t n_willing, n_masked = policy_rank(view, &n_willing);
    int32_t n_take = count_taken(view, n_masked);
    if (view->i_step < params->steps - 1 && n_take > n_willing) n_take = n_willing;
    for (int32_t i = 0; i < n_take; i++) policy_commit(view, view->order[i], decision);
    policy_sort_changes(decision);
    decision->n_finished = n_take == n_masked;
}

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

static void step(const policy_params *params, const policy_view *view, policy_state *state,
                 int32_t *order, policy_decision *decision) {
    (void)state;
    decision->n_changes = 0;
    int32_t n_willing;
    int32_t n_masked = policy_rank_masked(view, order, &n_willing);
    /* Random remasking chooses among all of them alike. */
    if (params->is_random) n_willing = n_masked;
    int32_t n_take = policy_schedule_part(view->n, params->steps, view->i_step);
    if (n_take > n_willing) n_take = n_willing;
    if (n_take < 1) n_take = 1; /* a forward is never wasted */
    if (n_take > n_masked) n_take = n_masked;
    while (n_take < n_willing && !params->is_random &&
           policy_is_above(params, view->candidates[order[n_take]].probability))
        n_take++;
    for (int32_t taken = 0; taken < n_take; taken++) {
        int32_t best = taken;
        double best_draw = -1;
        for (int32_t i = taken; params->is_random && i < n_masked; i++) {
            rng_key key = view->key;
            key.position = (uint32_t)(view->first_position + order[i]);
            double draw = rng_uniform(&key, RNG_PURPOSE_REMASK, 0);
            /* The largest draw, one position at a time: no second scratch array is needed. */
            if (draw > best_draw || (draw == best_draw && order[i] < order[best])) {
                best = i;
                best_draw = draw;
            }
        }
        int32_t index = order[best];
        order[best] = order[taken];
        order[taken] = index;
        policy_commit(view, index, decision);
    }
    policy_sort_changes(decision);
    decision->is_finished = n_take == n_masked;
}

const policy policy_schedule = {.name = "schedule", .scores_committed = false, .step = step};

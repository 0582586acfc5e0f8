/* SPDX-License-Identifier: Apache-2.0
 *
 * `static`: a fixed number of the most confident positions each step.
 *
 *   m = part i of n split over `steps`, at least 1;  commit the m best
 *
 * Source: low_confidence_static of block_diffusion_generate() in JetAstra/SDAR generate.py (the
 * schedule splits the whole block, prompt positions included).
 */
#include <math.h>

#include "decode/policy.h"

static void step(const um_policy_view *view, um_policy_decision *decision) {
    policy_take_best(view, policy_schedule_part(view->n, view->params->steps, view->i_step),
                     INFINITY, false, decision);
}

const um_policy policy_static = {
    .abi = UM_POLICY_ABI,
    .reads = UM_READS_STEPS,
    .name = "static",
    .source = "JetAstra/SDAR generate.py, low_confidence_static",
    .step = step,
};

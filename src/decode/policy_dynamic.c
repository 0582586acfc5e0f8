/* SPDX-License-Identifier: Apache-2.0
 *
 * `dynamic`: every masked position above the threshold, or the schedule's share of the best.
 *
 *   hi = {masked, p > threshold};  m = part i of n split over `steps`, at least 1
 *   commit hi if |hi| >= m, else the m best
 *
 * The rule of `threshold`, but never with p = threshold, whatever the family's own code does.
 * Source: low_confidence_dynamic of block_diffusion_generate() in JetAstra/SDAR generate.py.
 */
#include "decode/policy.h"

static void step(const um_policy_view *view, um_policy_decision *decision) {
    policy_take_best(view, policy_schedule_part(view->n, view->params->steps, view->i_step),
                     view->params->threshold, false, decision);
}

const um_policy policy_dynamic = {
    .abi = UM_POLICY_ABI,
    .reads = UM_READS_THRESHOLD | UM_READS_STEPS,
    .name = "dynamic",
    .source = "JetAstra/SDAR generate.py, low_confidence_dynamic",
    .step = step,
};

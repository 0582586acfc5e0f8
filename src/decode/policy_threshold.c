/* SPDX-License-Identifier: Apache-2.0
 *
 * `threshold`: commit every masked position whose confidence is above the threshold, and at least
 * as many of the best as the schedule of `steps` asks for.
 *
 *   hi = {masked, p > threshold};  m = part i of n split over `steps`, at least 1
 *   commit hi if |hi| >= m, else the m best
 *
 * Sources: generate() of inclusionAI/LLaDA2.0's modelling code (the schedule splits the whole
 * block, prompt positions included); with steps = n it is SGLang's LowConfidence, and with p >=
 * threshold Fast-dLLM v1's get_transfer_index (NVlabs/Fast-dLLM, llada/generate.py).
 */
#include "decode/policy.h"

static void step(const um_policy_view *view, um_policy_decision *decision) {
    const um_policy_params *params = view->params;
    policy_take_best(view, policy_schedule_part(view->n, params->steps, view->i_step),
                     params->threshold, params->is_inclusive, decision);
}

const um_policy policy_threshold = {
    .abi = UM_POLICY_ABI,
    .reads = UM_READS_THRESHOLD | UM_READS_STEPS,
    .name = "threshold",
    .source = "inclusionAI/LLaDA2.0-mini modeling_llada2_moe.py, generate(); NVlabs/Fast-dLLM v1",
    .step = step,
};

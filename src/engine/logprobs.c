/* SPDX-License-Identifier: Apache-2.0
 *
 * Log-probabilities of a step's changes, out of the logits that its forward has stored for the
 * request. They are those of the distribution that confidence is read from: after guidance, bias
 * and penalties, at temperature 1.
 */
#include <float.h>
#include <math.h>

#include "engine/engine.h"

/* The n highest, by falling logit, ties by rising token. The mask is left out, and so are tokens
 * that are never proposed. Returns how many there are. */
static int32_t find_top(const float *logits, int32_t vocab, int32_t mask, double log_sum_exp,
                        int32_t n, um_token_logprob *top) {
    int32_t n_found = 0;
    for (int32_t token = 0; token < vocab && n; token++) {
        float l = logits[token];
        if (token == mask || l <= -FLT_MAX) continue;
        if (n_found == n && !(l > top[n - 1].log_probability)) continue;
        int32_t at = n_found < n ? n_found++ : n - 1;
        for (; at > 0 && l > top[at - 1].log_probability; at--) top[at] = top[at - 1];
        top[at] = (um_token_logprob){.token = token, .log_probability = l};
    }
    for (int32_t i = 0; i < n_found; i++)
        top[i].log_probability = (float)((double)top[i].log_probability - log_sum_exp);
    return n_found;
}

void logprobs_fill(const um_engine *engine, um_request *request, int32_t i_change,
                   um_change *change) {
    const um_model_info *info = model_info(engine->mdl);
    int32_t n = request->settings.top_logprobs;
    change->log_probability = NAN;
    change->n_top = 0;
    change->top = NULL;
    if (n < 0) return;
    int32_t at = change->position - request->window_first;
    const float *logits = request->logit_rows[at];
    if (!logits) return;
    double log_sum_exp = (double)request->candidates[at].log_sum_exp;
    change->log_probability = (float)((double)logits[change->token] - log_sum_exp);
    if (!n) return;
    um_token_logprob *top = request->top_tokens + (size_t)i_change * (size_t)n;
    change->n_top = find_top(logits, info->vocab, info->mask_token, log_sum_exp, n, top);
    change->top = top;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * `credit`: tokens that keep being the best proposal of their position gain weight.
 *
 *   C[i, v] <- beta C[i, v];  C[i, best of l_i] += p(best)^gamma        every masked position i
 *   l'_i = l_i + alpha log(1 + C_i);  c = softmax(l'_i) at its argmax
 *   commit {c >= min(threshold, max c - 1e-5)}, where the argmax is not the mask
 *
 * C is sparse: a position gains one entry a forward, and only entries can be the argmax of l',
 * since the best of l is always among them. So no other logit is read, and the sum of softmax is
 * that of l corrected at the entries. An entry whose weight has decayed behind CREDITS_MAX newer
 * ones is dropped (0.8^64 is 6e-7).
 *
 * Source: CreditThresholdParallelDecoder of inclusionAI/dInfer parallel_strategy.py.
 */
#include <math.h>

#include "decode/policy.h"

enum { CREDITS_MAX = 64 };

typedef struct credits {
    int32_t n;
    int32_t tokens[CREDITS_MAX];
    float weights[CREDITS_MAX];
} credits;

/* Adds to a token's weight; where the list is full, the lightest entry makes room. */
static void add_credit(credits *c, int32_t token, float weight) {
    int32_t at = 0, lightest = 0;
    for (; at < c->n && c->tokens[at] != token; at++)
        if (c->weights[at] < c->weights[lightest]) lightest = at;
    if (at == c->n && c->n < CREDITS_MAX) {
        c->tokens[c->n] = token;
        c->weights[c->n++] = 0;
    } else if (at == c->n) {
        at = lightest;
        c->tokens[at] = token;
        c->weights[at] = 0;
    }
    c->weights[at] += weight;
}

typedef struct proposal {
    int32_t token;
    double probability;
} proposal;

/* The argmax of the corrected logits and its probability. */
static proposal propose(const um_policy_params *params, const credits *c, const float *logits,
                        double log_sum_exp) {
    double sum = 1, best = -INFINITY;
    proposal found = {.token = -1};
    for (int32_t k = 0; k < c->n; k++) {
        double p = exp((double)logits[c->tokens[k]] - log_sum_exp);
        double raised = p * pow(1 + (double)c->weights[k], params->credit_alpha);
        sum += raised - p;
        if (raised > best || (raised == best && c->tokens[k] < found.token)) {
            best = raised;
            found.token = c->tokens[k];
        }
    }
    found.probability = best / sum;
    return found;
}

static void step(const um_policy_view *view, um_policy_decision *decision) {
    const um_policy_params *params = view->params;
    credits *table = view->state;
    int32_t n_masked = 0, fallback = -1;
    double highest = -INFINITY;
    for (int32_t i = 0; i < view->n; i++) {
        const um_candidate *c = &view->candidates[i];
        if (view->states[i] != UM_POSITION_MASKED) continue;
        for (int32_t k = 0; k < table[i].n; k++) table[i].weights[k] *= (float)params->credit_beta;
        double p = (double)(c->prefers_mask ? c->mask_probability : c->probability);
        add_credit(&table[i], c->prefers_mask ? view->mask_token : c->token,
                   (float)pow(p, params->credit_gamma));
        proposal found = propose(params, &table[i], view->logits[i], (double)c->log_sum_exp);
        view->order[i] = found.token;
        view->keys[i] = found.token == view->mask_token ? -INFINITY : found.probability;
        if (view->keys[i] > highest) highest = view->keys[i];
        if (fallback < 0 || c->probability > view->candidates[fallback].probability) fallback = i;
        n_masked++;
    }
    double threshold = highest - 1e-5 < params->threshold ? highest - 1e-5 : params->threshold;
    for (int32_t i = 0; i < view->n && highest > -INFINITY; i++) {
        if (view->states[i] != UM_POSITION_MASKED || view->keys[i] < threshold) continue;
        decision->changes[decision->n_changes++] =
            (um_policy_change){i, view->order[i], (float)view->keys[i]};
    }
    /* Every position proposes the mask: the authors' code would make the same forward for ever. */
    if (!decision->n_changes && fallback >= 0) policy_commit(view, fallback, decision);
    decision->n_finished = decision->n_changes == n_masked;
}

static size_t state_bytes(const um_policy_params *params, int32_t n) {
    (void)params;
    return (size_t)n * sizeof(credits);
}

const um_policy policy_credit = {
    .abi = UM_POLICY_ABI,
    .flags = UM_POLICY_SEES_LOGITS | UM_POLICY_IS_GREEDY,
    .reads = UM_READS_THRESHOLD | UM_READS_CREDIT,
    .name = "credit",
    .source = "inclusionAI/dInfer parallel_strategy.py, CreditThresholdParallelDecoder",
    .state_bytes = state_bytes,
    .step = step,
};

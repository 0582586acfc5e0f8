/* SPDX-License-Identifier: Apache-2.0
 *
 * A policy of one's own, as a shared object: what the built-in `threshold` does with one forward a
 * token. It commits every masked position above the threshold, and at least the best one.
 *
 *     cc -shared -fPIC policy_example.c $(pkg-config --cflags unmask) -o mine.so
 *     unmask run -m models/demo -p "1 + 3 =" --policy ./mine.so --threshold 0.9
 *
 * docs/policies.md walks through it.
 */
#include <unmask.h>

/* True where position a is a better choice than b. A position whose best token is the mask comes
 * last: its own proposal is only second to staying open. Where two are equal, the first one stays.
 */
static bool is_better(const um_policy_view *view, int32_t a, int32_t b) {
    const um_candidate *x = &view->candidates[a], *y = &view->candidates[b];
    if (x->prefers_mask != y->prefers_mask) return y->prefers_mask;
    return x->probability > y->probability;
}

static bool is_sure(const um_policy_view *view, int32_t i) {
    const um_candidate *c = &view->candidates[i];
    double p = (double)c->probability, threshold = view->params->threshold;
    return !c->prefers_mask && (p > threshold || (view->params->is_inclusive && p == threshold));
}

static void step(const um_policy_view *view, um_policy_decision *decision) {
    int32_t n_masked = 0, best = -1;
    for (int32_t i = 0; i < view->n; i++) {
        if (view->states[i] != UM_POSITION_MASKED) continue;
        n_masked++;
        if (best < 0 || is_better(view, i, best)) best = i;
    }
    for (int32_t i = 0; i < view->n; i++) {
        if (view->states[i] != UM_POSITION_MASKED || !(i == best || is_sure(view, i))) continue;
        decision->changes[decision->n_changes++] = (um_policy_change){
            .index = i,
            .token = view->candidates[i].token,
            .probability = view->candidates[i].probability,
        };
    }
    /* The block is finished where no mask is left. */
    decision->n_finished = decision->n_changes == n_masked;
}

static const um_policy policy = {
    .abi = UM_POLICY_ABI,
    .reads = UM_READS_THRESHOLD, /* any other parameter of a policy is refused */
    .name = "example",
    .source = "examples/policy_example.c",
    .step = step,
};

/* What the engine looks for; unmask.h declares it. */
const um_policy *um_policy_entry(void) {
    return &policy;
}

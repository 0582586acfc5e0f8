/* SPDX-License-Identifier: Apache-2.0
 *
 * Policies that break a rule, as a shared object for tests/invariance/test_plugin.c: the text of
 * policy_args says which rule. What is wrong with the object itself is chosen by the environment
 * variable BAD_POLICY, since it is looked at before there are arguments. Without a text they do
 * what `static` does with one position a step, from left to right.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unmask.h>

enum { STATE_BYTES = 24, WAIT_STEPS = 2 };

static bool is_wrong(const um_policy_view *view, const char *what) {
    return view->i_step >= WAIT_STEPS && strcmp(view->params->arguments, what) == 0;
}

/* The engine lends these as constants; a wrong policy does not care. */
static void *writable(const void *lent) {
    void *p;
    memcpy(&p, &lent, sizeof p);
    return p;
}

static int32_t first_in_state(const um_policy_view *view, uint8_t position_state) {
    for (int32_t i = 0; i < view->n; i++)
        if (view->states[i] == position_state) return i;
    return -1;
}

static void change(um_policy_decision *d, int32_t index, int32_t token) {
    d->changes[d->n_changes++] = (um_policy_change){.index = index, .token = token};
}

/* Breaks the rules about changes. */
static void spoil_changes(const um_policy_view *view, um_policy_decision *d) {
    int32_t masked = first_in_state(view, UM_POSITION_MASKED);
    if (is_wrong(view, "overflow")) d->changes[view->n] = (um_policy_change){view->n, 5, 1};
    if (is_wrong(view, "count")) d->n_changes = view->n + 1;
    if (is_wrong(view, "negative count")) d->n_changes = -1;
    if (is_wrong(view, "index")) d->changes[0].index = view->n;
    if (is_wrong(view, "negative index")) d->changes[0].index = -1;
    if (is_wrong(view, "twice")) change(d, masked, 5);
    if (is_wrong(view, "falling")) change(d, masked - 1, 5);
    if (is_wrong(view, "prompt")) {
        d->n_changes = 0;
        change(d, first_in_state(view, UM_POSITION_PROMPT), 5);
    }
    if (is_wrong(view, "mask")) d->changes[0].token = view->mask_token;
    if (is_wrong(view, "token")) d->changes[0].token = view->vocab;
    if (is_wrong(view, "negative token")) d->changes[0].token = -1;
    if (is_wrong(view, "probability")) d->changes[0].probability = NAN;
    if (is_wrong(view, "idle") || is_wrong(view, "slow")) d->n_changes = d->n_finished = 0;
    if (is_wrong(view, "toggle")) {
        d->n_changes = d->n_finished = 0;
        int32_t at = first_in_state(view, UM_POSITION_COMMITTED);
        change(d, at, view->tokens[at] == 5 ? 6 : 5);
    }
}

/* Breaks the rules about blocks and memory. */
static void spoil_blocks(const um_policy_view *view, um_policy_decision *d) {
    if (is_wrong(view, "unfinished")) d->n_finished = 1;
    if (is_wrong(view, "blocks")) d->n_finished = 2;
    if (is_wrong(view, "negative blocks")) d->n_finished = -1;
    if (is_wrong(view, "state")) ((uint8_t *)view->state)[STATE_BYTES] = 1;
    if (is_wrong(view, "shown tokens")) *(int32_t *)writable(view->tokens) += 1;
    if (is_wrong(view, "shown states"))
        *(uint8_t *)writable(view->states) = UM_POSITION_COMMITTED + 1;
}

static void step(const um_policy_view *view, um_policy_decision *d) {
    int32_t masked = first_in_state(view, UM_POSITION_MASKED), n_masked = 0;
    for (int32_t i = 0; i < view->n; i++) n_masked += view->states[i] == UM_POSITION_MASKED;
    if (masked >= 0) {
        change(d, masked, view->candidates[masked].token);
        d->changes[0].probability = view->candidates[masked].probability;
    }
    d->n_finished = n_masked <= 1;
    spoil_changes(view, d);
    spoil_blocks(view, d);
}

static int32_t open(const um_policy_view *view) {
    if (is_wrong(view, "open far")) return view->params->window;
    if (is_wrong(view, "open negative")) return -1;
    if (is_wrong(view, "open shown")) *(int32_t *)writable(view->tokens) += 1;
    if (is_wrong(view, "open state")) ((uint8_t *)view->state)[STATE_BYTES] = 1;
    return strcmp(view->params->arguments, "open behind") == 0; /* also where none is left */
}

static size_t state_bytes(const um_policy_params *params, int32_t n) {
    (void)n;
    return strcmp(params->arguments, "huge") == 0 ? (size_t)1 << 40 : STATE_BYTES;
}

static const char *refuse(const um_policy_params *params) {
    return strcmp(params->arguments, "refused") == 0 ? "it says no" : NULL;
}

#define POLICY(abi_, flags_, name_, step_)                                            \
    {                                                                                 \
        .abi = abi_, .flags = flags_, .reads = UM_READS_ARGUMENTS, .name = name_,     \
        .source = "here", .state_bytes = state_bytes, .refuse = refuse, .open = open, \
        .step = step_                                                                 \
    }

static const struct {
    const char *what;
    um_policy policy;
} objects[] = {
    {"", POLICY(UM_POLICY_ABI, 0, "bad", step)},
    {"may idle", POLICY(UM_POLICY_ABI, UM_POLICY_MAY_IDLE, "bad", step)},
    {"may open", POLICY(UM_POLICY_ABI, UM_POLICY_MULTI_BLOCK, "bad", step)},
    {"abi", POLICY(UM_POLICY_ABI + 1, 0, "bad", step)},
    {"step", POLICY(UM_POLICY_ABI, 0, "bad", NULL)},
    {"no name", POLICY(UM_POLICY_ABI, 0, NULL, step)},
    {"empty name", POLICY(UM_POLICY_ABI, 0, "", step)},
    {"long name", POLICY(UM_POLICY_ABI, 0, "a name of more than thirty-one bytes", step)},
    {"flags", POLICY(UM_POLICY_ABI, 1u << 31, "bad", step)},
};

#ifndef BAD_POLICY_WITHOUT_ENTRY

const um_policy *um_policy_entry(void) {
    const char *what = getenv("BAD_POLICY");
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++)
        if (strcmp(objects[i].what, what ? what : "") == 0) return &objects[i].policy;
    return NULL;
}
#else
/* Keeps the table in use. */
UM_API const void *bad_policy_table(void);

const void *bad_policy_table(void) {
    return objects;
}
#endif

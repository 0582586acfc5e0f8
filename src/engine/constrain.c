/* SPDX-License-Identifier: Apache-2.0
 *
 * A request under a constraint. Before a forward: which tokens may stand at each position that is
 * scored, given the others as they are; the output head leaves the rest out, so candidates, draws
 * and everything that a policy sees are those of the constrained distribution. After it: what the
 * policy wants to change together is looked at one change at a time, since two that may stand each
 * need not go together. What is taken out stays as it was, and is scored again in the next step.
 */
#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "decode/partial_fill.h"
#include "engine/constraint_api.h"
#include "engine/engine.h"

struct request_constraint {
    um_constraint *held;
    partial_fill fill;
    int32_t first, n; /* the positions in the fill, from the start of the prompt */
    int32_t *tokens;  /* [capacity] scratch */
    uint32_t *bits;   /* [capacity, n_words] allowed tokens */
    size_t n_words;
};

um_status constrain_create(um_request *request, um_constraint *constraint, um_error *err) {
    const um_model_info *info = model_info(request->engine->mdl);
    const request_settings *s = &request->settings;
    int32_t capacity = request->n_window + (s->folds ? s->block_len : 0);
    const int32_t barred[] = {info->mask_token, info->delete_token, info->split_token};
    request_constraint *c = memory_calloc(1, sizeof *c);
    if (!c) FAIL(UM_NO_MEMORY, err, "no memory for a request");
    request->constraint = c;
    c->held = constraint_acquire(constraint);
    TRY(partial_fill_init(&c->fill, constraint_graph(constraint), capacity, info->stop_tokens,
                          info->n_stop_tokens, barred, sizeof barred / sizeof *barred, info->vocab,
                          err));
    int32_t shortest = partial_fill_shortest(&c->fill);
    if (shortest > s->max_tokens) {
        um_error_set(err, UM_INVALID,
                     shortest == INT32_MAX
                         ? "constraint: the model's vocabulary of %d tokens spells no document; is "
                           "the constraint's tokenizer that of the model?"
                         : "max_tokens: expected at least %d, which the shortest document of the "
                           "constraint takes, found %d",
                     shortest == INT32_MAX ? info->vocab : shortest, s->max_tokens);
        um_error_at(err, shortest == INT32_MAX ? "constraint" : "max_tokens", -1);
        return UM_INVALID;
    }
    c->n_words = ((size_t)info->vocab + 31) / 32;
    c->tokens = memory_alloc_array((size_t)capacity, sizeof *c->tokens);
    c->bits = memory_alloc_array((size_t)capacity, c->n_words * sizeof *c->bits);
    if (!c->tokens || !c->bits)
        FAIL(UM_NO_MEMORY, err, "no memory for a constraint on %d positions", capacity);
    return UM_OK;
}

void constrain_destroy(um_request *request) {
    request_constraint *c = request->constraint;
    if (!c) return;
    partial_fill_deinit(&c->fill);
    constraint_release(c->held);
    memory_free(c->tokens);
    memory_free(c->bits);
    memory_free(c);
    request->constraint = NULL;
}

/* The state in which the document arrives at a position, before which everything stands. */
static int32_t state_at(const um_request *request, int32_t position) {
    int32_t state = 0;
    for (int32_t p = request->n_prompt; p < position && state >= 0; p++)
        state = partial_fill_step(&request->constraint->fill, state, request->lanes[0].tokens[p]);
    return state;
}

um_status constrain_begin(um_request *request, int32_t first, int32_t end, um_error *err) {
    request_constraint *c = request->constraint;
    if (!c || request->phase == PHASE_PREFILL) return UM_OK;
    /* Neither the prompt nor what a last block has behind max_tokens is part of the answer. */
    int32_t last = request->n_prompt + request->settings.max_tokens;
    if (first < request->n_prompt) first = request->n_prompt;
    if (end > last) end = last;
    c->first = first;
    c->n = end > first ? end - first : 0;
    if (!c->n) return UM_OK;
    for (int32_t i = 0; i < c->n; i++) {
        bool stands = request->states[first + i] != UM_POSITION_MASKED;
        c->tokens[i] = stands ? request->lanes[0].tokens[first + i] : -1;
    }
    int32_t state = state_at(request, first);
    if (state < 0 || !partial_fill_load(&c->fill, state, c->tokens, c->n, last - end))
        FAIL(UM_INTERNAL, err, "constraint: no document goes on with what stands at position %d",
             first);
    return UM_OK;
}

static bool is_constrained(const request_constraint *c, int32_t position) {
    return c && position >= c->first && position < c->first + c->n;
}

const uint32_t *constrain_allowed(um_request *request, int32_t position) {
    request_constraint *c = request->constraint;
    if (!is_constrained(c, position)) return NULL;
    uint32_t *bits = c->bits + (size_t)(position - c->first) * c->n_words;
    partial_fill_allowed(&c->fill, position - c->first, bits);
    return bits;
}

/* ---- Decisions ---- */

/* What opens a position takes nothing away; commits come before edits, so that a step which wants
 * to commit does. */
static int class_of(const um_request *request, const um_policy_change *change) {
    if (change->token == model_info(request->engine->mdl)->mask_token) return 0;
    return request->states[request->window_first + change->index] == UM_POSITION_MASKED ? 1 : 2;
}

static bool is_before(const um_request *request, const um_policy_change *a,
                      const um_policy_change *b) {
    int class_a = class_of(request, a), class_b = class_of(request, b);
    return class_a != class_b ? class_a < class_b : a->probability > b->probability;
}

/* Indexes of the changes, in the order in which they are looked at. */
static void order_changes(const um_request *request, const um_policy_decision *d, int32_t *order) {
    for (int32_t i = 0; i < d->n_changes; i++) {
        int32_t at = i;
        for (; at > 0 && is_before(request, &d->changes[i], &d->changes[order[at - 1]]); at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

/* Puts a change; false where it may not stand. */
static bool put(um_request *request, const um_policy_change *change) {
    request_constraint *c = request->constraint;
    int32_t position = request->window_first + change->index;
    bool is_open = change->token == model_info(request->engine->mdl)->mask_token;
    if (!is_constrained(c, position)) return true;
    if (!is_open && !partial_fill_allows(&c->fill, position - c->first, change->token))
        return false;
    partial_fill_put(&c->fill, position - c->first, is_open ? -1 : change->token);
    return true;
}

/* Blocks at the front that the decision finishes and that no mask is left in. */
static int32_t count_finished(const um_request *request, const um_policy_decision *d) {
    int32_t mask = model_info(request->engine->mdl)->mask_token, i_change = 0;
    int32_t n_blocks = d->n_finished, unit_len = request->settings.unit_len;
    for (int32_t i = 0; i < n_blocks * unit_len && request->window_first + i < request->window_end;
         i++) {
        bool is_open = request->states[request->window_first + i] == UM_POSITION_MASKED;
        if (i_change < d->n_changes && d->changes[i_change].index == i)
            is_open = d->changes[i_change++].token == mask;
        if (is_open) return i / unit_len;
    }
    return n_blocks;
}

um_status constrain_decision(um_request *request, um_policy_decision *d, um_error *err) {
    if (!request->constraint || !d->n_changes) return UM_OK;
    int32_t *order = request->order, n_commits = 0, n_left = 0;
    TRY(constrain_begin(request, request->window_first, request->window_end, err));
    order_changes(request, d, order);
    for (int32_t i = 0; i < d->n_changes; i++) {
        um_policy_change *change = &d->changes[order[i]];
        bool is_commit = class_of(request, change) == 1, is_put = put(request, change);
        if (!is_put && is_commit && !n_commits) {
            /* A policy of its own mind: the surest position takes what was proposed for it. */
            const um_candidate *candidate = &request->candidates[change->index];
            change->token = candidate->token;
            change->probability = candidate->probability;
            is_put = put(request, change);
            if (!is_put)
                FAIL(UM_INTERNAL, err, "constraint: token %d was proposed and may not stand",
                     candidate->token);
        }
        if (!is_put) change->index = -1;
        n_commits += is_commit && is_put;
    }
    for (int32_t i = 0; i < d->n_changes; i++)
        if (d->changes[i].index >= 0) d->changes[n_left++] = d->changes[i];
    d->n_changes = n_left;
    d->n_finished = count_finished(request, d);
    return UM_OK;
}

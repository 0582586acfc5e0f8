/* SPDX-License-Identifier: Apache-2.0
 *
 * Between scores and changes: what a policy is shown, and what it may not do. A policy is not
 * trusted: it gets copies, its counts and indexes are checked, and guards behind what it writes are
 * looked at. What is wrong ends its request and nothing else.
 */
#include <math.h>
#include <string.h>

#include "engine/engine.h"

static const um_policy_change guard_change = {.index = -0x5AFE, .token = -0x5AFE, .probability = 0};

/* A position's confidence where end tokens have none: as if their logits were minus infinity, but
 * after tokens were chosen (LLaDA generate.py, confidence_eos_eot_inf). */
static float confidence_without(const request_settings *s, const score *found, int32_t token,
                                float p) {
    double rest = 1;
    for (int i = 0; i < 2; i++) {
        if (s->unsure_tokens[i] < 0) continue;
        if (token == s->unsure_tokens[i]) return 0;
        rest -= exp(found->watched_log_probability[i]);
    }
    double without = (double)p / rest;
    return rest > 0 && without < 1 ? (float)without : 1.0f;
}

static um_candidate candidate_of(const request_settings *s, const model_traits *traits,
                                 const score *found) {
    bool is_drawn = s->temperature > 0;
    um_candidate c = {.token = is_drawn ? found->drawn : found->token,
                      .top_probability = found->probability,
                      .second_probability = found->second_probability,
                      .entropy = found->entropy,
                      .mask_probability = found->forbidden_probability,
                      .log_sum_exp = found->log_sum_exp};
    c.probability = !is_drawn                         ? found->probability
                    : traits->has_tempered_confidence ? found->drawn_tempered
                                                      : found->drawn_probability;
    if (is_drawn && (s->policy->flags & UM_POLICY_SEES_SPREAD)) {
        c.top_probability = found->drawn_top;
        c.second_probability = found->drawn_second;
        c.entropy = found->drawn_entropy;
    } else if (!is_drawn && c.mask_probability > c.top_probability) {
        c.second_probability = c.top_probability;
        c.top_probability = c.mask_probability;
    } else if (!is_drawn && c.mask_probability > c.second_probability) {
        c.second_probability = c.mask_probability;
    }
    if (s->unsure_tokens[0] >= 0 || s->unsure_tokens[1] >= 0)
        c.probability = confidence_without(s, found, c.token, c.probability);
    /* A draw is made among the other tokens; the greedy choice may prefer the mask itself. */
    c.prefers_mask = !is_drawn && found->forbidden_probability > found->probability;
    return c;
}

/* The i-th score of a request, which must be a number. */
static um_status score_at(const um_engine *engine, const um_request *request, int32_t i,
                          const score **found, int32_t *position, um_error *err) {
    const step_plan *plan = &engine->plan;
    *found = &plan->scores[request->first_score + i];
    *position = (int32_t)plan->score_requests[request->first_score + i].key.position;
    if (!(*found)->is_finite)
        FAIL(UM_NUMERIC, err, "forward %d: the scores of position %d hold a NaN or an infinity",
             request->forwards - 1, *position);
    return UM_OK;
}

/* Puts the scores of the window's positions where the policy finds them. */
static um_status read_scores(um_engine *engine, um_request *request, um_error *err) {
    const model_traits *traits = model_traits_of(engine->mdl);
    size_t n = (size_t)(request->window_end - request->window_first);
    memset(request->candidates, 0, n * sizeof *request->candidates);
    if (request->logit_rows) memset(request->logit_rows, 0, n * sizeof *request->logit_rows);
    for (int32_t i = 0; i < request->n_scores; i++) {
        const score *found;
        int32_t position;
        TRY(score_at(engine, request, i, &found, &position, err));
        int32_t at = position - request->window_first;
        request->candidates[at] = candidate_of(&request->settings, traits, found);
        if (request->logit_rows)
            request->logit_rows[at] = engine->plan.score_requests[request->first_score + i].logits;
    }
    return UM_OK;
}

/* um_policy_view.draw: the key is the request's, at this step. */
static double draw(const um_policy_view *view, int32_t index) {
    rng_key key = *(const rng_key *)view->draw_key;
    key.position = (uint32_t)(view->first_position + index);
    return rng_uniform(&key, RNG_PURPOSE_REMASK, 0);
}

static int32_t count_blocks(const um_request *request, int32_t first, int32_t end) {
    return (end - first + request->settings.unit_len - 1) / request->settings.unit_len;
}

/* What was lent to the policy is as it was, and nothing lies behind what it was given. */
static um_status check_memory(const um_request *request, um_error *err) {
    size_t n = (size_t)(request->window_end - request->window_first);
    const char *name = request->settings.policy->name;
    if (memcmp(request->view_tokens, request->lanes[0].tokens + request->window_first,
               n * sizeof *request->view_tokens) != 0 ||
        memcmp(request->view_states, request->states + request->window_first, n) != 0)
        FAIL(UM_INTERNAL, err, "policy %s: it wrote over the tokens or states that it was shown",
             name);
    if (request->changes[n].index != guard_change.index ||
        request->changes[n].token != guard_change.token)
        FAIL(UM_INTERNAL, err, "policy %s: it wrote past the %zu changes of its block", name, n);
    for (size_t i = 0; request->state && i < STATE_GUARD_BYTES; i++)
        if (request->state[request->state_bytes + i] != STATE_GUARD)
            FAIL(UM_INTERNAL, err, "policy %s: it wrote past the %zu bytes of its state", name,
                 request->state_bytes);
    return UM_OK;
}

static um_status check_changes(const um_engine *engine, const um_request *request,
                               const um_policy_decision *d, um_error *err) {
    const um_model_info *info = model_info(engine->mdl);
    int32_t n = request->window_end - request->window_first, last = -1;
    const char *name = request->settings.policy->name;
    if (d->n_changes < 0 || d->n_changes > n)
        FAIL(UM_INTERNAL, err, "policy %s: %d changes in a block of %d", name, d->n_changes, n);
    for (int32_t i = 0; i < d->n_changes; i++) {
        const um_policy_change *change = &d->changes[i];
        if (change->index <= last || change->index >= n)
            FAIL(UM_INTERNAL, err,
                 "policy %s: change %d is at index %d of a block of %d; expected rising indexes",
                 name, i, change->index, n);
        last = change->index;
        int32_t position = request->window_first + change->index;
        if (request->states[position] == UM_POSITION_PROMPT)
            FAIL(UM_INTERNAL, err, "policy %s: it changes the prompt at position %d", name,
                 position);
        bool may_reopen = request->states[position] == UM_POSITION_COMMITTED;
        if (change->token < 0 || change->token >= info->vocab ||
            (change->token == info->mask_token && !may_reopen))
            FAIL(UM_INTERNAL, err, "policy %s: it commits token %d at position %d", name,
                 change->token, position);
        if (!isfinite(change->probability))
            FAIL(UM_INTERNAL, err, "policy %s: its probability at position %d is not a number",
                 name, position);
    }
    return UM_OK;
}

/* Every position of the first n_finished blocks holds a token after the changes. */
static um_status check_finished(const um_engine *engine, const um_request *request,
                                const um_policy_decision *d, um_error *err) {
    int32_t mask = model_info(engine->mdl)->mask_token, i_change = 0;
    int64_t end = (int64_t)d->n_finished * request->settings.unit_len;
    for (int32_t i = 0; i < end && request->window_first + i < request->window_end; i++) {
        bool is_open = request->states[request->window_first + i] == UM_POSITION_MASKED;
        if (i_change < d->n_changes && d->changes[i_change].index == i)
            is_open = d->changes[i_change++].token == mask;
        if (is_open)
            FAIL(UM_INTERNAL, err, "policy %s: it finishes a block with a mask at position %d",
                 request->settings.policy->name, request->window_first + i);
    }
    return UM_OK;
}

/* The rules of deciding, whatever the policy: bounds, the prompt, whole blocks, and progress. */
static um_status check_decision(const um_engine *engine, const um_request *request,
                                const um_policy_decision *d, um_error *err) {
    const um_policy *policy = request->settings.policy;
    int32_t n_blocks = count_blocks(request, request->window_first, request->window_end);
    TRY(check_memory(request, err));
    TRY(check_changes(engine, request, d, err));
    if (d->n_finished < 0 || d->n_finished > n_blocks)
        FAIL(UM_INTERNAL, err, "policy %s: it finishes %d blocks of %d", policy->name,
             d->n_finished, n_blocks);
    TRY(check_finished(engine, request, d, err));
    if (!d->n_changes && !d->n_finished && !(policy->flags & UM_POLICY_MAY_IDLE))
        FAIL(UM_INTERNAL, err, "policy %s: a step changes nothing and does not end the block",
             policy->name);
    /* Whatever a policy does, a block ends: a bound far above what any rule needs. */
    int64_t limit = 8 * ((int64_t)request->window_end - request->window_first) +
                    request->settings.params.steps + request->settings.params.post_steps + 64;
    if (!d->n_finished && request->i_step >= limit)
        FAIL(UM_INTERNAL, err, "policy %s: a block is not finished after %d forwards", policy->name,
             request->i_step + 1);
    return UM_OK;
}

/* Shows copies of the window as it is; scores are added by the caller. */
static um_policy_view show_window(const um_engine *engine, um_request *request,
                                  const rng_key *key) {
    const request_settings *s = &request->settings;
    const um_model_info *info = model_info(engine->mdl);
    size_t n = (size_t)(request->window_end - request->window_first);
    memcpy(request->view_tokens, request->lanes[0].tokens + request->window_first,
           n * sizeof *request->view_tokens);
    memcpy(request->view_states, request->states + request->window_first, n);
    request->changes[n] = guard_change;
    return (um_policy_view){
        .params = &s->params,
        .n = (int32_t)n,
        .first_position = request->window_first,
        .block_len = s->unit_len,
        .blocks_left = count_blocks(request, request->window_end, request->decode_end),
        .n_carried = request->n_carried,
        .i_step = request->i_step,
        .vocab = info->vocab,
        .mask_token = info->mask_token,
        .delete_token = info->delete_token,
        .split_token = info->split_token,
        .tokens = request->view_tokens,
        .states = request->view_states,
        .order = request->order,
        .keys = request->keys,
        .state = request->state,
        .draw = draw,
        .draw_key = key,
    };
}

um_status decide_open(um_engine *engine, um_request *request, um_error *err) {
    const request_settings *s = &request->settings;
    bool is_multi = s->policy->flags & UM_POLICY_MULTI_BLOCK;
    if (request->phase != PHASE_DECODE || !is_multi || !s->policy->open) return UM_OK;
    if (request->has_opened) return UM_OK; /* before a step that it sat out */
    request->has_opened = true;
    rng_key key = s->key;
    um_policy_view view = show_window(engine, request, &key);
    int32_t n_opened = s->policy->open(&view);
    TRY(check_memory(request, err));
    int32_t n_open = count_blocks(request, request->window_first, request->window_end);
    if (n_opened < 0 || n_opened > s->params.window - n_open || n_opened > view.blocks_left)
        FAIL(UM_INTERNAL, err,
             "policy %s: it opens %d blocks beside %d; the window holds %d, %d are left",
             s->policy->name, n_opened, n_open, s->params.window, view.blocks_left);
    int64_t end = request->window_end + (int64_t)n_opened * s->unit_len;
    request->window_end = end < request->decode_end ? (int32_t)end : request->decode_end;
    return UM_OK;
}

um_status decide(um_engine *engine, um_request *request, um_policy_decision *d, um_error *err) {
    TRY(read_scores(engine, request, err));
    rng_key key = request->settings.key;
    key.step = (uint32_t)request->step;
    um_policy_view view = show_window(engine, request, &key);
    view.candidates = request->candidates;
    if (request->settings.policy->flags & UM_POLICY_SEES_LOGITS) view.logits = request->logit_rows;
    *d = (um_policy_decision){.changes = request->changes};
    request->settings.policy->step(&view, d);
    d->changes = request->changes;
    TRY(check_decision(engine, request, d, err));
    return constrain_decision(request, d, err);
}

um_status decide_seed(um_engine *engine, um_request *request, um_change *change, um_error *err) {
    const score *found;
    int32_t position;
    TRY(score_at(engine, request, 0, &found, &position, err));
    um_candidate c = candidate_of(&request->settings, model_traits_of(engine->mdl), found);
    request->candidates[0] = c;
    if (request->logit_rows)
        request->logit_rows[0] = engine->plan.score_requests[request->first_score].logits;
    *change = (um_change){.position = position, .token = c.token, .probability = c.probability};
    return UM_OK;
}

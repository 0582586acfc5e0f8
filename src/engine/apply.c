/* SPDX-License-Identifier: Apache-2.0
 *
 * After a forward: scores to candidates, the policy's decision to changes, changes to events; where
 * a block ends and where the answer ends. A policy's decision is checked here: what it may not do
 * ends its request and nothing else.
 */
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"

/* Puts the scores of the block's positions where the policy finds them. */
static um_status read_scores(um_engine *engine, um_request *request, um_error *err) {
    const step_plan *plan = &engine->plan;
    const request_settings *s = &request->settings;
    bool is_tempered = model_traits_of(engine->mdl)->has_tempered_confidence;
    for (int32_t i = 0; i < request->n_scores; i++) {
        const score *found = &plan->scores[request->first_score + i];
        int32_t position = (int32_t)plan->score_requests[request->first_score + i].key.position;
        candidate *c = &request->candidates[position - request->block_first];
        if (!found->is_finite)
            FAIL(UM_NUMERIC, err, "forward %d: the scores of position %d hold a NaN or an infinity",
                 request->forwards, position);
        bool is_drawn = s->temperature > 0;
        c->token = is_drawn ? found->drawn : found->token;
        c->probability = !is_drawn     ? found->probability
                         : is_tempered ? found->drawn_tempered
                                       : found->drawn_probability;
        /* A draw is made among the other tokens; the greedy choice may prefer the mask itself. */
        c->mask_probability = found->forbidden_probability;
        c->prefers_mask = !is_drawn && c->mask_probability > c->probability;
    }
    return UM_OK;
}

/* The rules of committing, whatever the policy: no prompt token changes, indexes rise and are in
 * the block, tokens exist, and a step changes something or ends the block. */
static um_status check_decision(const um_engine *engine, const um_request *request,
                                const policy_decision *d, um_error *err) {
    const um_model_info *info = model_info(engine->mdl);
    int32_t n = request->block_end - request->block_first, last = -1;
    const char *name = request->settings.policy->name;
    if (d->n_changes < 0 || d->n_changes > n)
        FAIL(UM_INTERNAL, err, "policy %s: %d changes in a block of %d", name, d->n_changes, n);
    for (int32_t i = 0; i < d->n_changes; i++) {
        const policy_change *change = &d->changes[i];
        if (change->index <= last || change->index >= n)
            FAIL(UM_INTERNAL, err, "policy %s: change %d is at index %d of a block of %d", name, i,
                 change->index, n);
        last = change->index;
        int32_t position = request->block_first + change->index;
        if (request->states[position] == POSITION_PROMPT)
            FAIL(UM_INTERNAL, err, "policy %s: it changes the prompt at position %d", name,
                 position);
        bool may_reopen = request->states[position] == POSITION_COMMITTED;
        if (change->token < 0 || change->token >= info->vocab ||
            (change->token == info->mask_token && !may_reopen))
            FAIL(UM_INTERNAL, err, "policy %s: it commits token %d at position %d", name,
                 change->token, position);
    }
    if (d->n_changes == 0 && !d->is_finished)
        FAIL(UM_INTERNAL, err, "policy %s: a step changes nothing and does not end the block",
             name);
    return UM_OK;
}

static int32_t block_number(const um_engine *engine, const um_request *request) {
    int32_t origin =
        model_info(engine->mdl)->attention == UM_ATTENTION_FULL ? request->n_prompt : 0;
    return (request->block_first - origin) / request->settings.block_len;
}

static void describe_block(const um_engine *engine, const um_request *request, int32_t *buffer,
                           um_event *event) {
    int32_t n = request->block_end - request->block_first;
    memcpy(buffer, request->lanes[0].tokens + request->block_first, (size_t)n * sizeof *buffer);
    event->forward = request->forwards;
    event->block = block_number(engine, request);
    event->first_position = request->block_first;
    event->n_inputs = n;
    event->inputs = buffer;
}

/* Writes the changes into every lane and into the step's event. */
static void apply_changes(um_engine *engine, um_request *request, const policy_decision *d) {
    um_event *event = request_stage_event(request, UM_EVENT_STEP);
    describe_block(engine, request, request->event_inputs, event);
    for (int32_t i = 0; i < d->n_changes; i++) {
        int32_t position = request->block_first + d->changes[i].index;
        request->event_changes[i] = (um_change){
            .position = position,
            .token = d->changes[i].token,
            .probability = d->changes[i].probability,
            .is_edit = request->states[position] == POSITION_COMMITTED,
        };
        request->states[position] = d->changes[i].token == model_info(engine->mdl)->mask_token
                                        ? POSITION_MASKED
                                        : POSITION_COMMITTED;
        for (int32_t j = 0; j < request->n_lanes; j++)
            request->lanes[j].tokens[position] = d->changes[i].token;
    }
    event->n_changes = d->n_changes;
    event->changes = request->event_changes;
}

static bool is_stop_token(const um_model_info *info, int32_t token) {
    for (int32_t i = 0; i < info->n_stop_tokens; i++)
        if (info->stop_tokens[i] == token) return true;
    return false;
}

/* The first end token with nothing undecided before it, or -1. Earlier blocks hold none: the
 * request would have ended there. A policy that edits must have left everything up to it unchanged
 * in this step, or be done with the block: what it just wrote it may still correct. */
static int32_t find_stop(const um_engine *engine, const um_request *request,
                         const policy_decision *d) {
    if (request->settings.ignore_eos) return -1;
    int32_t end = request->n_prompt + request->settings.max_tokens;
    int32_t first =
        request->block_first > request->n_prompt ? request->block_first : request->n_prompt;
    if (end > request->block_end) end = request->block_end;
    bool may_correct = request->settings.policy->scores_committed && !d->is_finished;
    if (may_correct && d->n_changes && request->block_first + d->changes[0].index < end)
        end = request->block_first + d->changes[0].index;
    for (int32_t p = first; p < end; p++) {
        if (request->states[p] != POSITION_COMMITTED) return -1;
        if (is_stop_token(model_info(engine->mdl), request->lanes[0].tokens[p])) return p;
    }
    return -1;
}

static void freeze(um_request *request, int32_t n_tokens) {
    request->n_final = n_tokens;
    for (int32_t i = 0; i < request->n_lanes; i++)
        page_table_freeze(&request->lanes[i].pages, n_tokens);
}

static void finish_block(um_engine *engine, um_request *request, const policy_decision *d) {
    um_event *event = request_stage_event(request, UM_EVENT_BLOCK);
    describe_block(engine, request, request->event_block, event);
    event->forward = request->forwards - 1;
    if (request->block_end >= request->n_canvas) {
        request_finish(request, UM_FINISH_LENGTH, request->settings.max_tokens);
        return;
    }
    /* A last forward that changed nothing has written the final keys and values already. */
    if (request->settings.cache == UM_CACHE_EXACT && d->n_changes == 0)
        freeze(request, request->block_end);
    request_open_block(request, request->block_end);
}

static void apply_prefill(um_request *request, int64_t elapsed_ns) {
    int32_t total = request->n_prompt / request->settings.block_len * request->settings.block_len;
    freeze(request, request->span_end);
    request->prefill_forwards++;
    request->prefill_ns += elapsed_ns;
    um_event *event = request_stage_event(request, UM_EVENT_PREFILL);
    event->prefill_done = request->n_final;
    event->prefill_total = total;
    if (request->n_final < total) return;
    request->phase = PHASE_DECODE;
    request_open_block(request, total);
}

static um_status decide(um_engine *engine, um_request *request, policy_decision *d, um_error *err) {
    const request_settings *s = &request->settings;
    TRY(read_scores(engine, request, err));
    policy_view view = {
        .n = request->block_end - request->block_first,
        .first_position = request->block_first,
        .i_step = request->i_step,
        .tokens = request->lanes[0].tokens + request->block_first,
        .states = request->states + request->block_first,
        .candidates = request->candidates,
        .mask_token = model_info(engine->mdl)->mask_token,
        .key = s->key,
    };
    view.key.step = (uint32_t)request->forwards;
    d->changes = request->changes;
    s->policy->step(&s->params, &view, &request->policy, request->order, d);
    TRY(check_decision(engine, request, d, err));
    /* Fast-dLLM's caches refresh at a block's first forward and always make one more, also when
     * nothing is left to do (NVlabs/Fast-dLLM, llada/generate.py: `while True` after the refresh).
     */
    bool is_refresh =
        request->i_step == 0 && (s->cache == UM_CACHE_PREFIX || s->cache == UM_CACHE_DUAL);
    if (is_refresh) d->is_finished = false;
    return UM_OK;
}

void apply_step(um_engine *engine, um_request *request, int64_t elapsed_ns) {
    if (request->phase == PHASE_PREFILL) {
        apply_prefill(request, elapsed_ns);
        return;
    }
    um_error error;
    policy_decision d = {0};
    request->decode_ns += elapsed_ns;
    if (decide(engine, request, &d, &error) != UM_OK) {
        request_fail(request, &error);
        return;
    }
    /* A folded span has written the last block's final keys and values. */
    if (request->settings.cache == UM_CACHE_EXACT && request->n_final < request->block_first)
        freeze(request, request->block_first);
    apply_changes(engine, request, &d);
    request->forwards++;
    request->i_step++;
    int32_t stop = find_stop(engine, request, &d);
    if (stop >= 0)
        request_finish(request, UM_FINISH_STOP, stop - request->n_prompt);
    else if (d.is_finished)
        finish_block(engine, request, &d);
}

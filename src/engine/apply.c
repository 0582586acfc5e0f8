/* SPDX-License-Identifier: Apache-2.0
 *
 * After a forward: a policy's decision becomes changes, changes become events; where a block ends
 * and where the answer ends.
 */
#include <assert.h>
#include <string.h>

#include "engine/engine.h"

static void describe_blocks(const um_request *request, int32_t first, int32_t end, int32_t *buffer,
                            um_event *event) {
    int32_t n = end - first;
    memcpy(buffer, request->lanes[0].tokens + first, (size_t)n * sizeof *buffer);
    event->forward = request->forwards - 1;
    event->block = (first - request->origin) / request->settings.block_len;
    event->first_position = first;
    event->n_inputs = n;
    event->inputs = buffer;
}

/* Stages the step's event with the open blocks as they went in: whole ones of the mask, and the
 * next one where it was taken along and that holds. */
static um_event *stage_step(um_request *request, bool has_settled) {
    um_event *event = request_stage_event(request, UM_EVENT_STEP);
    request->n_event_block = 0;
    int32_t first = request_block_start(request, request->window_first);
    int32_t end = request_block_start(request, request->window_end - 1);
    end += request->settings.block_len;
    if (has_settled) end += request->settings.block_len;
    if (end > request->decode_end) end = request->decode_end;
    describe_blocks(request, first, end, request->event_inputs, event);
    event->changes = request->event_changes;
    return event;
}

/* Writes one change into every lane and into the step's event. */
static void apply_change(um_engine *engine, um_request *request, um_event *event,
                         um_change change) {
    int32_t position = change.position;
    change.is_edit = request->states[position] == UM_POSITION_COMMITTED;
    if (change.is_edit)
        engine->stats.edits++;
    else
        engine->stats.commits++;
    logprobs_fill(engine, request, event->n_changes, &change);
    request->event_changes[event->n_changes++] = change;
    request->states[position] = change.token == model_info(engine->mdl)->mask_token
                                    ? UM_POSITION_MASKED
                                    : UM_POSITION_COMMITTED;
    for (int32_t j = 0; j < request->n_lanes; j++)
        request->lanes[j].tokens[position] = change.token;
}

static void apply_decision(um_engine *engine, um_request *request, um_event *event,
                           const um_policy_decision *d) {
    for (int32_t i = 0; i < d->n_changes; i++)
        apply_change(engine, request, event,
                     (um_change){.position = request->window_first + d->changes[i].index,
                                 .token = d->changes[i].token,
                                 .probability = d->changes[i].probability});
}

/* The first end token with nothing undecided before it, or -1. Earlier blocks hold none: the
 * request would have ended there. A policy that edits must have left everything up to it unchanged
 * in this step, or be done with the block: what it just wrote it may still correct. */
static int32_t find_stop(const um_request *request, const um_policy_decision *d) {
    if (!request->rules.n_ends) return -1;
    int32_t end = request->n_prompt + request->settings.max_tokens;
    int32_t first =
        request->window_first > request->n_prompt ? request->window_first : request->n_prompt;
    if (end > request->window_end) end = request->window_end;
    bool may_correct = d && settings_may_edit(&request->settings);
    if (may_correct && d->n_changes) {
        int64_t final = (int64_t)d->n_finished * request->settings.unit_len;
        int64_t settled = d->changes[0].index > final ? d->changes[0].index : final;
        if (request->window_first + settled < end) end = (int32_t)(request->window_first + settled);
    }
    for (int32_t p = first; p < end; p++) {
        if (request->states[p] != UM_POSITION_COMMITTED) return -1;
        if (logit_rules_end_text(request, p)) return p;
    }
    return -1;
}

int32_t apply_find_stop(const um_request *request) {
    return find_stop(request, NULL);
}

static void freeze(um_request *request, int32_t n_tokens) {
    request->n_final = n_tokens;
    for (int32_t i = 0; i < request->n_lanes; i++)
        page_table_freeze(&request->lanes[i].pages, n_tokens);
    prefix_publish(request);
}

/* Moves the window behind its finished blocks; a new one opens where none is left. */
static void advance(um_engine *engine, um_request *request, const um_policy_decision *d) {
    const request_settings *s = &request->settings;
    const model_traits *traits = model_traits_of(engine->mdl);
    int64_t moved = request->window_first + (int64_t)d->n_finished * s->unit_len;
    int32_t next = moved < request->window_end ? (int32_t)moved : request->window_end;
    int32_t done = next < request->decode_end ? request_block_start(request, next) : next;
    int32_t was_done = request_block_start(request, request->window_first);
    if (done > was_done) {
        um_event *event = request_stage_event(request, UM_EVENT_BLOCK);
        describe_blocks(request, was_done, done, request->event_block + request->n_event_block,
                        event);
        request->n_event_block += done - was_done;
        engine->stats.blocks_finished += (done - was_done + s->block_len - 1) / s->block_len;
    }
    if (next >= request->decode_end) {
        request_finish(request, UM_FINISH_LENGTH, s->max_tokens);
        return;
    }
    /* A last forward that changed nothing has written the final keys and values already. */
    if (s->cache == UM_CACHE_EXACT && d->n_changes == 0 && done > request->n_final &&
        !traits->has_seed)
        freeze(request, done);
    if (next < request->window_end) {
        request->window_first = next;
        request->i_step = 0;
        return;
    }
    request_open_window(request, next);
    bool is_seeded = traits->has_seed && request_block_start(request, next) == next;
    if (is_seeded || request_is_stale(request)) request->phase = PHASE_SEED;
}

static void apply_prefill(um_request *request, int64_t elapsed_ns) {
    freeze(request, request->span_end);
    request->prefill_forwards++;
    request->prefill_ns += elapsed_ns;
    um_event *event = request_stage_event(request, UM_EVENT_PREFILL);
    event->prefill_done = request->n_final;
    event->prefill_total = request->n_prefill;
    if (request->n_final < request->n_prefill) return;
    request->phase = request->next_phase;
}

/* The span has written final keys and values of the blocks before the window. */
static void freeze_before_window(um_request *request) {
    if (!request->settings.is_causal || request->settings.cache == UM_CACHE_NONE) return;
    int32_t end = request_block_start(request, request->window_first);
    if (request->span_first <= request->n_final && request->n_final < end) freeze(request, end);
}

static um_status apply_seed(um_engine *engine, um_request *request, um_error *err) {
    um_change change;
    TRY(decide_seed(engine, request, &change, err));
    freeze_before_window(request);
    apply_change(engine, request, stage_step(request, false), change);
    request->phase = PHASE_DECODE;
    request->i_step = request_is_stale(request); /* a refresh is behind it */
    request->step++;
    int32_t stop = find_stop(request, NULL);
    if (stop >= 0)
        request_finish(request, UM_FINISH_STOP, stop - request->n_prompt);
    else if (!request->i_step && !request_has_mask(request)) /* a window of one position */
        advance(engine, request, &(um_policy_decision){.n_finished = 1});
    return UM_OK;
}

/* The forward has left its block as it is and was the first of the next one as well: what it said
 * of that block holds, and is decided as in a step of its own. Else it is forgotten: the block's
 * slots are written again when they are read. */
static um_status open_next(um_engine *engine, um_request *request, um_policy_decision *d,
                           um_error *err) {
    int32_t next = request->window_end;
    request->step++;
    request->n_carried = 0;
    advance(engine, request, d);
    assert(request->phase == PHASE_DECODE && request->window_first == next);
    (void)next;
    request->first_score += request->n_scores;
    request->n_scores = request->n_ahead;
    return decide(engine, request, d, err);
}

static um_status apply_decode(um_engine *engine, um_request *request, um_error *err) {
    const request_settings *s = &request->settings;
    um_policy_decision d = {0};
    TRY(decide(engine, request, &d, err));
    bool has_settled = request->n_ahead && d.n_finished && !d.n_changes;
    /* Fast-dLLM's caches refresh at a block's first forward and always make one more, also when
     * nothing is left to do (NVlabs/Fast-dLLM, llada/generate.py: `while True` after the refresh).
     */
    bool is_refresh = request->i_step == 0 && !s->is_causal && s->cache != UM_CACHE_NONE;
    if (is_refresh) d.n_finished = 0;
    freeze_before_window(request);
    um_event *event = stage_step(request, has_settled);
    request->n_undone += request->n_ahead && !has_settled;
    if (has_settled) TRY(open_next(engine, request, &d, err));
    apply_decision(engine, request, event, &d);
    request->step++;
    request->i_step++;
    request->n_carried = s->is_causal && d.n_changes ? d.n_finished : 0;
    int32_t stop = find_stop(request, &d);
    if (stop >= 0)
        request_finish(request, UM_FINISH_STOP, stop - request->n_prompt);
    else if (d.n_finished)
        advance(engine, request, &d);
    return UM_OK;
}

void apply_step(um_engine *engine, um_request *request, int64_t elapsed_ns) {
    um_error error;
    if (request->phase == PHASE_PREFILL) {
        apply_prefill(request, elapsed_ns);
        return;
    }
    request->decode_ns += elapsed_ns;
    request->forwards++;
    request->has_opened = false;
    bool is_seed = request->phase == PHASE_SEED;
    um_status status =
        is_seed ? apply_seed(engine, request, &error) : apply_decode(engine, request, &error);
    if (status != UM_OK) request_fail(request, &error);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a request: created whole (every buffer that its steps need), queued, ended once, its
 * pages given back at that moment and its memory when the host program destroys it.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/engine.h"

void um_request_options_init(um_request_options *options) {
    memset(options, 0, sizeof *options);
    options->max_tokens = 256;
    options->threshold = options->edit_threshold = NAN;
    options->post_steps = -1;
    options->cfg_scale = options->temperature = options->top_p = options->min_p = NAN;
    options->low_threshold = options->factor = options->entropy_bound = options->eps = NAN;
    options->alg_temp = options->credit_alpha = options->credit_beta = NAN;
    options->credit_gamma = options->block_add = options->block_ready = NAN;
    options->top_k = -1;
    options->repetition_penalty = 1;
    options->top_logprobs = -1;
}

static void request_free(um_request *request) {
    if (!request) return;
    for (int i = 0; i < REQUEST_LANES_MAX; i++) memory_free(request->lanes[i].tokens);
    memory_free(request->states);
    memory_free(request->policy_args);
    logit_rules_deinit(&request->rules);
    memory_free(request->candidates);
    memory_free(request->order);
    memory_free(request->view_tokens);
    memory_free(request->view_states);
    memory_free(request->keys);
    memory_free(request->changes);
    memory_free(request->logit_rows);
    memory_free(request->logits);
    memory_free(request->top_tokens);
    memory_free(request->state);
    plugin_close(request->settings.plugin);
    constrain_destroy(request);
    memory_free(request->event_inputs);
    memory_free(request->event_block);
    memory_free(request->event_changes);
    memory_free(request);
}

/* Prompt, masks, suffix, and masks to the end of its block; the second lane has masks throughout.
 */
static um_status fill_canvas(um_request *request, const um_request_options *options,
                             int32_t mask_token, um_error *err) {
    size_t n_canvas = (size_t)request->n_canvas;
    size_t i_suffix = options->n_prompt + (size_t)request->settings.max_tokens;
    request->states = memory_alloc(n_canvas);
    if (!request->states) FAIL(UM_NO_MEMORY, err, "no memory for a request");
    for (int i = 0; i < request->n_lanes; i++) {
        int32_t *tokens = memory_alloc_array(n_canvas, sizeof *tokens);
        if (!tokens) FAIL(UM_NO_MEMORY, err, "no memory for a canvas of %zu tokens", n_canvas);
        request->lanes[i].tokens = tokens;
        for (size_t p = 0; p < n_canvas; p++) {
            bool is_prompt = p < options->n_prompt;
            bool is_suffix = p >= i_suffix && p - i_suffix < options->n_suffix;
            tokens[p] = mask_token;
            if (i == 0 && is_prompt) tokens[p] = options->prompt[p];
            if (i == 0 && is_suffix) tokens[p] = options->suffix[p - i_suffix];
            request->states[p] = is_prompt || is_suffix ? UM_POSITION_PROMPT : UM_POSITION_MASKED;
        }
    }
    return UM_OK;
}

/* What a policy remembers of a block grows with the block and, for some, with post_steps. */
static um_status refuse_state(const um_request *request, um_error *err) {
    const request_settings *s = &request->settings;
    if (s->plugin)
        FAIL(UM_INTERNAL, err, "policy %s: a state of %zu bytes; expected at most %d",
             s->policy->name, request->state_bytes, STATE_BYTES_MAX);
    um_error_set(err, UM_LIMIT,
                 "block_len: policy %s needs %zu bytes for blocks of %d with %d post_steps; "
                 "expected at most %d",
                 s->policy->name, request->state_bytes, request->n_window, s->params.post_steps,
                 STATE_BYTES_MAX);
    um_error_at(err, "block_len", -1);
    return UM_LIMIT;
}

static um_status alloc_window(um_request *request, int32_t vocab, um_error *err) {
    const request_settings *s = &request->settings;
    size_t n = (size_t)request->n_window, n_events = n + (size_t)s->block_len;
    request->candidates = memory_calloc(n, sizeof *request->candidates);
    request->order = memory_alloc_array(n, sizeof *request->order);
    request->view_tokens = memory_alloc_array(n, sizeof *request->view_tokens);
    request->view_states = memory_alloc(n);
    request->keys = memory_alloc_array(n, sizeof *request->keys);
    request->changes = memory_calloc(n + 1, sizeof *request->changes);
    request->event_inputs = memory_alloc_array(n_events, sizeof *request->event_inputs);
    request->event_block = memory_alloc_array(n_events, sizeof *request->event_block);
    request->event_changes = memory_alloc_array(n, sizeof *request->event_changes);
    bool is_held = request->candidates && request->order && request->view_tokens &&
                   request->view_states && request->keys && request->changes &&
                   request->event_inputs && request->event_block && request->event_changes;
    if (is_held && ((s->policy->flags & UM_POLICY_SEES_LOGITS) || s->top_logprobs >= 0)) {
        request->logit_rows = memory_calloc(n, sizeof *request->logit_rows);
        size_t n_rows = n + (s->folds ? (size_t)s->block_len : 0);
        request->logits = memory_alloc_array(n_rows, (size_t)vocab * sizeof *request->logits);
        is_held = request->logit_rows && request->logits;
    }
    if (is_held && s->top_logprobs > 0) {
        request->top_tokens =
            memory_alloc_array(n, (size_t)s->top_logprobs * sizeof *request->top_tokens);
        is_held = request->top_tokens != NULL;
    }
    if (is_held && s->policy->state_bytes) {
        request->state_bytes = s->policy->state_bytes(&s->params, request->n_window);
        if (request->state_bytes > STATE_BYTES_MAX) return refuse_state(request, err);
        request->state = memory_calloc(1, request->state_bytes + STATE_GUARD_BYTES);
        is_held = request->state != NULL;
        if (is_held) memset(request->state + request->state_bytes, STATE_GUARD, STATE_GUARD_BYTES);
    }
    if (!is_held) FAIL(UM_NO_MEMORY, err, "no memory for a block of %zu tokens", n);
    return UM_OK;
}

static um_status keep_policy_args(um_request *request, const char *text, um_error *err) {
    size_t n_bytes = strlen(text ? text : "") + 1;
    request->policy_args = memory_alloc(n_bytes);
    if (!request->policy_args) FAIL(UM_NO_MEMORY, err, "no memory for a request");
    memcpy(request->policy_args, text ? text : "", n_bytes);
    request->settings.params.arguments = request->policy_args;
    return UM_OK;
}

static um_status request_fill(um_request *request, const um_request_options *options,
                              um_error *err) {
    um_engine *engine = request->engine;
    const um_model_info *info = model_info(engine->mdl);
    const request_settings *s = &request->settings;
    TRY(settings_resolve(engine, options, &request->settings, err));
    TRY(keep_policy_args(request, options->policy_args, err));
    request->n_prompt = (int32_t)options->n_prompt;
    int64_t n_canvas = (int64_t)request->n_prompt + s->max_tokens + (int64_t)options->n_suffix;
    request->origin = s->is_causal && !s->has_prompt_block ? 0 : request->n_prompt;
    if (s->is_causal) {
        int64_t n_blocks = (n_canvas - request->origin + s->block_len - 1) / s->block_len;
        n_canvas = request->origin + n_blocks * s->block_len;
    }
    request->n_lanes = s->cfg_scale > 0 ? 2 : 1;
    int64_t n_lane_pages = (n_canvas + KV_PAGE_LEN - 1) / KV_PAGE_LEN;
    if (n_lane_pages * request->n_lanes > page_pool_count(engine->pool)) {
        um_error_set(err, UM_LIMIT,
                     "%lld positions%s need %lld pages of the cache; the engine was opened with %d",
                     (long long)n_canvas, request->n_lanes > 1 ? ", twice for guidance," : "",
                     (long long)(n_lane_pages * request->n_lanes), page_pool_count(engine->pool));
        um_error_at(err, "max_tokens", -1);
        return UM_LIMIT;
    }
    request->n_canvas = (int32_t)n_canvas;
    request->decode_end = options->n_suffix ? request->n_prompt + s->max_tokens : request->n_canvas;
    int64_t n_window = (int64_t)s->params.window * s->unit_len;
    request->n_window = n_window < n_canvas ? (int32_t)n_window : request->n_canvas;
    TRY(fill_canvas(request, options, info->mask_token, err));
    TRY(logit_rules_init(&request->rules, info, options, request->n_canvas, err));
    TRY(alloc_window(request, info->vocab, err));
    return options->constraint ? constrain_create(request, options->constraint, err) : UM_OK;
}

/* Into the list, by rank. state_lock held. */
static um_status enqueue(um_engine *engine, um_request *request, um_error *err) {
    if (engine->max_queue && engine->n_queued >= engine->max_queue)
        FAIL(UM_AGAIN, err, "%d requests are waiting; expected at most %d (max_queue)",
             engine->n_queued, engine->max_queue);
    if (engine->n_requests == engine->ready_capacity) {
        int32_t n = engine->ready_capacity ? 2 * engine->ready_capacity : 16;
        um_request **ready = memory_realloc_array(engine->ready, (size_t)n, sizeof *engine->ready);
        if (!ready) FAIL(UM_NO_MEMORY, err, "no memory for %d requests", n);
        engine->ready = ready;
        engine->ready_capacity = n;
    }
    um_request **at = &engine->requests;
    while (*at && (*at)->settings.priority >= request->settings.priority) at = &(*at)->next;
    request->next = *at;
    *at = request;
    engine->n_requests++;
    engine->n_queued++;
    return UM_OK;
}

um_status um_request_create(um_engine *engine, const um_request_options *options, um_request **out,
                            um_error *err) {
    um_request *request = memory_calloc(1, sizeof *request);
    if (!request) FAIL(UM_NO_MEMORY, err, "no memory for a request");
    request->engine = engine;
    request->is_drained = true;
    request->last_step = -1;
    request->is_queued = true;
    um_status status = request_fill(request, options, err);
    if (status != UM_OK) {
        request_free(request);
        return status;
    }
    pthread_mutex_lock(&engine->state_lock);
    status = enqueue(engine, request, err);
    pthread_mutex_unlock(&engine->state_lock);
    if (status != UM_OK) {
        request_free(request);
        return status;
    }
    *out = request;
    return UM_OK;
}

void um_request_cancel(um_request *request) {
    if (request) atomic_store(&request->is_cancelled, true);
}

void um_request_destroy(um_request **handle) {
    if (!handle || !*handle) return;
    um_request *request = *handle;
    um_engine *engine = request->engine;
    *handle = NULL;
    pthread_mutex_lock(&engine->step_lock); /* waits for a step that it takes part in */
    pthread_mutex_lock(&engine->state_lock);
    for (um_request **at = &engine->requests; *at; at = &(*at)->next) {
        if (*at != request) continue;
        *at = request->next;
        engine->n_requests--;
        engine->n_queued -= request->is_queued;
        break;
    }
    request_release_pages(request);
    engine_publish_stats(engine);
    pthread_mutex_unlock(&engine->state_lock);
    pthread_mutex_unlock(&engine->step_lock);
    request_free(request);
}

um_status um_request_next_event(um_request *request, um_event *event) {
    um_status status = UM_AGAIN;
    pthread_mutex_lock(&request->engine->state_lock);
    if (request->i_event < request->n_events) {
        *event = request->events[request->i_event++];
        status = UM_OK;
    } else {
        request->i_event = request->n_events = 0;
        request->is_drained = true;
    }
    pthread_mutex_unlock(&request->engine->state_lock);
    return status;
}

void request_open_window(um_request *request, int32_t first) {
    int32_t end = first + request->settings.unit_len;
    request->window_first = first;
    request->window_end = end < request->decode_end ? end : request->decode_end;
    request->i_step = request->n_undone = 0;
    if (request->state && !(request->settings.policy->flags & UM_POLICY_KEEPS_STATE))
        memset(request->state, 0, request->state_bytes);
}

bool request_has_mask(const um_request *request) {
    for (int32_t p = request->window_first; p < request->window_end; p++)
        if (request->states[p] == UM_POSITION_MASKED) return true;
    return false;
}

bool request_is_stale(const um_request *request) {
    const request_settings *s = &request->settings;
    bool is_approximate = s->cache == UM_CACHE_PREFIX || s->cache == UM_CACHE_DUAL;
    return is_approximate && !s->is_causal && model_traits_of(request->engine->mdl)->is_shifted;
}

int32_t request_block_start(const um_request *request, int32_t position) {
    int32_t origin = request->origin, len = request->settings.block_len;
    return position < origin ? 0 : origin + (position - origin) / len * len;
}

um_event *request_stage_event(um_request *request, um_event_kind kind) {
    /* The queue is empty: a request takes part only when it is drained. Its counters belong to
     * state_lock and are not touched here. */
    assert(request->n_staged < REQUEST_EVENTS_MAX);
    um_event *event = &request->events[request->n_staged++];
    memset(event, 0, sizeof *event);
    event->kind = kind;
    return event;
}

void request_release_pages(um_request *request) {
    ahead_forget(request->engine, request);
    prefix_detach(request);
    for (int i = 0; i < REQUEST_LANES_MAX; i++)
        page_table_release(request->engine->pool, &request->lanes[i].pages);
}

void request_fail(um_request *request, const um_error *err) {
    request_release_pages(request);
    request->phase = PHASE_FINISHED;
    request_stage_event(request, UM_EVENT_ERROR)->error = *err;
    request->engine->stats.requests_failed++;
}

void request_finish(um_request *request, um_finish_reason reason, int32_t n_tokens) {
    request_release_pages(request);
    request->phase = PHASE_FINISHED;
    um_event *event = request_stage_event(request, UM_EVENT_DONE);
    event->finish = reason;
    event->n_tokens = n_tokens;
    event->tokens = request->lanes[0].tokens + request->n_prompt;
    event->forwards = request->forwards;
    event->prefill_forwards = request->prefill_forwards;
    event->n_cached = request->n_cached;
    event->preemptions = request->preemptions;
    event->prefill_ns = request->prefill_ns;
    event->decode_ns = request->decode_ns;
    request->engine->stats.requests_done++;
}

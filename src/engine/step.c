/* SPDX-License-Identifier: Apache-2.0
 *
 * um_engine_step: one forward for all requests that can use one. Requests are admitted in order of
 * arrival as pages allow; a step takes as many as its rows hold, first those that the last step
 * left out. The lock on the requests' state is free while the model runs.
 */
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"

/* Takes pages for every lane, or none. */
static um_status acquire_pages(um_engine *engine, um_request *request, um_error *err) {
    for (int32_t i = 0; i < request->n_lanes; i++) {
        um_status status =
            page_table_acquire(engine->pool, request->n_canvas, &request->lanes[i].pages, err);
        if (status == UM_OK) continue;
        request_release_pages(request);
        return status;
    }
    return UM_OK;
}

/* Whole blocks of a prompt are prefilled where keys and values are kept. Where the last row of a
 * finished block seeds the next one, a prompt that ends with its block is such a block. */
static void start(um_engine *engine, um_request *request) {
    const request_settings *s = &request->settings;
    const model_traits *traits = model_traits_of(engine->mdl);
    int32_t first = request_block_start(request, request->n_prompt);
    bool is_seeded = traits->has_seed && first == request->n_prompt;
    request->n_prefill = s->is_causal && s->cache != UM_CACHE_NONE ? first : 0;
    if (request->n_prefill && is_seeded) request->n_prefill -= s->block_len;
    /* Parts of a block that are all prompt have nothing to decide. */
    request_open_window(request, first + (request->n_prompt - first) / s->unit_len * s->unit_len);
    request->phase = request->n_prefill                       ? PHASE_PREFILL
                     : is_seeded || request_is_stale(request) ? PHASE_SEED
                                                              : PHASE_DECODE;
    request_stage_event(request, UM_EVENT_ACCEPTED);
}

/* Ends what was cancelled and admits what waits, first come, first served: a request that waits for
 * pages holds back those behind it, so that a long one is not starved by short ones. Returns
 * whether anything happened. */
static bool admit(um_engine *engine) {
    bool has_acted = false, is_blocked = false;
    for (um_request *r = engine->requests; r; r = r->next) {
        um_error error;
        if (r->phase == PHASE_FINISHED || !r->is_drained) continue;
        if (atomic_load(&r->is_cancelled)) {
            um_error_set(&error, UM_CANCELLED, "the request was cancelled");
            request_fail(r, &error);
            has_acted = true;
        } else if (r->phase == PHASE_WAITING && !is_blocked) {
            um_status status = acquire_pages(engine, r, &error);
            is_blocked = status == UM_AGAIN;
            if (is_blocked) continue;
            has_acted = true;
            if (status == UM_OK)
                start(engine, r);
            else
                request_fail(r, &error);
        }
    }
    return has_acted;
}

static bool is_ready(const um_request *r) {
    return r->is_drained && r->phase != PHASE_WAITING && r->phase != PHASE_FINISHED;
}

/* Adds requests until the step is full: those that the last step left out come first. */
static void collect(um_engine *engine) {
    step_plan *plan = &engine->plan;
    plan_clear(plan);
    for (int pass = 0; pass < 2; pass++) {
        for (um_request *r = engine->requests; r; r = r->next) {
            bool was_left_out = r->last_step < engine->n_steps - 1;
            if (!is_ready(r) || r->last_step == engine->n_steps || was_left_out != (pass == 0))
                continue;
            int64_t n_rows = plan_rows_of(engine, r);
            if (plan->n_rows && plan->n_rows + n_rows > STEP_ROWS_MAX) continue;
            um_error error;
            if (plan_add(engine, r, &error) != UM_OK)
                request_fail(r, &error);
            else
                r->last_step = engine->n_steps;
        }
    }
}

/* Makes what the step has staged visible. */
static void publish(um_engine *engine) {
    for (um_request *r = engine->requests; r; r = r->next) {
        if (!r->n_staged) continue;
        r->n_events = r->n_staged;
        r->i_event = r->n_staged = 0;
        r->is_drained = false;
    }
}

static um_status run(um_engine *engine, um_error *err) {
    step_plan *plan = &engine->plan;
    model_batch batch = plan_batch(engine);
    return model_forward(engine->mdl, engine->dev, engine->kv, &batch, &plan->scratch, err);
}

um_status um_engine_step(um_engine *engine, um_error *err) {
    step_plan *plan = &engine->plan;
    (void)err;
    pthread_mutex_lock(&engine->step_lock);
    pthread_mutex_lock(&engine->state_lock);
    engine->n_steps++;
    bool has_acted = admit(engine);
    collect(engine);
    pthread_mutex_unlock(&engine->state_lock);
    if (plan->n_requests) {
        um_error error;
        int64_t begin = clock_now_ns();
        um_status status = run(engine, &error);
        int64_t elapsed = clock_now_ns() - begin;
        has_acted = true;
        for (int32_t i = 0; i < plan->n_requests; i++) {
            /* A step that could not run failed for all of them alike: memory or device. */
            if (status == UM_OK)
                apply_step(engine, plan->requests[i], elapsed);
            else
                request_fail(plan->requests[i], &error);
        }
    }
    pthread_mutex_lock(&engine->state_lock);
    publish(engine);
    pthread_mutex_unlock(&engine->state_lock);
    pthread_mutex_unlock(&engine->step_lock);
    return has_acted ? UM_OK : UM_AGAIN;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * um_engine_step: one forward for all requests that can use one. Who holds pages is decided first
 * (schedule.c); then the step is filled with the spans of those that have waited longest, prompts
 * cut to the rows that are left. The lock on the requests' state is free while the model runs.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"

/* Those that took part longest ago come first, then those of higher rank. */
static int by_turn(const void *a, const void *b) {
    const um_request *x = *(um_request *const *)a, *y = *(um_request *const *)b;
    if (x->last_step != y->last_step) return x->last_step < y->last_step ? -1 : 1;
    return x->i_rank - y->i_rank;
}

static int32_t list_ready(um_engine *engine) {
    int32_t n = 0, i_rank = 0;
    for (um_request *r = engine->requests; r; r = r->next) {
        r->i_rank = i_rank++;
        if (r->is_secured) engine->ready[n++] = r;
    }
    if (n) qsort(engine->ready, (size_t)n, sizeof *engine->ready, by_turn);
    return n;
}

/* Rows of prompts that a step may take along beside n_rows of requests that denoise. */
static int64_t prefill_rows(const um_engine *engine, int64_t n_rows) {
    if (!n_rows || engine->max_step_ns <= 0) return STEP_ROWS_MAX;
    if (n_rows > STEP_ROWS_MAX) n_rows = STEP_ROWS_MAX;
    return pace_rows(&engine->pace, engine->max_step_ns) - n_rows;
}

/* Cuts the next part of a prompt to n_rows; to a block at least. */
static void cut_prefill(um_request *r, int64_t n_rows) {
    int64_t block = r->settings.block_len, n_blocks = n_rows / r->n_lanes / block;
    int64_t n = (n_blocks > 1 ? n_blocks : 1) * block;
    r->prefill_rows = n < r->settings.prefill_chunk ? (int32_t)n : r->settings.prefill_chunk;
    if (r->settings.has_prompt_block) r->prefill_rows = r->settings.prefill_chunk;
}

/* What the rows of a span are for. */
static void count_rows(um_engine *engine, const um_request *r) {
    int64_t n = (int64_t)(r->span_end - r->span_first) * r->n_lanes, n_folded = 0;
    if (r->phase == PHASE_PREFILL) {
        engine->stats.rows_prefill += n;
        return;
    }
    if (r->settings.is_causal && r->settings.cache == UM_CACHE_EXACT && r->phase == PHASE_DECODE) {
        int32_t first = request_block_start(r, r->window_first);
        int32_t end = request_block_start(r, r->window_end - 1) + r->settings.block_len;
        if (r->span_first < first) n_folded += first - r->span_first;
        if (r->span_end > end) n_folded += r->span_end - end;
        n_folded *= r->n_lanes;
    }
    engine->stats.rows_folded += n_folded;
    engine->stats.rows_block += n - n_folded;
}

/* Adds requests until the step is full. */
static void collect(um_engine *engine) {
    step_plan *plan = &engine->plan;
    int32_t n_ready = list_ready(engine);
    int64_t n_denoising = 0;
    plan_clear(plan);
    for (int32_t i = 0; i < n_ready; i++)
        if (engine->ready[i]->phase != PHASE_PREFILL)
            n_denoising += plan_rows_of(engine, engine->ready[i]);
    int64_t n_left = prefill_rows(engine, n_denoising);
    bool has_prompt = false;
    for (int32_t i = 0; i < n_ready; i++) {
        um_request *r = engine->ready[i];
        bool is_prompt = r->phase == PHASE_PREFILL;
        int64_t n_free = STEP_ROWS_MAX - plan->n_rows;
        if (is_prompt && has_prompt && n_left < (int64_t)r->settings.block_len * r->n_lanes)
            continue;
        if (is_prompt) cut_prefill(r, n_left < n_free ? n_left : n_free);
        int64_t n_rows = plan_rows_of(engine, r);
        if (plan->n_rows && n_rows > n_free) continue;
        um_error error;
        if (plan_add(engine, r, &error) != UM_OK) {
            request_fail(r, &error);
            continue;
        }
        r->last_step = engine->n_steps;
        if (is_prompt) n_left -= n_rows;
        has_prompt |= is_prompt;
        count_rows(engine, r);
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
    engine_publish_stats(engine);
}

static um_status run(um_engine *engine, um_error *err) {
    step_plan *plan = &engine->plan;
    model_batch batch = plan_batch(engine);
    bool is_made;
    TRY(ahead_run(engine, &batch, &is_made, err));
    if (is_made) return UM_OK;
    return model_forward(engine->mdl, engine->dev, engine->kv, &batch, &plan->scratch, err);
}

um_status um_engine_step(um_engine *engine, um_error *err) {
    step_plan *plan = &engine->plan;
    (void)err;
    pthread_mutex_lock(&engine->step_lock);
    pthread_mutex_lock(&engine->state_lock);
    engine->n_steps++;
    bool has_acted = schedule_pages(engine);
    collect(engine);
    pthread_mutex_unlock(&engine->state_lock);
    if (plan->n_requests) {
        um_error error;
        int64_t begin = clock_now_ns();
        um_status status = run(engine, &error);
        int64_t elapsed = clock_now_ns() - begin;
        engine->stats.forwards++;
        engine->stats.forwards_ns += elapsed;
        if (status == UM_OK) pace_learn(&engine->pace, plan->n_rows, elapsed);
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

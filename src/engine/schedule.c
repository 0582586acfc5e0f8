/* SPDX-License-Identifier: Apache-2.0
 *
 * Which requests hold pages. The list of requests is in order of rank: higher priority first, then
 * the older one. Before each step, in this order of rank:
 *
 *   cancelled ones end, or at least give their pages back
 *   running ones get the pages that their next span needs; where none are left, the last in rank is
 *   put back: its pages go, its tokens, states and draws stay, and it waits. One that ranks last
 *   itself sits the step out. The first in rank always gets its pages, so something moves on
 *   waiting ones are admitted with pages for prompt, open block and one block more, if besides
 * every running one could open a block; only a higher priority puts others back for that. The first
 * that finds no room holds back those behind it, so that a long one is not starved by short ones
 *
 * A request that was put back is prefilled once more up to its open blocks. What it gets is the
 * same bits: those of a row depend on its sequence alone.
 */
#include <assert.h>

#include "engine/engine.h"

static bool is_running(const um_request *r) {
    return r->phase != PHASE_WAITING && r->phase != PHASE_FINISHED;
}

/* Positions that have slots from the start: no page of them is asked for later. */
static int64_t first_positions(const um_request *r) {
    if (!r->settings.is_causal) return r->n_canvas;
    int64_t end = request_block_start(r, r->window_end - 1) + 2 * (int64_t)r->settings.block_len;
    return end < r->n_canvas ? end : r->n_canvas;
}

static int64_t pages_for(const um_request *r, int64_t n_positions) {
    return (n_positions + KV_PAGE_LEN - 1) / KV_PAGE_LEN * r->n_lanes;
}

static int64_t pages_held(const um_request *r) {
    int64_t n = 0;
    for (int32_t i = 0; i < r->n_lanes; i++) n += r->lanes[i].pages.n_pages;
    return n;
}

/* The approximations read keys that an earlier step left: only before a refresh can they do
 * without.
 */
static bool may_be_put_back(const um_request *r) {
    bool is_exact = r->settings.cache == UM_CACHE_EXACT || r->settings.cache == UM_CACHE_NONE;
    return is_running(r) && (is_exact || r->i_step == 0 || r->phase == PHASE_PREFILL);
}

static void put_back(um_request *r) {
    if (r->phase != PHASE_PREFILL) r->next_phase = r->phase;
    r->phase = PHASE_WAITING;
    r->n_final = 0;
    r->is_secured = false;
    request_release_pages(r);
    r->preemptions++;
    r->engine->stats.preemptions++;
}

/* Puts the last in rank back that comes after `request` and has a priority below `bound`. */
static bool make_room(um_engine *engine, const um_request *request, int64_t bound) {
    um_request *victim = NULL;
    bool is_behind = false;
    for (um_request *r = engine->requests; r; r = r->next) {
        if (is_behind && may_be_put_back(r) && r->settings.priority < bound) victim = r;
        is_behind |= r == request;
    }
    if (victim) put_back(victim);
    return victim != NULL;
}

static um_status grow(um_request *r, int64_t n_positions, um_error *err) {
    for (int32_t i = 0; i < r->n_lanes; i++)
        TRY(page_table_grow(r->engine->pool, n_positions, &r->lanes[i].pages, err));
    return UM_OK;
}

/* Pages for the next span of a running request. */
static um_status secure(um_engine *engine, um_request *r, um_error *err) {
    TRY(decide_open(engine, r, err));
    for (;;) {
        um_status status = grow(r, plan_span_end(engine, r), err);
        if (status != UM_AGAIN) return status;
        if (!make_room(engine, r, INT64_MAX)) return UM_AGAIN;
    }
}

/* Whole blocks of a prompt are prefilled where keys and values are kept, and those of the answer
 * that are frozen. Where the last row of a finished block seeds the next one, that one is left out.
 */
static void begin(um_engine *engine, um_request *r, int32_t n_cached) {
    r->n_final = n_cached;
    r->phase = r->n_final < r->n_prefill ? PHASE_PREFILL : r->next_phase;
    if (r->is_started) return;
    r->is_started = true;
    r->n_cached = n_cached;
    request_stage_event(r, UM_EVENT_ACCEPTED)->n_cached = n_cached;
    engine->stats.requests_accepted++;
    engine->stats.tokens_cached += n_cached;
    if (prefix_is_shared(r)) engine->stats.tokens_queried += r->n_prefill;
}

/* Where the window of a new request opens, and how far a request is prefilled. */
static void set_out(um_engine *engine, um_request *r) {
    const request_settings *s = &r->settings;
    bool has_seed = model_traits_of(engine->mdl)->has_seed;
    if (!r->is_started) {
        /* Parts of a block that are all prompt have nothing to decide. */
        int32_t first = request_block_start(r, r->n_prompt);
        request_open_window(r, first + (r->n_prompt - first) / s->unit_len * s->unit_len);
        bool is_seeded = has_seed && first == r->n_prompt;
        r->next_phase = is_seeded || request_is_stale(r) ? PHASE_SEED : PHASE_DECODE;
    }
    r->n_prefill = 0;
    if (!s->is_causal || s->cache == UM_CACHE_NONE) return;
    r->n_prefill = request_block_start(r, r->window_first);
    if (has_seed && r->next_phase == PHASE_SEED) r->n_prefill -= s->block_len;
}

/* Pages that running requests may ask for next: a block each. */
static int64_t reserve_of(const um_engine *engine) {
    int64_t n = 0;
    for (const um_request *r = engine->requests; r; r = r->next)
        if (is_running(r) && r->settings.is_causal) {
            int64_t left = pages_for(r, r->n_canvas) - pages_held(r);
            int64_t block = pages_for(r, r->settings.block_len);
            n += left < block ? left : block;
        }
    return n;
}

/* What those of a lower priority hold, at most. */
static int64_t pages_below(const um_engine *engine, const um_request *request) {
    int64_t n = 0;
    for (const um_request *r = engine->requests; r; r = r->next)
        if (may_be_put_back(r) && r->settings.priority < request->settings.priority)
            n += pages_held(r);
    return n;
}

/* Takes what is cached of the beginning, and pages for the rest. */
static um_status take_pages(um_engine *engine, um_request *r, um_error *err) {
    int32_t n_cached = 0;
    int64_t reserve = reserve_of(engine);
    um_status status = prefix_attach(r, r->n_prefill, &n_cached, err);
    while (status == UM_OK) {
        int64_t missing = pages_for(r, first_positions(r)) - pages_held(r);
        int64_t room = page_pool_free_count(engine->pool) - missing - reserve;
        if (room >= 0) {
            status = grow(r, first_positions(r), err);
            break;
        }
        if (room + pages_below(engine, r) < 0 || !make_room(engine, r, r->settings.priority))
            status = UM_AGAIN;
        reserve = reserve_of(engine);
    }
    if (status == UM_OK)
        begin(engine, r, n_cached);
    else
        request_release_pages(r);
    return status;
}

static bool end_cancelled(um_engine *engine) {
    bool has_acted = false;
    for (um_request *r = engine->requests; r; r = r->next) {
        if (r->phase == PHASE_FINISHED || !atomic_load(&r->is_cancelled)) continue;
        if (!r->is_drained) { /* its last event has to wait; its pages need not */
            r->phase = PHASE_WAITING;
            request_release_pages(r);
            continue;
        }
        um_error error;
        um_error_set(&error, UM_CANCELLED, "the request was cancelled");
        request_fail(r, &error);
        has_acted = true;
    }
    return has_acted;
}

static int32_t count_running(const um_engine *engine) {
    int32_t n = 0;
    for (const um_request *r = engine->requests; r; r = r->next) n += is_running(r);
    return n;
}

static bool admit(um_engine *engine) {
    bool has_acted = false;
    for (um_request *r = engine->requests; r; r = r->next) {
        if (r->phase != PHASE_WAITING || !r->is_drained || atomic_load(&r->is_cancelled)) continue;
        if (engine->max_requests && count_running(engine) >= engine->max_requests) break;
        um_error error;
        set_out(engine, r);
        um_status status = take_pages(engine, r, &error);
        if (status == UM_AGAIN) break;
        if (status == UM_OK) status = secure(engine, r, &error); /* a wider window needs more */
        r->is_secured = status == UM_OK;
        if (status != UM_OK && status != UM_AGAIN) request_fail(r, &error);
        has_acted = true;
    }
    return has_acted;
}

bool schedule_pages(um_engine *engine) {
    bool has_acted = end_cancelled(engine);
    for (um_request *r = engine->requests; r; r = r->next) r->is_secured = false;
    for (um_request *r = engine->requests; r; r = r->next) {
        um_error error;
        if (!is_running(r) || !r->is_drained) continue;
        um_status status = secure(engine, r, &error);
        r->is_secured = status == UM_OK;
        if (status == UM_OK || status == UM_AGAIN) continue;
        request_fail(r, &error);
        has_acted = true;
    }
    return admit(engine) || has_acted;
}

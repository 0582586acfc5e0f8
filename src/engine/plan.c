/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows of a step. For each request: which positions go through the model now, what each of them
 * may see, and which of them are scored.
 *
 *   block-causal, exact cache
 *     prefill   whole blocks of the prompt, as many as a chunk holds; nothing is scored
 *     decode    [ last block, if its final keys are not written yet | open block ]     folding
 *               [ open block without a mask | next block ]    where the open one is settled if the
 *               policy leaves it as it is: then its last forward is the next one's first
 *   no cache    everything up to the end of the open block, or the whole canvas
 *   prefix      the canvas at a block's first step; then from the open block to the end
 *   dual        the canvas at a block's first step; then the open block alone
 *               block-causal: the block while the first position of the open part is masked; then
 *               that part alone (Fast-dLLM v2's block cache)
 *
 * Where logits are shifted, position p is scored by the row of p - 1, which is then in the span.
 */
#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "engine/engine.h"

void plan_clear(step_plan *plan) {
    plan->n_rows = plan->n_scores = plan->n_tables = plan->n_requests = 0;
}

void plan_deinit(step_plan *plan) {
    memory_free(plan->tokens);
    memory_free(plan->positions);
    memory_free(plan->seq);
    memory_free(plan->visible_end);
    memory_free(plan->score_requests);
    memory_free(plan->scores);
    memory_free(plan->tables);
    memory_free(plan->requests);
    device_scratch_deinit(&plan->scratch);
    memset(plan, 0, sizeof *plan);
}

/* Makes an array hold n items; its old content stays. */
static bool hold(void *array, int64_t n, size_t item_bytes) {
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = memory_realloc_array(old, (size_t)n, item_bytes);
    if (!grown) return false;
    memcpy(array, &grown, sizeof grown);
    return true;
}

/* Doubles, so that a growing batch does not move its arrays at every step. */
static int64_t next_capacity(int64_t capacity, int64_t needed) {
    int64_t wanted = capacity ? capacity : 64;
    while (wanted < needed) wanted *= 2;
    return wanted;
}

static um_status plan_reserve(step_plan *plan, int64_t n_rows, int64_t n_scores, int64_t n_tables,
                              um_error *err) {
    bool is_held = true;
    if (n_rows > plan->rows_capacity) {
        int64_t n = next_capacity(plan->rows_capacity, n_rows);
        is_held = n <= INT32_MAX && hold(&plan->tokens, n, sizeof *plan->tokens) &&
                  hold(&plan->positions, n, sizeof *plan->positions) &&
                  hold(&plan->seq, n, sizeof *plan->seq) &&
                  hold(&plan->visible_end, n, sizeof *plan->visible_end);
        if (is_held) plan->rows_capacity = (int32_t)n;
    }
    if (is_held && n_scores > plan->scores_capacity) {
        int64_t n = next_capacity(plan->scores_capacity, n_scores);
        is_held = hold(&plan->score_requests, n, sizeof *plan->score_requests) &&
                  hold(&plan->scores, n, sizeof *plan->scores);
        if (is_held) plan->scores_capacity = (int32_t)n;
    }
    if (is_held && n_tables > plan->tables_capacity) {
        int64_t n = next_capacity(plan->tables_capacity, n_tables);
        is_held = hold(&plan->tables, n, sizeof *plan->tables);
        if (is_held) plan->tables_capacity = (int32_t)n;
    }
    if (is_held && plan->n_requests + 1 > plan->requests_capacity) {
        int64_t n = next_capacity(plan->requests_capacity, plan->n_requests + 1);
        is_held = hold(&plan->requests, n, sizeof *plan->requests);
        if (is_held) plan->requests_capacity = (int32_t)n;
    }
    if (!is_held) FAIL(UM_NO_MEMORY, err, "no memory for a step of %lld rows", (long long)n_rows);
    return UM_OK;
}

/* Committed positions are scored for policies that correct them, and not where no edit can be. */
static bool is_scored(const um_request *request, int32_t position) {
    uint8_t state = request->states[position];
    return state == UM_POSITION_MASKED ||
           (state == UM_POSITION_COMMITTED && settings_may_edit(&request->settings));
}

/* True where the next forward is the open block's last one if it changes nothing, and another block
 * comes after it: the rows of that block see the open one as it is then, and are not seen by it. An
 * end token in the open block would end the answer instead. A block that goes on being corrected is
 * not waited for: rows in vain cost as much as others where products bind. */
static bool looks_ahead(const um_request *request) {
    return request->settings.folds && request->phase == PHASE_DECODE &&
           request->n_undone < FOLDS_UNDONE_MAX && request->window_end < request->decode_end &&
           !request_has_mask(request) && apply_find_stop(request) < 0;
}

/* The positions [first, end) of the next forward. */
static void next_span(const um_engine *engine, const um_request *request, int32_t *first,
                      int32_t *end) {
    const request_settings *s = &request->settings;
    const model_traits *traits = model_traits_of(engine->mdl);
    bool recomputes = s->cache == UM_CACHE_NONE;
    if (request->phase == PHASE_PREFILL) {
        int32_t last = request->n_prefill;
        *first = request->n_final;
        *end = last - *first > request->prefill_rows ? *first + request->prefill_rows : last;
        return;
    }
    if (request->phase == PHASE_SEED) {
        *first = recomputes || !s->is_causal ? 0 : request->n_final;
        *end = s->is_causal ? request->window_first : request->n_canvas;
        return;
    }
    bool is_refresh = request->i_step == 0 || recomputes;
    if (s->is_causal) {
        int32_t last = request_block_start(request, request->window_end - 1) + s->block_len;
        bool is_part = s->cache == UM_CACHE_DUAL && !is_refresh &&
                       request->states[request->window_first] != UM_POSITION_MASKED;
        *first = recomputes ? 0 : is_part ? request->window_first : request->n_final;
        *end = is_part ? request->window_end : last;
        if (looks_ahead(request)) *end += s->block_len;
    } else {
        *first = is_refresh ? 0 : request->window_first;
        *end = is_refresh || s->cache == UM_CACHE_PREFIX ? request->n_canvas : request->window_end;
    }
    bool needs_row_before = traits->is_shifted && *first == request->window_first && *first > 0 &&
                            is_scored(request, *first);
    if (needs_row_before) (*first)--;
}

int32_t plan_span_end(const um_engine *engine, const um_request *request) {
    int32_t first, end;
    next_span(engine, request, &first, &end);
    return end;
}

int64_t plan_rows_of(const um_engine *engine, const um_request *request) {
    int32_t first, end;
    next_span(engine, request, &first, &end);
    return (int64_t)(end - first) * request->n_lanes;
}

/* The mask, as the end of what a position sees: the end of its own block, or of the canvas. */
static int32_t visible_end(const um_request *request, int32_t position) {
    if (!request->settings.is_causal) return request->n_canvas;
    if (position < request->origin) return request->origin;
    return request_block_start(request, position) + request->settings.block_len;
}

static void add_lane(um_engine *engine, um_request *request, int32_t i_lane) {
    step_plan *plan = &engine->plan;
    const lane *l = &request->lanes[i_lane];
    /* Where logits are shifted, the row before a window may be frozen: it gets the bits it has. */
    bool has_row_before = model_traits_of(engine->mdl)->is_shifted &&
                          request->span_first + 1 == request->window_first;
    assert(
        page_table_is_writable(&l->pages, request->span_first + has_row_before, request->span_end));
    (void)has_row_before;
    request->first_row[i_lane] = plan->n_rows;
    for (int32_t p = request->span_first; p < request->span_end; p++) {
        int32_t row = plan->n_rows++;
        plan->tokens[row] = l->tokens[p];
        plan->positions[row] = p;
        plan->seq[row] = plan->n_tables;
        plan->visible_end[row] = visible_end(request, p);
    }
    plan->tables[plan->n_tables++] = page_table_view(&l->pages);
}

static void add_score(um_engine *engine, um_request *request, int32_t position, int32_t step) {
    step_plan *plan = &engine->plan;
    const request_settings *s = &request->settings;
    bool is_shifted = model_traits_of(engine->mdl)->is_shifted && position > 0;
    int32_t at = position - is_shifted - request->span_first;
    assert(at >= 0 && at < request->span_end - request->span_first);
    rng_key key = s->key;
    key.position = (uint32_t)position;
    key.step = (uint32_t)step;
    float *logits = NULL;
    if (request->logits)
        logits = request->logits + (size_t)(position - request->window_first) *
                                       (size_t)model_info(engine->mdl)->vocab;
    plan->score_requests[plan->n_scores++] = (score_request){
        .row = request->first_row[0] + at,
        .guide_row = request->n_lanes > 1 ? request->first_row[1] + at : -1,
        .cfg_scale = s->cfg_scale,
        .temperature = s->temperature,
        .top_k = s->top_k,
        .top_p = s->top_p,
        .min_p = s->min_p,
        .key = key,
        .wants_spread = s->policy->flags & UM_POLICY_SEES_SPREAD,
        .is_top_p_first = model_traits_of(engine->mdl)->is_top_p_first,
        .removed = s->removed_token,
        .watched = {s->unsure_tokens[0], s->unsure_tokens[1]},
        .logits = logits,
        .allowed = constrain_allowed(request, position),
    };
    logit_rules_apply(request, position, &plan->score_requests[plan->n_scores - 1]);
}

static void add_scores(um_engine *engine, um_request *request) {
    const step_plan *plan = &engine->plan;
    int32_t first = request->window_first, end = request->window_end;
    request->first_score = plan->n_scores;
    if (request->phase != PHASE_PREFILL) logit_rules_update(request);
    if (request->phase == PHASE_SEED) add_score(engine, request, first, request->step);
    for (int32_t p = first; request->phase == PHASE_DECODE && p < end; p++)
        if (is_scored(request, p)) add_score(engine, request, p, request->step);
    request->n_scores = plan->n_scores - request->first_score;
    /* A block that is taken along is drawn as in the step after this one. */
    if (looks_ahead(request))
        for (int32_t p = end; p < end + request->settings.block_len; p++)
            add_score(engine, request, p, request->step + 1);
    request->n_ahead = plan->n_scores - request->first_score - request->n_scores;
}

um_status plan_add(um_engine *engine, um_request *request, um_error *err) {
    step_plan *plan = &engine->plan;
    int32_t n_scores = request->window_end - request->window_first;
    if (looks_ahead(request)) n_scores += request->settings.block_len;
    TRY(plan_reserve(plan, plan->n_rows + plan_rows_of(engine, request), plan->n_scores + n_scores,
                     plan->n_tables + request->n_lanes, err));
    TRY(constrain_begin(request, request->window_first, request->window_first + n_scores, err));
    next_span(engine, request, &request->span_first, &request->span_end);
    for (int32_t i = 0; i < request->n_lanes; i++) add_lane(engine, request, i);
    add_scores(engine, request);
    plan->requests[plan->n_requests++] = request;
    return UM_OK;
}

model_batch plan_batch(const um_engine *engine) {
    const step_plan *plan = &engine->plan;
    return (model_batch){
        .n_rows = plan->n_rows,
        .tokens = plan->tokens,
        .positions = plan->positions,
        .seq = plan->seq,
        .visible_end = plan->visible_end,
        .tables = plan->tables,
        .n_requests = plan->n_scores,
        .requests = plan->score_requests,
        .forbidden_token = model_info(engine->mdl)->mask_token,
        .scores = plan->scores,
    };
}

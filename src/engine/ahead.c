/* SPDX-License-Identifier: Apache-2.0
 *
 * Chains of steps (models/chain.h) for plans whose requests all denoise an open block by a policy
 * that has a twin on the device. A chain begins with any such step, goes on while its blocks keep
 * their rows, and ends where one of them is finished: the next plan has other rows then.
 */
#include "engine/ahead.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "decode/policy.h"
#include "engine/engine.h"

static_assert((int)DECIDE_FIXED == UM_POSITION_PROMPT, "kernels/decide.h");
static_assert((int)DECIDE_MASKED == UM_POSITION_MASKED, "kernels/decide.h");
static_assert((int)DECIDE_COMMITTED == UM_POSITION_COMMITTED, "kernels/decide.h");

void ahead_deinit(steps_ahead *a) {
    chain_place_deinit(&a->place);
    arena_deinit(&a->host);
    memset(a, 0, sizeof *a);
}

void ahead_forget(um_engine *engine, const um_request *request) {
    steps_ahead *a = &engine->ahead;
    for (int32_t i = 0; a->is_queued && i < a->chain.n_blocks; i++)
        if (a->requests[i] == request) a->is_queued = false;
}

/* ---- What can be decided on the device ------------------------------------------------------- */

/* The rule that a policy's decisions follow; false where it has no twin. */
static bool find_rule(const request_settings *s, decide_block *b) {
    const um_policy *policy = s->policy;
    const um_policy_params *p = &s->params;
    bool is_best = policy == &policy_threshold || (policy == &policy_schedule && !p->is_random);
    b->threshold = p->threshold;
    b->rule = DECIDE_BEST;
    b->is_inclusive = is_best && p->is_inclusive;
    if (is_best || policy == &policy_dynamic) return true;
    b->threshold = INFINITY;
    if (policy == &policy_static) return true;
    b->rule = DECIDE_RANDOM;
    if (policy == &policy_schedule) return true;
    b->threshold = p->threshold;
    b->rule = DECIDE_EDIT;
    return policy == &policy_edit;
}

/* True where scores and choice need nothing of the host, and the next step has the same rows. */
static bool can_follow(const um_engine *engine, const um_request *r) {
    const request_settings *s = &r->settings;
    const model_traits *traits = model_traits_of(engine->mdl);
    bool is_truncated = s->temperature > 0 && (s->top_k > 0 || s->top_p < 1 || s->min_p > 0 ||
                                               (s->policy->flags & UM_POLICY_SEES_SPREAD));
    bool has_same_rows = s->is_causal ? s->cache == UM_CACHE_EXACT && !traits->is_shifted
                                      : s->cache == UM_CACHE_NONE;
    return r->phase == PHASE_DECODE && r->n_lanes == 1 && r->n_scores && !r->n_ahead &&
           !traits->has_seed && has_same_rows && s->unit_len == s->block_len &&
           r->window_end - r->window_first <= DECIDE_BLOCK_MAX && !r->logits && !r->constraint &&
           !is_truncated && s->unsure_tokens[0] < 0 && s->unsure_tokens[1] < 0 &&
           logit_rules_are_fixed(r);
}

/* The block as the device decides it from this step on. */
static bool describe_block(const um_engine *engine, const um_request *r, decide_block *b) {
    const request_settings *s = &r->settings;
    memset(b, 0, sizeof *b);
    if (!can_follow(engine, r) || !find_rule(s, b)) return false;
    b->key = s->key;
    b->key.position = (uint32_t)r->window_first;
    b->key.step = (uint32_t)r->step;
    b->edit_threshold = s->params.edit_threshold;
    b->n = r->window_end - r->window_first;
    b->steps = s->params.steps;
    b->post_steps = s->params.post_steps;
    b->mask_token = model_info(engine->mdl)->mask_token;
    b->is_drawn = s->temperature > 0;
    b->is_tempered = model_traits_of(engine->mdl)->has_tempered_confidence;
    b->needs_mask = s->folds && r->n_undone < FOLDS_UNDONE_MAX && r->window_end < r->decode_end;
    b->i_step = r->i_step;
    if (b->rule == DECIDE_EDIT) policy_edit_counts(r->state, &b->n_post, &b->n_reopened);
    return true;
}

/* ---- Building a chain ------------------------------------------------------------------------ */

/* The first position of the steps that follow: what is carried along now is final then. */
static int32_t first_of_next(const um_request *r) {
    int32_t block = request_block_start(r, r->window_first);
    return r->settings.is_causal && block > r->span_first ? block : r->span_first;
}

/* Room for a chain behind the plan. */
static um_status hold_arrays(steps_ahead *a, const step_plan *plan, um_error *err) {
    size_t n_rows = (size_t)plan->n_rows, n_items = 0, n_pages = 0, total = 0;
    size_t n_blocks = (size_t)plan->n_requests;
    for (int32_t i = 0; i < plan->n_requests; i++)
        n_items += (size_t)(plan->requests[i]->window_end - plan->requests[i]->window_first);
    for (int32_t i = 0; i < plan->n_tables; i++) n_pages += (size_t)plan->tables[i].n_pages;
    struct piece {
        void **place;
        size_t n, item_bytes;
    } pieces[] = {
        {(void **)&a->tokens, n_rows, sizeof(int32_t)},
        {(void **)&a->positions, n_rows, sizeof(int32_t)},
        {(void **)&a->seq, n_rows, sizeof(int32_t)},
        {(void **)&a->visible_end, n_rows, sizeof(int32_t)},
        {(void **)&a->pages, n_pages, sizeof(int32_t)},
        {(void **)&a->tables, (size_t)plan->n_tables, sizeof(kv_table)},
        {(void **)&a->score_requests, (size_t)plan->n_scores, sizeof(score_request)},
        {(void **)&a->i_score, n_items, sizeof(int32_t)},
        {(void **)&a->rows, n_items, sizeof(int32_t)},
        {(void **)&a->states, n_items, sizeof(int32_t)},
        {(void **)&a->item_tokens, n_items, sizeof(int32_t)},
        {(void **)&a->blocks, n_blocks, sizeof(decide_block)},
        {(void **)&a->requests, n_blocks, sizeof(um_request *)},
    };
    const size_t n_pieces = sizeof pieces / sizeof *pieces;
    for (size_t i = 0; i < n_pieces; i++) total += arena_bytes(pieces[i].n, pieces[i].item_bytes);
    TRY(arena_reserve(&a->host, total, err));
    for (size_t i = 0; i < n_pieces; i++)
        *pieces[i].place = arena_alloc(&a->host, pieces[i].n, pieces[i].item_bytes);
    return UM_OK;
}

/* Adds a request's rows, items and scores. */
static void add_request(const um_engine *engine, steps_ahead *a, const um_request *r) {
    const step_plan *plan = &engine->plan;
    int32_t first = first_of_next(r), row = a->chain.next.n_rows, item = a->chain.n_items;
    int32_t is_shifted = model_traits_of(engine->mdl)->is_shifted;
    for (int32_t p = first; p < r->span_end; p++) {
        int32_t from = r->first_row[0] + p - r->span_first, to = a->chain.next.n_rows++;
        a->tokens[to] = plan->tokens[from];
        a->positions[to] = p;
        a->seq[to] = plan->seq[from];
        a->visible_end[to] = plan->visible_end[from];
    }
    for (int32_t p = r->window_first; p < r->window_end; p++) {
        int32_t to = a->chain.n_items++;
        a->i_score[to] = -1;
        a->rows[to] = row + p - first;
        a->states[to] = r->states[p];
        a->item_tokens[to] = r->lanes[0].tokens[p];
    }
    for (int32_t i = r->first_score; i < r->first_score + r->n_scores; i++) {
        score_request *q = &a->score_requests[i];
        int32_t p = (int32_t)plan->score_requests[i].key.position;
        *q = plan->score_requests[i];
        q->row = row + p - (p > 0 ? is_shifted : 0) - first;
        a->i_score[item + p - r->window_first] = i;
    }
}

/* A chain behind the plan, if all of it can follow; false where it cannot, or memory lacks. */
static bool build(um_engine *engine) {
    steps_ahead *a = &engine->ahead;
    const step_plan *plan = &engine->plan;
    decide_block ignored;
    for (int32_t i = 0; i < plan->n_requests; i++)
        if (!describe_block(engine, plan->requests[i], &ignored)) return false;
    if (!plan->n_requests || hold_arrays(a, plan, NULL) != UM_OK) return false;
    a->chain = (model_chain){0};
    for (int32_t i = 0; i < plan->n_requests; i++) {
        a->requests[i] = plan->requests[i];
        describe_block(engine, plan->requests[i], &a->blocks[i]);
        a->blocks[i].first = a->chain.n_items;
        add_request(engine, a, plan->requests[i]);
    }
    size_t at = 0;
    for (int32_t i = 0; i < plan->n_tables; i++) {
        const kv_table *table = &plan->tables[i];
        memcpy(a->pages + at, table->pages, (size_t)table->n_pages * sizeof *a->pages);
        a->tables[i] = (kv_table){.pages = a->pages + at, .n_pages = table->n_pages};
        at += (size_t)table->n_pages;
    }
    a->chain.n_blocks = plan->n_requests;
    a->chain.blocks = a->blocks;
    a->chain.i_score = a->i_score;
    a->chain.rows = a->rows;
    a->chain.states = a->states;
    a->chain.tokens = a->item_tokens;
    model_batch *next = &a->chain.next;
    next->tokens = a->tokens;
    next->positions = a->positions;
    next->seq = a->seq;
    next->visible_end = a->visible_end;
    next->tables = a->tables;
    next->requests = a->score_requests;
    next->n_requests = plan->n_scores;
    next->forbidden_token = model_info(engine->mdl)->mask_token;
    return true;
}

/* ---- What was made ahead against what is asked for ------------------------------------------- */

static bool is_same(const int32_t *a, const int32_t *b, int32_t n) {
    return memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

/* Every score that a request asks for now was made, with the draws of this step. */
static bool has_scores(const um_engine *engine, const decide_block *b, const um_request *r) {
    const steps_ahead *a = &engine->ahead;
    for (int32_t i = 0; i < r->n_scores; i++) {
        const rng_key *key = &engine->plan.score_requests[r->first_score + i].key;
        int32_t at = (int32_t)key->position - r->window_first;
        if (a->i_score[b->first + at] < 0 || key->step != b->key.step + (uint32_t)a->n_made)
            return false;
    }
    return true;
}

/* True where the step that is on its way is the planned one. */
static bool fits(const um_engine *engine) {
    const steps_ahead *a = &engine->ahead;
    const step_plan *plan = &engine->plan;
    int32_t n = plan->n_rows;
    if (!a->is_queued || n != a->chain.next.n_rows || plan->n_requests != a->chain.n_blocks)
        return false;
    for (int32_t i = 0; i < plan->n_requests; i++) {
        const um_request *r = plan->requests[i];
        const decide_block *b = &a->blocks[i];
        if (r != a->requests[i] || r->phase != PHASE_DECODE || r->n_ahead ||
            (uint32_t)r->window_first != b->key.position ||
            r->window_end - r->window_first != b->n || !has_scores(engine, b, r))
            return false;
    }
    for (int32_t i = 0; i < plan->n_tables; i++)
        if (plan->tables[i].n_pages != a->tables[i].n_pages ||
            !is_same(plan->tables[i].pages, a->tables[i].pages, a->tables[i].n_pages))
            return false;
    return is_same(plan->tokens, a->tokens, n) && is_same(plan->positions, a->positions, n) &&
           is_same(plan->seq, a->seq, n) && is_same(plan->visible_end, a->visible_end, n);
}

/* ---- Steps ----------------------------------------------------------------------------------- */

static um_status queue_next(um_engine *engine, int32_t i_step) {
    steps_ahead *a = &engine->ahead;
    um_status status = chain_next(model_transformer(engine->mdl), engine->dev, engine->kv,
                                  &a->chain, &engine->plan.scratch, &a->place, i_step);
    a->is_queued = status == UM_OK;
    if (status != UM_UNSUPPORTED) return status;
    a->is_on = false; /* this driver has no gates: steps are made one by one */
    return UM_OK;
}

/* Waits for the scores of the planned step and puts them where the plan has them. */
static um_status take(um_engine *engine) {
    steps_ahead *a = &engine->ahead;
    step_plan *plan = &engine->plan;
    chain_report report;
    TRY(chain_take(engine->dev, &a->place, a->n_made, &report));
    for (int32_t i = 0; i < plan->n_requests; i++) {
        const um_request *r = plan->requests[i];
        const int32_t *i_score = a->i_score + a->blocks[i].first;
        for (int32_t k = r->first_score; k < r->first_score + r->n_scores; k++) {
            int32_t at = (int32_t)plan->score_requests[k].key.position - r->window_first;
            plan->scores[k] = report.scores[i_score[at]];
        }
    }
    for (int32_t i = 0; i < a->chain.n_items; i++) a->tokens[a->rows[i]] = report.tokens[i];
    if (a->n_made) {
        engine->stats.forwards_ahead++;
        engine->stats.gaps_ns += report.gate->begin_ns - a->end_ns;
    }
    a->end_ns = report.gate->end_ns;
    a->n_made++;
    a->is_queued &= report.gate->is_open != 0;
    return UM_OK;
}

static um_status go_on(um_engine *engine) {
    TRY(queue_next(engine, engine->ahead.n_made + 1));
    return take(engine);
}

static um_status begin(um_engine *engine, const model_batch *batch) {
    steps_ahead *a = &engine->ahead;
    TRY(chain_begin(model_transformer(engine->mdl), engine->dev, engine->kv, batch, &a->chain,
                    &engine->plan.scratch, &a->place));
    a->n_made = 0;
    TRY(queue_next(engine, 1));
    return take(engine);
}

um_status ahead_run(um_engine *engine, const model_batch *batch, bool *is_made, um_error *err) {
    steps_ahead *a = &engine->ahead;
    um_status status;
    *is_made = a->is_on && fits(engine);
    if (*is_made) {
        status = go_on(engine);
    } else {
        a->is_queued = false;
        /* Where memory lacks for a chain the step is made alone, as it would be without one. */
        *is_made = a->is_on && build(engine) &&
                   chain_reserve(model_transformer(engine->mdl), engine->dev, batch, &a->chain,
                                 &engine->plan.scratch, &a->place, NULL) == UM_OK;
        if (!*is_made) return UM_OK;
        status = begin(engine, batch);
    }
    if (status == UM_OK) return UM_OK;
    a->is_queued = false;
    FAIL(status, err, "%s: a forward of %d rows failed: %s", engine->dev->name, batch->n_rows,
         status == UM_NO_MEMORY ? "no memory for the scores" : device_fault(engine->dev));
}

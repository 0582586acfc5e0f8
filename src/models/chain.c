/* SPDX-License-Identifier: Apache-2.0
 *
 * Buffers that a step fills and empties are those of the ordinary scratch: work is queued in order,
 * so the steps of a chain and other forwards can share them.
 */
#include "models/chain.h"

#include <assert.h>
#include <string.h>

#include "models/forward.h"

/* What the device holds of a chain: host and device have the same layout. */
typedef struct layout {
    decide_block *blocks;
    int32_t *i_score, *rows, *states;
    device_gate *gate;
    int32_t *tokens;
    score *scores;
    size_t report_at, scores_at, n_bytes;
} layout;

static size_t take(size_t *at, size_t n, size_t item_bytes) {
    size_t place = *at;
    *at += arena_bytes(n, item_bytes);
    return place;
}

/* base NULL: sizes alone. Counts are of one step, and small. */
static void lay_out(const model_chain *chain, unsigned char *base, layout *l) {
    size_t n = (size_t)chain->n_items, at = 0;
    size_t blocks = take(&at, (size_t)chain->n_blocks, sizeof *l->blocks);
    size_t i_score = take(&at, n, sizeof *l->i_score), rows = take(&at, n, sizeof *l->rows);
    size_t states = take(&at, n, sizeof *l->states);
    l->report_at = take(&at, 1, sizeof *l->gate);
    size_t tokens = take(&at, n, sizeof *l->tokens);
    l->scores_at = take(&at, (size_t)chain->next.n_requests, sizeof *l->scores);
    l->n_bytes = at;
    if (!base) return;
    l->blocks = (decide_block *)(void *)(base + blocks);
    l->i_score = (int32_t *)(void *)(base + i_score);
    l->rows = (int32_t *)(void *)(base + rows);
    l->states = (int32_t *)(void *)(base + states);
    l->gate = (device_gate *)(void *)(base + l->report_at);
    l->tokens = (int32_t *)(void *)(base + tokens);
    l->scores = (score *)(void *)(base + l->scores_at);
}

void chain_place_deinit(chain_place *place) {
    for (int i = 0; i < DEVICE_MARKS; i++)
        if (place->scratch.dev) device_free_host(place->scratch.dev, place->reports[i]);
    device_scratch_deinit(&place->scratch);
    memset(place, 0, sizeof *place);
}

static um_status reserve_reports(device *dev, chain_place *place, size_t n_bytes, um_error *err) {
    if (n_bytes <= place->reports_capacity) return UM_OK;
    place->reports_capacity = 0;
    for (int i = 0; i < DEVICE_MARKS; i++) {
        device_free_host(dev, place->reports[i]);
        place->reports[i] = NULL;
        TRY(device_alloc_host(dev, n_bytes, &place->reports[i], err));
    }
    place->reports_capacity = n_bytes;
    return UM_OK;
}

um_status chain_reserve(const transformer *t, device *dev, const model_batch *first,
                        const model_chain *chain, device_scratch *scratch, chain_place *place,
                        um_error *err) {
    step_buffers none;
    layout l;
    TRY(transformer_reserve(t, dev, first, scratch, err));
    memset(&none, 0, sizeof none);
    lay_out(chain, NULL, &l);
    head_args head = forward_head(t, first, &none, first->requests, first->n_rows);
    size_t inputs = step_inputs_place_bytes(&chain->next);
    size_t host = step_inputs_host_bytes(&chain->next), at_head;
    if (inputs == SIZE_MAX || host == SIZE_MAX)
        FAIL(UM_LIMIT, err, "steps of %d rows are too large", chain->next.n_rows);
    at_head = arena_bytes(dev->ops->head_place_bytes(dev, &head), 1);
    TRY(device_scratch_reserve(&place->scratch, dev, l.n_bytes + at_head + inputs, l.n_bytes + host,
                               err));
    return reserve_reports(dev, place, l.n_bytes - l.report_at, err);
}

/* Brings over what stays from step to step. */
static um_status bring(device *dev, const model_chain *chain, const head_args *head,
                       chain_place *place) {
    layout host, there;
    lay_out(chain, NULL, &there);
    unsigned char *from = arena_alloc(&place->scratch.host, there.n_bytes, 1);
    unsigned char *to = arena_alloc(&place->scratch.place, there.n_bytes, 1);
    size_t head_bytes = dev->ops->head_place_bytes(dev, head);
    place->head = arena_alloc(&place->scratch.place, head_bytes, 1);
    if (!from || !to || !place->head) return UM_INTERNAL;
    lay_out(chain, from, &host);
    lay_out(chain, to, &there);
    size_t n_bytes = (size_t)chain->n_items * sizeof(int32_t);
    memset(from, 0, host.scores_at);
    memcpy(host.blocks, chain->blocks, (size_t)chain->n_blocks * sizeof *host.blocks);
    memcpy(host.i_score, chain->i_score, n_bytes);
    memcpy(host.rows, chain->rows, n_bytes);
    memcpy(host.states, chain->states, n_bytes);
    memcpy(host.tokens, chain->tokens, n_bytes);
    host.gate->is_open = 1;
    TRY(device_write(dev, to, from, host.scores_at));
    TRY(dev->ops->head_place(dev, head, place->head));
    TRY(step_inputs_bring(dev, &chain->next, &place->scratch, &place->inputs));
    memset(&place->decide, 0, sizeof place->decide); /* padding, too: it becomes part of a key */
    place->decide.blocks = there.blocks;
    place->decide.scores = there.scores;
    place->decide.i_score = there.i_score;
    place->decide.rows = there.rows;
    place->decide.states = there.states;
    place->decide.tokens = there.tokens;
    place->decide.row_tokens = place->inputs.tokens;
    place->decide.gate = there.gate;
    place->decide.n_blocks = chain->n_blocks;
    place->decide.report = to + there.report_at;
    place->decide.report_bytes = there.n_bytes - there.report_at;
    memcpy(place->decide.reports, place->reports, sizeof place->reports);
    return UM_OK;
}

/* Scores and decides what the layers have left. */
static um_status finish_step(device *dev, head_args head, const step_buffers *b,
                             const chain_place *place) {
    head.steps_made = &place->decide.gate->n_steps;
    TRY(dev->ops->head_placed(dev, &head, place->head, (void *)(uintptr_t)place->decide.scores,
                              b->op_scratch));
    return dev->ops->decide(dev, &place->decide);
}

um_status chain_begin(const transformer *t, device *dev, const kv_layer *kv,
                      const model_batch *first, const model_chain *chain, device_scratch *scratch,
                      chain_place *place) {
    step_buffers b;
    step_inputs in;
    memset(&b, 0, sizeof b);
    arena_reset(&scratch->place);
    arena_reset(&scratch->host);
    arena_reset(&place->scratch.place);
    arena_reset(&place->scratch.host);
    if (forward_lay_out(t, dev, first, &scratch->place, &b) > scratch->place.capacity)
        return UM_INTERNAL;
    TRY(step_inputs_bring(dev, first, scratch, &in));
    assert(in.n_scored == first->n_requests && chain->next.n_requests == first->n_requests);
    head_args head = forward_head(t, first, &b, in.requests, in.n_scored);
    TRY(bring(dev, chain, &head, place));
    assert(place->inputs.n_scored == in.n_scored);
    TRY(forward_replay(t, dev, kv, first, &in, &b));
    TRY(finish_step(dev, head, &b, place));
    return device_mark(dev, 0);
}

/* All that a step is queued with: sizes and addresses. */
typedef struct chain_key {
    const transformer *t;
    const kv_layer *kv;
    step_buffers buffers;
    step_inputs inputs;
    decide_args decide;
    const void *head;
    int32_t n_rows, n_requests;
} chain_key;
static_assert(sizeof(chain_key) <= DEVICE_KEY_BYTES, "device.h: DEVICE_KEY_BYTES");

static um_status run_next(const transformer *t, device *dev, const kv_layer *kv,
                          const model_chain *chain, const step_buffers *b, chain_place *place) {
    const step_inputs *in = &place->inputs;
    TRY(forward_layers(t, dev, kv, &chain->next, in, b));
    return finish_step(dev, forward_head(t, &chain->next, b, in->requests, in->n_scored), b, place);
}

um_status chain_next(const transformer *t, device *dev, const kv_layer *kv,
                     const model_chain *chain, device_scratch *scratch, chain_place *place,
                     int i_step) {
    step_buffers b;
    chain_key key;
    bool is_replayed;
    memset(&b, 0, sizeof b);
    memset(&key, 0, sizeof key);
    arena_reset(&scratch->place);
    if (forward_lay_out(t, dev, &chain->next, &scratch->place, &b) > scratch->place.capacity)
        return UM_INTERNAL;
    key.t = t;
    key.kv = kv;
    memcpy(&key.buffers, &b, sizeof b);
    memcpy(&key.inputs, &place->inputs, sizeof key.inputs);
    memcpy(&key.decide, &place->decide, sizeof key.decide);
    key.inputs.requests = NULL;
    key.head = place->head;
    key.n_rows = chain->next.n_rows;
    key.n_requests = chain->next.n_requests;
    TRY(device_replay_gated(dev, &key, sizeof key, place->decide.gate, &is_replayed));
    if (!is_replayed) TRY(device_replay_end(dev, run_next(t, dev, kv, chain, &b, place)));
    return device_mark(dev, i_step % DEVICE_MARKS);
}

um_status chain_take(device *dev, const chain_place *place, int i_step, chain_report *report) {
    TRY(device_wait_mark(dev, i_step % DEVICE_MARKS));
    const unsigned char *from = place->reports[i_step % DEVICE_MARKS], *there;
    there = place->decide.report;
    report->gate = (const device_gate *)(const void *)from;
    report->tokens =
        (const int32_t *)(const void *)(from + ((unsigned char *)place->decide.tokens - there));
    report->scores =
        (const score *)(const void *)(from + ((const unsigned char *)place->decide.scores - there));
    return UM_OK;
}

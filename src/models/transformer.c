/* SPDX-License-Identifier: Apache-2.0
 *
 * The forward pass, from embedding to scores, as plain calls in order. Everything a step needs
 * comes from one arena whose size is known before the step.
 */
#include "models/transformer.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "models/forward.h"

um_status transformer_build_rope(transformer *t, int32_t n_positions, um_error *err) {
    const transformer_shape *s = &t->shape;
    size_t half = (size_t)s->rotary_dim / 2;
    t->cosines = memory_alloc_array((size_t)n_positions, half * sizeof(float));
    t->sines = memory_alloc_array((size_t)n_positions, half * sizeof(float));
    if (!t->cosines || !t->sines)
        FAIL(UM_NO_MEMORY, err, "no memory for rotary tables of %d positions", n_positions);
    /* The families compute frequencies and angles in float32; so do we, because at position 1000
     * the rounding of the angle itself is larger than all other errors. */
    for (size_t i = 0; i < half; i++) {
        float exponent = (float)(2 * i) / (float)s->rotary_dim;
        float frequency = 1.0f / powf((float)s->rope_theta, exponent);
        for (int32_t p = 0; p < n_positions; p++) {
            float angle = (float)p * frequency;
            t->cosines[(size_t)p * half + i] = cosf(angle);
            t->sines[(size_t)p * half + i] = sinf(angle);
        }
    }
    t->n_positions = n_positions;
    return UM_OK;
}

void transformer_deinit(transformer *t) {
    for (int32_t i = 0; t->layers && i < t->shape.n_layers; i++) {
        layer_weights *layer = &t->layers[i];
        memory_free(layer->attn_norm);
        memory_free(layer->mlp_norm);
        memory_free(layer->q_norm);
        memory_free(layer->k_norm);
        memory_free(layer->wq.bias);
        memory_free(layer->wk.bias);
        memory_free(layer->wv.bias);
        memory_free(layer->wo.bias);
        memory_free(layer->moe.router_bias);
        memory_free(layer->moe.experts);
    }
    memory_free(t->layers);
    memory_free(t->final_norm);
    memory_free(t->cosines);
    memory_free(t->sines);
    memset(t, 0, sizeof *t);
}

/* The widest inner dimension that a plain MLP has here: dense layers and shared experts. */
static int32_t widest_inner(const transformer_shape *s) {
    return s->inner > s->shared_inner ? s->inner : s->shared_inner;
}

head_args forward_head(const transformer *t, const model_batch *batch, const step_buffers *b,
                       const score_request *requests, int32_t n_scored) {
    return (head_args){
        .x = b->normed,
        .w = t->head,
        .logit_scale = t->shape.logit_scale,
        .n_rows = n_scored,
        .n_requests = batch->n_requests,
        .requests = requests,
        .forbidden_token = batch->forbidden_token,
        .scores = batch->scores,
    };
}

static size_t max_bytes(size_t a, size_t b) {
    return a > b ? a : b;
}

/* The largest scratch that any operation of this forward asks for. */
static size_t op_scratch_bytes(const transformer *t, device *dev, const model_batch *batch) {
    const transformer_shape *s = &t->shape;
    const kernel_ops *ops = dev->ops;
    step_buffers none;
    step_inputs host_inputs = {.positions = batch->positions,
                               .seq = batch->seq,
                               .visible_end = batch->visible_end,
                               .tables = batch->tables,
                               .n_keys_max = step_inputs_keys_max(batch)};
    memset(&none, 0, sizeof none);
    attention_args attention =
        layer_attention(s, &host_inputs, batch->n_rows, &none, (kv_layer){.keys = NULL});
    size_t n_bytes = ops->attention_scratch(dev, &attention);
    for (int32_t i = 0; i < s->n_layers; i++) {
        if (!t->layers[i].is_moe) continue;
        route_args route = layer_route(s, &t->layers[i].moe, &host_inputs, batch->n_rows, &none);
        experts_args experts = layer_experts(s, &t->layers[i].moe, batch->n_rows, &none);
        n_bytes = max_bytes(n_bytes, ops->route_scratch(dev, &route));
        n_bytes = max_bytes(n_bytes, ops->experts_scratch(dev, &experts));
        break; /* all expert layers have the same shape */
    }
    if (batch->n_requests) {
        head_args head = forward_head(t, batch, &none, batch->requests, batch->n_rows);
        n_bytes = max_bytes(n_bytes, ops->head_scratch(dev, &head));
    }
    return n_bytes;
}

/* The largest source of a product that may be packed. */
static size_t packed_bytes_of(const transformer *t, device *dev, int32_t n_rows) {
    const transformer_shape *s = &t->shape;
    int32_t widths[3] = {s->hidden, s->n_heads * s->head_dim, widest_inner(s)};
    size_t n_bytes = 0;
    for (int i = 0; i < 3; i++)
        n_bytes = max_bytes(n_bytes, dev->ops->pack_scratch(dev, n_rows, widths[i]));
    return n_bytes;
}

/* What a gated product leaves for the next one. */
static size_t packed_inner_bytes(const transformer *t, device *dev, int32_t n_rows) {
    if (!dev->ops->linear_gated) return 0;
    return dev->ops->pack_scratch(dev, n_rows, widest_inner(&t->shape));
}

size_t forward_lay_out(const transformer *t, device *dev, const model_batch *batch, arena *a,
                       step_buffers *b) {
    const transformer_shape *s = &t->shape;
    size_t n_rows = (size_t)batch->n_rows, total = 0;
    size_t q_width = (size_t)s->n_heads * (size_t)s->head_dim;
    size_t kv_width = (size_t)s->n_kv_heads * (size_t)s->head_dim;
    size_t hidden = (size_t)s->hidden, inner = (size_t)widest_inner(s);
    size_t n_active = (size_t)s->n_active;
    struct piece {
        void **place;
        size_t n, item_bytes;
    } pieces[] = {
        {(void **)&b->x, n_rows, hidden * sizeof(float)},
        {(void **)&b->normed, n_rows, hidden * sizeof(float)},
        {(void **)&b->q, n_rows, q_width * sizeof(float)},
        {(void **)&b->k, n_rows, kv_width * sizeof(float)},
        {(void **)&b->v, n_rows, kv_width * sizeof(float)},
        {(void **)&b->attended, n_rows, q_width * sizeof(float)},
        {(void **)&b->gate, n_rows, inner * sizeof(float)},
        {(void **)&b->up, n_rows, inner * sizeof(float)},
        {(void **)&b->out, n_rows, hidden * sizeof(float)},
        {(void **)&b->weights, n_rows, n_active * sizeof(float)},
        {(void **)&b->ids, n_rows, n_active * sizeof(int32_t)},
        {&b->op_scratch, op_scratch_bytes(t, dev, batch), 1},
        {&b->packed, t->has_packed ? packed_bytes_of(t, dev, batch->n_rows) : 0, 1},
        {&b->packed_inner, t->has_packed ? packed_inner_bytes(t, dev, batch->n_rows) : 0, 1},
    };
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        size_t n_bytes = arena_bytes(pieces[i].n, pieces[i].item_bytes);
        if (__builtin_add_overflow(total, n_bytes, &total)) return SIZE_MAX;
        if (a) *pieces[i].place = arena_alloc(a, pieces[i].n, pieces[i].item_bytes);
    }
    return total;
}

/* The experts that rows have chosen, where they are counted. */
static size_t host_ids_bytes(const transformer *t, const model_batch *batch) {
    if (!batch->experts_touched) return 0;
    return arena_bytes((size_t)batch->n_rows * (size_t)t->shape.n_active, sizeof(int32_t));
}

um_status transformer_reserve(const transformer *t, device *dev, const model_batch *batch,
                              device_scratch *scratch, um_error *err) {
    step_buffers ignored;
    size_t place = forward_lay_out(t, dev, batch, NULL, &ignored),
           host = step_inputs_host_bytes(batch);
    size_t inputs = step_inputs_place_bytes(batch);
    if (inputs == SIZE_MAX || host == SIZE_MAX || __builtin_add_overflow(place, inputs, &place) ||
        __builtin_add_overflow(host, host_ids_bytes(t, batch), &host) || place == SIZE_MAX)
        FAIL(UM_LIMIT, err, "a forward of %d rows is too large", batch->n_rows);
    return device_scratch_reserve(scratch, dev, place, host, err);
}

um_status forward_layers(const transformer *t, device *dev, const kv_layer *kv,
                         const model_batch *batch, const step_inputs *in, const step_buffers *b) {
    const transformer_shape *s = &t->shape;
    const kernel_ops *ops = dev->ops;
    TRY(ops->embed(dev, b->x, &t->embedding, in->tokens, batch->n_rows));
    for (int32_t i = 0; i < s->n_layers; i++) {
        TRY(layer_run(t, &t->layers[i], dev, kv[i], batch, in, b));
    }
    TRY(ops->gather(dev, b->out, b->x, in->scored, in->n_scored, s->hidden));
    return ops->rms_norm(dev, b->normed, b->out, t->final_norm, in->n_scored, s->hidden,
                         s->rms_eps);
}

/* All that forward_layers calls operations with: sizes and addresses. */
typedef struct step_key {
    const transformer *t;
    const kv_layer *kv;
    step_buffers buffers;
    step_inputs inputs;
    int32_t n_rows;
} step_key;

um_status forward_replay(const transformer *t, device *dev, const kv_layer *kv,
                         const model_batch *batch, const step_inputs *in, const step_buffers *b) {
    step_key key;
    bool is_replayed;
    memset(&key, 0, sizeof key); /* padding, too: keys are compared byte by byte */
    key.t = t;
    key.kv = kv;
    memcpy(&key.buffers, b, sizeof *b);
    memcpy(&key.inputs, in, sizeof *in);
    key.inputs.requests = NULL;
    key.n_rows = batch->n_rows;
    TRY(device_replay(dev, &key, sizeof key, &is_replayed));
    if (is_replayed) return UM_OK;
    return device_replay_end(dev, forward_layers(t, dev, kv, batch, in, b));
}

um_status transformer_forward(const transformer *t, device *dev, const kv_layer *kv,
                              const model_batch *batch, device_scratch *scratch, um_error *err) {
    step_buffers b;
    step_inputs in;
    memset(&b, 0, sizeof b);
    memset(&in, 0, sizeof in);
    arena_reset(&scratch->place);
    arena_reset(&scratch->host);
    if (forward_lay_out(t, dev, batch, &scratch->place, &b) > scratch->place.capacity)
        FAIL(UM_INTERNAL, err, "a step needs more scratch than was planned");
    TRY(step_inputs_bring(dev, batch, scratch, &in));
    if (batch->experts_touched) { /* they are read between operations */
        b.host_ids = arena_alloc(&scratch->host, host_ids_bytes(t, batch), 1);
        TRY(forward_layers(t, dev, kv, batch, &in, &b));
    } else {
        TRY(forward_replay(t, dev, kv, batch, &in, &b));
    }
    if (!batch->n_requests) return UM_OK;
    head_args head = forward_head(t, batch, &b, in.requests, in.n_scored);
    return dev->ops->head(dev, &head, b.op_scratch);
}

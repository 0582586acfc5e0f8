/* SPDX-License-Identifier: Apache-2.0
 *
 * Packed twins of a transformer's weights. One buffer a layer, so that a layer's weights lie
 * together; a task fills some panels.
 */
#include "base/memory.h"
#include "kernels/packed.h"
#include "models/transformer.h"

enum { PANELS_A_TASK = 8 };

/* The weights of a layer that may be packed; experts are asked for one by one. */
static matrix *weight_at(layer_weights *layer, int32_t i, int32_t n_experts) {
    matrix *dense[] = {
        &layer->wq.w,          &layer->wk.w,           &layer->wv.w,     &layer->wo.w,
        &layer->mlp.gate,      &layer->mlp.up,         &layer->mlp.down, &layer->moe.shared.gate,
        &layer->moe.shared.up, &layer->moe.shared.down};
    const int32_t n_dense = (int32_t)(sizeof dense / sizeof *dense);
    if (i < n_dense) return dense[i];
    i -= n_dense;
    if (!layer->is_moe || i >= 3 * n_experts) return NULL;
    mlp_weights *expert = &layer->moe.experts[i / 3];
    return i % 3 == 0 ? &expert->gate : i % 3 == 1 ? &expert->up : &expert->down;
}

static bool can_pack(const matrix *w) {
    return w->data && packed_is_possible(w->type, w->n_in);
}

static bool can_round(const matrix *w) {
    return w->data && w->type == DTYPE_BF16 && w->n_in % PACKED_GROUP == 0 &&
           w->n_out % PANEL_OUTS == 0;
}

/* Experts share one code path: what is done is done to all of a layer's, or to none. */
static bool can_experts(bool (*can)(const matrix *), const layer_weights *layer,
                        int32_t n_experts) {
    if (!layer->is_moe) return false;
    for (int32_t i = 0; i < n_experts; i++) {
        const mlp_weights *w = &layer->moe.experts[i];
        if (!can(&w->gate) || !can(&w->up) || !can(&w->down)) return false;
    }
    return true;
}

static bool is_expert(const layer_weights *layer, const matrix *w, int32_t n_experts) {
    return layer->is_moe && layer->moe.experts && w >= &layer->moe.experts[0].gate &&
           w <= &layer->moe.experts[n_experts - 1].down;
}

static bool round_weights(transformer *t) {
    int32_t n_experts = t->shape.n_experts;
    bool any = can_round(&t->head);
    t->head.is_rounded = any;
    for (int32_t l = 0; l < t->shape.n_layers; l++) {
        layer_weights *layer = &t->layers[l];
        bool rounds_experts = can_experts(can_round, layer, n_experts);
        matrix *w;
        for (int32_t i = 0; (w = weight_at(layer, i, n_experts)); i++) {
            w->is_rounded = is_expert(layer, w, n_experts) ? rounds_experts : can_round(w);
            any |= w->is_rounded;
        }
    }
    return any;
}

typedef struct fill_task {
    matrix *w;
    unsigned char *to;
} fill_task;

static void fill_part(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const fill_task *t = context;
    const matrix *w = t->w;
    size_t panel_bytes = packed_panel_bytes(w->type, w->n_in);
    int32_t end = (i_task + 1) * PANELS_A_TASK, n = packed_panels(w->n_out);
    for (int32_t p = i_task * PANELS_A_TASK; p < end && p < n; p++)
        packed_fill_panel(w->type, w->data, w->n_out, w->n_in, p, t->to + (size_t)p * panel_bytes);
}

static void fill(device *dev, matrix *w, unsigned char *to) {
    fill_task task = {w, to};
    int n_tasks = (packed_panels(w->n_out) + PANELS_A_TASK - 1) / PANELS_A_TASK;
    thread_pool_run(dev->pool, fill_part, &task, n_tasks);
    w->packed = to;
}

/* Packs a layer's weights one after another into `to`; NULL: only adds up their bytes. */
static size_t pack_layer(transformer *t, device *dev, int32_t i_layer, unsigned char *to) {
    layer_weights *layer = &t->layers[i_layer];
    int32_t n_experts = t->shape.n_experts;
    bool packs_experts = can_experts(can_pack, layer, n_experts);
    size_t at = 0;
    matrix *w;
    for (int32_t i = 0; (w = weight_at(layer, i, n_experts)); i++) {
        if (is_expert(layer, w, n_experts) ? !packs_experts : !can_pack(w)) continue;
        if (to) fill(dev, w, to + at);
        at += packed_bytes(w->type, w->n_out, w->n_in);
    }
    return at;
}

static size_t head_bytes(const transformer *t) {
    const matrix *w = &t->head;
    return can_pack(w) ? packed_bytes(w->type, w->n_out, w->n_in) : 0;
}

um_status transformer_pack(transformer *t, device *dev, um_progress_fn progress, void *user,
                           um_error *err) {
    int32_t n_layers = t->shape.n_layers;
    t->packed = memory_calloc((size_t)n_layers + 1, sizeof *t->packed);
    if (!t->packed) FAIL(UM_NO_MEMORY, err, "no memory for the packed weights' table");
    size_t total = dev->has_int8 ? head_bytes(t) : 0, done = 0;
    for (int32_t i = 0; dev->has_int8 && i < n_layers; i++) total += pack_layer(t, dev, i, NULL);
    t->has_packed = (dev->has_bf16 && round_weights(t)) || total > 0;
    if (!dev->has_int8) return UM_OK;
    for (int32_t i = 0; i <= n_layers; i++) {
        size_t n_bytes = i < n_layers ? pack_layer(t, dev, i, NULL) : head_bytes(t);
        if (n_bytes == 0) continue;
        TRY(device_alloc(dev, n_bytes, &t->packed[i], err));
        if (i < n_layers)
            pack_layer(t, dev, i, t->packed[i]);
        else
            fill(dev, &t->head, t->packed[i]);
        done += n_bytes;
        if (progress) progress(user, "packing", (int64_t)done, (int64_t)total);
    }
    return UM_OK;
}

void transformer_unpack(transformer *t, device *dev) {
    for (int32_t i = 0; t->packed && i <= t->shape.n_layers; i++) device_free(dev, t->packed[i]);
    memory_free(t->packed);
    t->packed = NULL;
    t->has_packed = false;
}

static int32_t widest(const matrix *w, int32_t so_far) {
    bool is_decoded = w->data && dtype_is_block(w->type) && !w->packed;
    return is_decoded && w->n_in > so_far ? w->n_in : so_far;
}

int32_t transformer_widest_decoded(const transformer *t) {
    int32_t n = widest(&t->head, 0);
    for (int32_t i = 0; i < t->shape.n_layers; i++) {
        const matrix *w;
        n = widest(&t->layers[i].moe.router, n);
        for (int32_t k = 0; (w = weight_at(&t->layers[i], k, t->shape.n_experts)); k++)
            n = widest(w, n);
    }
    return n;
}

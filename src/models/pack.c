/* SPDX-License-Identifier: Apache-2.0
 *
 * Packed twins of a transformer's weights. One buffer a layer, so that a layer's weights lie
 * together; a task fills some panels.
 */
#include "models/pack.h"
#include "base/memory.h"
#include "kernels/packed.h"
#include "models/pack_cache.h"
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

/* A device multiplies gate and up at once. */
static bool are_gates_alike(const layer_weights *layer) {
    return layer->moe.experts[0].gate.type == layer->moe.experts[0].up.type;
}

/* Gives a form to the weights that can have it. */
static bool set_form(transformer *t, packed_form form, bool (*can)(const matrix *)) {
    int32_t n_experts = t->shape.n_experts;
    bool any = can(&t->head);
    if (any) t->head.form = form;
    for (int32_t l = 0; l < t->shape.n_layers; l++) {
        layer_weights *layer = &t->layers[l];
        bool has_experts = can_experts(can, layer, n_experts) && are_gates_alike(layer);
        matrix *w;
        for (int32_t i = 0; (w = weight_at(layer, i, n_experts)); i++) {
            if (is_expert(layer, w, n_experts) ? !has_experts : !can(w)) continue;
            w->form = form;
            any = true;
        }
    }
    return any;
}

typedef struct fill_task {
    const matrix *w;
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

/* Dequantizing a panel for the tiles takes as long as meeting some ten rows without them: an expert
 * has two to four of a block's rows, other weights have all of them. */
static packed_form form_of(const device *dev, bool is_expert) {
    return dev->has_tiles && !is_expert ? FORM_TILE : FORM_INT8;
}

void pack_fill(device *dev, const matrix *w, unsigned char *to) {
    fill_task task = {w, to};
    int n_tasks = (packed_panels(w->n_out) + PANELS_A_TASK - 1) / PANELS_A_TASK;
    thread_pool_run(dev->pool, fill_part, &task, n_tasks);
}

static void bind(device *dev, matrix *w, packed_form form, unsigned char *to, bool is_filled) {
    if (!is_filled) pack_fill(dev, w, to);
    w->packed = to;
    w->form = form;
}

/* Binds a layer's weights one after another to `to`; NULL: only adds up their bytes. */
static size_t bind_layer(transformer *t, device *dev, int32_t i_layer, unsigned char *to,
                         bool is_filled) {
    layer_weights *layer = &t->layers[i_layer];
    int32_t n_experts = t->shape.n_experts;
    bool packs_experts = can_experts(can_pack, layer, n_experts);
    size_t at = 0;
    matrix *w;
    for (int32_t i = 0; (w = weight_at(layer, i, n_experts)); i++) {
        bool of_expert = is_expert(layer, w, n_experts);
        if (of_expert ? !packs_experts : !can_pack(w)) continue;
        if (to) bind(dev, w, form_of(dev, of_expert), to + at, is_filled);
        at += packed_bytes(w->type, w->n_out, w->n_in);
    }
    return at;
}

size_t pack_part_bytes(transformer *t, int32_t i_part) {
    if (i_part < t->shape.n_layers) return bind_layer(t, NULL, i_part, NULL, false);
    return can_pack(&t->head) ? packed_bytes(t->head.type, t->head.n_out, t->head.n_in) : 0;
}

void pack_part_bind(transformer *t, device *dev, int32_t i_part, unsigned char *memory,
                    bool is_filled) {
    if (i_part < t->shape.n_layers)
        bind_layer(t, dev, i_part, memory, is_filled);
    else
        bind(dev, &t->head, form_of(dev, false), memory, is_filled);
}

/* What both ways to packed weights begin with; *total: their bytes. */
static um_status begin(transformer *t, device *dev, size_t *total, um_error *err) {
    size_t n_parts = (size_t)t->shape.n_layers + 1;
    if (!t->packed) t->packed = memory_calloc(n_parts, sizeof *t->packed);
    if (!t->packed) FAIL(UM_NO_MEMORY, err, "no memory for the packed weights' table");
    *total = 0;
    for (size_t i = 0; dev->has_int8 && i < n_parts; i++) *total += pack_part_bytes(t, (int32_t)i);
    t->has_packed = *total > 0;
    if (dev->has_bf16 && set_form(t, FORM_BF16, can_round)) t->has_packed = true;
    /* Panels are made where weights are brought to the device: models/place.c. */
    if (dev->has_panels && set_form(t, FORM_TILE, can_pack)) t->has_packed = true;
    return UM_OK;
}

um_status transformer_pack(transformer *t, device *dev, um_progress_fn progress, void *user,
                           um_error *err) {
    size_t total, done = 0;
    TRY(begin(t, dev, &total, err));
    for (int32_t i = 0; total > 0 && i <= t->shape.n_layers; i++) {
        size_t n_bytes = pack_part_bytes(t, i);
        if (n_bytes == 0) continue;
        TRY(device_alloc(dev, n_bytes, &t->packed[i], err));
        pack_part_bind(t, dev, i, t->packed[i], false);
        done += n_bytes;
        if (progress) progress(user, "packing", (int64_t)done, (int64_t)total);
    }
    return UM_OK;
}

um_status transformer_read_packed(transformer *t, device *dev, const char *path, uint64_t key,
                                  um_progress_fn progress, void *user, bool *is_read,
                                  um_error *err) {
    size_t total;
    TRY(begin(t, dev, &total, err));
    if (total > 0) return pack_cache_read(path, key, t, dev, progress, user, is_read, err);
    if (dev->has_int8)
        um_error_set(err, UM_INVALID,
                     "pack_cache: expected weights of a block type (q8_0, q4_k ...); this model "
                     "has none that are packed");
    else
        um_error_set(err, UM_INVALID,
                     "pack_cache: expected the device cpu, found %s, which takes weights packed "
                     "one by one as they are copied",
                     dev->name);
    um_error_at(err, "pack_cache", -1);
    return UM_INVALID;
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

/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights brought into the memory of a device that has its own. Every field of the transformer that
 * operations read (matrices, norms, biases, rotary tables) then is an address of the device; what
 * it was before is kept, and put back by transformer_unplace, so that whoever owned it frees it.
 *
 * One block of memory a layer. The experts' weights stand gate by gate, up by up, down by down, at
 * an even distance: a kernel finds an expert from the first one alone.
 *
 * Weights of block types in FORM_TILE are brought as panels, made in the host's memory one weight
 * at a time; what is stored stays the host's, and the device has no copy of it.
 */
#include <string.h>

#include "base/memory.h"
#include "models/pack.h"

enum { PLACE_ALIGNMENT = 256 };

/* A field that was moved, and what stood there. */
typedef struct moved {
    void *field; /* of a pointer */
    const void *before;
} moved;

struct placement {
    void **blocks; /* [n_blocks] of the device */
    int32_t n_blocks;
    moved *list;
    size_t n_moved;
};

/* Goes over the fields of a part. With `to` NULL it only adds up their bytes. */
typedef struct mover {
    device *dev;
    struct placement *placement;
    unsigned char *to;
    unsigned char *panels; /* the host's, for one weight */
    size_t at, n_fields, panel_bytes_max;
    um_status status;
} mover;

/* Copies n_bytes from the pointer in *field to the device. */
static void move(mover *m, void *field, size_t n_bytes) {
    const void *before;
    memcpy(&before, field, sizeof before);
    if (!before || m->status != UM_OK) return;
    if (m->to) {
        void *after = m->to + m->at;
        m->status = device_write(m->dev, after, before, n_bytes);
        m->placement->list[m->placement->n_moved++] = (moved){field, before};
        memcpy(field, &after, sizeof after);
    }
    m->n_fields++;
    m->at += (n_bytes + PLACE_ALIGNMENT - 1) / PLACE_ALIGNMENT * PLACE_ALIGNMENT;
}

static void move_panels(mover *m, matrix *w) {
    size_t n_bytes = packed_bytes(w->type, w->n_out, w->n_in);
    if (n_bytes > m->panel_bytes_max) m->panel_bytes_max = n_bytes;
    if (m->to && m->status == UM_OK) {
        m->placement->list[m->placement->n_moved++] = (moved){(void *)&w->packed, NULL};
        pack_fill(m->dev, w, m->panels);
        m->status = device_write(m->dev, m->to + m->at, m->panels, n_bytes);
        w->packed = m->to + m->at;
    }
    m->n_fields++;
    m->at += (n_bytes + PLACE_ALIGNMENT - 1) / PLACE_ALIGNMENT * PLACE_ALIGNMENT;
}

static void move_matrix(mover *m, matrix *w) {
    if (w->form == FORM_TILE) {
        move_panels(m, w);
        return;
    }
    move(m, (void *)&w->data, dtype_size(w->type, (size_t)w->n_out * (size_t)w->n_in));
}

static void move_floats(mover *m, float **numbers, int32_t n) {
    move(m, (void *)numbers, (size_t)n * sizeof **numbers);
}

static void move_linear(mover *m, linear_weights *w) {
    move_matrix(m, &w->w);
    move_floats(m, &w->bias, w->w.n_out);
}

static void move_mlp(mover *m, mlp_weights *w) {
    move_matrix(m, &w->gate);
    move_matrix(m, &w->up);
    move_matrix(m, &w->down);
}

static void move_layer(mover *m, const transformer_shape *s, layer_weights *layer) {
    move_floats(m, &layer->attn_norm, s->hidden);
    move_floats(m, &layer->mlp_norm, s->hidden);
    move_floats(m, &layer->q_norm, s->head_dim);
    move_floats(m, &layer->k_norm, s->head_dim);
    move_linear(m, &layer->wq);
    move_linear(m, &layer->wk);
    move_linear(m, &layer->wv);
    move_linear(m, &layer->wo);
    if (!layer->is_moe) {
        move_mlp(m, &layer->mlp);
        return;
    }
    moe_weights *moe = &layer->moe;
    move_matrix(m, &moe->router);
    move_floats(m, &moe->router_bias, s->n_experts);
    for (int32_t e = 0; e < s->n_experts; e++) move_matrix(m, &moe->experts[e].gate);
    for (int32_t e = 0; e < s->n_experts; e++) move_matrix(m, &moe->experts[e].up);
    for (int32_t e = 0; e < s->n_experts; e++) move_matrix(m, &moe->experts[e].down);
    if (moe->shared.gate.data) move_mlp(m, &moe->shared);
}

/* What no layer has. An embedding that is the head as well is moved once. */
static void move_ends(mover *m, transformer *t) {
    size_t n_angles = (size_t)t->n_positions * (size_t)(t->shape.rotary_dim / 2);
    bool is_tied = t->embedding.data == t->head.data && t->embedding.n_out == t->head.n_out &&
                   t->head.form != FORM_TILE;
    move_matrix(m, &t->embedding);
    if (!is_tied) {
        move_matrix(m, &t->head);
    } else {
        m->n_fields++;
        if (m->to) {
            m->placement->list[m->placement->n_moved++] =
                (moved){(void *)&t->head.data, t->head.data};
            t->head.data = t->embedding.data;
        }
    }
    move_floats(m, &t->final_norm, t->shape.hidden);
    move(m, (void *)&t->cosines, n_angles * sizeof *t->cosines);
    move(m, (void *)&t->sines, n_angles * sizeof *t->sines);
}

static void move_part(mover *m, transformer *t, int32_t i) {
    if (i < t->shape.n_layers)
        move_layer(m, &t->shape, &t->layers[i]);
    else
        move_ends(m, t);
}

static um_status place_part(mover *part, transformer *t, int32_t i, um_error *err) {
    struct placement *p = part->placement;
    mover size = {.dev = part->dev, .placement = p};
    move_part(&size, t, i);
    TRY(device_alloc(part->dev, size.at, &p->blocks[i], err));
    part->to = p->blocks[i];
    move_part(part, t, i);
    if (part->status != UM_OK)
        FAIL(part->status, err, "%s: copying %zu bytes of weights failed", part->dev->name,
             size.at);
    return UM_OK;
}

um_status transformer_place(transformer *t, device *dev, um_progress_fn progress, void *user,
                            um_error *err) {
    if (dev->is_host) return UM_OK;
    struct placement *p = memory_calloc(1, sizeof *p);
    if (!p) FAIL(UM_NO_MEMORY, err, "no memory for the table of weights");
    t->placement = p;
    mover all = {.dev = dev, .placement = p};
    p->n_blocks = t->shape.n_layers + 1;
    for (int32_t i = 0; i < p->n_blocks; i++) move_part(&all, t, i);
    p->blocks = memory_calloc((size_t)p->n_blocks, sizeof *p->blocks);
    p->list = memory_alloc_array(all.n_fields, sizeof *p->list);
    if (!p->blocks || !p->list) FAIL(UM_NO_MEMORY, err, "no memory for the table of weights");
    void *panels = NULL;
    if (all.panel_bytes_max) TRY(host_block_alloc(all.panel_bytes_max, &panels, err));
    um_status status = UM_OK;
    size_t done = 0;
    for (int32_t i = 0; i < p->n_blocks && status == UM_OK; i++) {
        mover part = {.dev = dev, .placement = p, .panels = panels};
        status = place_part(&part, t, i, err);
        done += part.at;
        if (progress && status == UM_OK) progress(user, "placing", (int64_t)done, (int64_t)all.at);
    }
    host_block_free(panels);
    return status;
}

void transformer_unplace(transformer *t, device *dev) {
    struct placement *p = t->placement;
    if (!p) return;
    for (size_t i = p->n_moved; i-- > 0;)
        memcpy(p->list[i].field, &p->list[i].before, sizeof p->list[i].before);
    for (int32_t i = 0; p->blocks && i < p->n_blocks; i++) device_free(dev, p->blocks[i]);
    memory_free(p->blocks);
    memory_free(p->list);
    memory_free(p);
    t->placement = NULL;
}

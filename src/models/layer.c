/* SPDX-License-Identifier: Apache-2.0
 *
 * One layer as plain calls in order: attention, then an MLP or experts. Where the device has fused
 * operations (kernels/ops.h), and the weights have the forms for them, they take the place of those
 * they stand for; the numbers are the same.
 */
#include "models/layer.h"

#include <math.h>

/* ---- Sources of products --------------------------------------------------------------------- */

/* Rows that several products read; brought into a form at the first product that wants it. */
typedef struct source {
    const float *x; /* not filled where only `packed` was asked for */
    int32_t n_rows;
    void *packed;
    packed_form form; /* of packed; FORM_FLOAT: not yet filled */
} source;

static source source_of(const step_buffers *b, const float *x, int32_t n_rows) {
    return (source){.x = x, .n_rows = n_rows, .packed = b->packed};
}

/* Brings a source into a weight's form. */
static um_status bring(device *dev, source *from, const matrix *w) {
    packed_form form = w->form;
    if (form == FORM_FLOAT || from->form == form) return UM_OK;
    TRY(dev->ops->pack_rows(dev, form, from->packed, from->x, from->n_rows, w->n_in));
    from->form = form;
    return UM_OK;
}

static um_status project(device *dev, float *y, source *from, const matrix *w, const float *bias) {
    const kernel_ops *ops = dev->ops;
    if (w->form == FORM_FLOAT) return ops->linear(dev, y, from->x, w, bias, from->n_rows);
    TRY(bring(dev, from, w));
    return ops->linear_packed(dev, y, from->packed, w, bias, from->n_rows);
}

static bool are_alike(const matrix *a, const matrix *b) {
    return a->type == b->type && a->form == b->form;
}

/* Products of the same rows, neighbours that are alike at once. */
static um_status project_all(device *dev, source *from, const shared_product *products, int32_t n) {
    const kernel_ops *ops = dev->ops;
    for (int32_t i = 0, end; i < n; i = end) {
        const shared_product *first = &products[i];
        for (end = i + 1; end < n && are_alike(first->w, products[end].w);) end++;
        if (first->w->form == FORM_FLOAT || !ops->linear_shared || end == i + 1) {
            end = i + 1;
            TRY(project(dev, first->y, from, first->w, first->bias));
            continue;
        }
        TRY(bring(dev, from, first->w));
        TRY(ops->linear_shared(dev, from->packed, first, end - i, from->n_rows));
    }
    return UM_OK;
}

/* x += the product, through `to`. */
static um_status project_added(device *dev, const step_buffers *b, float *to, source *from,
                               const linear_weights *w) {
    const kernel_ops *ops = dev->ops;
    if (w->w.form != FORM_FLOAT && ops->linear_added) {
        TRY(bring(dev, from, &w->w));
        return ops->linear_added(dev, b->x, from->packed, &w->w, w->bias, from->n_rows);
    }
    TRY(project(dev, to, from, &w->w, w->bias));
    return ops->add(dev, b->x, to, (size_t)from->n_rows * (size_t)w->w.n_out);
}

/* The normed rows of x, for products with w; needs_floats: others read them as well. */
static um_status norm(const transformer_shape *s, device *dev, const step_buffers *b, int32_t n,
                      const float *gain, const matrix *w, bool needs_floats, source *normed) {
    const kernel_ops *ops = dev->ops;
    *normed = source_of(b, b->normed, n);
    if (w->form == FORM_FLOAT || !ops->rms_norm_packed)
        return ops->rms_norm(dev, b->normed, b->x, gain, n, s->hidden, s->rms_eps);
    normed->form = w->form;
    return ops->rms_norm_packed(dev, needs_floats ? b->normed : NULL, w->form, b->packed, b->x,
                                gain, n, s->hidden, s->rms_eps);
}

/* ---- Arguments ------------------------------------------------------------------------------- */

attention_args layer_attention(const transformer_shape *s, const step_inputs *in, int32_t n_rows,
                               const step_buffers *b, kv_layer kv) {
    return (attention_args){
        .q = b->q,
        .out = b->attended,
        .seq = in->seq,
        .visible_end = in->visible_end,
        .tables = in->tables,
        .kv = kv,
        .n_rows = n_rows,
        .n_keys_max = in->n_keys_max,
        .n_heads = s->n_heads,
        .n_kv_heads = s->n_kv_heads,
        .head_dim = s->head_dim,
        .scale = 1.0f / sqrtf((float)s->head_dim),
    };
}

route_args layer_route(const transformer_shape *s, const moe_weights *moe, const step_inputs *in,
                       int32_t n_rows, const step_buffers *b) {
    return (route_args){
        .x = b->normed,
        .w = moe->router,
        .bias = moe->router_bias,
        .seq = in->seq,
        .positions = in->positions,
        .score = s->router_score,
        .is_normalised = s->is_router_normalised,
        .is_weight_biased = s->is_router_weight_biased,
        .n_rows = n_rows,
        .n_experts = s->n_experts,
        .n_active = s->n_active,
        .n_group = s->n_group,
        .topk_group = s->topk_group,
        .n_block_experts = s->n_block_experts,
        .block_len = s->expert_block_len,
        .scale = s->router_scale,
        .ids = b->ids,
        .weights = b->weights,
    };
}

experts_args layer_experts(const transformer_shape *s, const moe_weights *moe, int32_t n_rows,
                           const step_buffers *b) {
    return (experts_args){
        .x = b->normed,
        .y = b->out,
        .ids = b->ids,
        .weights = b->weights,
        .experts = moe->experts,
        .n_rows = n_rows,
        .n_active = s->n_active,
        .n_experts = s->n_experts,
    };
}

/* ---- The layer ------------------------------------------------------------------------------- */

static rotate_args rotate_of(const transformer *t, const layer_weights *layer,
                             const step_inputs *in, int32_t n_rows, const step_buffers *b,
                             kv_layer kv) {
    const transformer_shape *s = &t->shape;
    return (rotate_args){.q = b->q,
                         .k = b->k,
                         .v = b->v,
                         .q_norm = layer->q_norm,
                         .k_norm = layer->k_norm,
                         .cosines = t->cosines,
                         .sines = t->sines,
                         .seq = in->seq,
                         .positions = in->positions,
                         .tables = in->tables,
                         .kv = kv,
                         .n_rows = n_rows,
                         .n_heads = s->n_heads,
                         .n_kv_heads = s->n_kv_heads,
                         .head_dim = s->head_dim,
                         .rotary_dim = s->rotary_dim,
                         .eps = s->rms_eps};
}

/* From the products to the slots of the cache. */
static um_status rotate(device *dev, const rotate_args *a) {
    const kernel_ops *ops = dev->ops;
    int32_t n = a->n_rows, dim = a->head_dim;
    if (ops->rotate) return ops->rotate(dev, a);
    if (a->q_norm) {
        TRY(ops->rms_norm(dev, a->q, a->q, a->q_norm, n * a->n_heads, dim, a->eps));
        TRY(ops->rms_norm(dev, a->k, a->k, a->k_norm, n * a->n_kv_heads, dim, a->eps));
    }
    TRY(ops->rope(dev, a->q, a->positions, a->cosines, a->sines, n, a->n_heads, dim,
                  a->rotary_dim));
    TRY(ops->rope(dev, a->k, a->positions, a->cosines, a->sines, n, a->n_kv_heads, dim,
                  a->rotary_dim));
    return ops->kv_write(dev, &a->kv, a->k, a->v, a->seq, a->positions, a->tables, n, a->n_kv_heads,
                         dim);
}

static um_status attention_block(const transformer *t, const layer_weights *layer, device *dev,
                                 kv_layer kv, const model_batch *batch, const step_inputs *in,
                                 const step_buffers *b) {
    const transformer_shape *s = &t->shape;
    int32_t n = batch->n_rows;
    const shared_product qkv[] = {{&layer->wq.w, layer->wq.bias, b->q},
                                  {&layer->wk.w, layer->wk.bias, b->k},
                                  {&layer->wv.w, layer->wv.bias, b->v}};
    packed_form form = layer->wq.w.form;
    bool needs_floats = layer->wk.w.form != form || layer->wv.w.form != form;
    source normed;
    TRY(norm(s, dev, b, n, layer->attn_norm, &layer->wq.w, needs_floats, &normed));
    TRY(project_all(dev, &normed, qkv, 3));
    rotate_args rotation = rotate_of(t, layer, in, n, b, kv);
    TRY(rotate(dev, &rotation));
    attention_args attention = layer_attention(s, in, n, b, kv);
    TRY(dev->ops->attention(dev, &attention, b->op_scratch));
    source attended = source_of(b, b->attended, n);
    return project_added(dev, b, b->out, &attended, &layer->wo);
}

/* x += mlp(normed), through gate, up and `to`, which is overwritten. */
static um_status plain_mlp(const mlp_weights *mlp, device *dev, source *normed,
                           const step_buffers *b, float *to) {
    const kernel_ops *ops = dev->ops;
    int32_t n = normed->n_rows;
    const linear_weights down = {.w = mlp->down};
    source inner = source_of(b, b->gate, n);
    if (ops->linear_gated && mlp->gate.form != FORM_FLOAT && mlp->down.form != FORM_FLOAT &&
        are_alike(&mlp->gate, &mlp->up)) {
        TRY(bring(dev, normed, &mlp->gate));
        inner.packed = b->packed_inner;
        inner.form = mlp->down.form;
        TRY(ops->linear_gated(dev, inner.form, inner.packed, normed->packed, &mlp->gate, &mlp->up,
                              n));
        return project_added(dev, b, to, &inner, &down);
    }
    TRY(project(dev, b->gate, normed, &mlp->gate, NULL));
    TRY(project(dev, b->up, normed, &mlp->up, NULL));
    TRY(ops->swiglu(dev, b->gate, b->gate, b->up, (size_t)n * (size_t)mlp->gate.n_out));
    return project_added(dev, b, to, &inner, &down);
}

/* Different experts among the ids of all rows. */
static int32_t count_experts(const int32_t *ids, int32_t n_ids) {
    int32_t n = 0;
    for (int32_t i = 0; i < n_ids; i++) {
        bool is_first = true;
        for (int32_t j = 0; j < i && is_first; j++) is_first = ids[j] != ids[i];
        n += is_first;
    }
    return n;
}

/* Needs floats where a weight of the MLP has another form than the first one. */
static bool has_other_form(const mlp_weights *mlp, packed_form form) {
    return mlp->gate.data && (mlp->gate.form != form || mlp->up.form != form);
}

static um_status mlp_block(const transformer *t, const layer_weights *layer, device *dev,
                           const model_batch *batch, const step_inputs *in, const step_buffers *b) {
    const transformer_shape *s = &t->shape;
    const kernel_ops *ops = dev->ops;
    const mlp_weights *first = layer->is_moe ? &layer->moe.experts[0] : &layer->mlp;
    int32_t n = batch->n_rows;
    bool needs_floats = layer->is_moe || has_other_form(&layer->mlp, first->gate.form);
    source normed;
    TRY(norm(s, dev, b, n, layer->mlp_norm, &first->gate, needs_floats, &normed));
    if (!layer->is_moe) return plain_mlp(&layer->mlp, dev, &normed, b, b->out);
    route_args route = layer_route(s, &layer->moe, in, n, b);
    TRY(ops->route(dev, &route, b->op_scratch));
    if (batch->experts_touched) {
        int32_t n_ids = n * s->n_active;
        TRY(device_read(dev, b->host_ids, b->ids, (size_t)n_ids * sizeof(int32_t)));
        batch->experts_touched[layer - t->layers] = count_experts(b->host_ids, n_ids);
    }
    experts_args experts = layer_experts(s, &layer->moe, n, b);
    if (normed.form != FORM_FLOAT) experts.packed = normed.packed;
    TRY(ops->experts(dev, &experts, b->op_scratch));
    TRY(ops->add(dev, b->x, b->out, (size_t)n * (size_t)s->hidden));
    if (!layer->moe.shared.gate.data) return UM_OK;
    return plain_mlp(&layer->moe.shared, dev, &normed, b, b->out);
}

um_status layer_run(const transformer *t, const layer_weights *layer, device *dev, kv_layer kv,
                    const model_batch *batch, const step_inputs *in, const step_buffers *b) {
    TRY(attention_block(t, layer, dev, kv, batch, in, b));
    return mlp_block(t, layer, dev, batch, in, b);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors to their places. All architectures name them alike, so one function binds all: what the
 * shape asks for must be there, what is optional (biases, a head of its own) is taken where it is
 * there, and a tensor that nothing takes is refused, because a model without it would write
 * nonsense.
 *
 * LLaDA's converter stores rotary pairs side by side. Rows are whole in every type, so they are put
 * back into our order by copying: two matrices a layer, 7 % of an 8B model.
 */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "models/family.h"
#include "models/gguf_model.h"

struct gguf_row_copy {
    matrix from;
    unsigned char *to;
    int32_t head_dim;
};

typedef struct binding {
    const tensor_catalog *catalog;
    const gguf_architecture *architecture;
    transformer *t;
    gguf_rows *rows;
    bool *is_used; /* [tensor_catalog_count] */
} binding;

/* Marks a tensor as used; false where there is none. */
static bool use(const binding *b, const char *name) {
    const tensor *found = tensor_catalog_find(b->catalog, name);
    if (found) b->is_used[found - tensor_catalog_at(b->catalog, 0)] = true;
    return found != NULL;
}

static um_status take_matrix(const binding *b, gguf_role role, int32_t i_layer, int32_t n_out,
                             int32_t n_in, matrix *w, um_error *err) {
    char name[160];
    use(b, gguf_role_name(name, role, i_layer));
    return bind_matrix(b->catalog, name, n_out, n_in, w, err);
}

static um_status take_vector(const binding *b, gguf_role role, int32_t i_layer, int32_t n,
                             float **values, um_error *err) {
    char name[160];
    use(b, gguf_role_name(name, role, i_layer));
    return bind_vector(b->catalog, name, n, values, err);
}

/* *values stays NULL where the tensor is absent and not required. */
static um_status take_bias(const binding *b, gguf_role role, int32_t i_layer, int32_t n,
                           bool is_required, float **values, um_error *err) {
    char name[160];
    if (!is_required && !use(b, gguf_role_name(name, role, i_layer))) return UM_OK;
    return take_vector(b, role, i_layer, n, values, err);
}

/* ---- The order of rows ---------------------------------------------------------------------- */

/* Makes w a copy that gguf_rows_fill fills, and sorts the bias at once. */
static um_status restore_rows(const binding *b, linear_weights *linear, um_error *err) {
    int32_t head_dim = b->t->shape.head_dim, n_out = linear->w.n_out;
    gguf_rows *rows = b->rows;
    size_t n_bytes = dtype_size(linear->w.type, (size_t)linear->w.n_in) * (size_t)n_out;
    if (memory_grow(&rows->items, &rows->capacity, rows->n, sizeof *rows->items) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for the list of reordered matrices");
    unsigned char *to = memory_alloc(n_bytes);
    if (!to) FAIL(UM_NO_MEMORY, err, "no memory for the %zu bytes of a reordered matrix", n_bytes);
    rows->items[rows->n++] =
        (struct gguf_row_copy){.from = linear->w, .to = to, .head_dim = head_dim};
    linear->w.data = to;
    if (!linear->bias) return UM_OK;
    float *bias = memory_alloc_array((size_t)n_out, sizeof *bias);
    if (!bias) FAIL(UM_NO_MEMORY, err, "no memory for a bias of %d", n_out);
    for (int32_t i = 0; i < n_out; i++) bias[gguf_interleaved_row(i, head_dim)] = linear->bias[i];
    memory_free(linear->bias);
    linear->bias = bias;
    return UM_OK;
}

void gguf_rows_fill(gguf_rows *rows) {
    for (size_t i = 0; i < rows->n; i++) {
        const struct gguf_row_copy *copy = &rows->items[i];
        size_t row_bytes = dtype_size(copy->from.type, (size_t)copy->from.n_in);
        const unsigned char *from = copy->from.data;
        for (int32_t r = 0; r < copy->from.n_out; r++) {
            size_t to = (size_t)gguf_interleaved_row(r, copy->head_dim);
            memcpy(copy->to + to * row_bytes, from + (size_t)r * row_bytes, row_bytes);
        }
    }
}

void gguf_rows_deinit(gguf_rows *rows) {
    for (size_t i = 0; i < rows->n; i++) memory_free(rows->items[i].to);
    memory_free(rows->items);
    memset(rows, 0, sizeof *rows);
}

/* ---- Attention ------------------------------------------------------------------------------ */

static um_status split_bias(const float *from, int32_t n, float **to, um_error *err) {
    *to = memory_alloc_array((size_t)n, sizeof **to);
    if (!*to) FAIL(UM_NO_MEMORY, err, "no memory for a bias of %d", n);
    memcpy(*to, from, (size_t)n * sizeof **to);
    return UM_OK;
}

static um_status bind_fused(const binding *b, int32_t i, int32_t q_width, int32_t kv_width,
                            layer_weights *layer, um_error *err) {
    matrix qkv;
    float *bias = NULL;
    int32_t n_out = q_width + 2 * kv_width;
    TRY(take_matrix(b, GGUF_ROLE_WQKV, i, n_out, b->t->shape.hidden, &qkv, err));
    layer->wq.w = matrix_rows(&qkv, 0, q_width);
    layer->wk.w = matrix_rows(&qkv, q_width, kv_width);
    layer->wv.w = matrix_rows(&qkv, q_width + kv_width, kv_width);
    TRY(take_bias(b, GGUF_ROLE_WQKV_BIAS, i, n_out, b->architecture->has_qkv_bias, &bias, err));
    if (!bias) return UM_OK;
    um_status status = split_bias(bias, q_width, &layer->wq.bias, err);
    if (status == UM_OK) status = split_bias(bias + q_width, kv_width, &layer->wk.bias, err);
    if (status == UM_OK)
        status = split_bias(bias + q_width + kv_width, kv_width, &layer->wv.bias, err);
    memory_free(bias);
    return status;
}

static um_status bind_separate(const binding *b, int32_t i, int32_t q_width, int32_t kv_width,
                               layer_weights *layer, um_error *err) {
    int32_t hidden = b->t->shape.hidden;
    bool has_bias = b->architecture->has_qkv_bias;
    TRY(take_matrix(b, GGUF_ROLE_WQ, i, q_width, hidden, &layer->wq.w, err));
    TRY(take_matrix(b, GGUF_ROLE_WK, i, kv_width, hidden, &layer->wk.w, err));
    TRY(take_matrix(b, GGUF_ROLE_WV, i, kv_width, hidden, &layer->wv.w, err));
    TRY(take_bias(b, GGUF_ROLE_WQ_BIAS, i, q_width, has_bias, &layer->wq.bias, err));
    TRY(take_bias(b, GGUF_ROLE_WK_BIAS, i, kv_width, has_bias, &layer->wk.bias, err));
    TRY(take_bias(b, GGUF_ROLE_WV_BIAS, i, kv_width, has_bias, &layer->wv.bias, err));
    if (!b->architecture->is_interleaved) return UM_OK;
    TRY(restore_rows(b, &layer->wq, err));
    return restore_rows(b, &layer->wk, err);
}

static um_status bind_attention(const binding *b, int32_t i, layer_weights *layer, um_error *err) {
    const transformer_shape *s = &b->t->shape;
    int32_t q_width = s->n_heads * s->head_dim, kv_width = s->n_kv_heads * s->head_dim;
    if (b->architecture->has_fused_qkv)
        TRY(bind_fused(b, i, q_width, kv_width, layer, err));
    else
        TRY(bind_separate(b, i, q_width, kv_width, layer, err));
    if (b->architecture->has_qk_norms) {
        TRY(take_vector(b, GGUF_ROLE_Q_NORM, i, s->head_dim, &layer->q_norm, err));
        TRY(take_vector(b, GGUF_ROLE_K_NORM, i, s->head_dim, &layer->k_norm, err));
    }
    TRY(take_matrix(b, GGUF_ROLE_WO, i, s->hidden, q_width, &layer->wo.w, err));
    return take_bias(b, GGUF_ROLE_WO_BIAS, i, s->hidden, false, &layer->wo.bias, err);
}

/* ---- MLPs ----------------------------------------------------------------------------------- */

static um_status take_mlp(const binding *b, gguf_role gate, gguf_role up, gguf_role down, int32_t i,
                          int32_t inner, mlp_weights *mlp, um_error *err) {
    int32_t hidden = b->t->shape.hidden;
    TRY(take_matrix(b, gate, i, inner, hidden, &mlp->gate, err));
    TRY(take_matrix(b, up, i, inner, hidden, &mlp->up, err));
    return take_matrix(b, down, i, hidden, inner, &mlp->down, err);
}

static um_status take_stack(const binding *b, gguf_role role, int32_t i, int32_t n_out,
                            int32_t n_in, const tensor **stack, um_error *err) {
    char name[160];
    use(b, gguf_role_name(name, role, i));
    return bind_stack(b->catalog, name, b->t->shape.n_experts, n_out, n_in, stack, err);
}

static um_status bind_moe(const binding *b, int32_t i, moe_weights *moe, um_error *err) {
    const transformer_shape *s = &b->t->shape;
    const tensor *gate, *up, *down;
    int32_t inner = s->expert_inner;
    TRY(take_matrix(b, GGUF_ROLE_ROUTER, i, s->n_experts, s->hidden, &moe->router, err));
    TRY(take_bias(b, GGUF_ROLE_ROUTER_BIAS, i, s->n_experts, false, &moe->router_bias, err));
    TRY(take_stack(b, GGUF_ROLE_EXPERT_GATE, i, inner, s->hidden, &gate, err));
    TRY(take_stack(b, GGUF_ROLE_EXPERT_UP, i, inner, s->hidden, &up, err));
    TRY(take_stack(b, GGUF_ROLE_EXPERT_DOWN, i, s->hidden, inner, &down, err));
    if (gate->type != up->type)
        FAIL(UM_UNSUPPORTED, err, "%s is stored as %s, %s as %s; expected one type", gate->name,
             dtype_name(gate->type), up->name, dtype_name(up->type));
    moe->experts = memory_calloc((size_t)s->n_experts, sizeof *moe->experts);
    if (!moe->experts) FAIL(UM_NO_MEMORY, err, "no memory for %d experts", s->n_experts);
    for (int32_t e = 0; e < s->n_experts; e++)
        moe->experts[e] = (mlp_weights){.gate = stack_rows(gate, e, 0, inner),
                                        .up = stack_rows(up, e, 0, inner),
                                        .down = stack_rows(down, e, 0, s->hidden)};
    if (!s->shared_inner) return UM_OK;
    return take_mlp(b, GGUF_ROLE_SHARED_GATE, GGUF_ROLE_SHARED_UP, GGUF_ROLE_SHARED_DOWN, i,
                    s->shared_inner, &moe->shared, err);
}

/* ---- The whole ------------------------------------------------------------------------------ */

static um_status bind_layer(const binding *b, int32_t i, layer_weights *layer, um_error *err) {
    const transformer_shape *s = &b->t->shape;
    TRY(take_vector(b, GGUF_ROLE_ATTN_NORM, i, s->hidden, &layer->attn_norm, err));
    TRY(take_vector(b, GGUF_ROLE_MLP_NORM, i, s->hidden, &layer->mlp_norm, err));
    TRY(bind_attention(b, i, layer, err));
    layer->is_moe = s->n_experts > 0 && i >= s->n_dense_layers;
    if (layer->is_moe) return bind_moe(b, i, &layer->moe, err);
    return take_mlp(b, GGUF_ROLE_GATE, GGUF_ROLE_UP, GGUF_ROLE_DOWN, i, s->inner, &layer->mlp, err);
}

/* The layer of "blk.12.attn_q.weight", or -1. */
static int64_t layer_of(const char *name) {
    int64_t layer = 0;
    if (strncmp(name, "blk.", 4) != 0) return -1;
    const char *c = name + 4;
    for (; *c >= '0' && *c <= '9' && layer <= SIZE_LAYERS_MAX; c++) layer = layer * 10 + (*c - '0');
    return *c == '.' && c > name + 4 ? layer : -1;
}

/* Layers for multi-token prediction lie behind the others. */
static um_status check_unused(const binding *b, um_error *err) {
    char key[96];
    snprintf(key, sizeof key, "%s.nextn_predict_layers", b->architecture->name);
    bool has_extra = gguf_find(tensor_catalog_gguf(b->catalog), key) != NULL;
    for (int64_t i = 0; i < tensor_catalog_count(b->catalog); i++) {
        const tensor *t = tensor_catalog_at(b->catalog, i);
        if (b->is_used[i] || (has_extra && layer_of(t->name) >= b->t->shape.n_layers)) continue;
        um_error_set(err, UM_UNSUPPORTED,
                     "%s: a model of architecture \"%s\" has no place for this tensor here",
                     t->name, b->architecture->name);
        um_error_at(err, t->file, -1);
        return UM_UNSUPPORTED;
    }
    return UM_OK;
}

static um_status bind_all(const binding *b, um_error *err) {
    transformer *t = b->t;
    const transformer_shape *s = &t->shape;
    char name[160];
    TRY(take_matrix(b, GGUF_ROLE_EMBEDDING, 0, s->embeddings, s->hidden, &t->embedding, err));
    TRY(take_vector(b, GGUF_ROLE_FINAL_NORM, 0, s->hidden, &t->final_norm, err));
    if (use(b, gguf_role_name(name, GGUF_ROLE_HEAD, 0)))
        TRY(take_matrix(b, GGUF_ROLE_HEAD, 0, s->vocab, s->hidden, &t->head, err));
    else
        t->head = t->embedding;
    for (int32_t i = 0; i < s->n_layers; i++) TRY(bind_layer(b, i, &t->layers[i], err));
    return check_unused(b, err);
}

um_status gguf_bind(const tensor_catalog *catalog, const gguf_architecture *architecture,
                    transformer *t, gguf_rows *rows, um_error *err) {
    binding b = {.catalog = catalog, .architecture = architecture, .t = t, .rows = rows};
    b.is_used = memory_calloc((size_t)tensor_catalog_count(catalog), sizeof *b.is_used);
    if (!b.is_used) FAIL(UM_NO_MEMORY, err, "no memory for a list of tensors");
    um_status status = bind_all(&b, err);
    memory_free(b.is_used);
    return status;
}

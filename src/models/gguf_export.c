/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors are listed, not copied: a source says where the rows of a tensor lie in the mapped files,
 * so that a writer needs memory for some rows only. Biases and norms are the transformer's own
 * vectors.
 */
#include "models/gguf_export.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

/* ---- The list ------------------------------------------------------------------------------- */

static um_status add(gguf_export *list, gguf_role role, int32_t i_layer, gguf_source **source,
                     um_error *err) {
    if (memory_grow(&list->items, &list->capacity, list->n, sizeof *list->items) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for a list of tensors");
    *source = &list->items[list->n++];
    memset(*source, 0, sizeof **source);
    (*source)->role = role;
    (*source)->i_layer = i_layer;
    if (role < GGUF_ROLES) gguf_role_name((*source)->name, role, i_layer);
    return UM_OK;
}

static void add_part(gguf_source *source, matrix part) {
    source->parts[source->n_parts++] = part;
    source->n_rows += part.n_out;
    source->n_in = part.n_in;
}

static void set_shape(gguf_source *source, bool is_vector) {
    source->n_dims = is_vector ? 1 : 2;
    source->shape[0] = source->n_rows;
    source->shape[1] = is_vector ? 1 : source->n_in;
    source->shape[2] = 1;
}

static matrix vector_part(const float *values, int32_t n) {
    return (matrix){.data = values, .type = DTYPE_F32, .n_out = n, .n_in = 1};
}

static um_status add_matrix(gguf_export *list, gguf_role role, int32_t i_layer, const matrix *w,
                            um_error *err) {
    gguf_source *source;
    TRY(add(list, role, i_layer, &source, err));
    add_part(source, *w);
    set_shape(source, false);
    return UM_OK;
}

/* Nothing where the model has no such vector. */
static um_status add_vector(gguf_export *list, gguf_role role, int32_t i_layer, const float *values,
                            int32_t n, um_error *err) {
    gguf_source *source;
    if (!values) return UM_OK;
    TRY(add(list, role, i_layer, &source, err));
    add_part(source, vector_part(values, n));
    set_shape(source, true);
    return UM_OK;
}

static um_status add_linear(gguf_export *list, gguf_role role, gguf_role bias_role, int32_t i_layer,
                            const linear_weights *linear, int32_t head_dim, um_error *err) {
    TRY(add_matrix(list, role, i_layer, &linear->w, err));
    list->items[list->n - 1].head_dim = head_dim;
    if (!linear->bias) return UM_OK;
    TRY(add_vector(list, bias_role, i_layer, linear->bias, linear->w.n_out, err));
    list->items[list->n - 1].head_dim = head_dim;
    return UM_OK;
}

static um_status add_fused(gguf_export *list, int32_t i_layer, const layer_weights *layer,
                           um_error *err) {
    const linear_weights *parts[3] = {&layer->wq, &layer->wk, &layer->wv};
    gguf_source *source;
    TRY(add(list, GGUF_ROLE_WQKV, i_layer, &source, err));
    for (int i = 0; i < 3; i++) add_part(source, parts[i]->w);
    set_shape(source, false);
    if (!parts[0]->bias) return UM_OK;
    TRY(add(list, GGUF_ROLE_WQKV_BIAS, i_layer, &source, err));
    for (int i = 0; i < 3; i++)
        if (parts[i]->bias) add_part(source, vector_part(parts[i]->bias, parts[i]->w.n_out));
    set_shape(source, true);
    return UM_OK;
}

static um_status add_attention(gguf_export *list, const gguf_architecture *architecture,
                               const transformer_shape *s, int32_t i, const layer_weights *layer,
                               um_error *err) {
    int32_t head_dim = architecture->is_interleaved ? s->head_dim : 0;
    if (architecture->has_fused_qkv) {
        TRY(add_fused(list, i, layer, err));
    } else {
        TRY(add_linear(list, GGUF_ROLE_WQ, GGUF_ROLE_WQ_BIAS, i, &layer->wq, head_dim, err));
        TRY(add_linear(list, GGUF_ROLE_WK, GGUF_ROLE_WK_BIAS, i, &layer->wk, head_dim, err));
        TRY(add_linear(list, GGUF_ROLE_WV, GGUF_ROLE_WV_BIAS, i, &layer->wv, 0, err));
    }
    TRY(add_vector(list, GGUF_ROLE_Q_NORM, i, layer->q_norm, s->head_dim, err));
    TRY(add_vector(list, GGUF_ROLE_K_NORM, i, layer->k_norm, s->head_dim, err));
    return add_linear(list, GGUF_ROLE_WO, GGUF_ROLE_WO_BIAS, i, &layer->wo, 0, err);
}

static um_status add_experts(gguf_export *list, gguf_role role, int32_t i_layer, int32_t n_experts,
                             const mlp_weights *experts, const matrix *first, um_error *err) {
    gguf_source *source;
    TRY(add(list, role, i_layer, &source, err));
    source->experts = experts;
    source->n_dims = 3;
    source->shape[0] = n_experts;
    source->shape[1] = first->n_out;
    source->shape[2] = source->n_in = first->n_in;
    source->n_rows = (int64_t)n_experts * first->n_out;
    return UM_OK;
}

static um_status add_mlp(gguf_export *list, gguf_role gate, int32_t i_layer, const mlp_weights *mlp,
                         um_error *err) {
    TRY(add_matrix(list, gate, i_layer, &mlp->gate, err));
    TRY(add_matrix(list, (gguf_role)(gate + 1), i_layer, &mlp->up, err));
    return add_matrix(list, (gguf_role)(gate + 2), i_layer, &mlp->down, err);
}

static um_status add_moe(gguf_export *list, const transformer_shape *s, int32_t i,
                         const moe_weights *moe, um_error *err) {
    const mlp_weights *experts = moe->experts;
    TRY(add_matrix(list, GGUF_ROLE_ROUTER, i, &moe->router, err));
    TRY(add_vector(list, GGUF_ROLE_ROUTER_BIAS, i, moe->router_bias, s->n_experts, err));
    TRY(add_experts(list, GGUF_ROLE_EXPERT_GATE, i, s->n_experts, experts, &experts->gate, err));
    TRY(add_experts(list, GGUF_ROLE_EXPERT_UP, i, s->n_experts, experts, &experts->up, err));
    TRY(add_experts(list, GGUF_ROLE_EXPERT_DOWN, i, s->n_experts, experts, &experts->down, err));
    if (!moe->shared.gate.data) return UM_OK;
    return add_mlp(list, GGUF_ROLE_SHARED_GATE, i, &moe->shared, err);
}

static um_status add_layer(gguf_export *list, const gguf_architecture *architecture,
                           const transformer_shape *s, int32_t i, const layer_weights *layer,
                           um_error *err) {
    TRY(add_vector(list, GGUF_ROLE_ATTN_NORM, i, layer->attn_norm, s->hidden, err));
    TRY(add_attention(list, architecture, s, i, layer, err));
    TRY(add_vector(list, GGUF_ROLE_MLP_NORM, i, layer->mlp_norm, s->hidden, err));
    if (layer->is_moe) return add_moe(list, s, i, &layer->moe, err);
    return add_mlp(list, GGUF_ROLE_GATE, i, &layer->mlp, err);
}

/* What the keys of an architecture cannot say. */
static um_status check_places(const model *m, const gguf_architecture *architecture,
                              um_error *err) {
    const transformer *t = model_transformer(m);
    const transformer_shape *s = &t->shape;
    if (s->logit_scale != 1)
        FAIL(UM_UNSUPPORTED, err, "a GGUF file of architecture \"%s\" has no key for scaled logits",
             architecture->name);
    for (int32_t i = 0; i < s->n_layers; i++) {
        bool is_moe = s->n_experts > 0 && i >= s->n_dense_layers;
        if (t->layers[i].is_moe != is_moe)
            FAIL(UM_UNSUPPORTED, err,
                 "layer %d: a GGUF file has layers with experts behind those without, and this "
                 "model has them mixed",
                 i);
    }
    return UM_OK;
}

static um_status list_weights(const model *m, gguf_export *list, um_error *err) {
    const gguf_architecture *architecture = gguf_architecture_of_family(model_info(m)->family);
    const transformer *t = model_transformer(m);
    const transformer_shape *s = &t->shape;
    if (!architecture)
        FAIL(UM_UNSUPPORTED, err, "no GGUF architecture holds models of the family %s",
             model_info(m)->family);
    TRY(check_places(m, architecture, err));
    TRY(add_matrix(list, GGUF_ROLE_EMBEDDING, 0, &t->embedding, err));
    for (int32_t i = 0; i < s->n_layers; i++)
        TRY(add_layer(list, architecture, s, i, &t->layers[i], err));
    TRY(add_vector(list, GGUF_ROLE_FINAL_NORM, 0, t->final_norm, s->hidden, err));
    if (t->head.data == t->embedding.data) return UM_OK;
    return add_matrix(list, GGUF_ROLE_HEAD, 0, &t->head, err);
}

/* ---- The tensors of a GGUF file ------------------------------------------------------------- */

/* What a name stands for; GGUF_ROLES where it is none of the table's. */
static gguf_role role_of(const char *name, int32_t *i_layer) {
    char candidate[160];
    int layer = 0;
    if (sscanf(name, "blk.%9d.", &layer) != 1) layer = 0;
    *i_layer = layer;
    for (int role = 0; role < GGUF_ROLES; role++)
        if (strcmp(gguf_role_name(candidate, (gguf_role)role, layer), name) == 0)
            return (gguf_role)role;
    return GGUF_ROLES;
}

static um_status list_file(const tensor_catalog *catalog, gguf_export *list, um_error *err) {
    for (int64_t i = 0; i < tensor_catalog_count(catalog); i++) {
        const tensor *t = tensor_catalog_at(catalog, i);
        int32_t i_layer;
        gguf_role role = role_of(t->name, &i_layer);
        gguf_source *source;
        int64_t n_in = t->n_dims > 1 ? t->shape[t->n_dims - 1] : 1, n_rows = t->n_items / n_in;
        if (strlen(t->name) >= sizeof source->name || t->n_dims > 3 || n_in > INT32_MAX ||
            n_rows > INT32_MAX)
            FAIL(UM_UNSUPPORTED, err, "%s: a tensor with a name or a shape beyond what is written",
                 t->name);
        TRY(add(list, role, i_layer, &source, err));
        snprintf(source->name, sizeof source->name, "%s", t->name);
        add_part(
            source,
            (matrix){
                .data = t->data, .type = t->type, .n_out = (int32_t)n_rows, .n_in = (int32_t)n_in});
        source->n_dims = t->n_dims;
        for (int d = 0; d < 3; d++) source->shape[d] = d < t->n_dims ? t->shape[d] : 1;
    }
    return UM_OK;
}

static um_status finish(gguf_export *list, um_status status) {
    if (status != UM_OK) gguf_export_deinit(list);
    return status;
}

um_status gguf_export_list_weights(const model *m, gguf_export *list, um_error *err) {
    memset(list, 0, sizeof *list);
    return finish(list, list_weights(m, list, err));
}

um_status gguf_export_list(const model *m, gguf_export *list, um_error *err) {
    if (!model_gguf(m)) return gguf_export_list_weights(m, list, err);
    memset(list, 0, sizeof *list);
    return finish(list, list_file(model_files(m), list, err));
}

void gguf_export_deinit(gguf_export *list) {
    memory_free(list->items);
    memset(list, 0, sizeof *list);
}

/* ---- Rows ----------------------------------------------------------------------------------- */

const matrix *gguf_export_part(const gguf_source *source, int64_t i_row, int32_t *i_part_row) {
    if (source->experts) {
        const mlp_weights *expert = &source->experts[i_row / source->shape[1]];
        *i_part_row = (int32_t)(i_row % source->shape[1]);
        return source->role == GGUF_ROLE_EXPERT_GATE ? &expert->gate
               : source->role == GGUF_ROLE_EXPERT_UP ? &expert->up
                                                     : &expert->down;
    }
    int32_t row = (int32_t)i_row, i = 0;
    if (source->head_dim) row = gguf_interleaved_row(row, source->head_dim);
    for (; row >= source->parts[i].n_out; i++) row -= source->parts[i].n_out;
    *i_part_row = row;
    return &source->parts[i];
}

void gguf_export_row(const gguf_source *source, int64_t i_row, float *out) {
    int32_t row;
    const matrix *part = gguf_export_part(source, i_row, &row);
    size_t n_in = (size_t)part->n_in, row_bytes = dtype_size(part->type, n_in);
    dtype_decode(part->type, (const char *)part->data + (size_t)row * row_bytes, n_in, out);
}

bool gguf_export_is_plain(const gguf_source *source) {
    return source->n_dims == 1 || source->role == GGUF_ROLE_ROUTER;
}

/* ---- Keys ----------------------------------------------------------------------------------- */

void gguf_export_keys(const model *m, gguf_writer *writer) {
    const gguf_architecture *architecture = gguf_architecture_of_family(model_info(m)->family);
    const transformer_shape *shape = &model_transformer(m)->shape;
    const model_traits *traits = model_traits_of(m);
    gguf_writer_string(writer, "general.architecture", architecture->name,
                       strlen(architecture->name));
    for (int i = 0; i < architecture->n_keys; i++) {
        const gguf_key *key = &architecture->keys[i];
        char name[96];
        double number;
        if (!gguf_schema_number(key, shape, traits, &number)) continue;
        gguf_key_name(name, architecture, key);
        switch (key->type) {
            case GGUF_KEY_U32:
                gguf_writer_u32(writer, name, (uint32_t)number);
                break;
            case GGUF_KEY_F32:
                gguf_writer_f32(writer, name, (float)number);
                break;
            case GGUF_KEY_BOOL:
                gguf_writer_bool(writer, name, number != 0);
                break;
        }
    }
}

static const char *shape_difference(const transformer_shape *a, const transformer_shape *b) {
    if (a->n_layers != b->n_layers || a->n_dense_layers != b->n_dense_layers) return "layers";
    if (a->hidden != b->hidden || a->inner != b->inner) return "widths";
    if (a->n_heads != b->n_heads || a->n_kv_heads != b->n_kv_heads || a->head_dim != b->head_dim)
        return "heads";
    if (a->rotary_dim != b->rotary_dim || (float)a->rope_theta != (float)b->rope_theta)
        return "rotary embedding";
    if (a->vocab != b->vocab || a->embeddings != b->embeddings) return "vocabulary";
    if (a->n_experts != b->n_experts || a->n_active != b->n_active ||
        a->expert_inner != b->expert_inner || a->shared_inner != b->shared_inner)
        return "experts";
    if (a->n_group != b->n_group || a->topk_group != b->topk_group ||
        a->n_block_experts != b->n_block_experts || a->expert_block_len != b->expert_block_len ||
        a->router_score != b->router_score || a->is_router_normalised != b->is_router_normalised ||
        a->is_router_weight_biased != b->is_router_weight_biased ||
        a->router_scale != b->router_scale)
        return "router";
    if (a->rms_eps != b->rms_eps || a->logit_scale != b->logit_scale) return "norms";
    return NULL;
}

const char *gguf_export_difference(const model *m, const model *written) {
    const um_model_info *a = model_info(m), *b = model_info(written);
    const char *what =
        shape_difference(&model_transformer(m)->shape, &model_transformer(written)->shape);
    if (what) return what;
    if (strcmp(a->family, b->family) != 0 || a->attention != b->attention ||
        a->is_shifted != b->is_shifted || a->context != b->context)
        return "family, attention or context";
    if (a->mask_token != b->mask_token || a->delete_token != b->delete_token ||
        a->split_token != b->split_token)
        return "mask or edit tokens";
    if (a->n_stop_tokens != b->n_stop_tokens ||
        memcmp(a->stop_tokens, b->stop_tokens, (size_t)a->n_stop_tokens * sizeof *a->stop_tokens) !=
            0)
        return "stop tokens";
    if (strcmp(a->policy, b->policy) != 0 || a->block_len != b->block_len ||
        a->sub_block != b->sub_block || a->steps != b->steps || a->post_steps != b->post_steps ||
        a->threshold != b->threshold || a->edit_threshold != b->edit_threshold ||
        a->temperature != b->temperature)
        return "defaults of decoding";
    return NULL;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Config keys, tensor names and layers that the families made of Qwen2 and Qwen3 share.
 * Source: modeling_qwen2.py, modeling_qwen3.py and modeling_qwen3_moe.py of transformers.
 */
#include "models/qwen.h"

static um_status refuse_variants(const hf_config *config, um_error *err) {
    double share;
    TRY(config_expect_string(config, "hidden_act", "silu", err));
    TRY(config_refuse(config, "use_sliding_window", err));
    TRY(config_refuse(config, "use_mrope", err));
    TRY(config_rotary_share(config, 1, &share, err));
    if (share != 1)
        FAIL(UM_UNSUPPORTED, err,
             "config.json: \"partial_rotary_factor\": expected 1, found %g; the family's code "
             "rotates "
             "whole heads",
             share);
    return UM_OK;
}

um_status qwen_describe(const hf_config *config, transformer_shape *s, model_traits *traits,
                        um_error *err) {
    int64_t value;
    double eps;
    TRY(config_rope_theta(config, 0, &s->rope_theta, err));
    TRY(refuse_variants(config, err));
    TRY(config_size(config, "num_hidden_layers", NULL, SIZE_LAYERS_MAX, &s->n_layers, err));
    TRY(config_size(config, "hidden_size", NULL, SIZE_WIDTH_MAX, &s->hidden, err));
    TRY(config_size(config, "num_attention_heads", NULL, SIZE_HEADS_MAX, &s->n_heads, err));
    TRY(hf_config_int_or(config, "num_key_value_heads", 1, SIZE_HEADS_MAX, s->n_heads, &value,
                         err));
    s->n_kv_heads = (int32_t)value;
    if (hf_config_has(config, "head_dim")) {
        TRY(config_size(config, "head_dim", NULL, SIZE_HEAD_DIM_MAX, &s->head_dim, err));
    } else {
        if (s->hidden % s->n_heads != 0)
            FAIL(UM_FORMAT, err,
                 "config.json: \"num_attention_heads\" %d does not divide \"hidden_size\" %d",
                 s->n_heads, s->hidden);
        s->head_dim = s->hidden / s->n_heads;
    }
    s->rotary_dim = s->head_dim;
    TRY(hf_config_real_or(config, "rms_norm_eps", 0, 1, 1e-6, &eps, err));
    s->rms_eps = (float)eps;
    s->logit_scale = 1;
    TRY(config_size(config, "vocab_size", NULL, SIZE_VOCAB_MAX, &s->vocab, err));
    s->embeddings = s->vocab;
    TRY(shape_check_heads(config, s, err));
    return config_size(config, "max_position_embeddings", NULL, SIZE_CONTEXT_MAX, &traits->context,
                       err);
}

um_status qwen_describe_dense(const hf_config *config, transformer_shape *s, um_error *err) {
    return config_size(config, "intermediate_size", NULL, SIZE_WIDTH_MAX, &s->inner, err);
}

/* Sets each layer's is_moe by the rule of Qwen3MoeDecoderLayer, and counts the dense ones. `layers`
 * may be NULL. */
static um_status mark_layers(const hf_config *config, const transformer_shape *s,
                             layer_weights *layers, int32_t *n_dense, um_error *err) {
    int32_t dense[SIZE_LAYERS_MAX], n_listed;
    int64_t step;
    TRY(hf_config_int_or(config, "decoder_sparse_step", 1, SIZE_LAYERS_MAX, 1, &step, err));
    TRY(hf_config_ints_or_none(config, "mlp_only_layers", 0, SIZE_LAYERS_MAX - 1, dense,
                               SIZE_LAYERS_MAX, &n_listed, err));
    *n_dense = 0;
    for (int32_t i = 0; i < s->n_layers; i++) {
        bool is_moe = (i + 1) % step == 0;
        for (int32_t j = 0; j < n_listed; j++) is_moe &= dense[j] != i;
        if (layers) layers[i].is_moe = is_moe;
        *n_dense += !is_moe;
    }
    return UM_OK;
}

um_status qwen_describe_moe(const hf_config *config, transformer_shape *s, um_error *err) {
    int32_t n_dense;
    TRY(config_size(config, "num_experts", NULL, SIZE_EXPERTS_MAX, &s->n_experts, err));
    TRY(config_size(config, "num_experts_per_tok", NULL, SIZE_EXPERTS_MAX, &s->n_active, err));
    if (s->n_active > s->n_experts)
        FAIL(UM_FORMAT, err,
             "config.json: \"num_experts_per_tok\" is %d, more than the %d experts there are",
             s->n_active, s->n_experts);
    TRY(config_size(config, "moe_intermediate_size", NULL, SIZE_WIDTH_MAX, &s->expert_inner, err));
    TRY(hf_config_bool_or(config, "norm_topk_prob", false, &s->is_router_normalised, err));
    s->router_score = ROUTE_SCORE_SOFTMAX;
    s->router_scale = 1;
    s->n_group = s->topk_group = 1;
    TRY(mark_layers(config, s, NULL, &n_dense, err));
    return n_dense ? qwen_describe_dense(config, s, err) : UM_OK;
}

/* One linear map of an attention block. */
static um_status bind_linear(const tensor_catalog *catalog, int32_t i_layer, const char *part,
                             int32_t n_out, int32_t n_in, bool has_bias, linear_weights *linear,
                             um_error *err) {
    char name[160];
    TRY(bind_matrix(catalog,
                    tensor_name(name, "model.layers.%d.self_attn.%s.weight", i_layer, part), n_out,
                    n_in, &linear->w, err));
    tensor_name(name, "model.layers.%d.self_attn.%s.bias", i_layer, part);
    if (has_bias) return bind_vector(catalog, name, n_out, &linear->bias, err);
    return bind_absent(catalog, name, "attention_bias", 0, err);
}

static um_status bind_norm(const tensor_catalog *catalog, int32_t i_layer, const char *part,
                           int32_t n, float **norm, um_error *err) {
    char name[160];
    return bind_vector(catalog, tensor_name(name, "model.layers.%d.%s.weight", i_layer, part), n,
                       norm, err);
}

static um_status bind_attention(const tensor_catalog *catalog, int32_t i,
                                const transformer_shape *s, const qwen_parts *parts,
                                layer_weights *layer, um_error *err) {
    int32_t q_width = s->n_heads * s->head_dim, kv_width = s->n_kv_heads * s->head_dim;
    bool has_bias = parts->has_qkv_bias;
    char name[160];
    TRY(bind_linear(catalog, i, "q_proj", q_width, s->hidden, has_bias, &layer->wq, err));
    TRY(bind_linear(catalog, i, "k_proj", kv_width, s->hidden, has_bias, &layer->wk, err));
    TRY(bind_linear(catalog, i, "v_proj", kv_width, s->hidden, has_bias, &layer->wv, err));
    TRY(bind_linear(catalog, i, "o_proj", s->hidden, q_width, parts->has_output_bias, &layer->wo,
                    err));
    if (!parts->has_qk_norms)
        return bind_absent(catalog, tensor_name(name, "model.layers.%d.self_attn.q_norm.weight", i),
                           "qk_layernorm", 0, err);
    TRY(bind_norm(catalog, i, "self_attn.q_norm", s->head_dim, &layer->q_norm, err));
    return bind_norm(catalog, i, "self_attn.k_norm", s->head_dim, &layer->k_norm, err);
}

static um_status bind_layer(const tensor_catalog *catalog, int32_t i, const transformer_shape *s,
                            const qwen_parts *parts, layer_weights *layer, um_error *err) {
    char name[160], prefix[160];
    TRY(bind_norm(catalog, i, "input_layernorm", s->hidden, &layer->attn_norm, err));
    TRY(bind_norm(catalog, i, "post_attention_layernorm", s->hidden, &layer->mlp_norm, err));
    TRY(bind_attention(catalog, i, s, parts, layer, err));
    tensor_name(prefix, "model.layers.%d.mlp", i);
    if (!layer->is_moe) return bind_mlp(catalog, prefix, s->hidden, s->inner, &layer->mlp, err);
    TRY(bind_matrix(catalog, tensor_name(name, "%s.gate.weight", prefix), s->n_experts, s->hidden,
                    &layer->moe.router, err));
    return bind_experts(catalog, prefix, s, &layer->moe, err);
}

um_status qwen_bind(const hf_config *config, const tensor_catalog *catalog, const qwen_parts *parts,
                    transformer *t, um_error *err) {
    const transformer_shape *s = &t->shape;
    char name[160];
    TRY(bind_matrix(catalog, "model.embed_tokens.weight", s->vocab, s->hidden, &t->embedding, err));
    TRY(bind_vector(catalog, "model.norm.weight", s->hidden, &t->final_norm, err));
    TRY(bind_head(config, catalog, t, err));
    for (int32_t i = 0; i < s->n_layers; i++)
        TRY(bind_layer(catalog, i, s, parts, &t->layers[i], err));
    return bind_absent(catalog,
                       tensor_name(name, "model.layers.%d.input_layernorm.weight", s->n_layers),
                       "num_hidden_layers", s->n_layers, err);
}

um_status qwen_bind_moe(const hf_config *config, const tensor_catalog *catalog,
                        const qwen_parts *parts, transformer *t, um_error *err) {
    int32_t n_dense;
    TRY(mark_layers(config, &t->shape, t->layers, &n_dense, err));
    return qwen_bind(config, catalog, parts, t, err);
}

um_status qwen3_parts(const hf_config *config, qwen_parts *parts, um_error *err) {
    TRY(hf_config_bool_or(config, "attention_bias", false, &parts->has_qkv_bias, err));
    parts->has_output_bias = parts->has_qkv_bias;
    parts->has_qk_norms = true;
    return UM_OK;
}

qwen_parts qwen2_parts(void) {
    return (qwen_parts){.has_qkv_bias = true};
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * LLaDA2.0, 2.1 and 2.2 (inclusionAI), and fine-tunes of them (CAP, DMax, MBD): the Bailing MoE v2
 * transformer with a block-causal mask of 32. Partial rotary embedding, norms on queries and keys,
 * a sigmoid router with a bias for selection and group-limited top-k, shared experts, dense first
 * layers. LLaDA2.2 routes by blocks instead of groups, and edits with two tokens of its own.
 * Source of keys, names and formulas: modeling_llada2_moe.py and configuration_llada2_moe.py of
 * inclusionAI/LLaDA2.0-mini.
 */
#include <string.h>

#include "base/memory.h"
#include "models/family.h"

/* Values that this file computes; another value in a config would be ignored silently. */
static um_status refuse_variants(const hf_config *config, um_error *err) {
    TRY(config_expect_string(config, "hidden_act", "silu", err));
    TRY(config_expect_string(config, "score_function", "sigmoid", err));
    bool is_normed;
    TRY(hf_config_bool_or(config, "norm_topk_prob", true, &is_normed, err));
    if (!is_normed)
        FAIL(UM_UNSUPPORTED, err,
             "config.json: \"norm_topk_prob\" is false; the family's code always normalises");
    TRY(config_refuse(config, "use_sliding_window", err));
    return config_refuse(config, "norm_head", err);
}

/* LLaDA2.2 chooses expert_capacity experts for each block of block_size positions, and each token's
 * inside them (report, section 2.2). Its configs still hold n_group and topk_group; its code reads
 * them no more. */
static um_status describe_block_routing(const hf_config *config, transformer_shape *s,
                                        um_error *err) {
    int64_t value;
    TRY(hf_config_int_or(config, "expert_capacity", 0, SIZE_EXPERTS_MAX, 0, &value, err));
    if (value == 0) return UM_OK;
    if (value < s->n_active || value > s->n_experts)
        FAIL(UM_FORMAT, err,
             "config.json: \"expert_capacity\": expected %d to %d (the experts of a token, and all "
             "of them), found %lld",
             s->n_active, s->n_experts, (long long)value);
    s->n_block_experts = (int32_t)value;
    TRY(hf_config_int_or(config, "block_size", 1, SIZE_CONTEXT_MAX, 32, &value, err));
    s->expert_block_len = (int32_t)value;
    s->n_group = s->topk_group = 1;
    return UM_OK;
}

static um_status describe_experts(const hf_config *config, transformer_shape *s, um_error *err) {
    int64_t value;
    double scale;
    TRY(config_size(config, "num_experts", NULL, SIZE_EXPERTS_MAX, &s->n_experts, err));
    TRY(config_size(config, "num_experts_per_tok", NULL, SIZE_EXPERTS_MAX, &s->n_active, err));
    TRY(config_size(config, "moe_intermediate_size", NULL, SIZE_WIDTH_MAX, &s->expert_inner, err));
    TRY(hf_config_int_or(config, "n_group", 1, SIZE_EXPERTS_MAX, 8, &value, err));
    s->n_group = (int32_t)value;
    TRY(hf_config_int_or(config, "topk_group", 1, SIZE_EXPERTS_MAX, 4, &value, err));
    s->topk_group = (int32_t)value;
    TRY(hf_config_int_or(config, "num_shared_experts", 0, 1024, 0, &value, err));
    int64_t shared_inner = value * s->expert_inner;
    if (shared_inner > SIZE_WIDTH_MAX)
        FAIL(UM_FORMAT, err, "config.json: \"num_shared_experts\" %lld of %d are wider than %d",
             (long long)value, s->expert_inner, SIZE_WIDTH_MAX);
    s->shared_inner = (int32_t)shared_inner;
    TRY(hf_config_real_or(config, "routed_scaling_factor", -1e6, 1e6, 2.5, &scale, err));
    s->router_scale = (float)scale;
    if (s->n_experts % s->n_group != 0)
        FAIL(UM_FORMAT, err, "config.json: \"n_group\" %d does not divide \"num_experts\" %d",
             s->n_group, s->n_experts);
    if (s->n_group > 1 && s->n_experts / s->n_group < 2)
        FAIL(UM_FORMAT, err,
             "config.json: \"n_group\" %d leaves %d experts to a group; its score needs two",
             s->n_group, s->n_experts / s->n_group);
    if (s->topk_group > s->n_group)
        FAIL(UM_FORMAT, err, "config.json: \"topk_group\" is %d, more than the %d groups there are",
             s->topk_group, s->n_group);
    s->router_score = ROUTE_SCORE_SIGMOID;
    s->is_router_normalised = s->n_active > 1;
    TRY(describe_block_routing(config, s, err));
    int32_t n_reachable = s->n_experts / s->n_group * s->topk_group;
    if (s->n_active > n_reachable)
        FAIL(UM_FORMAT, err,
             "config.json: \"num_experts_per_tok\" is %d, but \"topk_group\" lets %d of %d be "
             "reached",
             s->n_active, n_reachable, s->n_experts);
    return UM_OK;
}

/* The tokens that edit a sequence's length; a config names both or neither. */
static um_status describe_edits(const hf_config *config, const transformer_shape *s,
                                model_traits *traits, um_error *err) {
    int64_t delete_token, split_token;
    TRY(hf_config_int_or(config, "delete_token_id", 0, s->vocab - 1, -1, &delete_token, err));
    TRY(hf_config_int_or(config, "split_token_id", 0, s->vocab - 1, -1, &split_token, err));
    if ((delete_token < 0) != (split_token < 0) ||
        (delete_token >= 0 && delete_token == split_token))
        FAIL(UM_FORMAT, err,
             "config.json: \"delete_token_id\" and \"split_token_id\" are two tokens, or both "
             "absent; found %lld and %lld",
             (long long)delete_token, (long long)split_token);
    if (delete_token < 0) return UM_OK;
    traits->delete_token = (int32_t)delete_token;
    traits->split_token = (int32_t)split_token;
    /* LLaDA2.2's generate(): threshold 0.5, editing_threshold 0, max_post_steps 16. */
    traits->policy = "levenshtein";
    traits->threshold = 0.5;
    traits->edit_threshold = 0;
    return UM_OK;
}

static um_status describe(const hf_config *config, transformer_shape *s, model_traits *traits,
                          um_error *err) {
    int64_t value;
    double real;
    TRY(refuse_variants(config, err));
    TRY(config_size(config, "num_hidden_layers", NULL, SIZE_LAYERS_MAX, &s->n_layers, err));
    TRY(config_size(config, "hidden_size", NULL, SIZE_WIDTH_MAX, &s->hidden, err));
    TRY(config_size(config, "num_attention_heads", NULL, SIZE_HEADS_MAX, &s->n_heads, err));
    TRY(hf_config_int_or(config, "num_key_value_heads", 0, SIZE_HEADS_MAX, 0, &value, err));
    s->n_kv_heads = value ? (int32_t)value : s->n_heads;
    TRY(hf_config_int_or(config, "head_dim", 1, SIZE_HEAD_DIM_MAX, s->hidden / s->n_heads, &value,
                         err));
    s->head_dim = (int32_t)value;
    if (s->head_dim < 1)
        FAIL(UM_FORMAT, err,
             "config.json: \"num_attention_heads\" is %d, more than \"hidden_size\", %d",
             s->n_heads, s->hidden);
    TRY(config_rotary_share(config, 0.5, &real, err));
    s->rotary_dim = (int32_t)((double)s->head_dim * real);
    if (hf_config_has(config, "rotary_dim")) {
        TRY(hf_config_int(config, "rotary_dim", 0, SIZE_HEAD_DIM_MAX, &value, err));
        if (value != s->rotary_dim)
            FAIL(UM_FORMAT, err,
                 "config.json: \"rotary_dim\" is %lld, but head_dim %d times "
                 "partial_rotary_factor gives %d",
                 (long long)value, s->head_dim, s->rotary_dim);
    }
    TRY(config_rope_theta(config, 10000, &s->rope_theta, err));
    TRY(hf_config_real_or(config, "rms_norm_eps", 0, 1, 1e-5, &real, err));
    s->rms_eps = (float)real;
    s->logit_scale = 1;
    TRY(config_size(config, "vocab_size", NULL, SIZE_VOCAB_MAX, &s->vocab, err));
    s->embeddings = s->vocab;
    TRY(describe_experts(config, s, err));
    TRY(hf_config_int_or(config, "first_k_dense_replace", 0, SIZE_LAYERS_MAX, 0, &value, err));
    s->n_dense_layers = value < s->n_layers ? (int32_t)value : s->n_layers;
    if (s->n_dense_layers)
        TRY(config_size(config, "intermediate_size", NULL, SIZE_WIDTH_MAX, &s->inner, err));
    TRY(shape_check_heads(config, s, err));
    TRY(config_size(config, "max_position_embeddings", NULL, SIZE_CONTEXT_MAX, &traits->context,
                    err));
    traits->attention = UM_ATTENTION_BLOCK_CAUSAL;
    /* inclusionAI/LLaDA2.0-mini: <|mask|> 156895 in a vocabulary of 157184. */
    traits->mask_token = s->vocab == 157184 ? 156895 : -1;
    traits->extra_stop_token = -1;
    traits->has_tempered_confidence = true;
    /* generate()'s defaults: block_length 32, steps 32, threshold 0.95; editing_threshold 0.9,
     * max_post_steps 16 (LLaDA2.1). */
    traits->policy = "threshold";
    traits->block_len = 32;
    traits->threshold = 0.95;
    traits->edit_threshold = 0.9;
    traits->post_steps = 16;
    /* A checkpoint that routes by blocks is denoised in the same ones. */
    if (s->n_block_experts) traits->block_len = traits->block_multiple = s->expert_block_len;
    return describe_edits(config, s, traits, err);
}

static um_status bind_moe(const hf_config *config, const tensor_catalog *catalog,
                          const transformer_shape *s, const char *prefix, moe_weights *moe,
                          um_error *err) {
    char name[160], expert[160];
    bool has_bias;
    TRY(bind_matrix(catalog, tensor_name(name, "%s.gate.weight", prefix), s->n_experts, s->hidden,
                    &moe->router, err));
    TRY(hf_config_bool_or(config, "moe_router_enable_expert_bias", true, &has_bias, err));
    tensor_name(name, "%s.gate.expert_bias", prefix);
    if (has_bias)
        TRY(bind_vector(catalog, name, s->n_experts, &moe->router_bias, err));
    else
        TRY(bind_absent(catalog, name, "moe_router_enable_expert_bias", 0, err));
    TRY(bind_experts(catalog, prefix, s, moe, err));
    if (!s->shared_inner)
        return bind_absent(catalog, tensor_name(name, "%s.shared_experts.gate_proj.weight", prefix),
                           "num_shared_experts", 0, err);
    return bind_mlp(catalog, tensor_name(expert, "%s.shared_experts", prefix), s->hidden,
                    s->shared_inner, &moe->shared, err);
}

/* query_key_value is one matrix: queries, keys, values, heads after each other. */
static um_status bind_attention(const hf_config *config, const tensor_catalog *catalog,
                                const transformer_shape *s, const char *prefix,
                                layer_weights *layer, um_error *err) {
    char name[160];
    bool has_qkv_bias, has_bias, has_norms;
    int32_t q_width = s->n_heads * s->head_dim, kv_width = s->n_kv_heads * s->head_dim;
    matrix qkv;
    TRY(bind_matrix(catalog, tensor_name(name, "%s.query_key_value.weight", prefix),
                    q_width + 2 * kv_width, s->hidden, &qkv, err));
    layer->wq.w = matrix_rows(&qkv, 0, q_width);
    layer->wk.w = matrix_rows(&qkv, q_width, kv_width);
    layer->wv.w = matrix_rows(&qkv, q_width + kv_width, kv_width);
    TRY(hf_config_bool_or(config, "use_qkv_bias", false, &has_qkv_bias, err));
    if (has_qkv_bias) {
        float *bias;
        TRY(bind_vector(catalog, tensor_name(name, "%s.query_key_value.bias", prefix),
                        q_width + 2 * kv_width, &bias, err));
        layer->wq.bias = memory_alloc_array((size_t)q_width, sizeof *bias);
        layer->wk.bias = memory_alloc_array((size_t)kv_width, sizeof *bias);
        layer->wv.bias = memory_alloc_array((size_t)kv_width, sizeof *bias);
        if (!layer->wq.bias || !layer->wk.bias || !layer->wv.bias) {
            memory_free(bias);
            FAIL(UM_NO_MEMORY, err, "no memory for the biases of %s", prefix);
        }
        memcpy(layer->wq.bias, bias, (size_t)q_width * sizeof *bias);
        memcpy(layer->wk.bias, bias + q_width, (size_t)kv_width * sizeof *bias);
        memcpy(layer->wv.bias, bias + q_width + kv_width, (size_t)kv_width * sizeof *bias);
        memory_free(bias);
    }
    TRY(hf_config_bool_or(config, "use_qk_norm", true, &has_norms, err));
    if (has_norms) {
        TRY(bind_vector(catalog, tensor_name(name, "%s.query_layernorm.weight", prefix),
                        s->head_dim, &layer->q_norm, err));
        TRY(bind_vector(catalog, tensor_name(name, "%s.key_layernorm.weight", prefix), s->head_dim,
                        &layer->k_norm, err));
    } else {
        TRY(bind_absent(catalog, tensor_name(name, "%s.query_layernorm.weight", prefix),
                        "use_qk_norm", 0, err));
    }
    TRY(bind_matrix(catalog, tensor_name(name, "%s.dense.weight", prefix), s->hidden, q_width,
                    &layer->wo.w, err));
    TRY(hf_config_bool_or(config, "use_bias", false, &has_bias, err));
    if (!has_bias) return UM_OK;
    return bind_vector(catalog, tensor_name(name, "%s.dense.bias", prefix), s->hidden,
                       &layer->wo.bias, err);
}

static um_status bind(const hf_config *config, const tensor_catalog *catalog, transformer *t,
                      um_error *err) {
    const transformer_shape *s = &t->shape;
    char name[160], prefix[160];
    TRY(bind_matrix(catalog, "model.word_embeddings.weight", s->vocab, s->hidden, &t->embedding,
                    err));
    TRY(bind_vector(catalog, "model.norm.weight", s->hidden, &t->final_norm, err));
    TRY(bind_head(config, catalog, t, err));
    for (int32_t i = 0; i < s->n_layers; i++) {
        layer_weights *layer = &t->layers[i];
        TRY(bind_vector(catalog, tensor_name(name, "model.layers.%d.input_layernorm.weight", i),
                        s->hidden, &layer->attn_norm, err));
        TRY(bind_vector(catalog,
                        tensor_name(name, "model.layers.%d.post_attention_layernorm.weight", i),
                        s->hidden, &layer->mlp_norm, err));
        TRY(bind_attention(config, catalog, s, tensor_name(prefix, "model.layers.%d.attention", i),
                           layer, err));
        tensor_name(prefix, "model.layers.%d.mlp", i);
        layer->is_moe = i >= s->n_dense_layers;
        if (layer->is_moe)
            TRY(bind_moe(config, catalog, s, prefix, &layer->moe, err));
        else
            TRY(bind_mlp(catalog, prefix, s->hidden, s->inner, &layer->mlp, err));
    }
    /* Ling 2.0 may carry layers for multi-token prediction behind the others; they are not used. */
    if (hf_config_has(config, "num_nextn_predict_layers")) return UM_OK;
    return bind_absent(catalog,
                       tensor_name(name, "model.layers.%d.input_layernorm.weight", s->n_layers),
                       "num_hidden_layers", s->n_layers, err);
}

const family family_llada2_moe = {
    .name = "llada2_moe",
    .architectures = {"LLaDA2MoeModelLM", "LLaDA2MoeForCausalLM", NULL},
    .model_types = {"llada2_moe", NULL},
    .describe = describe,
    .bind = bind,
};

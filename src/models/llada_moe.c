/* SPDX-License-Identifier: Apache-2.0
 *
 * LLaDA-MoE-7B-A1B (inclusionAI): 64 experts with a softmax router whose weights are not
 * normalised, full attention. Its model_type is "llada", as LLaDA-8B's: only the architecture tells
 * them apart. Source: modeling_lladamoe.py and configuration_lladamoe.py of
 * inclusionAI/LLaDA-MoE-7B-A1B-Base.
 */
#include "models/qwen.h"

/* The family's code reads none of these keys; what they would ask for is refused. */
static um_status refuse_variants(const hf_config *config, um_error *err) {
    int64_t n_group;
    double scale;
    TRY(config_expect_string(config, "moe_router_score_function", "softmax", err));
    TRY(config_refuse(config, "norm_topk_prob", err));
    TRY(hf_config_real_or(config, "routed_scaling_factor", -1e6, 1e6, 1, &scale, err));
    if (scale != 1)
        FAIL(UM_UNSUPPORTED, err, "config.json: \"routed_scaling_factor\": expected 1, found %g",
             scale);
    TRY(hf_config_int_or(config, "router_num_group", -2, SIZE_EXPERTS_MAX, 1, &n_group, err));
    if (n_group > 1)
        FAIL(UM_UNSUPPORTED, err, "config.json: \"router_num_group\": expected null, found %lld",
             (long long)n_group);
    if (hf_config_is_set(config, "clip_qkv"))
        FAIL(UM_UNSUPPORTED, err, "config.json: \"clip_qkv\" is set; expected null");
    return UM_OK;
}

/* moe_layer_freq has a number for each layer: 0 dense, else experts. `layers` may be NULL. */
static um_status mark_layers(const hf_config *config, const transformer_shape *s,
                             layer_weights *layers, int32_t *n_dense, um_error *err) {
    int32_t kinds[SIZE_LAYERS_MAX], n_kinds;
    TRY(hf_config_ints_or_none(config, "moe_layer_freq", 0, SIZE_LAYERS_MAX, kinds, SIZE_LAYERS_MAX,
                               &n_kinds, err));
    if (n_kinds != s->n_layers)
        FAIL(UM_FORMAT, err,
             "config.json: \"moe_layer_freq\": expected a number for each of %d layers, found %d",
             s->n_layers, n_kinds);
    *n_dense = 0;
    for (int32_t i = 0; i < s->n_layers; i++) {
        if (layers) layers[i].is_moe = kinds[i] != 0;
        *n_dense += kinds[i] == 0;
    }
    return UM_OK;
}

static um_status describe_experts(const hf_config *config, transformer_shape *s, um_error *err) {
    int64_t shared_inner;
    int32_t n_dense;
    TRY(config_size(config, "num_experts", NULL, SIZE_EXPERTS_MAX, &s->n_experts, err));
    TRY(config_size(config, "num_experts_per_tok", NULL, SIZE_EXPERTS_MAX, &s->n_active, err));
    if (s->n_active > s->n_experts)
        FAIL(UM_FORMAT, err,
             "config.json: \"num_experts_per_tok\" is %d, more than the %d experts there are",
             s->n_active, s->n_experts);
    TRY(config_size(config, "expert_intermediate_size", NULL, SIZE_WIDTH_MAX, &s->expert_inner,
                    err));
    TRY(hf_config_int_or(config, "shared_expert_intermediate_size", 0, SIZE_WIDTH_MAX, 0,
                         &shared_inner, err));
    s->shared_inner = (int32_t)shared_inner;
    TRY(mark_layers(config, s, NULL, &n_dense, err));
    if (n_dense)
        TRY(config_size(config, "dense_intermediate_size", NULL, SIZE_WIDTH_MAX, &s->inner, err));
    s->router_score = ROUTE_SCORE_SOFTMAX;
    s->is_router_weight_biased = true; /* where there is a bias: the code adds it to the weights */
    s->router_scale = 1;
    s->n_group = s->topk_group = 1;
    return UM_OK;
}

static um_status describe(const hf_config *config, transformer_shape *s, model_traits *traits,
                          um_error *err) {
    TRY(refuse_variants(config, err));
    TRY(qwen_describe(config, s, traits, err));
    TRY(describe_experts(config, s, err));
    traits->attention = UM_ATTENTION_FULL;
    /* <|mask|> 156895 in a vocabulary of 157184; <|role_end|> 156900 ends a turn beside the
     * config's
     * <|endoftext|> 156892. */
    bool is_published = s->vocab == 157184;
    traits->mask_token = is_published ? 156895 : -1;
    traits->extra_stop_token = is_published ? 156900 : -1;
    traits->has_inclusive_threshold = true;
    /* As LLaDA, whose generate.py its card shows. */
    traits->policy = "schedule";
    traits->block_len = 32;
    traits->threshold = 0.9;
    return UM_OK;
}

/* What qwen_bind does not know: the router's bias, and the shared expert beside the MLP. */
static um_status bind_extras(const hf_config *config, const tensor_catalog *catalog, int32_t i,
                             const transformer_shape *s, moe_weights *moe, um_error *err) {
    char name[160];
    bool has_bias;
    TRY(hf_config_bool_or(config, "moe_router_enable_expert_bias", false, &has_bias, err));
    tensor_name(name, "model.layers.%d.mlp.expert_bias", i);
    if (has_bias)
        TRY(bind_vector(catalog, name, s->n_experts, &moe->router_bias, err));
    else
        TRY(bind_absent(catalog, name, "moe_router_enable_expert_bias", 0, err));
    if (s->shared_inner)
        return bind_mlp(catalog, tensor_name(name, "model.layers.%d.shared_expert", i), s->hidden,
                        s->shared_inner, &moe->shared, err);
    return bind_absent(catalog,
                       tensor_name(name, "model.layers.%d.shared_expert.gate_proj.weight", i),
                       "shared_expert_intermediate_size", 0, err);
}

static um_status bind(const hf_config *config, const tensor_catalog *catalog, transformer *t,
                      um_error *err) {
    const transformer_shape *s = &t->shape;
    qwen_parts parts;
    int32_t n_dense;
    TRY(hf_config_bool_or(config, "attention_bias", false, &parts.has_qkv_bias, err));
    parts.has_output_bias = parts.has_qkv_bias;
    TRY(hf_config_bool_or(config, "qk_layernorm", false, &parts.has_qk_norms, err));
    TRY(mark_layers(config, s, t->layers, &n_dense, err));
    TRY(qwen_bind(config, catalog, &parts, t, err));
    for (int32_t i = 0; i < s->n_layers; i++)
        if (t->layers[i].is_moe) TRY(bind_extras(config, catalog, i, s, &t->layers[i].moe, err));
    return UM_OK;
}

const family family_llada_moe = {
    .name = "llada_moe",
    .architectures = {"LLaDAMoEModelLM", "LLaDAMoEModel", NULL},
    .model_types = {"llada_moe", NULL},
    .describe = describe,
    .bind = bind,
};

/* SPDX-License-Identifier: Apache-2.0
 *
 * LLaDA-8B and LLaDA-1.5 (GSAI-ML): a dense transformer with full attention over a fixed canvas.
 * Two spellings of the same model are read: the OLMo-like one of the published checkpoints
 * (d_model, model.transformer.blocks.N.q_proj) and the one of conversions with Llama's names
 * (hidden_size, model.layers.N.self_attn.q_proj). Source of keys, names and formulas:
 * modeling_llada.py and configuration_llada.py of GSAI-ML/LLaDA-8B-Base.
 */
#include <math.h>
#include <string.h>

#include "models/family.h"

/* Values that this file computes; another value in a config would be ignored silently. */
static um_status refuse_variants(const hf_config *config, um_error *err) {
    static const char *const strings[][2] = {{"layer_norm_type", "rms"},
                                             {"block_type", "llama"},
                                             {"activation_type", "silu"},
                                             {"hidden_act", "silu"}};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        TRY(config_expect_string(config, strings[i][0], strings[i][1], err));
    static const char *const refused[] = {"alibi", "attention_layer_norm", "input_emb_norm",
                                          "include_bias", "bias_for_layer_norm"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        TRY(config_refuse(config, refused[i], err));
    static const char *const required[] = {"rope", "layer_norm_with_affine"};
    for (size_t i = 0; i < sizeof required / sizeof *required; i++) {
        bool is_on;
        TRY(hf_config_bool_or(config, required[i], true, &is_on, err));
        if (!is_on)
            FAIL(UM_UNSUPPORTED, err, "config.json: \"%s\" is false; expected true", required[i]);
    }
    int64_t group;
    TRY(hf_config_int_or(config, "block_group_size", 1, 1 << 20, 1, &group, err));
    if (group != 1)
        FAIL(UM_UNSUPPORTED, err, "config.json: \"block_group_size\": expected 1, found %lld",
             (long long)group);
    return UM_OK;
}

/* n_kv_heads, or what multi_query_attention says where it is absent (effective_n_kv_heads). */
static um_status describe_kv_heads(const hf_config *config, transformer_shape *s, um_error *err) {
    const char *key = hf_config_has(config, "n_kv_heads") ? "n_kv_heads" : "num_key_value_heads";
    bool is_multi_query;
    TRY(hf_config_bool_or(config, "multi_query_attention", false, &is_multi_query, err));
    int64_t value;
    TRY(hf_config_int_or(config, key, 1, SIZE_HEADS_MAX, is_multi_query ? 1 : s->n_heads, &value,
                         err));
    s->n_kv_heads = (int32_t)value;
    return UM_OK;
}

static um_status describe_inner(const hf_config *config, transformer_shape *s, um_error *err) {
    if (hf_config_has(config, "mlp_hidden_size") || hf_config_has(config, "intermediate_size"))
        return config_size(config, "mlp_hidden_size", "intermediate_size", SIZE_WIDTH_MAX,
                           &s->inner, err);
    int64_t ratio;
    TRY(hf_config_int_or(config, "mlp_ratio", 1, 64, 4, &ratio, err));
    s->inner = (int32_t)ratio * s->hidden;
    return UM_OK;
}

static um_status describe(const hf_config *config, transformer_shape *s, model_traits *traits,
                          um_error *err) {
    double real;
    bool is_scaled;
    TRY(refuse_variants(config, err));
    TRY(config_size(config, "n_layers", "num_hidden_layers", SIZE_LAYERS_MAX, &s->n_layers, err));
    TRY(config_size(config, "d_model", "hidden_size", SIZE_WIDTH_MAX, &s->hidden, err));
    TRY(config_size(config, "n_heads", "num_attention_heads", SIZE_HEADS_MAX, &s->n_heads, err));
    if (s->hidden % s->n_heads != 0)
        FAIL(UM_FORMAT, err, "config.json: \"%s\" %d does not divide \"%s\" %d",
             hf_config_has(config, "n_heads") ? "n_heads" : "num_attention_heads", s->n_heads,
             hf_config_has(config, "d_model") ? "d_model" : "hidden_size", s->hidden);
    s->head_dim = s->rotary_dim = s->hidden / s->n_heads;
    TRY(describe_kv_heads(config, s, err));
    TRY(describe_inner(config, s, err));
    TRY(config_rope_theta(config, 10000, &s->rope_theta, err));
    TRY(hf_config_real_or(config, "rms_norm_eps", 0, 1, 1e-5, &real, err));
    s->rms_eps = (float)real;
    TRY(config_size(config, "vocab_size", NULL, SIZE_VOCAB_MAX, &s->vocab, err));
    /* embedding_size pads the table; the output head has as many rows. */
    if (hf_config_has(config, "embedding_size")) {
        int32_t n_tokens = s->vocab;
        TRY(config_size(config, "embedding_size", NULL, SIZE_VOCAB_MAX, &s->vocab, err));
        if (s->vocab < n_tokens)
            FAIL(UM_FORMAT, err,
                 "config.json: \"embedding_size\" %d is smaller than \"vocab_size\" %d", s->vocab,
                 n_tokens);
    }
    s->embeddings = s->vocab;
    TRY(hf_config_bool_or(config, "scale_logits", false, &is_scaled, err));
    s->logit_scale = is_scaled ? 1.0f / sqrtf((float)s->hidden) : 1.0f;
    TRY(shape_check_heads(config, s, err));
    TRY(config_size(config, "max_sequence_length", "max_position_embeddings", SIZE_CONTEXT_MAX,
                    &traits->context, err));
    traits->attention = UM_ATTENTION_FULL;
    /* GSAI-ML/LLaDA-8B: <|mdm_mask|> 126336; <|eot_id|> 126348 ends a turn beside the config's
     * <|endoftext|> 126081. */
    bool is_published = s->vocab == 126464;
    traits->mask_token = is_published ? 126336 : -1;
    traits->extra_stop_token = is_published ? 126348 : -1;
    traits->has_inclusive_threshold = true;
    /* generate.py: low-confidence remasking, temperature 0; its demonstration uses blocks of 32
     * with one token a step. Threshold: Fast-dLLM v1's 0.9. */
    traits->policy = "schedule";
    traits->block_len = 32;
    traits->threshold = 0.9;
    return UM_OK;
}

/* The two spellings of tensor names. */
typedef struct names {
    const char *embedding, *final_norm, *head, *layer;
    const char *attn_norm, *mlp_norm, *wq, *wk, *wv, *wo, *gate, *up, *down;
} names;

static const names native_names = {
    .embedding = "model.transformer.wte.weight",
    .final_norm = "model.transformer.ln_f.weight",
    .head = "model.transformer.ff_out.weight",
    .layer = "model.transformer.blocks",
    .attn_norm = "attn_norm",
    .mlp_norm = "ff_norm",
    .wq = "q_proj",
    .wk = "k_proj",
    .wv = "v_proj",
    .wo = "attn_out",
    .gate = "ff_proj",
    .up = "up_proj",
    .down = "ff_out",
};

static const names llama_names = {
    .embedding = "model.embed_tokens.weight",
    .final_norm = "model.norm.weight",
    .head = "lm_head.weight",
    .layer = "model.layers",
    .attn_norm = "input_layernorm",
    .mlp_norm = "post_attention_layernorm",
    .wq = "self_attn.q_proj",
    .wk = "self_attn.k_proj",
    .wv = "self_attn.v_proj",
    .wo = "self_attn.o_proj",
    .gate = "mlp.gate_proj",
    .up = "mlp.up_proj",
    .down = "mlp.down_proj",
};

/* One linear map of a layer, with a bias where the config asks for it. */
static um_status bind_linear(const tensor_catalog *catalog, const names *n, int32_t i_layer,
                             const char *part, int32_t n_out, int32_t n_in, bool has_bias,
                             linear_weights *linear, um_error *err) {
    char name[160];
    TRY(bind_matrix(catalog, tensor_name(name, "%s.%d.%s.weight", n->layer, i_layer, part), n_out,
                    n_in, &linear->w, err));
    if (!has_bias) return UM_OK;
    return bind_vector(catalog, tensor_name(name, "%s.%d.%s.bias", n->layer, i_layer, part), n_out,
                       &linear->bias, err);
}

static um_status bind_layer(const tensor_catalog *catalog, const names *n, int32_t i,
                            const transformer_shape *s, bool has_bias, layer_weights *layer,
                            um_error *err) {
    char name[160];
    int32_t kv_width = s->n_kv_heads * s->head_dim;
    TRY(bind_vector(catalog, tensor_name(name, "%s.%d.%s.weight", n->layer, i, n->attn_norm),
                    s->hidden, &layer->attn_norm, err));
    TRY(bind_vector(catalog, tensor_name(name, "%s.%d.%s.weight", n->layer, i, n->mlp_norm),
                    s->hidden, &layer->mlp_norm, err));
    TRY(bind_linear(catalog, n, i, n->wq, s->hidden, s->hidden, has_bias, &layer->wq, err));
    TRY(bind_linear(catalog, n, i, n->wk, kv_width, s->hidden, has_bias, &layer->wk, err));
    TRY(bind_linear(catalog, n, i, n->wv, kv_width, s->hidden, has_bias, &layer->wv, err));
    TRY(bind_linear(catalog, n, i, n->wo, s->hidden, s->hidden, false, &layer->wo, err));
    TRY(bind_matrix(catalog, tensor_name(name, "%s.%d.%s.weight", n->layer, i, n->gate), s->inner,
                    s->hidden, &layer->mlp.gate, err));
    TRY(bind_matrix(catalog, tensor_name(name, "%s.%d.%s.weight", n->layer, i, n->up), s->inner,
                    s->hidden, &layer->mlp.up, err));
    return bind_matrix(catalog, tensor_name(name, "%s.%d.%s.weight", n->layer, i, n->down),
                       s->hidden, s->inner, &layer->mlp.down, err);
}

static um_status bind(const hf_config *config, const tensor_catalog *catalog, transformer *t,
                      um_error *err) {
    const transformer_shape *s = &t->shape;
    const names *n =
        tensor_catalog_find(catalog, llama_names.embedding) ? &llama_names : &native_names;
    bool is_tied, has_qkv_bias, has_attention_bias;
    TRY(hf_config_bool_or(config, "include_qkv_bias", false, &has_qkv_bias, err));
    TRY(hf_config_bool_or(config, "attention_bias", false, &has_attention_bias, err));
    TRY(bind_matrix(catalog, n->embedding, s->embeddings, s->hidden, &t->embedding, err));
    TRY(bind_vector(catalog, n->final_norm, s->hidden, &t->final_norm, err));
    const char *key =
        hf_config_has(config, "weight_tying") ? "weight_tying" : "tie_word_embeddings";
    TRY(hf_config_bool_or(config, key, false, &is_tied, err));
    if (is_tied)
        t->head = t->embedding;
    else
        TRY(bind_matrix(catalog, n->head, s->vocab, s->hidden, &t->head, err));
    for (int32_t i = 0; i < s->n_layers; i++)
        TRY(bind_layer(catalog, n, i, s, has_qkv_bias || has_attention_bias, &t->layers[i], err));
    char name[160];
    return bind_absent(
        catalog, tensor_name(name, "%s.%d.%s.weight", n->layer, s->n_layers, n->attn_norm),
        hf_config_has(config, "n_layers") ? "n_layers" : "num_hidden_layers", s->n_layers, err);
}

const family family_llada = {
    .name = "llada",
    .architectures = {"LLaDAModelLM", "LLaDAModel", NULL},
    .model_types = {"llada", NULL},
    .describe = describe,
    .bind = bind,
};

/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes as config.json and, after a zero byte, generation_config.json; then every getter with the
 * keys that the families read, and the family that the config names. Values that come out must
 * respect their bounds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/hf_config.h"
#include "models/family.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void require(int is_true) {
    if (!is_true) abort();
}

static const char *const keys[] = {
    "architectures",
    "model_type",
    "hidden_size",
    "d_model",
    "num_hidden_layers",
    "n_layers",
    "num_attention_heads",
    "n_heads",
    "num_key_value_heads",
    "n_kv_heads",
    "head_dim",
    "intermediate_size",
    "mlp_hidden_size",
    "mlp_ratio",
    "moe_intermediate_size",
    "vocab_size",
    "embedding_size",
    "max_position_embeddings",
    "max_sequence_length",
    "rms_norm_eps",
    "rope_theta",
    "partial_rotary_factor",
    "rotary_dim",
    "rope_scaling",
    "num_experts",
    "num_experts_per_tok",
    "num_shared_experts",
    "n_group",
    "topk_group",
    "routed_scaling_factor",
    "first_k_dense_replace",
    "norm_topk_prob",
    "score_function",
    "hidden_act",
    "use_bias",
    "use_qkv_bias",
    "use_qk_norm",
    "tie_word_embeddings",
    "weight_tying",
    "norm_head",
    "mask_token_id",
    "eos_token_id",
    "pad_token_id",
    "block_length",
    "block_size",
    "threshold",
    "temperature",
    "top_k",
    "top_p",
    "steps",
    "remasking",
    "rope_parameters.rope_theta",
    "rope_parameters.rope_type",
    "rope_scaling.factor",
    "expert_capacity",
    "bd_size",
    "decoder_sparse_step",
    "delete_token_id",
    "expert_intermediate_size",
    "dense_intermediate_size",
    "qk_layernorm",
    "attention_bias",
};

/* What the engine relies on, of a config that a family accepts. */
static void describe(const hf_config *config) {
    const family *kind;
    transformer_shape s = {0};
    model_traits t = {.mask_token = -1, .delete_token = -1, .split_token = -1};
    um_error err = {0};
    if (family_find(config, &kind, &err) != UM_OK ||
        kind->describe(config, &s, &t, &err) != UM_OK) {
        require(err.message[0] != 0);
        return;
    }
    require(s.n_layers > 0 && s.n_layers <= SIZE_LAYERS_MAX && s.hidden > 0 && s.vocab > 0);
    require(s.n_heads > 0 && s.n_kv_heads > 0 && s.n_heads % s.n_kv_heads == 0);
    require(s.head_dim > 0 && s.rotary_dim >= 0 && s.rotary_dim <= s.head_dim);
    require(s.embeddings >= s.vocab && t.context > 0 && t.policy && t.policy[0]);
    require(t.block_len >= 0 && (t.block_len > 0 || t.attention == UM_ATTENTION_FULL));
    require(t.sub_block == 0 || t.block_len % t.sub_block == 0);
    require(t.mask_token < s.vocab && t.delete_token < s.vocab && t.split_token < s.vocab);
    if (!s.n_experts) return;
    require(s.n_active > 0 && s.n_active <= s.n_experts && s.expert_inner > 0);
    require(s.n_group > 0 && s.topk_group > 0 && s.topk_group <= s.n_group);
    require(s.n_experts % s.n_group == 0 && (s.n_group == 1 || s.n_block_experts == 0));
    require(s.n_block_experts == 0 || (s.n_block_experts >= s.n_active &&
                                       s.n_block_experts <= s.n_experts && s.expert_block_len > 0));
}

static void read_key(const hf_config *config, const char *key) {
    enum { FALLBACK = 7 };
    int64_t integer;
    double real;
    bool flag;
    const char *text;
    um_error err;
    if (hf_config_int(config, key, 1, 4096, &integer, &err) == UM_OK)
        require(integer >= 1 && integer <= 4096 && hf_config_has(config, key));
    if (hf_config_int_or(config, key, INT64_MIN, INT64_MAX, FALLBACK, &integer, &err) == UM_OK)
        require(integer == FALLBACK || hf_config_has(config, key));
    if (hf_config_real(config, key, 0, 1, &real, &err) == UM_OK) require(real >= 0 && real <= 1);
    if (hf_config_real_or(config, key, -1e9, 1e9, 0.5, &real, &err) == UM_OK)
        require(real >= -1e9 && real <= 1e9);
    (void)hf_config_bool_or(config, key, true, &flag, &err);
    if (hf_config_string_or(config, key, "", &text, &err) == UM_OK)
        require(strlen(text) < SIZE_MAX);
    if (hf_config_generation_int_or(config, key, 0, 100, FALLBACK, &integer, &err) == UM_OK)
        require(integer >= 0 && integer <= 100);
    if (hf_config_generation_real_or(config, key, 0, 1, 0.5, &real, &err) == UM_OK)
        require(real >= 0 && real <= 1);
    if (hf_config_generation_string_or(config, key, "", &text, &err) == UM_OK)
        require(strlen(text) < SIZE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    enum { VOCAB = 4096, N_STOP = 4 };
    const char *text = (const char *)data;
    const char *zero = n_bytes ? memchr(text, 0, n_bytes) : NULL;
    size_t n_config = zero ? (size_t)(zero - text) : n_bytes;
    hf_config *config;
    um_error err = {0};
    um_status status = hf_config_parse(text, n_config, zero ? zero + 1 : NULL,
                                       zero ? n_bytes - n_config - 1 : 0, &config, &err);
    if (status != UM_OK) {
        require(err.status == status && err.message[0] && !config);
        return 0;
    }
    (void)hf_config_architecture(config);
    (void)hf_config_model_type(config);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) read_key(config, keys[i]);
    int32_t tokens[N_STOP], n, mask;
    if (hf_config_stop_tokens(config, VOCAB, tokens, N_STOP, &n, &err) == UM_OK) {
        require(n >= 0 && n <= N_STOP);
        for (int32_t i = 0; i < n; i++) require(tokens[i] >= 0 && tokens[i] < VOCAB);
    }
    if (hf_config_mask_token(config, NULL, VOCAB, &mask, &err) == UM_OK)
        require(mask >= -1 && mask < VOCAB);
    int32_t list[8];
    if (hf_config_ints_or_none(config, "mlp_only_layers", 0, 8, list, 8, &n, &err) == UM_OK) {
        require(n >= 0 && n <= 8);
        for (int32_t i = 0; i < n; i++) require(list[i] >= 0 && list[i] <= 8);
    }
    describe(config);
    hf_config_close(config);
    return 0;
}

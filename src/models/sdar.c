/* SPDX-License-Identifier: Apache-2.0
 *
 * SDAR and TraDo: Qwen3, dense or with experts, under a block-causal mask of 4 (checkpoints with
 * other blocks say so in "block_size", or not at all).
 * Source: modeling_sdar.py, generate.py and README.md of JetAstra/SDAR.
 */
#include "models/qwen.h"

static um_status describe_common(const hf_config *config, transformer_shape *s,
                                 model_traits *traits, um_error *err) {
    int64_t block_len;
    TRY(qwen_describe(config, s, traits, err));
    /* I-DLM and its kin call themselves SDAR, and are causal and shifted. */
    TRY(config_refuse(config, "use_regular_causal", err));
    TRY(hf_config_int_or(config, "block_size", 1, SIZE_CONTEXT_MAX, 4, &block_len, err));
    traits->block_len = (int32_t)block_len;
    traits->attention = UM_ATTENTION_BLOCK_CAUSAL;
    /* 151669 is <|MASK|> in tokenizer_config.json and <MASK> in added_tokens.json. <|im_end|>
     * 151645 ends a turn; config.json names <|endoftext|> 151643 alone. */
    bool is_published = s->vocab == 151936;
    traits->mask_token = is_published ? 151669 : -1;
    traits->extra_stop_token = is_published ? 151645 : -1;
    traits->other_stop_token = is_published ? 151643 : -1;
    traits->has_tempered_confidence = true;
    /* generate.py: low_confidence_dynamic, confidence_threshold 0.85, as many steps as a block has
     * positions. The README serves with 0.9. */
    traits->policy = "dynamic";
    traits->threshold = 0.85;
    return UM_OK;
}

static um_status describe(const hf_config *config, transformer_shape *s, model_traits *traits,
                          um_error *err) {
    TRY(describe_common(config, s, traits, err));
    return qwen_describe_dense(config, s, err);
}

static um_status describe_moe(const hf_config *config, transformer_shape *s, model_traits *traits,
                              um_error *err) {
    TRY(describe_common(config, s, traits, err));
    return qwen_describe_moe(config, s, err);
}

static um_status bind(const hf_config *config, const tensor_catalog *catalog, transformer *t,
                      um_error *err) {
    qwen_parts parts;
    TRY(qwen3_parts(config, &parts, err));
    return qwen_bind(config, catalog, &parts, t, err);
}

static um_status bind_moe(const hf_config *config, const tensor_catalog *catalog, transformer *t,
                          um_error *err) {
    qwen_parts parts;
    TRY(qwen3_parts(config, &parts, err));
    return qwen_bind_moe(config, catalog, &parts, t, err);
}

const family family_sdar = {
    .name = "sdar",
    .architectures = {"SDARForCausalLM", NULL},
    .model_types = {"sdar", NULL},
    .describe = describe,
    .bind = bind,
};

const family family_sdar_moe = {
    .name = "sdar_moe",
    .architectures = {"SDARMoeForCausalLM", NULL},
    .model_types = {"sdar_moe", NULL},
    .describe = describe_moe,
    .bind = bind_moe,
};

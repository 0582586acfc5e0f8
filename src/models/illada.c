/* SPDX-License-Identifier: Apache-2.0
 *
 * iLLaDA-8B (GSAI-ML): LLaDA's successor with grouped heads and a new vocabulary, under Llama's
 * names. Decoded as LLaDA is.
 * Source: modeling_illada.py of GSAI-ML/iLLaDA-8B-Base.
 */
#include "models/qwen.h"

static um_status describe(const hf_config *config, transformer_shape *s, model_traits *traits,
                          um_error *err) {
    TRY(qwen_describe(config, s, traits, err));
    TRY(qwen_describe_dense(config, s, err));
    TRY(config_refuse(config, "mlp_bias", err));
    if (hf_config_is_set(config, "layer_norm_eps"))
        FAIL(UM_UNSUPPORTED, err,
             "config.json: \"layer_norm_eps\" is set; this version norms by the mean square only");
    traits->attention = UM_ATTENTION_FULL;
    /* <[MASK]> 5: no file says that it is the mask (README: mask_id 5). The end is 2. */
    bool is_published = s->vocab == 155136;
    traits->mask_token = is_published ? 5 : -1;
    traits->extra_stop_token = is_published ? 2 : -1;
    traits->has_inclusive_threshold = true;
    /* As LLaDA, whose generate.py the README points to. */
    traits->policy = "schedule";
    traits->block_len = 32;
    traits->threshold = 0.9;
    return UM_OK;
}

static um_status bind(const hf_config *config, const tensor_catalog *catalog, transformer *t,
                      um_error *err) {
    qwen_parts parts = {0};
    TRY(hf_config_bool_or(config, "attention_bias", false, &parts.has_qkv_bias, err));
    parts.has_output_bias = parts.has_qkv_bias;
    return qwen_bind(config, catalog, &parts, t, err);
}

const family family_illada = {
    .name = "illada",
    .architectures = {"ILLaDAForCausalLM", NULL},
    .model_types = {"illada", NULL},
    .describe = describe,
    .bind = bind,
};

/* SPDX-License-Identifier: Apache-2.0
 *
 * Fast-dLLM v2 (Efficient-Large-Model): Qwen2.5-Instruct under a block-causal mask of bd_size. The
 * row of a position scores the next one, and a finished block's last row seeds the next block.
 * Source: modeling.py and the card of Efficient-Large-Model/Fast_dLLM_v2_7B, v2/ of
 * NVlabs/Fast-dLLM.
 */
#include "models/qwen.h"

static um_status describe(const hf_config *config, transformer_shape *s, model_traits *traits,
                          um_error *err) {
    enum { SUB_BLOCK = 8 }; /* small_block_size */
    int64_t block_len;
    TRY(qwen_describe(config, s, traits, err));
    TRY(qwen_describe_dense(config, s, err));
    TRY(hf_config_int_or(config, "bd_size", 1, SIZE_CONTEXT_MAX, 32, &block_len, err));
    traits->block_len = (int32_t)block_len;
    traits->sub_block = block_len % SUB_BLOCK == 0 ? SUB_BLOCK : (int32_t)block_len;
    traits->attention = UM_ATTENTION_BLOCK_CAUSAL;
    traits->is_shifted = true;
    traits->has_seed = true;
    /* |<MASK>| 151665, the first id behind Qwen2.5's own tokens; the vocabularies of the 1.5B and
     * the 7B model. */
    bool is_published = s->vocab == 151936 || s->vocab == 152064;
    traits->mask_token = is_published ? 151665 : -1;
    traits->extra_stop_token = is_published ? 151645 : -1;
    traits->has_tempered_confidence = true;
    /* The card, the chat and the evaluation say threshold 0.9; generate() itself 1, batch_sample()
     * 0.95. Strictly above. */
    traits->policy = "threshold";
    traits->threshold = 0.9;
    return UM_OK;
}

static um_status bind(const hf_config *config, const tensor_catalog *catalog, transformer *t,
                      um_error *err) {
    qwen_parts parts = qwen2_parts();
    return qwen_bind(config, catalog, &parts, t, err);
}

const family family_fast_dllm_v2 = {
    .name = "fast_dllm_v2",
    .architectures = {"Fast_dLLM_QwenForCausalLM", NULL},
    .model_types = {"Fast_dLLM_Qwen", NULL},
    .describe = describe,
    .bind = bind,
};

/* SPDX-License-Identifier: Apache-2.0
 *
 * Dream-7B (Dream-org), and what has its files: Dream-Coder, DiffuCoder (apple). Qwen2.5 with full
 * attention; the row of a position scores the next one.
 * Source: modeling_dream.py, generation_utils.py and the README of Dream-org/Dream-v0-Instruct-7B.
 */
#include "models/qwen.h"

static um_status describe(const hf_config *config, transformer_shape *s, model_traits *traits,
                          um_error *err) {
    TRY(qwen_describe(config, s, traits, err));
    TRY(qwen_describe_dense(config, s, err));
    traits->attention = UM_ATTENTION_FULL;
    traits->is_shifted = true;
    /* <|mask|> 151666 in the vocabulary of Qwen2.5-7B; <|im_end|> 151645 ends a turn, <|endoftext|>
     * 151643 pads. */
    bool is_published = s->vocab == 152064;
    traits->mask_token = is_published ? 151666 : -1;
    traits->extra_stop_token = is_published ? 151645 : -1;
    traits->other_stop_token = is_published ? 151643 : -1;
    traits->has_tempered_confidence = true;
    traits->is_top_p_first = true; /* sample_tokens() of generation_utils.py */
    /* The README's call: alg "entropy", as many steps as tokens, over the whole answer. The default
     * of diffusion_generate() itself, "origin", unmasks at random. */
    traits->policy = "entropy";
    traits->threshold = 0.9;
    return UM_OK;
}

static um_status bind(const hf_config *config, const tensor_catalog *catalog, transformer *t,
                      um_error *err) {
    qwen_parts parts = qwen2_parts();
    return qwen_bind(config, catalog, &parts, t, err);
}

const family family_dream = {
    .name = "dream",
    .architectures = {"DreamModel", NULL},
    .model_types = {"Dream", NULL},
    .describe = describe,
    .bind = bind,
};

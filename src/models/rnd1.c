/* SPDX-License-Identifier: Apache-2.0
 *
 * RND1 (Radical Numerics): Qwen3-30B-A3B with full attention. A base model: it has no chat
 * template. Source: modeling_rnd.py, configuration_rnd.py and demo_rnd_generation.py of
 * RadicalNumerics/RND1.
 */
#include "models/qwen.h"

static um_status describe(const hf_config *config, transformer_shape *s, model_traits *traits,
                          um_error *err) {
    TRY(qwen_describe(config, s, traits, err));
    TRY(qwen_describe_moe(config, s, err));
    /* configuration_rnd.py: true where Qwen3-MoE's own default is false. */
    TRY(hf_config_bool_or(config, "norm_topk_prob", true, &s->is_router_normalised, err));
    traits->attention = UM_ATTENTION_FULL;
    bool is_published = s->vocab == 151936;
    traits->mask_token = is_published ? 151669 : -1;
    traits->extra_stop_token = is_published ? 151645 : -1;
    traits->other_stop_token = is_published ? 151643 : -1;
    traits->has_tempered_confidence = true;
    traits->is_shifted = true; /* rnd/sampling.py: pred_i[:, 1:] = pred_next[:, :-1] */
    traits->has_even_steps = true;
    /* sampling.py keeps the positions of the highest entropy masked; the demonstration makes as
     * many steps as tokens, over the whole answer. */
    traits->policy = "entropy";
    traits->threshold = 0.9;
    return UM_OK;
}

static um_status bind(const hf_config *config, const tensor_catalog *catalog, transformer *t,
                      um_error *err) {
    qwen_parts parts;
    TRY(qwen3_parts(config, &parts, err));
    return qwen_bind_moe(config, catalog, &parts, t, err);
}

const family family_rnd1 = {
    .name = "rnd1",
    .architectures = {"RND1LM", NULL},
    .model_types = {"rnd1", NULL},
    .describe = describe,
    .bind = bind,
};

/* SPDX-License-Identifier: Apache-2.0
 *
 * What a family file provides, and the helpers it is written with. A family knows its config keys
 * and its tensor names; nothing else in the project does.
 */
#ifndef MODELS_FAMILY_H
#define MODELS_FAMILY_H

#include "formats/hf_config.h"
#include "formats/tensor_catalog.h"
#include "models/model.h"
#include "models/transformer.h"

typedef struct family {
    const char *name;             /* "llada2_moe" */
    const char *architectures[6]; /* architectures[0] of config.json; NULL-terminated */
    const char *model_types[4];   /* model_type, asked only where there is no architecture */
    /* Reads config.json into shape, and into the traits what the family is and does by default.
     * Sets all fields; um_model_info's sizes and bytes are filled in by the caller. */
    um_status (*describe)(const hf_config *config, transformer_shape *shape, model_traits *traits,
                          um_error *err);
    /* Finds every tensor that the shape asks for. t->shape is set; t->layers [n_layers] is zeroed.
     * What it allocates is freed by transformer_deinit, also after a failure. */
    um_status (*bind)(const hf_config *config, const tensor_catalog *catalog, transformer *t,
                      um_error *err);
} family;

/* The family of a config; UM_UNSUPPORTED names what was found and what is known. */
um_status family_find(const hf_config *config, const family **found, um_error *err);

extern const family family_llada, family_illada, family_llada_moe, family_llada2_moe, family_dream,
    family_sdar, family_sdar_moe, family_rnd1, family_fast_dllm_v2;

/* Limits of plausible sizes: beyond them a config is damaged, and products of them stay far from
 * overflow. */
enum {
    SIZE_LAYERS_MAX = 1024,
    SIZE_WIDTH_MAX = 1 << 20,
    SIZE_HEADS_MAX = 4096,
    SIZE_HEAD_DIM_MAX = 8192,
    SIZE_VOCAB_MAX = 1 << 24,
    SIZE_EXPERTS_MAX = 1 << 14,
    SIZE_CONTEXT_MAX = 1 << 24
};

/* Reads a required size of 1..max under the first of two keys that is there (`other` may be NULL).
 */
um_status config_size(const hf_config *config, const char *key, const char *other, int32_t max,
                      int32_t *value, um_error *err);
/* Refuses a feature: fails with UM_UNSUPPORTED where the boolean `key` is true. */
um_status config_refuse(const hf_config *config, const char *key, um_error *err);
/* Refuses another value than `expected` of a string that may be absent. */
um_status config_expect_string(const hf_config *config, const char *key, const char *expected,
                               um_error *err);
/* The base of the rotary embedding, out of "rope_theta" or "rope_parameters" (transformers 5),
 * which must agree. fallback 0: one of them is required. Refuses scaled kinds; "rope_scaling" may
 * be null, false, or an object that says "default". */
um_status config_rope_theta(const hf_config *config, double fallback, double *theta, um_error *err);
/* The share of a head that is rotated, out of "partial_rotary_factor" in either place. */
um_status config_rotary_share(const hf_config *config, double fallback, double *share,
                              um_error *err);
/* n_heads is a multiple of n_kv_heads; rotary_dim is even and within head_dim. */
um_status shape_check_heads(const hf_config *config, const transformer_shape *shape, um_error *err);

/* Fails where the files hold a tensor that the config says is not there: part of a model would run
 * and write nonsense. `key` and `value` are the config's, as the sentence quotes them. */
um_status bind_absent(const tensor_catalog *catalog, const char *name, const char *key,
                      int32_t value, um_error *err);
/* A tensor name: prefix + layer number + rest, as printf. Returns buffer. */
const char *tensor_name(char buffer[160], const char *format, ...) BASE_PRINTF(2, 3);
/* A weight of exactly [n_out, n_in]. */
um_status bind_matrix(const tensor_catalog *catalog, const char *name, int32_t n_out, int32_t n_in,
                      matrix *w, um_error *err);
/* prefix.gate_proj, up_proj and down_proj. */
um_status bind_mlp(const tensor_catalog *catalog, const char *prefix, int32_t hidden, int32_t inner,
                   mlp_weights *mlp, um_error *err);
/* The routed experts under prefix.experts, each a gated MLP of its own
 * (experts.3.gate_proj.weight), or stacked as transformers 5 saves them: experts.gate_up_proj
 * [n_experts, 2 * inner, hidden], gate rows first, and experts.down_proj [n_experts, hidden,
 * inner]. All must have one type. */
um_status bind_experts(const tensor_catalog *catalog, const char *prefix,
                       const transformer_shape *shape, moe_weights *moe, um_error *err);
/* A tensor of exactly [n_items, n_out, n_in]: the matrices of n_items experts. */
um_status bind_stack(const tensor_catalog *catalog, const char *name, int32_t n_items,
                     int32_t n_out, int32_t n_in, const tensor **found, um_error *err);
/* Rows [first, first + n_rows) of item i_item. */
matrix stack_rows(const tensor *t, int32_t i_item, int32_t first, int32_t n_rows);
/* The output head lm_head.weight, or the embedding where "tie_word_embeddings" is true. */
um_status bind_head(const hf_config *config, const tensor_catalog *catalog, transformer *t,
                    um_error *err);
/* Rows [first, first + n) of a matrix. */
matrix matrix_rows(const matrix *w, int32_t first, int32_t n);
/* A vector of exactly [n], decoded to f32 into memory of its own. */
um_status bind_vector(const tensor_catalog *catalog, const char *name, int32_t n, float **values,
                      um_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the families made of Qwen2 and Qwen3 share, and what others spell in the same way: sizes,
 * names of tensors, dense and expert layers. Knows no mask and no policy: those are each family's.
 */
#ifndef MODELS_QWEN_H
#define MODELS_QWEN_H

#include "models/family.h"

/* What an attention block of this spelling may hold. */
typedef struct qwen_parts {
    bool has_qkv_bias, has_output_bias;
    bool has_qk_norms; /* norms over head_dim on queries and keys */
} qwen_parts;

/* Sizes and the context under the keys of Qwen2Config; refuses what this project does not compute.
 * Neither an MLP's width nor anything of experts. */
um_status qwen_describe(const hf_config *config, transformer_shape *shape, model_traits *traits,
                        um_error *err);
/* The width of a dense MLP. */
um_status qwen_describe_dense(const hf_config *config, transformer_shape *shape, um_error *err);
/* Experts and router under the keys of Qwen3MoeConfig; the dense width where a layer is dense. */
um_status qwen_describe_moe(const hf_config *config, transformer_shape *shape, um_error *err);
/* Binds model.embed_tokens, model.norm, lm_head and model.layers.N. A layer whose is_moe the caller
 * has set gets experts and a router, the others a dense MLP. */
um_status qwen_bind(const hf_config *config, const tensor_catalog *catalog, const qwen_parts *parts,
                    transformer *t, um_error *err);
/* Of Qwen3-MoE's kind: marks the expert layers by decoder_sparse_step and mlp_only_layers, then
 * binds. */
um_status qwen_bind_moe(const hf_config *config, const tensor_catalog *catalog,
                        const qwen_parts *parts, transformer *t, um_error *err);
/* Of Qwen3's kind: "attention_bias" is for all four maps, queries and keys are normed. */
um_status qwen3_parts(const hf_config *config, qwen_parts *parts, um_error *err);
/* Of Qwen2's kind: biases on queries, keys and values, whatever the config says. */
qwen_parts qwen2_parts(void);

#endif

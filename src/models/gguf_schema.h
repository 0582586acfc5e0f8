/* SPDX-License-Identifier: Apache-2.0
 *
 * How models lie in GGUF files: keys and tensor names of each architecture, as llama.cpp's
 * converters write them, and how they relate to this project's shapes. One table for both
 * directions: reading (gguf_config.c, gguf_bind.c) and writing. Knows no file and no bytes.
 *
 * Source: src/llama-arch.cpp, src/models/ and conversion/ of ggml-org/llama.cpp; `llada2` after its
 * pull request 17454, whose tensors are those of `bailingmoe2`. `sdar`, `sdar-moe`, `illada` and
 * `fast-dllm` are this project's own, with the keys and tensors of `qwen3`, `qwen3moe`, `llama`
 * (rotary pairs in two halves) and `qwen2`.
 */
#ifndef MODELS_GGUF_SCHEMA_H
#define MODELS_GGUF_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

#include "models/model.h"
#include "models/transformer.h"

/* Where the number of a key is in this project's structs. */
typedef enum gguf_number {
    GGUF_NUMBER_LAYERS,
    GGUF_NUMBER_HIDDEN,
    GGUF_NUMBER_INNER, /* absent where no layer is dense */
    GGUF_NUMBER_HEADS,
    GGUF_NUMBER_KV_HEADS,
    GGUF_NUMBER_HEAD_DIM,
    GGUF_NUMBER_ROTARY_DIM,
    GGUF_NUMBER_RMS_EPS,
    GGUF_NUMBER_ROPE_THETA,
    GGUF_NUMBER_CONTEXT,
    GGUF_NUMBER_VOCAB,
    GGUF_NUMBER_EXPERTS,
    GGUF_NUMBER_ACTIVE,
    GGUF_NUMBER_EXPERT_INNER,
    GGUF_NUMBER_SHARED_EXPERTS,
    GGUF_NUMBER_SHARED_INNER, /* of all shared experts; absent where there are none */
    GGUF_NUMBER_GROUPS, /* absent where experts are chosen by blocks: then nothing reads them */
    GGUF_NUMBER_GROUPS_USED,
    GGUF_NUMBER_ROUTER_SCALE,
    GGUF_NUMBER_ROUTER_NORMALISED, /* 0 or 1 */
    GGUF_NUMBER_GATING,            /* 1 softmax, 2 sigmoid (LLAMA_EXPERT_GATING_FUNC_TYPE) */
    GGUF_NUMBER_DENSE_LAYERS,
    GGUF_NUMBER_BLOCK_EXPERTS,    /* absent where experts are not chosen by blocks */
    GGUF_NUMBER_EXPERT_BLOCK_LEN, /* absent where experts are not chosen by blocks */
    GGUF_NUMBER_BLOCK_LEN,
    GGUF_NUMBER_DELETE_TOKEN, /* absent where the model does not edit lengths */
    GGUF_NUMBER_SPLIT_TOKEN,
    GGUF_NUMBER_CAUSAL, /* 0: all of these models see both ways */
    GGUF_NUMBER_SHIFTED /* 0 or 1 */
} gguf_number;

typedef enum gguf_key_type { GGUF_KEY_U32, GGUF_KEY_F32, GGUF_KEY_BOOL } gguf_key_type;

/* What reading does with a key, beside giving its value to `config`. */
typedef enum gguf_key_rule {
    GGUF_KEY_OPTIONAL, /* where it is there, the family must have understood it in the same way */
    GGUF_KEY_REQUIRED, /* the same, and it must be there */
    GGUF_KEY_INFORMAL  /* written for other readers */
} gguf_key_rule;

typedef struct gguf_key {
    const char *name;   /* ".block_count": behind the architecture's name; others as they are */
    const char *config; /* the key of config.json that gets the value, or NULL */
    gguf_key_type type; /* as which it is written; reading takes any integer for an integer */
    gguf_number number;
    gguf_key_rule rule;
} gguf_key;

typedef struct gguf_architecture {
    const char *name;                /* general.architecture */
    const char *family;              /* um_model_info.family */
    const char *config_architecture; /* architectures[0] of config.json */
    const gguf_key *keys;
    int n_keys;
    bool has_fused_qkv; /* attn_qkv: rows of queries, keys, values; else attn_q, attn_k, attn_v */
    bool has_qk_norms;
    bool has_qkv_bias;
    /* Rotary pairs lie side by side in attn_q and attn_k (llama.cpp's NORM), not in two halves: see
     * gguf_interleaved_row. */
    bool is_interleaved;
    bool has_shift; /* diffusion.shift_logits may say that rows are shifted, or not */
} gguf_architecture;

/* NULL where there is none of that name. */
const gguf_architecture *gguf_architecture_find(const char *name);
/* The one that holds models of a family (um_model_info.family), or NULL. */
const gguf_architecture *gguf_architecture_of_family(const char *family);
/* "llada, llada-moe, ..." for sentences. */
const char *gguf_architecture_names(void);

/* The full name of a key. Returns buffer. */
const char *gguf_key_name(char buffer[96], const gguf_architecture *architecture,
                          const gguf_key *key);

/* The number that a key stands for in a model. False where the model has none, and the key is not
 * to be written. */
bool gguf_schema_number(const gguf_key *key, const transformer_shape *shape,
                        const model_traits *traits, double *number);

/* Tensors, named alike in all architectures. A role's shape is that of models/transformer.h;
 * experts are one tensor [n_experts, n_out, n_in]. Vectors are stored as F32. */
typedef enum gguf_role {
    GGUF_ROLE_EMBEDDING,
    GGUF_ROLE_FINAL_NORM,
    GGUF_ROLE_HEAD, /* absent where the embedding is the head */
    GGUF_ROLE_ATTN_NORM,
    GGUF_ROLE_WQ,
    GGUF_ROLE_WK,
    GGUF_ROLE_WV,
    GGUF_ROLE_WQKV,
    GGUF_ROLE_WQ_BIAS,
    GGUF_ROLE_WK_BIAS,
    GGUF_ROLE_WV_BIAS,
    GGUF_ROLE_WQKV_BIAS,
    GGUF_ROLE_Q_NORM,
    GGUF_ROLE_K_NORM,
    GGUF_ROLE_WO,
    GGUF_ROLE_WO_BIAS,
    GGUF_ROLE_MLP_NORM,
    GGUF_ROLE_GATE, /* of a dense layer's MLP */
    GGUF_ROLE_UP,
    GGUF_ROLE_DOWN,
    GGUF_ROLE_ROUTER,
    GGUF_ROLE_ROUTER_BIAS,
    GGUF_ROLE_EXPERT_GATE,
    GGUF_ROLE_EXPERT_UP,
    GGUF_ROLE_EXPERT_DOWN,
    GGUF_ROLE_SHARED_GATE,
    GGUF_ROLE_SHARED_UP,
    GGUF_ROLE_SHARED_DOWN,
    GGUF_ROLES
} gguf_role;

/* "blk.3.attn_q.weight"; i_layer is not looked at for embedding, final norm and head. Returns
 * buffer. */
const char *gguf_role_name(char buffer[160], gguf_role role, int32_t i_layer);

/* Which of our rows stands at row `i_row` of an interleaved attn_q or attn_k (or its bias): number
 * 2j + b of a head's rows in the file is our number b * head_dim / 2 + j. */
int32_t gguf_interleaved_row(int32_t i_row, int32_t head_dim);

/* The keys of the text side. */
extern const char gguf_key_mask_token[], gguf_key_eos_token[], gguf_key_eot_token[];
/* This project's own: the text of generation_config.json. */
extern const char gguf_key_generation[];

#endif

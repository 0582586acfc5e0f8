/* SPDX-License-Identifier: Apache-2.0
 *
 * The tables. A key that several architectures share is written once for each, so that one list
 * says all of an architecture.
 */
#include "models/gguf_schema.h"

#include <stdio.h>
#include <string.h>

const char gguf_key_mask_token[] = "tokenizer.ggml.mask_token_id";
const char gguf_key_eos_token[] = "tokenizer.ggml.eos_token_id";
const char gguf_key_eot_token[] = "tokenizer.ggml.eot_token_id";
const char gguf_key_generation[] = "unmask.generation_config";

#define N_ITEMS(array) ((int)(sizeof(array) / sizeof *(array)))

static const gguf_key llada_keys[] = {
    {".context_length", "max_position_embeddings", GGUF_KEY_U32, GGUF_NUMBER_CONTEXT,
     GGUF_KEY_REQUIRED},
    {".embedding_length", "hidden_size", GGUF_KEY_U32, GGUF_NUMBER_HIDDEN, GGUF_KEY_REQUIRED},
    {".block_count", "num_hidden_layers", GGUF_KEY_U32, GGUF_NUMBER_LAYERS, GGUF_KEY_REQUIRED},
    {".feed_forward_length", "intermediate_size", GGUF_KEY_U32, GGUF_NUMBER_INNER,
     GGUF_KEY_REQUIRED},
    {".attention.head_count", "num_attention_heads", GGUF_KEY_U32, GGUF_NUMBER_HEADS,
     GGUF_KEY_REQUIRED},
    {".attention.head_count_kv", "num_key_value_heads", GGUF_KEY_U32, GGUF_NUMBER_KV_HEADS,
     GGUF_KEY_OPTIONAL},
    {".attention.key_length", "head_dim", GGUF_KEY_U32, GGUF_NUMBER_HEAD_DIM, GGUF_KEY_OPTIONAL},
    {".attention.value_length", NULL, GGUF_KEY_U32, GGUF_NUMBER_HEAD_DIM, GGUF_KEY_OPTIONAL},
    {".attention.layer_norm_rms_epsilon", "rms_norm_eps", GGUF_KEY_F32, GGUF_NUMBER_RMS_EPS,
     GGUF_KEY_REQUIRED},
    {".attention.causal", NULL, GGUF_KEY_BOOL, GGUF_NUMBER_CAUSAL, GGUF_KEY_OPTIONAL},
    {".rope.freq_base", "rope_theta", GGUF_KEY_F32, GGUF_NUMBER_ROPE_THETA, GGUF_KEY_OPTIONAL},
    {".rope.dimension_count", NULL, GGUF_KEY_U32, GGUF_NUMBER_ROTARY_DIM, GGUF_KEY_OPTIONAL},
    {".vocab_size", NULL, GGUF_KEY_U32, GGUF_NUMBER_VOCAB, GGUF_KEY_OPTIONAL},
    {"diffusion.shift_logits", NULL, GGUF_KEY_BOOL, GGUF_NUMBER_SHIFTED, GGUF_KEY_OPTIONAL},
};

static const gguf_key llada_moe_keys[] = {
    {".context_length", "max_position_embeddings", GGUF_KEY_U32, GGUF_NUMBER_CONTEXT,
     GGUF_KEY_REQUIRED},
    {".embedding_length", "hidden_size", GGUF_KEY_U32, GGUF_NUMBER_HIDDEN, GGUF_KEY_REQUIRED},
    {".block_count", "num_hidden_layers", GGUF_KEY_U32, GGUF_NUMBER_LAYERS, GGUF_KEY_REQUIRED},
    {".feed_forward_length", "dense_intermediate_size", GGUF_KEY_U32, GGUF_NUMBER_INNER,
     GGUF_KEY_OPTIONAL},
    {".attention.head_count", "num_attention_heads", GGUF_KEY_U32, GGUF_NUMBER_HEADS,
     GGUF_KEY_REQUIRED},
    {".attention.head_count_kv", "num_key_value_heads", GGUF_KEY_U32, GGUF_NUMBER_KV_HEADS,
     GGUF_KEY_OPTIONAL},
    {".attention.key_length", "head_dim", GGUF_KEY_U32, GGUF_NUMBER_HEAD_DIM, GGUF_KEY_OPTIONAL},
    {".attention.value_length", NULL, GGUF_KEY_U32, GGUF_NUMBER_HEAD_DIM, GGUF_KEY_OPTIONAL},
    {".attention.layer_norm_rms_epsilon", "rms_norm_eps", GGUF_KEY_F32, GGUF_NUMBER_RMS_EPS,
     GGUF_KEY_REQUIRED},
    {".attention.causal", NULL, GGUF_KEY_BOOL, GGUF_NUMBER_CAUSAL, GGUF_KEY_OPTIONAL},
    {".rope.freq_base", "rope_theta", GGUF_KEY_F32, GGUF_NUMBER_ROPE_THETA, GGUF_KEY_OPTIONAL},
    {".rope.dimension_count", NULL, GGUF_KEY_U32, GGUF_NUMBER_ROTARY_DIM, GGUF_KEY_OPTIONAL},
    {".vocab_size", NULL, GGUF_KEY_U32, GGUF_NUMBER_VOCAB, GGUF_KEY_OPTIONAL},
    {".expert_count", "num_experts", GGUF_KEY_U32, GGUF_NUMBER_EXPERTS, GGUF_KEY_REQUIRED},
    {".expert_used_count", "num_experts_per_tok", GGUF_KEY_U32, GGUF_NUMBER_ACTIVE,
     GGUF_KEY_REQUIRED},
    {".expert_feed_forward_length", "expert_intermediate_size", GGUF_KEY_U32,
     GGUF_NUMBER_EXPERT_INNER, GGUF_KEY_REQUIRED},
    {"diffusion.shift_logits", NULL, GGUF_KEY_BOOL, GGUF_NUMBER_SHIFTED, GGUF_KEY_OPTIONAL},
};

/* Qwen2's and Qwen3's: Dream, SDAR. block_size is SDAR's alone. */
static const gguf_key qwen_keys[] = {
    {".context_length", "max_position_embeddings", GGUF_KEY_U32, GGUF_NUMBER_CONTEXT,
     GGUF_KEY_REQUIRED},
    {".embedding_length", "hidden_size", GGUF_KEY_U32, GGUF_NUMBER_HIDDEN, GGUF_KEY_REQUIRED},
    {".block_count", "num_hidden_layers", GGUF_KEY_U32, GGUF_NUMBER_LAYERS, GGUF_KEY_REQUIRED},
    {".feed_forward_length", "intermediate_size", GGUF_KEY_U32, GGUF_NUMBER_INNER,
     GGUF_KEY_REQUIRED},
    {".attention.head_count", "num_attention_heads", GGUF_KEY_U32, GGUF_NUMBER_HEADS,
     GGUF_KEY_REQUIRED},
    {".attention.head_count_kv", "num_key_value_heads", GGUF_KEY_U32, GGUF_NUMBER_KV_HEADS,
     GGUF_KEY_OPTIONAL},
    {".attention.key_length", "head_dim", GGUF_KEY_U32, GGUF_NUMBER_HEAD_DIM, GGUF_KEY_OPTIONAL},
    {".attention.value_length", NULL, GGUF_KEY_U32, GGUF_NUMBER_HEAD_DIM, GGUF_KEY_OPTIONAL},
    {".attention.layer_norm_rms_epsilon", "rms_norm_eps", GGUF_KEY_F32, GGUF_NUMBER_RMS_EPS,
     GGUF_KEY_REQUIRED},
    {".attention.causal", NULL, GGUF_KEY_BOOL, GGUF_NUMBER_CAUSAL, GGUF_KEY_OPTIONAL},
    {".rope.freq_base", "rope_theta", GGUF_KEY_F32, GGUF_NUMBER_ROPE_THETA, GGUF_KEY_OPTIONAL},
    {".rope.dimension_count", NULL, GGUF_KEY_U32, GGUF_NUMBER_ROTARY_DIM, GGUF_KEY_OPTIONAL},
    {".vocab_size", NULL, GGUF_KEY_U32, GGUF_NUMBER_VOCAB, GGUF_KEY_OPTIONAL},
    {"diffusion.shift_logits", NULL, GGUF_KEY_BOOL, GGUF_NUMBER_SHIFTED, GGUF_KEY_OPTIONAL},
    {".block_size", "block_size", GGUF_KEY_U32, GGUF_NUMBER_BLOCK_LEN, GGUF_KEY_OPTIONAL},
};
enum { N_DREAM_KEYS = sizeof qwen_keys / sizeof *qwen_keys - 1 };

/* Qwen2's, with a block. */
static const gguf_key fast_dllm_keys[] = {
    {".context_length", "max_position_embeddings", GGUF_KEY_U32, GGUF_NUMBER_CONTEXT,
     GGUF_KEY_REQUIRED},
    {".embedding_length", "hidden_size", GGUF_KEY_U32, GGUF_NUMBER_HIDDEN, GGUF_KEY_REQUIRED},
    {".block_count", "num_hidden_layers", GGUF_KEY_U32, GGUF_NUMBER_LAYERS, GGUF_KEY_REQUIRED},
    {".feed_forward_length", "intermediate_size", GGUF_KEY_U32, GGUF_NUMBER_INNER,
     GGUF_KEY_REQUIRED},
    {".attention.head_count", "num_attention_heads", GGUF_KEY_U32, GGUF_NUMBER_HEADS,
     GGUF_KEY_REQUIRED},
    {".attention.head_count_kv", "num_key_value_heads", GGUF_KEY_U32, GGUF_NUMBER_KV_HEADS,
     GGUF_KEY_OPTIONAL},
    {".attention.key_length", "head_dim", GGUF_KEY_U32, GGUF_NUMBER_HEAD_DIM, GGUF_KEY_OPTIONAL},
    {".attention.value_length", NULL, GGUF_KEY_U32, GGUF_NUMBER_HEAD_DIM, GGUF_KEY_OPTIONAL},
    {".attention.layer_norm_rms_epsilon", "rms_norm_eps", GGUF_KEY_F32, GGUF_NUMBER_RMS_EPS,
     GGUF_KEY_REQUIRED},
    {".attention.causal", NULL, GGUF_KEY_BOOL, GGUF_NUMBER_CAUSAL, GGUF_KEY_OPTIONAL},
    {".rope.freq_base", "rope_theta", GGUF_KEY_F32, GGUF_NUMBER_ROPE_THETA, GGUF_KEY_OPTIONAL},
    {".rope.dimension_count", NULL, GGUF_KEY_U32, GGUF_NUMBER_ROTARY_DIM, GGUF_KEY_OPTIONAL},
    {".vocab_size", NULL, GGUF_KEY_U32, GGUF_NUMBER_VOCAB, GGUF_KEY_OPTIONAL},
    {"diffusion.shift_logits", NULL, GGUF_KEY_BOOL, GGUF_NUMBER_SHIFTED, GGUF_KEY_OPTIONAL},
    {".block_size", "bd_size", GGUF_KEY_U32, GGUF_NUMBER_BLOCK_LEN, GGUF_KEY_OPTIONAL},
};
/* Qwen3-MoE's: RND1, SDAR-MoE. */
static const gguf_key qwen_moe_keys[] = {
    {".context_length", "max_position_embeddings", GGUF_KEY_U32, GGUF_NUMBER_CONTEXT,
     GGUF_KEY_REQUIRED},
    {".embedding_length", "hidden_size", GGUF_KEY_U32, GGUF_NUMBER_HIDDEN, GGUF_KEY_REQUIRED},
    {".block_count", "num_hidden_layers", GGUF_KEY_U32, GGUF_NUMBER_LAYERS, GGUF_KEY_REQUIRED},
    {".feed_forward_length", "intermediate_size", GGUF_KEY_U32, GGUF_NUMBER_INNER,
     GGUF_KEY_OPTIONAL},
    {".attention.head_count", "num_attention_heads", GGUF_KEY_U32, GGUF_NUMBER_HEADS,
     GGUF_KEY_REQUIRED},
    {".attention.head_count_kv", "num_key_value_heads", GGUF_KEY_U32, GGUF_NUMBER_KV_HEADS,
     GGUF_KEY_OPTIONAL},
    {".attention.key_length", "head_dim", GGUF_KEY_U32, GGUF_NUMBER_HEAD_DIM, GGUF_KEY_OPTIONAL},
    {".attention.value_length", NULL, GGUF_KEY_U32, GGUF_NUMBER_HEAD_DIM, GGUF_KEY_OPTIONAL},
    {".attention.layer_norm_rms_epsilon", "rms_norm_eps", GGUF_KEY_F32, GGUF_NUMBER_RMS_EPS,
     GGUF_KEY_REQUIRED},
    {".attention.causal", NULL, GGUF_KEY_BOOL, GGUF_NUMBER_CAUSAL, GGUF_KEY_OPTIONAL},
    {".rope.freq_base", "rope_theta", GGUF_KEY_F32, GGUF_NUMBER_ROPE_THETA, GGUF_KEY_OPTIONAL},
    {".rope.dimension_count", NULL, GGUF_KEY_U32, GGUF_NUMBER_ROTARY_DIM, GGUF_KEY_OPTIONAL},
    {".vocab_size", NULL, GGUF_KEY_U32, GGUF_NUMBER_VOCAB, GGUF_KEY_OPTIONAL},
    {".expert_count", "num_experts", GGUF_KEY_U32, GGUF_NUMBER_EXPERTS, GGUF_KEY_REQUIRED},
    {".expert_used_count", "num_experts_per_tok", GGUF_KEY_U32, GGUF_NUMBER_ACTIVE,
     GGUF_KEY_REQUIRED},
    {".expert_feed_forward_length", "moe_intermediate_size", GGUF_KEY_U32, GGUF_NUMBER_EXPERT_INNER,
     GGUF_KEY_REQUIRED},
    {".expert_weights_norm", "norm_topk_prob", GGUF_KEY_BOOL, GGUF_NUMBER_ROUTER_NORMALISED,
     GGUF_KEY_OPTIONAL},
    {"diffusion.shift_logits", NULL, GGUF_KEY_BOOL, GGUF_NUMBER_SHIFTED, GGUF_KEY_OPTIONAL},
    {".block_size", "block_size", GGUF_KEY_U32, GGUF_NUMBER_BLOCK_LEN, GGUF_KEY_OPTIONAL},
};
enum { N_RND1_KEYS = sizeof qwen_moe_keys / sizeof *qwen_moe_keys - 1 };

/* The last four are this project's own, for LLaDA2.2. */
static const gguf_key llada2_keys[] = {
    {".context_length", "max_position_embeddings", GGUF_KEY_U32, GGUF_NUMBER_CONTEXT,
     GGUF_KEY_REQUIRED},
    {".embedding_length", "hidden_size", GGUF_KEY_U32, GGUF_NUMBER_HIDDEN, GGUF_KEY_REQUIRED},
    {".block_count", "num_hidden_layers", GGUF_KEY_U32, GGUF_NUMBER_LAYERS, GGUF_KEY_REQUIRED},
    {".feed_forward_length", "intermediate_size", GGUF_KEY_U32, GGUF_NUMBER_INNER,
     GGUF_KEY_OPTIONAL},
    {".attention.head_count", "num_attention_heads", GGUF_KEY_U32, GGUF_NUMBER_HEADS,
     GGUF_KEY_REQUIRED},
    {".attention.head_count_kv", "num_key_value_heads", GGUF_KEY_U32, GGUF_NUMBER_KV_HEADS,
     GGUF_KEY_OPTIONAL},
    {".attention.key_length", "head_dim", GGUF_KEY_U32, GGUF_NUMBER_HEAD_DIM, GGUF_KEY_OPTIONAL},
    {".attention.value_length", NULL, GGUF_KEY_U32, GGUF_NUMBER_HEAD_DIM, GGUF_KEY_OPTIONAL},
    {".attention.layer_norm_rms_epsilon", "rms_norm_eps", GGUF_KEY_F32, GGUF_NUMBER_RMS_EPS,
     GGUF_KEY_REQUIRED},
    {".attention.causal", NULL, GGUF_KEY_BOOL, GGUF_NUMBER_CAUSAL, GGUF_KEY_OPTIONAL},
    {".rope.freq_base", "rope_theta", GGUF_KEY_F32, GGUF_NUMBER_ROPE_THETA, GGUF_KEY_OPTIONAL},
    {".rope.dimension_count", "rotary_dim", GGUF_KEY_U32, GGUF_NUMBER_ROTARY_DIM,
     GGUF_KEY_REQUIRED},
    {".vocab_size", NULL, GGUF_KEY_U32, GGUF_NUMBER_VOCAB, GGUF_KEY_OPTIONAL},
    {".leading_dense_block_count", "first_k_dense_replace", GGUF_KEY_U32, GGUF_NUMBER_DENSE_LAYERS,
     GGUF_KEY_OPTIONAL},
    {".expert_count", "num_experts", GGUF_KEY_U32, GGUF_NUMBER_EXPERTS, GGUF_KEY_REQUIRED},
    {".expert_used_count", "num_experts_per_tok", GGUF_KEY_U32, GGUF_NUMBER_ACTIVE,
     GGUF_KEY_REQUIRED},
    {".expert_feed_forward_length", "moe_intermediate_size", GGUF_KEY_U32, GGUF_NUMBER_EXPERT_INNER,
     GGUF_KEY_REQUIRED},
    {".expert_shared_count", "num_shared_experts", GGUF_KEY_U32, GGUF_NUMBER_SHARED_EXPERTS,
     GGUF_KEY_OPTIONAL},
    {".expert_shared_feed_forward_length", NULL, GGUF_KEY_U32, GGUF_NUMBER_SHARED_INNER,
     GGUF_KEY_INFORMAL},
    {".expert_group_count", "n_group", GGUF_KEY_U32, GGUF_NUMBER_GROUPS, GGUF_KEY_OPTIONAL},
    {".expert_group_used_count", "topk_group", GGUF_KEY_U32, GGUF_NUMBER_GROUPS_USED,
     GGUF_KEY_OPTIONAL},
    {".expert_weights_scale", "routed_scaling_factor", GGUF_KEY_F32, GGUF_NUMBER_ROUTER_SCALE,
     GGUF_KEY_OPTIONAL},
    {".expert_weights_norm", "norm_topk_prob", GGUF_KEY_BOOL, GGUF_NUMBER_ROUTER_NORMALISED,
     GGUF_KEY_OPTIONAL},
    {".expert_gating_func", NULL, GGUF_KEY_U32, GGUF_NUMBER_GATING, GGUF_KEY_OPTIONAL},
    {"diffusion.shift_logits", NULL, GGUF_KEY_BOOL, GGUF_NUMBER_SHIFTED, GGUF_KEY_OPTIONAL},
    {".expert_capacity", "expert_capacity", GGUF_KEY_U32, GGUF_NUMBER_BLOCK_EXPERTS,
     GGUF_KEY_OPTIONAL},
    {".block_size", "block_size", GGUF_KEY_U32, GGUF_NUMBER_EXPERT_BLOCK_LEN, GGUF_KEY_OPTIONAL},
    {".delete_token_id", "delete_token_id", GGUF_KEY_U32, GGUF_NUMBER_DELETE_TOKEN,
     GGUF_KEY_OPTIONAL},
    {".split_token_id", "split_token_id", GGUF_KEY_U32, GGUF_NUMBER_SPLIT_TOKEN, GGUF_KEY_OPTIONAL},
};

static const gguf_architecture architectures[] = {
    {.name = "llada",
     .family = "llada",
     .config_architecture = "LLaDAModelLM",
     .keys = llada_keys,
     .n_keys = N_ITEMS(llada_keys),
     .is_interleaved = true,
     .has_shift = true},
    {.name = "llada-moe",
     .family = "llada_moe",
     .config_architecture = "LLaDAMoEModelLM",
     .keys = llada_moe_keys,
     .n_keys = N_ITEMS(llada_moe_keys),
     .has_qk_norms = true,
     .has_shift = true},
    {.name = "dream",
     .family = "dream",
     .config_architecture = "DreamModel",
     .keys = qwen_keys,
     .n_keys = N_DREAM_KEYS,
     .has_qkv_bias = true,
     .has_shift = true},
    {.name = "rnd1",
     .family = "rnd1",
     .config_architecture = "RND1LM",
     .keys = qwen_moe_keys,
     .n_keys = N_RND1_KEYS,
     .has_qk_norms = true,
     .has_shift = true},
    {.name = "llada2",
     .family = "llada2_moe",
     .config_architecture = "LLaDA2MoeModelLM",
     .keys = llada2_keys,
     .n_keys = N_ITEMS(llada2_keys),
     .has_fused_qkv = true,
     .has_qk_norms = true},
    {.name = "sdar",
     .family = "sdar",
     .config_architecture = "SDARForCausalLM",
     .keys = qwen_keys,
     .n_keys = N_ITEMS(qwen_keys),
     .has_qk_norms = true},
    {.name = "sdar-moe",
     .family = "sdar_moe",
     .config_architecture = "SDARMoeForCausalLM",
     .keys = qwen_moe_keys,
     .n_keys = N_ITEMS(qwen_moe_keys),
     .has_qk_norms = true},
    {.name = "illada",
     .family = "illada",
     .config_architecture = "ILLaDAForCausalLM",
     .keys = qwen_keys,
     .n_keys = N_DREAM_KEYS},
    {.name = "fast-dllm",
     .family = "fast_dllm_v2",
     .config_architecture = "Fast_dLLM_QwenForCausalLM",
     .keys = fast_dllm_keys,
     .n_keys = N_ITEMS(fast_dllm_keys),
     .has_qkv_bias = true},
};

const gguf_architecture *gguf_architecture_find(const char *name) {
    for (int i = 0; i < N_ITEMS(architectures); i++)
        if (strcmp(architectures[i].name, name) == 0) return &architectures[i];
    return NULL;
}

const gguf_architecture *gguf_architecture_of_family(const char *family) {
    for (int i = 0; i < N_ITEMS(architectures); i++)
        if (strcmp(architectures[i].family, family) == 0) return &architectures[i];
    return NULL;
}

const char *gguf_architecture_names(void) {
    return "llada, llada-moe, dream, rnd1, llada2, sdar, sdar-moe, illada, fast-dllm";
}

const char *gguf_key_name(char buffer[96], const gguf_architecture *architecture,
                          const gguf_key *key) {
    snprintf(buffer, 96, "%s%s", key->name[0] == '.' ? architecture->name : "", key->name);
    return buffer;
}

bool gguf_schema_number(const gguf_key *key, const transformer_shape *s, const model_traits *traits,
                        double *number) {
    bool has_shared = s->shared_inner > 0 && s->expert_inner > 0;
    switch (key->number) {
        case GGUF_NUMBER_LAYERS:
            *number = s->n_layers;
            return true;
        case GGUF_NUMBER_HIDDEN:
            *number = s->hidden;
            return true;
        case GGUF_NUMBER_INNER:
            *number = s->inner;
            return s->inner > 0;
        case GGUF_NUMBER_HEADS:
            *number = s->n_heads;
            return true;
        case GGUF_NUMBER_KV_HEADS:
            *number = s->n_kv_heads;
            return true;
        case GGUF_NUMBER_HEAD_DIM:
            *number = s->head_dim;
            return true;
        case GGUF_NUMBER_ROTARY_DIM:
            *number = s->rotary_dim;
            return true;
        case GGUF_NUMBER_RMS_EPS:
            *number = (double)s->rms_eps;
            return true;
        case GGUF_NUMBER_ROPE_THETA:
            *number = s->rope_theta;
            return true;
        case GGUF_NUMBER_CONTEXT:
            *number = traits->context;
            return true;
        case GGUF_NUMBER_VOCAB:
            *number = s->vocab;
            return true;
        case GGUF_NUMBER_EXPERTS:
            *number = s->n_experts;
            return true;
        case GGUF_NUMBER_ACTIVE:
            *number = s->n_active;
            return true;
        case GGUF_NUMBER_EXPERT_INNER:
            *number = s->expert_inner;
            return true;
        case GGUF_NUMBER_SHARED_EXPERTS:
            *number = has_shared ? s->shared_inner / s->expert_inner : 0;
            return true;
        case GGUF_NUMBER_SHARED_INNER:
            *number = s->shared_inner;
            return has_shared;
        case GGUF_NUMBER_GROUPS:
            *number = s->n_group;
            return s->n_block_experts == 0;
        case GGUF_NUMBER_GROUPS_USED:
            *number = s->topk_group;
            return s->n_block_experts == 0;
        case GGUF_NUMBER_ROUTER_SCALE:
            *number = (double)s->router_scale;
            return true;
        case GGUF_NUMBER_ROUTER_NORMALISED:
            /* A token's only expert weighs 1 after normalising: a family may leave that out. */
            *number = s->is_router_normalised || s->n_active == 1;
            return true;
        case GGUF_NUMBER_GATING:
            *number = s->router_score == ROUTE_SCORE_SIGMOID ? 2 : 1;
            return true;
        case GGUF_NUMBER_DENSE_LAYERS:
            *number = s->n_dense_layers;
            return true;
        case GGUF_NUMBER_BLOCK_EXPERTS:
            *number = s->n_block_experts;
            return s->n_block_experts > 0;
        case GGUF_NUMBER_EXPERT_BLOCK_LEN:
            *number = s->expert_block_len;
            return s->n_block_experts > 0;
        case GGUF_NUMBER_BLOCK_LEN:
            *number = traits->block_len;
            return true;
        case GGUF_NUMBER_DELETE_TOKEN:
            *number = traits->delete_token;
            return traits->delete_token >= 0;
        case GGUF_NUMBER_SPLIT_TOKEN:
            *number = traits->split_token;
            return traits->split_token >= 0;
        case GGUF_NUMBER_CAUSAL:
            *number = 0;
            return true;
        case GGUF_NUMBER_SHIFTED:
            *number = traits->is_shifted;
            return true;
    }
    return false;
}

static const char *const role_names[GGUF_ROLES] = {
    [GGUF_ROLE_EMBEDDING] = "token_embd.weight",
    [GGUF_ROLE_FINAL_NORM] = "output_norm.weight",
    [GGUF_ROLE_HEAD] = "output.weight",
    [GGUF_ROLE_ATTN_NORM] = "attn_norm.weight",
    [GGUF_ROLE_WQ] = "attn_q.weight",
    [GGUF_ROLE_WK] = "attn_k.weight",
    [GGUF_ROLE_WV] = "attn_v.weight",
    [GGUF_ROLE_WQKV] = "attn_qkv.weight",
    [GGUF_ROLE_WQ_BIAS] = "attn_q.bias",
    [GGUF_ROLE_WK_BIAS] = "attn_k.bias",
    [GGUF_ROLE_WV_BIAS] = "attn_v.bias",
    [GGUF_ROLE_WQKV_BIAS] = "attn_qkv.bias",
    [GGUF_ROLE_Q_NORM] = "attn_q_norm.weight",
    [GGUF_ROLE_K_NORM] = "attn_k_norm.weight",
    [GGUF_ROLE_WO] = "attn_output.weight",
    [GGUF_ROLE_WO_BIAS] = "attn_output.bias",
    [GGUF_ROLE_MLP_NORM] = "ffn_norm.weight",
    [GGUF_ROLE_GATE] = "ffn_gate.weight",
    [GGUF_ROLE_UP] = "ffn_up.weight",
    [GGUF_ROLE_DOWN] = "ffn_down.weight",
    [GGUF_ROLE_ROUTER] = "ffn_gate_inp.weight",
    [GGUF_ROLE_ROUTER_BIAS] = "exp_probs_b.bias",
    [GGUF_ROLE_EXPERT_GATE] = "ffn_gate_exps.weight",
    [GGUF_ROLE_EXPERT_UP] = "ffn_up_exps.weight",
    [GGUF_ROLE_EXPERT_DOWN] = "ffn_down_exps.weight",
    [GGUF_ROLE_SHARED_GATE] = "ffn_gate_shexp.weight",
    [GGUF_ROLE_SHARED_UP] = "ffn_up_shexp.weight",
    [GGUF_ROLE_SHARED_DOWN] = "ffn_down_shexp.weight",
};

const char *gguf_role_name(char buffer[160], gguf_role role, int32_t i_layer) {
    if (role < GGUF_ROLE_ATTN_NORM)
        snprintf(buffer, 160, "%s", role_names[role]);
    else
        snprintf(buffer, 160, "blk.%d.%s", i_layer, role_names[role]);
    return buffer;
}

int32_t gguf_interleaved_row(int32_t i_row, int32_t head_dim) {
    int32_t inside = i_row % head_dim;
    return i_row - inside + inside % 2 * (head_dim / 2) + inside / 2;
}

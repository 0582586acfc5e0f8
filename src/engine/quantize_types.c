/* SPDX-License-Identifier: Apache-2.0
 *
 * Which tensor gets how many bits. As llama.cpp's mixes of the same names (Q4_K_M, Q5_K_M), since
 * these are what people know and compare with: the head in Q6_K; values and the last product of an
 * MLP, whose errors go straight into the sum of layers, in Q6_K in half of the layers, those at
 * both ends and every third between. Where queries, keys and values lie in one tensor, a type
 * between.
 */
#include "engine/quantize.h"

um_status quantize_type_find(const char *name, dtype *type, um_error *err) {
    if (dtype_find(name, type)) return UM_OK;
    um_error_set(err, UM_INVALID,
                 "type: expected q8_0, q4_0, q4_k, q5_k, q6_k, f16, bf16 or f32, found \"%.40s\"",
                 name);
    um_error_at(err, "type", -1);
    return UM_INVALID;
}

/* The first and the last eighth of the layers, and every third of the others. */
static bool is_sensitive_layer(int32_t i_layer, int32_t n_layers) {
    return i_layer < n_layers / 8 || i_layer >= 7 * n_layers / 8 ||
           (i_layer - n_layers / 8) % 3 == 2;
}

static dtype mixed_type(const gguf_source *source, dtype type, bool has_head,
                        const transformer_shape *shape) {
    bool is_k = type == DTYPE_Q4_K || type == DTYPE_Q5_K;
    bool is_sensitive = is_k && is_sensitive_layer(source->i_layer, shape->n_layers);
    switch (source->role) {
        case GGUF_ROLE_HEAD:
            return type == DTYPE_Q4_0 || is_k ? DTYPE_Q6_K : type;
        case GGUF_ROLE_EMBEDDING:
            return !has_head && (type == DTYPE_Q4_0 || is_k) ? DTYPE_Q6_K : type;
        case GGUF_ROLE_WV:
        case GGUF_ROLE_DOWN:
        case GGUF_ROLE_EXPERT_DOWN:
        case GGUF_ROLE_SHARED_DOWN:
            return is_sensitive ? DTYPE_Q6_K : type;
        case GGUF_ROLE_WQKV:
            return type == DTYPE_Q4_K ? DTYPE_Q5_K : type == DTYPE_Q5_K ? DTYPE_Q6_K : type;
        default:
            return type;
    }
}

dtype quantize_type_of(const gguf_source *source, dtype type, bool is_pure, bool has_head,
                       const transformer_shape *shape, dtype *wanted) {
    if (gguf_export_is_plain(source)) return *wanted = DTYPE_F32;
    dtype chosen = is_pure ? type : mixed_type(source, type, has_head, shape);
    *wanted = chosen;
    size_t n_in = (size_t)source->n_in;
    if (n_in % dtype_block_len(chosen) == 0) return chosen;
    if (n_in % dtype_block_len(DTYPE_Q4_0) == 0)
        return chosen == DTYPE_Q4_K ? DTYPE_Q4_0 : DTYPE_Q8_0;
    int32_t row;
    return gguf_export_part(source, 0, &row)->type == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F16;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The weights of a transformer by role, and its forward pass. Knows no family and no file names.
 * A layer is
 *
 *   h = x + wo . attention(rope(q_norm(wq . n)), rope(k_norm(wk . n)), wv . n),  n = rms(x) *
 * attn_norm y = h + mlp(rms(h) * mlp_norm)            mlp: one gated MLP, or routed experts plus
 * shared one
 */
#ifndef MODELS_TRANSFORMER_H
#define MODELS_TRANSFORMER_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/device_scratch.h"
#include "kernels/ops.h"
#include "unmask.h"

/* A dense product with an optional bias; bias [n_out] f32 or NULL, owned by the transformer. */
typedef struct linear_weights {
    matrix w;
    float *bias;
} linear_weights;

typedef struct moe_weights {
    matrix router;        /* [n_experts, hidden] */
    float *router_bias;   /* [n_experts] or NULL */
    mlp_weights *experts; /* [n_experts]: gate, up [inner, hidden], down [hidden, inner] */
    mlp_weights shared;   /* data NULL: none; gate, up [n_shared * inner, hidden] */
} moe_weights;

typedef struct layer_weights {
    float *attn_norm, *mlp_norm; /* [hidden] */
    float *q_norm, *k_norm;      /* [head_dim] or NULL */
    linear_weights wq;           /* [n_heads * head_dim, hidden] */
    linear_weights wk, wv;       /* [n_kv_heads * head_dim, hidden] */
    linear_weights wo;           /* [hidden, n_heads * head_dim] */
    bool is_moe;
    mlp_weights mlp; /* where not is_moe: gate, up [inner, hidden], down [hidden, inner] */
    moe_weights moe; /* where is_moe */
} layer_weights;

/* Sizes and numbers that shape the computation. */
typedef struct transformer_shape {
    int32_t n_layers, hidden, n_heads, n_kv_heads, head_dim, rotary_dim;
    int32_t inner;      /* width of a dense MLP; 0 where no layer is dense */
    int32_t vocab;      /* rows of the output head */
    int32_t embeddings; /* rows of the embedding, at least as many as token ids in use */
    int32_t n_experts, n_active, n_group, topk_group, expert_inner, shared_inner, n_dense_layers;
    int32_t n_block_experts, expert_block_len; /* see route_args; n_block_experts 0: off */
    route_score router_score;
    bool is_router_normalised, is_router_weight_biased;
    float rms_eps, router_scale, logit_scale;
    double rope_theta;
} transformer_shape;

typedef struct transformer {
    transformer_shape shape;
    matrix embedding;       /* [embeddings, hidden] */
    matrix head;            /* [vocab, hidden] */
    float *final_norm;      /* [hidden] */
    layer_weights *layers;  /* [n_layers] */
    float *cosines, *sines; /* [n_positions, rotary_dim / 2] */
    int32_t n_positions;
    void **packed;   /* [n_layers + 1] packed twins of weights: per layer, then the head's */
    bool has_packed; /* any weight wants activations in another form than float32 */
    struct placement *placement; /* of place.c; NULL: weights are the host's */
} transformer;

/* Rows of many sequences that go through the model together. */
typedef struct model_batch {
    int32_t n_rows;
    const int32_t *tokens;      /* [n_rows] */
    const int32_t *positions;   /* [n_rows] in their sequences */
    const int32_t *seq;         /* [n_rows] index into tables */
    const int32_t *visible_end; /* [n_rows] the row sees positions [0, visible_end): the mask */
    const kv_table *tables;     /* [n_seqs] */
    int32_t n_requests;         /* 0: the output head is not run */
    const score_request *requests;
    int32_t forbidden_token; /* never proposed; -1: none */
    score *scores;           /* [n_requests] */
    int32_t
        *experts_touched; /* NULL, or [n_layers]: how many experts of each layer the rows reach */
} model_batch;

/* Rotary tables for positions [0, n_positions): f32 throughout, as the families' code has them. */
um_status transformer_build_rope(transformer *t, int32_t n_positions, um_error *err);
/* Marks weights of bfloat16 that the device multiplies faster with rounded activations, and gives
 * every weight of a block type that can be packed its twin, on all of the device's workers;
 * weights of other types, and those whose rows are no whole groups, stay as they are. The experts
 * of a layer are packed all or none. Undone by transformer_unpack, while the device is open. */
um_status transformer_pack(transformer *t, device *dev, um_progress_fn progress, void *user,
                           um_error *err);
/* The same from a file that pack_cache_write has written for these weights, see pack_cache_read;
 * where *is_read is false, transformer_pack is still to do. UM_INVALID where nothing is packed. */
um_status transformer_read_packed(transformer *t, device *dev, const char *path, uint64_t key,
                                  um_progress_fn progress, void *user, bool *is_read,
                                  um_error *err);
void transformer_unpack(transformer *t, device *dev);
/* Brings all weights into the memory of a device that has its own; nothing on the CPU. After
 * transformer_build_rope and transformer_pack. The transformer's pointers are the device's until
 * transformer_unplace, which also undoes what a failure has left. */
um_status transformer_place(transformer *t, device *dev, um_progress_fn progress, void *user,
                            um_error *err);
void transformer_unplace(transformer *t, device *dev);
/* The widest row of a block type that is read without a packed twin, 0 where there is none. */
int32_t transformer_widest_decoded(const transformer *t);
/* Makes scratch ready for a forward of this batch. UM_LIMIT where its size overflows. */
um_status transformer_reserve(const transformer *t, device *dev, const model_batch *batch,
                              device_scratch *scratch, um_error *err);
/* One forward. kv [n_layers]. Every row's keys and values are written before they are read, so a
 * row sees the rows of its own batch. scratch: as transformer_reserve has left it for this batch.
 * The scores are there when it returns; where nothing is scored, work may still be queued. */
um_status transformer_forward(const transformer *t, device *dev, const kv_layer *kv,
                              const model_batch *batch, device_scratch *scratch, um_error *err);
/* Frees what the transformer owns; weights stay the catalog's. */
void transformer_deinit(transformer *t);

#endif

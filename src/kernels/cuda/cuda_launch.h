/* SPDX-License-Identifier: Apache-2.0
 *
 * The seam between C and CUDA: launchers with plain arguments, each in the .cu file of its stem.
 * They queue work on a stream and return; pointers are addresses of the device. What cannot be
 * launched is found by cudaGetLastError, which the caller looks at (cuda_check).
 */
#ifndef KERNELS_CUDA_LAUNCH_H
#define KERNELS_CUDA_LAUNCH_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct score;       /* kernels/row_score.h */
struct decide_args; /* kernels/decide.h */
struct device_gate; /* kernels/device.h */

#ifdef __cplusplus
extern "C" {
#endif

/* ---- rows_cuda.cu ----------------------------------------------------------------------------
 */

/* type: a dtype's number. */
void cuda_launch_embed(cudaStream_t stream, int type, float *y, const void *table,
                       const int32_t *tokens, int32_t n_rows, int32_t n_in);
void cuda_launch_rms_norm(cudaStream_t stream, float *y, const float *x, const float *gain,
                          int32_t n_rows, int32_t dim, float eps);
/* The same to packed activations, as cuda_launch_pack makes them, and to y where it is not NULL. */
void cuda_launch_rms_norm_packed(cudaStream_t stream, float *y, uint16_t *packed, float *sums,
                                 const float *x, const float *gain, int32_t n_rows, int32_t dim,
                                 float eps);
void cuda_launch_rope(cudaStream_t stream, float *x, const int32_t *positions, const float *cosines,
                      const float *sines, int32_t n_rows, int32_t n_heads, int32_t head_dim,
                      int32_t rotary_dim);
void cuda_launch_swiglu(cudaStream_t stream, float *y, const float *gate, const float *up,
                        size_t n);
void cuda_launch_add(cudaStream_t stream, float *y, const float *x, size_t n);
void cuda_launch_gather(cudaStream_t stream, float *y, const float *x, const int32_t *rows,
                        int32_t n_rows, int32_t dim);
/* To bfloat16, nearest, ties to even, in the order that cuda_launch_mma reads: blocks of 8 rows, in
 * them runs of 32 numbers, in these the rows side by side. y has room for whole blocks of rows;
 * n_in % 32 == 0. sums NULL, or, for weights of block types: [rows in whole blocks, n_in / 32] in
 * the same order, the sum of each run; the middle of each quad of y is swapped then. */
void cuda_launch_pack(cudaStream_t stream, uint16_t *y, float *sums, const float *x, int32_t n_rows,
                      int32_t n_in);

/* ---- product_cuda.cu, mma_cuda.cu ------------------------------------------------------------
 */

enum { CUDA_PARTS = 3 };

/* A weight, and where its outputs go: y [n_rows, n_out]. */
typedef struct cuda_weight {
    const void *w;
    const float *bias; /* or NULL */
    float *y;
    int32_t n_out;
    int32_t first_block; /* of cuda_plan_product */
} cuda_weight;

/* y[r, o] = sum_i x[r, i] w[o, i] + bias[o], for n_parts weights of one type that read the same x.
 * With `first` there are n_groups weights, one behind the other at w_stride bytes, and rows
 * first[g] .. first[g + 1] - 1 of y are those of weight g; row r of y then takes row x_rows[r] of x
 * (x_rows NULL: r).
 * With `gated` the first part is a gate, w_up like it, and there is no y: gated is packed as
 * cuda_launch_pack would do it with silu(gate) * up. */
typedef struct cuda_product {
    const void *x;       /* f32; for cuda_launch_mma as cuda_launch_pack writes it */
    const float *x_sums; /* block types in cuda_launch_mma: its sums */
    const int32_t *x_rows, *first;
    cuda_weight parts[CUDA_PARTS];
    const void *w_up;
    uint16_t *gated;
    float *gated_sums;
    size_t w_stride;
    int32_t n_parts, n_rows, n_in, n_groups;
    bool is_added; /* to what y holds */
    /* Of panels of block types (kernels/packed.h): bytes of one, and where in it scales are. */
    uint32_t panel_bytes, scale_at, super_at;
    int32_t n_blocks, n_splits; /* of cuda_plan_product */
} cuda_product;

/* Any type of weight, float32 activations, float32 sums; one part, not gated, not added. */
void cuda_launch_product(cudaStream_t stream, int type, const cuda_product *p);
/* Weights of bfloat16, n_out % 16 == 0, or of a block type in panels; activations of bfloat16,
 * float32 sums on the tensor cores; n_in % 32 == 0, 16-byte aligned. Gated for a weight of a block
 * type: n_out % 32 == 0. Without groups; planned before. */
void cuda_launch_mma(cudaStream_t stream, int type, const cuda_product *p);
/* How the product is cut, by the weights' shapes alone. has_clusters: of the device. */
void cuda_plan_product(cuda_product *p, bool has_clusters);
/* ---- mma_grouped_cuda.cu: the same with groups, one part, no bias, not planned. */
void cuda_launch_mma_grouped(cudaStream_t stream, int type, const cuda_product *p);

/* ---- cache_cuda.cu, attention_cuda.cu
 * -----------------------------------------------------------------------
 */

/* Tables are [n_seqs] kv_table, whose pages are addresses of the device, too. */
typedef struct cuda_cache {
    void *keys, *values;
    int type; /* a kv_type's number */
    int32_t n_kv_heads, head_dim;
    size_t part_bytes;
} cuda_cache;

void cuda_launch_kv_write(cudaStream_t stream, const cuda_cache *cache, const float *k,
                          const float *v, const int32_t *seq, const int32_t *positions,
                          const void *tables, int32_t n_rows);

/* Norms (where the gains are there) and rotation of queries and keys, and the write of keys and
 * values into their slots. k and v are only read; head_dim at most 256, rotary_dim even. */
typedef struct cuda_rotate {
    cuda_cache cache;
    float *q;
    const float *k, *v, *q_norm, *k_norm, *cosines, *sines;
    const int32_t *seq, *positions;
    const void *tables;
    int32_t n_rows, n_heads, rotary_dim;
    float eps;
} cuda_rotate;

void cuda_launch_rotate(cudaStream_t stream, const cuda_rotate *r);

enum { CUDA_SPLIT = 64 }; /* positions of a split: a whole number of pages */

/* states [n_rows, n_heads, n_splits, head_dim + 2]. head_dim at most 256. */
void cuda_launch_attention(cudaStream_t stream, const cuda_cache *cache, float *out, const float *q,
                           const int32_t *seq, const int32_t *visible_end, const void *tables,
                           int32_t n_rows, int32_t n_heads, int32_t n_splits, float scale,
                           float *states);

/* ---- attention_mma_cuda.cu: the states of the splits, on the tensor cores. False where these
 * pages are not for them: bfloat16, head_dim 64 or 128. */
bool cuda_launch_attention_mma(cudaStream_t stream, const cuda_cache *cache, const float *q,
                               const int32_t *seq, const int32_t *visible_end, const void *tables,
                               int32_t n_rows, int32_t n_heads, int32_t n_splits, float scale,
                               float *states);

/* ---- moe_cuda.cu -----------------------------------------------------------------------------
 */

typedef struct cuda_route {
    float *scores, *biased; /* [n_rows, n_experts]; scores hold logits when it is launched */
    float *block_best;      /* [n_rows, n_experts] */
    unsigned char *stays;   /* [n_rows, n_experts] */
    const float *bias;      /* or NULL */
    const int32_t *seq, *positions;
    int32_t *ids;
    float *weights;
    int32_t n_rows, n_experts, n_active, n_group, topk_group, n_block_experts, block_len;
    float scale;
    bool is_softmax, is_normalised, is_weight_biased;
} cuda_route;

void cuda_launch_route(cudaStream_t stream, const cuda_route *r);

/* Sorts slots (row, k) by expert: first [n_experts + 1], row_of [n_slots] by place, place_of
 * [n_slots] by slot. */
void cuda_launch_sort(cudaStream_t stream, const int32_t *ids, int32_t *first, int32_t *row_of,
                      int32_t *place_of, int32_t n_slots, int32_t n_active, int32_t n_experts);
/* y[r] = sum over k of weights[r, k] * down[place_of[r, k]], in the order of k. */
void cuda_launch_combine(cudaStream_t stream, float *y, const float *down, const float *weights,
                         const int32_t *place_of, int32_t n_rows, int32_t n_active, int32_t hidden);

/* ---- head_cuda.cu, head_merge_cuda.cu --------------------------------------------------------
 */

enum { CUDA_HEAD_TILE = 4096 }; /* vocabulary tile; part of the results' bits */

/* logit_adjustment of kernels/ops.h; cuda_head.c asserts that they agree. */
typedef struct cuda_adjustment {
    int32_t token; /* -1: none */
    float divisor, bias;
} cuda_adjustment;

/* A score_request, as the device reads it. */
typedef struct cuda_head_request {
    double temperature; /* 0: nothing is drawn on the device */
    uint32_t key[2];    /* Philox: seed and request mixed */
    uint32_t position, step;
    int32_t row, guide_row, removed, watched[2];
    float cfg_scale, inverse_temperature;
    int32_t stored;                          /* place in `stored`, or -1 */
    int32_t allowed;                         /* place in `allowed`, or -1: every token is */
    int32_t first_adjustment, n_adjustments; /* by rising token */
    cuda_adjustment own;
} cuda_head_request;

/* What a tile leaves of a request. */
typedef struct cuda_head_partial {
    double sum, sum_logits; /* of exp(l - top), of (l - top) exp(l - top), over every token */
    double tempered;        /* sum exp((l - max) / temperature), without the forbidden token */
    double drawn_key;
    float top, max, second; /* top of every token; the others without the forbidden one */
    float forbidden;        /* logit of the forbidden token where this tile has it, else -inf */
    float watched[2];       /* logits of the watched tokens where this tile has them, else 0 */
    float drawn_logit;
    int32_t i_max; /* from the start of the vocabulary; -1: none */
    int32_t drawn; /* token; -1: none */
    bool is_finite;
} cuda_head_partial;

typedef struct cuda_head_reduction {
    const float *logits;               /* [.., vocab] */
    const cuda_head_request *requests; /* [n_requests] */
    const cuda_adjustment *adjustments;
    const uint32_t *allowed;     /* [.., (vocab + 31) / 32]: a bit for each token */
    const int32_t *steps_made;   /* [1], added to the requests' steps; NULL: 0 */
    cuda_head_partial *partials; /* [n_requests, n_tiles] */
    float *stored;               /* [.., vocab]: logits after guidance, adjustments and removal */
    struct score *scores;        /* [n_requests] */
    int32_t n_requests, vocab, forbidden;
    float logit_scale;
} cuda_head_reduction;

/* Reduces logits request by request, tile by tile, and the tiles to scores. Draws that need the
 * whole row of logits are not made: drawn is the token then. */
void cuda_launch_head(cudaStream_t stream, const cuda_head_reduction *r);
void cuda_launch_head_merge(cudaStream_t stream, const cuda_head_reduction *r);

/* ---- decide_cuda.cu --------------------------------------------------------------------------
 */

void cuda_launch_decide(cudaStream_t stream, const struct decide_args *a);

/* ---- gate_cuda.cu ----------------------------------------------------------------------------
 */

/* Lets the graph's conditional node of this handle run if the gate is open, and notes the time. */
void cuda_launch_gate(cudaStream_t stream, cudaGraphConditionalHandle handle,
                      struct device_gate *gate);

/* ---- limits_cuda.cu --------------------------------------------------------------------------
 */

/* Reads n_bytes once; sum [1]. */
void cuda_launch_read(cudaStream_t stream, const void *memory, size_t n_bytes, uint64_t *sum);
/* Run n_rounds on every multiprocessor; sink [1]. Return operations. */
double cuda_launch_burn_f32(cudaStream_t stream, int n_multiprocessors, int n_rounds, float *sink);
double cuda_launch_burn_bf16(cudaStream_t stream, int n_multiprocessors, int n_rounds, float *sink);
double cuda_launch_burn_int8(cudaStream_t stream, int n_multiprocessors, int n_rounds, float *sink);

#ifdef __cplusplus
}
#endif
#endif

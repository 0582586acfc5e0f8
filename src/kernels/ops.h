/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of operations: everything a forward pass calls, each with a scalar version that is its
 * specification (kernels/scalar). A forward pass is plain calls on this table, one after another;
 * each call sees the results of those before it. On the CPU they are there when it returns; a
 * device with memory of its own may still be at it (kernels/device.h).
 *
 * Batch invariance: each row of a result depends on that row's inputs alone. No order of summation
 * depends on the number of rows, the number of threads, or which rows are neighbours.
 *
 * All tensors are row-major, outermost dimension first, float32 unless said otherwise, and
 * contiguous. Tensors, rows' numbers, page tables and scratch are in the device's memory; the
 * argument structs, the head's requests and scores, and what they point to are the host's. Outputs
 * must not alias inputs unless said otherwise. Scratch is the caller's: ask
 * *_scratch for its size, pass 64-byte aligned memory. Preconditions are the caller's duty
 * (assert); a status other than UM_OK is a device's failure.
 */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "kernels/decide.h"
#include "kernels/device.h"
#include "kernels/packed.h"
#include "quant/dtype.h"

/* Positions in a page of the cache. Fixed: kernels vectorise over the positions of a page. */
enum { KV_PAGE_LEN = 32 };

/* A stored weight [n_out, n_in]; borrowed from the file map. data need not be aligned. A weight of
 * a block type may have a packed twin (kernels/packed.h), which then takes part in products with
 * quantized activations; products with float32 activations decode the stored blocks. */
typedef struct matrix {
    const void *data;
    dtype type;
    int32_t n_out, n_in;
    const unsigned char *packed; /* FORM_INT8 and FORM_TILE; else NULL */
    packed_form form;            /* of the activations that it meets */
} matrix;

/* One sequence's pages: page i holds positions i * KV_PAGE_LEN onward. */
typedef struct kv_table {
    const int32_t *pages; /* [n_pages] page ids */
    int32_t n_pages;
} kv_table;

/* How the cache stores a number. */
typedef enum kv_type {
    KV_F32 = 0,
    KV_BF16 = 1, /* rounded to nearest, ties to even */
    KV_INT8 = 2  /* one float32 scale for each (position, head): scale = max |x| / 127 */
} kv_type;

/* Keys and values of one layer, all pages: [n_pages, n_kv_heads] parts of kv_part_bytes each, where
 * a part is what a page holds of one head:
 *
 *          keys                                   values
 *   f32    [head_dim, KV_PAGE_LEN]                [KV_PAGE_LEN, head_dim]
 *   bf16   [pairs of dimensions, KV_PAGE_LEN, 2]  [KV_PAGE_LEN / 2, head_dim, 2 positions]
 *   int8   [head_dim, KV_PAGE_LEN] i8, then       [KV_PAGE_LEN, head_dim] i8, then
 *          scales [KV_PAGE_LEN] f32               scales [KV_PAGE_LEN] f32
 *
 * Keys have the position inside, so that one vector serves the scores of 16 positions. The pairs of
 * bf16 are those that products of bf16 sum up (AMX); shifted and masked they are float32. Odd
 * head_dim: the last key pair's second half is zero. A slot has its scales to itself: writing it
 * again changes no other. A row with a NaN or an infinity has a NaN for its scale in int8, and one
 * whose scale would be subnormal is zero. */
typedef struct kv_layer {
    void *keys, *values;
    kv_type type;
} kv_layer;

/* out[r] = softmax(q[r] . k^T * scale) . v over the positions [0, visible_end[r]) of row r's
 * sequence: the rectangular mask. A row with visible_end 0 gives zeros.
 *   q, out      [n_rows, n_heads, head_dim]
 *   seq         [n_rows] index into tables
 *   visible_end [n_rows] at most tables[seq].n_pages * KV_PAGE_LEN
 * Head h reads key-value head h / (n_heads / n_kv_heads). head_dim is any size from 1. Stored
 * numbers are decoded to float32; queries, weights and sums are float32.
 * Tolerance against the scalar version: NMSE 1e-12. */
typedef struct attention_args {
    const float *q;
    float *out;
    const int32_t *seq, *visible_end;
    const kv_table *tables;
    kv_layer kv;
    int32_t n_rows, n_heads, n_kv_heads, head_dim;
    int32_t n_keys_max; /* at least the largest visible_end; the host knows it */
    float scale;
} attention_args;

/* What makes a score out of a router's logit. */
typedef enum route_score {
    ROUTE_SCORE_SIGMOID = 0, /* of each logit by itself */
    ROUTE_SCORE_SOFTMAX = 1  /* over the experts, float32 */
} route_score;

/* The routers of the families, with z = x . w^T and s the scores of z:
 *
 *   r = s + bias                                           what is compared
 *   groups: a group's score is the sum of its two best r; only the best topk_group groups stay
 *   block routing: g_e = max of r_e over the rows of a block in which e stays; only the
 *     n_block_experts experts of the highest g stay for each row of the block; a row whose groups
 *     leave it fewer than n_active of them may choose among them all
 *   the n_active best r that stay are chosen, in order of falling r; ties go to the lower index
 *   weight = v[chosen] * scale, or, normalised, v[chosen] / (sum of v[chosen] + 1e-20) * scale
 *     v = s, or r where the weight is biased
 *
 *   family           score     groups  normalised           source
 *   LLaDA2.0, 2.1    sigmoid   yes     where n_active > 1   LLaDA2MoeGate.group_limited_topk
 *   LLaDA2.2         sigmoid   no      where n_active > 1   LLaDA2MoeGate.block_routing, SGLang's
 *                              (blocks)                     block_topk (pull request 31768)
 *   SDAR-MoE, RND1   softmax   no      norm_topk_prob       transformers' Qwen3MoeTopKRouter
 *   LLaDA-MoE        softmax   no      no; v = r            LLaDAMoESparseMoeBlock
 *
 * 1e-20 is LLaDA2's; a sum of softmax scores is too large to be changed by it.
 *
 *   x [n_rows, hidden], w [n_experts, hidden], bias [n_experts] or NULL (zero)
 *   seq, positions [n_rows]: rows of a sequence whose positions have the same quotient by
 *     block_len form a block, wherever they stand in the batch; read where n_block_experts is set
 *   ids [n_rows, n_active] i32, weights [n_rows, n_active]
 * n_group 1 means no groups. n_group divides n_experts, with at least 2 experts a group.
 * n_block_experts 0 means no block routing; otherwise n_active..n_experts. Then a row's result
 * depends on the rows of its block, and still on no other. No family has groups and blocks; it is
 * what um_engine_options.expert_cap makes of LLaDA2.0 and 2.1. */
typedef struct route_args {
    const float *x;
    matrix w;
    const float *bias;
    const int32_t *seq, *positions;
    route_score score;
    bool is_normalised, is_weight_biased;
    int32_t n_rows, n_experts, n_active, n_group, topk_group, n_block_experts, block_len;
    float scale;
    int32_t *ids;
    float *weights;
} route_args;

/* One gated MLP: down(silu(gate(x)) * up(x)). gate, up [inner, hidden]; down [hidden, inner]. */
typedef struct mlp_weights {
    matrix gate, up, down;
} mlp_weights;

/* y[r] = sum over k = 0..n_active-1, in this order, of weights[r, k] * mlp(experts[ids[r, k]],
 * x[r]). Rows are gathered by expert, so each expert's weights are read once. x, y [n_rows,
 * hidden]; all experts have the same shapes and type, and all their weights the same form. y is
 * overwritten. `experts` is the host's; where the device's memory is its own, each of the three
 * weights lies at an even distance from one expert to the next (models/place.c sees to it). */
typedef struct experts_args {
    const float *x;
    float *y;
    const int32_t *ids;
    const float *weights;
    const mlp_weights *experts; /* [n_experts] */
    const void *packed;         /* NULL, or x as pack_rows leaves it in the weights' form */
    int32_t n_rows, n_active, n_experts;
} experts_args;

/* One token's logit changed: l' = l / divisor + bias, where l is below 0 l * divisor + bias. A bias
 * of minus infinity makes it count as `removed`. */
typedef struct logit_adjustment {
    int32_t token;
    float divisor, bias; /* divisor above 0; 1 and 0 keep the bits */
} logit_adjustment;

/* A product of several that read the same activations: y [n_rows, w->n_out], bias or NULL. */
typedef struct shared_product {
    const matrix *w;
    const float *bias;
    float *y;
} shared_product;

/* What comes between the products and the attention: norms of the heads of q and k (q_norm, k_norm
 * [head_dim], or NULL), rotation of both, the write of k and v into the slots of positions. q is
 * changed in place, k and v are read only and may be changed. */
typedef struct rotate_args {
    float *q, *k, *v;
    const float *q_norm, *k_norm, *cosines, *sines;
    const int32_t *seq, *positions;
    const kv_table *tables;
    kv_layer kv;
    int32_t n_rows, n_heads, n_kv_heads, head_dim, rotary_dim;
    float eps;
} rotate_args;

/* What one scored row asks for. */
typedef struct score_request {
    int32_t row;       /* of x */
    int32_t guide_row; /* -1, or the row of the unconditional half:
                        *   l = u + (cfg_scale + 1) * (c - u),  u: guide_row, c: row
                        * (classifier-free guidance, LLaDA generate.py) */
    float cfg_scale;
    double temperature;  /* 0: nothing is drawn */
    int32_t top_k;       /* 0: off */
    double top_p;        /* 1: off */
    double min_p;        /* 0: off */
    rng_key key;         /* of the draw */
    bool wants_spread;   /* temperature above 0: fills drawn_top, drawn_second, drawn_entropy */
    int32_t removed;     /* a token whose logit counts as minus infinity everywhere; -1: none */
    int32_t watched[2];  /* tokens whose probabilities are asked for; -1: none */
    bool is_top_p_first; /* top_p cuts before top_k (Dream) instead of after it */
    const logit_adjustment *adjustments; /* [n_adjustments] by rising token, after guidance */
    int32_t n_adjustments;
    logit_adjustment own; /* in place of the list's for its token; token -1: none */
    float *logits;        /* NULL or [vocab]: after guidance, adjustments and removal */
    /* NULL, or [(vocab + 31) / 32] with a bit for each token, id % 32 of word id / 32: those whose
     * bit is 0 are removed as well. The forbidden token keeps its logit. In the host's memory. */
    const uint32_t *allowed;
} score_request;

/* The output head, fused with what policies need: logits live a tile at a time, and are stored only
 * where a request truncates (top_k, top_p, min_p), wants the spread, or asks for them.
 *   x [n_rows, hidden], already normed; w [vocab, hidden]; logit_scale multiplies the logits
 *   requests [n_requests], scores [n_requests]
 * Tolerance: probability within 1e-6 of the scalar version, absolute.
 * What a row scores depends on its own request alone: the same bits whatever else is asked for. */
typedef struct head_args {
    const float *x;
    matrix w;
    float logit_scale;
    int32_t n_rows, n_requests;
    const score_request *requests;
    int32_t forbidden_token; /* -1: none */
    score *scores;
    /* Of head_placed: [1] i32 of the device, added to the step of every request's key. */
    const int32_t *steps_made;
} head_args;

/* Bytes of a page's keys, or values, of one head. */
static inline size_t kv_part_bytes(kv_type type, int32_t head_dim) {
    size_t n = (size_t)head_dim;
    return KV_PAGE_LEN * (type == KV_F32    ? n * sizeof(float)
                          : type == KV_BF16 ? (n + n % 2) * sizeof(uint16_t)
                                            : n + sizeof(float));
}

enum { SHARED_PRODUCTS = 3 };

typedef struct kernel_ops {
    /* y[r, o] = sum_i x[r, i] * w[o, i] + bias[o];  x [n_rows, n_in], y [n_rows, n_out],
     * bias [n_out] or NULL. Float32 sums. Tolerance: NMSE 1e-12. */
    um_status (*linear)(device *dev, float *y, const float *x, const matrix *w, const float *bias,
                        int32_t n_rows);
    /* The same with activations that pack_rows has brought into the weight's form, once for all
     * products that read them: kernels/packed.h has the formulas. With FORM_INT8 (w->packed) every
     * tier gives the same bits; with FORM_BF16 NMSE 1e-10 against the scalar one.
     * packed [pack_scratch bytes: enough for each form], 64-byte aligned; n_in is whole groups. */
    size_t (*pack_scratch)(const device *dev, int32_t n_rows, int32_t n_in);
    um_status (*pack_rows)(device *dev, packed_form form, void *packed, const float *x,
                           int32_t n_rows, int32_t n_in);
    um_status (*linear_packed)(device *dev, float *y, const void *packed, const matrix *w,
                               const float *bias, int32_t n_rows);
    /* y[r] = table[tokens[r]]: [n_rows, n_in] f32 from the rows of [vocab, n_in]. Exact. */
    um_status (*embed)(device *dev, float *y, const matrix *table, const int32_t *tokens,
                       int32_t n_rows);
    /* y = x / sqrt(mean(x^2) + eps) * gain, over rows of `dim`; y may be x. gain [dim]. */
    um_status (*rms_norm)(device *dev, float *y, const float *x, const float *gain, int32_t n_rows,
                          int32_t dim, float eps);
    /* Rotary embedding in place on the first rotary_dim numbers of each head, halves paired:
     *   (a, b) = (x[i], x[i + rotary_dim/2]) -> (a cos - b sin, b cos + a sin)
     * x [n_rows, n_heads, head_dim]; positions [n_rows]; cosines, sines [positions, rotary_dim/2]
     */
    um_status (*rope)(device *dev, float *x, const int32_t *positions, const float *cosines,
                      const float *sines, int32_t n_rows, int32_t n_heads, int32_t head_dim,
                      int32_t rotary_dim);
    /* Writes k, v [n_rows, n_kv_heads, head_dim] into the slots of positions [n_rows], seq [n_rows]
     * index into tables. No two rows share a slot. The same bits in every tier. */
    um_status (*kv_write)(device *dev, const kv_layer *kv, const float *k, const float *v,
                          const int32_t *seq, const int32_t *positions, const kv_table *tables,
                          int32_t n_rows, int32_t n_kv_heads, int32_t head_dim);
    /* Of the *_scratch functions' arguments the rows' numbers are the host's, and tensors unused.
     */
    size_t (*attention_scratch)(const device *dev, const attention_args *args);
    um_status (*attention)(device *dev, const attention_args *args, void *scratch);
    /* y = silu(gate) * up, elementwise over n numbers; y may be gate. silu(z) = z / (1 +
     * exp(-z)).*/
    um_status (*swiglu)(device *dev, float *y, const float *gate, const float *up, size_t n);
    /* y += x over n numbers. */
    um_status (*add)(device *dev, float *y, const float *x, size_t n);
    /* y[i] = x[rows[i]]: rows of `dim` numbers. */
    um_status (*gather)(device *dev, float *y, const float *x, const int32_t *rows, int32_t n_rows,
                        int32_t dim);
    size_t (*route_scratch)(const device *dev, const route_args *args);
    um_status (*route)(device *dev, const route_args *args, void *scratch);
    size_t (*experts_scratch)(const device *dev, const experts_args *args);
    um_status (*experts)(device *dev, const experts_args *args, void *scratch);
    size_t (*head_scratch)(const device *dev, const head_args *args);
    um_status (*head)(device *dev, const head_args *args, void *scratch);
    /* The head in two parts, for steps that are queued before the one before them is known. What
     * requests ask for goes into the device's memory once, `placed` [head_place_bytes]; from there
     * head_placed fills `scores` [n_requests] of the device, queued like any other operation, with
     * the bits of `head`. Each request has a row to itself; none is guided, truncated, constrained
     * (allowed) or asks for logits or the spread. scratch: [head_scratch]. Of args->requests
     * head_placed reads nothing, args->scores is not used. */
    size_t (*head_place_bytes)(const device *dev, const head_args *args);
    um_status (*head_place)(device *dev, const head_args *args, void *placed);
    um_status (*head_placed)(device *dev, const head_args *args, void *placed, void *scores,
                             void *scratch);
    um_status (*decide)(device *dev, const decide_args *args); /* kernels/decide.h */

    /* Several of the above in one: all of them, or NULL where a device gains nothing by them. The
     * bits are those of the operations they stand for, but that products which share a launch may
     * add up k in another order, which their shapes fix as well. Forms are not FORM_FLOAT. */

    /* rms_norm and pack_rows; y NULL: only packed. */
    um_status (*rms_norm_packed)(device *dev, float *y, packed_form form, void *packed,
                                 const float *x, const float *gain, int32_t n_rows, int32_t dim,
                                 float eps);
    /* linear_packed of 1 to SHARED_PRODUCTS weights of one type and form. */
    um_status (*linear_shared)(device *dev, const void *packed, const shared_product *products,
                               int32_t n_products, int32_t n_rows);
    /* linear_packed, then add: y += the product. */
    um_status (*linear_added)(device *dev, float *y, const void *packed, const matrix *w,
                              const float *bias, int32_t n_rows);
    /* linear_packed of gate and up, of one shape, type and form, swiglu, pack_rows into `form`.
     * inner [pack_scratch of gate->n_out], not packed. */
    um_status (*linear_gated)(device *dev, packed_form form, void *inner, const void *packed,
                              const matrix *gate, const matrix *up, int32_t n_rows);
    /* rms_norm of heads, rope, kv_write. */
    um_status (*rotate)(device *dev, const rotate_args *args);
} kernel_ops;

#endif

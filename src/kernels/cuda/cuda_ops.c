/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of operations on a GPU: takes arguments apart, lays out scratch, queues launches. What
 * the *_cuda.cu files compute is theirs. Products are cuda_products.c's, the head cuda_head.c's.
 */
#include <assert.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/cuda/cuda_device.h"

static_assert(CUDA_SPLIT % KV_PAGE_LEN == 0 && KV_PAGE_LEN == 32, "cuda/common.cuh: PAGE_LEN");
static_assert(KV_F32 == 0 && KV_BF16 == 1 && KV_INT8 == 2, "cuda/attention_cuda.cu");
static_assert(DTYPE_F32 == 0 && DTYPE_BF16 == 2 && DTYPE_Q8_0 == 3 && DTYPE_Q6_K == 7,
              "cuda/common.cuh: weight_type");
static_assert(offsetof(kv_table, pages) == 0 && offsetof(kv_table, n_pages) == sizeof(void *) &&
                  sizeof(kv_table) == 2 * sizeof(void *),
              "cuda/common.cuh: page_list");

/* ---- Rows ------------------------------------------------------------------------------------ */

static um_status cuda_embed(device *dev, float *y, const matrix *table, const int32_t *tokens,
                            int32_t n_rows) {
    if (n_rows <= 0) return UM_OK;
    cuda_launch_embed(cuda_of(dev)->stream, (int)table->type, y, table->data, tokens, n_rows,
                      table->n_in);
    return cuda_check_launch(cuda_of(dev));
}

static um_status cuda_rms_norm(device *dev, float *y, const float *x, const float *gain,
                               int32_t n_rows, int32_t dim, float eps) {
    if (n_rows <= 0) return UM_OK;
    cuda_launch_rms_norm(cuda_of(dev)->stream, y, x, gain, n_rows, dim, eps);
    return cuda_check_launch(cuda_of(dev));
}

static um_status cuda_rms_norm_packed(device *dev, float *y, packed_form form, void *packed,
                                      const float *x, const float *gain, int32_t n_rows,
                                      int32_t dim, float eps) {
    assert(dim % 32 == 0);
    if (n_rows <= 0) return UM_OK;
    cuda_launch_rms_norm_packed(cuda_of(dev)->stream, y, packed,
                                cuda_packed_sums(form, packed, n_rows, dim), x, gain, n_rows, dim,
                                eps);
    return cuda_check_launch(cuda_of(dev));
}

static um_status cuda_rope(device *dev, float *x, const int32_t *positions, const float *cosines,
                           const float *sines, int32_t n_rows, int32_t n_heads, int32_t head_dim,
                           int32_t rotary_dim) {
    assert(rotary_dim % 2 == 0 && rotary_dim <= head_dim);
    if (n_rows <= 0 || rotary_dim == 0) return UM_OK;
    cuda_launch_rope(cuda_of(dev)->stream, x, positions, cosines, sines, n_rows, n_heads, head_dim,
                     rotary_dim);
    return cuda_check_launch(cuda_of(dev));
}

static um_status cuda_swiglu(device *dev, float *y, const float *gate, const float *up, size_t n) {
    if (n == 0) return UM_OK;
    cuda_launch_swiglu(cuda_of(dev)->stream, y, gate, up, n);
    return cuda_check_launch(cuda_of(dev));
}

static um_status cuda_add(device *dev, float *y, const float *x, size_t n) {
    if (n == 0) return UM_OK;
    cuda_launch_add(cuda_of(dev)->stream, y, x, n);
    return cuda_check_launch(cuda_of(dev));
}

static um_status cuda_gather(device *dev, float *y, const float *x, const int32_t *rows,
                             int32_t n_rows, int32_t dim) {
    if (n_rows <= 0) return UM_OK;
    cuda_launch_gather(cuda_of(dev)->stream, y, x, rows, n_rows, dim);
    return cuda_check_launch(cuda_of(dev));
}

/* ---- Attention ------------------------------------------------------------------------------- */

static cuda_cache cache_of(const kv_layer *kv, int32_t n_kv_heads, int32_t head_dim) {
    return (cuda_cache){.keys = kv->keys,
                        .values = kv->values,
                        .type = (int)kv->type,
                        .n_kv_heads = n_kv_heads,
                        .head_dim = head_dim,
                        .part_bytes = kv_part_bytes(kv->type, head_dim)};
}

static um_status cuda_kv_write(device *dev, const kv_layer *kv, const float *k, const float *v,
                               const int32_t *seq, const int32_t *positions, const kv_table *tables,
                               int32_t n_rows, int32_t n_kv_heads, int32_t head_dim) {
    if (n_rows <= 0) return UM_OK;
    cuda_cache cache = cache_of(kv, n_kv_heads, head_dim);
    cuda_launch_kv_write(cuda_of(dev)->stream, &cache, k, v, seq, positions, tables, n_rows);
    return cuda_check_launch(cuda_of(dev));
}

static um_status cuda_rotate_rows(device *dev, const rotate_args *a) {
    cuda_device *cuda = cuda_of(dev);
    if (a->n_rows <= 0) return UM_OK;
    if (a->head_dim > 256) {
        strcpy(cuda->fault, "heads of more than 256 numbers");
        return UM_UNSUPPORTED;
    }
    cuda_rotate r = {.cache = cache_of(&a->kv, a->n_kv_heads, a->head_dim),
                     .q = a->q,
                     .k = a->k,
                     .v = a->v,
                     .q_norm = a->q_norm,
                     .k_norm = a->k_norm,
                     .cosines = a->cosines,
                     .sines = a->sines,
                     .seq = a->seq,
                     .positions = a->positions,
                     .tables = a->tables,
                     .n_rows = a->n_rows,
                     .n_heads = a->n_heads,
                     .rotary_dim = a->rotary_dim,
                     .eps = a->eps};
    cuda_launch_rotate(cuda->stream, &r);
    return cuda_check_launch(cuda);
}

static int32_t splits_of(const attention_args *a) {
    return (a->n_keys_max + CUDA_SPLIT - 1) / CUDA_SPLIT;
}

static size_t cuda_attention_scratch(const device *dev, const attention_args *a) {
    (void)dev;
    return (size_t)a->n_rows * (size_t)a->n_heads * (size_t)splits_of(a) *
           ((size_t)a->head_dim + 2) * sizeof(float);
}

static um_status cuda_attention(device *dev, const attention_args *a, void *scratch) {
    cuda_device *cuda = cuda_of(dev);
    if (a->n_rows <= 0) return UM_OK;
    if (a->head_dim > 256 || a->n_rows > 65535 || a->n_heads > 65535) {
        strcpy(cuda->fault, "heads of more than 256 numbers, or steps of more than 65535 rows");
        return UM_UNSUPPORTED;
    }
    cuda_cache cache = cache_of(&a->kv, a->n_kv_heads, a->head_dim);
    cuda_launch_attention(cuda->stream, &cache, a->out, a->q, a->seq, a->visible_end, a->tables,
                          a->n_rows, a->n_heads, splits_of(a), a->scale, scratch);
    return cuda_check_launch(cuda);
}

/* ---- Routers --------------------------------------------------------------------------------- */

static size_t lay_out_route(const route_args *a, unsigned char *base, cuda_route *r) {
    size_t n = (size_t)(a->n_rows > 0 ? a->n_rows : 0) * (size_t)a->n_experts;
    size_t n_blocked = a->n_block_experts ? n : 0;
    scratch_cursor scratch = {base, 0};
    r->scores = scratch_take(&scratch, n * sizeof *r->scores);
    r->biased = scratch_take(&scratch, n * sizeof *r->biased);
    r->block_best = scratch_take(&scratch, n_blocked * sizeof *r->block_best);
    r->stays = scratch_take(&scratch, n_blocked);
    return scratch.at;
}

static size_t cuda_route_scratch(const device *dev, const route_args *a) {
    cuda_route ignored;
    (void)dev;
    return lay_out_route(a, NULL, &ignored);
}

static um_status cuda_route_rows(device *dev, const route_args *a, void *scratch) {
    cuda_route r = {.bias = a->bias,
                    .seq = a->seq,
                    .positions = a->positions,
                    .ids = a->ids,
                    .weights = a->weights,
                    .n_rows = a->n_rows,
                    .n_experts = a->n_experts,
                    .n_active = a->n_active,
                    .n_group = a->n_group,
                    .topk_group = a->topk_group,
                    .n_block_experts = a->n_block_experts,
                    .block_len = a->block_len,
                    .scale = a->scale,
                    .is_softmax = a->score == ROUTE_SCORE_SOFTMAX,
                    .is_normalised = a->is_normalised,
                    .is_weight_biased = a->is_weight_biased};
    if (a->n_rows <= 0) return UM_OK;
    lay_out_route(a, scratch, &r);
    TRY(cuda_linear(dev, r.scores, a->x, &a->w, NULL, a->n_rows));
    cuda_launch_route(cuda_of(dev)->stream, &r);
    return cuda_check_launch(cuda_of(dev));
}

const kernel_ops cuda_ops = {
    .linear = cuda_linear,
    .pack_scratch = cuda_pack_scratch,
    .pack_rows = cuda_pack_rows,
    .linear_packed = cuda_linear_packed,
    .embed = cuda_embed,
    .rms_norm = cuda_rms_norm,
    .rope = cuda_rope,
    .kv_write = cuda_kv_write,
    .attention_scratch = cuda_attention_scratch,
    .attention = cuda_attention,
    .swiglu = cuda_swiglu,
    .add = cuda_add,
    .gather = cuda_gather,
    .route_scratch = cuda_route_scratch,
    .route = cuda_route_rows,
    .experts_scratch = cuda_experts_scratch,
    .experts = cuda_experts,
    .head_place_bytes = cuda_head_place_bytes,
    .head_place = cuda_head_place,
    .head_placed = cuda_head_placed,
    .head_scratch = cuda_head_scratch,
    .head = cuda_head,
    .decide = cuda_decide,
    .rms_norm_packed = cuda_rms_norm_packed,
    .linear_shared = cuda_linear_shared,
    .linear_added = cuda_linear_added,
    .linear_gated = cuda_linear_gated,
    .rotate = cuda_rotate_rows,
};

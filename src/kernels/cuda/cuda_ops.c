/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of operations on a GPU: takes arguments apart, lays out scratch, queues launches. What
 * the *_cuda.cu files compute is theirs.
 *
 * Activations in FORM_BF16 are as cuda_launch_pack leaves them. Weights of block types meet
 * float32 activations and are decoded on the way; they have no packed twins here.
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

/* ---- Products -------------------------------------------------------------------------------- */

static um_status cuda_linear(device *dev, float *y, const float *x, const matrix *w,
                             const float *bias, int32_t n_rows) {
    if (n_rows <= 0) return UM_OK;
    cuda_product p = {.y = y,
                      .x = x,
                      .w = w->data,
                      .bias = bias,
                      .n_rows = n_rows,
                      .n_in = w->n_in,
                      .n_out = w->n_out};
    cuda_launch_product(cuda_of(dev)->stream, (int)w->type, &p);
    return cuda_check_launch(cuda_of(dev));
}

static size_t cuda_pack_scratch(const device *dev, int32_t n_rows, int32_t n_in) {
    (void)dev;
    return cuda_packed_bytes((size_t)(n_rows > 0 ? n_rows : 0), (size_t)n_in);
}

static um_status cuda_pack_rows(device *dev, packed_form form, void *packed, const float *x,
                                int32_t n_rows, int32_t n_in) {
    assert(form == FORM_BF16);
    (void)form;
    if (n_rows <= 0) return UM_OK;
    cuda_launch_pack(cuda_of(dev)->stream, packed, x, n_rows, n_in);
    return cuda_check_launch(cuda_of(dev));
}

static um_status cuda_linear_packed(device *dev, float *y, const void *packed, const matrix *w,
                                    const float *bias, int32_t n_rows) {
    assert(w->form == FORM_BF16 && w->n_in % 32 == 0 && w->n_out % 16 == 0);
    if (n_rows <= 0) return UM_OK;
    cuda_product p = {.y = y,
                      .x = packed,
                      .w = w->data,
                      .bias = bias,
                      .n_rows = n_rows,
                      .n_in = w->n_in,
                      .n_out = w->n_out};
    cuda_launch_mma(cuda_of(dev)->stream, &p);
    return cuda_check_launch(cuda_of(dev));
}

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

/* ---- Experts --------------------------------------------------------------------------------- */

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

typedef struct experts_scratch {
    int32_t *first, *row_of, *place_of;
    float *gate, *up, *down; /* [n_slots, ..] by place; gate and up only with float32 */
    void *x, *inner;         /* bfloat16: [n_rows, hidden], [n_slots, inner] */
} experts_scratch;

static size_t lay_out_experts(const experts_args *a, unsigned char *base, experts_scratch *s) {
    const mlp_weights *w = &a->experts[0];
    size_t n_slots = (size_t)a->n_rows * (size_t)a->n_active, hidden = (size_t)w->gate.n_in;
    size_t n_inner = n_slots * (size_t)w->gate.n_out;
    bool is_rounded = w->gate.form == FORM_BF16;
    scratch_cursor scratch = {base, 0};
    s->first = scratch_take(&scratch, ((size_t)a->n_experts + 1) * sizeof *s->first);
    s->row_of = scratch_take(&scratch, n_slots * sizeof *s->row_of);
    s->place_of = scratch_take(&scratch, n_slots * sizeof *s->place_of);
    s->gate = scratch_take(&scratch, is_rounded ? 0 : n_inner * sizeof *s->gate);
    s->up = scratch_take(&scratch, is_rounded ? 0 : n_inner * sizeof *s->up);
    s->down = scratch_take(&scratch, n_slots * hidden * sizeof *s->down);
    s->x = scratch_take(&scratch, is_rounded ? cuda_packed_bytes((size_t)a->n_rows, hidden) : 0);
    s->inner =
        scratch_take(&scratch, is_rounded ? cuda_packed_bytes(n_slots, (size_t)w->gate.n_out) : 0);
    return scratch.at;
}

static size_t cuda_experts_scratch(const device *dev, const experts_args *a) {
    experts_scratch ignored;
    (void)dev;
    return lay_out_experts(a, NULL, &ignored);
}

/* Bytes from one expert's weight to the next one's. */
static size_t stride_of(const experts_args *a, const matrix *first, const matrix *second) {
    return a->n_experts > 1 ? (size_t)((const char *)second->data - (const char *)first->data) : 0;
}

static um_status cuda_experts(device *dev, const experts_args *a, void *scratch) {
    if (a->n_rows <= 0) return UM_OK;
    cudaStream_t stream = cuda_of(dev)->stream;
    const mlp_weights *w = &a->experts[0], *next = &a->experts[a->n_experts > 1];
    int32_t n_slots = a->n_rows * a->n_active, hidden = w->gate.n_in, inner = w->gate.n_out;
    experts_scratch s;
    lay_out_experts(a, scratch, &s);
    cuda_launch_sort(stream, a->ids, s.first, s.row_of, s.place_of, n_slots, a->n_active,
                     a->n_experts);
    cuda_product gate = {.y = s.gate,
                         .x = a->x,
                         .x_rows = s.row_of,
                         .first = s.first,
                         .w = w->gate.data,
                         .w_stride = stride_of(a, &w->gate, &next->gate),
                         .n_rows = n_slots,
                         .n_in = hidden,
                         .n_out = inner,
                         .n_groups = a->n_experts};
    cuda_product down = gate;
    down.y = s.down;
    down.x_rows = NULL;
    down.w = w->down.data;
    down.w_stride = stride_of(a, &w->down, &next->down);
    down.n_in = inner;
    down.n_out = hidden;
    if (w->gate.form == FORM_BF16) {
        cuda_launch_pack(stream, s.x, a->x, a->n_rows, hidden);
        gate.x = s.x;
        down.x = s.inner;
        cuda_launch_mma_gated(stream, &gate, w->up.data, s.inner);
        cuda_launch_mma(stream, &down);
    } else {
        cuda_product up = gate;
        up.y = s.up;
        up.w = w->up.data;
        up.w_stride = stride_of(a, &w->up, &next->up);
        down.x = s.gate;
        cuda_launch_product(stream, (int)w->gate.type, &gate);
        cuda_launch_product(stream, (int)w->up.type, &up);
        cuda_launch_swiglu(stream, s.gate, s.gate, s.up, (size_t)n_slots * (size_t)inner);
        cuda_launch_product(stream, (int)w->down.type, &down);
    }
    cuda_launch_combine(stream, a->y, s.down, a->weights, s.place_of, a->n_rows, a->n_active,
                        hidden);
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
};

/* SPDX-License-Identifier: Apache-2.0
 *
 * Products on a GPU: which kernel a weight goes to, and how the product is cut. Weights of bfloat16
 * and of block types meet activations in bfloat16, those of block types as panels (FORM_TILE);
 * whatever else there is, and the reference precision, float32 ones.
 *
 *   packed activations   bf16, as cuda_launch_pack leaves them | sums, which FORM_TILE has
 */
#include <assert.h>

#include "kernels/cuda/cuda_device.h"

/* ---- How a product is cut -------------------------------------------------------------------- */

enum {
    BLOCK_OUTS = 256, /* a gated product has as many of gate and up together */
    SPLITS_MAX = 8,
    BLOCKS_MAX = 264 /* as many are at work at a time on an H100, two a multiprocessor */
};

/* A block has all the outputs that it can have, a cluster as many blocks as the GPU has room for,
 * so that each reads a narrow slice of k for many outputs. */
void cuda_plan_product(cuda_product *p, bool has_clusters) {
    int32_t outs = p->gated ? BLOCK_OUTS / 2 : BLOCK_OUTS, n_chunks = p->n_in / 32;
    p->n_blocks = 0;
    for (int32_t i = 0; i < p->n_parts; i++) {
        p->parts[i].first_block = p->n_blocks;
        p->n_blocks += (p->parts[i].n_out + outs - 1) / outs;
    }
    int32_t splits_max = has_clusters ? SPLITS_MAX : 1;
    p->n_splits = 1;
    while (2 * p->n_splits <= splits_max && 2 * p->n_splits * p->n_blocks <= BLOCKS_MAX &&
           n_chunks / (2 * p->n_splits) >= 2)
        p->n_splits *= 2;
}

/* Where kernels find a weight: its panels, or what is stored. */
const void *cuda_weight_of(const matrix *w) {
    return w->form == FORM_TILE ? (const void *)w->packed : w->data;
}

void cuda_multiply(cuda_device *cuda, cuda_product *p, const matrix *w) {
    if (w->form == FORM_FLOAT) {
        cuda_launch_product(cuda->stream, (int)w->type, p);
        return;
    }
    if (w->form == FORM_TILE) {
        p->panel_bytes = (uint32_t)packed_panel_bytes(w->type, w->n_in);
        p->scale_at = (uint32_t)packed_group_at(w->type, w->n_in, 0).scale;
        p->super_at = (uint32_t)packed_group_at(w->type, w->n_in, 0).super;
    }
    if (p->first) {
        p->n_splits = 1;
        cuda_launch_mma_grouped(cuda->stream, (int)w->type, p);
        return;
    }
    cuda_plan_product(p, cuda->has_clusters);
    cuda_launch_mma(cuda->stream, (int)w->type, p);
}

/* ---- Dense products -------------------------------------------------------------------------- */

um_status cuda_linear(device *dev, float *y, const float *x, const matrix *w, const float *bias,
                      int32_t n_rows) {
    if (n_rows <= 0) return UM_OK;
    cuda_product p = {.x = x,
                      .parts = {{.w = w->data, .bias = bias, .y = y, .n_out = w->n_out}},
                      .n_parts = 1,
                      .n_rows = n_rows,
                      .n_in = w->n_in};
    cuda_launch_product(cuda_of(dev)->stream, (int)w->type, &p);
    return cuda_check_launch(cuda_of(dev));
}

size_t cuda_pack_scratch(const device *dev, int32_t n_rows, int32_t n_in) {
    (void)dev;
    return cuda_packed_bytes((size_t)(n_rows > 0 ? n_rows : 0), (size_t)n_in);
}

um_status cuda_pack_rows(device *dev, packed_form form, void *packed, const float *x,
                         int32_t n_rows, int32_t n_in) {
    assert(form == FORM_BF16 || form == FORM_TILE);
    if (n_rows <= 0) return UM_OK;
    cuda_launch_pack(cuda_of(dev)->stream, packed, cuda_packed_sums(form, packed, n_rows, n_in), x,
                     n_rows, n_in);
    return cuda_check_launch(cuda_of(dev));
}

static um_status multiply_one(device *dev, float *y, const void *packed, const matrix *w,
                              const float *bias, int32_t n_rows, bool is_added) {
    assert(w->n_in % 32 == 0 && (w->form == FORM_TILE || w->n_out % 16 == 0));
    if (n_rows <= 0) return UM_OK;
    cuda_product p = {.x = packed,
                      .x_sums = cuda_packed_sums(w->form, packed, n_rows, w->n_in),
                      .parts = {{.w = cuda_weight_of(w), .bias = bias, .y = y, .n_out = w->n_out}},
                      .n_parts = 1,
                      .n_rows = n_rows,
                      .n_in = w->n_in,
                      .is_added = is_added};
    cuda_multiply(cuda_of(dev), &p, w);
    return cuda_check_launch(cuda_of(dev));
}

um_status cuda_linear_packed(device *dev, float *y, const void *packed, const matrix *w,
                             const float *bias, int32_t n_rows) {
    return multiply_one(dev, y, packed, w, bias, n_rows, false);
}

um_status cuda_linear_shared(device *dev, const void *packed, const shared_product *products,
                             int32_t n_products, int32_t n_rows) {
    const matrix *w = products[0].w;
    assert(n_products > 0 && n_products <= SHARED_PRODUCTS);
    if (n_rows <= 0) return UM_OK;
    cuda_product p = {.x = packed,
                      .x_sums = cuda_packed_sums(w->form, packed, n_rows, w->n_in),
                      .n_parts = n_products,
                      .n_rows = n_rows,
                      .n_in = w->n_in};
    for (int32_t i = 0; i < n_products; i++) {
        const shared_product *from = &products[i];
        assert(from->w->type == w->type && from->w->form == w->form && from->w->n_in == w->n_in);
        p.parts[i] = (cuda_weight){.w = cuda_weight_of(from->w),
                                   .bias = from->bias,
                                   .y = from->y,
                                   .n_out = from->w->n_out};
    }
    cuda_multiply(cuda_of(dev), &p, w);
    return cuda_check_launch(cuda_of(dev));
}

um_status cuda_linear_added(device *dev, float *y, const void *packed, const matrix *w,
                            const float *bias, int32_t n_rows) {
    return multiply_one(dev, y, packed, w, bias, n_rows, true);
}

um_status cuda_linear_gated(device *dev, packed_form form, void *inner, const void *packed,
                            const matrix *gate, const matrix *up, int32_t n_rows) {
    assert(gate->type == up->type && gate->form == up->form && gate->n_out % 32 == 0);
    if (n_rows <= 0) return UM_OK;
    cuda_product p = {.x = packed,
                      .x_sums = cuda_packed_sums(gate->form, packed, n_rows, gate->n_in),
                      .parts = {{.w = cuda_weight_of(gate), .n_out = gate->n_out}},
                      .w_up = cuda_weight_of(up),
                      .gated = inner,
                      .gated_sums = cuda_packed_sums(form, inner, n_rows, gate->n_out),
                      .n_parts = 1,
                      .n_rows = n_rows,
                      .n_in = gate->n_in};
    cuda_multiply(cuda_of(dev), &p, gate);
    return cuda_check_launch(cuda_of(dev));
}

/* ---- Experts --------------------------------------------------------------------------------- */

typedef struct experts_scratch {
    int32_t *first, *row_of, *place_of;
    float *gate, *up, *down; /* [n_slots, ..] by place; gate and up only with float32 */
    void *x, *inner;         /* bfloat16: [n_rows, hidden], [n_slots, inner] */
} experts_scratch;

static size_t lay_out_experts(const experts_args *a, unsigned char *base, experts_scratch *s) {
    const mlp_weights *w = &a->experts[0];
    size_t n_slots = (size_t)a->n_rows * (size_t)a->n_active, hidden = (size_t)w->gate.n_in;
    size_t n_inner = n_slots * (size_t)w->gate.n_out;
    bool is_rounded = w->gate.form != FORM_FLOAT;
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

size_t cuda_experts_scratch(const device *dev, const experts_args *a) {
    experts_scratch ignored;
    (void)dev;
    return lay_out_experts(a, NULL, &ignored);
}

/* Bytes from one expert's weight to the next one's. */
static size_t stride_of(const experts_args *a, const matrix *first, const matrix *second) {
    const char *from = cuda_weight_of(first), *to = cuda_weight_of(second);
    return a->n_experts > 1 ? (size_t)(to - from) : 0;
}

um_status cuda_experts(device *dev, const experts_args *a, void *scratch) {
    if (a->n_rows <= 0) return UM_OK;
    cudaStream_t stream = cuda_of(dev)->stream;
    const mlp_weights *w = &a->experts[0], *next = &a->experts[a->n_experts > 1];
    int32_t n_slots = a->n_rows * a->n_active, hidden = w->gate.n_in, inner = w->gate.n_out;
    experts_scratch s;
    lay_out_experts(a, scratch, &s);
    cuda_launch_sort(stream, a->ids, s.first, s.row_of, s.place_of, n_slots, a->n_active,
                     a->n_experts);
    packed_form form = w->gate.form;
    cuda_product gate = {.x = a->x,
                         .x_rows = s.row_of,
                         .first = s.first,
                         .parts = {{.w = cuda_weight_of(&w->gate), .y = s.gate, .n_out = inner}},
                         .w_stride = stride_of(a, &w->gate, &next->gate),
                         .n_parts = 1,
                         .n_rows = n_slots,
                         .n_in = hidden,
                         .n_groups = a->n_experts};
    cuda_product down = gate;
    down.x = s.gate;
    down.x_rows = NULL;
    down.parts[0] = (cuda_weight){.w = cuda_weight_of(&w->down), .y = s.down, .n_out = hidden};
    down.w_stride = stride_of(a, &w->down, &next->down);
    down.n_in = inner;
    if (form != FORM_FLOAT) {
        gate.x = a->packed ? a->packed : s.x;
        gate.x_sums = cuda_packed_sums(form, gate.x, a->n_rows, hidden);
        if (!a->packed) TRY(cuda_pack_rows(dev, form, s.x, a->x, a->n_rows, hidden));
        gate.w_up = cuda_weight_of(&w->up);
        gate.gated = s.inner;
        gate.gated_sums = cuda_packed_sums(w->down.form, s.inner, n_slots, inner);
        down.x = s.inner;
        down.x_sums = gate.gated_sums;
        assert(stride_of(a, &w->up, &next->up) == gate.w_stride);
        cuda_multiply(cuda_of(dev), &gate, &w->gate);
    } else {
        cuda_product up = gate;
        up.parts[0].y = s.up;
        up.parts[0].w = w->up.data;
        up.w_stride = stride_of(a, &w->up, &next->up);
        cuda_multiply(cuda_of(dev), &gate, &w->gate);
        cuda_multiply(cuda_of(dev), &up, &w->up);
        cuda_launch_swiglu(stream, s.gate, s.gate, s.up, (size_t)n_slots * (size_t)inner);
    }
    cuda_multiply(cuda_of(dev), &down, &w->down);
    cuda_launch_combine(stream, a->y, s.down, a->weights, s.place_of, a->n_rows, a->n_active,
                        hidden);
    return cuda_check_launch(cuda_of(dev));
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The output head on a GPU, CUDA_HEAD_REQUESTS requests at a time: one product for the rows they
 * name, a reduction by tiles, and the host's part (kernels/head_merge.c), for which partial results
 * come back. Draws that need the whole row are made by the host's kernels: the CPU's own draws.
 *
 *   scratch: inputs | x bfloat16 [n_rows, n_in] | logits [n_used, vocab] | stored [n_stored, vocab]
 *            | partials [n_requests, n_tiles]      of a chunk, but for x
 */
#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/cuda/cuda_device.h"

static_assert(sizeof(cuda_head_partial) == sizeof(head_partial) &&
                  offsetof(cuda_head_partial, all.sum) == offsetof(head_partial, all.sum) &&
                  offsetof(cuda_head_partial, all.is_finite) ==
                      offsetof(head_partial, all.is_finite) &&
                  offsetof(cuda_head_partial, allowed.max) == offsetof(head_partial, allowed.max) &&
                  offsetof(cuda_head_partial, allowed.i_max) ==
                      offsetof(head_partial, allowed.i_max) &&
                  offsetof(cuda_head_partial, forbidden) == offsetof(head_partial, forbidden) &&
                  offsetof(cuda_head_partial, tempered) == offsetof(head_partial, tempered) &&
                  offsetof(cuda_head_partial, drawn.key) == offsetof(head_partial, drawn.key) &&
                  offsetof(cuda_head_partial, drawn.logit) == offsetof(head_partial, drawn.logit),
              "cuda_launch.h: cuda_head_partial");

typedef struct head_scratch {
    cuda_head_inputs *inputs;
    void *x;
    float *logits, *stored;
    cuda_head_partial *partials;
} head_scratch;

static size_t lay_out(const head_args *a, unsigned char *base, head_scratch *s) {
    size_t n = (size_t)(a->n_requests < CUDA_HEAD_REQUESTS ? a->n_requests : CUDA_HEAD_REQUESTS);
    size_t vocab = (size_t)a->w.n_out, n_tiles = (vocab + CUDA_HEAD_TILE - 1) / CUDA_HEAD_TILE;
    size_t n_rows = (size_t)a->n_rows, n_used = n_rows < 2 * n ? n_rows : 2 * n;
    bool is_rounded = a->w.form == FORM_BF16;
    bool is_any_stored = false;
    for (int32_t i = 0; i < a->n_requests; i++)
        is_any_stored |= a->requests[i].logits || head_is_truncated(&a->requests[i]);
    scratch_cursor scratch = {base, 0};
    s->inputs = scratch_take(&scratch, sizeof *s->inputs);
    s->x = scratch_take(&scratch, is_rounded ? n_rows * (size_t)a->w.n_in * 2 : 0);
    s->logits = scratch_take(&scratch, n_used * vocab * sizeof *s->logits);
    s->stored = scratch_take(&scratch, is_any_stored ? n * vocab * sizeof *s->stored : 0);
    s->partials = scratch_take(&scratch, n * n_tiles * sizeof *s->partials);
    return scratch.at;
}

size_t cuda_head_scratch(const device *dev, const head_args *a) {
    head_scratch ignored;
    (void)dev;
    return a->n_requests > 0 ? lay_out(a, NULL, &ignored) : 0;
}

/* Place of a row among those that a chunk's requests name. */
static int32_t use_row(cuda_head_inputs *in, int32_t *n_used, int32_t row) {
    for (int32_t i = *n_used; i-- > 0;)
        if (in->rows[i] == row) return i;
    in->rows[*n_used] = row;
    return (*n_used)++;
}

/* Fills the inputs of requests [first, first + n). */
static void fill_inputs(cuda_head_inputs *in, const head_args *a, int32_t first, int32_t n,
                        int32_t *n_used, int32_t *n_stored) {
    *n_used = *n_stored = 0;
    for (int32_t i = 0; i < n; i++) {
        const score_request *q = &a->requests[first + i];
        bool is_truncated = head_is_truncated(q);
        uint32_t seed[2] = {(uint32_t)q->key.seed, (uint32_t)(q->key.seed >> 32)}, mixed[4];
        uint32_t request[4] = {(uint32_t)q->key.request, (uint32_t)(q->key.request >> 32), 0, 0};
        rng_philox(request, seed, mixed); /* base/rng.c: the key of its draws */
        in->requests[i] = (cuda_head_request){
            .temperature = is_truncated ? 0.0 : q->temperature,
            .key = {mixed[0], mixed[1]},
            .position = q->key.position,
            .step = q->key.step,
            .row = use_row(in, n_used, q->row),
            .guide_row = q->guide_row >= 0 ? use_row(in, n_used, q->guide_row) : -1,
            .removed = q->removed,
            .watched = {q->watched[0], q->watched[1]},
            .cfg_scale = q->cfg_scale,
            .inverse_temperature =
                q->temperature > 0.0 ? head_inverse_temperature(q->temperature) : 0.0f,
            .stored = is_truncated || q->logits ? (*n_stored)++ : -1,
        };
    }
}

/* Makes sure that the host's buffers hold what a chunk brings back. */
static um_status reserve_host(cuda_device *cuda, size_t n_partials, size_t n_stored) {
    if (n_partials > cuda->partials_capacity) {
        void *grown = memory_realloc_array(cuda->partials, n_partials, sizeof *cuda->partials);
        if (!grown) return UM_NO_MEMORY;
        cuda->partials = grown;
        cuda->partials_capacity = n_partials;
    }
    if (n_stored > cuda->stored_capacity) {
        void *grown = memory_realloc_array(cuda->stored, n_stored, sizeof *cuda->stored);
        if (!grown) return UM_NO_MEMORY;
        cuda->stored = grown;
        cuda->stored_capacity = n_stored;
    }
    return UM_OK;
}

typedef struct finish_task {
    cuda_device *cuda;
    const head_args *args;
    int32_t first, n_tiles, forbidden;
} finish_task;

static void finish_one(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const finish_task *t = context;
    const head_args *a = t->args;
    const score_request *q = &a->requests[t->first + i_task];
    score *s = &a->scores[t->first + i_task];
    int32_t vocab = a->w.n_out, place = t->cuda->head_inputs.requests[i_task].stored;
    head_finish(q, t->cuda->partials + (size_t)i_task * (size_t)t->n_tiles, t->n_tiles,
                CUDA_HEAD_TILE, vocab, s);
    if (place < 0) return;
    float *l = t->cuda->stored + (size_t)place * (size_t)vocab;
    if (q->logits) memcpy(q->logits, l, (size_t)vocab * sizeof *l);
    if (!head_is_truncated(q)) return;
    if (t->forbidden >= 0) l[t->forbidden] = -INFINITY;
    head_draw_truncated(cpu_kernels_of(t->cuda->host), q, l, vocab, s);
}

static um_status multiply(cuda_device *cuda, const head_args *a, const head_scratch *s,
                          int32_t n_used) {
    bool is_rounded = a->w.form == FORM_BF16;
    cuda_product p = {.y = s->logits,
                      .x = is_rounded ? s->x : (const void *)a->x,
                      .x_rows = s->inputs->rows,
                      .w = a->w.data,
                      .n_rows = n_used,
                      .n_in = a->w.n_in,
                      .n_out = a->w.n_out};
    if (is_rounded)
        cuda_launch_mma(cuda->stream, &p);
    else
        cuda_launch_product(cuda->stream, (int)a->w.type, &p);
    return cuda_check_launch(cuda);
}

static um_status run_chunk(cuda_device *cuda, const head_args *a, const head_scratch *s,
                           int32_t first, int32_t n) {
    device *dev = &cuda->base;
    int32_t n_used, n_stored, vocab = a->w.n_out;
    int32_t n_tiles = (vocab + CUDA_HEAD_TILE - 1) / CUDA_HEAD_TILE;
    int32_t forbidden = vocab > 1 ? a->forbidden_token : -1; /* one token leaves no other choice */
    size_t n_partials = (size_t)n * (size_t)n_tiles;
    fill_inputs(&cuda->head_inputs, a, first, n, &n_used, &n_stored);
    size_t n_logits = (size_t)n_stored * (size_t)vocab;
    TRY(reserve_host(cuda, n_partials, n_logits));
    TRY(device_write(dev, s->inputs, &cuda->head_inputs, sizeof cuda->head_inputs));
    TRY(multiply(cuda, a, s, n_used));
    cuda_launch_head(cuda->stream, s->logits, s->inputs->requests, n, vocab, a->logit_scale,
                     forbidden, s->partials, s->stored);
    TRY(cuda_check_launch(cuda));
    TRY(device_read(dev, cuda->partials, s->partials, n_partials * sizeof *s->partials));
    if (n_stored) TRY(device_read(dev, cuda->stored, s->stored, n_logits * sizeof *s->stored));
    finish_task task = {cuda, a, first, n_tiles, forbidden};
    thread_pool_run(dev->pool, finish_one, &task, n);
    return UM_OK;
}

um_status cuda_head(device *dev, const head_args *a, void *scratch) {
    if (a->n_requests <= 0) return UM_OK;
    cuda_device *cuda = cuda_of(dev);
    head_scratch s;
    lay_out(a, scratch, &s);
    if (a->w.form == FORM_BF16)
        cuda_launch_round(cuda->stream, s.x, a->x, (size_t)a->n_rows * (size_t)a->w.n_in);
    for (int32_t first = 0; first < a->n_requests; first += CUDA_HEAD_REQUESTS) {
        int32_t n = a->n_requests - first;
        TRY(run_chunk(cuda, a, &s, first, n < CUDA_HEAD_REQUESTS ? n : CUDA_HEAD_REQUESTS));
    }
    return UM_OK;
}

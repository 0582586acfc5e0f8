/* SPDX-License-Identifier: Apache-2.0
 *
 * The output head on a GPU, CUDA_HEAD_REQUESTS requests at a time: one product for the rows they
 * name, a reduction by tiles, and tiles to scores. Draws that need the whole row are made by the
 * host's kernels: the CPU's own draws.
 *
 *   placed:  inputs [n_chunks] | adjustments [n_adjustments]       what requests ask for
 *   scratch: placed | scores [n_requests] | packed x
 *            | logits [n_used, vocab] | stored [n_stored, vocab] | allowed [n, vocab / 32 bits]
 *            | partials [n, n_tiles]                               the last four of a chunk
 */
#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/cuda/cuda_device.h"

static_assert(sizeof(cuda_adjustment) == sizeof(logit_adjustment) &&
                  offsetof(cuda_adjustment, divisor) == offsetof(logit_adjustment, divisor) &&
                  offsetof(cuda_adjustment, bias) == offsetof(logit_adjustment, bias),
              "cuda_launch.h: cuda_adjustment");

typedef struct placed_head {
    cuda_head_inputs *inputs;
    cuda_adjustment *adjustments;
} placed_head;

typedef struct head_scratch {
    void *placed, *x;
    score *scores;
    float *logits, *stored;
    uint32_t *allowed;
    cuda_head_partial *partials;
} head_scratch;

static int32_t chunks_of(const head_args *a) {
    return (a->n_requests + CUDA_HEAD_REQUESTS - 1) / CUDA_HEAD_REQUESTS;
}

/* Words of a request's allowed tokens. */
static size_t words_of(const head_args *a) {
    return ((size_t)a->w.n_out + 31) / 32;
}

/* True where request i has a list that the one before it does not have: requests of one sequence
 * share theirs, and it is placed once. */
static bool begins_list(const head_args *a, int32_t i) {
    const score_request *q = &a->requests[i];
    return q->n_adjustments > 0 && (i == 0 || q->adjustments != a->requests[i - 1].adjustments ||
                                    q->n_adjustments != a->requests[i - 1].n_adjustments);
}

static size_t lay_out_placed(const head_args *a, unsigned char *base, placed_head *p) {
    size_t n_adjustments = 0;
    for (int32_t i = 0; i < a->n_requests; i++)
        if (begins_list(a, i)) n_adjustments += (size_t)a->requests[i].n_adjustments;
    scratch_cursor scratch = {base, 0};
    p->inputs = scratch_take(&scratch, (size_t)chunks_of(a) * sizeof *p->inputs);
    p->adjustments = scratch_take(&scratch, n_adjustments * sizeof *p->adjustments);
    return scratch.at;
}

size_t cuda_head_place_bytes(const device *dev, const head_args *a) {
    placed_head ignored;
    (void)dev;
    return a->n_requests > 0 ? lay_out_placed(a, NULL, &ignored) : 0;
}

static size_t lay_out(const head_args *a, size_t placed_bytes, unsigned char *base,
                      head_scratch *s) {
    size_t n = (size_t)(a->n_requests < CUDA_HEAD_REQUESTS ? a->n_requests : CUDA_HEAD_REQUESTS);
    size_t vocab = (size_t)a->w.n_out, n_tiles = (vocab + CUDA_HEAD_TILE - 1) / CUDA_HEAD_TILE;
    size_t n_rows = (size_t)a->n_rows, n_used = n_rows < 2 * n ? n_rows : 2 * n;
    bool is_rounded = a->w.form != FORM_FLOAT;
    bool is_any_stored = false, is_any_constrained = false;
    for (int32_t i = 0; i < a->n_requests; i++) {
        is_any_stored |= a->requests[i].logits || head_is_truncated(&a->requests[i]);
        is_any_constrained |= a->requests[i].allowed != NULL;
    }
    scratch_cursor scratch = {base, 0};
    s->placed = scratch_take(&scratch, placed_bytes);
    s->scores = scratch_take(&scratch, (size_t)a->n_requests * sizeof *s->scores);
    s->x = scratch_take(&scratch, is_rounded ? cuda_packed_bytes(n_rows, (size_t)a->w.n_in) : 0);
    s->logits = scratch_take(&scratch, n_used * vocab * sizeof *s->logits);
    s->stored = scratch_take(&scratch, is_any_stored ? n * vocab * sizeof *s->stored : 0);
    s->allowed =
        scratch_take(&scratch, is_any_constrained ? n * words_of(a) * sizeof *s->allowed : 0);
    s->partials = scratch_take(&scratch, n * n_tiles * sizeof *s->partials);
    return scratch.at;
}

size_t cuda_head_scratch(const device *dev, const head_args *a) {
    head_scratch ignored;
    return a->n_requests > 0 ? lay_out(a, cuda_head_place_bytes(dev, a), NULL, &ignored) : 0;
}

/* Place of a row among those that a chunk's requests name. */
static int32_t use_row(cuda_head_inputs *in, int32_t row) {
    for (int32_t i = in->n_used; i-- > 0;)
        if (in->rows[i] == row) return i;
    in->rows[in->n_used] = row;
    return in->n_used++;
}

static cuda_head_request request_of(cuda_head_inputs *in, const score_request *q, int32_t i) {
    bool is_truncated = head_is_truncated(q);
    uint32_t seed[2] = {(uint32_t)q->key.seed, (uint32_t)(q->key.seed >> 32)}, mixed[4];
    uint32_t request[4] = {(uint32_t)q->key.request, (uint32_t)(q->key.request >> 32), 0, 0};
    rng_philox(request, seed, mixed); /* base/rng.c: the key of its draws */
    return (cuda_head_request){
        .temperature = is_truncated ? 0.0 : q->temperature,
        .key = {mixed[0], mixed[1]},
        .position = q->key.position,
        .step = q->key.step,
        .row = use_row(in, q->row),
        .guide_row = q->guide_row >= 0 ? use_row(in, q->guide_row) : -1,
        .removed = q->removed,
        .watched = {q->watched[0], q->watched[1]},
        .cfg_scale = q->cfg_scale,
        .inverse_temperature =
            q->temperature > 0.0 ? head_inverse_temperature(q->temperature) : 0.0f,
        .stored = is_truncated || q->logits ? in->n_stored++ : -1,
        .allowed = q->allowed ? i : -1,
        .n_adjustments = q->n_adjustments,
        .own = {q->own.token, q->own.divisor, q->own.bias},
    };
}

/* Makes sure that a host's buffer holds n_bytes. */
static bool hold(void **buffer, size_t *capacity, size_t n_bytes) {
    if (n_bytes <= *capacity) return true;
    void *grown = memory_realloc_array(*buffer, n_bytes, 1);
    if (!grown) return false;
    *buffer = grown;
    *capacity = n_bytes;
    return true;
}

um_status cuda_head_place(device *dev, const head_args *a, void *placed) {
    cuda_device *cuda = cuda_of(dev);
    placed_head p;
    size_t n_bytes = cuda_head_place_bytes(dev, a);
    if (!hold(&cuda->placed, &cuda->placed_capacity, n_bytes)) return UM_NO_MEMORY;
    memset(cuda->placed, 0, n_bytes);
    lay_out_placed(a, cuda->placed, &p);
    int32_t n_adjustments = 0;
    for (int32_t i = 0; i < a->n_requests; i++) {
        const score_request *q = &a->requests[i];
        cuda_head_inputs *in = &p.inputs[i / CUDA_HEAD_REQUESTS];
        int32_t at = i % CUDA_HEAD_REQUESTS;
        in->requests[at] = request_of(in, q, at);
        if (begins_list(a, i)) {
            memcpy(p.adjustments + n_adjustments, q->adjustments,
                   (size_t)q->n_adjustments * sizeof *q->adjustments);
            n_adjustments += q->n_adjustments;
        }
        in->requests[at].first_adjustment = n_adjustments - q->n_adjustments;
    }
    return device_write(dev, placed, cuda->placed, n_bytes);
}

static void multiply(cuda_device *cuda, const head_args *a, const head_scratch *s,
                     const cuda_head_inputs *in, int32_t n_used) {
    bool is_rounded = a->w.form != FORM_FLOAT;
    cuda_product p = {.x = is_rounded ? s->x : (const void *)a->x,
                      .x_sums = cuda_packed_sums(a->w.form, s->x, a->n_rows, a->w.n_in),
                      .x_rows = in->rows,
                      .parts = {{.w = cuda_weight_of(&a->w), .y = s->logits, .n_out = a->w.n_out}},
                      .n_parts = 1,
                      .n_rows = n_used,
                      .n_in = a->w.n_in};
    cuda_multiply(cuda, &p, &a->w);
}

/* Queues a chunk of n requests, whose rows are n_used. */
static um_status run_chunk(cuda_device *cuda, const head_args *a, const placed_head *p,
                           const head_scratch *s, int32_t i_chunk, int32_t n, int32_t n_used,
                           score *scores) {
    const cuda_head_inputs *in = p->inputs + i_chunk;
    cuda_head_reduction r = {
        .logits = s->logits,
        .requests = in->requests,
        .adjustments = p->adjustments,
        .allowed = s->allowed,
        .steps_made = a->steps_made,
        .partials = s->partials,
        .stored = s->stored,
        .scores = scores + (size_t)i_chunk * CUDA_HEAD_REQUESTS,
        .n_requests = n,
        .vocab = a->w.n_out,
        .forbidden = a->w.n_out > 1 ? a->forbidden_token : -1, /* one token leaves no choice */
        .logit_scale = a->logit_scale,
    };
    multiply(cuda, a, s, in, n_used);
    cuda_launch_head(cuda->stream, &r);
    cuda_launch_head_merge(cuda->stream, &r);
    return cuda_check_launch(cuda);
}

static int32_t chunk_length(const head_args *a, int32_t i_chunk) {
    int32_t n = a->n_requests - i_chunk * CUDA_HEAD_REQUESTS;
    return n < CUDA_HEAD_REQUESTS ? n : CUDA_HEAD_REQUESTS;
}

um_status cuda_head_placed(device *dev, const head_args *a, void *placed, void *scores,
                           void *scratch) {
    if (a->n_requests <= 0) return UM_OK;
    cuda_device *cuda = cuda_of(dev);
    placed_head p;
    head_scratch s;
    lay_out_placed(a, placed, &p);
    lay_out(a, 0, scratch, &s);
    if (a->w.form != FORM_FLOAT)
        TRY(cuda_pack_rows(dev, a->w.form, s.x, a->x, a->n_rows, a->w.n_in));
    for (int32_t i = 0; i < chunks_of(a); i++) {
        int32_t n = chunk_length(a, i);
        TRY(run_chunk(cuda, a, &p, &s, i, n, n, scores));
    }
    return UM_OK;
}

/* ---- With the host's part --------------------------------------------------------------------
 */

static um_status write_allowed(device *dev, const head_args *a, const head_scratch *s,
                               int32_t i_chunk, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        const uint32_t *allowed = a->requests[i_chunk * CUDA_HEAD_REQUESTS + i].allowed;
        if (!allowed) continue;
        size_t n_words = words_of(a);
        TRY(device_write(dev, s->allowed + (size_t)i * n_words, allowed,
                         n_words * sizeof *allowed));
    }
    return UM_OK;
}

typedef struct draw_task {
    cuda_device *cuda;
    const head_args *args;
    const cuda_head_inputs *inputs;
    int32_t first;
} draw_task;

/* Hands out the stored logits of a request and makes the draw that needs them. */
static void draw_one(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const draw_task *t = context;
    const head_args *a = t->args;
    const score_request *q = &a->requests[t->first + i_task];
    int32_t vocab = a->w.n_out, place = t->inputs->requests[i_task].stored;
    if (place < 0) return;
    float *l = (float *)t->cuda->stored + (size_t)place * (size_t)vocab;
    if (q->logits) memcpy(q->logits, l, (size_t)vocab * sizeof *l);
    if (!head_is_truncated(q)) return;
    if (vocab > 1 && a->forbidden_token >= 0) l[a->forbidden_token] = -INFINITY;
    head_draw_truncated(cpu_kernels_of(t->cuda->host), q, l, vocab, &a->scores[t->first + i_task]);
}

/* The logits of a chunk are overwritten by the next one's. */
static um_status finish_stored(cuda_device *cuda, const head_args *a, const head_scratch *s,
                               const cuda_head_inputs *in, int32_t i_chunk, int32_t n) {
    size_t n_bytes = (size_t)in->n_stored * (size_t)a->w.n_out * sizeof *s->stored;
    int32_t first = i_chunk * CUDA_HEAD_REQUESTS;
    if (!n_bytes) return UM_OK;
    if (!hold(&cuda->stored, &cuda->stored_capacity, n_bytes)) return UM_NO_MEMORY;
    TRY(device_read(&cuda->base, a->scores + first, s->scores + first,
                    (size_t)n * sizeof *s->scores));
    TRY(device_read(&cuda->base, cuda->stored, s->stored, n_bytes));
    draw_task task = {cuda, a, in, first};
    thread_pool_run(cuda->base.pool, draw_one, &task, n);
    return UM_OK;
}

um_status cuda_head(device *dev, const head_args *a, void *scratch) {
    if (a->n_requests <= 0) return UM_OK;
    cuda_device *cuda = cuda_of(dev);
    placed_head p, host;
    head_scratch s;
    lay_out(a, cuda_head_place_bytes(dev, a), scratch, &s);
    lay_out_placed(a, s.placed, &p);
    TRY(cuda_head_place(dev, a, s.placed));
    lay_out_placed(a, cuda->placed, &host);
    if (a->w.form != FORM_FLOAT)
        TRY(cuda_pack_rows(dev, a->w.form, s.x, a->x, a->n_rows, a->w.n_in));
    for (int32_t i = 0; i < chunks_of(a); i++) {
        int32_t n = chunk_length(a, i);
        TRY(write_allowed(dev, a, &s, i, n));
        TRY(run_chunk(cuda, a, &p, &s, i, n, host.inputs[i].n_used, s.scores));
        TRY(finish_stored(cuda, a, &s, &host.inputs[i], i, n));
    }
    /* Chunks with something stored have their scores already. */
    for (int32_t i = 0; i < chunks_of(a); i++) {
        size_t first = (size_t)i * CUDA_HEAD_REQUESTS;
        if (!host.inputs[i].n_stored)
            TRY(device_read(dev, a->scores + first, s.scores + first,
                            (size_t)chunk_length(a, i) * sizeof *s.scores));
    }
    return UM_OK;
}

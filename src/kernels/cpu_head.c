/* SPDX-License-Identifier: Apache-2.0
 *
 * The output head on the CPU. A task is one vocabulary tile of HEAD_TILE tokens, whatever the
 * number of threads: logits of all rows that a request names, then guidance, then one partial
 * result a request. Partials are merged in the order of tiles on one thread. Requests that truncate
 * keep their logits in scratch and are finished by cpu_select.c.
 *
 *   scratch:  used_rows [n_rows] | used_index [n_rows] | stored [n_requests]
 *             | partials [n_requests, n_tiles] | stored logits [n_truncated, vocab]
 *             | tile logits [n_workers, n_used + 1, HEAD_TILE] | packed rows [n_used]
 */
#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/head_merge.h"

enum { ROW_BLOCK_FLOATS = 96 * 1024 };

typedef struct head_task {
    const device *dev;
    const cpu_kernels *kernels;
    const head_args *args;
    unsigned char *packed_rows; /* the used rows, quantized, where the weights are packed */
    int32_t *used_rows;         /* [n_used] rows that are multiplied */
    int32_t *used_index;        /* [n_rows] place in used_rows, or -1 */
    int32_t *stored;            /* [n_requests] place in stored_logits, or -1 */
    head_partial *partials;
    float *stored_logits, *tile_logits;
    size_t worker_floats;
    int32_t n_used, n_stored, n_tiles, forbidden;
} head_task;

/* Lays the scratch out; base NULL gives the size alone. */
static size_t lay_out(const device *dev, const head_args *a, unsigned char *base, head_task *t) {
    int32_t n_stored = 0;
    for (int32_t i = 0; i < a->n_requests; i++) n_stored += head_is_truncated(&a->requests[i]);
    size_t n_rows = (size_t)a->n_rows, n_requests = (size_t)a->n_requests;
    size_t n_used = n_rows < 2 * n_requests ? n_rows : 2 * n_requests;
    size_t vocab = (size_t)a->w.n_out, n_tiles = (vocab + HEAD_TILE - 1) / HEAD_TILE;
    t->worker_floats = (n_used + 1) * HEAD_TILE;
    size_t workers = (size_t)thread_pool_size(dev->pool);
    packed_form form = a->w.form;
    size_t packed_bytes =
        form != FORM_FLOAT ? packed_rows_bytes(form, (int32_t)n_used, a->w.n_in) : 0;
    scratch_cursor scratch = {base, 0};
    t->used_rows = scratch_take(&scratch, n_rows * sizeof *t->used_rows);
    t->used_index = scratch_take(&scratch, n_rows * sizeof *t->used_index);
    t->stored = scratch_take(&scratch, n_requests * sizeof *t->stored);
    t->partials = scratch_take(&scratch, n_requests * n_tiles * sizeof *t->partials);
    t->stored_logits = scratch_take(&scratch, (size_t)n_stored * vocab * sizeof(float));
    t->tile_logits = scratch_take(&scratch, workers * t->worker_floats * sizeof(float));
    t->packed_rows = scratch_take(&scratch, packed_bytes);
    t->n_tiles = (int32_t)n_tiles;
    return scratch.at;
}

size_t cpu_head_scratch(const device *dev, const head_args *args) {
    head_task task;
    if (args->n_requests <= 0) return 0;
    return lay_out(dev, args, NULL, &task);
}

static void use_row(head_task *t, int32_t row) {
    assert(row >= 0 && row < t->args->n_rows);
    if (t->used_index[row] >= 0) return;
    t->used_index[row] = t->n_used;
    t->used_rows[t->n_used++] = row;
}

static void multiply(const head_task *t, int32_t first, int32_t n, float *logits, int i_worker) {
    const head_args *a = t->args;
    if (a->w.form != FORM_FLOAT) {
        int32_t end = (first + n + PANEL_OUTS - 1) / PANEL_OUTS;
        cpu_packed_panels(t->kernels, logits, HEAD_TILE, t->packed_rows, &a->w, NULL, t->n_used,
                          first / PANEL_OUTS, end, cpu_panel_of(&a->w, end));
        return;
    }
    int32_t block = ROW_BLOCK_FLOATS / a->w.n_in / 24 * 24;
    if (block < 24) block = 24;
    for (int32_t r = 0; r < t->n_used; r += block) {
        matmul_tile tile = {.y = logits + (size_t)r * HEAD_TILE,
                            .x = a->x,
                            .x_rows = t->used_rows + r,
                            .w = (const unsigned char *)a->w.data +
                                 (size_t)first * dtype_size(a->w.type, (size_t)a->w.n_in),
                            .x_stride = (size_t)a->w.n_in,
                            .y_stride = HEAD_TILE,
                            .type = a->w.type,
                            .n_rows = t->n_used - r < block ? t->n_used - r : block,
                            .n_in = a->w.n_in,
                            .n_out = n};
        cpu_matmul(t->dev, &tile, i_worker);
    }
}

/* l [n] of one request in one tile: scaled, then guided. */
static void combine(const head_task *t, const score_request *q, const float *logits, int32_t n,
                    float *l) {
    float scale = t->args->logit_scale;
    const float *c = logits + (size_t)t->used_index[q->row] * HEAD_TILE;
    if (q->guide_row < 0) {
        for (int32_t i = 0; i < n; i++) l[i] = c[i] * scale;
        return;
    }
    const float *u = logits + (size_t)t->used_index[q->guide_row] * HEAD_TILE;
    float weight = q->cfg_scale + 1.0f;
    for (int32_t i = 0; i < n; i++) {
        float unconditional = u[i] * scale;
        l[i] = unconditional + weight * (c[i] * scale - unconditional);
    }
}

/* The first adjustment of a token from `first` on. */
static int32_t find_adjustment(const score_request *q, int32_t first) {
    int32_t at = 0, n = q->n_adjustments;
    while (n > 0) {
        int32_t half = n / 2;
        if (q->adjustments[at + half].token < first) {
            at += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return at;
}

/* Applies what a request says of the tokens of a tile. A logit that is not a number stays so. */
static void adjust(const score_request *q, int32_t first, int32_t n, float *l) {
    for (int32_t i = find_adjustment(q, first); i < q->n_adjustments; i++) {
        const logit_adjustment *a = &q->adjustments[i];
        if (a->token >= first + n) return;
        if (a->token == q->own.token) a = &q->own;
        float *logit = &l[a->token - first];
        if (!isfinite(*logit)) continue;
        *logit = (*logit < 0 ? *logit * a->divisor : *logit / a->divisor) + a->bias;
        if (*logit < -FLT_MAX) *logit = -FLT_MAX;
    }
}

/* The lowest number, not minus infinity, so that sums over logits stay numbers. What is no number
 * is left to be noticed. */
static void disallow(const uint32_t *allowed, int32_t first, int32_t n, int32_t forbidden,
                     float *l) {
    for (int32_t i = 0; i < n; i++) {
        int32_t id = first + i;
        if ((allowed[id / 32] >> (id % 32) & 1) || id == forbidden || !isfinite(l[i])) continue;
        l[i] = -FLT_MAX;
    }
}

static head_partial summarise(const head_task *t, int32_t i_request, int32_t first, int32_t n,
                              float *l) {
    const head_args *a = t->args;
    const score_request *q = &a->requests[i_request];
    size_t vocab = (size_t)a->w.n_out, bytes = (size_t)n * sizeof *l;
    head_partial p = {.forbidden = -INFINITY, .drawn = {.key = -INFINITY, .token = -1}};
    if (q->n_adjustments) adjust(q, first, n, l);
    /* The lowest number, not minus infinity, so that sums over it stay numbers. */
    if (q->removed >= first && q->removed < first + n) l[q->removed - first] = -FLT_MAX;
    if (q->allowed) disallow(q->allowed, first, n, t->forbidden, l);
    for (int i = 0; i < 2; i++)
        if (q->watched[i] >= first && q->watched[i] < first + n)
            p.watched[i] = l[q->watched[i] - first];
    if (q->logits) memcpy(q->logits + first, l, bytes);
    p.all = t->kernels->tile_softmax(l, n);
    if (!p.all.is_finite) return p;
    if (t->forbidden >= first && t->forbidden < first + n) {
        p.forbidden = l[t->forbidden - first];
        l[t->forbidden - first] = -INFINITY;
    }
    p.allowed = t->kernels->tile_best(l, n);
    if (t->stored[i_request] >= 0) {
        memcpy(t->stored_logits + (size_t)t->stored[i_request] * vocab + (size_t)first, l, bytes);
    } else if (q->temperature > 0.0 && p.allowed.i_max >= 0) {
        p.tempered = t->kernels->tile_tempered(l, n, p.allowed.max,
                                               head_inverse_temperature(q->temperature));
        t->kernels->gumbel(l, n, first, &q->key, q->temperature, &p.drawn);
    }
    return p;
}

static void run_tile(void *context, int i_task, int i_worker) {
    const head_task *t = context;
    const head_args *a = t->args;
    int32_t first = i_task * HEAD_TILE;
    int32_t n = a->w.n_out - first < HEAD_TILE ? a->w.n_out - first : HEAD_TILE;
    float *logits = t->tile_logits + (size_t)i_worker * t->worker_floats;
    float *l = logits + (size_t)t->n_used * HEAD_TILE;
    multiply(t, first, n, logits, i_worker);
    for (int32_t i = 0; i < a->n_requests; i++) {
        combine(t, &a->requests[i], logits, n, l);
        t->partials[(size_t)i * (size_t)t->n_tiles + (size_t)i_task] = summarise(t, i, first, n, l);
    }
}

static void draw_truncated(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const head_task *t = context;
    const head_args *a = t->args;
    if (t->stored[i_task] < 0) return;
    float *l = t->stored_logits + (size_t)t->stored[i_task] * (size_t)a->w.n_out;
    head_draw_truncated(t->kernels, &a->requests[i_task], l, a->w.n_out, &a->scores[i_task]);
}

um_status cpu_head(device *dev, const head_args *args, void *scratch) {
    if (args->n_requests <= 0) return UM_OK;
    head_task task = {.dev = dev, .kernels = cpu_kernels_of(dev), .args = args};
    /* A vocabulary of one leaves no other choice. */
    task.forbidden = args->w.n_out > 1 ? args->forbidden_token : -1;
    lay_out(dev, args, scratch, &task);
    for (int32_t r = 0; r < args->n_rows; r++) task.used_index[r] = -1;
    for (int32_t i = 0; i < args->n_requests; i++) {
        const score_request *q = &args->requests[i];
        use_row(&task, q->row);
        if (q->guide_row >= 0) use_row(&task, q->guide_row);
        task.stored[i] = head_is_truncated(q) ? task.n_stored++ : -1;
    }
    packed_form form = args->w.form;
    if (form != FORM_FLOAT)
        cpu_pack_gathered(dev, form, task.packed_rows, args->x, task.used_rows, task.n_used,
                          args->w.n_in);
    thread_pool_run(dev->pool, run_tile, &task, task.n_tiles);
    for (int32_t i = 0; i < args->n_requests; i++)
        head_finish(&args->requests[i], task.partials + (size_t)i * (size_t)task.n_tiles,
                    task.n_tiles, HEAD_TILE, args->w.n_out, &args->scores[i]);
    if (task.n_stored > 0) thread_pool_run(dev->pool, draw_truncated, &task, args->n_requests);
    return UM_OK;
}

/* Placed are the requests twice: as they came, and as a step asks them. */
size_t cpu_head_place_bytes(const device *dev, const head_args *args) {
    (void)dev;
    return 2 * (size_t)args->n_requests * sizeof(score_request);
}

um_status cpu_head_place(device *dev, const head_args *args, void *placed) {
    (void)dev;
    size_t n_bytes = (size_t)args->n_requests * sizeof(score_request);
    if (n_bytes) memcpy(placed, args->requests, n_bytes);
    return UM_OK;
}

um_status cpu_head_placed(device *dev, const head_args *args, void *placed, void *scores,
                          void *scratch) {
    head_args step = *args;
    const score_request *base = placed;
    score_request *now = (score_request *)placed + args->n_requests;
    for (int32_t i = 0; i < args->n_requests; i++) {
        now[i] = base[i];
        if (args->steps_made) now[i].key.step += (uint32_t)*args->steps_made;
    }
    step.requests = now;
    step.scores = scores;
    return cpu_head(dev, &step, scratch);
}

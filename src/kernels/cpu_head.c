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
#include "kernels/cpu_select.h"

enum { ROW_BLOCK_FLOATS = 96 * 1024 };

typedef struct partial {
    tile_softmax all;  /* of every token */
    tile_best allowed; /* without the forbidden token; i_max counts from the tile's start */
    float forbidden;   /* logit of the forbidden token where this tile has it, else -inf */
    float watched[2];  /* logits of the watched tokens where this tile has them, else 0 */
    double tempered;   /* sum exp((l - allowed.max) / temperature), without the forbidden token */
    gumbel_best drawn;
} partial;

typedef struct head_task {
    const device *dev;
    const cpu_kernels *kernels;
    const head_args *args;
    unsigned char *packed_rows; /* the used rows, quantized, where the weights are packed */
    int32_t *used_rows;         /* [n_used] rows that are multiplied */
    int32_t *used_index;        /* [n_rows] place in used_rows, or -1 */
    int32_t *stored;            /* [n_requests] place in stored_logits, or -1 */
    partial *partials;
    float *stored_logits, *tile_logits;
    size_t worker_floats;
    int32_t n_used, n_stored, n_tiles, forbidden;
} head_task;

static bool is_truncated(const score_request *q) {
    return q->temperature > 0.0 &&
           (q->top_k > 0 || q->top_p < 1.0 || q->min_p > 0.0 || q->wants_spread);
}

/* Lays the scratch out; base NULL gives the size alone. */
static size_t lay_out(const device *dev, const head_args *a, unsigned char *base, head_task *t) {
    int32_t n_stored = 0;
    for (int32_t i = 0; i < a->n_requests; i++) n_stored += is_truncated(&a->requests[i]);
    size_t n_rows = (size_t)a->n_rows, n_requests = (size_t)a->n_requests;
    size_t n_used = n_rows < 2 * n_requests ? n_rows : 2 * n_requests;
    size_t vocab = (size_t)a->w.n_out, n_tiles = (vocab + HEAD_TILE - 1) / HEAD_TILE;
    t->worker_floats = (n_used + 1) * HEAD_TILE;
    size_t workers = (size_t)thread_pool_size(dev->pool);
    packed_form form = matrix_form(&a->w);
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
    if (matrix_form(&a->w) != FORM_FLOAT) {
        cpu_packed_panels(t->kernels, logits, HEAD_TILE, t->packed_rows, &a->w, NULL, t->n_used,
                          first / PANEL_OUTS, (first + n + PANEL_OUTS - 1) / PANEL_OUTS);
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

static float inverse_temperature(double temperature) {
    double inverse = 1.0 / temperature;
    return inverse < (double)FLT_MAX ? (float)inverse : FLT_MAX;
}

static partial summarise(const head_task *t, int32_t i_request, int32_t first, int32_t n,
                         float *l) {
    const head_args *a = t->args;
    const score_request *q = &a->requests[i_request];
    size_t vocab = (size_t)a->w.n_out, bytes = (size_t)n * sizeof *l;
    partial p = {.forbidden = -INFINITY, .drawn = {.key = -INFINITY, .token = -1}};
    if (q->n_adjustments) adjust(q, first, n, l);
    /* The lowest number, not minus infinity, so that sums over it stay numbers. */
    if (q->removed >= first && q->removed < first + n) l[q->removed - first] = -FLT_MAX;
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
        p.tempered =
            t->kernels->tile_tempered(l, n, p.allowed.max, inverse_temperature(q->temperature));
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

/* What merging the tiles of a request gives, in float64. */
typedef struct merged {
    double log_sum_exp, entropy, tempered;
    float max, second, forbidden;
    int32_t token;
    gumbel_best drawn;
    bool is_finite;
} merged;

static merged merge(const partial *p, int32_t n_tiles, double temperature) {
    merged m = {.max = -INFINITY,
                .second = -INFINITY,
                .forbidden = -INFINITY,
                .token = -1,
                .is_finite = true,
                .drawn = {.key = -INFINITY, .token = -1}};
    float top = -INFINITY;
    for (int32_t i = 0; i < n_tiles; i++) {
        m.is_finite &= p[i].all.is_finite;
        if (p[i].all.top > top) top = p[i].all.top;
    }
    if (!m.is_finite) return m;
    double sum = 0.0, sum_logits = 0.0;
    for (int32_t i = 0; i < n_tiles; i++) {
        double below = (double)p[i].all.top - (double)top, weight = exp(below);
        sum += weight * p[i].all.sum;
        sum_logits += weight * (p[i].all.sum_logits + below * p[i].all.sum);
        if (p[i].forbidden > m.forbidden) m.forbidden = p[i].forbidden;
        if (p[i].allowed.i_max < 0) continue;
        if (p[i].allowed.max > m.max) {
            m.second = p[i].allowed.second > m.max ? p[i].allowed.second : m.max;
            m.max = p[i].allowed.max;
            m.token = i * HEAD_TILE + p[i].allowed.i_max;
        } else if (p[i].allowed.max > m.second) {
            m.second = p[i].allowed.max;
        }
        if (p[i].drawn.token >= 0 && p[i].drawn.key > m.drawn.key) m.drawn = p[i].drawn;
    }
    m.log_sum_exp = (double)top + log(sum);
    m.entropy = log(sum) - sum_logits / sum;
    if (m.entropy < 0.0) m.entropy = 0.0;
    for (int32_t i = 0; i < n_tiles && temperature > 0.0; i++)
        if (p[i].allowed.i_max >= 0)
            m.tempered +=
                p[i].tempered * exp(((double)p[i].allowed.max - (double)m.max) / temperature);
    return m;
}

static void finish(const head_task *t, int32_t i_request) {
    const score_request *q = &t->args->requests[i_request];
    score *s = &t->args->scores[i_request];
    merged m =
        merge(t->partials + (size_t)i_request * (size_t)t->n_tiles, t->n_tiles, q->temperature);
    *s = (score){.is_finite = m.is_finite};
    if (!m.is_finite) return;
    s->token = m.token;
    s->logit = m.max;
    s->log_sum_exp = (float)m.log_sum_exp;
    s->probability = (float)exp((double)m.max - m.log_sum_exp);
    s->second_probability = (float)exp((double)m.second - m.log_sum_exp);
    s->forbidden_probability = (float)exp((double)m.forbidden - m.log_sum_exp);
    s->entropy = (float)m.entropy;
    for (int i = 0; i < 2; i++) {
        if (q->watched[i] < 0 || q->watched[i] >= t->args->w.n_out) continue;
        size_t tile = (size_t)(q->watched[i] / HEAD_TILE);
        const partial *p = &t->partials[(size_t)i_request * (size_t)t->n_tiles + tile];
        s->watched_log_probability[i] = (double)p->watched[i] - m.log_sum_exp;
    }
    s->drawn = m.token;
    s->drawn_probability = s->drawn_tempered = s->probability;
    if (q->temperature > 0.0 && t->stored[i_request] < 0) {
        /* A temperature so low that keys overflow draws nothing: the limit is the argmax. */
        float drawn_logit = m.max;
        if (m.drawn.token >= 0) {
            s->drawn = m.drawn.token;
            drawn_logit = m.drawn.logit;
        }
        double above = ((double)drawn_logit - (double)m.max) / q->temperature;
        s->drawn_probability = (float)exp((double)drawn_logit - m.log_sum_exp);
        s->drawn_tempered = (float)(exp(above) / m.tempered);
    }
}

static void draw_truncated(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const head_task *t = context;
    const head_args *a = t->args;
    score *s = &a->scores[i_task];
    if (t->stored[i_task] < 0 || !s->is_finite) return;
    float *l = t->stored_logits + (size_t)t->stored[i_task] * (size_t)a->w.n_out;
    selection drawn = select_draw(t->kernels, &a->requests[i_task], l, a->w.n_out, s->logit);
    if (drawn.token < 0)
        drawn = (selection){.token = s->token, .logit = s->logit, .tempered = 1.0, .top = 1.0};
    s->drawn = drawn.token;
    s->drawn_probability = (float)exp((double)drawn.logit - (double)s->log_sum_exp);
    s->drawn_tempered = (float)drawn.tempered;
    if (!a->requests[i_task].wants_spread) return;
    s->drawn_top = (float)drawn.top;
    s->drawn_second = (float)drawn.second;
    s->drawn_entropy = (float)drawn.entropy;
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
        task.stored[i] = is_truncated(q) ? task.n_stored++ : -1;
    }
    packed_form form = matrix_form(&args->w);
    if (form != FORM_FLOAT)
        cpu_pack_gathered(dev, form, task.packed_rows, args->x, task.used_rows, task.n_used,
                          args->w.n_in);
    thread_pool_run(dev->pool, run_tile, &task, task.n_tiles);
    for (int32_t i = 0; i < args->n_requests; i++) finish(&task, i);
    if (task.n_stored > 0) thread_pool_run(dev->pool, draw_truncated, &task, args->n_requests);
    return UM_OK;
}

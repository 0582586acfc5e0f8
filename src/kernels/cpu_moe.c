/* SPDX-License-Identifier: Apache-2.0
 *
 * Mixture of experts on the CPU: the router, and the experts over rows gathered by expert. A slot
 * is a (row, k) pair; slots are sorted by expert, each expert's weights are read once, and each row
 * sums its slots in the order of k whatever else is in the batch.
 *
 *   route scratch:    struct route_scratch
 *   experts scratch:  first [n_experts + 1] | row_of [n_slots]
 *                     | place_of [n_slots] | gate, up [n_slots, inner] | down [n_slots, hidden]
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu.h"

enum { CHUNK = 64 /* outputs of a task */, GROUPS_MAX = 1024, SUM_TASK_NUMBERS = 16384 };

/* ---- Router -----------------------------------------------------------------------------------
 */

/* The parts of the router's scratch. */
typedef struct route_scratch {
    float *scores, *biased; /* [n_rows, n_experts] */
    float *block_best;      /* [n_experts] the highest of a block's rows */
    bool *stays;            /* [n_experts] */
    bool *is_done;          /* [n_rows] its block has been cut */
} route_scratch;

/* Lays the scratch out; base NULL gives the size alone. */
static size_t lay_out_route(const route_args *a, unsigned char *base, route_scratch *s) {
    size_t n_rows = a->n_rows > 0 ? (size_t)a->n_rows : 0, n_experts = (size_t)a->n_experts;
    size_t sizes[5] = {round_up_64(n_rows * n_experts * sizeof(float)),
                       round_up_64(n_rows * n_experts * sizeof(float)),
                       round_up_64(n_experts * sizeof(float)),
                       round_up_64(n_experts * sizeof(bool)), round_up_64(n_rows * sizeof(bool))};
    void *parts[5] = {NULL};
    size_t at = 0;
    for (int i = 0; i < 5; i++) {
        if (base) parts[i] = base + at;
        at += sizes[i];
    }
    *s = (route_scratch){parts[0], parts[1], parts[2], parts[3], parts[4]};
    return at;
}

size_t cpu_route_scratch(const device *dev, const route_args *args) {
    (void)dev;
    route_scratch ignored;
    return lay_out_route(args, NULL, &ignored);
}

static float group_score(const float *biased, int32_t n) {
    float best = -INFINITY, second = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        if (biased[i] > best) {
            second = best;
            best = biased[i];
        } else if (biased[i] > second) {
            second = biased[i];
        }
    }
    return best + second;
}

/* Index of the highest of values [n] whose `taken` is false; the lower index on a tie, and always
 * an index even where all are NaN. */
static int32_t best_free(const float *values, const bool *taken, int32_t n) {
    int32_t best = -1;
    for (int32_t i = 0; i < n; i++)
        if (!taken[i] && (best < 0 || values[i] > values[best])) best = i;
    return best;
}

/* Drops the groups that do not stay, by making their members lower than any score. */
static void keep_groups(const route_args *a, float *biased) {
    float scores[GROUPS_MAX];
    bool stays[GROUPS_MAX] = {false};
    int32_t size = a->n_experts / a->n_group;
    for (int32_t g = 0; g < a->n_group; g++) scores[g] = group_score(biased + g * size, size);
    for (int32_t i = 0; i < a->topk_group; i++) stays[best_free(scores, stays, a->n_group)] = true;
    for (int32_t e = 0; e < a->n_experts; e++)
        if (!stays[e / size]) biased[e] = -INFINITY;
}

/* What is compared, before any expert is dropped. */
static void bias_scores(const route_args *a, const float *scores, float *biased) {
    for (int32_t e = 0; e < a->n_experts; e++)
        biased[e] = a->bias ? scores[e] + a->bias[e] : scores[e];
}

/* Drops the experts that do not stay in a row's block; where its groups would leave the row too few
 * of those that do, its groups are forgotten. */
static void cut_row(const route_args *a, const bool *stays, const float *scores, float *biased) {
    int32_t n_left = 0;
    for (int32_t e = 0; e < a->n_experts; e++) n_left += stays[e] && biased[e] > -INFINITY;
    if (n_left < a->n_active) bias_scores(a, scores, biased);
    for (int32_t e = 0; e < a->n_experts; e++)
        if (!stays[e]) biased[e] = -INFINITY;
}

/* Leaves to the rows of row `first`'s block the n_block_experts experts that score highest in any
 * of them. Nothing here depends on the order of the rows, nor on rows of other blocks. */
static void keep_block_experts(const route_args *a, int32_t first, const route_scratch *s) {
    size_t n_experts = (size_t)a->n_experts;
    int32_t block = a->positions[first] / a->block_len;
    for (size_t e = 0; e < n_experts; e++) {
        s->block_best[e] = -INFINITY;
        s->stays[e] = false;
    }
    for (int32_t r = first; r < a->n_rows; r++) {
        if (a->seq[r] != a->seq[first] || a->positions[r] / a->block_len != block) continue;
        const float *row = s->biased + (size_t)r * n_experts;
        for (size_t e = 0; e < n_experts; e++)
            if (row[e] > s->block_best[e]) s->block_best[e] = row[e];
    }
    for (int32_t i = 0; i < a->n_block_experts; i++)
        s->stays[best_free(s->block_best, s->stays, a->n_experts)] = true;
    for (int32_t r = first; r < a->n_rows; r++) {
        if (a->seq[r] != a->seq[first] || a->positions[r] / a->block_len != block) continue;
        cut_row(a, s->stays, s->scores + (size_t)r * n_experts, s->biased + (size_t)r * n_experts);
        s->is_done[r] = true;
    }
}

static void route_row(const route_args *a, const float *scores, const float *biased, int32_t *ids,
                      float *weights) {
    float total = 0.0f;
    for (int32_t k = 0; k < a->n_active; k++) {
        int32_t best = -1;
        for (int32_t e = 0; e < a->n_experts; e++) {
            bool is_taken = false;
            for (int32_t j = 0; j < k; j++) is_taken |= ids[j] == e;
            if (!is_taken && (best < 0 || biased[e] > biased[best])) best = e;
        }
        ids[k] = best;
        weights[k] = a->is_weight_biased ? biased[best] : scores[best];
        total += weights[k];
    }
    for (int32_t k = 0; k < a->n_active; k++)
        weights[k] = (a->is_normalised ? weights[k] / (total + 1e-20f) : weights[k]) * a->scale;
}

um_status cpu_route(device *dev, const route_args *args, void *scratch) {
    if (args->n_rows <= 0) return UM_OK;
    assert(args->w.n_out == args->n_experts && args->n_active <= args->n_experts);
    assert(args->n_group >= 1 && args->n_group <= GROUPS_MAX);
    assert(!args->n_block_experts ||
           (args->n_block_experts >= args->n_active && args->n_block_experts <= args->n_experts &&
            args->block_len > 0));
    const cpu_kernels *kernels = cpu_kernels_of(dev);
    size_t n_experts = (size_t)args->n_experts, n_active = (size_t)args->n_active;
    route_scratch s;
    lay_out_route(args, scratch, &s);
    TRY(cpu_linear(dev, s.scores, args->x, &args->w, NULL, args->n_rows));
    for (int32_t r = 0; r < args->n_rows; r++) {
        float *scores = s.scores + (size_t)r * n_experts,
              *biased = s.biased + (size_t)r * n_experts;
        if (args->score == ROUTE_SCORE_SOFTMAX)
            kernels->softmax(scores, scores, n_experts);
        else
            kernels->sigmoid(scores, scores, n_experts);
        bias_scores(args, scores, biased);
        if (args->n_group > 1) keep_groups(args, biased);
        s.is_done[r] = false;
    }
    for (int32_t r = 0; args->n_block_experts && r < args->n_rows; r++)
        if (!s.is_done[r]) keep_block_experts(args, r, &s);
    for (size_t r = 0; r < (size_t)args->n_rows; r++)
        route_row(args, s.scores + r * n_experts, s.biased + r * n_experts,
                  args->ids + r * n_active, args->weights + r * n_active);
    return UM_OK;
}

/* ---- Experts ----------------------------------------------------------------------------------
 */

typedef struct experts_task {
    const cpu_kernels *kernels;
    const experts_args *args;
    int32_t *first;    /* [n_experts + 1] first place of an expert in the sorted slots */
    int32_t *row_of;   /* [n_slots] by place */
    int32_t *place_of; /* [n_slots] by slot */
    float *gate, *up;  /* [n_slots, inner] by place */
    float *down;       /* [n_slots, hidden] by place */
    int32_t hidden, inner, n_chunks, rows_a_task;
} experts_task;

/* Lays the scratch out; base NULL gives the size alone. */
static size_t lay_out(const experts_args *a, unsigned char *base, experts_task *t) {
    size_t n_slots = (size_t)a->n_rows * (size_t)a->n_active, at = 0;
    size_t index_bytes = round_up_64(n_slots * sizeof(int32_t));
    size_t inner_bytes = round_up_64(n_slots * (size_t)t->inner * sizeof(float));
    size_t sizes[6] = {round_up_64(((size_t)a->n_experts + 1) * sizeof(int32_t)),
                       index_bytes,
                       index_bytes,
                       inner_bytes,
                       inner_bytes,
                       round_up_64(n_slots * (size_t)t->hidden * sizeof(float))};
    void *parts[6] = {NULL};
    for (int i = 0; i < 6; i++) {
        if (base) parts[i] = base + at;
        at += sizes[i];
    }
    t->first = parts[0];
    t->row_of = parts[1];
    t->place_of = parts[2];
    t->gate = parts[3];
    t->up = parts[4];
    t->down = parts[5];
    return at;
}

size_t cpu_experts_scratch(const device *dev, const experts_args *args) {
    (void)dev;
    if (args->n_rows <= 0) return 0;
    experts_task task = {.hidden = args->experts[0].gate.n_in,
                         .inner = args->experts[0].gate.n_out};
    return lay_out(args, NULL, &task);
}

/* Counting sort of the slots by expert, stable: rows of an expert stay in order. */
static void sort_slots(const experts_args *a, experts_task *t) {
    int32_t n_slots = a->n_rows * a->n_active;
    memset(t->first, 0, ((size_t)a->n_experts + 1) * sizeof *t->first);
    for (int32_t i = 0; i < n_slots; i++) {
        assert(a->ids[i] >= 0 && a->ids[i] < a->n_experts);
        t->first[a->ids[i] + 1]++;
    }
    for (int32_t e = 0; e < a->n_experts; e++) t->first[e + 1] += t->first[e];
    for (int32_t i = 0; i < n_slots; i++) {
        int32_t place = t->first[a->ids[i]]++;
        t->row_of[place] = i / a->n_active;
        t->place_of[i] = place;
    }
    for (int32_t e = a->n_experts; e > 0; e--) t->first[e] = t->first[e - 1];
    t->first[0] = 0;
}

static matmul_tile chunk_of(const matrix *w, int32_t first, int32_t n_rows) {
    matmul_tile tile = {.w = (const unsigned char *)w->data +
                             (size_t)first * (size_t)w->n_in * dtype_bytes(w->type),
                        .type = w->type,
                        .n_rows = n_rows,
                        .n_in = w->n_in,
                        .n_out = w->n_out - first < CHUNK ? w->n_out - first : CHUNK};
    return tile;
}

static void gate_and_up(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const experts_task *t = context;
    int32_t expert = i_task / t->n_chunks, first = i_task % t->n_chunks * CHUNK;
    int32_t place = t->first[expert], n_rows = t->first[expert + 1] - place;
    if (n_rows == 0) return;
    size_t at = (size_t)place * (size_t)t->inner + (size_t)first;
    const mlp_weights *w = &t->args->experts[expert];
    matmul_tile tile = chunk_of(&w->gate, first, n_rows);
    tile.x = t->args->x;
    tile.x_stride = (size_t)t->hidden;
    tile.x_rows = t->row_of + place;
    tile.y = t->gate + at;
    tile.y_stride = (size_t)t->inner;
    t->kernels->matmul(&tile);
    tile.w = chunk_of(&w->up, first, n_rows).w;
    tile.y = t->up + at;
    t->kernels->matmul(&tile);
    for (int32_t r = 0; r < n_rows; r++) {
        size_t row = at + (size_t)r * (size_t)t->inner;
        t->kernels->swiglu(t->gate + row, t->gate + row, t->up + row, (size_t)tile.n_out);
    }
}

static void down(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const experts_task *t = context;
    int32_t expert = i_task / t->n_chunks, first = i_task % t->n_chunks * CHUNK;
    int32_t place = t->first[expert], n_rows = t->first[expert + 1] - place;
    if (n_rows == 0) return;
    matmul_tile tile = chunk_of(&t->args->experts[expert].down, first, n_rows);
    tile.x = t->gate + (size_t)place * (size_t)t->inner;
    tile.x_stride = (size_t)t->inner;
    tile.y = t->down + (size_t)place * (size_t)t->hidden + first;
    tile.y_stride = (size_t)t->hidden;
    t->kernels->matmul(&tile);
}

static void sum_slots(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const experts_task *t = context;
    const experts_args *a = t->args;
    size_t hidden = (size_t)t->hidden;
    int32_t first = i_task * t->rows_a_task, end = first + t->rows_a_task;
    for (int32_t r = first; r < end && r < a->n_rows; r++) {
        float *y = a->y + (size_t)r * hidden;
        memset(y, 0, hidden * sizeof *y);
        for (int32_t k = 0; k < a->n_active; k++) {
            size_t slot = (size_t)r * (size_t)a->n_active + (size_t)k;
            t->kernels->add_scaled(y, t->down + (size_t)t->place_of[slot] * hidden,
                                   a->weights[slot], hidden);
        }
    }
}

um_status cpu_experts(device *dev, const experts_args *args, void *scratch) {
    if (args->n_rows <= 0) return UM_OK;
    experts_task task = {.kernels = cpu_kernels_of(dev),
                         .args = args,
                         .hidden = args->experts[0].gate.n_in,
                         .inner = args->experts[0].gate.n_out};
    lay_out(args, scratch, &task);
    sort_slots(args, &task);
    task.n_chunks = (task.inner + CHUNK - 1) / CHUNK;
    thread_pool_run(dev->pool, gate_and_up, &task, args->n_experts * task.n_chunks);
    task.n_chunks = (task.hidden + CHUNK - 1) / CHUNK;
    thread_pool_run(dev->pool, down, &task, args->n_experts * task.n_chunks);
    int64_t row_work = (int64_t)task.hidden * args->n_active;
    task.rows_a_task = row_work < SUM_TASK_NUMBERS ? (int32_t)(SUM_TASK_NUMBERS / row_work) : 1;
    thread_pool_run(dev->pool, sum_slots, &task,
                    (args->n_rows + task.rows_a_task - 1) / task.rows_a_task);
    return UM_OK;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The experts on the CPU, over rows gathered by expert. A slot is a (row, k) pair; slots are sorted
 * by expert, each touched expert's weights are read once, and each row sums its slots in the order
 * of k whatever else is in the batch.
 *
 *   scratch:  first [n_experts + 1] | row_of [n_slots] | place_of [n_slots]
 *             | gate, up [n_slots, inner] | down [n_slots, hidden] | touched [n_experts]
 *             | first_block [n_experts + 1] | expert_of, x_blocks, inner_blocks [n_blocks]
 */
#include <assert.h>
#include <string.h>

#include "kernels/cpu.h"

enum {
    CHUNK = 64,       /* outputs of a task: whole groups and panels of packed weights */
    DOWN_CHUNK = 128, /* of the last product with packed weights, whose rows are short */
    SUM_TASK_NUMBERS = 16384
};

typedef struct experts_task {
    const device *dev;
    const cpu_kernels *kernels;
    const experts_args *args;
    int32_t *first;    /* [n_experts + 1] first place of an expert in the sorted slots */
    int32_t *row_of;   /* [n_slots] by place */
    int32_t *place_of; /* [n_slots] by slot */
    float *gate, *up;  /* [n_slots, inner] by place */
    float *down;       /* [n_slots, hidden] by place */
    /* Packed weights only: rows of an expert begin a block of their own. */
    int32_t *first_block;        /* [n_experts + 1] */
    int32_t *expert_of;          /* [n_blocks] */
    unsigned char *x_blocks;     /* [n_blocks, hidden / 32] records */
    unsigned char *inner_blocks; /* [n_blocks, inner / 32] records */
    int32_t *touched;            /* [n_touched] experts with rows */
    int32_t n_touched;
    int32_t hidden, inner, n_chunks, rows_a_task;
    packed_form form;
} experts_task;

/* Lays the scratch out; base NULL gives the size alone. */
static size_t lay_out(const experts_args *a, unsigned char *base, experts_task *t) {
    size_t n_slots = (size_t)a->n_rows * (size_t)a->n_active, n_experts = (size_t)a->n_experts;
    size_t n_blocks = n_slots / PACKED_ROWS + (n_experts < n_slots ? n_experts : n_slots);
    size_t inner_bytes = n_slots * (size_t)t->inner * sizeof(float);
    if (t->form == FORM_FLOAT) n_blocks = 0;
    scratch_cursor scratch = {base, 0};
    t->first = scratch_take(&scratch, (n_experts + 1) * sizeof *t->first);
    t->row_of = scratch_take(&scratch, n_slots * sizeof *t->row_of);
    t->place_of = scratch_take(&scratch, n_slots * sizeof *t->place_of);
    t->gate = scratch_take(&scratch, inner_bytes);
    t->up = scratch_take(&scratch, inner_bytes);
    t->down = scratch_take(&scratch, n_slots * (size_t)t->hidden * sizeof(float));
    t->touched = scratch_take(&scratch, n_experts * sizeof *t->touched);
    t->first_block = scratch_take(&scratch, (n_experts + 1) * sizeof *t->first_block);
    t->expert_of = scratch_take(&scratch, n_blocks * sizeof *t->expert_of);
    t->x_blocks = scratch_take(&scratch, n_blocks * packed_rows_bytes(t->form, 1, t->hidden));
    t->inner_blocks = scratch_take(&scratch, n_blocks * packed_rows_bytes(t->form, 1, t->inner));
    return scratch.at;
}

size_t cpu_experts_scratch(const device *dev, const experts_args *args) {
    (void)dev;
    if (args->n_rows <= 0) return 0;
    experts_task task = {.hidden = args->experts[0].gate.n_in,
                         .inner = args->experts[0].gate.n_out,
                         .form = args->experts[0].gate.form};
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
    for (int32_t e = 0; e < a->n_experts; e++)
        if (t->first[e + 1] > t->first[e]) t->touched[t->n_touched++] = e;
}

static matmul_tile chunk_of(const matrix *w, int32_t first, int32_t n_rows) {
    matmul_tile tile = {
        .w = (const unsigned char *)w->data + (size_t)first * dtype_size(w->type, (size_t)w->n_in),
        .type = w->type,
        .n_rows = n_rows,
        .n_in = w->n_in,
        .n_out = w->n_out - first < CHUNK ? w->n_out - first : CHUNK};
    return tile;
}

static void gate_and_up(void *context, int i_task, int i_worker) {
    const experts_task *t = context;
    int32_t expert = t->touched[i_task / t->n_chunks], first = i_task % t->n_chunks * CHUNK;
    int32_t place = t->first[expert], n_rows = t->first[expert + 1] - place;
    size_t at = (size_t)place * (size_t)t->inner + (size_t)first;
    const mlp_weights *w = &t->args->experts[expert];
    matmul_tile tile = chunk_of(&w->gate, first, n_rows);
    tile.x = t->args->x;
    tile.x_stride = (size_t)t->hidden;
    tile.x_rows = t->row_of + place;
    tile.y = t->gate + at;
    tile.y_stride = (size_t)t->inner;
    cpu_matmul(t->dev, &tile, i_worker);
    tile.w = chunk_of(&w->up, first, n_rows).w;
    tile.y = t->up + at;
    cpu_matmul(t->dev, &tile, i_worker);
    for (int32_t r = 0; r < n_rows; r++) {
        size_t row = at + (size_t)r * (size_t)t->inner;
        t->kernels->swiglu(t->gate + row, t->gate + row, t->up + row, (size_t)tile.n_out);
    }
}

static void down(void *context, int i_task, int i_worker) {
    const experts_task *t = context;
    int32_t expert = t->touched[i_task / t->n_chunks], first = i_task % t->n_chunks * CHUNK;
    int32_t place = t->first[expert], n_rows = t->first[expert + 1] - place;
    matmul_tile tile = chunk_of(&t->args->experts[expert].down, first, n_rows);
    tile.x = t->gate + (size_t)place * (size_t)t->inner;
    tile.x_stride = (size_t)t->inner;
    tile.y = t->down + (size_t)place * (size_t)t->hidden + first;
    tile.y_stride = (size_t)t->hidden;
    cpu_matmul(t->dev, &tile, i_worker);
}

/* ---- Packed weights --------------------------------------------------------------------------
 */

/* Blocks of 16 rows, each of one expert. */
static int32_t lay_blocks(const experts_args *a, experts_task *t) {
    int32_t n_blocks = 0;
    for (int32_t e = 0; e < a->n_experts; e++) {
        t->first_block[e] = n_blocks;
        for (int32_t r = t->first[e]; r < t->first[e + 1]; r += PACKED_ROWS)
            t->expert_of[n_blocks++] = e;
    }
    t->first_block[a->n_experts] = n_blocks;
    return n_blocks;
}

static void pack_block(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const experts_task *t = context;
    int32_t expert = t->expert_of[i_task];
    int32_t place = t->first[expert] + (i_task - t->first_block[expert]) * PACKED_ROWS;
    int32_t n_rows = t->first[expert + 1] - place;
    cpu_pack_block(t->kernels, t->form,
                   t->x_blocks + (size_t)i_task * packed_rows_bytes(t->form, 1, t->hidden),
                   t->args->x, t->row_of + place, n_rows < PACKED_ROWS ? n_rows : PACKED_ROWS,
                   t->hidden, 0, t->hidden / PACKED_GROUP);
}

/* The expert of a task and the first output of its chunk; NULL past the last task. */
static const mlp_weights *expert_of_task(const experts_task *t, int32_t i_task, int32_t chunk,
                                         int32_t *first) {
    if (i_task >= t->n_touched * t->n_chunks) return NULL;
    *first = i_task % t->n_chunks * chunk;
    return &t->args->experts[t->touched[i_task / t->n_chunks]];
}

/* A chunk is whole groups of the next product's input, which are quantized while they are warm. */
static void gate_and_up_packed(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const experts_task *t = context;
    int32_t expert = t->touched[i_task / t->n_chunks], first = i_task % t->n_chunks * CHUNK;
    int32_t place = t->first[expert], n_rows = t->first[expert + 1] - place;
    int32_t n = t->inner - first < CHUNK ? t->inner - first : CHUNK;
    const mlp_weights *w = &t->args->experts[expert];
    size_t block = (size_t)t->first_block[expert], inner = (size_t)t->inner;
    const unsigned char *x = t->x_blocks + block * packed_rows_bytes(t->form, 1, t->hidden);
    float *gate = t->gate + (size_t)place * inner, *up = t->up + (size_t)place * inner;
    int32_t first_panel = first / PANEL_OUTS;
    int32_t end_panel = first_panel + packed_panels(n), next_first = 0;
    const mlp_weights *next = expert_of_task(t, i_task + 1, CHUNK, &next_first);
    cpu_packed_panels(t->kernels, gate + first, inner, x, &w->gate, NULL, n_rows, first_panel,
                      end_panel, cpu_panel_of(&w->up, first_panel));
    cpu_packed_panels(t->kernels, up + first, inner, x, &w->up, NULL, n_rows, first_panel,
                      end_panel, next ? cpu_panel_of(&next->gate, next_first / PANEL_OUTS) : NULL);
    for (int32_t r = 0; r < n_rows; r++) {
        float *row = gate + (size_t)r * inner + (size_t)first;
        t->kernels->swiglu(row, row, up + (size_t)r * inner + (size_t)first, (size_t)n);
    }
    for (int32_t r = 0; r < n_rows; r += PACKED_ROWS, block++)
        cpu_pack_block(
            t->kernels, t->form, t->inner_blocks + block * packed_rows_bytes(t->form, 1, t->inner),
            gate + (size_t)r * inner, NULL, n_rows - r < PACKED_ROWS ? n_rows - r : PACKED_ROWS,
            t->inner, first / PACKED_GROUP, (first + n) / PACKED_GROUP);
}

static void down_packed(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const experts_task *t = context;
    int32_t expert = t->touched[i_task / t->n_chunks], first = i_task % t->n_chunks * DOWN_CHUNK;
    int32_t place = t->first[expert], n_rows = t->first[expert + 1] - place;
    int32_t n = t->hidden - first < DOWN_CHUNK ? t->hidden - first : DOWN_CHUNK;
    size_t block = (size_t)t->first_block[expert];
    int32_t next_first = 0;
    const mlp_weights *next = expert_of_task(t, i_task + 1, DOWN_CHUNK, &next_first);
    cpu_packed_panels(t->kernels, t->down + (size_t)place * (size_t)t->hidden + first,
                      (size_t)t->hidden,
                      t->inner_blocks + block * packed_rows_bytes(t->form, 1, t->inner),
                      &t->args->experts[expert].down, NULL, n_rows, first / PANEL_OUTS,
                      first / PANEL_OUTS + packed_panels(n),
                      next ? cpu_panel_of(&next->down, next_first / PANEL_OUTS) : NULL);
}

static void run_packed(device *dev, experts_task *t) {
    thread_pool_run(dev->pool, pack_block, t, lay_blocks(t->args, t));
    t->n_chunks = (t->inner + CHUNK - 1) / CHUNK;
    thread_pool_run(dev->pool, gate_and_up_packed, t, t->n_touched * t->n_chunks);
    t->n_chunks = (t->hidden + DOWN_CHUNK - 1) / DOWN_CHUNK;
    thread_pool_run(dev->pool, down_packed, t, t->n_touched * t->n_chunks);
}

/* ---- The operation ---------------------------------------------------------------------------
 */

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
    experts_task task = {.dev = dev,
                         .kernels = cpu_kernels_of(dev),
                         .args = args,
                         .form = args->experts[0].gate.form,
                         .hidden = args->experts[0].gate.n_in,
                         .inner = args->experts[0].gate.n_out};
    lay_out(args, scratch, &task);
    sort_slots(args, &task);
    if (task.form != FORM_FLOAT) {
        run_packed(dev, &task);
    } else {
        task.n_chunks = (task.inner + CHUNK - 1) / CHUNK;
        thread_pool_run(dev->pool, gate_and_up, &task, task.n_touched * task.n_chunks);
        task.n_chunks = (task.hidden + CHUNK - 1) / CHUNK;
        thread_pool_run(dev->pool, down, &task, task.n_touched * task.n_chunks);
    }
    int64_t row_work = (int64_t)task.hidden * args->n_active;
    task.rows_a_task = row_work < SUM_TASK_NUMBERS ? (int32_t)(SUM_TASK_NUMBERS / row_work) : 1;
    thread_pool_run(dev->pool, sum_slots, &task,
                    (args->n_rows + task.rows_a_task - 1) / task.rows_a_task);
    return UM_OK;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Operations on rows one by one: embedding, norm, rotation, gates, sums, writes into the cache. All
 * are short; only long ones go to the pool, in tasks of whole rows or fixed runs of numbers.
 */
#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu.h"

enum { TASK_NUMBERS = 16384 }; /* numbers of a task: some microseconds */

typedef struct rows_task {
    const cpu_kernels *kernels;
    float *y;
    const float *x, *x2; /* second operand, cosines */
    const float *sines;
    const int32_t *positions;
    const matrix *table;
    const int32_t *tokens;
    size_t n;
    int32_t n_rows, rows_a_task, dim, n_heads, half;
    float eps;
} rows_task;

/* Cuts rows of `row_numbers` numbers into tasks; one task runs on the caller's thread. */
static void run_rows(device *dev, thread_task function, rows_task *task, int32_t n_rows,
                     size_t row_numbers) {
    size_t rows = TASK_NUMBERS / (row_numbers ? row_numbers : 1);
    task->kernels = cpu_kernels_of(dev);
    task->n_rows = n_rows;
    task->rows_a_task = rows < 1 ? 1 : rows > (size_t)n_rows ? n_rows : (int32_t)rows;
    int n_tasks = (n_rows + task->rows_a_task - 1) / task->rows_a_task;
    thread_pool_run(dev->pool, function, task, n_tasks);
}

static int32_t rows_end(const rows_task *task, int i_task) {
    int32_t first = i_task * task->rows_a_task;
    return task->n_rows - first < task->rows_a_task ? task->n_rows : first + task->rows_a_task;
}

static void embed_rows(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const rows_task *t = context;
    size_t n = (size_t)t->table->n_in, row_bytes = dtype_size(t->table->type, n);
    for (int32_t r = i_task * t->rows_a_task; r < rows_end(t, i_task); r++) {
        assert(t->tokens[r] >= 0 && t->tokens[r] < t->table->n_out);
        const unsigned char *row =
            (const unsigned char *)t->table->data + (size_t)t->tokens[r] * row_bytes;
        if (dtype_is_block(t->table->type))
            dtype_decode(t->table->type, row, n, t->y + (size_t)r * n);
        else
            t->kernels->decode(t->table->type, row, n, t->y + (size_t)r * n);
    }
}

um_status cpu_embed(device *dev, float *y, const matrix *table, const int32_t *tokens,
                    int32_t n_rows) {
    if (n_rows <= 0) return UM_OK;
    rows_task task = {.y = y, .table = table, .tokens = tokens};
    run_rows(dev, embed_rows, &task, n_rows, (size_t)table->n_in);
    return UM_OK;
}

static void norm_rows(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const rows_task *t = context;
    for (int32_t r = i_task * t->rows_a_task; r < rows_end(t, i_task); r++) {
        size_t at = (size_t)r * (size_t)t->dim;
        t->kernels->rms_norm(t->y + at, t->x + at, t->x2, t->dim, t->eps);
    }
}

um_status cpu_rms_norm(device *dev, float *y, const float *x, const float *gain, int32_t n_rows,
                       int32_t dim, float eps) {
    if (n_rows <= 0) return UM_OK;
    rows_task task = {.y = y, .x = x, .x2 = gain, .dim = dim, .eps = eps};
    run_rows(dev, norm_rows, &task, n_rows, (size_t)dim);
    return UM_OK;
}

static void rope_rows(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const rows_task *t = context;
    for (int32_t r = i_task * t->rows_a_task; r < rows_end(t, i_task); r++) {
        size_t angle = (size_t)t->positions[r] * (size_t)t->half;
        for (int32_t h = 0; h < t->n_heads; h++) {
            float *head = t->y + ((size_t)r * (size_t)t->n_heads + (size_t)h) * (size_t)t->dim;
            t->kernels->rope(head, t->x2 + angle, t->sines + angle, t->half);
        }
    }
}

um_status cpu_rope(device *dev, float *x, const int32_t *positions, const float *cosines,
                   const float *sines, int32_t n_rows, int32_t n_heads, int32_t head_dim,
                   int32_t rotary_dim) {
    assert(rotary_dim % 2 == 0 && rotary_dim <= head_dim);
    if (n_rows <= 0 || rotary_dim == 0) return UM_OK;
    rows_task task = {.y = x,
                      .positions = positions,
                      .x2 = cosines,
                      .sines = sines,
                      .n_heads = n_heads,
                      .dim = head_dim,
                      .half = rotary_dim / 2};
    run_rows(dev, rope_rows, &task, n_rows, (size_t)n_heads * (size_t)head_dim);
    return UM_OK;
}

typedef struct write_task {
    const kv_layer *kv;
    const float *k, *v;
    const int32_t *seq, *positions;
    const kv_table *tables;
    int32_t n_rows, n_kv_heads, heads_a_task, head_dim;
} write_task;

/* Rounds to nearest, ties to even; a NaN stays one. */
static uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

/* The scale of a row and its inverse; zeros where the row is too small for a scale, a NaN for scale
 * where a number of it is none or infinite. */
static float int8_scale(const float *x, int32_t n, float *inverse) {
    float max = 0.0f, sum = 0.0f;
    for (int32_t d = 0; d < n; d++) {
        float size = fabsf(x[d]);
        sum += x[d] - x[d]; /* 0, or NaN */
        max = size > max ? size : max;
    }
    float scale = max / 127.0f;
    *inverse = scale < FLT_MIN || sum != sum ? 0.0f : 1.0f / scale;
    if (sum != sum) return NAN;
    return *inverse > 0.0f ? scale : 0.0f;
}

/* Rounds to nearest, ties to even: |x| is at most 127 and a little, so that the sum with 1.5 * 2^23
 * has the integer in its last bits. */
static int8_t to_int8(float x) {
    float shifted = x + 0x1.8p23f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return (int8_t)(bits & 0xFFu);
}

static void write_f32(float *keys, float *values, int32_t slot, const float *k, const float *v,
                      int32_t head_dim) {
    keys += slot;
    values += slot * head_dim;
    for (int32_t d = 0; d < head_dim; d++) {
        keys[d * KV_PAGE_LEN] = k[d];
        values[d] = v[d];
    }
}

static void write_bf16(uint16_t *keys, uint16_t *values, int32_t slot, const float *k,
                       const float *v, int32_t head_dim) {
    keys += slot * 2;
    values += slot / 2 * 2 * head_dim + slot % 2;
    for (int32_t d = 0; d < head_dim; d++) {
        keys[d / 2 * 2 * KV_PAGE_LEN + d % 2] = to_bf16(k[d]);
        values[2 * d] = to_bf16(v[d]);
    }
    if (head_dim % 2) keys[head_dim / 2 * 2 * KV_PAGE_LEN + 1] = 0;
}

static void write_int8(void *key_part, void *value_part, int32_t slot, const float *k,
                       const float *v, int32_t head_dim) {
    int8_t *keys = (int8_t *)key_part + slot, *values = (int8_t *)value_part + slot * head_dim;
    float k_inverse, v_inverse;
    kv_scales(key_part, head_dim)[slot] = int8_scale(k, head_dim, &k_inverse);
    kv_scales(value_part, head_dim)[slot] = int8_scale(v, head_dim, &v_inverse);
    for (int32_t d = 0; d < head_dim; d++) {
        keys[d * KV_PAGE_LEN] = k_inverse > 0.0f ? to_int8(k[d] * k_inverse) : 0;
        values[d] = v_inverse > 0.0f ? to_int8(v[d] * v_inverse) : 0;
    }
}

static void write_slot(const write_task *t, int32_t page, int32_t slot, int32_t head, size_t from) {
    const kv_layer *kv = t->kv;
    void *keys = kv_part(kv->keys, kv->type, page, head, t->n_kv_heads, t->head_dim);
    void *values = kv_part(kv->values, kv->type, page, head, t->n_kv_heads, t->head_dim);
    if (kv->type == KV_F32)
        write_f32(keys, values, slot, t->k + from, t->v + from, t->head_dim);
    else if (kv->type == KV_BF16)
        write_bf16(keys, values, slot, t->k + from, t->v + from, t->head_dim);
    else
        write_int8(keys, values, slot, t->k + from, t->v + from, t->head_dim);
}

/* A row's keys go to one lane of head_dim vectors: neighbouring positions share the cache lines,
 * so the rows of a head stay in order on one thread. */
static void write_heads(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const write_task *t = context;
    int32_t first = i_task * t->heads_a_task, end = first + t->heads_a_task;
    if (end > t->n_kv_heads) end = t->n_kv_heads;
    for (int32_t h = first; h < end; h++)
        for (int32_t r = 0; r < t->n_rows; r++) {
            int32_t i_page = t->positions[r] / KV_PAGE_LEN, slot = t->positions[r] % KV_PAGE_LEN;
            const kv_table *table = &t->tables[t->seq[r]];
            assert(t->positions[r] >= 0 && i_page < table->n_pages);
            size_t from = ((size_t)r * (size_t)t->n_kv_heads + (size_t)h) * (size_t)t->head_dim;
            write_slot(t, table->pages[i_page], slot, h, from);
        }
}

um_status cpu_kv_write(device *dev, const kv_layer *kv, const float *k, const float *v,
                       const int32_t *seq, const int32_t *positions, const kv_table *tables,
                       int32_t n_rows, int32_t n_kv_heads, int32_t head_dim) {
    if (n_rows <= 0) return UM_OK;
    size_t heads = TASK_NUMBERS / ((size_t)n_rows * (size_t)head_dim);
    write_task task = {.kv = kv,
                       .k = k,
                       .v = v,
                       .seq = seq,
                       .positions = positions,
                       .tables = tables,
                       .n_rows = n_rows,
                       .n_kv_heads = n_kv_heads,
                       .heads_a_task = heads < 1                    ? 1
                                       : heads > (size_t)n_kv_heads ? n_kv_heads
                                                                    : (int32_t)heads,
                       .head_dim = head_dim};
    thread_pool_run(dev->pool, write_heads, &task,
                    (n_kv_heads + task.heads_a_task - 1) / task.heads_a_task);
    return UM_OK;
}

/* Runs of TASK_NUMBERS numbers: `rows` of the flat operations. */
static size_t run_length(const rows_task *t, int i_task) {
    size_t first = (size_t)i_task * TASK_NUMBERS;
    return t->n - first < TASK_NUMBERS ? t->n - first : TASK_NUMBERS;
}

static void swiglu_run(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const rows_task *t = context;
    size_t at = (size_t)i_task * TASK_NUMBERS;
    t->kernels->swiglu(t->y + at, t->x + at, t->x2 + at, run_length(t, i_task));
}

static void add_run(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const rows_task *t = context;
    size_t at = (size_t)i_task * TASK_NUMBERS;
    t->kernels->add(t->y + at, t->x + at, run_length(t, i_task));
}

um_status cpu_swiglu(device *dev, float *y, const float *gate, const float *up, size_t n) {
    if (n == 0) return UM_OK;
    rows_task task = {.kernels = cpu_kernels_of(dev), .y = y, .x = gate, .x2 = up, .n = n};
    thread_pool_run(dev->pool, swiglu_run, &task, (int)((n + TASK_NUMBERS - 1) / TASK_NUMBERS));
    return UM_OK;
}

um_status cpu_add(device *dev, float *y, const float *x, size_t n) {
    if (n == 0) return UM_OK;
    rows_task task = {.kernels = cpu_kernels_of(dev), .y = y, .x = x, .n = n};
    thread_pool_run(dev->pool, add_run, &task, (int)((n + TASK_NUMBERS - 1) / TASK_NUMBERS));
    return UM_OK;
}

um_status cpu_gather(device *dev, float *y, const float *x, const int32_t *rows, int32_t n_rows,
                     int32_t dim) {
    (void)dev;
    size_t n = (size_t)dim;
    for (size_t i = 0; i < (size_t)n_rows; i++)
        memcpy(y + i * n, x + (size_t)rows[i] * n, n * sizeof *y);
    return UM_OK;
}

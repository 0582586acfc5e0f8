/* SPDX-License-Identifier: Apache-2.0
 *
 * A tensor's rows, encoded on all threads into a buffer of a few megabytes and written from there.
 * A task is a run of rows; its sums are its own and are added in the order of the rows, so that the
 * reported error does not depend on threads either.
 */
#include <string.h>

#include "base/memory.h"
#include "engine/quantize.h"
#include "quant/encode.h"

enum { OUT_BYTES = 4 << 20, TASK_ITEMS = 1 << 15, TASKS_MAX = 1024 };

typedef struct rows_sum {
    double difference, total;
    int64_t bad_row; /* the first with a number that is not finite, or -1 */
} rows_sum;

um_status quantize_rows_init(quantize_rows *rows, thread_pool *pool, int32_t n_in_max,
                             um_error *err) {
    size_t row_bytes = (size_t)n_in_max * sizeof(float);
    memset(rows, 0, sizeof *rows);
    rows->pool = pool;
    rows->n_in_max = n_in_max;
    rows->out_bytes = row_bytes > OUT_BYTES ? row_bytes : OUT_BYTES;
    rows->out = memory_alloc(rows->out_bytes);
    rows->scratch = memory_alloc_array((size_t)thread_pool_size(pool), 2 * row_bytes);
    rows->sums = memory_alloc_array(TASKS_MAX, sizeof *rows->sums);
    if (rows->out && rows->scratch && rows->sums) return UM_OK;
    quantize_rows_deinit(rows);
    FAIL(UM_NO_MEMORY, err, "no memory to encode rows of %d numbers", n_in_max);
}

void quantize_rows_deinit(quantize_rows *rows) {
    memory_free(rows->out);
    memory_free(rows->scratch);
    memory_free(rows->sums);
    memset(rows, 0, sizeof *rows);
}

typedef struct batch {
    const quantize_rows *rows;
    const gguf_source *source;
    const importance_entry *importance; /* NULL: none */
    dtype type;
    int64_t first, n, rows_a_task;
} batch;

static void encode_task(void *context, int i_task, int i_worker) {
    const batch *b = context;
    const gguf_source *source = b->source;
    size_t n_in = (size_t)source->n_in, row_bytes = dtype_size(b->type, n_in);
    float *x = b->rows->scratch + (size_t)i_worker * 2 * (size_t)b->rows->n_in_max, *y = x + n_in;
    rows_sum sum = {.bad_row = -1};
    int64_t first = i_task * b->rows_a_task, end = first + b->rows_a_task;
    for (int64_t i = first; i < end && i < b->n; i++) {
        int64_t row = b->first + i, expert = source->n_dims == 3 ? row / source->shape[1] : 0;
        unsigned char *out = b->rows->out + (size_t)i * row_bytes;
        gguf_export_row(source, row, x);
        if (sum.bad_row < 0 && dtype_find_not_finite(DTYPE_F32, x, n_in) >= 0) sum.bad_row = row;
        quant_encode(b->type, x, importance_inputs(b->importance, expert), n_in, out);
        dtype_decode(b->type, out, n_in, y);
        for (size_t k = 0; k < n_in; k++) {
            double difference = (double)y[k] - (double)x[k];
            sum.difference += difference * difference;
            sum.total += (double)x[k] * (double)x[k];
        }
    }
    b->rows->sums[i_task] = sum;
}

static um_status refuse_row(const gguf_source *source, int64_t i_row, um_error *err) {
    int32_t row;
    const matrix *part = gguf_export_part(source, i_row, &row);
    size_t n_in = (size_t)part->n_in, row_bytes = dtype_size(part->type, n_in);
    int64_t at =
        dtype_find_not_finite(part->type, (const char *)part->data + (size_t)row * row_bytes, n_in);
    um_error_set(err, UM_NUMERIC,
                 "%s: row %lld, number %lld is not finite; expected finite weights", source->name,
                 (long long)i_row, (long long)at);
    um_error_at(err, source->name, -1);
    return UM_NUMERIC;
}

um_status quantize_rows_run(quantize_rows *rows, const gguf_source *source, dtype type,
                            const um_importance *importance, gguf_writer *writer,
                            bool (*step)(void *user, int64_t n_bytes), void *user,
                            quantize_error *sum, um_error *err) {
    size_t n_in = (size_t)source->n_in, row_bytes = dtype_size(type, n_in);
    batch b = {.rows = rows,
               .source = source,
               .importance = importance_find(importance, source),
               .type = type};
    int64_t rows_max = (int64_t)(rows->out_bytes / row_bytes);
    b.rows_a_task = TASK_ITEMS / (int64_t)n_in > 1 ? TASK_ITEMS / (int64_t)n_in : 1;
    if (rows_max > b.rows_a_task * TASKS_MAX) rows_max = b.rows_a_task * TASKS_MAX;
    memset(sum, 0, sizeof *sum);
    for (; b.first < source->n_rows; b.first += b.n) {
        b.n = source->n_rows - b.first < rows_max ? source->n_rows - b.first : rows_max;
        int n_tasks = (int)((b.n + b.rows_a_task - 1) / b.rows_a_task);
        thread_pool_run(rows->pool, encode_task, &b, n_tasks);
        for (int i = 0; i < n_tasks; i++) {
            if (rows->sums[i].bad_row >= 0) return refuse_row(source, rows->sums[i].bad_row, err);
            sum->difference += rows->sums[i].difference;
            sum->total += rows->sums[i].total;
        }
        TRY(gguf_writer_data(writer, rows->out, (size_t)b.n * row_bytes, err));
        int32_t part_row;
        dtype from = gguf_export_part(source, b.first, &part_row)->type;
        if (!step(user, (int64_t)dtype_size(from, n_in) * b.n))
            FAIL(UM_CANCELLED, err, "interrupted");
    }
    return UM_OK;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * linear on the CPU: outputs are cut into chunks, a task each, so that every weight is streamed
 * from memory once a call; inside a task rows go in blocks whose x stays in the second-level cache.
 * How it is cut changes no bit: an output's sum is the inner kernel's alone.
 */
#include <assert.h>

#include "kernels/cpu.h"

enum {
    SMALL_WORK = 32768,   /* products below which waking the pool costs more than it saves */
    TASKS_PER_THREAD = 4, /* evens out threads that start late */
    CHUNK_MIN = 16,
    CHUNK_MAX = 256,
    ROW_BLOCK_FLOATS = 96 * 1024 /* x of a block of rows: 384 KiB */
};

typedef struct linear_task {
    const device *dev;
    matmul_tile all;
    int32_t chunk, row_block;
} linear_task;

void cpu_matmul(const device *dev, const matmul_tile *tile, int i_worker) {
    const cpu_device *cpu = (const cpu_device *)dev;
    if (!dtype_is_block(tile->type)) {
        cpu->kernels.matmul(tile);
        return;
    }
    size_t n_in = (size_t)tile->n_in, row_bytes = dtype_size(tile->type, n_in);
    assert(n_in <= cpu->decoded_width);
    float *decoded = cpu->decoded + (size_t)i_worker * DECODED_ROWS * cpu->decoded_width;
    for (int32_t o = 0; o < tile->n_out; o += DECODED_ROWS) {
        matmul_tile part = *tile;
        part.n_out = tile->n_out - o < DECODED_ROWS ? tile->n_out - o : DECODED_ROWS;
        dtype_decode(tile->type, (const unsigned char *)tile->w + (size_t)o * row_bytes,
                     (size_t)part.n_out * n_in, decoded);
        part.type = DTYPE_F32;
        part.w = decoded;
        part.y = tile->y + o;
        if (tile->bias) part.bias = tile->bias + o;
        cpu->kernels.matmul(&part);
    }
}

static void run_chunk(void *context, int i_task, int i_worker) {
    const linear_task *task = context;
    const matmul_tile *all = &task->all;
    int32_t first = i_task * task->chunk;
    matmul_tile tile = *all;
    tile.n_out = all->n_out - first < task->chunk ? all->n_out - first : task->chunk;
    tile.w =
        (const unsigned char *)all->w + (size_t)first * dtype_size(all->type, (size_t)all->n_in);
    if (all->bias) tile.bias = all->bias + first;
    for (int32_t r = 0; r < all->n_rows; r += task->row_block) {
        tile.n_rows = all->n_rows - r < task->row_block ? all->n_rows - r : task->row_block;
        tile.x = all->x + (size_t)r * all->x_stride;
        tile.y = all->y + (size_t)r * all->y_stride + first;
        cpu_matmul(task->dev, &tile, i_worker);
    }
}

um_status cpu_linear(device *dev, float *y, const float *x, const matrix *w, const float *bias,
                     int32_t n_rows) {
    if (n_rows <= 0) return UM_OK;
    assert(w->n_in > 0 && w->n_out > 0);
    linear_task task = {.dev = dev,
                        .all = {.y = y,
                                .x = x,
                                .w = w->data,
                                .bias = bias,
                                .x_stride = (size_t)w->n_in,
                                .y_stride = (size_t)w->n_out,
                                .type = w->type,
                                .n_rows = n_rows,
                                .n_in = w->n_in,
                                .n_out = w->n_out}};
    task.row_block = ROW_BLOCK_FLOATS / w->n_in / 24 * 24;
    if (task.row_block < 24) task.row_block = 24;
    int n_threads = thread_pool_size(dev->pool);
    int64_t work = (int64_t)n_rows * w->n_in * w->n_out;
    task.chunk = w->n_out / (n_threads * TASKS_PER_THREAD) / CHUNK_MIN * CHUNK_MIN;
    if (task.chunk < CHUNK_MIN) task.chunk = CHUNK_MIN;
    if (task.chunk > CHUNK_MAX) task.chunk = CHUNK_MAX;
    int n_tasks = (w->n_out + task.chunk - 1) / task.chunk;
    bool is_small = work < SMALL_WORK || n_threads == 1;
    if (is_small) {
        for (int i = 0; i < n_tasks; i++) run_chunk(&task, i, 0);
    } else {
        thread_pool_run(dev->pool, run_chunk, &task, n_tasks);
    }
    return UM_OK;
}

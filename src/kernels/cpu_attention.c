/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention on the CPU: neighbouring rows of one sequence that see the same positions form a tile,
 * and a task is a tile and a key-value head, so that keys and values are loaded once for all
 * queries of the group. A query's arithmetic does not know its tile.
 *
 *   scratch:  row_tile [n_rows] | scores [n_workers, ATTEND_QUERIES_MAX, padded visible_end]
 */
#include <assert.h>

#include "kernels/cpu.h"

typedef struct row_tile {
    int32_t first_row, n_rows;
} row_tile;

typedef struct attention_task {
    const cpu_kernels *kernels;
    const attention_args *args;
    const row_tile *tiles;
    float *scores;
    size_t scores_stride; /* floats of a worker */
} attention_task;

static size_t scores_floats(const attention_args *a) {
    int32_t end = 0;
    for (int32_t r = 0; r < a->n_rows; r++)
        if (a->visible_end[r] > end) end = a->visible_end[r];
    return attend_padded(end) * ATTEND_QUERIES_MAX;
}

size_t cpu_attention_scratch(const device *dev, const attention_args *args) {
    if (args->n_rows <= 0) return 0;
    size_t workers = (size_t)thread_pool_size(dev->pool);
    return round_up_64((size_t)args->n_rows * sizeof(row_tile)) +
           workers * round_up_64(scores_floats(args) * sizeof(float));
}

static void run_tile(void *context, int i_task, int i_worker) {
    const attention_task *task = context;
    const attention_args *a = task->args;
    row_tile rows = task->tiles[i_task / a->n_kv_heads];
    int32_t group = a->n_heads / a->n_kv_heads, kv_head = i_task % a->n_kv_heads;
    attend_tile tile = {.pages = a->tables[a->seq[rows.first_row]].pages,
                        .kv = a->kv,
                        .scores = task->scores + (size_t)i_worker * task->scores_stride,
                        .n_kv_heads = a->n_kv_heads,
                        .kv_head = kv_head,
                        .head_dim = a->head_dim,
                        .visible_end = a->visible_end[rows.first_row],
                        .scale = a->scale};
    int32_t n_queries = rows.n_rows * group;
    for (int32_t first = 0; first < n_queries; first += ATTEND_QUERIES_MAX) {
        int32_t n = n_queries - first < ATTEND_QUERIES_MAX ? n_queries - first : ATTEND_QUERIES_MAX;
        tile.n_queries = n;
        for (int32_t i = 0; i < n; i++) {
            size_t row = (size_t)(rows.first_row + (first + i) / group);
            size_t head = (size_t)(kv_head * group + (first + i) % group);
            size_t at = (row * (size_t)a->n_heads + head) * (size_t)a->head_dim;
            tile.q[i] = a->q + at;
            tile.out[i] = a->out + at;
        }
        task->kernels->attend(&tile);
    }
}

um_status cpu_attention(device *dev, const attention_args *args, void *scratch) {
    if (args->n_rows <= 0) return UM_OK;
    assert(args->n_heads % args->n_kv_heads == 0);
    row_tile *tiles = scratch;
    int32_t group = args->n_heads / args->n_kv_heads, n_tiles = 0;
    /* Smaller tiles where there would be too few tasks for all workers. */
    int32_t rows_max = group < ATTEND_QUERIES_MAX ? ATTEND_QUERIES_MAX / group : 1;
    int32_t n_workers = thread_pool_size(dev->pool);
    while (rows_max > 1 && args->n_rows / rows_max * args->n_kv_heads < 2 * n_workers)
        rows_max /= 2;
    for (int32_t r = 0; r < args->n_rows; r++) {
        assert(args->visible_end[r] <= args->tables[args->seq[r]].n_pages * KV_PAGE_LEN);
        row_tile *last = n_tiles ? &tiles[n_tiles - 1] : NULL;
        if (last && last->n_rows < rows_max && args->seq[r] == args->seq[last->first_row] &&
            args->visible_end[r] == args->visible_end[last->first_row]) {
            last->n_rows++;
        } else {
            tiles[n_tiles++] = (row_tile){r, 1};
        }
    }
    size_t tile_bytes = round_up_64((size_t)args->n_rows * sizeof *tiles);
    size_t worker_bytes = round_up_64(scores_floats(args) * sizeof(float));
    attention_task task = {.kernels = cpu_kernels_of(dev),
                           .args = args,
                           .tiles = tiles,
                           .scores = (float *)(void *)((unsigned char *)scratch + tile_bytes),
                           .scores_stride = worker_bytes / sizeof(float)};
    thread_pool_run(dev->pool, run_tile, &task, n_tiles * args->n_kv_heads);
    return UM_OK;
}

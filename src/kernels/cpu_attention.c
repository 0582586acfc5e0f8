/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention on the CPU: neighbouring rows of one sequence form a tile, and a task is a tile and a
 * key-value head, so that a page of keys and values is read once for all rows of the tile and all
 * heads of the group. A query's arithmetic does not know its tile.
 *
 * Positions are summed in splits of ATTEND_SPLIT, merged in their order. Where there are too few
 * tasks for the workers (few rows, a long context) a split is a task of its own, and a second pass
 * merges.
 *
 *   scratch:  row_tile [n_rows] | [n_workers] kernel's scratch, two states a query of a tile
 *             | split by tasks: states [n_splits, n_rows * n_heads]
 */
#include <assert.h>
#include <string.h>

#include "kernels/cpu.h"

typedef struct row_tile {
    int32_t first_row, n_rows, end; /* end: the largest visible_end */
} row_tile;

/* How the work is cut. */
typedef struct attention_plan {
    int32_t rows_max; /* rows of a tile */
    int32_t n_splits; /* that are tasks of their own; 0: none is */
} attention_plan;

typedef struct attention_task {
    const cpu_kernels *kernels;
    const attention_args *args;
    const row_tile *tiles;
    float *worker_scratch; /* [n_workers, worker_floats] */
    float *split_states;   /* [n_splits, n_rows * n_heads, attend_state_floats] */
    int32_t n_splits;
} attention_task;

static int32_t splits_of(int32_t end) {
    return (end + ATTEND_SPLIT - 1) / ATTEND_SPLIT;
}

static size_t worker_floats(const attention_args *a) {
    return attend_scratch_floats(a->head_dim) +
           2 * (size_t)ATTEND_QUERIES_MAX * attend_state_floats(a->head_dim);
}

static size_t split_floats(const attention_args *a) {
    return (size_t)a->n_rows * (size_t)a->n_heads * attend_state_floats(a->head_dim);
}

static attention_plan plan_of(const device *dev, const attention_args *a) {
    int32_t group = a->n_heads / a->n_kv_heads, n_workers = thread_pool_size(dev->pool), end = 0;
    attention_plan plan = {group < ATTEND_QUERIES_MAX ? ATTEND_QUERIES_MAX / group : 1, 0};
    while (plan.rows_max > 1 && a->n_rows / plan.rows_max * a->n_kv_heads < 2 * n_workers)
        plan.rows_max /= 2;
    for (int32_t r = 0; r < a->n_rows; r++)
        if (a->visible_end[r] > end) end = a->visible_end[r];
    if (end > ATTEND_SPLIT && a->n_rows * a->n_kv_heads < 2 * n_workers)
        plan.n_splits = splits_of(end);
    return plan;
}

size_t cpu_attention_scratch(const device *dev, const attention_args *args) {
    if (args->n_rows <= 0) return 0;
    size_t n_workers = (size_t)thread_pool_size(dev->pool);
    size_t n_floats =
        n_workers * worker_floats(args) + (size_t)plan_of(dev, args).n_splits * split_floats(args);
    return round_up_64((size_t)args->n_rows * sizeof(row_tile)) + n_floats * sizeof(float);
}

/* Query i of a tile: its row, and where it stands in q and out. */
static size_t query_row(row_tile rows, int32_t group, int32_t i) {
    return (size_t)(rows.first_row + i / group);
}

static size_t query_place(const attention_args *a, row_tile rows, int32_t kv_head, int32_t i) {
    int32_t group = a->n_heads / a->n_kv_heads;
    size_t head = (size_t)(kv_head * group + i % group);
    return (query_row(rows, group, i) * (size_t)a->n_heads + head) * (size_t)a->head_dim;
}

/* The queries [first, first + n_queries) of a tile; what they sum goes nowhere yet. */
static void fill_tile(const attention_task *task, row_tile rows, int32_t kv_head, int32_t first,
                      int i_worker, attend_tile *tile) {
    const attention_args *a = task->args;
    int32_t group = a->n_heads / a->n_kv_heads, n = rows.n_rows * group - first;
    tile->pages = a->tables[a->seq[rows.first_row]].pages;
    tile->kv = a->kv;
    tile->scratch = task->worker_scratch + (size_t)i_worker * worker_floats(a);
    tile->states = tile->scratch + attend_scratch_floats(a->head_dim);
    tile->n_queries = n < ATTEND_QUERIES_MAX ? n : ATTEND_QUERIES_MAX;
    tile->n_kv_heads = a->n_kv_heads;
    tile->kv_head = kv_head;
    tile->head_dim = a->head_dim;
    tile->scale = a->scale;
    for (int32_t i = 0; i < tile->n_queries; i++) {
        tile->q[i] = a->q + query_place(a, rows, kv_head, first + i);
        tile->visible_end[i] = a->visible_end[query_row(rows, group, first + i)];
    }
}

static void finish_query(const attention_task *task, row_tile rows, int32_t kv_head, int32_t i,
                         const float *state) {
    const attention_args *a = task->args;
    float *out = a->out + query_place(a, rows, kv_head, i);
    if (a->visible_end[query_row(rows, a->n_heads / a->n_kv_heads, i)] > 0)
        task->kernels->attend_finish(out, state, a->head_dim);
    else
        memset(out, 0, (size_t)a->head_dim * sizeof *out);
}

/* A tile and a head, all splits one after another. */
static void run_tile(void *context, int i_task, int i_worker) {
    const attention_task *task = context;
    const attention_args *a = task->args;
    row_tile rows = task->tiles[i_task / a->n_kv_heads];
    int32_t kv_head = i_task % a->n_kv_heads,
            n_queries = rows.n_rows * (a->n_heads / a->n_kv_heads);
    size_t state_floats = attend_state_floats(a->head_dim);
    for (int32_t first = 0; first < n_queries; first += ATTEND_QUERIES_MAX) {
        attend_tile tile;
        fill_tile(task, rows, kv_head, first, i_worker, &tile);
        float *states = tile.states;
        for (tile.first = 0; tile.first < rows.end; tile.first += ATTEND_SPLIT) {
            if (tile.first) tile.states = states + ATTEND_QUERIES_MAX * state_floats;
            task->kernels->attend(&tile);
            for (int32_t i = 0; tile.first && i < tile.n_queries; i++)
                if (tile.visible_end[i] > tile.first)
                    task->kernels->attend_merge(states + (size_t)i * state_floats,
                                                tile.states + (size_t)i * state_floats,
                                                a->head_dim);
        }
        for (int32_t i = 0; i < tile.n_queries; i++)
            finish_query(task, rows, kv_head, first + i, states + (size_t)i * state_floats);
    }
}

/* States of a tile, a head and a split. */
static float *split_states(const attention_task *task, row_tile rows, int32_t kv_head,
                           int32_t i_split) {
    const attention_args *a = task->args;
    size_t i_query = (size_t)rows.first_row * (size_t)a->n_heads +
                     (size_t)kv_head * (size_t)(rows.n_rows * (a->n_heads / a->n_kv_heads));
    return task->split_states + (size_t)i_split * split_floats(a) +
           i_query * attend_state_floats(a->head_dim);
}

/* A tile, a head and a split. */
static void run_split(void *context, int i_task, int i_worker) {
    const attention_task *task = context;
    const attention_args *a = task->args;
    int32_t i_split = i_task % task->n_splits, i_tile = i_task / task->n_splits / a->n_kv_heads;
    int32_t kv_head = i_task / task->n_splits % a->n_kv_heads;
    row_tile rows = task->tiles[i_tile];
    int32_t n_queries = rows.n_rows * (a->n_heads / a->n_kv_heads);
    float *states = split_states(task, rows, kv_head, i_split);
    for (int32_t first = 0; first < n_queries; first += ATTEND_QUERIES_MAX) {
        attend_tile tile;
        fill_tile(task, rows, kv_head, first, i_worker, &tile);
        tile.first = i_split * ATTEND_SPLIT;
        tile.states = states + (size_t)first * attend_state_floats(a->head_dim);
        task->kernels->attend(&tile);
    }
}

/* A tile and a head, whose splits have been summed. */
static void merge_splits(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const attention_task *task = context;
    const attention_args *a = task->args;
    row_tile rows = task->tiles[i_task / a->n_kv_heads];
    int32_t kv_head = i_task % a->n_kv_heads, group = a->n_heads / a->n_kv_heads;
    size_t state_floats = attend_state_floats(a->head_dim);
    float *states = split_states(task, rows, kv_head, 0);
    for (int32_t i = 0; i < rows.n_rows * group; i++) {
        size_t at = (size_t)i * state_floats;
        int32_t n_splits = splits_of(a->visible_end[query_row(rows, group, i)]);
        for (int32_t s = 1; s < n_splits; s++)
            task->kernels->attend_merge(states + at, split_states(task, rows, kv_head, s) + at,
                                        a->head_dim);
        finish_query(task, rows, kv_head, i, states + at);
    }
}

/* Rows of a tile may see different positions; such that see the same stand together in it. */
static int32_t make_tiles(const attention_args *a, int32_t rows_max, row_tile *tiles) {
    int32_t n_tiles = 0;
    for (int32_t r = 0; r < a->n_rows; r++) {
        int32_t end = a->visible_end[r];
        assert(end <= a->tables[a->seq[r]].n_pages * KV_PAGE_LEN);
        row_tile *last = n_tiles ? &tiles[n_tiles - 1] : NULL;
        if (last && last->n_rows < rows_max && a->seq[r] == a->seq[last->first_row]) {
            last->n_rows++;
            if (end > last->end) last->end = end;
        } else {
            tiles[n_tiles++] = (row_tile){r, 1, end};
        }
    }
    return n_tiles;
}

um_status cpu_attention(device *dev, const attention_args *args, void *scratch) {
    if (args->n_rows <= 0) return UM_OK;
    assert(args->n_heads % args->n_kv_heads == 0);
    row_tile *tiles = scratch;
    attention_plan plan = plan_of(dev, args);
    int32_t n_tiles = make_tiles(args, plan.rows_max, tiles);
    size_t tile_bytes = round_up_64((size_t)args->n_rows * sizeof *tiles);
    float *floats = (float *)(void *)((unsigned char *)scratch + tile_bytes);
    attention_task task = {
        .kernels = cpu_kernels_of(dev),
        .args = args,
        .tiles = tiles,
        .worker_scratch = floats,
        .split_states = floats + (size_t)thread_pool_size(dev->pool) * worker_floats(args),
        .n_splits = plan.n_splits};
    int32_t n_tasks = n_tiles * args->n_kv_heads;
    if (!plan.n_splits) {
        thread_pool_run(dev->pool, run_tile, &task, n_tasks);
    } else {
        thread_pool_run(dev->pool, run_split, &task, n_tasks * plan.n_splits);
        thread_pool_run(dev->pool, merge_splits, &task, n_tasks);
    }
    return UM_OK;
}

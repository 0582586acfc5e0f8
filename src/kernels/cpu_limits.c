/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits of the CPU: every worker runs the tier's loop for some milliseconds at the same time.
 */
#include <string.h>

#include "base/clock.h"
#include "kernels/cpu.h"
#include "kernels/device_kind.h"

enum { RUNS = 5, ROUND_NS = 20000000, READ_RUNS = 4 };
#define READ_BYTES ((size_t)1 << 30)

typedef struct burn_task {
    int64_t (*burn)(int64_t n_rounds);
    int64_t n_rounds;
} burn_task;

static void burn_part(void *context, int i_task, int i_worker) {
    (void)i_task;
    (void)i_worker;
    const burn_task *t = context;
    t->burn(t->n_rounds);
}

/* 1e9 operations a second of all workers. */
static double burn_rate(device *dev, int64_t (*burn)(int64_t)) {
    burn_task task = {burn, 1000};
    int n_threads = thread_pool_size(dev->pool);
    int64_t begin = clock_now_ns(), operations = burn(task.n_rounds) / task.n_rounds;
    int64_t ns = clock_now_ns() - begin;
    task.n_rounds = task.n_rounds * ROUND_NS / (ns > 0 ? ns : 1) + 1;
    double best = 0;
    for (int i = 0; i < RUNS; i++) {
        begin = clock_now_ns();
        thread_pool_run(dev->pool, burn_part, &task, n_threads);
        ns = clock_now_ns() - begin;
        double rate = (double)operations * (double)task.n_rounds * n_threads / (double)ns;
        if (rate > best) best = rate;
    }
    return best;
}

typedef struct read_task {
    uint64_t (*read)(const unsigned char *memory, size_t n_bytes);
    unsigned char *memory;
    size_t part;
    uint64_t *sums;
} read_task;

static void read_part(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const read_task *t = context;
    t->sums[i_task] += t->read(t->memory + (size_t)i_task * t->part, t->part);
}

static void fill_part(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const read_task *t = context;
    memset(t->memory + (size_t)i_task * t->part, i_task + 1, t->part);
}

static um_status measure_read(device *dev, double *gbps, um_error *err) {
    enum { PARTS = 64 }; /* of 16 MiB: taken one by one, as panels of weights are */
    uint64_t sums[PARTS] = {0};
    void *memory;
    TRY(device_alloc(dev, READ_BYTES, &memory, err));
    read_task task = {cpu_kernels_of(dev)->read, memory, READ_BYTES / PARTS, sums};
    thread_pool_run(dev->pool, fill_part, &task, PARTS);
    double best = 0;
    for (int i = 0; i < READ_RUNS; i++) {
        int64_t begin = clock_now_ns();
        thread_pool_run(dev->pool, read_part, &task, PARTS);
        double rate = (double)READ_BYTES / (double)(clock_now_ns() - begin);
        if (rate > best) best = rate;
    }
    device_free(dev, memory);
    *gbps = best;
    return UM_OK;
}

um_status cpu_measure_limits(device *dev, device_limits *limits, um_error *err) {
    const cpu_kernels *kernels = cpu_kernels_of(dev);
    limits->f32_gflops = burn_rate(dev, kernels->burn_f32);
    limits->int8_gops = burn_rate(dev, kernels->burn_int8);
    limits->bf16_gflops = kernels->burn_bf16 ? burn_rate(dev, kernels->burn_bf16) : 0;
    return measure_read(dev, &limits->read_gbps, err);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the worker pool costs, and what another process does to it: the time of a step on a quiet
 * machine, and with a process that spins on one processor. A step is a chain of runs of small
 * tasks, like the products of a model's layers; tasks compute a fixed amount each.
 *
 *     bench_threads [THREADS] [MS a step] [RUNS a step] [TASKS a run] [STEPS]
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/threads.h"

enum { STEPS_MAX = 2000, N_NUMBERS = 1024 };

typedef struct load {
    int n_rounds; /* of a task */
    float sums[256];
} load;

/* A few microseconds a round, from the first-level cache. */
static float work(int n_rounds, float first) {
    float numbers[N_NUMBERS], sum = 0.0f;
    for (int i = 0; i < N_NUMBERS; i++) numbers[i] = first + (float)i;
    for (int k = 0; k < n_rounds; k++)
        for (int i = 0; i < N_NUMBERS; i++) numbers[i] = numbers[i] * 0.999f + 1.0f;
    for (int i = 0; i < N_NUMBERS; i++) sum += numbers[i];
    return sum;
}

static void run_task(void *context, int i_task, int i_worker) {
    (void)i_worker;
    load *l = context;
    l->sums[i_task] = work(l->n_rounds, (float)i_task);
}

static void run_nothing(void *context, int i_task, int i_worker) {
    (void)context, (void)i_task, (void)i_worker;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* A process that spins on one processor, until it is killed. */
static pid_t start_busy(int cpu) {
    pid_t pid = fork();
    if (pid != 0) return pid;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
    for (volatile unsigned i = 0;; i++) continue;
}

static double measure(thread_pool *pool, load *l, int n_runs, int n_tasks, int n_steps,
                      const char *name, double quiet) {
    static double ms[STEPS_MAX];
    double total = 0;
    for (int s = -3; s < n_steps; s++) {
        int64_t start = clock_now_ns();
        for (int r = 0; r < n_runs; r++) thread_pool_run(pool, run_task, l, n_tasks);
        if (s >= 0) ms[s] = (double)(clock_now_ns() - start) / 1e6;
        if (s >= 0) total += ms[s];
    }
    qsort(ms, (size_t)n_steps, sizeof *ms, compare);
    double median = ms[n_steps / 2];
    printf("  %-22s median %8.2f ms, mean %8.2f, least %8.2f, 90 of 100 below %8.2f", name, median,
           total / n_steps, ms[0], ms[n_steps * 9 / 10]);
    if (quiet > 0) printf("   %.2f times", median / quiet);
    printf("\n");
    return median;
}

int main(int argc, char **argv) {
    int n_threads = argc > 1 ? atoi(argv[1]) : 0;
    double step_ms = argc > 2 ? atof(argv[2]) : 20;
    int n_runs = argc > 3 ? atoi(argv[3]) : 200, n_tasks = argc > 4 ? atoi(argv[4]) : 16;
    int n_steps = argc > 5 ? atoi(argv[5]) : 60;
    if (n_steps < 1 || n_steps > STEPS_MAX || n_tasks < 1 || n_tasks > 256 || n_runs < 1) return 2;
    thread_pool *pool;
    um_error err;
    if (thread_pool_create(n_threads, &pool, &err) != UM_OK) return 1;
    n_threads = thread_pool_size(pool);
    load l = {.n_rounds = 1000};
    int64_t start = clock_now_ns();
    for (int i = 0; i < 20; i++) l.sums[0] += work(l.n_rounds, (float)i);
    double round_ms = (double)(clock_now_ns() - start) / 1e6 / 20 / l.n_rounds;
    l.n_rounds = (int)(step_ms * n_threads / n_runs / n_tasks / round_ms) + 1;
    start = clock_now_ns();
    for (int i = 0; i < 20000; i++) thread_pool_run(pool, run_nothing, NULL, n_threads);
    printf("%d threads; an empty run takes %.2f us\n", n_threads,
           (double)(clock_now_ns() - start) / 1e3 / 20000);
    printf("steps of %d runs of %d tasks of %.1f us\n", n_runs, n_tasks,
           round_ms * l.n_rounds * 1e3);
    double quiet = measure(pool, &l, n_runs, n_tasks, n_steps, "quiet", 0);
    for (int cpu = 0; cpu < 2; cpu++) {
        char name[32];
        snprintf(name, sizeof name, "processor %d is busy", cpu);
        pid_t busy = start_busy(cpu);
        measure(pool, &l, n_runs, n_tasks, n_steps, name, quiet);
        kill(busy, SIGKILL);
        waitpid(busy, NULL, 0);
    }
    measure(pool, &l, n_runs, n_tasks, n_steps, "quiet again", quiet);
    thread_pool_destroy(pool);
    return 0;
}

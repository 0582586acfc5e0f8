/* SPDX-License-Identifier: Apache-2.0
 *
 * The worker pool. A run is published by raising `generation`; workers spin on it for a few
 * microseconds (a layer's operations follow each other closely) and then sleep on a condition, so
 * that an idle engine uses no processor.
 *
 * A run's tasks are cut into a range for each worker, who takes its own in their order, so that the
 * weights of its tasks follow each other in memory and the next task's can be fetched ahead. One
 * whose range is empty takes the last tasks of others. Who gets a task holds the run open until it
 * is done. A run waits for its tasks alone, never for a worker that took none: one whose core is
 * busy with another process joins late, in a later run, or not at all. `task` and `context` are
 * read only by holders of a task.
 */
#include "base/threads.h"

#include <hwloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

enum { SPIN_NS = 20000, N_THREADS_MAX = 1024 };

typedef struct worker {
    /* Tasks that are left: the first in the upper half, the end in the lower one. On a cache line
     * of its own, or taking a task would stop the neighbours. */
    _Alignas(64) _Atomic uint64_t range;
    thread_pool *pool;
    pthread_t thread;
    int i_worker;
} worker;

struct thread_pool {
    int n_threads;
    int n_started;
    worker *workers; /* [n_threads]; entry 0 is the caller and has no thread */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* a run was published, or the pool ends */
    pthread_cond_t done; /* the last task of a run is done */
    atomic_uint generation;
    atomic_int n_undone;   /* tasks that nobody has reported as done */
    atomic_int n_sleeping; /* workers that may wait on `wake` */
    atomic_bool is_waited; /* the caller may wait on `done` */
    atomic_bool is_ending;
    thread_task task;
    void *context;
};

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static uint64_t range_of(uint32_t first, uint32_t end) {
    return (uint64_t)first << 32 | end;
}

/* Takes the first task of a range, or its last one; -1 where it is empty. Who publishes a run finds
 * all ranges empty, since every task was taken, and nobody changes an empty one but him. */
static int take(worker *w, bool is_first) {
    uint64_t range = atomic_load_explicit(&w->range, memory_order_acquire);
    for (;;) {
        uint32_t first = (uint32_t)(range >> 32), end = (uint32_t)range;
        if (first >= end) return -1;
        uint64_t rest = is_first ? range_of(first + 1, end) : range_of(first, end - 1);
        if (atomic_compare_exchange_weak_explicit(&w->range, &range, rest, memory_order_acq_rel,
                                                  memory_order_acquire))
            return (int)(is_first ? first : end - 1);
    }
}

static int take_any(thread_pool *pool, int i_worker) {
    int i_task = take(&pool->workers[i_worker], true);
    for (int i = 1; i_task < 0 && i < pool->n_threads; i++)
        i_task = take(&pool->workers[(i_worker + i) % pool->n_threads], false);
    return i_task;
}

/* Does tasks until none is left. Returns whether the last one of the run was among them. */
static bool take_tasks(thread_pool *pool, int i_worker) {
    int n_done = 0;
    for (;;) {
        int i_task = take_any(pool, i_worker);
        if (i_task < 0) break;
        pool->task(pool->context, i_task, i_worker);
        n_done++;
    }
    return n_done > 0 && atomic_fetch_sub(&pool->n_undone, n_done) == n_done;
}

/* Waits until the generation differs from `seen`, and returns it: spins first, then sleeps. */
static unsigned await_run(thread_pool *pool, unsigned seen) {
    int64_t start = clock_now_ns();
    unsigned now;
    for (int i = 0;; i++) {
        now = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (now != seen) return now;
        relax();
        if (i % 64 == 63 && clock_now_ns() - start > SPIN_NS) break;
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->n_sleeping, 1);
    while ((now = atomic_load(&pool->generation)) == seen)
        pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->n_sleeping, 1);
    pthread_mutex_unlock(&pool->lock);
    return now;
}

static void *worker_main(void *argument) {
    worker *self = argument;
    thread_pool *pool = self->pool;
    for (unsigned seen = 0;;) {
        seen = await_run(pool, seen);
        if (atomic_load(&pool->is_ending)) return NULL;
        if (take_tasks(pool, self->i_worker) && atomic_load(&pool->is_waited)) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

/* A worker says that it may sleep before it looks at the generation for the last time, so one of
 * the two sides sees the other. */
static void publish(thread_pool *pool) {
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->n_sleeping) == 0) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

void thread_pool_run(thread_pool *pool, thread_task task, void *context, int n_tasks) {
    if (n_tasks <= 0) return;
    if (!pool || pool->n_threads == 1 || n_tasks == 1) {
        for (int i = 0; i < n_tasks; i++) task(context, i, 0);
        return;
    }
    pool->task = task;
    pool->context = context;
    atomic_store_explicit(&pool->n_undone, n_tasks, memory_order_relaxed);
    for (int64_t i = 0, n = pool->n_threads; i < n; i++)
        atomic_store_explicit(
            &pool->workers[i].range,
            range_of((uint32_t)(n_tasks * i / n), (uint32_t)(n_tasks * (i + 1) / n)),
            memory_order_release);
    publish(pool);
    if (take_tasks(pool, 0)) return;
    int64_t start = clock_now_ns();
    for (int i = 0;; i++) {
        if (atomic_load_explicit(&pool->n_undone, memory_order_acquire) == 0) return;
        relax();
        if (i % 64 == 63 && clock_now_ns() - start > SPIN_NS) break;
    }
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->is_waited, true);
    while (atomic_load(&pool->n_undone) != 0) pthread_cond_wait(&pool->done, &pool->lock);
    atomic_store(&pool->is_waited, false);
    pthread_mutex_unlock(&pool->lock);
}

int threads_available(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

/* The index of the core on which the caller runs now, or 0. */
static int core_of_caller(hwloc_topology_t topology, int n_cores) {
    int cpu = sched_getcpu();
    for (int i = 0; cpu >= 0 && i < n_cores; i++) {
        hwloc_obj_t core = hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, (unsigned)i);
        if (core && hwloc_bitmap_isset(core->cpuset, (unsigned)cpu)) return i;
    }
    return 0;
}

/* Pins each worker to a core of its own when there are enough; leaves them to the system otherwise,
 * since two pinned threads on one core are worse than two free ones. The caller's thread is the
 * host program's and is not touched; workers take the cores after its own, because a worker pinned
 * to the caller's core makes both wait. Failure to pin is no failure of the pool. */
static void pin_workers(thread_pool *pool) {
    hwloc_topology_t topology;
#if defined(__linux__)
    /* hwloc prints where a container has no /sys, and a library must not. */
    if (access("/sys/devices/system/cpu/cpu0/topology", R_OK) != 0) return;
#endif
    if (hwloc_topology_init(&topology) != 0) return;
#if HWLOC_API_VERSION >= 0x00020500
    /* Only cores of the affinity mask that this process was given. */
    hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING);
#endif
    if (hwloc_topology_load(topology) == 0) {
        int n_cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
        int first = core_of_caller(topology, n_cores);
        for (int i = 1; i < pool->n_threads && pool->n_threads <= n_cores; i++) {
            hwloc_obj_t core =
                hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, (unsigned)((first + i) % n_cores));
            if (core) hwloc_set_thread_cpubind(topology, pool->workers[i].thread, core->cpuset, 0);
        }
    }
    hwloc_topology_destroy(topology);
}

um_status thread_pool_create(int n_threads, thread_pool **out, um_error *err) {
    if (n_threads == 0) n_threads = threads_available();
    if (n_threads < 1 || n_threads > N_THREADS_MAX)
        FAIL(UM_INVALID, err, "threads: expected 1 to %d, found %d", N_THREADS_MAX, n_threads);
    thread_pool *pool = memory_calloc(1, sizeof *pool);
    if (!pool) FAIL(UM_NO_MEMORY, err, "no memory for the thread pool");
    pool->workers = memory_alloc_aligned(64, (size_t)n_threads * sizeof *pool->workers);
    if (!pool->workers) {
        memory_free(pool);
        FAIL(UM_NO_MEMORY, err, "no memory for %d threads", n_threads);
    }
    memset(pool->workers, 0, (size_t)n_threads * sizeof *pool->workers);
    pool->n_threads = n_threads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    for (int i = 1; i < n_threads; i++) {
        worker *w = &pool->workers[i];
        w->pool = pool;
        w->i_worker = i;
        int code = pthread_create(&w->thread, NULL, worker_main, w);
        if (code != 0) {
            thread_pool_destroy(pool);
            FAIL(UM_NO_MEMORY, err, "cannot start thread %d of %d (error %d)", i + 1, n_threads,
                 code);
        }
        pool->n_started = i;
    }
    if (n_threads > 1) pin_workers(pool);
    *out = pool;
    return UM_OK;
}

void thread_pool_destroy(thread_pool *pool) {
    if (!pool) return;
    atomic_store(&pool->is_ending, true);
    publish(pool);
    for (int i = 1; i <= pool->n_started; i++) pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    memory_free(pool->workers);
    memory_free(pool);
}

int thread_pool_size(const thread_pool *pool) {
    return pool ? pool->n_threads : 1;
}

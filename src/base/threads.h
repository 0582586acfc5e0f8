/* SPDX-License-Identifier: Apache-2.0
 *
 * A pool of pinned workers that runs one function over many tasks. Each worker has a range of them
 * and takes the last ones of others when it is done, so neighbouring tasks mostly run one after the
 * other on one core; a task writes only what is its own, so results never depend on who runs it.
 *
 * Where another process takes a core, its worker is left behind and the others do its tasks: a run
 * waits for tasks in progress, and for no worker without one. Many small tasks a run serve that
 * best (bench/bench_threads.c measures it).
 */
#ifndef BASE_THREADS_H
#define BASE_THREADS_H

#include "base/status.h"

typedef struct thread_pool thread_pool;

/* A task: i_task in [0, n_tasks), i_worker in [0, thread_pool_size): for scratch of its own. */
typedef void (*thread_task)(void *context, int i_task, int i_worker);

/* Starts n_threads - 1 workers, pinned one to a core where the machine has as many free cores; the
 * caller of thread_pool_run is the last one. n_threads 0: one for each core the process may use. */
um_status thread_pool_create(int n_threads, thread_pool **pool, um_error *err);
void thread_pool_destroy(thread_pool *pool); /* accepts NULL; no run may be in progress */
int thread_pool_size(const thread_pool *pool);

/* Runs all tasks and returns when the last one is done. One run at a time: the owner of the pool
 * sees to that. Allocates nothing. pool NULL: the caller's thread runs everything. */
void thread_pool_run(thread_pool *pool, thread_task task, void *context, int n_tasks);

/* Cores that this process may use, at least 1. */
int threads_available(void);

#endif

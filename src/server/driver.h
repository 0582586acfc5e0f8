/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread that owns the engine: it takes jobs from an inbox, makes steps, hands out events, and
 * notices clients that have left after each of them.
 */
#ifndef SERVER_DRIVER_H
#define SERVER_DRIVER_H

#include "server/job.h"
#include "server/metrics.h"

typedef struct driver driver;

typedef enum driver_health {
    DRIVER_READY = 0,
    DRIVER_STUCK = 1 /* one step has taken longer than a minute */
} driver_health;

/* Starts the thread. engine and m outlive it. max_jobs: queued and running ones, together. */
um_status driver_create(um_engine *engine, metrics *m, int32_t max_jobs, driver **out,
                        um_error *err);
/* Ends what still runs with an error, and the thread. Jobs that are submitted later are refused. */
void driver_end(driver *d);
/* Frees a driver that has ended. Accepts NULL. */
void driver_destroy(driver *d);

/* Takes a hold of the job. UM_AGAIN: the queue is full. UM_CANCELLED: no more jobs are taken. Any
 * thread. */
um_status driver_submit(driver *d, job *j, um_error *err);
/* Takes no more jobs from now on. */
void driver_drain(driver *d);
/* Jobs that are queued or run. */
int32_t driver_jobs(driver *d);
driver_health driver_check(driver *d);

#endif

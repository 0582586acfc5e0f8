/* SPDX-License-Identifier: Apache-2.0
 *
 * Sockets of clients are looked at here and not by the HTTP library, which does not watch a
 * connection that is suspended: so a client that leaves frees its pages within one step.
 */
#include "server/driver.h"

#include <poll.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"

enum { HELD_BACK_MS = 5, CONSTRAINTS_MAX = 64, CONSTRAINTS_MAX_BYTES = 256 << 20 };

static const int64_t stuck_after_ns = 60ll * 1000000000;

struct driver {
    um_engine *engine;
    metrics *metrics;
    constraint_cache *constraints;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t has_work;
    int32_t max_jobs;
    int32_t n_jobs;              /* lock; queued and live */
    job *inbox, **inbox_end;     /* lock */
    bool is_draining, is_ending; /* lock */
    atomic_llong step_began_ns;  /* 0: no step is being made */
    job *live;                   /* the thread's own */
    struct pollfd *sockets;      /* [sockets_capacity] the thread's own */
    size_t sockets_capacity;
};

/* Takes a job out of the live list and gives everything of it back. */
static void retire(driver *d, job **at) {
    job *j = *at;
    *at = j->next;
    job_stop(j);
    metrics_job(d->metrics, j);
    job_release(j);
    pthread_mutex_lock(&d->lock);
    d->n_jobs--;
    pthread_mutex_unlock(&d->lock);
}

/* Cancels the jobs whose clients have closed their end. */
static void notice_leavers(driver *d) {
    size_t n = 0, i = 0;
    for (job *j = d->live; j; j = j->next) {
        /* Without memory for the list the look is put off. */
        if (memory_grow(&d->sockets, &d->sockets_capacity, n, sizeof *d->sockets) != 0) return;
        pthread_mutex_lock(&j->lock);
        d->sockets[n++] = (struct pollfd){.fd = j->socket, .events = POLLRDHUP};
        pthread_mutex_unlock(&j->lock);
    }
    if (poll(d->sockets, (nfds_t)n, 0) <= 0) return;
    for (job *j = d->live; j; j = j->next, i++)
        if (d->sockets[i].revents & (POLLRDHUP | POLLHUP | POLLERR))
            job_abandon(j, d->sockets[i].fd);
}

/* Gives a job to the engine, or looks whether its constraint is there by now. */
static bool start(driver *d, job *j) {
    um_error err = {.byte_pos = -1};
    if (job_start(j, d->engine, d->constraints, &err) != UM_OK) job_fail(j, &err);
    return j->is_started;
}

static void take_inbox(driver *d, job *first) {
    job **end = &d->live;
    while (*end) end = &(*end)->next;
    while (first) {
        job *j = first;
        first = j->next;
        j->next = NULL;
        *end = j;
        if (!job_is_done(j)) (void)start(d, j);
        end = &j->next;
    }
}

static void sample(driver *d, int64_t elapsed_ns) {
    int64_t n_pages, n_free, n_live = 0;
    um_stats stats;
    constraint_cache_stats constraints;
    constraint_cache_read_stats(d->constraints, &constraints);
    metrics_constraints(d->metrics, &constraints);
    um_engine_pages(d->engine, &n_pages, &n_free);
    um_engine_stats(d->engine, &stats);
    for (job *j = d->live; j; j = j->next) n_live++;
    pthread_mutex_lock(&d->lock);
    int64_t n_waiting = d->n_jobs - n_live;
    pthread_mutex_unlock(&d->lock);
    metrics_step(d->metrics, elapsed_ns, n_live, n_waiting, n_pages, n_free, &stats);
}

/* One step and what follows from it. Returns whether anything moved. */
static bool advance(driver *d) {
    um_error err;
    int64_t began = clock_now_ns();
    atomic_store(&d->step_began_ns, began);
    um_status status = um_engine_step(d->engine, &err);
    atomic_store(&d->step_began_ns, 0);
    bool has_moved = status == UM_OK;
    int64_t elapsed = has_moved ? clock_now_ns() - began : 0;
    notice_leavers(d);
    for (job **at = &d->live; *at;) {
        job *j = *at;
        if (status != UM_OK && status != UM_AGAIN)
            job_fail(j, &err);
        else if (!j->is_started && !job_is_done(j))
            has_moved |= start(d, j);
        else if (job_wants_more(j) && job_take_events(j))
            has_moved = true;
        if (job_is_done(j)) {
            has_moved = true;
            retire(d, at);
        } else {
            at = &j->next;
        }
    }
    sample(d, elapsed);
    return has_moved;
}

static void fail_all(driver *d) {
    um_error err;
    um_error_set(&err, UM_CANCELLED, "the server is shutting down");
    while (d->live) {
        if (!job_is_done(d->live)) job_fail(d->live, &err);
        retire(d, &d->live);
    }
    sample(d, 0);
}

static void *run(void *user) {
    driver *d = user;
    bool has_moved = true, is_ending = false;
    while (!is_ending) {
        pthread_mutex_lock(&d->lock);
        if (d->live && !has_moved && !d->inbox && !d->is_ending) {
            /* Every running job is held back by its reader, or waits for its constraint. */
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += HELD_BACK_MS * 1000000;
            if (until.tv_nsec >= 1000000000) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000;
            }
            pthread_cond_timedwait(&d->has_work, &d->lock, &until);
        }
        while (!d->live && !d->inbox && !d->is_ending) pthread_cond_wait(&d->has_work, &d->lock);
        job *first = d->inbox;
        d->inbox = NULL;
        d->inbox_end = &d->inbox;
        is_ending = d->is_ending;
        pthread_mutex_unlock(&d->lock);
        take_inbox(d, first);
        has_moved = !is_ending && advance(d);
    }
    fail_all(d);
    return NULL;
}

um_status driver_create(um_engine *engine, metrics *m, int32_t max_jobs, driver **out,
                        um_error *err) {
    driver *d = memory_calloc(1, sizeof *d);
    if (!d) FAIL(UM_NO_MEMORY, err, "no memory for the engine's thread");
    d->engine = engine;
    d->metrics = m;
    d->max_jobs = max_jobs;
    d->inbox_end = &d->inbox;
    um_status status =
        constraint_cache_create(CONSTRAINTS_MAX, CONSTRAINTS_MAX_BYTES, &d->constraints, err);
    if (status != UM_OK) {
        memory_free(d);
        return status;
    }
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->has_work, NULL);
    sample(d, 0);
    if (pthread_create(&d->thread, NULL, run, d) != 0) {
        driver_destroy(d);
        FAIL(UM_NO_MEMORY, err, "the system starts no thread for the engine");
    }
    *out = d;
    return UM_OK;
}

void driver_end(driver *d) {
    pthread_mutex_lock(&d->lock);
    d->is_ending = d->is_draining = true;
    pthread_cond_signal(&d->has_work);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
}

void driver_destroy(driver *d) {
    if (!d) return;
    constraint_cache_destroy(d->constraints);
    pthread_cond_destroy(&d->has_work);
    pthread_mutex_destroy(&d->lock);
    memory_free(d->sockets);
    memory_free(d);
}

um_status driver_submit(driver *d, job *j, um_error *err) {
    um_status status = UM_OK;
    pthread_mutex_lock(&d->lock);
    if (d->is_draining) {
        status = um_error_set(err, UM_CANCELLED, "the server is shutting down");
    } else if (d->n_jobs >= d->max_jobs) {
        status = um_error_set(err, UM_AGAIN, "%d requests are running or waiting; try again later",
                              d->n_jobs);
    } else {
        job_hold(j);
        j->next = NULL;
        *d->inbox_end = j;
        d->inbox_end = &j->next;
        d->n_jobs++;
        pthread_cond_signal(&d->has_work);
    }
    pthread_mutex_unlock(&d->lock);
    return status;
}

void driver_drain(driver *d) {
    pthread_mutex_lock(&d->lock);
    d->is_draining = true;
    pthread_mutex_unlock(&d->lock);
}

int32_t driver_jobs(driver *d) {
    pthread_mutex_lock(&d->lock);
    int32_t n = d->n_jobs;
    pthread_mutex_unlock(&d->lock);
    return n;
}

driver_health driver_check(driver *d) {
    int64_t began = atomic_load(&d->step_began_ns);
    return began && clock_now_ns() - began > stuck_after_ns ? DRIVER_STUCK : DRIVER_READY;
}

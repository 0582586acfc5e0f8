/* SPDX-License-Identifier: Apache-2.0
 *
 * One HTTP request for text: its choices, and the bytes of its reply. Two threads hold it: the
 * driver's, which fills it, and the connection's, which sends it. What they share is under the
 * lock; the rest is the driver's until `state` is JOB_DONE.
 */
#ifndef SERVER_JOB_H
#define SERVER_JOB_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/strbuf.h"
#include "server/api_request.h"
#include "server/choice.h"
#include "server/constraint_cache.h"

typedef enum job_state {
    JOB_QUEUED = 0,
    JOB_ACCEPTED = 1, /* the engine has taken every choice: a stream may begin */
    JOB_DONE = 2      /* no more bytes will come */
} job_state;

typedef struct job {
    struct job *next; /* in the driver's list */
    atomic_int n_holders;
    const api_model *model;
    api_request request;
    char id[48];
    int64_t created; /* seconds since 1970 */
    choice *choices; /* [n_choices] */
    size_t n_choices;
    size_t n_ended;
    bool is_started;              /* the engine has its choices */
    constraint_entry *constraint; /* until it is */
    bool has_failed;
    int64_t arrived_ns, accepted_ns, first_text_ns, done_ns;
    int64_t prompt_tokens, cached_tokens, completion_tokens, forwards, prefill_forwards;

    pthread_mutex_t lock;
    job_state state;          /* lock */
    int http;                 /* lock; status of the reply, once accepted or done */
    strbuf output;            /* lock; bytes of the reply that were not sent yet */
    bool is_gone;             /* lock; the client has left: nothing needs to be made any more */
    int socket;               /* lock; -1 before and after the connection */
    bool is_waiting;          /* lock; the connection sleeps until `wake` */
    void (*wake)(void *user); /* called with the lock held */
    void *wake_user;
} job;

/* Takes over what is in *request, which is empty afterwards, also on failure. One holder. */
um_status job_create(api_request *request, const api_model *model, job **out, um_error *err);
void job_hold(job *j);
/* Frees it with the last holder. Accepts NULL. */
void job_release(job *j);

/* ---- The driver's side ----------------------------------------------------------------------- */

/* Queues every choice with the engine. Where their constraint is still being made, is_started stays
 * false and the call is to be repeated. On failure none is left there. */
um_status job_start(job *j, um_engine *engine, constraint_cache *constraints, um_error *err);
/* Takes the events that are queued. Returns whether there was one. */
bool job_take_events(job *j);
/* Ends it with an error: as the reply, or where a stream has begun as its last event. */
void job_fail(job *j, const um_error *err);
/* True where the engine is to go on: the client is there and its unsent bytes are few. */
bool job_wants_more(job *j);
bool job_is_done(job *j);
/* The client of this socket has left, if it is still the job's: cuts the reply off. */
void job_abandon(job *j, int socket);
/* Gives every page and choice back to the engine. */
void job_stop(job *j);

/* ---- The connection's side ------------------------------------------------------------------- */

/* The client has left. */
void job_leave(job *j);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * One list, from the entry that was asked for last to the one of longest ago; a few dozen entries
 * need no index. A failure is told to those who wait for it and not kept: it is cheap to find
 * again.
 */
#include "server/constraint_cache.h"

#include <pthread.h>
#include <string.h>

#include "base/memory.h"

typedef enum entry_state { ENTRY_QUEUED, ENTRY_IN_WORK, ENTRY_MADE, ENTRY_FAILED } entry_state;

struct constraint_entry {
    constraint_cache *cache;
    constraint_entry *next; /* lock; asked for before this one */
    const um_tokenizer *tokenizer;
    char *schema; /* [n_schema] or NULL: any object */
    size_t n_schema, n_bytes;
    int32_t n_holders; /* lock; without the list's */
    entry_state state; /* lock */
    um_constraint *constraint;
    um_error error;
};

struct constraint_cache {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t has_work;
    constraint_entry *first; /* lock */
    int32_t n_max;
    size_t max_bytes;
    bool is_ending;               /* lock */
    constraint_cache_stats stats; /* lock */
};

static void free_entry(constraint_entry *e) {
    um_constraint_free(&e->constraint);
    memory_free(e->schema);
    memory_free(e);
}

/* Takes an entry that nobody holds out of the list. Lock held. */
static void forget(constraint_cache *c, constraint_entry **at) {
    constraint_entry *e = *at;
    *at = e->next;
    c->stats.n_entries--;
    c->stats.n_bytes -= (int64_t)e->n_bytes;
    free_entry(e);
}

/* Forgets what can be and nobody waits for, and from the end of the list what is too much. An entry
 * that is held stays, also beyond the bounds: it is in use. Lock held. */
static void trim(constraint_cache *c) {
    int64_t n_kept = 0, n_bytes = 0;
    for (constraint_entry **at = &c->first; *at;) {
        constraint_entry *e = *at;
        bool is_idle = e->n_holders == 0 && e->state != ENTRY_IN_WORK;
        bool is_useless = e->state == ENTRY_QUEUED || e->state == ENTRY_FAILED;
        bool is_too_much =
            n_kept >= c->n_max || n_bytes + (int64_t)e->n_bytes > (int64_t)c->max_bytes;
        if (is_idle && (is_useless || is_too_much)) {
            forget(c, at);
            continue;
        }
        n_kept++;
        n_bytes += (int64_t)e->n_bytes;
        at = &e->next;
    }
}

/* ---- The thread ------------------------------------------------------------------------------ */

/* The queued entry that waits longest. Lock held. */
static constraint_entry *next_queued(constraint_cache *c) {
    constraint_entry *found = NULL;
    for (constraint_entry *e = c->first; e; e = e->next)
        if (e->state == ENTRY_QUEUED) found = e;
    return found;
}

static void *run(void *user) {
    constraint_cache *c = user;
    pthread_mutex_lock(&c->lock);
    while (!c->is_ending) {
        constraint_entry *e = next_queued(c);
        if (!e) {
            pthread_cond_wait(&c->has_work, &c->lock);
            continue;
        }
        e->state = ENTRY_IN_WORK;
        pthread_mutex_unlock(&c->lock);
        um_constraint *made = NULL;
        um_error error = {.byte_pos = -1};
        um_status status = e->schema ? um_constraint_json_schema(e->tokenizer, e->schema,
                                                                 e->n_schema, &made, &error)
                                     : um_constraint_json_object(e->tokenizer, &made, &error);
        pthread_mutex_lock(&c->lock);
        e->state = status == UM_OK ? ENTRY_MADE : ENTRY_FAILED;
        e->constraint = made;
        e->error = error;
        size_t n_bytes = um_constraint_bytes(made) + e->n_schema;
        c->stats.n_bytes += (int64_t)n_bytes - (int64_t)e->n_bytes;
        e->n_bytes = n_bytes;
        trim(c);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- The cache ------------------------------------------------------------------------------- */

um_status constraint_cache_create(int32_t n_max, size_t max_bytes, constraint_cache **out,
                                  um_error *err) {
    constraint_cache *c = memory_calloc(1, sizeof *c);
    if (!c) FAIL(UM_NO_MEMORY, err, "no memory for the cache of constraints");
    c->n_max = n_max;
    c->max_bytes = max_bytes;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->has_work, NULL);
    if (pthread_create(&c->thread, NULL, run, c) != 0) {
        pthread_cond_destroy(&c->has_work);
        pthread_mutex_destroy(&c->lock);
        memory_free(c);
        FAIL(UM_NO_MEMORY, err, "the system starts no thread for constraints");
    }
    *out = c;
    return UM_OK;
}

void constraint_cache_destroy(constraint_cache *c) {
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->is_ending = true;
    pthread_cond_signal(&c->has_work);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    while (c->first) forget(c, &c->first);
    pthread_cond_destroy(&c->has_work);
    pthread_mutex_destroy(&c->lock);
    memory_free(c);
}

/* Takes the entry of a schema out of the list, or returns NULL. Lock held. */
static constraint_entry *take(constraint_cache *c, const char *schema, size_t n_bytes) {
    for (constraint_entry **at = &c->first; *at; at = &(*at)->next) {
        constraint_entry *e = *at;
        bool is_same = !e->schema == !schema && e->n_schema == n_bytes &&
                       (!schema || memcmp(e->schema, schema, n_bytes) == 0);
        if (!is_same || e->state == ENTRY_FAILED) continue;
        *at = e->next;
        return e;
    }
    return NULL;
}

static constraint_entry *create_entry(constraint_cache *c, const um_tokenizer *tokenizer,
                                      const char *schema, size_t n_bytes) {
    constraint_entry *e = memory_calloc(1, sizeof *e);
    if (!e) return NULL;
    e->cache = c;
    e->tokenizer = tokenizer;
    e->n_schema = e->n_bytes = n_bytes;
    if (schema) e->schema = memory_copy_string(schema, n_bytes);
    if (!schema || e->schema) return e;
    memory_free(e);
    return NULL;
}

um_status constraint_cache_acquire(constraint_cache *c, const um_tokenizer *tokenizer,
                                   const char *schema, size_t n_bytes, constraint_entry **out,
                                   um_error *err) {
    if (!schema) n_bytes = 0;
    pthread_mutex_lock(&c->lock);
    constraint_entry *e = take(c, schema, n_bytes);
    if (e) {
        c->stats.hits++;
    } else if ((e = create_entry(c, tokenizer, schema, n_bytes))) {
        c->stats.misses++;
        c->stats.n_entries++;
        c->stats.n_bytes += (int64_t)n_bytes;
        pthread_cond_signal(&c->has_work);
    }
    if (e) {
        e->n_holders++;
        e->next = c->first;
        c->first = e;
    }
    pthread_mutex_unlock(&c->lock);
    *out = e;
    if (!e) FAIL(UM_NO_MEMORY, err, "no memory for a schema of %zu bytes", n_bytes);
    return UM_OK;
}

um_status constraint_entry_get(constraint_entry *e, um_constraint **constraint, um_error *err) {
    um_status status = UM_AGAIN;
    pthread_mutex_lock(&e->cache->lock);
    if (e->state == ENTRY_MADE) {
        *constraint = e->constraint;
        status = UM_OK;
    } else if (e->state == ENTRY_FAILED) {
        if (err) *err = e->error;
        status = e->error.status;
    }
    pthread_mutex_unlock(&e->cache->lock);
    return status;
}

void constraint_entry_release(constraint_entry *e) {
    if (!e) return;
    constraint_cache *c = e->cache;
    pthread_mutex_lock(&c->lock);
    e->n_holders--;
    trim(c);
    pthread_mutex_unlock(&c->lock);
}

void constraint_cache_read_stats(constraint_cache *c, constraint_cache_stats *stats) {
    pthread_mutex_lock(&c->lock);
    *stats = c->stats;
    pthread_mutex_unlock(&c->lock);
}

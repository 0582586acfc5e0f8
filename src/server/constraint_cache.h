/* SPDX-License-Identifier: Apache-2.0
 *
 * Compiled constraints by the text of their schema. With a large vocabulary one takes a second, so
 * a thread of its own makes them, one after the other: whoever asked waits, and nobody else does.
 * What is made stays for those who ask again, within a count and a number of bytes; what was asked
 * for longest ago goes first. Requests of the engine hold what they use.
 */
#ifndef SERVER_CONSTRAINT_CACHE_H
#define SERVER_CONSTRAINT_CACHE_H

#include "base/status.h"

typedef struct constraint_cache constraint_cache;
typedef struct constraint_entry constraint_entry;

/* Starts the thread. */
um_status constraint_cache_create(int32_t n_max, size_t max_bytes, constraint_cache **out,
                                  um_error *err);
/* Waits for the one that is being made. Every entry has been released. Accepts NULL. */
void constraint_cache_destroy(constraint_cache *c);

/* Holds the entry of a schema of n_bytes; NULL: any object of JSON. A new one is queued to be made.
 * The schema is copied; the tokenizer is the same in all calls and outlives the cache. Any thread,
 * as for all that follow. */
um_status constraint_cache_acquire(constraint_cache *c, const um_tokenizer *tokenizer,
                                   const char *schema, size_t n_bytes, constraint_entry **out,
                                   um_error *err);
/* UM_OK with what was made, borrowed while the entry is held; UM_AGAIN before; else why it can not
 * be made. */
um_status constraint_entry_get(constraint_entry *e, um_constraint **constraint, um_error *err);
/* Accepts NULL. An entry that nobody holds and nobody has begun to make is forgotten. */
void constraint_entry_release(constraint_entry *e);

typedef struct constraint_cache_stats {
    int64_t hits, misses; /* of constraint_cache_acquire; a hit may still have to be waited for */
    int64_t n_entries, n_bytes;
} constraint_cache_stats;

void constraint_cache_read_stats(constraint_cache *c, constraint_cache_stats *stats);

#endif

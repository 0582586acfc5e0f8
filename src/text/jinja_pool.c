/* SPDX-License-Identifier: Apache-2.0
 *
 * Chunks in a list, filled from the front. With JINJA_FUZZING, which the fuzz build sets, each
 * allocation is a chunk of its own, so that the address sanitizer sees its end.
 */
#include "text/jinja_pool.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"

enum {
#ifdef JINJA_FUZZING
    CHUNK_BYTES = 0,
    ALIGNMENT = 1,
#else
    CHUNK_BYTES = 32 * 1024,
    ALIGNMENT = 16,
#endif
    HEADER_BYTES = 32
};

typedef struct jinja_chunk {
    struct jinja_chunk *next;
    size_t n_used;
    size_t capacity;
} jinja_chunk;

void jinja_pool_init(jinja_pool *pool, size_t limit_bytes) {
    memset(pool, 0, sizeof *pool);
    pool->limit_bytes = limit_bytes;
}

void jinja_pool_deinit(jinja_pool *pool) {
    while (pool->chunks) {
        jinja_chunk *next = pool->chunks->next;
        memory_free(pool->chunks);
        pool->chunks = next;
    }
    pool->n_bytes = 0;
}

void *jinja_pool_alloc(jinja_pool *pool, size_t n, size_t item_bytes) {
    size_t n_bytes;
    pool->is_over_limit = true;
    if (__builtin_mul_overflow(n, item_bytes, &n_bytes)) return NULL;
    if (n_bytes > pool->limit_bytes - pool->n_bytes) return NULL;
    pool->is_over_limit = false;
    size_t rounded = (n_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    jinja_chunk *chunk = pool->chunks;
    if (!chunk || rounded > chunk->capacity - chunk->n_used) {
        size_t capacity = rounded > CHUNK_BYTES / 4 ? rounded : CHUNK_BYTES;
        jinja_chunk *fresh = memory_alloc(HEADER_BYTES + capacity);
        if (!fresh) return NULL;
        fresh->n_used = 0;
        fresh->capacity = capacity;
        /* A chunk made for one large item goes behind the one that still has room. */
        if (chunk && capacity == rounded && chunk->n_used < chunk->capacity) {
            fresh->next = chunk->next;
            chunk->next = fresh;
        } else {
            fresh->next = chunk;
            pool->chunks = fresh;
        }
        chunk = fresh;
    }
    void *memory = (unsigned char *)chunk + HEADER_BYTES + chunk->n_used;
    chunk->n_used += rounded;
    pool->n_bytes += n_bytes;
    return memory;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that is freed all at once: one pool holds a parsed template, another the values of one
 * render. Nothing in a pool is freed alone, so a failure in the middle of a render leaks nothing.
 * Knows nothing of values; it refuses to grow past its limit, which stops a template that explodes.
 */
#ifndef TEXT_JINJA_POOL_H
#define TEXT_JINJA_POOL_H

#include <stdbool.h>
#include <stddef.h>

typedef struct jinja_pool {
    struct jinja_chunk *chunks;
    size_t n_bytes; /* asked for so far */
    size_t limit_bytes;
    bool is_over_limit; /* the last NULL came from the limit, not from the system */
} jinja_pool;

void jinja_pool_init(jinja_pool *pool, size_t limit_bytes);
void jinja_pool_deinit(jinja_pool *pool);
/* n items, 16-byte aligned, not zeroed; NULL when the limit or the system's memory is reached. */
void *jinja_pool_alloc(jinja_pool *pool, size_t n, size_t item_bytes);

#endif

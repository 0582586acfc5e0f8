/* SPDX-License-Identifier: Apache-2.0
 *
 * The pool of cache pages and the page table of a sequence. Knows nothing of tokens or models: a
 * page is KV_PAGE_LEN positions of keys and values in every layer. A page is held by any number of
 * tables, and besides may be kept by an index of prefixes: held by none and kept it is idle, and is
 * taken back when no page is free.
 */
#ifndef CACHE_PAGE_POOL_H
#define CACHE_PAGE_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/device.h"
#include "kernels/ops.h"

/* Owned by the engine; not locked: its owner is. */
typedef struct page_pool page_pool;

/* Reserves n_pages pages for n_layers layers; the system commits the memory when it is written.
 * device must outlive the pool. */
um_status page_pool_create(device *dev, kv_type type, int32_t n_layers, int32_t n_kv_heads,
                           int32_t head_dim, int32_t n_pages, page_pool **pool, um_error *err);
void page_pool_destroy(page_pool *pool); /* accepts NULL */

int32_t page_pool_count(const page_pool *pool);
/* Pages that no table holds: the free and the idle ones. */
int32_t page_pool_free_count(const page_pool *pool);
int32_t page_pool_idle_count(const page_pool *pool);
/* Keys and values of layer i; borrowed. */
kv_layer page_pool_layer(const page_pool *pool, int32_t i_layer);
/* Bytes that one position takes in all layers. SIZE_MAX on overflow. */
size_t page_pool_bytes_per_token(kv_type type, int32_t n_layers, int32_t n_kv_heads,
                                 int32_t head_dim);
/* Keeps a page that a table holds beyond that table's end; drops it again. */
void page_pool_keep(page_pool *pool, int32_t page);
void page_pool_drop(page_pool *pool, int32_t page);
bool page_pool_is_held(const page_pool *pool, int32_t page); /* by a table */
/* How the pool gets at idle pages: `reclaim` drops at least one, or returns false. NULL: it has
 * none. */
void page_pool_set_reclaim(page_pool *pool, bool (*reclaim)(void *user), void *user);
/* For tests: true if every page is either free once, held or kept, and the counts agree. */
bool page_pool_is_consistent(const page_pool *pool);

/* The pages of one sequence. Owned by the request; zero-initialised is empty. */
typedef struct page_table {
    int32_t *pages; /* [n_pages] */
    int32_t n_pages;
    int32_t n_frozen_tokens; /* positions below are final and must not be written again */
} page_table;

/* Takes pages for n_tokens positions: all of them, or none with UM_AGAIN when too few are free, or
 * UM_LIMIT when the whole pool is smaller. */
um_status page_table_acquire(page_pool *pool, int64_t n_tokens, page_table *table, um_error *err);
/* The same for a table that may have pages: takes those that are missing. On failure the table is
 * as it was. */
um_status page_table_grow(page_pool *pool, int64_t n_tokens, page_table *table, um_error *err);
/* Appends kept pages [n_pages] of another sequence, which are shared and frozen. UM_NO_MEMORY. */
um_status page_table_share(page_pool *pool, const int32_t *pages, int32_t n_pages,
                           page_table *table, um_error *err);
/* Puts a kept page that holds the same in place of a frozen one. */
void page_table_replace(page_pool *pool, page_table *table, int32_t i_page, int32_t page);
/* Gives every page back; the table is empty then. Accepts an empty one. */
void page_table_release(page_pool *pool, page_table *table);
/* Marks positions below n_tokens as final. */
void page_table_freeze(page_table *table, int32_t n_tokens);
/* True where positions [first, end) have slots that may be written. */
bool page_table_is_writable(const page_table *table, int32_t first, int32_t end);
/* The kernels' view; borrowed. */
kv_table page_table_view(const page_table *table);

#endif

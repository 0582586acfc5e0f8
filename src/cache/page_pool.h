/* SPDX-License-Identifier: Apache-2.0
 *
 * The pool of cache pages and the page table of a sequence. Knows nothing of tokens or models: a
 * page is KV_PAGE_LEN positions of keys and values in every layer.
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
int32_t page_pool_free_count(const page_pool *pool);
/* Keys and values of layer i; borrowed. */
kv_layer page_pool_layer(const page_pool *pool, int32_t i_layer);
/* Bytes that one position takes in all layers. SIZE_MAX on overflow. */
size_t page_pool_bytes_per_token(kv_type type, int32_t n_layers, int32_t n_kv_heads,
                                 int32_t head_dim);
/* For tests: true if every page is either free once or held, and the counts agree. */
bool page_pool_is_consistent(const page_pool *pool);

/* The pages of one sequence, all taken at once. Owned by the request; zero-initialised is empty. */
typedef struct page_table {
    int32_t *pages; /* [n_pages] */
    int32_t n_pages;
    int32_t n_frozen_tokens; /* positions below are final and must not be written again */
} page_table;

/* Takes pages for n_tokens positions: all of them, or none with UM_AGAIN when too few are free, or
 * UM_LIMIT when the whole pool is smaller. */
um_status page_table_acquire(page_pool *pool, int64_t n_tokens, page_table *table, um_error *err);
/* Gives every page back; the table is empty then. Accepts an empty one. */
void page_table_release(page_pool *pool, page_table *table);
/* Marks positions below n_tokens as final. */
void page_table_freeze(page_table *table, int32_t n_tokens);
/* True where positions [first, end) have slots that may be written. */
bool page_table_is_writable(const page_table *table, int32_t first, int32_t end);
/* The kernels' view; borrowed. */
kv_table page_table_view(const page_table *table);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Free pages are a stack, so that a page given back is the next one taken and stays in the
 * processor's cache. Holders are counted, which catches a page given back twice.
 */
#include "cache/page_pool.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

struct page_pool {
    device *dev;
    int32_t n_layers, n_pages, n_free, n_idle;
    int32_t *free_pages; /* [n_pages], the first n_free are valid */
    int32_t *n_holders;  /* [n_pages] tables */
    uint8_t *is_kept;    /* [n_pages] */
    bool (*reclaim)(void *user);
    void *reclaim_user;
    kv_type type;
    void **keys;   /* [n_layers] device memory */
    void **values; /* [n_layers] */
};

size_t page_pool_bytes_per_token(kv_type type, int32_t n_layers, int32_t n_kv_heads,
                                 int32_t head_dim) {
    size_t n_bytes = kv_part_bytes(type, head_dim) / KV_PAGE_LEN * 2;
    if (__builtin_mul_overflow(n_bytes, (size_t)n_kv_heads, &n_bytes) ||
        __builtin_mul_overflow(n_bytes, (size_t)n_layers, &n_bytes))
        return SIZE_MAX;
    return n_bytes;
}

um_status page_pool_create(device *dev, kv_type type, int32_t n_layers, int32_t n_kv_heads,
                           int32_t head_dim, int32_t n_pages, page_pool **out, um_error *err) {
    um_status status = UM_OK;
    size_t layer_bytes = page_pool_bytes_per_token(type, 1, n_kv_heads, head_dim) / 2;
    if (__builtin_mul_overflow(layer_bytes, (size_t)n_pages * KV_PAGE_LEN, &layer_bytes))
        FAIL(UM_LIMIT, err, "a cache of %d pages does not fit into the address space", n_pages);
    page_pool *pool = memory_calloc(1, sizeof *pool);
    if (!pool) FAIL(UM_NO_MEMORY, err, "no memory for the page pool");
    pool->dev = dev;
    pool->type = type;
    pool->n_layers = n_layers;
    pool->n_pages = pool->n_free = n_pages;
    pool->free_pages = memory_alloc_array((size_t)n_pages, sizeof *pool->free_pages);
    pool->n_holders = memory_calloc((size_t)n_pages, sizeof *pool->n_holders);
    pool->is_kept = memory_calloc((size_t)n_pages, 1);
    pool->keys = memory_calloc((size_t)n_layers, sizeof *pool->keys);
    pool->values = memory_calloc((size_t)n_layers, sizeof *pool->values);
    if (!pool->free_pages || !pool->n_holders || !pool->is_kept || !pool->keys || !pool->values) {
        status = um_error_set(err, UM_NO_MEMORY, "no memory for a pool of %d pages", n_pages);
        goto cleanup;
    }
    /* The lowest page on top of the stack. */
    for (int32_t i = 0; i < n_pages; i++) pool->free_pages[i] = n_pages - 1 - i;
    for (int32_t i = 0; i < n_layers; i++) {
        TRY_GOTO(device_alloc(dev, layer_bytes, &pool->keys[i], err), cleanup);
        TRY_GOTO(device_alloc(dev, layer_bytes, &pool->values[i], err), cleanup);
    }
    *out = pool;
    return UM_OK;
cleanup:
    page_pool_destroy(pool);
    return status;
}

void page_pool_destroy(page_pool *pool) {
    if (!pool) return;
    for (int32_t i = 0; i < pool->n_layers; i++) {
        if (pool->keys) device_free(pool->dev, pool->keys[i]);
        if (pool->values) device_free(pool->dev, pool->values[i]);
    }
    memory_free(pool->values);
    memory_free(pool->keys);
    memory_free(pool->is_kept);
    memory_free(pool->n_holders);
    memory_free(pool->free_pages);
    memory_free(pool);
}

int32_t page_pool_count(const page_pool *pool) {
    return pool->n_pages;
}

int32_t page_pool_free_count(const page_pool *pool) {
    return pool->n_free + pool->n_idle;
}

int32_t page_pool_idle_count(const page_pool *pool) {
    return pool->n_idle;
}

void page_pool_keep(page_pool *pool, int32_t page) {
    assert(pool->n_holders[page] && !pool->is_kept[page]);
    pool->is_kept[page] = 1;
}

void page_pool_drop(page_pool *pool, int32_t page) {
    assert(pool->is_kept[page]);
    pool->is_kept[page] = 0;
    if (pool->n_holders[page]) return;
    pool->n_idle--;
    pool->free_pages[pool->n_free++] = page;
}

bool page_pool_is_held(const page_pool *pool, int32_t page) {
    return pool->n_holders[page] > 0;
}

void page_pool_set_reclaim(page_pool *pool, bool (*reclaim)(void *user), void *user) {
    pool->reclaim = reclaim;
    pool->reclaim_user = user;
}

static void hold(page_pool *pool, int32_t page) {
    if (!pool->n_holders[page]++ && pool->is_kept[page]) pool->n_idle--;
}

static void let_go(page_pool *pool, int32_t page) {
    assert(pool->n_holders[page] > 0);
    if (--pool->n_holders[page]) return;
    if (pool->is_kept[page])
        pool->n_idle++;
    else
        pool->free_pages[pool->n_free++] = page;
}

kv_layer page_pool_layer(const page_pool *pool, int32_t i_layer) {
    return (kv_layer){
        .keys = pool->keys[i_layer], .values = pool->values[i_layer], .type = pool->type};
}

bool page_pool_is_consistent(const page_pool *pool) {
    int32_t n_held = 0, n_idle = 0;
    for (int32_t i = 0; i < pool->n_pages; i++) {
        n_held += pool->n_holders[i] > 0;
        n_idle += !pool->n_holders[i] && pool->is_kept[i];
    }
    for (int32_t i = 0; i < pool->n_free; i++) {
        int32_t page = pool->free_pages[i];
        if (page < 0 || page >= pool->n_pages || pool->n_holders[page] || pool->is_kept[page])
            return false;
        for (int32_t j = 0; j < i; j++)
            if (pool->free_pages[j] == page) return false;
    }
    return n_idle == pool->n_idle && n_held + n_idle + pool->n_free == pool->n_pages;
}

/* Room for n_pages in all. */
static um_status reserve(page_table *table, int64_t n_pages, um_error *err) {
    int32_t *pages = memory_realloc_array(table->pages, (size_t)n_pages, sizeof *pages);
    if (!pages) FAIL(UM_NO_MEMORY, err, "no memory for a table of %lld pages", (long long)n_pages);
    table->pages = pages;
    return UM_OK;
}

um_status page_table_acquire(page_pool *pool, int64_t n_tokens, page_table *table, um_error *err) {
    assert(!table->pages);
    return page_table_grow(pool, n_tokens, table, err);
}

um_status page_table_grow(page_pool *pool, int64_t n_tokens, page_table *table, um_error *err) {
    int64_t n_pages = (n_tokens + KV_PAGE_LEN - 1) / KV_PAGE_LEN;
    int64_t n_missing = n_pages - table->n_pages;
    if (n_pages > pool->n_pages)
        FAIL(UM_LIMIT, err, "%lld positions need %lld pages of the cache; it has %d",
             (long long)n_tokens, (long long)n_pages, pool->n_pages);
    if (n_missing <= 0) return UM_OK;
    if (n_missing > page_pool_free_count(pool))
        FAIL(UM_AGAIN, err, "%lld pages of the cache are needed and %d are free",
             (long long)n_missing, page_pool_free_count(pool));
    TRY(reserve(table, n_pages, err));
    while (pool->n_free < n_missing)
        if (!pool->reclaim || !pool->reclaim(pool->reclaim_user))
            FAIL(UM_INTERNAL, err, "%d idle pages of the cache do not come back", pool->n_idle);
    while (table->n_pages < n_pages) {
        int32_t page = pool->free_pages[--pool->n_free];
        assert(!pool->n_holders[page] && !pool->is_kept[page]);
        hold(pool, page);
        table->pages[table->n_pages++] = page;
    }
    return UM_OK;
}

um_status page_table_share(page_pool *pool, const int32_t *pages, int32_t n_pages,
                           page_table *table, um_error *err) {
    TRY(reserve(table, (int64_t)table->n_pages + n_pages, err));
    for (int32_t i = 0; i < n_pages; i++) {
        assert(pool->is_kept[pages[i]]);
        hold(pool, pages[i]);
        table->pages[table->n_pages++] = pages[i];
    }
    return UM_OK;
}

void page_table_replace(page_pool *pool, page_table *table, int32_t i_page, int32_t page) {
    assert(pool->is_kept[page] && (i_page + 1) * KV_PAGE_LEN <= table->n_frozen_tokens);
    hold(pool, page);
    let_go(pool, table->pages[i_page]);
    table->pages[i_page] = page;
}

void page_table_release(page_pool *pool, page_table *table) {
    for (int32_t i = table->n_pages - 1; i >= 0; i--) let_go(pool, table->pages[i]);
    memory_free(table->pages);
    memset(table, 0, sizeof *table);
}

void page_table_freeze(page_table *table, int32_t n_tokens) {
    assert(n_tokens >= table->n_frozen_tokens && n_tokens <= table->n_pages * KV_PAGE_LEN);
    table->n_frozen_tokens = n_tokens;
}

bool page_table_is_writable(const page_table *table, int32_t first, int32_t end) {
    return first >= table->n_frozen_tokens && first <= end && end <= table->n_pages * KV_PAGE_LEN;
}

kv_table page_table_view(const page_table *table) {
    return (kv_table){.pages = table->pages, .n_pages = table->n_pages};
}

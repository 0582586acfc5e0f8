/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes lie in a hash table, keyed by parent, salt and tokens, and in a list from the most to the
 * least recently used. A table that holds a node's pages holds those of its parents, too; so what
 * no table holds can be taken back leaf by leaf, and a node in use is never one of them.
 */
#include "cache/prefix_index.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

#include "base/memory.h"

struct prefix_node {
    prefix_node *parent, *next_in_bucket;
    prefix_node *newer, *older; /* in order of use */
    uint64_t hash, salt;
    int32_t n_tokens, n_children;
    int32_t *pages;  /* [n_tokens / KV_PAGE_LEN], behind the struct */
    int32_t *tokens; /* [n_tokens], behind them */
};

struct prefix_index {
    page_pool *pool;
    uint64_t hash_mask;
    prefix_node **buckets; /* [n_buckets], a power of two */
    size_t n_buckets;
    prefix_node *newest, *oldest;
    int32_t n_nodes;
};

static int32_t n_pages_of(const prefix_node *node) {
    return node->n_tokens / KV_PAGE_LEN;
}

static void unlink_use(prefix_index *index, prefix_node *node) {
    if (node->newer)
        node->newer->older = node->older;
    else
        index->newest = node->older;
    if (node->older)
        node->older->newer = node->newer;
    else
        index->oldest = node->newer;
    node->newer = node->older = NULL;
}

static void link_newest(prefix_index *index, prefix_node *node) {
    node->older = index->newest;
    if (index->newest)
        index->newest->newer = node;
    else
        index->oldest = node;
    index->newest = node;
}

static prefix_node **bucket_of(const prefix_index *index, uint64_t hash) {
    return &index->buckets[hash & (index->n_buckets - 1)];
}

/* Takes a leaf out; its pages are free if no table holds them. */
static void remove_node(prefix_index *index, prefix_node *node) {
    assert(node->n_children == 0);
    prefix_node **at = bucket_of(index, node->hash);
    while (*at != node) at = &(*at)->next_in_bucket;
    *at = node->next_in_bucket;
    unlink_use(index, node);
    if (node->parent) node->parent->n_children--;
    for (int32_t i = 0; i < n_pages_of(node); i++) page_pool_drop(index->pool, node->pages[i]);
    index->n_nodes--;
    memory_free(node);
}

/* Gives the pages of the least recently used leaf back that no table holds. */
static bool reclaim(void *user) {
    prefix_index *index = user;
    for (prefix_node *node = index->oldest; node; node = node->newer) {
        if (node->n_children || page_pool_is_held(index->pool, node->pages[0])) continue;
        remove_node(index, node);
        return true;
    }
    return false;
}

um_status prefix_index_create(page_pool *pool, uint64_t hash_mask, prefix_index **out,
                              um_error *err) {
    prefix_index *index = memory_calloc(1, sizeof *index);
    if (!index) FAIL(UM_NO_MEMORY, err, "no memory for the prefix cache");
    index->pool = pool;
    index->hash_mask = hash_mask;
    index->n_buckets = 64;
    while (index->n_buckets < (size_t)page_pool_count(pool)) index->n_buckets *= 2;
    index->buckets = memory_calloc(index->n_buckets, sizeof *index->buckets);
    if (!index->buckets) {
        memory_free(index);
        FAIL(UM_NO_MEMORY, err, "no memory for the prefix cache");
    }
    page_pool_set_reclaim(pool, reclaim, index);
    *out = index;
    return UM_OK;
}

void prefix_index_destroy(prefix_index *index) {
    if (!index) return;
    page_pool_set_reclaim(index->pool, NULL, NULL);
    while (index->n_nodes)
        for (prefix_node *node = index->oldest, *newer; node; node = newer) {
            newer = node->newer;
            if (!node->n_children) remove_node(index, node);
        }
    memory_free(index->buckets);
    memory_free(index);
}

static uint64_t hash_of(const prefix_index *index, const prefix_node *parent, uint64_t salt,
                        const int32_t *tokens, int32_t n_tokens) {
    uint64_t seed = parent ? parent->hash : salt;
    return XXH3_64bits_withSeed(tokens, (size_t)n_tokens * sizeof *tokens, seed) & index->hash_mask;
}

prefix_node *prefix_index_find(prefix_index *index, prefix_node *parent, uint64_t salt,
                               const int32_t *tokens, int32_t n_tokens) {
    uint64_t hash = hash_of(index, parent, salt, tokens, n_tokens);
    for (prefix_node *node = *bucket_of(index, hash); node; node = node->next_in_bucket)
        if (node->hash == hash && node->parent == parent && node->salt == salt &&
            node->n_tokens == n_tokens &&
            memcmp(node->tokens, tokens, (size_t)n_tokens * sizeof *tokens) == 0)
            return node;
    return NULL;
}

prefix_node *prefix_index_add(prefix_index *index, prefix_node *parent, uint64_t salt,
                              const int32_t *tokens, int32_t n_tokens, const int32_t *pages) {
    assert(n_tokens > 0 && n_tokens % KV_PAGE_LEN == 0);
    size_t n_pages = (size_t)n_tokens / KV_PAGE_LEN;
    prefix_node *node = memory_alloc(sizeof *node + (n_pages + (size_t)n_tokens) * sizeof(int32_t));
    if (!node) return NULL;
    *node = (prefix_node){.parent = parent,
                          .hash = hash_of(index, parent, salt, tokens, n_tokens),
                          .salt = salt,
                          .n_tokens = n_tokens};
    node->pages = (int32_t *)(node + 1);
    node->tokens = node->pages + n_pages;
    memcpy(node->pages, pages, n_pages * sizeof *pages);
    memcpy(node->tokens, tokens, (size_t)n_tokens * sizeof *tokens);
    for (size_t i = 0; i < n_pages; i++) page_pool_keep(index->pool, pages[i]);
    prefix_node **bucket = bucket_of(index, node->hash);
    node->next_in_bucket = *bucket;
    *bucket = node;
    link_newest(index, node);
    if (parent) parent->n_children++;
    index->n_nodes++;
    return node;
}

const int32_t *prefix_node_pages(const prefix_node *node) {
    return node->pages;
}

void prefix_index_touch(prefix_index *index, prefix_node *node) {
    for (; node; node = node->parent) {
        unlink_use(index, node);
        link_newest(index, node);
    }
}

int32_t prefix_index_count(const prefix_index *index) {
    return index->n_nodes;
}

bool prefix_index_is_consistent(const prefix_index *index) {
    int32_t n_listed = 0, n_hashed = 0, n_children = 0, n_behind = 0;
    for (const prefix_node *node = index->newest; node; node = node->older) {
        n_listed++;
        n_children += node->n_children;
        n_behind += node->parent != NULL;
        if (node->older ? node->older->newer != node : index->oldest != node) return false;
    }
    for (size_t i = 0; i < index->n_buckets; i++)
        for (const prefix_node *node = index->buckets[i]; node; node = node->next_in_bucket)
            n_hashed++;
    return n_listed == index->n_nodes && n_hashed == index->n_nodes && n_children == n_behind;
}

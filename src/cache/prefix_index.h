/* SPDX-License-Identifier: Apache-2.0
 *
 * Which pages hold the keys and values of which beginning of a sequence. A node is a run of whole
 * pages behind its parent's; a beginning is a path from a root. Knows tokens and pages, and not why
 * pages of equal beginnings hold equal bits: its caller vouches for that with the salt.
 */
#ifndef CACHE_PREFIX_INDEX_H
#define CACHE_PREFIX_INDEX_H

#include "cache/page_pool.h"

/* Owned by the engine, with the pool; not locked: its owner is. */
typedef struct prefix_index prefix_index;
/* Valid while a page table holds its pages, and until the next call that takes pages otherwise. */
typedef struct prefix_node prefix_node;

/* Keeps pages of `pool`, which takes them back, least recently used first, when it has no free
 * ones. hash_mask: all ones; tests clear bits, so that hashes collide. pool must outlive the index.
 */
um_status prefix_index_create(page_pool *pool, uint64_t hash_mask, prefix_index **index,
                              um_error *err);
void prefix_index_destroy(prefix_index *index); /* accepts NULL; its pages go back */

/* The node behind `parent` (NULL: at the start of a sequence) for these tokens, or NULL. Tokens are
 * compared, not only their hash.
 *   tokens [n_tokens], whole pages
 * salt: what shapes keys and values besides the tokens; the same along a path. */
prefix_node *prefix_index_find(prefix_index *index, prefix_node *parent, uint64_t salt,
                               const int32_t *tokens, int32_t n_tokens);
/* Adds a node that is not there yet. pages [n_tokens / KV_PAGE_LEN] are held by a table, which may
 * not write them any more. NULL: no memory; nothing is kept then. */
prefix_node *prefix_index_add(prefix_index *index, prefix_node *parent, uint64_t salt,
                              const int32_t *tokens, int32_t n_tokens, const int32_t *pages);
/* [n_tokens / KV_PAGE_LEN]; borrowed. */
const int32_t *prefix_node_pages(const prefix_node *node);
/* Marks a path as used now: the node and all before it. */
void prefix_index_touch(prefix_index *index, prefix_node *node);

int32_t prefix_index_count(const prefix_index *index);
/* For tests: counts and lists agree. */
bool prefix_index_is_consistent(const prefix_index *index);

#endif

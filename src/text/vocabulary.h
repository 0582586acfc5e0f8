/* SPDX-License-Identifier: Apache-2.0
 *
 * Token texts and their ids, both ways. It knows no merges and no alphabet: a text is bytes.
 * Built once, then read by any number of threads.
 */
#ifndef TEXT_VOCABULARY_H
#define TEXT_VOCABULARY_H

#include <stdint.h>

#include "base/status.h"

/* Ids above this one are refused: no vocabulary has them, and the table by id stays bounded. */
#define VOCABULARY_ID_MAX ((int64_t)1 << 24)

typedef struct vocabulary_entry {
    size_t text_offset; /* in `pool` */
    uint32_t n_bytes;
    int32_t id;
} vocabulary_entry;

/* Owned by whoever called vocabulary_init. */
typedef struct vocabulary {
    char *pool; /* all texts, one after the other */
    size_t pool_bytes, pool_capacity;
    vocabulary_entry *entries; /* in the order of vocabulary_add */
    size_t n_entries, capacity;
    uint32_t *slots; /* [n_slots] entry + 1, 0: free; open addressing by XXH3 of the text */
    size_t n_slots;
    uint32_t *by_id; /* [n_ids_room] entry + 1, 0: no such id */
    size_t n_ids, n_ids_room;
} vocabulary;

void vocabulary_init(vocabulary *v);
void vocabulary_deinit(vocabulary *v);

/* Makes room for n_entries more, with ids up to id_max. Speeds up adding; not required. */
um_status vocabulary_reserve(vocabulary *v, size_t n_entries, int64_t id_max, um_error *err);

/* Adds a text. UM_FORMAT where the text or the id is already there, or the id is out of range. */
um_status vocabulary_add(vocabulary *v, const char *text, size_t n_bytes, int64_t id,
                         um_error *err);

/* The id of a text, or -1. `among` limits the search to the first entries added. */
int32_t vocabulary_find(const vocabulary *v, const char *text, size_t n_bytes);
int32_t vocabulary_find_among(const vocabulary *v, size_t among, const char *text, size_t n_bytes);

/* Borrowed text of an id, not zero-terminated; NULL where there is no such id. */
const char *vocabulary_text(const vocabulary *v, int64_t id, size_t *n_bytes);

#endif

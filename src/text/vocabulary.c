/* SPDX-License-Identifier: Apache-2.0
 *
 * One pool of bytes, one array of entries, and two indexes into it. 150,000 tokens take two
 * allocations that grow instead of 150,000 small ones; a lookup costs one hash and about one probe.
 */
#include "text/vocabulary.h"

#include <string.h>
#include <xxhash.h>

#include "base/memory.h"

void vocabulary_init(vocabulary *v) {
    memset(v, 0, sizeof *v);
}

void vocabulary_deinit(vocabulary *v) {
    memory_free(v->pool);
    memory_free(v->entries);
    memory_free(v->slots);
    memory_free(v->by_id);
    vocabulary_init(v);
}

/* The slot of a text: the one that holds it, or the free one where it belongs. */
static size_t slot_of(const vocabulary *v, const char *text, size_t n_bytes) {
    size_t mask = v->n_slots - 1;
    size_t i_slot = (size_t)XXH3_64bits(text, n_bytes) & mask;
    while (v->slots[i_slot]) {
        const vocabulary_entry *entry = &v->entries[v->slots[i_slot] - 1];
        if (entry->n_bytes == n_bytes && memcmp(v->pool + entry->text_offset, text, n_bytes) == 0)
            break;
        i_slot = (i_slot + 1) & mask;
    }
    return i_slot;
}

/* At most half of the slots are in use. */
static um_status reserve_slots(vocabulary *v, size_t n_entries, um_error *err) {
    if (n_entries > UINT32_MAX / 4) FAIL(UM_LIMIT, err, "a vocabulary of %zu tokens", n_entries);
    size_t wanted = 64;
    while (wanted < n_entries * 2) wanted *= 2;
    if (wanted <= v->n_slots) return UM_OK;
    uint32_t *slots = memory_calloc(wanted, sizeof *slots);
    if (!slots) FAIL(UM_NO_MEMORY, err, "no memory for the index of %zu tokens", n_entries);
    memory_free(v->slots);
    v->slots = slots;
    v->n_slots = wanted;
    for (size_t i = 0; i < v->n_entries; i++) {
        const vocabulary_entry *entry = &v->entries[i];
        v->slots[slot_of(v, v->pool + entry->text_offset, entry->n_bytes)] = (uint32_t)i + 1;
    }
    return UM_OK;
}

static um_status reserve_ids(vocabulary *v, size_t n_ids, um_error *err) {
    if (n_ids <= v->n_ids_room) return UM_OK;
    uint32_t *by_id = memory_calloc(n_ids, sizeof *by_id);
    if (!by_id) FAIL(UM_NO_MEMORY, err, "no memory for %zu token ids", n_ids);
    if (v->n_ids) memcpy(by_id, v->by_id, v->n_ids * sizeof *by_id);
    memory_free(v->by_id);
    v->by_id = by_id;
    v->n_ids_room = n_ids;
    return UM_OK;
}

um_status vocabulary_reserve(vocabulary *v, size_t n_entries, int64_t id_max, um_error *err) {
    size_t wanted = v->n_entries + n_entries;
    TRY(reserve_slots(v, wanted, err));
    if (id_max > VOCABULARY_ID_MAX) id_max = VOCABULARY_ID_MAX;
    if (id_max >= 0) TRY(reserve_ids(v, (size_t)id_max + 1, err));
    if (wanted > v->capacity) {
        vocabulary_entry *entries = memory_realloc_array(v->entries, wanted, sizeof *entries);
        if (!entries) FAIL(UM_NO_MEMORY, err, "no memory for %zu tokens", wanted);
        v->entries = entries;
        v->capacity = wanted;
    }
    return UM_OK;
}

um_status vocabulary_add(vocabulary *v, const char *text, size_t n_bytes, int64_t id,
                         um_error *err) {
    int n_shown = n_bytes > 80 ? 80 : (int)n_bytes;
    if (id < 0 || id > VOCABULARY_ID_MAX)
        FAIL(UM_FORMAT, err, "token \"%.*s\" has the id %lld; 0 to %lld are expected", n_shown,
             text, (long long)id, (long long)VOCABULARY_ID_MAX);
    if (n_bytes > UINT32_MAX) FAIL(UM_LIMIT, err, "a token of %zu bytes", n_bytes);
    TRY(reserve_slots(v, v->n_entries + 1, err));
    size_t i_slot = slot_of(v, text, n_bytes);
    if (v->slots[i_slot])
        FAIL(UM_FORMAT, err, "token \"%.*s\" appears twice, with the ids %d and %lld", n_shown,
             text, (int)v->entries[v->slots[i_slot] - 1].id, (long long)id);
    size_t n_other;
    const char *other = vocabulary_text(v, id, &n_other);
    if (other)
        FAIL(UM_FORMAT, err, "the id %lld belongs to two tokens, \"%.*s\" and \"%.*s\"",
             (long long)id, n_other > 80 ? 80 : (int)n_other, other, n_shown, text);
    if ((size_t)id >= v->n_ids_room) {
        size_t wanted = v->n_ids_room * 2 > (size_t)id ? v->n_ids_room * 2 : (size_t)id + 1;
        TRY(reserve_ids(v, wanted, err));
    }
    if (memory_grow(&v->entries, &v->capacity, v->n_entries, sizeof *v->entries) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for %zu tokens", v->n_entries + 1);
    if (n_bytes > v->pool_capacity - v->pool_bytes) {
        size_t wanted = v->pool_capacity * 2 + n_bytes + 256;
        char *pool = memory_realloc_array(v->pool, wanted, 1);
        if (!pool) FAIL(UM_NO_MEMORY, err, "no memory for %zu bytes of token texts", wanted);
        v->pool = pool;
        v->pool_capacity = wanted;
    }
    if (n_bytes) memcpy(v->pool + v->pool_bytes, text, n_bytes);
    v->entries[v->n_entries++] = (vocabulary_entry){v->pool_bytes, (uint32_t)n_bytes, (int32_t)id};
    v->pool_bytes += n_bytes;
    v->slots[i_slot] = (uint32_t)v->n_entries;
    v->by_id[id] = (uint32_t)v->n_entries;
    if ((size_t)id >= v->n_ids) v->n_ids = (size_t)id + 1;
    return UM_OK;
}

int32_t vocabulary_find_among(const vocabulary *v, size_t among, const char *text, size_t n_bytes) {
    if (!v->n_slots) return -1;
    uint32_t entry = v->slots[slot_of(v, text, n_bytes)];
    return entry && entry <= among ? v->entries[entry - 1].id : -1;
}

int32_t vocabulary_find(const vocabulary *v, const char *text, size_t n_bytes) {
    return vocabulary_find_among(v, v->n_entries, text, n_bytes);
}

const char *vocabulary_text(const vocabulary *v, int64_t id, size_t *n_bytes) {
    *n_bytes = 0;
    if (id < 0 || (size_t)id >= v->n_ids || !v->by_id[id]) return NULL;
    const vocabulary_entry *entry = &v->entries[v->by_id[id] - 1];
    *n_bytes = entry->n_bytes;
    return v->pool + entry->text_offset;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The step's scratch memory. Cache-line alignment keeps threads from sharing lines and lets kernels
 * use aligned loads.
 */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"

enum { ARENA_ALIGNMENT = 64 };

void arena_init(arena *a) {
    memset(a, 0, sizeof *a);
}

void arena_deinit(arena *a) {
    memory_free(a->data);
    arena_init(a);
}

um_status arena_reserve(arena *a, size_t n_bytes, um_error *err) {
    a->n_used = 0;
    if (n_bytes <= a->capacity) return UM_OK;
    unsigned char *data = memory_alloc_aligned(ARENA_ALIGNMENT, n_bytes);
    if (!data) FAIL(UM_NO_MEMORY, err, "no memory for %zu bytes of scratch", n_bytes);
    memory_free(a->data);
    a->data = data;
    a->capacity = n_bytes;
    return UM_OK;
}

void arena_reset(arena *a) {
    a->n_used = 0;
}

size_t arena_bytes(size_t n, size_t item_bytes) {
    size_t n_bytes;
    if (__builtin_mul_overflow(n, item_bytes, &n_bytes) || n_bytes > SIZE_MAX - ARENA_ALIGNMENT)
        return SIZE_MAX;
    return (n_bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
}

void *arena_alloc(arena *a, size_t n, size_t item_bytes) {
    size_t n_bytes = arena_bytes(n, item_bytes);
    if (n_bytes > a->capacity - a->n_used) return NULL;
    void *memory = a->data + a->n_used;
    a->n_used += n_bytes;
    return memory;
}

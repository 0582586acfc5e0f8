/* SPDX-License-Identifier: Apache-2.0
 *
 * One block of memory given out from the front and taken back at once: the scratch of a step. Its
 * owner sizes it before the step, so nothing allocates in between.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

#include "base/status.h"

typedef struct arena {
    unsigned char *data; /* 64-byte aligned */
    size_t capacity;
    size_t n_used;
} arena;

void arena_init(arena *a);
void arena_deinit(arena *a);
/* Empties the arena and makes sure that it holds n_bytes: the only call that allocates. */
um_status arena_reserve(arena *a, size_t n_bytes, um_error *err);
void arena_reset(arena *a);
/* n items, 64-byte aligned, not zeroed; NULL when the arena is full (the owner's mistake). */
void *arena_alloc(arena *a, size_t n, size_t item_bytes);
/* What n items take of an arena, alignment included: for the owner's sum. SIZE_MAX on overflow. */
size_t arena_bytes(size_t n, size_t item_bytes);

#endif

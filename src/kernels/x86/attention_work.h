/* SPDX-License-Identifier: Apache-2.0
 *
 * What the x86 tiers of attention share before their own kernels: the state of a tile's walk.
 * attention_avx512.c says how attention goes.
 */
#ifndef KERNELS_X86_ATTENTION_WORK_H
#define KERNELS_X86_ATTENTION_WORK_H

#include <float.h>
#include <math.h>

#include "kernels/cpu.h"

enum { KEY_PAGES = 2, VALUE_PAGES = 2 }; /* decoded at a time */

#define INLINE static inline __attribute__((always_inline))

/* Queries with the same visible_end that go through a register tile together: 8, 4, 2 or 1. */
typedef struct query_group {
    int32_t first, n, end; /* end: within the split */
} query_group;

typedef struct work {
    const attend_tile *tile;
    query_group groups[ATTEND_QUERIES_MAX];
    int32_t n_groups, end;
    size_t padded; /* head_dim in multiples of 16 */
    /* queries [n_queries, padded], scaled; scores [n_queries, ATTEND_CHUNK] */
    float *queries, *scores, *decoded;
} work;

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * How long a step of so many rows takes, learnt from the steps that were made. Knows no clock and
 * no request. Costs are kept by powers of two, since a row costs less in company: weights are read
 * once for all.
 */
#ifndef ENGINE_PACE_H
#define ENGINE_PACE_H

#include <stdint.h>

enum { PACE_CLASSES = 24 };

/* Zeroed: nothing is known yet. */
typedef struct pace {
    double ns_per_row[PACE_CLASSES]; /* of steps of [2^i, 2^(i+1)) rows; 0: not seen */
} pace;

void pace_learn(pace *p, int32_t n_rows, int64_t ns);
/* The most rows of a step that is expected to take at most limit_ns; 0 where nothing is known. */
int32_t pace_rows(const pace *p, int64_t limit_ns);

#endif

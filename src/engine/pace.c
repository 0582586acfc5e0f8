/* SPDX-License-Identifier: Apache-2.0
 *
 * Estimates rise at once and fall by quarters: a bound is missed once, not again and again. What a
 * small step teaches also pulls the estimates of larger ones down, so that one slow moment does not
 * keep them from being tried for ever.
 */
#include "engine/pace.h"

static int class_of(int32_t n_rows) {
    int i = 0;
    while (i < PACE_CLASSES - 1 && n_rows >> (i + 1)) i++;
    return i;
}

void pace_learn(pace *p, int32_t n_rows, int64_t ns) {
    if (n_rows < 1 || ns < 1) return;
    int at = class_of(n_rows);
    double found = (double)ns / n_rows, known = p->ns_per_row[at];
    p->ns_per_row[at] = known > found ? known + (found - known) / 4 : found;
    for (int i = at + 1; i < PACE_CLASSES; i++)
        if (p->ns_per_row[i] > found) p->ns_per_row[i] += (found - p->ns_per_row[i]) / 16;
}

/* Of a class, or of the nearest one that was seen: first smaller ones, which cost more a row. */
static double cost_of(const pace *p, int at) {
    for (int i = at; i >= 0; i--)
        if (p->ns_per_row[i] > 0) return p->ns_per_row[i];
    for (int i = at + 1; i < PACE_CLASSES; i++)
        if (p->ns_per_row[i] > 0) return p->ns_per_row[i];
    return 0;
}

int32_t pace_rows(const pace *p, int64_t limit_ns) {
    for (int i = PACE_CLASSES - 1; i >= 0; i--) {
        double cost = cost_of(p, i);
        if (cost <= 0) return 0;
        double n = (double)limit_ns / cost, first = (double)(1 << i), last = 2 * first - 1;
        if (n >= first) return (int32_t)(n < last ? n : last);
    }
    return 0;
}

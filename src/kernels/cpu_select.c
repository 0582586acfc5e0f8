/* SPDX-License-Identifier: Apache-2.0
 *
 * Truncated draws without a sort. The place where the k-th token or the top_p-th mass falls is
 * found by descending through a radix of the logits' bits, mapped so that they order like the
 * numbers: at each level a histogram of counts or masses, then only the bucket where the target
 * falls. Three levels end at one value; its ties go by id.
 */
#include "kernels/cpu_select.h"

#include <math.h>
#include <string.h>

enum { LEVELS = 3, BUCKETS = 2048 };

static const int level_shift[LEVELS] = {21, 10, 0};
static const uint32_t level_mask[LEVELS] = {0x7FF, 0x7FF, 0x3FF};

/* Orders like the number; both zeros are one. */
static uint32_t order_of(float l) {
    uint32_t bits;
    l += 0.0f;
    memcpy(&bits, &l, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static double mass_of(float l, float max, double temperature) {
    return exp(((double)l - (double)max) / temperature);
}

/* Where a descending walk over the candidates reaches its target. */
typedef struct crossing {
    uint32_t order; /* of the value that crosses */
    double above;   /* mass or count of all higher values */
    double target;
} crossing;

/* fraction < 0: counts candidates up to `count`; else adds masses up to fraction of their total. */
static crossing descend(const float *l, int32_t n, float max, double temperature, double fraction,
                        double count) {
    double buckets[BUCKETS];
    crossing c = {.target = count};
    uint32_t prefix_mask = 0;
    for (int level = 0; level < LEVELS; level++) {
        memset(buckets, 0, sizeof buckets);
        for (int32_t i = 0; i < n; i++) {
            if (l[i] == -INFINITY) continue;
            uint32_t order = order_of(l[i]);
            if ((order & prefix_mask) != c.order) continue;
            buckets[(order >> level_shift[level]) & level_mask[level]] +=
                fraction < 0.0 ? 1.0 : mass_of(l[i], max, temperature);
        }
        if (level == 0 && fraction >= 0.0) {
            double total = 0.0;
            for (int b = BUCKETS - 1; b >= 0; b--) total += buckets[b];
            c.target = fraction * total;
        }
        /* Below the last bucket that holds anything, rounding could keep the target out of reach.
         */
        int found = -1;
        double above = c.above;
        for (int b = BUCKETS - 1; b >= 0; b--) {
            if (buckets[b] <= 0.0) continue;
            found = b;
            c.above = above;
            above += buckets[b];
            if (above >= c.target) break;
        }
        if (found < 0) return c;
        c.order |= (uint32_t)found << level_shift[level];
        prefix_mask |= level_mask[level] << level_shift[level];
    }
    return c;
}

static void keep_top_k(float *l, int32_t n, int32_t top_k) {
    crossing c = descend(l, n, 0.0f, 1.0, -1.0, (double)top_k);
    for (int32_t i = 0; i < n; i++)
        if (order_of(l[i]) < c.order) l[i] = -INFINITY;
}

static void keep_top_p(float *l, int32_t n, float max, double temperature, double top_p) {
    crossing c = descend(l, n, max, temperature, top_p > 0.0 ? top_p : 0.0, 0.0);
    double mass = c.above;
    bool is_reached = false;
    for (int32_t i = 0; i < n; i++) {
        uint32_t order = order_of(l[i]);
        if (order > c.order) continue;
        if (order < c.order || is_reached) {
            l[i] = -INFINITY;
        } else {
            mass += mass_of(l[i], max, temperature);
            is_reached = mass >= c.target;
        }
    }
}

/* The two highest of q and its entropy. `total` is the sum of masses; the highest has mass 1. */
static void measure_spread(const float *l, int32_t n, float max, double temperature, double total,
                           selection *drawn) {
    double sum = 0.0, second = 0.0;
    bool has_top = false;
    for (int32_t i = 0; i < n; i++) {
        if (l[i] == -INFINITY) continue;
        double mass = mass_of(l[i], max, temperature);
        if (mass > 0.0) sum += mass * log(mass);
        if (l[i] == max && !has_top)
            has_top = true;
        else if (mass > second)
            second = mass;
    }
    drawn->top = 1.0 / total;
    drawn->second = second / total;
    double entropy = log(total) - sum / total;
    drawn->entropy = entropy > 0.0 ? entropy : 0.0;
}

selection select_draw(const cpu_kernels *kernels, const score_request *request, float *l,
                      int32_t vocab, float max) {
    double temperature = request->temperature, total = 0.0;
    bool cuts_mass = request->top_p < 1.0;
    if (cuts_mass && request->is_top_p_first)
        keep_top_p(l, vocab, max, temperature, request->top_p);
    if (request->top_k > 0 && request->top_k < vocab) keep_top_k(l, vocab, request->top_k);
    if (cuts_mass && !request->is_top_p_first)
        keep_top_p(l, vocab, max, temperature, request->top_p);
    for (int32_t i = 0; i < vocab; i++) {
        if (l[i] == -INFINITY) continue;
        double mass = mass_of(l[i], max, temperature);
        if (mass < request->min_p && l[i] < max) {
            l[i] = -INFINITY;
        } else {
            total += mass;
        }
    }
    gumbel_best best = {.key = -INFINITY, .token = -1};
    for (int32_t i = 0; i < vocab; i += HEAD_TILE)
        kernels->gumbel(l + i, vocab - i < HEAD_TILE ? vocab - i : HEAD_TILE, i, &request->key,
                        temperature, &best);
    selection drawn = {.token = best.token,
                       .logit = best.logit,
                       .tempered = mass_of(best.logit, max, temperature) / total};
    if (request->wants_spread) measure_spread(l, vocab, max, temperature, total, &drawn);
    return drawn;
}

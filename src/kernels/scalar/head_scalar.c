/* SPDX-License-Identifier: Apache-2.0
 *
 * The specification of what the head takes from one vocabulary tile: softmax sums, the best two, a
 * draw. Sums are float64: a tile is short, and its exponentials cost more.
 */
#include <math.h>

#include "kernels/cpu.h"

static tile_softmax softmax(const float *l, int32_t n) {
    tile_softmax s = {.top = l[0], .is_finite = true};
    for (int32_t i = 0; i < n; i++) {
        if (!isfinite(l[i])) s.is_finite = false;
        if (l[i] > s.top) s.top = l[i];
    }
    if (!s.is_finite) return s;
    for (int32_t i = 0; i < n; i++) {
        double d = (double)l[i] - (double)s.top, e = (double)expf(l[i] - s.top);
        s.sum += e;
        s.sum_logits += d * e;
    }
    return s;
}

static tile_best best_two(const float *l, int32_t n) {
    tile_best b = {.max = -INFINITY, .second = -INFINITY, .i_max = -1};
    for (int32_t i = 0; i < n; i++) {
        if (l[i] > b.max) {
            b.second = b.max;
            b.max = l[i];
            b.i_max = i;
        } else if (l[i] > b.second) {
            b.second = l[i];
        }
    }
    return b;
}

static double tempered(const float *l, int32_t n, float max, float inverse_temperature) {
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++) sum += (double)expf((l[i] - max) * inverse_temperature);
    return sum;
}

double gumbel_key(float l, double temperature, double u) {
    return (double)l / temperature - log(-log(u));
}

static void gumbel(const float *l, int32_t n, int32_t first_token, const rng_key *key,
                   double temperature, gumbel_best *best) {
    double u[2] = {0};
    for (int32_t i = 0; i < n; i++) {
        uint32_t token = (uint32_t)(first_token + i);
        if (token % 2 == 0) rng_uniform_pair(key, RNG_PURPOSE_TOKEN, token, u);
        double value = gumbel_key(l[i], temperature, u[token % 2]);
        if (value > best->key) *best = (gumbel_best){value, first_token + i, l[i]};
    }
}

void head_fill_scalar(cpu_kernels *k) {
    k->tile_softmax = softmax;
    k->tile_best = best_two;
    k->tile_tempered = tempered;
    k->gumbel = gumbel;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The specification of attention: scores, their exact maximum, exponentials, weighted values, in
 * the order of positions. Positions from visible_end on are never read.
 */
#include <math.h>

#include "kernels/cpu.h"

static void attend_one(const attend_tile *t, const float *q, float *out, float *scores) {
    int32_t n = t->visible_end, head_dim = t->head_dim;
    float max = -INFINITY;
    for (int32_t p = 0; p < n; p++) {
        const float *keys =
            t->kv.keys + kv_offset(t->pages[p / KV_PAGE_LEN], t->kv_head, t->n_kv_heads, head_dim);
        float sum = 0.0f;
        for (int32_t d = 0; d < head_dim; d++)
            sum += q[d] * keys[d * KV_PAGE_LEN + p % KV_PAGE_LEN];
        scores[p] = sum * t->scale;
        if (scores[p] > max) max = scores[p];
    }
    for (int32_t d = 0; d < head_dim; d++) out[d] = 0.0f;
    float total = 0.0f;
    for (int32_t p = 0; p < n; p++) {
        const float *values =
            t->kv.values +
            kv_offset(t->pages[p / KV_PAGE_LEN], t->kv_head, t->n_kv_heads, head_dim) +
            (size_t)(p % KV_PAGE_LEN) * (size_t)head_dim;
        float e = expf(scores[p] - max);
        total += e;
        for (int32_t d = 0; d < head_dim; d++) out[d] += e * values[d];
    }
    if (n == 0) return;
    for (int32_t d = 0; d < head_dim; d++) out[d] /= total;
}

static void attend(const attend_tile *t) {
    size_t stride = attend_padded(t->visible_end);
    for (int32_t i = 0; i < t->n_queries; i++)
        attend_one(t, t->q[i], t->out[i], t->scores + (size_t)i * stride);
}

void attention_fill_scalar(cpu_kernels *k) {
    k->attend = attend;
}

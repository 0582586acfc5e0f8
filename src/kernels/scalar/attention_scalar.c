/* SPDX-License-Identifier: Apache-2.0
 *
 * The specification of attention: of a split, scores, their exact maximum, exponentials, weighted
 * values, in the order of positions. Stored numbers are decoded one by one. Positions from
 * visible_end on are never read.
 */
#include <float.h>
#include <math.h>

#include "kernels/cpu.h"

/* Dimension d of a slot's key. */
static float key_at(const kv_layer *kv, void *part, int32_t head_dim, int32_t slot, int32_t d) {
    switch (kv->type) {
        case KV_F32:
            return ((const float *)part)[d * KV_PAGE_LEN + slot];
        case KV_BF16:
            return dtype_from_bf16(
                ((const uint16_t *)part)[(d / 2 * KV_PAGE_LEN + slot) * 2 + d % 2]);
        case KV_INT8:
            return (float)((const int8_t *)part)[d * KV_PAGE_LEN + slot] *
                   kv_scales(part, head_dim)[slot];
    }
    return 0.0f;
}

/* Dimension d of a slot's value. */
static float value_at(const kv_layer *kv, void *part, int32_t head_dim, int32_t slot, int32_t d) {
    switch (kv->type) {
        case KV_F32:
            return ((const float *)part)[slot * head_dim + d];
        case KV_BF16:
            return dtype_from_bf16(
                ((const uint16_t *)part)[(slot / 2 * head_dim + d) * 2 + slot % 2]);
        case KV_INT8:
            return (float)((const int8_t *)part)[slot * head_dim + d] *
                   kv_scales(part, head_dim)[slot];
    }
    return 0.0f;
}

static void *part_of(const attend_tile *t, void *keys_or_values, int32_t position) {
    return kv_part(keys_or_values, t->kv.type, t->pages[position / KV_PAGE_LEN], t->kv_head,
                   t->n_kv_heads, t->head_dim);
}

static void attend_one(const attend_tile *t, const float *q, int32_t end, float *state) {
    float scores[ATTEND_SPLIT];
    int32_t head_dim = t->head_dim;
    float *max = state + attend_padded(head_dim), *total = max + 1;
    *max = -FLT_MAX;
    *total = 0.0f;
    for (int32_t p = t->first; p < end; p++) {
        void *keys = part_of(t, t->kv.keys, p);
        float sum = 0.0f;
        for (int32_t d = 0; d < head_dim; d++)
            sum += q[d] * key_at(&t->kv, keys, head_dim, p % KV_PAGE_LEN, d);
        scores[p - t->first] = sum * t->scale;
        if (sum * t->scale > *max) *max = sum * t->scale;
    }
    for (int32_t d = 0; d < head_dim; d++) state[d] = 0.0f;
    for (int32_t p = t->first; p < end; p++) {
        void *values = part_of(t, t->kv.values, p);
        float e = expf(scores[p - t->first] - *max);
        *total += e;
        for (int32_t d = 0; d < head_dim; d++)
            state[d] += e * value_at(&t->kv, values, head_dim, p % KV_PAGE_LEN, d);
    }
}

static void attend(const attend_tile *t) {
    for (int32_t i = 0; i < t->n_queries; i++) {
        int32_t end = t->visible_end[i];
        if (end > t->first + ATTEND_SPLIT) end = t->first + ATTEND_SPLIT;
        float *state = t->states + (size_t)i * attend_state_floats(t->head_dim);
        if (end > t->first) attend_one(t, t->q[i], end, state);
    }
}

static void attend_merge(float *state, const float *part, int32_t head_dim) {
    size_t n = attend_padded(head_dim);
    float max = state[n] > part[n] ? state[n] : part[n];
    float a = expf(state[n] - max), b = expf(part[n] - max);
    for (int32_t d = 0; d < head_dim; d++) state[d] = state[d] * a + part[d] * b;
    state[n] = max;
    state[n + 1] = state[n + 1] * a + part[n + 1] * b;
}

static void attend_finish(float *out, const float *state, int32_t head_dim) {
    float total = state[attend_padded(head_dim) + 1];
    for (int32_t d = 0; d < head_dim; d++) out[d] = state[d] / total;
}

void attention_fill_scalar(cpu_kernels *k) {
    k->attend = attend;
    k->attend_merge = attend_merge;
    k->attend_finish = attend_finish;
}

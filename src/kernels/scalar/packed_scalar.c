/* SPDX-License-Identifier: Apache-2.0
 *
 * The specification of products on packed weights: kernels/packed.h, line by line.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/scalar/packed_scalar.h"

static void put_f32(unsigned char *record, int at, int r, float value) {
    memcpy(record + at + 4 * r, &value, sizeof value);
}

static void put_i32(unsigned char *record, int at, int r, int32_t value) {
    memcpy(record + at + 4 * r, &value, sizeof value);
}

static float get_f32(const unsigned char *record, int at, int r) {
    float value;
    memcpy(&value, record + at + 4 * r, sizeof value);
    return value;
}

static int32_t get_i32(const unsigned char *record, int at, int r) {
    int32_t value;
    memcpy(&value, record + at + 4 * r, sizeof value);
    return value;
}

static void pack_group(const float *x, unsigned char *record, int r) {
    float top = 0.0f;
    bool is_finite = true;
    for (int i = 0; i < PACKED_GROUP; i++) {
        float size = fabsf(x[i]);
        is_finite &= isfinite(size);
        if (size > top) top = size;
    }
    bool is_zero = !is_finite || top < PACKED_TINY;
    float inverse = is_zero ? 0.0f : 127.0f / top;
    float d = !is_finite ? NAN : is_zero ? 0.0f : top / 127.0f;
    int32_t sums[2] = {0, 0};
    for (int i = 0; i < PACKED_GROUP; i++) {
        int32_t q = is_zero ? 0 : (int32_t)nearbyintf(x[i] * inverse);
        record[PACKED_GROUP * r + i] = (unsigned char)(int8_t)q;
        sums[i / 16] += q;
    }
    int32_t sum = sums[0] + sums[1];
    put_f32(record, RECORD_D, r, d);
    put_i32(record, RECORD_NEG8, r, -8 * sum);
    put_i32(record, RECORD_NEG128, r, -128 * sum);
    put_f32(record, RECORD_DSUM, r, d * (float)sum);
    put_i32(record, RECORD_NEG32, r, -32 * sums[0]);
    put_i32(record, RECORD_NEG32 + 64, r, -32 * sums[1]);
}

static void pack(const pack_tile *t) {
    for (int32_t g = 0; g < t->n_groups; g++)
        for (int32_t r = 0; r < t->n_rows; r++)
            pack_group(t->x[r] + (size_t)g * PACKED_GROUP, t->records + (size_t)g * RECORD_BYTES,
                       r);
}

static int32_t sum_of(dtype type, const unsigned char *quants, const unsigned char *record, int r,
                      int o, int first, int n) {
    int32_t sum = 0;
    for (int i = first; i < first + n; i++)
        sum += number_at(type, quants, o, i) * (int8_t)record[PACKED_GROUP * r + i];
    return sum;
}

static float product(const packed_tile *t, int r, int o) {
    float y = 0.0f;
    for (int32_t g = 0; g < t->n_groups; g++) {
        packed_group at = packed_group_at(t->type, t->n_groups * PACKED_GROUP, g);
        const unsigned char *quants = t->panel + at.quants;
        const unsigned char *scale = t->panel + at.scale, *super = t->panel + at.super;
        const unsigned char *record = t->records + (size_t)g * RECORD_BYTES;
        float d = get_f32(record, RECORD_D, r);
        if (t->type == DTYPE_Q6_K) {
            for (int half = 0; half < 2; half++) {
                int32_t sum = get_i32(record, RECORD_NEG32 + 64 * half, r) +
                              sum_of(t->type, quants, record, r, o, 16 * half, 16);
                float s = half_at(super, o) * (float)(int8_t)scale[16 * half + o];
                y = fmaf((float)sum, s * d, y);
            }
            continue;
        }
        int32_t sum = sum_of(t->type, quants, record, r, o, 0, PACKED_GROUP);
        if (t->type == DTYPE_Q8_0) sum += get_i32(record, RECORD_NEG128, r);
        if (t->type == DTYPE_Q4_0) sum += get_i32(record, RECORD_NEG8, r);
        if (!packed_has_supers(t->type)) {
            y = fmaf((float)sum, half_at(scale, o) * d, y);
            continue;
        }
        y = fmaf((float)sum, half_at(super, o) * (float)scale[o] * d, y);
        y = fmaf(-(half_at(super + 32, o) * (float)scale[16 + o]), get_f32(record, RECORD_DSUM, r),
                 y);
    }
    return y;
}

static void matmul(const packed_tile *t) {
    for (int r = 0; r < t->n_rows; r++)
        for (int o = 0; o < t->n_outs; o++) {
            float y = product(t, r, o);
            t->y[(size_t)r * t->y_stride + (size_t)o] = t->bias ? y + t->bias[o] : y;
        }
}

static void pack_bf16(const pack_tile *t) {
    for (int32_t g = 0; g < t->n_groups; g++)
        for (int32_t r = 0; r < t->n_rows; r++)
            for (int i = 0; i < PACKED_GROUP; i++) {
                uint16_t bits = dtype_to_bf16(t->x[r][(size_t)g * PACKED_GROUP + (size_t)i]);
                memcpy(
                    t->records + (size_t)g * RECORD_BF16_BYTES + 64 * (i / 2) + 4 * r + 2 * (i % 2),
                    &bits, sizeof bits);
            }
}

static void matmul_bf16(const bf16_tile *t) {
    size_t n_in = (size_t)t->n_in, block_bytes = n_in / PACKED_GROUP * RECORD_BF16_BYTES;
    for (size_t r = 0; r < (size_t)t->n_rows; r++)
        for (size_t o = 0; o < (size_t)t->n_outs; o++) {
            const unsigned char *x = t->blocks + r / PACKED_ROWS * block_bytes;
            float y = 0.0f;
            for (size_t i = 0; i < n_in; i++)
                y += bf16_at(t->w, o * n_in + i) *
                     bf16_at(x + i / 2 * 64 + r % PACKED_ROWS * 4, i % 2);
            t->y[r * t->y_stride + o] = t->bias ? y + t->bias[o] : y;
        }
}

void packed_fill_scalar(cpu_kernels *k) {
    k->pack = pack;
    k->matmul_packed = matmul;
    k->pack_bf16 = pack_bf16;
    k->matmul_bf16 = matmul_bf16;
}

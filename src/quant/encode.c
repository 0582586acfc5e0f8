/* SPDX-License-Identifier: Apache-2.0
 *
 * Encoding of plain types and of blocks of 32; K types are in encode_k.c. Every block is first
 * scaled by a power of two to a largest magnitude in [1, 2), which is exact, so that the searches
 * of quant/fit.h meet numbers of one size. A scale is rounded to float16 before the levels are
 * chosen: what a reader will multiply by is what they are the nearest levels for.
 */
#include "quant/encode.h"

#include <math.h>

#include "quant/blocks.h"
#include "quant/encode_block.h"
#include "quant/fit.h"

enum { EXPONENT_MIN = -26 }; /* below 2^-25 even a level of 1 rounds to nothing */

bool encode_block_init(encode_block *b, const float *x, const float *importance, int n) {
    float largest = 0, heaviest = 0;
    for (int i = 0; i < n; i++) {
        float magnitude = fabsf(x[i]);
        if (magnitude > largest) largest = magnitude;
    }
    for (int i = 0; importance && i < n; i++)
        if (importance[i] > heaviest) heaviest = importance[i];
    for (int i = 0; i < n; i++) b->w[i] = heaviest > 0 ? importance[i] / heaviest : 1;
    if (!(largest <= 0x1p100f)) largest = 0x1p100f;
    int exponent = largest > 0 ? ilogbf(largest) : EXPONENT_MIN - 1;
    if (exponent < EXPONENT_MIN) return false;
    b->exponent = exponent;
    float down = ldexpf(1, -exponent);
    for (int i = 0; i < n; i++) b->x[i] = x[i] * down;
    return true;
}

uint16_t encode_block_scale(const encode_block *b, float scale, float *rounded) {
    float wide = ldexpf(scale, b->exponent);
    /* The largest float16, which is also what a NaN becomes. */
    if (!(fabsf(wide) <= 65504)) wide = wide < 0 ? -65504.0f : 65504.0f;
    /* Subnormal scales are rounded up: the levels would not reach the largest number otherwise. */
    if (fabsf(wide) < 0x1p-14f) wide = copysignf(ceilf(fabsf(wide) * 0x1p24f) * 0x1p-24f, wide);
    uint16_t bits = dtype_to_f16(wide);
    *rounded = ldexpf(dtype_from_f16(bits), -b->exponent);
    return bits;
}

/* The scale is not searched: at 8 bits the largest number decides, and the block decodes to the
 * same bits when it is encoded again. */
static void encode_q8_0(const float *x, const float *importance, void *out) {
    (void)importance;
    block_q8_0 block = {0};
    encode_block b;
    if (encode_block_init(&b, x, NULL, BLOCK_LEN)) {
        float largest = 0, d;
        for (int i = 0; i < BLOCK_LEN; i++)
            if (fabsf(b.x[i]) > largest) largest = fabsf(b.x[i]);
        block.d = encode_block_scale(&b, largest / 127, &d);
        for (int i = 0; i < BLOCK_LEN; i++)
            block.qs[i] = (int8_t)fit_level(d > 0 ? b.x[i] / d : 0, -127, 127);
    }
    memcpy(out, &block, sizeof block);
}

static void encode_q4_0(const float *x, const float *importance, void *out) {
    block_q4_0 block = {0};
    encode_block b;
    float d = 0;
    if (encode_block_init(&b, x, importance, BLOCK_LEN))
        block.d = encode_block_scale(&b, fit_scale(b.x, b.w, BLOCK_LEN, -8, 7), &d);
    for (int i = 0; i < BLOCK_LEN; i++) {
        int q = d != 0 ? 8 + (int)fit_level(b.x[i] / d, -8, 7) : 8;
        block.qs[i % 16] |= (uint8_t)(q << i / 16 * 4);
    }
    memcpy(out, &block, sizeof block);
}

/* ---- All types ------------------------------------------------------------------------------ */

typedef void (*block_encoder)(const float *x, const float *importance, void *out);

static block_encoder encoder_of(dtype type) {
    switch (type) {
        case DTYPE_Q8_0:
            return encode_q8_0;
        case DTYPE_Q4_0:
            return encode_q4_0;
        case DTYPE_Q4_K:
            return encode_block_q4_k;
        case DTYPE_Q5_K:
            return encode_block_q5_k;
        default:
            return encode_block_q6_k;
    }
}

static uint16_t f16_held(float value) {
    uint16_t bits = dtype_to_f16(value);
    return (bits & 0x7FFF) == 0x7C00 ? (uint16_t)(bits - 1) : bits;
}

static uint16_t bf16_held(float value) {
    uint16_t bits = dtype_to_bf16(value);
    return (bits & 0x7FFF) == 0x7F80 ? (uint16_t)(bits - 1) : bits;
}

void quant_encode(dtype type, const float *x, const float *importance, size_t n, void *out) {
    unsigned char *bytes = out;
    if (dtype_is_block(type)) {
        block_encoder encode = encoder_of(type);
        size_t len = dtype_block_len(type), n_bytes = dtype_block_bytes(type);
        for (size_t i = 0; i < n / len; i++)
            encode(x + i * len, importance ? importance + i * len : NULL, bytes + i * n_bytes);
    } else if (type == DTYPE_F32) {
        if (n) memcpy(out, x, n * sizeof *x);
    } else {
        for (size_t i = 0; i < n; i++) {
            uint16_t bits = type == DTYPE_BF16 ? bf16_held(x[i]) : f16_held(x[i]);
            memcpy(bytes + 2 * i, &bits, sizeof bits);
        }
    }
}

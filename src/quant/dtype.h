/* SPDX-License-Identifier: Apache-2.0
 *
 * Number formats of stored tensors, and their scalar decoding. The one list of types; what a type
 * means for a kernel is the kernel's own.
 */
#ifndef QUANT_DTYPE_H
#define QUANT_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum dtype {
    DTYPE_F32 = 0,
    DTYPE_F16 = 1,
    DTYPE_BF16 = 2,
    DTYPE_Q8_0 = 3, /* blocks of numbers that share scales: quant/blocks.h */
    DTYPE_Q4_0 = 4,
    DTYPE_Q4_K = 5,
    DTYPE_Q5_K = 6,
    DTYPE_Q6_K = 7
} dtype;

/* "F32", "F16", "BF16": safetensors' own names; "Q8_0", "Q4_K" ...: GGUF's. */
const char *dtype_name(dtype type);
/* The type of a name as options have it: "f32", "q4_k" ... False where there is none. */
bool dtype_find(const char *name, dtype *type);
/* Numbers in a block: 1, 32 or 256. A row of a block type is whole blocks. */
size_t dtype_block_len(dtype type);
/* Bytes of a block of dtype_block_len numbers. */
size_t dtype_block_bytes(dtype type);
/* Bytes of n numbers; n is a multiple of dtype_block_len. */
size_t dtype_size(dtype type, size_t n);
static inline bool dtype_is_block(dtype type) {
    return type >= DTYPE_Q8_0;
}
/* Bytes of a number of a type that has no blocks. */
size_t dtype_bytes(dtype type);

/* bfloat16 is the upper half of a float32; exact. */
static inline float dtype_from_bf16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* IEEE 754 binary16, subnormals, infinities and NaN included; exact. */
float dtype_from_f16(uint16_t bits);

/* Rounded to the nearest, ties to even; beyond the largest number infinity, NaN stays NaN. */
uint16_t dtype_to_f16(float value);
uint16_t dtype_to_bf16(float value);

/* out [n] f32 from n stored numbers (whole blocks) at data, which need not be aligned. Products of
 * scales are rounded to float32 before they meet a number, as in ggml: (d * sc) * q - dmin * m. */
void dtype_decode(dtype type, const void *data, size_t n, float *out);

/* Index of the first number that is NaN or infinite, or -1. data need not be aligned. Of a block
 * type the first number of the first block (n is whole blocks) with a scale that is not finite. */
int64_t dtype_find_not_finite(dtype type, const void *data, size_t n);

#endif

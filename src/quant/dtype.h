/* SPDX-License-Identifier: Apache-2.0
 *
 * Number formats of stored tensors, and their scalar decoding. The one list of types; what a type
 * means for a kernel is the kernel's own.
 */
#ifndef QUANT_DTYPE_H
#define QUANT_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum dtype { DTYPE_F32 = 0, DTYPE_F16 = 1, DTYPE_BF16 = 2 } dtype;

/* "F32", "F16", "BF16": safetensors' own names. */
const char *dtype_name(dtype type);
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

/* out [n] f32 from n stored numbers at data, which need not be aligned. */
void dtype_decode(dtype type, const void *data, size_t n, float *out);

/* Index of the first number that is NaN or infinite, or -1. data need not be aligned. */
int64_t dtype_find_not_finite(dtype type, const void *data, size_t n);

#endif

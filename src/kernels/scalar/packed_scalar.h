/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers out of packed weights and records, one by one.
 */
#ifndef KERNELS_SCALAR_PACKED_SCALAR_H
#define KERNELS_SCALAR_PACKED_SCALAR_H

#include <string.h>

#include "kernels/packed.h"

/* Number i of output o in a group, unsigned. */
static inline int32_t number_at(dtype type, const unsigned char *quants, int o, int i) {
    int quad = i / 4, byte = 4 * o + i % 4;
    if (type == DTYPE_Q8_0) return quants[64 * quad + byte];
    int32_t u = quants[64 * (quad / 2) + byte] >> (quad % 2 * 4) & 15;
    if (type == DTYPE_Q5_K) u |= (quants[256 + byte] >> quad & 1) << 4;
    if (type == DTYPE_Q6_K) u |= (quants[256 + 64 * (quad / 4) + byte] >> (quad % 4 * 2) & 3) << 4;
    return u;
}

static inline float half_at(const unsigned char *halves, int o) {
    uint16_t bits;
    memcpy(&bits, halves + 2 * o, sizeof bits);
    return dtype_from_f16(bits);
}

static inline float bf16_at(const unsigned char *numbers, size_t i) {
    uint16_t bits;
    memcpy(&bits, numbers + 2 * i, sizeof bits);
    return dtype_from_bf16(bits);
}

#endif

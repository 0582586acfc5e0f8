/* SPDX-License-Identifier: Apache-2.0
 *
 * The block formats of GGUF files, as they lie in memory. Source of the layouts: the GGUF format of
 * ggml (ggml-common.h). Scales are IEEE binary16 bits; nothing is aligned beyond a byte in a file,
 * so blocks are read through memcpy. Within a block, number i is
 *
 *   Q8_0   d * qs[i]
 *   Q4_0   d * (q - 8)              q: low nibble of qs[i] for i < 16, high nibble of qs[i - 16]
 *   Q4_K   d * sc[g] * q - dmin * m[g]       g = i / 32: eight groups with 6-bit sc and m
 *   Q5_K   the same with a fifth bit from qh
 *   Q6_K   d * scales[i / 16] * (q - 32)     q of 4 bits in ql and 2 in qh
 */
#ifndef QUANT_BLOCKS_H
#define QUANT_BLOCKS_H

#include <stdint.h>

enum { BLOCK_LEN = 32, BLOCK_K_LEN = 256 };

typedef struct block_q8_0 {
    uint16_t d;
    int8_t qs[BLOCK_LEN];
} block_q8_0;

typedef struct block_q4_0 {
    uint16_t d;
    uint8_t qs[BLOCK_LEN / 2];
} block_q4_0;

typedef struct block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[BLOCK_K_LEN / 2];
} block_q4_k;

typedef struct block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[BLOCK_K_LEN / 8];
    uint8_t qs[BLOCK_K_LEN / 2];
} block_q5_k;

typedef struct block_q6_k {
    uint8_t ql[BLOCK_K_LEN / 2];
    uint8_t qh[BLOCK_K_LEN / 4];
    int8_t scales[BLOCK_K_LEN / 16];
    uint16_t d;
} block_q6_k;

_Static_assert(sizeof(block_q8_0) == 34 && sizeof(block_q4_0) == 18, "no padding");
_Static_assert(sizeof(block_q4_k) == 144 && sizeof(block_q5_k) == 176 && sizeof(block_q6_k) == 210,
               "no padding");

/* The 6-bit numbers of group g of eight: of the first four groups in the low bits of a byte each,
 * of the last four as a nibble each, with their upper two bits above the first four. */
static inline void block_k_scale(const uint8_t scales[12], int g, int *sc, int *m) {
    if (g < 4) {
        *sc = scales[g] & 63;
        *m = scales[g + 4] & 63;
    } else {
        *sc = (scales[g + 4] & 15) | (scales[g - 4] >> 6) << 4;
        *m = scales[g + 4] >> 4 | (scales[g] >> 6) << 4;
    }
}

#endif

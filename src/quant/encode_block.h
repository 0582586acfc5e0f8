/* SPDX-License-Identifier: Apache-2.0
 *
 * What the encoders of block types share: a block scaled to a known size, and scales rounded to
 * float16 in that scale.
 */
#ifndef QUANT_ENCODE_BLOCK_H
#define QUANT_ENCODE_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "quant/blocks.h"

/* Numbers of a block divided by 2^exponent, the largest magnitude in [1, 2); weights of at most 1.
 */
typedef struct encode_block {
    float x[BLOCK_K_LEN], w[BLOCK_K_LEN];
    int exponent;
} encode_block;

/* x, importance [n], n at most BLOCK_K_LEN; importance may be NULL. False where all numbers are so
 * small that no scale could tell them from zero: such a block is encoded as zeros. */
bool encode_block_init(encode_block *b, const float *x, const float *importance, int n);
/* The bits of scale * 2^exponent, at most the largest float16, subnormal ones rounded up; *rounded
 * is what they mean for b->x. */
uint16_t encode_block_scale(const encode_block *b, float scale, float *rounded);

/* x [BLOCK_K_LEN]; importance the same or NULL; out a block of the type, any alignment. */
void encode_block_q4_k(const float *x, const float *importance, void *out);
void encode_block_q5_k(const float *x, const float *importance, void *out);
void encode_block_q6_k(const float *x, const float *importance, void *out);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Encoding of numbers in every stored type: the inverse of dtype_decode. Block types search for the
 * scales that make the weighted squared error small, so encoding is a thousand times slower than
 * decoding; it is for files, not for activations. The bits depend on the numbers alone, not on the
 * machine.
 */
#ifndef QUANT_ENCODE_H
#define QUANT_ENCODE_H

#include <stddef.h>

#include "quant/dtype.h"

/* Encodes x [n] f32, whole blocks, to out [dtype_size(type, n)], any alignment.
 *
 *   minimises  sum over a block of importance[i] * (decoded[i] - x[i])^2
 *
 * approximately, over the scales of the block and the numbers that go with them. importance [n]
 * f32, finite and not negative, or NULL: all equal; a block whose importances are all zero counts
 * as if they were equal. DTYPE_Q8_0 takes its scale from the largest magnitude and has no use for
 * them.
 *
 * x is finite: the caller checks (dtype_find_not_finite); a NaN or an infinity gives some value of
 * the block and spoils its neighbours, no more. What lies beyond the largest number of a type
 * (65504 for f16; 65504 times the largest level for block types) becomes that number; what lies
 * below the smallest scale, 2^-24, becomes zero or the nearest multiple of it. Any thread;
 * allocates nothing. */
void quant_encode(dtype type, const float *x, const float *importance, size_t n, void *out);

#endif

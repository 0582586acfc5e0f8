/* SPDX-License-Identifier: Apache-2.0
 *
 * Least squares for a group of numbers that share a scale, or a scale and an offset: what the
 * encoders of block types are made of. Knows no layout of bits.
 *
 * Numbers come scaled to a largest magnitude near 1, weights to a largest of 1, so that no sum
 * overflows. Sums run in eight lanes that are added in a fixed order: compilers vectorise them and
 * results do not depend on how.
 */
#ifndef QUANT_FIT_H
#define QUANT_FIT_H

enum { FIT_LANES = 8, FIT_LEN_MAX = 32 };

/* The nearest integer, ties to even, held within [low, high]; low for a NaN. |value| < 2^22 rounds
 * exactly and what lies beyond is far outside of every range in use. */
static inline float fit_level(float value, float low, float high) {
    float held = value > low ? value : low;
    held = held < high ? held : high;
    return (held + 0x1.8p23f) - 0x1.8p23f;
}

/* x[i] ~ scale * q[i] with q[i] in [low, high], low < 0 < high. n is a multiple of FIT_LANES, at
 * most FIT_LEN_MAX. Returns the scale, of either sign; 0 where all x are 0. */
float fit_scale(const float *x, const float *w, int n, float low, float high);
/* sum w * (scale * q - x)^2, each q the best. */
float fit_scale_error(const float *x, const float *w, int n, float low, float high, float scale);

/* x[i] ~ scale * q[i] - offset with q[i] in [0, high], scale and offset not negative. */
typedef struct fit_line {
    float scale, offset;
} fit_line;
fit_line fit_affine(const float *x, const float *w, int n, float high);
float fit_affine_error(const float *x, const float *w, int n, float high, fit_line line);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Random numbers as a pure function: Philox4x32-10 (Salmon et al., "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011). No generator has state, so threads, batches and ranks cannot
 * desynchronise it: a draw depends on (seed, request, position, step, purpose, index) alone.
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

/* What a draw is for. Two purposes never share a number. The values are part of the results. */
typedef enum rng_purpose {
    RNG_PURPOSE_TOKEN = 1,  /* Gumbel noise on the tokens of a position; index: token */
    RNG_PURPOSE_REMASK = 2, /* the order of random remasking; index 0 */
    RNG_PURPOSE_TEST = 3,
    RNG_PURPOSE_SCORE_COUNT = 4, /* how many positions of an answer are masked; index: block */
    RNG_PURPOSE_SCORE_MASK = 5,  /* which of them; position and step: sample; index 0 */
    RNG_PURPOSE_IMPORTANCE = 6   /* masks of calibration; position, step: piece; index 0 */
} rng_purpose;

typedef struct rng_key {
    uint64_t seed;
    uint64_t request;
    uint32_t position; /* from the start of the sequence */
    uint32_t step;     /* denoising forwards of the request so far */
} rng_key;

/* The ten-round Philox function. counter [4], key [2], out [4]. */
void rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Two draws at once, uniform in the open interval (0, 1), multiples of 2^-53 plus 2^-54: never 0 or
 * 1, so that their logarithms are finite. The draw of an even index is out[0]; of the next, out[1].
 * index must be even. */
void rng_uniform_pair(const rng_key *key, rng_purpose purpose, uint32_t index, double out[2]);

/* The single draw of an index. */
double rng_uniform(const rng_key *key, rng_purpose purpose, uint32_t index);

#endif

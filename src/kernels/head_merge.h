/* SPDX-License-Identifier: Apache-2.0
 *
 * What every device's output head leaves of a vocabulary tile, and how tiles become a score: the
 * host's part of the head.
 */
#ifndef KERNELS_HEAD_MERGE_H
#define KERNELS_HEAD_MERGE_H

#include "kernels/cpu.h"

typedef struct head_partial {
    tile_softmax all;  /* of every token */
    tile_best allowed; /* without the forbidden token; i_max counts from the tile's start */
    float forbidden;   /* logit of the forbidden token where this tile has it, else -inf */
    float watched[2];  /* logits of the watched tokens where this tile has them, else 0 */
    double tempered;   /* sum exp((l - allowed.max) / temperature), without the forbidden token */
    gumbel_best drawn;
} head_partial;

/* True where a draw needs the whole row of logits: it is not made tile by tile. */
bool head_is_truncated(const score_request *request);
/* 1 / temperature as float32, finite. */
float head_inverse_temperature(double temperature);
/* The score of partials [n_tiles], tiles of tile_len tokens; a truncated draw is still to come. */
void head_finish(const score_request *request, const head_partial *partials, int32_t n_tiles,
                 int32_t tile_len, int32_t vocab, score *score);
/* Makes the draw of a truncated request: l [vocab], see select_draw; score as head_finish left it.
 */
void head_draw_truncated(const cpu_kernels *kernels, const score_request *request, float *l,
                         int32_t vocab, score *score);

#endif

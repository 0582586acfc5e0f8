/* SPDX-License-Identifier: Apache-2.0
 *
 * The answer as it stands after each event: a cell for every position that may be written. What is
 * shown, streamed, or left after Ctrl-C is read from here.
 */
#ifndef PROGRAMS_CANVAS_H
#define PROGRAMS_CANVAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct canvas_cell {
    int32_t token;     /* the mask token while masked */
    float probability; /* with which it was committed */
    bool is_masked;
    bool is_edited; /* by the last step */
} canvas_cell;

/* Until canvas_deinit. Positions below count from the end of the prompt. */
typedef struct canvas {
    canvas_cell *cells; /* [n_cells] */
    int32_t *tokens;    /* [n_cells] the same tokens, in the shape that decoding wants */
    int32_t n_cells;    /* tokens to write at most */
    int32_t n_frozen;   /* cells of finished blocks */
    int32_t n_open;     /* cells up to the end of the last open block */
    int32_t n_prompt, mask_token, block_len;
    int32_t block;    /* number of the first open block, -1 before the first */
    int32_t n_blocks; /* that are open: several where the policy has a window of them */
    int32_t n_steps;  /* denoising forwards seen */
} canvas;

um_status canvas_init(canvas *c, int32_t n_prompt, int32_t n_cells, int32_t mask_token,
                      int32_t block_len, um_error *err);
void canvas_deinit(canvas *c);

/* Opens the blocks of a step before its changes; true if cells were not open yet. */
bool canvas_open_blocks(canvas *c, const um_event *event);
/* Applies a STEP or BLOCK event. */
void canvas_apply(canvas *c, const um_event *event);
/* Cells from the start without a mask. */
int32_t canvas_committed(const canvas *c);
/* Cuts the canvas to the answer. */
void canvas_finish(canvas *c, int32_t n_tokens);

#endif

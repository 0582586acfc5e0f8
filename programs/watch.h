/* SPDX-License-Identifier: Apache-2.0
 *
 * Denoising live in a terminal: masks as shades, tokens in the colour of their confidence, drawn in
 * place. Rows of finished blocks scroll away like ordinary output; only rows from the open block on
 * are drawn again, so that text longer than the screen works.
 */
#ifndef PROGRAMS_WATCH_H
#define PROGRAMS_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "programs/canvas.h"
#include "programs/terminal.h"

/* From watch_begin to watch_end. */
typedef struct watch {
    terminal *screen;              /* borrowed; can_move must be true */
    const um_tokenizer *tokenizer; /* borrowed */
    int32_t n_columns; /* a new row after every so many tokens; 0: only where text says */
    int32_t delay_ms;  /* after each frame */
    int32_t live_cell; /* where the first row begins that is still drawn again: */
    size_t live_byte;  /* its cell, and the byte in the cell's text */
    int n_drawn;       /* rows on the screen, status row included */
} watch;

/* Hides the cursor; prints the legend if has_legend. */
void watch_begin(watch *w, terminal *screen, const um_tokenizer *tokenizer, int32_t n_columns,
                 int32_t delay_ms, bool has_legend);
/* Draws the canvas and waits. UM_IO if the terminal is gone. */
um_status watch_draw(watch *w, const canvas *c, um_error *err);
/* Draws the last state without status row, brings the cursor back. Must follow watch_begin. */
um_status watch_end(watch *w, const canvas *c, um_error *err);

#endif

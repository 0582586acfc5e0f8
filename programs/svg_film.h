/* SPDX-License-Identifier: Apache-2.0
 *
 * How one answer came into being, as an animated picture: a self-contained SVG without script,
 * which runs in a browser, in a README and in slides, and shows the finished answer where nothing
 * moves. Knows cells and forwards, not models.
 */
#ifndef PROGRAMS_SVG_FILM_H
#define PROGRAMS_SVG_FILM_H

#include <stdio.h>

#include "programs/canvas.h"

/* What a forward has put into a cell. */
typedef struct svg_change {
    int32_t cell, token, step;
    float probability;
    bool is_edit;
} svg_change;

/* Open between svg_film_open and svg_film_close. */
typedef struct svg_film {
    FILE *file; /* NULL: no film; the other functions then do nothing */
    const char *path;
    svg_change *changes; /* [n_changes] by step */
    size_t n_changes, capacity;
    int32_t *opened; /* [n_opened] the step in which a cell was first part of an open block */
    size_t n_opened, opened_capacity;
    int32_t n_steps;
    bool is_written;
} svg_film;

um_status svg_film_open(svg_film *film, const char *path, um_error *err);
/* Keeps a UM_EVENT_STEP. */
um_status svg_film_add(svg_film *film, const um_event *event, int32_t n_prompt, um_error *err);
/* Writes the film of a finished canvas. n_columns: cells a row, or 0: rows as the text breaks. */
um_status svg_film_write(svg_film *film, const um_tokenizer *tokenizer, const canvas *c,
                         int32_t n_columns, um_error *err);
/* Closes; a film that was not written leaves no file. */
um_status svg_film_close(svg_film *film, um_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * What is at the other end of a stream: a terminal, its size, whether it has colours and can move
 * its cursor; and how wide text is on it. Knows nothing of models.
 */
#ifndef PROGRAMS_TERMINAL_H
#define PROGRAMS_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct terminal {
    FILE *file; /* borrowed */
    bool is_terminal;
    bool can_move;   /* understands cursor sequences: a terminal that is not "dumb" */
    bool has_colour; /* can_move, and NO_COLOR is not set */
    int n_columns, n_rows;
} terminal;

void terminal_init(terminal *t, FILE *file);
/* Asks for the size again; it may have changed. */
void terminal_measure(terminal *t);

/* One character of UTF-8: the bytes it takes (at least 1 where n_bytes is) and the columns it
 * fills. Control characters and damaged bytes have width -1. */
size_t terminal_next_char(const char *text, size_t n_bytes, int *n_columns);

/* Where text stops being UTF-8, or n_bytes. */
size_t terminal_invalid_utf8(const char *text, size_t n_bytes);

/* Writes text. On a terminal, control characters other than newline and tab are left out: what a
 * model writes must not steer the terminal. */
void terminal_write(const terminal *t, const char *text, size_t n_bytes);

#endif

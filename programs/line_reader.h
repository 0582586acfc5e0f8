/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines from the user: with line editing and a history that is kept, where standard input and
 * standard error are a terminal; as plain lines otherwise.
 */
#ifndef PROGRAMS_LINE_READER_H
#define PROGRAMS_LINE_READER_H

#include <stdbool.h>

#include "base/status.h"

typedef enum line_reader_result {
    LINE_READER_LINE,
    LINE_READER_END,         /* Ctrl-D, or the end of the input */
    LINE_READER_INTERRUPTED, /* Ctrl-C */
    LINE_READER_FAILED
} line_reader_result;

typedef struct line_reader line_reader;

/* *reader is the caller's, to be closed. */
um_status line_reader_open(line_reader **reader, um_error *err);
void line_reader_close(line_reader *reader); /* accepts NULL */
bool line_reader_is_interactive(const line_reader *reader);
/* *line is without its newline, valid until the next call. */
line_reader_result line_reader_next(line_reader *reader, const char **line, um_error *err);

#endif

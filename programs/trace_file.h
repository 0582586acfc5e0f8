/* SPDX-License-Identifier: Apache-2.0
 *
 * The file of --trace: one JSON object a line for each denoising forward, written as it happens.
 */
#ifndef PROGRAMS_TRACE_FILE_H
#define PROGRAMS_TRACE_FILE_H

#include <stdio.h>

#include "base/status.h"

/* Open between trace_file_open and trace_file_close. */
typedef struct trace_file {
    FILE *file; /* NULL: no trace is written; the other functions then do nothing */
    const char *path;
} trace_file;

um_status trace_file_open(trace_file *trace, const char *path, um_error *err);
/* Writes the line of a UM_EVENT_STEP. */
um_status trace_file_write(trace_file *trace, const um_event *event, um_error *err);
/* Writes what is buffered, and closes. A full disk shows here at the latest. */
um_status trace_file_close(trace_file *trace, um_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes to the user as one sentence: errors, and the exit code that belongs to them.
 */
#ifndef PROGRAMS_REPORT_H
#define PROGRAMS_REPORT_H

#include "base/status.h"

/* The exit codes of the program. */
enum { REPORT_EXIT_DONE = 0, REPORT_EXIT_FAULT = 1, REPORT_EXIT_USAGE = 2 };

/* Prints "unmask COMMAND: sentence (file, byte n)" to standard error and returns the exit code:
 * 2 for UM_INVALID, 1 for all else. command may be NULL. An error without a sentence is silent: it
 * was told, or, as with a closed pipe, nobody wants to hear it. */
int report_error(const char *command, const um_error *err);

/* An error of the system about a file: "FILE: cannot write: No space left on device". */
um_status report_system(um_error *err, const char *file, const char *what, int error_number);

/* UM_IO if standard output took less than it was given. Without a sentence for a closed pipe. */
um_status report_flush_output(um_error *err);

#endif

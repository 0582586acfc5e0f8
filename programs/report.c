/* SPDX-License-Identifier: Apache-2.0
 *
 * Errors as sentences. What comes from files and arguments may hold anything, so control characters
 * never reach the terminal from here.
 */
#include "programs/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void print_clean(const char *text) {
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        fputc(byte < 0x20 || byte == 0x7f ? '?' : byte, stderr);
    }
}

int report_error(const char *command, const um_error *err) {
    int exit_code = err->status == UM_INVALID ? REPORT_EXIT_USAGE : REPORT_EXIT_FAULT;
    if (!err->message[0]) return exit_code;
    fputs("unmask", stderr);
    if (command) fprintf(stderr, " %s", command);
    fputs(": ", stderr);
    print_clean(err->message);
    bool has_where = err->where[0] && !strstr(err->message, err->where);
    bool has_byte = err->byte_pos >= 0;
    if (has_where || has_byte) {
        fputs(" (", stderr);
        if (has_where) print_clean(err->where);
        if (has_where && has_byte) fputs(", ", stderr);
        if (has_byte) fprintf(stderr, "byte %" PRId64, err->byte_pos);
        fputc(')', stderr);
    }
    fputc('\n', stderr);
    if (exit_code == REPORT_EXIT_USAGE)
        fprintf(stderr, "Try \"unmask %s%s--help\".\n", command ? command : "", command ? " " : "");
    return exit_code;
}

um_status report_system(um_error *err, const char *file, const char *what, int error_number) {
    um_status status = error_number == ENOENT ? UM_NOT_FOUND : UM_IO;
    return um_error_set(err, status, "%s: %s: %s", file, what, strerror(error_number));
}

um_status report_flush_output(um_error *err) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return UM_OK;
    int error_number = errno;
    if (error_number == EPIPE) {
        um_error_set(err, UM_IO, "%s", "");
        return UM_IO;
    }
    return report_system(err, "standard output", "cannot write", error_number ? error_number : EIO);
}

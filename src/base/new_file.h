/* SPDX-License-Identifier: Apache-2.0
 *
 * A file that appears under its name when it is whole, or not at all.
 */
#ifndef BASE_NEW_FILE_H
#define BASE_NEW_FILE_H

#include <stdio.h>

#include "base/status.h"

/* Zero it before new_file_create. */
typedef struct new_file {
    char *path;
    char *temporary; /* NULL: path is written to directly, or the file has its name */
    FILE *file;      /* NULL once closed */
} new_file;

/* Creates a neighbour of path to write to, so that a place that cannot be written to is known
 * before the work. A path that is no regular file (a pipe) is written to directly. */
um_status new_file_create(new_file *f, const char *path, um_error *err);
um_status new_file_write(new_file *f, const void *data, size_t n_bytes, um_error *err);
/* Closes the file, which has not yet its name. */
um_status new_file_close(new_file *f, um_error *err);
/* Closes it unless it is closed, and gives it its name. */
um_status new_file_finish(new_file *f, um_error *err);
/* Removes what was written unless new_file_finish has succeeded. */
void new_file_discard(new_file *f);

#endif

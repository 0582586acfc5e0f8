/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes one float32 matrix as a safetensors file. The file appears under its name when it is
 * whole, or not at all.
 */
#ifndef PROGRAMS_TENSOR_FILE_H
#define PROGRAMS_TENSOR_FILE_H

#include <stddef.h>

#include "base/status.h"

/* values: [n_rows, n_columns] f32. A path that is no regular file (a pipe, /dev/stdout) is written
 * to directly. UM_CANCELLED after Ctrl-C. */
um_status tensor_file_write(const char *path, const char *name, const float *values, size_t n_rows,
                            size_t n_columns, um_error *err);

#endif

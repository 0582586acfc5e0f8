/* SPDX-License-Identifier: Apache-2.0
 *
 * A GGUF model on disk: one file, or the parts that a split model lies in
 * ("NAME-00001-of-00003.gguf"), mapped and with their headers read. Knows the keys of a split and
 * no others.
 */
#ifndef FORMATS_GGUF_FILES_H
#define FORMATS_GGUF_FILES_H

#include "base/file_map.h"
#include "formats/gguf.h"

typedef struct gguf_file {
    char *path;
    file_map map;
    gguf header;
} gguf_file;

/* [n]; the first one has the metadata. Freed with gguf_files_close. */
typedef struct gguf_files {
    gguf_file *items;
    size_t n;
} gguf_files;

/* Opens the file at path, and with the first part of a split model all others. UM_INVALID for a
 * later part; UM_NOT_FOUND names a part that is missing. */
um_status gguf_files_open(const char *path, gguf_files *files, um_error *err);
/* The file at path alone, which must be a first part: for metadata. */
um_status gguf_files_open_first(const char *path, gguf_files *files, um_error *err);
void gguf_files_close(gguf_files *files); /* accepts all-zero files */

#endif

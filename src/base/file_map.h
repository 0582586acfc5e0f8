/* SPDX-License-Identifier: Apache-2.0
 *
 * A file mapped read-only, or a small one read whole. Knows no format.
 */
#ifndef BASE_FILE_MAP_H
#define BASE_FILE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Open until file_map_close. `data` is page-aligned, or NULL for an empty file. */
typedef struct file_map {
    const unsigned char *data;
    size_t n_bytes;
} file_map;

/* Maps a regular file. UM_NOT_FOUND or UM_IO with the path in err->where. */
um_status file_map_open(const char *path, file_map *map, um_error *err);
void file_map_close(file_map *map); /* accepts a map that never opened (all zero) */

/* Reads a whole file of at most limit_bytes into memory the caller frees with memory_free; a zero
 * follows the last byte. A file that is longer is refused with UM_FORMAT. */
um_status file_read(const char *path, size_t limit_bytes, char **text, size_t *n_bytes,
                    um_error *err);

/* "directory/name", the caller's to free with memory_free; NULL when memory runs out. */
char *file_path_join(const char *directory, const char *name);
/* 1 if the path names an existing regular file. */
int file_exists(const char *path);

#endif

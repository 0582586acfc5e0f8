/* SPDX-License-Identifier: Apache-2.0
 *
 * Directories that a test fills with files and removes. Every failure fails the test.
 */
#ifndef SUPPORT_TEMP_DIR_H
#define SUPPORT_TEMP_DIR_H

#include <stddef.h>

typedef struct temp_dir {
    char path[256];
} temp_dir;

/* Makes a new directory under TMPDIR, or /tmp. */
void temp_dir_create(temp_dir *dir);
/* Removes it with all its files. */
void temp_dir_destroy(temp_dir *dir);

void temp_dir_write(const temp_dir *dir, const char *name, const void *bytes, size_t n_bytes);
void temp_dir_write_text(const temp_dir *dir, const char *name, const char *text);
/* A safetensors file of this header and n_data bytes that count 0, 1, 2, ... */
void temp_dir_write_safetensors(const temp_dir *dir, const char *name, const char *header,
                                size_t n_data);
/* Copies a file; `name` is the new one. */
void temp_dir_copy(const temp_dir *dir, const char *name, const char *from);
void temp_dir_delete(const temp_dir *dir, const char *name);

/* The bytes of a safetensors file; the caller frees them. */
unsigned char *safetensors_bytes(const char *header, size_t n_header, size_t n_data,
                                 size_t *n_bytes);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Temporary directories over mkdtemp; they are flat.
 */
#include "support/temp_dir.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

void temp_dir_create(temp_dir *dir) {
    const char *root = getenv("TMPDIR");
    snprintf(dir->path, sizeof dir->path, "%s/unmask-test-XXXXXX", root && root[0] ? root : "/tmp");
    if (!mkdtemp(dir->path)) fail_msg("cannot make %s", dir->path);
}

static void full_path(const temp_dir *dir, const char *name, char out[1024]) {
    snprintf(out, 1024, "%s/%s", dir->path, name);
}

void temp_dir_delete(const temp_dir *dir, const char *name) {
    char path[1024];
    full_path(dir, name, path);
    if (remove(path) != 0) fail_msg("cannot remove %s", path);
}

void temp_dir_destroy(temp_dir *dir) {
    DIR *listing = opendir(dir->path);
    if (!listing) return;
    for (struct dirent *entry; (entry = readdir(listing));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            temp_dir_delete(dir, entry->d_name);
    closedir(listing);
    rmdir(dir->path);
}

void temp_dir_write(const temp_dir *dir, const char *name, const void *bytes, size_t n_bytes) {
    char path[1024];
    full_path(dir, name, path);
    FILE *file = fopen(path, "wb");
    if (!file) fail_msg("cannot write %s", path);
    size_t n = n_bytes ? fwrite(bytes, 1, n_bytes, file) : 0;
    if (fclose(file) != 0 || n != n_bytes) fail_msg("cannot write %s", path);
}

void temp_dir_write_text(const temp_dir *dir, const char *name, const char *text) {
    temp_dir_write(dir, name, text, strlen(text));
}

unsigned char *safetensors_bytes(const char *header, size_t n_header, size_t n_data,
                                 size_t *n_bytes) {
    *n_bytes = 8 + n_header + n_data;
    unsigned char *bytes = malloc(*n_bytes);
    if (!bytes) fail_msg("no memory");
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)n_header >> (8 * i));
    memcpy(bytes + 8, header, n_header);
    for (size_t i = 0; i < n_data; i++) bytes[8 + n_header + i] = (unsigned char)i;
    return bytes;
}

void temp_dir_write_safetensors(const temp_dir *dir, const char *name, const char *header,
                                size_t n_data) {
    size_t n_bytes;
    unsigned char *bytes = safetensors_bytes(header, strlen(header), n_data, &n_bytes);
    temp_dir_write(dir, name, bytes, n_bytes);
    free(bytes);
}

void temp_dir_copy(const temp_dir *dir, const char *name, const char *from) {
    FILE *file = fopen(from, "rb");
    if (!file) fail_msg("cannot read %s", from);
    fseek(file, 0, SEEK_END);
    long n = ftell(file);
    rewind(file);
    char *bytes = malloc(n > 0 ? (size_t)n : 1);
    if (!bytes || fread(bytes, 1, (size_t)n, file) != (size_t)n) fail_msg("cannot read %s", from);
    fclose(file);
    temp_dir_write(dir, name, bytes, (size_t)n);
    free(bytes);
}

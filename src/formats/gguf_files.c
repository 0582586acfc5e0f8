/* SPDX-License-Identifier: Apache-2.0
 *
 * The name of a part says which it is, and so do its keys split.no and split.count: both must
 * agree, so that parts of different models in one directory are not taken for one.
 */
#include "formats/gguf_files.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum { PARTS_MAX = 9999, SUFFIX_BYTES = 32 };

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Takes path. */
static um_status open_take(gguf_file *file, char *path, um_error *err) {
    memset(file, 0, sizeof *file);
    file->path = path;
    if (!path) FAIL(UM_NO_MEMORY, err, "no memory for a path");
    TRY(file_map_open(path, &file->map, err));
    return gguf_parse(file->map.data, file->map.n_bytes, path, &file->header, err);
}

/* An integer of the file in 0..high, or the fallback where the key is absent. */
static um_status read_int(const gguf_file *file, const char *key, int64_t high, int64_t fallback,
                          int64_t *number, um_error *err) {
    char found[64];
    const gguf_value *value = gguf_find(&file->header, key);
    *number = fallback;
    if (!value) return UM_OK;
    if (gguf_value_int(value, number) && *number >= 0 && *number <= high) return UM_OK;
    um_error_set(err, UM_FORMAT, "%s: \"%s\": expected an integer from 0 to %" PRId64 ", found %s",
                 last_part(file->path), key, high, gguf_describe(value, found));
    um_error_at(err, file->path, -1);
    return UM_FORMAT;
}

/* Reads how many parts there are, and checks that this is part i_part of them. */
static um_status check_part(const gguf_file *file, int64_t i_part, int64_t *n_parts,
                            um_error *err) {
    int64_t no;
    TRY(read_int(file, "split.count", PARTS_MAX, 1, n_parts, err));
    TRY(read_int(file, "split.no", PARTS_MAX, 0, &no, err));
    if (*n_parts == 0) *n_parts = 1;
    if (no == i_part) return UM_OK;
    um_status status =
        i_part == 0
            ? um_error_set(err, UM_INVALID,
                           "%s is part %" PRId64 " of %" PRId64
                           " of a split model; name its first file",
                           last_part(file->path), no + 1, *n_parts)
            : um_error_set(err, UM_FORMAT, "%s: \"split.no\": expected %" PRId64 ", found %" PRId64,
                           last_part(file->path), i_part, no);
    um_error_at(err, file->path, -1);
    return status;
}

/* "-00002-of-00003.gguf" */
static void part_suffix(char suffix[SUFFIX_BYTES], int64_t i_part, int64_t n_parts) {
    snprintf(suffix, SUFFIX_BYTES, "-%05d-of-%05d.gguf", (int)i_part + 1, (int)n_parts);
}

static um_status open_part(gguf_files *files, size_t n_stem, int64_t i_part, int64_t n_parts,
                           um_error *err) {
    char suffix[SUFFIX_BYTES];
    int64_t n_told;
    part_suffix(suffix, i_part, n_parts);
    size_t n_suffix = strlen(suffix);
    char *path = memory_alloc(n_stem + n_suffix + 1);
    if (path) {
        memcpy(path, files->items[0].path, n_stem);
        memcpy(path + n_stem, suffix, n_suffix + 1);
    }
    gguf_file *file = &files->items[files->n++];
    TRY(open_take(file, path, err));
    TRY(check_part(file, i_part, &n_told, err));
    if (n_told == n_parts) return UM_OK;
    um_error_set(err, UM_FORMAT, "%s: \"split.count\": expected %" PRId64 ", found %" PRId64,
                 last_part(path), n_parts, n_told);
    um_error_at(err, path, -1);
    return UM_FORMAT;
}

static um_status open_others(gguf_files *files, int64_t n_parts, um_error *err) {
    char suffix[SUFFIX_BYTES];
    const char *path = files->items[0].path;
    part_suffix(suffix, 0, n_parts);
    size_t n_path = strlen(path), n_suffix = strlen(suffix);
    if (n_path < n_suffix || strcmp(path + n_path - n_suffix, suffix) != 0) {
        um_error_set(err, UM_FORMAT,
                     "%s is the first of %" PRId64 " files: expected a name that ends in %s",
                     last_part(path), n_parts, suffix);
        um_error_at(err, path, -1);
        return UM_FORMAT;
    }
    gguf_file *items = memory_realloc_array(files->items, (size_t)n_parts, sizeof *files->items);
    if (!items) FAIL(UM_NO_MEMORY, err, "no memory for %" PRId64 " files", n_parts);
    files->items = items;
    /* Parsed headers point to the files' paths and maps, which did not move. */
    for (int64_t i = 1; i < n_parts; i++) TRY(open_part(files, n_path - n_suffix, i, n_parts, err));
    int64_t n_tensors = 0, n_told;
    for (size_t i = 0; i < files->n; i++) n_tensors += (int64_t)items[i].header.n_tensors;
    TRY(read_int(&items[0], "split.tensors.count", INT64_MAX, n_tensors, &n_told, err));
    if (n_told == n_tensors) return UM_OK;
    um_error_set(err, UM_FORMAT,
                 "%s: \"split.tensors.count\" is %" PRId64 ", but the %" PRId64
                 " files hold %" PRId64 " tensors",
                 last_part(items[0].path), n_told, n_parts, n_tensors);
    um_error_at(err, items[0].path, -1);
    return UM_FORMAT;
}

static um_status open_files(const char *path, bool has_others, gguf_files *files, um_error *err) {
    int64_t n_parts = 1;
    memset(files, 0, sizeof *files);
    files->items = memory_alloc_array(1, sizeof *files->items);
    if (!files->items) FAIL(UM_NO_MEMORY, err, "no memory for a file");
    files->n = 1;
    um_status status;
    TRY_GOTO(open_take(&files->items[0], memory_copy_string(path, strlen(path)), err), cleanup);
    TRY_GOTO(check_part(&files->items[0], 0, &n_parts, err), cleanup);
    if (n_parts > 1 && has_others) TRY_GOTO(open_others(files, n_parts, err), cleanup);
    return UM_OK;
cleanup:
    gguf_files_close(files);
    return status;
}

um_status gguf_files_open(const char *path, gguf_files *files, um_error *err) {
    return open_files(path, true, files, err);
}

um_status gguf_files_open_first(const char *path, gguf_files *files, um_error *err) {
    return open_files(path, false, files, err);
}

void gguf_files_close(gguf_files *files) {
    for (size_t i = 0; i < files->n; i++) {
        gguf_deinit(&files->items[i].header);
        file_map_close(&files->items[i].map);
        memory_free(files->items[i].path);
    }
    memory_free(files->items);
    memset(files, 0, sizeof *files);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The catalog is one array sorted by name over any number of mapped files. Every shard that the
 * index names is read in full, and the index is then checked against what was found. A tensor that
 * is in a shard but not in the index is listed like the others: transformers loads whole shards,
 * too, and uses the index only to find them. A name that occurs twice is damage in any case.
 */
#include "formats/tensor_catalog.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "formats/gguf_files.h"
#include "formats/json_text.h"
#include "formats/safetensors.h"

static const char index_name[] = "model.safetensors.index.json";
static const char single_name[] = "model.safetensors";

/* 100,000 tensors with long names take 10 MB. */
enum { INDEX_BYTES_MAX = 64 << 20 };

typedef struct shard {
    char *path;
    file_map map;
    safetensors list;
} shard;

struct tensor_catalog {
    tensor *tensors; /* [n_tensors], by name; the strings belong to the shards */
    size_t n_tensors;
    shard *shards; /* [n_shards] */
    size_t n_shards, shards_capacity;
    gguf_files parts; /* of a GGUF model, instead of shards */
};

/* One line of the index's weight_map; borrowed from its JSON. */
typedef struct index_entry {
    const char *name, *file;
} index_entry;

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static um_status open_shard(tensor_catalog *catalog, const char *path, bool any_type,
                            um_error *err) {
    if (memory_grow(&catalog->shards, &catalog->shards_capacity, catalog->n_shards,
                    sizeof *catalog->shards) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for shard %zu", catalog->n_shards + 1);
    shard *s = &catalog->shards[catalog->n_shards];
    memset(s, 0, sizeof *s);
    s->path = memory_copy_string(path, strlen(path));
    if (!s->path) FAIL(UM_NO_MEMORY, err, "no memory for the path %s", path);
    catalog->n_shards++;
    TRY(file_map_open(s->path, &s->map, err));
    return safetensors_parse(s->map.data, s->map.n_bytes, s->path, any_type, &s->list, err);
}

static int compare_names(const void *left, const void *right) {
    const tensor *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static void add_tensors(tensor_catalog *catalog, const tensor *tensors, size_t n) {
    for (size_t i = 0; i < n; i++) catalog->tensors[catalog->n_tensors++] = tensors[i];
}

/* Gathers the shards' or parts' tensors into one sorted array. */
static um_status sort_tensors(tensor_catalog *catalog, um_error *err) {
    char excerpt[JSON_TEXT_EXCERPT_BYTES];
    size_t n_tensors = 0;
    for (size_t i = 0; i < catalog->n_shards; i++) n_tensors += catalog->shards[i].list.n_tensors;
    for (size_t i = 0; i < catalog->parts.n; i++)
        n_tensors += catalog->parts.items[i].header.n_tensors;
    catalog->tensors = memory_alloc_array(n_tensors, sizeof *catalog->tensors);
    if (!catalog->tensors) FAIL(UM_NO_MEMORY, err, "no memory for %zu tensors", n_tensors);
    for (size_t i = 0; i < catalog->n_shards; i++)
        add_tensors(catalog, catalog->shards[i].list.tensors, catalog->shards[i].list.n_tensors);
    for (size_t i = 0; i < catalog->parts.n; i++)
        add_tensors(catalog, catalog->parts.items[i].header.tensors,
                    catalog->parts.items[i].header.n_tensors);
    qsort(catalog->tensors, n_tensors, sizeof *catalog->tensors, compare_names);
    for (size_t i = 1; i < n_tensors; i++) {
        const tensor *a = &catalog->tensors[i - 1], *b = &catalog->tensors[i];
        if (strcmp(a->name, b->name) != 0) continue;
        um_error_set(err, UM_FORMAT, "tensor \"%s\": expected in one file, found in %s and %s",
                     json_text_excerpt(a->name, excerpt), base_name(a->file), base_name(b->file));
        um_error_at(err, b->file, -1);
        return UM_FORMAT;
    }
    return UM_OK;
}

/* A shard is a plain name within the directory; its file may be a link to elsewhere, as in the
 * hub's cache. */
static bool is_plain_name(const char *file) {
    return file[0] && !strchr(file, '/') && strcmp(file, ".") != 0 && strcmp(file, "..") != 0;
}

static int compare_entries(const void *left, const void *right) {
    const index_entry *a = left, *b = right;
    int order = strcmp(a->file, b->file);
    return order ? order : strcmp(a->name, b->name);
}

/* Fills entries [n], sorted by file. */
static um_status list_index(json_t *weight_map, index_entry *entries, um_error *err) {
    char excerpt[JSON_TEXT_EXCERPT_BYTES], found[JSON_TEXT_EXCERPT_BYTES];
    size_t n = 0;
    const char *name;
    json_t *value;
    json_object_foreach(weight_map, name, value) {
        const char *file = json_string_value(value);
        if (!file || !is_plain_name(file))
            FAIL(
                UM_FORMAT, err,
                "%s: tensor \"%s\": expected the name of a file in the model's directory, found %s",
                index_name, json_text_excerpt(name, excerpt), json_text_describe(value, found));
        entries[n++] = (index_entry){.name = name, .file = file};
    }
    qsort(entries, n, sizeof *entries, compare_entries);
    return UM_OK;
}

static um_status open_listed_shard(tensor_catalog *catalog, const char *directory,
                                   const index_entry *entry, um_error *err) {
    char name[JSON_TEXT_EXCERPT_BYTES], file[JSON_TEXT_EXCERPT_BYTES];
    char *path = file_path_join(directory, entry->file);
    if (!path) FAIL(UM_NO_MEMORY, err, "no memory for a path");
    um_status status = open_shard(catalog, path, false, err);
    if (status == UM_NOT_FOUND) {
        um_error_set(err, status, "%s names %s (for tensor \"%s\"), but there is no such file",
                     index_name, json_text_excerpt(entry->file, file),
                     json_text_excerpt(entry->name, name));
        um_error_at(err, path, -1);
    }
    memory_free(path);
    return status;
}

/* The shards may hold more than the index says, never less or elsewhere. */
static um_status check_index(const tensor_catalog *catalog, const index_entry *entries, size_t n,
                             um_error *err) {
    char name[JSON_TEXT_EXCERPT_BYTES], file[JSON_TEXT_EXCERPT_BYTES];
    for (size_t i = 0; i < n; i++) {
        const tensor *t = tensor_catalog_find(catalog, entries[i].name);
        if (t && strcmp(base_name(t->file), entries[i].file) == 0) continue;
        FAIL(UM_FORMAT, err, "%s: tensor \"%s\": expected in %s, found in %s", index_name,
             json_text_excerpt(entries[i].name, name), json_text_excerpt(entries[i].file, file),
             t ? base_name(t->file) : "no shard");
    }
    return UM_OK;
}

/* total_size is written in several meanings (with or without tied weights), and as a real by some
 * tools: only a value that is no size at all is refused. */
static um_status check_index_metadata(const json_t *index, um_error *err) {
    char found[JSON_TEXT_EXCERPT_BYTES];
    const json_t *metadata = json_object_get(index, "metadata");
    if (!metadata || json_is_null(metadata)) return UM_OK;
    if (!json_is_object(metadata))
        FAIL(UM_FORMAT, err, "%s: \"metadata\": expected an object, found %s", index_name,
             json_text_describe(metadata, found));
    const json_t *size = json_object_get(metadata, "total_size");
    if (!size || json_is_null(size)) return UM_OK;
    if (!json_is_number(size) || json_number_value(size) < 0)
        FAIL(UM_FORMAT, err, "%s: \"total_size\": expected a number of bytes, found %s", index_name,
             json_text_describe(size, found));
    return UM_OK;
}

static um_status open_index(tensor_catalog *catalog, const char *directory, um_error *err) {
    char found[JSON_TEXT_EXCERPT_BYTES];
    json_t *index = NULL;
    index_entry *entries = NULL;
    char *path = file_path_join(directory, index_name); /* for messages */
    if (!path) FAIL(UM_NO_MEMORY, err, "no memory for a path");
    um_status status;
    TRY_GOTO(json_text_open(directory, index_name, INDEX_BYTES_MAX, 0, &index, err), cleanup);
    json_t *weight_map = json_object_get(index, "weight_map");
    size_t n = json_object_size(weight_map);
    if (n == 0) {
        status = um_error_set(
            err, UM_FORMAT, "%s: \"weight_map\": expected an object of tensors, found %s",
            index_name,
            json_is_object(weight_map) ? "an empty one" : json_text_describe(weight_map, found));
        goto cleanup;
    }
    TRY_GOTO(check_index_metadata(index, err), cleanup);
    entries = memory_alloc_array(n, sizeof *entries);
    if (!entries) {
        status = um_error_set(err, UM_NO_MEMORY, "no memory for an index of %zu tensors", n);
        goto cleanup;
    }
    TRY_GOTO(list_index(weight_map, entries, err), cleanup);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(entries[i].file, entries[i - 1].file) != 0)
            TRY_GOTO(open_listed_shard(catalog, directory, &entries[i], err), cleanup);
    TRY_GOTO(sort_tensors(catalog, err), cleanup);
    TRY_GOTO(check_index(catalog, entries, n, err), cleanup);
cleanup:
    if (status != UM_OK) um_error_at(err, path, -1);
    memory_free(path);
    memory_free(entries);
    json_decref(index);
    return status;
}

/* A file in the directory that holds weights in another format; empty where there is none. */
static void find_other_format(const char *directory, char *name, size_t n_name) {
    static const char *const endings[] = {".gguf", ".safetensors", ".bin", ".bin.index.json",
                                          ".pt",   ".pth",         ".ckpt"};
    name[0] = '\0';
    DIR *listing = opendir(directory);
    if (!listing) return;
    for (struct dirent *entry; (entry = readdir(listing));) {
        size_t n = strlen(entry->d_name);
        for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
            size_t n_ending = strlen(endings[i]);
            if (n < n_ending || strcmp(entry->d_name + n - n_ending, endings[i]) != 0) continue;
            /* The one that was looked for and is no regular file; else the first by name, so that
             * the sentence does not depend on the file system. */
            bool is_wanted = strcmp(entry->d_name, single_name) == 0;
            bool is_first = !name[0] || strcmp(entry->d_name, name) < 0;
            if (is_wanted || (is_first && strcmp(name, single_name) != 0))
                snprintf(name, n_name, "%s", entry->d_name);
        }
    }
    closedir(listing);
}

static um_status say_nothing_found(const char *directory, um_error *err) {
    char other[JSON_TEXT_EXCERPT_BYTES + 256], excerpt[JSON_TEXT_EXCERPT_BYTES];
    struct stat st;
    if (stat(directory, &st) != 0) {
        um_error_set(err, UM_NOT_FOUND, "%s: there is no such directory", directory);
    } else if (!S_ISDIR(st.st_mode)) {
        um_error_set(err, UM_NOT_FOUND, "%s is a file; expected a directory with %s or %s",
                     directory, index_name, single_name);
    } else {
        find_other_format(directory, other, sizeof other);
        const char *ending = strrchr(other, '.');
        if (strcmp(other, single_name) == 0)
            um_error_set(err, UM_NOT_FOUND, "%s: %s is not a regular file", directory, other);
        else if (ending && strcmp(ending, ".safetensors") == 0)
            um_error_set(err, UM_NOT_FOUND, "%s: expected %s or %s, found %s without an index",
                         directory, index_name, single_name, json_text_excerpt(other, excerpt));
        else if (ending && strcmp(ending, ".gguf") == 0)
            um_error_set(err, UM_NOT_FOUND,
                         "%s: expected %s or %s, found %s; to run that file, name it instead of "
                         "its directory",
                         directory, index_name, single_name, json_text_excerpt(other, excerpt));
        else if (other[0])
            um_error_set(err, UM_NOT_FOUND,
                         "%s: expected %s or %s, found %s, which this version does not support",
                         directory, index_name, single_name, json_text_excerpt(other, excerpt));
        else
            um_error_set(err, UM_NOT_FOUND, "%s: expected %s or %s, found neither", directory,
                         index_name, single_name);
    }
    um_error_at(err, directory, -1);
    return UM_NOT_FOUND;
}

static um_status directory_has(const char *directory, const char *name, bool *is_there,
                               um_error *err) {
    char *path = file_path_join(directory, name);
    if (!path) FAIL(UM_NO_MEMORY, err, "no memory for a path");
    *is_there = file_exists(path);
    memory_free(path);
    return UM_OK;
}

static um_status open_single(tensor_catalog *catalog, const char *path, bool any_type,
                             um_error *err) {
    TRY(open_shard(catalog, path, any_type, err));
    return sort_tensors(catalog, err);
}

um_status tensor_catalog_open_directory(const char *directory, tensor_catalog **out,
                                        um_error *err) {
    bool has_index = false, has_single = false;
    char *path = NULL;
    *out = NULL;
    tensor_catalog *catalog = memory_calloc(1, sizeof *catalog);
    if (!catalog) FAIL(UM_NO_MEMORY, err, "no memory for a catalog of tensors");
    um_status status;
    TRY_GOTO(directory_has(directory, index_name, &has_index, err), cleanup);
    TRY_GOTO(directory_has(directory, single_name, &has_single, err), cleanup);
    if (has_index) {
        status = open_index(catalog, directory, err);
    } else if (has_single) {
        path = file_path_join(directory, single_name);
        status = path ? open_single(catalog, path, false, err)
                      : um_error_set(err, UM_NO_MEMORY, "no memory for a path");
    } else {
        status = say_nothing_found(directory, err);
    }
cleanup:
    memory_free(path);
    if (status != UM_OK)
        tensor_catalog_close(catalog);
    else
        *out = catalog;
    return status;
}

um_status tensor_catalog_open_file(const char *path, tensor_catalog **out, um_error *err) {
    *out = NULL;
    tensor_catalog *catalog = memory_calloc(1, sizeof *catalog);
    if (!catalog) FAIL(UM_NO_MEMORY, err, "no memory for a catalog of tensors");
    um_status status = open_single(catalog, path, true, err);
    if (status != UM_OK)
        tensor_catalog_close(catalog);
    else
        *out = catalog;
    return status;
}

um_status tensor_catalog_open_gguf(const char *path, tensor_catalog **out, um_error *err) {
    *out = NULL;
    tensor_catalog *catalog = memory_calloc(1, sizeof *catalog);
    if (!catalog) FAIL(UM_NO_MEMORY, err, "no memory for a catalog of tensors");
    um_status status = gguf_files_open(path, &catalog->parts, err);
    if (status == UM_OK) status = sort_tensors(catalog, err);
    if (status != UM_OK)
        tensor_catalog_close(catalog);
    else
        *out = catalog;
    return status;
}

const struct gguf *tensor_catalog_gguf(const tensor_catalog *catalog) {
    return catalog->parts.n ? &catalog->parts.items[0].header : NULL;
}

void tensor_catalog_close(tensor_catalog *catalog) {
    if (!catalog) return;
    gguf_files_close(&catalog->parts);
    for (size_t i = 0; i < catalog->n_shards; i++) {
        shard *s = &catalog->shards[i];
        safetensors_deinit(&s->list);
        file_map_close(&s->map);
        memory_free(s->path);
    }
    memory_free(catalog->shards);
    memory_free(catalog->tensors);
    memory_free(catalog);
}

int64_t tensor_catalog_count(const tensor_catalog *catalog) {
    return (int64_t)catalog->n_tensors;
}

const tensor *tensor_catalog_at(const tensor_catalog *catalog, int64_t i) {
    return i >= 0 && i < (int64_t)catalog->n_tensors ? &catalog->tensors[i] : NULL;
}

const tensor *tensor_catalog_find(const tensor_catalog *catalog, const char *name) {
    tensor wanted = {.name = name};
    return bsearch(&wanted, catalog->tensors, catalog->n_tensors, sizeof wanted, compare_names);
}

/* "[16, 256]". 4 dims of at most 20 characters always fit. */
static const char *describe_shape(const int64_t *shape, int32_t n_dims, char out[112]) {
    size_t n = 0;
    out[n++] = '[';
    for (int32_t i = 0; i < n_dims; i++)
        n += (size_t)snprintf(out + n, 112 - n, "%s%" PRId64, i ? ", " : "", shape[i]);
    snprintf(out + n, 112 - n, "]");
    return out;
}

um_status tensor_catalog_require(const tensor_catalog *catalog, const char *name, int64_t d0,
                                 int64_t d1, const tensor **found, um_error *err) {
    char expected[112], actual[112];
    const int64_t shape[2] = {d0, d1};
    int32_t n_dims = d1 ? 2 : 1;
    *found = NULL;
    describe_shape(shape, n_dims, expected);
    const tensor *t = tensor_catalog_find(catalog, name);
    if (!t) {
        um_error_set(err, UM_NOT_FOUND, "%s: expected a tensor of shape %s, found none", name,
                     expected);
        um_error_at(err, name, -1);
        return UM_NOT_FOUND;
    }
    um_status status = UM_OK;
    if (t->n_dims != n_dims || t->shape[0] != d0 || (n_dims == 2 && t->shape[1] != d1))
        status =
            um_error_set(err, UM_FORMAT, "%s: expected shape %s, found %s in %s", name, expected,
                         describe_shape(t->shape, t->n_dims, actual), base_name(t->file));
    else if (t->type == (dtype)-1)
        status = um_error_set(err, UM_UNSUPPORTED,
                              "%s: expected type F32, F16 or BF16, found another in %s", name,
                              base_name(t->file));
    if (status != UM_OK)
        um_error_at(err, t->file, -1);
    else
        *found = t;
    return status;
}

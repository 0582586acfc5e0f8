/* SPDX-License-Identifier: Apache-2.0
 *
 * The checks follow the reference implementation (huggingface/safetensors,
 * safetensors/src/tensor.rs, Metadata::validate and SafeTensors::read_metadata): a file that it
 * refuses is refused here, so that a byte of a file belongs to exactly one tensor. Nothing in the
 * header is believed before it was compared with the size of the file.
 *
 *   | u64 n, little-endian | n bytes of JSON, padded with spaces | data |
 *                                                                 ^ data_offsets count from here
 */
#include "formats/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "formats/json_text.h"

typedef struct stored_type {
    const char *name;
    size_t item_bytes;
    dtype type;
} stored_type;

#define NO_KERNEL_READS ((dtype)-1)

/* The types of the format whose items are whole bytes. */
static const stored_type stored_types[] = {
    {"F32", 4, DTYPE_F32},           {"F16", 2, DTYPE_F16},
    {"BF16", 2, DTYPE_BF16},         {"F64", 8, NO_KERNEL_READS},
    {"I64", 8, NO_KERNEL_READS},     {"I32", 4, NO_KERNEL_READS},
    {"I16", 2, NO_KERNEL_READS},     {"I8", 1, NO_KERNEL_READS},
    {"U64", 8, NO_KERNEL_READS},     {"U32", 4, NO_KERNEL_READS},
    {"U16", 2, NO_KERNEL_READS},     {"U8", 1, NO_KERNEL_READS},
    {"BOOL", 1, NO_KERNEL_READS},    {"F8_E4M3", 1, NO_KERNEL_READS},
    {"F8_E5M2", 1, NO_KERNEL_READS}, {"F8_E8M0", 1, NO_KERNEL_READS},
    {"C64", 8, NO_KERNEL_READS},
};

/* What the checks of one file share. */
typedef struct reader {
    const char *file; /* last part of the path, for messages */
    const char *path;
    const unsigned char *data; /* the data section */
    size_t n_data;
    bool any_type;
} reader;

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static um_status read_type(const reader *r, const char *label, const json_t *value,
                           const stored_type **found, um_error *err) {
    char excerpt[JSON_TEXT_EXCERPT_BYTES];
    const char *name = json_string_value(value);
    if (!name)
        FAIL(UM_FORMAT, err, "%s: %s: \"dtype\": expected a string, found %s", r->file, label,
             json_text_describe(value, excerpt));
    for (size_t i = 0; i < sizeof stored_types / sizeof *stored_types; i++) {
        const stored_type *type = &stored_types[i];
        if (strcmp(name, type->name) != 0) continue;
        if (type->type == NO_KERNEL_READS && !r->any_type)
            FAIL(UM_UNSUPPORTED, err, "%s: %s: expected type F32, F16 or BF16, found %s", r->file,
                 label, name);
        *found = type;
        return UM_OK;
    }
    FAIL(UM_UNSUPPORTED, err, "%s: %s: type %s is not known to this version", r->file, label,
         json_text_describe(value, excerpt));
}

/* Fills shape, n_dims, n_items and n_bytes. */
static um_status read_shape(const reader *r, const char *label, const json_t *value,
                            size_t item_bytes, tensor *t, um_error *err) {
    char excerpt[JSON_TEXT_EXCERPT_BYTES];
    if (!json_is_array(value))
        FAIL(UM_FORMAT, err, "%s: %s: \"shape\": expected a list, found %s", r->file, label,
             json_text_describe(value, excerpt));
    size_t n_dims = json_array_size(value);
    if (n_dims > TENSOR_DIMS_MAX)
        FAIL(UM_UNSUPPORTED, err, "%s: %s: expected at most %d dimensions, found %zu", r->file,
             label, TENSOR_DIMS_MAX, n_dims);
    t->n_dims = (int32_t)n_dims;
    t->n_items = 1;
    for (size_t i = 0; i < TENSOR_DIMS_MAX; i++) t->shape[i] = 1;
    for (size_t i = 0; i < n_dims; i++) {
        const json_t *dim = json_array_get(value, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            FAIL(UM_FORMAT, err, "%s: %s: \"shape\"[%zu]: expected an integer from 0, found %s",
                 r->file, label, i, json_text_describe(dim, excerpt));
        t->shape[i] = json_integer_value(dim);
        if (__builtin_mul_overflow(t->n_items, t->shape[i], &t->n_items))
            FAIL(UM_FORMAT, err, "%s: %s: \"shape\": more items than 64 bits can count", r->file,
                 label);
    }
    if (__builtin_mul_overflow((uint64_t)t->n_items, item_bytes, &t->n_bytes))
        FAIL(UM_FORMAT, err, "%s: %s: \"shape\": more bytes than 64 bits can count", r->file,
             label);
    return UM_OK;
}

/* Fills data; needs n_bytes. */
static um_status read_offsets(const reader *r, const char *label, const json_t *value, tensor *t,
                              um_error *err) {
    char excerpt[JSON_TEXT_EXCERPT_BYTES];
    const json_t *first = json_array_get(value, 0), *last = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !json_is_integer(first) || !json_is_integer(last))
        FAIL(UM_FORMAT, err, "%s: %s: \"data_offsets\": expected a list of 2 integers, found %s",
             r->file, label, json_text_describe(value, excerpt));
    int64_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || (uint64_t)end > r->n_data)
        FAIL(UM_FORMAT, err,
             "%s: %s: \"data_offsets\": expected a range within the %zu bytes of data, found "
             "[%" PRId64 ", %" PRId64 "]",
             r->file, label, r->n_data, begin, end);
    if ((uint64_t)(end - begin) != t->n_bytes)
        FAIL(UM_FORMAT, err,
             "%s: %s: \"data_offsets\": expected %zu bytes for its type and shape, found %" PRId64,
             r->file, label, t->n_bytes, end - begin);
    t->data = r->data + begin;
    return UM_OK;
}

static um_status read_tensor(const reader *r, const char *name, const json_t *value, tensor *t,
                             um_error *err) {
    char excerpt[JSON_TEXT_EXCERPT_BYTES], label[JSON_TEXT_EXCERPT_BYTES + 16];
    snprintf(label, sizeof label, "tensor \"%s\"", json_text_excerpt(name, excerpt));
    if (!json_is_object(value))
        FAIL(UM_FORMAT, err, "%s: %s: expected an object, found %s", r->file, label,
             json_text_describe(value, excerpt));
    const stored_type *type = NULL;
    t->name = name;
    t->file = r->path;
    TRY(read_type(r, label, json_object_get(value, "dtype"), &type, err));
    t->type = type->type;
    TRY(read_shape(r, label, json_object_get(value, "shape"), type->item_bytes, t, err));
    return read_offsets(r, label, json_object_get(value, "data_offsets"), t, err);
}

static um_status check_metadata(const reader *r, json_t *value, um_error *err) {
    char excerpt[JSON_TEXT_EXCERPT_BYTES], found[JSON_TEXT_EXCERPT_BYTES];
    if (!json_is_object(value))
        FAIL(UM_FORMAT, err, "%s: \"__metadata__\": expected an object, found %s", r->file,
             json_text_describe(value, excerpt));
    const char *key;
    json_t *text;
    json_object_foreach(value, key, text) {
        if (!json_is_string(text))
            FAIL(UM_FORMAT, err, "%s: \"__metadata__\": \"%s\": expected a string, found %s",
                 r->file, json_text_excerpt(key, excerpt), json_text_describe(text, found));
    }
    return UM_OK;
}

/* By place, empty tensors before the one that begins where they lie. */
static int compare_places(const void *left, const void *right) {
    const tensor *a = left, *b = right;
    const unsigned char *a_data = a->data, *b_data = b->data;
    if (a_data != b_data) return a_data < b_data ? -1 : 1;
    if (a->n_bytes != b->n_bytes) return a->n_bytes < b->n_bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* Each tensor must begin where the one before it ends, and the last must end with the file. */
static um_status check_places(const reader *r, const safetensors *list, um_error *err) {
    char excerpt[JSON_TEXT_EXCERPT_BYTES];
    size_t n_used = 0;
    for (size_t i = 0; i < list->n_tensors; i++) {
        const tensor *t = &list->tensors[i];
        size_t begin = (size_t)((const unsigned char *)t->data - r->data);
        if (begin != n_used)
            FAIL(UM_FORMAT, err,
                 "%s: tensor \"%s\": expected to begin at byte %zu of the data, "
                 "found %zu: %s",
                 r->file, json_text_excerpt(t->name, excerpt), n_used, begin,
                 begin < n_used ? "it overlaps another tensor" : "there is a hole before it");
        n_used = begin + t->n_bytes;
    }
    if (n_used != r->n_data)
        FAIL(UM_FORMAT, err, "%s: expected %zu bytes of data for its tensors, found %zu", r->file,
             n_used, r->n_data);
    return UM_OK;
}

/* Fills the list from the header's object; names are copied, since the JSON goes away. */
static um_status list_tensors(const reader *r, json_t *header, safetensors *list, um_error *err) {
    static const char metadata_key[] = "__metadata__";
    size_t n_names = 0, n_tensors = 0;
    const char *key;
    json_t *value;
    json_object_foreach(header, key, value) {
        if (strcmp(key, metadata_key) == 0) {
            TRY(check_metadata(r, value, err));
            continue;
        }
        n_names += strlen(key) + 1;
        n_tensors++;
    }
    list->names = memory_alloc(n_names);
    list->tensors = memory_calloc(n_tensors, sizeof *list->tensors);
    if (!list->names || !list->tensors)
        FAIL(UM_NO_MEMORY, err, "no memory for the %zu tensors of %s", n_tensors, r->file);
    char *name = list->names;
    json_object_foreach(header, key, value) {
        if (strcmp(key, metadata_key) == 0) continue;
        size_t n = strlen(key) + 1;
        memcpy(name, key, n);
        TRY(read_tensor(r, name, value, &list->tensors[list->n_tensors], err));
        list->n_tensors++;
        name += n;
    }
    qsort(list->tensors, list->n_tensors, sizeof *list->tensors, compare_places);
    return check_places(r, list, err);
}

/* Finds the JSON: *text [*n_text] within data. */
static um_status find_header(const unsigned char *data, size_t n_bytes, const char *file,
                             const char **text, size_t *n_text, um_error *err) {
    enum { LENGTH_BYTES = 8 };
    if (n_bytes < LENGTH_BYTES)
        FAIL(UM_FORMAT, err, "%s: expected at least %d bytes, found %zu", file, LENGTH_BYTES,
             n_bytes);
    uint64_t n_header = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) n_header = n_header << 8 | data[i];
    if (n_header > SAFETENSORS_HEADER_BYTES_MAX)
        FAIL(UM_FORMAT, err, "%s: expected a header of at most %d bytes, found %" PRIu64, file,
             SAFETENSORS_HEADER_BYTES_MAX, n_header);
    if (n_header > n_bytes - LENGTH_BYTES)
        FAIL(UM_FORMAT, err,
             "%s: the header has %" PRIu64 " bytes, but only %zu follow in the file", file,
             n_header, n_bytes - LENGTH_BYTES);
    if (n_header == 0 || data[LENGTH_BYTES] != '{') {
        um_error_set(err, UM_FORMAT, "%s: expected a header that begins with '{'", file);
        um_error_at(err, NULL, LENGTH_BYTES);
        return UM_FORMAT;
    }
    *text = (const char *)data + LENGTH_BYTES;
    *n_text = (size_t)n_header;
    return UM_OK;
}

um_status safetensors_parse(const unsigned char *data, size_t n_bytes, const char *path,
                            bool any_type, safetensors *list, um_error *err) {
    reader r = {.file = last_part(path), .path = path, .any_type = any_type};
    const char *text = NULL;
    size_t n_text = 0;
    json_t *header = NULL;
    um_status status;
    memset(list, 0, sizeof *list);
    TRY_GOTO(find_header(data, n_bytes, r.file, &text, &n_text, err), cleanup);
    r.data = (const unsigned char *)text + n_text;
    r.n_data = n_bytes - (size_t)(r.data - data);
    status = json_text_parse(text, n_text, r.file, 0, &header, err);
    /* The byte that is reported counts from the start of the file. */
    if (status == UM_FORMAT && err && err->byte_pos >= 0)
        err->byte_pos += text - (const char *)data;
    if (status != UM_OK) goto cleanup;
    TRY_GOTO(list_tensors(&r, header, list, err), cleanup);
cleanup:
    json_decref(header);
    if (status != UM_OK) {
        um_error_at(err, path, -1);
        safetensors_deinit(list);
    }
    return status;
}

void safetensors_deinit(safetensors *list) {
    memory_free(list->tensors);
    memory_free(list->names);
    memset(list, 0, sizeof *list);
}

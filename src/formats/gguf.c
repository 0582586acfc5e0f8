/* SPDX-License-Identifier: Apache-2.0
 *
 * One pass over the header with a cursor that knows the end of the file: a count is believed only
 * as far as the bytes behind it can hold as many items, so that a damaged file allocates nothing
 * large. Layout (docs/gguf.md of ggml-org/ggml):
 *
 *   "GGUF" | u32 version | u64 tensors | u64 values
 *   values:   string key | u32 type | value          string: u64 length, bytes
 *   tensors:  string name | u32 n_dims | u64 dims, innermost first | u32 type | u64 offset
 *   padding to the alignment | data                  array: u32 type, u64 count, items
 */
#include "formats/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "formats/json_text.h"

enum {
    NAME_BYTES_MAX = 64 * 1024, /* of a key (the format's limit) or a tensor's name */
    VALUE_BYTES_MIN = 8 + 4 + 1,
    TENSOR_BYTES_MIN = 8 + 4 + 8 + 4 + 8,
    ALIGNMENT_MAX = 1 << 20
};

/* ---- Bytes ---------------------------------------------------------------------------------- */

/* Where reading is; `file` for messages. */
typedef struct cursor {
    const unsigned char *data;
    size_t n_bytes, at;
    const char *file;
    char *names; /* room that keys and names are copied to, zero-terminated */
} cursor;

/* Damage at a byte. */
static um_status refuse_at(size_t at, um_error *err) {
    um_error_at(err, NULL, (int64_t)at);
    return UM_FORMAT;
}

/* Steps over n bytes; `what` says of what. */
static um_status take(cursor *c, uint64_t n, const char *what, const unsigned char **taken,
                      um_error *err) {
    if (n > c->n_bytes - c->at) {
        um_error_set(err, UM_FORMAT,
                     "%s: %s: expected %" PRIu64
                     " bytes at byte %zu, found the end of the file, "
                     "%zu bytes on",
                     c->file, what, n, c->at, c->n_bytes - c->at);
        return refuse_at(c->at, err);
    }
    *taken = c->data + c->at;
    c->at += (size_t)n;
    return UM_OK;
}

static um_status take_u32(cursor *c, const char *what, uint32_t *value, um_error *err) {
    const unsigned char *bytes = NULL;
    TRY(take(c, 4, what, &bytes, err));
    *value = (uint32_t)gguf_load(bytes, 4);
    return UM_OK;
}

static um_status take_u64(cursor *c, const char *what, uint64_t *value, um_error *err) {
    const unsigned char *bytes = NULL;
    TRY(take(c, 8, what, &bytes, err));
    *value = gguf_load(bytes, 8);
    return UM_OK;
}

enum { LABEL_BYTES = JSON_TEXT_EXCERPT_BYTES + 16 };

/* A key or a tensor's name: `kind` "key" or "tensor". Fills label for the messages of what follows,
 * and copies the name where there is room for it (names [n + 1] lie behind each other). */
static um_status take_name(cursor *c, const char *kind, char label[LABEL_BYTES], const char **name,
                           size_t *n_name, um_error *err) {
    char start[JSON_TEXT_EXCERPT_BYTES + 1], excerpt[JSON_TEXT_EXCERPT_BYTES];
    uint64_t n = 0;
    const unsigned char *bytes = NULL;
    size_t at = c->at;
    snprintf(label, LABEL_BYTES, "name of a %s", kind);
    TRY(take_u64(c, label, &n, err));
    if (n == 0 || n > NAME_BYTES_MAX) {
        um_error_set(err, UM_FORMAT, "%s: %s: expected 1 to %d bytes, found %" PRIu64, c->file,
                     label, NAME_BYTES_MAX, n);
        return refuse_at(at, err);
    }
    TRY(take(c, n, label, &bytes, err));
    if (memchr(bytes, 0, (size_t)n)) {
        um_error_set(err, UM_FORMAT, "%s: %s: expected text, found a zero byte", c->file, label);
        return refuse_at(at, err);
    }
    size_t n_start = n < sizeof start - 1 ? (size_t)n : sizeof start - 1;
    memcpy(start, bytes, n_start);
    start[n_start] = '\0';
    snprintf(label, LABEL_BYTES, "%s \"%s\"", kind, json_text_excerpt(start, excerpt));
    *n_name = (size_t)n;
    if (!c->names) return UM_OK;
    memcpy(c->names, bytes, (size_t)n);
    c->names[n] = '\0';
    *name = c->names;
    c->names += n + 1;
    return UM_OK;
}

/* ---- Values --------------------------------------------------------------------------------- */

static um_status take_items(cursor *c, const char *what, gguf_value *value, um_error *err) {
    size_t width = gguf_item_bytes((uint32_t)value->type), first = c->at;
    const unsigned char *bytes = NULL;
    if (value->type == GGUF_TYPE_STRING) {
        /* Each takes 8 bytes at least: the loop ends with the file, whatever the count says. */
        for (uint64_t i = 0; i < value->n_items; i++) {
            uint64_t n = 0;
            TRY(take_u64(c, what, &n, err));
            TRY(take(c, n, what, &bytes, err));
        }
    } else {
        uint64_t n;
        if (__builtin_mul_overflow(value->n_items, (uint64_t)width, &n)) n = UINT64_MAX;
        TRY(take(c, n, what, &bytes, err));
        if (value->type == GGUF_TYPE_BOOL) {
            for (uint64_t i = 0; i < n; i++) {
                if (bytes[i] <= 1) continue;
                um_error_set(err, UM_FORMAT, "%s: %s: expected a boolean of 0 or 1, found %d",
                             c->file, what, bytes[i]);
                return refuse_at(first + (size_t)i, err);
            }
        }
    }
    value->data = c->data + first;
    value->n_bytes = c->at - first;
    return UM_OK;
}

static um_status take_value(cursor *c, gguf_value *value, um_error *err) {
    char what[LABEL_BYTES];
    size_t n_key = 0;
    uint32_t type = 0;
    value->key = "";
    TRY(take_name(c, "key", what, &value->key, &n_key, err));
    size_t at = c->at;
    TRY(take_u32(c, what, &type, err));
    value->n_items = 1;
    value->is_array = type == GGUF_TYPE_ARRAY;
    if (value->is_array) {
        at = c->at;
        TRY(take_u32(c, what, &type, err));
        TRY(take_u64(c, what, &value->n_items, err));
    }
    if (type != GGUF_TYPE_STRING && gguf_item_bytes(type) == 0) {
        um_error_set(err, UM_FORMAT, "%s: %s: expected a type of value (0 to 12%s), found %" PRIu32,
                     c->file, what, value->is_array ? ", no array of arrays" : "", type);
        return refuse_at(at, err);
    }
    value->type = (gguf_type)type;
    return take_items(c, what, value, err);
}

static int compare_keys(const void *left, const void *right) {
    const gguf_value *a = left, *b = right;
    return strcmp(a->key, b->key);
}

static um_status sort_values(const cursor *c, gguf *header, um_error *err) {
    char excerpt[JSON_TEXT_EXCERPT_BYTES];
    qsort(header->values, header->n_values, sizeof *header->values, compare_keys);
    for (size_t i = 1; i < header->n_values; i++)
        if (strcmp(header->values[i - 1].key, header->values[i].key) == 0)
            FAIL(UM_FORMAT, err, "%s: key \"%s\": expected once, found twice", c->file,
                 json_text_excerpt(header->values[i].key, excerpt));
    return UM_OK;
}

/* ---- Tensors -------------------------------------------------------------------------------- */

/* Fills shape, n_dims, n_items: the file has the innermost first. */
static um_status take_shape(cursor *c, const char *what, tensor *t, um_error *err) {
    uint32_t n_dims = 0;
    size_t at = c->at;
    TRY(take_u32(c, what, &n_dims, err));
    if (n_dims < 1 || n_dims > TENSOR_DIMS_MAX) {
        um_error_set(err, UM_FORMAT, "%s: %s: expected 1 to %d dimensions, found %" PRIu32, c->file,
                     what, TENSOR_DIMS_MAX, n_dims);
        return refuse_at(at, err);
    }
    t->n_dims = (int32_t)n_dims;
    t->n_items = 1;
    for (uint32_t i = 0; i < TENSOR_DIMS_MAX; i++) t->shape[i] = 1;
    for (uint32_t i = 0; i < n_dims; i++) {
        uint64_t dim = 0;
        at = c->at;
        TRY(take_u64(c, what, &dim, err));
        if (dim < 1 || dim > INT64_MAX ||
            __builtin_mul_overflow(t->n_items, (int64_t)dim, &t->n_items)) {
            um_error_set(err, UM_FORMAT,
                         "%s: %s: expected dimensions from 1 whose product 64 bits can count, "
                         "found %" PRIu64,
                         c->file, what, dim);
            return refuse_at(at, err);
        }
        t->shape[n_dims - 1 - i] = (int64_t)dim;
    }
    return UM_OK;
}

static um_status take_type(cursor *c, const char *what, tensor *t, um_error *err) {
    uint32_t id = 0;
    size_t at = c->at;
    TRY(take_u32(c, what, &id, err));
    const char *name = gguf_tensor_type_name(id);
    t->type = gguf_tensor_type(id);
    if (t->type == (dtype)-1) {
        um_error_set(err, UM_UNSUPPORTED,
                     "%s: %s: expected type F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K or Q6_K, found "
                     "%s (%" PRIu32 ")",
                     c->file, what, name ? name : "one that is not known", id);
        um_error_at(err, NULL, (int64_t)at);
        return UM_UNSUPPORTED;
    }
    int64_t row = t->shape[t->n_dims - 1], block = (int64_t)dtype_block_len(t->type);
    if (row % block != 0)
        FAIL(UM_FORMAT, err,
             "%s: %s: expected rows of a multiple of %" PRId64
             " numbers for type %s, found %" PRId64,
             c->file, what, block, name, row);
    uint64_t n_blocks = (uint64_t)(t->n_items / block);
    if (__builtin_mul_overflow(n_blocks, dtype_block_bytes(t->type), &t->n_bytes))
        FAIL(UM_FORMAT, err, "%s: %s: more bytes than 64 bits can count", c->file, what);
    return UM_OK;
}

static um_status take_tensor(cursor *c, tensor *t, uint64_t *offset, um_error *err) {
    char what[LABEL_BYTES];
    size_t n_name = 0;
    TRY(take_name(c, "tensor", what, &t->name, &n_name, err));
    TRY(take_shape(c, what, t, err));
    TRY(take_type(c, what, t, err));
    return take_u64(c, what, offset, err);
}

static um_status find_alignment(const cursor *c, const gguf *header, uint64_t *alignment,
                                um_error *err) {
    char found[64];
    const gguf_value *value = gguf_find(header, "general.alignment");
    int64_t number;
    *alignment = GGUF_ALIGNMENT;
    if (!value) return UM_OK;
    if (!gguf_value_int(value, &number) || number < 1 || number > ALIGNMENT_MAX ||
        (number & (number - 1)) != 0)
        FAIL(UM_FORMAT, err,
             "%s: \"general.alignment\": expected a power of two up to %d, found %s", c->file,
             ALIGNMENT_MAX, gguf_describe(value, found));
    *alignment = (uint64_t)number;
    return UM_OK;
}

static int compare_places(const void *left, const void *right) {
    const tensor *const *a = left, *const *b = right;
    const unsigned char *a_data = (*a)->data, *b_data = (*b)->data;
    return a_data < b_data ? -1 : a_data > b_data;
}

/* No byte belongs to two tensors. Holes are allowed: padding, and what other writers leave. */
static um_status check_overlaps(const cursor *c, const gguf *header, um_error *err) {
    char first[JSON_TEXT_EXCERPT_BYTES], second[JSON_TEXT_EXCERPT_BYTES];
    const tensor **by_place = memory_alloc_array(header->n_tensors, sizeof *by_place);
    if (!by_place) FAIL(UM_NO_MEMORY, err, "no memory for %zu tensors", header->n_tensors);
    for (size_t i = 0; i < header->n_tensors; i++) by_place[i] = &header->tensors[i];
    qsort(by_place, header->n_tensors, sizeof *by_place, compare_places);
    um_status status = UM_OK;
    for (size_t i = 1; i < header->n_tensors && status == UM_OK; i++) {
        const tensor *a = by_place[i - 1], *b = by_place[i];
        if ((const unsigned char *)a->data + a->n_bytes <= (const unsigned char *)b->data) continue;
        status =
            um_error_set(err, UM_FORMAT, "%s: tensors \"%s\" and \"%s\" overlap", c->file,
                         json_text_excerpt(a->name, first), json_text_excerpt(b->name, second));
    }
    memory_free(by_place);
    return status;
}

/* Fills data; offsets [n_tensors] count from the first aligned byte behind the header. */
static um_status place_tensors(const cursor *c, gguf *header, const uint64_t *offsets,
                               um_error *err) {
    char excerpt[JSON_TEXT_EXCERPT_BYTES];
    uint64_t alignment = 0;
    TRY(find_alignment(c, header, &alignment, err));
    uint64_t begin = ((uint64_t)c->at + alignment - 1) / alignment * alignment;
    uint64_t n_data = c->n_bytes > begin ? (uint64_t)c->n_bytes - begin : 0;
    for (size_t i = 0; i < header->n_tensors; i++) {
        tensor *t = &header->tensors[i];
        if (offsets[i] % alignment != 0)
            FAIL(UM_FORMAT, err,
                 "%s: tensor \"%s\": expected an offset that is a multiple of %" PRIu64
                 ", found %" PRIu64,
                 c->file, json_text_excerpt(t->name, excerpt), alignment, offsets[i]);
        if (offsets[i] > n_data || t->n_bytes > n_data - offsets[i])
            FAIL(UM_FORMAT, err,
                 "%s: tensor \"%s\": expected %zu bytes within the %" PRIu64
                 " bytes of data, found an offset of %" PRIu64 "; is the file cut off?",
                 c->file, json_text_excerpt(t->name, excerpt), t->n_bytes, n_data, offsets[i]);
        t->data = c->data + begin + offsets[i];
        t->file = header->path;
    }
    return check_overlaps(c, header, err);
}

/* ---- The header ----------------------------------------------------------------------------- */

static um_status take_start(cursor *c, uint64_t *n_tensors, uint64_t *n_values, um_error *err) {
    const unsigned char *magic = NULL;
    uint32_t version = 0;
    TRY(take(c, 4, "the file's start", &magic, err));
    if (memcmp(magic, "GGUF", 4) != 0) {
        um_error_set(err, UM_FORMAT,
                     "%s: expected a GGUF file, which begins with \"GGUF\", found the bytes %02x "
                     "%02x %02x %02x",
                     c->file, magic[0], magic[1], magic[2], magic[3]);
        return refuse_at(0, err);
    }
    TRY(take_u32(c, "version", &version, err));
    if (version != 2 && version != 3)
        FAIL(UM_UNSUPPORTED, err, "%s: expected version 2 or 3 of GGUF, found %" PRIu32 "%s",
             c->file, version,
             version && (version & 0xFFFF) == 0 ? ": a big-endian file is not read" : "");
    TRY(take_u64(c, "number of tensors", n_tensors, err));
    TRY(take_u64(c, "number of keys", n_values, err));
    uint64_t n_left = (uint64_t)(c->n_bytes - c->at);
    if (*n_values > n_left / VALUE_BYTES_MIN || *n_tensors > n_left / TENSOR_BYTES_MIN)
        FAIL(UM_FORMAT, err,
             "%s: %" PRIu64 " keys and %" PRIu64 " tensors do not fit into a file of %zu bytes",
             c->file, *n_values, *n_tensors, c->n_bytes);
    return UM_OK;
}

/* Keys and names are copied, so their room is counted by a first walk, which also finds damage. */
static um_status count_names(cursor c, uint64_t n_tensors, uint64_t n_values, size_t *n_names,
                             um_error *err) {
    gguf_value value;
    *n_names = 0;
    for (uint64_t i = 0; i < n_values; i++) {
        size_t at = c.at;
        TRY(take_value(&c, &value, err));
        *n_names += (size_t)gguf_load(c.data + at, 8) + 1;
    }
    for (uint64_t i = 0; i < n_tensors; i++) {
        char what[LABEL_BYTES];
        const char *name = NULL;
        const unsigned char *bytes = NULL;
        size_t n = 0;
        uint32_t n_dims = 0;
        TRY(take_name(&c, "tensor", what, &name, &n, err));
        *n_names += n + 1;
        TRY(take_u32(&c, what, &n_dims, err));
        TRY(take(&c, (uint64_t)n_dims * 8 + 4 + 8, what, &bytes, err));
    }
    return UM_OK;
}

static um_status read_header(cursor *c, gguf *header, uint64_t **offsets, um_error *err) {
    uint64_t n_tensors = 0, n_values = 0;
    size_t n_names = 0;
    TRY(take_start(c, &n_tensors, &n_values, err));
    TRY(count_names(*c, n_tensors, n_values, &n_names, err));
    c->names = header->names = memory_alloc(n_names);
    header->values = memory_calloc((size_t)n_values, sizeof *header->values);
    header->tensors = memory_calloc((size_t)n_tensors, sizeof *header->tensors);
    *offsets = memory_alloc_array((size_t)n_tensors, sizeof **offsets);
    if (!header->names || !header->values || !header->tensors || !*offsets)
        FAIL(UM_NO_MEMORY, err, "no memory for the %" PRIu64 " tensors of %s", n_tensors, c->file);
    for (; header->n_values < n_values; header->n_values++)
        TRY(take_value(c, &header->values[header->n_values], err));
    TRY(sort_values(c, header, err));
    for (; header->n_tensors < n_tensors; header->n_tensors++)
        TRY(take_tensor(c, &header->tensors[header->n_tensors], *offsets + header->n_tensors, err));
    return place_tensors(c, header, *offsets, err);
}

um_status gguf_parse(const unsigned char *data, size_t n_bytes, const char *path, gguf *header,
                     um_error *err) {
    const char *slash = strrchr(path, '/');
    cursor c = {.data = data, .n_bytes = n_bytes, .file = slash ? slash + 1 : path};
    uint64_t *offsets = NULL;
    memset(header, 0, sizeof *header);
    header->path = path;
    um_status status = read_header(&c, header, &offsets, err);
    memory_free(offsets);
    if (status != UM_OK) {
        um_error_at(err, path, -1);
        gguf_deinit(header);
    }
    return status;
}

void gguf_deinit(gguf *header) {
    memory_free(header->values);
    memory_free(header->tensors);
    memory_free(header->names);
    memset(header, 0, sizeof *header);
}

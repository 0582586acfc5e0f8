/* SPDX-License-Identifier: Apache-2.0
 *
 * The header is gathered in memory, since it begins with its own counts and holds the offsets of
 * all tensors; it is small next to them.
 */
#include "formats/gguf_writer.h"

#include <string.h>

#include "base/memory.h"
#include "base/new_file.h"
#include "base/strbuf.h"

enum { VERSION = 3 };

struct gguf_writer {
    new_file file;
    strbuf values, tensors; /* as the header has them */
    uint64_t n_values, n_tensors;
    uint64_t data_bytes; /* of all tensors so far, each padded */
    uint64_t *sizes;     /* [n_tensors] bytes of each, not padded */
    size_t sizes_capacity;
    bool has_failed; /* no memory for sizes */
    uint64_t header_bytes;
    uint64_t i_tensor, written; /* the current tensor, and how much of it is there */
};

/* ---- The file ------------------------------------------------------------------------------- */

um_status gguf_writer_create(const char *path, gguf_writer **out, um_error *err) {
    gguf_writer *w = memory_calloc(1, sizeof *w);
    if (!w) FAIL(UM_NO_MEMORY, err, "no memory for a file's header");
    strbuf_init(&w->values);
    strbuf_init(&w->tensors);
    um_status status = new_file_create(&w->file, path, err);
    if (status != UM_OK) {
        gguf_writer_destroy(w);
        return status;
    }
    *out = w;
    return UM_OK;
}

void gguf_writer_destroy(gguf_writer *w) {
    if (!w) return;
    new_file_discard(&w->file);
    memory_free(w->sizes);
    strbuf_deinit(&w->values);
    strbuf_deinit(&w->tensors);
    memory_free(w);
}

static uint64_t padding_of(uint64_t n_bytes) {
    return (GGUF_ALIGNMENT - n_bytes % GGUF_ALIGNMENT) % GGUF_ALIGNMENT;
}

static um_status write_padding(gguf_writer *w, uint64_t n_bytes, um_error *err) {
    static const char zeros[GGUF_ALIGNMENT];
    return new_file_write(&w->file, zeros, (size_t)padding_of(n_bytes), err);
}

/* ---- Metadata ------------------------------------------------------------------------------- */

static void append_number(strbuf *to, uint64_t number, int n_bytes) {
    char bytes[8];
    for (int i = 0; i < n_bytes; i++) bytes[i] = (char)(number >> (8 * i) & 0xFF);
    strbuf_append(to, bytes, (size_t)n_bytes);
}

static void append_f32(strbuf *to, float number) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    append_number(to, bits, 4);
}

static void append_text(strbuf *to, const char *text, size_t n_bytes) {
    append_number(to, n_bytes, 8);
    strbuf_append(to, text, n_bytes);
}

static void start_value(gguf_writer *w, const char *key, gguf_type type) {
    append_text(&w->values, key, strlen(key));
    append_number(&w->values, (uint64_t)type, 4);
    w->n_values++;
}

void gguf_writer_u32(gguf_writer *w, const char *key, uint32_t number) {
    start_value(w, key, GGUF_TYPE_U32);
    append_number(&w->values, number, 4);
}

void gguf_writer_f32(gguf_writer *w, const char *key, float number) {
    start_value(w, key, GGUF_TYPE_F32);
    append_f32(&w->values, number);
}

void gguf_writer_bool(gguf_writer *w, const char *key, bool is_true) {
    start_value(w, key, GGUF_TYPE_BOOL);
    append_number(&w->values, is_true, 1);
}

void gguf_writer_string(gguf_writer *w, const char *key, const char *text, size_t n_bytes) {
    start_value(w, key, GGUF_TYPE_STRING);
    append_text(&w->values, text, n_bytes);
}

void gguf_writer_array(gguf_writer *w, const char *key, gguf_type type, uint64_t n_items) {
    start_value(w, key, GGUF_TYPE_ARRAY);
    append_number(&w->values, (uint64_t)type, 4);
    append_number(&w->values, n_items, 8);
}

void gguf_writer_item_string(gguf_writer *w, const char *text, size_t n_bytes) {
    append_text(&w->values, text, n_bytes);
}

void gguf_writer_item_i32(gguf_writer *w, int32_t number) {
    append_number(&w->values, (uint32_t)number, 4);
}

void gguf_writer_item_f32(gguf_writer *w, float number) {
    append_f32(&w->values, number);
}

void gguf_writer_value(gguf_writer *w, const gguf_value *value) {
    if (value->is_array)
        gguf_writer_array(w, value->key, value->type, value->n_items);
    else
        start_value(w, value->key, value->type);
    strbuf_append(&w->values, (const char *)value->data, value->n_bytes);
}

/* ---- Tensors -------------------------------------------------------------------------------- */

void gguf_writer_tensor(gguf_writer *w, const char *name, dtype type, int32_t n_dims,
                        const int64_t *shape) {
    uint64_t n_items = 1;
    append_text(&w->tensors, name, strlen(name));
    append_number(&w->tensors, (uint64_t)n_dims, 4);
    for (int32_t i = n_dims - 1; i >= 0; i--) {
        append_number(&w->tensors, (uint64_t)shape[i], 8);
        n_items *= (uint64_t)shape[i];
    }
    append_number(&w->tensors, gguf_tensor_type_id(type), 4);
    append_number(&w->tensors, w->data_bytes, 8);
    if (memory_grow(&w->sizes, &w->sizes_capacity, (size_t)w->n_tensors, sizeof *w->sizes) != 0) {
        w->has_failed = true;
        return;
    }
    uint64_t n_bytes = dtype_size(type, (size_t)n_items);
    w->sizes[w->n_tensors++] = n_bytes;
    w->data_bytes += n_bytes + padding_of(n_bytes);
}

um_status gguf_writer_begin(gguf_writer *w, um_error *err) {
    strbuf head;
    strbuf_init(&head);
    strbuf_append(&head, "GGUF", 4);
    append_number(&head, VERSION, 4);
    append_number(&head, w->n_tensors, 8);
    append_number(&head, w->n_values, 8);
    um_status status = UM_OK;
    if (w->has_failed || head.has_failed || w->values.has_failed || w->tensors.has_failed)
        status = um_error_set(err, UM_NO_MEMORY, "no memory for the header of %s", w->file.path);
    w->header_bytes = head.n_bytes + w->values.n_bytes + w->tensors.n_bytes;
    if (status == UM_OK) status = new_file_write(&w->file, head.data, head.n_bytes, err);
    if (status == UM_OK) status = new_file_write(&w->file, w->values.data, w->values.n_bytes, err);
    if (status == UM_OK)
        status = new_file_write(&w->file, w->tensors.data, w->tensors.n_bytes, err);
    if (status == UM_OK) status = write_padding(w, w->header_bytes, err);
    strbuf_deinit(&head);
    return status;
}

um_status gguf_writer_data(gguf_writer *w, const void *data, size_t n_bytes, um_error *err) {
    uint64_t left = w->i_tensor < w->n_tensors ? w->sizes[w->i_tensor] - w->written : 0;
    if (n_bytes > left)
        FAIL(UM_INTERNAL, err, "%zu bytes of a tensor that lacks %llu", n_bytes,
             (unsigned long long)left);
    TRY(new_file_write(&w->file, data, n_bytes, err));
    w->written += n_bytes;
    if (n_bytes < left) return UM_OK;
    w->written = 0;
    return write_padding(w, w->sizes[w->i_tensor++], err);
}

um_status gguf_writer_close(gguf_writer *w, um_error *err) {
    if (w->i_tensor < w->n_tensors)
        FAIL(UM_INTERNAL, err, "%llu tensors were written of %llu", (unsigned long long)w->i_tensor,
             (unsigned long long)w->n_tensors);
    return new_file_close(&w->file, err);
}

const char *gguf_writer_path(const gguf_writer *w) {
    return w->file.temporary;
}

um_status gguf_writer_finish(gguf_writer *w, um_error *err) {
    if (w->file.file) TRY(gguf_writer_close(w, err));
    return new_file_finish(&w->file, err);
}

int64_t gguf_writer_file_bytes(const gguf_writer *w) {
    return (int64_t)(w->header_bytes + padding_of(w->header_bytes) + w->data_bytes);
}

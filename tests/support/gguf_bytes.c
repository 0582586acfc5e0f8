/* SPDX-License-Identifier: Apache-2.0
 *
 * See gguf_bytes.h.
 */
#include "support/gguf_bytes.h"

#include <string.h>

static void append_number(strbuf *out, uint64_t number, int n_bytes) {
    for (int i = 0; i < n_bytes; i++) strbuf_append_char(out, (char)(number >> (8 * i) & 0xFF));
}

void gguf_bytes_start(strbuf *out, uint32_t version, uint64_t n_tensors, uint64_t n_values) {
    strbuf_append(out, "GGUF", 4);
    gguf_bytes_u32(out, version);
    gguf_bytes_u64(out, n_tensors);
    gguf_bytes_u64(out, n_values);
}

void gguf_bytes_u32(strbuf *out, uint32_t number) {
    append_number(out, number, 4);
}

void gguf_bytes_u64(strbuf *out, uint64_t number) {
    append_number(out, number, 8);
}

void gguf_bytes_string(strbuf *out, const char *text, size_t n_bytes) {
    gguf_bytes_u64(out, n_bytes);
    strbuf_append(out, text, n_bytes);
}

void gguf_bytes_key_u32(strbuf *out, const char *key, uint32_t number) {
    gguf_bytes_string(out, key, strlen(key));
    gguf_bytes_u32(out, 4);
    gguf_bytes_u32(out, number);
}

void gguf_bytes_key_text(strbuf *out, const char *key, const char *text, size_t n_bytes) {
    gguf_bytes_string(out, key, strlen(key));
    gguf_bytes_u32(out, 8);
    gguf_bytes_string(out, text, n_bytes);
}

void gguf_bytes_key_array(strbuf *out, const char *key, uint32_t type, uint64_t n_items) {
    gguf_bytes_string(out, key, strlen(key));
    gguf_bytes_u32(out, 9);
    gguf_bytes_u32(out, type);
    gguf_bytes_u64(out, n_items);
}

void gguf_bytes_tensor(strbuf *out, const char *name, uint32_t n_dims, const uint64_t *dims,
                       uint32_t type, uint64_t offset) {
    gguf_bytes_string(out, name, strlen(name));
    gguf_bytes_u32(out, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) gguf_bytes_u64(out, dims[i]);
    gguf_bytes_u32(out, type);
    gguf_bytes_u64(out, offset);
}

void gguf_bytes_data(strbuf *out, size_t alignment, size_t n_data) {
    while (out->n_bytes % alignment) strbuf_append_char(out, '\0');
    for (size_t i = 0; i < n_data; i++) strbuf_append_char(out, (char)(i & 0xFF));
}

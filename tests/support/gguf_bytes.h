/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF files made byte by byte, good and damaged: nothing is checked. Every failure of memory fails
 * the test.
 */
#ifndef SUPPORT_GGUF_BYTES_H
#define SUPPORT_GGUF_BYTES_H

#include <stdint.h>

#include "base/strbuf.h"

/* Appends magic, version and the two counts. */
void gguf_bytes_start(strbuf *out, uint32_t version, uint64_t n_tensors, uint64_t n_values);
void gguf_bytes_u32(strbuf *out, uint32_t number);
void gguf_bytes_u64(strbuf *out, uint64_t number);
/* Length and bytes. */
void gguf_bytes_string(strbuf *out, const char *text, size_t n_bytes);
/* A key with its value: of type u32, of type string. */
void gguf_bytes_key_u32(strbuf *out, const char *key, uint32_t number);
void gguf_bytes_key_text(strbuf *out, const char *key, const char *text, size_t n_bytes);
/* A key, array, type of the items, their number; the items follow. */
void gguf_bytes_key_array(strbuf *out, const char *key, uint32_t type, uint64_t n_items);
/* Name, dimensions as the file has them (innermost first), type, offset. */
void gguf_bytes_tensor(strbuf *out, const char *name, uint32_t n_dims, const uint64_t *dims,
                       uint32_t type, uint64_t offset);
/* Zeros up to a multiple of `alignment`, and then n_data bytes that count 0, 1, 2, ... */
void gguf_bytes_data(strbuf *out, size_t alignment, size_t n_data);

#endif

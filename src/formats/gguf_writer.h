/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes one GGUF file (version 3, little-endian): metadata, the list of tensors, then their bytes
 * one after another, so that no tensor need be in memory. The file appears under its name when it
 * is whole, or not at all. Knows no key.
 */
#ifndef FORMATS_GGUF_WRITER_H
#define FORMATS_GGUF_WRITER_H

#include "formats/gguf.h"

typedef struct gguf_writer gguf_writer;

/* Creates a neighbour of path to write to, so that a place that cannot be written to is known
 * before the work. A path that is no regular file (a pipe) is written to directly. On success
 * *writer is the caller's. */
um_status gguf_writer_create(const char *path, gguf_writer **writer, um_error *err);
/* Removes what was written unless gguf_writer_finish has succeeded. Accepts NULL. */
void gguf_writer_destroy(gguf_writer *writer);

/* Metadata, in the order of the calls; keys are the caller's to keep apart. Want of memory is told
 * by gguf_writer_begin. */
void gguf_writer_u32(gguf_writer *w, const char *key, uint32_t number);
void gguf_writer_f32(gguf_writer *w, const char *key, float number);
void gguf_writer_bool(gguf_writer *w, const char *key, bool is_true);
void gguf_writer_string(gguf_writer *w, const char *key, const char *text, size_t n_bytes);
/* An array of n_items, each of which is then given by one call of a function for its type. */
void gguf_writer_array(gguf_writer *w, const char *key, gguf_type type, uint64_t n_items);
void gguf_writer_item_string(gguf_writer *w, const char *text, size_t n_bytes);
void gguf_writer_item_i32(gguf_writer *w, int32_t number);
void gguf_writer_item_f32(gguf_writer *w, float number);
/* A value as another file has it. */
void gguf_writer_value(gguf_writer *w, const gguf_value *value);

/* A tensor, whose bytes will follow in the order of these calls. shape: outermost first. */
void gguf_writer_tensor(gguf_writer *w, const char *name, dtype type, int32_t n_dims,
                        const int64_t *shape);

/* Writes the header. Once, after all of the above. */
um_status gguf_writer_begin(gguf_writer *w, um_error *err);
/* The next bytes of the current tensor, which may be all of it or a part; not beyond its end. A
 * tensor that is complete gives way to the next one. */
um_status gguf_writer_data(gguf_writer *w, const void *data, size_t n_bytes, um_error *err);
/* Ends the data: all of it is in the file now, which has not yet its name. UM_INTERNAL where
 * tensors are not complete. */
um_status gguf_writer_close(gguf_writer *w, um_error *err);
/* Where the file lies before gguf_writer_finish; NULL where it is written to directly. */
const char *gguf_writer_path(const gguf_writer *w);
/* Closes the file unless it is closed, and gives it its name. */
um_status gguf_writer_finish(gguf_writer *w, um_error *err);
/* Bytes of the whole file; after gguf_writer_begin. */
int64_t gguf_writer_file_bytes(const gguf_writer *w);

#endif

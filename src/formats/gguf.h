/* SPDX-License-Identifier: Apache-2.0
 *
 * The header of one GGUF file (version 2 or 3, little-endian): metadata and a list of tensors.
 * Works on bytes in memory, opens no file and reads no weight: what a fuzzer needs. What the keys
 * mean, and how files make up a model, is not known here.
 */
#ifndef FORMATS_GGUF_H
#define FORMATS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "formats/tensor_catalog.h"

/* The numbers are the format's. */
typedef enum gguf_type {
    GGUF_TYPE_U8 = 0,
    GGUF_TYPE_I8 = 1,
    GGUF_TYPE_U16 = 2,
    GGUF_TYPE_I16 = 3,
    GGUF_TYPE_U32 = 4,
    GGUF_TYPE_I32 = 5,
    GGUF_TYPE_F32 = 6,
    GGUF_TYPE_BOOL = 7,
    GGUF_TYPE_STRING = 8,
    GGUF_TYPE_ARRAY = 9,
    GGUF_TYPE_U64 = 10,
    GGUF_TYPE_I64 = 11,
    GGUF_TYPE_F64 = 12
} gguf_type;
enum { GGUF_ALIGNMENT = 32 }; /* of tensor data, where "general.alignment" is absent */

/* Borrowed from the file's bytes. */
typedef struct gguf_value {
    const char *key;           /* zero-terminated; the header's own */
    gguf_type type;            /* of the items, for an array */
    bool is_array;             /* never an array of arrays: those are refused */
    uint64_t n_items;          /* 1 unless is_array */
    const unsigned char *data; /* the first item, checked to lie within the file with all others */
    size_t n_bytes;            /* of all items */
} gguf_value;

/* Freed with gguf_deinit. */
typedef struct gguf {
    const char *path;   /* borrowed */
    gguf_value *values; /* [n_values], by key */
    size_t n_values;
    tensor *tensors; /* [n_tensors], in the order of the file; shapes outermost first */
    size_t n_tensors;
    char *names; /* keys and names of tensors */
} gguf;

/* Reads data [n_bytes], the whole file. Both data and path (for messages) are borrowed and must
 * outlive the header. Checks every length, count, type, offset and alignment against the file, that
 * no key and no tensor occurs twice, and that tensors do not overlap. UM_FORMAT for damage,
 * UM_UNSUPPORTED for another version, byte order or a type of tensor that is not read. */
um_status gguf_parse(const unsigned char *data, size_t n_bytes, const char *path, gguf *header,
                     um_error *err);
void gguf_deinit(gguf *header); /* accepts an all-zero header */

/* NULL where there is none. */
const gguf_value *gguf_find(const gguf *header, const char *key);

/* Single values of any width. False where the value is of another kind or does not fit. A real
 * may be an integer in the file. */
bool gguf_value_int(const gguf_value *value, int64_t *number);
bool gguf_value_real(const gguf_value *value, double *number);
bool gguf_value_bool(const gguf_value *value, bool *is_true);
/* Borrowed bytes, not zero-terminated. */
bool gguf_value_string(const gguf_value *value, const char **text, size_t *n_bytes);

/* Item i of an array of integers or reals of any width; i < n_items. */
bool gguf_item_int(const gguf_value *value, uint64_t i, int64_t *number);
/* Walks an array of strings: start with *at = 0, call n_items times. */
bool gguf_next_string(const gguf_value *value, size_t *at, const char **text, size_t *n_bytes);

/* "the number 3", "an array of 12 strings", "a string": for sentences. Returns out. */
const char *gguf_describe(const gguf_value *value, char out[64]);

/* Bytes of an item of a type of fixed width; 0 for strings, arrays and what is not known. */
size_t gguf_item_bytes(uint32_t type);
/* A little-endian number of 1 to 8 bytes. */
uint64_t gguf_load(const unsigned char *data, size_t n_bytes);

/* How files number the types of tensors. -1: no kernel reads it; NULL: not known. */
dtype gguf_tensor_type(uint32_t id);
uint32_t gguf_tensor_type_id(dtype type);
const char *gguf_tensor_type_name(uint32_t id);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Values out of a GGUF header that gguf_parse has checked, and the numbers that the format gives to
 * types. Every access lies within what was checked; nothing here looks at the file's end.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/gguf.h"

/* ---- Types of tensors ----------------------------------------------------------------------- */

typedef struct tensor_type {
    const char *name;
    dtype type;
} tensor_type;

#define NO_KERNEL_READS ((dtype)-1)

/* By number: ggml_type of ggml.h. */
static const tensor_type tensor_types[] = {
    [0] = {"F32", DTYPE_F32},
    [1] = {"F16", DTYPE_F16},
    [2] = {"Q4_0", DTYPE_Q4_0},
    [3] = {"Q4_1", NO_KERNEL_READS},
    [6] = {"Q5_0", NO_KERNEL_READS},
    [7] = {"Q5_1", NO_KERNEL_READS},
    [8] = {"Q8_0", DTYPE_Q8_0},
    [9] = {"Q8_1", NO_KERNEL_READS},
    [10] = {"Q2_K", NO_KERNEL_READS},
    [11] = {"Q3_K", NO_KERNEL_READS},
    [12] = {"Q4_K", DTYPE_Q4_K},
    [13] = {"Q5_K", DTYPE_Q5_K},
    [14] = {"Q6_K", DTYPE_Q6_K},
    [15] = {"Q8_K", NO_KERNEL_READS},
    [16] = {"IQ2_XXS", NO_KERNEL_READS},
    [17] = {"IQ2_XS", NO_KERNEL_READS},
    [18] = {"IQ3_XXS", NO_KERNEL_READS},
    [19] = {"IQ1_S", NO_KERNEL_READS},
    [20] = {"IQ4_NL", NO_KERNEL_READS},
    [21] = {"IQ3_S", NO_KERNEL_READS},
    [22] = {"IQ2_S", NO_KERNEL_READS},
    [23] = {"IQ4_XS", NO_KERNEL_READS},
    [24] = {"I8", NO_KERNEL_READS},
    [25] = {"I16", NO_KERNEL_READS},
    [26] = {"I32", NO_KERNEL_READS},
    [27] = {"I64", NO_KERNEL_READS},
    [28] = {"F64", NO_KERNEL_READS},
    [29] = {"IQ1_M", NO_KERNEL_READS},
    [30] = {"BF16", DTYPE_BF16},
    [34] = {"TQ1_0", NO_KERNEL_READS},
    [35] = {"TQ2_0", NO_KERNEL_READS},
    [39] = {"MXFP4", NO_KERNEL_READS},
};
enum { N_TENSOR_TYPES = sizeof tensor_types / sizeof *tensor_types };

dtype gguf_tensor_type(uint32_t id) {
    return id < N_TENSOR_TYPES && tensor_types[id].name ? tensor_types[id].type : NO_KERNEL_READS;
}

const char *gguf_tensor_type_name(uint32_t id) {
    return id < N_TENSOR_TYPES ? tensor_types[id].name : NULL;
}

uint32_t gguf_tensor_type_id(dtype type) {
    for (uint32_t id = 0; id < N_TENSOR_TYPES; id++)
        if (tensor_types[id].name && tensor_types[id].type == type) return id;
    return UINT32_MAX;
}

/* ---- Values --------------------------------------------------------------------------------- */

size_t gguf_item_bytes(uint32_t type) {
    static const unsigned char widths[] = {
        [GGUF_TYPE_U8] = 1,  [GGUF_TYPE_I8] = 1,  [GGUF_TYPE_U16] = 2, [GGUF_TYPE_I16] = 2,
        [GGUF_TYPE_U32] = 4, [GGUF_TYPE_I32] = 4, [GGUF_TYPE_F32] = 4, [GGUF_TYPE_BOOL] = 1,
        [GGUF_TYPE_U64] = 8, [GGUF_TYPE_I64] = 8, [GGUF_TYPE_F64] = 8};
    return type < sizeof widths ? widths[type] : 0;
}

uint64_t gguf_load(const unsigned char *data, size_t n_bytes) {
    uint64_t value = 0;
    while (n_bytes-- > 0) value = value << 8 | data[n_bytes];
    return value;
}

static int compare_keys(const void *left, const void *right) {
    const gguf_value *a = left, *b = right;
    return strcmp(a->key, b->key);
}

const gguf_value *gguf_find(const gguf *header, const char *key) {
    gguf_value wanted = {.key = key};
    return bsearch(&wanted, header->values, header->n_values, sizeof wanted, compare_keys);
}

static bool load_int(gguf_type type, const unsigned char *data, int64_t *number) {
    size_t width = gguf_item_bytes((uint32_t)type);
    switch (type) {
        case GGUF_TYPE_U8:
        case GGUF_TYPE_U16:
        case GGUF_TYPE_U32:
        case GGUF_TYPE_U64: {
            uint64_t value = gguf_load(data, width);
            *number = (int64_t)value;
            return value <= INT64_MAX;
        }
        case GGUF_TYPE_I8:
        case GGUF_TYPE_I16:
        case GGUF_TYPE_I32:
        case GGUF_TYPE_I64: {
            uint64_t sign = (uint64_t)1 << (8 * width - 1);
            *number = (int64_t)((gguf_load(data, width) ^ sign) - sign);
            return true;
        }
        default:
            return false;
    }
}

bool gguf_value_int(const gguf_value *value, int64_t *number) {
    return !value->is_array && load_int(value->type, value->data, number);
}

bool gguf_item_int(const gguf_value *value, uint64_t i, int64_t *number) {
    size_t width = gguf_item_bytes((uint32_t)value->type);
    return value->is_array && load_int(value->type, value->data + (size_t)i * width, number);
}

bool gguf_value_real(const gguf_value *value, double *number) {
    int64_t integer;
    if (value->is_array) return false;
    if (value->type == GGUF_TYPE_F32) {
        uint32_t bits = (uint32_t)gguf_load(value->data, 4);
        float real;
        memcpy(&real, &bits, sizeof real);
        *number = (double)real;
    } else if (value->type == GGUF_TYPE_F64) {
        uint64_t bits = gguf_load(value->data, 8);
        memcpy(number, &bits, sizeof bits);
    } else if (load_int(value->type, value->data, &integer)) {
        *number = (double)integer;
    } else {
        return false;
    }
    return true;
}

bool gguf_value_bool(const gguf_value *value, bool *is_true) {
    if (value->is_array || value->type != GGUF_TYPE_BOOL) return false;
    *is_true = value->data[0] != 0;
    return true;
}

bool gguf_value_string(const gguf_value *value, const char **text, size_t *n_bytes) {
    size_t at = 0;
    if (value->is_array) return false;
    return gguf_next_string(value, &at, text, n_bytes);
}

bool gguf_next_string(const gguf_value *value, size_t *at, const char **text, size_t *n_bytes) {
    if (value->type != GGUF_TYPE_STRING || *at >= value->n_bytes) return false;
    *n_bytes = (size_t)gguf_load(value->data + *at, 8);
    *text = (const char *)value->data + *at + 8;
    *at += 8 + *n_bytes;
    return true;
}

const char *gguf_describe(const gguf_value *value, char out[64]) {
    int64_t integer;
    double real;
    bool is_true;
    if (!value)
        snprintf(out, 64, "nothing");
    else if (value->is_array)
        snprintf(out, 64, "an array of %" PRIu64, value->n_items);
    else if (gguf_value_int(value, &integer))
        snprintf(out, 64, "%" PRId64, integer);
    else if (gguf_value_real(value, &real))
        snprintf(out, 64, "%.9g", real);
    else if (gguf_value_bool(value, &is_true))
        snprintf(out, 64, "%s", is_true ? "true" : "false");
    else
        snprintf(out, 64, value->type == GGUF_TYPE_STRING ? "a string" : "a larger number");
    return out;
}

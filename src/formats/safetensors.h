/* SPDX-License-Identifier: Apache-2.0
 *
 * The header of one safetensors file as a list of tensors. Works on bytes in memory, opens no file
 * and reads no weight: what a fuzzer needs. How files make up a model is tensor_catalog's business.
 */
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "formats/tensor_catalog.h"

/* Longest header that the reference implementation reads (MAX_HEADER_SIZE of
 * safetensors/src/tensor.rs). */
enum { SAFETENSORS_HEADER_BYTES_MAX = 100000000 };

/* Freed with safetensors_deinit. */
typedef struct safetensors {
    tensor *tensors; /* [n_tensors], in the order of their data */
    size_t n_tensors;
    char *names; /* what tensors[i].name points into */
} safetensors;

/* Lists the tensors of data [n_bytes], the whole file: 8 bytes of length, JSON, weights. Both data
 * and path (for messages) are borrowed and must outlive the list. Checks what the reference
 * implementation checks: bounds, sizes, neither holes nor overlaps, no byte left over. A tensor of
 * a type that no kernel reads has type -1 where `any_type`, and is UM_UNSUPPORTED otherwise. */
um_status safetensors_parse(const unsigned char *data, size_t n_bytes, const char *path,
                            bool any_type, safetensors *list, um_error *err);
void safetensors_deinit(safetensors *list); /* accepts an all-zero list */

#endif

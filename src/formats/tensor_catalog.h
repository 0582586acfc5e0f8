/* SPDX-License-Identifier: Apache-2.0
 *
 * A model's files as one catalog of named tensors, mapped and not copied. What a tensor is for is
 * not known here.
 */
#ifndef FORMATS_TENSOR_CATALOG_H
#define FORMATS_TENSOR_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "quant/dtype.h"

enum { TENSOR_DIMS_MAX = 4 };

/* Borrowed from the catalog; valid until it is closed. */
typedef struct tensor {
    const char *name;
    const void *data; /* in the file map; any alignment */
    const char *file; /* path of the file, for messages */
    dtype type;
    int32_t n_dims;
    int64_t shape[TENSOR_DIMS_MAX]; /* outermost first; 1 beyond n_dims */
    size_t n_bytes;
    int64_t n_items;
} tensor;

typedef struct tensor_catalog tensor_catalog;

/* Opens a Hugging Face directory: model.safetensors.index.json with its shards where it exists,
 * else model.safetensors. Checks every header in full (bounds, overlaps, sizes, duplicate names,
 * the index against the shards), reads no weights. Tensors that a shard has and the index does not
 * name are listed, too. A tensor of a type that no kernel reads is UM_UNSUPPORTED. UM_NOT_FOUND
 * says what was looked for, and names files in formats that are not read. On success *catalog is
 * the caller's. */
um_status tensor_catalog_open_directory(const char *directory, tensor_catalog **catalog,
                                        um_error *err);
/* Opens one safetensors file, whatever it holds: tensors of a type that no kernel reads (integers,
 * say) are listed with type (dtype)-1; their n_bytes says how wide an item is. */
um_status tensor_catalog_open_file(const char *path, tensor_catalog **catalog, um_error *err);
/* Opens a GGUF file, or with the first part of a split model all its parts. */
um_status tensor_catalog_open_gguf(const char *path, tensor_catalog **catalog, um_error *err);
void tensor_catalog_close(tensor_catalog *catalog); /* accepts NULL */

/* The metadata of a GGUF model (formats/gguf.h), borrowed; NULL for other files. */
const struct gguf *tensor_catalog_gguf(const tensor_catalog *catalog);

int64_t tensor_catalog_count(const tensor_catalog *catalog);
/* i in [0, count), in the order of names. */
const tensor *tensor_catalog_at(const tensor_catalog *catalog, int64_t i);
/* NULL where there is none. */
const tensor *tensor_catalog_find(const tensor_catalog *catalog, const char *name);

/* Finds a tensor of exactly this shape and of a type that kernels read. UM_NOT_FOUND, UM_FORMAT and
 * UM_UNSUPPORTED say what was expected and what was found, with name and file. n_dims 1 or 2 (pass
 * d1 = 0 for one dimension). */
um_status tensor_catalog_require(const tensor_catalog *catalog, const char *name, int64_t d0,
                                 int64_t d1, const tensor **found, um_error *err);

#endif

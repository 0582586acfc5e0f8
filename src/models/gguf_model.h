/* SPDX-License-Identifier: Apache-2.0
 *
 * A GGUF file as a model: its metadata as the config that families read, its tensors in the places
 * of a transformer. Knows the table of gguf_schema.h; families know nothing of GGUF.
 */
#ifndef MODELS_GGUF_MODEL_H
#define MODELS_GGUF_MODEL_H

#include "formats/gguf.h"
#include "formats/hf_config.h"
#include "formats/tensor_catalog.h"
#include "models/gguf_schema.h"

/* Finds the architecture, and makes a config out of the metadata, with the keys that its family
 * reads. What the family does not read and must hold nevertheless is left to gguf_config_check.
 * catalog is a GGUF model's and outlives the config. UM_UNSUPPORTED names an architecture that is
 * not known; UM_FORMAT a key that is missing or of another type. */
um_status gguf_config_create(const tensor_catalog *catalog, const gguf_architecture **architecture,
                             hf_config **config, um_error *err);

/* Compares what the family has made of the config with what the file says; a shift of the logits
 * that the file asks for is taken over into the traits. */
um_status gguf_config_check(const tensor_catalog *catalog, const gguf_architecture *architecture,
                            const transformer_shape *shape, model_traits *traits, um_error *err);

/* Matrices whose rows the file has in another order: copies, to be filled by gguf_rows_fill. */
typedef struct gguf_rows {
    struct gguf_row_copy *items;
    size_t n, capacity;
} gguf_rows;

/* Finds every tensor that the shape asks for, and refuses those that have no place. t->shape is
 * set; t->layers [n_layers] is zeroed. What it allocates is freed by transformer_deinit and
 * gguf_rows_deinit, also after a failure. Reads no weight but vectors. */
um_status gguf_bind(const tensor_catalog *catalog, const gguf_architecture *architecture,
                    transformer *t, gguf_rows *rows, um_error *err);
/* Copies the rows into our order; once, before the first forward. */
void gguf_rows_fill(gguf_rows *rows);
void gguf_rows_deinit(gguf_rows *rows); /* accepts an all-zero list */

#endif

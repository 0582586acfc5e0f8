/* SPDX-License-Identifier: Apache-2.0
 *
 * A model as the tensors and keys of a GGUF file: the opposite of gguf_bind.c and gguf_config.c, by
 * the same table. In which types tensors are stored is the caller's to say.
 */
#ifndef MODELS_GGUF_EXPORT_H
#define MODELS_GGUF_EXPORT_H

#include "formats/gguf_writer.h"
#include "models/gguf_schema.h"

/* One tensor of the file: rows of n_in numbers, out of one matrix or of several below one another.
 * Vectors, too: as rows of one number. Points into the model. */
typedef struct gguf_source {
    char name[160];
    gguf_role role;  /* GGUF_ROLES: none of this project's */
    int32_t i_layer; /* 0 for embedding, final norm and head */
    int32_t n_dims;
    int64_t shape[3]; /* outermost first */
    int64_t n_rows;
    int32_t n_in;
    int32_t head_dim; /* rows of a head lie interleaved (gguf_interleaved_row); 0: not */
    matrix parts[3];  /* [n_parts], or ... */
    int32_t n_parts;
    const mlp_weights *experts; /* ... [shape[0]], each with a part of shape[1] rows */
} gguf_source;

/* Freed with gguf_export_deinit. */
typedef struct gguf_export {
    gguf_source *items; /* [n] in the order of the file */
    size_t n, capacity;
} gguf_export;

/* Lists the tensors of a model: of a directory by the table, of a GGUF file as they are there.
 * UM_UNSUPPORTED where no architecture holds the model's family, or the table has no place for
 * something the model has. */
um_status gguf_export_list(const model *m, gguf_export *list, um_error *err);
/* Lists the tensors of any model by the table: the parts are those of its transformer. */
um_status gguf_export_list_weights(const model *m, gguf_export *list, um_error *err);
void gguf_export_deinit(gguf_export *list); /* accepts an all-zero list */

/* The part that row i_row of the file lies in, and which row of it. Borrowed. */
const matrix *gguf_export_part(const gguf_source *source, int64_t i_row, int32_t *i_part_row);
/* The numbers of row i_row of the file, out [n_in]. */
void gguf_export_row(const gguf_source *source, int64_t i_row, float *out);
/* Rows for vectors and numbers that stay F32: norms, biases, routers. */
bool gguf_export_is_plain(const gguf_source *source);

/* Writes general.architecture and the architecture's keys. m is a directory's. */
void gguf_export_keys(const model *m, gguf_writer *writer);
/* Compares a model with what its written file is read as: numbers, tokens, defaults. `what` names
 * the first difference, NULL where there is none. */
const char *gguf_export_difference(const model *m, const model *written);

#endif

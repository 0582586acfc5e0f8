/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of um_quantize: which type a tensor gets, its rows encoded, the metadata.
 */
#ifndef ENGINE_QUANTIZE_H
#define ENGINE_QUANTIZE_H

#include "base/threads.h"
#include "engine/importance.h"
#include "models/gguf_export.h"
#include "unmask.h"

/* ---- quantize_types.c --------------------------------------------------------------------- */

/* "q4_k" to DTYPE_Q4_K; UM_INVALID lists what is known. */
um_status quantize_type_find(const char *name, dtype *type, um_error *err);
/* The type that a tensor is written in. *wanted is what it should have had where its rows are not
 * whole blocks of that, else the same. has_head: the model has a head of its own. */
dtype quantize_type_of(const gguf_source *source, dtype type, bool is_pure, bool has_head,
                       const transformer_shape *shape, dtype *wanted);

/* ---- quantize_rows.c ---------------------------------------------------------------------- */

/* Buffers for one tensor after another. Freed with quantize_rows_deinit. */
typedef struct quantize_rows {
    thread_pool *pool;
    unsigned char *out; /* some rows, encoded */
    size_t out_bytes;
    float *scratch; /* [workers, 2 * n_in_max] */
    int32_t n_in_max;
    struct rows_sum *sums; /* [tasks_max] */
} quantize_rows;

/* What a tensor's numbers were and what became of them. */
typedef struct quantize_error {
    double difference, total; /* sum (written - w)^2, sum w^2 */
} quantize_error;

um_status quantize_rows_init(quantize_rows *rows, thread_pool *pool, int32_t n_in_max,
                             um_error *err);
void quantize_rows_deinit(quantize_rows *rows); /* accepts an all-zero struct */
/* Encodes a tensor and writes it. step is called after each batch with the bytes of the source that
 * it held, and stops the work with false (UM_CANCELLED). UM_NUMERIC names a weight that is not
 * finite. */
um_status quantize_rows_run(quantize_rows *rows, const gguf_source *source, dtype type,
                            const um_importance *importance, gguf_writer *writer,
                            bool (*step)(void *user, int64_t n_bytes), void *user,
                            quantize_error *sum, um_error *err);

/* ---- quantize_metadata.c ------------------------------------------------------------------ */

/* All keys of the file, from the model, its directory's tokenizer, or the GGUF file it lies in. */
um_status quantize_metadata(const model *m, const char *directory, dtype type, gguf_writer *writer,
                            um_error *err);

#endif

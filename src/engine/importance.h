/* SPDX-License-Identifier: Apache-2.0
 *
 * What um_quantize sees of measured importances.
 */
#ifndef ENGINE_IMPORTANCE_H
#define ENGINE_IMPORTANCE_H

#include "models/gguf_export.h"
#include "unmask.h"

/* The inputs of one tensor. */
typedef struct importance_entry importance_entry;

/* The importances of a tensor, or NULL: none were measured. Borrowed. */
const importance_entry *importance_find(const um_importance *importance,
                                        const gguf_source *source);
/* The importances [n_in] of the inputs of a part of the tensor (its expert, 0 for others), or NULL:
 * no row of text met this part, or entry is NULL. Borrowed. */
const float *importance_inputs(const importance_entry *entry, int64_t i_part);

#endif

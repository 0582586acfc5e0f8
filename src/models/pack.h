/* SPDX-License-Identifier: Apache-2.0
 *
 * Packed weights as parts: one of each layer, then the head's. A part's bytes depend on the stored
 * weights alone, not on the processor.
 */
#ifndef MODELS_PACK_H
#define MODELS_PACK_H

#include "models/transformer.h"

/* Bytes of a part, i_part in [0, n_layers]; 0 where it has nothing to pack. */
size_t pack_part_bytes(transformer *t, int32_t i_part);
/* Lets a part's weights have their twins in `memory`, filled on all workers unless is_filled. */
void pack_part_bind(transformer *t, device *dev, int32_t i_part, unsigned char *memory,
                    bool is_filled);
/* Fills the twin of one weight, all its panels, on all workers. */
void pack_fill(device *dev, const matrix *w, unsigned char *to);

#endif

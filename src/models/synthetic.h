/* SPDX-License-Identifier: Apache-2.0
 *
 * Published models' shapes with random weights: for measuring speed without a file. What they write
 * is noise.
 */
#ifndef MODELS_SYNTHETIC_H
#define MODELS_SYNTHETIC_H

#include "kernels/device.h"
#include "models/model.h"

typedef struct synthetic_shape {
    const char *name; /* "llada-8b" */
    um_attention attention;
    int32_t block_len, context;
    bool has_qk_norm;
    transformer_shape shape;
} synthetic_shape;

/* NULL where there is none of that name. */
const synthetic_shape *synthetic_find(const char *name);

/* Fills a transformer whose shape is set: all weights of `type`, except norms (ones) and routers
 * (float32). Block types share one pool of random blocks, since every weight gets a packed twin of
 * its own; other types have memory of their own. Free with synthetic_free while the device is open,
 * after transformer_unpack; transformer_deinit frees the rest. */
typedef struct synthetic_memory {
    void **buffers; /* of the device */
    int n_buffers, n_used;
} synthetic_memory;
um_status synthetic_fill(transformer *t, dtype type, bool has_qk_norm, device *dev,
                         synthetic_memory *memory, um_error *err);
void synthetic_free(synthetic_memory *memory);

#endif

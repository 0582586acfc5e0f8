/* SPDX-License-Identifier: Apache-2.0
 *
 * One layer of the forward pass, and what a step lays out for it.
 */
#ifndef MODELS_LAYER_H
#define MODELS_LAYER_H

#include "models/step_inputs.h"
#include "models/transformer.h"

/* The buffers of a step, on the device but for host_ids; NULL members are not needed by this model.
 */
typedef struct step_buffers {
    float *x, *normed, *q, *k, *v, *attended, *gate, *up, *out, *weights;
    int32_t *ids, *host_ids;
    void *op_scratch, *packed, *packed_inner;
} step_buffers;

/* What operations are called with; transformer.c asks for their scratch with it. */
attention_args layer_attention(const transformer_shape *s, const step_inputs *in, int32_t n_rows,
                               const step_buffers *b, kv_layer kv);
route_args layer_route(const transformer_shape *s, const moe_weights *moe, const step_inputs *in,
                       int32_t n_rows, const step_buffers *b);
experts_args layer_experts(const transformer_shape *s, const moe_weights *moe, int32_t n_rows,
                           const step_buffers *b);

/* b->x through the layer. */
um_status layer_run(const transformer *t, const layer_weights *layer, device *dev, kv_layer kv,
                    const model_batch *batch, const step_inputs *in, const step_buffers *b);

#endif

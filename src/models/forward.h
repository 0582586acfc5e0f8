/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of a forward pass (transformer.c), for those who queue one in another way (chain.c).
 */
#ifndef MODELS_FORWARD_H
#define MODELS_FORWARD_H

#include "models/layer.h"

/* Lays the device's buffers out in the arena, or, with a NULL arena, only adds up their size. */
size_t forward_lay_out(const transformer *t, device *dev, const model_batch *batch, arena *a,
                       step_buffers *b);
/* From the tokens to the normed rows that are scored: calls of operations alone. */
um_status forward_layers(const transformer *t, device *dev, const kv_layer *kv,
                         const model_batch *batch, const step_inputs *in, const step_buffers *b);
/* The same, queued at once where it was done before. */
um_status forward_replay(const transformer *t, device *dev, const kv_layer *kv,
                         const model_batch *batch, const step_inputs *in, const step_buffers *b);
/* What the head is asked. requests: of step_inputs. */
head_args forward_head(const transformer *t, const model_batch *batch, const step_buffers *b,
                       const score_request *requests, int32_t n_scored);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the rows of a step are, brought to the device in one copy: tokens, positions, the mask, page
 * tables, and which rows the head sees.
 */
#ifndef MODELS_STEP_INPUTS_H
#define MODELS_STEP_INPUTS_H

#include "kernels/device_scratch.h"
#include "models/transformer.h"

/* Addresses of the device, but for the requests. Valid until the scratch is reserved again. */
typedef struct step_inputs {
    int32_t *tokens;                              /* [n_rows] */
    const int32_t *positions, *seq, *visible_end; /* [n_rows] */
    const kv_table *tables;
    const int32_t *scored;         /* [n_scored] rows that requests name, each once */
    const score_request *requests; /* [n_requests] host; their rows are indexes into `scored` */
    int32_t n_scored;
    int32_t n_keys_max; /* step_inputs_keys_max */
} step_inputs;

/* At least as many positions as any row sees: in large steps, so that few numbers come. */
int32_t step_inputs_keys_max(const model_batch *batch);

/* Bytes of the scratch: of its device part, and of its host part. SIZE_MAX on overflow. */
size_t step_inputs_place_bytes(const model_batch *batch);
size_t step_inputs_host_bytes(const model_batch *batch);
um_status step_inputs_bring(device *dev, const model_batch *batch, device_scratch *scratch,
                            step_inputs *inputs);

#endif

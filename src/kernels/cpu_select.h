/* SPDX-License-Identifier: Apache-2.0
 *
 * Draws under top_k, top_p and min_p from a whole row of logits. Used by the head alone.
 */
#ifndef KERNELS_CPU_SELECT_H
#define KERNELS_CPU_SELECT_H

#include "kernels/cpu.h"

typedef struct selection {
    int32_t token; /* -1: keys overflowed, nothing was drawn */
    float logit;
    double tempered;             /* q[token] over the candidates */
    double top, second, entropy; /* of q; where the request wants_spread, else 0 */
} selection;

/* l [vocab] finite, the forbidden token -infinity, max its highest; what is no candidate becomes
 * -infinity in place. 64-byte aligned not needed. Any thread. */
selection select_draw(const cpu_kernels *kernels, const score_request *request, float *l,
                      int32_t vocab, float max);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the model thought of each token of an answer, in the forward that wrote it: kept by cell,
 * since cells are written out of order and given out in order.
 */
#ifndef SERVER_ANSWER_LOGPROBS_H
#define SERVER_ANSWER_LOGPROBS_H

#include "base/status.h"

/* Until answer_logprobs_deinit. */
typedef struct answer_logprobs {
    int32_t n_cells, n_top_max;
    float *log_probabilities; /* [n_cells] NaN: not known; NULL: none are kept */
    int32_t *n_top;           /* [n_cells] */
    um_token_logprob *top;    /* [n_cells, n_top_max] */
} answer_logprobs;

/* n_top_max: most alternatives of a cell; -1: nothing is kept. */
um_status answer_logprobs_init(answer_logprobs *a, int32_t n_cells, int32_t n_top_max,
                               um_error *err);
void answer_logprobs_deinit(answer_logprobs *a);
/* A cell takes the token of a change. */
void answer_logprobs_put(answer_logprobs *a, int32_t cell, const um_change *change);
/* A cell has a token that no forward scored there. */
void answer_logprobs_forget(answer_logprobs *a, int32_t cell);
/* Mean over the cells [0, n) that are known; minus infinity where none is. */
double answer_logprobs_mean(const answer_logprobs *a, int32_t n);

#endif

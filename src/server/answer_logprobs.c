/* SPDX-License-Identifier: Apache-2.0
 *
 * Arrays by cell: the engine's own are valid for one event only.
 */
#include "server/answer_logprobs.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

um_status answer_logprobs_init(answer_logprobs *a, int32_t n_cells, int32_t n_top_max,
                               um_error *err) {
    memset(a, 0, sizeof *a);
    if (n_top_max < 0) return UM_OK;
    size_t n = (size_t)n_cells;
    a->n_cells = n_cells;
    a->n_top_max = n_top_max;
    a->log_probabilities = memory_alloc_array(n, sizeof *a->log_probabilities);
    a->n_top = memory_calloc(n, sizeof *a->n_top);
    a->top = memory_alloc_array(n, (size_t)n_top_max * sizeof *a->top);
    if (!a->log_probabilities || !a->n_top || !a->top) {
        answer_logprobs_deinit(a);
        FAIL(UM_NO_MEMORY, err, "no memory for the log-probabilities of %d tokens", n_cells);
    }
    for (int32_t i = 0; i < n_cells; i++) a->log_probabilities[i] = NAN;
    return UM_OK;
}

void answer_logprobs_deinit(answer_logprobs *a) {
    memory_free(a->log_probabilities);
    memory_free(a->n_top);
    memory_free(a->top);
    memset(a, 0, sizeof *a);
}

void answer_logprobs_put(answer_logprobs *a, int32_t cell, const um_change *change) {
    if (!a->log_probabilities) return;
    int32_t n = change->n_top < a->n_top_max ? change->n_top : a->n_top_max;
    a->log_probabilities[cell] = change->log_probability;
    a->n_top[cell] = n;
    if (n)
        memcpy(a->top + (size_t)cell * (size_t)a->n_top_max, change->top,
               (size_t)n * sizeof *a->top);
}

void answer_logprobs_forget(answer_logprobs *a, int32_t cell) {
    if (!a->log_probabilities) return;
    a->log_probabilities[cell] = NAN;
    a->n_top[cell] = 0;
}

double answer_logprobs_mean(const answer_logprobs *a, int32_t n) {
    double sum = 0;
    int32_t n_known = 0;
    for (int32_t i = 0; a->log_probabilities && i < n; i++) {
        if (isnan(a->log_probabilities[i])) continue;
        sum += (double)a->log_probabilities[i];
        n_known++;
    }
    return n_known ? sum / n_known : -INFINITY;
}

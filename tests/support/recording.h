/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs requests through the public interface and keeps everything that they report, so that tests
 * compare two runs, or a run and a reference, with one call.
 */
#ifndef SUPPORT_RECORDING_H
#define SUPPORT_RECORDING_H

#include "unmask.h"

typedef struct recorded_step {
    int32_t forward, block, first_position, n_inputs, n_changes;
    int32_t *inputs;    /* [n_inputs] */
    um_change *changes; /* [n_changes] */
} recorded_step;

typedef struct recording {
    recorded_step *steps; /* [n_steps] */
    int32_t n_steps, n_blocks, n_tokens, forwards, prefill_forwards, n_cached, preemptions;
    int32_t *tokens; /* [n_tokens] */
    um_finish_reason finish;
    um_status status; /* UM_OK, or the error event's */
    um_error error;
} recording;

/* Runs n requests in one batch until all have ended. */
void recording_run(um_engine *engine, const um_request_options *options, int n, recording *out);
/* Adds one event to a recording that was zeroed. */
void recording_add(recording *r, const um_event *event);
void recording_free(recording *r);
/* Fails the test where two runs differ in any token, position, probability bit or count of
 * denoising forwards. `what` names the comparison. */
void recording_assert_equal(const recording *a, const recording *b, const char *what);

/* Of engines opened from now on. Tests against the families' code set UM_PRECISION_REFERENCE. */
extern um_precision recording_precision;

/* Makes two steps of each folded one, as without folding: one of a block that is left as it is, one
 * of the block after it. For blocks of block_len that are open one at a time. Returns how many. */
int recording_unfold(recording *r, int32_t block_len);

/* Opens an engine or fails the test. cache_tokens 0: default. */
um_engine *recording_open(const char *directory, int n_threads, int64_t cache_tokens);
/* The same with every option the caller's. With UNMASK_TEST_AHEAD in the environment steps are
 * queued ahead (UM_AHEAD_ON) where the options leave it open. */
um_engine *recording_open_with(const um_engine_options *options);
um_engine *recording_open_capped(const char *directory, int n_threads, int64_t cache_tokens,
                                 int32_t expert_cap);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the built-in policies share. The interface itself is um_policy in unmask.h, the same for
 * these and for policies from shared objects: a policy sees the open blocks before a step and what
 * the model proposes there, and says which positions change and which blocks are finished.
 */
#ifndef DECODE_POLICY_H
#define DECODE_POLICY_H

#include "unmask.h"

/* Fills view->order with the indexes of masked positions by falling view->keys, which are set by
 * the caller at masked positions; ties go to the lower index. Positions that prefer the mask come
 * last: committing the mask is no commit, and the families' code leaves such a position open; only
 * when nothing else is left do they take their best real token. Returns how many masked positions
 * there are; *n_willing of them are the first ones, that do not prefer the mask. */
int32_t policy_rank(const um_policy_view *view, int32_t *n_willing);

/* Keys are confidences; then as policy_rank. */
int32_t policy_rank_confidence(const um_policy_view *view, int32_t *n_willing);

/* The i-th part of n when it is split into `steps` parts as evenly as possible, larger parts first:
 * n / steps, and one more where i < n % steps. 0 for i >= steps.
 * (get_num_transfer_tokens in LLaDA's generate.py; _get_num_transfer_tokens in LLaDA2.0's.) */
int32_t policy_schedule_part(int32_t n, int32_t steps, int32_t i);

/* How many of n_masked ranked positions a step takes that asks for n_least: at least one, and no
 * unwilling one while a willing one is left. */
int32_t policy_take_count(int32_t n_least, int32_t n_masked, int32_t n_willing);

/* Commits the n_least best by confidence, and every other willing one above `threshold`
 * (at or above it where is_inclusive). Finishes the block where no mask is left. */
void policy_take_best(const um_policy_view *view, int32_t n_least, double threshold,
                      bool is_inclusive, um_policy_decision *decision);

/* What `edit` remembers of a block, for its twin on a device: view->state. */
void policy_edit_counts(const void *state, int32_t *n_post, int32_t *n_reopened);

/* Appends the candidate of a position to the decision. */
void policy_commit(const um_policy_view *view, int32_t index, um_policy_decision *decision);
/* Puts the changes into rising order of index. */
void policy_sort_changes(um_policy_decision *decision);

/* ---- The noise schedule of Dream (noise_schedule.c) ----------------------------------------- */

/* The share of masks that step i turns into tokens: 1 - s / t with t, s neighbours in a line of
 * steps + 1 noise levels from 1 to eps; 1 in the last step and after it. */
float noise_share(const um_policy_params *params, int32_t i);
/* Commits the schedule's number of positions with the highest keys; the keys are divided by
 * alg_temp and get Gumbel noise where it is above 0. Commits nothing where that is 0. */
void noise_take(const um_policy_view *view, um_policy_decision *decision);

extern const um_policy policy_threshold, policy_schedule, policy_edit, policy_origin,
    policy_maskgit, policy_margin, policy_entropy, policy_sequential, policy_static, policy_dynamic,
    policy_entropy_bound, policy_factor, policy_hierarchy, policy_credit, policy_first_hitting,
    policy_multi_block, policy_levenshtein;

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The interface of a decoding policy. A policy sees one block before a step and what the model
 * proposes there, and says which positions change and whether the block is finished. It keeps
 * nothing between steps but the few numbers of policy_state, which the engine clears for each
 * block.
 */
#ifndef DECODE_POLICY_H
#define DECODE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"
#include "base/status.h"

typedef enum position_state {
    POSITION_PROMPT = 0,   /* never changes, even where its token is the mask token */
    POSITION_MASKED = 1,   /* undecided; only these count as masks */
    POSITION_COMMITTED = 2 /* holds an answer's token */
} position_state;

/* What the model proposes for a position. */
typedef struct candidate {
    int32_t token;     /* the best one, or the drawn one where the temperature is above 0 */
    float probability; /* its confidence, in the family's sense (model_traits of the family) */
    bool prefers_mask; /* the mask token itself is more probable than `token` */
    float mask_probability;
} candidate;

typedef struct policy_params {
    double threshold;      /* commit above it */
    double edit_threshold; /* change a committed token above it */
    int32_t post_steps;    /* `edit`: forwards that may start without a mask */
    int32_t steps;         /* forwards a block, at least 1 */
    bool is_random;        /* `schedule`: positions are drawn, not ranked by confidence */
    bool is_inclusive;     /* p >= threshold instead of p > threshold */
} policy_params;

typedef struct policy_view {
    int32_t n;                   /* positions of the block */
    int32_t first_position;      /* of the block, from the start of the sequence */
    int32_t i_step;              /* forwards of this block before this one */
    int32_t mask_token;          /* only an edit may write it: the position is open again then */
    const int32_t *tokens;       /* [n] before the step */
    const uint8_t *states;       /* [n] position_state before the step */
    const candidate *candidates; /* [n]; defined at masked positions, and at committed ones too
                                    where the policy scores them */
    rng_key key;                 /* of this step; .position is to be filled in */
} policy_view;

typedef struct policy_state {
    int32_t n_post;     /* `edit`: forwards of this block that started without a mask */
    int32_t n_reopened; /* `edit`: committed positions that were masked again */
} policy_state;

typedef struct policy_change {
    int32_t index; /* in the block */
    int32_t token;
    float probability;
} policy_change;

typedef struct policy_decision {
    policy_change *changes; /* [n of the view], the engine's */
    int32_t n_changes;      /* in rising order of index, each index at most once */
    bool is_finished;       /* no further forward of this block */
} policy_decision;

typedef struct policy {
    const char *name;
    /* True: the engine scores committed positions as well as masked ones. */
    bool scores_committed;
    /* order [n] is scratch. Sets the decision whole. Cannot fail. */
    void (*step)(const policy_params *params, const policy_view *view, policy_state *state,
                 int32_t *order, policy_decision *decision);
} policy;

/* NULL for a name that no policy has. */
const policy *policy_find(const char *name);
/* The i-th policy, or NULL past the end. */
const policy *policy_at(int32_t i);

/* ---- For policies ------------------------------------------------------------------------- */

/* Fills order [n] with the indexes of masked positions by falling confidence; ties go to the lower
 * index. Positions that prefer the mask come last: committing the mask is no commit, and the
 * families' code leaves such a position open; only when nothing else is left do they take their
 * best real token. Returns how many masked positions there are; *n_willing of them are the first
 * ones, that do not prefer the mask. */
int32_t policy_rank_masked(const policy_view *view, int32_t *order, int32_t *n_willing);

/* The i-th part of n when it is split into `steps` parts as evenly as possible, larger parts first:
 * n / steps, and one more where i < n % steps. 0 for i >= steps.
 * (get_num_transfer_tokens in LLaDA's generate.py; _get_num_transfer_tokens in LLaDA2.0's.) */
int32_t policy_schedule_part(int32_t n, int32_t steps, int32_t i);

/* True where a confidence passes the threshold, in the family's sense. */
bool policy_is_above(const policy_params *params, float probability);

/* Appends the candidate of a position to the decision. */
void policy_commit(const policy_view *view, int32_t index, policy_decision *decision);
/* Puts the changes into rising order of index. */
void policy_sort_changes(policy_decision *decision);

extern const policy policy_threshold, policy_schedule, policy_edit;

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * `levenshtein`: commit, correct, delete and insert in one step (LLaDA2.2).
 *
 *   x, p   the best token of each position and its probability; an original mask never takes the
 * mask M2T    while an original mask is left: {masked, p > threshold} if these are more than the
 * masks that inserts and deletes have brought, else that many and one more of the best; afterwards
 * every mask T2T    {committed, p > edit_threshold, x differs} the changed block, from its first
 * answer position: DELETE takes its position away, SPLIT puts a mask before the position's old
 * token; cut to the block's length or filled up with masks
 *
 * Original masks are those that the block began with; the flag moves with its position. Forwards
 * that start without one count against post_steps. In the last forward (the budget is spent, or
 * there have been n + post_steps of them) every mask is decided and mask, DELETE and SPLIT are not
 * written. Where a block's state comes back, the least sure of the positions about to change takes
 * the best token that was not chosen there before.
 *
 * Source: JointThresholdInDel of sgl-project/sglang joint_threshold_indel.py; LLaDA2.2 report,
 * section 3.1.
 */
#include <math.h>
#include <string.h>

#include "decode/policy.h"

/* What a block remembers; the arrays follow it in the engine's memory, [n] and [n_forwards] long.
 */
typedef struct history {
    int32_t n_forwards, n_post;
    int32_t n_seen; /* states of the block that forwards began with */
} history;

/* The history with its arrays, and the scratch of a step. */
typedef struct edit_block {
    const um_policy_view *view;
    history *head;
    uint8_t *is_original; /* [n] */
    uint8_t *is_written;  /* [n] of this step */
    int32_t *chosen;      /* [n] x of this step */
    int32_t *result;      /* [n] the block after the step */
    uint8_t *moved;       /* [n] is_original after the step */
    int32_t *seen;        /* [n_forwards_max, n] */
    int32_t *n_sampled;   /* [n] tokens chosen at a position in earlier forwards */
    int32_t *sampled;     /* [n, n_forwards_max] */
} edit_block;

static int32_t forwards_max(const um_policy_params *params, int32_t n) {
    return n + params->post_steps + 2;
}

static size_t state_bytes(const um_policy_params *params, int32_t n) {
    size_t items = (size_t)n, forwards = (size_t)forwards_max(params, n);
    return sizeof(history) + (3 + 2 * forwards) * items * sizeof(int32_t) + 3 * items;
}

static edit_block lay_out(const um_policy_view *view) {
    size_t n = (size_t)view->n, forwards = (size_t)forwards_max(view->params, view->n);
    edit_block b = {.view = view, .head = view->state};
    b.chosen = (int32_t *)(b.head + 1);
    b.result = b.chosen + n;
    b.n_sampled = b.result + n;
    b.seen = b.n_sampled + n;
    b.sampled = b.seen + forwards * n;
    b.is_original = (uint8_t *)(b.sampled + forwards * n);
    b.is_written = b.is_original + n;
    b.moved = b.is_written + n;
    return b;
}

static bool is_masked(const edit_block *b, int32_t i) {
    return b->view->states[i] == UM_POSITION_MASKED;
}

/* The best token of a row that is none of the refused ones. */
static int32_t best_token(const edit_block *b, int32_t i, const int32_t *refused, int32_t n) {
    const float *logits = b->view->logits[i];
    int32_t best = -1;
    for (int32_t v = 0; v < b->view->vocab; v++) {
        if (best >= 0 && logits[v] <= logits[best]) continue;
        bool is_refused = false;
        for (int32_t k = 0; k < n; k++) is_refused |= refused[k] == v;
        if (!is_refused) best = v;
    }
    return best;
}

/* x and p: with the mask among the choices, except at original masks. */
static void propose(edit_block *b, bool is_last) {
    for (int32_t i = 0; i < b->view->n; i++) {
        const um_candidate *c = &b->view->candidates[i];
        bool may_mask = is_last || !(is_masked(b, i) && b->is_original[i]);
        bool takes_mask = c->prefers_mask && may_mask;
        b->chosen[i] = takes_mask ? b->view->mask_token : c->token;
        b->view->keys[i] = (double)(takes_mask ? c->mask_probability : c->probability);
    }
}

/* The masked positions that take a token; returns how many original masks stay. */
static int32_t select_masks(edit_block *b, int32_t n_original, int32_t n_masked, bool is_last) {
    const um_policy_view *view = b->view;
    int32_t n_needed = n_masked - n_original + 1, n_high = 0, n_left = 0;
    for (int32_t i = 0; i < view->n; i++)
        n_high += is_masked(b, i) && view->keys[i] > view->params->threshold;
    bool takes_all = is_last || n_original == 0;
    if (takes_all || n_high >= n_needed) {
        for (int32_t i = 0; i < view->n; i++)
            b->is_written[i] =
                is_masked(b, i) && (takes_all || view->keys[i] > view->params->threshold);
    } else {
        for (int32_t k = 0; k < n_needed && k < n_masked; k++) {
            int32_t best = -1;
            for (int32_t i = 0; i < view->n; i++)
                if (is_masked(b, i) && !b->is_written[i] &&
                    (best < 0 || view->keys[i] > view->keys[best]))
                    best = i;
            b->is_written[best] = 1;
        }
    }
    for (int32_t i = 0; i < view->n; i++)
        n_left += is_masked(b, i) && b->is_original[i] && !b->is_written[i];
    return n_left;
}

static void select_edits(edit_block *b) {
    for (int32_t i = 0; i < b->view->n; i++)
        if (b->view->states[i] == UM_POSITION_COMMITTED && b->chosen[i] != b->view->tokens[i] &&
            b->view->keys[i] > b->view->params->edit_threshold)
            b->is_written[i] = 1;
}

/* In the last forward no written position may hold an edit token or the mask. */
static void scrub(edit_block *b) {
    const um_policy_view *view = b->view;
    const int32_t refused[3] = {view->mask_token, view->delete_token, view->split_token};
    for (int32_t i = 0; i < view->n; i++) {
        if (!b->is_written[i]) continue;
        for (int k = 0; k < 3; k++)
            if (b->chosen[i] == refused[k]) {
                b->chosen[i] = best_token(b, i, refused, 3);
                break;
            }
    }
}

static bool was_seen(const edit_block *b) {
    size_t bytes = (size_t)b->view->n * sizeof(int32_t);
    for (int32_t k = 0; k < b->head->n_seen; k++)
        if (memcmp(b->seen + (size_t)k * (size_t)b->view->n, b->view->tokens, bytes) == 0)
            return true;
    return false;
}

/* The block has been in this state before: another token where the model is least sure. */
static void break_cycle(edit_block *b) {
    const um_policy_view *view = b->view;
    int32_t unsure = -1;
    for (int32_t i = 0; i < view->n; i++)
        if (b->is_written[i] && b->chosen[i] != view->tokens[i] &&
            (unsure < 0 || view->keys[i] < view->keys[unsure]))
            unsure = i;
    if (unsure < 0) return;
    /* One place more than forwards: the mask may be refused as well. */
    int32_t *refused = b->sampled + (size_t)unsure * (size_t)forwards_max(view->params, view->n);
    int32_t n = b->n_sampled[unsure];
    if (is_masked(b, unsure) && b->is_original[unsure]) refused[n++] = view->mask_token;
    int32_t other = best_token(b, unsure, refused, n);
    if (other >= 0) b->chosen[unsure] = other; /* else every token has been chosen there */
}

static void remember(edit_block *b) {
    const um_policy_view *view = b->view;
    int32_t n_max = forwards_max(view->params, view->n);
    memcpy(b->seen + (size_t)b->head->n_seen * (size_t)view->n, view->tokens,
           (size_t)view->n * sizeof(int32_t));
    b->head->n_seen++;
    for (int32_t i = 0; i < view->n; i++) {
        if (!b->is_written[i]) continue;
        int32_t *tokens = b->sampled + (size_t)i * (size_t)n_max;
        bool is_known = false;
        for (int32_t k = 0; k < b->n_sampled[i]; k++) is_known |= tokens[k] == b->chosen[i];
        if (!is_known) tokens[b->n_sampled[i]++] = b->chosen[i];
    }
}

static void push(edit_block *b, int32_t *n, int32_t token, uint8_t is_original) {
    if (*n >= b->view->n) return;
    b->result[*n] = token;
    b->moved[(*n)++] = is_original;
}

/* Writes tokens, takes positions away and puts masks in, from the end of the prompt on. */
static void rewrite(edit_block *b) {
    const um_policy_view *view = b->view;
    int32_t n = 0;
    for (int32_t i = 0; i < view->n; i++) {
        bool is_written = b->is_written[i];
        if (is_written && b->chosen[i] == view->delete_token) continue;
        if (is_written && b->chosen[i] == view->split_token) {
            push(b, &n, view->mask_token, 0);
            push(b, &n, view->tokens[i], b->is_original[i]);
        } else {
            push(b, &n, is_written ? b->chosen[i] : view->tokens[i], b->is_original[i]);
        }
    }
    while (n < view->n) push(b, &n, view->mask_token, 0);
    memcpy(b->is_original, b->moved, (size_t)view->n);
}

static void report(const edit_block *b, um_policy_decision *decision) {
    for (int32_t i = 0; i < b->view->n; i++) {
        if (b->view->states[i] == UM_POSITION_PROMPT || b->result[i] == b->view->tokens[i])
            continue;
        bool is_own = b->is_written[i] && b->result[i] == b->chosen[i];
        decision->changes[decision->n_changes++] =
            (um_policy_change){i, b->result[i], is_own ? (float)b->view->keys[i] : 0.0f};
    }
}

static void step(const um_policy_view *view, um_policy_decision *decision) {
    edit_block b = lay_out(view);
    const um_policy_params *params = view->params;
    int32_t n_original = 0, n_masked = 0;
    for (int32_t i = 0; i < view->n; i++) {
        b.is_written[i] = 0;
        if (b.head->n_forwards == 0) b.is_original[i] = is_masked(&b, i);
        n_masked += is_masked(&b, i);
        n_original += is_masked(&b, i) && b.is_original[i];
    }
    b.head->n_forwards++;
    b.head->n_post += n_original == 0;
    bool is_last = n_original == 0 && params->post_steps == 0;
    is_last |= params->post_steps > 0 && b.head->n_post >= params->post_steps;
    is_last |= b.head->n_forwards > view->n + params->post_steps;
    propose(&b, is_last);
    int32_t n_left = select_masks(&b, n_original, n_masked, is_last);
    if (!is_last && params->post_steps == 0 && n_original > 0 && n_left == 0) {
        is_last = true;
        for (int32_t i = 0; i < view->n; i++) b.is_written[i] = is_masked(&b, i);
    }
    select_edits(&b);
    bool has_writes = false;
    for (int32_t i = 0; i < view->n; i++) has_writes |= b.is_written[i];
    if (!has_writes) {
        decision->n_finished = 1;
        return;
    }
    if (is_last) scrub(&b);
    if (!is_last && was_seen(&b)) break_cycle(&b);
    remember(&b);
    rewrite(&b);
    report(&b, decision);
    decision->n_finished = is_last;
}

const um_policy policy_levenshtein = {
    .abi = UM_POLICY_ABI,
    .flags = UM_POLICY_SCORES_COMMITTED | UM_POLICY_SEES_LOGITS | UM_POLICY_MAY_IDLE |
             UM_POLICY_IS_GREEDY | UM_POLICY_INSERTS,
    .reads = UM_READS_THRESHOLD | UM_READS_EDIT,
    .name = "levenshtein",
    .source = "sgl-project/sglang joint_threshold_indel.py; LLaDA2.2 report, section 3.1",
    .state_bytes = state_bytes,
    .step = step,
};

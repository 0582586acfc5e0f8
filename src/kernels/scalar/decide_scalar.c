/* SPDX-License-Identifier: Apache-2.0
 *
 * The decisions of kernels/decide.h for one block. A rank is counted, not sorted for: blocks have
 * tens of positions, and a device counts the ranks of all of them at once.
 */
#include <stddef.h>

#include "kernels/decide.h"

typedef struct item_view {
    const score *s; /* NULL: not scored */
    double key;     /* what masked positions are ranked by */
    float p;        /* confidence of the proposal */
    int32_t token, state;
    bool prefers_mask;
} item_view;

static item_view view_item(const decide_args *a, const decide_block *b, int32_t i,
                           int32_t steps_made) {
    int32_t item = b->first + i;
    item_view v = {.state = a->states[item]};
    if (a->i_score[item] >= 0) {
        v.s = &a->scores[a->i_score[item]];
        v.token = b->is_drawn ? v.s->drawn : v.s->token;
        v.p = !b->is_drawn     ? v.s->probability
              : b->is_tempered ? v.s->drawn_tempered
                               : v.s->drawn_probability;
        v.prefers_mask = !b->is_drawn && v.s->forbidden_probability > v.s->probability;
    }
    v.key = (double)v.p;
    if (b->rule == DECIDE_RANDOM) {
        rng_key key = b->key;
        key.position += (uint32_t)i;
        key.step += (uint32_t)steps_made;
        v.key = rng_uniform(&key, RNG_PURPOSE_REMASK, 0);
    }
    return v;
}

/* How many masked positions come before item i. */
static int32_t rank_of(const decide_args *a, const decide_block *b, int32_t i, int32_t steps_made) {
    item_view mine = view_item(a, b, i, steps_made);
    int32_t rank = 0;
    for (int32_t j = 0; j < b->n; j++) {
        item_view v = view_item(a, b, j, steps_made);
        if (v.state != DECIDE_MASKED || j == i) continue;
        bool is_equal = v.key == mine.key, is_before = v.key > mine.key;
        if (b->rule != DECIDE_RANDOM && v.prefers_mask != mine.prefers_mask) {
            is_equal = false;
            is_before = mine.prefers_mask;
        }
        rank += is_before || (is_equal && j < i);
    }
    return rank;
}

/* How many of the first ranks a step takes whatever their confidence. */
static int32_t least_of(const decide_block *b, int32_t n_masked, int32_t n_willing) {
    int32_t n = 0;
    if (b->rule != DECIDE_EDIT && b->i_step < b->steps)
        n = b->n / b->steps + (b->i_step < b->n % b->steps);
    if (n > n_willing) n = n_willing;
    if (n < 1) n = 1;
    return n < n_masked ? n : n_masked;
}

static void write_item(const decide_args *a, int32_t item, int32_t token, int32_t state) {
    a->tokens[item] = token;
    a->row_tokens[a->rows[item]] = token;
    a->states[item] = state;
}

/* True where a step takes the masked position of a rank. */
static bool is_committed(const decide_block *b, const item_view *v, int32_t rank, int32_t n_least,
                         int32_t n_willing) {
    if (rank < n_least) return true;
    if (b->rule == DECIDE_RANDOM || rank >= n_willing) return false;
    double p = (double)v->p;
    return p > b->threshold || (b->is_inclusive && p >= b->threshold);
}

bool decide_block_scalar(const decide_args *a, decide_block *b, int32_t steps_made) {
    int32_t n_masked = 0, n_willing = 0, n_commits = 0, n_edits = 0, n_opened = 0;
    bool commits[DECIDE_BLOCK_MAX];
    for (int32_t i = 0; i < b->n; i++) {
        item_view v = view_item(a, b, i, steps_made);
        if (v.s && !v.s->is_finite) return false;
        n_masked += v.state == DECIDE_MASKED;
        n_willing += v.state == DECIDE_MASKED && (b->rule == DECIDE_RANDOM || !v.prefers_mask);
    }
    int32_t n_least = least_of(b, n_masked, n_willing);
    for (int32_t i = 0; i < b->n; i++) {
        item_view v = view_item(a, b, i, steps_made);
        commits[i] = v.state == DECIDE_MASKED &&
                     is_committed(b, &v, rank_of(a, b, i, steps_made), n_least, n_willing);
        n_commits += commits[i];
    }
    for (int32_t i = 0; i < b->n; i++) {
        item_view v = view_item(a, b, i, steps_made);
        int32_t item = b->first + i;
        if (commits[i]) write_item(a, item, v.token, DECIDE_COMMITTED);
        if (b->rule != DECIDE_EDIT || v.state != DECIDE_COMMITTED || !v.s) continue;
        float p = v.prefers_mask ? v.s->forbidden_probability : v.p;
        int32_t token = v.prefers_mask ? b->mask_token : v.token;
        if ((double)p <= b->edit_threshold || token == a->tokens[item]) continue;
        if (v.prefers_mask && b->n_reopened + n_opened >= b->n) continue;
        n_opened += v.prefers_mask;
        n_edits++;
        write_item(a, item, token, v.prefers_mask ? DECIDE_MASKED : DECIDE_COMMITTED);
    }
    int32_t n_left = n_masked - n_commits + n_opened;
    bool is_finished = !n_left;
    if (b->rule == DECIDE_EDIT) {
        b->n_reopened += n_opened;
        b->n_post += !n_masked;
        is_finished = !n_left && ((!n_masked && !n_edits) || b->n_post + 1 > b->post_steps);
    }
    b->i_step++;
    return !is_finished && (n_left || !b->needs_mask);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Policies on hand-made blocks: what each rule says where the answer can be read off.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "decode/policy.h"

enum { N = 8, MASK = 99 };

typedef struct block {
    int32_t tokens[N];
    uint8_t states[N];
    um_candidate candidates[N];
    int32_t order[N];
    double keys[N];
    uint64_t state[4096];
    um_policy_change changes[N + 1];
    um_policy_params params;
    um_policy_decision decision;
    um_policy_view view;
    rng_key key;
    float rows[N][MASK + 1];
    const float *logits[N];
} block;

/* As the engine's: a function of the key, the position and the step. */
static double draw(const um_policy_view *view, int32_t index) {
    rng_key key = *(const rng_key *)view->draw_key;
    key.position = (uint32_t)(view->first_position + index);
    key.step = (uint32_t)view->i_step;
    return rng_uniform(&key, RNG_PURPOSE_REMASK, 0);
}

/* Logits that give the candidate its probability; the rest is spread evenly. */
static void fill_logits(block *b) {
    for (int i = 0; i < N; i++) {
        double p = (double)b->candidates[i].probability;
        for (int v = 0; v <= MASK; v++) b->rows[i][v] = (float)log((1 - p) / MASK);
        b->rows[i][b->candidates[i].token] = (float)log(p);
        b->logits[i] = b->rows[i];
        b->candidates[i].top_probability = b->candidates[i].probability;
        b->candidates[i].second_probability = (float)((1 - p) / MASK);
        b->candidates[i].entropy = (float)(-p * log(p) - (1 - p) * log((1 - p) / MASK));
    }
}

/* All masked, with the given confidences; proposals are 10, 11, ... */
static void block_init(block *b, const float confidence[N]) {
    memset(b, 0, sizeof *b);
    for (int i = 0; i < N; i++) {
        b->tokens[i] = MASK;
        b->states[i] = UM_POSITION_MASKED;
        b->candidates[i] = (um_candidate){.token = 10 + i, .probability = confidence[i]};
    }
    b->params = (um_policy_params){.threshold = 0.9,
                                   .edit_threshold = 0.8,
                                   .low_threshold = 0.4,
                                   .factor = 1,
                                   .entropy_bound = 0.5,
                                   .eps = 1e-3,
                                   .credit_alpha = 0.7,
                                   .credit_beta = 0.8,
                                   .credit_gamma = 0.2,
                                   .block_add = 0.1,
                                   .block_ready = 0.95,
                                   .window = 1,
                                   .post_steps = 2,
                                   .steps = N,
                                   .arguments = ""};
    b->view = (um_policy_view){.params = &b->params,
                               .n = N,
                               .block_len = N,
                               .vocab = MASK + 1,
                               .mask_token = MASK,
                               .delete_token = 97,
                               .split_token = 98,
                               .tokens = b->tokens,
                               .states = b->states,
                               .candidates = b->candidates,
                               .logits = b->logits,
                               .order = b->order,
                               .keys = b->keys,
                               .state = b->state,
                               .draw = draw,
                               .draw_key = &b->key};
}

static void step(const um_policy *p, block *b) {
    b->decision = (um_policy_decision){.changes = b->changes};
    fill_logits(b);
    if (p->state_bytes) assert_true(p->state_bytes(&b->params, N) <= sizeof b->state);
    p->step(&b->view, &b->decision);
    for (int i = 0; i < b->decision.n_changes; i++) {
        b->tokens[b->changes[i].index] = b->changes[i].token;
        b->states[b->changes[i].index] =
            b->changes[i].token == MASK ? UM_POSITION_MASKED : UM_POSITION_COMMITTED;
    }
    b->view.i_step++;
}

static void assert_changes(const block *b, int n, const int *indexes) {
    assert_int_equal(b->decision.n_changes, n);
    for (int i = 0; i < n; i++) assert_int_equal(b->changes[i].index, indexes[i]);
}

static const float spread[N] = {0.95f, 0.2f, 0.9f, 0.99f, 0.1f, 0.5f, 0.92f, 0.3f};

static void test_threshold_takes_all_above(void **state) {
    (void)state;
    block b;
    block_init(&b, spread);
    step(&policy_threshold, &b);
    assert_changes(&b, 3, (int[]){0, 3, 6}); /* 0.9 is not above 0.9 */
    assert_false(b.decision.n_finished);
    step(&policy_threshold, &b); /* none above: the best one, 0.9 */
    assert_changes(&b, 1, (int[]){2});
    block_init(&b, spread);
    b.params.threshold = (double)0.9f;
    b.params.is_inclusive = true;
    step(&policy_threshold, &b);
    assert_changes(&b, 4, (int[]){0, 2, 3, 6});
}

static void test_threshold_schedule_is_a_floor(void **state) {
    (void)state;
    block b;
    block_init(&b, spread);
    b.params.steps = 2; /* four a step at least */
    step(&policy_threshold, &b);
    assert_changes(&b, 4, (int[]){0, 2, 3, 6});
    step(&policy_threshold, &b);
    assert_changes(&b, 4, (int[]){1, 4, 5, 7});
    assert_true(b.decision.n_finished);
}

static void test_ties_go_to_the_lower_index(void **state) {
    (void)state;
    static const float equal[N] = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f};
    block b;
    block_init(&b, equal);
    for (int i = 0; i < N; i++) {
        step(&policy_threshold, &b);
        assert_changes(&b, 1, (int[]){i});
        assert_int_equal(b.decision.n_finished, i == N - 1);
    }
}

static void test_prompt_stays(void **state) {
    (void)state;
    for (int i = 0; um_policy_at(i); i++) {
        block b;
        block_init(&b, spread);
        b.states[0] = b.states[3] = UM_POSITION_PROMPT; /* their tokens equal the mask token */
        for (int n = 0; n < 3 * N && !b.decision.n_finished; n++) {
            step(um_policy_at(i), &b);
            if (!(um_policy_at(i)->flags & UM_POLICY_MAY_IDLE))
                assert_true(b.decision.n_changes || b.decision.n_finished);
            for (int j = 0; j < b.decision.n_changes; j++) {
                assert_int_not_equal(b.changes[j].index, 0);
                assert_int_not_equal(b.changes[j].index, 3);
            }
        }
        assert_true(b.decision.n_finished);
        assert_int_equal(b.tokens[0], MASK);
    }
}

static void test_schedule_splits_evenly(void **state) {
    (void)state;
    block b;
    block_init(&b, spread);
    b.params.threshold = 2;
    b.params.steps = 3; /* 3, 3, 2 */
    step(&policy_schedule, &b);
    assert_changes(&b, 3, (int[]){0, 3, 6});
    step(&policy_schedule, &b);
    assert_changes(&b, 3, (int[]){2, 5, 7});
    step(&policy_schedule, &b);
    assert_changes(&b, 2, (int[]){1, 4});
    assert_true(b.decision.n_finished);
    block_init(&b, spread); /* one a step, and what is above the threshold */
    step(&policy_schedule, &b);
    assert_changes(&b, 3, (int[]){0, 3, 6});
}

/* Random remasking is a permutation that depends on the key alone, and is uniform: over many seeds
 * each position is first equally often. */
static void test_random_order(void **state) {
    (void)state;
    enum { N_SEEDS = 16000 };
    int first[N] = {0};
    for (int seed = 0; seed < N_SEEDS; seed++) {
        block b;
        block_init(&b, spread);
        b.params.is_random = true;
        b.key.seed = (uint64_t)seed;
        b.view.first_position = 32;
        step(&policy_schedule, &b);
        assert_int_equal(b.decision.n_changes, 1);
        first[b.changes[0].index]++;
        if (seed) continue;
        block again;
        block_init(&again, spread);
        again.params.is_random = true;
        again.view.first_position = 32;
        step(&policy_schedule, &again);
        assert_int_equal(again.changes[0].index, b.changes[0].index);
    }
    double chi_square = 0, expected = (double)N_SEEDS / N;
    for (int i = 0; i < N; i++)
        chi_square += (first[i] - expected) * (first[i] - expected) / expected;
    assert_true(chi_square < 24.3); /* 7 degrees of freedom, 0.1 % */
}

static void test_edit_corrects_and_settles(void **state) {
    (void)state;
    static const float sure[N] = {0.95f, 0.95f, 0.95f, 0.95f, 0.95f, 0.95f, 0.95f, 0.95f};
    block b;
    block_init(&b, sure);
    step(&policy_edit, &b);
    assert_int_equal(b.decision.n_changes, N);
    assert_false(b.decision.n_finished); /* a forward that finds nothing is still to come */
    b.candidates[2].token = 50;          /* now it prefers another token */
    b.candidates[5] = (um_candidate){.token = 51, .probability = 0.8f}; /* not above 0.8 */
    step(&policy_edit, &b);
    assert_int_equal(b.decision.n_changes, 2); /* 0.8f is above 0.8 by rounding */
    step(&policy_edit, &b);
    assert_int_equal(b.decision.n_changes, 0);
    assert_true(b.decision.n_finished);
}

static void test_edit_budget(void **state) {
    (void)state;
    static const float sure[N] = {0.95f, 0.95f, 0.95f, 0.95f, 0.95f, 0.95f, 0.95f, 0.95f};
    for (int post_steps = 0; post_steps < 4; post_steps++) {
        block b;
        block_init(&b, sure);
        b.params.post_steps = post_steps;
        int n_forwards = 0;
        do {
            for (int i = 0; i < N; i++) b.candidates[i].token++; /* never content */
            step(&policy_edit, &b);
            n_forwards++;
        } while (!b.decision.n_finished && n_forwards < 100);
        assert_int_equal(n_forwards, 1 + post_steps);
    }
}

/* RND1's even steps, whose rounding is that of float32: 22 * (15 / 22) is 15 there. */
static void test_even_steps(void **state) {
    (void)state;
    enum { MANY = 22 };
    static const int32_t left[MANY] = {21, 20, 19, 18, 17, 16, 15, 14, 12, 12, 11,
                                       10, 9,  8,  7,  6,  5,  4,  3,  2,  1,  0};
    int32_t order[MANY];
    uint8_t states[MANY];
    double keys[MANY];
    um_candidate candidates[MANY] = {{.token = 1}};
    um_policy_change changes[MANY + 1];
    um_policy_params params = {.steps = MANY};
    um_policy_view view = {.params = &params,
                           .n = MANY,
                           .states = states,
                           .order = order,
                           .keys = keys,
                           .candidates = candidates};
    memset(states, UM_POSITION_MASKED, sizeof states);
    for (int32_t i = 0; i < MANY; i++) {
        um_policy_decision d = {.changes = changes};
        int32_t n_masked = 0;
        view.i_step = i;
        policy_entropy.step(&view, &d);
        for (int32_t k = 0; k < d.n_changes; k++) states[changes[k].index] = UM_POSITION_COMMITTED;
        for (int k = 0; k < MANY; k++) n_masked += states[k] == UM_POSITION_MASKED;
        assert_int_equal(n_masked, left[i]);
    }
}

/* A block that comes back more often than there are tokens to try still gets a token. */
static void test_levenshtein_runs_out_of_tokens(void **state) {
    (void)state;
    static const float sure[N] = {0.5f, 0.95f, 0.95f, 0.95f, 0.95f, 0.95f, 0.95f, 0.95f};
    block b;
    block_init(&b, sure);
    b.params.post_steps = 300;
    b.params.edit_threshold = 0;
    b.view.delete_token = b.view.split_token = MASK + 1; /* never chosen */
    assert_true(policy_levenshtein.state_bytes(&b.params, N) <= sizeof b.state);
    for (int i = 0; i < 290; i++) {
        for (int k = 0; k < N; k++) b.candidates[k].token = 10 + k + (i % 2) * 20;
        step(&policy_levenshtein, &b);
        for (int k = 0; k < b.decision.n_changes; k++) assert_in_range(b.changes[k].token, 0, MASK);
    }
}

static void test_find(void **state) {
    (void)state;
    assert_ptr_equal(um_policy_find("edit"), &policy_edit);
    assert_null(um_policy_find("best"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threshold_takes_all_above),
        cmocka_unit_test(test_threshold_schedule_is_a_floor),
        cmocka_unit_test(test_ties_go_to_the_lower_index),
        cmocka_unit_test(test_prompt_stays),
        cmocka_unit_test(test_schedule_splits_evenly),
        cmocka_unit_test(test_random_order),
        cmocka_unit_test(test_edit_corrects_and_settles),
        cmocka_unit_test(test_edit_budget),
        cmocka_unit_test(test_even_steps),
        cmocka_unit_test(test_levenshtein_runs_out_of_tokens),
        cmocka_unit_test(test_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

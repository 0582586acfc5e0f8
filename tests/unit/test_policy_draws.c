/* SPDX-License-Identifier: Apache-2.0
 *
 * What policies draw, against the exact distribution: 100,000 steps with fixed seeds and a
 * chi-square. Which positions a step takes is counted as a set, so that dependence between
 * positions would show as well.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "decode/policy.h"

enum { N = 5, SETS = 1 << N, DRAWS = 100000, MASK = 99 };

static const float confidences[N] = {0.9f, 0.3f, 0.6f, 0.05f, 0.45f};

static double draw(const um_policy_view *view, int32_t index) {
    rng_key key = *(const rng_key *)view->draw_key;
    key.position = (uint32_t)(view->first_position + index);
    return rng_uniform(&key, RNG_PURPOSE_REMASK, 0);
}

/* Counts which sets of positions the first step of a block takes, one seed a draw. */
static void count_sets(const um_policy *policy, const um_policy_params *params, int counts[SETS]) {
    int32_t tokens[N], order[N];
    uint8_t states[N];
    um_candidate candidates[N];
    double keys[N];
    for (int i = 0; i < N; i++) {
        tokens[i] = MASK;
        states[i] = UM_POSITION_MASKED;
        candidates[i] = (um_candidate){.token = i, .probability = confidences[i]};
    }
    memset(counts, 0, SETS * sizeof *counts);
    for (int k = 0; k < DRAWS; k++) {
        um_policy_change changes[N + 1];
        rng_key key = {.seed = (uint64_t)k, .request = 17};
        um_policy_decision decision = {.changes = changes};
        um_policy_view view = {.params = params,
                               .n = N,
                               .first_position = 40,
                               .block_len = N,
                               .vocab = MASK + 1,
                               .mask_token = MASK,
                               .tokens = tokens,
                               .states = states,
                               .candidates = candidates,
                               .order = order,
                               .keys = keys,
                               .draw = draw,
                               .draw_key = &key};
        policy->step(&view, &decision);
        int set = 0;
        for (int i = 0; i < decision.n_changes; i++) set |= 1 << changes[i].index;
        counts[set]++;
    }
}

static void check(const char *what, const int counts[SETS], const double p[SETS]) {
    double chi = 0, total = 0;
    int cells = 0;
    for (int set = 0; set < SETS; set++) {
        total += p[set];
        if (p[set] == 0 && counts[set] != 0) fail_msg("%s: set %d can not occur", what, set);
        if (p[set] == 0) continue;
        double expected = p[set] * DRAWS;
        chi += (counts[set] - expected) * (counts[set] - expected) / expected;
        cells++;
    }
    assert_true(fabs(total - 1) < 1e-9);
    /* Six standard deviations above the mean of a chi-square. */
    double limit = (cells - 1) + 6 * sqrt(2.0 * (cells - 1)) + 6;
    if (chi > limit) fail_msg("%s: chi-square: expected < %g, found %g", what, limit, chi);
}

static int size_of(int set) {
    int n = 0;
    for (; set; set &= set - 1) n++;
    return n;
}

/* The probability of drawing a set without replacement, each next one by weight. */
static double without_replacement(const double weights[N], int set, double left) {
    if (set == 0) return 1;
    double sum = 0;
    for (int i = 0; i < N; i++)
        if (set & 1 << i)
            sum += weights[i] / left *
                   without_replacement(weights, set & ~(1 << i), left - weights[i]);
    return sum;
}

/* Random remasking: every set of the step's size alike. */
static void test_random_remasking(void **state) {
    (void)state;
    um_policy_params params = {.steps = 3, .is_random = true}; /* 2 of 5 in the first step */
    int counts[SETS];
    double p[SETS];
    count_sets(&policy_schedule, &params, counts);
    for (int set = 0; set < SETS; set++) p[set] = size_of(set) == 2 ? 0.1 : 0;
    check("random remasking", counts, p);
}

static void test_first_hitting(void **state) {
    (void)state;
    um_policy_params params = {.steps = N};
    int counts[SETS];
    double p[SETS];
    count_sets(&policy_first_hitting, &params, counts);
    for (int set = 0; set < SETS; set++) p[set] = size_of(set) == 1 ? 0.2 : 0;
    check("first-hitting", counts, p);
}

/* Each position by itself, with the schedule's share. */
static void test_origin(void **state) {
    (void)state;
    um_policy_params params = {.steps = 4, .eps = 0.1};
    int counts[SETS];
    double p[SETS], share = 1 - (1 - 0.9 / 4) / 1;
    count_sets(&policy_origin, &params, counts);
    for (int set = 0; set < SETS; set++)
        p[set] = pow(share, size_of(set)) * pow(1 - share, N - size_of(set));
    check("origin", counts, p);
}

/* alg_temp: Gumbel noise on the keys is a draw without replacement from softmax(c / alg_temp). */
static void test_alg_temp(void **state) {
    (void)state;
    static const double temperatures[] = {0.2, 1, 5};
    for (size_t t = 0; t < sizeof temperatures / sizeof *temperatures; t++) {
        um_policy_params params = {.steps = 2, .eps = 1e-3, .alg_temp = temperatures[t]};
        int counts[SETS], n_taken = (int)(N * 0.4995);
        double p[SETS], weights[N], total = 0;
        for (int i = 0; i < N; i++) total += weights[i] = exp(confidences[i] / temperatures[t]);
        for (int set = 0; set < SETS; set++)
            p[set] = size_of(set) == n_taken ? without_replacement(weights, set, total) : 0;
        count_sets(&policy_maskgit, &params, counts);
        check("alg_temp", counts, p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_remasking),
        cmocka_unit_test(test_first_hitting),
        cmocka_unit_test(test_origin),
        cmocka_unit_test(test_alg_temp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps that are queued ahead change nothing: every policy that has a twin, with and without draws,
 * folding and bias, alone and in company that joins and leaves, gives the events of an engine that
 * makes each step by itself; and they are made, where they can be. UNMASK_DEVICE=cuda:0 runs it on
 * a GPU.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "support/recording.h"

enum { N_PROMPT = 37, MAX_TOKENS = 44, BLOCK = 16, N_BIAS = 5, COMPANY = 6 };

static const char *const models[] = {"llada2_moe", "llada", "sdar", "dream"};
static const char *const policies[] = {"threshold", "schedule", "static", "dynamic", "edit"};
enum { N_MODELS = sizeof models / sizeof *models, N_POLICIES = 5, N_VARIANTS = 5 };

typedef struct request_case {
    um_request_options options;
    int32_t prompt[N_PROMPT];
    um_logit_bias bias[N_BIAS];
} request_case;

static um_engine *open_engine(const char *model, um_ahead ahead) {
    char path[512];
    um_engine_options options;
    um_engine_options_init(&options);
    snprintf(path, sizeof path, "%s/models/%s", TEST_DATA_DIR, model);
    options.directory = path;
    options.n_threads = 2;
    options.ahead = ahead;
    return recording_open_with(&options);
}

/* Variant 0: greedy; 1: drawn, biased; 2: unfolded, half of the threshold; 3: few steps; 4: random
 * remasking, where the policy has it. */
static void make(const um_engine *engine, const char *policy, int variant, uint64_t seed,
                 request_case *r) {
    const um_model_info *info = um_engine_info(engine);
    um_request_options *o = &r->options;
    bool has_threshold = strcmp(policy, "schedule") != 0 && strcmp(policy, "static") != 0;
    um_request_options_init(o);
    for (int32_t i = 0; i < N_PROMPT; i++) {
        rng_key key = {.seed = seed, .position = (uint32_t)i};
        r->prompt[i] = (int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, 0) * info->vocab);
    }
    o->prompt = r->prompt;
    o->n_prompt = N_PROMPT;
    o->max_tokens = MAX_TOKENS;
    o->block_len = BLOCK;
    o->policy = policy;
    o->seed = seed;
    o->ignore_eos = seed % 3 != 0;
    if (has_threshold) o->threshold = variant == 2 ? 0.1 : 0.4;
    if (strcmp(policy, "edit") == 0) {
        o->edit_threshold = 0.2;
        o->post_steps = 3;
    }
    if (variant == 1) {
        o->temperature = 0.8;
        for (int i = 0; i < N_BIAS; i++)
            r->bias[i] = (um_logit_bias){.token = 3 + 7 * i, .bias = i % 2 ? 2.5f : -4.0f};
        o->logit_bias = r->bias;
        o->n_logit_bias = N_BIAS;
    }
    if (variant == 2) o->fold = UM_FOLD_OFF;
    if (variant == 3 && strcmp(policy, "edit") != 0) o->steps = 5;
    if (variant == 4 && strcmp(policy, "schedule") == 0) o->remask = UM_REMASK_RANDOM;
}

static int64_t forwards_ahead(um_engine *engine) {
    um_stats stats;
    um_engine_stats(engine, &stats);
    assert_true(stats.forwards_ahead <= stats.forwards);
    assert_true(stats.gaps_ns >= 0);
    return stats.forwards_ahead;
}

/* Each request alone. */
static void steps_ahead_are_the_same(void **state) {
    (void)state;
    for (int m = 0; m < N_MODELS; m++) {
        um_engine *on = open_engine(models[m], UM_AHEAD_ON), *off;
        off = open_engine(models[m], UM_AHEAD_OFF);
        for (int p = 0; p < N_POLICIES; p++) {
            int64_t before = forwards_ahead(on), n_forwards = 0;
            for (int v = 0; v < N_VARIANTS; v++) {
                char what[128];
                request_case r;
                recording a, b;
                make(on, policies[p], v, (uint64_t)(10 * p + v), &r);
                snprintf(what, sizeof what, "%s, %s, variant %d", models[m], policies[p], v);
                recording_run(off, &r.options, 1, &a);
                recording_run(on, &r.options, 1, &b);
                recording_assert_equal(&a, &b, what);
                n_forwards += a.forwards;
                recording_free(&a);
                recording_free(&b);
            }
            int64_t n_ahead = forwards_ahead(on) - before;
            printf("%s, %s: %lld of %lld forwards ahead\n", models[m], policies[p],
                   (long long)n_ahead, (long long)n_forwards);
            /* A block's first step, and those of an edit that settles it, are made alone. */
            assert_true(3 * n_ahead > n_forwards);
        }
        assert_int_equal(forwards_ahead(off), 0);
        um_engine_close(&on);
        um_engine_close(&off);
    }
}

/* All policies at once; some requests are cancelled or destroyed on the way. */
static void run_company(um_engine *engine, uint64_t seed, recording *done) {
    request_case cases[COMPANY];
    um_request *requests[COMPANY] = {NULL};
    um_error err;
    int n_started = 0, n_steps = 0;
    for (int i = 0; i < COMPANY; i++)
        make(engine, policies[i % 5], i % 3, seed + (uint64_t)i, &cases[i]);
    memset(done, 0, COMPANY * sizeof *done);
    for (;;) {
        /* One more every few steps, so that some go on alone for a while. */
        if (n_started < COMPANY && n_steps++ % 7 == 0) {
            if (um_request_create(engine, &cases[n_started].options, &requests[n_started], &err) !=
                UM_OK)
                fail_msg("%s", err.message);
            n_started++;
        }
        if (n_steps == 17) um_request_cancel(requests[0]);
        if (n_steps == 25) um_request_destroy(&requests[1]);
        um_status status = um_engine_step(engine, &err);
        bool has_events = false;
        for (int i = 0; i < n_started; i++) {
            um_event event;
            while (requests[i] && um_request_next_event(requests[i], &event) == UM_OK) {
                has_events = true;
                recording_add(&done[i], &event);
            }
        }
        if (status == UM_AGAIN && !has_events && n_started == COMPANY) break;
    }
    for (int i = 0; i < COMPANY; i++) um_request_destroy(&requests[i]);
}

static void company_changes_nothing(void **state) {
    (void)state;
    for (int m = 0; m < 2; m++) {
        um_engine *on = open_engine(models[m], UM_AHEAD_ON), *off;
        off = open_engine(models[m], UM_AHEAD_OFF);
        for (uint64_t seed = 100; seed < 104; seed++) {
            recording a[COMPANY], b[COMPANY];
            run_company(off, seed, a);
            run_company(on, seed, b);
            for (int i = 0; i < COMPANY; i++) {
                char what[64];
                snprintf(what, sizeof what, "%s, request %d of %llu", models[m], i,
                         (unsigned long long)seed);
                if (i >= 2) recording_assert_equal(&a[i], &b[i], what);
                recording_free(&a[i]);
                recording_free(&b[i]);
            }
        }
        int64_t n_pages, n_free;
        um_engine_pages(on, &n_pages, &n_free);
        assert_int_equal(n_pages, n_free);
        assert_true(forwards_ahead(on) > 20);
        um_engine_close(&on);
        um_engine_close(&off);
    }
}

/* What needs the host in every step is made step by step. */
static void what_needs_the_host_waits_for_it(void **state) {
    (void)state;
    um_engine *engine = open_engine("llada2_moe", UM_AHEAD_ON);
    for (int k = 0; k < 6; k++) {
        request_case r;
        recording a;
        make(engine, k == 5 ? "maskgit" : "threshold", 0, 7, &r);
        if (k == 0) r.options.frequency_penalty = 0.5;
        if (k == 1) r.options.top_logprobs = 2;
        if (k == 2 || k == 3) r.options.temperature = 0.7;
        if (k == 2) r.options.top_k = 5;
        if (k == 3) r.options.top_p = 0.9;
        if (k == 4) r.options.cfg_scale = 0.5;
        if (k == 5) r.options.threshold = NAN;
        recording_run(engine, &r.options, 1, &a);
        if (a.status != UM_OK) fail_msg("case %d: %s", k, a.error.message);
        recording_free(&a);
    }
    assert_int_equal(forwards_ahead(engine), 0);
    um_engine_close(&engine);
}

static void a_wrong_option_is_refused(void **state) {
    (void)state;
    char path[512];
    um_engine_options options;
    um_engine *engine = NULL;
    um_error err;
    um_engine_options_init(&options);
    snprintf(path, sizeof path, "%s/models/llada", TEST_DATA_DIR);
    options.directory = path;
    options.ahead = (um_ahead)3;
    assert_int_equal(um_engine_open(&options, &engine, &err), UM_INVALID);
    assert_string_equal(err.where, "ahead");
    assert_null(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_ahead_are_the_same),
        cmocka_unit_test(company_changes_nothing),
        cmocka_unit_test(what_needs_the_host_waits_for_it),
        cmocka_unit_test(a_wrong_option_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

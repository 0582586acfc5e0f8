/* SPDX-License-Identifier: Apache-2.0
 *
 * What a score must not depend on, and what it must be as a statistic: the same bits for any number
 * of threads, any size of the page pool and beside other requests; masks of even counts; a standard
 * error that says how far estimates scatter; pages back whatever happens.
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "support/recording.h"

enum { N_MAX = 128, CANVAS = 128 };

static const char llada[] = TEST_DATA_DIR "/models/llada";
static const char llada2[] = TEST_DATA_DIR "/models/llada2_moe";
static const char fast[] = TEST_DATA_DIR "/models/fast_dllm_v2";
static const char demo[] = PROJECT_DIR "/models/demo";

static int32_t canvas[CANVAS];

static int fill_canvas(void **state) {
    (void)state;
    for (int32_t i = 0; i < CANVAS; i++) canvas[i] = (i * 37 + 11) % 480 + 3;
    return 0;
}

static um_score_options options_of(int32_t n_prompt, int32_t n_answer, int32_t n_samples) {
    um_score_options options;
    um_score_options_init(&options);
    options.prompt = canvas;
    options.n_prompt = (size_t)n_prompt;
    options.answer = canvas + n_prompt;
    options.n_answer = (size_t)n_answer;
    options.n_samples = n_samples;
    options.seed = 11;
    return options;
}

static void score_into(um_engine *engine, const um_score_options *options, double *samples,
                       um_score_result *result) {
    um_error err;
    if (um_engine_score(engine, options, result, samples, &err) != UM_OK)
        fail_msg("%s", err.message);
}

static void assert_all_free(um_engine *engine) {
    int64_t n_pages, n_free;
    um_engine_pages(engine, &n_pages, &n_free);
    assert_int_equal(n_free, n_pages);
}

static void test_threads_and_batches(void **state) {
    static const struct {
        const char *directory;
        int32_t block_len, n_prompt, n_answer, n_samples;
        double cfg_scale;
    } cases[] = {
        {llada, 0, 30, 40, 9, 0},   {llada, 0, 30, 40, 5, 1}, {llada2, 32, 40, 80, 7, 0},
        {llada2, 8, 19, 60, 9, 0},  {fast, 32, 40, 60, 7, 0}, {fast, 8, 32, 40, 5, 0.5},
        {llada2, 45, 44, 77, 6, 0}, {fast, 2, 3, 9, 5, 0},
    };
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c += TEST_IS_SAMPLED ? 3 : 1) {
        um_score_options options =
            options_of(cases[c].n_prompt, cases[c].n_answer, cases[c].n_samples);
        double expected[N_MAX], found[N_MAX];
        um_score_result first = {0}, other;
        options.block_len = cases[c].block_len;
        options.cfg_scale = cases[c].cfg_scale;
        /* The first engine holds all samples at once; 0 is the default pool. */
        for (int n_threads = 1; n_threads <= (TEST_IS_SAMPLED ? 2 : 3); n_threads++) {
            int64_t pools[] = {0, 0, 0};
            um_error err;
            for (int32_t n = 32; pools[1] == 0; n += 32) { /* the smallest pool that does */
                um_engine *small = recording_open(cases[c].directory, n_threads, n);
                if (um_engine_score(small, &options, &other, NULL, &err) == UM_OK) pools[1] = n;
                um_engine_close(&small);
            }
            pools[2] = pools[1] + 160; /* a few lanes, the last group smaller */
            for (size_t p = 0; p < 3; p++) {
                um_engine *engine = recording_open(cases[c].directory, n_threads, pools[p]);
                bool is_first = n_threads == 1 && p == 0;
                score_into(engine, &options, is_first ? expected : found,
                           is_first ? &first : &other);
                assert_all_free(engine);
                um_engine_close(&engine);
                if (is_first) continue;
                if (memcmp(expected, found, (size_t)options.n_samples * sizeof *found) != 0)
                    fail_msg("case %zu: %d threads, a pool of %lld", c, n_threads,
                             (long long)pools[p]);
                assert_memory_equal(&first, &other, sizeof first);
            }
        }
    }
}

/* Requests before, beside and after; the arena and the pages that they leave change nothing. */
typedef struct company {
    um_engine *engine;
    um_request *request;
    int n_calls, n_stop;
    int64_t last_done;
} company;

static bool step_beside(void *user, const char *what, int64_t done, int64_t total) {
    company *c = user;
    um_event event;
    um_error err;
    assert_string_equal(what, "scoring");
    assert_true(done >= c->last_done && done <= total);
    c->last_done = done;
    c->n_calls++;
    if (c->request) {
        assert_int_equal(um_engine_step(c->engine, &err), UM_OK);
        while (um_request_next_event(c->request, &event) == UM_OK) {
        }
    }
    return c->n_calls != c->n_stop;
}

static void test_beside_requests(void **state) {
    static const char *const directories[] = {llada, llada2};
    (void)state;
    for (size_t d = 0; d < 2; d++) {
        um_score_options options = options_of(40, 60, 80);
        double expected[N_MAX], found[N_MAX];
        um_score_result result;
        um_error err;
        company c = {.engine = recording_open(directories[d], 2, 0)};
        score_into(c.engine, &options, expected, &result);
        um_request_options request;
        um_request_options_init(&request);
        request.prompt = canvas;
        request.n_prompt = 50;
        request.max_tokens = 200;
        request.steps = 100;
        request.policy = "schedule";
        assert_int_equal(um_request_create(c.engine, &request, &c.request, &err), UM_OK);
        options.progress = step_beside;
        options.progress_user = &c;
        score_into(c.engine, &options, found, &result);
        assert_memory_equal(expected, found, 80 * sizeof *found);
        um_request_destroy(&c.request);
        assert_all_free(c.engine);
        um_engine_close(&c.engine);
    }
}

/* Host threads that score at the same time on one engine. */
typedef struct scorer {
    um_engine *engine;
    um_score_options options;
    um_status status;
    double samples[N_MAX];
} scorer;

static void *score_in_thread(void *argument) {
    scorer *s = argument;
    um_score_result result;
    um_error err;
    s->status = um_engine_score(s->engine, &s->options, &result, s->samples, &err);
    return NULL;
}

static void test_host_threads_score(void **state) {
    enum { N_THREADS = 3 };
    (void)state;
    um_engine *engine = recording_open(llada2, 2, 4096);
    um_score_options options = options_of(40, 60, 20);
    double expected[N_MAX];
    um_score_result result;
    pthread_t threads[N_THREADS];
    scorer scorers[N_THREADS];
    score_into(engine, &options, expected, &result);
    for (int i = 0; i < N_THREADS; i++) {
        scorers[i] = (scorer){.engine = engine, .options = options};
        assert_int_equal(pthread_create(&threads[i], NULL, score_in_thread, &scorers[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(scorers[i].status, UM_OK);
        assert_memory_equal(expected, scorers[i].samples, 20 * sizeof *expected);
    }
    assert_all_free(engine);
    um_engine_close(&engine);
}

static void test_cancelled(void **state) {
    static const char *const directories[] = {llada, llada2, fast};
    (void)state;
    for (size_t d = 0; d < 3; d++) {
        um_score_options options = options_of(40, 60, 12);
        um_score_result result;
        um_error err;
        company c = {.engine = recording_open(directories[d], 2, 256)};
        options.progress = step_beside;
        options.progress_user = &c;
        score_into(c.engine, &options, NULL, &result);
        int n_calls = c.n_calls;
        assert_true(n_calls >= 3);
        for (int n = 1; n <= n_calls; n += 2) {
            c.n_calls = 0;
            c.last_done = 0;
            c.n_stop = n;
            assert_int_equal(um_engine_score(c.engine, &options, &result, NULL, &err),
                             UM_CANCELLED);
            assert_int_equal(c.n_calls, n);
            assert_all_free(c.engine);
        }
        um_engine_close(&c.engine);
    }
}

/* Other requests hold the pages: not now, and no harm. */
static void test_pages_in_use(void **state) {
    (void)state;
    um_engine *engine = recording_open(llada, 1, 128);
    um_score_options options = options_of(20, 30, 4);
    um_request_options held;
    um_request *request;
    um_score_result result;
    um_error err;
    um_request_options_init(&held);
    held.prompt = canvas;
    held.n_prompt = 20;
    held.max_tokens = 80;
    assert_int_equal(um_request_create(engine, &held, &request, &err), UM_OK);
    assert_int_equal(um_engine_step(engine, &err), UM_OK);
    assert_int_equal(um_engine_score(engine, &options, &result, NULL, &err), UM_AGAIN);
    um_request_destroy(&request);
    score_into(engine, &options, NULL, &result);
    options = options_of(20, 100, 4);
    score_into(engine, &options, NULL, &result);
    options.cfg_scale = 1;
    assert_int_equal(um_engine_score(engine, &options, &result, NULL, &err), UM_LIMIT);
    assert_all_free(engine);
    um_engine_close(&engine);
}

static void expect_refused(um_engine *engine, const um_score_options *options, um_status status,
                           const char *says) {
    um_score_result result;
    um_error err = {.status = UM_OK};
    assert_int_equal(um_engine_score(engine, options, &result, NULL, &err), status);
    if (!strstr(err.message, says)) fail_msg("expected \"%s\" in \"%s\"", says, err.message);
    assert_all_free(engine);
}

static void test_refused(void **state) {
    (void)state;
    um_engine *engine = recording_open(llada2, 1, 0);
    const um_model_info *info = um_engine_info(engine);
    um_score_options good = options_of(20, 30, 4), o;
    int32_t bad[4] = {5, 6, info->vocab, 7};
    o = good, o.n_prompt = 0, expect_refused(engine, &o, UM_INVALID, "prompt");
    o = good, o.n_answer = 0, expect_refused(engine, &o, UM_INVALID, "answer");
    o = good, o.answer = NULL, expect_refused(engine, &o, UM_INVALID, "answer");
    o = good, o.n_samples = 0, expect_refused(engine, &o, UM_INVALID, "n_samples");
    o = good, o.n_samples = 1000001, expect_refused(engine, &o, UM_INVALID, "n_samples");
    o = good, o.block_len = -1, expect_refused(engine, &o, UM_INVALID, "block_len");
    o = good, o.block_len = 1025, expect_refused(engine, &o, UM_INVALID, "block_len");
    o = good, o.cfg_scale = -1, expect_refused(engine, &o, UM_INVALID, "cfg_scale");
    o = good, o.cfg_scale = NAN, expect_refused(engine, &o, UM_INVALID, "cfg_scale");
    o = good, o.n_prompt = SIZE_MAX, expect_refused(engine, &o, UM_LIMIT, "context");
    o = good, o.n_answer = 1020, expect_refused(engine, &o, UM_LIMIT, "context");
    o = good, o.prompt = bad, o.n_prompt = 4, expect_refused(engine, &o, UM_INVALID, "number 2");
    o = good, o.answer = bad, o.n_answer = 4, expect_refused(engine, &o, UM_INVALID, "number 2");
    bad[2] = -1;
    o = good, o.answer = bad, o.n_answer = 4, expect_refused(engine, &o, UM_INVALID, "number 2");
    bad[2] = info->mask_token;
    o = good, o.answer = bad, o.n_answer = 4, expect_refused(engine, &o, UM_INVALID, "mask token");
    um_engine_close(&engine);
    engine = recording_open(llada, 1, 0);
    o = good, o.block_len = 32, expect_refused(engine, &o, UM_INVALID, "block_len");
    um_engine_close(&engine);
}

/* ---- Statistics --------------------------------------------------------------------------- */

/* Every number of masks comes equally often, and so does every position. */
static void test_masks(void **state) {
    enum { N = 24, SEEDS = 200 };
    (void)state;
    um_model_info info;
    um_error err;
    assert_int_equal(um_model_inspect(llada, -1, &info, &err), UM_OK);
    um_score_options options = options_of(10, N, N);
    int n_at[N] = {0};
    for (int seed = 0; seed < SEEDS; seed++) {
        bool is_seen[N + 1] = {false};
        options.seed = (uint64_t)seed;
        for (int32_t s = 0; s < N; s++) {
            uint8_t masked[N];
            int n = 0;
            assert_int_equal(um_score_masks(&info, &options, s, masked, &err), UM_OK);
            for (int i = 0; i < N; i++) {
                n += masked[i];
                n_at[i] += masked[i];
            }
            assert_true(n >= 1);
            assert_false(is_seen[n]); /* N samples of N positions: each number once */
            is_seen[n] = true;
        }
    }
    /* Each position is masked in (N + 1) / 2N of the samples; the counts are given, so that a
     * position's variance is the mean of q (1 - q) over q = k / N, about 1/6 a sample. */
    double expected = SEEDS * (N + 1) / 2.0, sd = sqrt(SEEDS * N / 6.0);
    for (int i = 0; i < N; i++) assert_true(fabs(n_at[i] - expected) < 4 * sd);
    options.n_samples = 3 * N; /* more samples than positions: each number as often */
    int n_of[N + 1] = {0};
    for (int32_t s = 0; s < 3 * N; s++) {
        uint8_t masked[N];
        int n = 0;
        assert_int_equal(um_score_masks(&info, &options, s, masked, &err), UM_OK);
        for (int i = 0; i < N; i++) n += masked[i];
        n_of[n]++;
    }
    for (int k = 1; k <= N; k++) assert_int_equal(n_of[k], 3);
    assert_int_equal(um_score_masks(&info, &options, 3 * N, (uint8_t[N]){0}, &err), UM_INVALID);
    assert_int_equal(um_score_masks(&info, &options, -1, (uint8_t[N]){0}, &err), UM_INVALID);
}

/* The scatter of the estimate over seeds, and the mean standard error that the runs claim. */
static void scatter(um_engine *engine, um_score_options *options, int32_t n_samples, double *spread,
                    double *claimed) {
    enum { SEEDS = 16 };
    double estimates[SEEDS], mean = 0, squares = 0;
    *claimed = 0;
    options->n_samples = n_samples;
    for (int i = 0; i < SEEDS; i++) {
        um_score_result result;
        options->seed = (uint64_t)(100 + i);
        score_into(engine, options, NULL, &result);
        estimates[i] = result.log_likelihood;
        mean += estimates[i] / SEEDS;
        *claimed += result.standard_error / SEEDS;
    }
    for (int i = 0; i < SEEDS; i++) squares += (estimates[i] - mean) * (estimates[i] - mean);
    *spread = sqrt(squares / (SEEDS - 1));
    printf("%d samples: %.3f, spread over seeds %.3f, mean standard error %.3f\n", n_samples, mean,
           *spread, *claimed);
}

static void test_tightens(void **state) {
    (void)state;
    if (TEST_IS_SAMPLED) skip(); /* numbers, not memory */
    static const char prompt[] = "Once upon a time there was a little";
    static const char answer[] =
        " girl who lived in a village near the forest. One day she went out to play with her dog.";
    um_engine *engine = recording_open(demo, 2, 0);
    um_tokenizer *tokenizer;
    um_score_options options;
    um_error err;
    int32_t *prompt_ids, *answer_ids;
    um_score_options_init(&options);
    assert_int_equal(um_tokenizer_open(demo, &tokenizer, &err), UM_OK);
    assert_int_equal(um_tokenizer_encode(tokenizer, prompt, sizeof prompt - 1, &prompt_ids,
                                         &options.n_prompt, &err),
                     UM_OK);
    assert_int_equal(um_tokenizer_encode(tokenizer, answer, sizeof answer - 1, &answer_ids,
                                         &options.n_answer, &err),
                     UM_OK);
    options.prompt = prompt_ids;
    options.answer = answer_ids;
    double spread[2], claimed[2];
    scatter(engine, &options, 4, &spread[0], &claimed[0]);
    scatter(engine, &options, 64, &spread[1], &claimed[1]);
    /* 16 times the samples: a quarter of the error. The spread of 16 seeds is known to a fifth;
     * stratified samples scatter less than the error says, never more. */
    assert_true(claimed[0] / claimed[1] > 3 && claimed[0] / claimed[1] < 5.5);
    for (int i = 0; i < 2; i++)
        assert_true(spread[i] < 1.5 * claimed[i] && spread[i] > claimed[i] / 5);
    assert_true(spread[1] < spread[0] / 2);
    um_free(prompt_ids);
    um_free(answer_ids);
    um_tokenizer_close(&tokenizer);
    um_engine_close(&engine);
}

/* ---- Memory ------------------------------------------------------------------------------- */

static void test_allocations(void **state) {
    (void)state;
    um_score_options options = options_of(40, 60, 5);
    options.block_len = 8;
    double expected[N_MAX], found[N_MAX];
    um_score_result result;
    um_error err;
    uint64_t n_failed = 0;
    for (uint64_t n = 0;; n++) {
        um_engine *engine = recording_open(llada2, 1, 0); /* whose scratch is empty */
        if (n == 0) {
            score_into(engine, &options, expected, &result);
            um_engine_close(&engine);
            continue;
        }
        memory_fault_at(n, 0);
        um_status status = um_engine_score(engine, &options, &result, found, &err);
        bool is_over = memory_fault_count() < n;
        memory_fault_at(0, 0);
        assert_all_free(engine);
        if (status != UM_OK) {
            assert_int_equal(status, UM_NO_MEMORY);
            assert_true(strlen(err.message) > 10);
            n_failed++;
            score_into(engine, &options, found, &result);
        }
        assert_memory_equal(expected, found, 5 * sizeof *found);
        um_engine_close(&engine);
        if (is_over) break;
    }
    assert_true(n_failed > 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_and_batches),
        cmocka_unit_test(test_beside_requests),
        cmocka_unit_test(test_host_threads_score),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_pages_in_use),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_tightens),
        cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, fill_canvas, NULL);
}

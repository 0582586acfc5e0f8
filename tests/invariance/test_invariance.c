/* SPDX-License-Identifier: Apache-2.0
 *
 * What must not change a result, bit for bit: the cache, the cut of the prefill, the number of
 * threads, the company of other requests, a second run. One table of models and settings; each
 * invariance runs over all of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "support/recording.h"

enum { PROMPT_MAX = 200, CACHE_TOKENS = 8192, N_BATCH = 8 };

typedef struct model_case {
    const char *name, *directory;
    bool is_full, is_large; /* large: only the first few ways of decoding */
} model_case;

static const model_case models[] = {
    {"llada2_moe", TEST_DATA_DIR "/models/llada2_moe", false, false},
    {"llada", TEST_DATA_DIR "/models/llada", true, false},
    {"demo", PROJECT_DIR "/models/demo", false, true},
};
/* Sampled: without the large one, which is last. */
enum { N_MODELS = sizeof models / sizeof *models - TEST_IS_SAMPLED };

/* A way of decoding; NAN-like defaults are set by um_request_options_init. */
typedef struct decode_case {
    const char *name, *policy;
    double threshold, edit_threshold, temperature, cfg_scale;
    int32_t steps, n_prompt, max_tokens, block_len;
    bool is_random;
} decode_case;

static const decode_case decodes[] = {
    {"threshold", "threshold", 0.6, -1, 0, 0, 0, 75, 50, 16, false},
    {"guidance", "schedule", -1, -1, 0, 0.7, 8, 37, 32, 16, false},
    {"short prompt", "threshold", 0.6, -1, 0, 0, 0, 3, 40, 32, false},
    {"schedule", "schedule", -1, -1, 0, 0, 8, 64, 64, 32, false},
    {"schedule, drawn, random order", "schedule", -1, -1, 0.8, 0, 8, 70, 48, 24, true},
    {"threshold, drawn", "threshold", 0.5, -1, 1.0, 0, 0, 40, 40, 20, false},
    {"edit", "edit", 0.5, 0.3, 0, 0, 0, 70, 60, 32, false},
};
enum { N_DECODES = sizeof decodes / sizeof *decodes, N_DECODES_LARGE = 2 };

static int n_decodes(const model_case *m) {
    return m->is_large ? N_DECODES_LARGE : N_DECODES;
}

/* Ids that depend on the case alone, so that every engine gets the same prompt. */
static void make_prompt(const um_model_info *info, uint64_t seed, int32_t *ids, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        rng_key key = {.seed = seed, .position = (uint32_t)i};
        ids[i] = (int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, 0) * (info->vocab - 20)) + 5;
    }
}

static void make_options(const um_engine *engine, const decode_case *d, uint64_t seed,
                         int32_t prompt[PROMPT_MAX], um_request_options *o) {
    um_request_options_init(o);
    make_prompt(um_engine_info(engine), seed, prompt, d->n_prompt);
    o->prompt = prompt;
    o->n_prompt = (size_t)d->n_prompt;
    o->max_tokens = d->max_tokens;
    o->block_len = d->block_len;
    o->policy = d->policy;
    if (d->threshold >= 0) o->threshold = d->threshold;
    if (d->edit_threshold >= 0) {
        o->edit_threshold = d->edit_threshold;
        o->post_steps = 4;
    }
    o->temperature = d->temperature;
    if (d->temperature > 0) {
        o->top_k = 20;
        o->top_p = 0.95;
    }
    o->cfg_scale = d->cfg_scale;
    o->steps = d->steps;
    if (d->is_random) o->remask = UM_REMASK_RANDOM;
    o->seed = seed;
    o->ignore_eos = true;
}

/* Runs one case on one engine, changed by `change`. */
typedef void (*option_change)(um_request_options *o, int variant);

static recording run_case(um_engine *engine, const decode_case *d, option_change change,
                          int variant) {
    int32_t prompt[PROMPT_MAX];
    um_request_options o;
    recording r;
    make_options(engine, d, 7, prompt, &o);
    if (change) change(&o, variant);
    recording_run(engine, &o, 1, &r);
    return r;
}

static void describe(char what[256], const char *invariance, const model_case *m,
                     const decode_case *d, int variant) {
    snprintf(what, 256, "%s: %s, %s, variant %d", invariance, m->name, d->name, variant);
}

/* Compares every case as it is with n_variants changed ones on the same engine. */
static void compare_variants(const char *invariance, option_change change, int n_variants) {
    for (int i = 0; i < N_MODELS; i++) {
        um_engine *engine = recording_open(models[i].directory, 2, CACHE_TOKENS);
        for (int j = 0; j < n_decodes(&models[i]); j++) {
            recording plain = run_case(engine, &decodes[j], NULL, 0);
            assert_int_equal(plain.status, UM_OK);
            assert_true(plain.n_steps > 1);
            for (int variant = 0; variant < n_variants; variant++) {
                char what[256];
                describe(what, invariance, &models[i], &decodes[j], variant);
                recording changed = run_case(engine, &decodes[j], change, variant);
                recording_assert_equal(&plain, &changed, what);
                recording_free(&changed);
            }
            recording_free(&plain);
        }
        um_engine_close(&engine);
    }
}

static void without_cache(um_request_options *o, int variant) {
    (void)variant;
    o->cache = UM_CACHE_NONE;
}

static void test_cache(void **state) {
    (void)state;
    compare_variants("cached and uncached", without_cache, 1);
}

static void cut_prefill(um_request_options *o, int variant) {
    static const int32_t chunks[] = {1, 64, 16, 33, 1000};
    o->prefill_chunk = chunks[variant];
}

static void test_prefill(void **state) {
    (void)state;
    compare_variants("prefill cut", cut_prefill, TEST_IS_SAMPLED ? 2 : 5);
}

static void test_again(void **state) {
    (void)state;
    compare_variants("a second run", NULL, 1);
}

static void test_threads(void **state) {
    (void)state;
    for (int i = 0; i < N_MODELS; i++) {
        um_engine *one = recording_open(models[i].directory, 1, CACHE_TOKENS);
        for (int n_threads = 2; n_threads <= 3; n_threads++) {
            um_engine *many = recording_open(models[i].directory, n_threads, CACHE_TOKENS);
            assert_int_equal(um_engine_threads(many), n_threads);
            for (int j = 0; j < n_decodes(&models[i]); j++) {
                char what[256];
                describe(what, "threads", &models[i], &decodes[j], n_threads);
                recording a = run_case(one, &decodes[j], NULL, 0);
                recording b = run_case(many, &decodes[j], NULL, 0);
                recording_assert_equal(&a, &b, what);
                recording_free(&a);
                recording_free(&b);
            }
            um_engine_close(&many);
        }
        um_engine_close(&one);
    }
}

/* Eight different requests at once, each against itself alone; twice as many pages as needed, and
 * then too few for all at once, so that some wait. */
static void test_batch(void **state) {
    (void)state;
    static int32_t prompts[N_BATCH][PROMPT_MAX];
    for (int i = 0; i < N_MODELS; i++) {
        for (int is_tight = 0; is_tight < 2; is_tight++) {
            um_engine *engine =
                recording_open(models[i].directory, 2, is_tight ? 480 : CACHE_TOKENS);
            um_request_options options[N_BATCH];
            recording together[N_BATCH], alone;
            for (int j = 0; j < N_BATCH; j++)
                make_options(engine, &decodes[j % n_decodes(&models[i])], (uint64_t)j + 100,
                             prompts[j], &options[j]);
            recording_run(engine, options, N_BATCH, together);
            for (int j = 0; j < N_BATCH; j++) {
                char what[256];
                describe(what,
                         is_tight ? "alone and in a batch that waits" : "alone and in a batch",
                         &models[i], &decodes[j % n_decodes(&models[i])], j);
                recording_run(engine, &options[j], 1, &alone);
                recording_assert_equal(&alone, &together[j], what);
                recording_free(&alone);
                recording_free(&together[j]);
            }
            int64_t n_pages, n_free;
            um_engine_pages(engine, &n_pages, &n_free);
            assert_int_equal(n_pages, n_free);
            um_engine_close(&engine);
        }
    }
}

/* The exact cache makes as many denoising forwards as no cache, and its prefill has no head. */
static void test_folding(void **state) {
    (void)state;
    um_engine *engine = recording_open(PROJECT_DIR "/models/demo", 2, CACHE_TOKENS);
    recording cached = run_case(engine, &decodes[0], NULL, 0);
    recording plain = run_case(engine, &decodes[0], without_cache, 0);
    assert_int_equal(cached.forwards, plain.forwards);
    assert_int_equal(plain.prefill_forwards, 0);
    assert_int_equal(cached.prefill_forwards, 1); /* 64 of 75 prompt tokens are whole blocks */
    recording_free(&cached);
    recording_free(&plain);
    um_engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache), cmocka_unit_test(test_prefill),
        cmocka_unit_test(test_again), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_batch), cmocka_unit_test(test_folding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

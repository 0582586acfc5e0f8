/* SPDX-License-Identifier: Apache-2.0
 *
 * What must not change a result, bit for bit: the cache, the cut of the prefill, the number of
 * threads, the company of other requests, a second run. One table of models and one of ways to
 * decode, every policy among them; each invariance runs over all of it.
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

enum { PROMPT_MAX = 200, CACHE_TOKENS = 8192, N_BATCH = 8 };

typedef struct model_case {
    const char *name, *directory;
    bool is_short;          /* only the first few ways of decoding */
    int32_t block_multiple; /* of block lengths: experts are routed by blocks */
    int32_t expert_cap;
} model_case;

#define FOLDER(name_) \
    { name_, TEST_DATA_DIR "/models/" name_, false, 1, 0 }
static const model_case models[] = {
    FOLDER("llada2_moe"),
    FOLDER("llada"),
    FOLDER("llada2_2"),
    FOLDER("llada_moe"),
    FOLDER("illada"),
    {"llada22_moe", TEST_DATA_DIR "/models/llada22_moe", false, 32, 0},
    FOLDER("dream"),
    FOLDER("fast_dllm_v2"),
    FOLDER("sdar"),
    FOLDER("sdar_moe"),
    FOLDER("rnd1"),
    {"llada2_moe, capped", TEST_DATA_DIR "/models/llada2_moe", true, 32, 6},
    {"demo", PROJECT_DIR "/models/demo", true, 1, 0},
};
/* Sampled: without the large one, which is last. */
enum { N_ALL = sizeof models / sizeof *models, N_MODELS = N_ALL - TEST_IS_SAMPLED };

/* A way of decoding. Zeros leave an option at its default, but for the temperature. */
typedef struct decode_case {
    const char *name, *policy;
    int32_t n_prompt, max_tokens, block_len, sub_block, steps, window, post_steps;
    double threshold, edit_threshold, temperature, cfg_scale, alg_temp, entropy_bound;
    um_metric metric;
    bool is_random, is_full_only, is_causal_only, sees_blocks;
} decode_case;

#define SIZES(prompt, tokens, block) .n_prompt = prompt, .max_tokens = tokens, .block_len = block
static const decode_case decodes[] = {
    {"threshold", "threshold", SIZES(75, 50, 16), .threshold = 0.6},
    {"guidance", "schedule", SIZES(37, 32, 16), .cfg_scale = 0.7, .steps = 8},
    {"short prompt", "threshold", SIZES(3, 40, 32), .threshold = 0.6},
    {"schedule", "schedule", SIZES(64, 64, 32), .steps = 8},
    {"random order, drawn", "schedule", SIZES(70, 48, 24), .steps = 8, .temperature = 0.8,
     .is_random = true},
    {"threshold, drawn", "threshold", SIZES(40, 40, 20), .threshold = 0.5, .temperature = 1},
    {"edit", "edit", SIZES(70, 60, 32), .threshold = 0.5, .edit_threshold = 0.3, .post_steps = 4},
    {"origin", "origin", SIZES(40, 48, 24), .steps = 12, .temperature = 0.7},
    {"maskgit", "maskgit", SIZES(33, 48, 48), .steps = 16, .alg_temp = 0.5},
    {"margin", "margin", SIZES(40, 32, 16), .steps = 20, .temperature = 0.9},
    {"entropy", "entropy", SIZES(32, 48, 16), .steps = 6, .temperature = 0.9, .alg_temp = 0.3},
    {"sequential", "sequential", SIZES(35, 32, 16), .steps = 8},
    {"static", "static", SIZES(35, 40, 8), .steps = 4},
    {"dynamic", "dynamic", SIZES(35, 40, 8), .threshold = 0.5, .temperature = 1},
    {"entropy-bound", "entropy-bound", SIZES(35, 48, 16), .entropy_bound = 3},
    {"entropy-bound by confidence", "entropy-bound", SIZES(35, 48, 16), .entropy_bound = 1,
     .metric = UM_METRIC_CONFIDENCE, .temperature = 0.8},
    {"factor", "factor", SIZES(35, 48, 16), .temperature = 0.6},
    {"hierarchy", "hierarchy", SIZES(40, 40, 20), .threshold = 0.8},
    {"credit", "credit", SIZES(40, 40, 20), .threshold = 0.6},
    {"first-hitting", "first-hitting", SIZES(33, 24, 12), .temperature = 1},
    {"multi-block", "multi-block", SIZES(40, 96, 16), .threshold = 0.5, .window = 3},
    {"multi-block, edited", "multi-block", SIZES(40, 64, 16), .threshold = 0.4,
     .edit_threshold = 0.6, .post_steps = 3, .window = 4},
    {"multi-block by entropy", "multi-block", SIZES(33, 64, 16), .threshold = 0.5,
     .metric = UM_METRIC_ENTROPY, .window = 3, .temperature = 0.7},
    {"parts of a block", "threshold", SIZES(50, 64, 32), .sub_block = 8, .threshold = 0.5,
     .is_causal_only = true},
    {"levenshtein", "levenshtein", SIZES(40, 64, 32), .threshold = 0.5},
    {"D2F", "multi-block", SIZES(37, 64, 16), .threshold = 0.6, .window = 3, .is_full_only = true,
     .sees_blocks = true},
};
enum { N_DECODES = sizeof decodes / sizeof *decodes, N_DECODES_SHORT = 2 };

static um_engine *open_model(const model_case *m, int n_threads, int64_t cache_tokens) {
    return recording_open_capped(m->directory, n_threads, cache_tokens, m->expert_cap);
}

static int n_decodes(const model_case *m) {
    return m->is_short ? N_DECODES_SHORT : N_DECODES;
}

/* Where a way of decoding means something, and is not left out under a sanitizer. */
static bool is_run(const um_engine *engine, int i_model, int i_decode) {
    const um_model_info *info = um_engine_info(engine);
    const decode_case *d = &decodes[i_decode];
    bool is_full = info->attention == UM_ATTENTION_FULL;
    if ((d->is_full_only && !is_full) || (d->is_causal_only && is_full)) return false;
    if ((um_policy_find(d->policy)->flags & UM_POLICY_INSERTS) && info->delete_token < 0)
        return false;
    return !TEST_IS_SAMPLED || (i_model + i_decode) % 13 == 0;
}

/* Ids that depend on the case alone, so that every engine gets the same prompt. */
static void make_prompt(const um_model_info *info, uint64_t seed, int32_t *ids, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        rng_key key = {.seed = seed, .position = (uint32_t)i};
        ids[i] = (int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, 0) * (info->vocab - 20)) + 5;
    }
}

static void make_options(const um_engine *engine, const model_case *m, const decode_case *d,
                         uint64_t seed, int32_t prompt[PROMPT_MAX], um_request_options *o) {
    um_request_options_init(o);
    make_prompt(um_engine_info(engine), seed, prompt, d->n_prompt);
    o->prompt = prompt;
    o->n_prompt = (size_t)d->n_prompt;
    o->max_tokens = d->max_tokens;
    o->block_len = (d->block_len + m->block_multiple - 1) / m->block_multiple * m->block_multiple;
    o->sub_block = d->sub_block;
    o->policy = d->policy;
    o->steps = d->steps;
    o->window = d->window;
    o->metric = d->metric;
    if (d->threshold > 0) o->threshold = d->threshold;
    if (d->edit_threshold > 0) o->edit_threshold = d->edit_threshold;
    if (d->post_steps > 0) o->post_steps = d->post_steps;
    if (d->alg_temp > 0) o->alg_temp = d->alg_temp;
    if (d->entropy_bound > 0) o->entropy_bound = d->entropy_bound;
    o->temperature = d->temperature;
    if (d->temperature > 0) {
        o->top_k = 20;
        o->top_p = 0.95;
    }
    o->cfg_scale = d->cfg_scale;
    if (d->is_random) o->remask = UM_REMASK_RANDOM;
    if (d->sees_blocks) o->attention = UM_ATTENTION_OF_BLOCKS;
    o->seed = seed;
    o->ignore_eos = true;
}

/* Runs one case on one engine, changed by `change`. */
typedef void (*option_change)(um_request_options *o, int variant);

static recording run_case(um_engine *engine, const model_case *m, const decode_case *d,
                          option_change change, int variant) {
    int32_t prompt[PROMPT_MAX];
    um_request_options o;
    recording r;
    make_options(engine, m, d, 7, prompt, &o);
    if (change) change(&o, variant);
    recording_run(engine, &o, 1, &r);
    /* Uncached, nothing is folded: what is compared are steps. */
    bool is_multi = um_policy_find(d->policy)->flags & UM_POLICY_MULTI_BLOCK;
    if (um_engine_info(engine)->attention == UM_ATTENTION_BLOCK_CAUSAL && !is_multi)
        recording_unfold(&r, o.block_len);
    return r;
}

static void describe(char what[256], const char *invariance, const model_case *m,
                     const decode_case *d, int variant) {
    snprintf(what, 256, "%s: %s, %s, variant %d", invariance, m->name, d->name, variant);
}

/* Compares every case as it is with n_variants changed ones on the same engine. */
static void compare_variants(const char *invariance, option_change change, int n_variants) {
    for (int i = 0; i < N_MODELS; i++) {
        um_engine *engine = open_model(&models[i], 2, CACHE_TOKENS);
        for (int j = 0; j < n_decodes(&models[i]); j++) {
            if (!is_run(engine, i, j)) continue;
            recording plain = run_case(engine, &models[i], &decodes[j], NULL, 0);
            if (plain.status != UM_OK)
                fail_msg("%s, %s: %s", models[i].name, decodes[j].name, plain.error.message);
            assert_true(plain.n_steps > 1);
            for (int variant = 0; variant < n_variants; variant++) {
                char what[256];
                describe(what, invariance, &models[i], &decodes[j], variant);
                recording changed = run_case(engine, &models[i], &decodes[j], change, variant);
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
    static const int32_t chunks[] = {1, 33, 1000, 64, 16};
    o->prefill_chunk = chunks[variant];
}

static void test_prefill(void **state) {
    (void)state;
    compare_variants("prefill cut", cut_prefill, TEST_IS_SAMPLED ? 1 : 2);
}

static void test_again(void **state) {
    (void)state;
    compare_variants("a second run", NULL, 1);
}

static void test_threads(void **state) {
    (void)state;
    for (int i = 0; i < N_MODELS; i++) {
        um_engine *one = open_model(&models[i], 1, CACHE_TOKENS);
        for (int n_threads = 2; n_threads <= 3; n_threads++) {
            um_engine *many = open_model(&models[i], n_threads, CACHE_TOKENS);
            assert_int_equal(um_engine_threads(many), n_threads);
            for (int j = 0; j < n_decodes(&models[i]); j++) {
                char what[256];
                if (!is_run(one, i, j) || (n_threads == 3 && (i + j) % 3 != 0)) continue;
                describe(what, "threads", &models[i], &decodes[j], n_threads);
                recording a = run_case(one, &models[i], &decodes[j], NULL, 0);
                recording b = run_case(many, &models[i], &decodes[j], NULL, 0);
                recording_assert_equal(&a, &b, what);
                recording_free(&a);
                recording_free(&b);
            }
            um_engine_close(&many);
        }
        um_engine_close(&one);
    }
}

/* Different requests at once, every way of decoding among them, each against itself alone; once
 * with more pages than needed, and then too few for all at once, so that some wait. */
static void check_batch(const model_case *m, int i_model, bool is_tight, int first) {
    static int32_t prompts[N_BATCH][PROMPT_MAX];
    um_engine *engine = open_model(m, 2, is_tight ? 480 : CACHE_TOKENS);
    um_request_options options[N_BATCH];
    recording together[N_BATCH], alone;
    int ways[N_BATCH], n = 0;
    for (int j = first; n < N_BATCH; j++) {
        if (j >= first + N_DECODES) break;
        if (!is_run(engine, i_model, j % n_decodes(m))) continue;
        ways[n] = j % n_decodes(m);
        make_options(engine, m, &decodes[ways[n]], (uint64_t)j + 100, prompts[n], &options[n]);
        n++;
    }
    if (n > 0)
        recording_run(engine, options, n, together); /* samples may hold none of a short list */
    for (int j = 0; j < n; j++) {
        char what[256];
        describe(what, is_tight ? "alone and in a batch that waits" : "alone and in a batch", m,
                 &decodes[ways[j]], j);
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

static void test_batch(void **state) {
    (void)state;
    for (int i = 0; i < N_MODELS; i++)
        for (int is_tight = 0; is_tight < 2; is_tight++)
            for (int first = 0; first < n_decodes(&models[i]);
                 first += TEST_IS_SAMPLED ? N_DECODES : N_BATCH)
                check_batch(&models[i], i, is_tight, first);
}

/* The exact cache makes as many denoising forwards as no cache, and its prefill has no head. */
static void test_folding(void **state) {
    (void)state;
    um_engine *engine = recording_open(PROJECT_DIR "/models/demo", 2, CACHE_TOKENS);
    recording cached = run_case(engine, &models[N_ALL - 1], &decodes[0], NULL, 0);
    recording plain = run_case(engine, &models[N_ALL - 1], &decodes[0], without_cache, 0);
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

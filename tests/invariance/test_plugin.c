/* SPDX-License-Identifier: Apache-2.0
 *
 * Policies from shared objects: the example decides what the built-in one decides, and whatever a
 * wrong one does that can be noticed ends its own request, with a sentence, and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/recording.h"

#define EXAMPLE BUILD_DIR "/tests/policy_example.so"
#define BAD BUILD_DIR "/tests/bad_policy.so"

enum { PROMPT_MAX = 80, CACHE_TOKENS = 8192 };

typedef struct model_case {
    const char *directory;
    int32_t block_multiple; /* of block lengths */
} model_case;

/* The first few are used for wrong policies; the large one is last. */
static const model_case models[] = {
    {TEST_DATA_DIR "/models/llada2_moe", 1}, {TEST_DATA_DIR "/models/llada", 1},
    {TEST_DATA_DIR "/models/dream", 1},      {TEST_DATA_DIR "/models/fast_dllm_v2", 1},
    {TEST_DATA_DIR "/models/illada", 1},     {TEST_DATA_DIR "/models/llada22_moe", 32},
    {TEST_DATA_DIR "/models/llada2_2", 1},   {TEST_DATA_DIR "/models/llada_moe", 1},
    {TEST_DATA_DIR "/models/rnd1", 1},       {TEST_DATA_DIR "/models/sdar", 1},
    {TEST_DATA_DIR "/models/sdar_moe", 1},   {PROJECT_DIR "/models/demo", 1},
};
enum {
    N_MODELS = TEST_IS_SAMPLED ? 3 : sizeof models / sizeof *models,
    N_WRONG_MODELS = TEST_IS_SAMPLED ? 1 : 3
};

/* A request whose prompt depends on the seed alone. */
static void make_options(const um_engine *engine, const char *policy, uint64_t seed,
                         int32_t n_prompt, int32_t prompt[PROMPT_MAX], um_request_options *o) {
    int32_t vocab = um_engine_info(engine)->vocab;
    um_request_options_init(o);
    for (int32_t i = 0; i < n_prompt; i++)
        prompt[i] = (int32_t)((seed * 7919 + (uint64_t)i * 104729) % (uint64_t)(vocab - 20)) + 5;
    o->prompt = prompt;
    o->n_prompt = (size_t)n_prompt;
    o->max_tokens = 50;
    o->block_len = 16;
    o->policy = policy;
    o->seed = seed;
    o->ignore_eos = true;
}

static void assert_pages_are_free(um_engine *engine) {
    int64_t n_pages, n_free;
    um_engine_pages(engine, &n_pages, &n_free);
    assert_int_equal(n_pages, n_free);
}

/* ---- The example -------------------------------------------------------------------------- */

typedef struct example_case {
    double threshold, temperature;
    int32_t n_prompt, max_tokens, block_len;
} example_case;

static const example_case example_cases[] = {
    {0.6, 0, 37, 50, 16}, {0.3, 0, 3, 40, 32},    {0.05, 0, 16, 33, 8},
    {1, 0, 5, 20, 20},    {0.5, 0.8, 37, 50, 16}, {0.1, 0.8, 64, 40, 32},
};
enum { N_EXAMPLES = sizeof example_cases / sizeof *example_cases };

/* The built-in one asks for a token a forward as well. */
static void make_example(const um_engine *engine, int32_t block_multiple, const example_case *c,
                         const char *policy, int32_t prompt[PROMPT_MAX], um_request_options *o) {
    make_options(engine, policy, 11, c->n_prompt, prompt, o);
    o->max_tokens = c->max_tokens;
    o->block_len = (c->block_len + block_multiple - 1) / block_multiple * block_multiple;
    o->threshold = c->threshold;
    o->temperature = c->temperature;
    if (!strchr(policy, '/')) o->steps = o->block_len;
}

static void test_example(void **state) {
    (void)state;
    for (int i = 0; i < N_MODELS; i++) {
        um_engine *engine = recording_open(models[i].directory, 2, CACHE_TOKENS);
        um_request_options options[2 * N_EXAMPLES + 1];
        int32_t prompts[2 * N_EXAMPLES + 1][PROMPT_MAX];
        recording alone[2], together[2 * N_EXAMPLES + 1];
        make_options(engine, "schedule", 3, 20, prompts[2 * N_EXAMPLES], &options[2 * N_EXAMPLES]);
        options[2 * N_EXAMPLES].block_len = 0; /* the family's */
        for (int j = 0; j < N_EXAMPLES; j++) {
            make_example(engine, models[i].block_multiple, &example_cases[j], "threshold",
                         prompts[2 * j], &options[2 * j]);
            make_example(engine, models[i].block_multiple, &example_cases[j], EXAMPLE,
                         prompts[2 * j + 1], &options[2 * j + 1]);
        }
        recording_run(engine, options, 2 * N_EXAMPLES + 1, together);
        for (int j = 0; j < N_EXAMPLES; j++) {
            char what[256];
            snprintf(what, sizeof what, "%s, case %d", models[i].directory, j);
            for (int k = 0; k < 2; k++) {
                recording_run(engine, &options[2 * j + k], 1, &alone[k]);
                assert_int_equal(alone[k].n_tokens, example_cases[j].max_tokens);
                recording_assert_equal(&alone[k], &together[2 * j + k], what);
            }
            recording_assert_equal(&alone[0], &alone[1], what);
            recording_free(&alone[0]);
            recording_free(&alone[1]);
        }
        for (int j = 0; j < 2 * N_EXAMPLES + 1; j++) recording_free(&together[j]);
        assert_pages_are_free(engine);
        um_engine_close(&engine);
    }
}

/* ---- Wrong decisions ------------------------------------------------------------------------ */

typedef struct bad_case {
    const char *arguments; /* what is wrong; see tests/support/bad_policy.c */
    const char *object;
    const char *sentence; /* part of the error's */
} bad_case;

static const bad_case bad_cases[] = {
    {"overflow", "", "policy bad: it wrote past the"},
    {"count", "", "changes in a block of 16"},
    {"negative count", "", "-1 changes in a block of 16"},
    {"index", "", "change 0 is at index 16 of a block of 16"},
    {"negative index", "", "change 0 is at index -1 of a block"},
    {"twice", "", "expected rising indexes"},
    {"falling", "", "change 1 is at index"},
    {"prompt", "", "it changes the prompt at position 32"},
    {"mask", "", "it commits token"},
    {"token", "", "it commits token"},
    {"negative token", "", "it commits token -1 at position"},
    {"probability", "", "its probability at position"},
    {"idle", "", "a step changes nothing and does not end the block"},
    {"slow", "may idle", "a block is not finished after"},
    {"toggle", "", "a block is not finished after"},
    {"state", "", "it wrote past the 24 bytes of its state"},
    {"shown tokens", "", "it wrote over the tokens or states that it was shown"},
    {"shown states", "", "it wrote over the tokens or states that it was shown"},
    {"unfinished", "", "it finishes a block with a mask at position"},
    {"blocks", "", "it finishes 2 blocks of 1"},
    {"negative blocks", "", "it finishes -1 blocks of 1"},
    {"open far", "may open", "it opens 4 blocks beside 1; the window holds 4"},
    {"open negative", "may open", "it opens -1 blocks beside 1"},
    {"open behind", "may open", "it opens 1 blocks beside"},
    {"open shown", "may open", "it wrote over the tokens or states that it was shown"},
    {"open state", "may open", "it wrote past the 24 bytes of its state"},
};
enum { N_BAD = sizeof bad_cases / sizeof *bad_cases };

/* One wrong request between two that go on as if it were not there. */
static void run_bad(um_engine *engine, const bad_case *c, const um_request_options good[2],
                    const recording alone[2]) {
    um_request_options options[3];
    int32_t prompt[PROMPT_MAX];
    recording together[3];
    options[0] = good[0];
    options[2] = good[1];
    make_options(engine, BAD, 5, 37, prompt, &options[1]);
    options[1].policy_args = c->arguments;
    assert_int_equal(setenv("BAD_POLICY", c->object, 1), 0);
    recording_run(engine, options, 3, together);
    if (together[1].status != UM_INTERNAL || !strstr(together[1].error.message, c->sentence))
        fail_msg("%s: expected \"%s\", found \"%s\"", c->arguments, c->sentence,
                 together[1].status ? together[1].error.message : "no error");
    assert_true(together[1].n_steps >= 2);
    recording_assert_equal(&together[0], &alone[0], c->arguments);
    recording_assert_equal(&together[2], &alone[1], c->arguments);
    for (int i = 0; i < 3; i++) recording_free(&together[i]);
    assert_pages_are_free(engine);
}

static void test_wrong_decisions(void **state) {
    (void)state;
    for (int i = 0; i < N_WRONG_MODELS; i++) {
        um_engine *engine = recording_open(models[i].directory, 2, CACHE_TOKENS);
        bool is_full = um_engine_info(engine)->attention == UM_ATTENTION_FULL;
        um_request_options good[2];
        int32_t prompts[2][PROMPT_MAX];
        recording alone[2];
        make_options(engine, "threshold", 1, 21, prompts[0], &good[0]);
        make_options(engine, "edit", 2, 40, prompts[1], &good[1]);
        for (int j = 0; j < 2; j++) recording_run(engine, &good[j], 1, &alone[j]);
        for (int j = 0; j < N_BAD; j++) {
            /* Blocks of full attention begin behind the prompt: a policy never sees it. */
            if (is_full && strcmp(bad_cases[j].arguments, "prompt") == 0) continue;
            run_bad(engine, &bad_cases[j], good, alone);
        }
        for (int j = 0; j < 2; j++) recording_free(&alone[j]);
        um_engine_close(&engine);
    }
}

/* What the wrong ones are when nothing is wrong with them. */
static void test_right_decisions(void **state) {
    (void)state;
    static const char *const objects[] = {"", "may idle", "may open"};
    um_engine *engine = recording_open(models[0].directory, 2, CACHE_TOKENS);
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
        um_request_options bad, sequential;
        int32_t prompts[2][PROMPT_MAX];
        recording found[2];
        make_options(engine, BAD, 5, 37, prompts[0], &bad);
        make_options(engine, "sequential", 5, 37, prompts[1], &sequential);
        sequential.steps = 16;
        assert_int_equal(setenv("BAD_POLICY", objects[i], 1), 0);
        recording_run(engine, &bad, 1, &found[0]);
        recording_run(engine, &sequential, 1, &found[1]);
        recording_assert_equal(&found[0], &found[1], objects[i]);
        recording_free(&found[0]);
        recording_free(&found[1]);
    }
    um_engine_close(&engine);
}

/* ---- Wrong objects ------------------------------------------------------------------------ */

typedef struct object_case {
    const char *path, *object, *arguments;
    double threshold;
    um_status status;
    const char *sentence;
} object_case;

static const object_case object_cases[] = {
    {BAD, "abi", NULL, -1, UM_UNSUPPORTED, "interface version 2; expected 1"},
    {BAD, "nothing of the kind", NULL, -1, UM_INVALID, "um_policy_entry returns NULL"},
    {BAD, "step", NULL, -1, UM_INVALID, "no step function"},
    {BAD, "no name", NULL, -1, UM_INVALID, "no name of 1 to 31 bytes"},
    {BAD, "empty name", NULL, -1, UM_INVALID, "no name of 1 to 31 bytes"},
    {BAD, "long name", NULL, -1, UM_INVALID, "no name of 1 to 31 bytes"},
    {BAD, "flags", NULL, -1, UM_INVALID, "flags that this version does not know"},
    {BAD, "", "refused", -1, UM_INVALID, "policy: bad: it says no"},
    {BAD, "", "huge", -1, UM_INTERNAL, "a state of 1099511627776 bytes; expected at most"},
    {BAD, "", NULL, 0.5, UM_INVALID, "threshold: the policy bad does not read it"},
    {EXAMPLE, "", "x", -1, UM_INVALID, "policy_args: the policy example does not read it"},
    {BUILD_DIR "/tests/bad_policy_without_entry.so", "", NULL, -1, UM_INVALID,
     "no function um_policy_entry"},
    {BUILD_DIR "/tests/no_such_policy.so", "", NULL, -1, UM_NOT_FOUND, "no_such_policy.so"},
    {PROJECT_DIR "/README.md", "", NULL, -1, UM_NOT_FOUND, "README.md"},
    {PROJECT_DIR "/", "", NULL, -1, UM_NOT_FOUND, "policy: "},
    {"bad_policy.so", "", NULL, -1, UM_INVALID, "found \"bad_policy.so\""},
};

static void test_wrong_objects(void **state) {
    (void)state;
    um_engine *engine = recording_open(models[0].directory, 2, CACHE_TOKENS);
    for (size_t i = 0; i < sizeof object_cases / sizeof *object_cases; i++) {
        const object_case *c = &object_cases[i];
        um_request_options options;
        int32_t prompt[PROMPT_MAX];
        um_request *request = NULL;
        um_error err;
        make_options(engine, c->path, 5, 37, prompt, &options);
        options.policy_args = c->arguments;
        if (c->threshold >= 0) options.threshold = c->threshold;
        assert_int_equal(setenv("BAD_POLICY", c->object, 1), 0);
        um_status status = um_request_create(engine, &options, &request, &err);
        if (status != c->status || !strstr(err.message, c->sentence))
            fail_msg("%s: expected %s \"%s\", found %s \"%s\"", c->path, um_status_name(c->status),
                     c->sentence, um_status_name(status), status ? err.message : "");
        assert_null(request);
        assert_pages_are_free(engine);
    }
    um_engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example),
        cmocka_unit_test(test_wrong_decisions),
        cmocka_unit_test(test_right_decisions),
        cmocka_unit_test(test_wrong_objects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

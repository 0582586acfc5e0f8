/* SPDX-License-Identifier: Apache-2.0
 *
 * The forward that settles a block as the first one of the next: the same steps, bit for bit, in
 * fewer forwards; and nothing is left behind where it does not settle the block, or the request
 * ends on the way.
 */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "support/recording.h"
#include "support/temp_dir.h"

enum { PROMPT_MAX = 100, CACHE_TOKENS = 4096 };

/* A way of decoding that corrects. */
typedef struct fold_case {
    const char *name, *model, *policy;
    int32_t n_prompt, max_tokens, block_len, post_steps;
    double threshold, edit_threshold, temperature, cfg_scale;
    bool stops, has_none; /* an end token ends the answer; nothing can be folded */
} fold_case;

#define SMALL(name_) TEST_DATA_DIR "/models/" name_
#define SIZES(prompt, tokens, block) .n_prompt = prompt, .max_tokens = tokens, .block_len = block
static const fold_case cases[] = {
    {"edit", SMALL("llada2_moe"), "edit", SIZES(40, 90, 16), 16, .threshold = 0.3, 0.5},
    {"sure edits", SMALL("llada2_moe"), "edit", SIZES(37, 64, 16), 8, .threshold = 0.3, 0.9},
    {"few post steps", SMALL("llada2_moe"), "edit", SIZES(40, 90, 16), 2, .threshold = 0.05, 0.6},
    {"drawn", SMALL("llada2_moe"), "edit", SIZES(33, 64, 8), 16, .threshold = 0.3, 0.5,
     .temperature = 1},
    {"guided", SMALL("llada2_2"), "edit", SIZES(21, 64, 16), 8, .threshold = 0.3, 0.7,
     .cfg_scale = 0.5},
    {"routed by blocks", SMALL("llada22_moe"), "edit", SIZES(40, 90, 32), 16, .threshold = 0.3,
     0.6},
    {"levenshtein", SMALL("llada2_2"), "levenshtein", SIZES(40, 90, 16), 16, .threshold = 0.3, 0.7},
    {"SDAR", SMALL("sdar"), "edit", SIZES(30, 48, 4), 16, .threshold = 0.3, 0.7},
    {"an answer that stops", SMALL("llada2_moe"), "edit", SIZES(40, 400, 8), 8, .threshold = 0.2,
     0.5, .temperature = 50, .stops = true},
    {"shifted", SMALL("fast_dllm_v2"), "edit", SIZES(40, 64, 32), 8, .threshold = 0.4, 0.6,
     .has_none = true},
    {"full attention", SMALL("llada"), "edit", SIZES(40, 64, 16), 8, .threshold = 0.4, 0.6,
     .has_none = true},
    {"nothing is edited", SMALL("llada2_moe"), "threshold", SIZES(40, 64, 16), .threshold = 0.4,
     .has_none = true},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static void make_options(const um_engine *engine, const fold_case *c, um_fold fold,
                         int32_t prompt[PROMPT_MAX], um_request_options *o) {
    um_request_options_init(o);
    for (int32_t i = 0; i < c->n_prompt; i++) {
        rng_key key = {.seed = 11, .position = (uint32_t)i};
        prompt[i] = (int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, 0) *
                              (um_engine_info(engine)->vocab - 20)) +
                    5;
    }
    o->prompt = prompt;
    o->n_prompt = (size_t)c->n_prompt;
    o->max_tokens = c->max_tokens;
    o->block_len = c->block_len;
    o->policy = c->policy;
    if (c->threshold > 0) o->threshold = c->threshold;
    if (c->edit_threshold > 0) o->edit_threshold = c->edit_threshold;
    if (c->post_steps > 0) o->post_steps = c->post_steps;
    o->temperature = c->temperature;
    if (c->temperature > 0 && !c->stops) o->top_k = 20;
    o->cfg_scale = c->cfg_scale;
    o->seed = 5;
    o->ignore_eos = !c->stops;
    o->fold = fold;
}

/* The case's model, or where the answer is to stop a copy with as many end tokens as there may be.
 */
static um_engine *open_case(const fold_case *c, temp_dir *copy) {
    if (!c->stops) return recording_open(c->model, 2, CACHE_TOKENS);
    char path[512];
    json_error_t error;
    snprintf(path, sizeof path, "%s/config.json", c->model);
    json_t *config = json_load_file(path, 0, &error), *ends = json_array();
    assert_non_null(config);
    for (int i = 0; i < UM_STOP_TOKENS_MAX; i++)
        json_array_append_new(ends, json_integer(20 + 30 * i));
    json_object_set_new(config, "eos_token_id", ends);
    char *text = json_dumps(config, 0);
    assert_non_null(text);
    temp_dir_create(copy);
    temp_dir_write_text(copy, "config.json", text);
    snprintf(path, sizeof path, "%s/model.safetensors", c->model);
    temp_dir_copy(copy, "model.safetensors", path);
    free(text);
    json_decref(config);
    return recording_open(copy->path, 2, CACHE_TOKENS);
}

/* How often a run without folding could have been folded. A block that was changed UNDONE_MAX times
 * after its next one was taken along is left alone. */
enum { UNDONE_MAX = 2 };

typedef struct fold_count {
    int n_settled; /* steps that left a block without masks as it is, before the last block */
    int n_undone;  /* steps that changed such a block */
} fold_count;

static fold_count count_folds(const recording *r, const fold_case *c, int32_t mask) {
    fold_count count = {0};
    int n_undone = 0;
    for (int32_t i = 0; !c->has_none && i + 1 < r->n_steps; i++) {
        const recorded_step *step = &r->steps[i];
        bool has_mask = false;
        for (int32_t j = 0; j < step->n_inputs; j++) has_mask |= step->inputs[j] == mask;
        if (i && step->block != step[-1].block) n_undone = 0;
        if (has_mask || n_undone == UNDONE_MAX || step->block == r->steps[r->n_steps - 1].block)
            continue;
        count.n_settled += step->n_changes == 0;
        n_undone += step->n_changes > 0;
        count.n_undone += step->n_changes > 0;
    }
    return count;
}

static void test_same_steps(void **state) {
    (void)state;
    int n_undone = 0;
    for (int i = 0; i < N_CASES; i++) {
        const fold_case *c = &cases[i];
        int32_t prompt[PROMPT_MAX];
        um_request_options o;
        recording folded, plain;
        temp_dir copy = {.path = ""};
        um_engine *engine = open_case(c, &copy);
        make_options(engine, c, UM_FOLD_AUTO, prompt, &o);
        recording_run(engine, &o, 1, &folded);
        o.fold = UM_FOLD_OFF;
        recording_run(engine, &o, 1, &plain);
        if (folded.status != UM_OK) fail_msg("%s: %s", c->name, folded.error.message);
        fold_count count = count_folds(&plain, c, um_engine_info(engine)->mask_token);
        int n_forwards = folded.forwards, n_blocks = folded.n_blocks;
        int n_folded = recording_unfold(&folded, c->block_len);
        printf("%s: %d forwards, %d unfolded, %d undone\n", c->name, n_forwards, plain.forwards,
               count.n_undone);
        assert_int_equal(folded.n_steps, n_forwards + n_folded); /* an event a forward */
        recording_assert_equal(&plain, &folded, c->name);
        assert_int_equal(n_blocks, plain.n_blocks);
        assert_int_equal(n_folded, count.n_settled);
        if (!c->has_none) assert_true(n_folded > 0);
        n_undone += count.n_undone;
        if (c->stops) assert_int_equal(plain.finish, UM_FINISH_STOP);
        recording_free(&folded);
        recording_free(&plain);
        um_engine_close(&engine);
        if (copy.path[0]) temp_dir_destroy(&copy);
    }
    assert_true(n_undone > 3);
}

/* Takes what is queued; returns whether the request has ended. */
static bool drain(um_request *request, um_status *status) {
    um_event event;
    bool is_over = false;
    while (um_request_next_event(request, &event) == UM_OK) {
        is_over |= event.kind == UM_EVENT_DONE || event.kind == UM_EVENT_ERROR;
        if (event.kind == UM_EVENT_ERROR) *status = event.error.status;
    }
    return is_over;
}

/* A request that is given up after each of its forwards, with or without a word, in a cache that
 * holds it and no page more: every page comes back, and the next one gets the right answer. */
static void test_given_up(void **state) {
    (void)state;
    const fold_case *c = &cases[0];
    int32_t prompt[PROMPT_MAX];
    um_request_options o;
    um_error err;
    recording good, again;
    um_engine *engine = recording_open(c->model, 2, (c->n_prompt + c->max_tokens + 31) / 32 * 32);
    make_options(engine, c, UM_FOLD_AUTO, prompt, &o);
    recording_run(engine, &o, 1, &good);
    assert_int_equal(good.status, UM_OK);
    for (int32_t n = 1; n < good.forwards; n += TEST_IS_SAMPLED ? 7 : 1) {
        um_request *request = NULL;
        um_status status = UM_OK;
        assert_int_equal(um_request_create(engine, &o, &request, &err), UM_OK);
        for (int32_t i = 0; i < n; i++) {
            assert_int_equal(um_engine_step(engine, &err), UM_OK);
            assert_false(drain(request, &status));
        }
        if (n % 2) {
            um_request_cancel(request);
            assert_int_equal(um_engine_step(engine, &err), UM_OK);
            assert_true(drain(request, &status));
            assert_int_equal(status, UM_CANCELLED);
        }
        um_request_destroy(&request);
        int64_t n_pages, n_free;
        um_engine_pages(engine, &n_pages, &n_free);
        assert_int_equal(n_pages, n_free);
    }
    recording_run(engine, &o, 1, &again);
    recording_assert_equal(&good, &again, "after requests that were given up");
    recording_free(&good);
    recording_free(&again);
    um_engine_close(&engine);
}

/* Steps until the request ends; returns how. */
static um_status run_to_end(um_engine *engine, um_request *request) {
    um_status status = UM_OK;
    um_error err;
    do assert_int_equal(um_engine_step(engine, &err), UM_OK);
    while (!drain(request, &status));
    return status;
}

/* Every allocation of the steps made to fail on an engine whose step has not grown yet, among them
 * those of the first step with two blocks: the request ends, its pages come back, and the next one
 * on the same engine gets the right answer. */
static void test_no_memory(void **state) {
    (void)state;
    um_engine_options options;
    const fold_case *c = &cases[1];
    int32_t prompt[PROMPT_MAX];
    um_request_options o;
    um_error err;
    recording good, again;
    uint64_t n = 0, n_allocations = 0;
    int n_failed = 0;
    um_engine_options_init(&options);
    options.directory = c->model;
    options.n_threads = 2;
    options.cache_tokens = CACHE_TOKENS;
    options.ahead = UM_AHEAD_OFF; /* without memory for them, steps are made one by one */
    um_engine *engine = recording_open_with(&options);
    make_options(engine, c, UM_FOLD_AUTO, prompt, &o);
    recording_run(engine, &o, 1, &good);
    um_engine_close(&engine);
    do {
        um_request *request = NULL;
        engine = recording_open_with(&options);
        assert_int_equal(um_request_create(engine, &o, &request, &err), UM_OK);
        memory_fault_at(++n, 0);
        um_status status = run_to_end(engine, request);
        n_allocations = memory_fault_count();
        memory_fault_at(0, 0);
        assert_int_equal(status, n <= n_allocations ? UM_NO_MEMORY : UM_OK);
        n_failed += status != UM_OK;
        int64_t n_pages, n_free;
        um_engine_pages(engine, &n_pages, &n_free);
        assert_int_equal(n_pages, n_free);
        um_request_destroy(&request);
        recording_run(engine, &o, 1, &again);
        recording_assert_equal(&good, &again, "after a step without memory");
        recording_free(&again);
        um_engine_close(&engine);
    } while (n <= n_allocations);
    printf("%d allocations made to fail\n", n_failed);
    assert_true(n_failed > 5);
    recording_free(&good);
}

/* Folded requests beside others that are not: as alone, also in their numbers of forwards. */
static void test_batch(void **state) {
    (void)state;
    enum { N = 4 };
    static int32_t prompts[N][PROMPT_MAX];
    um_request_options options[N];
    recording together[N], alone;
    um_engine *engine = recording_open(cases[0].model, 2, CACHE_TOKENS);
    for (int i = 0; i < N; i++)
        make_options(engine, &cases[i], i == 1 ? UM_FOLD_OFF : UM_FOLD_AUTO, prompts[i],
                     &options[i]);
    recording_run(engine, options, N, together);
    for (int i = 0; i < N; i++) {
        recording_run(engine, &options[i], 1, &alone);
        recording_assert_equal(&alone, &together[i], cases[i].name);
        recording_free(&alone);
        recording_free(&together[i]);
    }
    um_engine_close(&engine);
}

static void test_refused(void **state) {
    (void)state;
    int32_t prompt[PROMPT_MAX];
    um_request_options o;
    um_request *request = NULL;
    um_error err;
    um_engine *engine = recording_open(cases[0].model, 1, CACHE_TOKENS);
    make_options(engine, &cases[0], (um_fold)2, prompt, &o);
    assert_int_equal(um_request_create(engine, &o, &request, &err), UM_INVALID);
    assert_string_equal(err.where, "fold");
    um_engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_steps), cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_no_memory),  cmocka_unit_test(test_batch),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

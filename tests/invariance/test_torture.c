/* SPDX-License-Identifier: Apache-2.0
 *
 * Every allocation made to fail in turn while a model is loaded, a prompt encoded and an answer
 * written: never a crash, never a leak, always UM_NO_MEMORY and a sentence, and the next try
 * without faults gives the right answer. jansson's allocations go through the same counter in a
 * test of their own: version 2.14 reports some of its failures as errors of syntax, or loses a
 * character.
 */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "support/temp_dir.h"
#include "unmask.h"

/* What one attempt came to. */
typedef struct attempt {
    um_status status;
    char message[640];
    int32_t tokens[64];
    int32_t n_tokens;
} attempt;

static um_status generate_with(um_engine *engine, const int32_t *ids, size_t n_ids,
                               const char *policy, um_constraint *constraint, attempt *a,
                               um_error *err) {
    um_request_options options;
    um_request *request = NULL;
    um_request_options_init(&options);
    options.constraint = constraint;
    options.prompt = ids;
    options.n_prompt = n_ids;
    options.policy = policy;
    options.max_tokens = 32;
    um_status status = um_request_create(engine, &options, &request, err);
    if (status != UM_OK) return status;
    bool is_done = false;
    while (!is_done) {
        um_event event;
        status = um_engine_step(engine, err);
        if (status != UM_OK) break;
        while (um_request_next_event(request, &event) == UM_OK) {
            if (event.kind == UM_EVENT_ERROR) {
                *err = event.error;
                status = event.error.status;
                is_done = true;
            }
            if (event.kind == UM_EVENT_DONE) {
                a->n_tokens = event.n_tokens;
                memcpy(a->tokens, event.tokens, (size_t)event.n_tokens * sizeof *a->tokens);
                is_done = true;
            }
        }
    }
    um_request_destroy(&request);
    return status;
}

static um_status generate(um_engine *engine, const int32_t *ids, size_t n_ids, const char *policy,
                          attempt *a, um_error *err) {
    return generate_with(engine, ids, n_ids, policy, NULL, a, err);
}

/* A file for packed weights, or NULL; it is removed before a run that is to write it. */
static const char *pack_cache;
static bool writes_cache;

/* The whole way from a directory to an answer. */
static void run(const char *directory, bool has_tokenizer, attempt *a) {
    static const char messages[] = "[{\"role\": \"user\", \"content\": \"What is 123 + 456?\"}]";
    static const int32_t plain[] = {5, 6, 7, 8, 9, 10};
    um_tokenizer *tokenizer = NULL;
    um_engine *engine = NULL;
    int32_t *ids = NULL;
    char *text = NULL, *answer = NULL;
    size_t n_ids = 0;
    um_error err = {.status = UM_OK};
    memset(a, 0, sizeof *a);
    um_engine_options options;
    um_engine_options_init(&options);
    options.directory = directory;
    options.n_threads = 2;
    options.cache_tokens = 256;
    options.pack_cache = pack_cache;
    if (pack_cache && writes_cache) remove(pack_cache);
    options.prefix_cache = true;
    a->status = UM_OK;
    if (has_tokenizer) {
        a->status = um_tokenizer_open(directory, &tokenizer, &err);
        if (a->status == UM_OK)
            a->status =
                um_tokenizer_render_chat(tokenizer, messages, NULL, NULL, true, &text, &err);
        if (a->status == UM_OK)
            a->status = um_tokenizer_encode(tokenizer, text, strlen(text), &ids, &n_ids, &err);
    }
    if (getenv("UNMASK_TEST_AHEAD")) options.ahead = UM_AHEAD_ON;
    if (a->status == UM_OK) a->status = um_engine_open(&options, &engine, &err);
    if (a->status == UM_OK)
        a->status = has_tokenizer ? generate(engine, ids, n_ids, NULL, a, &err)
                                  : generate(engine, plain, 6, NULL, a, &err);
    if (a->status == UM_OK && tokenizer)
        a->status = um_tokenizer_decode(tokenizer, a->tokens, (size_t)a->n_tokens, true, &answer,
                                        NULL, &err);
    snprintf(a->message, sizeof a->message, "%s", err.message);
    um_free(answer);
    um_free(text);
    um_free(ids);
    um_engine_close(&engine);
    um_tokenizer_close(&tokenizer);
}

/* Fails allocation first, first + stride, ... and checks what comes of each. */
static void torture(const char *directory, bool has_tokenizer, uint64_t n_dense, uint64_t stride,
                    int sticky, bool is_own) {
    attempt good, bad;
    memory_fault_at(0, 0);
    run(directory, has_tokenizer, &good);
    uint64_t n_allocations = memory_fault_count();
    assert_int_equal(good.status, UM_OK);
    uint64_t n_tried = 0, n_survived = 0;
    for (uint64_t n = 1; n <= n_allocations; n += n < n_dense ? 1 : stride) {
        memory_fault_at(n, sticky);
        run(directory, has_tokenizer, &bad);
        memory_fault_at(0, 0);
        n_tried++;
        if (bad.status == UM_OK) {
            /* Something did without: then the answer is the right one. */
            n_survived++;
            if (!is_own) continue;
            assert_int_equal(bad.n_tokens, good.n_tokens);
            assert_memory_equal(bad.tokens, good.tokens, (size_t)good.n_tokens * sizeof(int32_t));
            continue;
        }
        if (bad.status != UM_NO_MEMORY && is_own)
            fail_msg("allocation %llu: %s: %s", (unsigned long long)n, um_status_name(bad.status),
                     bad.message);
        assert_true(strlen(bad.message) > 10);
    }
    printf("%s: %llu allocations, %llu made to fail, %llu did without\n", directory,
           (unsigned long long)n_allocations, (unsigned long long)n_tried,
           (unsigned long long)n_survived);
    run(directory, has_tokenizer, &bad);
    assert_int_equal(bad.status, UM_OK);
    assert_memory_equal(bad.tokens, good.tokens, (size_t)good.n_tokens * sizeof(int32_t));
}

/* Our own allocations, all of them, on the bundled model with its tokenizer and template. */
static void test_own(void **state) {
    (void)state;
    torture(PROJECT_DIR "/models/demo", true, UINT64_MAX, 1, 0, true);
}

/* From the n-th on, every one fails: what happens when memory stays short during the clean-up. */
static void test_own_sticky(void **state) {
    (void)state;
    torture(PROJECT_DIR "/models/demo", true, 200, 37, 1, true);
    torture(TEST_DATA_DIR "/models/llada", false, UINT64_MAX, 1, 1, true);
}

/* Every family; the demo and llada above are whole, here one in a few. */
static void test_families(void **state) {
    (void)state;
    static const char *const names[] = {"llada2_moe", "llada2_2",    "llada22_moe", "llada_moe",
                                        "illada",     "dream",       "sdar",        "sdar_moe",
                                        "rnd1",       "fast_dllm_v2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char directory[512];
        snprintf(directory, sizeof directory, "%s/models/%s", TEST_DATA_DIR, names[i]);
        torture(directory, false, 0, TEST_IS_SAMPLED ? 29 : 5, 0, true);
    }
}

/* Packed weights that are written to a file, and that are read from it. */
static void test_pack_cache(void **state) {
    (void)state;
    char model[300], cache[300];
    temp_dir dir;
    const char *name = getenv("UNMASK_DEVICE");
    if (name && strncmp(name, "cuda", 4) == 0) skip(); /* a GPU packs nothing: refused there */
    temp_dir_create(&dir);
    snprintf(model, sizeof model, "%s/model.gguf", dir.path);
    snprintf(cache, sizeof cache, "%s/packed", dir.path);
    um_quantize_options options;
    um_quantize_result result;
    um_error err;
    um_quantize_options_init(&options);
    options.directory = TEST_DATA_DIR "/models/llada";
    options.output = model;
    options.type = "q8_0";
    if (um_quantize(&options, &result, &err) != UM_OK) fail_msg("%s", err.message);
    pack_cache = cache;
    for (int i = 0; i < 4; i++) {
        writes_cache = i < 2;
        torture(model, false, UINT64_MAX, 1, i % 2, true);
    }
    pack_cache = NULL;
    temp_dir_destroy(&dir);
}

/* Every policy, on the model that all of them run on: each allocation of a request, once alone and
 * once with all later ones. Afterwards every page is back and the answer is right. */
static void test_policies(void **state) {
    (void)state;
    static const int32_t ids[] = {5, 6, 7, 8, 9, 10};
    um_engine_options engine_options;
    um_engine *engine = NULL;
    um_error err;
    um_engine_options_init(&engine_options);
    engine_options.directory = TEST_DATA_DIR "/models/llada2_2";
    engine_options.n_threads = 2;
    engine_options.cache_tokens = 256;
    assert_int_equal(um_engine_open(&engine_options, &engine, &err), UM_OK);
    for (int32_t i = 0; um_policy_at(i); i++) {
        const char *policy = um_policy_at(i)->name;
        attempt good, bad;
        /* The first run grows what the engine keeps. */
        assert_int_equal(generate(engine, ids, 6, policy, &good, &err), UM_OK);
        memory_fault_at(0, 0);
        assert_int_equal(generate(engine, ids, 6, policy, &good, &err), UM_OK);
        uint64_t n_allocations = memory_fault_count();
        assert_true(n_allocations > 8);
        for (uint64_t n = 1; n <= 2 * n_allocations; n++) {
            memory_fault_at((n + 1) / 2, n % 2);
            um_status status = generate(engine, ids, 6, policy, &bad, &err);
            memory_fault_at(0, 0);
            if (status != UM_NO_MEMORY) fail_msg("%s: allocation %d", policy, (int)(n + 1) / 2);
            assert_true(strlen(err.message) > 10);
            int64_t n_pages, n_free;
            um_engine_pages(engine, &n_pages, &n_free);
            assert_int_equal(n_pages, n_free);
        }
        assert_int_equal(generate(engine, ids, 6, policy, &bad, &err), UM_OK);
        assert_int_equal(bad.n_tokens, good.n_tokens);
        assert_memory_equal(bad.tokens, good.tokens, (size_t)good.n_tokens * sizeof(int32_t));
    }
    um_engine_close(&engine);
}

static um_status constrain(um_engine *engine, const um_tokenizer *tokenizer, attempt *a,
                           um_error *err) {
    static const int32_t ids[] = {300, 40, 301};
    static const char schema[] =
        "{\"type\": \"object\", \"properties\": {\"a\": {\"enum\": [1, 2.5, \"x\"]}, \"b\": "
        "{\"$ref\": "
        "\"#/$defs/s\"}}, \"required\": [\"a\"], \"additionalProperties\": {\"type\": \"null\"}, "
        "\"$defs\": "
        "{\"s\": {\"type\": \"array\", \"items\": {\"type\": \"string\", \"maxLength\": 4}}}}";
    um_constraint *constraint;
    um_status status =
        um_constraint_json_schema(tokenizer, schema, sizeof schema - 1, &constraint, err);
    if (status != UM_OK) return status;
    status = generate_with(engine, ids, 3, NULL, constraint, a, err);
    um_constraint_free(&constraint);
    return status;
}

/* Each allocation of a constraint and of a request under it, once alone and once with all later
 * ones. jansson's own allocations are not among them. */
static void test_constraint(void **state) {
    (void)state;
    um_engine_options engine_options;
    um_engine *engine = NULL;
    um_tokenizer *tokenizer = NULL;
    um_error err;
    attempt good, bad;
    um_engine_options_init(&engine_options);
    engine_options.directory = PROJECT_DIR "/models/demo";
    engine_options.n_threads = 2;
    engine_options.cache_tokens = 256;
    assert_int_equal(um_engine_open(&engine_options, &engine, &err), UM_OK);
    assert_int_equal(um_tokenizer_open(engine_options.directory, &tokenizer, &err), UM_OK);
    assert_int_equal(constrain(engine, tokenizer, &good, &err), UM_OK);
    memory_fault_at(0, 0);
    assert_int_equal(constrain(engine, tokenizer, &good, &err), UM_OK);
    uint64_t n_allocations = memory_fault_count();
    assert_true(n_allocations > 40);
    for (uint64_t n = 1; n <= 2 * n_allocations; n++) {
        memory_fault_at((n + 1) / 2, n % 2);
        um_status status = constrain(engine, tokenizer, &bad, &err);
        memory_fault_at(0, 0);
        if (status != UM_NO_MEMORY)
            fail_msg("allocation %d: %s: %s", (int)(n + 1) / 2, um_status_name(status),
                     err.message);
        assert_true(strlen(err.message) > 10);
    }
    assert_int_equal(constrain(engine, tokenizer, &bad, &err), UM_OK);
    assert_int_equal(bad.n_tokens, good.n_tokens);
    assert_memory_equal(bad.tokens, good.tokens, (size_t)good.n_tokens * sizeof(int32_t));
    um_tokenizer_close(&tokenizer);
    um_engine_close(&engine);
}

/* jansson's too: nearly all lie in reading the vocabulary, alike; those are sampled. */
static void test_json(void **state) {
    (void)state;
    json_set_alloc_funcs(memory_alloc, memory_free);
    torture(TEST_DATA_DIR "/models/llada2_moe", false, 400, TEST_IS_SAMPLED ? 61 : 7, 0, false);
    torture(PROJECT_DIR "/models/demo", true, 300, TEST_IS_SAMPLED ? 9973 : 997, 0, false);
    json_set_alloc_funcs(malloc, free);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own),        cmocka_unit_test(test_own_sticky),
        cmocka_unit_test(test_families),   cmocka_unit_test(test_policies),
        cmocka_unit_test(test_pack_cache), cmocka_unit_test(test_constraint),
        cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

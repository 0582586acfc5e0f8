/* SPDX-License-Identifier: Apache-2.0
 *
 * um_engine_options.expert_cap: a bound of all experts is none, that of LLaDA2.2's config is what
 * its config says, a narrow one changes the scores; and what is refused.
 */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/recording.h"
#include "support/temp_dir.h"

#define SMALL(name_) TEST_DATA_DIR "/models/" name_
enum { N_IDS = 75, CACHE_TOKENS = 512 };

/* Logits [N_IDS, vocab] of a fixed sequence; the caller frees them. */
static float *logits_of(const char *directory, int32_t cap, size_t *n_bytes) {
    um_engine *engine = recording_open_capped(directory, 2, CACHE_TOKENS, cap);
    int32_t ids[N_IDS];
    um_error err;
    for (int32_t i = 0; i < N_IDS; i++) ids[i] = 5 + i * 37 % 400;
    *n_bytes = (size_t)N_IDS * (size_t)um_engine_info(engine)->vocab * sizeof(float);
    float *logits = malloc(*n_bytes);
    assert_non_null(logits);
    if (um_engine_logits(engine, ids, N_IDS, 0, logits, &err) != UM_OK)
        fail_msg("%s: %s", directory, err.message);
    um_engine_close(&engine);
    return logits;
}

static void test_bounds(void **state) {
    (void)state;
    static const char *const folders[] = {SMALL("llada2_moe"), SMALL("llada_moe"),
                                          SMALL("sdar_moe"), SMALL("rnd1")};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        um_model_info info;
        um_error err;
        size_t n_bytes;
        assert_int_equal(um_model_inspect(folders[i], -1, &info, &err), UM_OK);
        float *plain = logits_of(folders[i], 0, &n_bytes);
        float *all = logits_of(folders[i], info.n_experts, &n_bytes);
        float *few = logits_of(folders[i], info.n_active, &n_bytes);
        assert_memory_equal(plain, all, n_bytes);
        assert_true(memcmp(plain, few, n_bytes) != 0);
        for (size_t j = 0; j < n_bytes / sizeof(float); j++) assert_true(few[j] - few[j] == 0);
        free(plain);
        free(all);
        free(few);
    }
}

/* LLaDA2.2's small model with its bound taken out of the config and given as the option. */
static void test_as_configured(void **state) {
    (void)state;
    const char *folder = SMALL("llada22_moe");
    json_error_t error;
    temp_dir copy;
    json_t *config = json_load_file(SMALL("llada22_moe") "/config.json", 0, &error);
    assert_non_null(config);
    int32_t cap = (int32_t)json_integer_value(json_object_get(config, "expert_capacity"));
    assert_int_equal(json_object_del(config, "expert_capacity"), 0);
    json_object_set_new(config, "n_group", json_integer(1));
    json_object_set_new(config, "topk_group", json_integer(1));
    char *text = json_dumps(config, 0);
    assert_non_null(text);
    temp_dir_create(&copy);
    temp_dir_write_text(&copy, "config.json", text);
    temp_dir_copy(&copy, "model.safetensors", SMALL("llada22_moe") "/model.safetensors");
    size_t n_bytes;
    float *own = logits_of(folder, 0, &n_bytes);
    float *given = logits_of(copy.path, cap, &n_bytes);
    float *without = logits_of(copy.path, 0, &n_bytes);
    assert_memory_equal(own, given, n_bytes);
    assert_true(memcmp(own, without, n_bytes) != 0);
    free(own);
    free(given);
    free(without);
    free(text);
    json_decref(config);
    temp_dir_destroy(&copy);
}

static void check_refused(const char *directory, int32_t cap, const char *word) {
    um_engine_options options;
    um_engine *engine = NULL;
    um_error err;
    um_engine_options_init(&options);
    options.directory = directory;
    options.n_threads = 1;
    options.expert_cap = cap;
    assert_int_equal(um_engine_open(&options, &engine, &err), UM_INVALID);
    assert_string_equal(err.where, "expert_cap");
    if (!strstr(err.message, word)) fail_msg("%s: %s", directory, err.message);
    assert_null(engine);
}

static void test_refused_engines(void **state) {
    (void)state;
    check_refused(SMALL("llada"), 4, "dense");
    check_refused(SMALL("llada22_moe"), 8, "has its own, of 8 experts");
    check_refused(SMALL("llada2_moe"), 3, "expected 4 to 16");
    check_refused(SMALL("llada2_moe"), 17, "expected 4 to 16");
    check_refused(SMALL("llada2_moe"), -1, "expected 4 to 16");
}

static void check_request(const char *directory, int32_t cap, int32_t block_len,
                          um_request_attention attention, const char *where) {
    static const int32_t ids[] = {5, 6, 7, 8, 9};
    um_engine *engine = recording_open_capped(directory, 1, CACHE_TOKENS, cap);
    um_request_options options;
    um_request *request = NULL;
    um_error err;
    um_request_options_init(&options);
    options.prompt = ids;
    options.n_prompt = 5;
    options.max_tokens = 20;
    options.block_len = block_len;
    options.attention = attention;
    um_status status = um_request_create(engine, &options, &request, &err);
    if (where) {
        assert_int_equal(status, UM_INVALID);
        assert_string_equal(err.where, where);
    } else if (status != UM_OK) {
        fail_msg("%s: %s", directory, err.message);
    }
    um_request_destroy(&request);
    um_engine_close(&engine);
}

static void test_blocks(void **state) {
    (void)state;
    check_request(SMALL("llada2_moe"), 6, 64, UM_ATTENTION_OF_MODEL, NULL);
    check_request(SMALL("llada2_moe"), 6, 48, UM_ATTENTION_OF_MODEL, "block_len");
    check_request(SMALL("llada2_moe"), 0, 48, UM_ATTENTION_OF_MODEL, NULL);
    check_request(SMALL("llada_moe"), 4, 10, UM_ATTENTION_OF_MODEL, NULL);
    check_request(SMALL("llada_moe"), 4, 32, UM_ATTENTION_OF_BLOCKS, "attention");
    check_request(SMALL("llada_moe"), 0, 32, UM_ATTENTION_OF_BLOCKS, NULL);
}

/* A score takes whole blocks of the router as well. */
static void test_score(void **state) {
    (void)state;
    static const int32_t ids[] = {5, 6, 7, 8, 9};
    um_engine *engine = recording_open_capped(SMALL("llada2_moe"), 1, 2048, 6);
    um_score_options options;
    um_score_result result;
    um_error err;
    um_score_options_init(&options);
    options.prompt = options.answer = ids;
    options.n_prompt = options.n_answer = 5;
    options.n_samples = 4;
    assert_int_equal(um_engine_score(engine, &options, &result, NULL, &err), UM_OK);
    options.block_len = 16;
    assert_int_equal(um_engine_score(engine, &options, &result, NULL, &err), UM_INVALID);
    assert_non_null(strstr(err.message, "block_len: expected a multiple of 32"));
    um_engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bounds),
                                       cmocka_unit_test(test_as_configured),
                                       cmocka_unit_test(test_refused_engines),
                                       cmocka_unit_test(test_blocks), cmocka_unit_test(test_score)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

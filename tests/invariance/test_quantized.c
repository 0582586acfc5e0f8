/* SPDX-License-Identifier: Apache-2.0
 *
 * Quantized weights: an answer does not depend on threads, on the requests beside it, nor on how
 * its prompt was cut, bit for bit, for each type of weights. Shapes with random weights: a dense
 * one that sees everything, and a mixture of experts that sees earlier blocks, whose prompts are
 * cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/recording.h"

enum { N_PROMPT = 45, N_REQUESTS = 3 };

static um_engine *open_shape(const char *shape, const char *type, int n_layers, int n_threads,
                             um_kv_type kv_type) {
    um_engine_options options;
    um_engine_options_init(&options);
    options.synthetic = shape;
    options.synthetic_type = type;
    options.synthetic_layers = n_layers;
    options.n_threads = n_threads;
    options.kv_type = kv_type;
    options.cache_tokens = 1024;
    return recording_open_with(&options);
}

/* Three requests of different lengths and draws. */
static void fill_requests(um_request_options *o, int32_t prompts[N_REQUESTS][N_PROMPT]) {
    for (int i = 0; i < N_REQUESTS; i++) {
        for (int k = 0; k < N_PROMPT; k++) prompts[i][k] = 5 + (k * 7919 + i * 104729) % 40000;
        um_request_options_init(&o[i]);
        o[i].prompt = prompts[i];
        o[i].n_prompt = (size_t)(N_PROMPT - 20 * i);
        o[i].max_tokens = 16;
        o[i].block_len = 8;
        o[i].policy = "schedule";
        o[i].steps = 4;
        o[i].temperature = i == 1 ? 0.8 : 0;
        o[i].seed = 3;
    }
}

static void check_shape(const char *shape, const char *type, int n_layers, um_kv_type kv_type) {
    um_request_options o[N_REQUESTS];
    int32_t prompts[N_REQUESTS][N_PROMPT];
    recording first[N_REQUESTS], batch[N_REQUESTS], alone;
    char what[128];
    fill_requests(o, prompts);
    for (int n_threads = 1; n_threads <= (TEST_IS_SAMPLED ? 2 : 3); n_threads++) {
        um_engine *engine = open_shape(shape, type, n_layers, n_threads, kv_type);
        bool is_full = um_engine_info(engine)->attention == UM_ATTENTION_FULL;
        recording_run(engine, o, N_REQUESTS, batch);
        for (int i = 0; i < N_REQUESTS; i++) {
            snprintf(what, sizeof what, "%s %s, request %d, %d threads", shape, type, i, n_threads);
            if (batch[i].status != UM_OK) fail_msg("%s: %s", what, batch[i].error.message);
            assert_true(batch[i].n_steps > 0);
            if (n_threads == 1) {
                recording_run(engine, &o[i], 1, &alone);
                recording_assert_equal(&alone, &batch[i], what);
                recording_free(&alone);
                um_request_options cut = o[i];
                cut.prefill_chunk = 8;
                recording_run(engine, &cut, 1, &alone);
                recording_assert_equal(&alone, &batch[i], what);
                if (i == 0 && !is_full) assert_true(alone.prefill_forwards > 1);
                recording_free(&alone);
                first[i] = batch[i];
            } else {
                recording_assert_equal(&first[i], &batch[i], what);
                recording_free(&batch[i]);
            }
        }
        um_engine_close(&engine);
    }
    for (int i = 0; i < N_REQUESTS; i++) recording_free(&first[i]);
}

static void test_dense(void **state) {
    (void)state;
    static const char *const types[] = {"q4_0", "q8_0", "q4_k", "q5_k", "q6_k", "bf16"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (TEST_IS_SAMPLED && i != 2) continue;
        check_shape("llada-169m", types[i], 1, UM_KV_AUTO);
    }
}

/* Where blocks see earlier ones only, a prompt goes through in pieces; experts get other numbers of
 * rows in each. */
static void test_cuts_and_experts(void **state) {
    (void)state;
    if (TEST_IS_SAMPLED) skip();
    check_shape("llada2-mini", "q4_0", 2, UM_KV_AUTO);
}

static void test_kv_types(void **state) {
    (void)state;
    if (TEST_IS_SAMPLED) skip();
    check_shape("llada-169m", "q4_0", 1, UM_KV_INT8);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_dense),
                                       cmocka_unit_test(test_cuts_and_experts),
                                       cmocka_unit_test(test_kv_types)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

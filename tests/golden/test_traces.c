/* SPDX-License-Identifier: Apache-2.0
 *
 * Decoding against the families' own code, forward by forward: traces.json of each model folder
 * says what went into every forward of the reference and what came out. A difference at a near tie
 * is reported with both probabilities and fails beyond 1e-5.
 *
 * With arguments, checks those folders instead: test_traces DIRECTORY...
 */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/recording.h"

static json_t *load_traces(const char *folder) {
    char path[1024];
    json_error_t error;
    snprintf(path, sizeof path, "%s/traces.json", folder);
    json_t *traces = json_load_file(path, 0, &error);
    if (!traces) fail_msg("%s: %s", path, error.text);
    return traces;
}

static int32_t *read_ids(const json_t *array, size_t *n) {
    *n = json_array_size(array);
    int32_t *ids = malloc((*n + 1) * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return ids;
}

static double number(const json_t *trace, const char *key, double fallback) {
    const json_t *value = json_object_get(trace, key);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

static bool says(const json_t *trace, const char *word) {
    return strstr(json_string_value(json_object_get(trace, "reference")), word) != NULL;
}

/* The reference's parameters under this project's names. */
static void read_options(const json_t *trace, bool is_full, um_request_options *o) {
    um_request_options_init(o);
    o->fold = UM_FOLD_OFF; /* forwards are counted */
    size_t n;
    o->prompt = read_ids(json_object_get(trace, "prompt_ids"), &n);
    o->n_prompt = n;
    o->max_tokens = (int32_t)number(trace, "gen_length", 0);
    if (o->max_tokens == 0) o->max_tokens = (int32_t)(number(trace, "max_length", 0) - (double)n);
    o->block_len = (int32_t)number(trace, "block_length", 0);
    o->ignore_eos = true;
    const char *alg = json_string_value(json_object_get(trace, "alg"));
    if (alg) {
        o->policy = strcmp(alg, "maskgit_plus") == 0  ? "maskgit"
                    : strcmp(alg, "topk_margin") == 0 ? "margin"
                                                      : alg;
        o->steps = (int32_t)number(trace, "steps", 0);
        o->eps = number(trace, "eps", 0);
        return;
    }
    double threshold = number(trace, "threshold", -1), edit = number(trace, "editing_threshold", 2);
    double post_steps = number(trace, "max_post_steps", 0);
    if (!is_full && edit <= 1) {
        o->policy = "edit";
        o->threshold = threshold;
        o->edit_threshold = edit;
        o->post_steps = (int32_t)post_steps;
        return;
    }
    if (says(trace, "low_confidence_")) {
        o->policy = threshold >= 0 ? "dynamic" : "static";
        if (threshold >= 0) o->threshold = threshold;
    } else if (threshold >= 0) {
        o->policy = "threshold";
        o->threshold = threshold;
    } else {
        o->policy = "schedule";
    }
    /* LLaDA's steps are for the whole answer, LLaDA2.0's for a block. */
    int32_t steps = (int32_t)number(trace, "steps", 0);
    o->steps = is_full ? steps / (o->max_tokens / o->block_len) : steps;
    if (number(trace, "cfg_scale", 0) > 0) o->cfg_scale = number(trace, "cfg_scale", 0);
    if (says(trace, "prefix cache")) o->cache = UM_CACHE_PREFIX;
    if (says(trace, "dual cache")) o->cache = UM_CACHE_DUAL;
}

/* The reference's inputs of forward i at positions of the recorded block. */
static void compare_inputs(const json_t *trace, const recorded_step *step, int i, bool is_full,
                           size_t n_canvas, const char *what) {
    const json_t *inputs = json_array_get(json_object_get(trace, "inputs"), (size_t)i);
    size_t n = json_array_size(inputs), offset = 0;
    if (is_full) {
        /* Whole canvas, the part from the block to the end, or the block alone. */
        if (n == n_canvas)
            offset = (size_t)step->first_position;
        else
            assert_true(n == (size_t)step->n_inputs ||
                        n == n_canvas - (size_t)step->first_position);
    } else {
        assert_int_equal(n, step->n_inputs);
    }
    for (int32_t j = 0; j < step->n_inputs; j++) {
        int32_t expected = (int32_t)json_integer_value(json_array_get(inputs, offset + (size_t)j));
        if (expected != step->inputs[j])
            fail_msg("%s, forward %d: position %d went in as %d, the reference's as %d", what, i,
                     step->first_position + j, step->inputs[j], expected);
    }
    /* What was committed has the reference's probability. */
    const json_t *tops = json_array_get(json_object_get(trace, "top_probability"), (size_t)i);
    for (int32_t j = 0; j < step->n_changes; j++) {
        size_t at = offset + (size_t)(step->changes[j].position - step->first_position);
        if (says(trace, "Dream")) at--; /* rows as they come out, before the shift */
        if (!tops) break;               /* sdar's traces record none */
        double expected = json_number_value(json_array_get(tops, at));
        double found = (double)step->changes[j].probability;
        /* The reference rounds to seven digits; under guidance it recorded the conditional half. */
        if (number(trace, "cfg_scale", 0) == 0 &&
            !(found - expected < 1e-5 && expected - found < 1e-5))
            fail_msg("%s, forward %d, position %d: probability %.9g, the reference's %.9g", what, i,
                     step->changes[j].position, found, expected);
    }
}

static void check_folder(const char *folder, bool is_full) {
    json_t *traces = load_traces(folder);
    um_engine *engine = recording_open(folder, 2, 0);
    size_t n_cases = json_array_size(traces);
    assert_true(n_cases > 0);
    for (size_t i = 0; i < n_cases; i++) {
        const json_t *trace = json_array_get(traces, i);
        um_request_options options;
        char what[256];
        read_options(trace, is_full, &options);
        snprintf(what, sizeof what, "%s case %zu (%s)", folder, i,
                 json_string_value(json_object_get(trace, "reference")));
        recording r;
        recording_run(engine, &options, 1, &r);
        if (r.status != UM_OK) fail_msg("%s: %s", what, r.error.message);
        size_t n_forwards = json_array_size(json_object_get(trace, "inputs"));
        size_t n_canvas = options.n_prompt + (size_t)options.max_tokens;
        for (int j = 0; j < r.n_steps && j < (int)n_forwards; j++)
            compare_inputs(trace, &r.steps[j], j, is_full, n_canvas, what);
        size_t n_output;
        int32_t *output = read_ids(json_object_get(trace, "output_ids"), &n_output);
        /* Some of the reference's loops stop after a block with the end of text; we write on. */
        bool is_cut = n_output && output[n_output - 1] == (int32_t)number(trace, "eos_id", -1);
        if (is_cut ? (size_t)r.n_steps < n_forwards : (size_t)r.n_steps != n_forwards)
            fail_msg("%s: %d forwards, the reference made %zu", what, r.n_steps, n_forwards);
        /* Some references return their canvas, which ends with a whole block. */
        if (!is_full && n_output > (size_t)r.n_tokens) n_output = (size_t)r.n_tokens;
        assert_true(n_output <= (size_t)r.n_tokens);
        assert_memory_equal(output, r.tokens, n_output * sizeof *output);
        printf("%s: %zu forwards, %zu tokens equal\n", what, n_forwards, n_output);
        free(output);
        recording_free(&r);
        union {
            const int32_t *read_only;
            int32_t *own;
        } prompt = {.read_only = options.prompt};
        free(prompt.own);
    }
    um_engine_close(&engine);
    json_decref(traces);
}

/* Every folder of small models that has traces. */
static void test_folders(void **state) {
    (void)state;
    static const char *const full[] = {"llada", "llada_moe", "dream"};
    static const char *const causal[] = {"llada2_moe", "sdar", "sdar_moe"};
    char path[512];
    for (size_t i = 0; i < sizeof full / sizeof *full; i++) {
        snprintf(path, sizeof path, "%s/models/%s", TEST_DATA_DIR, full[i]);
        check_folder(path, true);
    }
    for (size_t i = 0; i < sizeof causal / sizeof *causal; i++) {
        snprintf(path, sizeof path, "%s/models/%s", TEST_DATA_DIR, causal[i]);
        check_folder(path, false);
    }
}

/* The demo's traces have a format of their own: [block, [[position in the block, token], ...]]. */
static void check_demo_step(const json_t *steps, const recorded_step *step, int i, int block_len) {
    const json_t *expected = json_array_get(steps, (size_t)i);
    const json_t *changes = json_array_get(expected, 1);
    assert_int_equal(json_array_size(changes), step->n_changes);
    for (int32_t j = 0; j < step->n_changes; j++) {
        const json_t *change = json_array_get(changes, (size_t)j);
        assert_int_equal(json_integer_value(json_array_get(change, 0)),
                         step->changes[j].position % block_len);
        assert_int_equal(json_integer_value(json_array_get(change, 1)), step->changes[j].token);
    }
}

static void test_demo(void **state) {
    (void)state;
    json_t *traces = load_traces(PROJECT_DIR "/models/demo");
    um_engine *engine = recording_open(PROJECT_DIR "/models/demo", 2, 0);
    /* Sampled: the sum in its three ways, and the sudoku. */
    for (size_t i = 0; i < json_array_size(traces); i += TEST_IS_SAMPLED && i == 2 ? 4 : 1) {
        if (TEST_IS_SAMPLED && i > 6) break;
        const json_t *trace = json_array_get(traces, i), *steps = json_object_get(trace, "steps");
        um_request_options o;
        um_request_options_init(&o);
        size_t n, n_output;
        int32_t *prompt = read_ids(json_object_get(trace, "prompt_ids"), &n);
        o.prompt = prompt;
        o.n_prompt = n;
        o.block_len = (int32_t)number(trace, "block_length", 0);
        o.max_tokens = (int32_t)number(trace, "gen_length", 0);
        o.threshold = number(trace, "threshold", 0);
        o.policy = "threshold";
        if (json_is_number(json_object_get(trace, "edit_threshold"))) {
            o.policy = "edit";
            o.edit_threshold = number(trace, "edit_threshold", 0);
            o.post_steps = (int32_t)number(trace, "max_post_steps", 0);
        }
        o.ignore_eos = true;
        o.fold = UM_FOLD_OFF;
        recording r;
        recording_run(engine, &o, 1, &r);
        assert_int_equal(r.status, UM_OK);
        /* The reference stops after the block that holds the end of text; we write on. */
        assert_true(json_array_size(steps) <= (size_t)r.n_steps);
        for (int j = 0; j < (int)json_array_size(steps); j++)
            check_demo_step(steps, &r.steps[j], j, o.block_len);
        int32_t *output = read_ids(json_object_get(trace, "output_ids"), &n_output);
        for (size_t j = 0; j < n_output && output[j] != 1; j++)
            if (j < (size_t)r.n_tokens) assert_int_equal(output[j], r.tokens[j]);
        free(output);
        free(prompt);
        recording_free(&r);
    }
    um_engine_close(&engine);
    json_decref(traces);
}

static void test_folder(void **state) {
    const char *folder = *state;
    um_model_info info;
    um_error err;
    if (um_model_inspect(folder, -1, &info, &err) != UM_OK) fail_msg("%s", err.message);
    check_folder(folder, info.attention == UM_ATTENTION_FULL);
}

int main(int argc, char **argv) {
    recording_precision = UM_PRECISION_REFERENCE;
    if (argc > 1) {
        int n_failed = 0;
        for (int i = 1; i < argc; i++) {
            const struct CMUnitTest test[] = {cmocka_unit_test_prestate(test_folder, argv[i])};
            n_failed += cmocka_run_group_tests(test, NULL, NULL) != 0;
        }
        return n_failed;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_demo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

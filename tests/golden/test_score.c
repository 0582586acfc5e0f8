/* SPDX-License-Identifier: Apache-2.0
 *
 * Scores against numbers made elsewhere: by the families' own PyTorch code under the same masks
 * (tests/data/scores, made by tools/reference/score_cases.py), and by um_engine_logits, which
 * forwards one whole sequence a block and knows neither lanes nor shared pages.
 */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/score.h"
#include "support/recording.h"

static bool is_near(double found, double expected) {
    double scale = fabs(expected) > 1 ? fabs(expected) : 1;
    return fabs(found - expected) <= 1e-5 * scale;
}

/* ---- The families' own code --------------------------------------------------------------- */

static int32_t *read_ids(const json_t *array, size_t *n) {
    *n = json_array_size(array);
    int32_t *ids = malloc((*n + 1) * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return ids;
}

static void check_case(um_engine *engine, const json_t *json, const char *name, size_t i_case,
                       double *worst) {
    um_score_options options;
    um_score_result result;
    um_error err;
    um_score_options_init(&options);
    int32_t *prompt = read_ids(json_object_get(json, "prompt_ids"), &options.n_prompt);
    int32_t *answer = read_ids(json_object_get(json, "answer_ids"), &options.n_answer);
    const json_t *list = json_object_get(json, "samples");
    size_t n = json_array_size(list);
    options.prompt = prompt;
    options.answer = answer;
    options.n_samples = (int32_t)n;
    options.block_len = (int32_t)json_integer_value(json_object_get(json, "block"));
    uint8_t *masks = calloc(n, options.n_answer);
    double *samples = malloc(n * sizeof *samples);
    assert_non_null(masks);
    assert_non_null(samples);
    for (size_t s = 0; s < n; s++) {
        size_t i, j;
        json_t *block, *position;
        json_array_foreach(json_object_get(json_array_get(list, s), "masked"), i, block)
            json_array_foreach(block, j, position)
                masks[s * options.n_answer + (size_t)json_integer_value(position)] = 1;
    }
    if (score_run(engine, &options, masks, &result, samples, &err) != UM_OK)
        fail_msg("%s, case %zu: %s", name, i_case, err.message);
    for (size_t s = 0; s < n; s++) {
        double expected =
            json_real_value(json_object_get(json_array_get(list, s), "log_likelihood"));
        if (fabs(samples[s] - expected) > *worst) *worst = fabs(samples[s] - expected);
        if (!is_near(samples[s], expected))
            fail_msg("%s, case %zu, sample %zu: %.9g; expected %.9g", name, i_case, s, samples[s],
                     expected);
    }
    assert_true(is_near(result.log_likelihood, json_real_value(json_object_get(json, "mean"))));
    free(samples);
    free(masks);
    free(answer);
    free(prompt);
}

static void test_references(void **state) {
    static const char *const models[] = {"llada", "dream", "llada2_moe", "fast_dllm_v2"};
    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        char path[512];
        double worst = 0;
        json_error_t json_err;
        snprintf(path, sizeof path, TEST_DATA_DIR "/scores/%s.json", models[m]);
        json_t *cases = json_load_file(path, 0, &json_err);
        if (!cases) fail_msg("%s: %s", path, json_err.text);
        snprintf(path, sizeof path, TEST_DATA_DIR "/models/%s", models[m]);
        um_engine *engine = recording_open(path, 2, 0);
        for (size_t i = 0; i < json_array_size(cases); i++)
            check_case(engine, json_array_get(cases, i), models[m], i, &worst);
        printf("%s: %zu cases, largest difference %.1e\n", models[m], json_array_size(cases),
               worst);
        um_engine_close(&engine);
        json_decref(cases);
    }
}

/* ---- Whole forwards ----------------------------------------------------------------------- */

typedef struct setting {
    const char *directory;
    int32_t block_len; /* 0: full attention */
    int32_t n_prompt, n_answer, n_samples;
    double cfg_scale;
} setting;

static double log_probability(const float *logits, const float *guide, double cfg_scale,
                              int32_t vocab, int32_t token) {
    double most = -INFINITY, sum = 0, of_token = 0;
    double *l = malloc((size_t)vocab * sizeof *l);
    assert_non_null(l);
    for (int32_t i = 0; i < vocab; i++) {
        l[i] = (double)logits[i];
        if (guide) l[i] = (double)guide[i] + (cfg_scale + 1) * ((double)logits[i] - guide[i]);
        if (l[i] > most) most = l[i];
    }
    for (int32_t i = 0; i < vocab; i++) sum += exp(l[i] - most);
    of_token = l[token] - most - log(sum);
    free(l);
    return of_token;
}

/* Forwards ids [n] and adds up the log-probabilities of the targets at [first, n) where masked. */
static double forward_sum(um_engine *engine, const um_score_options *o, const int32_t *ids,
                          int32_t n, int32_t block_len, const int32_t *targets,
                          const uint8_t *wanted) {
    const um_model_info *info = um_engine_info(engine);
    um_error err;
    size_t n_values = (size_t)n * (size_t)info->vocab;
    float *logits[2] = {malloc(n_values * sizeof(float)), NULL};
    int32_t *other = malloc((size_t)n * sizeof *other);
    assert_non_null(logits[0]);
    assert_non_null(other);
    if (um_engine_logits(engine, ids, (size_t)n, block_len, logits[0], &err) != UM_OK)
        fail_msg("%s", err.message);
    if (o->cfg_scale > 0) {
        memcpy(other, ids, (size_t)n * sizeof *other);
        for (size_t i = 0; i < o->n_prompt && i < (size_t)n; i++) other[i] = info->mask_token;
        logits[1] = malloc(n_values * sizeof(float));
        assert_non_null(logits[1]);
        if (um_engine_logits(engine, other, (size_t)n, block_len, logits[1], &err) != UM_OK)
            fail_msg("%s", err.message);
    }
    double sum = 0;
    for (int32_t p = 0; p < n + info->is_shifted; p++) {
        if (!wanted[p]) continue;
        size_t at = (size_t)(p - info->is_shifted) * (size_t)info->vocab;
        sum += log_probability(logits[0] + at, logits[1] ? logits[1] + at : NULL, o->cfg_scale,
                               info->vocab, targets[p]);
    }
    free(other);
    free(logits[1]);
    free(logits[0]);
    return sum;
}

/* One sample from its definition. canvas [n_prompt + n_answer], masked [n_answer]. */
static double definition(um_engine *engine, const um_score_options *o, const int32_t *canvas,
                         const uint8_t *masked) {
    const um_model_info *info = um_engine_info(engine);
    bool is_causal = info->attention == UM_ATTENTION_BLOCK_CAUSAL;
    int32_t n_prompt = (int32_t)o->n_prompt, n_total = n_prompt + (int32_t)o->n_answer;
    int32_t block_len = is_causal ? o->block_len : n_total;
    int32_t *ids = malloc((size_t)n_total * sizeof *ids);
    uint8_t *wanted = malloc((size_t)n_total + 1);
    double sum = 0;
    assert_non_null(ids);
    assert_non_null(wanted);
    for (int32_t start = is_causal ? n_prompt / block_len * block_len : 0; start < n_total;
         start += block_len) {
        int32_t end = start + block_len < n_total ? start + block_len : n_total, n = 0, k = 0;
        memcpy(ids, canvas, (size_t)n_total * sizeof *ids);
        memset(wanted, 0, (size_t)n_total + 1);
        bool has_seed = is_causal && info->is_shifted && start >= n_prompt;
        if (has_seed) {
            wanted[start] = 1;
            sum += forward_sum(engine, o, ids, start, block_len, canvas, wanted);
            wanted[start] = 0;
            assert_int_equal(masked[start - n_prompt], 0);
        }
        for (int32_t p = start + has_seed; p < end; p++) {
            if (p < n_prompt) continue;
            n++;
            if (!masked[p - n_prompt]) continue;
            k++;
            ids[p] = info->mask_token;
            wanted[p] = 1;
        }
        assert_true(n == 0 || (k >= 1 && k <= n));
        if (n) sum += forward_sum(engine, o, ids, end, block_len, canvas, wanted) * n / k;
    }
    free(wanted);
    free(ids);
    return sum;
}

static void check_setting(const setting *s) {
    um_engine *engine = recording_open(s->directory, 2, 0);
    int32_t n_total = s->n_prompt + s->n_answer;
    int32_t *canvas = malloc((size_t)n_total * sizeof *canvas);
    uint8_t *masked = malloc((size_t)s->n_answer);
    double *samples = malloc((size_t)s->n_samples * sizeof *samples), mean = 0;
    um_score_options options;
    um_score_result result;
    um_error err;
    assert_non_null(canvas);
    assert_non_null(masked);
    assert_non_null(samples);
    for (int32_t i = 0; i < n_total; i++) canvas[i] = (i * 37 + 11) % 480 + 3;
    um_score_options_init(&options);
    options.prompt = canvas;
    options.n_prompt = (size_t)s->n_prompt;
    options.answer = canvas + s->n_prompt;
    options.n_answer = (size_t)s->n_answer;
    options.block_len = s->block_len;
    options.n_samples = s->n_samples;
    options.cfg_scale = s->cfg_scale;
    options.seed = 5;
    options.item = 3;
    if (um_engine_score(engine, &options, &result, samples, &err) != UM_OK)
        fail_msg("%s, block %d: %s", s->directory, s->block_len, err.message);
    for (int32_t i = 0; i < s->n_samples; i++) {
        if (um_score_masks(um_engine_info(engine), &options, i, masked, &err) != UM_OK)
            fail_msg("%s", err.message);
        double expected = definition(engine, &options, canvas, masked);
        if (!is_near(samples[i], expected))
            fail_msg("%s, block %d, sample %d: %.9g; expected %.9g", s->directory, s->block_len, i,
                     samples[i], expected);
        mean += samples[i] / s->n_samples;
    }
    assert_true(is_near(result.log_likelihood, mean));
    assert_int_equal(result.n_samples, s->n_samples);
    assert_int_equal(result.n_tokens, s->n_answer);
    assert_true(s->n_samples > 1 ? result.standard_error >= 0 : isnan(result.standard_error));
    free(samples);
    free(masked);
    free(canvas);
    um_engine_close(&engine);
}

/* Blocks that are pages, parts of pages, and neither; prompts that end with a block and inside one;
 * answers of one token, in one block, and over many. */
static void test_logits(void **state) {
    static const char llada[] = TEST_DATA_DIR "/models/llada";
    static const char dream[] = TEST_DATA_DIR "/models/dream";
    static const char llada2[] = TEST_DATA_DIR "/models/llada2_moe";
    static const char sdar[] = TEST_DATA_DIR "/models/sdar";
    static const char fast[] = TEST_DATA_DIR "/models/fast_dllm_v2";
    static const setting settings[] = {
        {llada, 0, 21, 30, 6, 0},    {llada, 0, 1, 1, 3, 0},
        {llada, 0, 40, 17, 3, 1.5},  {dream, 0, 9, 33, 5, 0},
        {dream, 0, 1, 5, 1, 0},      {llada2, 32, 21, 60, 5, 0},
        {llada2, 32, 32, 33, 3, 0},  {llada2, 16, 20, 70, 4, 0},
        {llada2, 7, 33, 61, 5, 0},   {llada2, 4, 6, 70, 3, 2},
        {llada2, 1, 3, 5, 2, 0},     {llada2, 100, 40, 90, 3, 0},
        {llada2, 45, 10, 140, 3, 0}, {sdar, 4, 30, 41, 4, 0},
        {sdar, 64, 70, 80, 3, 0},    {fast, 32, 31, 70, 4, 0},
        {fast, 32, 64, 1, 2, 0},     {fast, 8, 5, 50, 3, 0},
        {fast, 7, 40, 30, 3, 0.5},   {fast, 2, 3, 9, 3, 0},
        {fast, 1, 2, 4, 3, 0},       {PROJECT_DIR "/models/demo", 32, 20, 50, 3, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) check_setting(&settings[i]);
}

int main(void) {
    recording_precision = UM_PRECISION_REFERENCE;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

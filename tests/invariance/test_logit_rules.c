/* SPDX-License-Identifier: Apache-2.0
 *
 * Bias, penalties, end tokens and log-probabilities of a request: each against a definition that
 * computes whole sequences one at a time, and each the same bits whatever the cache, the cut of the
 * prefill, the number of threads and the company.
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

enum { N_PROMPT = 37, MAX_TOKENS = 40, N_CANVAS = 96, BLOCK = 16, VOCAB_MAX = 4096, N_BIAS = 6 };

typedef struct rule_case {
    const char *name, *policy;
    double frequency, presence, repetition, temperature;
    int32_t min_tokens, top_logprobs, n_bias, n_stop;
    float bias;
    bool heeds_eos;
} rule_case;

static const rule_case cases[] = {
    {"bias", "sequential", .n_bias = N_BIAS, .bias = 3.5f, .top_logprobs = 3},
    {"banned", "threshold", .n_bias = N_BIAS, .bias = -INFINITY, .top_logprobs = 20},
    {"frequency", "sequential", .frequency = 0.8, .top_logprobs = 0},
    {"negative frequency", "threshold", .frequency = -0.3, .top_logprobs = 1},
    {"presence", "schedule", .presence = 1.5, .top_logprobs = 2},
    {"repetition", "sequential", .repetition = 1.4, .top_logprobs = 5},
    {"all, edited", "edit", .frequency = 0.5, .presence = 0.4, .repetition = 1.2, .n_bias = N_BIAS,
     .bias = -1.25f, .top_logprobs = 4},
    {"all, drawn", "threshold", .frequency = 0.5, .presence = 0.4, .repetition = 0.8,
     .n_bias = N_BIAS, .bias = 2, .temperature = 0.8, .top_logprobs = 4},
    {"min_tokens", "sequential", .min_tokens = 21, .n_stop = 300, .heeds_eos = true,
     .top_logprobs = 1},
    {"stop tokens", "threshold", .n_stop = 40, .top_logprobs = -1},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static const char *const models[] = {"llada2_moe", "llada", "dream", "sdar", "fast_dllm_v2"};
enum { N_MODELS = sizeof models / sizeof *models };

typedef struct request_case {
    um_request_options options;
    int32_t prompt[N_PROMPT], stops[300];
    um_logit_bias bias[N_BIAS];
} request_case;

static void make(const um_engine *engine, const rule_case *c, uint64_t seed, request_case *r) {
    const um_model_info *info = um_engine_info(engine);
    um_request_options *o = &r->options;
    um_request_options_init(o);
    for (int32_t i = 0; i < N_PROMPT; i++) {
        rng_key key = {.seed = seed, .position = (uint32_t)i};
        r->prompt[i] = (int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, 0) * (info->vocab - 20)) + 5;
    }
    for (int32_t i = 0; i < c->n_bias; i++)
        r->bias[i] = (um_logit_bias){(info->vocab / 2 + 11 * (N_BIAS - i)) % info->vocab, c->bias};
    for (int32_t i = 0, n = 0; n < c->n_stop; i++)
        if (i != info->mask_token) r->stops[n++] = i;
    o->prompt = r->prompt;
    o->n_prompt = N_PROMPT;
    o->max_tokens = MAX_TOKENS;
    o->block_len = BLOCK;
    o->policy = c->policy;
    o->temperature = c->temperature;
    o->seed = seed;
    o->logit_bias = r->bias;
    o->n_logit_bias = c->n_bias;
    o->frequency_penalty = c->frequency;
    o->presence_penalty = c->presence;
    if (c->repetition > 0) o->repetition_penalty = c->repetition;
    o->min_tokens = c->min_tokens;
    o->stop_tokens = r->stops;
    o->n_stop_tokens = c->n_stop;
    o->ignore_eos = !c->heeds_eos;
    o->top_logprobs = c->top_logprobs;
    if (strcmp(c->policy, "edit") == 0) o->edit_threshold = 0.05;
}

static um_engine *open_engine(const char *name, int n_threads) {
    char directory[512];
    snprintf(directory, sizeof directory, "%s/models/%s", TEST_DATA_DIR, name);
    return recording_open(directory, n_threads, 4096);
}

/* ---- Against the definition ------------------------------------------------------------------ */

static bool is_end(const um_engine *engine, const um_request_options *o, int32_t token) {
    const um_model_info *info = um_engine_info(engine);
    for (int32_t i = 0; i < info->n_stop_tokens && !o->ignore_eos; i++)
        if (info->stop_tokens[i] == token) return true;
    for (int32_t i = 0; i < o->n_stop_tokens; i++)
        if (o->stop_tokens[i] == token) return true;
    return false;
}

/* The logits of a position as they should be, in float64. */
static void change_logits(const um_engine *engine, const um_request_options *o,
                          const int32_t *canvas, const bool *is_committed, int32_t position,
                          const float *raw, double *l) {
    int32_t vocab = um_engine_info(engine)->vocab;
    int32_t *counts = calloc((size_t)vocab, sizeof *counts);
    bool *is_in_prompt = calloc((size_t)vocab, sizeof *is_in_prompt);
    assert_true(counts && is_in_prompt);
    for (int32_t p = 0; p < N_PROMPT; p++) is_in_prompt[canvas[p]] = true;
    for (int32_t p = N_PROMPT; p < N_CANVAS; p++)
        if (is_committed[p] && p != position) counts[canvas[p]]++;
    for (int32_t t = 0; t < vocab; t++) {
        double x = (double)raw[t];
        if (is_in_prompt[t] || counts[t])
            x = x < 0 ? x * o->repetition_penalty : x / o->repetition_penalty;
        x -= o->frequency_penalty * counts[t] + (counts[t] ? o->presence_penalty : 0);
        for (int32_t i = 0; i < o->n_logit_bias; i++)
            if (o->logit_bias[i].token == t) x += (double)o->logit_bias[i].bias;
        if (position < N_PROMPT + o->min_tokens && is_end(engine, o, t)) x = -INFINITY;
        l[t] = x;
    }
    free(counts);
    free(is_in_prompt);
}

static void check_change(const um_engine *engine, const um_request_options *o, const um_change *c,
                         const double *l, const char *what) {
    const um_model_info *info = um_engine_info(engine);
    double max = -INFINITY, sum = 0;
    int32_t best = -1;
    for (int32_t t = 0; t < info->vocab; t++) {
        if (l[t] > max) max = l[t];
        if (t != info->mask_token && (best < 0 || l[t] > l[best])) best = t;
    }
    for (int32_t t = 0; t < info->vocab; t++) sum += exp(l[t] - max);
    double log_sum_exp = max + log(sum);
    /* Ties aside: the definition adds in another order. */
    if (o->temperature == 0 && l[c->token] < l[best] - 1e-3 && c->token != info->mask_token)
        fail_msg("%s: position %d took %d (%.5f), %d (%.5f) is better", what, c->position, c->token,
                 l[c->token], best, l[best]);
    if (o->top_logprobs < 0) {
        assert_true(isnan(c->log_probability) && c->n_top == 0);
        return;
    }
    if (!(fabs((double)c->log_probability - (l[c->token] - log_sum_exp)) < 2e-3))
        fail_msg("%s: position %d, token %d: log-probability %.6f, not %.6f", what, c->position,
                 c->token, (double)c->log_probability, l[c->token] - log_sum_exp);
    assert_int_equal(c->n_top, o->top_logprobs);
    for (int32_t i = 0; i < c->n_top; i++) {
        const um_token_logprob *top = &c->top[i];
        int32_t n_better = 0;
        for (int32_t t = 0; t < info->vocab; t++)
            n_better += t != info->mask_token && l[t] > l[top->token] + 1e-3;
        assert_true(n_better <= i && top->token != info->mask_token);
        assert_true(fabs((double)top->log_probability - (l[top->token] - log_sum_exp)) < 2e-3);
        if (i) assert_true(top->log_probability <= c->top[i - 1].log_probability);
    }
}

/* Replays the events of an uncached run over logits of the whole sequence. */
static void check_case(um_engine *engine, const rule_case *c, const char *what) {
    const um_model_info *info = um_engine_info(engine);
    bool is_full = info->attention == UM_ATTENTION_FULL;
    request_case request;
    recording r;
    make(engine, c, 7, &request);
    request.options.cache = UM_CACHE_NONE;
    recording_run(engine, &request.options, 1, &r);
    if (r.status != UM_OK) fail_msg("%s: %s", what, r.error.message);
    int32_t canvas[N_CANVAS];
    bool is_committed[N_CANVAS] = {false};
    for (int32_t p = 0; p < N_CANVAS; p++)
        canvas[p] = p < N_PROMPT ? request.prompt[p] : info->mask_token;
    float *logits = malloc((size_t)N_CANVAS * (size_t)info->vocab * sizeof *logits);
    double *l = malloc((size_t)info->vocab * sizeof *l);
    assert_true(logits && l);
    int32_t n_changes = 0;
    for (int32_t i = 0; i < r.n_steps; i++) {
        const recorded_step *step = &r.steps[i];
        int32_t end = is_full ? N_PROMPT + MAX_TOKENS : step->first_position + step->n_inputs;
        assert_memory_equal(step->inputs, canvas + step->first_position,
                            (size_t)step->n_inputs * sizeof *canvas);
        um_error err;
        if (um_engine_logits(engine, canvas, (size_t)end, BLOCK, logits, &err) != UM_OK)
            fail_msg("%s: %s", what, err.message);
        for (int32_t j = 0; j < step->n_changes; j++) {
            const um_change *change = &step->changes[j];
            change_logits(engine, &request.options, canvas, is_committed, change->position,
                          logits + (size_t)change->position * (size_t)info->vocab, l);
            check_change(engine, &request.options, change, l, what);
        }
        for (int32_t j = 0; j < step->n_changes; j++, n_changes++) {
            canvas[step->changes[j].position] = step->changes[j].token;
            is_committed[step->changes[j].position] = step->changes[j].token != info->mask_token;
        }
    }
    /* The text ends where the first end token is that may end it, and not before. */
    if (r.finish == UM_FINISH_STOP) {
        assert_true(r.n_tokens >= c->min_tokens);
        assert_true(is_end(engine, &request.options, canvas[N_PROMPT + r.n_tokens]));
    }
    for (int32_t p = c->min_tokens; p < r.n_tokens; p++)
        assert_false(is_end(engine, &request.options, canvas[N_PROMPT + p]));
    assert_true(n_changes > 0);
    free(l);
    free(logits);
    recording_free(&r);
}

static void test_definition(void **state) {
    (void)state;
    /* Rows predict their own position: um_engine_logits gives what is scored. */
    static const char *const plain[] = {"llada2_moe", "llada", "sdar"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        um_engine *engine = open_engine(plain[i], 2);
        for (int j = 0; j < N_CASES; j++) {
            char what[128];
            snprintf(what, sizeof what, "%s, %s", plain[i], cases[j].name);
            check_case(engine, &cases[j], what);
        }
        um_engine_close(&engine);
    }
}

/* ---- The same bits ----------------------------------------------------------------------------
 */

static void run_cases(um_engine *engine, um_cache_mode cache, int32_t chunk,
                      recording out[N_CASES]) {
    for (int i = 0; i < N_CASES; i++) {
        request_case request;
        make(engine, &cases[i], 7, &request);
        request.options.cache = cache;
        request.options.prefill_chunk = chunk;
        request.options.fold = UM_FOLD_OFF;
        recording_run(engine, &request.options, 1, &out[i]);
    }
}

static void compare(recording a[N_CASES], recording b[N_CASES], const char *model,
                    const char *variant) {
    for (int i = 0; i < N_CASES; i++) {
        char what[128];
        snprintf(what, sizeof what, "%s, %s, %s", model, cases[i].name, variant);
        recording_assert_equal(&a[i], &b[i], what);
        recording_free(&b[i]);
    }
}

static void test_invariance(void **state) {
    (void)state;
    for (int m = 0; m < N_MODELS; m++) {
        um_engine *engine = open_engine(models[m], 2);
        recording plain[N_CASES], other[N_CASES];
        static request_case requests[N_CASES];
        um_request_options options[N_CASES];
        run_cases(engine, UM_CACHE_DEFAULT, 0, plain);
        run_cases(engine, UM_CACHE_NONE, 0, other);
        compare(plain, other, models[m], "uncached");
        run_cases(engine, UM_CACHE_DEFAULT, BLOCK, other);
        compare(plain, other, models[m], "prefill cut");
        for (int i = 0; i < N_CASES; i++) {
            make(engine, &cases[i], 7, &requests[i]);
            options[i] = requests[i].options;
            options[i].fold = UM_FOLD_OFF;
        }
        recording_run(engine, options, N_CASES, other);
        compare(plain, other, models[m], "in a batch");
        um_engine_close(&engine);
        for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
            engine = open_engine(models[m], n_threads);
            run_cases(engine, UM_CACHE_DEFAULT, 0, other);
            compare(plain, other, models[m], "threads");
            um_engine_close(&engine);
        }
        for (int i = 0; i < N_CASES; i++) recording_free(&plain[i]);
    }
}

/* Rules that do nothing are as no rules: the same bits. */
static void test_neutral(void **state) {
    (void)state;
    um_engine *engine = open_engine("llada2_moe", 2);
    request_case request;
    recording plain, neutral;
    make(engine, &cases[N_CASES - 1], 7, &request);
    request.options.n_stop_tokens = 0;
    recording_run(engine, &request.options, 1, &plain);
    um_logit_bias zero = {.token = 17, .bias = 0};
    request.options.logit_bias = &zero;
    request.options.n_logit_bias = 1;
    recording_run(engine, &request.options, 1, &neutral);
    recording_assert_equal(&plain, &neutral, "a bias of nothing");
    recording_free(&plain);
    recording_free(&neutral);
    um_engine_close(&engine);
}

/* Each value out of range is refused with its parameter's name. */
static void expect_refused(um_engine *engine, const um_request_options *o, const char *name) {
    um_request *request = NULL;
    um_error err;
    assert_int_equal(um_request_create(engine, o, &request, &err), UM_INVALID);
    assert_string_equal(err.where, name);
    assert_null(request);
}

static void test_refusals(void **state) {
    (void)state;
    um_engine *engine = open_engine("llada2_moe", 1);
    int32_t vocab = um_engine_info(engine)->vocab, outside = vocab;
    request_case good;
    make(engine, &cases[0], 7, &good);
    um_request_options o = good.options;
    um_logit_bias twice[2] = {{3, 1}, {3, 2}}, wrong = {.token = vocab}, big = {4, NAN};
    o.logit_bias = twice, o.n_logit_bias = 2;
    expect_refused(engine, &o, "logit_bias");
    o.logit_bias = &wrong, o.n_logit_bias = 1;
    expect_refused(engine, &o, "logit_bias");
    o.logit_bias = &big;
    expect_refused(engine, &o, "logit_bias");
    o = good.options, o.frequency_penalty = NAN;
    expect_refused(engine, &o, "frequency_penalty");
    o = good.options, o.presence_penalty = 1e9;
    expect_refused(engine, &o, "presence_penalty");
    o = good.options, o.repetition_penalty = 0;
    expect_refused(engine, &o, "repetition_penalty");
    o = good.options, o.min_tokens = MAX_TOKENS + 1;
    expect_refused(engine, &o, "min_tokens");
    o = good.options, o.top_logprobs = 21;
    expect_refused(engine, &o, "top_logprobs");
    o = good.options, o.stop_tokens = &outside, o.n_stop_tokens = 1;
    expect_refused(engine, &o, "stop_tokens");
    um_engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition),
        cmocka_unit_test(test_invariance),
        cmocka_unit_test(test_neutral),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

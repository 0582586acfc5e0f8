/* SPDX-License-Identifier: Apache-2.0
 *
 * Infilling: what is written between a prompt and a suffix is what a canvas gives that is computed
 * by hand, position by position, from the logits of whole sequences; the suffix is seen from the
 * first forward on and never changes; where a model could not see it, it is refused.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/recording.h"

enum { BLOCK = 32, N_PROMPT = 34, N_WRITE = 8, N_SUFFIX = 5, N_CANVAS = 2 * BLOCK };

static int32_t prompt[N_PROMPT];

/* Families of tests/data/models; those of full attention write in blocks of 3 and at once. */
static const struct {
    const char *name;
    int32_t block_len;
} cases[] = {
    {"llada", 0},
    {"llada", 3},
    {"illada", 3},
    {"llada_moe", 3},
    {"dream", 0},
    {"dream", 3},
    {"rnd1", 3},
    {"llada2_moe", BLOCK},
    {"llada2_2", BLOCK},
    {"llada22_moe", BLOCK},
    {"sdar", BLOCK},
    {"sdar_moe", BLOCK},
    {"fast_dllm_v2", BLOCK},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static um_engine *open_model(const char *name) {
    char directory[512];
    snprintf(directory, sizeof directory, "%s/models/%s", TEST_DATA_DIR, name);
    recording_precision = UM_PRECISION_REFERENCE;
    return recording_open(directory, 2, 512);
}

/* A mask in the suffix is a token like others: it is not decided. */
static void make_suffix(const um_model_info *info, int32_t first, int32_t *suffix) {
    for (int32_t i = 0; i < N_SUFFIX; i++) suffix[i] = first + 3 * i;
    suffix[N_SUFFIX - 1] = info->mask_token;
}

static um_request_options options_of(const int32_t *suffix, int32_t block_len) {
    um_request_options options;
    um_request_options_init(&options);
    options.prompt = prompt;
    options.n_prompt = N_PROMPT;
    options.suffix = suffix;
    options.n_suffix = suffix ? N_SUFFIX : 0;
    options.max_tokens = N_WRITE;
    options.block_len = block_len;
    options.policy = "threshold"; /* the surest position of each step alone */
    options.threshold = 1;
    options.steps = 1000;
    options.temperature = 0;
    options.ignore_eos = true;
    return options;
}

/* ---- By hand --------------------------------------------------------------------------------- */

typedef struct by_hand {
    um_engine *engine;
    const um_model_info *info;
    int32_t n, block_len; /* of the sequence, and of the mask */
    float cfg_scale;
    float *logits, *without; /* [n, vocab] */
    int32_t canvas[N_CANVAS];
} by_hand;

/* The logits of a canvas, guided away from what it is without everything that was given. */
static void look(by_hand *h) {
    um_error err;
    size_t n_numbers = (size_t)h->n * (size_t)h->info->vocab;
    int32_t bare[N_CANVAS];
    if (um_engine_logits(h->engine, h->canvas, (size_t)h->n, h->block_len, h->logits, &err))
        fail_msg("%s", err.message);
    if (h->cfg_scale == 0) return;
    memcpy(bare, h->canvas, sizeof bare);
    for (int32_t p = 0; p < h->n; p++)
        if (p < N_PROMPT || p >= N_PROMPT + N_WRITE) bare[p] = h->info->mask_token;
    if (um_engine_logits(h->engine, bare, (size_t)h->n, h->block_len, h->without, &err))
        fail_msg("%s", err.message);
    for (size_t i = 0; i < n_numbers; i++)
        h->logits[i] = h->without[i] + (h->cfg_scale + 1) * (h->logits[i] - h->without[i]);
}

/* The best token of a position but the mask, and its probability; less than 0 where the mask is
 * the best of all. */
static double best_of(const by_hand *h, int32_t position, int32_t *token) {
    int32_t row = position - (h->info->is_shifted && position > 0), vocab = h->info->vocab;
    const float *l = h->logits + (size_t)row * (size_t)vocab;
    double sum = 0, max = -INFINITY;
    *token = -1;
    for (int32_t t = 0; t < vocab; t++) {
        if ((double)l[t] > max) max = (double)l[t];
        if (t != h->info->mask_token && (*token < 0 || l[t] > l[*token])) *token = t;
    }
    for (int32_t t = 0; t < vocab; t++) sum += exp((double)l[t] - max);
    double p = exp((double)l[*token] - max) / sum;
    return (double)l[*token] < max ? p - 1 : p;
}

/* Writes the positions [first, end): one a forward, or all at once. */
static void write_part(by_hand *h, int32_t first, int32_t end, bool at_once) {
    for (bool has_mask = true; has_mask;) {
        int32_t best = -1, token, chosen = -1;
        double p_best = -INFINITY;
        has_mask = false;
        look(h);
        for (int32_t p = first; p < end; p++) {
            if (h->canvas[p] != h->info->mask_token) continue;
            double p_token = best_of(h, p, &token);
            if (at_once) h->canvas[p] = token;
            if (best >= 0) has_mask = !at_once;
            if (best < 0 || p_token > p_best) {
                best = p;
                chosen = token;
                p_best = p_token;
            }
        }
        if (best >= 0) h->canvas[best] = chosen;
    }
}

static by_hand open_by_hand(um_engine *engine, const int32_t *suffix, int32_t block_len) {
    by_hand h = {.engine = engine, .info = um_engine_info(engine)};
    bool is_full = h.info->attention == UM_ATTENTION_FULL;
    h.n = is_full ? N_PROMPT + N_WRITE + N_SUFFIX : N_CANVAS;
    h.block_len = is_full ? 0 : block_len;
    size_t n_bytes = (size_t)h.n * (size_t)h.info->vocab * sizeof(float);
    h.logits = malloc(n_bytes);
    h.without = malloc(n_bytes);
    assert_non_null(h.logits);
    assert_non_null(h.without);
    for (int32_t p = 0; p < h.n; p++) {
        int32_t i_suffix = p - N_PROMPT - N_WRITE;
        bool is_suffix = i_suffix >= 0 && i_suffix < N_SUFFIX;
        h.canvas[p] = p < N_PROMPT ? prompt[p] : is_suffix ? suffix[i_suffix] : h.info->mask_token;
    }
    return h;
}

static void close_by_hand(by_hand *h) {
    free(h->logits);
    free(h->without);
}

/* The parts that are written one after the other: blocks from the prompt's end where attention is
 * full, else parts of the block. */
static void write_all(by_hand *h, int32_t block_len, bool at_once) {
    bool is_full = h->info->attention == UM_ATTENTION_FULL;
    int32_t unit = is_full ? (block_len ? block_len : N_WRITE) : block_len;
    if (!is_full && h->info->sub_block && block_len % h->info->sub_block == 0)
        unit = h->info->sub_block;
    int32_t end = N_PROMPT + N_WRITE, origin = is_full ? N_PROMPT : 0;
    for (int32_t first = origin; first < end; first += unit) {
        int32_t last = first + unit < end ? first + unit : end;
        if (last > N_PROMPT) write_part(h, first > N_PROMPT ? first : N_PROMPT, last, at_once);
    }
}

/* ---- Against it ------------------------------------------------------------------------------ */

static void assert_answer(um_engine *engine, const um_request_options *options, const by_hand *h,
                          const char *what) {
    recording r;
    recording_run(engine, options, 1, &r);
    if (r.status != UM_OK) fail_msg("%s: %s", what, r.error.message);
    assert_int_equal(r.n_tokens, N_WRITE);
    assert_int_equal(r.finish, UM_FINISH_LENGTH);
    for (int32_t i = 0; i < N_WRITE; i++)
        if (r.tokens[i] != h->canvas[N_PROMPT + i])
            fail_msg("%s: token %d is %d, by hand %d", what, i, r.tokens[i],
                     h->canvas[N_PROMPT + i]);
    for (int32_t i = 0; i < r.n_steps; i++)
        for (int32_t k = 0; k < r.steps[i].n_changes; k++) {
            int32_t position = r.steps[i].changes[k].position;
            assert_true(position >= N_PROMPT && position < N_PROMPT + N_WRITE);
        }
    recording_free(&r);
}

/* Every family, every exact cache; and the answer depends on the suffix. */
static void test_by_hand(void **state) {
    (void)state;
    int n_differ = 0;
    for (size_t i = 0; i < N_CASES; i++) {
        int32_t suffix[N_SUFFIX], previous[N_WRITE] = {0};
        um_engine *engine = open_model(cases[i].name);
        for (int k = 0; k < 3; k++) {
            make_suffix(um_engine_info(engine), 23 + 11 * k, suffix);
            by_hand h = open_by_hand(engine, suffix, cases[i].block_len);
            write_all(&h, cases[i].block_len, false);
            um_request_options options = options_of(suffix, cases[i].block_len);
            for (int cache = UM_CACHE_EXACT; cache <= UM_CACHE_NONE; cache++) {
                options.cache = (um_cache_mode)cache;
                assert_answer(engine, &options, &h, cases[i].name);
            }
            n_differ += k && memcmp(previous, h.canvas + N_PROMPT, sizeof previous) != 0;
            memcpy(previous, h.canvas + N_PROMPT, sizeof previous);
            close_by_hand(&h);
        }
        um_engine_close(&engine);
    }
    assert_true(n_differ > N_CASES);
}

/* Guidance takes the suffix away together with the prompt. */
static void test_guidance(void **state) {
    (void)state;
    static const char *const names[] = {"llada", "dream"};
    for (size_t i = 0; i < 2; i++) {
        int32_t suffix[N_SUFFIX];
        um_engine *engine = open_model(names[i]);
        make_suffix(um_engine_info(engine), 23, suffix);
        by_hand h = open_by_hand(engine, suffix, 0);
        h.cfg_scale = 0.5f;
        write_all(&h, 3, false);
        um_request_options options = options_of(suffix, 3);
        options.cfg_scale = 0.5;
        assert_answer(engine, &options, &h, names[i]);
        close_by_hand(&h);
        um_engine_close(&engine);
    }
}

/* Fast-dLLM's caches begin a block with the whole canvas: an answer of one block that is written in
 * its first forward is exact. Later forwards read the suffix's keys as that one left them. */
static void test_caches(void **state) {
    (void)state;
    static const char *const names[] = {"llada", "illada", "llada_moe"};
    for (size_t i = 0; i < 3; i++) {
        int32_t suffix[N_SUFFIX];
        um_engine *engine = open_model(names[i]);
        make_suffix(um_engine_info(engine), 23, suffix);
        by_hand h = open_by_hand(engine, suffix, 0);
        write_all(&h, 0, true);
        um_request_options options = options_of(suffix, 0);
        options.threshold = 0;
        options.steps = 1;
        for (int cache = UM_CACHE_NONE; cache <= UM_CACHE_DUAL; cache++) {
            options.cache = (um_cache_mode)cache;
            assert_answer(engine, &options, &h, names[i]);
        }
        options = options_of(suffix, 3);
        recording r;
        for (int cache = UM_CACHE_PREFIX; cache <= UM_CACHE_DUAL; cache++) {
            options.cache = (um_cache_mode)cache;
            recording_run(engine, &options, 1, &r);
            assert_int_equal(r.status, UM_OK);
            assert_int_equal(r.n_tokens, N_WRITE);
            recording_free(&r);
        }
        close_by_hand(&h);
        um_engine_close(&engine);
    }
}

/* A batch of requests with and without suffixes, of several blocks and policies: each gets what it
 * gets alone. */
static void test_batch(void **state) {
    (void)state;
    static const char *const names[] = {"llada", "dream", "llada2_moe"};
    for (size_t i = 0; i < 3; i++) {
        int32_t suffixes[4][N_SUFFIX];
        um_request_options options[4];
        recording alone[4], together[4];
        um_engine *engine = open_model(names[i]);
        bool is_full = um_engine_info(engine)->attention == UM_ATTENTION_FULL;
        for (int k = 0; k < 4; k++) {
            make_suffix(um_engine_info(engine), 23 + k, suffixes[k]);
            options[k] = options_of(k == 3 ? NULL : suffixes[k], is_full ? 3 : BLOCK);
            options[k].threshold = 0.3;
            options[k].temperature = k == 1;
            options[k].repetition_penalty = k == 2 ? 1.5 : 1;
            recording_run(engine, &options[k], 1, &alone[k]);
        }
        recording_run(engine, options, 4, together);
        for (int k = 0; k < 4; k++) {
            assert_int_equal(alone[k].status, UM_OK);
            recording_assert_equal(&alone[k], &together[k], names[i]);
            recording_free(&alone[k]);
            recording_free(&together[k]);
        }
        um_engine_close(&engine);
    }
}

static void expect_refusal(um_engine *engine, const um_request_options *options, um_status status,
                           const char *where) {
    um_request *request = NULL;
    um_error err = {.status = UM_OK};
    assert_int_equal(um_request_create(engine, options, &request, &err), status);
    assert_string_equal(err.where, where);
    assert_null(request);
}

static void test_refusals(void **state) {
    (void)state;
    int32_t suffix[N_SUFFIX];
    um_engine *engine = open_model("sdar");
    make_suffix(um_engine_info(engine), 23, suffix);
    um_request_options options = options_of(suffix, BLOCK);
    options.max_tokens = BLOCK - N_PROMPT % BLOCK - N_SUFFIX;
    um_request *request = NULL;
    um_error err;
    assert_int_equal(um_request_create(engine, &options, &request, &err), UM_OK); /* just fits */
    um_request_destroy(&request);
    options.max_tokens++;
    expect_refusal(engine, &options, UM_INVALID, "suffix");
    options.max_tokens--;
    suffix[1] = -1;
    expect_refusal(engine, &options, UM_INVALID, "suffix");
    suffix[1] = um_engine_info(engine)->vocab;
    expect_refusal(engine, &options, UM_INVALID, "suffix");
    options.suffix = NULL;
    expect_refusal(engine, &options, UM_INVALID, "suffix");
    um_engine_close(&engine);

    engine = open_model("fast_dllm_v2"); /* shifted: a block's first row is scored from outside */
    make_suffix(um_engine_info(engine), 23, suffix);
    options = options_of(suffix, BLOCK);
    options.n_prompt = BLOCK;
    expect_refusal(engine, &options, UM_INVALID, "suffix");
    um_engine_close(&engine);

    engine = open_model("llada"); /* full attention, but the mask of the request has blocks */
    options = options_of(suffix, N_WRITE);
    options.attention = UM_ATTENTION_OF_BLOCKS;
    expect_refusal(engine, &options, UM_INVALID, "suffix");
    options.block_len = N_WRITE + N_SUFFIX;
    recording r;
    recording_run(engine, &options, 1, &r);
    assert_int_equal(r.status, UM_OK);
    recording_free(&r);
    options = options_of(suffix, 0);
    options.max_tokens = um_engine_info(engine)->context - N_PROMPT;
    expect_refusal(engine, &options, UM_LIMIT, "max_tokens");
    options.max_tokens = 1;
    options.n_suffix = (size_t)um_engine_info(engine)->context;
    int32_t *many = calloc(options.n_suffix, sizeof *many);
    options.suffix = many;
    expect_refusal(engine, &options, UM_LIMIT, "suffix");
    free(many);
    um_engine_close(&engine);
}

int main(void) {
    for (int32_t i = 0; i < N_PROMPT; i++) prompt[i] = 5 + i;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),  cmocka_unit_test(test_guidance),
        cmocka_unit_test(test_caches),   cmocka_unit_test(test_batch),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

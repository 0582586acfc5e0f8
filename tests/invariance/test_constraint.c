/* SPDX-License-Identifier: Apache-2.0
 *
 * Answers under a constraint: every one is a document that satisfies its schema, whatever the
 * policy, the family, the temperature and max_tokens; and none depends on threads, batch, cache or
 * folding. Documents are checked by support/schema_check.c, which shares nothing with the
 * automaton.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "support/recording.h"
#include "support/schema_check.h"

#define DEMO PROJECT_DIR "/models/demo"
enum { N_BATCH = 25 };

static const char *const schema_names[] = {"person", "colour", "answer", "tree",   "shape",
                                           "ranges", "words",  "scores", "matrix", "free"};
enum { N_SCHEMAS = sizeof schema_names / sizeof *schema_names };

typedef struct schema_case {
    const char *name;
    json_t *root; /* NULL: any object */
    um_constraint *constraint;
    int32_t shortest; /* tokens */
} schema_case;

static um_tokenizer *tokenizer;
static schema_case schemas[N_SCHEMAS + 1]; /* the last one: any object */
static int32_t *prompt;
static size_t n_prompt;

/* The least max_tokens with which a request is not refused. */
static int32_t find_shortest(um_engine *engine, um_constraint *constraint) {
    um_request_options o;
    um_request *request = NULL;
    um_error err;
    um_request_options_init(&o);
    o.prompt = prompt;
    o.n_prompt = n_prompt;
    o.constraint = constraint;
    for (o.max_tokens = 1; o.max_tokens < 200; o.max_tokens++) {
        um_status status = um_request_create(engine, &o, &request, &err);
        um_request_destroy(&request);
        if (status == UM_OK) return o.max_tokens;
        assert_int_equal(status, UM_INVALID);
        assert_string_equal(err.where, "max_tokens");
        assert_non_null(strstr(err.message, "the shortest document"));
    }
    fail_msg("no document within 200 tokens");
    return 0;
}

static int open_all(void **state) {
    (void)state;
    static const char messages[] =
        "[{\"role\": \"user\", \"content\": \"Tell me a story as JSON.\"}]";
    um_error err;
    char *text;
    assert_int_equal(um_tokenizer_open(DEMO, &tokenizer, &err), UM_OK);
    assert_int_equal(um_tokenizer_render_chat(tokenizer, messages, NULL, NULL, true, &text, &err),
                     UM_OK);
    assert_int_equal(um_tokenizer_encode(tokenizer, text, strlen(text), &prompt, &n_prompt, &err),
                     UM_OK);
    um_free(text);
    um_engine *engine = recording_open(DEMO, 1, 1024);
    for (int i = 0; i <= N_SCHEMAS; i++) {
        schema_case *s = &schemas[i];
        if (i == N_SCHEMAS) {
            s->name = "any object";
            assert_int_equal(um_constraint_json_object(tokenizer, &s->constraint, &err), UM_OK);
        } else {
            char path[512];
            size_t n_bytes;
            s->name = schema_names[i];
            snprintf(path, sizeof path, TEST_DATA_DIR "/schemas/%s.json", s->name);
            assert_int_equal(file_read(path, 1 << 20, &text, &n_bytes, &err), UM_OK);
            if (um_constraint_json_schema(tokenizer, text, n_bytes, &s->constraint, &err) != UM_OK)
                fail_msg("%s: %s", s->name, err.message);
            s->root = json_loadb(text, n_bytes, JSON_DECODE_ANY, NULL);
            assert_non_null(s->root);
            memory_free(text);
        }
        s->shortest = find_shortest(engine, s->constraint);
    }
    um_engine_close(&engine);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    for (int i = 0; i <= N_SCHEMAS; i++) {
        um_constraint_free(&schemas[i].constraint);
        json_decref(schemas[i].root);
    }
    um_free(prompt);
    um_tokenizer_close(&tokenizer);
    return 0;
}

/* The answer is a document that satisfies the schema. */
static void check_answer(const schema_case *s, const recording *r, const char *what) {
    um_error err;
    char *text;
    size_t n_bytes;
    if (r->status != UM_OK) fail_msg("%s, %s: %s", s->name, what, r->error.message);
    assert_int_equal(um_tokenizer_decode(tokenizer, r->tokens, (size_t)r->n_tokens, false, &text,
                                         &n_bytes, &err),
                     UM_OK);
    json_error_t problem;
    json_t *value = json_loadb(text, n_bytes, JSON_DECODE_ANY, &problem);
    if (!value) fail_msg("%s, %s: %s: %s", s->name, what, problem.text, text);
    const char *failed =
        s->root ? schema_check(s->root, s->root, value) : (json_is_object(value) ? NULL : "type");
    if (failed) fail_msg("%s, %s: fails %s: %s", s->name, what, failed, text);
    json_decref(value);
    um_free(text);
}

static void base_options(const schema_case *s, um_request_options *o) {
    um_request_options_init(o);
    o->prompt = prompt;
    o->n_prompt = n_prompt;
    o->constraint = s->constraint;
    o->max_tokens = 64;
}

/* Ten schemas and any object, 50 seeds each (8 under sanitizers); max_tokens from the shortest
 * document on. */
static void test_schemas(void **state) {
    (void)state;
    static recording r[2 * N_BATCH];
    um_request_options o[2 * N_BATCH];
    um_engine *engine = recording_open(DEMO, 2, 16384);
    const int n_seeds = TEST_IS_SAMPLED ? 8 : 2 * N_BATCH;
    int n_cut = 0, n_different = 0;
    for (int i = 0; i <= N_SCHEMAS; i++) {
        for (int seed = 0; seed < n_seeds; seed++) {
            base_options(&schemas[i], &o[seed]);
            o[seed].threshold = 0.5;
            o[seed].temperature = 0.7;
            o[seed].seed = (uint64_t)seed;
            o[seed].max_tokens = schemas[i].shortest + seed;
        }
        recording_run(engine, o, n_seeds, r);
        for (int seed = 0; seed < n_seeds; seed++) {
            char what[64];
            snprintf(what, sizeof what, "seed %d", seed);
            check_answer(&schemas[i], &r[seed], what);
            n_cut += r[seed].finish == UM_FINISH_LENGTH;
            n_different += seed && (r[seed].n_tokens != r[0].n_tokens ||
                                    memcmp(r[seed].tokens, r[0].tokens,
                                           (size_t)r[0].n_tokens * sizeof(int32_t)) != 0);
        }
        for (int seed = 0; seed < n_seeds; seed++) recording_free(&r[seed]);
    }
    /* Some end at max_tokens, and they are not all the same document. */
    assert_true(TEST_IS_SAMPLED || (n_cut > 20 && n_cut < 540));
    assert_true(n_different > (TEST_IS_SAMPLED ? 20 : 300));
    um_engine_close(&engine);
}

/* ---- Policies and families ---- */

static const struct {
    const char *name, *directory;
} models[] = {
    {"demo", DEMO},
    {"llada2_moe", TEST_DATA_DIR "/models/llada2_moe"},
    {"llada", TEST_DATA_DIR "/models/llada"},
    {"illada", TEST_DATA_DIR "/models/illada"}, /* its mask is the token "!" */
    {"fast_dllm_v2", TEST_DATA_DIR "/models/fast_dllm_v2"},
    {"sdar", TEST_DATA_DIR "/models/sdar"},
    {"rnd1", TEST_DATA_DIR "/models/rnd1"},
};
enum { N_MODELS = sizeof models / sizeof *models };

static const struct {
    const char *name, *policy;
    double threshold, edit_threshold, temperature, cfg_scale;
    int32_t block_len, sub_block, steps;
    um_cache_mode cache;
    bool is_random, is_full_only, is_causal_only, sees_blocks;
} ways[] = {
    {"threshold", "threshold", 0.5, 0, 0.7, 0, 32, 0, 0, 0, 0, 0, 0, 0},
    {"threshold, greedy", "threshold", 0.3, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0},
    {"schedule", "schedule", 0, 0, 0, 0, 16, 0, 4, 0, 0, 0, 0, 0},
    {"random order", "schedule", 0, 0, 1, 0, 32, 0, 6, 0, true, 0, 0, 0},
    {"edit", "edit", 0.3, 0.2, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0},
    {"edit, drawn", "edit", 0.2, 0, 0.9, 0, 16, 0, 0, 0, 0, 0, 0, 0},
    {"origin", "origin", 0, 0, 0.7, 0, 24, 0, 6, 0, 0, 0, 0, 0},
    {"maskgit", "maskgit", 0, 0, 0.7, 0, 64, 0, 9, 0, 0, 0, 0, 0},
    {"margin", "margin", 0, 0, 0.5, 0, 16, 0, 4, 0, 0, 0, 0, 0},
    {"entropy", "entropy", 0, 0, 0.7, 0, 32, 0, 5, 0, 0, 0, 0, 0},
    {"sequential", "sequential", 0, 0, 0.7, 0, 16, 0, 4, 0, 0, 0, 0, 0},
    {"static", "static", 0, 0, 0, 0, 8, 0, 2, 0, 0, 0, 0, 0},
    {"dynamic", "dynamic", 0.2, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0},
    {"entropy-bound", "entropy-bound", 0, 0, 0.6, 0, 16, 0, 0, 0, 0, 0, 0, 0},
    {"factor", "factor", 0, 0, 0.6, 0, 16, 0, 0, 0, 0, 0, 0, 0},
    {"hierarchy", "hierarchy", 0.8, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0},
    {"credit", "credit", 0.3, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0},
    {"first-hitting", "first-hitting", 0, 0, 1, 0, 12, 0, 0, 0, 0, 0, 0, 0},
    {"multi-block", "multi-block", 0.2, 0, 0.7, 0, 16, 0, 0, 0, 0, 0, 0, 0},
    {"multi-block, edited", "multi-block", 0.2, 0.1, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0},
    {"parts", "threshold", 0.3, 0, 0.7, 0, 32, 8, 0, 0, 0, 0, true, 0},
    {"guidance", "threshold", 0.3, 0, 0.7, 0.5, 16, 0, 0, 0, 0, 0, 0, 0},
    {"prefix", "threshold", 0.3, 0, 0.7, 0, 16, 0, 0, UM_CACHE_PREFIX, 0, true, 0, 0},
    {"dual", "threshold", 0.3, 0, 0, 0, 16, 0, 0, UM_CACHE_DUAL, 0, true, 0, 0},
    {"D2F", "multi-block", 0.3, 0, 0.7, 0, 16, 0, 0, 0, 0, true, 0, true},
};
enum { N_WAYS = sizeof ways / sizeof *ways };

/* False where a way means nothing for a model. */
static bool fill_way(const um_engine *engine, int i_way, uint64_t seed, um_request_options *o) {
    bool is_full = um_engine_info(engine)->attention == UM_ATTENTION_FULL;
    static const int32_t plain[] = {300, 40, 301, 20, 41};
    if ((ways[i_way].is_full_only && !is_full) || (ways[i_way].is_causal_only && is_full))
        return false;
    base_options(&schemas[(size_t)i_way % (N_SCHEMAS + 1)], o);
    if (um_engine_info(engine)->vocab < 4096) {
        o->prompt = plain;
        o->n_prompt = 5;
    }
    o->policy = ways[i_way].policy;
    o->temperature = ways[i_way].temperature;
    o->block_len = ways[i_way].block_len;
    o->sub_block = ways[i_way].sub_block;
    o->steps = ways[i_way].steps;
    o->cfg_scale = ways[i_way].cfg_scale;
    o->cache = ways[i_way].cache;
    if (ways[i_way].threshold > 0) o->threshold = ways[i_way].threshold;
    if (ways[i_way].edit_threshold > 0) o->edit_threshold = ways[i_way].edit_threshold;
    if (ways[i_way].is_random) o->remask = UM_REMASK_RANDOM;
    if (ways[i_way].sees_blocks) o->attention = UM_ATTENTION_OF_BLOCKS;
    o->seed = seed;
    o->max_tokens = 100;
    return true;
}

static void test_policies(void **state) {
    (void)state;
    int n_left = 0;
    for (int32_t i = 0; um_policy_at(i); i++) {
        bool is_tried = um_policy_at(i)->flags & UM_POLICY_INSERTS;
        for (int k = 0; k < N_WAYS; k++)
            is_tried |= strcmp(ways[k].policy, um_policy_at(i)->name) == 0;
        n_left += !is_tried;
    }
    assert_int_equal(n_left, 0);
    for (int i = 0; i < N_MODELS; i++) {
        um_engine *engine = recording_open(models[i].directory, 2, 8192);
        for (int k = 0; k < N_WAYS; k++) {
            for (uint64_t seed = 0; seed < (TEST_IS_SAMPLED ? 1 : 4); seed++) {
                um_request_options o;
                recording r;
                char what[128];
                if (!fill_way(engine, k, seed, &o)) continue;
                snprintf(what, sizeof what, "%s, %s, seed %d", models[i].name, ways[k].name,
                         (int)seed);
                recording_run(engine, &o, 1, &r);
                check_answer(&schemas[k % (N_SCHEMAS + 1)], &r, what);
                recording_free(&r);
            }
        }
        int64_t n_pages, n_free;
        um_engine_pages(engine, &n_pages, &n_free);
        assert_int_equal(n_pages, n_free);
        um_engine_close(&engine);
    }
}

/* A policy of the user's own, which sees what the built-in ones see. */
static void test_plugin(void **state) {
    (void)state;
    um_engine *engine = recording_open(DEMO, 2, 1024);
    um_request_options o;
    recording r;
    base_options(&schemas[0], &o);
    o.policy = BUILD_DIR "/tests/policy_example.so";
    o.threshold = 0.4;
    o.temperature = 0.7;
    recording_run(engine, &o, 1, &r);
    check_answer(&schemas[0], &r, "policy_example.so");
    recording_free(&r);
    um_engine_close(&engine);
}

/* ---- Invariance ---- */

static void test_batch(void **state) {
    (void)state;
    for (int i = 0; i < N_MODELS; i += TEST_IS_SAMPLED ? 3 : 1) {
        um_engine *one = recording_open(models[i].directory, 1, 8192);
        um_engine *three = recording_open(models[i].directory, 3, 8192);
        um_request_options o[N_WAYS];
        static recording together[N_WAYS];
        int n = 0;
        for (int k = 0; k < N_WAYS; k++) n += fill_way(one, k, 9, &o[n]);
        recording_run(three, o, n, together);
        for (int k = 0; k < n; k++) {
            recording alone;
            recording_run(one, &o[k], 1, &alone);
            recording_assert_equal(&alone, &together[k], models[i].name);
            recording_free(&alone);
            recording_free(&together[k]);
        }
        um_engine_close(&one);
        um_engine_close(&three);
    }
}

static void test_fold_and_cache(void **state) {
    (void)state;
    um_engine *engine = recording_open(DEMO, 2, 8192);
    int n_saved = 0;
    for (int seed = 0; seed < 12; seed++) {
        um_request_options o;
        recording r[3];
        base_options(&schemas[seed % (N_SCHEMAS + 1)], &o);
        o.policy = "edit";
        o.threshold = 0.3;
        o.edit_threshold = 0.5;
        o.block_len = 8;
        o.temperature = seed % 2 ? 0.6 : 0;
        o.seed = (uint64_t)seed;
        for (int i = 0; i < 3; i++) {
            o.fold = i == 1 ? UM_FOLD_OFF : UM_FOLD_AUTO;
            o.cache = i == 2 ? UM_CACHE_NONE : UM_CACHE_EXACT;
            recording_run(engine, &o, 1, &r[i]);
            check_answer(&schemas[seed % (N_SCHEMAS + 1)], &r[i], "folded");
        }
        n_saved += r[1].forwards - r[0].forwards;
        recording_unfold(&r[0], o.block_len);
        recording_assert_equal(&r[0], &r[1], "folded and not");
        recording_assert_equal(&r[1], &r[2], "cached and not");
        for (int i = 0; i < 3; i++) recording_free(&r[i]);
    }
    assert_true(n_saved > 0);
    um_engine_close(&engine);
}

/* ---- What is refused, and lifetimes ---- */

static void refuse(um_engine *engine, const um_request_options *o, const char *where,
                   const char *words) {
    um_request *request = NULL;
    um_error err;
    assert_int_equal(um_request_create(engine, o, &request, &err), UM_INVALID);
    assert_null(request);
    assert_string_equal(err.where, where);
    if (!strstr(err.message, words)) fail_msg("expected \"%s\" in \"%s\"", words, err.message);
}

static void test_refusals(void **state) {
    (void)state;
    um_request_options o;
    um_engine *engine = recording_open(DEMO, 1, 1024);
    base_options(&schemas[0], &o);
    o.max_tokens = schemas[0].shortest - 1;
    refuse(engine, &o, "max_tokens", "the shortest document of the constraint takes");
    base_options(&schemas[0], &o);
    o.ignore_eos = true;
    refuse(engine, &o, "constraint", "ignore_eos");
    base_options(&schemas[0], &o);
    o.logits_eos_inf = true;
    refuse(engine, &o, "constraint", "logits_eos_inf");
    um_engine_close(&engine);
    static const struct {
        const char *directory, *words;
    } wrong[] = {{TEST_DATA_DIR "/models/llada2_2", "the policy levenshtein inserts and deletes"},
                 {TEST_DATA_DIR "/models/dream", "names no token that ends the text"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        engine = recording_open(wrong[i].directory, 1, 1024);
        base_options(&schemas[0], &o);
        static const int32_t plain[] = {300};
        o.prompt = plain;
        o.n_prompt = 1;
        refuse(engine, &o, "constraint", wrong[i].words);
        um_engine_close(&engine);
    }
}

/* A constraint lives on in its requests; several may hold it. */
static void test_lifetime(void **state) {
    (void)state;
    um_engine *engine = recording_open(DEMO, 1, 1024);
    um_constraint *constraint;
    um_request *requests[2] = {NULL};
    um_request_options o;
    um_error err;
    assert_int_equal(um_constraint_json_object(tokenizer, &constraint, &err), UM_OK);
    base_options(&schemas[N_SCHEMAS], &o);
    o.constraint = constraint;
    for (int i = 0; i < 2; i++)
        assert_int_equal(um_request_create(engine, &o, &requests[i], &err), UM_OK);
    um_constraint_free(&constraint);
    assert_null(constraint);
    um_constraint_free(&constraint);
    um_constraint_free(NULL);
    um_request_destroy(&requests[0]);
    bool is_done = false;
    while (!is_done) {
        um_event event;
        assert_int_equal(um_engine_step(engine, &err), UM_OK);
        while (um_request_next_event(requests[1], &event) == UM_OK)
            is_done = event.kind == UM_EVENT_DONE;
    }
    um_request_destroy(&requests[1]);
    um_engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schemas),  cmocka_unit_test(test_policies),
        cmocka_unit_test(test_plugin),   cmocka_unit_test(test_batch),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_fold_and_cache),
        cmocka_unit_test(test_lifetime),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

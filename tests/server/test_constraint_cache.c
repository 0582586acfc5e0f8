/* SPDX-License-Identifier: Apache-2.0
 *
 * Constraints that are made by a thread of their own and kept for the next who asks: once for all
 * who wait, within bounds, failures told and not kept, and memory that runs out anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "server/api_request.h"
#include "server/constraint_cache.h"

static um_tokenizer *tokenizer;

static int open_tokenizer(void **state) {
    (void)state;
    um_error err;
    return um_tokenizer_open(PROJECT_DIR "/models/demo", &tokenizer, &err) != UM_OK;
}

static int close_tokenizer(void **state) {
    (void)state;
    um_tokenizer_close(&tokenizer);
    return 0;
}

static constraint_cache *create(int32_t n_max, size_t max_bytes) {
    constraint_cache *c = NULL;
    um_error err;
    assert_int_equal(constraint_cache_create(n_max, max_bytes, &c, &err), UM_OK);
    return c;
}

/* A schema of its own for each number; one of many strings takes long. */
static const char *schema_of(int i, char *text, size_t n_bytes) {
    snprintf(text, n_bytes, "{\"enum\": [\"%d\", %d]}", i, i);
    return text;
}

static const char slow[] =
    "{\"type\": \"array\", \"maxItems\": 10, \"items\": {\"type\": \"string\", \"maxLength\": 60}}";

static constraint_entry *acquire(constraint_cache *c, const char *schema) {
    constraint_entry *e = NULL;
    um_error err;
    um_status status =
        constraint_cache_acquire(c, tokenizer, schema, schema ? strlen(schema) : 0, &e, &err);
    assert_int_equal(status, UM_OK);
    return e;
}

static um_status wait_for(constraint_entry *e, um_constraint **constraint, um_error *err) {
    um_status status;
    *constraint = NULL;
    while ((status = constraint_entry_get(e, constraint, err)) == UM_AGAIN) usleep(1000);
    return status;
}

static um_constraint *made(constraint_entry *e) {
    um_constraint *constraint;
    um_error err;
    um_status status = wait_for(e, &constraint, &err);
    if (status != UM_OK) fail_msg("%s", err.message);
    assert_non_null(constraint);
    return constraint;
}

static constraint_cache_stats stats_of(constraint_cache *c) {
    constraint_cache_stats stats;
    constraint_cache_read_stats(c, &stats);
    return stats;
}

/* Who asks while one is being made, or later, gets the same; it is what a direct call makes. */
static void test_shares(void **state) {
    (void)state;
    constraint_cache *c = create(4, 1 << 30);
    um_constraint *own = NULL;
    um_error err;
    constraint_entry *a = acquire(c, slow), *b = acquire(c, slow), *any = acquire(c, NULL);
    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, any);
    assert_ptr_equal(made(a), made(b));
    assert_ptr_not_equal(made(a), made(any));
    assert_int_equal(um_constraint_json_schema(tokenizer, slow, strlen(slow), &own, &err), UM_OK);
    assert_int_equal(um_constraint_bytes(own), um_constraint_bytes(made(a)));
    um_constraint_free(&own);
    constraint_entry_release(a);
    constraint_entry_release(b);
    constraint_entry_release(any);
    assert_ptr_equal(acquire(c, slow), a);
    constraint_entry_release(a);
    assert_int_equal(stats_of(c).misses, 2);
    assert_int_equal(stats_of(c).hits, 2);
    assert_int_equal(stats_of(c).n_entries, 2);
    constraint_cache_destroy(c);
}

/* The one that was asked for longest ago goes; what is held stays whatever the bounds. */
static void test_bounds(void **state) {
    (void)state;
    char text[64];
    constraint_cache *c = create(2, 1 << 30);
    for (int i = 0; i < 3; i++) {
        constraint_entry *e = acquire(c, schema_of(i, text, sizeof text));
        (void)made(e);
        constraint_entry_release(e);
        if (i == 1) constraint_entry_release(acquire(c, schema_of(0, text, sizeof text)));
    }
    assert_int_equal(stats_of(c).n_entries, 2);
    static const struct {
        int i;
        int64_t misses; /* 0 was asked for again and stayed, 1 went */
    } asked[] = {{0, 3}, {2, 3}, {1, 4}};
    for (size_t i = 0; i < 3; i++) {
        constraint_entry *e = acquire(c, schema_of(asked[i].i, text, sizeof text));
        (void)made(e);
        constraint_entry_release(e);
        assert_int_equal(stats_of(c).misses, asked[i].misses);
    }
    constraint_cache_destroy(c);

    c = create(100, 1);
    constraint_entry *held[3];
    for (int i = 0; i < 3; i++) held[i] = acquire(c, schema_of(i, text, sizeof text));
    for (int i = 0; i < 3; i++) (void)made(held[i]);
    assert_int_equal(stats_of(c).n_entries, 3);
    assert_true(stats_of(c).n_bytes > 1000);
    for (int i = 0; i < 3; i++) constraint_entry_release(held[i]);
    assert_int_equal(stats_of(c).n_entries, 0);
    assert_int_equal(stats_of(c).n_bytes, 0);
    constraint_cache_destroy(c);
}

static void test_failures(void **state) {
    (void)state;
    static const char wrong[] = "{\"type\": \"robot\"}";
    constraint_cache *c = create(4, 1 << 30);
    for (int i = 1; i <= 2; i++) {
        constraint_entry *a = acquire(c, wrong), *b = acquire(c, wrong);
        um_constraint *constraint;
        um_error err;
        assert_int_equal(wait_for(a, &constraint, &err), UM_INVALID);
        assert_non_null(strstr(err.message, "type"));
        assert_int_equal(wait_for(b, &constraint, &err), UM_INVALID);
        constraint_entry_release(a);
        constraint_entry_release(b);
        assert_int_equal(stats_of(c).n_entries, 0);
        assert_true(stats_of(c).misses >= i);
    }
    constraint_cache_destroy(c);
}

/* Who leaves before its turn leaves no work behind. */
static void test_leavers(void **state) {
    (void)state;
    char text[64];
    constraint_cache *c = create(4, 1 << 30);
    constraint_entry *first = acquire(c, slow);
    constraint_entry_release(acquire(c, schema_of(1, text, sizeof text)));
    (void)made(first);
    assert_int_equal(stats_of(c).n_entries, 1);
    constraint_entry_release(first);
    constraint_cache_destroy(c);
    c = create(4, 1 << 30); /* ends in the middle of its work */
    constraint_entry_release(acquire(c, slow));
    constraint_cache_destroy(c);
    constraint_cache_destroy(NULL);
    constraint_entry_release(NULL);
}

static size_t sizes[5];

static void *ask_often(void *user) {
    constraint_cache *c = user;
    char text[64];
    for (int i = 0; i < 40; i++) {
        constraint_entry *e = NULL;
        um_constraint *constraint;
        const char *schema = schema_of(i % 5 * 1000, text, sizeof text);
        if (constraint_cache_acquire(c, tokenizer, schema, strlen(schema), &e, NULL) != UM_OK)
            return user;
        um_status status = wait_for(e, &constraint, NULL);
        bool is_right = status == UM_OK && um_constraint_bytes(constraint) == sizes[i % 5];
        constraint_entry_release(e);
        if (!is_right) return c;
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    char text[64];
    pthread_t threads[6];
    constraint_cache *c = create(2, 1 << 30);
    for (int i = 0; i < 5; i++) {
        um_constraint *one = NULL;
        um_error err;
        const char *schema = schema_of(i * 1000, text, sizeof text);
        assert_int_equal(um_constraint_json_schema(tokenizer, schema, strlen(schema), &one, &err),
                         UM_OK);
        sizes[i] = um_constraint_bytes(one);
        um_constraint_free(&one);
    }
    for (int i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, c), 0);
    for (int i = 0; i < 6; i++) {
        void *fault;
        pthread_join(threads[i], &fault);
        assert_null(fault);
    }
    assert_int_equal(stats_of(c).hits + stats_of(c).misses, 240);
    assert_true(stats_of(c).n_entries <= 2);
    constraint_cache_destroy(c);
}

/* Each allocation fails in turn, once alone and once with all later ones. */
static void test_memory(void **state) {
    (void)state;
    int n_failed = 0, n_in_a_row = 0;
    for (uint64_t n = 1; n_in_a_row < 4; n++) {
        constraint_cache *c = NULL;
        constraint_entry *e = NULL;
        um_constraint *constraint = NULL;
        um_error err;
        char text[64];
        memory_fault_at((n + 1) / 2, n % 2);
        um_status status = constraint_cache_create(2, 1 << 30, &c, &err);
        if (status == UM_OK) {
            const char *schema = schema_of(7, text, sizeof text);
            status = constraint_cache_acquire(c, tokenizer, schema, strlen(schema), &e, &err);
        }
        if (e) status = wait_for(e, &constraint, &err);
        memory_fault_at(0, 0);
        if (status != UM_OK) assert_int_equal(status, UM_NO_MEMORY);
        n_failed += status != UM_OK;
        n_in_a_row = status == UM_OK ? n_in_a_row + 1 : 0;
        constraint_entry_release(e);
        constraint_cache_destroy(c);
    }
    assert_true(n_failed > 10);
}

/* The thread that reads requests compiles nothing: a schema is none of its business. */
static void test_reader(void **state) {
    (void)state;
    static const char body[] =
        "{\"model\":\"demo\",\"prompt\":\"x\",\"response_format\":{\"type\":\"json_schema\","
        "\"json_schema\":{\"name\":\"x\",\"schema\":{\"type\":\"robot\"}}}}";
    um_model_info info;
    um_error err;
    assert_int_equal(um_model_inspect(PROJECT_DIR "/models/demo", -1, &info, &err), UM_OK);
    const api_model model = {.id = "demo", .info = &info, .tokenizer = tokenizer};
    api_request request;
    um_status status =
        api_request_parse(API_KIND_COMPLETION, body, sizeof body - 1, &model, &request, &err);
    if (status != UM_OK) fail_msg("%s", err.message);
    assert_string_equal(request.schema, "{\"type\":\"robot\"}");
    assert_string_equal(request.constraint_field, "response_format");
    assert_null(request.options.constraint);
    api_request_deinit(&request);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),   cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_failures), cmocka_unit_test(test_leavers),
        cmocka_unit_test(test_threads),  cmocka_unit_test(test_memory),
        cmocka_unit_test(test_reader),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokenizer against what Hugging Face's `tokenizers` gave for the same texts. The expected
 * values are made by tools/make_tokenizer_fixture.py; that file says what is in each of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/file_map.h"
#include "base/memory.h"
#include "text/tokenizer.h"

#ifndef TEST_DATA_DIR
#define TEST_DATA_DIR "tests/data"
#endif
#define DATA TEST_DATA_DIR "/tokenizers/"

static const char *const names[] = {"gpt2", "qwen3", "demo"};

static char *read_data(const char *name, size_t *n_bytes) {
    char *text = NULL;
    char path[512];
    um_error err;
    snprintf(path, sizeof path, DATA "%s", name);
    if (file_read(path, SIZE_MAX / 2, &text, n_bytes, &err) != UM_OK) fail_msg("%s", err.message);
    return text;
}

static tokenizer *open_named(const char *name) {
    char path[512];
    um_error err;
    tokenizer *t = NULL;
    snprintf(path, sizeof path, DATA "%s", name);
    if (tokenizer_open(path, &t, &err) != UM_OK) fail_msg("%s: %s", name, err.message);
    return t;
}

static uint64_t hash_ids(const int32_t *ids, size_t n_ids) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n_ids; i++) h = (h ^ (uint32_t)ids[i]) * 1099511628211u;
    return h;
}

static uint32_t take_u32(const char **at) {
    uint32_t value;
    memcpy(&value, *at, 4); /* little-endian, as written */
    *at += 4;
    return value;
}

static void test_random_strings(void **state) {
    (void)state;
    size_t n_strings, n_expected;
    char *strings = read_data("strings.bin", &n_strings);
    for (size_t i_name = 0; i_name < 3; i_name++) {
        char path[64];
        snprintf(path, sizeof path, "%s/ids.bin", names[i_name]);
        char *expected = read_data(path, &n_expected);
        tokenizer *t = open_named(names[i_name]);
        const char *at = strings, *want = expected;
        uint32_t count = take_u32(&at);
        assert_int_equal(count, 10000);
        assert_int_equal(n_expected, count * 12);
        int n_wrong = 0;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t n = take_u32(&at);
            int32_t *ids;
            size_t n_ids;
            um_error err;
            if (tokenizer_encode(t, at, n, &ids, &n_ids, &err) != UM_OK)
                fail_msg("string %u: %s", i, err.message);
            uint32_t want_n = take_u32(&want);
            uint64_t want_hash;
            memcpy(&want_hash, want, 8);
            want += 8;
            if (n_ids != want_n || hash_ids(ids, n_ids) != want_hash) {
                if (n_wrong++ < 10) {
                    print_message("%s, string %u, %zu ids, expected %u: ", names[i_name], i, n_ids,
                                  want_n);
                    for (uint32_t j = 0; j < n && j < 200; j++)
                        print_message("%02x", (unsigned char)at[j]);
                    print_message("\n");
                }
            }
            memory_free(ids);
            at += n;
        }
        assert_int_equal(n_wrong, 0);
        tokenizer_close(t);
        free(expected);
    }
    free(strings);
}

static void test_decode(void **state) {
    (void)state;
    for (size_t i_name = 0; i_name < 3; i_name++) {
        char path[64];
        size_t n_data;
        snprintf(path, sizeof path, "%s/decode.bin", names[i_name]);
        char *data = read_data(path, &n_data);
        tokenizer *t = open_named(names[i_name]);
        const char *at = data;
        uint32_t count = take_u32(&at);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t n_ids = take_u32(&at);
            int32_t *ids = malloc(n_ids * 4 + 4);
            memcpy(ids, at, n_ids * 4);
            at += n_ids * 4;
            bool skip = *at++ != 0;
            uint32_t n_want = take_u32(&at);
            char *text;
            size_t n;
            um_error err;
            if (tokenizer_decode(t, ids, n_ids, skip, &text, &n, &err) != UM_OK)
                fail_msg("%s", err.message);
            assert_int_equal(n, n_want);
            assert_memory_equal(text, at, n);
            assert_int_equal(text[n], 0);
            at += n_want;
            memory_free(text);
            free(ids);
        }
        tokenizer_close(t);
        free(data);
    }
}

static void test_vectors(void **state) {
    (void)state;
    static const char mark[] = "\n__ggml_vocab_test__\n";
    for (size_t i_name = 0; i_name < 2; i_name++) {
        char path[64];
        size_t n_in, n_out;
        snprintf(path, sizeof path, "%s/vectors.inp", names[i_name]);
        char *in = read_data(path, &n_in);
        snprintf(path, sizeof path, "%s/vectors.out", names[i_name]);
        char *out = read_data(path, &n_out), *at = in, *line = out;
        tokenizer *t = open_named(names[i_name]);
        int n_texts = 0;
        while (*line) {
            char *line_end = strchr(line, '\n');
            char *end = strstr(at, mark);
            size_t n = end ? (size_t)(end - at) : (size_t)(in + n_in - at);
            int32_t *ids;
            size_t n_ids;
            assert_int_equal(tokenizer_encode(t, at, n, &ids, &n_ids, NULL), UM_OK);
            for (size_t i = 0; i < n_ids; i++) assert_int_equal(ids[i], strtol(line, &line, 10));
            while (*line == ' ') line++;
            assert_ptr_equal(line, line_end);
            line = line_end + 1;
            memory_free(ids);
            n_texts++;
            if (!end) break;
            at = end + strlen(mark);
        }
        assert_true(n_texts >= 40);
        tokenizer_close(t);
        free(in);
        free(out);
    }
}

/* Encodes one text of a case and compares number and hash of the ids, and the way back. */
static int check_case_text(const tokenizer *t, const char *name, json_t *text, json_t *result) {
    int32_t *ids;
    size_t n_ids;
    um_error err;
    if (tokenizer_encode(t, json_string_value(text), json_string_length(text), &ids, &n_ids,
                         &err) != UM_OK)
        fail_msg("%s: %s", name, err.message);
    char hash[32];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hash_ids(ids, n_ids));
    int n_wrong = 0;
    if ((json_int_t)n_ids != json_integer_value(json_array_get(result, 0)) ||
        strcmp(hash, json_string_value(json_array_get(result, 1))) != 0) {
        n_wrong = 1;
        print_message("%s: %zu ids, expected %d, \"%.120s\":", name, n_ids,
                      (int)json_integer_value(json_array_get(result, 0)), json_string_value(text));
        for (size_t i = 0; i < n_ids && i < 40; i++) print_message(" %d", (int)ids[i]);
        print_message("\n");
    }
    json_t *decoded = json_array_get(result, 2);
    if (!n_wrong && json_is_string(decoded)) {
        char *back;
        size_t n_back;
        assert_int_equal(tokenizer_decode(t, ids, n_ids, true, &back, &n_back, NULL), UM_OK);
        assert_int_equal(n_back, json_string_length(decoded));
        assert_memory_equal(back, json_string_value(decoded), n_back);
        memory_free(back);
    }
    memory_free(ids);
    return n_wrong;
}

static void test_cases(void **state) {
    (void)state;
    size_t n_data;
    char *data = read_data("cases.json", &n_data);
    json_error_t fault;
    json_t *root = json_loadb(data, n_data, JSON_ALLOW_NUL, &fault);
    if (!root) fail_msg("%s", fault.text);
    json_t *texts = json_object_get(root, "texts"), *one;
    size_t i_case;
    int n_wrong = 0;
    json_array_foreach(json_object_get(root, "cases"), i_case, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        json_t *whole = json_deep_copy(json_object_get(root, "base"));
        json_object_update(whole, json_object_get(one, "overrides"));
        json_object_update(json_object_get(whole, "model"), json_object_get(one, "model"));
        char *json = json_dumps(whole, 0);
        tokenizer *t = NULL;
        um_error err;
        if (tokenizer_parse(json, strlen(json), &t, &err) != UM_OK)
            fail_msg("%s: %s", name, err.message);
        json_t *results = json_object_get(one, "results"), *more = json_object_get(one, "more");
        size_t n_texts = json_array_size(texts);
        for (size_t i = 0; i < json_array_size(results); i++) {
            json_t *text =
                i < n_texts
                    ? json_array_get(texts, i)
                    : json_array_get(json_object_get(root, "long_texts"),
                                     (size_t)json_integer_value(json_array_get(more, i - n_texts)));
            n_wrong += check_case_text(t, name, text, json_array_get(results, i));
        }
        tokenizer_close(t);
        free(json);
        json_decref(whole);
    }
    assert_int_equal(n_wrong, 0);
    json_decref(root);
    free(data);
}

/* The same vocabulary with its merges written the other way gives the same ids. */
static void test_merge_spellings(void **state) {
    (void)state;
    size_t n_data;
    char *data = read_data("qwen3/tokenizer.json", &n_data);
    json_t *root = json_loadb(data, n_data, JSON_ALLOW_NUL, NULL), *item;
    json_t *model = json_object_get(root, "model"), *pairs = json_array();
    size_t i_merge;
    json_array_foreach(json_object_get(model, "merges"), i_merge, item) {
        const char *text = json_string_value(item), *space = strchr(text, ' ');
        assert_non_null(space);
        json_array_append_new(pairs, json_pack("[s%,s]", text, (size_t)(space - text), space + 1));
    }
    json_object_set_new(model, "merges", pairs);
    char *json = json_dumps(root, JSON_COMPACT);
    tokenizer *a = open_named("qwen3"), *b = NULL;
    assert_int_equal(tokenizer_parse(json, strlen(json), &b, NULL), UM_OK);
    size_t n_strings;
    char *strings = read_data("strings.bin", &n_strings);
    const char *at = strings;
    uint32_t count = take_u32(&at);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = take_u32(&at);
        int32_t *ids[2];
        size_t n_ids[2];
        assert_int_equal(tokenizer_encode(a, at, n, &ids[0], &n_ids[0], NULL), UM_OK);
        assert_int_equal(tokenizer_encode(b, at, n, &ids[1], &n_ids[1], NULL), UM_OK);
        assert_int_equal(n_ids[0], n_ids[1]);
        assert_memory_equal(ids[0], ids[1], n_ids[0] * sizeof(int32_t));
        memory_free(ids[0]);
        memory_free(ids[1]);
        at += n;
    }
    tokenizer_close(a);
    tokenizer_close(b);
    free(json);
    free(data);
    free(strings);
    json_decref(root);
}

static void test_names(void **state) {
    (void)state;
    tokenizer *t = open_named("demo");
    assert_int_equal(tokenizer_token_id(t, "<|mask|>"), 1);
    assert_int_equal(tokenizer_token_id(t, "<|no such token|>"), -1);
    assert_true(tokenizer_is_special(t, 1));
    assert_false(tokenizer_is_special(t, 100));
    assert_false(tokenizer_is_special(t, -1));
    assert_false(tokenizer_is_special(t, 1 << 30));
    assert_int_equal(tokenizer_size(t), 4096);
    um_error err;
    char *text;
    static const int32_t wrong[] = {-1, 4096, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(tokenizer_decode(t, &wrong[i], 1, false, &text, NULL, &err), UM_INVALID);
        assert_non_null(strstr(err.message, "no token"));
    }
    tokenizer_close(t);
    t = open_named("qwen3");
    assert_int_equal(tokenizer_token_id(t, "<|MASK|>"), 151669);
    assert_int_equal(tokenizer_size(t), 151670);
    tokenizer_close(t);
}

static void test_invalid_text(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        int64_t bad_pos;
    } damaged[] = {{"ab\xff", 3, 2},           {"\xc0\x80", 2, 0},        {"a\xed\xa0\x80", 4, 1},
                   {"\xf4\x90\x80\x80", 4, 0}, {"\xe4\xb8", 2, 0},        {"\0\x80", 2, 1},
                   {"\xe4\xb8\xad\xe4", 4, 3}, {"\xf0\x80\x80\x80", 4, 0}};
    tokenizer *t = open_named("demo");
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        um_error err;
        int32_t *ids;
        size_t n_ids;
        assert_int_equal(tokenizer_encode(t, damaged[i].text, damaged[i].n, &ids, &n_ids, &err),
                         UM_INVALID);
        assert_int_equal(err.byte_pos, damaged[i].bad_pos);
    }
    int32_t *ids = NULL;
    size_t n_ids = 1;
    assert_int_equal(tokenizer_encode(t, "", 0, &ids, &n_ids, NULL), UM_OK);
    assert_non_null(ids);
    assert_int_equal(n_ids, 0);
    memory_free(ids);
    tokenizer_close(t);
}

/* A megabyte of anything takes no more than seconds, also under sanitizers. */
static void test_long_texts(void **state) {
    (void)state;
    static const char *const units[] = {
        "a", " ",  "ab",           "\n", " \n",      "\xcc\x81\xcc\xa3", "1",
        "!", "'s", "\xe4\xb8\xad", "<|", "<|mask|>", "\xe3\x80\x80 "};
    for (size_t i_name = 0; i_name < 3; i_name++) {
        tokenizer *t = open_named(names[i_name]);
        for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
            size_t n_unit = strlen(units[i]), n = 0;
            char *text = malloc(1 << 20);
            while (n + n_unit <= 1 << 20) {
                memcpy(text + n, units[i], n_unit);
                n += n_unit;
            }
            int64_t before = clock_now_ns();
            int32_t *ids;
            size_t n_ids;
            um_error err;
            if (tokenizer_encode(t, text, n, &ids, &n_ids, &err) != UM_OK)
                fail_msg("%s", err.message);
            double seconds = (double)(clock_now_ns() - before) * 1e-9;
            if (seconds > 1) print_message("%s, %s: %.2f s\n", names[i_name], units[i], seconds);
            assert_true(seconds < 20);
            memory_free(ids);
            free(text);
        }
        tokenizer_close(t);
    }
}

static void test_load_time(void **state) {
    (void)state;
    int64_t before = clock_now_ns();
    tokenizer *t = open_named("qwen3");
    print_message("qwen3 loads in %.3f s\n", (double)(clock_now_ns() - before) * 1e-9);
    size_t n_strings;
    char *strings = read_data("strings.bin", &n_strings);
    const char *at = strings;
    uint32_t count = take_u32(&at);
    before = clock_now_ns();
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = take_u32(&at);
        int32_t *ids;
        size_t n_ids;
        assert_int_equal(tokenizer_encode(t, at, n, &ids, &n_ids, NULL), UM_OK);
        memory_free(ids);
        at += n;
    }
    double seconds = (double)(clock_now_ns() - before) * 1e-9;
    print_message("%.1f MB/s over the random strings\n", (double)n_strings / seconds * 1e-6);
    free(strings);
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_strings),  cmocka_unit_test(test_decode),
        cmocka_unit_test(test_vectors),         cmocka_unit_test(test_cases),
        cmocka_unit_test(test_merge_spellings), cmocka_unit_test(test_names),
        cmocka_unit_test(test_invalid_text),    cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_load_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * config.json, generation_config.json and the search for the mask token.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "formats/hf_config.h"
#include "support/temp_dir.h"

static hf_config *parse(const char *config_json, const char *generation_json) {
    hf_config *config = NULL;
    um_error err = {0};
    if (hf_config_parse(config_json, strlen(config_json), generation_json,
                        generation_json ? strlen(generation_json) : 0, &config, &err) != UM_OK)
        fail_msg("%s", err.message);
    return config;
}

static void assert_says(um_status status, const um_error *err, um_status expected, const char *part,
                        const char *where) {
    if (status != expected || !strstr(err->message, part) || !strstr(err->where, where))
        fail_msg("expected %s with \"%s\" at %s\n  found %s: %s at %s", um_status_name(expected),
                 part, where, um_status_name(status), err->message, err->where);
}

static void test_refuses_bad_json(void **state) {
    (void)state;
    static const struct {
        const char *config, *generation, *part, *where;
    } rows[] = {
        {"", NULL, "config.json: invalid JSON at line", "config.json"},
        {"[1]", NULL, "config.json: expected an object, found a list of 1", "config.json"},
        {"3", NULL, "config.json: ", "config.json"},
        {"{\"a\":1,\"a\":2}", NULL, "duplicate", "config.json"},
        {"{\"a\":NaN}", NULL, "invalid JSON", "config.json"},
        {"{\"a\":Infinity}", NULL, "invalid JSON", "config.json"},
        {"{\"a\":1e999}", NULL, "real number overflow", "config.json"},
        {"{\"a\":\"\xc3\x28\"}", NULL, "invalid JSON", "config.json"},
        {"{\"a\":\"x\\u0000\"}", NULL, "invalid JSON", "config.json"},
        {"\xef\xbb\xbf{}", NULL, "invalid JSON", "config.json"},
        {"{}{}", NULL, "invalid JSON", "config.json"},
        {"{\"a\":1,}", NULL, "invalid JSON", "config.json"},
        {"{}", "{", "generation_config.json: invalid JSON", "generation_config.json"},
        {"{}", "[]", "generation_config.json: expected an object", "generation_config.json"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        hf_config *config = NULL;
        um_error err = {0};
        size_t n_generation = rows[i].generation ? strlen(rows[i].generation) : 0;
        um_status status = hf_config_parse(rows[i].config, strlen(rows[i].config),
                                           rows[i].generation, n_generation, &config, &err);
        assert_says(status, &err, UM_FORMAT, rows[i].part, rows[i].where);
        assert_true(err.byte_pos >= 0);
        assert_null(config);
        assert_int_equal(hf_config_parse(rows[i].config, strlen(rows[i].config), rows[i].generation,
                                         n_generation, &config, NULL),
                         UM_FORMAT);
    }
    hf_config_close(NULL);
}

static void test_names(void **state) {
    (void)state;
    hf_config *config = parse("{\"architectures\":[\"A\",\"B\"],\"model_type\":\"t\"}", NULL);
    assert_string_equal(hf_config_architecture(config), "A");
    assert_string_equal(hf_config_model_type(config), "t");
    hf_config_close(config);
    static const char *const without[] = {"{}", "{\"architectures\":[],\"model_type\":null}",
                                          "{\"architectures\":\"A\",\"model_type\":3}",
                                          "{\"architectures\":[3],\"model_type\":[]}"};
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        config = parse(without[i], NULL);
        assert_null(hf_config_architecture(config));
        assert_null(hf_config_model_type(config));
        hf_config_close(config);
    }
}

static void test_integers(void **state) {
    (void)state;
    static const struct {
        const char *json; /* value of "hidden_size", NULL: absent */
        um_status status;
        int64_t value;
        const char *message;
    } rows[] = {
        {"32", UM_OK, 32, ""},
        {"1", UM_OK, 1, ""},
        {"1048576", UM_OK, 1048576, ""},
        {"32.0", UM_OK, 32, ""},
        {"1e3", UM_OK, 1000, ""},
        {"0", UM_FORMAT, 0, "found 0"},
        {"-1", UM_FORMAT, 0, "found -1"},
        {"1048577", UM_FORMAT, 0, "found 1048577"},
        {"32.5", UM_FORMAT, 0, "found 32.5"},
        {"1e300", UM_FORMAT, 0, "found 1.0000000000000001e+300"},
        {"9223372036854775808", UM_FORMAT, 0, "found 9.2233720368547758e+18"},
        {"\"abc\"", UM_FORMAT, 0, "found \"abc\""},
        {"\"a\\u001b\\n\"", UM_FORMAT, 0, "found \"a\?\?\""},
        {"true", UM_FORMAT, 0, "found true"},
        {"[1,2]", UM_FORMAT, 0, "found a list of 2"},
        {"{}", UM_FORMAT, 0, "found an object"},
        {"null", UM_FORMAT, 0, "found nothing"},
        {NULL, UM_FORMAT, 0, "found nothing"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char json[128], message[256];
        snprintf(json, sizeof json, rows[i].json ? "{\"hidden_size\":%s}" : "{}", rows[i].json);
        hf_config *config = parse(json, json);
        int64_t value = 77;
        um_error err = {0};
        um_status status = hf_config_int(config, "hidden_size", 1, 1048576, &value, &err);
        assert_int_equal(status, rows[i].status);
        bool is_absent = !rows[i].json || strcmp(rows[i].json, "null") == 0;
        assert_int_equal(hf_config_has(config, "hidden_size"), !is_absent);
        if (status == UM_OK) {
            assert_int_equal(value, rows[i].value);
        } else {
            snprintf(message, sizeof message,
                     "config.json: \"hidden_size\": expected an integer from 1 to 1048576, %s",
                     rows[i].message);
            assert_string_equal(err.message, message);
            assert_string_equal(err.where, "config.json");
            assert_int_equal(value, 77);
        }
        /* The getters with a fallback judge alike, and take the fallback for what is absent. */
        um_status or_status = is_absent ? UM_OK : status;
        int64_t or_value = is_absent ? 5 : status ? 77 : rows[i].value;
        assert_int_equal(hf_config_int_or(config, "hidden_size", 1, 1048576, 5, &value, &err),
                         or_status);
        assert_int_equal(value, or_value);
        value = 77;
        assert_int_equal(
            hf_config_generation_int_or(config, "hidden_size", 1, 1048576, 5, &value, &err),
            or_status);
        assert_int_equal(value, or_value);
        hf_config_close(config);
    }
}

static void test_exact_integers(void **state) {
    (void)state;
    hf_config *config = parse(
        "{\"a\":9223372036854775807,\"b\":-9223372036854775808,"
        "\"c\":9007199254740992.0,\"d\":1e17}",
        NULL);
    int64_t value;
    um_error err;
    assert_int_equal(hf_config_int(config, "a", INT64_MIN, INT64_MAX, &value, &err), UM_OK);
    assert_true(value == INT64_MAX);
    assert_int_equal(hf_config_int(config, "b", INT64_MIN, INT64_MAX, &value, &err), UM_OK);
    assert_true(value == INT64_MIN);
    assert_int_equal(hf_config_int(config, "c", INT64_MIN, INT64_MAX, &value, &err), UM_OK);
    assert_true(value == (int64_t)1 << 53);
    assert_int_equal(hf_config_int(config, "d", INT64_MIN, INT64_MAX, &value, &err), UM_FORMAT);
    hf_config_close(config);
    /* One integer beyond int64 does not spoil the others. */
    config = parse("{\"model_max_length\":1000000000000000019884624838656,\"a\":4096}", NULL);
    assert_int_equal(hf_config_int(config, "a", 1, 5000, &value, &err), UM_OK);
    assert_int_equal(value, 4096);
    assert_int_equal(hf_config_int(config, "model_max_length", 1, INT64_MAX, &value, &err),
                     UM_FORMAT);
    hf_config_close(config);
}

static void test_reals_bools_strings(void **state) {
    (void)state;
    static const char json[] =
        "{\"r\":0.5,\"i\":1,\"s\":\"text\",\"t\":true,\"f\":false,\"n\":null,"
        "\"big\":100000000000000000000000}";
    hf_config *config = parse(json, json);
    double real;
    bool flag;
    const char *text;
    um_error err = {0};
    assert_int_equal(hf_config_real(config, "r", 0, 1, &real, &err), UM_OK);
    assert_true(real == 0.5);
    assert_int_equal(hf_config_real(config, "i", 0, 1, &real, &err), UM_OK);
    assert_true(real == 1.0);
    assert_int_equal(hf_config_real(config, "big", 0, 1e30, &real, &err), UM_OK);
    assert_true(real == 1e23);
    assert_says(hf_config_real(config, "r", 0.75, 1, &real, &err), &err, UM_FORMAT,
                "\"r\": expected a number from 0.75 to 1, found 0.5", "config.json");
    assert_says(hf_config_real(config, "s", 0, 1, &real, &err), &err, UM_FORMAT, "found \"text\"",
                "config.json");
    assert_says(hf_config_real(config, "none", 0, 1, &real, &err), &err, UM_FORMAT, "found nothing",
                "config.json");
    assert_int_equal(hf_config_real_or(config, "n", 0, 1, 0.25, &real, &err), UM_OK);
    assert_true(real == 0.25);
    assert_int_equal(hf_config_real_or(config, "t", 0, 1, 0.25, &real, &err), UM_FORMAT);
    assert_int_equal(hf_config_generation_real_or(config, "r", 0, 1, 0.25, &real, &err), UM_OK);
    assert_true(real == 0.5);
    assert_says(hf_config_generation_real_or(config, "r", 2, 3, 2, &real, &err), &err, UM_FORMAT,
                "generation_config.json: \"r\"", "generation_config.json");

    assert_int_equal(hf_config_bool_or(config, "t", false, &flag, &err), UM_OK);
    assert_true(flag);
    assert_int_equal(hf_config_bool_or(config, "f", true, &flag, &err), UM_OK);
    assert_false(flag);
    assert_int_equal(hf_config_bool_or(config, "n", true, &flag, &err), UM_OK);
    assert_true(flag);
    assert_says(hf_config_bool_or(config, "i", true, &flag, &err), &err, UM_FORMAT,
                "expected true or false, found 1", "config.json");

    assert_int_equal(hf_config_string_or(config, "s", "other", &text, &err), UM_OK);
    assert_string_equal(text, "text");
    assert_int_equal(hf_config_string_or(config, "n", "other", &text, &err), UM_OK);
    assert_string_equal(text, "other");
    assert_int_equal(hf_config_string_or(config, "none", NULL, &text, &err), UM_OK);
    assert_null(text);
    assert_says(hf_config_string_or(config, "r", NULL, &text, &err), &err, UM_FORMAT,
                "expected a string, found 0.5", "config.json");
    assert_int_equal(hf_config_generation_string_or(config, "s", "other", &text, &err), UM_OK);
    assert_string_equal(text, "text");
    assert_int_equal(hf_config_generation_string_or(config, "t", "other", &text, &err), UM_FORMAT);
    hf_config_close(config);

    config = parse("{}", NULL);
    int64_t value;
    assert_int_equal(hf_config_generation_int_or(config, "i", 0, 9, 7, &value, &err), UM_OK);
    assert_int_equal(value, 7);
    assert_int_equal(hf_config_generation_real_or(config, "r", 0, 1, 0.125, &real, &err), UM_OK);
    assert_true(real == 0.125);
    assert_int_equal(hf_config_generation_string_or(config, "s", "x", &text, &err), UM_OK);
    assert_string_equal(text, "x");
    hf_config_close(config);
}

static void test_stop_tokens(void **state) {
    (void)state;
    static const struct {
        const char *config, *generation;
        um_status status;
        int32_t n, tokens[3];
        const char *part;
    } rows[] = {
        {"{}", NULL, UM_OK, 0, {0}, ""},
        {"{\"eos_token_id\":null}", "{\"eos_token_id\":[]}", UM_OK, 0, {0}, ""},
        {"{\"eos_token_id\":5}", NULL, UM_OK, 1, {5}, ""},
        {"{\"eos_token_id\":0}", "{\"eos_token_id\":[0,2]}", UM_OK, 2, {0, 2}, ""},
        {"{\"eos_token_id\":[9,4]}", "{\"eos_token_id\":4}", UM_OK, 2, {9, 4}, ""},
        {"{\"eos_token_id\":[1,2,3,1]}", "{\"eos_token_id\":[3,2,1]}", UM_OK, 3, {1, 2, 3}, ""},
        {"{\"eos_token_id\":[1,2,3,4]}",
         NULL,
         UM_UNSUPPORTED,
         0,
         {0},
         "at most 3 different tokens"},
        {"{\"eos_token_id\":10}", NULL, UM_FORMAT, 0, {0}, "an integer from 0 to 9, found 10"},
        {"{\"eos_token_id\":-1}", NULL, UM_FORMAT, 0, {0}, "found -1"},
        {"{\"eos_token_id\":\"</s>\"}", NULL, UM_FORMAT, 0, {0}, "found \"</s>\""},
        {"{\"eos_token_id\":[1,[2]]}", NULL, UM_FORMAT, 0, {0}, "found a list of 1"},
        {"{\"eos_token_id\":[null]}", NULL, UM_FORMAT, 0, {0}, "found null"},
        {"{}", "{\"eos_token_id\":99}", UM_FORMAT, 0, {0}, "generation_config.json"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        hf_config *config = parse(rows[i].config, rows[i].generation);
        int32_t tokens[4] = {-7, -7, -7, -7}, n = -1;
        um_error err = {0};
        um_status status = hf_config_stop_tokens(config, 10, tokens, 3, &n, &err);
        assert_says(status, &err, rows[i].status, rows[i].part, "");
        assert_int_equal(n, rows[i].n);
        assert_memory_equal(tokens, rows[i].tokens, (size_t)n * sizeof *tokens);
        assert_int_equal(tokens[3], -7);
        hf_config_close(config);
    }
}

/* ---- The mask token ------------------------------------------------------------------------- */

#define TC "tokenizer_config.json"
#define TJ "tokenizer.json"
#define AT "added_tokens.json"

static void test_mask_token(void **state) {
    (void)state;
    static const struct {
        const char *what, *config, *tc, *tj, *at; /* NULL: no such file */
        um_status status;
        int32_t token;
        const char *part, *where;
    } rows[] = {
        {"nothing says", "{}", NULL, NULL, NULL, UM_OK, -1, "", ""},
        {"the config wins", "{\"mask_token_id\":3}", "damaged", "damaged", "damaged", UM_OK, 3, "",
         ""},
        {"null is absent", "{\"mask_token_id\":null}", NULL, NULL, "{\"[MASK]\":4}", UM_OK, 4, "",
         ""},
        {"beyond the vocabulary", "{\"mask_token_id\":100}", NULL, NULL, NULL, UM_FORMAT, -1,
         "config.json: \"mask_token_id\": expected an integer from 0 to 99, found 100",
         "config.json"},
        {"negative", "{\"mask_token_id\":-1}", NULL, NULL, NULL, UM_FORMAT, -1, "found -1",
         "config.json"},
        {"named, in the decoder", "{}",
         "{\"mask_token\":\"<x>\",\"added_tokens_decoder\":{\"7\":{\"content\":\"<mask>\"},"
         "\"8\":{\"content\":\"<x>\"}}}",
         "{\"added_tokens\":[{\"id\":9,\"content\":\"<x>\"}]}", "{\"<x>\":10}", UM_OK, 8, "", ""},
        {"named by an object", "{}",
         "{\"mask_token\":{\"content\":\"<x>\"},\"added_tokens_decoder\":{\"8\":{\"content\":\"<x>"
         "\"}}}",
         NULL, NULL, UM_OK, 8, "", ""},
        {"named, in tokenizer.json", "{}",
         "{\"mask_token\":\"<x>\",\"model_max_length\":"
         "1000000000000000019884624838656}",
         "{\"added_tokens\":[{\"id\":1,\"content\":\"<mask>\"},{\"id\":9,\"content\":\"<x>\"}],"
         "\"model\":{\"vocab\":{\"a\":0},\"x\":\"\\u0000\"}}",
         "{\"<x>\":10}", UM_OK, 9, "", ""},
        {"named, in added_tokens.json", "{}", "{\"mask_token\":\"<x>\"}", "{\"added_tokens\":[]}",
         "{\"<x>\":10,\"<mask>\":2}", UM_OK, 10, "", ""},
        {"named, found nowhere: a known one", "{}", "{\"mask_token\":\"<x>\"}", NULL,
         "{\"<mask>\":2}", UM_OK, 2, "", ""},
        {"known, in the decoder", "{}",
         "{\"added_tokens_decoder\":{\"5\":{\"content\":\"[gMASK]\"},"
         "\"6\":{\"content\":\"<|mdm_mask|>\"}}}",
         "{\"added_tokens\":[{\"id\":9,\"content\":\"<|mask|>\"}]}", NULL, UM_OK, 6, "", ""},
        {"known, in tokenizer.json", "{}", "{\"mask_token\":null,\"added_tokens_decoder\":null}",
         "{\"added_tokens\":[{\"id\":9,\"content\":\"<|MASK|>\"}]}", "{\"<MASK>\":3}", UM_OK, 9, "",
         ""},
        {"known, in added_tokens.json", "{}", NULL, NULL, "{\"<MASK>\":3}", UM_OK, 3, "", ""},
        {"the order of known ones", "{}", NULL, NULL, "{\"<mask>\":3,\"<|mask|>\":4}", UM_OK, 4, "",
         ""},
        {"none known", "{}", "{}", "{\"added_tokens\":[{\"id\":1,\"content\":\"<s>\"}]}",
         "{\"<s>\":1}", UM_OK, -1, "", ""},
        {"decoder beyond", "{}", "{\"added_tokens_decoder\":{\"100\":{\"content\":\"<mask>\"}}}",
         NULL, NULL, UM_FORMAT, -1,
         TC ": mask token \"<mask>\": expected an id from 0 to 99, found 100", TC},
        {"decoder key is no number", "{}",
         "{\"added_tokens_decoder\":{\"1x\":{\"content\":\"<mask>\"}}}", NULL, NULL, UM_FORMAT, -1,
         "expected an id", TC},
        {"decoder key overflows", "{}",
         "{\"added_tokens_decoder\":{\"99999999999999999999999\":{\"content\":\"<mask>\"}}}", NULL,
         NULL, UM_FORMAT, -1, "expected an id", TC},
        {"decoder is a list", "{}", "{\"added_tokens_decoder\":[]}", NULL, NULL, UM_FORMAT, -1,
         "\"added_tokens_decoder\": expected an object", TC},
        {"decoder holds a string", "{}", "{\"added_tokens_decoder\":{\"1\":\"<mask>\"}}", NULL,
         NULL, UM_FORMAT, -1, "expected an object, found \"<mask>\"", TC},
        {"mask_token is a number", "{}", "{\"mask_token\":3}", NULL, NULL, UM_FORMAT, -1,
         "\"mask_token\": expected a string, found 3", TC},
        {"damaged tokenizer_config", "{}", "{", NULL, "{\"<MASK>\":3}", UM_FORMAT, -1,
         "invalid JSON", TC},
        {"damaged tokenizer", "{}", NULL, "[]", "{\"<MASK>\":3}", UM_FORMAT, -1,
         "expected an object", TJ},
        {"damaged added_tokens", "{}", NULL, NULL, "{\"<MASK>\":3,}", UM_FORMAT, -1, "invalid JSON",
         AT},
        {"tokens are no list", "{}", NULL, "{\"added_tokens\":{}}", NULL, UM_FORMAT, -1,
         "\"added_tokens\": expected a list", TJ},
        {"a token is no object", "{}", NULL, "{\"added_tokens\":[1]}", NULL, UM_FORMAT, -1,
         "expected an object, found 1", TJ},
        {"a token without id", "{}", NULL, "{\"added_tokens\":[{\"content\":\"<mask>\"}]}", NULL,
         UM_FORMAT, -1, "expected an integer, found nothing", TJ},
        {"a token beyond", "{}", NULL, "{\"added_tokens\":[{\"id\":-2,\"content\":\"<mask>\"}]}",
         NULL, UM_FORMAT, -1, "found -2", TJ},
        {"added_tokens of strings", "{}", NULL, NULL, "{\"<mask>\":\"3\"}", UM_FORMAT, -1,
         "expected an integer, found \"3\"", AT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        temp_dir dir;
        temp_dir_create(&dir);
        if (rows[i].tc) temp_dir_write_text(&dir, TC, rows[i].tc);
        if (rows[i].tj) temp_dir_write_text(&dir, TJ, rows[i].tj);
        if (rows[i].at) temp_dir_write_text(&dir, AT, rows[i].at);
        hf_config *config = parse(rows[i].config, NULL);
        int32_t token = 55;
        um_error err = {0};
        um_status status = hf_config_mask_token(config, dir.path, 100, &token, &err);
        temp_dir_destroy(&dir);
        if (token != rows[i].token) fail_msg("%s: found %d", rows[i].what, token);
        assert_says(status, &err, rows[i].status, rows[i].part, rows[i].where);
        if (!strstr(rows[i].config, "_id")) {
            assert_int_equal(hf_config_mask_token(config, NULL, 100, &token, &err), UM_OK);
            assert_int_equal(token, -1);
        }
        hf_config_close(config);
    }
}

static void test_open(void **state) {
    (void)state;
    temp_dir dir;
    hf_config *config = NULL;
    um_error err = {0};
    int64_t value;
    temp_dir_create(&dir);
    assert_says(hf_config_open(dir.path, &config, &err), &err, UM_NOT_FOUND, "config.json",
                "/config.json");
    temp_dir_write_text(&dir, "config.json", "{\"a\":1}");
    assert_int_equal(hf_config_open(dir.path, &config, &err), UM_OK);
    assert_int_equal(hf_config_generation_int_or(config, "a", 0, 9, 5, &value, &err), UM_OK);
    assert_int_equal(value, 5);
    hf_config_close(config);
    temp_dir_write_text(&dir, "generation_config.json", "{\"a\":2}");
    assert_int_equal(hf_config_open(dir.path, &config, NULL), UM_OK);
    assert_int_equal(hf_config_generation_int_or(config, "a", 0, 9, 5, &value, &err), UM_OK);
    assert_int_equal(value, 2);
    hf_config_close(config);
    temp_dir_write_text(&dir, "generation_config.json", "");
    assert_says(hf_config_open(dir.path, &config, &err), &err, UM_FORMAT,
                "generation_config.json: invalid JSON", "/generation_config.json");
    assert_null(config);
    temp_dir_write_text(&dir, "config.json", "{\n \"a\":1 \"b\"}");
    assert_says(hf_config_open(dir.path, &config, &err), &err, UM_FORMAT,
                "config.json: invalid JSON at line 2", "/config.json");
    assert_true(err.byte_pos > 9 && err.byte_pos <= 13);
    size_t n = (16 << 20) + 1;
    char *big = malloc(n);
    assert_non_null(big);
    memset(big, ' ', n);
    temp_dir_write(&dir, "config.json", big, n);
    free(big);
    assert_says(hf_config_open(dir.path, &config, &err), &err, UM_FORMAT, "at most 16777216",
                "/config.json");
    temp_dir_destroy(&dir);
}

static void test_survives_failed_allocations(void **state) {
    (void)state;
    temp_dir dir;
    temp_dir_create(&dir);
    temp_dir_write_text(&dir, "config.json", "{\"eos_token_id\":1}");
    temp_dir_write_text(&dir, "generation_config.json", "{}");
    temp_dir_write_text(&dir, TC, "{\"mask_token\":\"<x>\"}");
    temp_dir_write_text(&dir, TJ, "{\"added_tokens\":[]}");
    temp_dir_write_text(&dir, AT, "{\"<x>\":4}");
    for (uint64_t n = 1;; n++) {
        hf_config *config = NULL;
        um_error err;
        int32_t token = -1;
        memory_fault_at(n, 0);
        um_status status = hf_config_open(dir.path, &config, &err);
        if (status == UM_OK) status = hf_config_mask_token(config, dir.path, 9, &token, &err);
        memory_fault_at(0, 0);
        hf_config_close(config);
        if (status == UM_OK) {
            assert_int_equal(token, 4);
            assert_true(n > 10);
            break;
        }
        assert_int_equal(status, UM_NO_MEMORY);
        assert_int_equal(err.status, UM_NO_MEMORY);
    }
    temp_dir_destroy(&dir);
}

/* memory_alloc that sets errno like malloc: what jansson is given below. */
static void *alloc_with_errno(size_t n_bytes) {
    void *memory = memory_alloc(n_bytes);
    if (!memory) errno = ENOMEM;
    return memory;
}

/* Allocations inside jansson. Without numbers in the text, each failure is recognised. */
static void test_survives_jansson_without_memory(void **state) {
    (void)state;
    static const char json[] =
        "{\"architectures\":[\"A\"],\"b\":{\"c\":true,\"d\":null},"
        "\"a long string\":\"0123456789012345678901234567890123456789\"}";
    json_set_alloc_funcs(alloc_with_errno, memory_free);
    for (uint64_t n = 1;; n++) {
        hf_config *config = NULL;
        um_error err = {0};
        memory_fault_at(n, 0);
        um_status status = hf_config_parse(json, strlen(json), json, strlen(json), &config, &err);
        memory_fault_at(0, 0);
        if (status == UM_OK) {
            assert_true(n > 20);
            assert_string_equal(hf_config_architecture(config), "A");
            hf_config_close(config);
            break;
        }
        if (status != UM_NO_MEMORY) fail_msg("allocation %d: %s", (int)n, err.message);
        assert_null(config);
    }
    json_set_alloc_funcs(malloc, free);
}

static void test_demo_model(void **state) {
    (void)state;
    static const char demo[] = PROJECT_DIR "/models/demo";
    hf_config *config = NULL, *empty = parse("{}", NULL);
    um_error err = {0};
    int32_t tokens[4], n, mask;
    double threshold;
    if (hf_config_open(demo, &config, &err) != UM_OK) fail_msg("%s", err.message);
    assert_string_equal(hf_config_architecture(config), "LLaDA2MoeModelLM");
    assert_string_equal(hf_config_model_type(config), "llada2_moe");
    assert_int_equal(hf_config_stop_tokens(config, 4096, tokens, 4, &n, &err), UM_OK);
    assert_int_equal(n, 2);
    assert_int_equal(tokens[0], 0);
    assert_int_equal(tokens[1], 2);
    assert_int_equal(hf_config_mask_token(config, demo, 4096, &mask, &err), UM_OK);
    assert_int_equal(mask, 1);
    /* The tokenizer's files agree with the config. */
    assert_int_equal(hf_config_mask_token(empty, demo, 4096, &mask, &err), UM_OK);
    assert_int_equal(mask, 1);
    assert_int_equal(hf_config_generation_real_or(config, "threshold", 0, 1, 0.5, &threshold, &err),
                     UM_OK);
    assert_true(threshold == 0.9);
    hf_config_close(config);
    hf_config_close(empty);
}

static void test_members_lists_and_switches(void **state) {
    (void)state;
    hf_config *config = parse(
        "{\"o\":{\"r\":0.5,\"s\":\"x\",\"n\":null,\"o\":{\"i\":7}},\"t\":\"text\",\"n\":null,"
        "\"off\":false,\"on\":true,\"l\":[1,2,3],\"e\":[],\"bad\":[1,\"x\"],\"wide\":[1,9]}",
        NULL);
    double real = 0;
    int64_t integer = 0;
    const char *text;
    um_error err = {0};
    assert_int_equal(hf_config_real(config, "o.r", 0, 1, &real, &err), UM_OK);
    assert_true(real == 0.5);
    assert_int_equal(hf_config_int(config, "o.o.i", 0, 9, &integer, &err), UM_OK);
    assert_int_equal(integer, 7);
    assert_int_equal(hf_config_string_or(config, "o.s", NULL, &text, &err), UM_OK);
    assert_string_equal(text, "x");
    static const char *const absent[] = {"o.n", "o.none", "n.x", "none.x", "o.o.none", "n", "none"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        assert_false(hf_config_has(config, absent[i]));
        assert_false(hf_config_is_set(config, absent[i]));
        assert_int_equal(hf_config_real_or(config, absent[i], 0, 1, 0.25, &real, &err), UM_OK);
        assert_true(real == 0.25);
    }
    /* A member of what is no object: the value in its place is judged. */
    assert_says(hf_config_real_or(config, "t.r", 0, 1, 0.25, &real, &err), &err, UM_FORMAT,
                "\"t.r\": expected a number from 0 to 1, found \"text\"", "config.json");
    assert_true(hf_config_is_set(config, "on") && hf_config_is_set(config, "t"));
    assert_true(hf_config_has(config, "off") && !hf_config_is_set(config, "off"));
    int32_t list[3] = {0}, n = -1;
    assert_int_equal(hf_config_ints_or_none(config, "l", 0, 8, list, 3, &n, &err), UM_OK);
    assert_true(n == 3 && list[0] == 1 && list[1] == 2 && list[2] == 3);
    assert_int_equal(hf_config_ints_or_none(config, "e", 0, 8, list, 3, &n, &err), UM_OK);
    assert_int_equal(n, 0);
    assert_int_equal(hf_config_ints_or_none(config, "n", 0, 8, list, 3, &n, &err), UM_OK);
    assert_int_equal(n, 0);
    assert_says(hf_config_ints_or_none(config, "l", 0, 8, list, 2, &n, &err), &err, UM_FORMAT,
                "\"l\": expected a list of at most 2, found a list of 3", "config.json");
    assert_says(hf_config_ints_or_none(config, "t", 0, 8, list, 3, &n, &err), &err, UM_FORMAT,
                "\"t\": expected a list of at most 3", "config.json");
    assert_says(hf_config_ints_or_none(config, "bad", 0, 8, list, 3, &n, &err), &err, UM_FORMAT,
                "\"bad[1]\": expected an integer from 0 to 8, found \"x\"", "config.json");
    assert_says(hf_config_ints_or_none(config, "wide", 0, 8, list, 3, &n, &err), &err, UM_FORMAT,
                "\"wide[1]\"", "config.json");
    hf_config_close(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refuses_bad_json),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_exact_integers),
        cmocka_unit_test(test_reals_bools_strings),
        cmocka_unit_test(test_members_lists_and_switches),
        cmocka_unit_test(test_stop_tokens),
        cmocka_unit_test(test_mask_token),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_survives_failed_allocations),
        cmocka_unit_test(test_survives_jansson_without_memory),
        cmocka_unit_test(test_demo_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

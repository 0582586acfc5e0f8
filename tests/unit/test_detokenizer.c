/* SPDX-License-Identifier: Apache-2.0
 *
 * Streaming: whole characters only, and in sum what decoding all at once gives. And UTF-8 itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "text/detokenizer.h"
#include "text/utf8.h"

#ifndef TEST_DATA_DIR
#define TEST_DATA_DIR "tests/data"
#endif

static void expect_lossy(const char *text, size_t n, const char *expected) {
    strbuf out;
    strbuf_init(&out);
    utf8_append_lossy(&out, text, n);
    assert_string_equal(out.data, expected);
    strbuf_deinit(&out);
}

#define R "\xEF\xBF\xBD"

/* The examples of the Unicode standard, tables 3-8 to 3-11. */
static void test_lossy(void **state) {
    (void)state;
    expect_lossy("\x41\xC0\xAF\x41\xF4\x80\x80\x41", 8, "A" R R "A" R "A");
    expect_lossy("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", 9, R R R R R R R R "A");
    expect_lossy("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", 9, R R R R R R R R "A");
    expect_lossy("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", 9, R R R R R "A" R R "B");
    expect_lossy("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", 9, R R R R "A");
    expect_lossy("a\xE4\xB8", 3, "a" R);
    expect_lossy("", 0, "");
}

static void test_valid(void **state) {
    (void)state;
    for (unsigned c = 0; c < 0x110000; c++) {
        if (c == 0xD800) c = 0xE000;
        strbuf text;
        strbuf_init(&text);
        strbuf_append_codepoint(&text, c);
        size_t length;
        assert_true(utf8_is_valid(text.data, text.n_bytes, NULL));
        assert_int_equal(utf8_decode(text.data, &length), c);
        assert_int_equal(length, text.n_bytes);
        assert_int_equal(utf8_last(text.data, text.n_bytes), 0);
        for (size_t n = 1; n < text.n_bytes; n++) {
            assert_int_equal(utf8_next(text.data, n, &length), UTF8_KIND_PARTIAL);
            assert_int_equal(length, n);
        }
        strbuf_deinit(&text);
    }
}

/* Random ids, most of them parts of characters. */
static void test_stream(void **state) {
    (void)state;
    tokenizer *t = NULL;
    um_error err;
    if (tokenizer_open(TEST_DATA_DIR "/tokenizers/demo", &t, &err) != UM_OK)
        fail_msg("%s", err.message);
    int n_held = 0;
    for (uint32_t round = 0; round < 2000; round++) {
        int32_t ids[40];
        rng_key key = {.seed = 7, .position = round};
        for (uint32_t i = 0; i < 40; i++) {
            uint32_t range = round % 2 ? 261 : (uint32_t)tokenizer_size(t);
            ids[i] = (int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, i) * range);
        }
        bool skip_special = round % 4 < 2;
        char *expected;
        size_t n_expected;
        assert_int_equal(tokenizer_decode(t, ids, 40, skip_special, &expected, &n_expected, &err),
                         UM_OK);
        detokenizer d;
        detokenizer_init(&d, t, skip_special);
        strbuf out;
        strbuf_init(&out);
        for (size_t i = 0; i < 40; i++) {
            assert_int_equal(detokenizer_push(&d, ids[i], &out, &err), UM_OK);
            n_held += d.n_pending > 0;
            if (out.data) {
                assert_true(utf8_is_valid(out.data, out.n_bytes, NULL));
                assert_true(out.n_bytes <= n_expected);
                assert_memory_equal(out.data, expected, out.n_bytes);
            }
        }
        assert_int_equal(detokenizer_push(&d, -1, &out, &err), UM_INVALID);
        assert_int_equal(detokenizer_flush(&d, &out, &err), UM_OK);
        assert_int_equal(out.n_bytes, n_expected);
        if (n_expected) assert_memory_equal(out.data, expected, n_expected);
        strbuf_deinit(&out);
        memory_free(expected);
    }
    assert_true(n_held > 1000);
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lossy),
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

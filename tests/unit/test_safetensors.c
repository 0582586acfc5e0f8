/* SPDX-License-Identifier: Apache-2.0
 *
 * Headers of safetensors files, good and damaged: one row a case.
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
#include "formats/safetensors.h"
#include "support/temp_dir.h"

#define PATH "/models/x/part.safetensors"

static void assert_refused(um_status status, const um_error *err, um_status expected,
                           const char *part, const char *what) {
    if (status != expected || !strstr(err->message, part) || strcmp(err->where, PATH) != 0)
        fail_msg("%s:\n  expected %s with \"%s\" at %s\n  found %s: %s at %s", what,
                 um_status_name(expected), part, PATH, um_status_name(status),
                 status ? err->message : "", status ? err->where : "");
}

static void test_reads_tensors(void **state) {
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4],\"more\":1},"
        "\"empty\":{\"dtype\":\"F16\",\"shape\":[0,5],\"data_offsets\":[16,16]},"
        "\"c\":{\"dtype\":\"F16\",\"shape\":[1,1,1,2],\"data_offsets\":[16,20]}}   ";
    size_t n_bytes;
    unsigned char *bytes = safetensors_bytes(header, strlen(header), 20, &n_bytes);
    safetensors list;
    um_error err;
    assert_int_equal(safetensors_parse(bytes, n_bytes, PATH, false, &list, &err), UM_OK);
    assert_int_equal(list.n_tensors, 4);
    const unsigned char *data = bytes + 8 + strlen(header);
    static const struct {
        const char *name;
        dtype type;
        int n_dims;
        int64_t shape[4];
        size_t begin, n_bytes;
    } expected[] = {{"a", DTYPE_F32, 0, {1, 1, 1, 1}, 0, 4},
                    {"b", DTYPE_BF16, 2, {2, 3, 1, 1}, 4, 12},
                    {"empty", DTYPE_F16, 2, {0, 5, 1, 1}, 16, 0},
                    {"c", DTYPE_F16, 4, {1, 1, 1, 2}, 16, 4}};
    for (size_t i = 0; i < 4; i++) {
        const tensor *t = &list.tensors[i];
        assert_string_equal(t->name, expected[i].name);
        assert_string_equal(t->file, PATH);
        assert_int_equal(t->type, expected[i].type);
        assert_int_equal(t->n_dims, expected[i].n_dims);
        assert_memory_equal(t->shape, expected[i].shape, sizeof t->shape);
        assert_ptr_equal(t->data, data + expected[i].begin);
        assert_int_equal(t->n_bytes, expected[i].n_bytes);
        assert_int_equal(t->n_items * (int64_t)dtype_bytes(t->type), expected[i].n_bytes);
    }
    safetensors_deinit(&list);
    free(bytes);
}

static void test_every_type_has_its_size(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t item_bytes;
        bool is_read;
    } types[] = {{"F32", 4, true},      {"F16", 2, true},      {"BF16", 2, true},
                 {"F64", 8, false},     {"I64", 8, false},     {"I32", 4, false},
                 {"I16", 2, false},     {"I8", 1, false},      {"U64", 8, false},
                 {"U32", 4, false},     {"U16", 2, false},     {"U8", 1, false},
                 {"BOOL", 1, false},    {"F8_E4M3", 1, false}, {"F8_E5M2", 1, false},
                 {"F8_E8M0", 1, false}, {"C64", 8, false}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char header[160];
        size_t n_bytes, n_data = 3 * types[i].item_bytes;
        snprintf(header, sizeof header,
                 "{\"w\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}", types[i].name,
                 n_data);
        unsigned char *bytes = safetensors_bytes(header, strlen(header), n_data, &n_bytes);
        safetensors list;
        um_error err;
        assert_int_equal(safetensors_parse(bytes, n_bytes, PATH, true, &list, &err), UM_OK);
        assert_int_equal(list.tensors[0].n_bytes, n_data);
        assert_int_equal(list.tensors[0].n_items, 3);
        assert_int_equal(list.tensors[0].type == (dtype)-1, !types[i].is_read);
        safetensors_deinit(&list);
        um_status status = safetensors_parse(bytes, n_bytes, PATH, false, &list, &err);
        if (types[i].is_read) {
            assert_int_equal(status, UM_OK);
        } else {
            assert_refused(status, &err, UM_UNSUPPORTED, types[i].name, types[i].name);
            assert_refused(status, &err, UM_UNSUPPORTED, "tensor \"w\"", types[i].name);
        }
        safetensors_deinit(&list);
        free(bytes);
    }
}

/* One tensor "w" with this dtype, shape and data_offsets as JSON. */
#define W(dtype, shape, offsets) \
    "{\"w\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define V(name, offsets) \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" offsets "}"

static void test_refuses_damaged_headers(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t n_data;
        um_status status;
        const char *part;
    } rows[] = {
        /* JSON */
        {"", 0, UM_FORMAT, "begins with '{'"},
        {" {}", 0, UM_FORMAT, "begins with '{'"},
        {"[]", 0, UM_FORMAT, "begins with '{'"},
        {"{", 0, UM_FORMAT, "invalid JSON"},
        {"{}x", 0, UM_FORMAT, "invalid JSON"},
        {"{} {}", 0, UM_FORMAT, "invalid JSON"},
        {"{\"\xff\":1}", 0, UM_FORMAT, "invalid JSON"},
        {"{\"a\\u0000b\":1}", 0, UM_FORMAT, "invalid JSON"},
        {"{" V("a", "[0,4]") "," V("a", "[4,8]") "}", 8, UM_FORMAT, "duplicate"},
        {"{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F16\"}}", 0, UM_FORMAT, "duplicate"},
        {W("\"F32\"", "[99999999999999999999]", "[0,4]"), 4, UM_FORMAT, "too big integer"},
        {W("\"F32\"", "[1]", "[0,99999999999999999999]"), 4, UM_FORMAT, "too big integer"},
        {W("\"F32\"", "[NaN]", "[0,4]"), 4, UM_FORMAT, "invalid JSON"},
        /* The tensor's own fields */
        {"{\"w\":3}", 0, UM_FORMAT, "tensor \"w\": expected an object, found 3"},
        {"{\"w\":{}}", 0, UM_FORMAT, "\"dtype\": expected a string, found nothing"},
        {"{\"w\":{\"dtype\":\"F32\"}}", 0, UM_FORMAT, "\"shape\": expected a list, found nothing"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, UM_FORMAT,
         "\"data_offsets\": expected a list of 2 integers, found nothing"},
        {W("7", "[1]", "[0,4]"), 4, UM_FORMAT, "\"dtype\": expected a string, found 7"},
        {W("\"Q4\"", "[1]", "[0,4]"), 4, UM_UNSUPPORTED, "type \"Q4\" is not known"},
        {W("\"f32\"", "[1]", "[0,4]"), 4, UM_UNSUPPORTED, "type \"f32\" is not known"},
        {W("\"F32\"", "{\"a\":[1]}", "[0,4]"), 4, UM_FORMAT, "expected a list, found an object"},
        {W("\"F32\"", "[[1]]", "[0,4]"), 4, UM_FORMAT, "found a list of 1"},
        {W("\"F32\"", "[-1]", "[0,4]"), 4, UM_FORMAT, "expected an integer from 0, found -1"},
        {W("\"F32\"", "[1.0]", "[0,4]"), 4, UM_FORMAT, "expected an integer from 0, found 1"},
        {W("\"F32\"", "[1e0]", "[0,4]"), 4, UM_FORMAT, "expected an integer from 0, found 1"},
        {W("\"F32\"", "[true]", "[0,4]"), 4, UM_FORMAT, "found true"},
        {W("\"F32\"", "[1,1,1,1,1]", "[0,4]"), 4, UM_UNSUPPORTED, "at most 4 dimensions, found 5"},
        {W("\"F32\"", "[4294967296,4294967296]", "[0,4]"), 4, UM_FORMAT, "more items than 64"},
        {W("\"F32\"", "[9223372036854775807]", "[0,4]"), 4, UM_FORMAT, "more bytes than 64"},
        {W("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, UM_FORMAT, "more bytes than 64"},
        {W("\"F32\"", "[1]", "[0]"), 4, UM_FORMAT,
         "expected a list of 2 integers, found a list of 1"},
        {W("\"F32\"", "[1]", "[0,4,8]"), 8, UM_FORMAT, "expected a list of 2 integers"},
        {W("\"F32\"", "[1]", "[0,4.0]"), 4, UM_FORMAT, "expected a list of 2 integers"},
        {W("\"F32\"", "[1]", "{}"), 4, UM_FORMAT, "expected a list of 2 integers, found an object"},
        {W("\"F32\"", "[1]", "[-4,0]"), 4, UM_FORMAT, "found [-4, 0]"},
        {W("\"F32\"", "[1]", "[4,0]"), 4, UM_FORMAT, "found [4, 0]"},
        {W("\"F32\"", "[1]", "[0,8]"), 4, UM_FORMAT, "within the 4 bytes of data, found [0, 8]"},
        {W("\"F32\"", "[1]", "[0,9223372036854775807]"), 4, UM_FORMAT, "within the 4 bytes"},
        {W("\"F32\"", "[1]", "[-9223372036854775808,9223372036854775807]"), 4, UM_FORMAT,
         "within the 4 bytes"},
        {W("\"F32\"", "[2]", "[0,4]"), 4, UM_FORMAT,
         "expected 8 bytes for its type and shape, found 4"},
        {W("\"BF16\"", "[1]", "[0,4]"), 4, UM_FORMAT,
         "expected 2 bytes for its type and shape, found 4"},
        {W("\"F32\"", "[0]", "[0,4]"), 4, UM_FORMAT, "expected 0 bytes"},
        /* Places */
        {"{" V("a", "[0,4]") "," V("b", "[2,6]") "}", 6, UM_FORMAT, "overlaps another tensor"},
        {"{" V("a", "[0,4]") "," V("b", "[0,4]") "}", 4, UM_FORMAT, "overlaps another tensor"},
        {"{" V("a", "[0,4]") "," V("b", "[8,12]") "}", 12, UM_FORMAT, "hole before it"},
        {"{" V("a", "[4,8]") "}", 8, UM_FORMAT, "hole before it"},
        {"{" V("a", "[0,4]") "}", 5, UM_FORMAT,
         "expected 4 bytes of data for its tensors, found 5"},
        {"{}", 1, UM_FORMAT, "expected 0 bytes of data for its tensors, found 1"},
        /* Metadata */
        {"{\"__metadata__\":[]}", 0, UM_FORMAT,
         "\"__metadata__\": expected an object, found a list"},
        {"{\"__metadata__\":{\"step\":3}}", 0, UM_FORMAT, "\"step\": expected a string, found 3"},
        {"{\"__metadata__\":null}", 0, UM_FORMAT, "found null"},
        /* A name must not reach a terminal as it is. */
        {"{\"\\u001b[2J\":3}", 0, UM_FORMAT, "tensor \"?[2J\": expected an object"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t n_bytes;
        unsigned char *bytes =
            safetensors_bytes(rows[i].header, strlen(rows[i].header), rows[i].n_data, &n_bytes);
        safetensors list;
        um_error err = {0};
        um_status status = safetensors_parse(bytes, n_bytes, PATH, false, &list, &err);
        assert_refused(status, &err, rows[i].status, rows[i].part, rows[i].header);
        assert_non_null(strstr(err.message, "part.safetensors"));
        assert_null(list.tensors);
        assert_int_equal(safetensors_parse(bytes, n_bytes, PATH, false, &list, NULL), status);
        free(bytes);
    }
}

static void test_reports_the_byte_of_bad_json(void **state) {
    (void)state;
    size_t n_bytes;
    unsigned char *bytes = safetensors_bytes("{} !", 4, 0, &n_bytes);
    safetensors list;
    um_error err;
    assert_int_equal(safetensors_parse(bytes, n_bytes, PATH, false, &list, &err), UM_FORMAT);
    assert_int_equal(err.byte_pos, 8 + 4); /* jansson points behind the byte */
    free(bytes);
}

static void test_refuses_bad_lengths(void **state) {
    (void)state;
    static const struct {
        uint64_t n_header;
        size_t n_bytes;
        const char *part;
    } rows[] = {
        {0, 0, "expected at least 8 bytes, found 0"},
        {0, 7, "expected at least 8 bytes, found 7"},
        {0, 8, "begins with '{'"},
        {1, 8, "the header has 1 bytes, but only 0 follow"},
        {93, 100, "the header has 93 bytes, but only 92 follow"},
        {100000000, 100, "the header has 100000000 bytes, but only 92 follow"},
        {100000001, 100, "at most 100000000 bytes, found 100000001"},
        {UINT64_MAX, 100, "at most 100000000 bytes, found 18446744073709551615"},
        {UINT64_MAX - 7, 100, "at most 100000000 bytes"},
        {(uint64_t)1 << 63, 100, "at most 100000000 bytes"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        /* Exactly as long as it is, so that a sanitizer sees a byte read too far. */
        unsigned char *bytes = calloc(1, rows[i].n_bytes ? rows[i].n_bytes : 1);
        assert_non_null(bytes);
        for (size_t j = 0; j < 8 && j < rows[i].n_bytes; j++)
            bytes[j] = (unsigned char)(rows[i].n_header >> (8 * j));
        safetensors list;
        um_error err = {0};
        um_status status = safetensors_parse(rows[i].n_bytes ? bytes : NULL, rows[i].n_bytes, PATH,
                                             false, &list, &err);
        assert_refused(status, &err, UM_FORMAT, rows[i].part, rows[i].part);
        free(bytes);
    }
}

/* Each cut of a good file is refused. */
static void test_refuses_every_truncation(void **state) {
    (void)state;
    static const char header[] = "{" V("a", "[0,4]") "," V("b", "[4,8]") "}";
    size_t n_bytes;
    unsigned char *bytes = safetensors_bytes(header, strlen(header), 8, &n_bytes);
    for (size_t n = 0; n < n_bytes; n++) {
        unsigned char *cut = malloc(n ? n : 1);
        assert_non_null(cut);
        memcpy(cut, bytes, n);
        safetensors list;
        um_error err;
        assert_int_equal(safetensors_parse(cut, n, PATH, false, &list, &err), UM_FORMAT);
        free(cut);
    }
    free(bytes);
}

static void test_deep_and_long_headers(void **state) {
    (void)state;
    enum { N = 200000 };
    char *header = malloc(N + 64);
    assert_non_null(header);
    /* Nested beyond what a recursive parser may follow. */
    memcpy(header, "{\"w\":", 5);
    memset(header + 5, '[', N);
    size_t n_bytes;
    unsigned char *bytes = safetensors_bytes(header, N + 5, 0, &n_bytes);
    safetensors list;
    um_error err;
    assert_int_equal(safetensors_parse(bytes, n_bytes, PATH, false, &list, &err), UM_FORMAT);
    free(bytes);
    /* A name of 200,000 bytes, cut in the message. */
    memcpy(header, "{\"", 2);
    memset(header + 2, 'n', N);
    memcpy(header + 2 + N, "\":1}", 4);
    bytes = safetensors_bytes(header, N + 6, 0, &n_bytes);
    um_status status = safetensors_parse(bytes, n_bytes, PATH, false, &list, &err);
    assert_refused(status, &err, UM_FORMAT, "...\": expected an object, found 1", "a long name");
    free(bytes);
    free(header);
}

static void test_survives_failed_allocations(void **state) {
    (void)state;
    static const char header[] = "{" V("a", "[0,4]") "," V("b", "[4,8]") "}";
    size_t n_bytes;
    unsigned char *bytes = safetensors_bytes(header, strlen(header), 8, &n_bytes);
    safetensors list;
    um_error err;
    uint64_t n = 1;
    for (;; n++) {
        memory_fault_at(n, 0);
        um_status status = safetensors_parse(bytes, n_bytes, PATH, false, &list, &err);
        memory_fault_at(0, 0);
        if (status == UM_OK) break;
        assert_int_equal(status, UM_NO_MEMORY);
    }
    assert_true(n > 2);
    safetensors_deinit(&list);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_tensors),
        cmocka_unit_test(test_every_type_has_its_size),
        cmocka_unit_test(test_refuses_damaged_headers),
        cmocka_unit_test(test_reports_the_byte_of_bad_json),
        cmocka_unit_test(test_refuses_bad_lengths),
        cmocka_unit_test(test_refuses_every_truncation),
        cmocka_unit_test(test_deep_and_long_headers),
        cmocka_unit_test(test_survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

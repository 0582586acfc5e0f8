/* SPDX-License-Identifier: Apache-2.0
 *
 * Headers of GGUF files, good and damaged, and the table of models in them. Whole models are
 * compared with their directories by tests/cli/test_gguf.py.
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
#include "formats/gguf_files.h"
#include "models/gguf_model.h"
#include "support/gguf_bytes.h"
#include "support/temp_dir.h"

#define PATH "/models/x/file.gguf"

static um_status parse(const strbuf *bytes, gguf *header, um_error *err) {
    assert_false(bytes->has_failed);
    return gguf_parse((const unsigned char *)bytes->data, bytes->n_bytes, PATH, header, err);
}

/* ---- Reading -------------------------------------------------------------------------------- */

/* Two tensors, a [2, 3] of F32 and b [64] of Q8_0, and a hole between them. */
static void append_good(strbuf *out, uint32_t version) {
    static const uint64_t a_dims[] = {3, 2}, b_dims[] = {64};
    gguf_bytes_start(out, version, 2, 2);
    gguf_bytes_key_text(out, "general.architecture", "llada", 5);
    gguf_bytes_key_u32(out, "count", 7);
    gguf_bytes_tensor(out, "a", 2, a_dims, 0, 0);
    gguf_bytes_tensor(out, "b", 1, b_dims, 8, 64);
    gguf_bytes_data(out, 32, 64 + 68);
}

static void test_reads_tensors(void **state) {
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        strbuf bytes;
        gguf header;
        um_error err;
        strbuf_init(&bytes);
        append_good(&bytes, version);
        assert_int_equal(parse(&bytes, &header, &err), UM_OK);
        assert_int_equal(header.n_values, 2);
        assert_int_equal(header.n_tensors, 2);
        const tensor *a = &header.tensors[0], *b = &header.tensors[1];
        assert_string_equal(a->name, "a");
        assert_string_equal(a->file, PATH);
        assert_int_equal(a->type, DTYPE_F32);
        assert_int_equal(a->n_dims, 2);
        assert_int_equal(a->shape[0], 2); /* outermost first */
        assert_int_equal(a->shape[1], 3);
        assert_int_equal(a->shape[2], 1);
        assert_int_equal(a->n_items, 6);
        assert_int_equal(a->n_bytes, 24);
        assert_ptr_equal(a->data, bytes.data + bytes.n_bytes - 132);
        assert_int_equal(b->type, DTYPE_Q8_0);
        assert_int_equal(b->n_bytes, 68);
        assert_ptr_equal(b->data, bytes.data + bytes.n_bytes - 68);
        gguf_deinit(&header);
        strbuf_deinit(&bytes);
    }
}

static void append_value(strbuf *out, const char *key, uint32_t type, const char *bytes, size_t n) {
    gguf_bytes_string(out, key, strlen(key));
    gguf_bytes_u32(out, type);
    strbuf_append(out, bytes, n);
}

static void test_reads_values(void **state) {
    (void)state;
    static const struct {
        const char *key;
        uint32_t type;
        const char *bytes;
        size_t n_bytes;
        bool is_int, is_real;
        int64_t integer;
        double real;
        const char *text;
    } rows[] = {
        {"u8", 0, "\xff", 1, true, true, 255, 255, "255"},
        {"i8", 1, "\x80", 1, true, true, -128, -128, "-128"},
        {"u16", 2, "\xff\xff", 2, true, true, 65535, 65535, "65535"},
        {"i16", 3, "\xfe\xff", 2, true, true, -2, -2, "-2"},
        {"u32", 4, "\xff\xff\xff\xff", 4, true, true, 4294967295, 4294967295.0, "4294967295"},
        {"i32", 5, "\xff\xff\xff\xff", 4, true, true, -1, -1, "-1"},
        {"f32", 6, "\0\0\x20\xc0", 4, false, true, 0, -2.5, "-2.5"},
        {"bool", 7, "\1", 1, false, false, 0, 0, "true"},
        {"u64", 10, "\1\0\0\0\1\0\0\0", 8, true, true, 4294967297, 4294967297.0, "4294967297"},
        {"u64max", 10, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, false, false, 0, 0,
         "a larger number"},
        {"i64", 11, "\xfd\xff\xff\xff\xff\xff\xff\xff", 8, true, true, -3, -3, "-3"},
        {"f64", 12, "\0\0\0\0\0\0\xe0\x3f", 8, false, true, 0, 0.5, "0.5"},
    };
    enum { N_ROWS = sizeof rows / sizeof *rows };
    strbuf bytes;
    gguf header;
    um_error err;
    char described[64];
    int64_t integer;
    double real;
    strbuf_init(&bytes);
    gguf_bytes_start(&bytes, 3, 0, N_ROWS);
    for (size_t i = 0; i < N_ROWS; i++)
        append_value(&bytes, rows[i].key, rows[i].type, rows[i].bytes, rows[i].n_bytes);
    assert_int_equal(parse(&bytes, &header, &err), UM_OK);
    for (size_t i = 0; i < N_ROWS; i++) {
        const gguf_value *value = gguf_find(&header, rows[i].key);
        assert_non_null(value);
        assert_int_equal(gguf_value_int(value, &integer), rows[i].is_int);
        if (rows[i].is_int) assert_int_equal(integer, rows[i].integer);
        assert_int_equal(gguf_value_real(value, &real), rows[i].is_real);
        if (rows[i].is_real) assert_true(real == rows[i].real);
        assert_string_equal(gguf_describe(value, described), rows[i].text);
    }
    assert_null(gguf_find(&header, "u"));
    assert_string_equal(gguf_describe(NULL, described), "nothing");
    gguf_deinit(&header);
    strbuf_deinit(&bytes);
}

static void test_reads_arrays(void **state) {
    (void)state;
    strbuf bytes;
    gguf header;
    um_error err;
    const char *text;
    size_t n, at = 0;
    int64_t number;
    strbuf_init(&bytes);
    gguf_bytes_start(&bytes, 3, 0, 2);
    gguf_bytes_key_array(&bytes, "texts", 8, 3);
    gguf_bytes_string(&bytes, "one", 3);
    gguf_bytes_string(&bytes, "", 0);
    gguf_bytes_string(&bytes, "three", 5);
    gguf_bytes_key_array(&bytes, "numbers", 5, 2);
    gguf_bytes_u32(&bytes, (uint32_t)-4);
    gguf_bytes_u32(&bytes, 9);
    assert_int_equal(parse(&bytes, &header, &err), UM_OK);
    const gguf_value *texts = gguf_find(&header, "texts"), *numbers = gguf_find(&header, "numbers");
    static const char *const expected[] = {"one", "", "three"};
    for (int i = 0; i < 3; i++) {
        assert_true(gguf_next_string(texts, &at, &text, &n));
        assert_int_equal(n, strlen(expected[i]));
        assert_memory_equal(text, expected[i], n);
    }
    assert_false(gguf_next_string(texts, &at, &text, &n));
    assert_false(gguf_value_string(texts, &text, &n));
    assert_int_equal(numbers->n_items, 2);
    assert_true(gguf_item_int(numbers, 0, &number));
    assert_int_equal(number, -4);
    assert_true(gguf_item_int(numbers, 1, &number));
    assert_int_equal(number, 9);
    assert_false(gguf_value_int(numbers, &number));
    gguf_deinit(&header);
    strbuf_deinit(&bytes);
}

/* ---- Damage --------------------------------------------------------------------------------- */

static void assert_refused(const strbuf *bytes, um_status expected, const char *part) {
    gguf header;
    um_error err;
    um_status status = parse(bytes, &header, &err);
    if (status != expected || !strstr(err.message, part) || strcmp(err.where, PATH) != 0)
        fail_msg("expected %s with \"%s\" at %s\n  found %s: %s at %s", um_status_name(expected),
                 part, PATH, um_status_name(status), status ? err.message : "",
                 status ? err.where : "");
    assert_null(header.tensors);
    assert_null(header.values);
}

/* A file cut anywhere is refused, whatever is left of it. */
static void test_every_cut(void **state) {
    (void)state;
    strbuf bytes;
    strbuf_init(&bytes);
    append_good(&bytes, 3);
    for (size_t n = 0; n < bytes.n_bytes; n++) {
        gguf header;
        um_error err;
        unsigned char *cut = malloc(n + 1); /* of its own, so that a sanitizer sees the end */
        memcpy(cut, bytes.data, n);
        um_status status = gguf_parse(cut, n, PATH, &header, &err);
        if (status != UM_FORMAT || !err.message[0]) fail_msg("cut at %zu: status %d", n, status);
        free(cut);
    }
    strbuf_deinit(&bytes);
}

static void test_bad_starts(void **state) {
    (void)state;
    strbuf bytes;
    strbuf_init(&bytes);
    strbuf_append(&bytes, "GGML\3\0\0\0", 8);
    assert_refused(&bytes, UM_FORMAT, "expected a GGUF file, which begins with \"GGUF\"");
    static const struct {
        uint32_t version;
        const char *part;
    } versions[] = {{1, "version 2 or 3 of GGUF, found 1"},
                    {4, "found 4"},
                    {0x03000000, "a big-endian file is not read"}};
    for (size_t i = 0; i < 3; i++) {
        bytes.n_bytes = 0;
        gguf_bytes_start(&bytes, versions[i].version, 0, 0);
        assert_refused(&bytes, UM_UNSUPPORTED, versions[i].part);
    }
    static const uint64_t counts[][2] = {{UINT64_MAX, 0}, {0, UINT64_MAX}, {1, 0}, {0, 1}};
    for (size_t i = 0; i < 4; i++) {
        bytes.n_bytes = 0;
        gguf_bytes_start(&bytes, 3, counts[i][0], counts[i][1]);
        assert_refused(&bytes, UM_FORMAT, "do not fit into a file of 24 bytes");
    }
    strbuf_deinit(&bytes);
}

static void test_bad_values(void **state) {
    (void)state;
    strbuf bytes;
    strbuf_init(&bytes);
    gguf_bytes_start(&bytes, 3, 0, 1);
    append_value(&bytes, "k", 13, "12345678", 8);
    assert_refused(&bytes, UM_FORMAT, "key \"k\": expected a type of value (0 to 12), found 13");
    bytes.n_bytes = 0;
    gguf_bytes_start(&bytes, 3, 0, 1);
    gguf_bytes_key_array(&bytes, "k", 9, 1);
    gguf_bytes_u64(&bytes, 0);
    assert_refused(&bytes, UM_FORMAT, "no array of arrays), found 9");
    bytes.n_bytes = 0;
    gguf_bytes_start(&bytes, 3, 0, 1);
    append_value(&bytes, "k", 7, "\2", 1);
    assert_refused(&bytes, UM_FORMAT, "expected a boolean of 0 or 1, found 2");
    /* 2^61 + 1 numbers of 8 bytes: the product does not fit 64 bits. */
    bytes.n_bytes = 0;
    gguf_bytes_start(&bytes, 3, 0, 1);
    gguf_bytes_key_array(&bytes, "k", 12, ((uint64_t)1 << 61) + 1);
    gguf_bytes_u64(&bytes, 0);
    assert_refused(&bytes, UM_FORMAT, "key \"k\": expected 18446744073709551615 bytes");
    bytes.n_bytes = 0;
    gguf_bytes_start(&bytes, 3, 0, 1);
    gguf_bytes_key_array(&bytes, "k", 8, UINT64_MAX);
    gguf_bytes_u64(&bytes, 0);
    assert_refused(&bytes, UM_FORMAT, "found the end of the file");
    bytes.n_bytes = 0;
    gguf_bytes_start(&bytes, 3, 0, 2);
    gguf_bytes_key_u32(&bytes, "twice", 1);
    gguf_bytes_key_u32(&bytes, "twice", 1);
    assert_refused(&bytes, UM_FORMAT, "key \"twice\": expected once, found twice");
    bytes.n_bytes = 0;
    gguf_bytes_start(&bytes, 3, 0, 1);
    gguf_bytes_key_u32(&bytes, "", 1);
    assert_refused(&bytes, UM_FORMAT, "name of a key: expected 1 to 65536 bytes, found 0");
    bytes.n_bytes = 0;
    gguf_bytes_start(&bytes, 3, 0, 1);
    gguf_bytes_string(&bytes, "a\0b", 3);
    append_value(&bytes, "", 0, "1", 1);
    assert_refused(&bytes, UM_FORMAT, "found a zero byte");
    static const uint32_t alignments[] = {0, 3, 1u << 30};
    for (size_t i = 0; i < 3; i++) {
        bytes.n_bytes = 0;
        gguf_bytes_start(&bytes, 3, 0, 1);
        gguf_bytes_key_u32(&bytes, "general.alignment", alignments[i]);
        assert_refused(&bytes, UM_FORMAT, "\"general.alignment\": expected a power of two");
    }
    strbuf_deinit(&bytes);
}

static void test_bad_tensors(void **state) {
    (void)state;
    static const struct {
        uint64_t dims[5];
        uint32_t n_dims, type;
        uint64_t offset;
        um_status status;
        const char *part;
    } rows[] = {
        {{4}, 0, 0, 0, UM_FORMAT, "tensor \"t\": expected 1 to 4 dimensions, found 0"},
        {{1, 1, 1, 1, 1}, 5, 0, 0, UM_FORMAT, "expected 1 to 4 dimensions, found 5"},
        {{4, 0}, 2, 0, 0, UM_FORMAT, "expected dimensions from 1"},
        {{(uint64_t)1 << 63}, 1, 0, 0, UM_FORMAT, "found 9223372036854775808"},
        {{(uint64_t)1 << 32, (uint64_t)1 << 31}, 2, 0, 0, UM_FORMAT, "found 2147483648"},
        {{(uint64_t)1 << 62}, 1, 0, 0, UM_FORMAT, "more bytes than 64 bits can count"},
        {{256}, 1, 10, 0, UM_UNSUPPORTED, "found Q2_K (10)"},
        {{4}, 1, 26, 0, UM_UNSUPPORTED, "found I32 (26)"},
        {{4}, 1, 4, 0, UM_UNSUPPORTED, "found one that is not known (4)"},
        {{4}, 1, UINT32_MAX, 0, UM_UNSUPPORTED, "not known (4294967295)"},
        {{48, 2}, 2, 8, 0, UM_FORMAT, "rows of a multiple of 32 numbers for type Q8_0, found 48"},
        {{128, 2}, 2, 12, 0, UM_FORMAT, "rows of a multiple of 256 numbers for type Q4_K"},
        {{4}, 1, 0, 8, UM_FORMAT, "an offset that is a multiple of 32, found 8"},
        {{4}, 1, 0, 256, UM_FORMAT, "within the 256 bytes of data, found an offset of 256"},
        {{65}, 1, 0, 0, UM_FORMAT, "expected 260 bytes within the 256 bytes of data"},
        {{4}, 1, 0, UINT64_MAX - 31, UM_FORMAT, "found an offset of 18446744073709551584"},
    };
    strbuf bytes;
    strbuf_init(&bytes);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bytes.n_bytes = 0;
        gguf_bytes_start(&bytes, 3, 1, 0);
        gguf_bytes_tensor(&bytes, "t", rows[i].n_dims, rows[i].dims, rows[i].type, rows[i].offset);
        gguf_bytes_data(&bytes, 32, 256);
        assert_refused(&bytes, rows[i].status, rows[i].part);
    }
    static const uint64_t dims[] = {16};
    bytes.n_bytes = 0;
    gguf_bytes_start(&bytes, 3, 2, 0);
    gguf_bytes_tensor(&bytes, "late", 1, dims, 0, 32);
    gguf_bytes_tensor(&bytes, "early", 1, dims, 0, 0);
    gguf_bytes_data(&bytes, 32, 256);
    assert_refused(&bytes, UM_FORMAT, "tensors \"early\" and \"late\" overlap");
    strbuf_deinit(&bytes);
}

/* The type of every number that files use, back and forth. */
static void test_type_ids(void **state) {
    (void)state;
    static const dtype types[] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q8_0,
                                  DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        uint32_t id = gguf_tensor_type_id(types[i]);
        assert_int_equal(gguf_tensor_type(id), types[i]);
        assert_string_equal(gguf_tensor_type_name(id), dtype_name(types[i]));
    }
    assert_int_equal(gguf_tensor_type_id(DTYPE_Q6_K), 14);
    assert_null(gguf_tensor_type_name(5));
    assert_null(gguf_tensor_type_name(UINT32_MAX));
}

/* ---- Files ---------------------------------------------------------------------------------- */

static int make_dir(void **state) {
    static temp_dir dir;
    temp_dir_create(&dir);
    *state = &dir;
    return 0;
}

static int remove_dir(void **state) {
    temp_dir_destroy(*state);
    return 0;
}

static void write_part(const temp_dir *dir, const char *name, const char *held, uint32_t no,
                       uint32_t count, uint32_t n_tensors) {
    static const uint64_t dims[] = {2};
    strbuf bytes;
    strbuf_init(&bytes);
    gguf_bytes_start(&bytes, 3, 1, 3);
    gguf_bytes_key_u32(&bytes, "split.no", no);
    gguf_bytes_key_u32(&bytes, "split.count", count);
    gguf_bytes_key_u32(&bytes, "split.tensors.count", n_tensors);
    gguf_bytes_tensor(&bytes, held, 1, dims, 0, 0);
    gguf_bytes_data(&bytes, 32, 8);
    temp_dir_write(dir, name, bytes.data, bytes.n_bytes);
    strbuf_deinit(&bytes);
}

static void assert_not_opened(const char *path, um_status expected, const char *part) {
    tensor_catalog *catalog = NULL;
    um_error err;
    um_status status = tensor_catalog_open_gguf(path, &catalog, &err);
    if (status != expected || !strstr(err.message, part) || catalog)
        fail_msg("expected %s with \"%s\", found %s: %s", um_status_name(expected), part,
                 um_status_name(status), status ? err.message : "");
}

static void test_parts(void **state) {
    const temp_dir *dir = *state;
    char path[400];
    um_error err;
    snprintf(path, sizeof path, "%s/m-00001-of-00002.gguf", dir->path);
    write_part(dir, "m-00001-of-00002.gguf", "b", 0, 2, 2);
    assert_not_opened(path, UM_NOT_FOUND, "m-00002-of-00002.gguf");
    write_part(dir, "m-00002-of-00002.gguf", "a", 1, 2, 2);
    tensor_catalog *catalog;
    assert_int_equal(tensor_catalog_open_gguf(path, &catalog, &err), UM_OK);
    assert_int_equal(tensor_catalog_count(catalog), 2);
    assert_string_equal(tensor_catalog_at(catalog, 0)->name, "a");
    assert_non_null(strstr(tensor_catalog_at(catalog, 0)->file, "m-00002-of-00002.gguf"));
    assert_non_null(tensor_catalog_gguf(catalog));
    assert_int_equal(tensor_catalog_gguf(catalog)->n_values, 3);
    tensor_catalog_close(catalog);
    write_part(dir, "m-00002-of-00002.gguf", "b", 1, 2, 2);
    assert_not_opened(path, UM_FORMAT, "tensor \"b\": expected in one file");
    write_part(dir, "m-00002-of-00002.gguf", "a", 0, 2, 2);
    assert_not_opened(path, UM_FORMAT, "\"split.no\": expected 1, found 0");
    write_part(dir, "m-00002-of-00002.gguf", "a", 1, 3, 2);
    assert_not_opened(path, UM_FORMAT, "\"split.count\": expected 2, found 3");
    write_part(dir, "m-00002-of-00002.gguf", "a", 1, 2, 2);
    write_part(dir, "m-00001-of-00002.gguf", "b", 0, 2, 3);
    assert_not_opened(path, UM_FORMAT, "\"split.tensors.count\" is 3, but the 2 files hold 2");
    snprintf(path, sizeof path, "%s/m-00002-of-00002.gguf", dir->path);
    assert_not_opened(path, UM_INVALID, "is part 2 of 2 of a split model; name its first file");
    snprintf(path, sizeof path, "%s/m.gguf", dir->path);
    write_part(dir, "m.gguf", "a", 0, 2, 2);
    assert_not_opened(path, UM_FORMAT, "expected a name that ends in -00001-of-00002.gguf");
    write_part(dir, "m.gguf", "a", 0, 100000, 2);
    assert_not_opened(path, UM_FORMAT, "\"split.count\": expected an integer from 0 to 9999");
}

/* Every allocation may fail; nothing is lost, and the error says so. */
static void test_no_memory(void **state) {
    const temp_dir *dir = *state;
    char path[400];
    snprintf(path, sizeof path, "%s/n-00001-of-00002.gguf", dir->path);
    write_part(dir, "n-00001-of-00002.gguf", "b", 0, 2, 2);
    write_part(dir, "n-00002-of-00002.gguf", "a", 1, 2, 2);
    for (uint64_t n = 1;; n++) {
        tensor_catalog *catalog;
        um_error err;
        memory_fault_at(n, 0);
        um_status status = tensor_catalog_open_gguf(path, &catalog, &err);
        bool is_done = memory_fault_count() < n;
        memory_fault_at(0, 0);
        if (status == UM_OK) tensor_catalog_close(catalog);
        if (is_done) {
            assert_int_equal(status, UM_OK);
            assert_true(n > 5);
            return;
        }
        assert_int_equal(status, UM_NO_MEMORY);
    }
}

/* The same over whole models, which are inputs of the fuzz target: config, tensors, tokenizer. */
static void test_no_memory_for_models(void **state) {
    (void)state;
    static const char *const names[] = {"llada", "llada2", "dream"};
    for (size_t i = 0; i < 3; i++) {
        char path[400];
        bool is_done = false;
        snprintf(path, sizeof path, "%s/tests/fuzz/corpus/gguf/%s", PROJECT_DIR, names[i]);
        for (uint64_t n = 1; !is_done; n++) {
            um_model_info info;
            um_tokenizer *text = NULL;
            um_error err;
            memory_fault_at(n, 0);
            um_status status = um_model_inspect(path, -1, &info, &err);
            if (status == UM_OK) status = um_tokenizer_open(path, &text, &err);
            is_done = memory_fault_count() < n;
            memory_fault_at(0, 0);
            um_tokenizer_close(&text);
            if (status != (is_done ? UM_OK : UM_NO_MEMORY))
                fail_msg("%s, allocation %d: %s", names[i], (int)n,
                         status ? err.message : "no error");
        }
    }
}

/* ---- The table ------------------------------------------------------------------------------ */

static void test_schema(void **state) {
    (void)state;
    char name[160];
    static const int32_t order[] = {0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15};
    for (int32_t i = 0; i < 16; i++) assert_int_equal(gguf_interleaved_row(i, 8), order[i]);
    for (int role = 0; role < GGUF_ROLES; role++) {
        gguf_role_name(name, (gguf_role)role, 12);
        if (role > GGUF_ROLE_HEAD) assert_memory_equal(name, "blk.12.", 7);
        for (int other = 0; other < role; other++) {
            char second[160];
            assert_string_not_equal(name, gguf_role_name(second, (gguf_role)other, 12));
        }
    }
    assert_string_equal(gguf_role_name(name, GGUF_ROLE_HEAD, 3), "output.weight");
    assert_null(gguf_architecture_find("llama"));
    assert_null(gguf_architecture_of_family("llama"));
    char names[256];
    snprintf(names, sizeof names, "%s", gguf_architecture_names());
    for (char *at = strtok(names, ", "); at; at = strtok(NULL, ", ")) {
        const gguf_architecture *a = gguf_architecture_find(at);
        assert_non_null(a);
        assert_ptr_equal(gguf_architecture_of_family(a->family), a);
        for (int i = 0; i < a->n_keys; i++) {
            char key[96];
            gguf_key_name(key, a, &a->keys[i]);
            assert_true(a->keys[i].name[0] != '.' || strncmp(key, at, strlen(at)) == 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_tensors),
        cmocka_unit_test(test_reads_values),
        cmocka_unit_test(test_reads_arrays),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_bad_starts),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_type_ids),
        cmocka_unit_test_setup_teardown(test_parts, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_no_memory, make_dir, remove_dir),
        cmocka_unit_test(test_no_memory_for_models),
        cmocka_unit_test(test_schema),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

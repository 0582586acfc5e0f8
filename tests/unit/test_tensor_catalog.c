/* SPDX-License-Identifier: Apache-2.0
 *
 * Directories of tensors: single files, shards, and an index that does not tell the truth.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "formats/tensor_catalog.h"
#include "support/temp_dir.h"

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"
#define HEADER_A "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}"
#define HEADER_B                                                        \
    "{\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]}," \
    "\"c\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[8,10]}}"

static int set_up(void **state) {
    temp_dir *dir = malloc(sizeof *dir);
    if (!dir) return -1;
    temp_dir_create(dir);
    *state = dir;
    return 0;
}

static int tear_down(void **state) {
    temp_dir_destroy(*state);
    free(*state);
    return 0;
}

static void assert_refused(const char *directory, um_status expected, const char *part,
                           const char *where) {
    tensor_catalog *catalog = NULL;
    um_error err = {0};
    um_status status = tensor_catalog_open_directory(directory, &catalog, &err);
    if (status != expected || !strstr(err.message, part) || !strstr(err.where, where))
        fail_msg("expected %s with \"%s\" at %s\n  found %s: %s at %s", um_status_name(expected),
                 part, where, um_status_name(status), err.message, err.where);
    assert_null(catalog);
    assert_int_equal(tensor_catalog_open_directory(directory, &catalog, NULL), expected);
}

static tensor_catalog *open_well(const char *directory) {
    tensor_catalog *catalog = NULL;
    um_error err = {0};
    if (tensor_catalog_open_directory(directory, &catalog, &err) != UM_OK)
        fail_msg("%s", err.message);
    return catalog;
}

static void test_single_file(void **state) {
    const temp_dir *dir = *state;
    temp_dir_write_safetensors(dir, SINGLE, HEADER_B, 10);
    tensor_catalog *catalog = open_well(dir->path);
    assert_int_equal(tensor_catalog_count(catalog), 2);
    assert_string_equal(tensor_catalog_at(catalog, 0)->name, "b");
    assert_string_equal(tensor_catalog_at(catalog, 1)->name, "c");
    assert_null(tensor_catalog_at(catalog, 2));
    assert_null(tensor_catalog_at(catalog, -1));
    assert_null(tensor_catalog_find(catalog, "d"));
    assert_null(tensor_catalog_find(catalog, ""));
    const tensor *c = tensor_catalog_find(catalog, "c");
    assert_ptr_equal(c, tensor_catalog_at(catalog, 1));
    assert_int_equal(((const unsigned char *)c->data)[0], 8);
    tensor_catalog_close(catalog);
    tensor_catalog_close(NULL);
}

static void test_empty_catalog(void **state) {
    const temp_dir *dir = *state;
    temp_dir_write_safetensors(dir, SINGLE, "{}", 0);
    tensor_catalog *catalog = open_well(dir->path);
    assert_int_equal(tensor_catalog_count(catalog), 0);
    assert_null(tensor_catalog_find(catalog, "a"));
    tensor_catalog_close(catalog);
}

static void test_shards(void **state) {
    const temp_dir *dir = *state;
    temp_dir_write_safetensors(dir, "1.safetensors", HEADER_A, 24);
    temp_dir_write_safetensors(dir, "2.safetensors", HEADER_B, 10);
    /* The index wins over a model.safetensors beside it; "c" is in a shard but not in the index. */
    temp_dir_write_text(dir, SINGLE, "damaged");
    temp_dir_write_text(dir, INDEX,
                        "{\"metadata\":{\"total_size\":34.0,\"x\":[]},"
                        "\"weight_map\":{\"b\":\"2.safetensors\",\"a\":\"1.safetensors\"}}");
    tensor_catalog *catalog = open_well(dir->path);
    assert_int_equal(tensor_catalog_count(catalog), 3);
    assert_non_null(strstr(tensor_catalog_find(catalog, "a")->file, "/1.safetensors"));
    assert_non_null(strstr(tensor_catalog_find(catalog, "c")->file, "/2.safetensors"));
    tensor_catalog_close(catalog);
}

/* The hub's cache holds links to files elsewhere. */
static void test_linked_shard(void **state) {
    const temp_dir *dir = *state;
    temp_dir other;
    char from[400], to[400];
    temp_dir_create(&other);
    temp_dir_write_safetensors(&other, "blob", HEADER_A, 24);
    snprintf(from, sizeof from, "%s/blob", other.path);
    snprintf(to, sizeof to, "%s/1.safetensors", dir->path);
    assert_int_equal(symlink(from, to), 0);
    temp_dir_write_text(dir, INDEX, "{\"weight_map\":{\"a\":\"1.safetensors\"}}");
    tensor_catalog_close(open_well(dir->path));
    temp_dir_destroy(&other);
}

static void test_bad_index(void **state) {
    const temp_dir *dir = *state;
    static const char elsewhere[] = "expected the name of a file in the model's directory";
    static const struct {
        const char *json;
        um_status status;
        const char *part;
    } rows[] = {
        {"", UM_FORMAT, "invalid JSON"},
        {"[]", UM_FORMAT, "expected an object, found a list of 0"},
        {"{} x", UM_FORMAT, "invalid JSON"},
        {"{}", UM_FORMAT, "\"weight_map\": expected an object of tensors, found nothing"},
        {"{\"weight_map\":{}}", UM_FORMAT, "found an empty one"},
        {"{\"weight_map\":[\"a\"]}", UM_FORMAT, "found a list of 1"},
        {"{\"weight_map\":null}", UM_FORMAT, "found null"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"a\":\"1.safetensors\"}}", UM_FORMAT,
         "duplicate"},
        {"{\"weight_map\":{\"a\":7}}", UM_FORMAT, elsewhere},
        {"{\"weight_map\":{\"a\":\"\"}}", UM_FORMAT, elsewhere},
        {"{\"weight_map\":{\"a\":\"..\"}}", UM_FORMAT, elsewhere},
        {"{\"weight_map\":{\"a\":\".\"}}", UM_FORMAT, elsewhere},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", UM_FORMAT, elsewhere},
        {"{\"weight_map\":{\"a\":\"../1.safetensors\"}}", UM_FORMAT, elsewhere},
        {"{\"weight_map\":{\"a\":\"./1.safetensors\"}}", UM_FORMAT, elsewhere},
        {"{\"weight_map\":{\"a\":\"sub/1.safetensors\"}}", UM_FORMAT, elsewhere},
        {"{\"weight_map\":{\"a\":\"1.safetensors\\u0000/x\"}}", UM_FORMAT, "invalid JSON"},
        {"{\"weight_map\":{\"a\":\"3.safetensors\"}}", UM_NOT_FOUND,
         "names 3.safetensors (for tensor \"a\"), but there is no such file"},
        {"{\"weight_map\":{\"a\":\"2.safetensors\"}}", UM_FORMAT,
         "tensor \"a\": expected in 2.safetensors, found in no shard"},
        {"{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}", UM_FORMAT,
         "tensor \"b\": expected in 1.safetensors, found in 2.safetensors"},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"z\":\"4.safetensors\"}}", UM_FORMAT,
         "tensor \"a\": expected in one file, found in "},
        {"{\"weight_map\":{\"a\":\"damaged\"}}", UM_FORMAT, "damaged: "},
        {"{\"metadata\":3,\"weight_map\":{\"a\":\"1.safetensors\"}}", UM_FORMAT, "\"metadata\""},
        {"{\"metadata\":{\"total_size\":-1},\"weight_map\":{\"a\":\"1.safetensors\"}}", UM_FORMAT,
         "\"total_size\": expected a number of bytes, found -1"},
        {"{\"metadata\":{\"total_size\":\"1\"},\"weight_map\":{\"a\":\"1.safetensors\"}}",
         UM_FORMAT, "\"total_size\": expected a number of bytes, found \"1\""},
    };
    temp_dir_write_safetensors(dir, "1.safetensors", HEADER_A, 24);
    temp_dir_write_safetensors(dir, "2.safetensors", HEADER_B, 10);
    temp_dir_write_safetensors(dir, "4.safetensors", HEADER_A, 24);
    temp_dir_write_text(dir, "damaged", "12345678901234567890");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        temp_dir_write_text(dir, INDEX, rows[i].json);
        assert_refused(dir->path, rows[i].status, rows[i].part, dir->path);
    }
}

static void test_damaged_shard_is_named(void **state) {
    const temp_dir *dir = *state;
    temp_dir_write_safetensors(dir, "1.safetensors", HEADER_A, 23);
    temp_dir_write_text(dir, INDEX, "{\"weight_map\":{\"a\":\"1.safetensors\"}}");
    assert_refused(dir->path, UM_FORMAT, "1.safetensors: tensor \"a\"", "/1.safetensors");
    temp_dir_write(dir, "1.safetensors", "", 0);
    assert_refused(dir->path, UM_FORMAT, "expected at least 8 bytes, found 0", "/1.safetensors");
}

static void test_no_model(void **state) {
    const temp_dir *dir = *state;
    char path[400];
    assert_refused(dir->path, UM_NOT_FOUND, "expected " INDEX " or " SINGLE ", found neither",
                   dir->path);
    temp_dir_write_text(dir, "pytorch_model.bin", "x");
    assert_refused(dir->path, UM_NOT_FOUND,
                   "found pytorch_model.bin, which this version does not support", dir->path);
    temp_dir_write_text(dir, "llada-q4.gguf", "x");
    assert_refused(dir->path, UM_NOT_FOUND,
                   "found llada-q4.gguf; to run that file, name it instead of its directory",
                   dir->path);
    snprintf(path, sizeof path, "%s/none", dir->path);
    assert_refused(path, UM_NOT_FOUND, "there is no such directory", path);
    snprintf(path, sizeof path, "%s/llada-q4.gguf", dir->path);
    assert_refused(path, UM_NOT_FOUND, "is a file; expected a directory", path);
}

static void test_integers_only_in_single_files(void **state) {
    const temp_dir *dir = *state;
    char path[400];
    temp_dir_write_safetensors(
        dir, SINGLE, "{\"ids\":{\"dtype\":\"I64\",\"shape\":[1,2],\"data_offsets\":[0,16]}}", 16);
    assert_refused(dir->path, UM_UNSUPPORTED,
                   "tensor \"ids\": expected type F32, F16 or BF16, found I64", SINGLE);
    snprintf(path, sizeof path, "%s/" SINGLE, dir->path);
    tensor_catalog *catalog = NULL;
    const tensor *found = NULL;
    um_error err;
    assert_int_equal(tensor_catalog_open_file(path, &catalog, &err), UM_OK);
    assert_int_equal(tensor_catalog_find(catalog, "ids")->type, (dtype)-1);
    assert_int_equal(tensor_catalog_find(catalog, "ids")->n_bytes, 16);
    assert_int_equal(tensor_catalog_require(catalog, "ids", 1, 2, &found, &err), UM_UNSUPPORTED);
    assert_null(found);
    tensor_catalog_close(catalog);
    snprintf(path, sizeof path, "%s/none", dir->path);
    assert_int_equal(tensor_catalog_open_file(path, &catalog, &err), UM_NOT_FOUND);
    assert_string_equal(err.where, path);
    assert_int_equal(tensor_catalog_open_file(dir->path, &catalog, &err), UM_IO);
    assert_null(catalog);
}

static void test_require(void **state) {
    const temp_dir *dir = *state;
    temp_dir_write_safetensors(
        dir, SINGLE,
        "{\"m\":{\"dtype\":\"BF16\",\"shape\":[16,128],\"data_offsets\":[0,4096]},"
        "\"v\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[4096,4108]},"
        "\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[4108,4112]},"
        "\"k\":{\"dtype\":\"F32\",\"shape\":[3,1],\"data_offsets\":[4112,4124]}}",
        4124);
    static const struct {
        const char *name;
        int64_t d0, d1;
        um_status status;
        const char *message;
    } rows[] = {
        {"m", 16, 128, UM_OK, ""},
        {"v", 3, 0, UM_OK, ""},
        {"k", 3, 1, UM_OK, ""},
        {"m", 16, 256, UM_FORMAT, "m: expected shape [16, 256], found [16, 128] in " SINGLE},
        {"m", 128, 16, UM_FORMAT, "m: expected shape [128, 16], found [16, 128] in " SINGLE},
        {"m", 16, 0, UM_FORMAT, "m: expected shape [16], found [16, 128] in " SINGLE},
        {"v", 3, 1, UM_FORMAT, "v: expected shape [3, 1], found [3] in " SINGLE},
        {"k", 3, 0, UM_FORMAT, "k: expected shape [3], found [3, 1] in " SINGLE},
        {"s", 1, 0, UM_FORMAT, "s: expected shape [1], found [] in " SINGLE},
        {"x", 3, 4, UM_NOT_FOUND, "x: expected a tensor of shape [3, 4], found none"},
        {"x", 3, 0, UM_NOT_FOUND, "x: expected a tensor of shape [3], found none"},
    };
    tensor_catalog *catalog = open_well(dir->path);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const tensor *found = NULL;
        um_error err = {0};
        assert_int_equal(
            tensor_catalog_require(catalog, rows[i].name, rows[i].d0, rows[i].d1, &found, &err),
            rows[i].status);
        assert_string_equal(err.message, rows[i].message);
        assert_ptr_equal(found, rows[i].status ? NULL : tensor_catalog_find(catalog, rows[i].name));
    }
    tensor_catalog_close(catalog);
}

/* As many tensors as 20 layers of 256 experts have. */
static void test_many_tensors(void **state) {
    const temp_dir *dir = *state;
    enum { N = 16000 };
    char *header = malloc(N * 80), name[16];
    assert_non_null(header);
    size_t n = 0;
    for (int i = 0; i < N; i++)
        n += (size_t)sprintf(header + n,
                             "%s\"t%d\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                             i ? "," : "{", i * 7919 % N, 2 * i, 2 * i + 2);
    strcpy(header + n, "}");
    temp_dir_write_safetensors(dir, SINGLE, header, 2 * N);
    free(header);
    tensor_catalog *catalog = open_well(dir->path);
    assert_int_equal(tensor_catalog_count(catalog), N);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "t%d", i);
        const tensor *t = tensor_catalog_find(catalog, name);
        assert_non_null(t);
        assert_string_equal(t->name, name);
        if (i)
            assert_true(strcmp(tensor_catalog_at(catalog, i - 1)->name,
                               tensor_catalog_at(catalog, i)->name) < 0);
    }
    tensor_catalog_close(catalog);
}

static void test_survives_failed_allocations(void **state) {
    const temp_dir *dir = *state;
    temp_dir_write_safetensors(dir, "1.safetensors", HEADER_A, 24);
    temp_dir_write_safetensors(dir, "2.safetensors", HEADER_B, 10);
    temp_dir_write_text(dir, INDEX,
                        "{\"weight_map\":{\"b\":\"2.safetensors\",\"a\":\"1.safetensors\"}}");
    for (uint64_t n = 1;; n++) {
        tensor_catalog *catalog = NULL;
        um_error err;
        memory_fault_at(n, 0);
        um_status status = tensor_catalog_open_directory(dir->path, &catalog, &err);
        memory_fault_at(0, 0);
        if (status == UM_OK) {
            assert_true(n > 10);
            tensor_catalog_close(catalog);
            break;
        }
        assert_int_equal(status, UM_NO_MEMORY);
        assert_null(catalog);
    }
}

static void test_demo_model(void **state) {
    (void)state;
    tensor_catalog *catalog = open_well(PROJECT_DIR "/models/demo");
    const tensor *found = NULL;
    um_error err = {0};
    int64_t n_bytes = 0;
    assert_int_equal(tensor_catalog_count(catalog), 425);
    for (int64_t i = 0; i < 425; i++) n_bytes += (int64_t)tensor_catalog_at(catalog, i)->n_bytes;
    assert_int_equal(n_bytes, 31983552); /* the index's total_size */
    assert_int_equal(
        tensor_catalog_require(catalog, "model.word_embeddings.weight", 4096, 256, &found, &err),
        UM_OK);
    assert_int_equal(
        tensor_catalog_require(catalog, "model.layers.1.mlp.gate.weight", 16, 255, &found, &err),
        UM_FORMAT);
    assert_string_equal(err.message,
                        "model.layers.1.mlp.gate.weight: expected shape [16, 255], found [16, 256] "
                        "in model-00001-of-00003.safetensors");
    tensor_catalog_close(catalog);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_single_file),
        CASE(test_empty_catalog),
        CASE(test_shards),
        CASE(test_linked_shard),
        CASE(test_bad_index),
        CASE(test_damaged_shard_is_named),
        CASE(test_no_model),
        CASE(test_integers_only_in_single_files),
        CASE(test_require),
        CASE(test_many_tensors),
        CASE(test_survives_failed_allocations),
        cmocka_unit_test(test_demo_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

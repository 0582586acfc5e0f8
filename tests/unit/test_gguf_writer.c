/* SPDX-License-Identifier: Apache-2.0
 *
 * Written GGUF files: read back by the reader, byte for byte against the format's description,
 * and every way in which writing fails.
 */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "formats/gguf_writer.h"

static char folder[] = "/tmp/test_gguf_writer.XXXXXX";
static char path[64];

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(path);
    return rmdir(folder);
}

/* How many files lie in the folder: nothing may be left over. */
static int count_files(void) {
    int n = 0;
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));) n += entry->d_name[0] != '.';
    closedir(directory);
    return n;
}

enum { N_SMALL = 5, BLOCKS_ROWS = 3 };

/* A value of each type, a vector and a matrix of blocks; with_data false: it ends before the data.
 */
static um_status write_file(bool with_data, um_error *err) {
    static const float small[N_SMALL] = {1, 2, 3, 4, 5};
    const int64_t vector[] = {N_SMALL}, blocks[] = {BLOCKS_ROWS, 32}, empty[] = {2};
    unsigned char bytes[BLOCKS_ROWS * 34];
    gguf_writer *w;
    um_status status;
    TRY(gguf_writer_create(path, &w, err));
    gguf_writer_u32(w, "a.u32", 4000000000u);
    gguf_writer_f32(w, "a.f32", -1.5f);
    gguf_writer_bool(w, "a.bool", true);
    gguf_writer_string(w, "a.text", "na\0me", 5);
    gguf_writer_array(w, "a.texts", GGUF_TYPE_STRING, 2);
    gguf_writer_item_string(w, "x", 1);
    gguf_writer_item_string(w, "", 0);
    gguf_writer_array(w, "a.numbers", GGUF_TYPE_I32, 2);
    gguf_writer_item_i32(w, -7);
    gguf_writer_item_i32(w, 7);
    gguf_writer_array(w, "a.reals", GGUF_TYPE_F32, 1);
    gguf_writer_item_f32(w, 0.25f);
    gguf_writer_tensor(w, "vector", DTYPE_F32, 1, vector);
    gguf_writer_tensor(w, "blocks", DTYPE_Q8_0, 2, blocks);
    gguf_writer_tensor(w, "last", DTYPE_BF16, 1, empty);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)i;
    bytes[1] = bytes[35] = bytes[69] = 0;
    TRY_GOTO(gguf_writer_begin(w, err), cleanup);
    if (with_data) {
        TRY_GOTO(gguf_writer_data(w, small, sizeof small, err), cleanup);
        for (size_t i = 0; i < BLOCKS_ROWS; i++)
            TRY_GOTO(gguf_writer_data(w, bytes + i * 34, 34, err), cleanup);
        TRY_GOTO(gguf_writer_data(w, "abcd", 4, err), cleanup);
    }
    int64_t n_bytes = gguf_writer_file_bytes(w);
    TRY_GOTO(gguf_writer_finish(w, err), cleanup);
    struct stat known;
    assert_int_equal(stat(path, &known), 0);
    assert_int_equal(known.st_size, n_bytes);
cleanup:
    gguf_writer_destroy(w);
    return status;
}

static void test_reads_back(void **state) {
    (void)state;
    um_error err = {.byte_pos = -1};
    file_map map;
    gguf header;
    int64_t integer;
    double real;
    bool is_true;
    const char *text;
    size_t n, at = 0;
    assert_int_equal(write_file(true, &err), UM_OK);
    assert_int_equal(count_files(), 1);
    assert_int_equal(file_map_open(path, &map, &err), UM_OK);
    assert_int_equal(gguf_parse(map.data, map.n_bytes, path, &header, &err), UM_OK);
    assert_int_equal(header.n_values, 7);
    assert_true(gguf_value_int(gguf_find(&header, "a.u32"), &integer) && integer == 4000000000);
    assert_true(gguf_value_real(gguf_find(&header, "a.f32"), &real) && real == -1.5);
    assert_true(gguf_value_bool(gguf_find(&header, "a.bool"), &is_true) && is_true);
    assert_true(gguf_value_string(gguf_find(&header, "a.text"), &text, &n));
    assert_int_equal(n, 5);
    assert_memory_equal(text, "na\0me", 5);
    const gguf_value *texts = gguf_find(&header, "a.texts");
    assert_int_equal(texts->n_items, 2);
    assert_true(gguf_next_string(texts, &at, &text, &n) && n == 1 && *text == 'x');
    assert_true(gguf_next_string(texts, &at, &text, &n) && n == 0);
    assert_true(gguf_item_int(gguf_find(&header, "a.numbers"), 0, &integer) && integer == -7);
    assert_int_equal(header.n_tensors, 3);
    const tensor *vector = &header.tensors[0], *blocks = &header.tensors[1];
    assert_string_equal(vector->name, "vector");
    assert_int_equal(vector->type, DTYPE_F32);
    assert_int_equal(vector->n_items, N_SMALL);
    assert_int_equal(blocks->type, DTYPE_Q8_0);
    assert_int_equal(blocks->shape[0], BLOCKS_ROWS);
    assert_int_equal(blocks->shape[1], 32);
    assert_int_equal(((const unsigned char *)blocks->data)[100], 100);
    assert_memory_equal(header.tensors[2].data, "abcd", 4);
    for (size_t i = 0; i < header.n_tensors; i++)
        assert_int_equal(((const unsigned char *)header.tensors[i].data - map.data) % 32, 0);
    gguf_deinit(&header);
    file_map_close(&map);
}

/* The first bytes, as the format's description has them. */
static void test_bytes(void **state) {
    (void)state;
    static const unsigned char expected[] = {
        'G', 'G', 'U', 'F', 3,   0,   0,   0, 3, 0, 0, 0, 0,    0,    0,
        0,   7,   0,   0,   0,   0,   0,   0, 0, 5, 0, 0, 0,    0,    0,
        0,   0,   'a', '.', 'u', '3', '2', 4, 0, 0, 0, 0, 0x28, 0x6B, 0xEE};
    um_error err = {.byte_pos = -1};
    unsigned char found[sizeof expected];
    assert_int_equal(write_file(true, &err), UM_OK);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(found, 1, sizeof found, file), sizeof found);
    fclose(file);
    assert_memory_equal(found, expected, sizeof found);
}

/* A file that was there stays until the new one is whole, and is left alone by a failure. */
static void test_replaces_whole(void **state) {
    (void)state;
    um_error err = {.byte_pos = -1};
    char *text;
    size_t n;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs("old", file);
    fclose(file);
    assert_int_equal(write_file(false, &err), UM_INTERNAL);
    assert_int_equal(count_files(), 1);
    assert_int_equal(file_read(path, 100, &text, &n, &err), UM_OK);
    assert_string_equal(text, "old");
    memory_free(text);
    assert_int_equal(write_file(true, &err), UM_OK);
    assert_int_equal(count_files(), 1);
}

static void test_too_much_data(void **state) {
    (void)state;
    um_error err = {.byte_pos = -1};
    const int64_t shape[] = {2};
    gguf_writer *w;
    assert_int_equal(gguf_writer_create(path, &w, &err), UM_OK);
    gguf_writer_tensor(w, "t", DTYPE_F32, 1, shape);
    assert_int_equal(gguf_writer_begin(w, &err), UM_OK);
    assert_int_equal(gguf_writer_data(w, "123456789", 9, &err), UM_INTERNAL);
    assert_int_equal(gguf_writer_data(w, "12345678", 8, &err), UM_OK);
    assert_int_equal(gguf_writer_data(w, "1", 1, &err), UM_INTERNAL);
    assert_int_equal(gguf_writer_finish(w, &err), UM_OK);
    gguf_writer_destroy(w);
}

/* A limit of the file's size, as a full disk would be: an error and nothing left. */
static void test_no_room(void **state) {
    (void)state;
    um_error err = {.byte_pos = -1};
    struct rlimit old, small;
    unlink(path);
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 200;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    um_status status = write_file(true, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, UM_IO);
    assert_non_null(strstr(err.message, "cannot write"));
    assert_string_equal(err.where, path);
    assert_int_equal(count_files(), 0);
}

static void test_places(void **state) {
    (void)state;
    um_error err = {.byte_pos = -1};
    gguf_writer *w = NULL;
    assert_int_equal(gguf_writer_create("/nonexistent/model.gguf", &w, &err), UM_IO);
    assert_non_null(strstr(err.message, "/nonexistent/model.gguf: cannot write: No such file"));
    assert_int_equal(gguf_writer_create(folder, &w, &err), UM_IO);
    assert_null(w);
    /* No regular file: written to as it is. */
    assert_int_equal(gguf_writer_create("/dev/full", &w, &err), UM_OK);
    gguf_writer_u32(w, "a", 1);
    um_status status = gguf_writer_begin(w, &err);
    if (status == UM_OK) status = gguf_writer_finish(w, &err);
    assert_int_equal(status, UM_IO);
    gguf_writer_destroy(w);
    assert_int_equal(access("/dev/full", F_OK), 0);
}

/* Each allocation in turn fails: an error, and nothing left. */
static void test_no_memory(void **state) {
    (void)state;
    um_status status = UM_NO_MEMORY;
    unlink(path);
    for (uint64_t n = 1; status != UM_OK; n++) {
        um_error err = {.byte_pos = -1};
        memory_fault_at(n, 0);
        status = write_file(true, &err);
        memory_fault_at(0, 0);
        assert_true(n < 1000);
        if (status == UM_OK) break;
        assert_int_equal(status, UM_NO_MEMORY);
        assert_int_equal(count_files(), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_back),     cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_replaces_whole), cmocka_unit_test(test_too_much_data),
        cmocka_unit_test(test_no_room),        cmocka_unit_test(test_places),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The room that all others stand on: random numbers, memory, strings, files, threads, errors.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/file_map.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/strbuf.h"
#include "base/system_memory.h"
#include "base/threads.h"
#include "support/temp_dir.h"

/* ---- Random numbers ------------------------------------------------------------------------- */

/* Known answers of philox4x32 with 10 rounds: random123's tests/kat_vectors. */
static void test_philox_known_answers(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } rows[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t out[4];
        rng_philox(rows[i].counter, rows[i].key, out);
        assert_memory_equal(out, rows[i].expected, sizeof out);
    }
}

static void test_uniform_is_a_function_of_its_key(void **state) {
    (void)state;
    const rng_key base = {.seed = 1, .request = 2, .position = 3, .step = 4};
    rng_key keys[] = {base, base, base, base, base, base, base};
    keys[1].seed++;
    keys[2].seed += (uint64_t)1 << 32;
    keys[3].request++;
    keys[4].request += (uint64_t)1 << 32;
    keys[5].position++;
    keys[6].step++;
    double pair[2];
    rng_uniform_pair(&base, RNG_PURPOSE_TOKEN, 10, pair);
    assert_true(rng_uniform(&base, RNG_PURPOSE_TOKEN, 10) == pair[0]);
    assert_true(rng_uniform(&base, RNG_PURPOSE_TOKEN, 11) == pair[1]);
    assert_true(pair[0] != pair[1]);
    assert_true(rng_uniform(&base, RNG_PURPOSE_REMASK, 10) != pair[0]);
    assert_true(rng_uniform(&base, RNG_PURPOSE_TOKEN, 12) != pair[0]);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        for (size_t j = 0; j < i; j++)
            assert_true(rng_uniform(&keys[i], RNG_PURPOSE_TOKEN, 10) !=
                        rng_uniform(&keys[j], RNG_PURPOSE_TOKEN, 10));
}

/* Mean, variance and 16 equal bins of 2^16 draws, each within 5 standard deviations. */
static void test_uniform_is_uniform(void **state) {
    (void)state;
    enum { N = 1 << 16, N_BINS = 16 };
    int bins[N_BINS] = {0};
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        rng_key key = {.seed = 42, .request = (uint64_t)(i % 7), .position = (uint32_t)i / 64};
        double u = rng_uniform(&key, RNG_PURPOSE_TEST, (uint32_t)i % 64);
        assert_true(u > 0 && u < 1);
        sum += u;
        squares += u * u;
        bins[(int)(u * N_BINS)]++;
    }
    double mean = sum / N, deviation = sqrt(1.0 / 12 / N);
    assert_true(fabs(mean - 0.5) < 5 * deviation);
    assert_true(fabs(squares / N - 1.0 / 3) < 5 * sqrt(4.0 / 45 / N));
    for (int i = 0; i < N_BINS; i++)
        assert_true(fabs(bins[i] - (double)N / N_BINS) <
                    5 * sqrt((double)N / N_BINS * (1 - 1.0 / N_BINS)));
}

/* ---- Memory --------------------------------------------------------------------------------- */

static void test_memory_sizes(void **state) {
    (void)state;
    void *zero[] = {memory_alloc(0), memory_calloc(0, 4), memory_alloc_array(4, 0),
                    memory_realloc_array(NULL, 0, 1), memory_alloc_aligned(64, 0)};
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++) {
        assert_non_null(zero[i]);
        memory_free(zero[i]);
    }
    assert_null(memory_alloc_array(SIZE_MAX / 2, 3));
    assert_null(memory_realloc_array(NULL, SIZE_MAX / 2, 3));
    assert_null(memory_alloc_aligned(64, SIZE_MAX - 3));
    assert_null(memory_copy_string("", SIZE_MAX));
    memory_free(NULL);
    unsigned char *aligned = memory_alloc_aligned(4096, 10);
    assert_int_equal((uintptr_t)aligned % 4096, 0);
    memory_free(aligned);
    char *copy = memory_copy_string("abcdef", 3);
    assert_string_equal(copy, "abc");
    memory_free(copy);
}

static void test_memory_grows(void **state) {
    (void)state;
    int *items = NULL;
    size_t capacity = 0;
    for (size_t n = 0; n < 1000; n++) {
        assert_int_equal(memory_grow(&items, &capacity, n, sizeof *items), 0);
        assert_true(capacity > n);
        items[n] = (int)n;
    }
    for (int i = 0; i < 1000; i++) assert_int_equal(items[i], i);
    int *before = items;
    size_t capacity_before = capacity;
    memory_fault_at(1, 0);
    assert_int_equal(memory_grow(&items, &capacity, capacity, sizeof *items), -1);
    memory_fault_at(0, 0);
    assert_ptr_equal(items, before);
    assert_int_equal(capacity, capacity_before);
    memory_free(items);
}

static void test_memory_faults(void **state) {
    (void)state;
    for (int is_sticky = 0; is_sticky < 2; is_sticky++) {
        memory_fault_at(3, is_sticky);
        void *blocks[5];
        for (int i = 0; i < 5; i++) blocks[i] = memory_alloc(8);
        assert_int_equal(memory_fault_count(), 5);
        memory_fault_at(0, 0);
        for (int i = 0; i < 5; i++) {
            int must_fail = i == 2 || (is_sticky && i > 2);
            assert_int_equal(blocks[i] == NULL, must_fail);
            memory_free(blocks[i]);
        }
    }
    void *block = memory_alloc(8);
    assert_non_null(block);
    memory_free(block);
}

static void test_arena(void **state) {
    (void)state;
    arena a;
    um_error err;
    arena_init(&a);
    assert_null(arena_alloc(&a, 1, 1));
    assert_int_equal(arena_bytes(0, 8), 0);
    assert_int_equal(arena_bytes(1, 1), 64);
    assert_int_equal(arena_bytes(8, 8), 64);
    assert_int_equal(arena_bytes(9, 8), 128);
    assert_true(arena_bytes(SIZE_MAX / 2, 3) == SIZE_MAX);
    assert_true(arena_bytes(SIZE_MAX, 1) == SIZE_MAX);
    size_t n_bytes = arena_bytes(3, 4) + arena_bytes(100, 1);
    assert_int_equal(arena_reserve(&a, n_bytes, &err), UM_OK);
    unsigned char *first = arena_alloc(&a, 3, 4), *second = arena_alloc(&a, 100, 1);
    assert_int_equal((uintptr_t)first % 64, 0);
    assert_ptr_equal(second, first + 64);
    memset(first, 1, 12);
    memset(second, 2, 100);
    assert_null(arena_alloc(&a, 1, 1));
    assert_null(arena_alloc(&a, SIZE_MAX / 2, 3));
    arena_reset(&a);
    assert_ptr_equal(arena_alloc(&a, 3, 4), first);
    /* A smaller wish keeps the block; a larger one that fails keeps it as well. */
    assert_int_equal(arena_reserve(&a, 64, &err), UM_OK);
    assert_ptr_equal(arena_alloc(&a, 1, 1), first);
    memory_fault_at(1, 0);
    assert_int_equal(arena_reserve(&a, 10 * n_bytes, &err), UM_NO_MEMORY);
    memory_fault_at(0, 0);
    assert_ptr_equal(arena_alloc(&a, 1, 1), first);
    arena_deinit(&a);
    arena_deinit(&a);
}

/* ---- Strings, files, errors ----------------------------------------------------------------- */

static void test_strbuf(void **state) {
    (void)state;
    strbuf buf;
    size_t n;
    strbuf_init(&buf);
    strbuf_append_string(&buf, "ab");
    strbuf_append_char(&buf, '\0');
    strbuf_append(&buf, "cdef", 2);
    strbuf_append_format(&buf, "%d-%s", 42, "x");
    strbuf_append(&buf, NULL, 0);
    char *text = strbuf_take(&buf, &n);
    assert_int_equal(n, 9);
    assert_memory_equal(text, "ab\0cd42-x", 10);
    memory_free(text);
    assert_null(buf.data);
    for (int i = 0; i < 10000; i++) strbuf_append_format(&buf, "%04d", i);
    assert_int_equal(buf.n_bytes, 40000);
    assert_int_equal(strlen(buf.data), 40000);
    assert_memory_equal(buf.data + 4 * 1234, "1234", 4);
    strbuf_deinit(&buf);
    text = strbuf_take(&buf, NULL); /* of an empty buffer: an empty string */
    assert_string_equal(text, "");
    memory_free(text);
    static const struct {
        unsigned codepoint;
        const char *utf8;
    } rows[] = {{0x41, "A"},
                {0x7F, "\x7F"},
                {0x80, "\xC2\x80"},
                {0x7FF, "\xDF\xBF"},
                {0x800, "\xE0\xA0\x80"},
                {0xFFFF, "\xEF\xBF\xBF"},
                {0x10000, "\xF0\x90\x80\x80"},
                {0x10FFFF, "\xF4\x8F\xBF\xBF"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        strbuf_append_codepoint(&buf, rows[i].codepoint);
        assert_string_equal(buf.data, rows[i].utf8);
        strbuf_deinit(&buf);
    }
}

static void test_strbuf_failure_sticks(void **state) {
    (void)state;
    strbuf buf;
    strbuf_init(&buf);
    strbuf_append_string(&buf, "abc");
    memory_fault_at(1, 0);
    for (int i = 0; i < 100; i++) strbuf_append_string(&buf, "0123456789");
    memory_fault_at(0, 0);
    assert_true(buf.has_failed);
    assert_null(strbuf_take(&buf, NULL));
    assert_false(buf.has_failed); /* the buffer can be used again */
    buf.limit = 5;
    strbuf_append_string(&buf, "12345");
    assert_false(buf.has_failed);
    strbuf_append_char(&buf, '6');
    assert_true(buf.has_failed);
    assert_string_equal(buf.data, "12345");
    assert_null(strbuf_take(&buf, NULL));
}

static void test_errors(void **state) {
    (void)state;
    um_error err;
    assert_int_equal(um_error_set(&err, UM_FORMAT, "expected %d", 3), UM_FORMAT);
    assert_string_equal(err.message, "expected 3");
    assert_string_equal(err.where, "");
    assert_true(err.byte_pos == -1);
    assert_int_equal(um_error_at(&err, "file", 7), UM_FORMAT);
    assert_int_equal(um_error_at(&err, "other", 8), UM_FORMAT);
    assert_string_equal(err.where, "file");
    assert_int_equal(err.byte_pos, 7);
    /* An argument may be the old message; a long one is cut. */
    assert_int_equal(um_error_set(&err, UM_IO, "again: %s", err.message), UM_IO);
    assert_string_equal(err.message, "again: expected 3");
    assert_int_equal(um_error_set(&err, UM_IO, "%2000d", 1), UM_IO);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_int_equal(um_error_set(NULL, UM_IO, "nobody listens"), UM_IO);
    assert_int_equal(um_error_at(NULL, "x", 1), UM_OK);
    assert_string_equal(um_status_name(UM_NO_MEMORY), "UM_NO_MEMORY");
    assert_string_equal(um_status_name((um_status)99), "UM_UNKNOWN");
    assert_string_equal(um_status_sentence(UM_OK), "done");
    assert_non_null(um_status_sentence((um_status)99));
    assert_string_equal(um_version(), "0.1.0");
}

static void test_files(void **state) {
    (void)state;
    temp_dir dir;
    um_error err;
    file_map map;
    char *text = NULL;
    size_t n_bytes;
    temp_dir_create(&dir);
    temp_dir_write_text(&dir, "five", "12345");
    temp_dir_write_text(&dir, "empty", "");
    char *five = file_path_join(dir.path, "five"), *empty = file_path_join(dir.path, "empty");
    char *none = file_path_join(dir.path, "none");
    assert_true(file_exists(five));
    assert_false(file_exists(none));
    assert_false(file_exists(dir.path));
    assert_int_equal(file_map_open(five, &map, &err), UM_OK);
    assert_int_equal(map.n_bytes, 5);
    assert_memory_equal(map.data, "12345", 5);
    file_map_close(&map);
    assert_null(map.data);
    file_map_close(&map);
    assert_int_equal(file_map_open(empty, &map, &err), UM_OK);
    assert_int_equal(map.n_bytes, 0);
    assert_null(map.data);
    file_map_close(&map);
    assert_int_equal(file_map_open(none, &map, &err), UM_NOT_FOUND);
    assert_string_equal(err.where, none);
    file_map_close(&map);
    assert_int_equal(file_map_open(dir.path, &map, &err), UM_IO);
    assert_int_equal(file_read(five, 5, &text, &n_bytes, &err), UM_OK);
    assert_int_equal(n_bytes, 5);
    assert_string_equal(text, "12345");
    memory_free(text);
    assert_int_equal(file_read(empty, 5, &text, &n_bytes, &err), UM_OK);
    assert_string_equal(text, "");
    memory_free(text);
    assert_int_equal(file_read(five, 4, &text, &n_bytes, &err), UM_FORMAT);
    assert_int_equal(file_read(none, 4, &text, &n_bytes, &err), UM_NOT_FOUND);
    assert_int_equal(file_read(dir.path, 4, &text, &n_bytes, &err), UM_IO);
    memory_fault_at(1, 0);
    assert_int_equal(file_read(five, 5, &text, &n_bytes, &err), UM_NO_MEMORY);
    memory_fault_at(1, 0);
    assert_null(file_path_join("a", "b"));
    memory_fault_at(0, 0);
    memory_free(five);
    memory_free(empty);
    memory_free(none);
    static const char *const joined[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/a//", "b", "/a/b"}, {"/", "b", "//b"}};
    for (size_t i = 0; i < sizeof joined / sizeof *joined; i++) {
        char *path = file_path_join(joined[i][0], joined[i][1]);
        assert_string_equal(path, joined[i][2]);
        memory_free(path);
    }
    temp_dir_destroy(&dir);
}

static void test_clock_and_system(void **state) {
    (void)state;
    int64_t before = clock_now_ns();
    for (int i = 0; i < 1000; i++) {
        int64_t now = clock_now_ns();
        assert_true(now >= before);
        before = now;
    }
    assert_true(system_memory_bytes() > 1 << 20);
    assert_true(threads_available() >= 1);
}

/* ---- Threads -------------------------------------------------------------------------------- */

enum { N_TASKS_MAX = 257 };

typedef struct tally {
    atomic_int runs[N_TASKS_MAX];
    atomic_int busy[64]; /* by worker: two tasks must never share one */
    atomic_int n_wrong;
    int n_workers;
} tally;

static void count_task(void *context, int i_task, int i_worker) {
    tally *t = context;
    if (i_worker < 0 || i_worker >= t->n_workers) {
        atomic_fetch_add(&t->n_wrong, 1);
        return;
    }
    if (atomic_fetch_add(&t->busy[i_worker], 1) != 0) atomic_fetch_add(&t->n_wrong, 1);
    atomic_fetch_add(&t->runs[i_task], 1);
    atomic_fetch_sub(&t->busy[i_worker], 1);
}

static void run_and_check(thread_pool *pool, tally *t, int n_tasks) {
    memset(t->runs, 0, sizeof t->runs);
    thread_pool_run(pool, count_task, t, n_tasks);
    for (int i = 0; i < N_TASKS_MAX; i++)
        if (atomic_load(&t->runs[i]) != (i < n_tasks))
            fail_msg("task %d of %d ran %d times", i, n_tasks, atomic_load(&t->runs[i]));
    assert_int_equal(atomic_load(&t->n_wrong), 0);
}

static void test_threads_run_each_task_once(void **state) {
    (void)state;
    static const int sizes[] = {1, 2, 3, 8};
    static const int n_tasks[] = {0, 1, 2, 3, 7, 64, N_TASKS_MAX};
    tally *t = calloc(1, sizeof *t);
    assert_non_null(t);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        thread_pool *pool = NULL;
        um_error err;
        assert_int_equal(thread_pool_create(sizes[i], &pool, &err), UM_OK);
        assert_int_equal(thread_pool_size(pool), sizes[i]);
        t->n_workers = sizes[i];
        for (int run = 0; run < 3000; run++)
            run_and_check(pool, t, n_tasks[run % (int)(sizeof n_tasks / sizeof *n_tasks)]);
        thread_pool_destroy(pool);
    }
    t->n_workers = 1;
    assert_int_equal(thread_pool_size(NULL), 1);
    run_and_check(NULL, t, 5);
    free(t);
}

/* Long enough apart that the workers sleep between runs. */
static void test_threads_wake_up(void **state) {
    (void)state;
    tally *t = calloc(1, sizeof *t);
    thread_pool *pool = NULL;
    um_error err;
    assert_non_null(t);
    assert_int_equal(thread_pool_create(4, &pool, &err), UM_OK);
    t->n_workers = 4;
    for (int run = 0; run < 50; run++) {
        int64_t start = clock_now_ns();
        while (clock_now_ns() - start < 200000) continue;
        run_and_check(pool, t, 16);
    }
    thread_pool_destroy(pool);
    free(t);
}

static void test_mapped_memory(void **state) {
    (void)state;
    const size_t n_bytes = (4 << 20) + 100;
    unsigned char *memory = memory_map(n_bytes);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % (2 << 20), 0);
    for (size_t i = 0; i < n_bytes; i++) assert_int_equal(memory[i], 0);
    memset(memory, 1, n_bytes);
    memory_unmap(memory, n_bytes);
    memory_unmap(NULL, n_bytes);
    memory_fault_at(1, 0);
    assert_null(memory_map(n_bytes));
    memory_fault_at(0, 0);
    assert_null(memory_map(SIZE_MAX));
}

static void test_threads_create_and_fail(void **state) {
    (void)state;
    thread_pool *pool = NULL;
    um_error err;
    assert_int_equal(thread_pool_create(-1, &pool, &err), UM_INVALID);
    assert_int_equal(thread_pool_create(1000000, &pool, &err), UM_INVALID);
    for (uint64_t n = 1; n <= 2; n++) {
        memory_fault_at(n, 0);
        assert_int_equal(thread_pool_create(2, &pool, &err), UM_NO_MEMORY);
        memory_fault_at(0, 0);
        assert_null(pool);
    }
    assert_int_equal(thread_pool_create(0, &pool, &err), UM_OK);
    assert_int_equal(thread_pool_size(pool), threads_available());
    thread_pool_destroy(pool);
    for (int i = 0; i < 100; i++) { /* pools that never run */
        assert_int_equal(thread_pool_create(3, &pool, &err), UM_OK);
        thread_pool_destroy(pool);
    }
    thread_pool_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_uniform_is_a_function_of_its_key),
        cmocka_unit_test(test_uniform_is_uniform),
        cmocka_unit_test(test_memory_sizes),
        cmocka_unit_test(test_memory_grows),
        cmocka_unit_test(test_memory_faults),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_strbuf),
        cmocka_unit_test(test_strbuf_failure_sticks),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_clock_and_system),
        cmocka_unit_test(test_threads_run_each_task_once),
        cmocka_unit_test(test_threads_wake_up),
        cmocka_unit_test(test_mapped_memory),
        cmocka_unit_test(test_threads_create_and_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages: all or none, never twice, back in full; frozen positions are not writable.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "cache/page_pool.h"

enum { N_PAGES = 8, N_LAYERS = 3, N_KV_HEADS = 2, HEAD_DIM = 4 };

static page_pool *make_pool(device **dev) {
    page_pool *pool = NULL;
    assert_int_equal(device_open("cpu", 1, dev, NULL), UM_OK);
    assert_int_equal(
        page_pool_create(*dev, KV_F32, N_LAYERS, N_KV_HEADS, HEAD_DIM, N_PAGES, &pool, NULL),
        UM_OK);
    assert_true(page_pool_is_consistent(pool));
    return pool;
}

static void test_all_or_none(void **state) {
    (void)state;
    device *dev;
    page_pool *pool = make_pool(&dev);
    page_table a = {0}, b = {0}, c = {0};
    um_error err;
    assert_int_equal(page_table_acquire(pool, 5 * KV_PAGE_LEN - 1, &a, &err), UM_OK);
    assert_int_equal(a.n_pages, 5);
    assert_int_equal(page_pool_free_count(pool), 3);
    /* Four do not fit now; nine never will. Neither takes anything. */
    assert_int_equal(page_table_acquire(pool, 3 * KV_PAGE_LEN + 1, &b, &err), UM_AGAIN);
    assert_int_equal(page_table_acquire(pool, 8 * KV_PAGE_LEN + 1, &b, &err), UM_LIMIT);
    assert_null(b.pages);
    assert_int_equal(page_pool_free_count(pool), 3);
    assert_int_equal(page_table_acquire(pool, 3 * KV_PAGE_LEN, &b, &err), UM_OK);
    assert_true(page_pool_is_consistent(pool));
    for (int i = 0; i < a.n_pages; i++)
        for (int j = 0; j < b.n_pages; j++) assert_int_not_equal(a.pages[i], b.pages[j]);
    assert_int_equal(page_table_acquire(pool, 1, &c, &err), UM_AGAIN);
    page_table_release(pool, &a);
    assert_int_equal(a.n_pages, 0);
    page_table_release(pool, &a); /* an empty table gives nothing back */
    assert_int_equal(page_pool_free_count(pool), 5);
    assert_int_equal(page_table_acquire(pool, 1, &c, &err), UM_OK);
    page_table_release(pool, &c);
    page_table_release(pool, &b);
    assert_int_equal(page_pool_free_count(pool), N_PAGES);
    assert_true(page_pool_is_consistent(pool));
    page_pool_destroy(pool);
    device_close(dev);
}

static void test_failure_takes_nothing(void **state) {
    (void)state;
    device *dev;
    page_pool *pool = make_pool(&dev);
    page_table table = {0};
    um_error err;
    memory_fault_at(1, 0);
    assert_int_equal(page_table_acquire(pool, KV_PAGE_LEN, &table, &err), UM_NO_MEMORY);
    memory_fault_at(0, 0);
    assert_int_equal(page_pool_free_count(pool), N_PAGES);
    assert_true(page_pool_is_consistent(pool));
    page_pool_destroy(pool);
    device_close(dev);
}

static void test_frozen(void **state) {
    (void)state;
    device *dev;
    page_pool *pool = make_pool(&dev);
    page_table table = {0};
    assert_int_equal(page_table_acquire(pool, 2 * KV_PAGE_LEN, &table, NULL), UM_OK);
    assert_true(page_table_is_writable(&table, 0, 2 * KV_PAGE_LEN));
    assert_false(page_table_is_writable(&table, 0, 2 * KV_PAGE_LEN + 1));
    page_table_freeze(&table, 40);
    assert_false(page_table_is_writable(&table, 39, 41));
    assert_true(page_table_is_writable(&table, 40, 2 * KV_PAGE_LEN));
    page_table_release(pool, &table);
    page_pool_destroy(pool);
    device_close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_or_none),
        cmocka_unit_test(test_failure_takes_nothing),
        cmocka_unit_test(test_frozen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

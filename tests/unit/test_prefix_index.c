/* SPDX-License-Identifier: Apache-2.0
 *
 * Beginnings found by their tokens, also where every hash collides; pages kept while a table holds
 * them, taken back leaf by leaf, the least recently used first; the pace that steps are cut by.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "cache/prefix_index.h"
#include "engine/pace.h"

enum { N_PAGES = 12, RUN = KV_PAGE_LEN };

typedef struct fixture {
    device *dev;
    page_pool *pool;
    prefix_index *index;
} fixture;

static fixture open_all(uint64_t hash_mask) {
    fixture f = {0};
    assert_int_equal(device_open("cpu", 1, &f.dev, NULL), UM_OK);
    assert_int_equal(page_pool_create(f.dev, KV_F32, 1, 1, 4, N_PAGES, &f.pool, NULL), UM_OK);
    assert_int_equal(prefix_index_create(f.pool, hash_mask, &f.index, NULL), UM_OK);
    return f;
}

static void check(const fixture *f) {
    assert_true(page_pool_is_consistent(f->pool));
    assert_true(prefix_index_is_consistent(f->index));
}

static void close_all(fixture *f) {
    check(f);
    prefix_index_destroy(f->index);
    assert_true(page_pool_is_consistent(f->pool));
    assert_int_equal(page_pool_idle_count(f->pool), 0);
    assert_int_equal(page_pool_free_count(f->pool), N_PAGES);
    page_pool_destroy(f->pool);
    device_close(f->dev);
}

static void fill(int32_t *tokens, int32_t n, int32_t first) {
    for (int32_t i = 0; i < n; i++) tokens[i] = first + i;
}

/* A table of n runs that start at `first`, all of them in the index. */
static prefix_node *add_path(fixture *f, int32_t first, int n, page_table *table) {
    int32_t tokens[N_PAGES * RUN];
    prefix_node *node = NULL;
    fill(tokens, n * RUN, first);
    assert_int_equal(page_table_acquire(f->pool, n * RUN, table, NULL), UM_OK);
    page_table_freeze(table, n * RUN);
    for (int i = 0; i < n; i++)
        node = prefix_index_add(f->index, node, 7, tokens + i * RUN, RUN, table->pages + i);
    assert_non_null(node);
    return node;
}

static prefix_node *find_path(fixture *f, int32_t first, int n, uint64_t salt) {
    int32_t tokens[N_PAGES * RUN];
    prefix_node *node = NULL;
    fill(tokens, n * RUN, first);
    for (int i = 0; i < n; i++) {
        node = prefix_index_find(f->index, node, salt, tokens + i * RUN, RUN);
        if (!node) return NULL;
    }
    return node;
}

static void test_find(void **state) {
    (void)state;
    static const uint64_t masks[] = {UINT64_MAX, 0, 1};
    for (int i = 0; i < 3; i++) {
        fixture f = open_all(masks[i]);
        page_table a = {0}, b = {0};
        prefix_node *end = add_path(&f, 100, 3, &a), *other = add_path(&f, 5000, 2, &b);
        int32_t tokens[RUN];
        assert_ptr_equal(find_path(&f, 100, 3, 7), end);
        assert_ptr_equal(find_path(&f, 5000, 2, 7), other);
        assert_null(find_path(&f, 100, 4, 7));
        assert_null(find_path(&f, 101, 1, 7)); /* other tokens */
        assert_null(find_path(&f, 100, 1, 8)); /* another salt */
        fill(tokens, RUN, 100 + RUN);
        assert_null(prefix_index_find(f.index, NULL, 7, tokens, RUN));  /* not at the start */
        assert_null(prefix_index_find(f.index, other, 7, tokens, RUN)); /* not behind that one */
        tokens[RUN - 1]++;
        assert_null(prefix_index_find(f.index, find_path(&f, 100, 1, 7), 7, tokens, RUN));
        assert_memory_equal(prefix_node_pages(end), a.pages + 2, sizeof *a.pages);
        page_table_release(f.pool, &a);
        page_table_release(f.pool, &b);
        assert_int_equal(page_pool_idle_count(f.pool), 5);
        assert_int_equal(page_pool_free_count(f.pool), N_PAGES);
        close_all(&f);
    }
}

/* What is in use stays, whatever is asked for; what is idle goes from its ends, oldest use first.
 */
static void test_reclaim(void **state) {
    (void)state;
    fixture f = open_all(UINT64_MAX);
    page_table a = {0}, b = {0}, c = {0}, d = {0};
    prefix_node *used = add_path(&f, 100, 3, &a);
    prefix_node *old = add_path(&f, 5000, 3, &b), *recent = add_path(&f, 9000, 3, &c);
    page_table_release(f.pool, &b);
    page_table_release(f.pool, &c);
    prefix_index_touch(f.index, old);
    prefix_index_touch(f.index, recent);
    (void)used;
    /* 3 free, 6 idle, 3 held. */
    assert_int_equal(page_table_acquire(f.pool, 10 * RUN, &d, NULL), UM_AGAIN);
    assert_int_equal(prefix_index_count(f.index), 9);
    assert_int_equal(page_table_acquire(f.pool, 5 * RUN, &d, NULL), UM_OK);
    check(&f);
    assert_null(find_path(&f, 5000, 2, 7));
    assert_non_null(find_path(&f, 5000, 1, 7));
    assert_non_null(find_path(&f, 9000, 3, 7));
    assert_int_equal(page_table_grow(f.pool, 9 * RUN, &d, NULL), UM_OK);
    check(&f);
    assert_null(find_path(&f, 9000, 1, 7));
    assert_non_null(find_path(&f, 100, 3, 7));
    for (int i = 0; i < d.n_pages; i++)
        for (int j = 0; j < a.n_pages; j++) assert_int_not_equal(d.pages[i], a.pages[j]);
    assert_int_equal(page_table_grow(f.pool, 10 * RUN, &d, NULL), UM_AGAIN);
    page_table_release(f.pool, &d);
    page_table_release(f.pool, &a);
    close_all(&f);
}

static void test_share(void **state) {
    (void)state;
    fixture f = open_all(UINT64_MAX);
    page_table a = {0}, b = {0}, c = {0};
    prefix_node *node = add_path(&f, 100, 1, &a);
    const int32_t *pages = prefix_node_pages(node);
    assert_int_equal(page_table_share(f.pool, pages, 1, &b, NULL), UM_OK);
    assert_int_equal(page_table_grow(f.pool, 3 * RUN, &b, NULL), UM_OK);
    page_table_freeze(&b, RUN);
    assert_false(page_table_is_writable(&b, 0, RUN));
    assert_true(page_table_is_writable(&b, RUN, 3 * RUN));
    /* Another table that computed the same takes the kept page, and its own goes back. */
    assert_int_equal(page_table_acquire(f.pool, RUN, &c, NULL), UM_OK);
    page_table_freeze(&c, RUN);
    assert_int_equal(page_pool_free_count(f.pool), N_PAGES - 4);
    page_table_replace(f.pool, &c, 0, pages[0]);
    assert_int_equal(c.pages[0], a.pages[0]);
    assert_int_equal(page_pool_free_count(f.pool), N_PAGES - 3);
    page_table_release(f.pool, &a);
    page_table_release(f.pool, &b);
    assert_int_equal(page_pool_idle_count(f.pool), 0); /* c holds it */
    page_table_release(f.pool, &c);
    assert_int_equal(page_pool_idle_count(f.pool), 1);
    close_all(&f);
}

/* No memory: nothing is kept, nothing is lost. */
static void test_no_memory(void **state) {
    (void)state;
    fixture f = open_all(UINT64_MAX);
    page_table a = {0}, b = {0};
    int32_t tokens[RUN];
    fill(tokens, RUN, 1);
    assert_int_equal(page_table_acquire(f.pool, RUN, &a, NULL), UM_OK);
    memory_fault_at(1, 0);
    assert_null(prefix_index_add(f.index, NULL, 0, tokens, RUN, a.pages));
    memory_fault_at(0, 0);
    prefix_node *node = prefix_index_add(f.index, NULL, 0, tokens, RUN, a.pages);
    memory_fault_at(1, 0);
    assert_int_equal(page_table_share(f.pool, prefix_node_pages(node), 1, &b, NULL), UM_NO_MEMORY);
    memory_fault_at(1, 0);
    assert_int_equal(page_table_grow(f.pool, 2 * RUN, &a, NULL), UM_NO_MEMORY);
    memory_fault_at(0, 0);
    assert_int_equal(a.n_pages, 1);
    page_table_release(f.pool, &a);
    page_table_release(f.pool, &b);
    close_all(&f);
}

/* Random paths over few pages: counts agree after each, and what is found holds what was put in. */
static void test_random(void **state) {
    (void)state;
    fixture f = open_all(3);
    page_table tables[4] = {{0}};
    for (uint32_t i = 0; i < 4000; i++) {
        rng_key key = {.seed = 5, .position = i};
        page_table *t = &tables[i % 4];
        page_table_release(f.pool, t);
        int32_t first = (int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, 0) * 5) * 1000;
        int n = 1 + (int)(rng_uniform(&key, RNG_PURPOSE_TEST, 1) * 4), n_found = 0;
        int32_t tokens[4 * RUN];
        fill(tokens, n * RUN, first);
        prefix_node *node = NULL, *next;
        while (n_found < n &&
               (next = prefix_index_find(f.index, node, 7, tokens + n_found * RUN, RUN))) {
            node = next;
            assert_int_equal(page_table_share(f.pool, prefix_node_pages(node), 1, t, NULL), UM_OK);
            n_found++;
        }
        if (page_table_grow(f.pool, n * RUN, t, NULL) == UM_OK) {
            page_table_freeze(t, n * RUN);
            for (int j = n_found; j < n; j++)
                node = prefix_index_add(f.index, node, 7, tokens + j * RUN, RUN, t->pages + j);
        }
        if (node) prefix_index_touch(f.index, node);
        check(&f);
    }
    for (int i = 0; i < 4; i++) page_table_release(f.pool, &tables[i]);
    close_all(&f);
}

static void test_pace(void **state) {
    (void)state;
    pace p = {{0}};
    assert_int_equal(pace_rows(&p, 1000000), 0); /* nothing is known */
    pace_learn(&p, 32, 3200000);                 /* 0.1 ms a row */
    assert_int_equal(pace_rows(&p, 10000000), 100);
    pace_learn(&p, 100, 5000000); /* in company 0.05 ms */
    assert_int_equal(pace_rows(&p, 10000000), 200);
    assert_int_equal(pace_rows(&p, 3200000), 64);
    assert_int_equal(pace_rows(&p, 1000000), 10);
    /* A slow moment counts at once, and is forgotten, also where its size is not tried again. */
    pace_learn(&p, 100, 50000000);
    assert_true(pace_rows(&p, 10000000) < 101);
    for (int i = 0; i < 200; i++) pace_learn(&p, 32, 1600000);
    assert_true(pace_rows(&p, 10000000) >= 190);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),   cmocka_unit_test(test_reclaim),
        cmocka_unit_test(test_share),  cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_random), cmocka_unit_test(test_pace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over pages, and writes into them: against float64, with NaN in every slot that no row
 * may see, and the same bits whatever the batch.
 */
#include "kernel_check.h"

enum { N_SEQS = 3, PAGES_EACH = 4, N_PAGES = N_SEQS * PAGES_EACH };

typedef struct scene {
    attention_args args;
    int32_t pages[N_PAGES];
    kv_table tables[N_SEQS];
    int32_t *seq, *end;
    float *q, *out;
    double *expected;
    size_t n_out;
} scene;

/* Slots [0, limit of the sequence) are written with kv_write; all others stay NaN. */
static void fill_cache(device *dev, scene *s, const int32_t *limits) {
    int32_t n_kv = s->args.n_kv_heads, dim = s->args.head_dim;
    size_t n = (size_t)N_PAGES * (size_t)n_kv * KV_PAGE_LEN * (size_t)dim;
    s->args.kv.keys = malloc(n * sizeof(float));
    s->args.kv.values = malloc(n * sizeof(float));
    assert_true(s->args.kv.keys && s->args.kv.values);
    for (size_t i = 0; i < n; i++) s->args.kv.keys[i] = s->args.kv.values[i] = NAN;
    for (int i = 0; i < N_PAGES; i++) s->pages[i] = (i * 5 + 3) % N_PAGES;
    for (int32_t i = 0; i < N_SEQS; i++) {
        s->tables[i] = (kv_table){s->pages + i * PAGES_EACH, PAGES_EACH};
        int32_t positions[PAGES_EACH * KV_PAGE_LEN], seq[PAGES_EACH * KV_PAGE_LEN];
        for (int32_t p = 0; p < limits[i]; p++) {
            positions[p] = limits[i] - 1 - p;
            seq[p] = i;
        }
        size_t numbers = (size_t)limits[i] * (size_t)(n_kv * dim);
        float *k = check_floats(numbers, 1.0f, 41 + (uint64_t)i);
        float *v = check_floats(numbers, 1.0f, 51 + (uint64_t)i);
        assert_int_equal(dev->ops->kv_write(dev, &s->args.kv, k, v, seq, positions, s->tables,
                                            limits[i], n_kv, dim),
                         UM_OK);
        free(k);
        free(v);
    }
}

static void reference(scene *s) {
    const attention_args *a = &s->args;
    int32_t group = a->n_heads / a->n_kv_heads;
    for (int32_t r = 0; r < a->n_rows; r++)
        for (int32_t h = 0; h < a->n_heads; h++) {
            size_t at = ((size_t)r * (size_t)a->n_heads + (size_t)h) * (size_t)a->head_dim;
            double weights[PAGES_EACH * KV_PAGE_LEN], max = -INFINITY, total = 0.0;
            const kv_table *table = &a->tables[a->seq[r]];
            for (int32_t d = 0; d < a->head_dim; d++) s->expected[at + (size_t)d] = 0.0;
            for (int pass = 0; pass < 2; pass++)
                for (int32_t p = 0; p < a->visible_end[r]; p++) {
                    size_t page = (size_t)table->pages[p / KV_PAGE_LEN];
                    size_t base = (page * (size_t)a->n_kv_heads + (size_t)(h / group)) *
                                  (size_t)(a->head_dim * KV_PAGE_LEN);
                    int32_t slot = p % KV_PAGE_LEN;
                    if (pass == 0) {
                        weights[p] = 0.0;
                        for (int32_t d = 0; d < a->head_dim; d++)
                            weights[p] +=
                                (double)a->q[at + (size_t)d] *
                                (double)a->kv.keys[base + (size_t)(d * KV_PAGE_LEN + slot)];
                        weights[p] *= (double)a->scale;
                        max = weights[p] > max ? weights[p] : max;
                    } else {
                        double e = exp(weights[p] - max);
                        total += e;
                        for (int32_t d = 0; d < a->head_dim; d++)
                            s->expected[at + (size_t)d] +=
                                e * (double)a->kv.values[base + (size_t)(slot * a->head_dim + d)];
                    }
                }
            for (int32_t d = 0; d < a->head_dim && total > 0.0; d++)
                s->expected[at + (size_t)d] /= total;
        }
}

static void make_scene(device *dev, scene *s, int32_t n_heads, int32_t n_kv, int32_t dim) {
    enum { ROWS = 33 };
    static const int32_t limits[N_SEQS] = {1, 45, 128};
    *s = (scene){.args = {.n_rows = ROWS,
                          .n_heads = n_heads,
                          .n_kv_heads = n_kv,
                          .head_dim = dim,
                          .scale = 2.0f / sqrtf((float)dim)}};
    fill_cache(dev, s, limits);
    s->n_out = (size_t)ROWS * (size_t)(n_heads * dim);
    s->seq = malloc(ROWS * sizeof *s->seq);
    s->end = malloc(ROWS * sizeof *s->end);
    s->q = check_floats(s->n_out, 3.0f, 61);
    s->out = check_floats(s->n_out, 3.0f, 67);
    s->expected = malloc(s->n_out * sizeof *s->expected);
    assert_true(s->seq && s->end && s->expected);
    for (int32_t r = 0; r < ROWS; r++) {
        s->seq[r] = r < 3 ? 0 : r < 20 ? 1 : 2;
        s->end[r] = r == 1 || r == 30 ? 0 : r == 12 ? 17 : limits[s->seq[r]];
        if (r == 25) s->end[r] = 32;
        if (r > 27 && r < 30) s->end[r] = 97;
    }
    s->args.q = s->q;
    s->args.out = s->out;
    s->args.seq = s->seq;
    s->args.visible_end = s->end;
    s->args.tables = s->tables;
}

static void free_scene(scene *s) {
    free(s->args.kv.keys);
    free(s->args.kv.values);
    free(s->seq);
    free(s->end);
    free(s->q);
    free(s->out);
    free(s->expected);
}

static void run_attention(device *dev, const attention_args *args) {
    void *scratch = check_scratch(dev->ops->attention_scratch(dev, args));
    assert_int_equal(dev->ops->attention(dev, args, scratch), UM_OK);
    free(scratch);
}

static void attention_is_right(void **state) {
    (void)state;
    static const int32_t shapes[][3] = {{1, 1, 1},   {2, 2, 16}, {4, 2, 20}, {6, 1, 24}, {3, 3, 32},
                                        {12, 1, 33}, {8, 2, 64}, {5, 5, 72}, {7, 7, 128}};
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 2);
        if (!dev) continue;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            scene s;
            make_scene(dev, &s, shapes[i][0], shapes[i][1], shapes[i][2]);
            reference(&s);
            run_attention(dev, &s.args);
            check_close("attention", dev->tier, s.out, s.expected, s.n_out, 1e-12);
            free_scene(&s);
        }
        device_close(dev);
    }
}

static void attention_is_batch_invariant(void **state) {
    (void)state;
    for (int t = 0; t < N_TIERS; t++) {
        float *first = NULL;
        size_t bytes = 0;
        for (int threads = 1; threads <= 3; threads++) {
            device *dev = check_open(check_tier(t), threads);
            if (!dev) continue;
            scene s;
            make_scene(dev, &s, 6, 2, 40);
            run_attention(dev, &s.args);
            bytes = s.n_out * sizeof *s.out;
            if (threads == 1) {
                first = malloc(bytes);
                assert_non_null(first);
                memcpy(first, s.out, bytes);
            }
            check_same_bits("threads", dev->tier, first, s.out, bytes);
            /* Each row alone. */
            int32_t n_rows = s.args.n_rows;
            for (int32_t r = 0; r < n_rows; r++) {
                attention_args one = s.args;
                one.n_rows = 1;
                one.q += r * 240;
                one.out += r * 240;
                one.seq += r;
                one.visible_end += r;
                run_attention(dev, &one);
            }
            check_same_bits("rows alone", dev->tier, first, s.out, bytes);
            free_scene(&s);
            device_close(dev);
        }
        free(first);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(attention_is_right),
                                       cmocka_unit_test(attention_is_batch_invariant)};
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over pages, and writes into them, for each type of cache: against float64 over numbers
 * that the test itself rounds, with NaN in every slot that no row may see, and the same bits
 * whatever the batch, the threads and the order of the rows.
 */
#include "kernel_check.h"

enum { N_SEQS = 3, N_TYPES = 3, ROWS = 33 };

static const char *const type_names[N_TYPES] = {"f32", "bf16", "int8"};

/* Positions that each sequence has, and the pages that hold them: no page of one is next to its
 * others. */
typedef struct extent {
    int32_t limits[N_SEQS], pages_each;
} extent;

static const extent short_extent = {{1, 45, 128}, 4};
static const extent long_extent = {{1, 1030, 2090}, 66}; /* two and three splits */

typedef struct scene {
    attention_args args;
    extent size;
    size_t part_bytes; /* of keys, or values */
    int32_t *pages, *seq, *end;
    kv_table tables[N_SEQS];
    float *k[N_SEQS], *v[N_SEQS]; /* [limit, n_kv_heads, head_dim] as they went in */
    float *q, *out;
    size_t n_out;
} scene;

/* ---- The scene ------------------------------------------------------------------------------- */

static size_t row_numbers(const scene *s) {
    return (size_t)(s->args.n_kv_heads * s->args.head_dim);
}

/* Writes positions [first, end) of a sequence, the last one first. */
static void write_positions(device *dev, scene *s, int32_t i_seq, int32_t first, int32_t end) {
    size_t n = (size_t)(end - first), width = row_numbers(s);
    int32_t *positions = malloc(n * sizeof *positions), *seq = malloc(n * sizeof *seq);
    float *k = malloc(n * width * sizeof *k), *v = malloc(n * width * sizeof *v);
    assert_true(positions && seq && k && v);
    for (size_t i = 0; i < n; i++) {
        positions[i] = end - 1 - (int32_t)i;
        seq[i] = i_seq;
        memcpy(k + i * width, s->k[i_seq] + (size_t)positions[i] * width, width * sizeof *k);
        memcpy(v + i * width, s->v[i_seq] + (size_t)positions[i] * width, width * sizeof *v);
    }
    assert_int_equal(dev->ops->kv_write(dev, &s->args.kv, k, v, seq, positions, s->tables,
                                        (int32_t)n, s->args.n_kv_heads, s->args.head_dim),
                     UM_OK);
    free(v);
    free(k);
    free(seq);
    free(positions);
}

/* All bits set: NaN in float32 and bfloat16, and for the scales of int8. */
static void make_cache(device *dev, scene *s) {
    int32_t n_pages = N_SEQS * s->size.pages_each;
    s->part_bytes = kv_part_bytes(s->args.kv.type, s->args.head_dim) * (size_t)n_pages *
                    (size_t)s->args.n_kv_heads;
    s->args.kv.keys = malloc(s->part_bytes);
    s->args.kv.values = malloc(s->part_bytes);
    s->pages = malloc((size_t)n_pages * sizeof *s->pages);
    assert_true(s->args.kv.keys && s->args.kv.values && s->pages);
    memset(s->args.kv.keys, 0xFF, s->part_bytes);
    memset(s->args.kv.values, 0xFF, s->part_bytes);
    for (int32_t i = 0; i < n_pages; i++) s->pages[i] = (i * 5 + 3) % n_pages;
    for (int32_t i = 0; i < N_SEQS; i++) {
        size_t n = (size_t)s->size.limits[i] * row_numbers(s);
        s->tables[i] = (kv_table){s->pages + i * s->size.pages_each, s->size.pages_each};
        s->k[i] = check_floats(n, 1.0f, 41 + (uint64_t)i);
        s->v[i] = check_floats(n, 1.0f, 51 + (uint64_t)i);
        write_positions(dev, s, i, 0, s->size.limits[i]);
    }
}

static void make_scene(device *dev, scene *s, const extent *size, kv_type type, int32_t n_heads,
                       int32_t n_kv, int32_t dim) {
    *s = (scene){.size = *size,
                 .args = {.n_rows = ROWS,
                          .n_keys_max = size->limits[N_SEQS - 1],
                          .n_heads = n_heads,
                          .n_kv_heads = n_kv,
                          .head_dim = dim,
                          .kv = {.type = type},
                          .scale = 2.0f / sqrtf((float)dim)}};
    make_cache(dev, s);
    s->n_out = (size_t)ROWS * (size_t)(n_heads * dim);
    s->seq = malloc(ROWS * sizeof *s->seq);
    s->end = malloc(ROWS * sizeof *s->end);
    s->q = check_floats(s->n_out, 3.0f, 61);
    s->out = check_floats(s->n_out, 3.0f, 67);
    assert_true(s->seq && s->end);
    for (int32_t r = 0; r < ROWS; r++) {
        s->seq[r] = r < 3 ? 0 : r < 20 ? 1 : 2;
        s->end[r] = r == 1 || r == 30 ? 0 : r == 12 ? 17 : size->limits[s->seq[r]];
        if (r == 25) s->end[r] = 32;
        if (r > 27 && r < 30) s->end[r] = 97;
        if (r == 26 && size->limits[2] > 1024) s->end[r] = 1024;
    }
    s->args.q = s->q;
    s->args.out = s->out;
    s->args.seq = s->seq;
    s->args.visible_end = s->end;
    s->args.tables = s->tables;
}

static void free_scene(scene *s) {
    for (int i = 0; i < N_SEQS; i++) {
        free(s->k[i]);
        free(s->v[i]);
    }
    free(s->args.kv.keys);
    free(s->args.kv.values);
    free(s->pages);
    free(s->seq);
    free(s->end);
    free(s->q);
    free(s->out);
}

static void run_attention(device *dev, const attention_args *args) {
    void *scratch = check_scratch(dev->ops->attention_scratch(dev, args));
    assert_int_equal(dev->ops->attention(dev, args, scratch), UM_OK);
    free(scratch);
}

/* ---- Against float64 ------------------------------------------------------------------------- */

/* x [n] as the cache is to hold it. */
static void round_row(kv_type type, const float *x, int32_t n, double *out) {
    float max = 0.0f;
    for (int32_t d = 0; d < n; d++) max = fabsf(x[d]) > max ? fabsf(x[d]) : max;
    for (int32_t d = 0; d < n; d++) {
        int exponent;
        frexpf(x[d], &exponent);
        if (type == KV_F32) out[d] = (double)x[d];
        if (type == KV_BF16) /* eight bits */
            out[d] = ldexp(nearbyint(ldexp((double)x[d], 8 - exponent)), exponent - 8);
        if (type == KV_INT8)
            out[d] = nearbyint((double)(x[d] * (1.0f / (max / 127.0f)))) * (double)(max / 127.0f);
    }
}

/* One head of one row. */
static void reference(const scene *s, int32_t row, int32_t head, double *out) {
    const attention_args *a = &s->args;
    int32_t dim = a->head_dim, i_seq = a->seq[row], n = a->visible_end[row];
    size_t kv_head = (size_t)(head / (a->n_heads / a->n_kv_heads));
    const float *q = a->q + ((size_t)row * (size_t)a->n_heads + (size_t)head) * (size_t)dim;
    double *weights = malloc((size_t)(n + 1) * sizeof *weights), numbers[128];
    double max = -INFINITY, total = 0.0;
    assert_non_null(weights);
    for (int32_t p = 0; p < n; p++) {
        size_t at = (size_t)p * row_numbers(s) + kv_head * (size_t)dim;
        round_row(a->kv.type, s->k[i_seq] + at, dim, numbers);
        weights[p] = 0.0;
        for (int32_t d = 0; d < dim; d++) weights[p] += (double)q[d] * numbers[d];
        weights[p] *= (double)a->scale;
        max = weights[p] > max ? weights[p] : max;
    }
    for (int32_t d = 0; d < dim; d++) out[d] = 0.0;
    for (int32_t p = 0; p < n; p++) {
        size_t at = (size_t)p * row_numbers(s) + kv_head * (size_t)dim;
        double e = exp(weights[p] - max);
        round_row(a->kv.type, s->v[i_seq] + at, dim, numbers);
        total += e;
        for (int32_t d = 0; d < dim; d++) out[d] += e * numbers[d];
    }
    for (int32_t d = 0; d < dim && n > 0; d++) out[d] /= total;
    free(weights);
}

static void check_scene(device *dev, const extent *size, kv_type type, const int32_t shape[3],
                        double limit) {
    char what[128];
    scene s;
    make_scene(dev, &s, size, type, shape[0], shape[1], shape[2]);
    double *expected = malloc(s.n_out * sizeof *expected);
    assert_non_null(expected);
    for (int32_t r = 0; r < ROWS; r++)
        for (int32_t h = 0; h < shape[0]; h++)
            reference(&s, r, h, expected + (r * shape[0] + h) * shape[2]);
    run_attention(dev, &s.args);
    snprintf(what, sizeof what, "attention %s, %d/%d heads of %d, %d positions", type_names[type],
             shape[0], shape[1], shape[2], size->limits[N_SEQS - 1]);
    check_close(what, dev->tier, s.out, expected, s.n_out, limit);
    free(expected);
    free_scene(&s);
}

static void attention_is_right(void **state) {
    (void)state;
    static const int32_t shapes[][3] = {{1, 1, 1},   {2, 2, 7},  {4, 2, 20}, {6, 1, 24}, {3, 3, 32},
                                        {12, 1, 33}, {8, 2, 64}, {5, 5, 80}, {7, 7, 128}};
    static const int32_t long_shapes[][3] = {{2, 2, 20}, {4, 1, 64}};
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 2);
        if (!dev) continue;
        for (int type = 0; type < N_TYPES; type++) {
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
                check_scene(dev, &short_extent, (kv_type)type, shapes[i], 1e-12);
            for (size_t i = 0; i < sizeof long_shapes / sizeof *long_shapes - TEST_IS_SAMPLED; i++)
                check_scene(dev, &long_extent, (kv_type)type, long_shapes[i], 1e-12);
        }
        device_close(dev);
    }
}

/* ---- The same bits --------------------------------------------------------------------------- */

/* The rows of a scene one by one, or all of them from the last to the first. */
static void run_apart(device *dev, scene *s) {
    size_t width = (size_t)(s->args.n_heads * s->args.head_dim);
    for (int32_t r = 0; r < ROWS; r++) {
        attention_args one = s->args;
        one.n_rows = 1;
        one.q += (size_t)r * width;
        one.out += (size_t)r * width;
        one.seq += r;
        one.visible_end += r;
        run_attention(dev, &one);
    }
}

static void run_reversed(device *dev, scene *s) {
    size_t width = (size_t)(s->args.n_heads * s->args.head_dim);
    int32_t seq[ROWS], end[ROWS];
    float *q = malloc(s->n_out * sizeof *q), *out = malloc(s->n_out * sizeof *out);
    assert_true(q && out);
    for (int32_t r = 0; r < ROWS; r++) {
        seq[r] = s->seq[ROWS - 1 - r];
        end[r] = s->end[ROWS - 1 - r];
        memcpy(q + (size_t)r * width, s->q + (size_t)(ROWS - 1 - r) * width, width * sizeof *q);
    }
    attention_args reversed = s->args;
    reversed.q = q;
    reversed.out = out;
    reversed.seq = seq;
    reversed.visible_end = end;
    run_attention(dev, &reversed);
    for (int32_t r = 0; r < ROWS; r++)
        memcpy(s->out + (size_t)r * width, out + (size_t)(ROWS - 1 - r) * width,
               width * sizeof *out);
    free(out);
    free(q);
}

static void check_invariance(const char *tier, const extent *size, kv_type type,
                             const int32_t shape[3]) {
    float *first = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        device *dev = check_open(tier, threads);
        scene s;
        if (!dev) return;
        make_scene(dev, &s, size, type, shape[0], shape[1], shape[2]);
        size_t bytes = s.n_out * sizeof *s.out;
        run_attention(dev, &s.args);
        if (threads == 1) {
            first = malloc(bytes);
            assert_non_null(first);
            memcpy(first, s.out, bytes);
        }
        check_same_bits("threads", tier, first, s.out, bytes);
        memset(s.out, 0, bytes);
        run_apart(dev, &s); /* few tasks: splits are tasks where the context is long */
        check_same_bits("rows alone", tier, first, s.out, bytes);
        run_reversed(dev, &s);
        check_same_bits("rows reversed", tier, first, s.out, bytes);
        free_scene(&s);
        device_close(dev);
    }
    free(first);
}

static void attention_is_batch_invariant(void **state) {
    (void)state;
    static const int32_t shape[3] = {6, 2, 40}, long_shape[3] = {3, 1, 24};
    for (int t = 0; t < N_TIERS; t++)
        for (int type = 0; type < N_TYPES; type++) {
            check_invariance(check_tier(t), &short_extent, (kv_type)type, shape);
            check_invariance(check_tier(t), &long_extent, (kv_type)type, long_shape);
        }
}

/* ---- Slots ----------------------------------------------------------------------------------- */

/* A slot written again, with numbers of another size, is as if written once; all others keep their
 * bits. */
static void slot_is_its_own(void **state) {
    (void)state;
    device *dev = check_open("scalar", 3);
    static const int32_t dims[] = {7, 20, 128};
    for (int type = 0; type < N_TYPES; type++)
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
            scene once, again;
            make_scene(dev, &once, &short_extent, (kv_type)type, 3, 3, dims[i]);
            make_scene(dev, &again, &short_extent, (kv_type)type, 3, 3, dims[i]);
            scene *scenes[2] = {&once, &again};
            for (int j = 0; j < 2; j++) {
                size_t width = row_numbers(scenes[j]);
                for (size_t n = 37 * width; n < 38 * width; n++) {
                    scenes[j]->k[1][n] *= 100.0f;
                    scenes[j]->v[1][n] *= -0.01f;
                }
            }
            memset(once.args.kv.keys, 0xFF, once.part_bytes);
            memset(once.args.kv.values, 0xFF, once.part_bytes);
            for (int32_t j = 0; j < N_SEQS; j++)
                write_positions(dev, &once, j, 0, once.size.limits[j]);
            write_positions(dev, &again, 1, 37, 38);
            check_same_bits("keys", type_names[type], once.args.kv.keys, again.args.kv.keys,
                            once.part_bytes);
            check_same_bits("values", type_names[type], once.args.kv.values, again.args.kv.values,
                            once.part_bytes);
            free_scene(&once);
            free_scene(&again);
        }
    device_close(dev);
}

static bool is_finite_row(const scene *s, int32_t row) {
    size_t width = (size_t)(s->args.n_heads * s->args.head_dim);
    for (size_t i = 0; i < width; i++)
        if (!isfinite(s->out[(size_t)row * width + i])) return false;
    return true;
}

/* What is not a number in one sequence is seen by its rows, and changes no bit of others. */
static void nan_is_seen_and_stays(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 2);
        if (!dev) continue;
        for (int type = 0; type < N_TYPES; type++)
            for (int kind = 0; kind < 4; kind++) {
                scene s;
                make_scene(dev, &s, &short_extent, (kv_type)type, 4, 2, 20);
                size_t bytes = s.n_out * sizeof *s.out, at = 40 * row_numbers(&s) + 3;
                float *before = malloc(bytes);
                assert_non_null(before);
                run_attention(dev, &s.args);
                memcpy(before, s.out, bytes);
                if (kind == 3)
                    s.k[1][at] = NAN;
                else
                    s.v[1][at] = bad[kind];
                write_positions(dev, &s, 1, 40, 41);
                run_attention(dev, &s.args);
                for (int32_t r = 0; r < ROWS; r++) {
                    bool sees = s.seq[r] == 1 && s.end[r] > 40;
                    size_t width = (size_t)(s.args.n_heads * s.args.head_dim);
                    if (is_finite_row(&s, r) == sees)
                        fail_msg("%s, %s: row %d is%s finite", dev->tier, type_names[type], r,
                                 sees ? "" : " not");
                    if (!sees)
                        check_same_bits("another sequence", dev->tier, s.out + (size_t)r * width,
                                        before + (size_t)r * width, width * sizeof *s.out);
                }
                free(before);
                free_scene(&s);
            }
        device_close(dev);
    }
}

/* Rows of zeros, and of numbers too small for a scale, are zeros in int8. */
static void int8_holds_small_rows(void **state) {
    (void)state;
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 1);
        if (!dev) continue;
        scene s;
        make_scene(dev, &s, &short_extent, KV_INT8, 2, 2, 20);
        for (size_t i = 0; i < 45 * row_numbers(&s); i++) {
            s.v[1][i] *= i % 2 ? 0.0f : 1e-38f;
            s.k[1][i] *= i < 400 ? 0.0f : 1e-41f;
        }
        write_positions(dev, &s, 1, 0, 45);
        run_attention(dev, &s.args);
        for (size_t i = 3 * 40; i < 20 * 40; i++)
            if (s.out[i] != 0.0f) fail_msg("%s: expected 0, found %g", dev->tier, (double)s.out[i]);
        free_scene(&s);
        device_close(dev);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_right),    cmocka_unit_test(attention_is_batch_invariant),
        cmocka_unit_test(slot_is_its_own),       cmocka_unit_test(nan_is_seen_and_stays),
        cmocka_unit_test(int8_holds_small_rows),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}

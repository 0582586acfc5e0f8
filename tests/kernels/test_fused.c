/* SPDX-License-Identifier: Apache-2.0
 *
 * Fused operations give the bits of those they stand for (kernels/ops.h). They are a GPU's: memory
 * is the device's here, without the mirror of the other kernel tests.
 */
#include "packed_check.h"

enum { ROWS = 37, HIDDEN = 512, INNER = 768, HEADS = 4, KV_HEADS = 2, DIM = 128, PAGES = 3 };

static device *dev;

static int open_device(void **state) {
    (void)state;
    um_error err = {0};
    um_status status = device_open("cuda:0", 1, &dev, &err);
    return status == UM_OK || status == UM_UNSUPPORTED ? 0 : -1;
}

static int close_device(void **state) {
    (void)state;
    device_close(dev);
    return 0;
}

static void skip_without(void) {
    if (!dev || !dev->ops->rotate) skip();
}

static void *take(size_t n_bytes) {
    um_error err = {0};
    void *memory = NULL;
    assert_int_equal(device_alloc(dev, n_bytes, &memory, &err), UM_OK);
    return memory;
}

static void *bring(const void *from, size_t n_bytes) {
    void *to = take(n_bytes);
    assert_int_equal(device_write(dev, to, from, n_bytes), UM_OK);
    return to;
}

static float *bring_floats(size_t n, float scale, uint64_t seed) {
    float *numbers = check_floats(n, scale, seed), *to = bring(numbers, n * sizeof *numbers);
    free(numbers);
    return to;
}

static void check_same(const char *what, const void *a, const void *b, size_t n_bytes) {
    void *x = malloc(n_bytes), *y = malloc(n_bytes);
    assert_true(x && y);
    assert_int_equal(device_read(dev, x, a, n_bytes), UM_OK);
    assert_int_equal(device_read(dev, y, b, n_bytes), UM_OK);
    check_same_bits(what, "cuda", x, y, n_bytes);
    free(x);
    free(y);
}

/* A weight of a block type or of bfloat16, as the device reads it; free data and packed. */
static matrix place_weight(dtype type, int32_t n_out, int32_t n_in, uint64_t seed) {
    matrix w = {.type = type, .n_out = n_out, .n_in = n_in, .form = FORM_BF16};
    if (dtype_is_block(type)) {
        weight made = make_weight(type, n_out, n_in, seed);
        w.form = FORM_TILE;
        w.packed = bring(made.packed, packed_bytes(type, n_out, n_in));
        free_weight(&made);
        return w;
    }
    size_t n = (size_t)n_out * (size_t)n_in;
    uint16_t *numbers = malloc(n * sizeof *numbers);
    assert_non_null(numbers);
    for (size_t i = 0; i < n; i++) numbers[i] = dtype_to_bf16(0.1f * check_uniform(&seed));
    w.data = bring(numbers, n * sizeof *numbers);
    free(numbers);
    return w;
}

static void free_placed(const matrix *w) {
    device_free(dev, (void *)(uintptr_t)w->data);
    device_free(dev, (void *)(uintptr_t)w->packed);
}

static const dtype weight_types[] = {DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q8_0};
enum { N_WEIGHT_TYPES = sizeof weight_types / sizeof *weight_types };

static void test_norm(void **state) {
    (void)state;
    skip_without();
    static const int32_t dims[] = {256, HIDDEN, 2048};
    static const packed_form forms[] = {FORM_BF16, FORM_TILE};
    const kernel_ops *ops = dev->ops;
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (int f = 0; f < 2; f++) {
            int32_t dim = dims[i];
            size_t n = ROWS * (size_t)dim, n_packed = ops->pack_scratch(dev, ROWS, dim);
            float *x = bring_floats(n, 3.0f, 1), *gain = bring_floats((size_t)dim, 1.0f, 2);
            float *y = take(n * sizeof *y), *z = take(n * sizeof *z);
            void *a = take(n_packed), *b = take(n_packed);
            assert_int_equal(ops->rms_norm(dev, y, x, gain, ROWS, dim, 1e-5f), UM_OK);
            assert_int_equal(ops->pack_rows(dev, forms[f], a, y, ROWS, dim), UM_OK);
            assert_int_equal(ops->rms_norm_packed(dev, z, forms[f], b, x, gain, ROWS, dim, 1e-5f),
                             UM_OK);
            check_same("norm", y, z, n * sizeof *y);
            check_same("norm, packed", a, b, n_packed);
            void *all[] = {x, gain, y, z, a, b};
            for (size_t k = 0; k < sizeof all / sizeof *all; k++) device_free(dev, all[k]);
        }
}

static void test_products(void **state) {
    (void)state;
    skip_without();
    const kernel_ops *ops = dev->ops;
    for (int k = 0; k < N_WEIGHT_TYPES; k++) {
        static const int32_t outs[3] = {512, 128, 144};
        matrix w[3];
        float *bias = bring_floats(512, 1.0f, 3), *alone[3], *y[3];
        for (int i = 0; i < 3; i++) {
            w[i] = place_weight(weight_types[k], outs[i], HIDDEN, 4 + (uint64_t)i);
            alone[i] = take(ROWS * (size_t)outs[i] * sizeof(float));
            y[i] = take(ROWS * (size_t)outs[i] * sizeof(float));
        }
        float *x = bring_floats(ROWS * HIDDEN, 1.0f, 5);
        void *packed = take(ops->pack_scratch(dev, ROWS, HIDDEN));
        assert_int_equal(ops->pack_rows(dev, w[0].form, packed, x, ROWS, HIDDEN), UM_OK);
        const shared_product all[3] = {
            {&w[0], bias, y[0]}, {&w[1], NULL, y[1]}, {&w[2], bias, y[2]}};
        assert_int_equal(ops->linear_shared(dev, packed, all, 3, ROWS), UM_OK);
        double size = 0;
        for (int i = 0; i < 3; i++) {
            /* Outputs that share a launch may be cut into more slices: near, not the same. */
            size_t n = ROWS * (size_t)outs[i];
            assert_int_equal(ops->linear_packed(dev, alone[i], packed, &w[i], all[i].bias, ROWS),
                             UM_OK);
            float *found = malloc(n * sizeof *found), *one = malloc(n * sizeof *one);
            double *expected = malloc(n * sizeof *expected);
            assert_true(found && one && expected);
            assert_int_equal(device_read(dev, found, y[i], n * sizeof *found), UM_OK);
            assert_int_equal(device_read(dev, one, alone[i], n * sizeof *one), UM_OK);
            for (size_t j = 0; j < n; j++) expected[j] = (double)one[j];
            for (size_t j = 0; j < n; j++) size += fabs(expected[j]);
            check_close(dtype_name(weight_types[k]), "shared", found, expected, n, 1e-11);
            free(found);
            free(one);
            free(expected);
        }
        assert_true(size > 0);
        assert_int_equal(ops->linear_packed(dev, alone[0], packed, &w[0], bias, ROWS), UM_OK);
        float *sum = bring_floats(ROWS * 512, 1.0f, 6), *added = bring_floats(ROWS * 512, 1.0f, 6);
        assert_int_equal(ops->add(dev, sum, alone[0], ROWS * 512), UM_OK);
        assert_int_equal(ops->linear_added(dev, added, packed, &w[0], bias, ROWS), UM_OK);
        check_same("added", sum, added, ROWS * 512 * sizeof *sum);
        for (int i = 0; i < 3; i++) {
            free_placed(&w[i]);
            device_free(dev, alone[i]);
            device_free(dev, y[i]);
        }
        void *others[] = {bias, x, packed, sum, added};
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) device_free(dev, others[i]);
    }
}

/* A row alone has the bits that it has in the batch. */
static void test_gated(void **state) {
    (void)state;
    skip_without();
    const kernel_ops *ops = dev->ops;
    for (int k = 0; k < N_WEIGHT_TYPES; k++) {
        matrix gate = place_weight(weight_types[k], INNER, HIDDEN, 7);
        matrix up = place_weight(weight_types[k], INNER, HIDDEN, 8);
        size_t n = ROWS * (size_t)INNER;
        float *x = bring_floats(ROWS * HIDDEN, 1.0f, 9), *a = take(n * 4), *b = take(n * 4);
        void *packed = take(ops->pack_scratch(dev, ROWS, HIDDEN));
        size_t n_bytes = n * sizeof(uint16_t), n_inner = ops->pack_scratch(dev, ROWS, INNER);
        void *inner = take(n_inner), *expected = take(n_inner);
        assert_int_equal(ops->pack_rows(dev, gate.form, packed, x, ROWS, HIDDEN), UM_OK);
        assert_int_equal(ops->linear_packed(dev, a, packed, &gate, NULL, ROWS), UM_OK);
        assert_int_equal(ops->linear_packed(dev, b, packed, &up, NULL, ROWS), UM_OK);
        assert_int_equal(ops->swiglu(dev, a, a, b, n), UM_OK);
        assert_int_equal(ops->pack_rows(dev, gate.form, expected, a, ROWS, INNER), UM_OK);
        assert_int_equal(ops->linear_gated(dev, gate.form, inner, packed, &gate, &up, ROWS), UM_OK);
        /* Slices may differ, and with them a last bit before it is rounded to bfloat16. */
        uint16_t *found = malloc(n_bytes), *wanted = malloc(n_bytes);
        assert_true(found && wanted);
        assert_int_equal(device_read(dev, found, inner, n_bytes), UM_OK);
        assert_int_equal(device_read(dev, wanted, expected, n_bytes), UM_OK);
        double error = 0, size = 0;
        for (size_t i = 0; i < n; i++) {
            double y = (double)dtype_from_bf16(found[i]), z = (double)dtype_from_bf16(wanted[i]);
            error += (y - z) * (y - z);
            size += z * z;
        }
        assert_true(size > 0 && error <= 1e-8 * size);
        free(found);
        free(wanted);
        free_placed(&gate);
        free_placed(&up);
        void *all[] = {x, a, b, packed, inner, expected};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) device_free(dev, all[i]);
    }
}

static void test_rotate(void **state) {
    (void)state;
    skip_without();
    const kernel_ops *ops = dev->ops;
    static const int32_t pages[PAGES] = {2, 0, 1};
    int32_t positions[ROWS], seq[ROWS];
    for (int i = 0; i < ROWS; i++) {
        positions[i] = 2 * i;
        seq[i] = 0;
    }
    int32_t *list = bring(pages, sizeof pages);
    kv_table table = {list, PAGES};
    size_t n_q = ROWS * HEADS * DIM, n_k = ROWS * KV_HEADS * DIM, n_angles = 2 * ROWS * DIM / 2;
    float *cosines = bring_floats(n_angles, 1.0f, 1), *sines = bring_floats(n_angles, 1.0f, 2);
    float *gain = bring_floats(DIM, 1.0f, 3);
    for (int type = 0; type < 3; type++)
        for (int has_norms = 0; has_norms < 2; has_norms++) {
            size_t n_bytes = kv_part_bytes((kv_type)type, DIM) * PAGES * KV_HEADS;
            void *q[2], *k[2], *v[2], *keys[2], *values[2];
            for (int i = 0; i < 2; i++) {
                q[i] = bring_floats(n_q, 2.0f, 4);
                k[i] = bring_floats(n_k, 2.0f, 5);
                v[i] = bring_floats(n_k, 2.0f, 6);
                keys[i] = take(n_bytes);
                values[i] = take(n_bytes);
            }
            rotate_args a = {.q = q[0],
                             .k = k[0],
                             .v = v[0],
                             .q_norm = has_norms ? gain : NULL,
                             .k_norm = has_norms ? gain : NULL,
                             .cosines = cosines,
                             .sines = sines,
                             .seq = bring(seq, sizeof seq),
                             .positions = bring(positions, sizeof positions),
                             .tables = bring(&table, sizeof table),
                             .kv = {keys[0], values[0], (kv_type)type},
                             .n_rows = ROWS,
                             .n_heads = HEADS,
                             .n_kv_heads = KV_HEADS,
                             .head_dim = DIM,
                             .rotary_dim = has_norms ? DIM / 2 : DIM,
                             .eps = 1e-5f};
            assert_int_equal(ops->rotate(dev, &a), UM_OK);
            if (has_norms) {
                assert_int_equal(ops->rms_norm(dev, q[1], q[1], gain, ROWS * HEADS, DIM, a.eps),
                                 UM_OK);
                assert_int_equal(ops->rms_norm(dev, k[1], k[1], gain, ROWS * KV_HEADS, DIM, a.eps),
                                 UM_OK);
            }
            assert_int_equal(
                ops->rope(dev, q[1], a.positions, cosines, sines, ROWS, HEADS, DIM, a.rotary_dim),
                UM_OK);
            assert_int_equal(ops->rope(dev, k[1], a.positions, cosines, sines, ROWS, KV_HEADS, DIM,
                                       a.rotary_dim),
                             UM_OK);
            const kv_layer kv = {keys[1], values[1], (kv_type)type};
            assert_int_equal(ops->kv_write(dev, &kv, k[1], v[1], a.seq, a.positions, a.tables, ROWS,
                                           KV_HEADS, DIM),
                             UM_OK);
            check_same("queries", q[0], q[1], n_q * sizeof(float));
            check_same("keys", keys[0], keys[1], n_bytes);
            check_same("values", values[0], values[1], n_bytes);
            for (int i = 0; i < 2; i++) {
                void *all[] = {q[i], k[i], v[i], keys[i], values[i]};
                for (size_t j = 0; j < sizeof all / sizeof *all; j++) device_free(dev, all[j]);
            }
            device_free(dev, (void *)(uintptr_t)a.seq);
            device_free(dev, (void *)(uintptr_t)a.positions);
            device_free(dev, (void *)(uintptr_t)a.tables);
        }
    device_free(dev, list);
    device_free(dev, cosines);
    device_free(dev, sines);
    device_free(dev, gain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_gated),
        cmocka_unit_test(test_rotate),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}

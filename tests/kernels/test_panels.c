/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights of block types as a GPU reads them: panels, dequantized in front of the tensor cores. It
 * rounds activations and, but for Q6_K, nothing else, so that it is compared with the decoded
 * weights themselves; and bit by bit the same whatever the number of rows and neighbours.
 */
#include "packed_check.h"

static weight make_tiled(dtype type, int32_t n_out, int32_t n_in, uint64_t seed) {
    weight made = make_weight(type, n_out, n_in, seed);
    made.w.form = FORM_TILE;
    return made;
}

static void check_rows(device *dev, const weight *made, const float *x, const float *bias,
                       const float *batch, int32_t n_batch) {
    static const int32_t rows[] = {1, 2, 3, 8, 9, 15, 16, 17, 31, 32, 33, 130};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t skip = (size_t)(n_batch - rows[i]), n_out = (size_t)made->w.n_out;
        float *y = multiply(dev, &made->w, x + skip * (size_t)made->w.n_in, bias, rows[i]);
        check_same_bits(dtype_name(made->w.type), "cuda", y, batch + skip * n_out,
                        (size_t)rows[i] * n_out * sizeof *y);
        free(y);
    }
}

/* Products in float64 of rounded activations and decoded weights. */
static double *expect_rounded(const weight *made, const float *x, const float *bias,
                              int32_t n_rows) {
    int32_t n_out = made->w.n_out, n_in = made->w.n_in;
    double *expected = malloc((size_t)n_rows * (size_t)n_out * sizeof *expected);
    assert_non_null(expected);
    for (int32_t r = 0; r < n_rows; r++)
        for (int32_t o = 0; o < n_out; o++) {
            double sum = bias ? (double)bias[o] : 0.0;
            for (int32_t i = 0; i < n_in; i++)
                sum += (double)dtype_from_bf16(dtype_to_bf16(x[r * n_in + i])) *
                       (double)made->decoded[o * n_in + i];
            expected[r * n_out + o] = sum;
        }
    return expected;
}

/* Q6_K rounds a weight's first product: (2^-8)^2 / 3 at most, of the square. */
static double device_limit(dtype type) {
    return type == DTYPE_Q6_K ? 5e-6 : 1e-11;
}

/* Shapes that are cut in different ways, one that is no whole number of panels among them. */
static void test_products(void **state) {
    (void)state;
    enum { ROWS = 131 };
    static const int32_t shapes[][2] = {{1, 256},   {16, 512},   {37, 768},
                                        {300, 256}, {640, 2048}, {2048, 512}};
    device *dev = check_open("cuda", 1);
    if (!dev || !dev->has_panels) {
        device_close(dev);
        skip();
    }
    for (int k = 0; k < N_TYPES; k++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            int32_t n_out = shapes[s][0], n_in = shapes[s][1];
            size_t n = ROWS * (size_t)n_out;
            weight made = make_tiled(types[k], n_out, n_in, 3 + s);
            float *x = check_floats(ROWS * (size_t)n_in, 2.0f, 5);
            float *bias = check_floats((size_t)n_out, 1, 6);
            memset(x + n_in / 2, 0, 64 * sizeof *x);
            double *expected = expect_rounded(&made, x, bias, ROWS);
            float *y = multiply(dev, &made.w, x, bias, ROWS);
            check_close(dtype_name(types[k]), "cuda", y, expected, n, device_limit(types[k]));
            check_rows(dev, &made, x, bias, y, ROWS);
            free(y);
            free(expected);
            free(x);
            free(bias);
            free_weight(&made);
        }
    device_close(dev);
}

/* A NaN among activations spoils its row, one among scales its output, and no other. */
static void test_not_finite(void **state) {
    (void)state;
    enum { ROWS = 6, OUT = 20, IN = 256 };
    device *dev = check_open("cuda", 1);
    if (!dev || !dev->has_panels) {
        device_close(dev);
        skip();
    }
    for (int k = 0; k < N_TYPES; k++) {
        weight made = make_tiled(types[k], OUT, IN, 2);
        uint16_t bad = 0x7E00;
        packed_group at = packed_group_at(types[k], IN, 5);
        size_t where = packed_has_supers(types[k]) ? at.super : at.scale;
        memcpy((unsigned char *)made.packed + where + 2 * 7, &bad, 2);
        float *x = check_floats(ROWS * IN, 1.0f, 4);
        x[1 * IN + 40] = NAN;
        float *y = multiply(dev, &made.w, x, NULL, ROWS);
        for (int r = 0; r < ROWS; r++)
            for (int o = 0; o < OUT; o++)
                assert_int_equal(isfinite(y[r * OUT + o]) != 0, r != 1 && o != 7);
        free(y);
        free(x);
        free_weight(&made);
    }
    device_close(dev);
}

/* Experts against the same with float32 activations; a row alone against the batch. */
static void test_experts(void **state) {
    (void)state;
    enum { ROWS = 40, HIDDEN = 512, INNER = 256, EXPERTS = 5, ACTIVE = 2 };
    device *dev = check_open("cuda", 1);
    if (!dev || !dev->has_panels) {
        device_close(dev);
        skip();
    }
    for (int k = 0; k < N_TYPES; k++) {
        weight made[EXPERTS][3];
        mlp_weights packed[EXPERTS], plain[EXPERTS];
        int32_t ids[ROWS * ACTIVE];
        float weights[ROWS * ACTIVE];
        for (int e = 0; e < EXPERTS; e++) {
            made[e][0] = make_tiled(types[k], INNER, HIDDEN, 10 + (uint64_t)e);
            made[e][1] = make_tiled(types[k], INNER, HIDDEN, 20 + (uint64_t)e);
            made[e][2] = make_tiled(types[(k + 1) % N_TYPES], HIDDEN, INNER, 30 + (uint64_t)e);
            packed[e] = (mlp_weights){made[e][0].w, made[e][1].w, made[e][2].w};
            plain[e] = packed[e];
            plain[e].gate.form = plain[e].up.form = plain[e].down.form = FORM_FLOAT;
        }
        for (int i = 0; i < ROWS * ACTIVE; i++) {
            ids[i] = i % ACTIVE ? 4 : i % 7 % 4; /* expert 4 has more rows than a pass holds */
            weights[i] = 0.3f + 0.01f * (float)i;
        }
        float *x = check_floats(ROWS * HIDDEN, 0.2f, 1);
        float *y = run_experts(dev, packed, x, ids, weights, ROWS, ACTIVE, EXPERTS);
        float *z = run_experts(dev, plain, x, ids, weights, ROWS, ACTIVE, EXPERTS);
        double *expected = malloc(ROWS * HIDDEN * sizeof *expected);
        assert_non_null(expected);
        for (int i = 0; i < ROWS * HIDDEN; i++) expected[i] = (double)z[i];
        check_close(dtype_name(types[k]), "cuda", y, expected, ROWS * HIDDEN, 5e-5);
        for (int r = 0; r < ROWS; r += 13) {
            float *one = run_experts(dev, packed, x + r * HIDDEN, ids + r * ACTIVE,
                                     weights + r * ACTIVE, 1, ACTIVE, EXPERTS);
            check_same_bits("a row alone", "cuda", one, y + r * HIDDEN, HIDDEN * sizeof *one);
            free(one);
        }
        free(expected);
        free(x);
        free(y);
        free(z);
        for (int e = 0; e < EXPERTS; e++)
            for (int i = 0; i < 3; i++) free_weight(&made[e][i]);
    }
    device_close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_experts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

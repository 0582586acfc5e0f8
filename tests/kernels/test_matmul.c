/* SPDX-License-Identifier: Apache-2.0
 *
 * linear and embed: against float64 sums over odd shapes, and the same bits whatever the batch.
 */
#include "kernel_check.h"

static const dtype types[3] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};

static void check_shape(device *dev, dtype type, int32_t n_rows, int32_t n_in, int32_t n_out,
                        bool has_bias) {
    void *owner;
    float *w, *x = check_floats((size_t)n_rows * (size_t)n_in, 1.0f, 3);
    matrix m = check_matrix(type, n_out, n_in, 1.0f, 5, &owner, &w);
    float *bias = check_floats((size_t)n_out, 1.0f, 7);
    size_t n = (size_t)n_rows * (size_t)n_out;
    float *y = malloc(n * sizeof *y);
    double *expected = malloc(n * sizeof *expected);
    assert_true(y && expected);
    for (int32_t r = 0; r < n_rows; r++)
        for (int32_t o = 0; o < n_out; o++) {
            double sum = has_bias ? (double)bias[o] : 0.0;
            for (int32_t i = 0; i < n_in; i++)
                sum += (double)x[(size_t)r * (size_t)n_in + (size_t)i] *
                       (double)w[(size_t)o * (size_t)n_in + (size_t)i];
            expected[(size_t)r * (size_t)n_out + (size_t)o] = sum;
        }
    assert_int_equal(dev->ops->linear(dev, y, x, &m, has_bias ? bias : NULL, n_rows), UM_OK);
    check_close("linear", dev->tier, y, expected, n, 1e-12);
    free(owner);
    free(w);
    free(x);
    free(bias);
    free(y);
    free(expected);
}

static void linear_is_right(void **state) {
    (void)state;
    static const int32_t sizes[][3] = {{1, 1, 1},     {2, 15, 3},    {3, 16, 4},    {5, 17, 5},
                                       {6, 33, 7},    {7, 48, 66},   {13, 130, 17}, {31, 64, 129},
                                       {32, 256, 64}, {1, 1000, 513}};
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 2);
        if (!dev) continue;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int k = 0; k < 3; k++)
                check_shape(dev, types[k], sizes[i][0], sizes[i][1], sizes[i][2], i % 2 == 0);
        device_close(dev);
    }
}

/* Each row of a batch equals the row alone, and threads change nothing. */
static void linear_is_batch_invariant(void **state) {
    (void)state;
    enum { ROWS = 29, IN = 203, OUT = 150 };
    float *x = check_floats(ROWS * IN, 1.0f, 11), *y[3],
          *alone = malloc(ROWS * OUT * sizeof *alone);
    assert_non_null(alone);
    for (int t = 0; t < N_TIERS; t++)
        for (int k = 0; k < 3; k++) {
            void *owner;
            float *w;
            matrix m = check_matrix(types[k], OUT, IN, 1.0f, 13, &owner, &w);
            for (int threads = 1; threads <= 3; threads++) {
                device *dev = check_open(check_tier(t), threads);
                y[threads - 1] = malloc(ROWS * OUT * sizeof(float));
                assert_non_null(y[threads - 1]);
                if (!dev) continue;
                dev->ops->linear(dev, y[threads - 1], x, &m, NULL, ROWS);
                check_same_bits("threads", dev->tier, y[0], y[threads - 1],
                                ROWS * OUT * sizeof(float));
                if (threads == 1) {
                    for (int r = 0; r < ROWS; r++)
                        dev->ops->linear(dev, alone + r * OUT, x + r * IN, &m, NULL, 1);
                    check_same_bits("rows alone", dev->tier, y[0], alone,
                                    ROWS * OUT * sizeof(float));
                    /* One output alone, at another place of its tile. */
                    matrix last = m;
                    last.n_out = 1;
                    last.data =
                        (const char *)m.data + (size_t)(OUT - 2) * IN * dtype_bytes(types[k]);
                    dev->ops->linear(dev, alone, x, &last, NULL, ROWS);
                    for (int r = 0; r < ROWS; r++)
                        check_same_bits("output alone", dev->tier, &alone[r],
                                        &y[0][r * OUT + OUT - 2], sizeof(float));
                }
                device_close(dev);
            }
            for (int i = 0; i < 3; i++) free(y[i]);
            free(owner);
            free(w);
        }
    free(x);
    free(alone);
}

static void embed_is_exact(void **state) {
    (void)state;
    enum { VOCAB = 37, DIM = 45, ROWS = 500 };
    int32_t tokens[ROWS];
    uint64_t seed = 17;
    for (int i = 0; i < ROWS; i++) tokens[i] = (int32_t)(check_random(&seed) % VOCAB);
    float *y = malloc(ROWS * DIM * sizeof *y);
    assert_non_null(y);
    for (int t = 0; t < N_TIERS; t++)
        for (int k = 0; k < 3; k++) {
            device *dev = check_open(check_tier(t), 2);
            if (!dev) continue;
            void *owner;
            float *w;
            matrix m = check_matrix(types[k], VOCAB, DIM, 1.0f, 19, &owner, &w);
            dev->ops->embed(dev, y, &m, tokens, ROWS);
            for (int r = 0; r < ROWS; r++)
                check_same_bits("embed", dev->tier, y + r * DIM, w + tokens[r] * DIM,
                                DIM * sizeof *y);
            free(owner);
            free(w);
            device_close(dev);
        }
    free(y);
}

static void no_rows_is_nothing(void **state) {
    (void)state;
    device *dev = check_open("scalar", 1);
    float w = 1.0f;
    matrix m = {.data = &w, .type = DTYPE_F32, .n_out = 1, .n_in = 1};
    assert_int_equal(dev->ops->linear(dev, NULL, NULL, &m, NULL, 0), UM_OK);
    assert_int_equal(dev->ops->embed(dev, NULL, &m, NULL, 0), UM_OK);
    assert_int_equal(dev->ops->rms_norm(dev, NULL, NULL, NULL, 0, 4, 0.0f), UM_OK);
    assert_int_equal(dev->ops->swiglu(dev, NULL, NULL, NULL, 0), UM_OK);
    device_close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_is_right), cmocka_unit_test(linear_is_batch_invariant),
        cmocka_unit_test(embed_is_exact), cmocka_unit_test(no_rows_is_nothing)};
    return cmocka_run_group_tests_name("matmul", tests, NULL, NULL);
}

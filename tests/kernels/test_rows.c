/* SPDX-License-Identifier: Apache-2.0
 *
 * Norm, rotation, gates and sums: against float64 over odd sizes, far-out arguments, and in place.
 */
#include "kernel_check.h"

static const int32_t sizes[] = {1, 2, 7, 8, 15, 16, 17, 31, 48, 100, 256, 1000};
enum { N_SIZES = sizeof sizes / sizeof *sizes, MAX = 1000 };

static void norm_is_right(void **state) {
    (void)state;
    enum { ROWS = 3 };
    float *x = check_floats(ROWS * MAX, 4.0f, 101), *gain = check_floats(MAX, 1.0f, 103);
    float y[ROWS * MAX];
    double expected[ROWS * MAX];
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 2);
        if (!dev) continue;
        for (int i = 0; i < N_SIZES; i++) {
            int32_t n = sizes[i];
            for (int r = 0; r < ROWS; r++) {
                double sum = 0.0;
                for (int j = 0; j < n; j++) sum += (double)x[r * n + j] * (double)x[r * n + j];
                for (int j = 0; j < n; j++)
                    expected[r * n + j] =
                        (double)x[r * n + j] / sqrt(sum / n + 1e-6) * (double)gain[j];
            }
            dev->ops->rms_norm(dev, y, x, gain, ROWS, n, 1e-6f);
            check_close("rms_norm", dev->tier, y, expected, (size_t)(ROWS * n), 1e-12);
            float in_place[ROWS * MAX];
            memcpy(in_place, x, sizeof in_place);
            dev->ops->rms_norm(dev, in_place, in_place, gain, ROWS, n, 1e-6f);
            check_same_bits("rms_norm in place", dev->tier, y, in_place,
                            (size_t)(ROWS * n) * sizeof *y);
        }
        device_close(dev);
    }
    free(x);
    free(gain);
}

static void rope_is_right(void **state) {
    (void)state;
    static const int32_t shapes[][2] = {{2, 2}, {20, 20}, {33, 32}, {64, 16}, {128, 128}, {40, 6}};
    enum { ROWS = 4, HEADS = 3, POSITIONS = 9 };
    int32_t positions[ROWS] = {8, 0, 3, 3};
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 1);
        if (!dev) continue;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            int32_t dim = shapes[i][0], half = shapes[i][1] / 2, n = ROWS * HEADS * dim;
            float *x = check_floats((size_t)n, 1.0f, 107);
            float *c = check_floats((size_t)(POSITIONS * half), 1.0f, 109);
            float *s = check_floats((size_t)(POSITIONS * half), 1.0f, 113);
            double *expected = malloc((size_t)n * sizeof *expected);
            assert_non_null(expected);
            for (int32_t j = 0; j < n; j++) {
                int32_t d = j % dim, at = positions[j / dim / HEADS] * half + d % half;
                expected[j] = (double)x[j];
                if (d < half)
                    expected[j] =
                        (double)x[j] * (double)c[at] - (double)x[j + half] * (double)s[at];
                else if (d < 2 * half)
                    expected[j] =
                        (double)x[j] * (double)c[at] + (double)x[j - half] * (double)s[at];
            }
            dev->ops->rope(dev, x, positions, c, s, ROWS, HEADS, dim, 2 * half);
            check_close("rope", dev->tier, x, expected, (size_t)n, 1e-12);
            free(x);
            free(c);
            free(s);
            free(expected);
        }
        device_close(dev);
    }
}

static void gates_and_sums_are_right(void **state) {
    (void)state;
    enum { LONG = 40000 }; /* more than one task */
    float *g = check_floats(LONG, 30.0f, 127), *u = check_floats(LONG, 1.0f, 131);
    float *y = malloc(LONG * sizeof *y);
    double *expected = malloc(LONG * sizeof *expected);
    assert_true(y && expected);
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 2);
        if (!dev) continue;
        for (int i = 0; i <= N_SIZES; i++) {
            size_t n = i < N_SIZES ? (size_t)sizes[i] : LONG;
            for (size_t j = 0; j < n; j++)
                expected[j] = (double)g[j] / (1.0 + exp(-(double)g[j])) * (double)u[j];
            dev->ops->swiglu(dev, y, g, u, n);
            check_close("swiglu", dev->tier, y, expected, n, 1e-12);
            for (size_t j = 0; j < n; j++) { /* few ulp each: the exponential is good */
                double error = fabs((double)y[j] - expected[j]);
                if (error > 1e-6 * fabs(expected[j]) + 1e-30)
                    fail_msg("%s: silu(%g): expected %g, found %g", dev->tier, (double)g[j],
                             expected[j], (double)y[j]);
            }
            memcpy(y, g, n * sizeof *y);
            dev->ops->add(dev, y, u, n);
            for (size_t j = 0; j < n; j++) assert_true(y[j] == g[j] + u[j]);
        }
        float far[6] = {-1000.0f, -104.0f, -89.0f, 89.0f, 1000.0f, 0.0f}, one[6], out[6];
        for (int i = 0; i < 6; i++) one[i] = 1.0f;
        dev->ops->swiglu(dev, out, far, one, 6);
        for (int i = 0; i < 3; i++) assert_true(fabsf(out[i]) < 1e-35f);
        assert_true(out[3] == 89.0f && out[4] == 1000.0f && out[5] == 0.0f);
        device_close(dev);
    }
    free(g);
    free(u);
    free(y);
    free(expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(norm_is_right),
                                       cmocka_unit_test(rope_is_right),
                                       cmocka_unit_test(gates_and_sums_are_right)};
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}

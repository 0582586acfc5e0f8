/* SPDX-License-Identifier: Apache-2.0
 *
 * Packed weights that are dequantized in front of tiles: the specification is near the product in
 * float64 of the decoded weights, as near as bfloat16 allows; tiers are near the specification, and
 * bit by bit the same whatever the number of rows, threads, outputs and neighbours.
 */
#include "packed_check.h"

static weight make_tiled(dtype type, int32_t n_out, int32_t n_in, uint64_t seed) {
    weight made = make_weight(type, n_out, n_in, seed);
    made.w.form = FORM_TILE;
    return made;
}

/* Two factors, each wrong by 2^-8 at most: 2 (2^-8)^2 / 3 of the square. */
static void test_near_exact(void **state) {
    (void)state;
    check_near_exact(FORM_TILE, 1e-5);
}

static void check_rows(device *dev, int t, const weight *made, const float *x, const float *bias,
                       const float *batch, int32_t n_batch) {
    static const int32_t rows[] = {1, 2, 3, 15, 16, 17, 31, 32, 33, 130};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t skip = (size_t)(n_batch - rows[i]), n_out = (size_t)made->w.n_out;
        if (TEST_IS_SAMPLED && i % 3 != 0) continue;
        float *y = multiply(dev, &made->w, x + skip * (size_t)made->w.n_in, bias, rows[i]);
        check_same_bits(dtype_name(made->w.type), check_tier(t), y, batch + skip * n_out,
                        (size_t)rows[i] * n_out * sizeof *y);
        free(y);
    }
}

static void test_tiers(void **state) {
    (void)state;
    enum { ROWS = 131 };
    static const int32_t shapes[][2] = {{1, 256}, {16, 512}, {37, 768}, {300, 256}};
    device *scalar = check_open("scalar", 2);
    for (int k = 0; k < N_TYPES; k++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            int32_t n_out = shapes[s][0], n_in = shapes[s][1];
            size_t n = ROWS * (size_t)n_out;
            weight made = make_tiled(types[k], n_out, n_in, 3 + s);
            float *x = check_floats(ROWS * (size_t)n_in, 2.0f, 5);
            float *bias = check_floats((size_t)n_out, 1, 6);
            memset(x + n_in / 2, 0, 64 * sizeof *x);
            x[1] = 1e-38f;
            float *y = multiply(scalar, &made.w, x, bias, ROWS);
            double *expected = malloc(n * sizeof *expected);
            for (size_t i = 0; i < n; i++) expected[i] = (double)y[i];
            free(y);
            for (int t = 1; t < N_CPU_TIERS; t++) {
                float *batch = NULL;
                for (int n_threads = 1; n_threads <= 2; n_threads++) {
                    device *dev = check_open(check_tier(t), n_threads);
                    if (!dev || !dev->has_tiles) { /* the specification itself */
                        device_close(dev);
                        continue;
                    }
                    y = multiply(dev, &made.w, x, bias, ROWS);
                    check_close("tiled", check_tier(t), y, expected, n, 1e-10);
                    if (!batch) batch = y;
                    check_same_bits("threads", check_tier(t), y, batch, n * sizeof *y);
                    if (y != batch) free(y);
                    check_rows(dev, t, &made, x, bias, batch, ROWS);
                    device_close(dev);
                }
                free(batch);
            }
            free(expected);
            free(x);
            free(bias);
            free_weight(&made);
        }
    device_close(scalar);
}

/* Scales far apart, zeros among them, the ends of all quants, and large and small activations: all
 * that is finite stays finite, and tiers stay near. */
static void test_extremes(void **state) {
    (void)state;
    enum { ROWS = 3, OUT = 16, IN = 512 };
    float x[ROWS * IN];
    for (int i = 0; i < ROWS * IN; i++)
        x[i] = i < IN ? 1e11f : i < 2 * IN ? -1e-12f : 0.001f * (float)(i % 37 - 18);
    for (int k = 0; k < N_TYPES; k++)
        for (int fill = 0; fill <= 0xFF; fill += 0xFF) {
            weight made = make_tiled(types[k], OUT, IN, 1);
            for (int32_t g = 0; g < IN / PACKED_GROUP; g++) {
                packed_group at = packed_group_at(types[k], IN, g);
                unsigned char *panel = made.packed;
                uint16_t tiny = dtype_to_f16(6e-8f), huge = dtype_to_f16(60000.0f);
                memset(panel + at.quants, fill, packed_quant_bytes(types[k]));
                if (g % 3 == 0) memset(panel + at.scale, 0, PACKED_SCALE_BYTES);
                for (int o = 0; o < 8 && !packed_has_supers(types[k]); o++) {
                    if (g == 1) memcpy(panel + at.scale + 2 * o, &tiny, 2);
                    if (g == 2 && o % 2) memcpy(panel + at.scale + 2 * o, &huge, 2);
                }
            }
            packed_set_exponents(types[k], IN, made.packed);
            double expected[ROWS * OUT];
            for (int t = 0; t < N_CPU_TIERS; t++) {
                device *dev = check_open(check_tier(t), 1);
                if (!dev) continue;
                float *y = multiply(dev, &made.w, x, NULL, ROWS);
                for (int r = 0; r < ROWS; r++) {
                    for (int o = 0; o < OUT; o++) {
                        assert_true(isfinite(y[r * OUT + o]));
                        if (t == 0) expected[r * OUT + o] = (double)y[r * OUT + o];
                    }
                    check_close("extremes", check_tier(t), y + r * OUT, expected + r * OUT, OUT,
                                1e-9);
                }
                free(y);
                device_close(dev);
            }
            free_weight(&made);
        }
}

/* A NaN or an infinity among activations spoils its row, all of it, and no other; one among scales
 * its output, and no other. */
static void test_not_finite(void **state) {
    (void)state;
    enum { ROWS = 6, OUT = 20, IN = 256 };
    for (int k = 0; k < N_TYPES; k++) {
        weight made = make_tiled(types[k], OUT, IN, 2);
        uint16_t bad = k % 2 ? 0x7C00 : 0x7E00; /* infinity, NaN */
        packed_group at = packed_group_at(types[k], IN, 5);
        size_t where = packed_has_supers(types[k]) ? at.super : at.scale;
        memcpy((unsigned char *)made.packed + where + 2 * 7, &bad, 2);
        packed_set_exponents(types[k], IN, made.packed);
        for (int t = 0; t < N_CPU_TIERS; t++) {
            device *dev = check_open(check_tier(t), 1);
            if (!dev) continue;
            float *x = check_floats(ROWS * IN, 1.0f, 4);
            x[1 * IN + 40] = NAN;
            x[3 * IN + 255] = -INFINITY;
            x[4 * IN + 3] = 2e12f; /* above 2^40 */
            float *y = multiply(dev, &made.w, x, NULL, ROWS);
            for (int r = 0; r < ROWS; r++)
                for (int o = 0; o < OUT; o++)
                    assert_int_equal(isfinite(y[r * OUT + o]) != 0,
                                     r != 1 && r != 3 && r != 4 && o != 7);
            free(y);
            free(x);
            device_close(dev);
        }
        free_weight(&made);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_near_exact),
        cmocka_unit_test(test_tiers),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

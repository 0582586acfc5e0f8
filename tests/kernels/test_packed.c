/* SPDX-License-Identifier: Apache-2.0
 *
 * Products on packed weights: every tier gives the bits of the scalar specification, whatever the
 * number of rows, threads and outputs; and the specification is near the product in float64 of the
 * decoded weights, as near as 8-bit activations allow. Experts and the head with packed weights.
 */
#include "packed_check.h"

/* An error of 1/254 of a group's largest number, uniform: 1e-5 of the square at most. */
static void test_near_exact(void **state) {
    (void)state;
    check_near_exact(FORM_INT8, 3e-5);
}

static void test_tiers_give_the_same_bits(void **state) {
    (void)state;
    static const int32_t rows[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 33};
    static const int32_t shapes[][2] = {{1, 256}, {16, 512}, {37, 768}, {300, 256}};
    device *scalar = check_open("scalar", 1);
    for (int k = 0; k < N_TYPES; k++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            int32_t n_out = shapes[s][0], n_in = shapes[s][1];
            weight made = make_weight(types[k], n_out, n_in, 3 + s);
            float *x = check_floats(33 * (size_t)n_in, 2.0f, 5), *bias = check_floats(n_out, 1, 6);
            memset(x + n_in / 2, 0, 64 * sizeof *x); /* a group of zeros */
            x[1] = 1e-38f;
            float *all = multiply(scalar, &made.w, x, bias, 33);
            for (int t = 0; t < N_CPU_TIERS; t++)
                for (int n_threads = 1; n_threads <= 2; n_threads++) {
                    device *dev = check_open(check_tier(t), n_threads);
                    if (!dev) continue;
                    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                        if (TEST_IS_SAMPLED && i % 4 != 1) continue;
                        /* The last rows of x, so that places in blocks differ. */
                        size_t skip = (size_t)(33 - rows[i]);
                        float *y = multiply(dev, &made.w, x + skip * (size_t)n_in, bias, rows[i]);
                        check_same_bits(dtype_name(types[k]), check_tier(t), y,
                                        all + skip * (size_t)n_out,
                                        (size_t)rows[i] * (size_t)n_out * sizeof *y);
                        free(y);
                    }
                    device_close(dev);
                }
            free(all);
            free(x);
            free(bias);
            free_weight(&made);
        }
    device_close(scalar);
}

/* The largest sums that can occur do not overflow, and extreme numbers give the same bits. */
static void test_extremes(void **state) {
    (void)state;
    enum { ROWS = 2, OUT = 16, IN = 256 };
    float x[ROWS * IN], *expected = NULL;
    for (int i = 0; i < ROWS * IN; i++) x[i] = i < IN ? 1e30f : -1e-29f;
    for (int k = 0; k < N_TYPES; k++) {
        weight made = make_weight(types[k], OUT, IN, 1);
        /* All quants at their ends; scales are left as they are. */
        for (int32_t g = 0; g < IN / PACKED_GROUP; g++)
            memset((unsigned char *)made.packed + packed_group_at(types[k], IN, g).quants, 0xFF,
                   packed_quant_bytes(types[k]));
        for (int t = 0; t < N_CPU_TIERS; t++) {
            device *dev = check_open(check_tier(t), 1);
            if (!dev) continue;
            float *y = multiply(dev, &made.w, x, NULL, ROWS);
            for (int i = 0; i < ROWS * OUT; i++) assert_true(isfinite(y[i]));
            if (t == 0) {
                expected = y;
            } else {
                check_same_bits("extremes", check_tier(t), y, expected, ROWS * OUT * sizeof *y);
                free(y);
            }
            device_close(dev);
        }
        free(expected);
        free_weight(&made);
    }
}

/* A NaN or an infinity spoils its own row, all of it, and no other. */
static void test_not_finite(void **state) {
    (void)state;
    enum { ROWS = 6, OUT = 20, IN = 256 };
    weight made = make_weight(DTYPE_Q4_K, OUT, IN, 2);
    for (int t = 0; t < N_CPU_TIERS; t++) {
        device *dev = check_open(check_tier(t), 1);
        if (!dev) continue;
        float *x = check_floats(ROWS * IN, 1.0f, 4);
        x[1 * IN + 40] = NAN;
        x[3 * IN + 255] = -INFINITY;
        float *y = multiply(dev, &made.w, x, NULL, ROWS);
        for (int r = 0; r < ROWS; r++)
            for (int o = 0; o < OUT; o++)
                assert_int_equal(isfinite(y[r * OUT + o]) != 0, r != 1 && r != 3);
        free(y);
        free(x);
        device_close(dev);
    }
    free_weight(&made);
}

/* Packed experts against the same experts with float32 activations; a row alone against the batch;
 * threads. */
static void test_experts(void **state) {
    (void)state;
    enum { ROWS = 40, HIDDEN = 256, INNER = 288, EXPERTS = 5, ACTIVE = 2 };
    weight made[EXPERTS][3];
    mlp_weights packed[EXPERTS], plain[EXPERTS];
    int32_t ids[ROWS * ACTIVE];
    float weights[ROWS * ACTIVE];
    for (int e = 0; e < EXPERTS; e++) {
        made[e][0] = make_weight(DTYPE_Q4_0, INNER, HIDDEN, 10 + (uint64_t)e);
        made[e][1] = make_weight(DTYPE_Q4_0, INNER, HIDDEN, 20 + (uint64_t)e);
        made[e][2] = make_weight(DTYPE_Q8_0, HIDDEN, INNER, 30 + (uint64_t)e);
        packed[e] = (mlp_weights){made[e][0].w, made[e][1].w, made[e][2].w};
        plain[e] = packed[e];
        plain[e].gate.form = plain[e].up.form = plain[e].down.form = FORM_FLOAT;
    }
    for (int i = 0; i < ROWS * ACTIVE; i++) {
        ids[i] = i % ACTIVE ? 4 : i % 7 % 4; /* expert 4 has more rows than a block holds */
        weights[i] = 0.3f + 0.01f * (float)i;
    }
    float *x = check_floats(ROWS * HIDDEN, 0.2f, 1), *first = NULL;
    for (int t = 0; t < N_CPU_TIERS; t++)
        for (int n_threads = 1; n_threads <= 2; n_threads++) {
            device *dev = check_open(check_tier(t), n_threads);
            um_error err;
            if (!dev) continue;
            assert_int_equal(device_reserve_decode(dev, INNER, &err), UM_OK);
            float *y = run_experts(dev, packed, x, ids, weights, ROWS, ACTIVE, EXPERTS);
            float *z = run_experts(dev, plain, x, ids, weights, ROWS, ACTIVE, EXPERTS);
            double expected[ROWS * HIDDEN];
            for (int i = 0; i < ROWS * HIDDEN; i++) expected[i] = (double)z[i];
            check_close("experts", check_tier(t), y, expected, ROWS * HIDDEN, 2e-4);
            for (int r = 0; r < ROWS; r += 13) {
                float *one = run_experts(dev, packed, x + r * HIDDEN, ids + r * ACTIVE,
                                         weights + r * ACTIVE, 1, ACTIVE, EXPERTS);
                check_same_bits("a row alone", check_tier(t), one, y + r * HIDDEN,
                                HIDDEN * sizeof *one);
                free(one);
            }
            if (n_threads == 1) {
                first = y;
            } else {
                check_same_bits("threads", check_tier(t), y, first, ROWS * HIDDEN * sizeof *y);
                free(first);
                free(y);
            }
            free(z);
            device_close(dev);
        }
    free(x);
    for (int e = 0; e < EXPERTS; e++)
        for (int i = 0; i < 3; i++) free_weight(&made[e][i]);
}

/* The head's logits are the products' own, for the rows that requests name. */
static void test_head(void **state) {
    (void)state;
    enum { ROWS = 19, VOCAB = 523, HIDDEN = 256, REQUESTS = 3 };
    weight made = make_weight(DTYPE_Q6_K, VOCAB, HIDDEN, 9);
    float *x = check_floats(ROWS * HIDDEN, 0.5f, 2);
    static const int32_t rows[REQUESTS] = {18, 2, 7};
    for (int t = 0; t < N_CPU_TIERS; t++) {
        device *dev = check_open(check_tier(t), 2);
        if (!dev) continue;
        float *y = multiply(dev, &made.w, x, NULL, ROWS);
        float *logits = malloc(REQUESTS * VOCAB * sizeof *logits);
        score_request requests[REQUESTS];
        score scores[REQUESTS];
        for (int i = 0; i < REQUESTS; i++)
            requests[i] = (score_request){.row = rows[i],
                                          .guide_row = -1,
                                          .top_p = 1,
                                          .removed = -1,
                                          .watched = {-1, -1},
                                          .logits = logits + i * VOCAB};
        head_args args = {.x = x,
                          .w = made.w,
                          .logit_scale = 1.0f,
                          .n_rows = ROWS,
                          .n_requests = REQUESTS,
                          .requests = requests,
                          .forbidden_token = -1,
                          .scores = scores};
        void *scratch = check_scratch(dev->ops->head_scratch(dev, &args));
        assert_int_equal(dev->ops->head(dev, &args, scratch), UM_OK);
        for (int i = 0; i < REQUESTS; i++) {
            const float *row = y + rows[i] * VOCAB;
            check_same_bits("head", check_tier(t), logits + i * VOCAB, row, VOCAB * sizeof *row);
            int32_t best = 0;
            for (int32_t o = 0; o < VOCAB; o++)
                if (row[o] > row[best]) best = o;
            assert_int_equal(scores[i].token, best);
        }
        free(scratch);
        free(logits);
        free(y);
        device_close(dev);
    }
    free(x);
    free_weight(&made);
}

/* linear and embed read block types without a twin as their decoded numbers. */
static void test_decoded(void **state) {
    (void)state;
    enum { ROWS = 3, OUT = 13, IN = 256 };
    float *x = check_floats(ROWS * IN, 1.0f, 3), y[ROWS * OUT], z[ROWS * OUT], row[IN];
    for (int k = 0; k < N_TYPES; k++) {
        weight made = make_weight(types[k], OUT, IN, 5);
        matrix floats = {.data = made.decoded, .type = DTYPE_F32, .n_out = OUT, .n_in = IN};
        for (int t = 0; t < N_TIERS; t++) {
            device *dev = check_open(check_tier(t), 2);
            um_error err;
            if (!dev) continue;
            assert_int_equal(device_reserve_decode(dev, IN, &err), UM_OK);
            assert_int_equal(dev->ops->linear(dev, y, x, &made.w, NULL, ROWS), UM_OK);
            assert_int_equal(dev->ops->linear(dev, z, x, &floats, NULL, ROWS), UM_OK);
            check_same_bits("linear", check_tier(t), y, z, sizeof y);
            int32_t token = OUT - 1;
            assert_int_equal(dev->ops->embed(dev, row, &made.w, &token, 1), UM_OK);
            check_same_bits("embed", check_tier(t), row, made.decoded + token * IN, sizeof row);
            device_close(dev);
        }
        free_weight(&made);
    }
    free(x);
}

static matrix rounded_matrix(int32_t n_out, int32_t n_in, uint64_t seed, uint16_t **owner) {
    size_t n = (size_t)n_out * (size_t)n_in;
    *owner = malloc(n * sizeof **owner);
    assert_non_null(*owner);
    for (size_t i = 0; i < n; i++) (*owner)[i] = dtype_to_bf16(check_uniform(&seed));
    return (matrix){
        .data = *owner, .type = DTYPE_BF16, .n_out = n_out, .n_in = n_in, .form = FORM_BF16};
}

/* Weights of bfloat16 with rounded activations: tiers near the scalar specification, and bit by bit
 * the same whatever the number of rows and threads. */
static void test_rounded(void **state) {
    (void)state;
    static const int32_t rows[] = {1, 2, 15, 16, 17, 33};
    static const int32_t shapes[][2] = {{16, 32}, {48, 96}, {320, 256}};
    device *scalar = check_open("scalar", 1);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int32_t n_out = shapes[s][0], n_in = shapes[s][1];
        uint16_t *owner;
        matrix w = rounded_matrix(n_out, n_in, 3 + s, &owner);
        float *x = check_floats(33 * (size_t)n_in, 2.0f, 5), *bias = check_floats(n_out, 1, 6);
        float *all = multiply(scalar, &w, x, bias, 33), *plain = malloc(33 * n_out * sizeof *plain);
        size_t n = 33 * (size_t)n_out;
        double *expected = malloc(n * sizeof *expected);
        assert_int_equal(scalar->ops->linear(scalar, plain, x, &w, bias, 33), UM_OK);
        for (size_t i = 0; i < n; i++) expected[i] = (double)plain[i];
        check_close("rounding", "scalar", all, expected, n, 2e-5);
        for (size_t i = 0; i < n; i++) expected[i] = (double)all[i];
        for (int t = 0; t < N_TIERS; t++) {
            float *batch = NULL;
            for (int n_threads = 1; n_threads <= 2; n_threads++) {
                device *dev = check_open(check_tier(t), n_threads);
                if (!dev) continue;
                float *y = multiply(dev, &w, x, bias, 33);
                check_close("rounded", check_tier(t), y, expected, n, 1e-10);
                if (!batch) batch = y;
                check_same_bits("threads", check_tier(t), y, batch, n * sizeof *y);
                if (y != batch) free(y);
                for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                    size_t skip = (size_t)(33 - rows[i]);
                    y = multiply(dev, &w, x + skip * (size_t)n_in, bias, rows[i]);
                    check_same_bits("rows", check_tier(t), y, batch + skip * (size_t)n_out,
                                    (size_t)rows[i] * (size_t)n_out * sizeof *y);
                    free(y);
                }
                device_close(dev);
            }
            free(batch);
        }
        free(expected);
        free(plain);
        free(all);
        free(bias);
        free(x);
        free(owner);
    }
    device_close(scalar);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_near_exact), cmocka_unit_test(test_tiers_give_the_same_bits),
        cmocka_unit_test(test_extremes),   cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_experts),    cmocka_unit_test(test_head),
        cmocka_unit_test(test_decoded),    cmocka_unit_test(test_rounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

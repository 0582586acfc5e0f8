/* SPDX-License-Identifier: Apache-2.0
 *
 * Router and experts: ties, groups, float64 references, and the same bits whatever the batch.
 */
#include "kernel_check.h"

static void run_route(device *dev, const route_args *args) {
    void *scratch = check_scratch(dev->ops->route_scratch(dev, args));
    assert_int_equal(dev->ops->route(dev, args, scratch), UM_OK);
    free(scratch);
}

/* Equal scores everywhere: the lowest indices are chosen, in order, and share the weight. */
static void route_ties_go_low(void **state) {
    (void)state;
    float w[8 * 2] = {0}, x[2] = {1.0f, 2.0f}, weights[3];
    int32_t ids[3];
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 1);
        if (!dev) continue;
        route_args args = {.x = x,
                           .w = {w, DTYPE_F32, 8, 2},
                           .n_rows = 1,
                           .n_experts = 8,
                           .n_active = 3,
                           .n_group = 1,
                           .topk_group = 1,
                           .scale = 3.0f,
                           .ids = ids,
                           .weights = weights};
        run_route(dev, &args);
        for (int k = 0; k < 3; k++) {
            assert_int_equal(ids[k], k);
            assert_true(fabsf(weights[k] - 1.0f) < 1e-6f);
        }
        /* A bias steers the choice and not the weight; groups of two, two stay: {2,3} and {6,7}. */
        float bias[8] = {0.9f, -9.0f, 0.1f, 0.5f, 0.0f, 0.2f, 0.3f, 0.3f};
        args.bias = bias;
        args.n_group = 4;
        args.topk_group = 2;
        run_route(dev, &args);
        assert_int_equal(ids[0], 3);
        assert_int_equal(ids[1], 6);
        assert_int_equal(ids[2], 7);
        assert_true(fabsf(weights[0] - 1.0f) < 1e-6f);
        args.n_active = 1;
        run_route(dev, &args);
        assert_int_equal(ids[0], 3);
        assert_true(fabsf(weights[0] - 1.5f) < 1e-6f); /* sigmoid(0) * 3 */
        x[0] = NAN;
        run_route(dev, &args);
        assert_true(ids[0] >= 0 && ids[0] < 8);
        x[0] = 1.0f;
        device_close(dev);
    }
}

static void route_is_right(void **state) {
    (void)state;
    enum { ROWS = 19, EXPERTS = 24, HIDDEN = 37, ACTIVE = 5 };
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 2);
        if (!dev) continue;
        void *owner;
        float *w, *x = check_floats(ROWS * HIDDEN, 1.0f, 71),
                  *bias = check_floats(EXPERTS, 0.1f, 73);
        matrix m = check_matrix(DTYPE_BF16, EXPERTS, HIDDEN, 0.5f, 79, &owner, &w);
        int32_t ids[ROWS * ACTIVE], alone_ids[ACTIVE];
        float weights[ROWS * ACTIVE], alone_weights[ACTIVE];
        route_args args = {.x = x,
                           .w = m,
                           .bias = bias,
                           .n_rows = ROWS,
                           .n_experts = EXPERTS,
                           .n_active = ACTIVE,
                           .n_group = 1,
                           .topk_group = 1,
                           .scale = 2.5f,
                           .ids = ids,
                           .weights = weights};
        run_route(dev, &args);
        for (int r = 0; r < ROWS; r++) {
            double s[EXPERTS], total = 0.0;
            for (int e = 0; e < EXPERTS; e++) {
                double z = 0.0;
                for (int i = 0; i < HIDDEN; i++)
                    z += (double)x[r * HIDDEN + i] * (double)w[e * HIDDEN + i];
                s[e] = 1.0 / (1.0 + exp(-z));
            }
            for (int k = 0; k < ACTIVE; k++) total += s[ids[r * ACTIVE + k]];
            for (int k = 0; k < ACTIVE; k++) {
                int id = ids[r * ACTIVE + k], n_above = 0;
                for (int e = 0; e < EXPERTS; e++)
                    n_above += s[e] + (double)bias[e] > s[id] + (double)bias[id];
                assert_int_equal(n_above, k);
                assert_true(fabs((double)weights[r * ACTIVE + k] - s[id] / total * 2.5) < 1e-5);
            }
            route_args one = args;
            one.n_rows = 1;
            one.x = x + r * HIDDEN;
            one.ids = alone_ids;
            one.weights = alone_weights;
            run_route(dev, &one);
            check_same_bits("route", dev->tier, alone_ids, ids + r * ACTIVE, sizeof alone_ids);
            check_same_bits("route", dev->tier, alone_weights, weights + r * ACTIVE,
                            sizeof alone_weights);
        }
        free(owner);
        free(w);
        free(x);
        free(bias);
        device_close(dev);
    }
}

static void run_experts(device *dev, const experts_args *args) {
    void *scratch = check_scratch(dev->ops->experts_scratch(dev, args));
    assert_int_equal(dev->ops->experts(dev, args, scratch), UM_OK);
    free(scratch);
}

enum { HIDDEN = 51, INNER = 70, EXPERTS = 6, ROWS = 21, ACTIVE = 3 };

static void experts_reference(const float *x, float *const *w, const int32_t *ids,
                              const float *weights, double *y) {
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < ACTIVE; k++) {
            const float *const *e = (const float *const *)w + 3 * ids[r * ACTIVE + k];
            double h[INNER];
            for (int i = 0; i < INNER; i++) {
                double g = 0.0, u = 0.0;
                for (int j = 0; j < HIDDEN; j++) {
                    g += (double)x[r * HIDDEN + j] * (double)e[0][i * HIDDEN + j];
                    u += (double)x[r * HIDDEN + j] * (double)e[1][i * HIDDEN + j];
                }
                h[i] = g / (1.0 + exp(-g)) * u;
            }
            for (int j = 0; j < HIDDEN; j++) {
                double sum = 0.0;
                for (int i = 0; i < INNER; i++) sum += h[i] * (double)e[2][j * INNER + i];
                y[r * HIDDEN + j] =
                    (k ? y[r * HIDDEN + j] : 0.0) + (double)weights[r * ACTIVE + k] * sum;
            }
        }
}

static void experts_are_right(void **state) {
    (void)state;
    void *owners[EXPERTS * 3];
    float *w[EXPERTS * 3], *x = check_floats(ROWS * HIDDEN, 1.0f, 83);
    float *weights = check_floats(ROWS * ACTIVE, 1.0f, 89);
    mlp_weights experts[EXPERTS];
    int32_t ids[ROWS * ACTIVE];
    double expected[ROWS * HIDDEN];
    float y[ROWS * HIDDEN], y_first[ROWS * HIDDEN], alone[HIDDEN];
    for (int i = 0; i < EXPERTS; i++) {
        uint64_t seed = 97 + (uint64_t)i * 3;
        experts[i].gate =
            check_matrix(DTYPE_BF16, INNER, HIDDEN, 0.3f, seed, &owners[3 * i], &w[3 * i]);
        experts[i].up = check_matrix(DTYPE_BF16, INNER, HIDDEN, 0.3f, seed + 1, &owners[3 * i + 1],
                                     &w[3 * i + 1]);
        experts[i].down = check_matrix(DTYPE_BF16, HIDDEN, INNER, 0.3f, seed + 2,
                                       &owners[3 * i + 2], &w[3 * i + 2]);
    }
    for (int i = 0; i < ROWS * ACTIVE; i++) ids[i] = (i / ACTIVE * i + i % ACTIVE * 2) % EXPERTS;
    experts_reference(x, w, ids, weights, expected);
    for (int t = 0; t < N_TIERS; t++)
        for (int threads = 1; threads <= 3; threads++) {
            device *dev = check_open(check_tier(t), threads);
            if (!dev) continue;
            experts_args args = {.x = x,
                                 .y = y,
                                 .ids = ids,
                                 .weights = weights,
                                 .experts = experts,
                                 .n_rows = ROWS,
                                 .n_active = ACTIVE,
                                 .n_experts = EXPERTS};
            run_experts(dev, &args);
            check_close("experts", dev->tier, y, expected, ROWS * HIDDEN, 1e-12);
            if (threads == 1) memcpy(y_first, y, sizeof y);
            check_same_bits("threads", dev->tier, y_first, y, sizeof y);
            for (int r = 0; r < ROWS; r++) {
                experts_args one = args;
                one.n_rows = 1;
                one.x = x + r * HIDDEN;
                one.y = alone;
                one.ids = ids + r * ACTIVE;
                one.weights = weights + r * ACTIVE;
                run_experts(dev, &one);
                check_same_bits("row alone", dev->tier, alone, y + r * HIDDEN, sizeof alone);
            }
            device_close(dev);
        }
    for (int i = 0; i < EXPERTS * 3; i++) {
        free(owners[i]);
        free(w[i]);
    }
    free(x);
    free(weights);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(route_ties_go_low),
                                       cmocka_unit_test(route_is_right),
                                       cmocka_unit_test(experts_are_right)};
    return cmocka_run_group_tests_name("moe", tests, NULL, NULL);
}

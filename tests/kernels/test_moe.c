/* SPDX-License-Identifier: Apache-2.0
 *
 * Router and experts: ties, groups, blocks, float64 references of every family's router, and the
 * same bits whatever the batch.
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
                           .is_normalised = true,
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
        args.is_normalised = false;
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

enum { R_ROWS = 19, R_EXPERTS = 27, R_HIDDEN = 37, R_ACTIVE = 5 };

/* One kind of router. */
typedef struct router_case {
    const char *name;
    route_score score;
    bool is_normalised, is_weight_biased, has_bias;
    int32_t n_active, n_block_experts;
    float scale;
    int32_t n_group, topk_group; /* 1: no groups */
} router_case;

static const router_case router_cases[] = {
    {"LLaDA2", ROUTE_SCORE_SIGMOID, true, false, true, R_ACTIVE, 0, 2.5f, 1, 1},
    {"LLaDA2, one expert", ROUTE_SCORE_SIGMOID, false, false, true, 1, 0, 2.5f, 1, 1},
    {"LLaDA2.2", ROUTE_SCORE_SIGMOID, true, false, true, R_ACTIVE, 7, 2.5f, 1, 1},
    {"LLaDA2.2, no choice", ROUTE_SCORE_SIGMOID, true, false, true, R_ACTIVE, R_ACTIVE, 2.5f, 1, 1},
    {"LLaDA2.2, all", ROUTE_SCORE_SIGMOID, true, false, true, R_ACTIVE, R_EXPERTS, 2.5f, 1, 1},
    {"Qwen3-MoE", ROUTE_SCORE_SOFTMAX, true, false, false, R_ACTIVE, 0, 1.0f, 1, 1},
    {"Qwen3-MoE, not normalised", ROUTE_SCORE_SOFTMAX, false, false, false, R_ACTIVE, 0, 1.0f, 1,
     1},
    {"Qwen3-MoE, one expert", ROUTE_SCORE_SOFTMAX, true, false, false, 1, 0, 1.0f, 1, 1},
    {"LLaDA-MoE", ROUTE_SCORE_SOFTMAX, false, false, false, R_ACTIVE, 0, 1.0f, 1, 1},
    {"LLaDA-MoE, bias", ROUTE_SCORE_SOFTMAX, false, true, true, R_ACTIVE, 0, 1.0f, 1, 1},
    {"softmax in blocks", ROUTE_SCORE_SOFTMAX, true, false, true, R_ACTIVE, 8, 0.5f, 1, 1},
    {"LLaDA2 in groups", ROUTE_SCORE_SIGMOID, true, false, true, R_ACTIVE, 0, 2.5f, 9, 4},
    {"LLaDA2 capped", ROUTE_SCORE_SIGMOID, true, false, true, R_ACTIVE, 14, 2.5f, 3, 2},
    {"LLaDA2 capped, all", ROUTE_SCORE_SIGMOID, true, false, true, R_ACTIVE, R_EXPERTS, 2.5f, 9, 4},
    {"LLaDA2 capped, groups too small", ROUTE_SCORE_SIGMOID, true, false, true, R_ACTIVE, 10, 2.5f,
     3, 1},
};

/* Two sequences in blocks of 4, rows of a block apart from each other, blocks cut short. */
static void place_rows(int32_t *seq, int32_t *positions) {
    for (int32_t r = 0; r < R_ROWS; r++) {
        seq[r] = r % 2;
        positions[r] = (r * 5) % R_ROWS / 2;
    }
}

/* Of a row: the experts of the best groups, by the sum of a group's two best. */
static void keep_best_groups(const router_case *c, double *r) {
    int size = R_EXPERTS / c->n_group;
    double sums[R_EXPERTS];
    for (int g = 0; g < c->n_group; g++) {
        sums[g] = -INFINITY;
        for (int i = g * size; i < (g + 1) * size; i++)
            for (int j = g * size; j < i; j++) sums[g] = fmax(sums[g], r[i] + r[j]);
    }
    for (int e = 0; e < R_EXPERTS; e++) {
        int n_above = 0;
        for (int g = 0; g < c->n_group; g++) n_above += sums[g] > sums[e / size];
        if (n_above >= c->topk_group) r[e] = -INFINITY;
    }
}

/* s [R_ROWS, R_EXPERTS] scores, r the same with the bias and -infinity where an expert may not be
 * chosen: the definition, row by row. Returns how many rows had to leave their groups. */
static int router_reference(const router_case *c, const float *x, const float *w, const float *bias,
                            const int32_t *seq, const int32_t *positions, double *s, double *r) {
    for (int i = 0; i < R_ROWS; i++) {
        double *row = s + i * R_EXPERTS, sum = 0.0;
        for (int e = 0; e < R_EXPERTS; e++) {
            row[e] = 0.0;
            for (int j = 0; j < R_HIDDEN; j++)
                row[e] += (double)x[i * R_HIDDEN + j] * (double)w[e * R_HIDDEN + j];
            sum += exp(row[e]);
        }
        for (int e = 0; e < R_EXPERTS; e++) {
            row[e] =
                c->score == ROUTE_SCORE_SOFTMAX ? exp(row[e]) / sum : 1.0 / (1.0 + exp(-row[e]));
            r[i * R_EXPERTS + e] = row[e] + (c->has_bias ? (double)bias[e] : 0.0);
        }
    }
    int n_relaxed = 0;
    double *cut = malloc(sizeof *cut * R_ROWS * R_EXPERTS);
    double *all = malloc(sizeof *all * R_ROWS * R_EXPERTS);
    assert_true(cut && all);
    memcpy(all, r, sizeof *all * R_ROWS * R_EXPERTS);
    for (int i = 0; i < R_ROWS && c->n_group > 1; i++) keep_best_groups(c, r + i * R_EXPERTS);
    memcpy(cut, r, sizeof *cut * R_ROWS * R_EXPERTS);
    for (int i = 0; i < R_ROWS && c->n_block_experts; i++) {
        double best[R_EXPERTS];
        bool stays[R_EXPERTS];
        int n_left = 0;
        for (int e = 0; e < R_EXPERTS; e++) {
            best[e] = -INFINITY;
            for (int j = 0; j < R_ROWS; j++)
                if (seq[j] == seq[i] && positions[j] / 4 == positions[i] / 4)
                    best[e] = fmax(best[e], r[j * R_EXPERTS + e]);
        }
        for (int e = 0; e < R_EXPERTS; e++) {
            int n_above = 0;
            for (int f = 0; f < R_EXPERTS; f++) n_above += best[f] > best[e];
            stays[e] = n_above < c->n_block_experts;
            n_left += stays[e] && r[i * R_EXPERTS + e] > (double)-INFINITY;
        }
        const double *of = n_left < c->n_active ? all : r;
        n_relaxed += of == all;
        for (int e = 0; e < R_EXPERTS; e++)
            cut[i * R_EXPERTS + e] = stays[e] ? of[i * R_EXPERTS + e] : (double)-INFINITY;
    }
    memcpy(r, cut, sizeof *r * R_ROWS * R_EXPERTS);
    free(cut);
    free(all);
    return n_relaxed;
}

static void check_routed(const router_case *c, const char *tier, const double *s, const double *r,
                         const int32_t *ids, const float *weights) {
    for (int i = 0; i < R_ROWS; i++) {
        const double *scores = s + i * R_EXPERTS, *ranked = r + i * R_EXPERTS;
        double total = 0.0;
        for (int k = 0; k < c->n_active; k++) {
            int id = ids[i * c->n_active + k];
            total += c->is_weight_biased ? ranked[id] : scores[id];
        }
        for (int k = 0; k < c->n_active; k++) {
            int id = ids[i * c->n_active + k], n_above = 0;
            for (int e = 0; e < R_EXPERTS; e++) n_above += ranked[e] > ranked[id];
            if (n_above != k || !(ranked[id] > -1e9))
                fail_msg("%s %s: row %d, choice %d is number %d", c->name, tier, i, k, n_above);
            double expected = (c->is_weight_biased ? ranked[id] : scores[id]) *
                              (c->is_normalised ? 1.0 / total : 1.0) * (double)c->scale;
            assert_true(fabs((double)weights[i * c->n_active + k] - expected) < 1e-5);
        }
    }
}

/* The rows that a row's result may depend on, in the reverse order, give it the same bits. */
static void check_company(device *dev, const route_args *args, const int32_t *ids,
                          const float *weights) {
    float x[R_ROWS * R_HIDDEN], own_weights[R_ROWS * R_ACTIVE];
    int32_t seq[R_ROWS], positions[R_ROWS], own_ids[R_ROWS * R_ACTIVE];
    size_t n_active = (size_t)args->n_active;
    for (int i = 0; i < R_ROWS; i++) {
        int n = 0, place = 0;
        for (int j = R_ROWS - 1; j >= 0; j--) {
            bool is_needed = j == i;
            if (args->n_block_experts)
                is_needed =
                    args->seq[j] == args->seq[i] &&
                    args->positions[j] / args->block_len == args->positions[i] / args->block_len;
            if (!is_needed) continue;
            if (j == i) place = n;
            memcpy(x + n * R_HIDDEN, args->x + j * R_HIDDEN, R_HIDDEN * sizeof *x);
            seq[n] = args->seq[j];
            positions[n++] = args->positions[j];
        }
        route_args few = *args;
        few.x = x;
        few.seq = seq;
        few.positions = positions;
        few.n_rows = n;
        few.ids = own_ids;
        few.weights = own_weights;
        run_route(dev, &few);
        check_same_bits("route ids", dev->tier, own_ids + (size_t)place * n_active,
                        ids + (size_t)i * n_active, n_active * sizeof *ids);
        check_same_bits("route weights", dev->tier, own_weights + (size_t)place * n_active,
                        weights + (size_t)i * n_active, n_active * sizeof *weights);
    }
}

static void route_is_right(void **state) {
    (void)state;
    void *owner;
    float *w, *x = check_floats(R_ROWS * R_HIDDEN, 1.0f, 71),
              *bias = check_floats(R_EXPERTS, 0.1f, 73);
    matrix m = check_matrix(DTYPE_BF16, R_EXPERTS, R_HIDDEN, 0.5f, 79, &owner, &w);
    int32_t ids[R_ROWS * R_ACTIVE], seq[R_ROWS], positions[R_ROWS];
    float weights[R_ROWS * R_ACTIVE];
    double s[R_ROWS * R_EXPERTS], r[R_ROWS * R_EXPERTS];
    place_rows(seq, positions);
    for (size_t i = 0; i < sizeof router_cases / sizeof *router_cases; i++) {
        const router_case *c = &router_cases[i];
        int n_relaxed = router_reference(c, x, w, bias, seq, positions, s, r);
        if (c->n_block_experts == 10) assert_in_range(n_relaxed, 1, R_ROWS - 1);
        for (int t = 0; t < N_TIERS; t++) {
            device *dev = check_open(check_tier(t), 2);
            if (!dev) continue;
            route_args args = {.x = x,
                               .w = m,
                               .bias = c->has_bias ? bias : NULL,
                               .seq = seq,
                               .positions = positions,
                               .score = c->score,
                               .is_normalised = c->is_normalised,
                               .is_weight_biased = c->is_weight_biased,
                               .n_rows = R_ROWS,
                               .n_experts = R_EXPERTS,
                               .n_active = c->n_active,
                               .n_group = c->n_group,
                               .topk_group = c->topk_group,
                               .n_block_experts = c->n_block_experts,
                               .block_len = 4,
                               .scale = c->scale,
                               .ids = ids,
                               .weights = weights};
            run_route(dev, &args);
            check_routed(c, dev->tier, s, r, ids, weights);
            check_company(dev, &args, ids, weights);
            device_close(dev);
        }
    }
    free(owner);
    free(w);
    free(x);
    free(bias);
}

/* Block routing where all experts are alike: the lowest stay. Logits that a softmax without the
 * subtraction of the highest could not take. A NaN never chooses an expert that is not there. */
static void route_at_the_edges(void **state) {
    (void)state;
    float w[8 * 2] = {0}, x[4] = {1.0f, 2.0f, 3.0f, 4.0f}, weights[4];
    int32_t ids[4], seq[2] = {0, 0}, positions[2] = {6, 7};
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 1);
        if (!dev) continue;
        route_args args = {.x = x,
                           .w = {w, DTYPE_F32, 8, 2},
                           .seq = seq,
                           .positions = positions,
                           .is_normalised = true,
                           .n_rows = 2,
                           .n_experts = 8,
                           .n_active = 2,
                           .n_group = 1,
                           .topk_group = 1,
                           .n_block_experts = 3,
                           .block_len = 8,
                           .scale = 1.0f,
                           .ids = ids,
                           .weights = weights};
        run_route(dev, &args);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(ids[i], i % 2);
            assert_true(fabsf(weights[i] - 0.5f) < 1e-6f);
        }
        args.score = ROUTE_SCORE_SOFTMAX;
        args.n_block_experts = 0;
        w[2 * 5] = 1000.0f;
        run_route(dev, &args);
        assert_int_equal(ids[0], 5);
        assert_true(fabsf(weights[0] - 1.0f) < 1e-6f);
        args.n_block_experts = 2;
        x[0] = x[2] = NAN;
        run_route(dev, &args);
        for (int i = 0; i < 4; i++) assert_true(ids[i] >= 0 && ids[i] < 8);
        x[0] = 1.0f;
        x[2] = 3.0f;
        w[2 * 5] = 0.0f;
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(route_ties_go_low), cmocka_unit_test(route_is_right),
        cmocka_unit_test(route_at_the_edges), cmocka_unit_test(experts_are_right)};
    return cmocka_run_group_tests_name("moe", tests, NULL, NULL);
}

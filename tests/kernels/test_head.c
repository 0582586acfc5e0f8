/* SPDX-License-Identifier: Apache-2.0
 *
 * The head: every field of a score against float64, all tiers drawing the same tokens, and draws
 * that follow the exact distribution under temperature, top_k, top_p and min_p.
 */
#include <float.h>

#include "kernel_check.h"

static void run_head(device *dev, const head_args *args) {
    void *scratch = check_scratch(dev->ops->head_scratch(dev, args));
    assert_int_equal(dev->ops->head(dev, args, scratch), UM_OK);
    free(scratch);
}

static score_request plain_request(int32_t row) {
    return (score_request){.row = row,
                           .guide_row = -1,
                           .top_p = 1.0,
                           .removed = -1,
                           .watched = {-1, -1},
                           .key = {.seed = 5, .request = 6, .position = (uint32_t)row}};
}

/* The candidates of a request by sorting, as ops.h words it. Returns the sum of q. */
static void cut_top_k(const double *l, const int32_t *order, const score_request *q, int32_t *n) {
    if (q->top_k <= 0 || q->top_k >= *n) return;
    int32_t k = q->top_k;
    while (k < *n && l[order[k]] == l[order[q->top_k - 1]]) k++;
    *n = k;
}

static double reference_q(const double *l, int32_t vocab, const score_request *q, int32_t forbidden,
                          double *out) {
    int32_t *order = malloc((size_t)vocab * sizeof *order), n = 0;
    assert_non_null(order);
    for (int32_t i = 0; i < vocab; i++) {
        out[i] = 0.0;
        if (i == forbidden) continue;
        int32_t at = n++;
        for (; at > 0 && l[order[at - 1]] < l[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    if (!q->is_top_p_first) cut_top_k(l, order, q, &n);
    double total = 0.0, mass = 0.0, max = l[order[0]];
    for (int32_t i = 0; i < n; i++) total += exp((l[order[i]] - max) / q->temperature);
    if (q->top_p < 1.0) {
        int32_t keep = 0;
        while (keep < n && mass < q->top_p * total)
            mass += exp((l[order[keep++]] - max) / q->temperature);
        n = keep > 0 ? keep : 1;
    }
    if (q->is_top_p_first) cut_top_k(l, order, q, &n);
    total = 0.0;
    for (int32_t i = 0; i < n; i++) {
        double p = exp((l[order[i]] - max) / q->temperature);
        if (i > 0 && p < q->min_p) break;
        out[order[i]] = p;
        total += p;
    }
    for (int32_t i = 0; i < vocab; i++) out[i] /= total;
    free(order);
    return total;
}

static void check_score(const char *tier, const score *s, const double *l, int32_t vocab,
                        const score_request *q, int32_t forbidden) {
    double top = -INFINITY, sum = 0.0, entropy = 0.0, second = -INFINITY;
    int32_t token = -1;
    for (int32_t i = 0; i < vocab; i++) top = l[i] > top ? l[i] : top;
    for (int32_t i = 0; i < vocab; i++) sum += exp(l[i] - top);
    double lse = top + log(sum);
    for (int32_t i = 0; i < vocab; i++) {
        double p = exp(l[i] - lse);
        if (p > 0.0) entropy -= p * (l[i] - lse);
        if (i == forbidden) continue;
        if (token < 0 || l[i] > l[token]) {
            second = token < 0 ? -INFINITY : l[token];
            token = i;
        } else if (l[i] > second) {
            second = l[i];
        }
    }
    assert_true(s->is_finite);
    /* Float32 sums may swap two logits closer than their rounding. */
    if (s->token != token && fabs(l[s->token] - l[token]) > 1e-5)
        fail_msg("%s: expected token %d, found %d", tier, token, s->token);
    assert_true(fabs((double)s->logit - l[token]) < 2e-5);
    assert_true(fabs((double)s->log_sum_exp - lse) < 2e-5);
    assert_true(fabs((double)s->probability - exp(l[token] - lse)) < 2e-5);
    assert_true(fabs((double)s->second_probability - exp(second - lse)) < 2e-5);
    assert_true(fabs((double)s->entropy - entropy) < 1e-4);
    if (q->temperature == 0.0) {
        assert_int_equal(s->drawn, s->token);
        assert_true(s->drawn_probability == s->probability);
        assert_true(s->drawn_tempered == s->probability);
        return;
    }
    double *p = malloc((size_t)vocab * sizeof *p);
    assert_non_null(p);
    reference_q(l, vocab, q, forbidden, p);
    assert_true(s->drawn >= 0 && s->drawn < vocab && s->drawn != forbidden);
    if (fabs((double)s->drawn_tempered - p[s->drawn]) > 1e-4)
        fail_msg("%s: drawn_tempered: expected %g, found %g", tier, p[s->drawn],
                 (double)s->drawn_tempered);
    assert_true(fabs((double)s->drawn_probability - exp(l[s->drawn] - lse)) < 2e-5);
    free(p);
}

/* All fields but is_finite, after which padding follows. */
static void check_same_score(const score *a, const score *b) {
    assert_memory_equal(a, b, offsetof(score, is_finite));
    assert_int_equal(a->is_finite, b->is_finite);
}

/* Random rows with all kinds of requests, some on the same row, some guided. */
static void check_vocab(device *dev, int32_t vocab, int32_t hidden, dtype type, int32_t forbidden,
                        score *out, int32_t n_out) {
    enum { ROWS = 9 };
    float *x = check_floats((size_t)(ROWS * hidden), 1.0f, 23), *w;
    void *owner;
    matrix m = check_matrix(type, vocab, hidden, 1.0f, 29, &owner, &w);
    score_request requests[16];
    float *logits = malloc(16 * (size_t)vocab * sizeof *logits);
    uint32_t allowed[40];
    assert_true(vocab <= 40 * 32);
    for (int32_t i = 0; i < 40; i++) allowed[i] = 0x5A3C0F11u * (uint32_t)(2 * i + 1) | 1;
    for (int i = 0; i < 16; i++) {
        requests[i] = plain_request(i % 8);
        if (i % 3 == 1) requests[i].temperature = 0.3 + 0.2 * i;
        if (i == 4 || i == 13) requests[i].top_k = 3;
        if (i == 7 || i == 13) requests[i].top_p = 0.7;
        if (i == 10 || i == 13) requests[i].min_p = 0.05;
        requests[i].logits = logits + (size_t)i * (size_t)vocab;
        requests[i].wants_spread = i % 5 == 1;
        if (i % 3 == 0 || i % 7 == 3) requests[i].allowed = allowed;
        if (i % 4 == 1) {
            requests[i].guide_row = (i + 3) % 8;
            requests[i].cfg_scale = 0.5f;
        }
    }
    score scores[16];
    double *l = malloc((size_t)vocab * sizeof *l);
    assert_true(logits && l);
    head_args args = {.x = x,
                      .w = m,
                      .logit_scale = 0.5f,
                      .n_rows = ROWS,
                      .n_requests = 16,
                      .requests = requests,
                      .forbidden_token = forbidden,
                      .scores = scores};
    run_head(dev, &args);
    for (int i = 0; i < 16; i++) {
        const score_request *q = &requests[i];
        for (int32_t o = 0; o < vocab; o++) {
            double c = 0.0, u = 0.0;
            for (int32_t k = 0; k < hidden; k++) {
                c += (double)x[q->row * hidden + k] * (double)w[o * hidden + k] * 0.5;
                if (q->guide_row >= 0)
                    u += (double)x[q->guide_row * hidden + k] * (double)w[o * hidden + k] * 0.5;
            }
            l[o] = q->guide_row >= 0 ? u + ((double)q->cfg_scale + 1.0) * (c - u) : c;
            bool is_allowed = !q->allowed || (allowed[o / 32] >> (o % 32) & 1);
            if (!is_allowed && (o != forbidden || vocab == 1)) l[o] = -(double)FLT_MAX;
            assert_true(fabs(l[o] - (double)logits[(size_t)i * (size_t)vocab + (size_t)o]) < 2e-5);
            l[o] = (double)logits[(size_t)i * (size_t)vocab + (size_t)o];
        }
        check_score(dev->tier, &scores[i], l, vocab, q, vocab > 1 ? forbidden : -1);
    }
    /* Without stored logits, other threads, each request alone: the same bits. */
    score again[16];
    for (int i = 0; i < 16; i++) requests[i].logits = NULL;
    args.scores = again;
    run_head(dev, &args);
    for (int i = 0; i < 16; i++) check_same_score(&scores[i], &again[i]);
    args.n_requests = 1;
    for (int i = 0; i < 16; i++) {
        args.requests = &requests[i];
        run_head(dev, &args);
        check_same_score(&scores[i], &again[0]);
    }
    if (out) memcpy(out, scores, (size_t)n_out * sizeof *out);
    free(logits);
    free(l);
    free(owner);
    free(w);
    free(x);
}

static void scores_are_right(void **state) {
    (void)state;
    static const int32_t vocabs[] = {1, 2, 3, 15, 17, 255, 256, 257, 600, 1031};
    for (int t = 0; t < N_TIERS; t++) {
        score by_threads[3][16];
        for (int threads = 1; threads <= 3; threads++) {
            device *dev = check_open(check_tier(t), threads);
            if (!dev) continue;
            for (size_t i = 0; i < sizeof vocabs / sizeof *vocabs; i++)
                check_vocab(dev, vocabs[i], 19, i % 2 ? DTYPE_BF16 : DTYPE_F32,
                            i % 3 == 0 ? vocabs[i] - 1 : -1, by_threads[threads - 1], 16);
            for (int i = 0; i < 16; i++)
                check_same_score(&by_threads[0][i], &by_threads[threads - 1][i]);
            device_close(dev);
        }
    }
}

/* Some 60 tokens of the vocabulary with all kinds of changes, by rising token. */
static int32_t make_adjustments(int32_t vocab, logit_adjustment *list) {
    int32_t n = 0;
    for (int32_t token = 1; token < vocab; token += 1 + token / 3 % 97) {
        list[n] = (logit_adjustment){.token = token, .divisor = 1.0f};
        if (n % 3 == 0) list[n].divisor = 1.7f;
        if (n % 3 == 1) list[n].divisor = 0.4f;
        if (n % 2 == 0) list[n].bias = 0.25f * (float)(n % 9 - 4);
        if (n % 11 == 5) list[n].bias = -INFINITY;
        n++;
    }
    return n;
}

/* Bias and penalties against float64 over tiles of every tier: the stored logits, the scores, and
 * the same bits without storing. */
static void logits_are_adjusted(void **state) {
    (void)state;
    enum { VOCAB = 9001, HIDDEN = 8, N = 6, LIST_MAX = 9001 };
    float *x = check_floats(N * HIDDEN, 1.0f, 41), *w;
    void *owner;
    matrix m = check_matrix(DTYPE_F32, VOCAB, HIDDEN, 1.0f, 43, &owner, &w);
    static logit_adjustment lists[2][LIST_MAX];
    int32_t n_list = make_adjustments(VOCAB, lists[0]), n_half = n_list / 2;
    memcpy(lists[1], lists[0] + n_half, (size_t)(n_list - n_half) * sizeof *lists[0]);
    float *logits = malloc((size_t)N * VOCAB * sizeof *logits);
    double *l = malloc(VOCAB * sizeof *l);
    assert_true(logits && l && n_list > 100);
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 2);
        if (!dev) continue;
        score_request requests[N];
        score scores[N], again[N];
        for (int i = 0; i < N; i++) {
            requests[i] = plain_request(i);
            requests[i].own.token = -1;
            requests[i].logits = logits + (size_t)i * VOCAB;
            requests[i].temperature = i == 4 ? 0.7 : 0.0;
            if (i == 0) continue; /* unchanged */
            requests[i].adjustments = lists[i >= 3];
            requests[i].n_adjustments = i >= 3 ? n_list - n_half : n_list;
        }
        requests[2].own =
            (logit_adjustment){.token = lists[0][3].token, .divisor = 1.0f, .bias = 9};
        requests[5].removed = lists[1][1].token;
        head_args args = {.x = x,
                          .w = m,
                          .logit_scale = 1.0f,
                          .n_rows = N,
                          .n_requests = N,
                          .requests = requests,
                          .forbidden_token = lists[0][2].token,
                          .scores = scores};
        run_head(dev, &args);
        for (int i = 0; i < N; i++) {
            const score_request *q = &requests[i];
            for (int32_t v = 0; v < VOCAB; v++) {
                l[v] = 0.0;
                for (int k = 0; k < HIDDEN; k++)
                    l[v] += (double)x[i * HIDDEN + k] * (double)w[v * HIDDEN + k];
            }
            for (int32_t k = 0; k < q->n_adjustments; k++) {
                const logit_adjustment *a = &q->adjustments[k];
                if (a->token == q->own.token) a = &q->own;
                double *of = &l[a->token], d = (double)a->divisor;
                *of = (*of < 0 ? *of * d : *of / d) + (double)a->bias;
                if (*of < -(double)FLT_MAX) *of = -(double)FLT_MAX;
            }
            if (q->removed >= 0) l[q->removed] = -(double)FLT_MAX;
            for (int32_t v = 0; v < VOCAB; v++) {
                double found = (double)q->logits[v];
                if (!(fabs(l[v] - found) < 2e-5))
                    fail_msg("%s: request %d, token %d: expected %g, found %g", dev->tier, i, v,
                             l[v], found);
                l[v] = found;
            }
            check_score(dev->tier, &scores[i], l, VOCAB, q, args.forbidden_token);
        }
        for (int i = 0; i < N; i++) requests[i].logits = NULL;
        args.scores = again;
        run_head(dev, &args);
        for (int i = 0; i < N; i++) check_same_score(&scores[i], &again[i]);
        device_close(dev);
    }
    free(logits);
    free(l);
    free(owner);
    free(w);
    free(x);
}

/* One input, weights that are the logits themselves: the same logits in every tier. */
static void draw_many(device *dev, const float *l, int32_t vocab, score_request q, int32_t n,
                      int32_t forbidden, int32_t *drawn) {
    enum { BATCH = 500 };
    float one = 1.0f;
    static score scores[BATCH];
    static score_request requests[BATCH];
    matrix m = {.data = l, .type = DTYPE_F32, .n_out = vocab, .n_in = 1};
    head_args args = {.x = &one,
                      .w = m,
                      .logit_scale = 1.0f,
                      .n_rows = 1,
                      .n_requests = BATCH,
                      .requests = requests,
                      .forbidden_token = forbidden,
                      .scores = scores};
    for (int32_t first = 0; first < n; first += BATCH) {
        for (int i = 0; i < BATCH; i++) {
            requests[i] = q;
            requests[i].key.position = (uint32_t)(first + i);
        }
        run_head(dev, &args);
        for (int i = 0; i < BATCH; i++) drawn[first + i] = scores[i].drawn;
    }
}

/* Chi-square of n draws; expected counts below 5 are gathered in one cell. */
static void check_distribution(const char *tier, const int32_t *drawn, int32_t n, const double *p,
                               int32_t vocab) {
    double chi = 0.0, rest_p = 0.0;
    int cells = 0, rest = 0;
    for (int32_t v = 0; v < vocab; v++) {
        int count = 0;
        for (int32_t i = 0; i < n; i++) count += drawn[i] == v;
        if (p[v] == 0.0) assert_int_equal(count, 0);
        if (p[v] * n < 5.0) {
            rest += count;
            rest_p += p[v];
            continue;
        }
        chi += (count - p[v] * n) * (count - p[v] * n) / (p[v] * n);
        cells++;
    }
    if (rest_p * n >= 5.0) {
        chi += (rest - rest_p * n) * (rest - rest_p * n) / (rest_p * n);
        cells++;
    }
    /* Six standard deviations above the mean of chi-square with cells - 1 degrees of freedom. */
    double freedom = cells - 1, limit = freedom + 6.0 * sqrt(2.0 * freedom) + 6.0;
    if (chi > limit) fail_msg("%s: chi-square: expected < %g, found %g", tier, limit, chi);
}

static void draws_follow_the_distribution(void **state) {
    (void)state;
    enum { VOCAB = 21, DRAWS = 100000 };
    static int32_t drawn[DRAWS];
    float l[VOCAB];
    double wide[VOCAB], p[VOCAB];
    uint64_t seed = 31;
    for (int i = 0; i < VOCAB; i++) wide[i] = (double)(l[i] = 2.0f * check_uniform(&seed));
    l[4] = l[7]; /* a tie at some rank */
    wide[4] = wide[7];
    static const uint32_t allowed = 0x1AAAB5;
    score_request q[8];
    for (int i = 0; i < 8; i++) {
        q[i] = plain_request(0);
        q[i].temperature = 0.8;
    }
    q[1].top_k = 5;
    q[2].top_p = 0.75;
    q[3].min_p = 0.2;
    q[4].top_k = 9;
    q[4].top_p = 0.9;
    q[4].min_p = 0.1;
    q[5].top_k = 3;
    q[5].top_p = 0.75;
    q[5].is_top_p_first = true;
    q[6].allowed = q[7].allowed = &allowed;
    q[7].top_k = 4;
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 2);
        if (!dev) continue;
        for (int i = 0; i < 8; i++) {
            for (int v = 0; v < VOCAB; v++)
                wide[v] = i >= 6 && !(allowed >> v & 1) ? -(double)FLT_MAX : (double)l[v];
            reference_q(wide, VOCAB, &q[i], 2, p);
            draw_many(dev, l, VOCAB, q[i], DRAWS, 2, drawn);
            check_distribution(dev->tier, drawn, DRAWS, p, VOCAB);
        }
        device_close(dev);
    }
}

/* The draw is one definition: the documented formula, token by token, in every tier. */
static void draws_are_the_same_in_every_tier(void **state) {
    (void)state;
    enum { VOCAB = 777, DRAWS = 1000 };
    static const double temperatures[] = {1e-300, 1e-30, 1e-6, 0.05, 1.0, 3.0, 1e6};
    static int32_t drawn[DRAWS], expected[DRAWS];
    float *l = check_floats(VOCAB, 8.0f, 37);
    for (size_t k = 0; k < sizeof temperatures / sizeof *temperatures; k++) {
        score_request q = plain_request(0);
        q.temperature = temperatures[k];
        for (int i = 0; i < DRAWS; i++) {
            double best = -INFINITY;
            rng_key key = q.key;
            key.position = (uint32_t)i;
            expected[i] = -1;
            for (int v = 0; v < VOCAB; v++) {
                double u = rng_uniform(&key, RNG_PURPOSE_TOKEN, (uint32_t)v);
                double value = (double)l[v] / q.temperature - log(-log(u));
                if (v != 3 && value > best) {
                    best = value;
                    expected[i] = v;
                }
            }
        }
        for (int t = 0; t < N_TIERS; t++) {
            device *dev = check_open(check_tier(t), 1);
            if (!dev) continue;
            draw_many(dev, l, VOCAB, q, DRAWS, 3, drawn);
            for (int i = 0; i < DRAWS; i++)
                if (drawn[i] != expected[i])
                    fail_msg("%s, temperature %g, draw %d: expected token %d, found %d", dev->tier,
                             q.temperature, i, expected[i], drawn[i]);
            device_close(dev);
        }
    }
    free(l);
}

/* Ties, one candidate, and a row that is not finite beside one that is. */
static void corners(void **state) {
    (void)state;
    for (int t = 0; t < N_TIERS; t++) {
        device *dev = check_open(check_tier(t), 1);
        if (!dev) continue;
        enum { VOCAB = 300 };
        static float w[VOCAB * 2];
        for (int i = 0; i < VOCAB; i++) {
            w[2 * i] = i == 40 || i == 270 || i == 290 ? 2.0f : -1.0f;
            w[2 * i + 1] = 1.0f;
        }
        float x[4] = {1.0f, 0.0f, 1.0f, 1.0f};
        score_request requests[3] = {plain_request(0), plain_request(1), plain_request(0)};
        requests[2].temperature = 1.0;
        requests[2].top_k = 1;
        score s[3];
        head_args args = {.x = x,
                          .w = {w, DTYPE_F32, VOCAB, 2},
                          .logit_scale = 1.0f,
                          .n_rows = 2,
                          .n_requests = 3,
                          .requests = requests,
                          .forbidden_token = -1,
                          .scores = s};
        run_head(dev, &args);
        assert_int_equal(s[0].token, 40);
        assert_true(s[0].second_probability == s[0].probability);
        assert_true(s[2].drawn == 40 || s[2].drawn == 270 || s[2].drawn == 290);
        assert_true(fabsf(s[2].drawn_tempered - 1.0f / 3.0f) < 1e-6f);
        args.forbidden_token = 40;
        run_head(dev, &args);
        assert_int_equal(s[0].token, 270);
        for (int bad = 0; bad < 2; bad++) {
            x[3] = bad ? NAN : INFINITY; /* row 1 alone */
            run_head(dev, &args);
            assert_false(s[1].is_finite);
            assert_true(s[0].is_finite && s[2].is_finite);
            assert_int_equal(s[0].token, 270);
        }
        /* Two tokens, one forbidden: nothing to choose. */
        args.w.n_out = 2;
        args.forbidden_token = 0;
        requests[2].top_k = 0;
        x[3] = 1.0f;
        run_head(dev, &args);
        assert_int_equal(s[0].token, 1);
        assert_int_equal(s[2].drawn, 1);
        assert_true(s[2].drawn_tempered == 1.0f);
        assert_true(fabsf(s[0].probability - 0.5f) < 1e-6f);
        assert_true(s[0].second_probability == 0.0f);
        device_close(dev);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_right), cmocka_unit_test(logits_are_adjusted),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(draws_are_the_same_in_every_tier), cmocka_unit_test(corners)};
    return cmocka_run_group_tests_name("head", tests, NULL, NULL);
}

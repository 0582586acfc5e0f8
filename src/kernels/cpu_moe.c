/* SPDX-License-Identifier: Apache-2.0
 *
 * Mixture of experts on the CPU: the router. Scratch: struct route_scratch.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu.h"

enum { GROUPS_MAX = 1024 };

/* ---- Router -----------------------------------------------------------------------------------
 */

/* The parts of the router's scratch. */
typedef struct route_scratch {
    float *scores, *biased; /* [n_rows, n_experts] */
    float *block_best;      /* [n_experts] the highest of a block's rows */
    bool *stays;            /* [n_experts] */
    bool *is_done;          /* [n_rows] its block has been cut */
} route_scratch;

/* Lays the scratch out; base NULL gives the size alone. */
static size_t lay_out_route(const route_args *a, unsigned char *base, route_scratch *s) {
    size_t n_rows = a->n_rows > 0 ? (size_t)a->n_rows : 0, n_experts = (size_t)a->n_experts;
    scratch_cursor scratch = {base, 0};
    s->scores = scratch_take(&scratch, n_rows * n_experts * sizeof *s->scores);
    s->biased = scratch_take(&scratch, n_rows * n_experts * sizeof *s->biased);
    s->block_best = scratch_take(&scratch, n_experts * sizeof *s->block_best);
    s->stays = scratch_take(&scratch, n_experts * sizeof *s->stays);
    s->is_done = scratch_take(&scratch, n_rows * sizeof *s->is_done);
    return scratch.at;
}

size_t cpu_route_scratch(const device *dev, const route_args *args) {
    (void)dev;
    route_scratch ignored;
    return lay_out_route(args, NULL, &ignored);
}

static float group_score(const float *biased, int32_t n) {
    float best = -INFINITY, second = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        if (biased[i] > best) {
            second = best;
            best = biased[i];
        } else if (biased[i] > second) {
            second = biased[i];
        }
    }
    return best + second;
}

/* Index of the highest of values [n] whose `taken` is false; the lower index on a tie, and always
 * an index even where all are NaN. */
static int32_t best_free(const float *values, const bool *taken, int32_t n) {
    int32_t best = -1;
    for (int32_t i = 0; i < n; i++)
        if (!taken[i] && (best < 0 || values[i] > values[best])) best = i;
    return best;
}

/* Drops the groups that do not stay, by making their members lower than any score. */
static void keep_groups(const route_args *a, float *biased) {
    float scores[GROUPS_MAX];
    bool stays[GROUPS_MAX] = {false};
    int32_t size = a->n_experts / a->n_group;
    for (int32_t g = 0; g < a->n_group; g++) scores[g] = group_score(biased + g * size, size);
    for (int32_t i = 0; i < a->topk_group; i++) stays[best_free(scores, stays, a->n_group)] = true;
    for (int32_t e = 0; e < a->n_experts; e++)
        if (!stays[e / size]) biased[e] = -INFINITY;
}

/* What is compared, before any expert is dropped. */
static void bias_scores(const route_args *a, const float *scores, float *biased) {
    for (int32_t e = 0; e < a->n_experts; e++)
        biased[e] = a->bias ? scores[e] + a->bias[e] : scores[e];
}

/* Drops the experts that do not stay in a row's block; where its groups would leave the row too few
 * of those that do, its groups are forgotten. */
static void cut_row(const route_args *a, const bool *stays, const float *scores, float *biased) {
    int32_t n_left = 0;
    for (int32_t e = 0; e < a->n_experts; e++) n_left += stays[e] && biased[e] > -INFINITY;
    if (n_left < a->n_active) bias_scores(a, scores, biased);
    for (int32_t e = 0; e < a->n_experts; e++)
        if (!stays[e]) biased[e] = -INFINITY;
}

/* Leaves to the rows of row `first`'s block the n_block_experts experts that score highest in any
 * of them. Nothing here depends on the order of the rows, nor on rows of other blocks. */
static void keep_block_experts(const route_args *a, int32_t first, const route_scratch *s) {
    size_t n_experts = (size_t)a->n_experts;
    int32_t block = a->positions[first] / a->block_len;
    for (size_t e = 0; e < n_experts; e++) {
        s->block_best[e] = -INFINITY;
        s->stays[e] = false;
    }
    for (int32_t r = first; r < a->n_rows; r++) {
        if (a->seq[r] != a->seq[first] || a->positions[r] / a->block_len != block) continue;
        const float *row = s->biased + (size_t)r * n_experts;
        for (size_t e = 0; e < n_experts; e++)
            if (row[e] > s->block_best[e]) s->block_best[e] = row[e];
    }
    for (int32_t i = 0; i < a->n_block_experts; i++)
        s->stays[best_free(s->block_best, s->stays, a->n_experts)] = true;
    for (int32_t r = first; r < a->n_rows; r++) {
        if (a->seq[r] != a->seq[first] || a->positions[r] / a->block_len != block) continue;
        cut_row(a, s->stays, s->scores + (size_t)r * n_experts, s->biased + (size_t)r * n_experts);
        s->is_done[r] = true;
    }
}

static void route_row(const route_args *a, const float *scores, const float *biased, int32_t *ids,
                      float *weights) {
    float total = 0.0f;
    for (int32_t k = 0; k < a->n_active; k++) {
        int32_t best = -1;
        for (int32_t e = 0; e < a->n_experts; e++) {
            bool is_taken = false;
            for (int32_t j = 0; j < k; j++) is_taken |= ids[j] == e;
            if (!is_taken && (best < 0 || biased[e] > biased[best])) best = e;
        }
        ids[k] = best;
        weights[k] = a->is_weight_biased ? biased[best] : scores[best];
        total += weights[k];
    }
    for (int32_t k = 0; k < a->n_active; k++)
        weights[k] = (a->is_normalised ? weights[k] / (total + 1e-20f) : weights[k]) * a->scale;
}

um_status cpu_route(device *dev, const route_args *args, void *scratch) {
    if (args->n_rows <= 0) return UM_OK;
    assert(args->w.n_out == args->n_experts && args->n_active <= args->n_experts);
    assert(args->n_group >= 1 && args->n_group <= GROUPS_MAX);
    assert(!args->n_block_experts ||
           (args->n_block_experts >= args->n_active && args->n_block_experts <= args->n_experts &&
            args->block_len > 0));
    const cpu_kernels *kernels = cpu_kernels_of(dev);
    size_t n_experts = (size_t)args->n_experts, n_active = (size_t)args->n_active;
    route_scratch s;
    lay_out_route(args, scratch, &s);
    TRY(cpu_linear(dev, s.scores, args->x, &args->w, NULL, args->n_rows));
    for (int32_t r = 0; r < args->n_rows; r++) {
        float *scores = s.scores + (size_t)r * n_experts,
              *biased = s.biased + (size_t)r * n_experts;
        if (args->score == ROUTE_SCORE_SOFTMAX)
            kernels->softmax(scores, scores, n_experts);
        else
            kernels->sigmoid(scores, scores, n_experts);
        bias_scores(args, scores, biased);
        if (args->n_group > 1) keep_groups(args, biased);
        s.is_done[r] = false;
    }
    for (int32_t r = 0; args->n_block_experts && r < args->n_rows; r++)
        if (!s.is_done[r]) keep_block_experts(args, r, &s);
    for (size_t r = 0; r < (size_t)args->n_rows; r++)
        route_row(args, s.scores + r * n_experts, s.biased + r * n_experts,
                  args->ids + r * n_active, args->weights + r * n_active);
    return UM_OK;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * For given levels q the best scale (and offset) solves linear equations; for a given scale the
 * best levels are the nearest ones. Alternating between the two finds a local minimum, so the
 * search begins at many scales around the one that just spans the numbers, keeps the best, and
 * alternates from there.
 */
#include "quant/fit.h"

#include <math.h>
#include <stdbool.h>

/* Rounds of alternation from the best start; most groups stand still after two. */
enum { ROUNDS_MAX = 6 };

static float sum_lanes(const float lanes[FIT_LANES]) {
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

/* ---- A scale -------------------------------------------------------------------------------- */

/* sum w x q and sum w q^2 for the levels that 1 / scale gives. The best scale for these levels is
 * xq / qq, and the error is sum w x^2 - gain. */
typedef struct scale_sums {
    float xq, qq;
} scale_sums;

static scale_sums sums_for_scale(const float *x, const float *w, int n, float low, float high,
                                 float inverse) {
    float xq[FIT_LANES] = {0}, qq[FIT_LANES] = {0};
    for (int i = 0; i < n; i += FIT_LANES)
        for (int l = 0; l < FIT_LANES; l++) {
            float q = fit_level(x[i + l] * inverse, low, high);
            float wq = w[i + l] * q;
            xq[l] += wq * x[i + l];
            qq[l] += wq * q;
        }
    return (scale_sums){sum_lanes(xq), sum_lanes(qq)};
}

static float gain_of(scale_sums s) {
    return s.qq > 0 ? s.xq * s.xq / s.qq : 0;
}

float fit_scale(const float *x, const float *w, int n, float low, float high) {
    float largest = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(largest)) largest = x[i];
    if (largest == 0) return 0;
    /* The largest number becomes a level from 5/8 of the range to a little past its end, on either
     * side. The negative side has one more level, so that it comes first. */
    enum { STEPS = 12 };
    scale_sums best = {0, 0};
    float best_gain = 0, past = 0.75f;
    for (int side = 0; side < 2; side++) {
        float end = side ? high + past : low - past;
        for (int i = 0; i <= STEPS; i++) {
            float level = end * (1 - 0.375f * (float)i / STEPS);
            scale_sums s = sums_for_scale(x, w, n, low, high, level / largest);
            float gain = gain_of(s);
            if (gain > best_gain) {
                best_gain = gain;
                best = s;
            }
        }
    }
    for (int i = 0; i < ROUNDS_MAX && best.xq != 0; i++) {
        scale_sums s = sums_for_scale(x, w, n, low, high, best.qq / best.xq);
        float gain = gain_of(s);
        if (!(gain > best_gain)) break;
        best_gain = gain;
        best = s;
    }
    return best.qq > 0 ? best.xq / best.qq : 0;
}

float fit_scale_error(const float *x, const float *w, int n, float low, float high, float scale) {
    float inverse = scale != 0 ? 1 / scale : 0, sum[FIT_LANES] = {0};
    for (int i = 0; i < n; i += FIT_LANES)
        for (int l = 0; l < FIT_LANES; l++) {
            float q = fit_level(x[i + l] * inverse, low, high);
            float difference = scale * q - x[i + l];
            sum[l] += w[i + l] * difference * difference;
        }
    return sum_lanes(sum);
}

/* ---- A scale and an offset ------------------------------------------------------------------ */

typedef struct moments {
    float w, x, xx; /* sum w, sum w x, sum w x^2 */
} moments;

/* The best line for the levels that a line gives, and its error. */
static fit_line refit(const float *x, const float *w, int n, float high, fit_line line,
                      const moments *m, float *error) {
    float inverse = line.scale > 0 ? 1 / line.scale : 0;
    float lanes_q[FIT_LANES] = {0}, lanes_qq[FIT_LANES] = {0}, lanes_xq[FIT_LANES] = {0};
    for (int i = 0; i < n; i += FIT_LANES)
        for (int l = 0; l < FIT_LANES; l++) {
            float q = fit_level((x[i + l] + line.offset) * inverse, 0, high);
            float wq = w[i + l] * q;
            lanes_q[l] += wq;
            lanes_qq[l] += wq * q;
            lanes_xq[l] += wq * x[i + l];
        }
    float sq = sum_lanes(lanes_q), sqq = sum_lanes(lanes_qq), sxq = sum_lanes(lanes_xq);
    float determinant = m->w * sqq - sq * sq;
    fit_line best = {0, 0};
    if (determinant > 1e-7f * m->w * sqq) {
        best.scale = (m->w * sxq - m->x * sq) / determinant;
        best.offset = (best.scale * sq - m->x) / m->w;
    }
    if (!(best.scale > 0 && best.offset >= 0)) {
        best.offset = 0;
        best.scale = sqq > 0 && sxq > 0 ? sxq / sqq : 0;
    }
    float s = best.scale, o = best.offset;
    *error = s * (s * sqq - 2 * o * sq - 2 * sxq) + o * (o * m->w + 2 * m->x) + m->xx;
    return best;
}

fit_line fit_affine(const float *x, const float *w, int n, float high) {
    float low_x = 0, high_x = x[0];
    moments m = {0, 0, 0};
    for (int i = 0; i < n; i++) {
        if (x[i] < low_x) low_x = x[i];
        if (x[i] > high_x) high_x = x[i];
        m.w += w[i];
        m.x += w[i] * x[i];
        m.xx += w[i] * x[i] * x[i];
    }
    fit_line best = {0, -low_x};
    float range = high_x - low_x, best_error = INFINITY;
    if (!(range > 0 && m.w > 0)) return best;
    /* From a line that spans a little more than the numbers to one that cuts off 3/8 of them, at
     * the upper end, at both, or at the lower one. */
    enum { STEPS = 8, PLACES = 3 };
    for (int i = 0; i <= STEPS; i++)
        for (int place = 0; place < PLACES; place++) {
            float span = range * (1.05f - 0.425f * (float)i / STEPS);
            float below = (range - span) * (float)place / (PLACES - 1);
            fit_line start = {span / high, -low_x - below};
            float error;
            fit_line line = refit(x, w, n, high, start, &m, &error);
            if (error < best_error) {
                best_error = error;
                best = line;
            }
        }
    for (int i = 0; i < ROUNDS_MAX; i++) {
        float error;
        fit_line line = refit(x, w, n, high, best, &m, &error);
        if (!(error < best_error)) break;
        best_error = error;
        best = line;
    }
    return best;
}

float fit_affine_error(const float *x, const float *w, int n, float high, fit_line line) {
    float inverse = line.scale > 0 ? 1 / line.scale : 0, sum[FIT_LANES] = {0};
    for (int i = 0; i < n; i += FIT_LANES)
        for (int l = 0; l < FIT_LANES; l++) {
            float q = fit_level((x[i + l] + line.offset) * inverse, 0, high);
            float difference = line.scale * q - line.offset - x[i + l];
            sum[l] += w[i + l] * difference * difference;
        }
    return sum_lanes(sum);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of the output head: partial results of tiles become scores. One thread a request; tiles
 * are merged in their order.
 */
#include "kernels/head_merge.h"

#include <float.h>
#include <math.h>

#include "kernels/cpu_select.h"

bool head_is_truncated(const score_request *q) {
    return q->temperature > 0.0 &&
           (q->top_k > 0 || q->top_p < 1.0 || q->min_p > 0.0 || q->wants_spread);
}

float head_inverse_temperature(double temperature) {
    double inverse = 1.0 / temperature;
    return inverse < (double)FLT_MAX ? (float)inverse : FLT_MAX;
}

/* What merging the tiles of a request gives, in float64. */
typedef struct merged {
    double log_sum_exp, entropy, tempered;
    float max, second, forbidden;
    int32_t token;
    gumbel_best drawn;
    bool is_finite;
} merged;

static merged merge(const head_partial *p, int32_t n_tiles, int32_t tile_len, double temperature) {
    merged m = {.max = -INFINITY,
                .second = -INFINITY,
                .forbidden = -INFINITY,
                .token = -1,
                .is_finite = true,
                .drawn = {.key = -INFINITY, .token = -1}};
    float top = -INFINITY;
    for (int32_t i = 0; i < n_tiles; i++) {
        m.is_finite &= p[i].all.is_finite;
        if (p[i].all.top > top) top = p[i].all.top;
    }
    if (!m.is_finite) return m;
    double sum = 0.0, sum_logits = 0.0;
    for (int32_t i = 0; i < n_tiles; i++) {
        double below = (double)p[i].all.top - (double)top, weight = exp(below);
        sum += weight * p[i].all.sum;
        sum_logits += weight * (p[i].all.sum_logits + below * p[i].all.sum);
        if (p[i].forbidden > m.forbidden) m.forbidden = p[i].forbidden;
        if (p[i].allowed.i_max < 0) continue;
        if (p[i].allowed.max > m.max) {
            m.second = p[i].allowed.second > m.max ? p[i].allowed.second : m.max;
            m.max = p[i].allowed.max;
            m.token = i * tile_len + p[i].allowed.i_max;
        } else if (p[i].allowed.max > m.second) {
            m.second = p[i].allowed.max;
        }
        if (p[i].drawn.token >= 0 && p[i].drawn.key > m.drawn.key) m.drawn = p[i].drawn;
    }
    m.log_sum_exp = (double)top + log(sum);
    m.entropy = log(sum) - sum_logits / sum;
    if (m.entropy < 0.0) m.entropy = 0.0;
    for (int32_t i = 0; i < n_tiles && temperature > 0.0; i++)
        if (p[i].allowed.i_max >= 0)
            m.tempered +=
                p[i].tempered * exp(((double)p[i].allowed.max - (double)m.max) / temperature);
    return m;
}

void head_finish(const score_request *q, const head_partial *partials, int32_t n_tiles,
                 int32_t tile_len, int32_t vocab, score *s) {
    merged m = merge(partials, n_tiles, tile_len, q->temperature);
    *s = (score){.is_finite = m.is_finite};
    if (!m.is_finite) return;
    s->token = m.token;
    s->logit = m.max;
    s->log_sum_exp = (float)m.log_sum_exp;
    s->probability = (float)exp((double)m.max - m.log_sum_exp);
    s->second_probability = (float)exp((double)m.second - m.log_sum_exp);
    s->forbidden_probability = (float)exp((double)m.forbidden - m.log_sum_exp);
    s->entropy = (float)m.entropy;
    for (int i = 0; i < 2; i++) {
        if (q->watched[i] < 0 || q->watched[i] >= vocab) continue;
        const head_partial *p = &partials[q->watched[i] / tile_len];
        s->watched_log_probability[i] = (double)p->watched[i] - m.log_sum_exp;
    }
    s->drawn = m.token;
    s->drawn_probability = s->drawn_tempered = s->probability;
    if (q->temperature > 0.0 && !head_is_truncated(q)) {
        /* A temperature so low that keys overflow draws nothing: the limit is the argmax. */
        float drawn_logit = m.max;
        if (m.drawn.token >= 0) {
            s->drawn = m.drawn.token;
            drawn_logit = m.drawn.logit;
        }
        double above = ((double)drawn_logit - (double)m.max) / q->temperature;
        s->drawn_probability = (float)exp((double)drawn_logit - m.log_sum_exp);
        s->drawn_tempered = (float)(exp(above) / m.tempered);
    }
}

void head_draw_truncated(const cpu_kernels *kernels, const score_request *q, float *l,
                         int32_t vocab, score *s) {
    if (!s->is_finite) return;
    selection drawn = select_draw(kernels, q, l, vocab, s->logit);
    if (drawn.token < 0)
        drawn = (selection){.token = s->token, .logit = s->logit, .tempered = 1.0, .top = 1.0};
    s->drawn = drawn.token;
    s->drawn_probability = (float)exp((double)drawn.logit - (double)s->log_sum_exp);
    s->drawn_tempered = (float)drawn.tempered;
    if (!q->wants_spread) return;
    s->drawn_top = (float)drawn.top;
    s->drawn_second = (float)drawn.second;
    s->drawn_entropy = (float)drawn.entropy;
}

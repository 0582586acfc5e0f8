/* SPDX-License-Identifier: Apache-2.0
 *
 * What the output head says of a row.
 */
#ifndef KERNELS_ROW_SCORE_H
#define KERNELS_ROW_SCORE_H

#include <stdbool.h>
#include <stdint.h>

/* Of the logits l of a row (after guidance, adjustments and removal), with p = softmax(l) over the
 * whole vocabulary:
 *   token              argmax of l, without the forbidden token; ties go to the lower id
 *   logit, log_sum_exp l[token], log sum exp l
 *   probability        p[token] = exp(l[token] - log_sum_exp)
 *   second_probability p of the second-best token (forbidden one left out)
 *   forbidden_probability  p of the forbidden token; 0 where none is forbidden
 *   entropy            -sum p log p, in nats
 *   drawn              temperature 0: token. Otherwise the argmax over the candidates of
 *                      l / temperature - log(-log u), u uniform from (key, RNG_PURPOSE_TOKEN,
 *                      index: token id), in float64: an exact draw from softmax(l / temperature)
 *                      over the candidates (Gumbel-max; float64 as arXiv 2409.02908 asks).
 *                      Candidates, in this order: not the forbidden token; the top_k highest (ties
 *                      with the k-th stay in); the shortest run of the highest with mass >= top_p
 *                      (the token that crosses is kept); those with q >= min_p * max q.
 *                      With is_top_p_first the second and the third change places.
 *   drawn_probability  p[drawn]: untempered
 *   drawn_tempered     q[drawn], q = softmax(l / temperature) over the candidates;
 *                      temperature 0: probability
 *   drawn_top, drawn_second, drawn_entropy   of q: the two highest and -sum q log q, where
 *                      wants_spread and the temperature is above 0; else 0
 *   watched_log_probability  log p of the watched tokens, in float64; 0 where none is
 *   is_finite          false where any logit is NaN or infinite; the rest is then undefined */
typedef struct score {
    double watched_log_probability[2];
    int32_t token, drawn;
    float logit, log_sum_exp, probability, second_probability, forbidden_probability, entropy;
    float drawn_probability, drawn_tempered, drawn_top, drawn_second, drawn_entropy;
    bool is_finite;
} score;

#endif

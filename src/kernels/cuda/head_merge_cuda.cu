/* SPDX-License-Identifier: Apache-2.0
 *
 * Tiles become a score: kernels/head_merge.c on the device, one block a request. Sums over tiles
 * have an order fixed by their number.
 */
#include "kernels/cuda/head_reduce.cuh"
#include "kernels/row_score.h"

enum { THREADS = 64 };

static __global__ void __launch_bounds__(THREADS) merge_tiles(const cuda_head_reduction r) {
    __shared__ double sums[THREADS / 32];
    __shared__ best_two bests[THREADS / 32];
    __shared__ drawn draws[THREADS / 32];
    const cuda_head_request *q = &r.requests[blockIdx.x];
    const int n_tiles = (r.vocab + CUDA_HEAD_TILE - 1) / CUDA_HEAD_TILE;
    const cuda_head_partial *p = r.partials + (size_t)blockIdx.x * (size_t)n_tiles;
    score s = {};
    bool is_finite = true;
    float top = -INFINITY, forbidden = -INFINITY;
    best_two best = {-INFINITY, -INFINITY, -1};
    drawn draw = {-INFINITY, -1, 0.0f};
    for (int i = (int)threadIdx.x; i < n_tiles; i += THREADS) {
        is_finite &= p[i].is_finite;
        top = fmaxf(top, p[i].top);
        forbidden = fmaxf(forbidden, p[i].forbidden);
        if (p[i].i_max >= 0) best = better(best, {p[i].max, p[i].second, p[i].i_max});
        draw = later(draw, {p[i].drawn_key, p[i].drawn, p[i].drawn_logit});
    }
    is_finite = __syncthreads_and(is_finite);
    if (!is_finite) {
        if (threadIdx.x == 0) r.scores[blockIdx.x] = s;
        return;
    }
    top = block_best<THREADS>({top, -INFINITY, 0}, bests).max;
    forbidden = block_best<THREADS>({forbidden, -INFINITY, 0}, bests).max;
    best = block_best<THREADS>(best, bests);
    draw = block_drawn<THREADS>(draw, draws);
    double sum = 0.0, sum_logits = 0.0, tempered = 0.0;
    for (int i = (int)threadIdx.x; i < n_tiles; i += THREADS) {
        double below = (double)p[i].top - (double)top, weight = exp(below);
        sum += weight * p[i].sum;
        sum_logits += weight * (p[i].sum_logits + below * p[i].sum);
        if (q->temperature > 0.0 && p[i].i_max >= 0)
            tempered += p[i].tempered * exp(((double)p[i].max - (double)best.max) / q->temperature);
    }
    sum = block_sum<THREADS>(sum, sums);
    sum_logits = block_sum<THREADS>(sum_logits, sums);
    tempered = block_sum<THREADS>(tempered, sums);
    if (threadIdx.x != 0) return;
    double log_sum_exp = (double)top + log(sum), entropy = log(sum) - sum_logits / sum;
    s.is_finite = true;
    s.token = best.i_max;
    s.logit = best.max;
    s.log_sum_exp = (float)log_sum_exp;
    s.probability = (float)exp((double)best.max - log_sum_exp);
    s.second_probability = (float)exp((double)best.second - log_sum_exp);
    s.forbidden_probability = (float)exp((double)forbidden - log_sum_exp);
    s.entropy = entropy > 0.0 ? (float)entropy : 0.0f;
    for (int i = 0; i < 2; i++) {
        int token = q->watched[i];
        if (token < 0 || token >= r.vocab) continue;
        s.watched_log_probability[i] = (double)p[token / CUDA_HEAD_TILE].watched[i] - log_sum_exp;
    }
    s.drawn = s.token;
    s.drawn_probability = s.drawn_tempered = s.probability;
    if (q->temperature > 0.0) {
        /* A temperature so low that keys overflow draws nothing: the limit is the argmax. */
        float logit = draw.token >= 0 ? draw.logit : best.max;
        if (draw.token >= 0) s.drawn = draw.token;
        s.drawn_probability = (float)exp((double)logit - log_sum_exp);
        s.drawn_tempered =
            (float)(exp(((double)logit - (double)best.max) / q->temperature) / tempered);
    }
    r.scores[blockIdx.x] = s;
}

extern "C" void cuda_launch_head_merge(cudaStream_t stream, const cuda_head_reduction *r) {
    merge_tiles<<<(unsigned)r->n_requests, THREADS, 0, stream>>>(*r);
}

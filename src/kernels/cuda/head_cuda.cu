/* SPDX-License-Identifier: Apache-2.0
 *
 * What the head takes from a vocabulary tile of a request: softmax sums, the best two, a draw. One
 * block a (tile, request); every sum has an order fixed by the tile.
 */
#include "kernels/cuda/head_reduce.cuh"

enum { THREADS = 256, PAIRS = CUDA_HEAD_TILE / THREADS / 2 };

/* The draws of an even token and of the next one; purpose 1 is RNG_PURPOSE_TOKEN. */
static __device__ void draw_pair(const cuda_head_request &q, uint32_t step, uint32_t token,
                                 double u[2]) {
    uint32_t c[4] = {token / 2, 1, q.position, step};
    philox(c, q.key[0], q.key[1]);
    u[0] = to_open_unit(c[0], c[1]);
    u[1] = to_open_unit(c[2], c[3]);
}

/* ---- The tile ---------------------------------------------------------------------------------
 */

static __device__ float guided(const cuda_head_request &q, const float *logits, size_t vocab,
                               size_t token, float scale) {
    float c = __fmul_rn(logits[(size_t)q.row * vocab + token], scale);
    if (q.guide_row < 0) return c;
    float u = __fmul_rn(logits[(size_t)q.guide_row * vocab + token], scale);
    return __fadd_rn(u, __fmul_rn(__fadd_rn(q.cfg_scale, 1.0f), __fsub_rn(c, u)));
}

/* Notes at each token of the tile which adjustment is its, counted from 1 and from the tile's first
 * one; 0: none. Returns where that stands in the list. */
static __device__ int list_adjusted(const cuda_adjustment *list, int n, int first,
                                    uint16_t *adjusted) {
    int start = 0;
    for (int left = n; left > 0;) {
        int half = left / 2;
        bool is_before = list[start + half].token < first;
        if (is_before) start += half + 1;
        left = is_before ? left - half - 1 : half;
    }
    for (int i = (int)threadIdx.x; i < CUDA_HEAD_TILE; i += THREADS) adjusted[i] = 0;
    __syncthreads();
    for (int i = start + (int)threadIdx.x; i < n && list[i].token < first + CUDA_HEAD_TILE;
         i += THREADS)
        adjusted[list[i].token - first] = (uint16_t)(i - start + 1);
    __syncthreads();
    return start;
}

/* l' of a token's logit that is a number: cpu_head.c has the same roundings. */
static __device__ float adjust(float l, cuda_adjustment a) {
    float scaled = l < 0.0f ? __fmul_rn(l, a.divisor) : __fdiv_rn(l, a.divisor);
    return fmaxf(__fadd_rn(scaled, a.bias), -FLT_MAX);
}

static __global__ void __launch_bounds__(THREADS) reduce_tile(const cuda_head_reduction r) {
    __shared__ double sums[THREADS / 32];
    __shared__ best_two bests[THREADS / 32];
    __shared__ drawn draws[THREADS / 32];
    __shared__ uint16_t adjusted[CUDA_HEAD_TILE];
    const cuda_head_request q = r.requests[blockIdx.y];
    const int vocab = r.vocab, forbidden = r.forbidden;
    cuda_head_partial *p = &r.partials[(size_t)blockIdx.y * gridDim.x + blockIdx.x];
    const uint32_t *words =
        q.allowed >= 0 ? r.allowed + (size_t)q.allowed * (size_t)((vocab + 31) / 32) : NULL;
    const cuda_adjustment *list = NULL;
    int first = (int)blockIdx.x * CUDA_HEAD_TILE;
    float l[PAIRS][2], top = -INFINITY;
    bool is_finite = true;
    if (q.n_adjustments) {
        list = r.adjustments + q.first_adjustment;
        list += list_adjusted(list, q.n_adjustments, first, adjusted);
    }
    if (threadIdx.x == 0) p->forbidden = -INFINITY;
    if (threadIdx.x < 2) p->watched[threadIdx.x] = 0.0f;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < PAIRS; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            int at = 2 * (i * THREADS + (int)threadIdx.x) + j, token = first + at;
            l[i][j] = -INFINITY;
            if (token >= vocab) continue;
            float value = guided(q, r.logits, (size_t)vocab, (size_t)token, r.logit_scale);
            if (list && adjusted[at] && isfinite(value))
                value = adjust(value, token == q.own.token ? q.own : list[adjusted[at] - 1]);
            if (token == q.removed) value = -FLT_MAX;
            if (words && !(words[token / 32] >> token % 32 & 1) && token != forbidden &&
                isfinite(value))
                value = -FLT_MAX;
            if (token == q.watched[0]) p->watched[0] = value;
            if (token == q.watched[1]) p->watched[1] = value;
            if (q.stored >= 0) r.stored[(size_t)q.stored * (size_t)vocab + (size_t)token] = value;
            if (!isfinite(value)) is_finite = false;
            top = fmaxf(top, value);
            l[i][j] = value;
        }
    is_finite = __syncthreads_and(is_finite);
    best_two highest = block_best<THREADS>({top, -INFINITY, 0}, bests);
    top = highest.max;
    double sum = 0.0, sum_logits = 0.0;
    best_two best = {-INFINITY, -INFINITY, -1};
#pragma unroll
    for (int i = 0; i < PAIRS; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            int at = 2 * (i * THREADS + (int)threadIdx.x) + j;
            if (first + at >= vocab) continue;
            double below = (double)l[i][j] - (double)top, e = (double)expf(l[i][j] - top);
            sum += e;
            sum_logits += below * e;
            if (first + at == forbidden) {
                p->forbidden = l[i][j];
                l[i][j] = -INFINITY;
                continue;
            }
            best = better(best, {l[i][j], -INFINITY, at});
        }
    sum = block_sum<THREADS>(sum, sums);
    sum_logits = block_sum<THREADS>(sum_logits, sums);
    best = block_best<THREADS>(best, bests);
    double tempered = 0.0;
    drawn draw = {-INFINITY, -1, 0.0f};
    if (is_finite && q.temperature > 0.0 && best.i_max >= 0) {
        uint32_t step = q.step + (r.steps_made ? (uint32_t)*r.steps_made : 0u);
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            int even = first + 2 * (i * THREADS + (int)threadIdx.x);
            double u[2];
            if (even >= vocab) continue;
            draw_pair(q, step, (uint32_t)even, u);
            for (int j = 0; j < 2; j++) {
                if (even + j >= vocab || even + j == forbidden) continue;
                tempered += (double)expf((l[i][j] - best.max) * q.inverse_temperature);
                double key = (double)l[i][j] / q.temperature - log(-log(u[j]));
                if (key > draw.key) draw = {key, even + j, l[i][j]};
            }
        }
        tempered = block_sum<THREADS>(tempered, sums);
        draw = block_drawn<THREADS>(draw, draws);
    }
    if (threadIdx.x != 0) return;
    p->top = top;
    p->sum = sum;
    p->sum_logits = sum_logits;
    p->is_finite = is_finite;
    p->max = best.max;
    p->second = best.second;
    p->i_max = best.i_max < 0 ? -1 : first + best.i_max;
    p->tempered = tempered;
    p->drawn_key = draw.key;
    p->drawn = draw.token;
    p->drawn_logit = draw.logit;
}

extern "C" void cuda_launch_head(cudaStream_t stream, const cuda_head_reduction *r) {
    dim3 grid((unsigned)((r->vocab + CUDA_HEAD_TILE - 1) / CUDA_HEAD_TILE),
              (unsigned)r->n_requests);
    reduce_tile<<<grid, THREADS, 0, stream>>>(*r);
}

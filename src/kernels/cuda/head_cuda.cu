/* SPDX-License-Identifier: Apache-2.0
 *
 * What the head takes from a vocabulary tile of a request: softmax sums, the best two, a draw. One
 * block a (tile, request); every sum has an order fixed by the tile. The host merges the tiles
 * (kernels/head_merge.c).
 */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256, PAIRS = CUDA_HEAD_TILE / THREADS / 2 };

/* ---- Draws: base/rng.c on the device ----------------------------------------------------------
 */

static __device__ double to_open_unit(uint32_t high, uint32_t low) {
    uint64_t bits = ((uint64_t)high << 32 | low) >> 11;
    return ((double)bits + 0.5) * 0x1p-53;
}

/* The draws of an even token and of the next one; purpose 1 is RNG_PURPOSE_TOKEN. */
static __device__ void draw_pair(const cuda_head_request &q, uint32_t token, double u[2]) {
    uint32_t c0 = token / 2, c1 = 1, c2 = q.position, c3 = q.step, k0 = q.key[0], k1 = q.key[1];
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    u[0] = to_open_unit(c0, c1);
    u[1] = to_open_unit(c2, c3);
}

/* ---- Reductions of a block --------------------------------------------------------------------
 */

static __device__ double block_sum(double x, double *parts) {
    for (int mask = 16; mask > 0; mask /= 2) x += __shfl_xor_sync(~0u, x, mask);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    x = parts[0];
    for (int w = 1; w < THREADS / 32; w++) x += parts[w];
    return x;
}

typedef struct best_two {
    float max, second;
    int i_max; /* -1: none */
} best_two;

/* Ties go to the lower index. */
static __device__ best_two better(best_two a, best_two b) {
    bool b_wins =
        b.i_max >= 0 && (a.i_max < 0 || b.max > a.max || (b.max == a.max && b.i_max < a.i_max));
    if (b_wins) {
        best_two swap = a;
        a = b;
        b = swap;
    }
    a.second = fmaxf(a.second, b.max);
    return a;
}

static __device__ best_two block_best(best_two b, best_two *parts) {
    for (int mask = 16; mask > 0; mask /= 2) {
        best_two other = {__shfl_xor_sync(~0u, b.max, mask), __shfl_xor_sync(~0u, b.second, mask),
                          __shfl_xor_sync(~0u, b.i_max, mask)};
        b = better(b, other);
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = b;
    __syncthreads();
    b = parts[0];
    for (int w = 1; w < THREADS / 32; w++) b = better(b, parts[w]);
    return b;
}

typedef struct drawn {
    double key;
    int token; /* -1: none */
    float logit;
} drawn;

static __device__ drawn later(drawn a, drawn b) {
    bool b_wins =
        b.token >= 0 && (a.token < 0 || b.key > a.key || (b.key == a.key && b.token < a.token));
    return b_wins ? b : a;
}

static __device__ drawn block_drawn(drawn d, drawn *parts) {
    for (int mask = 16; mask > 0; mask /= 2) {
        drawn other = {__shfl_xor_sync(~0u, d.key, mask), __shfl_xor_sync(~0u, d.token, mask),
                       __shfl_xor_sync(~0u, d.logit, mask)};
        d = later(d, other);
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = d;
    __syncthreads();
    d = parts[0];
    for (int w = 1; w < THREADS / 32; w++) d = later(d, parts[w]);
    return d;
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

static __global__ void __launch_bounds__(THREADS)
    reduce_tile(const float *logits, const cuda_head_request *requests, int vocab, float scale,
                int forbidden, cuda_head_partial *partials, float *stored) {
    __shared__ double sums[THREADS / 32];
    __shared__ best_two bests[THREADS / 32];
    __shared__ drawn draws[THREADS / 32];
    const cuda_head_request q = requests[blockIdx.y];
    cuda_head_partial *p = &partials[(size_t)blockIdx.y * gridDim.x + blockIdx.x];
    int first = (int)blockIdx.x * CUDA_HEAD_TILE;
    float l[PAIRS][2], top = -INFINITY;
    bool is_finite = true;
    if (threadIdx.x == 0) p->forbidden = -INFINITY;
    if (threadIdx.x < 2) p->watched[threadIdx.x] = 0.0f;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < PAIRS; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            int token = first + 2 * (i * THREADS + (int)threadIdx.x) + j;
            l[i][j] = -INFINITY;
            if (token >= vocab) continue;
            float value = guided(q, logits, (size_t)vocab, (size_t)token, scale);
            if (token == q.removed) value = -FLT_MAX;
            if (token == q.watched[0]) p->watched[0] = value;
            if (token == q.watched[1]) p->watched[1] = value;
            if (q.stored >= 0) stored[(size_t)q.stored * (size_t)vocab + (size_t)token] = value;
            if (!isfinite(value)) is_finite = false;
            top = fmaxf(top, value);
            l[i][j] = value;
        }
    is_finite = __syncthreads_and(is_finite);
    best_two highest = block_best({top, -INFINITY, 0}, bests);
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
    sum = block_sum(sum, sums);
    sum_logits = block_sum(sum_logits, sums);
    best = block_best(best, bests);
    double tempered = 0.0;
    drawn draw = {-INFINITY, -1, 0.0f};
    if (is_finite && q.temperature > 0.0 && best.i_max >= 0) {
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            int even = first + 2 * (i * THREADS + (int)threadIdx.x);
            double u[2];
            if (even >= vocab) continue;
            draw_pair(q, (uint32_t)even, u);
            for (int j = 0; j < 2; j++) {
                if (even + j >= vocab || even + j == forbidden) continue;
                tempered += (double)expf((l[i][j] - best.max) * q.inverse_temperature);
                double key = (double)l[i][j] / q.temperature - log(-log(u[j]));
                if (key > draw.key) draw = {key, even + j, l[i][j]};
            }
        }
        tempered = block_sum(tempered, sums);
        draw = block_drawn(draw, draws);
    }
    if (threadIdx.x != 0) return;
    p->all.top = top;
    p->all.sum = sum;
    p->all.sum_logits = sum_logits;
    p->all.is_finite = is_finite;
    p->allowed.max = best.max;
    p->allowed.second = best.second;
    p->allowed.i_max = best.i_max;
    p->tempered = tempered;
    p->drawn.key = draw.key;
    p->drawn.token = draw.token;
    p->drawn.logit = draw.logit;
}

extern "C" void cuda_launch_head(cudaStream_t stream, const float *logits,
                                 const cuda_head_request *requests, int32_t n_requests,
                                 int32_t vocab, float logit_scale, int32_t forbidden,
                                 cuda_head_partial *partials, float *stored) {
    dim3 grid((unsigned)((vocab + CUDA_HEAD_TILE - 1) / CUDA_HEAD_TILE), (unsigned)n_requests);
    reduce_tile<<<grid, THREADS, 0, stream>>>(logits, requests, vocab, logit_scale, forbidden,
                                              partials, stored);
}

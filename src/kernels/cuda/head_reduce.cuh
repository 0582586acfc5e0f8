/* SPDX-License-Identifier: Apache-2.0
 *
 * Reductions of a block of THREADS threads that the head's kernels share, in an order fixed by the
 * threads' numbers; every thread gets the result. parts: shared memory, one item a warp.
 */
#ifndef KERNELS_CUDA_HEAD_REDUCE_CUH
#define KERNELS_CUDA_HEAD_REDUCE_CUH

#include "kernels/cuda/philox.cuh"

template <int THREADS>
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

template <int THREADS>
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

template <int THREADS>
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

#endif

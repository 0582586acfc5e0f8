/* SPDX-License-Identifier: Apache-2.0
 *
 * Number i of a stored row as float32: the bits of dtype_decode (quant/dtype.c), one at a time.
 * Products of scales are rounded by themselves, never fused.
 */
#ifndef KERNELS_CUDA_DECODE_CUH
#define KERNELS_CUDA_DECODE_CUH

#include <cuda_fp16.h>
#include <string.h>

#include "kernels/cuda/common.cuh"
#define _Static_assert static_assert
#include "quant/blocks.h"
#undef _Static_assert

static __device__ __forceinline__ float from_f16(uint16_t bits) {
    return __half2float(__ushort_as_half(bits));
}

static __device__ __forceinline__ void k_scale(const uint8_t *scales, int g, int *sc, int *m) {
    if (g < 4) {
        *sc = scales[g] & 63;
        *m = scales[g + 4] & 63;
    } else {
        *sc = (scales[g + 4] & 15) | (scales[g - 4] >> 6) << 4;
        *m = scales[g + 4] >> 4 | (scales[g] >> 6) << 4;
    }
}

/* (d * sc) * q - dmin * m, each product rounded. */
static __device__ __forceinline__ float scaled(uint16_t d, uint16_t dmin, int sc, int m, int q) {
    float scale = __fmul_rn(from_f16(d), (float)sc), least = __fmul_rn(from_f16(dmin), (float)m);
    return __fsub_rn(__fmul_rn(scale, (float)q), least);
}

/* The types of weights, for kernels that are compiled once for each. */
#define WEIGHT_TYPES(X) \
    X(W_F32) X(W_F16) X(W_BF16) X(W_Q8_0) X(W_Q4_0) X(W_Q4_K) X(W_Q5_K) X(W_Q6_K)

/* Those that mma_cuda.cu multiplies. */
#define MMA_TYPES(X) X(W_BF16) X(W_Q8_0) X(W_Q4_0) X(W_Q4_K) X(W_Q5_K) X(W_Q6_K)

template <int TYPE>
static __device__ __forceinline__ float weight_at(const void *row, int i) {
    if (TYPE == W_F32) return ((const float *)row)[i];
    if (TYPE == W_F16) return from_f16(((const uint16_t *)row)[i]);
    if (TYPE == W_BF16) return from_bf16(((const uint16_t *)row)[i]);
    if (TYPE == W_Q8_0) {
        const block_q8_0 *b = (const block_q8_0 *)row + i / BLOCK_LEN;
        return __fmul_rn(from_f16(b->d), (float)b->qs[i % BLOCK_LEN]);
    }
    if (TYPE == W_Q4_0) {
        const block_q4_0 *b = (const block_q4_0 *)row + i / BLOCK_LEN;
        int at = i % BLOCK_LEN;
        int q = at < 16 ? b->qs[at] & 15 : b->qs[at - 16] >> 4;
        return __fmul_rn(from_f16(b->d), (float)(q - 8));
    }
    int at = i % BLOCK_K_LEN, g = at / 32, sc, m;
    if (TYPE == W_Q4_K) {
        const block_q4_k *b = (const block_q4_k *)row + i / BLOCK_K_LEN;
        k_scale(b->scales, g, &sc, &m);
        return scaled(b->d, b->dmin, sc, m, b->qs[g / 2 * 32 + at % 32] >> g % 2 * 4 & 15);
    }
    if (TYPE == W_Q5_K) {
        const block_q5_k *b = (const block_q5_k *)row + i / BLOCK_K_LEN;
        k_scale(b->scales, g, &sc, &m);
        int q = (b->qs[g / 2 * 32 + at % 32] >> g % 2 * 4 & 15) | (b->qh[at % 32] >> g & 1) << 4;
        return scaled(b->d, b->dmin, sc, m, q);
    }
    const block_q6_k *b = (const block_q6_k *)row + i / BLOCK_K_LEN;
    int half = at / 128, part = at % 128 / 32, l = at % 32;
    int low = b->ql[half * 64 + part % 2 * 32 + l] >> part / 2 * 4 & 15;
    int q = low | (b->qh[half * 32 + l] >> part * 2 & 3) << 4;
    float scale = __fmul_rn(from_f16(b->d), (float)b->scales[at / 16]);
    return __fmul_rn(scale, (float)(q - 32));
}

static __host__ __device__ __forceinline__ size_t weight_row_bytes(int type, int32_t n) {
    switch (type) {
        case W_F32:
            return (size_t)n * 4;
        case W_Q8_0:
            return (size_t)(n / BLOCK_LEN) * sizeof(block_q8_0);
        case W_Q4_0:
            return (size_t)(n / BLOCK_LEN) * sizeof(block_q4_0);
        case W_Q4_K:
            return (size_t)(n / BLOCK_K_LEN) * sizeof(block_q4_k);
        case W_Q5_K:
            return (size_t)(n / BLOCK_K_LEN) * sizeof(block_q5_k);
        case W_Q6_K:
            return (size_t)(n / BLOCK_K_LEN) * sizeof(block_q6_k);
        default:
            return (size_t)n * 2;
    }
}

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the CUDA files share: numbers of types, reductions of a warp in a fixed order.
 */
#ifndef KERNELS_CUDA_COMMON_CUH
#define KERNELS_CUDA_COMMON_CUH

#include <cuda_runtime.h>
#include <float.h>
#include <math.h>
#include <stdint.h>

#include "kernels/cuda/cuda_launch.h"

/* The layouts that C has in kernels/ops.h and quant/dtype.h; cuda_device.c asserts that they
 * agree. */
enum { PAGE_LEN = 32 };

struct page_list {
    const int32_t *pages;
    int32_t n_pages;
};

enum weight_type { W_F32, W_F16, W_BF16, W_Q8_0, W_Q4_0, W_Q4_K, W_Q5_K, W_Q6_K };

static __device__ __forceinline__ float warp_sum(float x) {
    for (int mask = 16; mask > 0; mask /= 2) x += __shfl_xor_sync(~0u, x, mask);
    return x;
}

static __device__ __forceinline__ float warp_max(float x) {
    for (int mask = 16; mask > 0; mask /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, mask));
    return x;
}

static __device__ __forceinline__ float from_bf16(uint32_t bits) {
    return __uint_as_float(bits << 16);
}

/* Rounds to nearest, ties to even; a NaN stays one: the CPU's bits. */
static __device__ __forceinline__ uint16_t to_bf16(float x) {
    uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

static __device__ __forceinline__ int64_t device_clock_ns() {
    int64_t ns;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns));
    return ns;
}

/* Where number i of a row stands among packed bfloat16 activations: blocks of 8 rows, in them runs
 * of 32 numbers, in these the rows side by side. n_in is a multiple of 32, rows are filled up to 8.
 */
static __device__ __forceinline__ size_t packed_at(int row, int i, int n_in) {
    return (size_t)(row / 8) * 8 * (size_t)n_in + (size_t)(i / 32 * 256 + row % 8 * 32 + i % 32);
}

#endif

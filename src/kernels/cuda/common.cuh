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

/* Stores numbers i .. i + 3 of a row, i a multiple of 4, as packed activations. Where the weights
 * that read them are of a block type, sums are there: the middle of the quad is swapped, and the
 * lanes of a run of 32, eight side by side, all of which call, add it up as it is rounded. */
static __device__ __forceinline__ void store_packed(uint16_t *to, float *sums, float4 x, int row,
                                                    int i, int n_in, bool is_there) {
    ushort4 y = make_ushort4(to_bf16(x.x), to_bf16(x.y), to_bf16(x.z), to_bf16(x.w));
    size_t at = packed_at(row, i, n_in);
    if (sums) {
        float sum = (from_bf16(y.x) + from_bf16(y.y)) + (from_bf16(y.z) + from_bf16(y.w));
        unsigned run = 0xFFu << (threadIdx.x % 32 / 8 * 8);
        for (int mask = 1; mask < 8; mask *= 2) sum += __shfl_xor_sync(run, sum, mask);
        if (is_there && i % 32 == 0) sums[at / 32] = sum;
        y = make_ushort4(y.x, y.z, y.y, y.w);
    }
    if (is_there) *(ushort4 *)(to + at) = y;
}

/* ---- Launches that overlap (compute capability 9.0) -------------------------------------------
 *
 * A kernel may begin while those before it are still at work: what it does before
 * wait_for_launches_before must not touch what they write or read. Every kernel that launch_kernel
 * launches waits in each of its blocks, so that all before the one before have ended as well.
 */

/* The next kernel may begin as soon as all blocks have come here and there is room for it. */
static __device__ __forceinline__ void launch_dependents() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

static __device__ __forceinline__ void wait_for_launches_before() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* ---- Clusters of blocks (compute capability 9.0) ----------------------------------------------
 */

static __device__ __forceinline__ void cluster_sync() {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "barrier.cluster.arrive.release.aligned;\n"
        "barrier.cluster.wait.acquire.aligned;" ::
            : "memory");
#endif
}

/* The same place in the shared memory of the cluster's block number `rank`. */
static __device__ __forceinline__ const void *cluster_address(const void *shared, int rank) {
#if __CUDA_ARCH__ >= 900
    uint64_t there;
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"((uint64_t)shared), "r"(rank));
    return (const void *)there;
#else
    (void)rank;
    return shared;
#endif
}

/* Both come with compute capability 9.0; a device's is what the driver says at once. */
static inline bool is_hopper_or_later() {
    int i_device = 0, major = 0;
    cudaGetDevice(&i_device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i_device);
    return major >= 9;
}

/* Queues a kernel that calls wait_for_launches_before. cluster: blocks along x of one, or 1. */
template <class... PARAMETERS, class... ARGUMENTS>
static void launch_kernel(cudaStream_t stream, dim3 grid, unsigned n_threads, size_t n_bytes,
                          int cluster, void (*kernel)(PARAMETERS...), ARGUMENTS... arguments) {
    cudaLaunchAttribute attributes[2];
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = (unsigned)cluster;
    attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(n_threads);
    config.dynamicSmemBytes = n_bytes;
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = !is_hopper_or_later() ? 0 : cluster > 1 ? 2 : 1;
    cudaLaunchKernelEx(&config, kernel, PARAMETERS(arguments)...);
}

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Loops that do nothing else: what the device can read and compute at most.
 */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256, BLOCKS_EACH = 4 };

static __global__ void read_all(const uint4 *from, size_t n, uint64_t *sum) {
    uint64_t own = 0;
    size_t stride = (size_t)gridDim.x * THREADS;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += 4 * stride) {
        uint4 v[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            v[k] = i + k * stride < n ? __ldcs(from + i + k * stride) : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int k = 0; k < 4; k++) own += v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
    }
    if (own == 1) atomicAdd((unsigned long long *)sum, own); /* keeps the loads */
}

static __global__ void burn_f32(int n_rounds, float *sink) {
    float a[16], x = 1.0f + 1e-7f * (float)threadIdx.x;
    for (int i = 0; i < 16; i++) a[i] = (float)i;
    for (int r = 0; r < n_rounds; r++)
#pragma unroll
        for (int i = 0; i < 16; i++) a[i] = fmaf(a[i], x, 1.0f);
    float sum = 0.0f;
    for (int i = 0; i < 16; i++) sum += a[i];
    if (sum == 1.0f) *sink = sum;
}

static __global__ void burn_bf16(int n_rounds, float *sink) {
    float c[8][4] = {};
    uint32_t a = 0x3F803F80u + threadIdx.x, b = 0x3F803F80u;
    for (int r = 0; r < n_rounds; r++)
#pragma unroll
        for (int i = 0; i < 8; i++)
            asm volatile(
                "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                : "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
                : "r"(a), "r"(a), "r"(a), "r"(a), "r"(b), "r"(b));
    float sum = 0.0f;
    for (int i = 0; i < 8; i++) sum += c[i][0];
    if (sum == 1.0f) *sink = sum;
}

static __global__ void burn_int8(int n_rounds, float *sink) {
    int c[8][4] = {};
    uint32_t a = 0x01010101u + threadIdx.x, b = 0x01010101u;
    for (int r = 0; r < n_rounds; r++)
#pragma unroll
        for (int i = 0; i < 8; i++)
            asm volatile(
                "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, "
                "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                : "+r"(c[i][0]), "+r"(c[i][1]), "+r"(c[i][2]), "+r"(c[i][3])
                : "r"(a), "r"(a), "r"(a), "r"(a), "r"(b), "r"(b));
    int sum = 0;
    for (int i = 0; i < 8; i++) sum += c[i][0];
    if (sum == 1) *sink = (float)sum;
}

extern "C" void cuda_launch_read(cudaStream_t stream, const void *memory, size_t n_bytes,
                                 uint64_t *sum) {
    read_all<<<2048, THREADS, 0, stream>>>((const uint4 *)memory, n_bytes / 16, sum);
}

extern "C" double cuda_launch_burn_f32(cudaStream_t stream, int n_multiprocessors, int n_rounds,
                                       float *sink) {
    unsigned blocks = (unsigned)n_multiprocessors * BLOCKS_EACH;
    burn_f32<<<blocks, THREADS, 0, stream>>>(n_rounds, sink);
    return 2.0 * 16 * n_rounds * THREADS * blocks;
}

extern "C" double cuda_launch_burn_bf16(cudaStream_t stream, int n_multiprocessors, int n_rounds,
                                        float *sink) {
    unsigned blocks = (unsigned)n_multiprocessors * BLOCKS_EACH;
    burn_bf16<<<blocks, THREADS, 0, stream>>>(n_rounds, sink);
    return 2.0 * 16 * 8 * 16 * 8 * n_rounds * (THREADS / 32) * blocks;
}

extern "C" double cuda_launch_burn_int8(cudaStream_t stream, int n_multiprocessors, int n_rounds,
                                        float *sink) {
    unsigned blocks = (unsigned)n_multiprocessors * BLOCKS_EACH;
    burn_int8<<<blocks, THREADS, 0, stream>>>(n_rounds, sink);
    return 2.0 * 16 * 8 * 32 * 8 * n_rounds * (THREADS / 32) * blocks;
}

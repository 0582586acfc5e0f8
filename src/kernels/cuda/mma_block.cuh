/* SPDX-License-Identifier: Apache-2.0
 *
 * What blocks of both products on the tensor cores share: rings of weights, and what becomes of a
 * block's sums. Outputs of a warp are 32; with M_WARPS groups of outputs the warps of a group share
 * k. All slices of k of a row and output are added in a fixed order: warps of a block, then blocks
 * of a cluster.
 */
#ifndef KERNELS_CUDA_MMA_BLOCK_CUH
#define KERNELS_CUDA_MMA_BLOCK_CUH

#include "kernels/cuda/mma.cuh"

enum { WARPS = 8, THREADS = 32 * WARPS, SPLITS_MAX = 8 };

/* The chunks of a warp: first, first + step, ... before end. */
struct chunk_range {
    int first, step, end;
};

static constexpr __host__ __device__ int ring_bytes(int type) {
    return stages_of(type) * slot_bytes(type);
}

template <int TYPE>
static __device__ __forceinline__ void fill_ring(char *ring, const lane_source &w,
                                                 const chunk_range &c) {
#pragma unroll
    for (int s = 0; s < stages_of(TYPE) - 1; s++)
        send_for<TYPE>(ring + s * slot_bytes(TYPE), w, c.first + s * c.step, c.end);
}

/* The lane's weights for a warp of outputs. Tiles beyond the last one are read as the last one, and
 * not stored. */
template <int TYPE, bool IS_GATED>
static __device__ __forceinline__ lane_source warp_source(const cuda_product &p,
                                                          const cuda_weight &part, int group,
                                                          int i_warp) {
    int last = (part.n_out + PANEL - 1) / PANEL - 1;
    int first = IS_GATED ? min(i_warp, last) : min(2 * i_warp, last);
    const char *w = (const char *)part.w + (size_t)group * p.w_stride;
    const char *second = IS_GATED ? (const char *)p.w_up + (size_t)group * p.w_stride : w;
    return source_of<TYPE>(p, w, second, first, IS_GATED ? first : min(2 * i_warp + 1, last));
}

/* Sums of a block in shared memory, in the rings' place: [k_warps, PASS_ROWS, sum_stride]. */
static constexpr __host__ __device__ int sum_stride(int m_warps) {
    return WARP_OUTS * m_warps + 4;
}

static constexpr __host__ __device__ int sum_bytes(int m_warps) {
    return WARPS / m_warps * PASS_ROWS * sum_stride(m_warps) * (int)sizeof(float);
}

template <int TYPE, int N>
static __device__ __forceinline__ void store_sums(float *sums, const float acc[2][N][4], int m_warp,
                                                  int stride) {
    int t = (int)threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int m = 0; m < 2; m++)
                sums[(8 * n + 2 * t + i % 2) * stride + WARP_OUTS * m_warp +
                     lane_out<TYPE>(m, i / 2)] = acc[m][n][i];
}

static __device__ __forceinline__ float4 sum4(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

/* Of four neighbouring outputs: the parts of k, n_parts in the block, or one in each of n_splits
 * blocks. */
template <int K_WARPS>
static __device__ __forceinline__ float4 total4(const float *sums, int n_splits, int part_stride) {
    float4 sum = *(const float4 *)sums;
    if (K_WARPS > 1) {
#pragma unroll
        for (int k = 1; k < K_WARPS; k++)
            sum = sum4(sum, *(const float4 *)(sums + k * part_stride));
    } else if (n_splits > 1) {
        float4 slices[SPLITS_MAX];
#pragma unroll
        for (int s = 0; s < SPLITS_MAX; s++)
            if (s < n_splits) slices[s] = *(const float4 *)cluster_address(sums, s);
        sum = slices[0];
#pragma unroll
        for (int s = 1; s < SPLITS_MAX; s++)
            if (s < n_splits) sum = sum4(sum, slices[s]);
    }
    return sum;
}

static __device__ __forceinline__ float gate_of(float gate, float up) {
    return gate / (1.0f + expf(-gate)) * up;
}

static __device__ __forceinline__ void store_plain(const cuda_product &p, const cuda_weight &w,
                                                   float4 sum, int row, int o) {
    float *to = w.y + (size_t)row * (size_t)w.n_out + (size_t)o;
    float y[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
    for (int k = 0; k < 4; k++) {
        if (o + k >= w.n_out) break;
        if (w.bias) y[k] += w.bias[o + k];
        if (p.is_added) y[k] += to[k];
        if (w.n_out % 4) to[k] = y[k];
    }
    if (w.n_out % 4 == 0 && o < w.n_out) *(float4 *)to = make_float4(y[0], y[1], y[2], y[3]);
}

/* What rows r .. r + n - 1 of a block's outputs have become: the blocks of a cluster take turns at
 * rows. Gated: silu(gate) * up, packed for the product that reads it; lanes have neighbouring
 * outputs, as store_packed wants them. */
template <int M_WARPS, bool IS_GATED>
static __device__ __forceinline__ void store_rows(const cuda_product &p, const cuda_weight &part,
                                                  const float *sums, int first_out, int rank, int r,
                                                  int n) {
    constexpr int stride = sum_stride(M_WARPS), part_stride = PASS_ROWS * stride;
    constexpr int width = (IS_GATED ? PANEL : WARP_OUTS) / 4 * M_WARPS, K_WARPS = WARPS / M_WARPS;
    int n_own = (n - rank + p.n_splits - 1) / p.n_splits;
    for (int i = (int)threadIdx.x; i < width * n_own; i += THREADS) {
        int out = i % width * 4, row = rank + i / width * p.n_splits, o = first_out + out;
        const float *at = sums + row * stride + out;
        if (IS_GATED) at += out / PANEL * PANEL; /* gate and up stand in turns */
        float4 y = total4<K_WARPS>(at, p.n_splits, part_stride);
        if (!IS_GATED) {
            store_plain(p, part, y, r + row, o);
            continue;
        }
        float4 up = total4<K_WARPS>(at + PANEL, p.n_splits, part_stride);
        y = make_float4(gate_of(y.x, up.x), gate_of(y.y, up.y), gate_of(y.z, up.z),
                        gate_of(y.w, up.w));
        store_packed(p.gated, p.gated_sums, y, r + row, o, part.n_out, o < part.n_out);
    }
}

#endif

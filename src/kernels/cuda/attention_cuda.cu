/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over pages, and writes into them. One warp a (row, head, split of CUDA_SPLIT
 * positions): a lane is a position while keys are read and a dimension while values are, which is
 * how a page lies in memory. Online softmax page by page; the states of the splits are merged in
 * the order of positions. The order of all sums is fixed by the row's own positions.
 */
#include "kernels/cuda/common.cuh"

enum { T_F32, T_BF16, T_INT8, DIM_MAX = 256, WARPS = 4 };

static __device__ __forceinline__ char *part_of(void *base, const cuda_cache &c, int page,
                                                int head) {
    return (char *)base + ((size_t)page * (size_t)c.n_kv_heads + (size_t)head) * c.part_bytes;
}

/* ---- Writes -----------------------------------------------------------------------------------
 */

/* The CPU's scale of a row (cpu_rows.c), by a whole warp: maxima do not depend on the order. */
static __device__ float int8_scale(const float *x, int n, float *inverse) {
    float top = 0.0f, odd = 0.0f;
    for (int d = threadIdx.x % 32; d < n; d += 32) {
        if (!isfinite(x[d])) odd = 1.0f;
        top = fmaxf(top, fabsf(x[d]));
    }
    top = warp_max(top);
    odd = warp_max(odd);
    float scale = __fdiv_rn(top, 127.0f);
    *inverse = scale < FLT_MIN || odd > 0.0f ? 0.0f : __fdiv_rn(1.0f, scale);
    if (odd > 0.0f) return __int_as_float(0x7FC00000);
    return *inverse > 0.0f ? scale : 0.0f;
}

static __device__ int8_t to_int8(float x, float inverse) {
    if (!(inverse > 0.0f)) return 0;
    return (int8_t)(__float_as_uint(__fadd_rn(__fmul_rn(x, inverse), 12582912.0f)) & 0xFFu);
}

static __global__ void kv_write(cuda_cache c, const float *k, const float *v, const int32_t *seq,
                                const int32_t *positions, const page_list *tables, int n_rows) {
    int i = (int)(blockIdx.x * WARPS + threadIdx.x / 32), lane = threadIdx.x % 32;
    if (i >= n_rows * c.n_kv_heads) return;
    int row = i / c.n_kv_heads, head = i % c.n_kv_heads, dim = c.head_dim;
    int position = positions[row], slot = position % PAGE_LEN;
    int page = tables[seq[row]].pages[position / PAGE_LEN];
    char *keys = part_of(c.keys, c, page, head), *values = part_of(c.values, c, page, head);
    k += (size_t)i * (size_t)dim;
    v += (size_t)i * (size_t)dim;
    if (c.type == T_F32) {
        for (int d = lane; d < dim; d += 32) {
            ((float *)keys)[d * PAGE_LEN + slot] = k[d];
            ((float *)values)[slot * dim + d] = v[d];
        }
    } else if (c.type == T_BF16) {
        for (int d = lane; d < dim; d += 32) {
            ((uint16_t *)keys)[(d / 2 * PAGE_LEN + slot) * 2 + d % 2] = to_bf16(k[d]);
            ((uint16_t *)values)[(slot / 2 * dim + d) * 2 + slot % 2] = to_bf16(v[d]);
        }
        if (dim % 2 && lane == 0) ((uint16_t *)keys)[(dim / 2 * PAGE_LEN + slot) * 2 + 1] = 0;
    } else {
        float k_inverse, v_inverse;
        float k_scale = int8_scale(k, dim, &k_inverse), v_scale = int8_scale(v, dim, &v_inverse);
        for (int d = lane; d < dim; d += 32) {
            ((int8_t *)keys)[d * PAGE_LEN + slot] = to_int8(k[d], k_inverse);
            ((int8_t *)values)[slot * dim + d] = to_int8(v[d], v_inverse);
        }
        if (lane == 0) {
            ((float *)(keys + (size_t)dim * PAGE_LEN))[slot] = k_scale;
            ((float *)(values + (size_t)dim * PAGE_LEN))[slot] = v_scale;
        }
    }
}

/* ---- Attention --------------------------------------------------------------------------------
 */

/* q . key of the lane's position; q in shared memory. */
template <int TYPE>
static __device__ __forceinline__ float score_of(const char *keys, const float *q, int dim) {
    int lane = threadIdx.x % 32;
    float sum = 0.0f;
    if constexpr (TYPE == T_F32) {
#pragma unroll 8
        for (int d = 0; d < dim; d++)
            sum = fmaf(q[d], ((const float *)keys)[d * PAGE_LEN + lane], sum);
    } else if constexpr (TYPE == T_BF16) { /* q is padded with a zero to whole pairs */
#pragma unroll 16
        for (int d = 0; d < dim; d += 2) {
            uint32_t pair = ((const uint32_t *)keys)[d / 2 * PAGE_LEN + lane];
            sum = fmaf(q[d], __uint_as_float(pair << 16), sum);
            sum = fmaf(q[d + 1], __uint_as_float(pair & 0xFFFF0000u), sum);
        }
    } else {
        float scale = ((const float *)(keys + (size_t)dim * PAGE_LEN))[lane];
#pragma unroll 8
        for (int d = 0; d < dim; d++)
            sum = fmaf(q[d], (float)((const int8_t *)keys)[d * PAGE_LEN + lane] * scale, sum);
    }
    return sum;
}

/* acc += sum over the page's first n positions of e[position] * value; e is the lane's. */
template <int TYPE, int DIMS>
static __device__ __forceinline__ void add_values(float acc[DIMS], const char *values, float e,
                                                  int n, int dim) {
    int lane = threadIdx.x % 32;
    if constexpr (TYPE == T_BF16) {
#pragma unroll 4
        for (int p = 0; p < n; p += 2) {
            float e0 = __shfl_sync(~0u, e, p), e1 = __shfl_sync(~0u, e, p + 1);
#pragma unroll
            for (int k = 0; k < DIMS; k++) {
                int d = lane + 32 * k;
                if (d >= dim) break;
                uint32_t pair = ((const uint32_t *)values)[p / 2 * dim + d];
                acc[k] = fmaf(e0, __uint_as_float(pair << 16), acc[k]);
                if (p + 1 < n) acc[k] = fmaf(e1, __uint_as_float(pair & 0xFFFF0000u), acc[k]);
            }
        }
    } else {
#pragma unroll 4
        for (int p = 0; p < n; p++) {
            float weight = __shfl_sync(~0u, e, p), scale = 1.0f;
            if (TYPE == T_INT8) scale = ((const float *)(values + (size_t)dim * PAGE_LEN))[p];
#pragma unroll
            for (int k = 0; k < DIMS; k++) {
                int d = lane + 32 * k;
                if (d >= dim) break;
                float value = TYPE == T_F32 ? ((const float *)values)[p * dim + d]
                                            : (float)((const int8_t *)values)[p * dim + d] * scale;
                acc[k] = fmaf(weight, value, acc[k]);
            }
        }
    }
}

/* A state: sums [dim], the highest score, the sum of weights. */
template <int TYPE, int DIMS>
static __global__ void attend(cuda_cache c, const float *q, const int32_t *seq,
                              const int32_t *visible_end, const page_list *tables, int n_heads,
                              int n_splits, float scale, float *states) {
    __shared__ float query[DIM_MAX + 1];
    int lane = threadIdx.x % 32, head = (int)blockIdx.y, row = (int)blockIdx.z, dim = c.head_dim;
    int end = visible_end[row], split = (int)(blockIdx.x * WARPS + threadIdx.x / 32);
    if ((int)blockIdx.x * WARPS * CUDA_SPLIT >= end) return;
    size_t i_query = (size_t)row * (size_t)n_heads + (size_t)head;
    for (int d = (int)threadIdx.x; d <= dim; d += WARPS * 32)
        query[d] = d < dim ? q[i_query * (size_t)dim + (size_t)d] : 0.0f;
    __syncthreads();
    int first = split * CUDA_SPLIT, last = min(end, first + CUDA_SPLIT);
    if (first >= end) return;
    const int32_t *pages = tables[seq[row]].pages;
    int kv_head = head / (n_heads / c.n_kv_heads);
    float acc[DIMS] = {}, top = -FLT_MAX, total = 0.0f;
    for (int at = first; at < last; at += PAGE_LEN) {
        int page = pages[at / PAGE_LEN], n = min(last - at, (int)PAGE_LEN);
        float score = score_of<TYPE>(part_of(c.keys, c, page, kv_head), query, dim) * scale;
        if (lane >= n) score = -FLT_MAX; /* whatever stands there */
        float higher = fmaxf(top, warp_max(score)), fade = expf(top - higher);
        float e = lane < n ? expf(score - higher) : 0.0f;
        top = higher;
        total = fmaf(total, fade, warp_sum(e));
#pragma unroll
        for (int k = 0; k < DIMS; k++) acc[k] *= fade;
        add_values<TYPE, DIMS>(acc, part_of(c.values, c, page, kv_head), e, n, dim);
    }
    float *state = states + (i_query * (size_t)n_splits + (size_t)split) * (size_t)(dim + 2);
#pragma unroll
    for (int k = 0; k < DIMS; k++)
        if (lane + 32 * k < dim) state[lane + 32 * k] = acc[k];
    if (lane == 0) {
        state[dim] = top;
        state[dim + 1] = total;
    }
}

/* One block a (row, head); a thread a dimension. */
static __global__ void merge(float *out, const float *states, const int32_t *visible_end,
                             int n_heads, int n_splits, int dim) {
    size_t i_query = blockIdx.x;
    int d = (int)threadIdx.x;
    int n = (visible_end[i_query / (size_t)n_heads] + CUDA_SPLIT - 1) / CUDA_SPLIT;
    if (d >= dim) return;
    const float *state = states + i_query * (size_t)n_splits * (size_t)(dim + 2);
    float sum = 0.0f, top = -FLT_MAX, total = 0.0f;
    for (int s = 0; s < n; s++, state += dim + 2) {
        float higher = fmaxf(top, state[dim]);
        float fade = expf(top - higher), weight = expf(state[dim] - higher);
        sum = sum * fade + weight * state[d];
        total = total * fade + weight * state[dim + 1];
        top = higher;
    }
    out[i_query * (size_t)dim + (size_t)d] = n > 0 ? sum / total : 0.0f;
}

/* ---- Launchers --------------------------------------------------------------------------------
 */

extern "C" void cuda_launch_kv_write(cudaStream_t stream, const cuda_cache *cache, const float *k,
                                     const float *v, const int32_t *seq, const int32_t *positions,
                                     const void *tables, int32_t n_rows) {
    unsigned blocks = (unsigned)((n_rows * cache->n_kv_heads + WARPS - 1) / WARPS);
    kv_write<<<blocks, WARPS * 32, 0, stream>>>(*cache, k, v, seq, positions,
                                                (const page_list *)tables, n_rows);
}

template <int TYPE>
static void launch(cudaStream_t stream, dim3 grid, const cuda_cache &c, const float *q,
                   const int32_t *seq, const int32_t *visible_end, const page_list *tables,
                   int n_heads, int n_splits, float scale, float *states) {
#define CASE(DIMS)                                                                               \
    attend<TYPE, DIMS><<<grid, WARPS * 32, 0, stream>>>(c, q, seq, visible_end, tables, n_heads, \
                                                        n_splits, scale, states)
    if (c.head_dim <= 64)
        CASE(2);
    else if (c.head_dim <= 128)
        CASE(4);
    else
        CASE(8);
#undef CASE
}

extern "C" void cuda_launch_attention(cudaStream_t stream, const cuda_cache *cache, float *out,
                                      const float *q, const int32_t *seq,
                                      const int32_t *visible_end, const void *tables,
                                      int32_t n_rows, int32_t n_heads, int32_t n_splits,
                                      float scale, float *states) {
    const page_list *lists = (const page_list *)tables;
    dim3 grid((unsigned)((n_splits + WARPS - 1) / WARPS), (unsigned)n_heads, (unsigned)n_rows);
    if (n_splits > 0) {
        if (cache->type == T_F32)
            launch<T_F32>(stream, grid, *cache, q, seq, visible_end, lists, n_heads, n_splits,
                          scale, states);
        else if (cache->type == T_BF16)
            launch<T_BF16>(stream, grid, *cache, q, seq, visible_end, lists, n_heads, n_splits,
                           scale, states);
        else
            launch<T_INT8>(stream, grid, *cache, q, seq, visible_end, lists, n_heads, n_splits,
                           scale, states);
    }
    merge<<<(unsigned)(n_rows * n_heads), (unsigned)((cache->head_dim + 31) / 32 * 32), 0,
            stream>>>(out, states, visible_end, n_heads, n_splits, cache->head_dim);
}

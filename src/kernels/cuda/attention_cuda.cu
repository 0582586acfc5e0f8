/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over pages. A block brings a page into shared memory for many
 * queries of its head; a lane is a position while keys are read and a dimension while values are,
 * which is how a page lies in memory. Online softmax page by page, splits of CUDA_SPLIT positions
 * side by side; their states are merged in the order of positions. The order of all sums is fixed
 * by the row's own positions.
 */
#include "kernels/cuda/common.cuh"

enum { T_F32, T_BF16, T_INT8, DIM_MAX = 256, WARPS = 4 };

static __device__ __forceinline__ char *part_of(void *base, const cuda_cache &c, int page,
                                                int head) {
    return (char *)base + ((size_t)page * (size_t)c.n_kv_heads + (size_t)head) * c.part_bytes;
}

/* ---- Attention --------------------------------------------------------------------------------
 */

enum { QUERIES = 8, BLOCK_QUERIES = QUERIES * WARPS };

/* What a block holds in shared memory, in this order: a page's keys and values as they are stored,
 * then queries [BLOCK_QUERIES, dim rounded up to 4], then weights [WARPS, QUERIES, PAGE_LEN]. */
static __host__ __device__ __forceinline__ int padded_dim(int dim) {
    return (dim + 3) / 4 * 4;
}

static size_t shared_bytes(const cuda_cache *c) {
    return 2 * c->part_bytes + sizeof(float) * (size_t)(BLOCK_QUERIES * padded_dim(c->head_dim) +
                                                        BLOCK_QUERIES * PAGE_LEN);
}

/* Number d of the key at the lane's position. */
template <int TYPE>
static __device__ __forceinline__ float key_at(const char *keys, int d, float scale) {
    int lane = threadIdx.x % 32;
    if (TYPE == T_F32) return ((const float *)keys)[d * PAGE_LEN + lane];
    if (TYPE == T_INT8) return (float)((const int8_t *)keys)[d * PAGE_LEN + lane] * scale;
    return from_bf16(((const uint16_t *)keys)[(d / 2 * PAGE_LEN + lane) * 2 + d % 2]);
}

/* Four of them; d is a multiple of 4. */
template <int TYPE>
static __device__ __forceinline__ float4 keys_at(const char *keys, int d, float scale) {
    if (TYPE == T_BF16) {
        const uint32_t *pairs = (const uint32_t *)keys + d / 2 * PAGE_LEN + threadIdx.x % 32;
        uint32_t a = pairs[0], b = pairs[PAGE_LEN];
        return make_float4(__uint_as_float(a << 16), __uint_as_float(a & 0xFFFF0000u),
                           __uint_as_float(b << 16), __uint_as_float(b & 0xFFFF0000u));
    }
    return make_float4(key_at<TYPE>(keys, d, scale), key_at<TYPE>(keys, d + 1, scale),
                       key_at<TYPE>(keys, d + 2, scale), key_at<TYPE>(keys, d + 3, scale));
}

/* scores[i] = query i . key of the lane's position, in the order of d. */
template <int TYPE>
static __device__ __forceinline__ void score_page(float scores[QUERIES], const char *keys,
                                                  const float *q, int dim) {
    int padded = padded_dim(dim), whole = dim / 4 * 4;
    float scale =
        TYPE == T_INT8 ? ((const float *)(keys + (size_t)dim * PAGE_LEN))[threadIdx.x % 32] : 1.0f;
#pragma unroll
    for (int i = 0; i < QUERIES; i++) scores[i] = 0.0f;
#pragma unroll 2
    for (int d = 0; d < whole; d += 4) {
        float4 k = keys_at<TYPE>(keys, d, scale);
#pragma unroll
        for (int i = 0; i < QUERIES; i++) {
            float4 own = *(const float4 *)(q + i * padded + d);
            float sum = fmaf(own.x, k.x, scores[i]);
            sum = fmaf(own.y, k.y, sum);
            sum = fmaf(own.z, k.z, sum);
            scores[i] = fmaf(own.w, k.w, sum);
        }
    }
    for (int d = whole; d < dim; d++) {
        float k = key_at<TYPE>(keys, d, scale);
#pragma unroll
        for (int i = 0; i < QUERIES; i++) scores[i] = fmaf(q[i * padded + d], k, scores[i]);
    }
}

/* Number d of the value in slot p. */
template <int TYPE>
static __device__ __forceinline__ float value_at(const char *values, int p, int d, int dim) {
    if (TYPE == T_F32) return ((const float *)values)[p * dim + d];
    if (TYPE == T_BF16) return from_bf16(((const uint16_t *)values)[(p / 2 * dim + d) * 2 + p % 2]);
    float scale = ((const float *)(values + (size_t)dim * PAGE_LEN))[p];
    return (float)((const int8_t *)values)[p * dim + d] * scale;
}

/* acc[i] += sum over the page's positions, in their order, of weight * value, for the first n[i]
 * positions. IS_WHOLE: all of them, for every query. What lies behind a query's last position is
 * not multiplied. */
template <int TYPE, int DIMS, bool IS_WHOLE>
static __device__ __forceinline__ void add_values(float acc[QUERIES][DIMS], const char *values,
                                                  const float *weights, const int n[QUERIES],
                                                  int dim) {
    int lane = threadIdx.x % 32;
#pragma unroll 2
    for (int p = 0; p < PAGE_LEN; p++) {
        float v[DIMS];
#pragma unroll
        for (int k = 0; k < DIMS; k++)
            v[k] = lane + 32 * k < dim ? value_at<TYPE>(values, p, lane + 32 * k, dim) : 0.0f;
#pragma unroll
        for (int i = 0; i < QUERIES; i++) {
            if (!IS_WHOLE && p >= n[i]) continue;
            float weight = weights[i * PAGE_LEN + p];
#pragma unroll
            for (int k = 0; k < DIMS; k++) acc[i][k] = fmaf(weight, v[k], acc[i][k]);
        }
    }
}

/* Online softmax over one page for a warp's queries; query i sees its first n[i] positions. */
template <int TYPE, int DIMS>
static __device__ __forceinline__ void take_page(float acc[QUERIES][DIMS], float top[QUERIES],
                                                 float total[QUERIES], const char *keys,
                                                 const char *values, const float *q, float *weights,
                                                 const int n[QUERIES], int dim, float scale) {
    int lane = threadIdx.x % 32;
    float scores[QUERIES];
    bool is_whole = true;
    score_page<TYPE>(scores, keys, q, dim);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < QUERIES; i++) {
        is_whole &= n[i] == PAGE_LEN;
        if (n[i] == 0) continue;
        float score = lane < n[i] ? scores[i] * scale : -FLT_MAX;
        float higher = fmaxf(top[i], warp_max(score)), fade = expf(top[i] - higher);
        float e = lane < n[i] ? expf(score - higher) : 0.0f;
        top[i] = higher;
        total[i] = fmaf(total[i], fade, warp_sum(e));
        weights[i * PAGE_LEN + lane] = e;
#pragma unroll
        for (int k = 0; k < DIMS; k++) acc[i][k] *= fade;
    }
    __syncwarp();
    if (is_whole)
        add_values<TYPE, DIMS, true>(acc, values, weights, n, dim);
    else
        add_values<TYPE, DIMS, false>(acc, values, weights, n, dim);
}

/* A block takes BLOCK_QUERIES queries of one key-value head and one split; a query is a (row, head)
 * pair, the heads of a row side by side. Rows of several sequences are taken sequence by sequence.
 * A state: sums [dim], the highest score, the sum of weights. */
template <int TYPE, int DIMS>
static __global__ void __launch_bounds__(WARPS * 32)
    attend(cuda_cache c, const float *q, const int32_t *seq, const int32_t *visible_end,
           const page_list *tables, int n_rows, int n_heads, int n_splits, float scale,
           float *states) {
    extern __shared__ uint4 shared[];
    launch_dependents();
    wait_for_launches_before();
    char *keys = (char *)shared, *values = keys + c.part_bytes;
    float *queries = (float *)(values + c.part_bytes);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, dim = c.head_dim;
    int padded = padded_dim(dim), kv_head = (int)blockIdx.y, group = n_heads / c.n_kv_heads;
    int base = (int)blockIdx.z * BLOCK_QUERIES, first = (int)blockIdx.x * CUDA_SPLIT;
    float *weights = queries + BLOCK_QUERIES * padded + warp * QUERIES * PAGE_LEN;

    /* Lane i knows of the block's query i. */
    int row = (base + lane) / group, own_seq = -1, own_end = 0;
    if (row < n_rows) {
        own_seq = seq[row];
        own_end = visible_end[row];
    }
    unsigned todo = __ballot_sync(~0u, own_end > first);
    if (!todo) return;
    for (int i = (int)threadIdx.x; i < BLOCK_QUERIES * padded; i += WARPS * 32) {
        int j = base + i / padded, d = i % padded;
        size_t head = (size_t)(j / group) * (size_t)n_heads + (size_t)(kv_head * group + j % group);
        bool is_there = j / group < n_rows && d < dim;
        queries[i] = is_there ? q[head * (size_t)dim + (size_t)d] : 0.0f;
    }
    float acc[QUERIES][DIMS] = {}, top[QUERIES], total[QUERIES];
    int end[QUERIES];
#pragma unroll
    for (int i = 0; i < QUERIES; i++) {
        top[i] = -FLT_MAX;
        total[i] = 0.0f;
        end[i] = __shfl_sync(~0u, own_end, warp * QUERIES + i);
    }
    while (todo) {
        int s = __shfl_sync(~0u, own_seq, __ffs((int)todo) - 1);
        unsigned members = __ballot_sync(~0u, own_seq == s) & todo;
        int last = __reduce_max_sync(~0u, members >> lane & 1 ? own_end : 0);
        const int32_t *pages = tables[s].pages;
        todo &= ~members;
        for (int at = first; at < min(last, first + CUDA_SPLIT); at += PAGE_LEN) {
            const uint4 *k = (const uint4 *)part_of(c.keys, c, pages[at / PAGE_LEN], kv_head);
            const uint4 *v = (const uint4 *)part_of(c.values, c, pages[at / PAGE_LEN], kv_head);
            int n_words = (int)(c.part_bytes / sizeof(uint4)), n[QUERIES], most = 0;
            __syncthreads();
#pragma unroll 4
            for (int i = (int)threadIdx.x; i < n_words; i += WARPS * 32) {
                shared[i] = k[i];
                shared[n_words + i] = v[i];
            }
            __syncthreads();
#pragma unroll
            for (int i = 0; i < QUERIES; i++) {
                bool is_member = members >> (warp * QUERIES + i) & 1;
                n[i] = is_member ? max(0, min(end[i] - at, (int)PAGE_LEN)) : 0;
                most = max(most, n[i]);
            }
            if (most > 0)
                take_page<TYPE, DIMS>(acc, top, total, keys, values,
                                      queries + warp * QUERIES * padded, weights, n, dim, scale);
        }
    }
#pragma unroll
    for (int i = 0; i < QUERIES; i++) {
        int j = base + warp * QUERIES + i;
        if (end[i] <= first) continue;
        size_t head = (size_t)(j / group) * (size_t)n_heads + (size_t)(kv_head * group + j % group);
        float *state = states + (head * (size_t)n_splits + blockIdx.x) * (size_t)(dim + 2);
#pragma unroll
        for (int k = 0; k < DIMS; k++)
            if (lane + 32 * k < dim) state[lane + 32 * k] = acc[i][k];
        if (lane == 0) {
            state[dim] = top[i];
            state[dim + 1] = total[i];
        }
    }
}

/* One block a (row, head); a thread a dimension. */
static __global__ void merge(float *out, const float *states, const int32_t *visible_end,
                             int n_heads, int n_splits, int dim) {
    launch_dependents();
    wait_for_launches_before();
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

template <int TYPE, int DIMS>
static void launch(cudaStream_t stream, const cuda_cache &c, const float *q, const int32_t *seq,
                   const int32_t *visible_end, const page_list *tables, int n_rows, int n_heads,
                   int n_splits, float scale, float *states) {
    size_t n_bytes = shared_bytes(&c);
    int n_queries = n_rows * (n_heads / c.n_kv_heads);
    dim3 grid((unsigned)n_splits, (unsigned)c.n_kv_heads,
              (unsigned)((n_queries + BLOCK_QUERIES - 1) / BLOCK_QUERIES));
    cudaFuncSetAttribute(attend<TYPE, DIMS>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         (int)n_bytes);
    launch_kernel(stream, grid, WARPS * 32, n_bytes, 1, attend<TYPE, DIMS>, c, q, seq, visible_end,
                  tables, n_rows, n_heads, n_splits, scale, states);
}

extern "C" void cuda_launch_attention(cudaStream_t stream, const cuda_cache *cache, float *out,
                                      const float *q, const int32_t *seq,
                                      const int32_t *visible_end, const void *tables,
                                      int32_t n_rows, int32_t n_heads, int32_t n_splits,
                                      float scale, float *states) {
    const page_list *lists = (const page_list *)tables;
#define CASE(TYPE, DIMS)                                                                      \
    launch<TYPE, DIMS>(stream, *cache, q, seq, visible_end, lists, n_rows, n_heads, n_splits, \
                       scale, states)
#define DIM_CASES(TYPE)                  \
    do {                                 \
        if (cache->head_dim <= 64)       \
            CASE(TYPE, 2);               \
        else if (cache->head_dim <= 128) \
            CASE(TYPE, 4);               \
        else                             \
            CASE(TYPE, 8);               \
    } while (0)
    if (n_splits > 0 && !cuda_launch_attention_mma(stream, cache, q, seq, visible_end, tables,
                                                   n_rows, n_heads, n_splits, scale, states)) {
        if (cache->type == T_F32)
            DIM_CASES(T_F32);
        else if (cache->type == T_BF16)
            DIM_CASES(T_BF16);
        else
            DIM_CASES(T_INT8);
    }
#undef DIM_CASES
#undef CASE
    launch_kernel(stream, (unsigned)(n_rows * n_heads),
                  (unsigned)((cache->head_dim + 31) / 32 * 32), 0, 1, merge, out, states,
                  visible_end, n_heads, n_splits, cache->head_dim);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over pages of bfloat16 on the tensor cores, as exact as in float32: queries and weights
 * are split into three bfloat16 numbers each, which together have all their bits; keys and values
 * are bfloat16 as they are stored. A page lies in memory as the operands of an mma: a word of keys
 * is a pair of dimensions of one position, one of values a pair of positions of one dimension.
 *
 * A block has 32 queries of a key-value head and one split of CUDA_SPLIT positions, both of whose
 * pages are on their way at the same time; a warp has 16 queries. States go to the merge of
 * attention_cuda.cu. A row of an mma does not see the others, and the order of all sums is fixed by
 * the row's own positions.
 */
#include "kernels/cuda/mma.cuh"

enum { WARPS = 2, QUERIES = 16, BLOCK_QUERIES = QUERIES * WARPS, TERMS = 3, PAGES = 2 };
static_assert(CUDA_SPLIT == PAGES * PAGE_LEN, "a block holds a split");

/* Rows of words in shared memory, padded so that a fragment's words are in different banks. */
enum { KEY_STRIDE = PAGE_LEN + 8 };

static constexpr __host__ __device__ int value_stride(int dim) {
    return dim + 8;
}

static constexpr __host__ __device__ int query_stride(int dim) { /* words of a query's term */
    return dim / 2 + 4;
}

/* Words of a page: keys [dim / 2, KEY_STRIDE], values [PAGE_LEN / 2, value_stride]. */
static constexpr __host__ __device__ int page_words(int dim) {
    return dim / 2 * KEY_STRIDE + PAGE_LEN / 2 * value_stride(dim);
}

static constexpr __host__ __device__ int shared_words(int dim) {
    return PAGES * page_words(dim) + TERMS * BLOCK_QUERIES * query_stride(dim);
}

/* The first bfloat16 terms of two numbers as a pair; the numbers become what is left of them. */
static __device__ __forceinline__ uint32_t take_term(float *a, float *b) {
    uint32_t x = to_bf16(*a), y = to_bf16(*b);
    *a -= from_bf16(x);
    *b -= from_bf16(y);
    return x | y << 16;
}

/* Queries [BLOCK_QUERIES] from the base on as words [TERMS, BLOCK_QUERIES, query_stride]. */
template <int DIM>
static __device__ __forceinline__ void split_queries(uint32_t *to, const float *q, int base,
                                                     int n_rows, int n_heads, int kv_head,
                                                     int group) {
    for (int i = (int)threadIdx.x; i < BLOCK_QUERIES * DIM / 2; i += WARPS * 32) {
        int j = base + i / (DIM / 2), pair = i % (DIM / 2);
        size_t head = (size_t)(j / group) * (size_t)n_heads + (size_t)(kv_head * group + j % group);
        float2 x = make_float2(0.0f, 0.0f);
        if (j / group < n_rows) x = *(const float2 *)(q + head * DIM + 2 * pair);
        uint32_t *word = to + i / (DIM / 2) * query_stride(DIM) + pair;
#pragma unroll
        for (int k = 0; k < TERMS; k++)
            word[k * BLOCK_QUERIES * query_stride(DIM)] = take_term(&x.x, &x.y);
    }
}

template <int DIM>
static __device__ __forceinline__ void send_for_page(uint32_t *page, const char *keys,
                                                     const char *values) {
    uint32_t *to = page + DIM / 2 * KEY_STRIDE;
    for (int i = (int)threadIdx.x; i < DIM / 2 * PAGE_LEN / 4; i += WARPS * 32)
        copy_async<16>(page + i / (PAGE_LEN / 4) * KEY_STRIDE + i % (PAGE_LEN / 4) * 4,
                       keys + 16 * i);
    for (int i = (int)threadIdx.x; i < PAGE_LEN / 2 * DIM / 4; i += WARPS * 32)
        copy_async<16>(to + i / (DIM / 4) * value_stride(DIM) + i % (DIM / 4) * 4, values + 16 * i);
}

/* Zeros for the values from position n of a page on: nobody sees them, and what is multiplied with
 * a weight of zero must be finite. */
template <int DIM>
static __device__ __forceinline__ void clear_values(uint32_t *page, int n) {
    uint32_t *values = page + DIM / 2 * KEY_STRIDE;
    for (int i = n / 2 * DIM + (int)threadIdx.x; i < PAGE_LEN / 2 * DIM; i += WARPS * 32) {
        uint32_t *word = values + i / DIM * value_stride(DIM) + i % DIM;
        *word = i / DIM * 2 < n ? *word & 0xFFFFu : 0u;
    }
}

/* scores[n][..]: queries g and g + 8 by positions 8n + 2t, + 1. */
template <int DIM>
static __device__ __forceinline__ void score_page(float scores[4][4], const uint32_t *page,
                                                  const uint32_t *queries) {
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint32_t *q = queries + g * query_stride(DIM) + t, *k = page + t * KEY_STRIDE + g;
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) scores[n][i] = 0.0f;
#pragma unroll 2
    for (int step = 0; step < DIM / 16; step++) {
        uint32_t b[4][2];
#pragma unroll
        for (int n = 0; n < 4; n++) {
            b[n][0] = k[8 * step * KEY_STRIDE + 8 * n];
            b[n][1] = k[(8 * step + 4) * KEY_STRIDE + 8 * n];
        }
#pragma unroll
        for (int term = TERMS - 1; term >= 0; term--) {
            const uint32_t *a = q + term * BLOCK_QUERIES * query_stride(DIM) + 8 * step;
            uint32_t a0 = a[0], a1 = a[8 * query_stride(DIM)], a2 = a[4],
                     a3 = a[8 * query_stride(DIM) + 4];
#pragma unroll
            for (int n = 0; n < 4; n++) mma(scores[n], scores[n], a0, a1, a2, a3, b[n][0], b[n][1]);
        }
    }
}

/* What a lane knows of its two queries, g and g + 8 of the warp. */
struct query_state {
    float top, total;
    int seq, end;
};

/* Online softmax over a page, of which the taken queries see n positions: scores become weights,
 * fade what sums so far are multiplied with. */
static __device__ __forceinline__ void weigh_page(float scores[4][4], query_state state[2],
                                                  float fade[2], const bool is_taken[2], int n,
                                                  float scale) {
    int t = (int)threadIdx.x % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = -FLT_MAX, sum = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float *score = &scores[i / 2][2 * h + i % 2];
            *score = 8 * (i / 2) + 2 * t + i % 2 < n ? *score * scale : -INFINITY;
            top = fmaxf(top, *score);
        }
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        top = fmaxf(top, state[h].top);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float *score = &scores[i / 2][2 * h + i % 2];
            *score = 8 * (i / 2) + 2 * t + i % 2 < n ? expf(*score - top) : 0.0f;
            sum += *score;
        }
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        fade[h] = expf(state[h].top - top);
        if (!is_taken[h]) continue;
        state[h].total = fmaf(state[h].total, fade[h], sum);
        state[h].top = top;
    }
}

/* acc = acc * fade + weights . values, for the queries that are taken. */
template <int DIM>
static __device__ __forceinline__ void add_values(float acc[DIM / 8][4], const uint32_t *page,
                                                  float weights[4][4], const float fade[2],
                                                  const bool is_taken[2]) {
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint32_t *v = page + DIM / 2 * KEY_STRIDE + t * value_stride(DIM) + g;
    uint32_t a[TERMS][2][4];
#pragma unroll
    for (int term = 0; term < TERMS; term++)
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float *w = &weights[i / 2][i % 2 * 2]; /* tile, query */
            a[term][i / 4][i % 4] = take_term(&w[0], &w[1]);
        }
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
        float c[4];
#pragma unroll
        for (int i = 0; i < 4; i++) c[i] = acc[n][i] * fade[i / 2];
#pragma unroll
        for (int step = 0; step < 2; step++) {
            uint32_t b0 = v[8 * step * value_stride(DIM) + 8 * n];
            uint32_t b1 = v[(8 * step + 4) * value_stride(DIM) + 8 * n];
#pragma unroll
            for (int term = TERMS - 1; term >= 0; term--) {
                const uint32_t *w = a[term][step];
                mma(c, c, w[0], w[1], w[2], w[3], b0, b1);
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (is_taken[i / 2]) acc[n][i] = c[i];
    }
}

template <int DIM>
static __global__ void __launch_bounds__(WARPS * 32)
    attend(cuda_cache c, const float *q, const int32_t *seq, const int32_t *visible_end,
           const page_list *tables, int n_rows, int n_heads, int n_splits, float scale,
           float *states) {
    extern __shared__ uint4 memory[];
    uint32_t *pages = (uint32_t *)memory, *queries = pages + PAGES * page_words(DIM);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, g = lane / 4;
    int kv_head = (int)blockIdx.y, group = n_heads / c.n_kv_heads;
    int base = (int)blockIdx.z * BLOCK_QUERIES, first = (int)blockIdx.x * CUDA_SPLIT;
    launch_dependents();
    wait_for_launches_before();

    /* Lane i knows of the block's query i; then each of its own two. */
    int row = (base + lane) / group, own_seq = -1, own_end = 0;
    if (row < n_rows) {
        own_seq = seq[row];
        own_end = visible_end[row];
    }
    unsigned todo = __ballot_sync(~0u, own_end > first);
    if (!todo) return;
    split_queries<DIM>(queries, q, base, n_rows, n_heads, kv_head, group);
    queries += QUERIES * warp * query_stride(DIM);
    float acc[DIM / 8][4] = {};
    query_state state[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int i = QUERIES * warp + g + 8 * h;
        state[h] = {-FLT_MAX, 0.0f, __shfl_sync(~0u, own_seq, i), __shfl_sync(~0u, own_end, i)};
    }
    while (todo) {
        int s = __shfl_sync(~0u, own_seq, __ffs((int)todo) - 1);
        unsigned members = __ballot_sync(~0u, own_seq == s) & todo;
        bool is_member = members >> lane & 1;
        int last = __reduce_max_sync(~0u, is_member ? own_end : 0);
        todo &= ~members;
        __syncthreads();
        for (int i = 0; i < PAGES && first + i * PAGE_LEN < last; i++) {
            int page = tables[s].pages[first / PAGE_LEN + i];
            size_t part = ((size_t)page * (size_t)c.n_kv_heads + (size_t)kv_head) * c.part_bytes;
            send_for_page<DIM>(pages + i * page_words(DIM), (const char *)c.keys + part,
                               (const char *)c.values + part);
        }
        commit_copies();
        wait_copies<0>();
        __syncthreads();
        for (int i = 0; i < PAGES && first + i * PAGE_LEN < last; i++) {
            int at = first + i * PAGE_LEN;
            uint32_t *page = pages + i * page_words(DIM);
            /* From those who see the most of the page to those who see the least. */
            int n_own = is_member ? max(0, min(own_end - at, (int)PAGE_LEN)) : 0;
            for (int n = __reduce_max_sync(~0u, n_own); n > 0;
                 n = __reduce_max_sync(~0u, n_own < n ? n_own : 0)) {
                float scores[4][4], fade[2];
                bool is_taken[2];
                if (n < PAGE_LEN) {
                    __syncthreads();
                    clear_values<DIM>(page, n);
                    __syncthreads();
                }
#pragma unroll
                for (int h = 0; h < 2; h++)
                    is_taken[h] = state[h].seq == s && min(state[h].end - at, (int)PAGE_LEN) == n;
                if (!__any_sync(~0u, is_taken[0] || is_taken[1])) continue;
                score_page<DIM>(scores, page, queries);
                weigh_page(scores, state, fade, is_taken, n, scale);
                add_values<DIM>(acc, page, scores, fade, is_taken);
            }
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int j = base + QUERIES * warp + g + 8 * h;
        if (state[h].end <= first) continue;
        size_t head = (size_t)(j / group) * (size_t)n_heads + (size_t)(kv_head * group + j % group);
        float *to = states + (head * (size_t)n_splits + blockIdx.x) * (size_t)(DIM + 2);
#pragma unroll
        for (int n = 0; n < DIM / 8; n++)
            *(float2 *)(to + 8 * n + lane % 4 * 2) = make_float2(acc[n][2 * h], acc[n][2 * h + 1]);
        if (lane % 4 == 0) *(float2 *)(to + DIM) = make_float2(state[h].top, state[h].total);
    }
}

template <int DIM>
static void launch(cudaStream_t stream, const cuda_cache &c, const float *q, const int32_t *seq,
                   const int32_t *visible_end, const void *tables, int n_rows, int n_heads,
                   int n_splits, float scale, float *states) {
    constexpr int n_bytes = shared_words(DIM) * (int)sizeof(uint32_t);
    int n_queries = n_rows * (n_heads / c.n_kv_heads);
    dim3 grid((unsigned)n_splits, (unsigned)c.n_kv_heads,
              (unsigned)((n_queries + BLOCK_QUERIES - 1) / BLOCK_QUERIES));
    cudaFuncSetAttribute(attend<DIM>, cudaFuncAttributeMaxDynamicSharedMemorySize, n_bytes);
    launch_kernel(stream, grid, WARPS * 32, n_bytes, 1, attend<DIM>, c, q, seq, visible_end,
                  (const page_list *)tables, n_rows, n_heads, n_splits, scale, states);
}

extern "C" bool cuda_launch_attention_mma(cudaStream_t stream, const cuda_cache *cache,
                                          const float *q, const int32_t *seq,
                                          const int32_t *visible_end, const void *tables,
                                          int32_t n_rows, int32_t n_heads, int32_t n_splits,
                                          float scale, float *states) {
    enum { T_BF16 = 1 };
    if (cache->type != T_BF16 || (cache->head_dim != 64 && cache->head_dim != 128)) return false;
    if (cache->head_dim == 64)
        launch<64>(stream, *cache, q, seq, visible_end, tables, n_rows, n_heads, n_splits, scale,
                   states);
    else
        launch<128>(stream, *cache, q, seq, visible_end, tables, n_rows, n_heads, n_splits, scale,
                    states);
    return true;
}

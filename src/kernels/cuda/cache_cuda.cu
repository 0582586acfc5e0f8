/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes into pages, alone or with what comes before them: norms of heads and rotation. One warp a
 * head of a row; the numbers are those of the operations one by one, bit by bit.
 */
#include "kernels/cuda/common.cuh"

enum { T_F32, T_BF16, T_INT8, DIM_MAX = 256, WARPS = 4 };

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

/* Where a position's keys, or values, of a head are: the page's part, and the slot in it. */
static __device__ __forceinline__ char *part_of(void *base, const cuda_cache &c, const int32_t *seq,
                                                const page_list *tables, int row, int position,
                                                int head) {
    int page = tables[seq[row]].pages[position / PAGE_LEN];
    return (char *)base + ((size_t)page * (size_t)c.n_kv_heads + (size_t)head) * c.part_bytes;
}

static __device__ void write_key(const cuda_cache &c, char *keys, int slot, const float *k) {
    int lane = (int)threadIdx.x % 32, dim = c.head_dim;
    if (c.type == T_F32) {
        for (int d = lane; d < dim; d += 32) ((float *)keys)[d * PAGE_LEN + slot] = k[d];
    } else if (c.type == T_BF16) {
        for (int d = lane; d < dim; d += 32)
            ((uint16_t *)keys)[(d / 2 * PAGE_LEN + slot) * 2 + d % 2] = to_bf16(k[d]);
        if (dim % 2 && lane == 0) ((uint16_t *)keys)[(dim / 2 * PAGE_LEN + slot) * 2 + 1] = 0;
    } else {
        float inverse, scale = int8_scale(k, dim, &inverse);
        for (int d = lane; d < dim; d += 32)
            ((int8_t *)keys)[d * PAGE_LEN + slot] = to_int8(k[d], inverse);
        if (lane == 0) ((float *)(keys + (size_t)dim * PAGE_LEN))[slot] = scale;
    }
}

static __device__ void write_value(const cuda_cache &c, char *values, int slot, const float *v) {
    int lane = (int)threadIdx.x % 32, dim = c.head_dim;
    if (c.type == T_F32) {
        for (int d = lane; d < dim; d += 32) ((float *)values)[slot * dim + d] = v[d];
    } else if (c.type == T_BF16) {
        for (int d = lane; d < dim; d += 32)
            ((uint16_t *)values)[(slot / 2 * dim + d) * 2 + slot % 2] = to_bf16(v[d]);
    } else {
        float inverse, scale = int8_scale(v, dim, &inverse);
        for (int d = lane; d < dim; d += 32)
            ((int8_t *)values)[slot * dim + d] = to_int8(v[d], inverse);
        if (lane == 0) ((float *)(values + (size_t)dim * PAGE_LEN))[slot] = scale;
    }
}

static __global__ void kv_write(cuda_cache c, const float *k, const float *v, const int32_t *seq,
                                const int32_t *positions, const page_list *tables, int n_rows) {
    launch_dependents();
    wait_for_launches_before();
    int i = (int)(blockIdx.x * WARPS + threadIdx.x / 32);
    if (i >= n_rows * c.n_kv_heads) return;
    int row = i / c.n_kv_heads, head = i % c.n_kv_heads, position = positions[row];
    size_t at = (size_t)i * (size_t)c.head_dim;
    write_key(c, part_of(c.keys, c, seq, tables, row, position, head), position % PAGE_LEN, k + at);
    write_value(c, part_of(c.values, c, seq, tables, row, position, head), position % PAGE_LEN,
                v + at);
}

/* A head in shared memory, normed: rows_cuda.cu's norm of a short row. */
static __device__ void norm_head(float *x, const float *gain, int dim, float eps) {
    int lane = (int)threadIdx.x % 32;
    float sum = 0.0f;
    for (int d = lane; d < dim; d += 32) sum = fmaf(x[d], x[d], sum);
    sum = warp_sum(sum);
    float inverse = 1.0f / sqrtf(sum / (float)dim + eps);
    for (int d = lane; d < dim; d += 32) x[d] = x[d] * inverse * gain[d];
    __syncwarp();
}

static __device__ void rotate_head(float *x, const float *cosines, const float *sines, int half) {
    for (int i = (int)threadIdx.x % 32; i < half; i += 32) {
        float a = x[i], b = x[i + half], c = cosines[i], s = sines[i];
        x[i] = __fsub_rn(__fmul_rn(a, c), __fmul_rn(b, s));
        x[i + half] = __fadd_rn(__fmul_rn(b, c), __fmul_rn(a, s));
    }
    __syncwarp();
}

/* Heads of a row: queries, which stay where they are, then keys, then values. */
static __global__ void rotate(const __grid_constant__ cuda_rotate r) {
    __shared__ float heads[WARPS][DIM_MAX];
    const cuda_cache &c = r.cache;
    int lane = (int)threadIdx.x % 32, dim = c.head_dim, half = r.rotary_dim / 2;
    int n_heads = r.n_heads + 2 * c.n_kv_heads;
    int i = (int)(blockIdx.x * WARPS + threadIdx.x / 32), row = i / n_heads, head = i % n_heads;
    float *x = heads[threadIdx.x / 32];
    launch_dependents();
    wait_for_launches_before();
    if (row >= r.n_rows) return;
    int position = r.positions[row], kv_head = (head - r.n_heads) % c.n_kv_heads;
    size_t at = ((size_t)row * (size_t)c.n_kv_heads + (size_t)kv_head) * (size_t)dim;
    const page_list *tables = (const page_list *)r.tables;
    if (head >= r.n_heads + c.n_kv_heads) {
        char *values = part_of(c.values, c, r.seq, tables, row, position, kv_head);
        write_value(c, values, position % PAGE_LEN, r.v + at);
        return;
    }
    bool is_query = head < r.n_heads;
    float *q = r.q + ((size_t)row * (size_t)r.n_heads + (size_t)head) * (size_t)dim;
    const float *from = is_query ? q : r.k + at, *gain = is_query ? r.q_norm : r.k_norm;
    size_t angle = (size_t)position * (size_t)half;
    for (int d = lane; d < dim; d += 32) x[d] = from[d];
    __syncwarp();
    if (gain) norm_head(x, gain, dim, r.eps);
    rotate_head(x, r.cosines + angle, r.sines + angle, half);
    if (is_query) {
        for (int d = lane; d < dim; d += 32) q[d] = x[d];
    } else {
        char *keys = part_of(c.keys, c, r.seq, tables, row, position, kv_head);
        write_key(c, keys, position % PAGE_LEN, x);
    }
}

extern "C" void cuda_launch_kv_write(cudaStream_t stream, const cuda_cache *cache, const float *k,
                                     const float *v, const int32_t *seq, const int32_t *positions,
                                     const void *tables, int32_t n_rows) {
    unsigned blocks = (unsigned)((n_rows * cache->n_kv_heads + WARPS - 1) / WARPS);
    launch_kernel(stream, blocks, WARPS * 32, 0, 1, kv_write, *cache, k, v, seq, positions,
                  (const page_list *)tables, n_rows);
}

extern "C" void cuda_launch_rotate(cudaStream_t stream, const cuda_rotate *r) {
    unsigned n = (unsigned)(r->n_rows * (r->n_heads + 2 * r->cache.n_kv_heads));
    launch_kernel(stream, (n + WARPS - 1) / WARPS, WARPS * 32, 0, 1, rotate, *r);
}

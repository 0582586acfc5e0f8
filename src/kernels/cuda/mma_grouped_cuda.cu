/* SPDX-License-Identifier: Apache-2.0
 *
 * The products of mma_cuda.cu for the weights of many experts, each with rows of its own: two or
 * three, where a block of 32 tokens goes through 256 experts. Activations are few and are loaded a
 * chunk ahead; there are more than enough blocks, so that the warps of one share outputs and split
 * k among each other. An expert without rows is not read.
 */
#include "kernels/cuda/mma_block.cuh"

/* Groups of outputs of a block's warps; the numbers were the fastest on an H100. */
static constexpr __host__ __device__ int m_warps_of(int type, bool is_gated) {
    return !is_gated ? 4 : type == W_BF16 ? 1 : 2;
}

/* Where the lane's part of row g of each tile begins. Rows beyond the end are the last one. */
template <int N>
struct rows_x {
    uint32_t at[N];
};

template <int N>
static __device__ __forceinline__ void find_rows(rows_x<N> *x, const cuda_product &p, int r,
                                                 int end) {
    int g = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < N; n++) {
        int row = min(r + 8 * n + g, end - 1);
        x->at[n] = (uint32_t)packed_at(p.x_rows ? p.x_rows[row] : row, 8 * t, p.n_in);
    }
}

template <int TYPE, int N>
static __device__ __forceinline__ void load_x(chunk_x<N> *to, const cuda_product &p,
                                              const rows_x<N> &x, int chunk, int end) {
    if (chunk >= end) return;
    const uint16_t *from = (const uint16_t *)p.x + (size_t)chunk * 8 * CHUNK;
#pragma unroll
    for (int n = 0; n < N; n++) {
        to->b[n] = *(const uint4 *)(from + x.at[n]);
        if (has_least(TYPE)) to->sums[n].x = p.x_sums[chunk * 8 + x.at[n] / CHUNK];
    }
}

/* Lanes have loaded the sum of row g; they need those of columns 2t and 2t + 1. */
template <int N>
static __device__ __forceinline__ void exchange_sums(chunk_x<N> *x) {
    int from = (int)threadIdx.x % 4 * 8;
#pragma unroll
    for (int n = 0; n < N; n++)
        x->sums[n] = make_float2(__shfl_sync(~0u, x->sums[n].x, from),
                                 __shfl_sync(~0u, x->sums[n].x, from + 4));
}

/* Adds a warp's chunks for N tiles of rows from r on. The ring was filled. */
template <int TYPE, int N>
static __device__ __forceinline__ void add_chunks(float acc[2][N][4], char *ring,
                                                  const lane_source &w, const cuda_product &p,
                                                  const chunk_range &c, int r, int end) {
    constexpr int stages = stages_of(TYPE), bytes = slot_bytes(TYPE);
    rows_x<N> rows;
    chunk_x<N> x[2] = {};
    int slot = 0;
    find_rows(&rows, p, r, end);
    load_x<TYPE>(&x[0], p, rows, c.first, c.end);
    /* Two chunks a round, so that the registers of activations have fixed names; stages are even.
     */
#pragma unroll 1
    for (int at = c.first; at < c.end; at += 2 * c.step) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int chunk = at + half * c.step, next = slot + half - 1;
            if (chunk >= c.end) break;
            load_x<TYPE>(&x[1 - half], p, rows, chunk + c.step, c.end);
            wait_copies<stages - 2>();
            if (has_least(TYPE)) exchange_sums(&x[half]);
            multiply<TYPE>(acc, ring + (slot + half) * bytes, x[half]);
            if (next < 0) next = stages - 1;
            send_for<TYPE>(ring + next * bytes, w, chunk + (stages - 1) * c.step, c.end);
        }
        slot = slot + 2 < stages ? slot + 2 : 0;
    }
    wait_copies<0>();
}

/* A warp's part of k, to shared memory: sums. */
template <int TYPE, int M_WARPS, int N>
static __device__ __forceinline__ void sum_chunks(char *shared, const lane_source &w,
                                                  const cuda_product &p, const chunk_range &c,
                                                  int r, int end) {
    constexpr int K_WARPS = WARPS / M_WARPS, stride = sum_stride(M_WARPS);
    float acc[2][N][4] = {};
    int warp = (int)threadIdx.x / 32;
    add_chunks<TYPE>(acc, shared + warp * ring_bytes(TYPE), w, p, c, r, end);
    __syncthreads(); /* the sums take the rings' place */
    store_sums<TYPE>((float *)shared + warp % K_WARPS * PASS_ROWS * stride, acc, warp / K_WARPS,
                     stride);
}

/* Blocks: outputs; experts along z. */
template <int TYPE, bool IS_GATED>
static __global__ void __launch_bounds__(THREADS, 2)
    product(const __grid_constant__ cuda_product p) {
    constexpr int M_WARPS = m_warps_of(TYPE, IS_GATED), K_WARPS = WARPS / M_WARPS;
    extern __shared__ uint4 memory[];
    char *shared = (char *)memory;
    int warp = (int)threadIdx.x / 32, block = (int)blockIdx.x, group = (int)blockIdx.z;
    const cuda_weight &part = p.parts[0];
    lane_source source =
        warp_source<TYPE, IS_GATED>(p, part, group, block * M_WARPS + warp / K_WARPS);
    chunk_range chunks = {warp % K_WARPS, K_WARPS, p.n_in / CHUNK};
    launch_dependents();
    wait_for_launches_before();
    int begin = p.first[group], end = p.first[group + 1];
    for (int r = begin; r < end; r += PASS_ROWS) {
        int n = min(end - r, (int)PASS_ROWS);
        fill_ring<TYPE>(shared + warp * ring_bytes(TYPE), source, chunks);
        if (n <= 8)
            sum_chunks<TYPE, M_WARPS, 1>(shared, source, p, chunks, r, end);
        else if (n <= 16)
            sum_chunks<TYPE, M_WARPS, 2>(shared, source, p, chunks, r, end);
        else
            sum_chunks<TYPE, M_WARPS, N_TILES>(shared, source, p, chunks, r, end);
        __syncthreads();
        store_rows<M_WARPS, IS_GATED>(p, part, (const float *)shared,
                                      (IS_GATED ? PANEL : WARP_OUTS) * M_WARPS * block, 0, r, n);
        __syncthreads(); /* before the rings are filled again */
    }
}

template <int TYPE, bool IS_GATED>
static void launch(cudaStream_t stream, const cuda_product *p) {
    constexpr int m_warps = m_warps_of(TYPE, IS_GATED), rings = WARPS * ring_bytes(TYPE);
    constexpr int n_bytes = rings > sum_bytes(m_warps) ? rings : sum_bytes(m_warps);
    int outs = (IS_GATED ? PANEL : WARP_OUTS) * m_warps;
    dim3 grid((unsigned)((p->parts[0].n_out + outs - 1) / outs), 1, (unsigned)p->n_groups);
    cudaFuncSetAttribute(product<TYPE, IS_GATED>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         n_bytes);
    launch_kernel(stream, grid, THREADS, n_bytes, 1, product<TYPE, IS_GATED>, *p);
}

extern "C" void cuda_launch_mma_grouped(cudaStream_t stream, int type, const cuda_product *p) {
#define CASE(TYPE)                          \
    case TYPE:                              \
        if (p->gated)                       \
            launch<TYPE, true>(stream, p);  \
        else                                \
            launch<TYPE, false>(stream, p); \
        break;
    switch (type) { MMA_TYPES(CASE) }
#undef CASE
}

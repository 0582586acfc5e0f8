/* SPDX-License-Identifier: Apache-2.0
 *
 * Products with activations in bfloat16 on the tensor cores, made for few rows, where the time is
 * that of reading the weights once. mma.cuh says how weights become operands.
 *
 * Every block reads the activations of its slice of k, for 32 rows as many bytes as 64 outputs of
 * bfloat16 have: so that a block has 256 outputs, 32 a warp, and n_splits blocks, a cluster, have
 * the same outputs and different slices of k. Weights come through a ring in shared memory, of
 * which each warp reads what it has sent for itself; activations through two buffers that all
 * warps share.
 *
 *   y = ((slice 0 + slice 1) + ..) + bias
 *
 * The weight's shape alone says how it is cut, and a column of an mma does not see the others: a
 * row's result depends on nothing else.
 *
 * Weights do not depend on the kernels before: the ring is filled before those have ended.
 */
#include "kernels/cuda/mma_block.cuh"

enum { X_CHUNKS = 8 }; /* of a buffer of activations; at least a ring's stages but one */

/* A buffer: operands [X_CHUNKS, N, 32 lanes] uint4, as they are packed; then the rows' sums
 * [X_CHUNKS, N, 8]. */
static constexpr __host__ __device__ int x_bytes(int n) {
    return X_CHUNKS * n * (512 + 32);
}

/* What a thread copies of each buffer: of one row, tile and quarter of a chunk, every 8 / N-th
 * chunk. Rows beyond the end are the last one. */
template <int N>
struct x_copier {
    const uint16_t *from;
    const float *sums;
    int to, chunk; /* in the buffer */
};

template <int N>
static __device__ __forceinline__ x_copier<N> x_copier_of(const cuda_product &p, int r, int end) {
    int lane = (int)threadIdx.x % 32, n = (int)threadIdx.x / 32 % N;
    int row = min(r + 8 * n + lane / 4, end - 1);
    size_t at = packed_at(p.x_rows ? p.x_rows[row] : row, 8 * (lane % 4), p.n_in);
    return {(const uint16_t *)p.x + at, p.x_sums + at / CHUNK, n * 32 + lane,
            (int)threadIdx.x / 32 / N};
}

/* Sends for the chunks [first, first + X_CHUNKS) before end. */
template <int TYPE, int N>
static __device__ __forceinline__ void send_for_x(char *buffer, const x_copier<N> &x, int first,
                                                  int end) {
#pragma unroll
    for (int k = 0; k < N; k++) {
        int i = x.chunk + k * (WARPS / N), chunk = first + i;
        if (chunk >= end) break;
        copy_async<16>((uint4 *)buffer + i * N * 32 + x.to, x.from + (size_t)chunk * 256);
        if (has_least(TYPE) && x.to % 4 == 0)
            copy_async<4>((float *)(buffer + X_CHUNKS * N * 512) + i * N * 8 + x.to / 4,
                          x.sums + (size_t)chunk * 8);
    }
}

template <int TYPE, int N>
static __device__ __forceinline__ void read_x(chunk_x<N> *x, const char *buffer, int i) {
    int lane = (int)threadIdx.x % 32;
    const float *sums = (const float *)(buffer + X_CHUNKS * N * 512) + i * N * 8 + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < N; n++) {
        x->b[n] = ((const uint4 *)buffer)[(i * N + n) * 32 + lane];
        if (has_least(TYPE)) x->sums[n] = *(const float2 *)(sums + n * 8);
    }
}

/* Adds the chunks of a slice, for N tiles of rows from r on. The ring was filled, a group of copies
 * for each slot but one. */
template <int TYPE, int N>
static __device__ __forceinline__ void add_chunks(float acc[2][N][4], char *ring, char *buffers,
                                                  const lane_source &w, const cuda_product &p,
                                                  const chunk_range &c, int r, int end) {
    constexpr int stages = stages_of(TYPE), bytes = slot_bytes(TYPE);
    x_copier<N> copier = x_copier_of<N>(p, r, end);
    int slot = 0, next = stages - 1, n = c.end - c.first;
    char *now = buffers, *later = buffers + x_bytes(N);
    send_for_x<TYPE>(now, copier, c.first, c.end);
    commit_copies();
    wait_copies<0>();
    for (int first = 0; first < n; first += X_CHUNKS) {
        wait_copies<stages - 2>();
        __syncthreads(); /* what was sent for is there, what was read may go */
        send_for_x<TYPE>(later, copier, c.first + first + X_CHUNKS, c.end);
#pragma unroll 2
        for (int i = 0; i < min(n - first, (int)X_CHUNKS); i++) {
            chunk_x<N> x;
            wait_copies<stages - 2>();
            send_for<TYPE>(ring + next * bytes, w, c.first + first + i + stages - 1, c.end);
            read_x<TYPE>(&x, now, i);
            multiply<TYPE>(acc, ring + slot * bytes, x);
            slot = slot + 1 < stages ? slot + 1 : 0;
            next = next + 1 < stages ? next + 1 : 0;
        }
        char *read = now;
        now = later;
        later = read;
    }
    wait_copies<0>();
}

template <int TYPE, int N>
static __device__ __forceinline__ void sum_chunks(char *shared, const lane_source &w,
                                                  const cuda_product &p, const chunk_range &c,
                                                  int r, int end) {
    float acc[2][N][4] = {};
    int warp = (int)threadIdx.x / 32;
    add_chunks<TYPE>(acc, shared + warp * ring_bytes(TYPE), shared + WARPS * ring_bytes(TYPE), w, p,
                     c, r, end);
    __syncthreads(); /* the sums take the rings' place */
    store_sums<TYPE>((float *)shared, acc, warp, sum_stride(WARPS));
}

/* Blocks: outputs by n_splits slices of k; tiles of rows. */
template <int TYPE, bool IS_GATED>
static __global__ void __launch_bounds__(THREADS, 2)
    product(const __grid_constant__ cuda_product p) {
    extern __shared__ uint4 memory[];
    char *shared = (char *)memory;
    int warp = (int)threadIdx.x / 32, n_chunks = p.n_in / CHUNK;
    int rank = (int)blockIdx.x % p.n_splits, block = (int)blockIdx.x / p.n_splits, i_part = 0;
    int r = (int)blockIdx.y * PASS_ROWS, end = min(p.n_rows, r + PASS_ROWS), n = end - r;
    while (i_part + 1 < p.n_parts && block >= p.parts[i_part + 1].first_block) i_part++;
    const cuda_weight &part = p.parts[i_part];
    block -= part.first_block;
    lane_source source = warp_source<TYPE, IS_GATED>(p, part, 0, block * WARPS + warp);
    chunk_range chunks = {rank * n_chunks / p.n_splits, 1, (rank + 1) * n_chunks / p.n_splits};

    launch_dependents();
    fill_ring<TYPE>(shared + warp * ring_bytes(TYPE), source, chunks);
    wait_for_launches_before();
    if (n <= 8)
        sum_chunks<TYPE, 1>(shared, source, p, chunks, r, end);
    else if (n <= 16)
        sum_chunks<TYPE, 2>(shared, source, p, chunks, r, end);
    else
        sum_chunks<TYPE, N_TILES>(shared, source, p, chunks, r, end);
    if (p.n_splits > 1)
        cluster_sync();
    else
        __syncthreads();
    store_rows<WARPS, IS_GATED>(p, part, (const float *)shared,
                                (IS_GATED ? PANEL : WARP_OUTS) * WARPS * block, rank, r, n);
    if (p.n_splits > 1) cluster_sync(); /* the others read what this block has */
}

template <int TYPE, bool IS_GATED>
static void launch(cudaStream_t stream, const cuda_product *p) {
    constexpr int rings = WARPS * ring_bytes(TYPE) + 2 * x_bytes(N_TILES);
    constexpr int n_bytes = rings > sum_bytes(WARPS) ? rings : sum_bytes(WARPS);
    static_assert(stages_of(TYPE) - 1 <= X_CHUNKS, "activations are there in time");
    dim3 grid((unsigned)(p->n_blocks * p->n_splits),
              (unsigned)((p->n_rows + PASS_ROWS - 1) / PASS_ROWS));
    cudaFuncSetAttribute(product<TYPE, IS_GATED>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         n_bytes);
    launch_kernel(stream, grid, THREADS, n_bytes, p->n_splits, product<TYPE, IS_GATED>, *p);
}

extern "C" void cuda_launch_mma(cudaStream_t stream, int type, const cuda_product *p) {
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

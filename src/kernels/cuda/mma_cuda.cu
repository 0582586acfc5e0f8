/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of bfloat16 weights with bfloat16 activations on the tensor cores, made for few rows,
 * where the time is that of reading the weights once: those go from memory to registers in 16-byte
 * loads that no cache keeps, without a stop in shared memory.
 *
 * An mma adds 16 numbers of k for 16 outputs and 8 rows. Which k stands in which slot does not
 * matter as long as both operands agree, so that a thread loads 8 neighbouring numbers of a row of
 * weights, and 8 of a row of activations, and feeds them to two mma: a chunk of 32 k.
 *
 *   lane = 4 g + t:   w[o + g, 8t .. 8t+7], w[o + g + 8, 8t .. 8t+7]     A, two mma
 *                     x[r + g, 8t .. 8t+7]                               B, two mma
 *
 * The warps of a block share the same outputs and split k: warp w takes chunks w, w + WARPS, ...,
 * and the WARPS partial sums are added in the order of the warps. That order is fixed by n_in, and
 * a column of an mma does not see the others: a row's result depends on nothing else.
 */
#include "kernels/cuda/common.cuh"

enum { WARPS = 8, CHUNK = 32, N_TILES = 4, PASS_ROWS = 8 * N_TILES };

static __device__ __forceinline__ uint4 load_once(const void *from) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
    return v;
}

static __device__ __forceinline__ void mma(float c[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                           uint32_t a3, uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* What a lane reads of weights for some chunks. */
template <int M_TILES, int UNROLL>
struct weights {
    uint4 a[UNROLL][M_TILES][2];
};

/* Where a warp's weights are: the lane's numbers of the first tile's first row in chunk 0, and how
 * far it is to the next tile, and to its row 8. */
struct lane_weights {
    const uint16_t *w;
    ptrdiff_t tile;
    uint32_t half;
    int n_tiles; /* that are there: others are not read, and what comes of them is not stored */
};

/* Chunks beyond the last are left as they are. */
template <int M_TILES, int UNROLL, int K_WARPS>
static __device__ __forceinline__ void load_chunks(weights<M_TILES, UNROLL> &to,
                                                   const lane_weights &w, int at, int n_chunks) {
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        int chunk = at + u * K_WARPS;
        if (chunk >= n_chunks) break;
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
            if (m >= w.n_tiles) break;
#pragma unroll
            for (int h = 0; h < 2; h++)
                to.a[u][m][h] = load_once(w.w + m * w.tile + (uint32_t)h * w.half + chunk * CHUNK);
        }
    }
}

template <int M_TILES, int UNROLL, int K_WARPS>
static __device__ __forceinline__ void multiply_chunks(float c[M_TILES][N_TILES][4],
                                                       const weights<M_TILES, UNROLL> &from,
                                                       const uint16_t *x,
                                                       const uint32_t x_at[N_TILES], int at,
                                                       int n_chunks, int n_row_tiles) {
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        int chunk = at + u * K_WARPS;
        if (chunk >= n_chunks) break;
        uint4 b[N_TILES];
#pragma unroll
        for (int n = 0; n < N_TILES; n++)
            if (n < n_row_tiles) b[n] = *(const uint4 *)(x + x_at[n] + (uint32_t)chunk * CHUNK);
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            if (n >= n_row_tiles) break;
#pragma unroll
            for (int m = 0; m < M_TILES; m++) {
                const uint4 lo = from.a[u][m][0], hi = from.a[u][m][1];
                mma(c[m][n], lo.x, hi.x, lo.y, hi.y, b[n].x, b[n].y);
                mma(c[m][n], lo.z, hi.z, lo.w, hi.w, b[n].z, b[n].w);
            }
        }
    }
}

/* Adds the chunks k_warp, k_warp + K_WARPS, ... for M_TILES tiles of 16 outputs and up to PASS_ROWS
 * rows. While UNROLL chunks are multiplied, the next UNROLL are on their way. */
template <int M_TILES, int UNROLL, int K_WARPS>
static __device__ __forceinline__ void add_chunks(float c[M_TILES][N_TILES][4],
                                                  const lane_weights &w, const uint16_t *x,
                                                  const uint32_t x_at[N_TILES], int n_in,
                                                  int k_warp, int n_row_tiles) {
    enum { STEP = UNROLL * K_WARPS };
    int n_chunks = n_in / CHUNK;
    weights<M_TILES, UNROLL> even, odd;
    load_chunks<M_TILES, UNROLL, K_WARPS>(even, w, k_warp, n_chunks);
    for (int at = k_warp; at < n_chunks; at += 2 * STEP) {
        load_chunks<M_TILES, UNROLL, K_WARPS>(odd, w, at + STEP, n_chunks);
        multiply_chunks<M_TILES, UNROLL, K_WARPS>(c, even, x, x_at, at, n_chunks, n_row_tiles);
        load_chunks<M_TILES, UNROLL, K_WARPS>(even, w, at + 2 * STEP, n_chunks);
        multiply_chunks<M_TILES, UNROLL, K_WARPS>(c, odd, x, x_at, at + STEP, n_chunks,
                                                  n_row_tiles);
    }
}

/* Sums of a block's warps, tile by tile of 16 outputs: [WARPS, PASS_ROWS, 16 + 1]. */
enum { SUM_STRIDE = 17 };
typedef float warp_sums[WARPS][PASS_ROWS][SUM_STRIDE];

static __device__ __forceinline__ void store_sums(warp_sums sums, float c[N_TILES][4]) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int n = 0; n < N_TILES; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) sums[warp][8 * n + 2 * t + i % 2][g + 8 * (i / 2)] = c[n][i];
}

/* Of the warps first, first + 1, ...: one tile's parts of k. */
template <int K_WARPS>
static __device__ __forceinline__ float total(warp_sums sums, int first, int row, int out) {
    float sum = sums[first][row][out];
#pragma unroll
    for (int w = 1; w < K_WARPS; w++) sum += sums[first + w][row][out];
    return sum;
}

/* The rows of a weight: all, or a group's. */
static __device__ __forceinline__ void rows_of(const cuda_product &p, int group, int *begin,
                                               int *end) {
    *begin = p.first ? p.first[group] : 0;
    *end = p.first ? p.first[group + 1] : p.n_rows;
}

/* Where the lane's part of each tile's row begins. Beyond the end: computed and not stored. */
static __device__ __forceinline__ void x_rows_of(const cuda_product &p, int r, int end,
                                                 uint32_t x_at[N_TILES]) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < N_TILES; n++) {
        int row = min(r + 8 * n + g, end - 1);
        x_at[n] = (uint32_t)(p.x_rows ? p.x_rows[row] : row) * (uint32_t)p.n_in + 8 * (uint32_t)t;
    }
}

static __device__ __forceinline__ lane_weights lane_weights_of(const uint16_t *w, int n_in,
                                                               ptrdiff_t tile, int n_tiles) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    return {w + (size_t)g * (size_t)n_in + 8 * t, tile, 8u * (uint32_t)n_in, n_tiles};
}

/* M_WARPS groups of K_WARPS warps: groups have different outputs and read the same activations. */
template <int M_TILES, int UNROLL, int M_WARPS>
static __global__ void __launch_bounds__(WARPS * 32, 2) product(cuda_product p) {
    enum { K_WARPS = WARPS / M_WARPS, OUTS = 16 * M_TILES * M_WARPS };
    __shared__ warp_sums sums;
    int warp = threadIdx.x / 32, k_warp = warp % K_WARPS, m_warp = warp / K_WARPS;
    int begin, end, group = (int)blockIdx.z;
    int block_out = (int)blockIdx.x * OUTS, warp_out = block_out + 16 * M_TILES * m_warp;
    rows_of(p, group, &begin, &end);
    const uint16_t *base = (const uint16_t *)((const char *)p.w + (size_t)group * p.w_stride);
    const uint16_t *x = (const uint16_t *)p.x;
    lane_weights w = lane_weights_of(base + (size_t)warp_out * (size_t)p.n_in, p.n_in,
                                     16 * (ptrdiff_t)p.n_in, (p.n_out - warp_out) / 16);
    for (int r = begin + (int)blockIdx.y * PASS_ROWS; r < end; r += (int)gridDim.y * PASS_ROWS) {
        float c[M_TILES][N_TILES][4] = {};
        uint32_t x_at[N_TILES];
        int n = min(end - r, (int)PASS_ROWS);
        x_rows_of(p, r, end, x_at);
        add_chunks<M_TILES, UNROLL, K_WARPS>(c, w, x, x_at, p.n_in, k_warp, (n + 7) / 8);
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
            __syncthreads();
            store_sums(sums, c[m]);
            __syncthreads();
            for (int i = (int)threadIdx.x; i < 16 * M_WARPS * n; i += WARPS * 32) {
                int out = i % 16, group_of = i / 16 % M_WARPS, row = i / (16 * M_WARPS);
                int o = block_out + 16 * (M_TILES * group_of + m) + out;
                if (o >= p.n_out) continue;
                float sum = total<K_WARPS>(sums, group_of * K_WARPS, row, out);
                p.y[(size_t)(r + row) * (size_t)p.n_out + (size_t)o] =
                    p.bias ? sum + p.bias[o] : sum;
            }
        }
    }
}

template <int UNROLL>
static __global__ void __launch_bounds__(WARPS * 32, 2)
    gated(cuda_product p, const void *w_up, uint16_t *y) {
    enum { OWN = 16 * PASS_ROWS / (WARPS * 32) };
    __shared__ warp_sums sums;
    int begin, end, group = (int)blockIdx.z, first_out = (int)blockIdx.x * 16;
    rows_of(p, group, &begin, &end);
    size_t from = (size_t)group * p.w_stride;
    const uint16_t *gate_w =
        (const uint16_t *)((const char *)p.w + from) + (size_t)first_out * (size_t)p.n_in;
    lane_weights w =
        lane_weights_of(gate_w, p.n_in, (const uint16_t *)w_up - (const uint16_t *)p.w, 2);
    for (int r = begin + (int)blockIdx.y * PASS_ROWS; r < end; r += (int)gridDim.y * PASS_ROWS) {
        float c[2][N_TILES][4] = {}, gates[OWN];
        uint32_t x_at[N_TILES];
        int n = min(end - r, (int)PASS_ROWS);
        x_rows_of(p, r, end, x_at);
        add_chunks<2, UNROLL, WARPS>(c, w, (const uint16_t *)p.x, x_at, p.n_in, threadIdx.x / 32,
                                     (n + 7) / 8);
        __syncthreads();
        store_sums(sums, c[0]);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < OWN; k++) {
            int i = (int)threadIdx.x + k * WARPS * 32;
            gates[k] = total<WARPS>(sums, 0, i / 16, i % 16);
        }
        __syncthreads();
        store_sums(sums, c[1]);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < OWN; k++) {
            int i = (int)threadIdx.x + k * WARPS * 32, row = i / 16;
            if (row >= n) continue;
            float up = total<WARPS>(sums, 0, row, i % 16), gate = gates[k];
            y[(size_t)(r + row) * (size_t)p.n_out + (size_t)(first_out + i % 16)] =
                to_bf16(gate / (1.0f + expf(-gate)) * up);
        }
    }
}

static unsigned row_tiles(const cuda_product *p) {
    return p->first ? 1u : (unsigned)((p->n_rows + PASS_ROWS - 1) / PASS_ROWS);
}

/* How a block is cut depends on the weight's shape alone. */
template <int M_TILES, int UNROLL, int M_WARPS>
static void launch(cudaStream_t stream, const cuda_product *p) {
    int outs = 16 * M_TILES * M_WARPS;
    dim3 grid((unsigned)((p->n_out + outs - 1) / outs), row_tiles(p),
              (unsigned)(p->first ? p->n_groups : 1));
    product<M_TILES, UNROLL, M_WARPS><<<grid, WARPS * 32, 0, stream>>>(*p);
}

extern "C" void cuda_launch_mma(cudaStream_t stream, const cuda_product *p) {
    if (p->first) /* few rows a weight: activations are no load */
        launch<2, 1, 4>(stream, p);
    else if (p->n_out >= 8192)
        launch<2, 1, 2>(stream, p);
    else if (p->n_out >= 4096)
        launch<1, 3, 2>(stream, p);
    else
        launch<1, 3, 1>(stream, p);
}

extern "C" void cuda_launch_mma_gated(cudaStream_t stream, const cuda_product *p, const void *w_up,
                                      uint16_t *y) {
    dim3 grid((unsigned)(p->n_out / 16), row_tiles(p), (unsigned)(p->first ? p->n_groups : 1));
    gated<2><<<grid, WARPS * 32, 0, stream>>>(*p, w_up, y);
}

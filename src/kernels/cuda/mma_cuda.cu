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

/* Adds the warp's chunks for M_TILES tiles of 16 outputs and up to PASS_ROWS rows. w: each tile's
 * first row; x: rows of the lane's n-tiles. UNROLL chunks are in flight at a time. */
template <int M_TILES, int UNROLL>
static __device__ __forceinline__ void add_chunks(float c[M_TILES][N_TILES][4],
                                                  const uint16_t *const w[M_TILES],
                                                  const uint16_t *const x[N_TILES], int n_in,
                                                  int n_row_tiles) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    int n_chunks = n_in / CHUNK;
    for (int at = warp; at < n_chunks; at += WARPS * UNROLL) {
        uint4 a[UNROLL][M_TILES][2];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int chunk = at + u * WARPS;
#pragma unroll
            for (int m = 0; m < M_TILES; m++)
#pragma unroll
                for (int h = 0; h < 2; h++)
                    if (chunk < n_chunks)
                        a[u][m][h] = load_once(w[m] + (size_t)(g + 8 * h) * (size_t)n_in +
                                               (size_t)chunk * CHUNK + 8 * t);
        }
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int chunk = at + u * WARPS;
            if (chunk >= n_chunks) break;
#pragma unroll
            for (int n = 0; n < N_TILES; n++) {
                if (n >= n_row_tiles) break;
                uint4 b = *(const uint4 *)(x[n] + (size_t)chunk * CHUNK + 8 * t);
#pragma unroll
                for (int m = 0; m < M_TILES; m++) {
                    mma(c[m][n], a[u][m][0].x, a[u][m][1].x, a[u][m][0].y, a[u][m][1].y, b.x, b.y);
                    mma(c[m][n], a[u][m][0].z, a[u][m][1].z, a[u][m][0].w, a[u][m][1].w, b.z, b.w);
                }
            }
        }
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

static __device__ __forceinline__ float total(warp_sums sums, int row, int out) {
    float sum = sums[0][row][out];
#pragma unroll
    for (int w = 1; w < WARPS; w++) sum += sums[w][row][out];
    return sum;
}

/* The rows of a weight: all, or a group's. */
static __device__ __forceinline__ void rows_of(const cuda_product &p, int group, int *begin,
                                               int *end) {
    *begin = p.first ? p.first[group] : 0;
    *end = p.first ? p.first[group + 1] : p.n_rows;
}

static __device__ __forceinline__ void x_rows_of(const cuda_product &p, int r, int end,
                                                 const uint16_t *x[N_TILES]) {
    int g = threadIdx.x % 32 / 4;
#pragma unroll
    for (int n = 0; n < N_TILES; n++) {
        int row = min(r + 8 * n + g, end - 1); /* beyond the end: computed and not stored */
        x[n] = (const uint16_t *)p.x + (size_t)(p.x_rows ? p.x_rows[row] : row) * (size_t)p.n_in;
    }
}

template <int M_TILES, int UNROLL>
static __global__ void __launch_bounds__(WARPS * 32, 2) product(cuda_product p) {
    __shared__ warp_sums sums;
    int begin, end, group = (int)blockIdx.z, first_out = (int)blockIdx.x * 16 * M_TILES;
    rows_of(p, group, &begin, &end);
    const uint16_t *base = (const uint16_t *)((const char *)p.w + (size_t)group * p.w_stride);
    for (int r = begin + (int)blockIdx.y * PASS_ROWS; r < end; r += (int)gridDim.y * PASS_ROWS) {
        float c[M_TILES][N_TILES][4] = {};
        const uint16_t *w[M_TILES], *x[N_TILES];
        int n = min(end - r, (int)PASS_ROWS);
        x_rows_of(p, r, end, x);
#pragma unroll
        for (int m = 0; m < M_TILES; m++) /* a tile beyond the last output reads the last one */
            w[m] = base + (size_t)min(first_out + 16 * m, p.n_out - 16) * (size_t)p.n_in;
        add_chunks<M_TILES, UNROLL>(c, w, x, p.n_in, (n + 7) / 8);
#pragma unroll
        for (int m = 0; m < M_TILES; m++) {
            __syncthreads();
            store_sums(sums, c[m]);
            __syncthreads();
            for (int i = (int)threadIdx.x; i < 16 * n; i += WARPS * 32) {
                int row = i / 16, o = first_out + 16 * m + i % 16;
                if (o >= p.n_out) continue;
                float sum = total(sums, row, i % 16);
                p.y[(size_t)(r + row) * (size_t)p.n_out + (size_t)o] =
                    p.bias ? sum + p.bias[o] : sum;
            }
        }
    }
}

template <int UNROLL>
static __global__ void __launch_bounds__(WARPS * 32, 2)
    gated(cuda_product p, const void *w_up, uint16_t *y) {
    __shared__ warp_sums sums;
    int begin, end, group = (int)blockIdx.z, first_out = (int)blockIdx.x * 16;
    rows_of(p, group, &begin, &end);
    size_t from = (size_t)group * p.w_stride + (size_t)first_out * (size_t)p.n_in * 2;
    const uint16_t *w[2] = {(const uint16_t *)((const char *)p.w + from),
                            (const uint16_t *)((const char *)w_up + from)};
    for (int r = begin + (int)blockIdx.y * PASS_ROWS; r < end; r += (int)gridDim.y * PASS_ROWS) {
        enum { OWN = 16 * PASS_ROWS / (WARPS * 32) };
        float c[2][N_TILES][4] = {}, gates[OWN];
        const uint16_t *x[N_TILES];
        int n = min(end - r, (int)PASS_ROWS);
        x_rows_of(p, r, end, x);
        add_chunks<2, UNROLL>(c, w, x, p.n_in, (n + 7) / 8);
        __syncthreads();
        store_sums(sums, c[0]);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < OWN; k++) {
            int i = (int)threadIdx.x + k * WARPS * 32;
            gates[k] = total(sums, i / 16, i % 16);
        }
        __syncthreads();
        store_sums(sums, c[1]);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < OWN; k++) {
            int i = (int)threadIdx.x + k * WARPS * 32, row = i / 16;
            if (row >= n) continue;
            float up = total(sums, row, i % 16), gate = gates[k];
            y[(size_t)(r + row) * (size_t)p.n_out + (size_t)(first_out + i % 16)] =
                to_bf16(gate / (1.0f + expf(-gate)) * up);
        }
    }
}

static unsigned row_tiles(const cuda_product *p) {
    return p->first ? 1u : (unsigned)((p->n_rows + PASS_ROWS - 1) / PASS_ROWS);
}

extern "C" void cuda_launch_mma(cudaStream_t stream, const cuda_product *p) {
    unsigned tiles = (unsigned)(p->n_out / 16), groups = (unsigned)(p->first ? p->n_groups : 1);
    /* More outputs a block where there are enough blocks: activations are read less often. */
    if (tiles * groups >= 1024)
        product<4, 1><<<dim3((tiles + 3) / 4, row_tiles(p), groups), WARPS * 32, 0, stream>>>(*p);
    else if (tiles * groups >= 256)
        product<2, 4><<<dim3((tiles + 1) / 2, row_tiles(p), groups), WARPS * 32, 0, stream>>>(*p);
    else
        product<1, 8><<<dim3(tiles, row_tiles(p), groups), WARPS * 32, 0, stream>>>(*p);
}

extern "C" void cuda_launch_mma_gated(cudaStream_t stream, const cuda_product *p, const void *w_up,
                                      uint16_t *y) {
    dim3 grid((unsigned)(p->n_out / 16), row_tiles(p), (unsigned)(p->first ? p->n_groups : 1));
    gated<4><<<grid, WARPS * 32, 0, stream>>>(*p, w_up, y);
}

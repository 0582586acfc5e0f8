/* SPDX-License-Identifier: Apache-2.0
 *
 * Operations on rows one by one: embedding, norm, rotation, gates, sums, rounding.
 */
#include "kernels/cuda/decode.cuh"

enum { FLAT_THREADS = 256 };

static unsigned flat_blocks(size_t n) {
    return (unsigned)((n + FLAT_THREADS - 1) / FLAT_THREADS);
}

template <int TYPE>
static __global__ void embed(float *y, const void *table, const int32_t *tokens, int32_t n_in,
                             size_t row_bytes) {
    launch_dependents();
    wait_for_launches_before();
    const void *row = (const char *)table + (size_t)tokens[blockIdx.x] * row_bytes;
    for (int i = (int)threadIdx.x; i < n_in; i += (int)blockDim.x)
        y[(size_t)blockIdx.x * (size_t)n_in + (size_t)i] = weight_at<TYPE>(row, i);
}

/* One warp a row: each lane adds its numbers in order, then the lanes are added pairwise. */
static __global__ void norm_short(float *y, const float *x, const float *gain, int32_t n_rows,
                                  int32_t dim, float eps) {
    launch_dependents();
    wait_for_launches_before();
    int row = (int)(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32), lane = threadIdx.x % 32;
    if (row >= n_rows) return;
    x += (size_t)row * (size_t)dim;
    y += (size_t)row * (size_t)dim;
    float sum = 0.0f;
    for (int i = lane; i < dim; i += 32) sum = fmaf(x[i], x[i], sum);
    sum = warp_sum(sum);
    float inverse = 1.0f / sqrtf(sum / (float)dim + eps);
    for (int i = lane; i < dim; i += 32) y[i] = x[i] * inverse * gain[i];
}

/* One block a row. */
static __global__ void norm_long(float *y, const float *x, const float *gain, int32_t dim,
                                 float eps) {
    launch_dependents();
    wait_for_launches_before();
    __shared__ float parts[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = (int)blockDim.x / 32;
    x += (size_t)blockIdx.x * (size_t)dim;
    y += (size_t)blockIdx.x * (size_t)dim;
    float sum = 0.0f;
    for (int i = (int)threadIdx.x; i < dim; i += (int)blockDim.x) sum = fmaf(x[i], x[i], sum);
    sum = warp_sum(sum);
    if (lane == 0) parts[warp] = sum;
    __syncthreads();
    sum = warp_sum(lane < n_warps ? parts[lane] : 0.0f);
    float inverse = 1.0f / sqrtf(sum / (float)dim + eps);
    for (int i = (int)threadIdx.x; i < dim; i += (int)blockDim.x) y[i] = x[i] * inverse * gain[i];
}

/* One block a row; dim is whole runs of 32. */
static __global__ void norm_packed(float *y, uint16_t *packed, float *sums, const float *x,
                                   const float *gain, int32_t dim, float eps) {
    __shared__ float parts[32];
    int row = (int)blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    launch_dependents();
    wait_for_launches_before();
    x += (size_t)row * (size_t)dim;
    float sum = 0.0f;
    for (int i = (int)threadIdx.x; i < dim; i += (int)blockDim.x) sum = fmaf(x[i], x[i], sum);
    sum = warp_sum(sum);
    if (lane == 0) parts[warp] = sum;
    __syncthreads();
    sum = warp_sum(lane < (int)blockDim.x / 32 ? parts[lane] : 0.0f);
    float inverse = 1.0f / sqrtf(sum / (float)dim + eps);
    for (int i = 4 * (int)threadIdx.x; i < dim; i += 4 * (int)blockDim.x) {
        float4 four = *(const float4 *)(x + i), g = *(const float4 *)(gain + i);
        four = make_float4(four.x * inverse * g.x, four.y * inverse * g.y, four.z * inverse * g.z,
                           four.w * inverse * g.w);
        if (y) *(float4 *)(y + (size_t)row * (size_t)dim + (size_t)i) = four;
        store_packed(packed, sums, four, row, i, dim, true);
    }
}

static __global__ void rope(float *x, const int32_t *positions, const float *cosines,
                            const float *sines, int32_t n_rows, int32_t n_heads, int32_t head_dim,
                            int32_t half) {
    launch_dependents();
    wait_for_launches_before();
    size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (size_t)n_rows * (size_t)n_heads * (size_t)half) return;
    int i = (int)(at % (size_t)half);
    size_t head = at / (size_t)half, row = head / (size_t)n_heads;
    size_t angle = (size_t)positions[row] * (size_t)half + (size_t)i;
    float *to = x + head * (size_t)head_dim + i;
    float a = to[0], b = to[half], c = cosines[angle], s = sines[angle];
    to[0] = __fsub_rn(__fmul_rn(a, c), __fmul_rn(b, s));
    to[half] = __fadd_rn(__fmul_rn(b, c), __fmul_rn(a, s));
}

static __global__ void swiglu(float *y, const float *gate, const float *up, size_t n) {
    launch_dependents();
    wait_for_launches_before();
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static __global__ void add(float *y, const float *x, size_t n) {
    launch_dependents();
    wait_for_launches_before();
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += x[i];
}

static __global__ void gather(float *y, const float *x, const int32_t *rows, int32_t dim) {
    launch_dependents();
    wait_for_launches_before();
    x += (size_t)rows[blockIdx.x] * (size_t)dim;
    y += (size_t)blockIdx.x * (size_t)dim;
    for (int i = (int)threadIdx.x; i < dim; i += (int)blockDim.x) y[i] = x[i];
}

/* Four neighbouring numbers a thread. */
static __global__ void pack(uint16_t *y, float *sums, const float *x, int32_t n_in, size_t n) {
    size_t at = 4 * ((size_t)blockIdx.x * blockDim.x + threadIdx.x);
    launch_dependents();
    wait_for_launches_before();
    float4 four = at < n ? *(const float4 *)(x + at) : make_float4(0, 0, 0, 0);
    store_packed(y, sums, four, (int)(at / (size_t)n_in), (int)(at % (size_t)n_in), n_in, at < n);
}

/* ---- Launchers --------------------------------------------------------------------------------
 */

extern "C" void cuda_launch_embed(cudaStream_t stream, int type, float *y, const void *table,
                                  const int32_t *tokens, int32_t n_rows, int32_t n_in) {
    size_t bytes = weight_row_bytes(type, n_in);
#define CASE(TYPE)                                                                              \
    case TYPE:                                                                                  \
        launch_kernel(stream, (unsigned)n_rows, 256, 0, 1, embed<TYPE>, y, table, tokens, n_in, \
                      bytes);                                                                   \
        break;
    switch (type) { WEIGHT_TYPES(CASE) }
#undef CASE
}

extern "C" void cuda_launch_rms_norm(cudaStream_t stream, float *y, const float *x,
                                     const float *gain, int32_t n_rows, int32_t dim, float eps) {
    if (dim <= 512)
        launch_kernel(stream, (unsigned)((n_rows + 7) / 8), 256, 0, 1, norm_short, y, x, gain,
                      n_rows, dim, eps);
    else
        launch_kernel(stream, (unsigned)n_rows, 512, 0, 1, norm_long, y, x, gain, dim, eps);
}

extern "C" void cuda_launch_rms_norm_packed(cudaStream_t stream, float *y, uint16_t *packed,
                                            float *sums, const float *x, const float *gain,
                                            int32_t n_rows, int32_t dim, float eps) {
    /* As many threads as the norm has that is not packed: the same sums. */
    launch_kernel(stream, (unsigned)n_rows, dim <= 512 ? 32 : 512, 0, 1, norm_packed, y, packed,
                  sums, x, gain, dim, eps);
}

extern "C" void cuda_launch_rope(cudaStream_t stream, float *x, const int32_t *positions,
                                 const float *cosines, const float *sines, int32_t n_rows,
                                 int32_t n_heads, int32_t head_dim, int32_t rotary_dim) {
    size_t n = (size_t)n_rows * (size_t)n_heads * (size_t)(rotary_dim / 2);
    launch_kernel(stream, flat_blocks(n), FLAT_THREADS, 0, 1, rope, x, positions, cosines, sines,
                  n_rows, n_heads, head_dim, rotary_dim / 2);
}

extern "C" void cuda_launch_swiglu(cudaStream_t stream, float *y, const float *gate,
                                   const float *up, size_t n) {
    launch_kernel(stream, flat_blocks(n), FLAT_THREADS, 0, 1, swiglu, y, gate, up, n);
}

extern "C" void cuda_launch_add(cudaStream_t stream, float *y, const float *x, size_t n) {
    launch_kernel(stream, flat_blocks(n), FLAT_THREADS, 0, 1, add, y, x, n);
}

extern "C" void cuda_launch_gather(cudaStream_t stream, float *y, const float *x,
                                   const int32_t *rows, int32_t n_rows, int32_t dim) {
    launch_kernel(stream, (unsigned)n_rows, 256, 0, 1, gather, y, x, rows, dim);
}

extern "C" void cuda_launch_pack(cudaStream_t stream, uint16_t *y, float *sums, const float *x,
                                 int32_t n_rows, int32_t n_in) {
    size_t n = (size_t)n_rows * (size_t)n_in;
    launch_kernel(stream, flat_blocks(n / 4), FLAT_THREADS, 0, 1, pack, y, sums, x, n_in, n);
}

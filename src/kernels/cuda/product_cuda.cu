/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of float32 activations with a weight of any type: the reference precision, routers, and
 * whatever has no faster form. One warp an output and ROWS rows; each lane adds its numbers in
 * order, then the lanes are added pairwise: an order that only n_in fixes.
 */
#include "kernels/cuda/decode.cuh"

enum { ROWS = 8, WARPS = 8 };

template <int TYPE>
static __global__ void product(cuda_product p, size_t row_bytes) {
    int o = (int)(blockIdx.x * WARPS + threadIdx.x / 32), lane = threadIdx.x % 32;
    if (o >= p.n_out) return;
    int group = (int)blockIdx.z, begin = 0, end = p.n_rows;
    if (p.first) {
        begin = p.first[group];
        end = p.first[group + 1];
    }
    const char *w = (const char *)p.w + (size_t)group * p.w_stride + (size_t)o * row_bytes;
    const float *all = (const float *)p.x;
    for (int r = begin + (int)blockIdx.y * ROWS; r < end; r += (int)gridDim.y * ROWS) {
        const float *x[ROWS];
        float sums[ROWS];
#pragma unroll
        for (int j = 0; j < ROWS; j++) {
            int row = min(r + j, end - 1);
            x[j] = all + (size_t)(p.x_rows ? p.x_rows[row] : row) * (size_t)p.n_in;
            sums[j] = 0.0f;
        }
#pragma unroll 4
        for (int i = lane; i < p.n_in; i += 32) {
            float weight = weight_at<TYPE>(w, i);
#pragma unroll
            for (int j = 0; j < ROWS; j++) sums[j] = fmaf(x[j][i], weight, sums[j]);
        }
#pragma unroll
        for (int j = 0; j < ROWS; j++) {
            float sum = warp_sum(sums[j]);
            if (lane == 0 && r + j < end)
                p.y[(size_t)(r + j) * (size_t)p.n_out + (size_t)o] = p.bias ? sum + p.bias[o] : sum;
        }
    }
}

extern "C" void cuda_launch_product(cudaStream_t stream, int type, const cuda_product *p) {
    size_t bytes = weight_row_bytes(type, p->n_in);
    unsigned tiles = p->first ? 1 : (unsigned)((p->n_rows + ROWS - 1) / ROWS);
    dim3 grid((unsigned)((p->n_out + WARPS - 1) / WARPS), tiles < 65535 ? tiles : 65535,
              (unsigned)(p->first ? p->n_groups : 1));
#define CASE(TYPE)                                                 \
    case TYPE:                                                     \
        product<TYPE><<<grid, WARPS * 32, 0, stream>>>(*p, bytes); \
        break;
    switch (type) { WEIGHT_TYPES(CASE) }
#undef CASE
}

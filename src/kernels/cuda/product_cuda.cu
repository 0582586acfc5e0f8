/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of float32 activations with a weight of any type: the reference precision, routers, and
 * whatever has no faster form. One warp an output and ROWS rows; each lane adds its numbers in
 * order, four neighbours at a time where n_in allows, then the lanes are added pairwise: an order
 * that only n_in fixes.
 */
#include "kernels/cuda/decode.cuh"

enum { ROWS = 8, WARPS = 8 };

/* Numbers i .. i + 3; i and the row's length are multiples of 4. */
template <int TYPE>
static __device__ __forceinline__ float4 weights_at(const void *row, int i) {
    if (TYPE == W_F32) return *(const float4 *)((const float *)row + i);
    if (TYPE == W_BF16) {
        uint2 pairs = *(const uint2 *)((const uint16_t *)row + i);
        return make_float4(from_bf16(pairs.x & 0xFFFFu), from_bf16(pairs.x >> 16),
                           from_bf16(pairs.y & 0xFFFFu), from_bf16(pairs.y >> 16));
    }
    return make_float4(weight_at<TYPE>(row, i), weight_at<TYPE>(row, i + 1),
                       weight_at<TYPE>(row, i + 2), weight_at<TYPE>(row, i + 3));
}

template <int TYPE>
static __global__ void product(cuda_product p, size_t row_bytes) {
    int o = (int)(blockIdx.x * WARPS + threadIdx.x / 32), lane = threadIdx.x % 32;
    launch_dependents();
    wait_for_launches_before();
    const cuda_weight &to = p.parts[0];
    if (o >= to.n_out) return;
    int group = (int)blockIdx.z, begin = 0, end = p.n_rows;
    if (p.first) {
        begin = p.first[group];
        end = p.first[group + 1];
    }
    const char *w = (const char *)to.w + (size_t)group * p.w_stride + (size_t)o * row_bytes;
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
        if (p.n_in % 4 == 0) {
#pragma unroll 2
            for (int i = 4 * lane; i < p.n_in; i += 128) {
                float4 weight = weights_at<TYPE>(w, i);
#pragma unroll
                for (int j = 0; j < ROWS; j++) {
                    float4 own = *(const float4 *)(x[j] + i);
                    float sum = fmaf(own.x, weight.x, sums[j]);
                    sum = fmaf(own.y, weight.y, sum);
                    sum = fmaf(own.z, weight.z, sum);
                    sums[j] = fmaf(own.w, weight.w, sum);
                }
            }
        } else {
            for (int i = lane; i < p.n_in; i += 32) {
                float weight = weight_at<TYPE>(w, i);
#pragma unroll
                for (int j = 0; j < ROWS; j++) sums[j] = fmaf(x[j][i], weight, sums[j]);
            }
        }
#pragma unroll
        for (int j = 0; j < ROWS; j++) {
            float sum = warp_sum(sums[j]);
            if (lane == 0 && r + j < end)
                to.y[(size_t)(r + j) * (size_t)to.n_out + (size_t)o] =
                    to.bias ? sum + to.bias[o] : sum;
        }
    }
}

extern "C" void cuda_launch_product(cudaStream_t stream, int type, const cuda_product *p) {
    size_t bytes = weight_row_bytes(type, p->n_in);
    unsigned tiles = p->first ? 1 : (unsigned)((p->n_rows + ROWS - 1) / ROWS);
    dim3 grid((unsigned)((p->parts[0].n_out + WARPS - 1) / WARPS), tiles < 65535 ? tiles : 65535,
              (unsigned)(p->first ? p->n_groups : 1));
#define CASE(TYPE)                                                               \
    case TYPE:                                                                   \
        launch_kernel(stream, grid, WARPS * 32, 0, 1, product<TYPE>, *p, bytes); \
        break;
    switch (type) { WEIGHT_TYPES(CASE) }
#undef CASE
}

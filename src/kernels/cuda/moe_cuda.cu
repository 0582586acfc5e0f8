/* SPDX-License-Identifier: Apache-2.0
 *
 * Mixture of experts: which experts a row goes to, in float32, and the rows of each expert, all on
 * the device. One block a row, or one for all slots; nothing here depends on how many rows there
 * are. kernels/ops.h says what a router does, cpu_moe.c does the same one by one.
 */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256 };

/* True where (a, i) is chosen before (b, j); j < 0: there is no b yet. */
static __device__ __forceinline__ bool is_before(float a, int i, float b, int j) {
    return i >= 0 && (j < 0 || a > b || (a == b && i < j));
}

/* Index of the highest of values [n] that is not taken, the lower one on a tie; all lanes of the
 * warp get it. */
static __device__ int best_free(const float *values, const unsigned char *taken, int n) {
    int best = -1, lane = threadIdx.x % 32;
    float top = 0.0f;
    for (int i = lane; i < n; i += 32)
        if (!taken[i] && is_before(values[i], i, top, best)) {
            top = values[i];
            best = i;
        }
    for (int mask = 16; mask > 0; mask /= 2) {
        float other = __shfl_xor_sync(~0u, top, mask);
        int index = __shfl_xor_sync(~0u, best, mask);
        if (is_before(other, index, top, best)) {
            top = other;
            best = index;
        }
    }
    return __shfl_sync(~0u, best, 0);
}

/* ---- Scores and groups ------------------------------------------------------------------------
 */

/* Of all threads of the block, in a fixed order. */
static __device__ float block_reduce(float x, float *parts, bool is_max) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x = is_max ? warp_max(x) : warp_sum(x);
    __syncthreads();
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    x = lane < THREADS / 32 ? parts[lane] : is_max ? -INFINITY : 0.0f;
    return is_max ? warp_max(x) : warp_sum(x);
}

static __global__ void score(cuda_route r) {
    launch_dependents();
    wait_for_launches_before();
    extern __shared__ float shared[]; /* group scores [n_group], then whether they stay */
    __shared__ float parts[32];
    float *scores = r.scores + (size_t)blockIdx.x * (size_t)r.n_experts;
    float *biased = r.biased + (size_t)blockIdx.x * (size_t)r.n_experts;
    if (r.is_softmax) {
        float top = -INFINITY, sum = 0.0f;
        for (int e = (int)threadIdx.x; e < r.n_experts; e += THREADS) top = fmaxf(top, scores[e]);
        top = block_reduce(top, parts, true);
        for (int e = (int)threadIdx.x; e < r.n_experts; e += THREADS) {
            scores[e] = expf(scores[e] - top);
            sum += scores[e];
        }
        sum = block_reduce(sum, parts, false);
        for (int e = (int)threadIdx.x; e < r.n_experts; e += THREADS) scores[e] /= sum;
    } else {
        for (int e = (int)threadIdx.x; e < r.n_experts; e += THREADS)
            scores[e] = 1.0f / (1.0f + expf(-scores[e]));
    }
    for (int e = (int)threadIdx.x; e < r.n_experts; e += THREADS)
        biased[e] = r.bias ? scores[e] + r.bias[e] : scores[e];
    if (r.n_group <= 1) return;
    int size = r.n_experts / r.n_group;
    unsigned char *stays = (unsigned char *)(shared + r.n_group);
    __syncthreads();
    for (int g = (int)threadIdx.x; g < r.n_group; g += THREADS) {
        float best = -INFINITY, second = -INFINITY;
        for (int e = g * size; e < (g + 1) * size; e++) {
            if (biased[e] > best) {
                second = best;
                best = biased[e];
            } else if (biased[e] > second) {
                second = biased[e];
            }
        }
        shared[g] = best + second;
        stays[g] = 0;
    }
    __syncthreads();
    if (threadIdx.x < 32)
        for (int i = 0; i < r.topk_group; i++) {
            int best = best_free(shared, stays, r.n_group);
            __syncwarp();
            if (threadIdx.x == 0) stays[best] = 1;
            __syncwarp();
        }
    __syncthreads();
    for (int e = (int)threadIdx.x; e < r.n_experts; e += THREADS)
        if (!stays[e / size]) biased[e] = -INFINITY;
}

/* ---- Routing by blocks ------------------------------------------------------------------------
 */

static __device__ __forceinline__ bool is_same_block(const cuda_route &r, int a, int b) {
    return r.seq[a] == r.seq[b] && r.positions[a] / r.block_len == r.positions[b] / r.block_len;
}

/* Which experts stay in row blockIdx.x's block: every row finds it for itself. */
static __global__ void choose_block(cuda_route r) {
    launch_dependents();
    wait_for_launches_before();
    int row = (int)blockIdx.x;
    size_t at = (size_t)row * (size_t)r.n_experts;
    float *best = r.block_best + at;
    unsigned char *stays = r.stays + at;
    for (int e = (int)threadIdx.x; e < r.n_experts; e += THREADS) {
        float top = -INFINITY;
        for (int other = 0; other < r.n_rows; other++) {
            if (!is_same_block(r, row, other)) continue;
            float value = r.biased[(size_t)other * (size_t)r.n_experts + (size_t)e];
            if (value > top) top = value;
        }
        best[e] = top;
        stays[e] = 0;
    }
    __syncthreads();
    if (threadIdx.x < 32)
        for (int i = 0; i < r.n_block_experts; i++) {
            int chosen = best_free(best, stays, r.n_experts);
            __syncwarp();
            if (threadIdx.x == 0) stays[chosen] = 1;
            __syncwarp();
        }
}

/* Drops what does not stay; where groups leave the row too few, they are forgotten. */
static __global__ void cut_row(cuda_route r) {
    launch_dependents();
    wait_for_launches_before();
    __shared__ int n_left;
    size_t at = (size_t)blockIdx.x * (size_t)r.n_experts;
    const unsigned char *stays = r.stays + at;
    const float *scores = r.scores + at;
    float *biased = r.biased + at;
    if (threadIdx.x == 0) n_left = 0;
    __syncthreads();
    for (int e = (int)threadIdx.x; e < r.n_experts; e += THREADS)
        if (stays[e] && biased[e] > -INFINITY) atomicAdd(&n_left, 1);
    __syncthreads();
    for (int e = (int)threadIdx.x; e < r.n_experts; e += THREADS) {
        if (n_left < r.n_active) biased[e] = r.bias ? scores[e] + r.bias[e] : scores[e];
        if (!stays[e]) biased[e] = -INFINITY;
    }
}

/* ---- The choice -------------------------------------------------------------------------------
 */

/* One warp a row. */
static __global__ void choose(cuda_route r) {
    launch_dependents();
    wait_for_launches_before();
    extern __shared__ unsigned char taken[];
    int lane = (int)threadIdx.x;
    size_t at = (size_t)blockIdx.x * (size_t)r.n_experts;
    const float *scores = r.scores + at, *biased = r.biased + at;
    int32_t *ids = r.ids + (size_t)blockIdx.x * (size_t)r.n_active;
    float *weights = r.weights + (size_t)blockIdx.x * (size_t)r.n_active, total = 0.0f;
    for (int e = lane; e < r.n_experts; e += 32) taken[e] = 0;
    __syncwarp();
    for (int k = 0; k < r.n_active; k++) {
        int best = best_free(biased, taken, r.n_experts);
        __syncwarp();
        float weight = r.is_weight_biased ? biased[best] : scores[best];
        total += weight;
        if (lane == 0) {
            taken[best] = 1;
            ids[k] = best;
            weights[k] = weight;
        }
        __syncwarp();
    }
    for (int k = lane; k < r.n_active; k += 32)
        weights[k] = (r.is_normalised ? weights[k] / (total + 1e-20f) : weights[k]) * r.scale;
}

/* ---- Slots ------------------------------------------------------------------------------------
 */

/* One block. Which place a slot has among its expert's is left to chance: no result depends on
 * it. */
static __global__ void sort_slots(const int32_t *ids, int32_t *first, int32_t *row_of,
                                  int32_t *place_of, int n_slots, int n_active, int n_experts) {
    launch_dependents();
    wait_for_launches_before();
    extern __shared__ int counts[]; /* [n_experts] */
    for (int e = (int)threadIdx.x; e < n_experts; e += (int)blockDim.x) counts[e] = 0;
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n_slots; i += (int)blockDim.x) atomicAdd(&counts[ids[i]], 1);
    __syncthreads();
    if (threadIdx.x < 32) { /* sums of everything before */
        int before = 0;
        for (int base = 0; base < n_experts; base += 32) {
            int e = base + (int)threadIdx.x, count = e < n_experts ? counts[e] : 0, sum = count;
            for (int step = 1; step < 32; step *= 2) {
                int other = __shfl_up_sync(~0u, sum, (unsigned)step);
                if ((int)threadIdx.x >= step) sum += other;
            }
            if (e < n_experts) {
                first[e] = before + sum - count;
                counts[e] = before + sum - count;
            }
            before += __shfl_sync(~0u, sum, 31);
        }
        if (threadIdx.x == 0) first[n_experts] = before;
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n_slots; i += (int)blockDim.x) {
        int place = atomicAdd(&counts[ids[i]], 1);
        row_of[place] = i / n_active;
        place_of[i] = place;
    }
}

static __global__ void combine(float *y, const float *down, const float *weights,
                               const int32_t *place_of, int n_active, int hidden) {
    launch_dependents();
    wait_for_launches_before();
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    size_t row = blockIdx.y;
    if (i >= hidden) return;
    float sum = 0.0f;
    for (int k = 0; k < n_active; k++) {
        size_t slot = row * (size_t)n_active + (size_t)k;
        sum = fmaf(weights[slot], down[(size_t)place_of[slot] * (size_t)hidden + (size_t)i], sum);
    }
    y[row * (size_t)hidden + (size_t)i] = sum;
}

extern "C" void cuda_launch_route(cudaStream_t stream, const cuda_route *r) {
    unsigned rows = (unsigned)r->n_rows;
    launch_kernel(stream, rows, THREADS, (size_t)r->n_group * 5, 1, score, *r);
    if (r->n_block_experts) {
        launch_kernel(stream, rows, THREADS, 0, 1, choose_block, *r);
        launch_kernel(stream, rows, THREADS, 0, 1, cut_row, *r);
    }
    launch_kernel(stream, rows, 32, (size_t)r->n_experts, 1, choose, *r);
}

extern "C" void cuda_launch_sort(cudaStream_t stream, const int32_t *ids, int32_t *first,
                                 int32_t *row_of, int32_t *place_of, int32_t n_slots,
                                 int32_t n_active, int32_t n_experts) {
    launch_kernel(stream, 1, 1024, (size_t)n_experts * sizeof(int), 1, sort_slots, ids, first,
                  row_of, place_of, n_slots, n_active, n_experts);
}

extern "C" void cuda_launch_combine(cudaStream_t stream, float *y, const float *down,
                                    const float *weights, const int32_t *place_of, int32_t n_rows,
                                    int32_t n_active, int32_t hidden) {
    dim3 grid((unsigned)((hidden + THREADS - 1) / THREADS), (unsigned)n_rows);
    launch_kernel(stream, grid, THREADS, 0, 1, combine, y, down, weights, place_of, n_active,
                  hidden);
}

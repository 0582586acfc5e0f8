/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights on their way to the tensor cores: one lane's part of a chunk of 32 outputs and 32 k is
 * sent for, and becomes operands of mma m16n8k16. Which k stands in which slot of an mma does not
 * matter as long as weights and activations agree; lane = 4 g + t has k = 8t .. 8t + 7.
 *
 *   bfloat16   two tiles of 16 rows as they are stored: rows g and g + 8 of each.
 *   blocks     two panels of kernels/packed.h, lanes with g < 4 the first, the others the second:
 *              outputs 4 (g % 4) .. + 3 of it, two to a tile. A quad of numbers unpacks to pairs
 *              (0, 2), (1, 3), and so activations have the middle of each quad swapped.
 *
 * Quants become whole numbers in bfloat16, which holds them exactly (Q6_K: times its 8-bit scale,
 * rounded once). A chunk's sum is scaled in float32 before it is added to those before it:
 *
 *   Q8_0, Q4_0   acc = fma(d, sum q x, acc)
 *   Q4_K, Q5_K   acc = fma(-(dmin m), sum x, fma(d sc, sum q x, acc))
 *   Q6_K         acc = fma(d, sum bf16(sc q) x, acc)
 */
#ifndef KERNELS_CUDA_MMA_CUH
#define KERNELS_CUDA_MMA_CUH

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/decode.cuh"

enum {
    CHUNK = 32,
    N_TILES = 4, /* of 8 rows */
    PASS_ROWS = 8 * N_TILES,
    WARP_OUTS = 32,
    PANEL = 16,
    PANEL_HEADER = 64,
};

/* ---- Instructions -----------------------------------------------------------------------------
 */

/* From memory to shared memory, past the registers. */
template <int N_BYTES>
static __device__ __forceinline__ void copy_async(void *to, const void *from) {
    unsigned address = (unsigned)__cvta_generic_to_shared(to);
    if (N_BYTES == 16)
        asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(address),
                     "l"(from));
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(from),
                     "n"(N_BYTES));
}

static __device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;");
}

/* Waits for all groups of the warp's copies but the last N. */
template <int N>
static __device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
    __syncwarp();
}

static __device__ __forceinline__ void mma(float d[4], const float c[4], uint32_t a0, uint32_t a1,
                                           uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%10, %11, %12, %13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]),
          "f"(c[3]));
}

/* a * b + c of two pairs of bfloat16. */
static __device__ __forceinline__ uint32_t fma_pairs(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

/* ---- Layout of a slot -------------------------------------------------------------------------
 */

/* A warp's slot is words of 16 bytes of its lanes: quants, then the high bits of Q5_K and Q6_K.
 * Behind them are the two panels' scales, 32 bytes each, and with K types their d and dmin, 64
 * bytes each; twelve lanes send for those, 16 bytes each. */
static constexpr __host__ __device__ int slot_words(int type) {
    return type == W_BF16 ? 4 : type == W_Q4_0 || type == W_Q4_K ? 1 : 2;
}

static constexpr __host__ __device__ bool is_k_type(int type) {
    return type >= W_Q4_K;
}

static constexpr __host__ __device__ bool has_least(int type) {
    return type == W_Q4_K || type == W_Q5_K;
}

static constexpr __host__ __device__ int slot_bytes(int type) {
    return slot_words(type) * 512 + (type == W_BF16 ? 0 : is_k_type(type) ? 192 : 64);
}

/* Slots of a warp's ring: 4 to 8 KB. */
static constexpr __host__ __device__ int stages_of(int type) {
    return type == W_BF16 ? 4 : slot_words(type) == 1 ? 8 : 6;
}

static constexpr __host__ __device__ int quant_bytes(int type) {
    return type == W_Q8_0 ? 512 : type == W_Q5_K ? 320 : type == W_Q6_K ? 384 : 256;
}

/* Where a lane's weights of chunk 0 are. */
struct lane_source {
    const char *quants; /* bfloat16: the first tile's row g */
    const char *second; /* bfloat16: the second tile's; blocks: scales, d, dmin */
    uint32_t half;      /* bfloat16: bytes to row g + 8 */
    int stride, shift;  /* blocks: of chunk c, second is at (c >> shift) * stride */
};

/* tile, second: the weights' tiles or panels of 16 outputs. */
template <int TYPE>
static __device__ __forceinline__ lane_source source_of(const cuda_product &p, const char *w,
                                                        const char *w_second, int tile,
                                                        int second) {
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    lane_source s = {};
    if (TYPE == W_BF16) {
        size_t row = 2 * (size_t)p.n_in;
        s.quants = w + (size_t)(PANEL * tile + g) * row + 16 * t;
        s.second = w_second + (size_t)(PANEL * second + g) * row + 16 * t;
        s.half = (uint32_t)(8 * row);
        return s;
    }
    const char *a = w + (size_t)tile * p.panel_bytes;
    const char *b = w_second + (size_t)second * p.panel_bytes;
    s.quants = (g < 4 ? a : b) + PANEL_HEADER + 16 * (g % 4) + (TYPE == W_Q8_0 ? 128 : 64) * t;
    bool is_scale = lane < 4;
    int i = is_scale ? lane : lane - 4, n = is_scale ? 2 : 4; /* i of 2n lanes */
    s.second = (i < n ? a : b) + (is_scale ? p.scale_at : p.super_at) + 16 * (i % n);
    s.stride = is_scale ? 32 : 64;
    s.shift = is_scale ? 0 : 3;
    return s;
}

/* Sends for a chunk; an empty group where there is none. slot: the warp's. */
template <int TYPE>
static __device__ __forceinline__ void send_for(char *slot, const lane_source &s, int chunk,
                                                int end) {
    int lane = (int)threadIdx.x % 32, t = lane % 4;
    if (chunk < end) {
        char *to = slot + 16 * lane;
        if (TYPE == W_BF16) {
            const char *a = s.quants + (size_t)chunk * 64, *b = s.second + (size_t)chunk * 64;
            copy_async<16>(to, a);
            copy_async<16>(to + 512, a + s.half);
            copy_async<16>(to + 1024, b);
            copy_async<16>(to + 1536, b + s.half);
        } else {
            const char *from = s.quants + chunk * quant_bytes(TYPE);
            copy_async<16>(to, from);
            if (TYPE == W_Q8_0) copy_async<16>(to + 512, from + 64);
            if (TYPE == W_Q5_K) copy_async<16>(to + 512, from + 256 - 64 * t);
            if (TYPE == W_Q6_K) copy_async<16>(to + 512, from + 256 - 64 * t + 64 * (t / 2));
            if (lane < (is_k_type(TYPE) ? 12 : 4))
                copy_async<16>(to + slot_words(TYPE) * 512,
                               s.second + (chunk >> s.shift) * s.stride);
        }
    }
    commit_copies();
}

/* Scales as a lane reads them: four f16, or four bytes of sc and of m; d and dmin of K types. What
 * other lanes have sent for is there after a wait of the whole warp. */
struct lane_scales {
    uint2 scales, d, dmin;
};

template <int TYPE>
static __device__ __forceinline__ lane_scales read_scales(const char *slot) {
    int lane = (int)threadIdx.x % 32, panel = lane / 16, q = lane / 4 % 4;
    const char *scales = slot + slot_words(TYPE) * 512 + 32 * panel;
    const char *supers = slot + slot_words(TYPE) * 512 + 64 + 64 * panel + 8 * q;
    lane_scales s = {};
    if (!is_k_type(TYPE)) {
        s.scales = *(const uint2 *)(scales + 8 * q);
        return s;
    }
    if (TYPE == W_Q6_K) scales += lane % 4 / 2 * 16;
    s.scales.x = *(const uint32_t *)(scales + 4 * q);
    s.d = *(const uint2 *)supers;
    if (!has_least(TYPE)) return s;
    s.scales.y = *(const uint32_t *)(scales + 16 + 4 * q);
    s.dmin = *(const uint2 *)(supers + 32);
    return s;
}

/* ---- Operands ---------------------------------------------------------------------------------
 */

static __device__ __forceinline__ uint32_t part_of_word(const uint4 &v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* Two bytes of a word, 0 and 2, as bfloat16 pairs: 128 + the low 7 bits in a number's last place,
 * minus what makes them signed. */
static __device__ __forceinline__ uint32_t bytes_to_pairs(uint32_t u) {
    uint32_t low = (u & 0x007F007Fu) | 0x43004300u;
    uint32_t less = (u & 0x00800080u) ^ 0xC380C380u; /* -128 where bit 7 is set, else -256 */
    return fma_pairs(low, 0x3F803F80u, less);
}

/* Eight numbers of a lane's output i: pairs of k (0, 2), (1, 3), (4, 6), (5, 7). */
template <int TYPE>
static __device__ __forceinline__ void unpack(uint32_t a[4], const uint4 *words, uint32_t scales,
                                              int i) {
    uint32_t one = 0x3F803F80u, v = part_of_word(words[0], i);
    if (TYPE == W_Q8_0) {
        uint32_t w = part_of_word(words[1], i);
        a[0] = bytes_to_pairs(v);
        a[1] = bytes_to_pairs(v >> 8);
        a[2] = bytes_to_pairs(w);
        a[3] = bytes_to_pairs(w >> 8);
        return;
    }
    uint32_t q[4] = {v & 0x000F000Fu, v >> 8 & 0x000F000Fu, v >> 4 & 0x000F000Fu,
                     v >> 12 & 0x000F000Fu};
    uint32_t zero = TYPE == W_Q4_0 ? 0xC308C308u : TYPE == W_Q6_K ? 0xC320C320u : 0xC300C300u;
    int t = (int)threadIdx.x % 4;
    if (TYPE == W_Q5_K) {
        uint32_t h = part_of_word(words[1], i) >> (2 * t);
        q[0] |= h << 4 & 0x00100010u;
        q[1] |= h >> 4 & 0x00100010u;
        q[2] |= h << 3 & 0x00100010u;
        q[3] |= h >> 5 & 0x00100010u;
    }
    if (TYPE == W_Q6_K) {
        uint32_t h = part_of_word(words[1], i) >> (4 * (t % 2));
        q[0] |= h << 4 & 0x00300030u;
        q[1] |= h >> 4 & 0x00300030u;
        q[2] |= h << 2 & 0x00300030u;
        q[3] |= h >> 6 & 0x00300030u;
    }
    uint32_t scale = 0;
    if (TYPE == W_Q6_K) {
        scale = __float_as_uint((float)(int8_t)(scales >> (8 * i))) >> 16;
        scale |= scale << 16;
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
        a[k] = fma_pairs(q[k] | 0x43004300u, one, zero);
        if (TYPE == W_Q6_K) a[k] = fma_pairs(a[k], scale, 0x80008000u);
    }
}

static __device__ __forceinline__ float half_at(uint2 halves, int i) {
    uint32_t word = i < 2 ? halves.x : halves.y;
    return from_f16((uint16_t)(word >> (16 * (i % 2))));
}

/* What a chunk's sum of a lane's output i is multiplied with, and what is taken off for each unit
 * of the sum of activations. */
template <int TYPE>
static __device__ __forceinline__ void scales_of(float *scale, float *least, const lane_scales &s,
                                                 int i) {
    *least = 0.0f;
    *scale = half_at(is_k_type(TYPE) ? s.d : s.scales, i);
    if (!has_least(TYPE)) return;
    *scale *= (float)(s.scales.x >> (8 * i) & 255u);
    *least = half_at(s.dmin, i) * (float)(s.scales.y >> (8 * i) & 255u);
}

/* A chunk's activations: the lane's operands, and the sums of its columns 2t and 2t + 1. */
template <int N>
struct chunk_x {
    uint4 b[N];
    float2 sums[N]; /* where the type has_least */
};

/* acc += a chunk. acc[m][n][i]: column 8n + 2t + i % 2, output lane_out(m, i / 2). */
template <int TYPE, int N>
static __device__ __forceinline__ void multiply(float acc[2][N][4], const char *slot,
                                                const chunk_x<N> &x) {
    const float zeros[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    int lane = (int)threadIdx.x % 32;
    const uint4 *own = (const uint4 *)slot + lane;
    if (TYPE == W_BF16) {
#pragma unroll
        for (int m = 0; m < 2; m++) {
            const uint4 lo = own[64 * m], hi = own[64 * m + 32];
#pragma unroll
            for (int n = 0; n < N; n++) {
                float *c = acc[m][n];
                mma(c, c, lo.x, hi.x, lo.y, hi.y, x.b[n].x, x.b[n].y);
                mma(c, c, lo.z, hi.z, lo.w, hi.w, x.b[n].z, x.b[n].w);
            }
        }
        return;
    }
    constexpr int n_words = slot_words(TYPE);
    uint4 words[n_words];
#pragma unroll
    for (int k = 0; k < n_words; k++) words[k] = own[32 * k];
    lane_scales scales = read_scales<TYPE>(slot);
#pragma unroll
    for (int m = 0; m < 2; m++) {
        uint32_t lo[4], hi[4];
        float scale[2], least[2];
        unpack<TYPE>(lo, words, scales.scales.x, 2 * m);
        unpack<TYPE>(hi, words, scales.scales.x, 2 * m + 1);
        scales_of<TYPE>(&scale[0], &least[0], scales, 2 * m);
        scales_of<TYPE>(&scale[1], &least[1], scales, 2 * m + 1);
#pragma unroll
        for (int n = 0; n < N; n++) {
            float c[4];
            mma(c, zeros, lo[0], hi[0], lo[1], hi[1], x.b[n].x, x.b[n].y);
            mma(c, c, lo[2], hi[2], lo[3], hi[3], x.b[n].z, x.b[n].w);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float sum = fmaf(scale[i / 2], c[i], acc[m][n][i]);
                if (has_least(TYPE))
                    sum = fmaf(-least[i / 2], i % 2 ? x.sums[n].y : x.sums[n].x, sum);
                acc[m][n][i] = sum;
            }
        }
    }
}

/* Which of a warp's 32 outputs stands in acc[m][..][2 half + ..]. */
template <int TYPE>
static __device__ __forceinline__ int lane_out(int m, int half) {
    int g = (int)threadIdx.x % 32 / 4;
    return TYPE == W_BF16 ? 16 * m + 8 * half + g : 16 * (g / 4) + 4 * (g % 4) + 2 * m + half;
}

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix product of the AVX2 tier: as the AVX-512 one, with register tiles of up to 3 rows by 4
 * outputs of 8-lane sums (16 registers). Each (row, output) sees one sequence of operations
 * whatever its tile.
 */
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx2.h"

enum { TILE_ROWS = 3, TILE_OUTS = 4 };

#define INLINE static inline __attribute__((always_inline))

/* 8 weights as float32. */
INLINE __m256 load_weights(const unsigned char *w, size_t i, dtype type) {
    if (type == DTYPE_F32) return _mm256_loadu_ps((const void *)(w + 4 * i));
    __m128i half = _mm_loadu_si128((const void *)(w + 2 * i));
    if (type == DTYPE_F16) return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

/* The last n < 8 weights; other lanes are zero. */
INLINE __m256 load_last_weights(const unsigned char *w, size_t i, dtype type, size_t n) {
    unsigned char last[32] = {0};
    memcpy(last, w + i * dtype_bytes(type), n * dtype_bytes(type));
    return load_weights(last, 0, type);
}

/* Lane sums of four vectors by sum_lanes' tree. */
INLINE __m128 sum_four(const __m256 v[TILE_OUTS]) {
    __m128 s[TILE_OUTS];
#pragma GCC unroll 4
    for (int i = 0; i < TILE_OUTS; i++)
        s[i] = _mm_add_ps(_mm256_castps256_ps128(v[i]), _mm256_extractf128_ps(v[i], 1));
    /* Lanes 0 and 1 of s0 and s1, plus their lanes 2 and 3; the same of s2 and s3. */
    __m128 low = _mm_add_ps(_mm_movelh_ps(s[0], s[1]), _mm_movehl_ps(s[1], s[0]));
    __m128 high = _mm_add_ps(_mm_movelh_ps(s[2], s[3]), _mm_movehl_ps(s[3], s[2]));
    return _mm_add_ps(_mm_shuffle_ps(low, high, 0x88), _mm_shuffle_ps(low, high, 0xDD));
}

/* One register tile: n_rows and type are constants of the caller. */
INLINE void tile_of(const float *const x[TILE_ROWS], const unsigned char *const w[TILE_OUTS],
                    int32_t n_in, int n_rows, dtype type, __m128 sums[TILE_ROWS]) {
    __m256 acc[TILE_ROWS][TILE_OUTS], xv[TILE_ROWS];
#pragma GCC unroll 3
    for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 4
        for (int o = 0; o < TILE_OUTS; o++) acc[r][o] = _mm256_setzero_ps();
    size_t i = 0, n = (size_t)n_in;
    for (; i + 8 <= n; i += 8) {
#pragma GCC unroll 3
        for (int r = 0; r < n_rows; r++) xv[r] = _mm256_loadu_ps(x[r] + i);
#pragma GCC unroll 4
        for (int o = 0; o < TILE_OUTS; o++) {
            __m256 v = load_weights(w[o], i, type);
#pragma GCC unroll 3
            for (int r = 0; r < n_rows; r++) acc[r][o] = _mm256_fmadd_ps(xv[r], v, acc[r][o]);
        }
    }
    if (i < n) {
#pragma GCC unroll 3
        for (int r = 0; r < n_rows; r++) xv[r] = load_first(x[r] + i, (int64_t)(n - i));
#pragma GCC unroll 4
        for (int o = 0; o < TILE_OUTS; o++) {
            __m256 v = load_last_weights(w[o], i, type, n - i);
#pragma GCC unroll 3
            for (int r = 0; r < n_rows; r++) acc[r][o] = _mm256_fmadd_ps(xv[r], v, acc[r][o]);
        }
    }
#pragma GCC unroll 3
    for (int r = 0; r < n_rows; r++) sums[r] = sum_four(acc[r]);
}

/* Rows of the next tile: equal tiles, since a short one is all loads. */
INLINE int32_t even_share(int32_t n_left) {
    int32_t n_tiles = (n_left + TILE_ROWS - 1) / TILE_ROWS;
    return (n_left + n_tiles - 1) / n_tiles;
}

INLINE void matmul_type(const matmul_tile *t, dtype type) {
    size_t row_bytes = (size_t)t->n_in * dtype_bytes(type);
    for (int32_t o = 0; o < t->n_out; o += TILE_OUTS) {
        int32_t n_outs = t->n_out - o < TILE_OUTS ? t->n_out - o : TILE_OUTS;
        const unsigned char *w[TILE_OUTS];
        for (int i = 0; i < TILE_OUTS; i++) /* past the edge: the last output again, not stored */
            w[i] = (const unsigned char *)t->w +
                   (size_t)(o + (i < n_outs ? i : n_outs - 1)) * row_bytes;
        for (int32_t r = 0, n_rows; r < t->n_rows; r += n_rows) {
            n_rows = even_share(t->n_rows - r);
            const float *x[TILE_ROWS];
            __m128 sums[TILE_ROWS];
            for (int i = 0; i < n_rows; i++)
                x[i] = t->x + (size_t)(t->x_rows ? t->x_rows[r + i] : r + i) * t->x_stride;
            if (n_rows == 3)
                tile_of(x, w, t->n_in, 3, type, sums);
            else if (n_rows == 2)
                tile_of(x, w, t->n_in, 2, type, sums);
            else
                tile_of(x, w, t->n_in, 1, type, sums);
            for (int i = 0; i < n_rows; i++) {
                float four[TILE_OUTS], *y = t->y + (size_t)(r + i) * t->y_stride + o;
                _mm_storeu_ps(four, sums[i]);
                for (int j = 0; j < n_outs; j++)
                    y[j] = t->bias ? four[j] + t->bias[o + j] : four[j];
            }
        }
    }
}

static void matmul_f32(const matmul_tile *t) {
    matmul_type(t, DTYPE_F32);
}

static void matmul_f16(const matmul_tile *t) {
    matmul_type(t, DTYPE_F16);
}

static void matmul_bf16(const matmul_tile *t) {
    matmul_type(t, DTYPE_BF16);
}

static void matmul(const matmul_tile *t) {
    switch (t->type) {
        case DTYPE_F32:
            matmul_f32(t);
            break;
        case DTYPE_F16:
            matmul_f16(t);
            break;
        case DTYPE_BF16:
            matmul_bf16(t);
            break;
        default: /* block types do not reach this function */
            break;
    }
}

static void decode(dtype type, const void *data, size_t n, float *out) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(out + i, load_weights(data, i, type));
    if (i < n) store_first(out + i, (int64_t)(n - i), load_last_weights(data, i, type, n - i));
}

void matmul_fill_avx2(cpu_kernels *k) {
    k->matmul = matmul;
    k->decode = decode;
}

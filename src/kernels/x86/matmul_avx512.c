/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix product of the AVX-512 tier: dot products straight over the stored weights. A register
 * tile is up to 6 rows by 4 outputs of 16-lane sums over n_in; each (row, output) sees one sequence
 * whatever its tile: fused multiply-adds of 16 numbers in index order (the last ones masked to
 * zero), then the same tree over the lanes. So neither batch nor tile edges change a bit.
 */
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx512.h"

enum { TILE_ROWS = 6, TILE_OUTS = 4 };

#define INLINE static inline __attribute__((always_inline))

/* 16 weights as float32; lanes outside mask are zero and not read. */
INLINE __m512 load_weights(const unsigned char *w, size_t i, dtype type, __mmask16 mask,
                           bool is_whole) {
    if (type == DTYPE_F32)
        return is_whole ? _mm512_loadu_ps(w + 4 * i) : _mm512_maskz_loadu_ps(mask, w + 4 * i);
    __m256i half = is_whole ? _mm256_loadu_si256((const void *)(w + 2 * i))
                            : _mm256_maskz_loadu_epi16(mask, w + 2 * i);
    if (type == DTYPE_F16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Lane sums of four vectors, by sum_lanes' tree: a's in the result's lane 0 and so on. */
INLINE __m128 sum_four(__m512 a, __m512 b, __m512 c, __m512 d) {
    __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
    __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
    /* 128-bit lanes of ab: a0 a1 b0 b1; even ones plus odd ones: a b c d. */
    __m512 v =
        _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
    v = _mm512_add_ps(v, _mm512_shuffle_ps(v, v, 0x4E));
    v = _mm512_add_ps(v, _mm512_shuffle_ps(v, v, 0xB1));
    const __m512i first_of_each =
        _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    return _mm512_castps512_ps128(_mm512_permutexvar_ps(first_of_each, v));
}

/* One register tile: n_rows and type are constants of the caller. */
INLINE void tile_of(const float *const x[TILE_ROWS], const unsigned char *const w[TILE_OUTS],
                    int32_t n_in, int n_rows, dtype type, __m128 sums[TILE_ROWS]) {
    __m512 acc[TILE_ROWS][TILE_OUTS];
#pragma GCC unroll 6
    for (int r = 0; r < n_rows; r++)
#pragma GCC unroll 4
        for (int o = 0; o < TILE_OUTS; o++) acc[r][o] = _mm512_setzero_ps();
    size_t i = 0, n = (size_t)n_in;
    for (; i + 16 <= n; i += 16) {
        __m512 v[TILE_OUTS];
#pragma GCC unroll 4
        for (int o = 0; o < TILE_OUTS; o++) v[o] = load_weights(w[o], i, type, 0, true);
#pragma GCC unroll 6
        for (int r = 0; r < n_rows; r++) {
            __m512 xv = _mm512_loadu_ps(x[r] + i);
#pragma GCC unroll 4
            for (int o = 0; o < TILE_OUTS; o++) acc[r][o] = _mm512_fmadd_ps(xv, v[o], acc[r][o]);
        }
    }
    if (i < n) {
        __mmask16 mask = first_lanes((int64_t)(n - i));
        __m512 v[TILE_OUTS];
#pragma GCC unroll 4
        for (int o = 0; o < TILE_OUTS; o++) v[o] = load_weights(w[o], i, type, mask, false);
#pragma GCC unroll 6
        for (int r = 0; r < n_rows; r++) {
            __m512 xv = _mm512_maskz_loadu_ps(mask, x[r] + i);
#pragma GCC unroll 4
            for (int o = 0; o < TILE_OUTS; o++) acc[r][o] = _mm512_fmadd_ps(xv, v[o], acc[r][o]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < n_rows; r++) sums[r] = sum_four(acc[r][0], acc[r][1], acc[r][2], acc[r][3]);
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
        __mmask8 mask = (__mmask8)((1u << n_outs) - 1u);
        const unsigned char *w[TILE_OUTS];
        for (int i = 0; i < TILE_OUTS; i++) /* past the edge: the last output again, not stored */
            w[i] = (const unsigned char *)t->w +
                   (size_t)(o + (i < n_outs ? i : n_outs - 1)) * row_bytes;
        __m128 bias = t->bias ? _mm_maskz_loadu_ps(mask, t->bias + o) : _mm_setzero_ps();
        for (int32_t r = 0, n_rows; r < t->n_rows; r += n_rows) {
            n_rows = even_share(t->n_rows - r);
            const float *x[TILE_ROWS];
            __m128 sums[TILE_ROWS];
            for (int i = 0; i < n_rows; i++)
                x[i] = t->x + (size_t)(t->x_rows ? t->x_rows[r + i] : r + i) * t->x_stride;
            switch (n_rows) {
                case 1:
                    tile_of(x, w, t->n_in, 1, type, sums);
                    break;
                case 2:
                    tile_of(x, w, t->n_in, 2, type, sums);
                    break;
                case 3:
                    tile_of(x, w, t->n_in, 3, type, sums);
                    break;
                case 4:
                    tile_of(x, w, t->n_in, 4, type, sums);
                    break;
                case 5:
                    tile_of(x, w, t->n_in, 5, type, sums);
                    break;
                default:
                    tile_of(x, w, t->n_in, 6, type, sums);
                    break;
            }
            for (int i = 0; i < n_rows; i++)
                _mm_mask_storeu_ps(t->y + (size_t)(r + i) * t->y_stride + o, mask,
                                   t->bias ? _mm_add_ps(sums[i], bias) : sums[i]);
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
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = first_lanes((int64_t)(n - i));
        _mm512_mask_storeu_ps(out + i, mask, load_weights(data, i, type, mask, false));
    }
}

void matmul_fill_avx512(cpu_kernels *k) {
    k->matmul = matmul;
    k->decode = decode;
}

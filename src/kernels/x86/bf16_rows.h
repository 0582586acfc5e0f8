/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tiers that multiply bfloat16 share: rows rounded into blocks, and sums that stand output
 * by output on their way to rows. Wants AVX512-BF16.
 */
#ifndef KERNELS_X86_BF16_ROWS_H
#define KERNELS_X86_BF16_ROWS_H

#include <immintrin.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx512.h"

#ifndef INLINE
#define INLINE static inline __attribute__((always_inline))
#endif

enum { BF16_OUTS = 16 };

static void bf16_pack(const pack_tile *t) {
    for (int32_t r = 0; r < t->n_rows; r++)
        for (int32_t g = 0; g < t->n_groups; g++) {
            const float *x = t->x[r] + (size_t)g * PACKED_GROUP;
            unsigned char *record = t->records + (size_t)g * RECORD_BF16_BYTES;
            __m512i pairs =
                (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
            uint32_t words[PACKED_GROUP / 2];
            _mm512_storeu_si512(words, pairs);
            for (int p = 0; p < PACKED_GROUP / 2; p++)
                memcpy(record + 64 * p + 4 * r, &words[p], 4);
        }
}

/* to[c] = column c of a tile of 16 x 16 numbers. */
INLINE void bf16_transpose(const float *tile, __m512 to[BF16_OUTS]) {
    __m512 t[BF16_OUTS], u[BF16_OUTS];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        __m512 a = _mm512_load_ps(tile + 32 * i), b = _mm512_load_ps(tile + 32 * i + 16);
        t[2 * i] = _mm512_unpacklo_ps(a, b);
        t[2 * i + 1] = _mm512_unpackhi_ps(a, b);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) { /* pairs of pairs: rows 4 (i / 2) onward */
        __m512d a = _mm512_castps_pd(t[4 * (i / 2) + i % 2]);
        __m512d b = _mm512_castps_pd(t[4 * (i / 2) + i % 2 + 2]);
        u[4 * (i / 2) + 2 * (i % 2)] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        u[4 * (i / 2) + 2 * (i % 2) + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m512 a = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x88);
        __m512 b = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x88);
        to[c] = _mm512_shuffle_f32x4(a, b, 0x88);
        to[8 + c] = _mm512_shuffle_f32x4(a, b, 0xDD);
        a = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xDD);
        b = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xDD);
        to[4 + c] = _mm512_shuffle_f32x4(a, b, 0x88);
        to[12 + c] = _mm512_shuffle_f32x4(a, b, 0xDD);
    }
}

/* A tile [16 outs, 16 rows] to y, from output o on. */
static void bf16_put(const bf16_tile *t, const float *tile, int32_t o, int32_t block) {
    __m512 rows[BF16_OUTS];
    bf16_transpose(tile, rows);
    __m512 bias = t->bias ? _mm512_loadu_ps(t->bias + o) : _mm512_setzero_ps();
    int32_t first = block * PACKED_ROWS;
#pragma GCC unroll 16
    for (int r = 0; r < BF16_OUTS; r++)
        if (first + r < t->n_rows)
            _mm512_storeu_ps(t->y + (size_t)(first + r) * t->y_stride + o,
                             t->bias ? _mm512_add_ps(rows[r], bias) : rows[r]);
}

#endif

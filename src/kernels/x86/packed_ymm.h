/* SPDX-License-Identifier: Apache-2.0
 *
 * Products on packed weights with registers of 8 numbers. A file that includes this says how bytes
 * are multiplied and added:
 *
 *   sum_quads  the sum over quads [first, first + n) of u . q, where `together` of them fit 16 bits
 *   sum_bytes  that of all 8 quads of Q8_0
 */
#ifndef KERNELS_X86_PACKED_YMM_H
#define KERNELS_X86_PACKED_YMM_H

#include <assert.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx2.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m256i load(const unsigned char *p) {
    return _mm256_load_si256((const void *)p);
}

/* Quad j of 8 outputs (`half` of the panel) as bytes; Q8_0 has its own way. */
INLINE __m256i quad_at(dtype type, const unsigned char *w, int half, int j) {
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i v = load(w + 64 * (j / 2) + 32 * half);
    v = _mm256_and_si256(j % 2 ? _mm256_srli_epi16(v, 4) : v, nibble);
    if (type == DTYPE_Q5_K) {
        __m256i plane = load(w + 256 + 32 * half);
        __m256i at = j < 4 ? _mm256_slli_epi16(plane, 4 - j) : _mm256_srli_epi16(plane, j - 4);
        v = _mm256_or_si256(v, _mm256_and_si256(at, _mm256_set1_epi8(0x10)));
    } else if (type == DTYPE_Q6_K) {
        __m256i plane = load(w + 256 + 64 * (j / 4) + 32 * half);
        __m256i at = j % 4 < 2 ? _mm256_slli_epi16(plane, 4 - 2 * (j % 4))
                               : _mm256_srli_epi16(plane, 2 * (j % 4) - 4);
        v = _mm256_or_si256(v, _mm256_and_si256(at, _mm256_set1_epi8(0x30)));
    }
    return v;
}

INLINE __m256i row_quad(const unsigned char *record, int r, int j) {
    int32_t quad;
    memcpy(&quad, record + PACKED_GROUP * r + 4 * j, sizeof quad);
    return _mm256_set1_epi32(quad);
}

INLINE __m256i sum_quads(const __m256i *u, const unsigned char *record, int r, int first, int n,
                         int together);
INLINE __m256i sum_bytes(const unsigned char *w, int half, const unsigned char *record, int r);

INLINE __m256 broadcast_f32(const unsigned char *p) {
    float value;
    memcpy(&value, p, sizeof value);
    return _mm256_set1_ps(value);
}

INLINE __m256i broadcast_i32(const unsigned char *p) {
    int32_t value;
    memcpy(&value, p, sizeof value);
    return _mm256_set1_epi32(value);
}

INLINE __m256 half_floats(const unsigned char *p) {
    return _mm256_cvtph_ps(_mm_load_si128((const void *)p));
}

INLINE __m256 small_numbers(const unsigned char *p, bool is_signed) {
    __m128i bytes = _mm_loadl_epi64((const void *)p);
    return _mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(bytes)
                                        : _mm256_cvtepu8_epi32(bytes));
}

/* One group of 8 outputs: y[r] += for all rows. */
INLINE void group_of(const packed_tile *t, dtype type, int half, const unsigned char *w,
                     const unsigned char *scale, const unsigned char *super,
                     const unsigned char *record, __m256 *y) {
    __m256i u[8];
    __m256 s, m = _mm256_setzero_ps();
    if (type == DTYPE_Q8_0 || type == DTYPE_Q4_0) {
        s = half_floats(scale + 16 * half);
    } else {
        __m256 d = half_floats(super + 16 * half), dmin = half_floats(super + 32 + 16 * half);
        bool is_signed = type == DTYPE_Q6_K;
        s = _mm256_mul_ps(d, small_numbers(scale + 8 * half, is_signed));
        m = _mm256_mul_ps(is_signed ? d : dmin, small_numbers(scale + 16 + 8 * half, is_signed));
    }
    if (type != DTYPE_Q8_0)
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) u[j] = quad_at(type, w, half, j);
    for (int32_t r = 0; r < t->n_rows; r++) {
        __m256 d = broadcast_f32(record + RECORD_D + 4 * r);
        if (type == DTYPE_Q6_K) {
            __m256i a = _mm256_add_epi32(sum_quads(u, record, r, 0, 4, 2),
                                         broadcast_i32(record + RECORD_NEG32 + 4 * r));
            __m256i b = _mm256_add_epi32(sum_quads(u, record, r, 4, 4, 2),
                                         broadcast_i32(record + RECORD_NEG32 + 64 + 4 * r));
            y[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(a), _mm256_mul_ps(s, d), y[r]);
            y[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(b), _mm256_mul_ps(m, d), y[r]);
            continue;
        }
        __m256i sum;
        if (type == DTYPE_Q8_0)
            sum = _mm256_add_epi32(sum_bytes(w, half, record, r),
                                   broadcast_i32(record + RECORD_NEG128 + 4 * r));
        else if (type == DTYPE_Q4_0)
            sum = _mm256_add_epi32(sum_quads(u, record, r, 0, 8, 8),
                                   broadcast_i32(record + RECORD_NEG8 + 4 * r));
        else
            sum = sum_quads(u, record, r, 0, 8, type == DTYPE_Q4_K ? 8 : 4);
        y[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(s, d), y[r]);
        if (type == DTYPE_Q4_K || type == DTYPE_Q5_K)
            y[r] = _mm256_fnmadd_ps(m, broadcast_f32(record + RECORD_DSUM + 4 * r), y[r]);
    }
}

INLINE void tile_of(const packed_tile *t, dtype type) {
    const size_t quant_bytes = packed_quant_bytes(type);
    const unsigned char *quants = t->panel + PACKED_HEADER_BYTES;
    const unsigned char *scales = quants + (size_t)t->n_groups * quant_bytes;
    const unsigned char *supers = scales + (size_t)t->n_groups * PACKED_SCALE_BYTES;
    for (int half = 0; half < 2; half++) {
        int32_t n_outs = t->n_outs - 8 * half < 8 ? t->n_outs - 8 * half : 8;
        if (n_outs <= 0) return;
        __m256 y[PACKED_ROWS];
        for (int r = 0; r < PACKED_ROWS; r++) y[r] = _mm256_setzero_ps();
        for (int32_t g = 0; g < t->n_groups; g++)
            group_of(t, type, half, quants + (size_t)g * quant_bytes,
                     scales + (size_t)g * PACKED_SCALE_BYTES,
                     supers + (size_t)(g / PACKED_SUPER) * PACKED_SUPER_BYTES,
                     t->records + (size_t)g * RECORD_BYTES, y);
        for (int32_t r = 0; r < t->n_rows; r++) {
            float sums[8];
            _mm256_storeu_ps(sums, y[r]);
            float *to = t->y + (size_t)r * t->y_stride + 8 * half;
            for (int32_t o = 0; o < n_outs; o++)
                to[o] = t->bias ? sums[o] + t->bias[8 * half + o] : sums[o];
        }
    }
}

static void matmul_ymm(const packed_tile *t) {
    switch (t->type) {
#define CASE(name)                \
    case DTYPE_##name:            \
        tile_of(t, DTYPE_##name); \
        break;
        PACKED_TYPES(CASE)
#undef CASE
        default:
            assert(!"a packed type");
    }
}

#endif

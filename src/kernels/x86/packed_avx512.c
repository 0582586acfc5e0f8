/* SPDX-License-Identifier: Apache-2.0
 *
 * Products on packed weights with AVX-512 VNNI. The 8 quads of a group stay in registers while up
 * to 16 rows pass by: per row and group 8 vpdpbusd, a conversion, a scale and an fma for 16
 * outputs. Rows broadcast straight from memory, by the product's own operand: a broadcast apart
 * costs a third of the speed, hence the assembly.
 */
#include <assert.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx512.h"

#define INLINE static inline __attribute__((always_inline))

/* How far ahead quants are fetched to the second cache, past which the processor's own prefetcher
 * does not keep up: nearer ones come late, farther ones a tenth slower (it follows them as well).
 * Past the end of a panel they are the next one's. A panel's scales are fetched in the one before.
 */
enum { PREFETCH = 4096 };

static void pack(const pack_tile *t) {
    const __m512 sign = _mm512_set1_ps(-0.0f);
    for (int32_t r = 0; r < t->n_rows; r++) {
        const float *x = t->x[r];
        unsigned char *record = t->records;
        for (int32_t g = 0; g < t->n_groups; g++, x += PACKED_GROUP, record += RECORD_BYTES) {
            __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
            /* As integers, sizes of NaN and infinity are above all others. */
            __m512i size = _mm512_max_epi32(_mm512_castps_si512(_mm512_andnot_ps(sign, a)),
                                            _mm512_castps_si512(_mm512_andnot_ps(sign, b)));
            int32_t bits = _mm512_reduce_max_epi32(size);
            float top;
            memcpy(&top, &bits, sizeof top);
            bool is_finite = bits < 0x7F800000, is_zero = !is_finite || top < PACKED_TINY;
            float inverse = is_zero ? 0.0f : 127.0f / top;
            float d = !is_finite ? __builtin_nanf("") : is_zero ? 0.0f : top / 127.0f;
            __m512 scale = _mm512_set1_ps(inverse);
            __mmask16 keep = is_zero ? 0 : 0xFFFF;
            __m512i qa = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(a, scale));
            __m512i qb = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(b, scale));
            _mm_store_si128((void *)(record + PACKED_GROUP * r), _mm512_cvtepi32_epi8(qa));
            _mm_store_si128((void *)(record + PACKED_GROUP * r + 16), _mm512_cvtepi32_epi8(qb));
            int32_t sa = _mm512_reduce_add_epi32(qa), sb = _mm512_reduce_add_epi32(qb);
            int32_t neg8 = -8 * (sa + sb), neg128 = -128 * (sa + sb), na = -32 * sa, nb = -32 * sb;
            float dsum = d * (float)(sa + sb);
            memcpy(record + RECORD_D + 4 * r, &d, 4);
            memcpy(record + RECORD_NEG8 + 4 * r, &neg8, 4);
            memcpy(record + RECORD_NEG128 + 4 * r, &neg128, 4);
            memcpy(record + RECORD_DSUM + 4 * r, &dsum, 4);
            memcpy(record + RECORD_NEG32 + 4 * r, &na, 4);
            memcpy(record + RECORD_NEG32 + 64 + 4 * r, &nb, 4);
        }
    }
}

/* The 8 quads of a group as bytes. Fetches the lines of the group that is `ahead` bytes away. */
INLINE void unpack(dtype type, const unsigned char *w, ptrdiff_t ahead, __m512i u[8]) {
    if (type == DTYPE_Q8_0) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            u[j] = _mm512_load_si512(w + 64 * j);
            _mm_prefetch((const char *)w + 64 * j + ahead, _MM_HINT_T1);
        }
        return;
    }
    const __m512i nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        __m512i v = _mm512_load_si512(w + 64 * j);
        _mm_prefetch((const char *)w + 64 * j + ahead, _MM_HINT_T1);
        u[2 * j] = _mm512_and_si512(v, nibble);
        u[2 * j + 1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble);
    }
    if (type == DTYPE_Q5_K) {
        const __m512i fifth = _mm512_set1_epi8(0x10);
        __m512i plane = _mm512_load_si512(w + 256);
        _mm_prefetch((const char *)w + 256 + ahead, _MM_HINT_T1);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            __m512i at = j < 4 ? _mm512_slli_epi16(plane, (unsigned)(4 - j) & 15)
                               : _mm512_srli_epi16(plane, (unsigned)(j - 4) & 15);
            u[j] = _mm512_or_si512(u[j], _mm512_and_si512(at, fifth));
        }
    }
    if (type == DTYPE_Q6_K) {
        const __m512i upper = _mm512_set1_epi8(0x30);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            __m512i plane = _mm512_load_si512(w + 256 + 64 * (j / 4));
            if (j % 4 == 0) _mm_prefetch((const char *)w + 256 + 64 * (j / 4) + ahead, _MM_HINT_T1);
            __m512i at = j % 4 == 0   ? _mm512_slli_epi16(plane, 4)
                         : j % 4 == 1 ? _mm512_slli_epi16(plane, 2)
                         : j % 4 == 2 ? plane
                                      : _mm512_srli_epi16(plane, 2);
            u[j] = _mm512_or_si512(u[j], _mm512_and_si512(at, upper));
        }
    }
}

INLINE __m512 halves(const unsigned char *p) {
    return _mm512_cvtph_ps(_mm256_load_si256((const void *)p));
}

/* Four numbers of a row, as one word. */
typedef int32_t __attribute__((may_alias)) row_quad;

/* sum += u . q over one quad, q broadcast from the record. */
INLINE __m512i dot(__m512i sum, __m512i quad, const unsigned char *q) {
    __asm__("vpdpbusd %1%{1to16%}, %2, %0" : "+v"(sum) : "m"(*(const row_quad *)q), "v"(quad));
    return sum;
}

INLINE __m512i broadcast_i32(const unsigned char *p) {
    int32_t value;
    memcpy(&value, p, sizeof value);
    return _mm512_set1_epi32(value);
}

INLINE __m512 broadcast_f32(const unsigned char *p) {
    float value;
    memcpy(&value, p, sizeof value);
    return _mm512_set1_ps(value);
}

/* n_rows and type are constants of the caller. */
INLINE void tile_of(const packed_tile *t, dtype type, const int n_rows) {
    const size_t quant_bytes = packed_quant_bytes(type);
    const unsigned char *w = t->panel + PACKED_HEADER_BYTES, *record = t->records;
    const unsigned char *scales = w + (size_t)t->n_groups * quant_bytes;
    const unsigned char *supers = scales + (size_t)t->n_groups * PACKED_SCALE_BYTES;
    const int32_t groups_ahead = PREFETCH / (int32_t)quant_bytes, end = t->n_groups - groups_ahead;
    const ptrdiff_t next = t->next - t->panel;
    __m512 y[PACKED_ROWS], dw = _mm512_setzero_ps(), dmin = _mm512_setzero_ps();
#pragma GCC unroll 16
    for (int r = 0; r < n_rows; r++) y[r] = _mm512_setzero_ps();
    for (int32_t g = 0; g < t->n_groups; g++) {
        __m512i u[8];
        __m512 s, m = _mm512_setzero_ps();
        const ptrdiff_t ahead = (ptrdiff_t)((size_t)groups_ahead * quant_bytes);
        const ptrdiff_t over = next - (ptrdiff_t)((size_t)t->n_groups * quant_bytes);
        unpack(type, w, g < end ? ahead : ahead + over, u);
        if (g % 2 == 0) _mm_prefetch((const char *)scales + next, _MM_HINT_T1);
        if (type == DTYPE_Q8_0 || type == DTYPE_Q4_0) {
            s = halves(scales);
        } else {
            if (g % PACKED_SUPER == 0) {
                dw = halves(supers);
                dmin = halves(supers + 32);
                supers += PACKED_SUPER_BYTES;
            }
            __m128i first = _mm_load_si128((const void *)scales);
            __m128i second = _mm_load_si128((const void *)(scales + 16));
            bool is_signed = type == DTYPE_Q6_K;
            __m512i wide_first =
                is_signed ? _mm512_cvtepi8_epi32(first) : _mm512_cvtepu8_epi32(first);
            __m512i wide_second =
                is_signed ? _mm512_cvtepi8_epi32(second) : _mm512_cvtepu8_epi32(second);
            s = _mm512_mul_ps(dw, _mm512_cvtepi32_ps(wide_first));
            m = _mm512_mul_ps(is_signed ? dw : dmin, _mm512_cvtepi32_ps(wide_second));
        }
#pragma GCC unroll 16
        for (int r = 0; r < n_rows; r++) {
            __m512 d = broadcast_f32(record + RECORD_D + 4 * r);
            if (type == DTYPE_Q6_K) {
                __m512i a = broadcast_i32(record + RECORD_NEG32 + 4 * r);
                __m512i b = broadcast_i32(record + RECORD_NEG32 + 64 + 4 * r);
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) {
                    a = dot(a, u[j], record + 32 * r + 4 * j);
                    b = dot(b, u[j + 4], record + 32 * r + 4 * j + 16);
                }
                y[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), _mm512_mul_ps(s, d), y[r]);
                y[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(b), _mm512_mul_ps(m, d), y[r]);
                continue;
            }
            __m512i sum = type == DTYPE_Q8_0   ? broadcast_i32(record + RECORD_NEG128 + 4 * r)
                          : type == DTYPE_Q4_0 ? broadcast_i32(record + RECORD_NEG8 + 4 * r)
                                               : _mm512_setzero_si512();
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++) sum = dot(sum, u[j], record + 32 * r + 4 * j);
            y[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(s, d), y[r]);
            if (type == DTYPE_Q4_K || type == DTYPE_Q5_K)
                y[r] = _mm512_fnmadd_ps(m, broadcast_f32(record + RECORD_DSUM + 4 * r), y[r]);
        }
        w += quant_bytes;
        scales += PACKED_SCALE_BYTES;
        record += RECORD_BYTES;
    }
    __mmask16 mask = first_lanes(t->n_outs);
    __m512 bias = t->bias ? _mm512_maskz_loadu_ps(mask, t->bias) : _mm512_setzero_ps();
#pragma GCC unroll 16
    for (int r = 0; r < n_rows; r++)
        if (r < t->n_rows)
            _mm512_mask_storeu_ps(t->y + (size_t)r * t->y_stride, mask,
                                  t->bias ? _mm512_add_ps(y[r], bias) : y[r]);
}

/* Rows are rounded up to a size that there is code for; what the extra ones give is not stored. */
#define MATMUL(name)                                  \
    static void matmul_##name(const packed_tile *t) { \
        const dtype type = DTYPE_##name;              \
        if (t->n_rows > 12)                           \
            tile_of(t, type, 16);                     \
        else if (t->n_rows > 8)                       \
            tile_of(t, type, 12);                     \
        else if (t->n_rows > 7)                       \
            tile_of(t, type, 8);                      \
        else if (t->n_rows > 6)                       \
            tile_of(t, type, 7);                      \
        else if (t->n_rows > 5)                       \
            tile_of(t, type, 6);                      \
        else if (t->n_rows > 4)                       \
            tile_of(t, type, 5);                      \
        else if (t->n_rows > 3)                       \
            tile_of(t, type, 4);                      \
        else if (t->n_rows == 3)                      \
            tile_of(t, type, 3);                      \
        else if (t->n_rows == 2)                      \
            tile_of(t, type, 2);                      \
        else                                          \
            tile_of(t, type, 1);                      \
    }

PACKED_TYPES(MATMUL)

static void matmul(const packed_tile *t) {
    switch (t->type) {
#define CASE(name)        \
    case DTYPE_##name:    \
        matmul_##name(t); \
        break;
        PACKED_TYPES(CASE)
#undef CASE
        default:
            assert(!"a packed type");
    }
}

void packed_fill_avx512(cpu_kernels *k) {
    k->pack = pack;
    k->matmul_packed = matmul;
}

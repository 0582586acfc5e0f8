/* SPDX-License-Identifier: Apache-2.0
 *
 * The limits' loops with AVX2: twelve independent sums in named registers; the empty assembly
 * keeps the compiler from leaving them out.
 */
#include <immintrin.h>

#include "kernels/cpu.h"

static int64_t burn_f32(int64_t n_rounds) {
    const __m256 x = _mm256_set1_ps(0.9f);
    __m256 v0 = _mm256_set1_ps(0.5f), v1 = _mm256_set1_ps(0.5f), v2 = _mm256_set1_ps(0.5f),
           v3 = _mm256_set1_ps(0.5f), v4 = _mm256_set1_ps(0.5f), v5 = _mm256_set1_ps(0.5f),
           v6 = _mm256_set1_ps(0.5f), v7 = _mm256_set1_ps(0.5f), v8 = _mm256_set1_ps(0.5f),
           v9 = _mm256_set1_ps(0.5f), v10 = _mm256_set1_ps(0.5f), v11 = _mm256_set1_ps(0.5f);
    for (int64_t i = 0; i < n_rounds; i++) {
        v0 = _mm256_fmadd_ps(v0, x, x);
        v1 = _mm256_fmadd_ps(v1, x, x);
        v2 = _mm256_fmadd_ps(v2, x, x);
        v3 = _mm256_fmadd_ps(v3, x, x);
        v4 = _mm256_fmadd_ps(v4, x, x);
        v5 = _mm256_fmadd_ps(v5, x, x);
        v6 = _mm256_fmadd_ps(v6, x, x);
        v7 = _mm256_fmadd_ps(v7, x, x);
        v8 = _mm256_fmadd_ps(v8, x, x);
        v9 = _mm256_fmadd_ps(v9, x, x);
        v10 = _mm256_fmadd_ps(v10, x, x);
        v11 = _mm256_fmadd_ps(v11, x, x);
        __asm__ volatile("" : "+x"(v0), "+x"(v1), "+x"(v2), "+x"(v3), "+x"(v4), "+x"(v5));
        __asm__ volatile("" : "+x"(v6), "+x"(v7), "+x"(v8), "+x"(v9), "+x"(v10), "+x"(v11));
    }
    return 12 * 16 * n_rounds;
}

/* vpmaddubsw and a 16-bit sum, as the products do it: 32 products of pairs. */
static int64_t burn_int8(int64_t n_rounds) {
    const __m256i x = _mm256_set1_epi8(3);
    __m256i v0 = _mm256_setzero_si256(), v1 = _mm256_setzero_si256(), v2 = _mm256_setzero_si256(),
            v3 = _mm256_setzero_si256(), v4 = _mm256_setzero_si256(), v5 = _mm256_setzero_si256(),
            v6 = _mm256_setzero_si256(), v7 = _mm256_setzero_si256(), v8 = _mm256_setzero_si256(),
            v9 = _mm256_setzero_si256(), v10 = _mm256_setzero_si256(), v11 = _mm256_setzero_si256();
    for (int64_t i = 0; i < n_rounds; i++) {
        v0 = _mm256_add_epi16(v0, _mm256_maddubs_epi16(x, v0));
        v1 = _mm256_add_epi16(v1, _mm256_maddubs_epi16(x, v1));
        v2 = _mm256_add_epi16(v2, _mm256_maddubs_epi16(x, v2));
        v3 = _mm256_add_epi16(v3, _mm256_maddubs_epi16(x, v3));
        v4 = _mm256_add_epi16(v4, _mm256_maddubs_epi16(x, v4));
        v5 = _mm256_add_epi16(v5, _mm256_maddubs_epi16(x, v5));
        v6 = _mm256_add_epi16(v6, _mm256_maddubs_epi16(x, v6));
        v7 = _mm256_add_epi16(v7, _mm256_maddubs_epi16(x, v7));
        v8 = _mm256_add_epi16(v8, _mm256_maddubs_epi16(x, v8));
        v9 = _mm256_add_epi16(v9, _mm256_maddubs_epi16(x, v9));
        v10 = _mm256_add_epi16(v10, _mm256_maddubs_epi16(x, v10));
        v11 = _mm256_add_epi16(v11, _mm256_maddubs_epi16(x, v11));
        __asm__ volatile("" : "+x"(v0), "+x"(v1), "+x"(v2), "+x"(v3), "+x"(v4), "+x"(v5));
        __asm__ volatile("" : "+x"(v6), "+x"(v7), "+x"(v8), "+x"(v9), "+x"(v10), "+x"(v11));
    }
    return 12 * 64 * n_rounds;
}

static uint64_t read_memory(const unsigned char *memory, size_t n_bytes) {
    enum { AHEAD = 4096 };
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t i = 0; i + 64 <= n_bytes; i += 64) {
        _mm_prefetch((const char *)memory + i + AHEAD, _MM_HINT_T1);
        a = _mm256_xor_si256(a, _mm256_loadu_si256((const void *)(memory + i)));
        b = _mm256_xor_si256(b, _mm256_loadu_si256((const void *)(memory + i + 32)));
    }
    a = _mm256_xor_si256(a, b);
    return (uint64_t)_mm256_extract_epi64(a, 0) ^ (uint64_t)_mm256_extract_epi64(a, 1) ^
           (uint64_t)_mm256_extract_epi64(a, 2) ^ (uint64_t)_mm256_extract_epi64(a, 3);
}

void limits_fill_avx2(cpu_kernels *k) {
    k->burn_f32 = burn_f32;
    k->burn_int8 = burn_int8;
    k->read = read_memory;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The limits' loops with AVX-512: twelve independent sums in named registers; the empty assembly
 * keeps the compiler from leaving them out.
 */
#include <immintrin.h>

#include "kernels/cpu.h"

static int64_t burn_f32(int64_t n_rounds) {
    const __m512 x = _mm512_set1_ps(0.9f);
    __m512 v0 = _mm512_set1_ps(0.5f), v1 = _mm512_set1_ps(0.5f), v2 = _mm512_set1_ps(0.5f),
           v3 = _mm512_set1_ps(0.5f), v4 = _mm512_set1_ps(0.5f), v5 = _mm512_set1_ps(0.5f),
           v6 = _mm512_set1_ps(0.5f), v7 = _mm512_set1_ps(0.5f), v8 = _mm512_set1_ps(0.5f),
           v9 = _mm512_set1_ps(0.5f), v10 = _mm512_set1_ps(0.5f), v11 = _mm512_set1_ps(0.5f);
    for (int64_t i = 0; i < n_rounds; i++) {
        v0 = _mm512_fmadd_ps(v0, x, x);
        v1 = _mm512_fmadd_ps(v1, x, x);
        v2 = _mm512_fmadd_ps(v2, x, x);
        v3 = _mm512_fmadd_ps(v3, x, x);
        v4 = _mm512_fmadd_ps(v4, x, x);
        v5 = _mm512_fmadd_ps(v5, x, x);
        v6 = _mm512_fmadd_ps(v6, x, x);
        v7 = _mm512_fmadd_ps(v7, x, x);
        v8 = _mm512_fmadd_ps(v8, x, x);
        v9 = _mm512_fmadd_ps(v9, x, x);
        v10 = _mm512_fmadd_ps(v10, x, x);
        v11 = _mm512_fmadd_ps(v11, x, x);
        __asm__ volatile("" : "+v"(v0), "+v"(v1), "+v"(v2), "+v"(v3), "+v"(v4), "+v"(v5));
        __asm__ volatile("" : "+v"(v6), "+v"(v7), "+v"(v8), "+v"(v9), "+v"(v10), "+v"(v11));
    }
    return 12 * 32 * n_rounds;
}

static int64_t burn_int8(int64_t n_rounds) {
    const __m512i x = _mm512_set1_epi8(3);
    __m512i v0 = _mm512_setzero_si512(), v1 = _mm512_setzero_si512(), v2 = _mm512_setzero_si512(),
            v3 = _mm512_setzero_si512(), v4 = _mm512_setzero_si512(), v5 = _mm512_setzero_si512(),
            v6 = _mm512_setzero_si512(), v7 = _mm512_setzero_si512(), v8 = _mm512_setzero_si512(),
            v9 = _mm512_setzero_si512(), v10 = _mm512_setzero_si512(), v11 = _mm512_setzero_si512();
    for (int64_t i = 0; i < n_rounds; i++) {
        v0 = _mm512_dpbusd_epi32(v0, x, x);
        v1 = _mm512_dpbusd_epi32(v1, x, x);
        v2 = _mm512_dpbusd_epi32(v2, x, x);
        v3 = _mm512_dpbusd_epi32(v3, x, x);
        v4 = _mm512_dpbusd_epi32(v4, x, x);
        v5 = _mm512_dpbusd_epi32(v5, x, x);
        v6 = _mm512_dpbusd_epi32(v6, x, x);
        v7 = _mm512_dpbusd_epi32(v7, x, x);
        v8 = _mm512_dpbusd_epi32(v8, x, x);
        v9 = _mm512_dpbusd_epi32(v9, x, x);
        v10 = _mm512_dpbusd_epi32(v10, x, x);
        v11 = _mm512_dpbusd_epi32(v11, x, x);
        __asm__ volatile("" : "+v"(v0), "+v"(v1), "+v"(v2), "+v"(v3), "+v"(v4), "+v"(v5));
        __asm__ volatile("" : "+v"(v6), "+v"(v7), "+v"(v8), "+v"(v9), "+v"(v10), "+v"(v11));
    }
    return 12 * 128 * n_rounds;
}

static uint64_t read_memory(const unsigned char *memory, size_t n_bytes) {
    enum { AHEAD = 4096 };
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i + 256 <= n_bytes; i += 256) {
        for (size_t j = 0; j < 256; j += 64)
            _mm_prefetch((const char *)memory + i + j + AHEAD, _MM_HINT_T1);
        a = _mm512_xor_si512(a, _mm512_loadu_si512(memory + i));
        b = _mm512_xor_si512(b, _mm512_loadu_si512(memory + i + 64));
        c = _mm512_xor_si512(c, _mm512_loadu_si512(memory + i + 128));
        d = _mm512_xor_si512(d, _mm512_loadu_si512(memory + i + 192));
    }
    a = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
    return (uint64_t)_mm512_reduce_add_epi64(a);
}

/* The int8 figure needs VNNI; without it that of AVX2 stands. */
void limits_fill_avx512(cpu_kernels *k) {
    k->burn_f32 = burn_f32;
    k->read = read_memory;
    if (cpu_has_vnni()) k->burn_int8 = burn_int8;
}

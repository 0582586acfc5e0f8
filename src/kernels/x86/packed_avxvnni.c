/* SPDX-License-Identifier: Apache-2.0
 *
 * Products on packed weights with AVX-VNNI: vpdpbusd adds four products of bytes into 32 bits, on
 * processors that have it without AVX-512.
 */
#include "kernels/x86/packed_ymm.h"

INLINE __m256i sum_quads(const __m256i *u, const unsigned char *record, int r, int first, int n,
                         int together) {
    (void)together;
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int j = first; j < first + n; j++)
        sum = _mm256_dpbusd_avx_epi32(sum, u[j], row_quad(record, r, j));
    return sum;
}

INLINE __m256i sum_bytes(const unsigned char *w, int half, const unsigned char *record, int r) {
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        sum = _mm256_dpbusd_avx_epi32(sum, load(w + 64 * j + 32 * half), row_quad(record, r, j));
    return sum;
}

/* The limit: as many sums under way as the instruction's latency has room for. */
static int64_t burn_int8(int64_t n_rounds) {
    const __m256i x = _mm256_set1_epi8(3);
    __m256i v0 = x, v1 = x, v2 = x, v3 = x, v4 = x, v5 = x, v6 = x, v7 = x, v8 = x, v9 = x;
    for (int64_t i = 0; i < n_rounds; i++) {
        v0 = _mm256_dpbusd_avx_epi32(v0, x, x);
        v1 = _mm256_dpbusd_avx_epi32(v1, x, x);
        v2 = _mm256_dpbusd_avx_epi32(v2, x, x);
        v3 = _mm256_dpbusd_avx_epi32(v3, x, x);
        v4 = _mm256_dpbusd_avx_epi32(v4, x, x);
        v5 = _mm256_dpbusd_avx_epi32(v5, x, x);
        v6 = _mm256_dpbusd_avx_epi32(v6, x, x);
        v7 = _mm256_dpbusd_avx_epi32(v7, x, x);
        v8 = _mm256_dpbusd_avx_epi32(v8, x, x);
        v9 = _mm256_dpbusd_avx_epi32(v9, x, x);
        __asm__ volatile("" : "+x"(v0), "+x"(v1), "+x"(v2), "+x"(v3), "+x"(v4));
        __asm__ volatile("" : "+x"(v5), "+x"(v6), "+x"(v7), "+x"(v8), "+x"(v9));
    }
    return 10 * 64 * n_rounds;
}

void packed_fill_avxvnni(cpu_kernels *k) {
    k->burn_int8 = burn_int8;
    k->matmul_packed = matmul_ymm;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Products on packed weights with AVX2: vpmaddubsw multiplies unsigned by signed bytes and adds
 * pairs into 16 bits, exactly as long as numbers are small: 8 quads of 4-bit numbers, 4 of 5-bit, 2
 * of 6-bit ones fit before the sums must widen. Bytes of Q8_0 are taken as two nibbles.
 */
#include "kernels/x86/packed_ymm.h"

INLINE __m256i widen(__m256i sums16) {
    return _mm256_madd_epi16(sums16, _mm256_set1_epi16(1));
}

INLINE __m256i sum_quads(const __m256i *u, const unsigned char *record, int r, int first, int n,
                         int together) {
    __m256i total = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int j = first; j < first + n; j += together) {
        __m256i sums = _mm256_maddubs_epi16(u[j], row_quad(record, r, j));
#pragma GCC unroll 8
        for (int k = 1; k < together; k++)
            sums =
                _mm256_add_epi16(sums, _mm256_maddubs_epi16(u[j + k], row_quad(record, r, j + k)));
        total = _mm256_add_epi32(total, widen(sums));
    }
    return total;
}

INLINE __m256i sum_bytes(const unsigned char *w, int half, const unsigned char *record, int r) {
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i low = _mm256_setzero_si256(), high = low;
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m256i v = load(w + 64 * j + 32 * half), x = row_quad(record, r, j);
        low = _mm256_add_epi16(low, _mm256_maddubs_epi16(_mm256_and_si256(v, nibble), x));
        v = _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble);
        high = _mm256_add_epi16(high, _mm256_maddubs_epi16(v, x));
    }
    return _mm256_add_epi32(widen(low), _mm256_slli_epi32(widen(high), 4));
}

void packed_fill_avx2(cpu_kernels *k) {
    k->matmul_packed = matmul_ymm;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of bfloat16 weights with activations rounded to bfloat16, by vdpbf16ps: a vector is a
 * pair of numbers of 16 rows, the weights' pair goes to all of its lanes, read where the file has
 * it. An output's sum for a row runs along n_in in one lane, whatever its place: batch invariance.
 * The instruction rounds each of its two additions and takes subnormal numbers for zero (Intel's
 * manual, VDPBF16PS).
 */
#include "kernels/x86/bf16_rows.h"

enum { OUTS = 8, PREFETCH = 512 };

INLINE __m512 dot(__m512 sum, __m512i x, __m512i w) {
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

INLINE __m512i pair_of(const unsigned char *w) {
    int32_t word;
    memcpy(&word, w, sizeof word);
    return _mm512_set1_epi32(word);
}

/* Outputs o onward, OUTS of them, by n_blocks blocks of rows (a constant); sums [n_blocks][outs of
 * a tile, 16 rows]. */
INLINE void sum_outs(const bf16_tile *t, int32_t o, const unsigned char *x, const int n_blocks,
                     float *sums) {
    size_t row_bytes = 2 * (size_t)t->n_in;
    int32_t n_groups = t->n_in / PACKED_GROUP;
    size_t block_bytes = (size_t)n_groups * RECORD_BF16_BYTES;
    const unsigned char *w = (const unsigned char *)t->w + (size_t)o * row_bytes;
    __m512 acc[2][OUTS];
#pragma GCC unroll 2
    for (int b = 0; b < n_blocks; b++)
#pragma GCC unroll 8
        for (int i = 0; i < OUTS; i++) acc[b][i] = _mm512_setzero_ps();
    for (int32_t g = 0; g < n_groups; g++, w += 64) {
#pragma GCC unroll 8
        for (int i = 0; i < OUTS; i++)
            _mm_prefetch((const char *)w + (size_t)i * row_bytes + PREFETCH, _MM_HINT_T0);
        for (int p = 0; p < PACKED_GROUP / 2; p++, x += 64) {
            __m512i rows[2];
#pragma GCC unroll 2
            for (int b = 0; b < n_blocks; b++)
                rows[b] = _mm512_load_si512(x + (size_t)b * block_bytes);
#pragma GCC unroll 8
            for (int i = 0; i < OUTS; i++) {
                __m512i weights = pair_of(w + (size_t)i * row_bytes + 4 * (size_t)p);
#pragma GCC unroll 2
                for (int b = 0; b < n_blocks; b++) acc[b][i] = dot(acc[b][i], rows[b], weights);
            }
        }
    }
#pragma GCC unroll 2
    for (int b = 0; b < n_blocks; b++)
#pragma GCC unroll 8
        for (int i = 0; i < OUTS; i++)
            _mm512_store_ps(sums + (b * BF16_OUTS + i) * PACKED_ROWS, acc[b][i]);
}

/* 16 outputs from o on. */
INLINE void panel(const bf16_tile *t, int32_t o, int32_t block, const int n_blocks) {
    float tiles[2][BF16_OUTS * PACKED_ROWS] __attribute__((aligned(64)));
    const unsigned char *x =
        t->blocks + (size_t)block * (size_t)(t->n_in / PACKED_GROUP) * RECORD_BF16_BYTES;
    sum_outs(t, o, x, n_blocks, tiles[0]);
    sum_outs(t, o + OUTS, x, n_blocks, tiles[0] + OUTS * PACKED_ROWS);
    for (int b = 0; b < n_blocks; b++) bf16_put(t, tiles[b], o, block + b);
}

/* The last outputs are met by panels that reach back: what those give again is the same. */
static void matmul(const bf16_tile *t) {
    int32_t n_blocks = packed_blocks(t->n_rows), last = t->n_outs - BF16_OUTS;
    for (int32_t at = 0; at < t->n_outs; at += BF16_OUTS) {
        int32_t o = at < last ? at : last, block = 0;
        for (; block + 2 <= n_blocks; block += 2) panel(t, o, block, 2);
        if (block < n_blocks) panel(t, o, block, 1);
    }
}

/* The limit: twelve independent sums. */
static int64_t burn(int64_t n_rounds) {
    const __m512i x = _mm512_set1_epi32(0x3F003F00);
    __m512 v[12];
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) v[i] = _mm512_setzero_ps();
    for (int64_t round = 0; round < n_rounds; round++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) {
            v[i] = dot(v[i], x, x);
            __asm__ volatile("" : "+v"(v[i])); /* or the compiler leaves it out */
        }
    }
    return 12 * 64 * n_rounds;
}

void bf16_fill_avx512bf16(cpu_kernels *k) {
    k->burn_bf16 = burn;
    k->pack_bf16 = bf16_pack;
    k->matmul_bf16 = matmul;
    k->has_bf16 = true;
}

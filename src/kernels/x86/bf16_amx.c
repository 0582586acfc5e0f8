/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of bfloat16 weights with activations rounded to bfloat16, on the tiles of AMX: 16
 * outputs by 16 rows by 32 numbers an instruction. The weights are the tile with rows, so they are
 * read where the file has them; the activations are packed. An output's sum runs along n_in in one
 * tile register, in the order of the instruction, whatever its place: batch invariance.
 */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx512.h"
#include "kernels/x86/tiles_amx.h"

enum { PREFETCH = 512 };

static void pack(const pack_tile *t) {
    for (int32_t r = 0; r < t->n_rows; r++)
        for (int32_t g = 0; g < t->n_groups; g++) {
            const float *x = t->x[r] + (size_t)g * PACKED_GROUP;
            unsigned char *record = t->records + (size_t)g * RECORD_BF16_BYTES;
            __m512i pairs =
                (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
            uint32_t words[TILE];
            _mm512_storeu_si512(words, pairs);
            for (int p = 0; p < TILE; p++) memcpy(record + 64 * p + 4 * r, &words[p], 4);
        }
}

/* to[c] = column c of the 16 x 16 numbers of a stored tile. */
INLINE void transpose(const float *tile, __m512 to[TILE]) {
    __m512 t[TILE], u[TILE];
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

/* A stored tile [16 outs, 16 rows] to y, from output o on. */
static void put(const bf16_tile *t, const float *tile, int32_t o, int32_t block) {
    __m512 rows[TILE];
    transpose(tile, rows);
    __m512 bias = t->bias ? _mm512_loadu_ps(t->bias + o) : _mm512_setzero_ps();
    int32_t first = block * PACKED_ROWS;
#pragma GCC unroll 16
    for (int r = 0; r < TILE; r++)
        if (first + r < t->n_rows)
            _mm512_storeu_ps(t->y + (size_t)(first + r) * t->y_stride + o,
                             t->bias ? _mm512_add_ps(rows[r], bias) : rows[r]);
}

INLINE void prefetch_rows(const unsigned char *w, size_t row_bytes) {
#pragma GCC unroll 16
    for (size_t i = 0; i < TILE; i++)
        _mm_prefetch((const char *)w + i * row_bytes + PREFETCH, _MM_HINT_T0);
}

/* Outputs oa and ob onward (16 each, they may overlap) by one block of rows, or by two. */
INLINE void panel(const bf16_tile *t, int32_t oa, int32_t ob, int32_t block, bool is_pair) {
    float tiles[4][TILE * TILE] __attribute__((aligned(64)));
    size_t row_bytes = 2 * (size_t)t->n_in;
    const unsigned char *wa = (const unsigned char *)t->w + (size_t)oa * row_bytes;
    const unsigned char *wb = (const unsigned char *)t->w + (size_t)ob * row_bytes;
    int32_t n_groups = t->n_in / PACKED_GROUP;
    const unsigned char *xa = t->blocks + (size_t)block * (size_t)n_groups * RECORD_BF16_BYTES;
    const unsigned char *xb = xa + (size_t)n_groups * RECORD_BF16_BYTES;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int32_t g = 0; g < n_groups; g++) {
        _tile_loadd(6, xa, 64);
        _tile_loadd(4, wa, row_bytes);
        _tile_loadd(5, wb, row_bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 5, 6);
        if (is_pair) {
            _tile_loadd(7, xb, 64);
            _tile_dpbf16ps(2, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        } else {
            prefetch_rows(wa, row_bytes);
            prefetch_rows(wb, row_bytes);
        }
        wa += 64;
        wb += 64;
        xa += RECORD_BF16_BYTES;
        xb += RECORD_BF16_BYTES;
    }
    _tile_stored(0, tiles[0], 64);
    _tile_stored(1, tiles[1], 64);
    put(t, tiles[0], oa, block);
    put(t, tiles[1], ob, block);
    if (!is_pair) return;
    _tile_stored(2, tiles[2], 64);
    _tile_stored(3, tiles[3], 64);
    put(t, tiles[2], oa, block + 1);
    put(t, tiles[3], ob, block + 1);
}

/* The last outputs are met by tiles that reach back: what those give again is the same. */
static void matmul(const bf16_tile *t) {
    configure_tiles();
    int32_t n_blocks = packed_blocks(t->n_rows), last = t->n_outs - TILE;
    for (int32_t o = 0; o < t->n_outs; o += 2 * TILE) {
        int32_t oa = o < last ? o : last, ob = o + TILE < last ? o + TILE : last;
        int32_t block = 0;
        for (; block + 2 <= n_blocks; block += 2) panel(t, oa, ob, block, true);
        if (block < n_blocks) panel(t, oa, ob, block, false);
    }
    _tile_release();
}

/* The limit: four tiles of sums that no store interrupts. */
static int64_t burn(int64_t n_rounds) {
    configure_tiles();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int64_t i = 0; i < n_rounds; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 5, 6);
        _tile_dpbf16ps(2, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return 4 * 2 * TILE * TILE * PACKED_GROUP * n_rounds;
}

void bf16_fill_amx(cpu_kernels *k) {
    k->burn_bf16 = burn;
    k->pack_bf16 = pack;
    k->matmul_bf16 = matmul;
    k->has_tiles = true;
}

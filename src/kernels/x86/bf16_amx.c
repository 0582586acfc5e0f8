/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of bfloat16 weights with activations rounded to bfloat16, on the tiles of AMX: 16
 * outputs by 16 rows by 32 numbers an instruction. The weights are the tile with rows, so they are
 * read where the file has them; the activations are packed. An output's sum runs along n_in in one
 * tile register, in the order of the instruction, whatever its place: batch invariance.
 */
#include "kernels/x86/bf16_rows.h"
#include "kernels/x86/tiles_amx.h"

enum { PREFETCH = 512 };

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
    bf16_put(t, tiles[0], oa, block);
    bf16_put(t, tiles[1], ob, block);
    if (!is_pair) return;
    _tile_stored(2, tiles[2], 64);
    _tile_stored(3, tiles[3], 64);
    bf16_put(t, tiles[2], oa, block + 1);
    bf16_put(t, tiles[3], ob, block + 1);
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
    k->pack_bf16 = bf16_pack;
    k->matmul_bf16 = matmul;
    k->has_bf16 = true;
}

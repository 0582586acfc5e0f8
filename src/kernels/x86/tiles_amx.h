/* SPDX-License-Identifier: Apache-2.0
 *
 * Tiles of 16 rows of 64 bytes, all eight of them.
 */
#ifndef KERNELS_X86_TILES_AMX_H
#define KERNELS_X86_TILES_AMX_H

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

enum { TILE = 16 };

/* Assembly, since gcc 12's own _tile_loadconfig names 8 of the 64 bytes as read. */
INLINE void configure_tiles(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.rows[i] = TILE;
        config.row_bytes[i] = 64;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

#endif

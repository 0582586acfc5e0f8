/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights of block types, repacked for integer products, and the activations that meet them.
 *
 * Weights [n_out, n_in] become panels of 16 outputs; a panel goes through n_in in groups of 32 (the
 * last panel is filled up with zeros). Within a group, numbers stand in quads of 4 along n_in, the
 * quads of the 16 outputs side by side (64 bytes): what one vpdpbusd, or one row of a tile, eats.
 * Numbers are stored unsigned, u = q + zero.
 *
 *   panel      exponents f32 [16] (FORM_TILE) | quants [n_groups, quant bytes]
 *              | scales [n_groups, 32] | supers [n_groups / 8, 64]
 *   quants
 *     Q8_0       8 quads of bytes: 512 bytes, zero 128
 *     Q4_0       4 x 64: quad 2j in the low nibbles, 2j + 1 in the high ones: 256, zero 8
 *     Q4_K       the same, zero 0
 *     Q5_K       the same and 64 bytes: bit j is the fifth bit of quad j: 320, zero 0
 *     Q6_K       the same and 2 x 64: bits 2(j % 4) of part j / 4 are quad j's: 384, zero 32
 *   scales
 *     Q8_0, Q4_0 f16 [16]
 *     Q4_K, Q5_K u8 sc [16], u8 m [16]
 *     Q6_K       i8 [16] of the group's first half, i8 [16] of its second
 *   supers       K types: f16 d [16], f16 dmin [16] (Q6_K: zeros), of 8 groups
 *
 * Activations are quantized by row and group of 32: d = max |x| / 127, q = x * (127 / max |x|),
 * rounded to nearest, ties to even. They come in blocks of 16 rows; a group of a block is a record
 *
 *   q i8 [16, 32] | d f32 [16] | -8 sum q i32 [16] | -128 sum q i32 [16] | d * sum q f32 [16]
 *     | -32 sum q of the halves i32 [2, 16]
 *
 * A group whose largest number is below PACKED_TINY counts as zeros; one with a NaN or infinity has
 * d NaN, so that every product with it is NaN.
 *
 * The product of a row and an output, with s = the group's scale and all sums in this order:
 *
 *   Q8_0, Q4_0   y = fma(float(sum u q - zero sum q), s * d, y)       for each group
 *   Q4_K, Q5_K   y = fma(float(sum u q), (dw * sc) * d, y), then y = fma(-(dmin * m), d sum q, y)
 *   Q6_K         y = fma(float(sum u q - 32 sum q), (dw * sc) * d, y) for each half of a group
 *
 * in float32, from y = 0; the bias is added last. Every tier gives these bits.
 *
 * Weights of bfloat16 need no packing; where a tier says so (cpu_kernels.has_bf16) they meet
 * activations rounded to bfloat16 (nearest, ties to even). Those come in blocks of 16 rows, too; a
 * group's record is [16 pairs of numbers, 16 rows, 2]. Sums are float32, in the tier's own order.
 *
 * FORM_TILE: where tiles multiply bfloat16, packed weights are dequantized in front of them, and
 * activations are rounded as above: a group's record is [16 rows, 32] with the middle numbers of
 * each quad swapped, each number times 2^TILE_SHIFT (so numbers from 2^40 on become infinite, and
 * the product NaN). A weight becomes, for output o,
 *
 *   e    = exponent of the largest |scale| of o's groups (K types: of the largest |d| or |dmin| of
 *          its supers, plus 7); -126 where all are 0, NaN where one is not finite
 *   s    = f16(scale 2^-e), K types f16((d sc) 2^-e); m = f16((dmin m) 2^-e)
 *   w    = f16(q s), Q4_K and Q5_K f16(q s - m), where q = u - zero
 *   tile = w rounded to 8 significant bits, ties away from zero, times 2^-112: float16 shifted by
 *          three bits is bfloat16 with an exponent that is too small by 112. Below 2^-14, zero.
 *   y    = (sum of tile x) 2^(e + 112 - TILE_SHIFT) + bias
 *
 * in float32, in the tier's own order; NaN where a scale of o is not finite. An f16 product is
 * rounded once, so 8 bits of a weight are right but for one in 16 ties.
 *
 * A GPU reads the same panels, and keeps weights exact but for Q6_K, whose q times its 8-bit scale
 * is rounded to bfloat16: cuda/mma.cuh. Its activations are its own: cuda/cuda_launch.h.
 */
#ifndef KERNELS_PACKED_H
#define KERNELS_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/dtype.h"

enum {
    PANEL_OUTS = 16,
    PACKED_ROWS = 16, /* rows of a block of activations */
    PACKED_GROUP = 32,
    PACKED_SUPER = 8, /* groups of a K type's block */
    PACKED_HEADER_BYTES = 64,
    PACKED_SCALE_BYTES = 32,
    PACKED_SUPER_BYTES = 64,
    /* offsets into a record of activations */
    RECORD_D = 512,
    RECORD_NEG8 = 576,
    RECORD_NEG128 = 640,
    RECORD_DSUM = 704,
    RECORD_NEG32 = 768,
    RECORD_BYTES = 896,
    RECORD_BF16_BYTES = 1024
};

#define PACKED_TINY 1e-30f

/* The types that are packed, for kernels that are compiled once for each. */
#define PACKED_TYPES(X) X(Q8_0) X(Q4_0) X(Q4_K) X(Q5_K) X(Q6_K)

/* Block types whose rows are whole groups (and whole blocks). */
bool packed_is_possible(dtype type, int32_t n_in);
/* Bytes of the quants of a group. Inline, so that it is a constant where the type is one. */
static inline size_t packed_quant_bytes(dtype type) {
    return type == DTYPE_Q8_0 ? 512 : type == DTYPE_Q5_K ? 320 : type == DTYPE_Q6_K ? 384 : 256;
}
size_t packed_panel_bytes(dtype type, int32_t n_in);
size_t packed_bytes(dtype type, int32_t n_out, int32_t n_in);

/* Where the parts of group g are, from the start of a panel; super only where the type has them. */
typedef struct packed_group {
    size_t quants, scale, super;
} packed_group;
packed_group packed_group_at(dtype type, int32_t n_in, int32_t g);
/* Sets a panel's exponents by its scales. */
void packed_set_exponents(dtype type, int32_t n_in, unsigned char *panel);

static inline int32_t packed_panels(int32_t n_out) {
    return (n_out + PANEL_OUTS - 1) / PANEL_OUTS;
}
static inline bool packed_has_supers(dtype type) {
    return type >= DTYPE_Q4_K;
}

/* Fills one panel from stored rows [n_out, n_in]; panel is 64-byte aligned. */
void packed_fill_panel(dtype type, const void *data, int32_t n_out, int32_t n_in, int32_t i_panel,
                       unsigned char *panel);

/* What activations a weight meets. */
typedef enum packed_form {
    FORM_FLOAT = 0, /* as they are */
    FORM_INT8 = 1,  /* quantized to 8 bits; packed weights */
    FORM_BF16 = 2,  /* rounded to bfloat16; weights of bfloat16 */
    FORM_TILE = 3   /* rounded to bfloat16; packed weights, dequantized */
} packed_form;

enum { TILE_SHIFT = 88 };

static inline size_t packed_record_bytes(packed_form form) {
    return form == FORM_INT8 ? RECORD_BYTES : RECORD_BF16_BYTES;
}

/* Blocks of n_rows rows, and their bytes: n_blocks * n_groups records. */
static inline int32_t packed_blocks(int32_t n_rows) {
    return (n_rows + PACKED_ROWS - 1) / PACKED_ROWS;
}
static inline size_t packed_rows_bytes(packed_form form, int32_t n_rows, int32_t n_in) {
    return (size_t)packed_blocks(n_rows) * (size_t)(n_in / PACKED_GROUP) *
           packed_record_bytes(form);
}

/* Quantizes groups [first_group, end_group) of one block: row r at x + r * x_stride, where x points
 * at the first number of first_group. */
typedef struct pack_tile {
    const float *x[PACKED_ROWS]; /* [n_rows] rows, each at its number 0 of first_group */
    unsigned char *records;      /* of first_group */
    int32_t n_rows, n_groups;
} pack_tile;

/* One block of rows by one panel. */
typedef struct packed_tile {
    float *y; /* row r at y + r * y_stride */
    size_t y_stride;
    const unsigned char *records; /* [n_groups] of the block */
    const unsigned char *panel;
    const unsigned char *next; /* the one that is wanted then, to be fetched meanwhile; or panel */
    const float *bias;         /* [n_outs] or NULL */
    dtype type;
    int32_t n_groups, n_rows, n_outs; /* n_rows, n_outs at most 16 */
} packed_tile;

/* All blocks of rows by some panels; FORM_TILE. */
typedef struct panels_tile {
    float *y; /* row r at y + r * y_stride */
    size_t y_stride;
    const unsigned char *blocks; /* all n_rows rows */
    const unsigned char *panels; /* the first one */
    const unsigned char *next;   /* two panels that are wanted after these; or NULL */
    const float *bias;           /* [n_outs] or NULL */
    dtype type;
    int32_t n_rows, n_in, n_outs; /* n_outs may end within a panel */
} panels_tile;

/* Rows in blocks by weights [n_outs, n_in] of bfloat16. n_outs at least 16, n_in whole groups. */
typedef struct bf16_tile {
    float *y; /* row r at y + r * y_stride */
    size_t y_stride;
    const unsigned char *blocks; /* all n_rows rows */
    const void *w;               /* row-major */
    const float *bias;           /* [n_outs] or NULL */
    int32_t n_rows, n_in, n_outs;
} bf16_tile;

#endif

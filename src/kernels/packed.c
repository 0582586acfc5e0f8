/* SPDX-License-Identifier: Apache-2.0
 *
 * Repacking of stored blocks into panels. Numbers of a group are first spread into bytes, then
 * written as quads: 32-bit words throughout, so that a model's load is bound by its file.
 */
#include "kernels/packed.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "quant/blocks.h"

/* What a group of one output says. */
typedef struct group {
    uint8_t u[PACKED_GROUP];
    uint16_t d, dmin;   /* f16 bits */
    uint8_t scale, min; /* K types; for Q6_K the two halves' i8 scales */
} group;

bool packed_is_possible(dtype type, int32_t n_in) {
    return dtype_is_block(type) && n_in > 0 && (size_t)n_in % dtype_block_len(type) == 0;
}

size_t packed_panel_bytes(dtype type, int32_t n_in) {
    size_t n_groups = (size_t)n_in / PACKED_GROUP;
    size_t bytes = PACKED_HEADER_BYTES + n_groups * (packed_quant_bytes(type) + PACKED_SCALE_BYTES);
    if (packed_has_supers(type)) bytes += n_groups / PACKED_SUPER * PACKED_SUPER_BYTES;
    return (bytes + 63) & ~(size_t)63;
}

packed_group packed_group_at(dtype type, int32_t n_in, int32_t g) {
    size_t n_groups = (size_t)n_in / PACKED_GROUP, i = (size_t)g;
    size_t scales = PACKED_HEADER_BYTES + n_groups * packed_quant_bytes(type);
    return (packed_group){
        .quants = PACKED_HEADER_BYTES + i * packed_quant_bytes(type),
        .scale = scales + i * PACKED_SCALE_BYTES,
        .super = scales + n_groups * PACKED_SCALE_BYTES + i / PACKED_SUPER * PACKED_SUPER_BYTES};
}

size_t packed_bytes(dtype type, int32_t n_out, int32_t n_in) {
    return (size_t)packed_panels(n_out) * packed_panel_bytes(type, n_in);
}

static void read_q8_0(const unsigned char *row, int32_t g, group *to) {
    block_q8_0 block;
    memcpy(&block, row + (size_t)g * sizeof block, sizeof block);
    to->d = block.d;
    for (int i = 0; i < PACKED_GROUP; i++) to->u[i] = (uint8_t)(block.qs[i] + 128);
}

static void read_q4_0(const unsigned char *row, int32_t g, group *to) {
    block_q4_0 block;
    memcpy(&block, row + (size_t)g * sizeof block, sizeof block);
    to->d = block.d;
    for (int i = 0; i < 16; i++) {
        to->u[i] = block.qs[i] & 15;
        to->u[i + 16] = block.qs[i] >> 4;
    }
}

/* The 6-bit scale and min of group j of a block of Q4_K or Q5_K. */
static void read_scale(const uint8_t scales[12], int j, group *to) {
    if (j < 4) {
        to->scale = scales[j] & 63;
        to->min = scales[j + 4] & 63;
    } else {
        to->scale = (uint8_t)((scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4);
        to->min = (uint8_t)((scales[j + 4] >> 4) | (scales[j] >> 6) << 4);
    }
}

static void read_q4_k(const unsigned char *row, int32_t g, group *to) {
    block_q4_k block;
    int j = g % PACKED_SUPER;
    memcpy(&block, row + (size_t)(g / PACKED_SUPER) * sizeof block, sizeof block);
    to->d = block.d;
    to->dmin = block.dmin;
    read_scale(block.scales, j, to);
    const uint8_t *qs = block.qs + j / 2 * 32;
    int shift = j % 2 * 4;
    for (int i = 0; i < PACKED_GROUP; i++) to->u[i] = qs[i] >> shift & 15;
}

static void read_q5_k(const unsigned char *row, int32_t g, group *to) {
    block_q5_k block;
    int j = g % PACKED_SUPER;
    memcpy(&block, row + (size_t)(g / PACKED_SUPER) * sizeof block, sizeof block);
    to->d = block.d;
    to->dmin = block.dmin;
    read_scale(block.scales, j, to);
    const uint8_t *qs = block.qs + j / 2 * 32;
    int shift = j % 2 * 4;
    for (int i = 0; i < PACKED_GROUP; i++)
        to->u[i] = (uint8_t)((qs[i] >> shift & 15) | (block.qh[i] >> j & 1) << 4);
}

static void read_q6_k(const unsigned char *row, int32_t g, group *to) {
    block_q6_k block;
    int j = g % PACKED_SUPER, quarter = j % 4;
    memcpy(&block, row + (size_t)(g / PACKED_SUPER) * sizeof block, sizeof block);
    to->d = block.d;
    to->dmin = 0;
    to->scale = (uint8_t)block.scales[2 * j];
    to->min = (uint8_t)block.scales[2 * j + 1];
    const uint8_t *ql = block.ql + j / 4 * 64 + quarter % 2 * 32, *qh = block.qh + j / 4 * 32;
    int shift = quarter / 2 * 4;
    for (int i = 0; i < PACKED_GROUP; i++)
        to->u[i] = (uint8_t)((ql[i] >> shift & 15) | (qh[i] >> (2 * quarter) & 3) << 4);
}

static void read_group(dtype type, const unsigned char *row, int32_t g, group *to) {
    switch (type) {
        case DTYPE_Q8_0:
            read_q8_0(row, g, to);
            break;
        case DTYPE_Q4_0:
            read_q4_0(row, g, to);
            break;
        case DTYPE_Q4_K:
            read_q4_k(row, g, to);
            break;
        case DTYPE_Q5_K:
            read_q5_k(row, g, to);
            break;
        case DTYPE_Q6_K:
            read_q6_k(row, g, to);
            break;
        default:
            assert(!"a block type");
    }
}

static uint32_t quad_of(const group *from, int j) {
    uint32_t quad;
    memcpy(&quad, from->u + 4 * j, sizeof quad);
    return quad;
}

static void put(unsigned char *to, uint32_t word) {
    memcpy(to, &word, sizeof word);
}

/* Writes output o's part of a group. Bytes are little-endian words, as on every tier's machine. */
static void write_quants(dtype type, const group *from, int o, unsigned char *quants) {
    if (type == DTYPE_Q8_0) {
        for (int j = 0; j < 8; j++) put(quants + 64 * j + 4 * o, quad_of(from, j));
        return;
    }
    const uint32_t nibble = 0x0F0F0F0Fu;
    for (int j = 0; j < 4; j++)
        put(quants + 64 * j + 4 * o,
            (quad_of(from, 2 * j) & nibble) | (quad_of(from, 2 * j + 1) & nibble) << 4);
    if (type == DTYPE_Q5_K) {
        uint32_t bits = 0;
        for (int j = 0; j < 8; j++) bits |= (quad_of(from, j) >> 4 & 0x01010101u) << j;
        put(quants + 256 + 4 * o, bits);
    } else if (type == DTYPE_Q6_K) {
        for (int part = 0; part < 2; part++) {
            uint32_t bits = 0;
            for (int j = 0; j < 4; j++)
                bits |= (quad_of(from, 4 * part + j) >> 4 & 0x03030303u) << (2 * j);
            put(quants + 256 + 64 * part + 4 * o, bits);
        }
    }
}

static float half_size(const unsigned char *halves, int o) {
    uint16_t bits;
    memcpy(&bits, halves + 2 * o, sizeof bits);
    return fabsf(dtype_from_f16(bits));
}

static float exponent_of(dtype type, int32_t n_in, const unsigned char *panel, int o) {
    float top = 0.0f;
    for (int32_t g = 0; g < n_in / PACKED_GROUP; g++) {
        packed_group at = packed_group_at(type, n_in, g);
        float sizes[2] = {half_size(panel + (packed_has_supers(type) ? at.super : at.scale), o),
                          0.0f};
        if (packed_has_supers(type)) sizes[1] = half_size(panel + at.super + 32, o);
        for (int i = 0; i < 2; i++) {
            if (!isfinite(sizes[i])) return NAN;
            if (sizes[i] > top) top = sizes[i];
        }
    }
    if (top == 0.0f) return -126.0f;
    return logbf(top) + (packed_has_supers(type) ? 7.0f : 0.0f);
}

void packed_set_exponents(dtype type, int32_t n_in, unsigned char *panel) {
    for (int o = 0; o < PANEL_OUTS; o++) {
        float e = exponent_of(type, n_in, panel, o);
        memcpy(panel + sizeof e * (size_t)o, &e, sizeof e);
    }
}

void packed_fill_panel(dtype type, const void *data, int32_t n_out, int32_t n_in, int32_t i_panel,
                       unsigned char *panel) {
    int32_t n_groups = n_in / PACKED_GROUP, first = i_panel * PANEL_OUTS;
    size_t row_bytes = dtype_size(type, (size_t)n_in);
    if (n_out - first < PANEL_OUTS) memset(panel, 0, packed_panel_bytes(type, n_in));
    for (int o = 0; o < PANEL_OUTS && first + o < n_out; o++) {
        const unsigned char *row = (const unsigned char *)data + (size_t)(first + o) * row_bytes;
        for (int32_t g = 0; g < n_groups; g++) {
            group one;
            packed_group at = packed_group_at(type, n_in, g);
            unsigned char *scale = panel + at.scale, *super = panel + at.super;
            read_group(type, row, g, &one);
            write_quants(type, &one, o, panel + at.quants);
            if (!packed_has_supers(type)) {
                memcpy(scale + 2 * o, &one.d, sizeof one.d);
                continue;
            }
            scale[o] = one.scale;
            scale[16 + o] = one.min;
            memcpy(super + 2 * o, &one.d, sizeof one.d);
            memcpy(super + 32 + 2 * o, &one.dmin, sizeof one.dmin);
        }
    }
    packed_set_exponents(type, n_in, panel);
}

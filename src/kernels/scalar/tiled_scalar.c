/* SPDX-License-Identifier: Apache-2.0
 *
 * The specification of FORM_TILE: kernels/packed.h, line by line.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/scalar/packed_scalar.h"

static const int QUAD_ORDER[4] = {0, 2, 1, 3};

static void pack(const pack_tile *t) {
    for (int32_t g = 0; g < t->n_groups; g++)
        for (int32_t r = 0; r < t->n_rows; r++)
            for (int i = 0; i < PACKED_GROUP; i++) {
                size_t from = (size_t)g * PACKED_GROUP + (size_t)(i / 4 * 4 + QUAD_ORDER[i % 4]);
                uint16_t bits = dtype_to_bf16(ldexpf(t->x[r][from], TILE_SHIFT));
                memcpy(t->records + (size_t)g * RECORD_BF16_BYTES + 64 * r + 2 * i, &bits,
                       sizeof bits);
            }
}

static float to_half(float value) {
    return dtype_from_f16(dtype_to_f16(value));
}

/* A float16 read as bfloat16 after a shift by three bits, rounded half away from zero. */
static float tile_number(float half) {
    uint16_t bits = dtype_to_f16(half);
    uint16_t size = (uint16_t)(((bits & 0x7FFF) + 4) >> 3);
    if (size < 0x80) return 0.0f; /* subnormal: tiles read zero */
    return dtype_from_bf16((uint16_t)((bits & 0x8000) | size));
}

static float tile_weight(const panels_tile *t, const unsigned char *panel, float e, int32_t g,
                         int i, int o) {
    packed_group at = packed_group_at(t->type, t->n_in, g);
    const unsigned char *scale = panel + at.scale, *super = panel + at.super;
    const unsigned char *quants = panel + at.quants;
    int32_t u = number_at(t->type, quants, o, i);
    float s = half_at(scale, o), m = 0.0f;
    if (t->type == DTYPE_Q8_0) u -= 128;
    if (t->type == DTYPE_Q4_0) u -= 8;
    if (t->type == DTYPE_Q6_K) {
        u -= 32;
        s = half_at(super, o) * (float)(int8_t)scale[i / 16 * 16 + o];
    } else if (packed_has_supers(t->type)) {
        s = half_at(super, o) * (float)scale[o];
        m = to_half(ldexpf(half_at(super + 32, o) * (float)scale[16 + o], (int)-e));
    }
    return tile_number(fmaf((float)u, to_half(ldexpf(s, (int)-e)), -m));
}

static void matmul(const panels_tile *t) {
    int32_t n_groups = t->n_in / PACKED_GROUP;
    size_t block_bytes = (size_t)n_groups * RECORD_BF16_BYTES;
    for (int32_t out = 0; out < t->n_outs; out++) {
        int o = out % PANEL_OUTS;
        const unsigned char *panel =
            t->panels + (size_t)(out / PANEL_OUTS) * packed_panel_bytes(t->type, t->n_in);
        float e;
        memcpy(&e, panel + sizeof e * (size_t)o, sizeof e);
        for (size_t r = 0; r < (size_t)t->n_rows; r++) {
            const unsigned char *x =
                t->blocks + r / PACKED_ROWS * block_bytes + r % PACKED_ROWS * 64;
            float y = isfinite(e) ? 0.0f : NAN;
            for (int32_t i = 0; i < t->n_in && isfinite(e); i++) {
                int32_t g = i / PACKED_GROUP, at = i % PACKED_GROUP;
                int number = at / 4 * 4 + QUAD_ORDER[at % 4];
                y += tile_weight(t, panel, e, g, number, o) *
                     bf16_at(x + (size_t)g * RECORD_BF16_BYTES, (size_t)at);
            }
            y = ldexpf(y, (isfinite(e) ? (int)e : 0) + 112 - TILE_SHIFT);
            t->y[r * t->y_stride + (size_t)out] = t->bias ? y + t->bias[out] : y;
        }
    }
}

void tiled_fill_scalar(cpu_kernels *k) {
    k->pack_tiled = pack;
    k->matmul_tiled = matmul;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Encoding of blocks of 256 numbers in groups whose scales are small integers themselves.
 *
 * Each group is fitted by itself first. Then all share d (and dmin), from which integers for the
 * groups follow: for each group the integers next to its fit are tried with all its levels chosen
 * anew, since a rounded scale wants other levels, and another offset, than the exact one. With
 * integers and levels fixed, d (and dmin) solve linear equations; that and the integers are
 * repeated while the error falls.
 */
#include <math.h>
#include <string.h>

#include "quant/encode_block.h"
#include "quant/fit.h"

enum {
    ROUNDS_MAX = 3,
    AFFINE_LEN = 32,
    AFFINE_GROUPS = BLOCK_K_LEN / AFFINE_LEN,
    SIGNED_LEN = 16,
    SIGNED_GROUPS = BLOCK_K_LEN / SIGNED_LEN
};

static int clamp(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

static int nearest(float value, int low, int high) {
    return (int)fit_level(value, (float)low, (float)high);
}

/* ---- Q4_K, Q5_K: scale and offset ----------------------------------------------------------- */

typedef struct affine_code {
    uint16_t d_bits, dmin_bits;
    float d, dmin; /* as the bits have them, in the block's own size */
    int sc[AFFINE_GROUPS], m[AFFINE_GROUPS];
    float error;
} affine_code;

static fit_line line_of(const affine_code *code, int g) {
    return (fit_line){code->d * (float)code->sc[g], code->dmin * (float)code->m[g]};
}

/* The best integers of group g within one of those next to a line, under the code's d and dmin. */
static float choose_affine(const float *x, const float *w, float high, fit_line line,
                           affine_code *code, int g) {
    int sc0 = code->d > 0 ? nearest(line.scale / code->d, 0, 63) : 0;
    int m0 = code->dmin > 0 ? nearest(line.offset / code->dmin, 0, 63) : 0;
    float best = INFINITY;
    code->sc[g] = sc0;
    code->m[g] = m0;
    for (int sc = clamp(sc0 - 1, 0, 63); sc <= clamp(sc0 + 1, 0, 63); sc++)
        for (int m = clamp(m0 - 1, 0, 63); m <= clamp(m0 + 1, 0, 63); m++) {
            fit_line trial = {code->d * (float)sc, code->dmin * (float)m};
            float error = fit_affine_error(x, w, AFFINE_LEN, high, trial);
            if (error < best) {
                best = error;
                code->sc[g] = sc;
                code->m[g] = m;
            }
        }
    return best;
}

static affine_code code_affine(const encode_block *b, float high, float d, float dmin,
                               const fit_line lines[AFFINE_GROUPS]) {
    affine_code code = {.error = 0};
    code.d_bits = encode_block_scale(b, d > 0 ? d : 0, &code.d);
    code.dmin_bits = encode_block_scale(b, dmin > 0 ? dmin : 0, &code.dmin);
    for (int g = 0; g < AFFINE_GROUPS; g++)
        code.error +=
            choose_affine(b->x + g * AFFINE_LEN, b->w + g * AFFINE_LEN, high, lines[g], &code, g);
    return code;
}

/* The best d and dmin for the levels that a code chooses. */
static void solve_affine(const encode_block *b, float high, const affine_code *code, float *d,
                         float *dmin) {
    double aa = 0, am = 0, mm = 0, ax = 0, mx = 0;
    for (int g = 0; g < AFFINE_GROUPS; g++) {
        fit_line line = line_of(code, g);
        float inverse = line.scale > 0 ? 1 / line.scale : 0;
        for (int i = g * AFFINE_LEN; i < (g + 1) * AFFINE_LEN; i++) {
            float q = fit_level((b->x[i] + line.offset) * inverse, 0, high);
            double a = (double)(q * (float)code->sc[g]), m = code->m[g], w = b->w[i], x = b->x[i];
            aa += w * a * a;
            am += w * a * m;
            mm += w * m * m;
            ax += w * a * x;
            mx += w * m * x;
        }
    }
    /* x ~ d a - dmin m */
    double determinant = aa * mm - am * am;
    if (determinant > 1e-9 * aa * mm) {
        *d = (float)((ax * mm - mx * am) / determinant);
        *dmin = (float)((ax * am - mx * aa) / determinant);
    } else if (aa > 0) {
        *d = (float)((ax + (double)code->dmin * am) / aa);
    }
}

/* levels [256] of the best code. */
static affine_code fit_affine_block(const encode_block *b, int high, uint8_t *levels) {
    fit_line lines[AFFINE_GROUPS];
    float scale = 0, offset = 0;
    for (int g = 0; g < AFFINE_GROUPS; g++) {
        lines[g] =
            fit_affine(b->x + g * AFFINE_LEN, b->w + g * AFFINE_LEN, AFFINE_LEN, (float)high);
        if (lines[g].scale > scale) scale = lines[g].scale;
        if (lines[g].offset > offset) offset = lines[g].offset;
    }
    affine_code best = code_affine(b, (float)high, scale / 63, offset / 63, lines);
    for (int round = 0; round < ROUNDS_MAX; round++) {
        float d = best.d, dmin = best.dmin;
        solve_affine(b, (float)high, &best, &d, &dmin);
        for (int g = 0; g < AFFINE_GROUPS; g++) lines[g] = line_of(&best, g);
        affine_code code = code_affine(b, (float)high, d, dmin, lines);
        if (!(code.error < best.error)) break;
        best = code;
    }
    for (int i = 0; i < BLOCK_K_LEN; i++) {
        fit_line line = line_of(&best, i / AFFINE_LEN);
        float q = line.scale > 0 ? (b->x[i] + line.offset) / line.scale : 0;
        levels[i] = (uint8_t)nearest(q, 0, high);
    }
    return best;
}

/* The inverse of block_k_scale. */
static void pack_scales(const affine_code *code, uint8_t scales[12]) {
    memset(scales, 0, 12);
    for (int g = 0; g < AFFINE_GROUPS / 2; g++) {
        scales[g] = (uint8_t)(code->sc[g] | code->sc[g + 4] >> 4 << 6);
        scales[g + 4] = (uint8_t)(code->m[g] | code->m[g + 4] >> 4 << 6);
        scales[g + 8] = (uint8_t)((code->sc[g + 4] & 15) | (code->m[g + 4] & 15) << 4);
    }
}

void encode_block_q4_k(const float *x, const float *importance, void *out) {
    block_q4_k block = {0};
    encode_block b;
    uint8_t levels[BLOCK_K_LEN];
    if (encode_block_init(&b, x, importance, BLOCK_K_LEN)) {
        affine_code code = fit_affine_block(&b, 15, levels);
        block.d = code.d_bits;
        block.dmin = code.dmin_bits;
        pack_scales(&code, block.scales);
        for (int i = 0; i < BLOCK_K_LEN; i++)
            block.qs[i / 64 * 32 + i % 32] |= (uint8_t)(levels[i] << i / 32 % 2 * 4);
    }
    memcpy(out, &block, sizeof block);
}

void encode_block_q5_k(const float *x, const float *importance, void *out) {
    block_q5_k block = {0};
    encode_block b;
    uint8_t levels[BLOCK_K_LEN];
    if (encode_block_init(&b, x, importance, BLOCK_K_LEN)) {
        affine_code code = fit_affine_block(&b, 31, levels);
        block.d = code.d_bits;
        block.dmin = code.dmin_bits;
        pack_scales(&code, block.scales);
        for (int i = 0; i < BLOCK_K_LEN; i++) {
            block.qs[i / 64 * 32 + i % 32] |= (uint8_t)((levels[i] & 15) << i / 32 % 2 * 4);
            block.qh[i % 32] |= (uint8_t)(levels[i] >> 4 << i / 32);
        }
    }
    memcpy(out, &block, sizeof block);
}

/* ---- Q6_K: a scale of either sign ----------------------------------------------------------- */

typedef struct signed_code {
    uint16_t d_bits;
    float d;
    int sc[SIGNED_GROUPS];
    float error;
} signed_code;

static signed_code code_signed(const encode_block *b, float d, const float scales[SIGNED_GROUPS]) {
    signed_code code = {.error = 0};
    code.d_bits = encode_block_scale(b, d, &code.d);
    for (int g = 0; g < SIGNED_GROUPS; g++) {
        const float *x = b->x + g * SIGNED_LEN, *w = b->w + g * SIGNED_LEN;
        int sc0 = code.d != 0 ? nearest(scales[g] / code.d, -128, 127) : 0;
        float best = INFINITY;
        code.sc[g] = sc0;
        for (int sc = clamp(sc0 - 1, -128, 127); sc <= clamp(sc0 + 1, -128, 127); sc++) {
            float error = fit_scale_error(x, w, SIGNED_LEN, -32, 31, code.d * (float)sc);
            if (error < best) {
                best = error;
                code.sc[g] = sc;
            }
        }
        code.error += best;
    }
    return code;
}

/* The best d for the levels that a code chooses. */
static float solve_signed(const encode_block *b, const signed_code *code) {
    double aa = 0, ax = 0;
    for (int i = 0; i < BLOCK_K_LEN; i++) {
        int sc = code->sc[i / SIGNED_LEN];
        float scale = code->d * (float)sc;
        float q = fit_level(scale != 0 ? b->x[i] / scale : 0, -32, 31);
        double a = (double)(q * (float)sc), w = b->w[i];
        aa += w * a * a;
        ax += w * a * (double)b->x[i];
    }
    return aa > 0 ? (float)(ax / aa) : code->d;
}

static signed_code fit_signed_block(const encode_block *b) {
    float scales[SIGNED_GROUPS], largest = 0;
    for (int g = 0; g < SIGNED_GROUPS; g++) {
        scales[g] = fit_scale(b->x + g * SIGNED_LEN, b->w + g * SIGNED_LEN, SIGNED_LEN, -32, 31);
        if (fabsf(scales[g]) > fabsf(largest)) largest = scales[g];
    }
    signed_code best = code_signed(b, largest / -128, scales);
    for (int round = 0; round < ROUNDS_MAX; round++) {
        for (int g = 0; g < SIGNED_GROUPS; g++) scales[g] = best.d * (float)best.sc[g];
        signed_code code = code_signed(b, solve_signed(b, &best), scales);
        if (!(code.error < best.error)) break;
        best = code;
    }
    return best;
}

void encode_block_q6_k(const float *x, const float *importance, void *out) {
    block_q6_k block = {0};
    encode_block b;
    if (encode_block_init(&b, x, importance, BLOCK_K_LEN)) {
        signed_code code = fit_signed_block(&b);
        block.d = code.d_bits;
        for (int g = 0; g < SIGNED_GROUPS; g++) block.scales[g] = (int8_t)code.sc[g];
        for (int i = 0; i < BLOCK_K_LEN; i++) {
            float scale = code.d * (float)code.sc[i / SIGNED_LEN];
            int q = 32 + nearest(scale != 0 ? b.x[i] / scale : 0, -32, 31);
            int half = i / 128, run = i / 32 % 4, l = i % 32;
            block.ql[half * 64 + run % 2 * 32 + l] |= (uint8_t)((q & 15) << run / 2 * 4);
            block.qh[half * 32 + l] |= (uint8_t)(q >> 4 << 2 * run);
        }
    }
    memcpy(out, &block, sizeof block);
}

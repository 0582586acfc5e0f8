/* SPDX-License-Identifier: Apache-2.0
 *
 * Products on packed weights with the tiles of AMX (FORM_TILE of kernels/packed.h). The groups of
 * two panels are dequantized to bfloat16, a chunk at a time, into memory that stays in the first
 * cache; there all blocks of rows meet them, two blocks by two panels with four tiles of sums.
 *
 * Dequantizing is what costs, below about 48 rows: AVX-512 multiplies no bfloat16, so weights are
 * made as float16, 32 numbers an instruction, and shifted into place.
 */
#include <assert.h>
#include <immintrin.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx512.h"
#include "kernels/x86/tiles_amx.h"

enum {
    CHUNK = 8,               /* groups */
    PASS_PAIRS = 4,          /* pairs of blocks whose sums are held at once */
    GROUP_TILE_BYTES = 1024, /* 16 pairs of numbers, 16 outputs, 2 */
    TILE_NUMBERS = TILE * TILE,
    PREFETCH = 1024,
    LOST_EXPONENT = 112 /* of float16's bits read as bfloat16 */
};

static void pack(const pack_tile *t) {
    const __m512 shift = _mm512_set1_ps(0x1p88f);
    _Static_assert(TILE_SHIFT == 88, "the number above");
    for (int32_t r = 0; r < t->n_rows; r++)
        for (int32_t g = 0; g < t->n_groups; g++) {
            const float *x = t->x[r] + (size_t)g * PACKED_GROUP;
            __m512 a = _mm512_mul_ps(_mm512_loadu_ps(x), shift);
            __m512 b = _mm512_mul_ps(_mm512_loadu_ps(x + 16), shift);
            __m512i words = (__m512i)_mm512_cvtne2ps_pbh(b, a);
            words = _mm512_shufflehi_epi16(_mm512_shufflelo_epi16(words, 0xD8), 0xD8);
            _mm512_store_si512(t->records + (size_t)g * RECORD_BF16_BYTES + 64 * (size_t)r, words);
        }
}

/* A panel on its way. */
typedef struct column {
    const unsigned char *quants, *scales, *supers;
    ptrdiff_t ahead;              /* bytes to the panel that comes after it; 0: none does */
    const unsigned char *records; /* of the block whose rows will be wanted next */
    __m512 exponents;             /* e of kernels/packed.h */
} column;

static column column_of(dtype type, const unsigned char *panel, const unsigned char *next,
                        const unsigned char *records, int32_t n_groups) {
    column c = {
        .ahead = next ? next - panel : 0, .records = records, .exponents = _mm512_load_ps(panel)};
    c.quants = panel + PACKED_HEADER_BYTES;
    c.scales = c.quants + (size_t)n_groups * packed_quant_bytes(type);
    c.supers = c.scales + (size_t)n_groups * PACKED_SCALE_BYTES;
    return c;
}

/* float16 of 16 outputs, each for a pair of numbers. */
INLINE __m512h pairs_of(__m512 s, __m512 exponents) {
    const __m512 zero = _mm512_setzero_ps();
    __m256i half = _mm512_cvtps_ph(_mm512_scalef_ps(s, _mm512_sub_ps(zero, exponents)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512i words = _mm512_cvtepu16_epi32(half);
    return _mm512_castsi512_ph(_mm512_or_si512(words, _mm512_slli_epi32(words, 16)));
}

INLINE __m512 halves(const unsigned char *p) {
    return _mm512_cvtph_ps(_mm256_load_si256((const void *)p));
}

/* What comes soon to the first cache, what comes in the next panel to the second. */
INLINE void prefetch_quants(const column *c, const unsigned char *w) {
    _mm_prefetch((const char *)w + PREFETCH, _MM_HINT_T0);
    _mm_prefetch((const char *)w + c->ahead, _MM_HINT_T1);
}

/* For each group, the rows that it will meet, and its scale in the next panel. */
INLINE void prefetch_next(const column *c, int32_t g) {
    const char *record = (const char *)c->records + (size_t)g * RECORD_BF16_BYTES;
    for (size_t i = 0; i < RECORD_BF16_BYTES; i += 64) _mm_prefetch(record + i, _MM_HINT_T0);
    if (g % 2 == 0)
        _mm_prefetch((const char *)c->scales + (size_t)g * PACKED_SCALE_BYTES + c->ahead,
                     _MM_HINT_T1);
}

/* Scale and minimum of a group; Q6_K: the scales of its halves. */
INLINE void scales_of(dtype type, const column *c, int32_t g, __m512h *s, __m512h *m) {
    const unsigned char *scale = c->scales + (size_t)g * PACKED_SCALE_BYTES;
    if (!packed_has_supers(type)) {
        *s = *m = pairs_of(halves(scale), c->exponents);
        return;
    }
    const unsigned char *super = c->supers + (size_t)(g / PACKED_SUPER) * PACKED_SUPER_BYTES;
    __m128i first = _mm_load_si128((const void *)scale);
    __m128i second = _mm_load_si128((const void *)(scale + 16));
    bool is_signed = type == DTYPE_Q6_K;
    __m512i wide_first = is_signed ? _mm512_cvtepi8_epi32(first) : _mm512_cvtepu8_epi32(first);
    __m512i wide_second = is_signed ? _mm512_cvtepi8_epi32(second) : _mm512_cvtepu8_epi32(second);
    __m512 dw = halves(super), dmin = is_signed ? dw : halves(super + 32);
    *s = pairs_of(_mm512_mul_ps(dw, _mm512_cvtepi32_ps(wide_first)), c->exponents);
    *m = pairs_of(_mm512_mul_ps(dmin, _mm512_cvtepi32_ps(wide_second)), c->exponents);
}

/* Small integers, or integers of which only the low bits count, as float16. */
INLINE __m512h integers(__m512i words, int low_bits, float zero) {
    const __m512i one = _mm512_set1_epi16(0x6400); /* 1024, whose last bit is 1 */
    __m512i u = _mm512_ternarylogic_epi32(words, _mm512_set1_epi16((short)((1 << low_bits) - 1)),
                                          one, 0xEA); /* (words & low) | one */
    return _mm512_sub_ph(_mm512_castsi512_ph(u), _mm512_set1_ph((_Float16)(1024.0f + zero)));
}

/* float16 to what the tile takes: three bits fewer, rounded. */
INLINE void put_pairs(unsigned char *to, __m512h w) {
    const __m512i eighth = _mm512_set1_epi16(4096); /* (w * 4096 + 2^14) >> 15 */
    const __m512i keep = _mm512_set1_epi16((short)0x8FFF);
    __m512i bits = _mm512_mulhrs_epi16(_mm512_castph_si512(w), eighth);
    _mm512_store_si512(to, _mm512_and_si512(bits, keep));
}

/* Of a number's bits the low five are looked at, and the fifth is not its own in 4-bit types. */
static const uint16_t SIGNED_4[16] = {0xC800, 0xC700, 0xC600, 0xC500, 0xC400, 0xC200,
                                      0xC000, 0xBC00, 0x0000, 0x3C00, 0x4000, 0x4200,
                                      0x4400, 0x4500, 0x4600, 0x4700};
static const uint16_t UNSIGNED_5[32] = {
    0x0000, 0x3C00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700, 0x4800, 0x4880, 0x4900,
    0x4980, 0x4A00, 0x4A80, 0x4B00, 0x4B80, 0x4C00, 0x4C40, 0x4C80, 0x4CC0, 0x4D00, 0x4D40,
    0x4D80, 0x4DC0, 0x4E00, 0x4E40, 0x4E80, 0x4EC0, 0x4F00, 0x4F40, 0x4F80, 0x4FC0};

INLINE __m512i integer_table(dtype type) {
    if (type == DTYPE_Q5_K) return _mm512_loadu_si512(UNSIGNED_5);
    const uint16_t *table = type == DTYPE_Q4_0 ? SIGNED_4 : UNSIGNED_5;
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)table));
}

/* Groups [first, first + n) of a panel as tiles: row 2t is numbers 0 and 2 of quad t, row 2t + 1
 * its numbers 1 and 3. */
INLINE void dequantize(dtype type, const column *c, int32_t first, int32_t n, unsigned char *to) {
    const size_t quant_bytes = packed_quant_bytes(type);
    const __m512i below = _mm512_set1_epi16(15);
    const __m512i table = integer_table(type);
    const unsigned char *w = c->quants + (size_t)first * quant_bytes;
    for (int32_t g = first; g < first + n; g++, w += quant_bytes, to += GROUP_TILE_BYTES) {
        __m512h s, m;
        scales_of(type, c, g, &s, &m);
        prefetch_next(c, g);
        if (type == DTYPE_Q8_0) {
#pragma GCC unroll 8
            for (int t = 0; t < 8; t++) {
                __m512i v = _mm512_load_si512(w + 64 * t);
                prefetch_quants(c, w + 64 * t);
                put_pairs(to + 128 * t, _mm512_mul_ph(integers(v, 8, 128.0f), s));
                put_pairs(to + 128 * t + 64,
                          _mm512_mul_ph(integers(_mm512_srli_epi16(v, 8), 8, 128.0f), s));
            }
            continue;
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            __m512i v = _mm512_load_si512(w + 64 * j);
            prefetch_quants(c, w + 64 * j);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                const int quad = 2 * j + i % 2, is_odd = i / 2;
                __m512i u = i ? _mm512_srli_epi16(v, (unsigned)(4 * i)) : v;
                if (type == DTYPE_Q5_K) { /* bit 4: bit `quad` of the byte */
                    __m512i plane = _mm512_load_si512(w + 256);
                    const int at = quad + 8 * is_odd;
                    plane = at < 4 ? _mm512_slli_epi16(plane, (unsigned)(4 - at) & 15)
                                   : _mm512_srli_epi16(plane, (unsigned)(at - 4) & 15);
                    u = _mm512_ternarylogic_epi32(below, u, plane, 0xCA);
                }
                __m512h q;
                if (type == DTYPE_Q6_K) { /* bits 4 and 5: bits 2 (quad % 4) of the part's byte */
                    __m512i plane = _mm512_load_si512(w + 256 + 64 * (quad / 4));
                    const int at = 2 * (quad % 4) + 8 * is_odd;
                    plane = at < 4 ? _mm512_slli_epi16(plane, (unsigned)(4 - at) & 15)
                                   : _mm512_srli_epi16(plane, (unsigned)(at - 4) & 15);
                    q = integers(_mm512_ternarylogic_epi32(below, u, plane, 0xCA), 6, 32.0f);
                } else {
                    q = _mm512_castsi512_ph(_mm512_permutexvar_epi16(u, table));
                }
                __m512h x = type == DTYPE_Q4_K || type == DTYPE_Q5_K
                                ? _mm512_fmsub_ph(q, s, m)
                                : _mm512_mul_ph(q, type == DTYPE_Q6_K && quad >= 4 ? m : s);
                put_pairs(to + 128 * quad + 64 * is_odd, x);
            }
        }
    }
}

static void dequantize_chunk(dtype type, const column *c, int32_t first, int32_t n,
                             unsigned char *to) {
    switch (type) {
#define CASE(name)                                 \
    case DTYPE_##name:                             \
        dequantize(DTYPE_##name, c, first, n, to); \
        break;
        PACKED_TYPES(CASE)
#undef CASE
        default:
            assert(!"a packed type");
    }
}

/* Sums of two blocks (is_tall) by two panels (is_wide): tiles 0, 1 of the first block's. */
INLINE void multiply(const unsigned char *xa, const unsigned char *xb, const unsigned char *wa,
                     const unsigned char *wb, int32_t n, bool is_tall, bool is_wide) {
    for (int32_t g = 0; g < n; g++) {
        size_t x = (size_t)g * RECORD_BF16_BYTES, w = (size_t)g * GROUP_TILE_BYTES;
        _tile_loadd(4, xa + x, 64);
        _tile_loadd(6, wa + w, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (is_wide) {
            _tile_loadd(7, wb + w, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (!is_tall) continue;
        _tile_loadd(5, xb + x, 64);
        _tile_dpbf16ps(2, 5, 6);
        if (is_wide) _tile_dpbf16ps(3, 5, 7);
    }
}

INLINE void load_sums(const float *sums) {
    _tile_loadd(0, sums, 64);
    _tile_loadd(1, sums + TILE_NUMBERS, 64);
    _tile_loadd(2, sums + 2 * TILE_NUMBERS, 64);
    _tile_loadd(3, sums + 3 * TILE_NUMBERS, 64);
}

INLINE void zero_sums(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

INLINE void store_sums(float *sums) {
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + TILE_NUMBERS, 64);
    _tile_stored(2, sums + 2 * TILE_NUMBERS, 64);
    _tile_stored(3, sums + 3 * TILE_NUMBERS, 64);
}

/* Sums of a block by a panel to y, from output o on. */
static void put(const panels_tile *t, const float *sums, const column *c, int32_t block,
                int32_t o) {
    const __m512 lost = _mm512_set1_ps((float)(LOST_EXPONENT - TILE_SHIFT));
    __m512 factor = _mm512_scalef_ps(_mm512_set1_ps(1.0f), _mm512_add_ps(c->exponents, lost));
    __mmask16 mask = first_lanes(t->n_outs - o);
    __m512 bias = t->bias ? _mm512_maskz_loadu_ps(mask, t->bias + o) : _mm512_setzero_ps();
    int32_t first = block * PACKED_ROWS, n = t->n_rows - first;
    if (n > PACKED_ROWS) n = PACKED_ROWS;
    for (int32_t r = 0; r < n; r++) {
        __m512 y = _mm512_mul_ps(_mm512_load_ps(sums + TILE * r), factor);
        _mm512_mask_storeu_ps(t->y + (size_t)(first + r) * t->y_stride + o, mask,
                              t->bias ? _mm512_add_ps(y, bias) : y);
    }
}

/* Two panels (is_wide), or one, by blocks [first, end) of rows. */
INLINE void pass(const panels_tile *t, int32_t i_panel, int32_t first, int32_t end, bool is_wide) {
    float sums[PASS_PAIRS][4 * TILE_NUMBERS] __attribute__((aligned(64)));
    unsigned char weights[2][CHUNK * GROUP_TILE_BYTES] __attribute__((aligned(64)));
    int32_t n_groups = t->n_in / PACKED_GROUP, n_pairs = (end - first + 1) / 2;
    size_t block_bytes = (size_t)n_groups * RECORD_BF16_BYTES;
    size_t panel_bytes = packed_panel_bytes(t->type, t->n_in);
    const unsigned char *panel = t->panels + (size_t)i_panel * panel_bytes;
    const unsigned char *x = t->blocks + (size_t)first * block_bytes;
    const unsigned char *next = panel + 2 * panel_bytes;
    if ((i_panel + 2) * PANEL_OUTS >= t->n_outs) next = t->next;
    column a = column_of(t->type, panel, next, x, n_groups), b = a;
    if (is_wide)
        b = column_of(t->type, panel + panel_bytes, next ? next + panel_bytes : NULL,
                      first + 1 < end ? x + block_bytes : x, n_groups);
    for (int32_t g = 0; g < n_groups; g += CHUNK) {
        int32_t n = n_groups - g < CHUNK ? n_groups - g : CHUNK;
        bool is_last = g + n == n_groups;
        dequantize_chunk(t->type, &a, g, n, weights[0]);
        if (is_wide) dequantize_chunk(t->type, &b, g, n, weights[1]);
        for (int32_t p = 0; p < n_pairs; p++) {
            const unsigned char *xa =
                x + 2 * (size_t)p * block_bytes + (size_t)g * RECORD_BF16_BYTES;
            if (g == 0)
                zero_sums();
            else if (n_pairs > 1)
                load_sums(sums[p]);
            if (first + 2 * p + 1 < end)
                multiply(xa, xa + block_bytes, weights[0], weights[1], n, true, is_wide);
            else
                multiply(xa, xa, weights[0], weights[1], n, false, is_wide);
            if (n_pairs > 1 || is_last) store_sums(sums[p]);
        }
    }
    for (int32_t i = 0; i < end - first; i++) {
        const float *of_block = sums[i / 2] + i % 2 * 2 * TILE_NUMBERS;
        put(t, of_block, &a, first + i, i_panel * PANEL_OUTS);
        if (is_wide) put(t, of_block + TILE_NUMBERS, &b, first + i, (i_panel + 1) * PANEL_OUTS);
    }
}

static void matmul(const panels_tile *t) {
    configure_tiles();
    int32_t n_blocks = packed_blocks(t->n_rows), n_panels = packed_panels(t->n_outs);
    for (int32_t first = 0; first < n_blocks; first += 2 * PASS_PAIRS) {
        int32_t end = first + 2 * PASS_PAIRS < n_blocks ? first + 2 * PASS_PAIRS : n_blocks;
        for (int32_t p = 0; p < n_panels; p += 2)
            if (p + 1 < n_panels)
                pass(t, p, first, end, true);
            else
                pass(t, p, first, end, false);
    }
    _tile_release();
}

void tiled_fill_amx(cpu_kernels *k) {
    k->pack_tiled = pack;
    k->matmul_tiled = matmul;
    k->has_tiles = true;
}

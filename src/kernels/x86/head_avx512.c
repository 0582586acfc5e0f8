/* SPDX-License-Identifier: Apache-2.0
 *
 * The head's tile kernels of the AVX-512 tier. The draw is the scalar one to the bit, and cheap:
 * all uniforms come from 16 Philox counters at a time, their keys are first estimated in float32
 * with a known error, and only tokens that could still win get the float64 logarithms.
 */
#include <math.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx512.h"

static double sum_lanes_wide(__m512 v) {
    __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
    __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    return _mm512_reduce_add_pd(_mm512_add_pd(low, high));
}

static tile_softmax softmax(const float *l, int32_t n) {
    enum { NOT_FINITE = 0x99 }; /* vfpclassps: quiet NaN, +infinity, -infinity, signalling NaN */
    __m512 lowest = _mm512_set1_ps(-INFINITY), top = lowest;
    __mmask16 bad = 0;
    for (int32_t i = 0; i < n; i += 16) {
        __mmask16 mask = first_lanes(n - i);
        __m512 v = _mm512_mask_loadu_ps(lowest, mask, l + i);
        bad |= _mm512_mask_fpclass_ps_mask(mask, v, NOT_FINITE);
        top = _mm512_max_ps(v, top);
    }
    tile_softmax s = {.top = _mm512_reduce_max_ps(top), .is_finite = bad == 0};
    if (!s.is_finite) return s;
    __m512 max = _mm512_set1_ps(s.top), sums = _mm512_setzero_ps(), products = sums;
    for (int32_t i = 0; i < n; i += 16) {
        __mmask16 mask = first_lanes(n - i);
        __m512 d = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, l + i), max);
        __m512 e = _mm512_maskz_mov_ps(mask, exp_512(d));
        sums = _mm512_add_ps(sums, e);
        products = _mm512_fmadd_ps(d, e, products);
    }
    s.sum = sum_lanes_wide(sums);
    s.sum_logits = sum_lanes_wide(products);
    return s;
}

static tile_best best_two(const float *l, int32_t n) {
    __m512 lowest = _mm512_set1_ps(-INFINITY), max = lowest, second = lowest;
    __m512i at = _mm512_set1_epi32(-1),
            lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int32_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_mask_loadu_ps(lowest, first_lanes(n - i), l + i);
        __mmask16 is_more = _mm512_cmp_ps_mask(v, max, _CMP_GT_OQ);
        second = _mm512_mask_mov_ps(_mm512_max_ps(second, v), is_more, max);
        max = _mm512_mask_mov_ps(max, is_more, v);
        at = _mm512_mask_add_epi32(at, is_more, lane, _mm512_set1_epi32(i));
    }
    float maxes[16], seconds[16];
    int32_t ats[16];
    _mm512_storeu_ps(maxes, max);
    _mm512_storeu_ps(seconds, second);
    _mm512_storeu_si512(ats, at);
    tile_best b = {.max = -INFINITY, .second = -INFINITY, .i_max = -1};
    for (int i = 0; i < 16; i++) {
        if (ats[i] < 0) continue;
        if (maxes[i] > b.max || (maxes[i] == b.max && ats[i] < b.i_max)) {
            b.second = seconds[i] > b.max ? seconds[i] : b.max;
            b.max = maxes[i];
            b.i_max = ats[i];
        } else if (maxes[i] > b.second) {
            b.second = maxes[i];
        }
    }
    return b;
}

static double tempered(const float *l, int32_t n, float max, float inverse_temperature) {
    __m512 sums = _mm512_setzero_ps(), m = _mm512_set1_ps(max);
    __m512 inverse = _mm512_set1_ps(inverse_temperature);
    for (int32_t i = 0; i < n; i += 16) {
        __mmask16 mask = first_lanes(n - i);
        __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, l + i), m);
        sums = _mm512_mask_add_ps(sums, mask, sums, exp_512(_mm512_mul_ps(d, inverse)));
    }
    return sum_lanes_wide(sums);
}

/* ---- Draws ------------------------------------------------------------------------------------
 */

/* High words of 16 Philox draws: of the even tokens and of the odd ones (base/rng.c). */
typedef struct philox_words {
    __m512i even, odd;
} philox_words;

static inline void multiply_wide(__m512i a, __m512i m, __m512i *high, __m512i *low) {
    __m512i even = _mm512_mul_epu32(a, m), odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), m);
    *high = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xAAAA, odd);
    *low = _mm512_mask_mov_epi32(even, 0xAAAA, _mm512_slli_epi64(odd, 32));
}

static philox_words philox_16(__m512i counter, const rng_key *key, const uint32_t mixed[2]) {
    const __m512i m0 = _mm512_set1_epi32((int)0xD2511F53u),
                  m1 = _mm512_set1_epi32((int)0xCD9E8D57u);
    __m512i c0 = counter, c1 = _mm512_set1_epi32(RNG_PURPOSE_TOKEN);
    __m512i c2 = _mm512_set1_epi32((int)key->position), c3 = _mm512_set1_epi32((int)key->step);
    uint32_t k0 = mixed[0], k1 = mixed[1];
    for (int round = 0; round < 10; round++) {
        __m512i high0, low0, high1, low1;
        multiply_wide(c0, m0, &high0, &low0);
        multiply_wide(c2, m1, &high1, &low1);
        c0 = _mm512_xor_si512(_mm512_xor_si512(high1, c1), _mm512_set1_epi32((int)k0));
        c2 = _mm512_xor_si512(_mm512_xor_si512(high0, c3), _mm512_set1_epi32((int)k1));
        c1 = low1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (philox_words){c0, c2};
}

/* log x of normal positive x, absolute error below 5e-7 * max(1, |log x|): x = m 2^k with m in
 * [0.75, 1.5), log m = 2 atanh((m - 1) / (m + 1)) by its series. */
static inline __m512 log_estimate(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f);
    __m512 m = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_zero);
    __m512 k = _mm512_getexp_ps(_mm512_div_ps(x, m));
    __m512 s = _mm512_div_ps(_mm512_sub_ps(m, one), _mm512_add_ps(m, one));
    __m512 s2 = _mm512_mul_ps(s, s), p = _mm512_set1_ps(2.0f / 7.0f);
    p = _mm512_fmadd_ps(p, s2, _mm512_set1_ps(2.0f / 5.0f));
    p = _mm512_fmadd_ps(p, s2, _mm512_set1_ps(2.0f / 3.0f));
    p = _mm512_fmadd_ps(p, s2, _mm512_set1_ps(2.0f));
    return _mm512_fmadd_ps(k, _mm512_set1_ps(0.69314718f), _mm512_mul_ps(p, s));
}

/* -log(-log u) from the high word of u, within 1e-4. Near u = 1, -log u is taken from 1 - u. */
static inline __m512 gumbel_estimate(__m512i word) {
    const __m512 unit = _mm512_set1_ps(0x1p-32f), half_unit = _mm512_set1_ps(0x1p-33f);
    __m512i complement = _mm512_xor_si512(word, _mm512_set1_epi32(-1));
    __m512 u = _mm512_fmadd_ps(_mm512_cvtepu32_ps(word), unit, half_unit);
    __m512 v = _mm512_fmadd_ps(_mm512_cvtepu32_ps(complement), unit, half_unit);
    __m512 e = _mm512_sub_ps(_mm512_setzero_ps(), log_estimate(u));
    __mmask16 is_near_one = _mm512_cmp_ps_mask(v, _mm512_set1_ps(0.01f), _CMP_LT_OQ);
    __m512 series = _mm512_fmadd_ps(_mm512_mul_ps(v, v), _mm512_set1_ps(0.5f), v);
    e = _mm512_mask_mov_ps(e, is_near_one, series);
    return _mm512_sub_ps(_mm512_setzero_ps(), log_estimate(e));
}

/* Estimated keys of 16 tokens; those whose word is too near 0 or 2^32 for an estimate (one in
 * 2^23), +infinity: always looked at. Takes the highest of the others, and of |l| / temperature. */
static inline void estimate_16(__m512i word, __m512 l, __m512 inverse, float *keys, __m512 *highest,
                               __m512 *size) {
    const __m512 infinity = _mm512_set1_ps(INFINITY);
    __mmask16 is_in = _mm512_cmp_ps_mask(l, _mm512_set1_ps(-INFINITY), _CMP_NEQ_OQ);
    __m512 scaled = _mm512_mul_ps(l, inverse), key = _mm512_add_ps(scaled, gumbel_estimate(word));
    __mmask16 is_open = _mm512_cmp_epu32_mask(_mm512_add_epi32(word, _mm512_set1_epi32(256)),
                                              _mm512_set1_epi32(512), _MM_CMPINT_LT);
    *highest = _mm512_mask_max_ps(*highest, is_in & (__mmask16)~is_open, *highest, key);
    *size = _mm512_mask_max_ps(*size, is_in, *size, _mm512_abs_ps(scaled));
    _mm512_storeu_ps(keys, _mm512_mask_mov_ps(key, is_open, infinity));
}

static void gumbel(const float *l, int32_t n, int32_t first_token, const rng_key *key,
                   double temperature, gumbel_best *best) {
    uint32_t seed[2] = {(uint32_t)key->seed, (uint32_t)(key->seed >> 32)}, mixed[4];
    uint32_t request[4] = {(uint32_t)key->request, (uint32_t)(key->request >> 32), 0, 0};
    rng_philox(request, seed, mixed);
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    __m512 lowest = _mm512_set1_ps(-INFINITY), highest = lowest, size = _mm512_setzero_ps();
    __m512 inverse = _mm512_set1_ps((float)(1.0 / temperature));
    float keys[HEAD_TILE];
    for (int32_t i = 0; i < n; i += 32) {
        philox_words w =
            philox_16(_mm512_add_epi32(_mm512_set1_epi32((first_token + i) / 2), lane), key, mixed);
        __m512 l0 = _mm512_mask_loadu_ps(lowest, first_lanes(n - i), l + i);
        __m512 l1 = lowest;
        if (n - i > 16) l1 = _mm512_mask_loadu_ps(lowest, first_lanes(n - i - 16), l + i + 16);
        estimate_16(_mm512_permutex2var_epi32(w.even, low, w.odd), l0, inverse, keys + i, &highest,
                    &size);
        estimate_16(_mm512_permutex2var_epi32(w.even, high, w.odd), l1, inverse, keys + i + 16,
                    &highest, &size);
    }
    /* Float32 rounds l / temperature and its sum by some 2^-23 of their size. Where that overflows,
     * the bound is NaN or -infinity and every token is looked at. */
    float scale = _mm512_reduce_max_ps(size) + 64.0f, bound = _mm512_reduce_max_ps(highest);
    bound -= 0.01f + 1e-6f * scale;
    if (best->token >= 0) {
        float beaten = (float)best->key;
        beaten -= 0.01f + 1e-6f * (scale + fabsf(beaten));
        if (beaten > bound) bound = beaten;
    }
    for (int32_t i = 0; i < n; i++) {
        if (keys[i] < bound || l[i] == -INFINITY) continue;
        uint32_t token = (uint32_t)(first_token + i);
        double value = gumbel_key(l[i], temperature, rng_uniform(key, RNG_PURPOSE_TOKEN, token));
        if (value > best->key) *best = (gumbel_best){value, first_token + i, l[i]};
    }
}

void head_fill_avx512(cpu_kernels *k) {
    k->tile_softmax = softmax;
    k->tile_best = best_two;
    k->tile_tempered = tempered;
    k->gumbel = gumbel;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The head's tile kernels of the AVX2 tier. Draws go as in the AVX-512 tier: keys are estimated in
 * float32 with a known error, and tokens that could still win are computed as the scalar tier does.
 */
#include <math.h>

#include "kernels/cpu.h"
#include "kernels/x86/math_avx2.h"

static double sum_lanes_wide(__m256 v) {
    double lanes[4];
    __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
    _mm256_storeu_pd(lanes, _mm256_add_pd(low, _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))));
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

static inline __m256 abs_256(__m256 v) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}

static tile_softmax softmax(const float *l, int32_t n) {
    const __m256 lowest = _mm256_set1_ps(-INFINITY), infinity = _mm256_set1_ps(INFINITY);
    __m256 top = lowest, bad = _mm256_setzero_ps();
    for (int32_t i = 0; i < n; i += 8) {
        __m256 v = load_first(l + i, n - i); /* zeros past the end are finite */
        bad = _mm256_or_ps(bad, _mm256_cmp_ps(abs_256(v), infinity, _CMP_NLT_UQ));
        top = _mm256_max_ps(keep_first(v, n - i, lowest), top);
    }
    tile_softmax s = {.top = max_lanes(top), .is_finite = _mm256_movemask_ps(bad) == 0};
    if (!s.is_finite) return s;
    __m256 max = _mm256_set1_ps(s.top), sums = _mm256_setzero_ps(), products = sums;
    for (int32_t i = 0; i < n; i += 8) {
        __m256 d = _mm256_sub_ps(load_first(l + i, n - i), max);
        d = keep_first(d, n - i, _mm256_setzero_ps());
        __m256 e = keep_first(exp_256(d), n - i, _mm256_setzero_ps());
        sums = _mm256_add_ps(sums, e);
        products = _mm256_fmadd_ps(d, e, products);
    }
    s.sum = sum_lanes_wide(sums);
    s.sum_logits = sum_lanes_wide(products);
    return s;
}

static tile_best best_two(const float *l, int32_t n) {
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256 max = lowest, second = lowest;
    __m256i at = _mm256_set1_epi32(-1);
    for (int32_t i = 0; i < n; i += 8) {
        __m256 v = keep_first(load_first(l + i, n - i), n - i, lowest);
        __m256 is_more = _mm256_cmp_ps(v, max, _CMP_GT_OQ);
        __m256i here = _mm256_add_epi32(lane, _mm256_set1_epi32(i));
        second = _mm256_blendv_ps(_mm256_max_ps(second, v), max, is_more);
        max = _mm256_blendv_ps(max, v, is_more);
        at = _mm256_blendv_epi8(at, here, _mm256_castps_si256(is_more));
    }
    float maxes[8], seconds[8];
    int32_t ats[8];
    _mm256_storeu_ps(maxes, max);
    _mm256_storeu_ps(seconds, second);
    _mm256_storeu_si256((void *)ats, at);
    tile_best b = {.max = -INFINITY, .second = -INFINITY, .i_max = -1};
    for (int i = 0; i < 8; i++) {
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
    __m256 sums = _mm256_setzero_ps(), m = _mm256_set1_ps(max);
    __m256 inverse = _mm256_set1_ps(inverse_temperature);
    for (int32_t i = 0; i < n; i += 8) {
        __m256 d = _mm256_mul_ps(_mm256_sub_ps(load_first(l + i, n - i), m), inverse);
        sums = _mm256_add_ps(sums, keep_first(exp_256(d), n - i, _mm256_setzero_ps()));
    }
    return sum_lanes_wide(sums);
}

/* ---- Draws ------------------------------------------------------------------------------------
 */

/* High words of 8 Philox draws: of the even tokens and of the odd ones (base/rng.c). */
typedef struct philox_words {
    __m256i even, odd;
} philox_words;

static inline void multiply_wide(__m256i a, __m256i m, __m256i *high, __m256i *low) {
    __m256i even = _mm256_mul_epu32(a, m), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), m);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
    *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}

static philox_words philox_8(__m256i counter, const rng_key *key, const uint32_t mixed[2]) {
    const __m256i m0 = _mm256_set1_epi32((int)0xD2511F53u),
                  m1 = _mm256_set1_epi32((int)0xCD9E8D57u);
    __m256i c0 = counter, c1 = _mm256_set1_epi32(RNG_PURPOSE_TOKEN);
    __m256i c2 = _mm256_set1_epi32((int)key->position), c3 = _mm256_set1_epi32((int)key->step);
    uint32_t k0 = mixed[0], k1 = mixed[1];
    for (int round = 0; round < 10; round++) {
        __m256i high0, low0, high1, low1;
        multiply_wide(c0, m0, &high0, &low0);
        multiply_wide(c2, m1, &high1, &low1);
        c0 = _mm256_xor_si256(_mm256_xor_si256(high1, c1), _mm256_set1_epi32((int)k0));
        c2 = _mm256_xor_si256(_mm256_xor_si256(high0, c3), _mm256_set1_epi32((int)k1));
        c1 = low1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (philox_words){c0, c2};
}

/* Unsigned words as float32, rounded twice: some 2^-23 of relative error. */
static inline __m256 to_float(__m256i word) {
    __m256 high = _mm256_cvtepi32_ps(_mm256_srli_epi32(word, 16));
    __m256 low = _mm256_cvtepi32_ps(_mm256_and_si256(word, _mm256_set1_epi32(0xFFFF)));
    return _mm256_fmadd_ps(high, _mm256_set1_ps(65536.0f), low);
}

/* log x as log_estimate of head_avx512.c has it; m in [0.75, 1.5) by bits. */
static inline __m256 log_estimate(__m256 x) {
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256i low_bound = _mm256_set1_epi32(0x3F400000); /* 0.75 */
    __m256i above = _mm256_sub_epi32(_mm256_castps_si256(x), low_bound);
    __m256i k = _mm256_srai_epi32(above, 23);
    __m256i m_bits =
        _mm256_add_epi32(_mm256_and_si256(above, _mm256_set1_epi32(0x7FFFFF)), low_bound);
    __m256 m = _mm256_castsi256_ps(m_bits);
    __m256 s = _mm256_div_ps(_mm256_sub_ps(m, one), _mm256_add_ps(m, one));
    __m256 s2 = _mm256_mul_ps(s, s), p = _mm256_set1_ps(2.0f / 7.0f);
    p = _mm256_fmadd_ps(p, s2, _mm256_set1_ps(2.0f / 5.0f));
    p = _mm256_fmadd_ps(p, s2, _mm256_set1_ps(2.0f / 3.0f));
    p = _mm256_fmadd_ps(p, s2, _mm256_set1_ps(2.0f));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(k), _mm256_set1_ps(0.69314718f), _mm256_mul_ps(p, s));
}

/* -log(-log u) from the high word of u, within 1e-4. Near u = 1, -log u is taken from 1 - u. */
static inline __m256 gumbel_estimate(__m256i word) {
    const __m256 unit = _mm256_set1_ps(0x1p-32f), half_unit = _mm256_set1_ps(0x1p-33f);
    const __m256 zero = _mm256_setzero_ps();
    __m256i complement = _mm256_xor_si256(word, _mm256_set1_epi32(-1));
    __m256 u = _mm256_fmadd_ps(to_float(word), unit, half_unit);
    __m256 v = _mm256_fmadd_ps(to_float(complement), unit, half_unit);
    __m256 e = _mm256_sub_ps(zero, log_estimate(u));
    __m256 series = _mm256_fmadd_ps(_mm256_mul_ps(v, v), _mm256_set1_ps(0.5f), v);
    e = _mm256_blendv_ps(e, series, _mm256_cmp_ps(v, _mm256_set1_ps(0.01f), _CMP_LT_OQ));
    return _mm256_sub_ps(zero, log_estimate(e));
}

/* As estimate_16 of head_avx512.c: keys of 8 tokens, +infinity where the word allows none. */
static inline void estimate_8(__m256i word, __m256 l, __m256 inverse, float *keys, __m256 *highest,
                              __m256 *size) {
    const __m256 lowest = _mm256_set1_ps(-INFINITY), infinity = _mm256_set1_ps(INFINITY);
    __m256 is_out = _mm256_cmp_ps(l, lowest, _CMP_EQ_OQ);
    __m256 scaled = _mm256_mul_ps(l, inverse), key = _mm256_add_ps(scaled, gumbel_estimate(word));
    __m256i near = _mm256_and_si256(_mm256_add_epi32(word, _mm256_set1_epi32(256)),
                                    _mm256_set1_epi32(~511)); /* zero below 512 */
    __m256 is_open = _mm256_castsi256_ps(_mm256_cmpeq_epi32(near, _mm256_setzero_si256()));
    __m256 counted = _mm256_blendv_ps(key, lowest, _mm256_or_ps(is_out, is_open));
    *highest = _mm256_max_ps(*highest, counted);
    *size = _mm256_max_ps(*size, _mm256_andnot_ps(is_out, abs_256(scaled)));
    _mm256_storeu_ps(keys, _mm256_blendv_ps(key, infinity, is_open));
}

static void gumbel(const float *l, int32_t n, int32_t first_token, const rng_key *key,
                   double temperature, gumbel_best *best) {
    uint32_t seed[2] = {(uint32_t)key->seed, (uint32_t)(key->seed >> 32)}, mixed[4];
    uint32_t request[4] = {(uint32_t)key->request, (uint32_t)(key->request >> 32), 0, 0};
    rng_philox(request, seed, mixed);
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    __m256 highest = lowest, size = _mm256_setzero_ps();
    __m256 inverse = _mm256_set1_ps((float)(1.0 / temperature));
    float keys[HEAD_TILE];
    for (int32_t i = 0; i < n; i += 16) {
        philox_words w =
            philox_8(_mm256_add_epi32(_mm256_set1_epi32((first_token + i) / 2), lane), key, mixed);
        /* Tokens 0..3 and 8..11 of the 16 are in `a`, the others in `b`. */
        __m256i a = _mm256_unpacklo_epi32(w.even, w.odd), b = _mm256_unpackhi_epi32(w.even, w.odd);
        __m256 l0 = keep_first(load_first(l + i, n - i), n - i, lowest), l1 = lowest;
        if (n - i > 8) l1 = keep_first(load_first(l + i + 8, n - i - 8), n - i - 8, lowest);
        estimate_8(_mm256_permute2x128_si256(a, b, 0x20), l0, inverse, keys + i, &highest, &size);
        estimate_8(_mm256_permute2x128_si256(a, b, 0x31), l1, inverse, keys + i + 8, &highest,
                   &size);
    }
    /* The bound and its margins: see head_avx512.c. */
    float scale = max_lanes(size) + 64.0f, bound = max_lanes(highest);
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

void head_fill_avx2(cpu_kernels *k) {
    k->tile_softmax = softmax;
    k->tile_best = best_two;
    k->tile_tempered = tempered;
    k->gumbel = gumbel;
}

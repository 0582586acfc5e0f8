/* SPDX-License-Identifier: Apache-2.0
 *
 * Block types: decoding against what the gguf package of ggml's authors gives for the same bytes,
 * scales that are not finite, and encoding: error bounds, round trips, extremes.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "quant/blocks.h"
#include "quant/dtype.h"
#include "quant/encode.h"

static const dtype block_types[] = {DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
enum { N_TYPES = sizeof block_types / sizeof *block_types, BYTES_MAX = 1024 };

/* ---- Decoding ------------------------------------------------------------------------------- */

/* Number `index` of the block whose byte i is (7 i^2 + 37 i + 11) mod 253, apart from its scales.
 * Values: gguf 0.19.0 (Python), quants.dequantize. */
typedef struct decoded {
    int index;
    float value;
} decoded;

static const decoded decoded_q8_0[] = {
    {5, 0x1.5651p+2f},   {18, 0x1.ccbp-2f},  {31, 0},
    {12, -0x1.931ap+2f}, {25, 0x1.0656p+1f}, {6, -0x1.665p-2f},
    {19, 0x1.ffep+1f},   {0, 0x1.6983p+2f},  {13, 0x1.764fp+2f},
    {26, -0x1.2654p+1f}, {7, -0x1.4cb8p+2f}, {20, -0x1.2321p+2f}};
static const decoded decoded_q4_0[] = {{5, -0x1.467p-4f},  {18, 0x1.7cd8p-3f}, {31, -0.0f},
                                       {12, 0x1.467p-3f},  {25, 0x1.b34p-3f},  {6, -0x1.b34p-6f},
                                       {19, 0x1.b34p-6f},  {0, 0x1.7cd8p-3f},  {13, 0x1.467p-4f},
                                       {26, -0x1.b34p-4f}, {7, -0.0f},         {20, -0x1.467p-3f}};
static const decoded decoded_q4_k[] = {
    {0, -0x1.387bp+1f},    {17, -0x1.c872p+1f},   {24, -0x1.e0ffp+0f},  {31, -0x1.e0ffp+0f},
    {48, -0x1.806p+0f},    {55, 0x1.73cacp+2f},   {62, 0x1.4f73p+0f},   {79, 0x1.0a68p-1f},
    {86, 0x1.8286p+1f},    {93, 0x1.8286p+1f},    {100, 0x1.913c4p+1f}, {117, 0x1.74936p+2f},
    {124, 0x1.ade52p+2f},  {131, -0x1.a87b8p+1f}, {148, -0x1.a07cp+1f}, {155, -0x1.b87a8p+1f},
    {162, -0x1.21a9cp+1f}, {179, 0x1.83a3p-1f},   {186, -0x1.8182p-1f}, {193, 0x1.da51p+1f},
    {200, 0x1.f0ep-5f},    {217, -0x1.806p+0f},   {224, 0x1.17cb8p+0f}, {231, 0x1.bf58p-2f}};
static const decoded decoded_q5_k[] = {
    {0, -0x1.fbf9p-1f},   {17, -0x1.488b4p+1f},  {24, -0x1.de7ap-2f},   {31, 0x1.d7fp-5f},
    {48, 0x1.2fc3fp+3f},  {55, 0x1.558e6p+3f},   {62, 0x1.cb3fp+1f},    {79, 0x1.62d8p-2f},
    {86, 0x1.19b08p+3f},  {93, 0x1.536fp+2f},    {100, 0x1.e17b8p+2f},  {117, 0},
    {124, 0x1.e17b8p+2f}, {131, -0x1.5ab84p+1f}, {148, -0x1.1d228p+1f}, {155, -0x1.7bea8p+0f},
    {162, 0x1.24cc8p+1f}, {179, -0x1.f0cep+0f},  {186, 0x1.dd5b8p+0f},  {193, 0x1.5f7bp-1f},
    {200, 0x1.5b31cp+2f}, {217, 0x1.127dcp+1f},  {224, 0x1.a8a7cp+0f},  {231, 0x1.f7094p+0f}};
static const decoded decoded_q6_k[] = {
    {0, 0x1.0d466p-1f},    {17, 0x1.942ccp-2f},  {24, -0x1.b8ebp-2f},  {31, -0x1.dda94p-1f},
    {48, 0x1.d9b97p+0f},   {55, -0x1.2b31cp-1f}, {62, -0x1.2b31cp-1f}, {79, -0x1.39e44p+1f},
    {86, 0x1.1dcf3p+1f},   {93, -0x1.37cacp+1f}, {100, 0x1.25f2p+0f},  {117, 0x1.280b8p+0f},
    {124, 0x1.40b72p+0f},  {131, 0x1.5423p-4f},  {148, -0x1.0ccp-2f},  {155, 0x1.8254p+0f},
    {162, -0x1.145c7p+0f}, {179, -0x1.60bcp-4f}, {186, 0x1.d65p-1f},   {193, -0x1.ffc7ap+0f},
    {200, -0x1.478ap+1f},  {217, 0x1.d046bp+0f}, {224, 0x1.328bp-4f},  {231, -0x1.a57f2p+0f}};

/* The first scale's place and bits, and those of dmin (-1: the type has none). */
static const struct {
    dtype type;
    int d_at, dmin_at;
    uint16_t d, dmin;
    const decoded *values;
    size_t n_values;
} decode_table[] = {
#define VALUES(list) (list), sizeof(list) / sizeof *(list)
    {DTYPE_Q8_0, 0, -1, 0x2A66, 0, VALUES(decoded_q8_0)},
    {DTYPE_Q4_0, 0, -1, 0xA6CD, 0, VALUES(decoded_q4_0)},
    {DTYPE_Q4_K, 0, 2, 0x2155, 0x2C01, VALUES(decoded_q4_k)},
    {DTYPE_Q5_K, 0, 2, 0x1F77, 0x2A0F, VALUES(decoded_q5_k)},
    {DTYPE_Q6_K, 208, -1, 0x1433, 0, VALUES(decoded_q6_k)},
#undef VALUES
};

static void put_scale(unsigned char *block, int at, uint16_t bits) {
    if (at >= 0) memcpy(block + at, &bits, sizeof bits);
}

static void make_block(size_t row, unsigned char *block) {
    size_t n = dtype_block_bytes(decode_table[row].type);
    for (size_t i = 0; i < n; i++) block[i] = (unsigned char)((i * i * 7 + i * 37 + 11) % 253);
    put_scale(block, decode_table[row].d_at, decode_table[row].d);
    put_scale(block, decode_table[row].dmin_at, decode_table[row].dmin);
}

/* Two blocks in a row at an odd address, and nothing written behind them. */
static void test_decodes_as_ggml(void **state) {
    (void)state;
    for (size_t row = 0; row < N_TYPES; row++) {
        dtype type = decode_table[row].type;
        size_t len = dtype_block_len(type), n_bytes = dtype_block_bytes(type);
        unsigned char stored[2 * sizeof(block_q6_k) + 1];
        float out[2 * BLOCK_K_LEN + 1];
        make_block(row, stored + 1);
        make_block(row, stored + 1 + n_bytes);
        out[2 * len] = -9;
        dtype_decode(type, stored + 1, 2 * len, out);
        assert_true(out[2 * len] == -9);
        for (size_t i = 0; i < 2 * decode_table[row].n_values; i++) {
            decoded d = decode_table[row].values[i / 2];
            float found = out[(size_t)d.index + i % 2 * len];
            if (found != d.value || !signbit(found) != !signbit(d.value))
                fail_msg("%s, number %d: expected %a, found %a", dtype_name(type), d.index,
                         (double)d.value, (double)found);
        }
    }
}

static void test_finds_bad_scales(void **state) {
    (void)state;
    static const uint16_t bad[] = {0x7C00, 0xFC00, 0x7E00, 0x7C01};
    enum { N_BLOCKS = 3 };
    for (size_t row = 0; row < N_TYPES; row++) {
        dtype type = decode_table[row].type;
        size_t len = dtype_block_len(type), n_bytes = dtype_block_bytes(type);
        unsigned char stored[N_BLOCKS * sizeof(block_q6_k)];
        for (size_t b = 0; b < N_BLOCKS; b++) make_block(row, stored + b * n_bytes);
        assert_int_equal(dtype_find_not_finite(type, stored, N_BLOCKS * len), -1);
        for (size_t b = 0; b < N_BLOCKS; b++)
            for (size_t i = 0; i < 4; i++) {
                const int places[] = {decode_table[row].d_at, decode_table[row].dmin_at};
                for (size_t p = 0; p < 2; p++) {
                    if (places[p] < 0) continue;
                    put_scale(stored + b * n_bytes, places[p], bad[i]);
                    assert_int_equal(dtype_find_not_finite(type, stored, N_BLOCKS * len), b * len);
                    assert_int_equal(dtype_find_not_finite(type, stored, b * len), -1);
                    make_block(row, stored + b * n_bytes);
                }
            }
    }
}

static void test_sizes(void **state) {
    (void)state;
    assert_int_equal(dtype_size(DTYPE_Q8_0, 64), 68);
    assert_int_equal(dtype_size(DTYPE_Q4_0, 64), 36);
    assert_int_equal(dtype_size(DTYPE_Q4_K, 512), 288);
    assert_int_equal(dtype_size(DTYPE_Q5_K, 512), 352);
    assert_int_equal(dtype_size(DTYPE_Q6_K, 512), 420);
    assert_int_equal(dtype_size(DTYPE_BF16, 5), 10);
    for (size_t i = 0; i < N_TYPES; i++) assert_true(dtype_is_block(block_types[i]));
    assert_false(dtype_is_block(DTYPE_BF16));
}

/* ---- Encoding ------------------------------------------------------------------------------- */

typedef enum distribution { GAUSS, LAPLACE, HEAVY, SHIFTED, DISTRIBUTIONS } distribution;

static float draw(distribution kind, uint64_t i) {
    rng_key key = {.seed = 17, .request = i, .position = (uint32_t)kind};
    double uniform[2];
    rng_uniform_pair(&key, RNG_PURPOSE_TEST, 0, uniform);
    double u = uniform[0], v = uniform[1];
    double gauss = sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
    if (kind == LAPLACE) return (float)(u < 0.5 ? log(2 * u) : -log(2 * (1 - u)));
    if (kind == HEAVY) return (float)(gauss / sqrt(0.05 + v));
    return (float)(kind == SHIFTED ? gauss + 0.7 : gauss);
}

/* sqrt(sum w (decoded - x)^2 / sum w x^2) */
static double error_of(dtype type, const float *x, const float *importance, size_t n) {
    unsigned char *stored = malloc(dtype_size(type, n));
    float *out = malloc(n * sizeof *out);
    double difference = 0, total = 0;
    assert_non_null(stored);
    assert_non_null(out);
    quant_encode(type, x, importance, n, stored);
    assert_int_equal(dtype_find_not_finite(type, stored, n), -1);
    dtype_decode(type, stored, n, out);
    for (size_t i = 0; i < n; i++) {
        double w = importance ? (double)importance[i] : 1, d = (double)out[i] - (double)x[i];
        difference += w * d * d;
        total += w * (double)x[i] * (double)x[i];
    }
    free(stored);
    free(out);
    return sqrt(difference / total);
}

/* Bounds: what ggml's quantizers give for such numbers (34af94cd9, without weights). */
static void test_error_is_small(void **state) {
    (void)state;
    enum { N = 16384 };
    static const double bounds[N_TYPES][2] = {/* Gauss, Laplace */
                                              {0.00541, 0.00682},
                                              {0.0840, 0.1060},
                                              {0.0716, 0.0845},
                                              {0.0360, 0.0428},
                                              {0.0176, 0.0215}};
    float *x = malloc(N * sizeof *x);
    assert_non_null(x);
    for (int kind = GAUSS; kind <= LAPLACE; kind++) {
        for (size_t i = 0; i < N; i++) x[i] = 0.02f * draw((distribution)kind, i);
        for (size_t t = 0; t < N_TYPES; t++) {
            double error = error_of(block_types[t], x, NULL, N);
            if (!(error < bounds[t][kind]))
                fail_msg("%s, distribution %d: expected less than %g, found %g",
                         dtype_name(block_types[t]), kind, bounds[t][kind], error);
        }
    }
    free(x);
}

/* Weights lower the weighted error, which is what they are for. */
static void test_importance_counts(void **state) {
    (void)state;
    enum { N = 2048 };
    float *x = malloc(N * sizeof *x), *w = malloc(N * sizeof *w), *zeros = calloc(N, sizeof *w);
    unsigned char plain[BYTES_MAX * 3], other[BYTES_MAX * 3];
    assert_non_null(x);
    assert_non_null(w);
    assert_non_null(zeros);
    for (int kind = 0; kind < DISTRIBUTIONS; kind++) {
        for (size_t i = 0; i < N; i++) {
            x[i] = draw((distribution)kind, i);
            w[i] = expf(1.5f * draw(GAUSS, i + N));
        }
        for (size_t t = 1; t < N_TYPES; t++) {
            dtype type = block_types[t];
            float out[N];
            double difference = 0, total = 0;
            quant_encode(type, x, NULL, N, plain);
            dtype_decode(type, plain, N, out);
            for (size_t i = 0; i < N; i++) {
                double d = (double)out[i] - (double)x[i];
                difference += (double)w[i] * d * d;
                total += (double)w[i] * (double)x[i] * (double)x[i];
            }
            assert_true(error_of(type, x, w, N) < 0.99 * sqrt(difference / total));
            /* All zero, or all alike: as without. */
            quant_encode(type, x, zeros, N, other);
            assert_memory_equal(plain, other, dtype_size(type, N));
            for (size_t i = 0; i < N; i++) out[i] = 0x1p-90f;
            quant_encode(type, x, out, N, other);
            assert_memory_equal(plain, other, dtype_size(type, N));
        }
    }
    free(x);
    free(w);
    free(zeros);
}

/* Exact where the numbers are multiples that a type has. */
static void test_round_trips(void **state) {
    (void)state;
    float x[4 * BLOCK_K_LEN], out[4 * BLOCK_K_LEN];
    unsigned char stored[BYTES_MAX * 2], again[BYTES_MAX * 2];
    const size_t n = 4 * BLOCK_K_LEN;
    for (int kind = 0; kind < DISTRIBUTIONS; kind++) {
        for (size_t i = 0; i < n; i++) x[i] = 3 * draw((distribution)kind, i);
        quant_encode(DTYPE_Q8_0, x, NULL, n, stored);
        dtype_decode(DTYPE_Q8_0, stored, n, x);
        quant_encode(DTYPE_Q8_0, x, NULL, n, again);
        assert_memory_equal(stored, again, dtype_size(DTYPE_Q8_0, n));
        for (size_t t = 0; t < N_TYPES; t++) {
            dtype type = block_types[t];
            quant_encode(type, x, NULL, n, stored);
            dtype_decode(type, stored, n, out);
            assert_true(error_of(type, out, NULL, n) < (type == DTYPE_Q4_0 ? 1e-4 : 0.02));
        }
    }
    /* -8 to 7, then scaled by a power of two. */
    for (size_t i = 0; i < n; i++) x[i] = 0.125f * (float)((int)(i % 16) - 8);
    for (size_t t = 0; t < N_TYPES; t++)
        if (block_types[t] != DTYPE_Q8_0) assert_true(error_of(block_types[t], x, NULL, n) < 1e-3);
}

/* Plain types: what dtype_to_f16 says, and the largest number instead of infinity. */
static void test_plain_types(void **state) {
    (void)state;
    const float x[] = {1, -0.1f, 65519, 65520, -1e30f, 1e-8f, FLT_MAX};
    enum { N = sizeof x / sizeof *x };
    unsigned char stored[4 * N + 1];
    float out[N];
    quant_encode(DTYPE_F32, x, NULL, N, stored + 1);
    dtype_decode(DTYPE_F32, stored + 1, N, out);
    assert_memory_equal(out, x, sizeof x);
    quant_encode(DTYPE_F16, x, NULL, N, stored + 1);
    dtype_decode(DTYPE_F16, stored + 1, N, out);
    assert_true(out[0] == 1 && out[1] == dtype_from_f16(dtype_to_f16(-0.1f)) && out[2] == 65504);
    assert_true(out[3] == 65504 && out[4] == -65504 && out[5] == 0 && out[6] == 65504);
    quant_encode(DTYPE_BF16, x, NULL, N, stored + 1);
    dtype_decode(DTYPE_BF16, stored + 1, N, out);
    assert_true(out[1] == dtype_from_bf16(dtype_to_bf16(-0.1f)) && isfinite(out[6]));
}

static void encode_constant(dtype type, float value, float *out) {
    float x[BLOCK_K_LEN];
    unsigned char stored[sizeof(block_q6_k) * 2 + sizeof(block_q8_0) * 8];
    for (int i = 0; i < BLOCK_K_LEN; i++) x[i] = value;
    quant_encode(type, x, NULL, BLOCK_K_LEN, stored);
    assert_int_equal(dtype_find_not_finite(type, stored, BLOCK_K_LEN), -1);
    dtype_decode(type, stored, BLOCK_K_LEN, out);
}

/* Zeros, constants of any size, numbers beyond what scales can hold. */
static void test_extremes(void **state) {
    (void)state;
    static const float tiny[] = {0, 1e-45f, -1e-40f, FLT_MIN, 1e-8f, -1.4e-8f};
    static const float plain[] = {1e-4f, -1e-4f, 0.5f, -3, 1000, -65504, 400000};
    static const float huge[] = {1e8f, -1e9f, 1e30f, FLT_MAX, -FLT_MAX};
    float out[BLOCK_K_LEN];
    for (size_t t = 0; t < N_TYPES; t++) {
        dtype type = block_types[t];
        for (size_t i = 0; i < sizeof tiny / sizeof *tiny; i++) {
            encode_constant(type, tiny[i], out);
            for (int j = 0; j < BLOCK_K_LEN; j++) assert_true(out[j] == 0);
        }
        for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
            encode_constant(type, plain[i], out);
            for (int j = 0; j < BLOCK_K_LEN; j++)
                if (!(fabsf(out[j] - plain[i]) <= 0.006f * fabsf(plain[i])))
                    fail_msg("%s: expected %g, found %g", dtype_name(type), (double)plain[i],
                             (double)out[j]);
        }
        for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
            encode_constant(type, huge[i], out);
            for (int j = 0; j < BLOCK_K_LEN; j++)
                assert_true(isfinite(out[j]) && fabsf(out[j]) > 4e5f &&
                            !signbit(out[j]) == !signbit(huge[i]));
        }
    }
}

/* Numbers near the smallest scale keep what a few multiples of 2^-24 can say. */
static void test_subnormal_scales(void **state) {
    (void)state;
    enum { N = BLOCK_K_LEN };
    float x[N], out[N];
    unsigned char stored[BYTES_MAX];
    for (int exponent = -30; exponent < -8; exponent++)
        for (size_t t = 0; t < N_TYPES; t++) {
            dtype type = block_types[t];
            for (size_t i = 0; i < N; i++) x[i] = ldexpf(draw(GAUSS, i), exponent);
            quant_encode(type, x, NULL, N, stored);
            dtype_decode(type, stored, N, out);
            double bound = ldexp(3, -24) + ldexp(0.35, exponent);
            for (size_t i = 0; i < N; i++)
                if (!(fabs((double)out[i] - (double)x[i]) <= bound))
                    fail_msg("%s, exponent %d: expected %g, found %g", dtype_name(type), exponent,
                             (double)x[i], (double)out[i]);
        }
}

/* Not finite: some value, a block that can be read, and the blocks beside it as ever. */
static void test_not_finite_stays_in_its_block(void **state) {
    (void)state;
    enum { N = 3 * BLOCK_K_LEN };
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float x[N];
    unsigned char clean[BYTES_MAX], stored[BYTES_MAX];
    for (size_t t = 0; t < N_TYPES; t++)
        for (size_t i = 0; i < 3; i++) {
            dtype type = block_types[t];
            size_t n_bytes = dtype_size(type, BLOCK_K_LEN);
            for (size_t j = 0; j < N; j++) x[j] = draw(GAUSS, j);
            quant_encode(type, x, NULL, N, clean);
            x[BLOCK_K_LEN + 5] = bad[i];
            quant_encode(type, x, NULL, N, stored);
            assert_int_equal(dtype_find_not_finite(type, stored, N), -1);
            assert_memory_equal(stored, clean, n_bytes);
            assert_memory_equal(stored + 2 * n_bytes, clean + 2 * n_bytes, n_bytes);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decodes_as_ggml),
        cmocka_unit_test(test_finds_bad_scales),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_error_is_small),
        cmocka_unit_test(test_importance_counts),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_plain_types),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_subnormal_scales),
        cmocka_unit_test(test_not_finite_stays_in_its_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

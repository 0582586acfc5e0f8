/* SPDX-License-Identifier: Apache-2.0
 *
 * Decoding of stored numbers: all 65,536 values of both 16-bit formats against arithmetic, rounding
 * to them, and the search for numbers that are not finite. Block types are in test_blocks.c.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "quant/dtype.h"

/* The value of (sign, exponent, mantissa) by the definition of IEEE 754 binary formats. */
static double by_definition(uint32_t bits, int n_exponent, int n_mantissa) {
    uint32_t mantissa = bits & ((1u << n_mantissa) - 1);
    int exponent = (int)(bits >> n_mantissa & ((1u << n_exponent) - 1));
    int bias = (1 << (n_exponent - 1)) - 1;
    double sign = bits >> (n_exponent + n_mantissa) ? -1 : 1;
    if (exponent == (1 << n_exponent) - 1) return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - n_mantissa);
    return sign * ldexp((double)(mantissa + (1u << n_mantissa)), exponent - bias - n_mantissa);
}

static void assert_same(float found, double expected, uint32_t bits) {
    if (isnan(expected) ? !isnan(found)
                        : found != expected || !signbit(found) != !signbit(expected))
        fail_msg("bits %#x: expected %a, found %a", bits, expected, found);
}

static void test_every_16_bit_value(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        assert_same(dtype_from_f16((uint16_t)bits), by_definition(bits, 5, 10), bits);
        assert_same(dtype_from_bf16((uint16_t)bits), by_definition(bits, 8, 7), bits);
    }
}

static void test_known_values(void **state) {
    (void)state;
    assert_true(dtype_from_f16(0x3C00) == 1.0f);
    assert_true(dtype_from_f16(0xC000) == -2.0f);
    assert_true(dtype_from_f16(0x7BFF) == 65504.0f);
    assert_true(dtype_from_f16(0x0001) == 0x1p-24f);
    assert_true(dtype_from_f16(0x03FF) == 0x1.ff8p-15f);
    assert_true(dtype_from_f16(0x3555) == 0x1.554p-2f);
    assert_true(dtype_from_bf16(0x3F80) == 1.0f);
    assert_true(dtype_from_bf16(0x4049) == 3.140625f);
    assert_true(dtype_from_bf16(0x0001) == 0x1p-133f);
}

static void test_names_and_sizes(void **state) {
    (void)state;
    assert_string_equal(dtype_name(DTYPE_F32), "F32");
    assert_string_equal(dtype_name(DTYPE_F16), "F16");
    assert_string_equal(dtype_name(DTYPE_BF16), "BF16");
    assert_string_equal(dtype_name((dtype)-1), "?");
    assert_int_equal(dtype_bytes(DTYPE_F32), 4);
    assert_int_equal(dtype_bytes(DTYPE_F16), 2);
    assert_int_equal(dtype_bytes(DTYPE_BF16), 2);
}

static float next_up(float value) {
    return nextafterf(value, INFINITY);
}

static float next_down(float value) {
    return nextafterf(value, -INFINITY);
}

/* Between each number of a 16-bit format and the next one: what is nearer wins, the middle goes to
 * the even one; `end` stands for the number after the largest finite one. */
static void check_rounding(uint16_t (*encode)(float), float (*decode)(uint16_t), uint32_t infinity,
                           double end) {
    for (uint32_t bits = 0; bits < infinity; bits++) {
        double low = (double)decode((uint16_t)bits);
        double high = bits + 1 < infinity ? (double)decode((uint16_t)(bits + 1)) : end;
        float middle = (float)((low + high) / 2);
        uint32_t even = bits + (bits & 1);
        assert_true((double)middle == (low + high) / 2);
        assert_int_equal(encode((float)low), bits);
        assert_int_equal(encode(middle), even);
        assert_int_equal(encode(next_down(middle)), bits);
        assert_int_equal(encode(next_up(middle)), bits + 1);
        assert_int_equal(encode(-(float)low), bits | 0x8000);
        assert_int_equal(encode(-middle), even | 0x8000);
        assert_int_equal(encode(-next_up(middle)), (bits + 1) | 0x8000);
    }
    assert_int_equal(encode(INFINITY), infinity);
    assert_int_equal(encode(-INFINITY), infinity | 0x8000);
    assert_true(isnan(decode(encode(NAN))) && isnan(decode(encode(-NAN))));
    assert_int_equal(encode(FLT_MAX), infinity);
}

static float from_bf16(uint16_t bits) {
    return dtype_from_bf16(bits);
}

static void test_rounds_to_nearest(void **state) {
    (void)state;
    check_rounding(dtype_to_f16, dtype_from_f16, 0x7C00, 65536);
    check_rounding(dtype_to_bf16, from_bf16, 0x7F80, 0x1p128);
    /* A NaN whose payload lies in the lower half alone stays one. */
    uint32_t wide = 0x7F800001u;
    float value;
    memcpy(&value, &wide, sizeof value);
    assert_true(isnan(dtype_from_bf16(dtype_to_bf16(value))));
    assert_true(isnan(dtype_from_f16(dtype_to_f16(value))));
}

/* At every byte of misalignment, and without touching what follows. */
static void test_decodes_unaligned(void **state) {
    (void)state;
    enum { N = 37 };
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (size_t i_type = 0; i_type < 3; i_type++) {
        dtype type = types[i_type];
        for (size_t shift = 0; shift < 8; shift++) {
            unsigned char *stored = malloc(N * 4 + shift);
            float out[N + 1];
            assert_non_null(stored);
            for (int i = 0; i < N; i++) {
                uint32_t bits32 = 0x3F000000u + (uint32_t)i * 0x10000u;
                uint16_t bits16 = (uint16_t)(bits32 >> 16);
                memcpy(stored + shift + (size_t)i * dtype_bytes(type),
                       type == DTYPE_F32 ? (const void *)&bits32 : (const void *)&bits16,
                       dtype_bytes(type));
            }
            out[N] = -9;
            dtype_decode(type, stored + shift, N, out);
            for (int i = 0; i < N; i++) {
                uint16_t bits = (uint16_t)(0x3F00 + i);
                float expected = type == DTYPE_F16 ? dtype_from_f16(bits) : dtype_from_bf16(bits);
                assert_true(out[i] == expected);
            }
            assert_true(out[N] == -9);
            free(stored);
        }
    }
    dtype_decode(DTYPE_BF16, "", 0, NULL);
}

static void test_finds_not_finite(void **state) {
    (void)state;
    enum { N = 10000 };
    static const struct {
        dtype type;
        uint32_t largest, bad[4];
    } rows[] = {
        {DTYPE_F32, 0x7F7FFFFF, {0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001}},
        {DTYPE_F16, 0x7BFF, {0x7C00, 0xFC00, 0x7E00, 0x7C01}},
        {DTYPE_BF16, 0x7F7F, {0x7F80, 0xFF80, 0x7FC0, 0x7F81}},
    };
    static const int64_t places[] = {0, 1, 17, 4095, 4096, 4097, 8191, 8192, N - 1};
    unsigned char *stored = malloc(N * 4 + 1);
    assert_non_null(stored);
    for (size_t r = 0; r < 3; r++) {
        dtype type = rows[r].type;
        size_t size = dtype_bytes(type);
        unsigned char *first = stored + 1; /* not aligned */
        uint16_t largest16 = (uint16_t)rows[r].largest;
        const void *largest = size == 4 ? (const void *)&rows[r].largest : (const void *)&largest16;
        for (size_t i = 0; i < N; i++) memcpy(first + i * size, largest, size);
        assert_int_equal(dtype_find_not_finite(type, first, N), -1);
        assert_int_equal(dtype_find_not_finite(type, first, 0), -1);
        for (size_t i = 0; i < sizeof places / sizeof *places; i++)
            for (size_t j = 0; j < 4; j++) {
                unsigned char *place = first + (size_t)places[i] * size, saved[4];
                uint16_t bad16 = (uint16_t)rows[r].bad[j];
                memcpy(saved, place, size);
                memcpy(place, size == 4 ? (const void *)&rows[r].bad[j] : (const void *)&bad16,
                       size);
                assert_int_equal(dtype_find_not_finite(type, first, N), places[i]);
                /* What lies behind the end is not looked at; the first one counts. */
                assert_int_equal(dtype_find_not_finite(type, first, (size_t)places[i]), -1);
                memcpy(first + (size_t)(N - 1) * size, place, size);
                assert_int_equal(dtype_find_not_finite(type, first, N), places[i]);
                memcpy(first + (size_t)(N - 1) * size, largest, size);
                memcpy(place, saved, size);
            }
    }
    free(stored);
}

static void test_names(void **state) {
    (void)state;
    static const char *const names[] = {"f32",  "f16",  "bf16", "q8_0",
                                        "q4_0", "q4_k", "q5_k", "q6_k"};
    for (int i = 0; i <= DTYPE_Q6_K; i++) {
        dtype found = (dtype)-1;
        assert_true(dtype_find(names[i], &found));
        assert_int_equal(found, i);
        assert_int_equal(strcasecmp(names[i], dtype_name(found)), 0);
        assert_false(dtype_find(dtype_name(found), &found)); /* options have small letters */
    }
    dtype ignored;
    assert_false(dtype_find("q3_k", &ignored));
    assert_false(dtype_find("", &ignored));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_every_16_bit_value),
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_names_and_sizes),
        cmocka_unit_test(test_decodes_unaligned),
        cmocka_unit_test(test_finds_not_finite),
        cmocka_unit_test(test_rounds_to_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the kernel tests share: devices by tier, random numbers, comparisons. A test runs on every
 * tier that the machine has.
 */
#ifndef TESTS_KERNEL_CHECK_H
#define TESTS_KERNEL_CHECK_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/device.h"
#include "kernels/ops.h"
#include "support/mirror.h"

enum { N_CPU_TIERS = 6, N_TIERS = 7 };

static inline const char *check_tier(int i) {
    static const char *const names[N_TIERS] = {"scalar",     "avx2", "avxvnni", "avx512",
                                               "avx512bf16", "amx",  "cuda"};
    return names[i];
}

/* The GPU, behind a mirror that takes host pointers. UNMASK_TEST_MIRROR names another device to put
 * there: with "cpu" the mirror itself is tested where there is no GPU. */
static inline device *check_open_mirror(int n_threads) {
    const char *name = getenv("UNMASK_TEST_MIRROR");
    device *dev = NULL;
    um_error err = {0};
    um_status status = device_open(name ? name : "cuda:0", n_threads, &dev, &err);
    if (status == UM_UNSUPPORTED) return NULL;
    if (status != UM_OK) fail_msg("%s", err.message);
    return mirror_open(dev);
}

/* NULL where the machine lacks the tier. */
static inline device *check_open(const char *tier, int n_threads) {
    device *dev = NULL;
    um_error err = {0};
    if (strcmp(tier, "cuda") == 0) return check_open_mirror(n_threads);
    setenv("UNMASK_CPU", tier, 1);
    um_status status = device_open("cpu", n_threads, &dev, &err);
    if (status == UM_UNSUPPORTED) return NULL;
    if (status != UM_OK) fail_msg("%s: %s", tier, err.message);
    assert_string_equal(dev->tier, tier);
    return dev;
}

static inline uint32_t check_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* Uniform in [-1, 1). */
static inline float check_uniform(uint64_t *state) {
    return (float)((double)check_random(state) * 0x1p-31 - 1.0);
}

/* n numbers in [-scale, scale), exact size, so that sanitizers see reads past the end. */
static inline float *check_floats(size_t n, float scale, uint64_t seed) {
    float *numbers = malloc(n * sizeof *numbers + 1);
    assert_non_null(numbers);
    for (size_t i = 0; i < n; i++) numbers[i] = scale * check_uniform(&seed);
    return numbers;
}

static inline void *check_scratch(size_t n_bytes) {
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, 64, n_bytes ? n_bytes : 64), 0);
    memset(memory, 0xFF, n_bytes); /* NaN: nothing may depend on what scratch held */
    return memory;
}

/* A weight [n_out, n_in] of a type at an odd address; free(*owner). decoded [n_out, n_in]. */
static inline matrix check_matrix(dtype type, int32_t n_out, int32_t n_in, float scale,
                                  uint64_t seed, void **owner, float **decoded) {
    size_t n = (size_t)n_out * (size_t)n_in, bytes = dtype_bytes(type);
    unsigned char *raw = malloc(n * bytes + 1);
    float *values = check_floats(n, scale, seed);
    assert_non_null(raw);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        uint16_t half = (uint16_t)(bits >> 16);
        if (type == DTYPE_F16) { /* random exponent, subnormals included, at most 1.99 */
            uint32_t random = check_random(&seed);
            half = (uint16_t)((random & 0x83FFu) | (random >> 16) % 16 << 10);
        }
        memcpy(raw + 1 + i * bytes, type == DTYPE_F32 ? (void *)&bits : (void *)&half, bytes);
    }
    if (type != DTYPE_F32) dtype_decode(type, raw + 1, n, values);
    *owner = raw;
    *decoded = values;
    return (matrix){.data = raw + 1, .type = type, .n_out = n_out, .n_in = n_in};
}

static inline double check_nmse(const float *found, const double *expected, size_t n) {
    double error = 0.0, size = 0.0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)found[i] - expected[i];
        error += d * d;
        size += expected[i] * expected[i];
    }
    return size > 0.0 ? error / size : error;
}

static inline void check_close(const char *what, const char *tier, const float *found,
                               const double *expected, size_t n, double limit) {
    double nmse = check_nmse(found, expected, n);
    if (!(nmse <= limit))
        fail_msg("%s, %s: expected NMSE <= %g, found %g", what, tier, limit, nmse);
}

static inline void check_same_bits(const char *what, const char *tier, const void *a, const void *b,
                                   size_t n_bytes) {
    if (memcmp(a, b, n_bytes) != 0) fail_msg("%s, %s: bits differ", what, tier);
}

#endif

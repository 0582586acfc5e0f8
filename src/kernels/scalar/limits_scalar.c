/* SPDX-License-Identifier: Apache-2.0
 *
 * The limits' loops in plain C: what a compiler makes of independent sums, as in the scalar tier.
 */
#include <string.h>

#include "kernels/cpu.h"

static volatile float sink_f32;
static volatile int32_t sink_i32;

static int64_t burn_f32(int64_t n_rounds) {
    float a = 0, b = 1, c = 2, d = 3, x = 1e-9f;
    for (int64_t i = 0; i < n_rounds; i++) {
        a += a * x;
        b += b * x;
        c += c * x;
        d += d * x;
    }
    sink_f32 = a + b + c + d;
    return 8 * n_rounds;
}

static int64_t burn_int8(int64_t n_rounds) {
    int32_t a = 0, b = 0, c = 0, d = 0;
    int8_t x = 3;
    for (int64_t i = 0; i < n_rounds; i++) {
        a += x * (int8_t)i;
        b += x * (int8_t)(i + 1);
        c += x * (int8_t)(i + 2);
        d += x * (int8_t)(i + 3);
    }
    sink_i32 = a + b + c + d;
    return 8 * n_rounds;
}

static uint64_t read_memory(const unsigned char *memory, size_t n_bytes) {
    uint64_t sum = 0;
    for (size_t i = 0; i + 8 <= n_bytes; i += 8) {
        uint64_t word;
        memcpy(&word, memory + i, sizeof word);
        sum ^= word;
    }
    return sum;
}

void limits_fill_scalar(cpu_kernels *k) {
    k->burn_f32 = burn_f32;
    k->burn_int8 = burn_int8;
    k->read = read_memory;
}

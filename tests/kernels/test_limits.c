/* SPDX-License-Identifier: Apache-2.0
 *
 * The loops behind the limits of `unmask bench`: what they claim to read they do read, and what
 * they count grows with the rounds. Speed is not tested.
 */
#include "kernel_check.h"
#include "kernels/cpu.h"
#include "kernels/limits.h"

/* A byte changed in any line changes the result. */
static void test_reads_all(void **state) {
    (void)state;
    enum { BYTES = 4096 };
    unsigned char *memory = check_scratch(BYTES);
    for (int i = 0; i < BYTES; i++) memory[i] = (unsigned char)(i * 7);
    for (int t = 0; t < N_CPU_TIERS; t++) {
        device *dev = check_open(check_tier(t), 1);
        if (!dev) continue;
        uint64_t (*read)(const unsigned char *, size_t) = cpu_kernels_of(dev)->read;
        uint64_t expected = read(memory, BYTES);
        for (int i = 0; i < BYTES; i += 8) {
            memory[i + i / 8 % 8] ^= 1;
            assert_true(read(memory, BYTES) != expected);
            memory[i + i / 8 % 8] ^= 1;
        }
        assert_true(read(memory, BYTES) == expected);
        device_close(dev);
    }
    free(memory);
}

static void check_count(int64_t (*burn)(int64_t n_rounds)) {
    int64_t once = burn(1);
    assert_true(once > 0);
    assert_true(burn(1000) == 1000 * once);
}

static void test_counts(void **state) {
    (void)state;
    for (int t = 0; t < N_CPU_TIERS; t++) {
        device *dev = check_open(check_tier(t), 1);
        if (!dev) continue;
        const cpu_kernels *k = cpu_kernels_of(dev);
        check_count(k->burn_f32);
        check_count(k->burn_int8);
        if (k->burn_bf16) check_count(k->burn_bf16);
        assert_true(!dev->has_bf16 || k->burn_bf16);
        device_close(dev);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_all),
        cmocka_unit_test(test_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

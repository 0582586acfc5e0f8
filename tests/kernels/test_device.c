/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a device, its memory, and what happens when memory runs out.
 */
#include "base/memory.h"
#include "kernel_check.h"

static void names_are_checked(void **state) {
    (void)state;
    device *dev = NULL;
    um_error err = {0};
    setenv("UNMASK_CPU", "sse9", 1);
    assert_int_equal(device_open("cpu", 1, &dev, &err), UM_INVALID);
    assert_non_null(strstr(err.message, "sse9"));
    assert_null(dev);
    unsetenv("UNMASK_CPU");
    assert_int_equal(device_open("cpu", 1, &dev, &err), UM_OK);
    assert_non_null(dev->tier);
    device_close(dev);
    device_close(NULL);
}

static void memory_is_zeroed_and_aligned(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 4097, 3u << 20};
    device *dev = check_open("scalar", 1);
    um_error err = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *memory = NULL;
        void *raw = NULL;
        assert_int_equal(device_alloc(dev, sizes[i], &raw, &err), UM_OK);
        memory = raw;
        assert_int_equal((uintptr_t)memory % 64, 0);
        for (size_t j = 0; j < sizes[i]; j++) assert_int_equal(memory[j], 0);
        memset(memory, 0xA5, sizes[i]);
        device_free(dev, memory);
    }
    void *none = NULL;
    assert_int_equal(device_alloc(dev, SIZE_MAX, &none, &err), UM_NO_MEMORY);
    assert_int_equal(device_alloc(dev, SIZE_MAX - 64, &none, &err), UM_NO_MEMORY);
    device_free(dev, NULL);
    device_close(dev);
}

static void faults_are_reported(void **state) {
    (void)state;
    setenv("UNMASK_CPU", "scalar", 1);
    for (uint64_t at = 1;; at++) {
        device *dev = NULL;
        void *memory = NULL;
        memory_fault_at(at, 0);
        um_status status = device_open("cpu", 2, &dev, NULL);
        if (status == UM_OK) {
            status = device_alloc(dev, 100, &memory, NULL);
            if (status == UM_OK) device_free(dev, memory);
            device_close(dev);
        }
        memory_fault_at(0, 0);
        if (status == UM_OK) break;
        assert_int_equal(status, UM_NO_MEMORY);
        assert_true(at < 100);
    }
}

/* A name that is none, a number that is none, and a build or a machine without a GPU. */
static void devices_are_named(void **state) {
    (void)state;
    static const char *const wrong[] = {"gpu",     "cuda",    "cuda:", "cuda:x",
                                        "cuda:-1", "cuda:0 ", "CPU",   "cuda:1234"};
    device *dev = NULL;
    um_error err;
    unsetenv("UNMASK_CPU");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(device_open(wrong[i], 1, &dev, &err), UM_INVALID);
        assert_non_null(strstr(err.message, wrong[i]));
        assert_non_null(strstr(err.message, "cuda:N"));
    }
    um_status status = device_open("cuda:999", 1, &dev, &err);
    assert_true(status == UM_UNSUPPORTED || status == UM_INVALID);
    assert_non_null(strstr(err.message, "cuda:999"));
    setenv("UNMASK_DEVICE", "nowhere", 1);
    assert_int_equal(device_open(NULL, 1, &dev, &err), UM_INVALID);
    assert_string_equal(err.where, "UNMASK_DEVICE");
    setenv("UNMASK_DEVICE", "cpu", 1);
    assert_int_equal(device_open("", 1, &dev, &err), UM_OK);
    assert_string_equal(dev->name, "cpu");
    device_close(dev);
    unsetenv("UNMASK_DEVICE");
}

/* What a GPU lacks is said in a sentence, and what failed leaves it usable. Where there is none
 * that this process may use (CUDA_VISIBLE_DEVICES= hides those that there are), that is the
 * sentence. */
static void a_gpu_says_what_it_lacks(void **state) {
    (void)state;
    device *dev = NULL;
    void *memory = NULL;
    um_error err;
    um_status status = device_open("cuda:0", 1, &dev, &err);
    if (status == UM_UNSUPPORTED) {
        print_message("%s\n", err.message);
        assert_null(dev);
        assert_true(strstr(err.message, "no NVIDIA driver") ||
                    strstr(err.message, "no NVIDIA GPU") ||
                    strstr(err.message, "expected a driver") ||
                    strstr(err.message, "this build of unmask has no CUDA"));
        return;
    }
    if (status != UM_OK) fail_msg("%s", err.message);
    device *other = NULL;
    assert_int_equal(device_open("cuda:99", 1, &other, &err), UM_INVALID);
    print_message("%s\n", err.message);
    assert_non_null(strstr(err.message, "found cuda:99"));
    assert_null(other);
    int64_t n_free = device_available_bytes(dev);
    assert_true(n_free > 0);
    for (int i = 0; i < 2; i++) {
        size_t n_bytes = i ? SIZE_MAX / 4 : (size_t)n_free + ((size_t)1 << 30);
        assert_int_equal(device_alloc(dev, n_bytes, &memory, &err), UM_NO_MEMORY);
        assert_non_null(strstr(err.message, "are free"));
        assert_null(memory);
    }
    print_message("%s\n", err.message);
    unsigned char there[64], zeros[64] = {0};
    assert_int_equal(device_alloc(dev, sizeof there, &memory, &err), UM_OK);
    memset(there, 0xA5, sizeof there);
    assert_int_equal(device_read(dev, there, memory, sizeof there), UM_OK);
    assert_memory_equal(there, zeros, sizeof there);
    device_free(dev, memory);
    device_close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_checked), cmocka_unit_test(memory_is_zeroed_and_aligned),
        cmocka_unit_test(faults_are_reported), cmocka_unit_test(devices_are_named),
        cmocka_unit_test(a_gpu_says_what_it_lacks)};
    return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Logits against the families' own code: golden.safetensors of each model folder holds input ids
 * and the float32 logits that the reference gave for them. Every tier that this processor has, and
 * the GPU where there is one, with both precisions.
 *
 * With arguments, checks one other folder: test_logits DIRECTORY TENSOR BLOCK
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/tensor_catalog.h"
#include "support/recording.h"

/* Where a model computes. Rounded activations can turn a router that is near a tie to another
 * expert (llada_moe: 2e-4; where none turns, 1e-5 to 5e-5 are found): the fast precision's limit
 * leaves room for that. Products by themselves are held to less in tests/kernels. */
static const struct place {
    const char *device, *kernels;
    um_precision precision;
    double limit;
} places[] = {
    {"cpu", "scalar", UM_PRECISION_REFERENCE, 1e-9},  {"cpu", "avx2", UM_PRECISION_REFERENCE, 1e-9},
    {"cpu", "avx512", UM_PRECISION_REFERENCE, 1e-9},  {"cpu", "amx", UM_PRECISION_REFERENCE, 1e-9},
    {"cuda:0", "cuda", UM_PRECISION_REFERENCE, 1e-8}, {"cuda:0", "cuda", UM_PRECISION_FAST, 1e-3},
};

/* Normalised mean square error: |a - b|^2 / |b|^2. */
static double nmse(const float *a, const float *b, size_t n) {
    double error = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        error += d * d;
        power += (double)b[i] * (double)b[i];
    }
    return error / power;
}

static const int32_t *read_ids(const tensor_catalog *catalog, size_t *n) {
    /* The catalog lists integer tensors without a type. */
    const tensor *t = tensor_catalog_find(catalog, "input_ids");
    assert_non_null(t);
    *n = (size_t)t->n_items;
    int32_t *ids = malloc(*n * sizeof *ids);
    assert_non_null(ids);
    memcpy(ids, t->data, *n * sizeof *ids);
    return ids;
}

static void check(const char *folder, const char *tensor_name, int32_t block_len) {
    char path[1024];
    um_error err;
    tensor_catalog *catalog;
    snprintf(path, sizeof path, "%s/golden.safetensors", folder);
    if (tensor_catalog_open_file(path, &catalog, &err) != UM_OK) fail_msg("%s", err.message);
    size_t n;
    const int32_t *ids = read_ids(catalog, &n);
    const tensor *expected = tensor_catalog_find(catalog, tensor_name);
    assert_non_null(expected);
    float *logits = malloc(expected->n_bytes), *reference = malloc(expected->n_bytes);
    assert_non_null(logits);
    assert_non_null(reference);
    memcpy(reference, expected->data, expected->n_bytes);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const struct place *at = &places[i];
        if (strcmp(at->device, "cpu") == 0)
            setenv("UNMASK_CPU", at->kernels, 1);
        else
            unsetenv("UNMASK_CPU");
        um_engine_options options;
        um_engine *engine = NULL;
        um_engine_options_init(&options);
        options.directory = folder;
        options.n_threads = 2;
        options.device = at->device;
        options.precision = at->precision;
        um_status status = um_engine_open(&options, &engine, &err);
        if (status == UM_UNSUPPORTED && i > 0) {
            printf("%s: %s\n", folder, err.message);
            continue;
        }
        if (status != UM_OK) fail_msg("%s", err.message);
        assert_string_equal(um_engine_kernels(engine), at->kernels);
        assert_int_equal(expected->shape[0], n);
        assert_int_equal(expected->shape[1], um_engine_info(engine)->vocab);
        memset(logits, 0, expected->n_bytes);
        /* Full attention: one block, whatever the family's. */
        if (um_engine_logits(engine, ids, n, block_len ? block_len : (int32_t)n, logits, &err) !=
            UM_OK)
            fail_msg("%s", err.message);
        double found = nmse(logits, reference, (size_t)expected->n_items);
        printf("%s %s: NMSE %.2e\n", folder, at->kernels, found);
        if (!(found <= at->limit))
            fail_msg("%s %s: NMSE %g, expected at most %g", folder, at->kernels, found, at->limit);
        um_engine_close(&engine);
    }
    unsetenv("UNMASK_CPU");
    free(reference);
    free(logits);
    union {
        const int32_t *read_only;
        int32_t *own;
    } ids_memory = {.read_only = ids};
    free(ids_memory.own);
    tensor_catalog_close(catalog);
}

/* block_len 0: full attention. */
typedef struct folder {
    const char *path, *tensor_name;
    int32_t block_len;
} folder;

static const folder folders[] = {
    {PROJECT_DIR "/models/demo", "logits_block32", 32},
    {TEST_DATA_DIR "/models/llada2_moe", "logits_block32", 32},
    {TEST_DATA_DIR "/models/llada22_moe", "logits_block32", 32},
    {TEST_DATA_DIR "/models/llada2_2", "logits_block32", 32},
    {TEST_DATA_DIR "/models/llada", "logits_full", 0},
    {TEST_DATA_DIR "/models/illada", "logits_full", 0},
    {TEST_DATA_DIR "/models/llada_moe", "logits_full", 0},
    {TEST_DATA_DIR "/models/dream", "logits_full_unshifted", 0},
    {TEST_DATA_DIR "/models/sdar", "logits_block4", 4},
    {TEST_DATA_DIR "/models/sdar_moe", "logits_block8", 8},
    {TEST_DATA_DIR "/models/rnd1", "logits_full", 0},
    {TEST_DATA_DIR "/models/fast_dllm_v2", "logits_block32", 32},
};

static void test_folders(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        check(folders[i].path, folders[i].tensor_name, folders[i].block_len);
}

static void test_arguments(void **state) {
    char **argv = *state;
    check(argv[1], argv[2], atoi(argv[3]));
}

int main(int argc, char **argv) {
    if (argc == 4) {
        const struct CMUnitTest test[] = {cmocka_unit_test_prestate(test_arguments, argv)};
        return cmocka_run_group_tests(test, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

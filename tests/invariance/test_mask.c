/* SPDX-License-Identifier: Apache-2.0
 *
 * Probes of the mask: a changed token moves exactly the scores that may see it. Bit for bit, on
 * logits, at block borders and inside blocks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/recording.h"

enum { N = 83 }; /* not a multiple of any block or page */

static void logits_of(um_engine *engine, const int32_t *ids, int32_t n, int32_t block_len,
                      float *logits) {
    um_error err;
    if (um_engine_logits(engine, ids, (size_t)n, block_len, logits, &err) != UM_OK)
        fail_msg("%s", err.message);
}

/* block_len 0: the model's own. */
static void probe(const char *directory, int32_t block_len) {
    um_engine *engine = recording_open(directory, 2, 0);
    const um_model_info *info = um_engine_info(engine);
    bool is_full = info->attention == UM_ATTENTION_FULL;
    size_t vocab = (size_t)info->vocab;
    if (block_len == 0) block_len = info->block_len ? info->block_len : N;
    float *before = malloc(N * vocab * sizeof *before), *after = malloc(N * vocab * sizeof *after);
    assert_non_null(before);
    assert_non_null(after);
    int32_t ids[N];
    for (int32_t i = 0; i < N; i++) ids[i] = (int32_t)((i * 37 + 11) % 480) + 3;
    logits_of(engine, ids, N, block_len, before);
    static const int32_t changed[] = {0, 1, 15, 16, 31, 32, 47, 48, 63, 64, 81, 82};
    for (size_t c = 0; c < sizeof changed / sizeof *changed; c++) {
        int32_t at = changed[c];
        ids[at] += 1;
        logits_of(engine, ids, N, block_len, after);
        ids[at] -= 1;
        for (int32_t row = 0; row < N; row++) {
            bool must_see = is_full || row / block_len >= at / block_len;
            bool is_equal = memcmp(before + (size_t)row * vocab, after + (size_t)row * vocab,
                                   vocab * sizeof(float)) == 0;
            if (must_see == is_equal)
                fail_msg("%s, block %d: position %d %s when %d changes", directory, block_len, row,
                         is_equal ? "stays" : "moves", at);
        }
    }
    free(after);
    free(before);
    um_engine_close(&engine);
}

#define FOLDER(name_) TEST_DATA_DIR "/models/" name_
static const char *const folders[] = {
    FOLDER("llada2_moe"), FOLDER("llada2_2"),     FOLDER("llada22_moe"), FOLDER("sdar"),
    FOLDER("sdar_moe"),   FOLDER("fast_dllm_v2"), FOLDER("llada"),       FOLDER("llada_moe"),
    FOLDER("illada"),     FOLDER("dream"),        FOLDER("rnd1"),        PROJECT_DIR "/models/demo",
};

/* Every family with its own blocks. */
static void test_families(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) probe(folders[i], 0);
}

/* Blocks of any length, where the family does not route experts by blocks. */
static void test_blocks(void **state) {
    (void)state;
    static const int32_t lengths[] = {16, 7, 1};
    static const char *const causal[] = {FOLDER("llada2_moe"), FOLDER("sdar"), FOLDER("sdar_moe"),
                                         FOLDER("fast_dllm_v2")};
    for (size_t i = 0; i < sizeof causal / sizeof *causal; i++)
        for (size_t j = 0; j < sizeof lengths / sizeof *lengths; j++) probe(causal[i], lengths[j]);
}

/* A shorter sequence is the longer one without its last blocks: slots of a page that no position of
 * the sequence owns change nothing, whatever an earlier sequence has left there. */
static void test_padding(void **state) {
    (void)state;
    um_engine *engine = recording_open(TEST_DATA_DIR "/models/llada2_moe", 2, 0);
    size_t vocab = (size_t)um_engine_info(engine)->vocab;
    float *fresh = malloc(N * vocab * sizeof *fresh), *used = malloc(N * vocab * sizeof *used);
    assert_non_null(fresh);
    assert_non_null(used);
    int32_t ids[N];
    for (int32_t i = 0; i < N; i++) ids[i] = (int32_t)((i * 31 + 5) % 480) + 3;
    logits_of(engine, ids, 40, 32, fresh); /* the pages are all zero */
    logits_of(engine, ids, N, 16, used);   /* leaves keys behind */
    logits_of(engine, ids, 40, 32, used);
    assert_memory_equal(fresh, used, 40 * vocab * sizeof(float));
    logits_of(engine, ids, 64, 32, used); /* the first block is the same in a longer sequence */
    assert_memory_equal(fresh, used, 32 * vocab * sizeof(float));
    free(used);
    free(fresh);
    um_engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

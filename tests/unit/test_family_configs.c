/* SPDX-License-Identifier: Apache-2.0
 *
 * Generated: the config of every family with each field missing in turn, and each replaced by
 * values that do not belong there. Never a crash; an error says what it is about; and what is
 * accepted also runs.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "support/temp_dir.h"
#include "unmask.h"

static const char *const folders[] = {
    TEST_DATA_DIR "/models/llada2_moe",   TEST_DATA_DIR "/models/llada",
    TEST_DATA_DIR "/models/llada22_moe",  TEST_DATA_DIR "/models/llada2_2",
    TEST_DATA_DIR "/models/illada",       TEST_DATA_DIR "/models/llada_moe",
    TEST_DATA_DIR "/models/dream",        TEST_DATA_DIR "/models/sdar",
    TEST_DATA_DIR "/models/sdar_moe",     TEST_DATA_DIR "/models/rnd1",
    TEST_DATA_DIR "/models/fast_dllm_v2", PROJECT_DIR "/models/demo",
};

/* NULL: the field is missing. */
static const char *const values[] = {NULL,    "-1",       "0",    "1",  "7",  "1e9", "2147483648",
                                     "1e300", "\"text\"", "null", "[]", "{}", "true"};

typedef struct counts {
    int n_cases, n_accepted, n_run, i_sample;
} counts;

static json_t *load(const char *folder) {
    char path[1024];
    snprintf(path, sizeof path, "%s/config.json", folder);
    json_t *config = json_load_file(path, 0, NULL);
    assert_non_null(config);
    return config;
}

static bool is_allowed(um_status status) {
    static const um_status allowed[] = {UM_INVALID, UM_FORMAT,    UM_UNSUPPORTED,
                                        UM_LIMIT,   UM_NOT_FOUND, UM_NO_MEMORY};
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (status == allowed[i]) return true;
    return false;
}

/* An error names the field itself, a field that it contradicts, or a tensor. A field that is gone
 * may be known by another name: config is then no help, but the message has one in quotes. */
static bool is_named(json_t *config, const char *message, const char *field) {
    char quoted[128];
    const char *last = strrchr(field, '.'), *key;
    json_t *value;
    if (strstr(message, last ? last + 1 : field)) return true;
    static const char *const tensors[] = {".weight", ".bias", "_bias", "experts."};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        if (strstr(message, tensors[i])) return true;
    json_object_foreach(config, key, value) {
        snprintf(quoted, sizeof quoted, "\"%s\"", key);
        if (strstr(message, quoted)) return true;
    }
    bool is_kind = strcmp(field, "architectures") == 0 || strcmp(field, "model_type") == 0;
    return is_kind && strstr(message, "config.json: \"");
}

/* What is accepted runs 8 tokens, or says why not. */
static void run(const char *directory, const um_model_info *info, const char *what) {
    um_engine_options options;
    um_engine *engine = NULL;
    um_error err = {0};
    um_engine_options_init(&options);
    options.directory = directory;
    options.n_threads = 1;
    options.cache_tokens = 64;
    um_status status = um_engine_open(&options, &engine, &err);
    if (status == UM_OK) {
        int32_t ids[8];
        float *logits = malloc(8 * sizeof *logits * (size_t)info->vocab);
        assert_non_null(logits);
        for (int32_t i = 0; i < 8; i++) ids[i] = (i * 37 + 5) % info->vocab;
        status = um_engine_logits(engine, ids, 8, 0, logits, &err);
        if (status == UM_INVALID && info->block_len == 0)
            status = um_engine_logits(engine, ids, 8, 8, logits, &err);
        free(logits);
    }
    um_engine_close(&engine);
    if (status != UM_OK && status != UM_NUMERIC && !is_allowed(status))
        fail_msg("%s: %s: %s", what, um_status_name(status), err.message);
    if (status != UM_OK && !err.message[0]) fail_msg("%s: an error without a message", what);
}

static void check_case(const temp_dir *dir, json_t *config, const char *field, const char *value,
                       counts *n) {
    char what[256];
    char *text = json_dumps(config, 0);
    assert_non_null(text);
    temp_dir_write_text(dir, "config.json", text);
    snprintf(what, sizeof what, "%.80s: \"%s\": %s",
             json_string_value(json_array_get(json_object_get(config, "architectures"), 0)), field,
             value ? value : "missing");
    um_model_info info;
    um_error err = {0};
    um_status status = um_model_inspect(dir->path, -1, &info, &err);
    n->n_cases++;
    if (status == UM_OK) {
        n->n_accepted++;
        /* Instrumented code is slow: every eighth there. */
        if (!TEST_IS_SAMPLED || n->i_sample++ % 8 == 0) {
            run(dir->path, &info, what);
            n->n_run++;
        }
    } else {
        if (!is_allowed(status))
            fail_msg("%s: %s: %s\n%s", what, um_status_name(status), err.message, text);
        if (!is_named(config, err.message, field))
            fail_msg("%s: neither the field nor a tensor is named: %s", what, err.message);
    }
    free(text);
}

/* Every value in the place of object[key], which is config's `field`. */
static void check_field(const temp_dir *dir, json_t *config, json_t *object, const char *key,
                        const char *field, counts *n) {
    json_t *own = json_incref(json_object_get(object, key));
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (values[i])
            json_object_set_new(object, key, json_loads(values[i], JSON_DECODE_ANY, NULL));
        else
            json_object_del(object, key);
        check_case(dir, config, field, values[i], n);
    }
    json_object_set_new(object, key, own);
}

static void check_folder(const char *folder) {
    counts n = {0};
    char from[1024], to[1024];
    temp_dir dir;
    temp_dir_create(&dir);
    static const char *const files[] = {
        "model.safetensors", "model.safetensors.index.json", "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(from, sizeof from, "%s/%s", folder, files[i]);
        snprintf(to, sizeof to, "%s/%s", dir.path, files[i]);
        if (access(from, R_OK) == 0 && symlink(from, to) != 0) fail_msg("cannot link %s", from);
    }
    json_t *config = load(folder), *original = load(folder);
    const char *key;
    json_t *value;
    json_object_foreach(original, key, value) {
        check_field(&dir, config, config, key, key, &n);
        const char *inner_key;
        json_t *inner;
        json_object_foreach(value, inner_key, inner) {
            char field[256];
            snprintf(field, sizeof field, "%s.%s", key, inner_key);
            check_field(&dir, config, json_object_get(config, key), inner_key, field, &n);
        }
    }
    printf("%s: %d configs, %d accepted, %d of them run\n", folder, n.n_cases, n.n_accepted,
           n.n_run);
    assert_true(json_equal(config, original));
    json_decref(config);
    json_decref(original);
    temp_dir_destroy(&dir);
}

static void test_every_field(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) check_folder(folders[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_field)};
    return cmocka_run_group_tests_name("family_configs", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Policies against their authors' own code, forward by forward: tests/data/traces holds what that
 * code did on the small models (tools/reference says how the files are made). Every input at a
 * position that both know, every change, the order of forwards, the answer.
 *
 * With arguments, checks those files instead, on models of another folder if it is named:
 * test_policy_traces [--models FOLDER] FILE...
 */
#include <dirent.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/recording.h"
#include "support/temp_dir.h"

static const char *models_folder = TEST_DATA_DIR "/models";

static int32_t *read_ids(const json_t *array, size_t *n) {
    *n = json_array_size(array);
    int32_t *ids = malloc((*n + 1) * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return ids;
}

/* Sets one option by the name that the files use; an unknown one fails the test. */
static void set_option(um_request_options *o, const char *name, const json_t *value) {
    double number = json_number_value(value);
    const struct {
        const char *name;
        double *real;
        int32_t *integer;
        bool *flag;
    } plain[] = {
        {"threshold", &o->threshold, NULL, NULL},
        {"edit_threshold", &o->edit_threshold, NULL, NULL},
        {"low_threshold", &o->low_threshold, NULL, NULL},
        {"factor", &o->factor, NULL, NULL},
        {"eps", &o->eps, NULL, NULL},
        {"alg_temp", &o->alg_temp, NULL, NULL},
        {"entropy_bound", &o->entropy_bound, NULL, NULL},
        {"credit_alpha", &o->credit_alpha, NULL, NULL},
        {"credit_beta", &o->credit_beta, NULL, NULL},
        {"credit_gamma", &o->credit_gamma, NULL, NULL},
        {"block_add", &o->block_add, NULL, NULL},
        {"decoded", &o->block_ready, NULL, NULL},
        {"temperature", &o->temperature, NULL, NULL},
        {"top_p", &o->top_p, NULL, NULL},
        {"cfg_scale", &o->cfg_scale, NULL, NULL},
        {"max_tokens", NULL, &o->max_tokens, NULL},
        {"block", NULL, &o->block_len, NULL},
        {"sub_block", NULL, &o->sub_block, NULL},
        {"steps", NULL, &o->steps, NULL},
        {"post_steps", NULL, &o->post_steps, NULL},
        {"window", NULL, &o->window, NULL},
        {"top_k", NULL, &o->top_k, NULL},
        {"logits_eos_inf", NULL, NULL, &o->logits_eos_inf},
        {"confidence_eos_eot_inf", NULL, NULL, &o->confidence_eos_eot_inf},
    };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (strcmp(plain[i].name, name) != 0) continue;
        if (plain[i].real) *plain[i].real = number;
        if (plain[i].integer) *plain[i].integer = (int32_t)number;
        if (plain[i].flag) *plain[i].flag = json_is_true(value);
        return;
    }
    const char *text = json_string_value(value);
    if (strcmp(name, "eb_gamma") == 0) {
        o->entropy_bound = number;
        o->metric = UM_METRIC_CONFIDENCE;
    } else if (strcmp(name, "schedule") == 0) {
        o->eps = strcmp(text, "even") == 0 ? 0 : 1e-3;
    } else if (strcmp(name, "order") == 0) {
        o->metric = UM_METRIC_CONFIDENCE;
    } else if (strcmp(name, "policy") == 0) {
        o->policy = text;
    } else if (strcmp(name, "seed") == 0) {
        o->seed = (uint64_t)json_integer_value(value);
    } else if (strcmp(name, "metric") == 0) {
        o->metric = strcmp(text, "entropy") == 0 ? UM_METRIC_ENTROPY : UM_METRIC_CONFIDENCE;
    } else if (strcmp(name, "remask") == 0) {
        o->remask = strcmp(text, "random") == 0 ? UM_REMASK_RANDOM : UM_REMASK_LOW_CONFIDENCE;
    } else if (strcmp(name, "cache") == 0) {
        o->cache = strcmp(text, "prefix") == 0 ? UM_CACHE_PREFIX
                   : strcmp(text, "dual") == 0 ? UM_CACHE_DUAL
                   : strcmp(text, "none") == 0 ? UM_CACHE_NONE
                                               : UM_CACHE_EXACT;
    } else if (strcmp(name, "attention") == 0) {
        o->attention = strcmp(text, "blocks") == 0 ? UM_ATTENTION_OF_BLOCKS : UM_ATTENTION_OF_MODEL;
    } else if (strcmp(name, "eos_token") != 0 && strcmp(name, "eot_token") != 0) {
        fail_msg("the traces name an option \"%s\" that this test does not know", name);
    }
}

static void compare_forward(const json_t *forward, const recorded_step *step, int i,
                            const char *what) {
    const json_t *inputs = json_object_get(forward, "inputs");
    int32_t first = (int32_t)json_integer_value(json_object_get(forward, "first"));
    int32_t n_compared = 0;
    bool is_seed = json_object_get(forward, "kind") != NULL;
    for (int32_t j = 0; j < (int32_t)json_array_size(inputs); j++) {
        int32_t at = first + j - step->first_position;
        int32_t expected = (int32_t)json_integer_value(json_array_get(inputs, (size_t)j));
        if (at < 0 || at >= step->n_inputs) continue;
        n_compared++;
        if (step->inputs[at] != expected)
            fail_msg("%s, forward %d: position %d went in as %d, the reference's as %d", what, i,
                     first + j, step->inputs[at], expected);
    }
    /* A seed's inputs are the block before; its change is what counts. */
    if (!n_compared && !is_seed)
        fail_msg("%s, forward %d: the reference works at positions %d and on, here it is %d on",
                 what, i, first, step->first_position);
    const json_t *changes = json_object_get(forward, "changes");
    for (size_t j = 0; j < json_array_size(changes) || j < (size_t)step->n_changes; j++) {
        const json_t *change = json_array_get(changes, j);
        int32_t position = change ? (int32_t)json_integer_value(json_array_get(change, 0)) : -1;
        int32_t token = change ? (int32_t)json_integer_value(json_array_get(change, 1)) : -1;
        bool is_here = j < (size_t)step->n_changes;
        if (!is_here || step->changes[j].position != position || step->changes[j].token != token)
            fail_msg(
                "%s, forward %d: change %zu is token %d at position %d, the reference's "
                "token %d at %d",
                what, i, j, is_here ? step->changes[j].token : -1,
                is_here ? step->changes[j].position : -1, token, position);
    }
}

/* Some loops go on after the last mask: forwards that change nothing, or only seed a block that is
 * behind the canvas. The engine does not make them. */
static bool is_without_effect(const json_t *forward, int32_t n_prompt, int32_t max_tokens) {
    const json_t *changes = json_object_get(forward, "changes");
    for (size_t j = 0; j < json_array_size(changes); j++) {
        const json_t *position = json_array_get(json_array_get(changes, j), 0);
        if (json_integer_value(position) < n_prompt + max_tokens) return false;
    }
    return true;
}

/* An engine on the model's folder, or on a copy whose config names other end tokens. */
static um_engine *open_model(const char *folder, const json_t *options, temp_dir *copy) {
    char path[1024], tokens[64];
    const json_t *eos = json_object_get(options, "eos_token");
    if (!eos) return recording_open(folder, 2, 2048);
    json_error_t error;
    snprintf(path, sizeof path, "%s/config.json", folder);
    json_t *config = json_load_file(path, 0, &error);
    assert_non_null(config);
    json_t *eot = json_object_get(options, "eot_token");
    json_object_set_new(config, "eos_token_id",
                        json_pack("[I,I]", json_integer_value(eos), json_integer_value(eot)));
    snprintf(tokens, sizeof tokens, "config.json");
    char *text = json_dumps(config, 0);
    temp_dir_create(copy);
    temp_dir_write_text(copy, tokens, text);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    temp_dir_copy(copy, "model.safetensors", path);
    free(text);
    json_decref(config);
    return recording_open(copy->path, 2, 2048);
}

static void check_case(const json_t *trace, const char *file, size_t i) {
    char what[256], folder[512];
    temp_dir copy = {.path = ""};
    const char *model = json_string_value(json_object_get(trace, "model"));
    json_t *options = json_object_get(trace, "options"), *value;
    snprintf(what, sizeof what, "%s case %zu (%s)", file, i,
             json_string_value(json_object_get(trace, "reference")));
    snprintf(folder, sizeof folder, "%s/%s", models_folder, model);
    um_request_options o;
    um_request_options_init(&o);
    size_t n_prompt, n_output;
    int32_t *prompt = read_ids(json_object_get(trace, "prompt_ids"), &n_prompt);
    o.prompt = prompt;
    o.n_prompt = n_prompt;
    o.ignore_eos = true;
    o.fold = UM_FOLD_OFF; /* forwards are counted */
    const char *name;
    json_object_foreach(options, name, value) set_option(&o, name, value);
    um_engine *engine = open_model(folder, options, &copy);
    recording r;
    recording_run(engine, &o, 1, &r);
    if (r.status != UM_OK) fail_msg("%s: %s", what, r.error.message);
    const json_t *forwards = json_object_get(trace, "forwards");
    size_t n_forwards = json_array_size(forwards);
    for (size_t j = 0; j < n_forwards && j < (size_t)r.n_steps; j++)
        compare_forward(json_array_get(forwards, j), &r.steps[j], (int)j, what);
    while (n_forwards > (size_t)r.n_steps &&
           is_without_effect(json_array_get(forwards, n_forwards - 1), (int32_t)o.n_prompt,
                             o.max_tokens))
        n_forwards--;
    if (n_forwards != (size_t)r.n_steps)
        fail_msg("%s: %d forwards, the reference made %zu", what, r.n_steps, n_forwards);
    int32_t *output = read_ids(json_object_get(trace, "output_ids"), &n_output);
    for (size_t j = 0; j < n_output && j < (size_t)r.n_tokens; j++)
        assert_int_equal(output[j], r.tokens[j]);
    printf("%s: %zu forwards equal\n", what, n_forwards);
    free(output);
    free(prompt);
    recording_free(&r);
    um_engine_close(&engine);
    if (copy.path[0]) temp_dir_destroy(&copy);
}

static void check_file(const char *path) {
    json_error_t error;
    json_t *traces = json_load_file(path, 0, &error);
    if (!traces) fail_msg("%s: %s", path, error.text);
    const char *slash = strrchr(path, '/');
    assert_true(json_array_size(traces) > 0);
    for (size_t i = 0; i < json_array_size(traces); i++)
        check_case(json_array_get(traces, i), slash ? slash + 1 : path, i);
    json_decref(traces);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void test_file(void **state) {
    check_file(*state);
}

/* One test a file, so that a failure names it and the others still run. */
int main(int argc, char **argv) {
    recording_precision = UM_PRECISION_REFERENCE;
    enum { FILES_MAX = 128 };
    static char *files[FILES_MAX];
    int n_files = 0, n_failed = 0;
    int first = argc > 2 && strcmp(argv[1], "--models") == 0 ? 3 : 1;
    if (first == 3) models_folder = argv[2];
    for (int i = first; i < argc && n_files < FILES_MAX; i++) files[n_files++] = strdup(argv[i]);
    DIR *folder = argc > 1 ? NULL : opendir(TEST_DATA_DIR "/traces");
    for (struct dirent *entry; folder && (entry = readdir(folder)) && n_files < FILES_MAX;) {
        char path[1024];
        if (!strstr(entry->d_name, ".json")) continue;
        snprintf(path, sizeof path, "%s/traces/%s", TEST_DATA_DIR, entry->d_name);
        files[n_files++] = strdup(path);
    }
    if (folder) closedir(folder);
    if (n_files == 0) {
        fprintf(stderr, "no traces in %s/traces\n", TEST_DATA_DIR);
        return 1;
    }
    qsort(files, (size_t)n_files, sizeof *files, by_name);
    for (int i = 0; i < n_files; i++) {
        const struct CMUnitTest test[] = {{files[i], test_file, NULL, NULL, files[i]}};
        n_failed += cmocka_run_group_tests(test, NULL, NULL) != 0;
        free(files[i]);
    }
    return n_failed != 0;
}

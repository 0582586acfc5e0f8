/* SPDX-License-Identifier: Apache-2.0
 *
 * Both files are kept as JSON and read on demand: the families ask for different keys, and what
 * nobody asks for is not judged. An integer may be written as a real that is exactly one ("32.0",
 * 1e6): configurations made by tools that know only doubles have them.
 */
#include "formats/hf_config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "formats/hf_mask_token.h"
#include "formats/json_text.h"

static const char config_name[] = "config.json";
static const char generation_name[] = "generation_config.json";

enum { CONFIG_BYTES_MAX = 16 << 20 };

/* One of the two files. */
typedef struct section {
    const char *name;
    json_t *root; /* NULL where the file is absent */
} section;

struct hf_config {
    section config, generation;
};

static um_status create(hf_config **config, um_error *err) {
    *config = memory_calloc(1, sizeof **config);
    if (!*config) FAIL(UM_NO_MEMORY, err, "no memory for %s", config_name);
    (*config)->config.name = config_name;
    (*config)->generation.name = generation_name;
    return UM_OK;
}

/* Gives the new config to the caller, or frees it. */
static um_status finish(um_status status, hf_config *made, hf_config **config) {
    if (status != UM_OK) {
        hf_config_close(made);
        made = NULL;
    }
    *config = made;
    return status;
}

um_status hf_config_open(const char *directory, hf_config **config, um_error *err) {
    hf_config *made = NULL;
    *config = NULL;
    TRY(create(&made, err));
    um_status status = json_text_open(directory, config_name, CONFIG_BYTES_MAX,
                                      JSON_TEXT_BIG_NUMBERS, &made->config.root, err);
    if (status == UM_OK) {
        um_error ignored;
        status = json_text_open(directory, generation_name, CONFIG_BYTES_MAX, JSON_TEXT_BIG_NUMBERS,
                                &made->generation.root, &ignored);
        if (status == UM_NOT_FOUND)
            status = UM_OK;
        else if (status != UM_OK && err)
            *err = ignored;
    }
    return finish(status, made, config);
}

um_status hf_config_parse(const char *config_json, size_t n_config, const char *generation_json,
                          size_t n_generation, hf_config **config, um_error *err) {
    hf_config *made = NULL;
    *config = NULL;
    TRY(create(&made, err));
    um_status status = json_text_parse(config_json, n_config, config_name, JSON_TEXT_BIG_NUMBERS,
                                       &made->config.root, err);
    if (status != UM_OK) {
        um_error_at(err, config_name, -1);
    } else if (generation_json) {
        status = json_text_parse(generation_json, n_generation, generation_name,
                                 JSON_TEXT_BIG_NUMBERS, &made->generation.root, err);
        if (status != UM_OK) um_error_at(err, generation_name, -1);
    }
    return finish(status, made, config);
}

um_status hf_config_from_json_take(json_t *config, const char *name, hf_config **out,
                                   um_error *err) {
    *out = NULL;
    um_status status = create(out, err);
    if (status != UM_OK) {
        json_decref(config);
        return status;
    }
    (*out)->config.root = config;
    (*out)->config.name = name;
    return UM_OK;
}

um_status hf_config_add_generation(hf_config *config, const char *json, size_t n_bytes,
                                   um_error *err) {
    um_status status = json_text_parse(json, n_bytes, generation_name, JSON_TEXT_BIG_NUMBERS,
                                       &config->generation.root, err);
    if (status != UM_OK) um_error_at(err, generation_name, -1);
    return status;
}

void hf_config_close(hf_config *config) {
    if (!config) return;
    json_decref(config->config.root);
    json_decref(config->generation.root);
    memory_free(config);
}

const char *hf_config_architecture(const hf_config *config) {
    const json_t *list = json_object_get(config->config.root, "architectures");
    return json_string_value(json_array_get(list, 0));
}

const char *hf_config_model_type(const hf_config *config) {
    return json_string_value(json_object_get(config->config.root, "model_type"));
}

/* ---- Values --------------------------------------------------------------------------------- */

/* The value of a key; NULL where it is absent or null. No key of a config holds a dot itself. */
static const json_t *lookup(const section *s, const char *key) {
    const json_t *value = s->root;
    for (const char *dot; (dot = strchr(key, '.')); key = dot + 1) {
        value = json_object_getn(value, key, (size_t)(dot - key));
        if (value && !json_is_object(value)) return json_is_null(value) ? NULL : value;
    }
    value = json_object_get(value, key);
    return json_is_null(value) ? NULL : value;
}

bool hf_config_has(const hf_config *config, const char *key) {
    return lookup(&config->config, key) != NULL;
}

bool hf_config_is_set(const hf_config *config, const char *key) {
    const json_t *value = lookup(&config->config, key);
    return value && !json_is_false(value);
}

/* The error of a value that is not what it should be. */
static um_status refuse(const section *s, const char *key, const char *expected,
                        const json_t *value, um_error *err) {
    char found[JSON_TEXT_EXCERPT_BYTES];
    um_error_set(err, UM_FORMAT, "%s: \"%s\": expected %s, found %s", s->name, key, expected,
                 json_text_describe(value, found));
    um_error_at(err, s->name, -1);
    return UM_FORMAT;
}

static um_status read_int(const section *s, const char *key, const json_t *from, int64_t low,
                          int64_t high, int64_t *value, um_error *err) {
    int64_t number;
    if (!json_text_is_integer(from, &number) || number < low || number > high) {
        char expected[96];
        snprintf(expected, sizeof expected, "an integer from %" PRId64 " to %" PRId64, low, high);
        return refuse(s, key, expected, from, err);
    }
    *value = number;
    return UM_OK;
}

static um_status read_real(const section *s, const char *key, const json_t *from, double low,
                           double high, double *value, um_error *err) {
    double number = json_number_value(from);
    /* Written so that NaN, which jansson does not read, would fail as well. */
    if (!json_is_number(from) || !(number >= low && number <= high)) {
        char expected[96];
        snprintf(expected, sizeof expected, "a number from %g to %g", low, high);
        return refuse(s, key, expected, from, err);
    }
    *value = number;
    return UM_OK;
}

static um_status read_string_or(const section *s, const char *key, const char *fallback,
                                const char **text, um_error *err) {
    const json_t *from = lookup(s, key);
    if (from && !json_is_string(from)) return refuse(s, key, "a string", from, err);
    *text = from ? json_string_value(from) : fallback;
    return UM_OK;
}

static um_status read_int_or(const section *s, const char *key, int64_t low, int64_t high,
                             int64_t fallback, int64_t *value, um_error *err) {
    const json_t *from = lookup(s, key);
    if (from) return read_int(s, key, from, low, high, value, err);
    *value = fallback;
    return UM_OK;
}

static um_status read_real_or(const section *s, const char *key, double low, double high,
                              double fallback, double *value, um_error *err) {
    const json_t *from = lookup(s, key);
    if (from) return read_real(s, key, from, low, high, value, err);
    *value = fallback;
    return UM_OK;
}

um_status hf_config_int(const hf_config *config, const char *key, int64_t low, int64_t high,
                        int64_t *value, um_error *err) {
    return read_int(&config->config, key, lookup(&config->config, key), low, high, value, err);
}

um_status hf_config_int_or(const hf_config *config, const char *key, int64_t low, int64_t high,
                           int64_t fallback, int64_t *value, um_error *err) {
    return read_int_or(&config->config, key, low, high, fallback, value, err);
}

um_status hf_config_real(const hf_config *config, const char *key, double low, double high,
                         double *value, um_error *err) {
    return read_real(&config->config, key, lookup(&config->config, key), low, high, value, err);
}

um_status hf_config_real_or(const hf_config *config, const char *key, double low, double high,
                            double fallback, double *value, um_error *err) {
    return read_real_or(&config->config, key, low, high, fallback, value, err);
}

um_status hf_config_bool_or(const hf_config *config, const char *key, bool fallback, bool *value,
                            um_error *err) {
    const json_t *from = lookup(&config->config, key);
    if (from && !json_is_boolean(from))
        return refuse(&config->config, key, "true or false", from, err);
    *value = from ? json_is_true(from) : fallback;
    return UM_OK;
}

um_status hf_config_string_or(const hf_config *config, const char *key, const char *fallback,
                              const char **text, um_error *err) {
    return read_string_or(&config->config, key, fallback, text, err);
}

um_status hf_config_generation_int_or(const hf_config *config, const char *key, int64_t low,
                                      int64_t high, int64_t fallback, int64_t *value,
                                      um_error *err) {
    return read_int_or(&config->generation, key, low, high, fallback, value, err);
}

um_status hf_config_generation_real_or(const hf_config *config, const char *key, double low,
                                       double high, double fallback, double *value, um_error *err) {
    return read_real_or(&config->generation, key, low, high, fallback, value, err);
}

um_status hf_config_generation_string_or(const hf_config *config, const char *key,
                                         const char *fallback, const char **text, um_error *err) {
    return read_string_or(&config->generation, key, fallback, text, err);
}

um_status hf_config_ints_or_none(const hf_config *config, const char *key, int64_t low,
                                 int64_t high, int32_t *values, int32_t capacity, int32_t *n_values,
                                 um_error *err) {
    const section *s = &config->config;
    const json_t *from = lookup(s, key);
    *n_values = 0;
    if (!from) return UM_OK;
    if (!json_is_array(from) || json_array_size(from) > (size_t)capacity) {
        char expected[64];
        snprintf(expected, sizeof expected, "a list of at most %d", capacity);
        return refuse(s, key, expected, from, err);
    }
    for (size_t i = 0; i < json_array_size(from); i++) {
        char item[128];
        int64_t value;
        snprintf(item, sizeof item, "%s[%zu]", key, i);
        TRY(read_int(s, item, json_array_get(from, i), low, high, &value, err));
        values[i] = (int32_t)value;
    }
    *n_values = (int32_t)json_array_size(from);
    return UM_OK;
}

/* ---- Tokens --------------------------------------------------------------------------------- */

typedef struct token_list {
    int32_t *tokens; /* [capacity] */
    int32_t capacity, n;
} token_list;

static um_status add_stop_token(const section *s, const json_t *from, int64_t vocab,
                                token_list *list, um_error *err) {
    int64_t token;
    TRY(read_int(s, "eos_token_id", from, 0, vocab - 1, &token, err));
    for (int32_t i = 0; i < list->n; i++)
        if (list->tokens[i] == token) return UM_OK;
    if (list->n == list->capacity) {
        um_error_set(err, UM_UNSUPPORTED,
                     "%s: \"eos_token_id\": expected at most %d different tokens, found more",
                     s->name, list->capacity);
        um_error_at(err, s->name, -1);
        return UM_UNSUPPORTED;
    }
    list->tokens[list->n++] = (int32_t)token;
    return UM_OK;
}

static um_status add_stop_tokens(const section *s, int64_t vocab, token_list *list, um_error *err) {
    const json_t *from = lookup(s, "eos_token_id");
    if (!from) return UM_OK;
    if (!json_is_array(from)) return add_stop_token(s, from, vocab, list, err);
    for (size_t i = 0; i < json_array_size(from); i++)
        TRY(add_stop_token(s, json_array_get(from, i), vocab, list, err));
    return UM_OK;
}

um_status hf_config_stop_tokens(const hf_config *config, int64_t vocab, int32_t *tokens,
                                int32_t capacity, int32_t *n_tokens, um_error *err) {
    token_list list = {.tokens = tokens, .capacity = capacity};
    *n_tokens = 0;
    TRY(add_stop_tokens(&config->config, vocab, &list, err));
    TRY(add_stop_tokens(&config->generation, vocab, &list, err));
    *n_tokens = list.n;
    return UM_OK;
}

um_status hf_config_mask_token(const hf_config *config, const char *directory, int64_t vocab,
                               int32_t *token, um_error *err) {
    int64_t value;
    *token = -1;
    if (hf_config_has(config, "mask_token_id")) {
        TRY(hf_config_int(config, "mask_token_id", 0, vocab - 1, &value, err));
        *token = (int32_t)value;
        return UM_OK;
    }
    return directory ? hf_mask_token_find(directory, vocab, token, err) : UM_OK;
}

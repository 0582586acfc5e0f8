/* SPDX-License-Identifier: Apache-2.0
 *
 * Works on the JSON of tokenizer.json. tokenizer_open reads the same files first, so that what is
 * met here has the shapes that it has checked.
 */
#include "text/tokenizer_export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "text/json_field.h"

enum { FILE_BYTES_MAX = 256 << 20, HOLE_BYTES = 16, STEPS_MAX = 16 };

static um_status no_memory(um_error *err) {
    FAIL(UM_NO_MEMORY, err, "no memory for a tokenizer's lists");
}

/* The text of directory/name, or NULL where it is not there. */
static um_status read_text(const char *directory, const char *name, char **text, size_t *n_bytes,
                           um_error *err) {
    um_status status = UM_OK;
    char *path = file_path_join(directory, name);
    *text = NULL;
    if (!path) return no_memory(err);
    if (file_exists(path)) status = file_read(path, FILE_BYTES_MAX, text, n_bytes, err);
    memory_free(path);
    return status;
}

static um_status read_json(const char *directory, const char *name, bool has_big_numbers,
                           json_t **root, um_error *err) {
    char *text;
    size_t n_bytes;
    *root = NULL;
    TRY(read_text(directory, name, &text, &n_bytes, err));
    if (!text) return UM_OK;
    um_status status = json_field_parse(text, n_bytes, name, has_big_numbers, root, err);
    memory_free(text);
    if (status != UM_OK) um_error_at(err, name, -1);
    return status;
}

/* ---- Added tokens --------------------------------------------------------------------------- */

/* The added token with this id, or NULL. */
static json_t *find_added(const json_t *added, json_int_t id) {
    size_t i;
    json_t *item;
    json_array_foreach(added, i, item) {
        if (json_integer_value(json_object_get(item, "id")) == id) return item;
    }
    return NULL;
}

/* Whether a token of the model's own vocabulary, or an added one, has this text; its id. */
static bool find_text(const json_t *root, const char *text, json_int_t *id) {
    const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    const json_t *known = json_object_get(vocab, text);
    size_t i;
    json_t *item;
    if (known) {
        *id = json_integer_value(known);
        return true;
    }
    json_array_foreach(json_object_get(root, "added_tokens"), i, item) {
        const char *content = json_string_value(json_object_get(item, "content"));
        if (!content || strcmp(content, text) != 0) continue;
        *id = json_integer_value(json_object_get(item, "id"));
        return true;
    }
    return false;
}

static bool has_id(const json_t *root, json_int_t id) {
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(json_object_get(root, "model"), "vocab"), key, value) {
        if (json_integer_value(value) == id) return true;
    }
    return find_added(json_object_get(root, "added_tokens"), id) != NULL;
}

/* What tokenizer_open takes over from tokenizer_config.json: tokens that tokenizer.json lacks, and
 * that a token is special. Contradictions are passed over, as there. */
static um_status merge_decoder(json_t *root, const json_t *config, um_error *err) {
    json_t *added = json_object_get(root, "added_tokens"), *item;
    const char *key;
    if (!json_is_array(added)) {
        added = json_array();
        if (json_object_set_new(root, "added_tokens", added) != 0) return no_memory(err);
    }
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, item) {
        json_int_t id = strtoll(key, NULL, 10), other;
        const json_t *text = json_object_get(item, "content");
        json_t *known = find_added(added, id);
        if (!json_is_string(text)) continue;
        if (known && strcmp(json_string_value(json_object_get(known, "content")),
                            json_string_value(text)) != 0)
            continue;
        if (known) {
            if (json_is_true(json_object_get(item, "special")))
                json_object_set_new(known, "special", json_true());
            continue;
        }
        bool is_known_text = find_text(root, json_string_value(text), &other);
        if (is_known_text ? other != id : has_id(root, id)) continue;
        json_t *copy = json_deep_copy(item);
        if (!copy || json_object_set_new(copy, "id", json_integer(id)) != 0 ||
            json_array_append_new(added, copy) != 0)
            return no_memory(err);
    }
    return UM_OK;
}

/* ---- Lists ---------------------------------------------------------------------------------- */

static void set_token(tokenizer_export *e, const json_t *text, json_int_t id, token_kind kind) {
    if (id < 0 || (uint64_t)id >= e->n_tokens || !json_is_string(text)) return;
    e->tokens[id] = (listed_text){json_string_value(text), json_string_length(text)};
    e->kinds[id] = (int32_t)kind;
}

static um_status list_tokens(tokenizer_export *e, um_error *err) {
    size_t n_items, i;
    const char *key;
    json_t *item;
    if (__builtin_mul_overflow(e->n_tokens, (size_t)HOLE_BYTES, &n_items)) return no_memory(err);
    e->tokens = memory_calloc(e->n_tokens, sizeof *e->tokens);
    e->kinds = memory_calloc(e->n_tokens, sizeof *e->kinds);
    e->pool = memory_alloc(n_items);
    if (!e->tokens || !e->kinds || !e->pool) return no_memory(err);
    json_object_foreach(json_object_get(json_object_get(e->root, "model"), "vocab"), key, item) {
        json_int_t id = json_integer_value(item);
        if (id < 0 || (uint64_t)id >= e->n_tokens) continue;
        e->tokens[id] = (listed_text){key, strlen(key)};
        e->kinds[id] = TOKEN_KIND_NORMAL;
    }
    json_array_foreach(json_object_get(e->root, "added_tokens"), i, item) {
        bool is_special = json_is_true(json_object_get(item, "special"));
        set_token(e, json_object_get(item, "content"),
                  json_integer_value(json_object_get(item, "id")),
                  is_special ? TOKEN_KIND_CONTROL : TOKEN_KIND_USER_DEFINED);
    }
    for (i = 0; i < e->n_tokens; i++) {
        if (e->tokens[i].text) continue;
        char *hole = e->pool + i * HOLE_BYTES;
        int n = snprintf(hole, HOLE_BYTES, "[PAD%zu]", i);
        e->tokens[i] = (listed_text){hole, (size_t)n};
        e->kinds[i] = TOKEN_KIND_UNUSED;
    }
    return UM_OK;
}

/* Merges are strings with a space, or pairs in newer files; pairs are joined in place. */
static um_status list_merges(tokenizer_export *e, um_error *err) {
    json_t *merges = json_object_get(json_object_get(e->root, "model"), "merges"), *item;
    size_t i;
    e->n_merges = json_array_size(merges);
    e->merges = memory_calloc(e->n_merges, sizeof *e->merges);
    json_t *joined = json_array();
    if (!e->merges || json_object_set_new(e->root, "joined", joined) != 0) return no_memory(err);
    json_array_foreach(merges, i, item) {
        json_t *text = json_incref(item);
        if (json_is_array(item)) {
            json_decref(item);
            text = json_sprintf("%s %s", json_string_value(json_array_get(item, 0)),
                                json_string_value(json_array_get(item, 1)));
        }
        if (!text || json_array_append_new(joined, text) != 0) return no_memory(err);
        e->merges[i] = (listed_text){json_string_value(text), json_string_length(text)};
    }
    return UM_OK;
}

/* ---- The pre-tokenizer ---------------------------------------------------------------------- */

/* Collects the patterns of the steps that split; false where a step is of another kind. */
static bool collect_patterns(const json_t *step, const char *patterns[STEPS_MAX], size_t *n) {
    const char *type = json_string_value(json_object_get(step, "type"));
    size_t i;
    json_t *inner;
    if (!type) return false;
    if (strcmp(type, "ByteLevel") == 0) return true;
    if (strcmp(type, "Sequence") == 0) {
        json_array_foreach(json_object_get(step, "pretokenizers"), i, inner) {
            if (!collect_patterns(inner, patterns, n)) return false;
        }
        return true;
    }
    const char *regex =
        json_string_value(json_object_get(json_object_get(step, "pattern"), "Regex"));
    if (strcmp(type, "Split") != 0 || !regex || *n == STEPS_MAX) return false;
    patterns[(*n)++] = regex;
    return true;
}

static void name_pre(tokenizer_export *e) {
    const char *patterns[STEPS_MAX];
    size_t n = 0;
    if (collect_patterns(json_object_get(e->root, "pre_tokenizer"), patterns, &n))
        e->pre = listed_tokenizer_pre_name(patterns, n);
}

/* ---- tokenizer_config.json and templates ---------------------------------------------------- */

static void find_named(tokenizer_export *e, const json_t *config) {
    static const char *const names[NAMED_TOKENS] = {
        "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
    for (int i = 0; i < NAMED_TOKENS; i++) {
        const json_t *token = json_object_get(config, names[i]);
        json_int_t id;
        if (json_is_object(token)) token = json_object_get(token, "content");
        if (e->root && json_is_string(token) && find_text(e->root, json_string_value(token), &id) &&
            id >= 0 && (uint64_t)id < e->n_tokens)
            e->named[i] = (int32_t)id;
    }
    const json_t *adds = json_object_get(config, "add_bos_token");
    if (json_is_boolean(adds)) e->adds_bos = json_is_true(adds);
}

static um_status find_template(tokenizer_export *e, const char *directory, const json_t *config,
                               um_error *err) {
    size_t n_bytes, i;
    json_t *item;
    TRY(read_text(directory, "chat_template.jinja", &e->chat_template, &n_bytes, err));
    if (e->chat_template) return UM_OK;
    const json_t *found = json_object_get(config, "chat_template");
    if (json_is_array(found)) {
        const json_t *chosen = NULL;
        json_array_foreach(found, i, item) {
            const char *name = json_string_value(json_object_get(item, "name"));
            if (name && strcmp(name, "default") == 0) chosen = json_object_get(item, "template");
        }
        found = chosen;
    }
    if (!json_is_string(found)) return UM_OK;
    e->chat_template = memory_copy_string(json_string_value(found), json_string_length(found));
    return e->chat_template ? UM_OK : no_memory(err);
}

static um_status read_tokenizer(tokenizer_export *e, const char *directory, const json_t *config,
                                um_error *err) {
    tokenizer *checked;
    um_status status = tokenizer_open(directory, &checked, err);
    if (status == UM_NOT_FOUND) return UM_OK;
    if (status != UM_OK) return status;
    tokenizer_close(checked);
    TRY(read_json(directory, "tokenizer.json", false, &e->root, err));
    if (!e->root) return UM_OK;
    TRY(merge_decoder(e->root, config, err));
    char *json = json_dumps(e->root, JSON_COMPACT);
    if (json) e->json = memory_copy_string(json, strlen(json));
    free(json);
    if (!e->json) return no_memory(err);
    name_pre(e);
    TRY(list_tokens(e, err));
    TRY(list_merges(e, err));
    e->has_tokenizer = true;
    return UM_OK;
}

um_status tokenizer_export_read(const char *directory, size_t n_tokens, tokenizer_export *e,
                                um_error *err) {
    json_t *config = NULL;
    memset(e, 0, sizeof *e);
    e->n_tokens = n_tokens;
    e->adds_bos = -1;
    for (int i = 0; i < NAMED_TOKENS; i++) e->named[i] = -1;
    um_status status = read_json(directory, "tokenizer_config.json", true, &config, err);
    if (status == UM_OK) status = read_tokenizer(e, directory, config, err);
    if (status == UM_OK) {
        find_named(e, config);
        status = find_template(e, directory, config, err);
    }
    json_decref(config);
    if (status != UM_OK) tokenizer_export_deinit(e);
    return status;
}

void tokenizer_export_deinit(tokenizer_export *e) {
    memory_free(e->json);
    memory_free(e->tokens);
    memory_free(e->kinds);
    memory_free(e->merges);
    memory_free(e->chat_template);
    memory_free(e->pool);
    json_decref(e->root);
    memset(e, 0, sizeof *e);
}

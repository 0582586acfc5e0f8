/* SPDX-License-Identifier: Apache-2.0
 *
 * Three spellings of a tokenizer are met in GGUF files: lists for llama.cpp's "gpt2", lists for
 * other models of it, which are refused, and the whole tokenizer.json under
 * "tokenizer.huggingface.json", which is believed before the lists because it says everything.
 */
#include "engine/gguf_text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "formats/gguf_files.h"
#include "text/listed_tokenizer.h"

static const char tokens_key[] = "tokenizer.ggml.tokens";
static const char kinds_key[] = "tokenizer.ggml.token_type";
static const char merges_key[] = "tokenizer.ggml.merges";

static um_status refuse(const char *key, const char *expected, const gguf_value *value,
                        um_error *err) {
    char found[64];
    FAIL(UM_FORMAT, err, "\"%s\": expected %s, found %s", key, expected,
         gguf_describe(value, found));
}

/* A short string, zero-terminated. */
static um_status read_name(const gguf *header, const char *key, const char *otherwise,
                           char name[64], um_error *err) {
    const gguf_value *value = gguf_find(header, key);
    const char *text = otherwise;
    size_t n = strlen(otherwise);
    if (value && (!gguf_value_string(value, &text, &n) || n >= 64 || memchr(text, 0, n)))
        return refuse(key, "a name", value, err);
    memcpy(name, text, n);
    name[n] = '\0';
    return UM_OK;
}

/* ---- Lists ---------------------------------------------------------------------------------- */

/* *texts is the caller's to free; the strings lie in the file. */
static um_status read_texts(const gguf *header, const char *key, listed_text **texts, size_t *n,
                            um_error *err) {
    const gguf_value *value = gguf_find(header, key);
    if (!value || !value->is_array || value->type != GGUF_TYPE_STRING)
        return refuse(key, "an array of strings", value, err);
    *n = (size_t)value->n_items;
    *texts = memory_alloc_array(*n, sizeof **texts);
    if (!*texts) FAIL(UM_NO_MEMORY, err, "no memory for %zu tokens", *n);
    size_t at = 0;
    for (size_t i = 0; i < *n; i++)
        gguf_next_string(value, &at, &(*texts)[i].text, &(*texts)[i].n_bytes);
    return UM_OK;
}

/* *kinds stays NULL where the key is absent. */
static um_status read_kinds(const gguf *header, size_t n_tokens, int32_t **kinds, um_error *err) {
    const gguf_value *value = gguf_find(header, kinds_key);
    if (!value) return UM_OK;
    if (!value->is_array || gguf_item_bytes((uint32_t)value->type) == 0 ||
        value->n_items != n_tokens)
        return refuse(kinds_key, "an array with an integer for each token", value, err);
    *kinds = memory_alloc_array(n_tokens, sizeof **kinds);
    if (!*kinds) FAIL(UM_NO_MEMORY, err, "no memory for %zu tokens", n_tokens);
    for (size_t i = 0; i < n_tokens; i++) {
        int64_t kind;
        if (!gguf_item_int(value, i, &kind))
            return refuse(kinds_key, "an array of integers", value, err);
        (*kinds)[i] = kind < 0 || kind > INT32_MAX ? -1 : (int32_t)kind;
    }
    return UM_OK;
}

static um_status open_lists(const gguf *header, tokenizer **out, um_error *err) {
    char model[64], pre[64];
    listed_text *tokens = NULL, *merges = NULL;
    int32_t *kinds = NULL;
    listed_tokenizer lists = {.pre = pre};
    TRY(read_name(header, "tokenizer.ggml.model", "", model, err));
    if (strcmp(model, "gpt2") != 0)
        FAIL(UM_UNSUPPORTED, err, "\"tokenizer.ggml.model\": expected \"gpt2\", found \"%s\"",
             model);
    TRY(read_name(header, "tokenizer.ggml.pre", "default", pre, err));
    um_status status;
    TRY_GOTO(read_texts(header, tokens_key, &tokens, &lists.n_tokens, err), cleanup);
    TRY_GOTO(read_texts(header, merges_key, &merges, &lists.n_merges, err), cleanup);
    TRY_GOTO(read_kinds(header, lists.n_tokens, &kinds, err), cleanup);
    lists.tokens = tokens;
    lists.merges = merges;
    lists.kinds = kinds;
    status = listed_tokenizer_open(&lists, out, err);
cleanup:
    memory_free(kinds);
    memory_free(merges);
    memory_free(tokens);
    return status;
}

static um_status open_vocabulary(const gguf *header, tokenizer **out, um_error *err) {
    static const char json_key[] = "tokenizer.huggingface.json";
    const gguf_value *json = gguf_find(header, json_key);
    const char *text;
    size_t n_bytes;
    if (json) {
        if (!gguf_value_string(json, &text, &n_bytes))
            return refuse(json_key, "a string", json, err);
        return tokenizer_parse(text, n_bytes, out, err);
    }
    if (gguf_find(header, tokens_key)) return open_lists(header, out, err);
    FAIL(UM_NOT_FOUND, err, "the file has no tokenizer (\"%s\")", tokens_key);
}

/* ---- The chat template ---------------------------------------------------------------------- */

/* The text of a token whose id a key gives; false where there is none. */
static bool find_token(const gguf *header, const char *key, const char **text, size_t *n_bytes) {
    const gguf_value *value = gguf_find(header, key), *tokens = gguf_find(header, tokens_key);
    int64_t id;
    size_t at = 0;
    if (!value || !gguf_value_int(value, &id) || id < 0) return false;
    if (!tokens || !tokens->is_array || (uint64_t)id >= tokens->n_items) return false;
    for (int64_t i = 0; i <= id; i++)
        if (!gguf_next_string(tokens, &at, text, n_bytes)) return false;
    return true;
}

/* What a tokenizer_config.json would say of special tokens: templates name them. */
static json_t *special_tokens(const gguf *header) {
    static const char *const names[][2] = {{"bos_token", "tokenizer.ggml.bos_token_id"},
                                           {"eos_token", "tokenizer.ggml.eos_token_id"},
                                           {"unk_token", "tokenizer.ggml.unknown_token_id"},
                                           {"sep_token", "tokenizer.ggml.seperator_token_id"},
                                           {"pad_token", "tokenizer.ggml.padding_token_id"},
                                           {"cls_token", "tokenizer.ggml.cls_token_id"},
                                           {"mask_token", "tokenizer.ggml.mask_token_id"}};
    json_t *config = json_object();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *text;
        size_t n_bytes;
        if (find_token(header, names[i][1], &text, &n_bytes))
            json_object_set_new(config, names[i][0], json_stringn(text, n_bytes));
    }
    return config;
}

static um_status open_chat(const gguf *header, chat_template **out, um_error *err) {
    static const char key[] = "tokenizer.chat_template";
    const gguf_value *value = gguf_find(header, key);
    const char *text;
    size_t n_bytes;
    if (!value) FAIL(UM_NOT_FOUND, err, "there is no chat template");
    if (!gguf_value_string(value, &text, &n_bytes)) return refuse(key, "a string", value, err);
    json_t *config = special_tokens(header);
    char *config_text = json_dumps(config, 0);
    json_decref(config);
    if (!config_text) FAIL(UM_NO_MEMORY, err, "no memory for a chat template");
    um_status status = chat_template_parse(text, n_bytes, config_text, out, err);
    free(config_text);
    if (status != UM_OK) um_error_at(err, key, -1);
    return status;
}

um_status gguf_text_open(const char *path, tokenizer **vocabulary, um_error *vocabulary_error,
                         chat_template **chat, um_error *chat_error, um_error *err) {
    gguf_files files;
    TRY(gguf_files_open_first(path, &files, err));
    const gguf *header = &files.items[0].header;
    um_status text = open_vocabulary(header, vocabulary, vocabulary_error);
    if (text != UM_OK) um_error_at(vocabulary_error, path, -1);
    um_status status = open_chat(header, chat, chat_error);
    if (status != UM_OK) um_error_at(chat_error, path, -1);
    gguf_files_close(&files);
    if (text == UM_NO_MEMORY || status == UM_NO_MEMORY)
        FAIL(UM_NO_MEMORY, err, "no memory for the tokenizer of %s", path);
    return UM_OK;
}

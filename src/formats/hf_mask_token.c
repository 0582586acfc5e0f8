/* SPDX-License-Identifier: Apache-2.0
 *
 * The search in two rounds: first for the content that "mask_token" names, then for the contents
 * that published models use. Each round asks added_tokens_decoder, tokenizer.json and
 * added_tokens.json in this order. SDAR shows why the order matters: its added_tokens.json calls
 * <MASK> what the other two files call <|MASK|>.
 */
#include "formats/hf_mask_token.h"

#include <inttypes.h>
#include <string.h>

#include "formats/json_text.h"

/* tokenizer.json of a vocabulary of 260,000 tokens takes 35 MB. */
enum { TOKENIZER_BYTES_MAX = 128 << 20 };

typedef enum source_id {
    SOURCE_TOKENIZER_CONFIG = 0,
    SOURCE_TOKENIZER = 1,
    SOURCE_ADDED_TOKENS = 2,
    N_SOURCES = 3
} source_id;

static const char *const source_names[N_SOURCES] = {"tokenizer_config.json", "tokenizer.json",
                                                    "added_tokens.json"};

/* Contents of the mask token in published models. */
static const char *const known_contents[] = {"<|mask|>", "<|MASK|>", "<|mdm_mask|>", "[MASK]",
                                             "<mask>",   "<MASK>",   "|<MASK>|",     "<[MASK]>"};
enum { N_KNOWN_CONTENTS = sizeof known_contents / sizeof *known_contents };

typedef struct search {
    const char *directory;
    int64_t vocab;
    bool is_open[N_SOURCES];
    json_t *roots[N_SOURCES]; /* NULL where the file is absent */
} search;

/* Opens a source on first use. */
static um_status open_source(search *s, source_id i, um_error *err) {
    if (s->is_open[i]) return UM_OK;
    um_error own;
    um_status status = json_text_open(s->directory, source_names[i], TOKENIZER_BYTES_MAX,
                                      JSON_TEXT_BIG_NUMBERS | JSON_TEXT_NUL, &s->roots[i], &own);
    if (status != UM_OK && status != UM_NOT_FOUND) {
        if (err) *err = own;
        return status;
    }
    s->is_open[i] = true;
    return UM_OK;
}

static um_status refuse(source_id i, const char *key, const char *expected, const json_t *value,
                        um_error *err) {
    char found[JSON_TEXT_EXCERPT_BYTES];
    um_error_set(err, UM_FORMAT, "%s: %s: expected %s, found %s", source_names[i], key, expected,
                 json_text_describe(value, found));
    um_error_at(err, source_names[i], -1);
    return UM_FORMAT;
}

/* Checks an id that was found and hands it out. */
static um_status accept(const search *s, source_id i, const char *content, int64_t id,
                        int32_t *token, um_error *err) {
    char excerpt[JSON_TEXT_EXCERPT_BYTES];
    if (id < 0 || id >= s->vocab) {
        um_error_set(err, UM_FORMAT,
                     "%s: mask token \"%s\": expected an id from 0 to %" PRId64 ", found %" PRId64,
                     source_names[i], json_text_excerpt(content, excerpt), s->vocab - 1, id);
        um_error_at(err, source_names[i], -1);
        return UM_FORMAT;
    }
    *token = (int32_t)id;
    return UM_OK;
}

static bool is_content(const json_t *value, const char *content) {
    const char *text = json_string_value(value);
    return text && strlen(content) == json_string_length(value) && strcmp(text, content) == 0;
}

/* A decimal id of at most 10 digits; -1 for anything else. */
static int64_t read_decimal(const char *text) {
    int64_t id = 0;
    size_t n = strlen(text);
    if (n == 0 || n > 10) return -1;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        id = id * 10 + (text[i] - '0');
    }
    return id;
}

/* tokenizer_config.json: {"added_tokens_decoder": {"126336": {"content": "<|mdm_mask|>"}}} */
static um_status find_in_decoder(const search *s, const char *content, int32_t *token,
                                 um_error *err) {
    json_t *decoder = json_object_get(s->roots[SOURCE_TOKENIZER_CONFIG], "added_tokens_decoder");
    if (!decoder || json_is_null(decoder)) return UM_OK;
    if (!json_is_object(decoder))
        return refuse(SOURCE_TOKENIZER_CONFIG, "\"added_tokens_decoder\"", "an object", decoder,
                      err);
    const char *key;
    json_t *entry;
    json_object_foreach(decoder, key, entry) {
        if (!json_is_object(entry))
            return refuse(SOURCE_TOKENIZER_CONFIG, "a value of \"added_tokens_decoder\"",
                          "an object", entry, err);
        if (is_content(json_object_get(entry, "content"), content))
            return accept(s, SOURCE_TOKENIZER_CONFIG, content, read_decimal(key), token, err);
    }
    return UM_OK;
}

/* tokenizer.json: {"added_tokens": [{"id": 126336, "content": "<|mdm_mask|>"}]} */
static um_status find_in_tokenizer(const search *s, const char *content, int32_t *token,
                                   um_error *err) {
    const json_t *list = json_object_get(s->roots[SOURCE_TOKENIZER], "added_tokens");
    if (!list || json_is_null(list)) return UM_OK;
    if (!json_is_array(list))
        return refuse(SOURCE_TOKENIZER, "\"added_tokens\"", "a list", list, err);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        int64_t id;
        if (!json_is_object(entry))
            return refuse(SOURCE_TOKENIZER, "an item of \"added_tokens\"", "an object", entry, err);
        if (!is_content(json_object_get(entry, "content"), content)) continue;
        const json_t *value = json_object_get(entry, "id");
        if (!json_text_is_integer(value, &id))
            return refuse(SOURCE_TOKENIZER, "an \"id\" of \"added_tokens\"", "an integer", value,
                          err);
        return accept(s, SOURCE_TOKENIZER, content, id, token, err);
    }
    return UM_OK;
}

/* added_tokens.json: {"<MASK>": 151669} */
static um_status find_in_added_tokens(const search *s, const char *content, int32_t *token,
                                      um_error *err) {
    const json_t *value = json_object_get(s->roots[SOURCE_ADDED_TOKENS], content);
    int64_t id;
    if (!value) return UM_OK;
    if (!json_text_is_integer(value, &id))
        return refuse(SOURCE_ADDED_TOKENS, "the mask token's id", "an integer", value, err);
    return accept(s, SOURCE_ADDED_TOKENS, content, id, token, err);
}

/* Asks each source for each content in turn until one answers. */
static um_status find_contents(search *s, const char *const *contents, int n_contents,
                               int32_t *token, um_error *err) {
    typedef um_status (*finder)(const search *, const char *, int32_t *, um_error *);
    static const finder finders[N_SOURCES] = {find_in_decoder, find_in_tokenizer,
                                              find_in_added_tokens};
    for (int i = 0; i < N_SOURCES; i++) {
        TRY(open_source(s, (source_id)i, err));
        for (int j = 0; j < n_contents && *token < 0; j++)
            TRY(finders[i](s, contents[j], token, err));
        if (*token >= 0) return UM_OK;
    }
    return UM_OK;
}

/* tokenizer_config.json's "mask_token": a string, or an object with "content". */
static um_status read_content(search *s, const char **content, um_error *err) {
    *content = NULL;
    TRY(open_source(s, SOURCE_TOKENIZER_CONFIG, err));
    const json_t *value = json_object_get(s->roots[SOURCE_TOKENIZER_CONFIG], "mask_token");
    if (json_is_object(value)) value = json_object_get(value, "content");
    if (!value || json_is_null(value)) return UM_OK;
    if (!json_is_string(value))
        return refuse(SOURCE_TOKENIZER_CONFIG, "\"mask_token\"", "a string", value, err);
    *content = json_string_value(value);
    return UM_OK;
}

um_status hf_mask_token_find(const char *directory, int64_t vocab, int32_t *token, um_error *err) {
    search s = {.directory = directory, .vocab = vocab};
    const char *content = NULL;
    *token = -1;
    um_status status;
    TRY_GOTO(read_content(&s, &content, err), cleanup);
    if (content) TRY_GOTO(find_contents(&s, &content, 1, token, err), cleanup);
    if (*token < 0)
        TRY_GOTO(find_contents(&s, known_contents, N_KNOWN_CONTENTS, token, err), cleanup);
cleanup:
    for (int i = 0; i < N_SOURCES; i++) json_decref(s.roots[i]);
    return status;
}

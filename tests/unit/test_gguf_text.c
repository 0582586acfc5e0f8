/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokenizers and chat templates out of GGUF files: the same ids as the tokenizer.json that a file
 * was made of, over the strings of test_tokenizer.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "support/gguf_bytes.h"
#include "support/temp_dir.h"
#include "unmask.h"

enum { FILE_MAX = 64 << 20 };

/* ---- Files out of tokenizer.json ------------------------------------------------------------ */

/* A token by its id, as a converter writes it. */
typedef struct entry {
    const char *text;
    uint32_t kind;
} entry;

typedef struct source {
    json_t *root;
    entry *entries; /* [n] */
    size_t n;
} source;

static char *read_text(const char *path, size_t *n_bytes) {
    char *text;
    um_error err;
    if (file_read(path, FILE_MAX, &text, n_bytes, &err) != UM_OK) fail_msg("%s", err.message);
    return text;
}

static void fixture_path(char path[400], const char *name, const char *file) {
    snprintf(path, 400, "%s/tokenizers/%s/%s", TEST_DATA_DIR, name, file);
}

static source open_source(const char *name) {
    char path[400];
    size_t n_bytes;
    fixture_path(path, name, "tokenizer.json");
    char *text = read_text(path, &n_bytes);
    source s = {.root = json_loadb(text, n_bytes, JSON_ALLOW_NUL, NULL)};
    memory_free(text);
    assert_non_null(s.root);
    json_t *vocab = json_object_get(json_object_get(s.root, "model"), "vocab"), *id, *token;
    json_t *added = json_object_get(s.root, "added_tokens");
    s.n = json_object_size(vocab) + json_array_size(added) + 8;
    s.entries = calloc(s.n, sizeof *s.entries);
    for (size_t i = 0; i < s.n; i++) s.entries[i] = (entry){"[PAD]", 5};
    const char *key;
    json_object_foreach(vocab, key, id) s.entries[json_integer_value(id)] = (entry){key, 1};
    size_t i;
    json_array_foreach(added, i, token) {
        bool is_special = json_is_true(json_object_get(token, "special"));
        s.entries[json_integer_value(json_object_get(token, "id"))] =
            (entry){json_string_value(json_object_get(token, "content")), is_special ? 3 : 4};
    }
    return s;
}

static void close_source(source *s) {
    json_decref(s->root);
    free(s->entries);
}

static void append_lists(strbuf *out, const source *s) {
    json_t *merges = json_object_get(json_object_get(s->root, "model"), "merges"), *merge;
    size_t i;
    gguf_bytes_key_array(out, "tokenizer.ggml.tokens", 8, s->n);
    for (i = 0; i < s->n; i++)
        gguf_bytes_string(out, s->entries[i].text, strlen(s->entries[i].text));
    gguf_bytes_key_array(out, "tokenizer.ggml.token_type", 5, s->n);
    for (i = 0; i < s->n; i++) gguf_bytes_u32(out, s->entries[i].kind);
    gguf_bytes_key_array(out, "tokenizer.ggml.merges", 8, json_array_size(merges));
    json_array_foreach(merges, i, merge) {
        char text[1024];
        if (json_is_string(merge))
            snprintf(text, sizeof text, "%s", json_string_value(merge));
        else
            snprintf(text, sizeof text, "%s %s", json_string_value(json_array_get(merge, 0)),
                     json_string_value(json_array_get(merge, 1)));
        gguf_bytes_string(out, text, strlen(text));
    }
}

/* A file without tensors: the vocabulary alone, with n_more further keys in `more`. */
static um_tokenizer *open_file(const temp_dir *dir, const source *s, const char *pre, int n_more,
                               const strbuf *more, um_status expected, um_error *err) {
    strbuf out;
    char path[400];
    um_tokenizer *t = NULL;
    strbuf_init(&out);
    gguf_bytes_start(&out, 3, 0, (uint64_t)(2 + (s ? 3 : 0) + n_more));
    gguf_bytes_key_text(&out, "tokenizer.ggml.model", "gpt2", 4);
    gguf_bytes_key_text(&out, "tokenizer.ggml.pre", pre, strlen(pre));
    if (s) append_lists(&out, s);
    if (more) strbuf_append(&out, more->data, more->n_bytes);
    assert_false(out.has_failed);
    temp_dir_write(dir, "text.gguf", out.data, out.n_bytes);
    strbuf_deinit(&out);
    snprintf(path, sizeof path, "%s/text.gguf", dir->path);
    um_status status = um_tokenizer_open(path, &t, err);
    if (status != expected)
        fail_msg("expected %s, found %s: %s", um_status_name(expected), um_status_name(status),
                 status ? err->message : "");
    return t;
}

/* ---- The same ids --------------------------------------------------------------------------- */

static uint32_t take_u32(const char **at) {
    uint32_t value;
    memcpy(&value, *at, 4);
    *at += 4;
    return value;
}

static uint64_t hash_ids(const int32_t *ids, size_t n) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint64_t)(uint32_t)ids[i]) * 1099511628211u;
    return h;
}

/* Against what Hugging Face's tokenizers gave for the tokenizer.json. */
static void assert_same_ids(const um_tokenizer *t, const char *name) {
    char path[400];
    size_t n_bytes;
    snprintf(path, sizeof path, "%s/tokenizers/strings.bin", TEST_DATA_DIR);
    char *strings = read_text(path, &n_bytes);
    fixture_path(path, name, "ids.bin");
    char *expected = read_text(path, &n_bytes);
    const char *at = strings, *want = expected;
    uint32_t count = take_u32(&at);
    if (TEST_IS_SAMPLED) count /= 10;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = take_u32(&at), want_n = take_u32(&want);
        uint64_t want_hash;
        int32_t *ids;
        size_t n_ids;
        memcpy(&want_hash, want, 8);
        want += 8;
        assert_int_equal(um_tokenizer_encode(t, at, n, &ids, &n_ids, NULL), UM_OK);
        if (n_ids != want_n || hash_ids(ids, n_ids) != want_hash)
            fail_msg("%s, string %u: %zu ids, expected %u", name, i, n_ids, want_n);
        um_free(ids);
        at += n;
    }
    memory_free(expected);
    memory_free(strings);
}

static void test_lists(void **state) {
    static const char *const names[][2] = {{"gpt2", "gpt-2"}, {"qwen3", "qwen2"}};
    um_error err;
    for (size_t i = 0; i < 2; i++) {
        source s = open_source(names[i][0]);
        um_tokenizer *t = open_file(*state, &s, names[i][1], 0, NULL, UM_OK, &err);
        assert_same_ids(t, names[i][0]);
        /* Filling between ids is no token. */
        int32_t filling = (int32_t)s.n - 1;
        char *text;
        assert_int_equal(um_tokenizer_decode(t, &filling, 1, false, &text, NULL, &err), UM_INVALID);
        um_tokenizer_close(&t);
        close_source(&s);
    }
}

/* A whole tokenizer.json says what the lists cannot: here, that there is no normalizer. */
static void test_whole_json(void **state) {
    char path[400];
    size_t n_bytes;
    um_error err;
    strbuf more;
    strbuf_init(&more);
    fixture_path(path, "demo", "tokenizer.json");
    char *json = read_text(path, &n_bytes);
    gguf_bytes_key_text(&more, "tokenizer.huggingface.json", json, n_bytes);
    um_tokenizer *t = open_file(*state, NULL, "no such name", 1, &more, UM_OK, &err);
    assert_same_ids(t, "demo");
    um_tokenizer_close(&t);
    memory_free(json);
    strbuf_deinit(&more);
}

/* ---- Names of pre-tokenizers ---------------------------------------------------------------- */

static size_t count_ids(const um_tokenizer *t, const char *text) {
    int32_t *ids;
    size_t n;
    assert_int_equal(um_tokenizer_encode(t, text, strlen(text), &ids, &n, NULL), UM_OK);
    um_free(ids);
    return n;
}

/* GPT-2's vocabulary under each name, where the ways to cut differ: numbers whole (2000 2000), by
 * three digits (200 020 00) or one by one; line ends with the word before, together or one by one.
 */
static void test_pre_names(void **state) {
    static const struct {
        const char *name, *text;
        size_t n_ids;
    } rows[] = {
        {"gpt-2", "20002000", 2},      {"phi-2", "20002000", 2},
        {"qwen2", "20002000", 8},      {"deepseek-r1-qwen", "20002000", 8},
        {"megrez", "20002000", 8},     {"llama-bpe", "20002000", 3},
        {"llama3", "20002000", 3},     {"llama-v3", "20002000", 3},
        {"bailingmoe", "20002000", 8}, {"bailingmoe2", "20002000", 8},
        {"llada-moe", "20002000", 8},  {"deepseek-llm", "20002000", 8},
        {"qwen2", "a\n\nb", 3},        {"llada-moe", "a\n\nb", 3},
        {"deepseek-llm", "a\n\nb", 4}, {"deepseek-llm", "hello world", 2},
    };
    um_error err;
    source s = open_source("gpt2");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        um_tokenizer *t = open_file(*state, &s, rows[i].name, 0, NULL, UM_OK, &err);
        size_t n = count_ids(t, rows[i].text);
        if (n != rows[i].n_ids)
            fail_msg("%s: \"%s\" is %zu ids, expected %zu", rows[i].name, rows[i].text, n,
                     rows[i].n_ids);
        um_tokenizer_close(&t);
    }
    open_file(*state, &s, "tekken", 0, NULL, UM_UNSUPPORTED, &err);
    assert_non_null(strstr(err.message, "\"tekken\" is not known; known are gpt-2"));
    close_source(&s);
}

/* ---- Chat ----------------------------------------------------------------------------------- */

static void test_chat(void **state) {
    static const char messages[] = "[{\"role\":\"user\",\"content\":\"hi\"}]";
    static const char text[] =
        "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ mask_token is defined }}";
    um_error err;
    char *rendered;
    strbuf more;
    strbuf_init(&more);
    source s = open_source("gpt2");
    gguf_bytes_key_text(&more, "tokenizer.chat_template", text, strlen(text));
    gguf_bytes_key_u32(&more, "tokenizer.ggml.bos_token_id", 0);
    gguf_bytes_key_u32(&more, "tokenizer.ggml.eos_token_id", 50256);
    gguf_bytes_key_u32(&more, "tokenizer.ggml.mask_token_id", 1u << 30);
    um_tokenizer *t = open_file(*state, &s, "gpt-2", 4, &more, UM_OK, &err);
    assert_true(um_tokenizer_has_chat_template(t));
    assert_int_equal(um_tokenizer_render_chat(t, messages, NULL, NULL, true, &rendered, &err),
                     UM_OK);
    assert_string_equal(rendered, "!hi<|endoftext|>False");
    um_free(rendered);
    um_tokenizer_close(&t);
    t = open_file(*state, &s, "gpt-2", 0, NULL, UM_OK, &err);
    assert_false(um_tokenizer_has_chat_template(t));
    assert_int_equal(um_tokenizer_render_chat(t, messages, NULL, NULL, true, &rendered, &err),
                     UM_NOT_FOUND);
    um_tokenizer_close(&t);
    close_source(&s);
    strbuf_deinit(&more);
}

/* ---- Damage --------------------------------------------------------------------------------- */

/* Lists of four tokens: texts, kinds and one merge, written as they are. */
static void write_lists(const temp_dir *dir, const char *model, const char *const texts[4],
                        const uint32_t *kinds, size_t n_kinds, const char *merge) {
    strbuf out;
    strbuf_init(&out);
    gguf_bytes_start(&out, 3, 0, 5);
    gguf_bytes_key_text(&out, "tokenizer.ggml.model", model, strlen(model));
    gguf_bytes_key_text(&out, "tokenizer.ggml.pre", "gpt-2", 5);
    gguf_bytes_key_array(&out, "tokenizer.ggml.tokens", 8, 4);
    for (int i = 0; i < 4; i++) gguf_bytes_string(&out, texts[i], strlen(texts[i]));
    gguf_bytes_key_array(&out, "tokenizer.ggml.token_type", 5, n_kinds);
    for (size_t i = 0; i < n_kinds; i++) gguf_bytes_u32(&out, kinds[i]);
    gguf_bytes_key_array(&out, "tokenizer.ggml.merges", 8, 1);
    gguf_bytes_string(&out, merge, strlen(merge));
    temp_dir_write(dir, "text.gguf", out.data, out.n_bytes);
    strbuf_deinit(&out);
}

static void test_bad_lists(void **state) {
    static const struct {
        const char *model, *texts[4];
        uint32_t kinds[4];
        size_t n_kinds;
        const char *merge;
        um_status status;
        const char *part;
    } rows[] = {
        {"gpt2", {"a", "b", "ab", "<e>"}, {1, 1, 1, 3}, 4, "a b", UM_OK, ""},
        {"llama",
         {"a", "b", "ab", "<e>"},
         {1, 1, 1, 3},
         4,
         "a b",
         UM_UNSUPPORTED,
         "\"tokenizer.ggml.model\": expected \"gpt2\", found \"llama\""},
        {"gpt2",
         {"a", "b", "ab", "a"},
         {1, 1, 1, 3},
         4,
         "a b",
         UM_FORMAT,
         "tokens 0 and 3 have the same text \"a\""},
        {"gpt2",
         {"a", "b", "ab", "\xff"},
         {1, 1, 1, 3},
         4,
         "a b",
         UM_FORMAT,
         "the text of token 3 is not UTF-8"},
        {"gpt2",
         {"a", "b", "ab", "<e>"},
         {1, 1, 1, 7},
         4,
         "a b",
         UM_FORMAT,
         "the kind of token 3 is 7; expected 1 to 6"},
        {"gpt2",
         {"a", "b", "ab", "<e>"},
         {1, 1, 1, 3},
         3,
         "a b",
         UM_FORMAT,
         "an array with an integer for each token, found an array of 3"},
        {"gpt2",
         {"a", "b", "ab", "<e>"},
         {1, 1, 1, 3},
         4,
         "a c",
         UM_FORMAT,
         "needs the token \"c\""},
        {"gpt2",
         {"a", "b", "ab", "<e>"},
         {1, 1, 1, 3},
         4,
         "ab",
         UM_FORMAT,
         "two tokens and one space"},
        {"gpt2",
         {"a", "b", "ab", "<e>"},
         {1, 1, 1, 3},
         4,
         "\xc3 b",
         UM_FORMAT,
         "merge 0 is not UTF-8"},
    };
    const temp_dir *dir = *state;
    char path[400];
    snprintf(path, sizeof path, "%s/text.gguf", dir->path);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        um_tokenizer *t = NULL;
        um_error err = {.message = ""};
        write_lists(dir, rows[i].model, rows[i].texts, rows[i].kinds, rows[i].n_kinds,
                    rows[i].merge);
        um_status status = um_tokenizer_open(path, &t, &err);
        if (status != rows[i].status || (status && !strstr(err.message, rows[i].part)))
            fail_msg("row %zu: expected %s with \"%s\", found %s: %s", i,
                     um_status_name(rows[i].status), rows[i].part, um_status_name(status),
                     err.message);
        um_tokenizer_close(&t);
    }
}

static void test_none(void **state) {
    um_error err;
    open_file(*state, NULL, "gpt-2", 0, NULL, UM_NOT_FOUND, &err);
    assert_non_null(strstr(err.message, "the file has no tokenizer"));
}

static int make_dir(void **state) {
    static temp_dir dir;
    temp_dir_create(&dir);
    *state = &dir;
    return 0;
}

static int remove_dir(void **state) {
    temp_dir_destroy(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),     cmocka_unit_test(test_whole_json),
        cmocka_unit_test(test_pre_names), cmocka_unit_test(test_chat),
        cmocka_unit_test(test_bad_lists), cmocka_unit_test(test_none),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

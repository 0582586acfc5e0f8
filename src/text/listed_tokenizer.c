/* SPDX-License-Identifier: Apache-2.0
 *
 * The lists become the JSON that a tokenizer.json would hold, so that there is one reader with one
 * behaviour. What a name of a pre-tokenizer stands for is that model's own tokenizer.json and not
 * llama.cpp's rendering of it, which leaves normalizers out and rewrites patterns for its engine.
 * The flags of added tokens other than "special" are lost in such a file: they are off.
 */
#include "text/listed_tokenizer.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/vocabulary.h"

enum { PATTERNS_MAX = 6, NAMES_MAX = 5 };

/* What a name stands for. Without patterns: ByteLevel's own. */
typedef struct pre_kind {
    const char *names[NAMES_MAX];
    const char *patterns[PATTERNS_MAX]; /* each cuts by itself, in this order */
    bool has_nfc;
    bool ignores_merges; /* a piece that is a token by itself is that token */
} pre_kind;

/* deepseek-llm's letters: those with case, of the scripts it knows. Escaped, since some are not
 * normalized. */
static const char deepseek_letters[] =
    "\\s?["
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}"
    "\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}"
    "\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}"
    "\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}"
    "\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}"
    "\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}"
    "\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}"
    "\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}"
    "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}"
    "\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}"
    "\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}"
    "\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}"
    "\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"
    "]+";

/* By the tokenizer.json of a model of that name on the Hugging Face hub. */
static const pre_kind pre_kinds[] = {
    /* openai-community/gpt2 */
    {.names = {"gpt-2", "phi-2"}},
    /* Qwen/Qwen2-7B, and Qwen3 */
    {.names = {"qwen2", "deepseek-r1-qwen", "megrez"},
     .patterns = {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
                  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
     .has_nfc = true},
    /* meta-llama/Meta-Llama-3-8B */
    {.names = {"llama-bpe", "llama3", "llama-v3"},
     .patterns = {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
     .ignores_merges = true},
    /* inclusionAI/Ling-lite, Ling-mini-base-2.0, LLaDA-MoE-7B-A1B-Base */
    {.names = {"bailingmoe", "bailingmoe2", "llada-moe"},
     .patterns = {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}|"
                  " ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
    /* deepseek-ai/deepseek-llm-7b-base */
    {.names = {"deepseek-llm"},
     .patterns = {"[\\r\\n]", deepseek_letters,
                  "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}"
                  "\\x{3000}-\\x{3002}]+",
                  "\\s+$", "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+",
                  "\\p{N}"}},
};
enum { N_PRE_KINDS = sizeof pre_kinds / sizeof *pre_kinds };

static um_status refuse_pre(const char *name, um_error *err) {
    strbuf known;
    strbuf_init(&known);
    for (int i = 0; i < N_PRE_KINDS; i++)
        for (int j = 0; j < NAMES_MAX && pre_kinds[i].names[j]; j++)
            strbuf_append_format(&known, "%s%s", i || j ? ", " : "", pre_kinds[i].names[j]);
    um_error_set(err, UM_UNSUPPORTED, "the pre-tokenizer \"%.60s\" is not known; known are %s",
                 name, known.data ? known.data : "");
    strbuf_deinit(&known);
    return UM_UNSUPPORTED;
}

static um_status find_pre(const char *name, const pre_kind **found, um_error *err) {
    for (int i = 0; i < N_PRE_KINDS; i++) {
        *found = &pre_kinds[i];
        for (int j = 0; j < NAMES_MAX && pre_kinds[i].names[j]; j++)
            if (strcmp(pre_kinds[i].names[j], name) == 0) return UM_OK;
    }
    return refuse_pre(name, err);
}

const char *listed_tokenizer_pre_name(const char *const *patterns, size_t n_patterns) {
    for (int i = 0; i < N_PRE_KINDS; i++) {
        size_t n = 0;
        while (n < PATTERNS_MAX && n < n_patterns && pre_kinds[i].patterns[n] &&
               strcmp(pre_kinds[i].patterns[n], patterns[n]) == 0)
            n++;
        bool is_whole = n == PATTERNS_MAX || !pre_kinds[i].patterns[n];
        if (n == n_patterns && is_whole) return pre_kinds[i].names[0];
    }
    return NULL;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static um_status no_memory(um_error *err) {
    FAIL(UM_NO_MEMORY, err, "no memory for a tokenizer");
}

static json_t *byte_level(bool has_pattern) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 0, "use_regex", (int)has_pattern);
}

static json_t *pre_tokenizer_json(const pre_kind *kind) {
    json_t *steps = json_array();
    int n = 0;
    for (; n < PATTERNS_MAX && kind->patterns[n]; n++)
        json_array_append_new(
            steps, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                             kind->patterns[n], "behavior", "Isolated", "invert", 0));
    json_array_append_new(steps, byte_level(n == 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
}

/* A string of the file; NULL and an error where it is not UTF-8. */
static um_status text_json(const listed_text *text, const char *what, size_t i, json_t **value,
                           um_error *err) {
    *value = json_stringn(text->text, text->n_bytes);
    if (!*value || memchr(text->text, 0, text->n_bytes)) {
        json_decref(*value);
        *value = NULL;
        FAIL(UM_FORMAT, err, "%s %zu is not UTF-8 without zero bytes", what, i);
    }
    return UM_OK;
}

static bool is_added(int32_t kind) {
    return kind == TOKEN_KIND_CONTROL || kind == TOKEN_KIND_UNKNOWN ||
           kind == TOKEN_KIND_USER_DEFINED;
}

static um_status add_token(const listed_tokenizer *lists, size_t i, json_t *vocab, json_t *added,
                           um_error *err) {
    int32_t kind = lists->kinds ? lists->kinds[i] : TOKEN_KIND_NORMAL;
    json_t *text;
    if (kind < TOKEN_KIND_NORMAL || kind > TOKEN_KIND_BYTE)
        FAIL(UM_FORMAT, err, "the kind of token %zu is %d; expected 1 to 6", i, (int)kind);
    if (kind == TOKEN_KIND_UNUSED || lists->tokens[i].n_bytes == 0) return UM_OK;
    TRY(text_json(&lists->tokens[i], "the text of token", i, &text, err));
    const char *key = json_string_value(text);
    const json_t *known = json_object_get(vocab, key);
    um_status status = UM_OK;
    if (known)
        status = um_error_set(err, UM_FORMAT, "tokens %lld and %zu have the same text \"%.80s\"",
                              (long long)json_integer_value(known), i, key);
    else if (json_object_set_new(vocab, key, json_integer((json_int_t)i)) != 0 ||
             (is_added(kind) &&
              json_array_append_new(
                  added, json_pack("{s:i, s:O, s:b, s:b, s:b, s:b, s:b}", "id", (int)i, "content",
                                   text, "special", kind != TOKEN_KIND_USER_DEFINED, "normalized",
                                   0, "lstrip", 0, "rstrip", 0, "single_word", 0)) != 0))
        status = no_memory(err);
    json_decref(text);
    return status;
}

static um_status add_lists(const listed_tokenizer *lists, json_t *vocab, json_t *added,
                           json_t *merges, um_error *err) {
    for (size_t i = 0; i < lists->n_tokens; i++) TRY(add_token(lists, i, vocab, added, err));
    for (size_t i = 0; i < lists->n_merges; i++) {
        json_t *text;
        TRY(text_json(&lists->merges[i], "merge", i, &text, err));
        if (json_array_append_new(merges, text) != 0) return no_memory(err);
    }
    return UM_OK;
}

um_status listed_tokenizer_open(const listed_tokenizer *lists, tokenizer **out, um_error *err) {
    const pre_kind *kind = NULL;
    TRY(find_pre(lists->pre, &kind, err));
    if (lists->n_tokens > (size_t)VOCABULARY_ID_MAX)
        FAIL(UM_LIMIT, err, "%zu tokens; at most %lld are read", lists->n_tokens,
             (long long)VOCABULARY_ID_MAX);
    json_t *vocab = json_object(), *added = json_array(), *merges = json_array();
    json_t *root = json_pack("{s:o, s:{s:s, s:O, s:O, s:b}, s:O, s:o}", "decoder", byte_level(true),
                             "model", "type", "BPE", "vocab", vocab, "merges", merges,
                             "ignore_merges", (int)kind->ignores_merges, "added_tokens", added,
                             "pre_tokenizer", pre_tokenizer_json(kind));
    um_status status = UM_OK;
    if (!root || (kind->has_nfc &&
                  json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "NFC")) != 0))
        status = no_memory(err);
    if (status == UM_OK) status = add_lists(lists, vocab, added, merges, err);
    if (status == UM_OK) status = tokenizer_from_json(root, out, err);
    json_decref(root);
    json_decref(vocab);
    json_decref(added);
    json_decref(merges);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Puts the parts of tokenizer.json together. Encoding goes: added tokens in the text as it came,
 * normalizer, added tokens in the normalized text, pre-tokenizer, merges; the order is that of
 * added_vocabulary.rs in Hugging Face's tokenizers. "post_processor" is not read: what it does is
 * to add special tokens, which encoding here never does, and to trim offsets, which nobody asks
 * for. "truncation" and "padding" are settings of a training run and are not read either.
 */
#include "text/tokenizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/json_field.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

enum { FILE_BYTES_MAX = 256 * 1024 * 1024 };

struct tokenizer {
    vocabulary vocab;
    bpe model;
    added_tokens added;
    normalizer norm;
    pre_tokenizer pre;
};

/* ---- Parsing ---- */

/* Only ByteLevel gives text back from byte tokens. Fuse behind it has nothing left to do. */
static um_status check_decoder(const json_t *value, um_error *err) {
    const json_t *items = NULL;
    const char *type = NULL;
    size_t n_type;
    if (json_is_object(value)) {
        TRY(json_field_string(value, "decoder", "type", true, &type, &n_type, err));
        if (strcmp(type, "Sequence") == 0) items = json_object_get(value, "decoders");
    }
    if (items) {
        const json_t *first = json_array_get(items, 0);
        type = json_string_value(json_object_get(first, "type"));
        for (size_t i = 1; i < json_array_size(items); i++) {
            const char *next = json_string_value(json_object_get(json_array_get(items, i), "type"));
            if (!next || strcmp(next, "Fuse") != 0)
                FAIL(UM_UNSUPPORTED, err,
                     "decoder type %.80s behind another decoder is not"
                     " supported",
                     next ? next : "(none)");
        }
    }
    if (!type || strcmp(type, "ByteLevel") != 0)
        FAIL(UM_UNSUPPORTED, err, "decoder is %.80s; only ByteLevel is supported",
             type ? type : json_field_kind(value));
    return UM_OK;
}

/* Reads one added token of either file, and gives it to the list and, if it is new, to the
 * vocabulary. */
static um_status add_token(tokenizer *t, const json_t *item, const char *where, int64_t id,
                           um_error *err) {
    const char *text;
    size_t n_bytes;
    added_token token = {.id = (int32_t)id};
    TRY(json_field_string(item, where, "content", true, &text, &n_bytes, err));
    if (n_bytes == 0) return UM_OK; /* as Hugging Face: passed over */
    TRY(json_field_bool(item, where, "special", false, &token.is_special, err));
    TRY(json_field_bool(item, where, "single_word", false, &token.is_single_word, err));
    TRY(json_field_bool(item, where, "lstrip", false, &token.is_lstrip, err));
    TRY(json_field_bool(item, where, "rstrip", false, &token.is_rstrip, err));
    TRY(json_field_bool(item, where, "normalized", !token.is_special, &token.is_normalized, err));
    int32_t known = vocabulary_find(&t->vocab, text, n_bytes);
    if (known < 0) {
        TRY(vocabulary_add(&t->vocab, text, n_bytes, id, err));
    } else if (known != id) {
        FAIL(UM_FORMAT, err, "%s: token \"%.80s\" has the id %lld here and %d before", where, text,
             (long long)id, (int)known);
    }

    um_status status = UM_OK;
    strbuf pattern;
    strbuf_init(&pattern);
    if (token.is_normalized)
        TRY_GOTO(normalizer_run(&t->norm, text, n_bytes, &pattern, err), cleanup);
    else
        strbuf_append(&pattern, text, n_bytes);
    token.text = memory_copy_string(text, n_bytes);
    token.pattern = strbuf_take(&pattern, &token.n_pattern);
    token.n_text = n_bytes;
    if (!token.text || !token.pattern) {
        memory_free(token.text);
        memory_free(token.pattern);
        status = um_error_set(err, UM_NO_MEMORY, "no memory for an added token");
        goto cleanup;
    }
    status = added_tokens_add_take(&t->added, &token, err);
cleanup:
    strbuf_deinit(&pattern);
    return status;
}

static um_status parse_added(tokenizer *t, const json_t *root, um_error *err) {
    json_t *items;
    TRY(json_field_array(root, "tokenizer", "added_tokens", false, &items, err));
    size_t i;
    const json_t *item;
    json_array_foreach(items, i, item) {
        if (!json_is_object(item))
            FAIL(UM_FORMAT, err, "added_tokens[%zu] is %s; an object is expected", i,
                 json_field_kind(item));
        const json_t *id = json_object_get(item, "id");
        if (!json_is_integer(id))
            FAIL(UM_FORMAT, err, "added_tokens[%zu].id is %s; an integer is expected", i,
                 json_field_kind(id));
        TRY(add_token(t, item, "added_tokens", json_integer_value(id), err));
    }
    return UM_OK;
}

/* Tokens and special flags that tokenizer_config.json has over tokenizer.json. Where the two
 * contradict each other, tokenizer.json holds. */
static um_status merge_config(tokenizer *t, const json_t *config, um_error *err) {
    json_t *items = json_object_get(config, "added_tokens_decoder");
    if (!items || json_is_null(items)) return UM_OK;
    if (!json_is_object(items))
        FAIL(UM_FORMAT, err, "added_tokens_decoder is %s; an object is expected",
             json_field_kind(items));
    const char *key;
    json_t *item;
    json_object_foreach(items, key, item) {
        char *end;
        errno = 0;
        long long id = strtoll(key, &end, 10);
        if (end == key || *end || errno || id < 0 || id > VOCABULARY_ID_MAX)
            FAIL(UM_FORMAT, err,
                 "added_tokens_decoder has the id \"%.80s\"; 0 to %lld are expected", key,
                 (long long)VOCABULARY_ID_MAX);
        if (!json_is_object(item))
            FAIL(UM_FORMAT, err, "added_tokens_decoder[\"%s\"] is %s; an object is expected", key,
                 json_field_kind(item));
        const char *text;
        size_t n_bytes, n_known;
        bool is_special;
        TRY(json_field_string(item, "added_tokens_decoder", "content", true, &text, &n_bytes, err));
        TRY(json_field_bool(item, "added_tokens_decoder", "special", false, &is_special, err));
        const char *known = vocabulary_text(&t->vocab, id, &n_known);
        if (known && (n_known != n_bytes || memcmp(known, text, n_bytes) != 0)) continue;
        if (!known && vocabulary_find(&t->vocab, text, n_bytes) >= 0) continue;
        if (!added_tokens_find(&t->added, id)) {
            TRY(add_token(t, item, "added_tokens_decoder", id, err));
        } else if (is_special) {
            for (size_t i = 0; i < t->added.n; i++)
                if (t->added.items[i].id == id) t->added.items[i].is_special = true;
        }
    }
    return UM_OK;
}

static um_status parse_root(tokenizer *t, const json_t *root, um_error *err) {
    if (!json_is_object(root))
        FAIL(UM_FORMAT, err, "tokenizer.json is %s; an object is expected", json_field_kind(root));
    /* The small parts first: what is not supported is said before megabytes are read. */
    TRY(normalizer_parse(json_object_get(root, "normalizer"), &t->norm, err));
    TRY(pre_tokenizer_parse(json_object_get(root, "pre_tokenizer"), &t->pre, err));
    TRY(check_decoder(json_object_get(root, "decoder"), err));
    TRY(bpe_parse(json_object_get(root, "model"), &t->vocab, &t->model, err));
    return parse_added(t, root, err);
}

static um_status create(tokenizer **out, um_error *err) {
    *out = memory_calloc(1, sizeof **out);
    if (!*out) FAIL(UM_NO_MEMORY, err, "no memory for a tokenizer");
    vocabulary_init(&(*out)->vocab);
    added_tokens_init(&(*out)->added);
    return UM_OK;
}

/* config may be NULL. */
static um_status build(const char *json, size_t n_json, const char *config, size_t n_config,
                       tokenizer **out, um_error *err) {
    json_t *root = NULL;
    um_status status = UM_OK;
    tokenizer *t;
    TRY(create(&t, err));
    TRY_GOTO(json_field_parse(json, n_json, "tokenizer.json", false, &root, err), cleanup);
    status = parse_root(t, root, err);
    if (status != UM_OK) {
        um_error_at(err, "tokenizer.json", -1);
        goto cleanup;
    }
    if (config) {
        json_decref(root);
        root = NULL;
        TRY_GOTO(json_field_parse(config, n_config, "tokenizer_config.json", true, &root, err),
                 cleanup);
        status = merge_config(t, root, err);
        if (status != UM_OK) {
            um_error_at(err, "tokenizer_config.json", -1);
            goto cleanup;
        }
    }
    TRY_GOTO(added_tokens_index(&t->added, err), cleanup);
    *out = t;
    t = NULL;
cleanup:
    json_decref(root);
    tokenizer_close(t);
    return status;
}

um_status tokenizer_from_json(const json_t *root, tokenizer **out, um_error *err) {
    tokenizer *t;
    TRY(create(&t, err));
    um_status status = parse_root(t, root, err);
    if (status == UM_OK) status = added_tokens_index(&t->added, err);
    if (status != UM_OK)
        tokenizer_close(t);
    else
        *out = t;
    return status;
}

um_status tokenizer_parse(const char *json, size_t n_bytes, tokenizer **out, um_error *err) {
    return build(json, n_bytes, NULL, 0, out, err);
}

um_status tokenizer_open(const char *directory, tokenizer **out, um_error *err) {
    char *path = file_path_join(directory, "tokenizer.json");
    char *config_path = file_path_join(directory, "tokenizer_config.json");
    char *json = NULL, *config = NULL;
    size_t n_json = 0, n_config = 0;
    um_status status = UM_OK;
    if (!path || !config_path) {
        status = um_error_set(err, UM_NO_MEMORY, "no memory for a path");
        goto cleanup;
    }
    TRY_GOTO(file_read(path, FILE_BYTES_MAX, &json, &n_json, err), cleanup);
    if (file_exists(config_path))
        TRY_GOTO(file_read(config_path, FILE_BYTES_MAX, &config, &n_config, err), cleanup);
    status = build(json, n_json, config, n_config, out, err);
cleanup:
    memory_free(config);
    memory_free(json);
    memory_free(config_path);
    memory_free(path);
    return status;
}

void tokenizer_close(tokenizer *t) {
    if (!t) return;
    bpe_deinit(&t->model);
    vocabulary_deinit(&t->vocab);
    added_tokens_deinit(&t->added);
    normalizer_deinit(&t->norm);
    pre_tokenizer_deinit(&t->pre);
    memory_free(t);
}

/* ---- Encoding ---- */

typedef struct encoding {
    const tokenizer *t;
    added_span_list raw, normalized;
    strbuf text; /* the normalized part */
    pre_tokenizer_scratch cut;
    bpe_scratch merge;
    token_list ids;
} encoding;

static um_status encode_words(encoding *e, const char *text, size_t n_bytes, um_error *err) {
    const char *cut_text;
    TRY(pre_tokenizer_run(&e->t->pre, text, n_bytes, &e->cut, &cut_text, err));
    for (size_t i = 0; i < e->cut.pieces.n; i++) {
        const piece *word = &e->cut.pieces.items[i];
        TRY(bpe_encode(&e->t->model, cut_text + word->start, word->end - word->start, &e->merge,
                       &e->ids, err));
    }
    return UM_OK;
}

static um_status encode_part(encoding *e, const char *text, size_t n_bytes, um_error *err) {
    if (e->t->norm.n_steps) {
        TRY(normalizer_run(&e->t->norm, text, n_bytes, &e->text, err));
        text = e->text.data ? e->text.data : "";
        n_bytes = e->text.n_bytes;
    }
    TRY(added_tokens_split(&e->t->added, true, text, n_bytes, &e->normalized, err));
    for (size_t i = 0; i < e->normalized.n; i++) {
        const added_span *span = &e->normalized.items[i];
        if (span->id >= 0)
            TRY(token_list_append(&e->ids, span->id, err));
        else
            TRY(encode_words(e, text + span->start, span->end - span->start, err));
    }
    return UM_OK;
}

static um_status encode_text(encoding *e, const char *text, size_t n_bytes, um_error *err) {
    TRY(added_tokens_split(&e->t->added, false, text, n_bytes, &e->raw, err));
    for (size_t i = 0; i < e->raw.n; i++) {
        const added_span *span = &e->raw.items[i];
        if (span->id >= 0)
            TRY(token_list_append(&e->ids, span->id, err));
        else
            TRY(encode_part(e, text + span->start, span->end - span->start, err));
    }
    return UM_OK;
}

um_status tokenizer_encode(const tokenizer *t, const char *text, size_t n_bytes, int32_t **ids,
                           size_t *n_ids, um_error *err) {
    size_t bad_pos;
    if (!utf8_is_valid(text, n_bytes, &bad_pos)) {
        um_error_set(err, UM_INVALID, "the text is not UTF-8 at byte %zu", bad_pos);
        um_error_at(err, "text", (int64_t)bad_pos);
        return UM_INVALID;
    }
    encoding e = {.t = t};
    um_status status = encode_text(&e, text, n_bytes, err);
    if (status == UM_OK && !e.ids.ids) {
        e.ids.ids = memory_alloc(sizeof *e.ids.ids);
        if (!e.ids.ids) status = um_error_set(err, UM_NO_MEMORY, "no memory for token ids");
    }
    memory_free(e.raw.items);
    memory_free(e.normalized.items);
    strbuf_deinit(&e.text);
    pre_tokenizer_scratch_deinit(&e.cut);
    bpe_scratch_deinit(&e.merge);
    if (status != UM_OK) {
        memory_free(e.ids.ids);
        return status;
    }
    *ids = e.ids.ids;
    *n_ids = e.ids.n;
    return UM_OK;
}

/* ---- Decoding ---- */

/* A token whose characters all stand for bytes gives these bytes, any other one its own text: so
 * an added token may hold a space. */
static void append_token_text(const char *text, size_t n_bytes, strbuf *out) {
    size_t before = out->n_bytes;
    for (size_t i = 0; i < n_bytes;) {
        size_t length;
        int byte = bpe_character_byte(utf8_decode(text + i, &length));
        if (byte < 0) {
            if (out->has_failed) return;
            out->n_bytes = before;
            strbuf_append(out, text, n_bytes);
            return;
        }
        strbuf_append_char(out, (char)byte);
        i += length;
    }
}

um_status tokenizer_append_bytes(const tokenizer *t, int32_t id, bool skip_special, strbuf *out,
                                 um_error *err) {
    const added_token *added = added_tokens_find(&t->added, id);
    size_t n_bytes;
    const char *text = vocabulary_text(&t->vocab, id, &n_bytes);
    /* Models have more rows than tokens, and now and then write one of the others: an answer does
     * not fail for it, it has no text. Somebody who asks for such an id by itself hears of it. */
    if (!text && skip_special && id >= 0) return UM_OK;
    if (!text)
        FAIL(UM_INVALID, err, "the id %d is no token of the vocabulary, whose ids end at %d",
             (int)id, (int)tokenizer_size(t) - 1);
    if (added && added->is_special && skip_special) return UM_OK;
    if (added)
        append_token_text(added->pattern, added->n_pattern, out);
    else
        append_token_text(text, n_bytes, out);
    return UM_OK;
}

um_status tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special,
                           char **text, size_t *n_bytes, um_error *err) {
    strbuf bytes, out;
    strbuf_init(&bytes);
    strbuf_init(&out);
    um_status status = UM_OK;
    for (size_t i = 0; i < n_ids; i++)
        TRY_GOTO(tokenizer_append_bytes(t, ids[i], skip_special, &bytes, err), cleanup);
    utf8_append_lossy(&out, bytes.data ? bytes.data : "", bytes.n_bytes);
    char *taken = bytes.has_failed ? NULL : strbuf_take(&out, n_bytes);
    if (taken)
        *text = taken;
    else
        status = um_error_set(err, UM_NO_MEMORY, "no memory for the text of %zu tokens", n_ids);
cleanup:
    strbuf_deinit(&out);
    strbuf_deinit(&bytes);
    return status;
}

int32_t tokenizer_token_id(const tokenizer *t, const char *text) {
    return vocabulary_find(&t->vocab, text, strlen(text));
}

int32_t tokenizer_size(const tokenizer *t) {
    return (int32_t)t->vocab.n_ids;
}

bool tokenizer_is_special(const tokenizer *t, int32_t id) {
    const added_token *added = added_tokens_find(&t->added, id);
    return added && added->is_special;
}

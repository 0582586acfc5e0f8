/* SPDX-License-Identifier: Apache-2.0
 *
 * The um_tokenizer_* functions of unmask.h over the `text` room. A model may have a vocabulary, a
 * chat template, or both, in a directory or in a GGUF file. A template that cannot be read does not
 * keep the vocabulary from use: its error is kept and given to whoever renders.
 */
#include <string.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "engine/gguf_text.h"
#include "engine/tokenizer_api.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

struct um_tokenizer {
    tokenizer *vocabulary; /* NULL: none */
    chat_template *chat;   /* NULL: none, or chat_error says why */
    um_error chat_error;   /* status UM_OK, or why there is no template */
};

/* Copies a status with a sentence that was kept. */
static um_status give_error(const um_error *kept, um_error *err) {
    if (err) *err = *kept;
    return kept->status;
}

/* Fills what there is; the two errors' statuses say what there is not. */
static um_status open_files(const char *path, um_tokenizer *t, um_error *vocabulary_error,
                            um_error *err) {
    if (file_exists(path))
        return gguf_text_open(path, &t->vocabulary, vocabulary_error, &t->chat, &t->chat_error,
                              err);
    tokenizer_open(path, &t->vocabulary, vocabulary_error);
    chat_template_open(path, &t->chat, &t->chat_error);
    return UM_OK;
}

static um_status open_parts(const char *path, bool needs_vocabulary, um_tokenizer **out,
                            um_error *err) {
    if (!path || !out) FAIL(UM_INVALID, err, "directory and tokenizer must not be NULL");
    *out = NULL;
    um_status status = UM_OK;
    um_tokenizer *t = memory_calloc(1, sizeof *t);
    if (!t) FAIL(UM_NO_MEMORY, err, "no memory for a tokenizer");
    um_error vocabulary_error;
    memset(&vocabulary_error, 0, sizeof vocabulary_error);
    TRY_GOTO(open_files(path, t, &vocabulary_error, err), cleanup);
    status = vocabulary_error.status;
    if (status != UM_OK && (status != UM_NOT_FOUND || needs_vocabulary)) {
        give_error(&vocabulary_error, err);
        goto cleanup;
    }
    status = t->chat_error.status;
    if (status == UM_NO_MEMORY || (status != UM_OK && !t->vocabulary)) {
        give_error(status == UM_NOT_FOUND ? &vocabulary_error : &t->chat_error, err);
        goto cleanup;
    }
    *out = t;
    return UM_OK;
cleanup:
    um_tokenizer_close(&t);
    return status;
}

um_status um_tokenizer_open(const char *directory, um_tokenizer **out, um_error *err) {
    return open_parts(directory, true, out, err);
}

um_status um_tokenizer_open_template(const char *directory, um_tokenizer **out, um_error *err) {
    return open_parts(directory, false, out, err);
}

void um_tokenizer_close(um_tokenizer **t) {
    if (!t || !*t) return;
    chat_template_close((*t)->chat);
    tokenizer_close((*t)->vocabulary);
    memory_free(*t);
    *t = NULL;
}

static um_status need_vocabulary(const um_tokenizer *t, um_error *err) {
    if (!t) FAIL(UM_INVALID, err, "tokenizer must not be NULL");
    if (!t->vocabulary)
        FAIL(UM_NOT_FOUND, err, "this model has no tokenizer; it runs on token ids");
    return UM_OK;
}

um_status tokenizer_api_vocabulary(const um_tokenizer *t, const tokenizer **vocabulary,
                                   um_error *err) {
    TRY(need_vocabulary(t, err));
    *vocabulary = t->vocabulary;
    return UM_OK;
}

um_status um_tokenizer_encode(const um_tokenizer *t, const char *text, size_t n_bytes,
                              int32_t **ids, size_t *n_ids, um_error *err) {
    if (!ids || !n_ids || (!text && n_bytes))
        FAIL(UM_INVALID, err, "text, ids and n_ids must not be NULL");
    TRY(need_vocabulary(t, err));
    return tokenizer_encode(t->vocabulary, text ? text : "", n_bytes, ids, n_ids, err);
}

um_status um_tokenizer_decode(const um_tokenizer *t, const int32_t *ids, size_t n_ids,
                              bool skip_special, char **text, size_t *n_bytes, um_error *err) {
    if (!text || (!ids && n_ids)) FAIL(UM_INVALID, err, "ids and text must not be NULL");
    TRY(need_vocabulary(t, err));
    return tokenizer_decode(t->vocabulary, ids, n_ids, skip_special, text, n_bytes, err);
}

um_status um_tokenizer_token_bytes(const um_tokenizer *t, int32_t id, bool skip_special,
                                   char **bytes, size_t *n_bytes, um_error *err) {
    strbuf made;
    if (!bytes || !n_bytes) FAIL(UM_INVALID, err, "bytes and n_bytes must not be NULL");
    TRY(need_vocabulary(t, err));
    strbuf_init(&made);
    um_status status = tokenizer_append_bytes(t->vocabulary, id, skip_special, &made, err);
    if (status == UM_OK) {
        *bytes = strbuf_take(&made, n_bytes);
        if (!*bytes) status = um_error_set(err, UM_NO_MEMORY, "no memory for the text of a token");
    }
    strbuf_deinit(&made);
    return status;
}

um_status um_tokenizer_render_chat(const um_tokenizer *t, const char *messages_json,
                                   const char *tools_json, const char *variables_json,
                                   bool add_generation_prompt, char **text, um_error *err) {
    if (!t || !messages_json || !text)
        FAIL(UM_INVALID, err, "tokenizer, messages_json and text must not be NULL");
    if (!t->chat) return give_error(&t->chat_error, err);
    return chat_template_render(t->chat, messages_json, tools_json, variables_json,
                                add_generation_prompt, text, err);
}

bool um_tokenizer_has_chat_template(const um_tokenizer *t) {
    return t && t->chat;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages to ids. The template decides how turns look; this file only keeps the list.
 */
#include "programs/dialogue.h"

#include <stdlib.h>
#include <string.h>

#include "programs/terminal.h"

um_status dialogue_init(dialogue *d, const um_tokenizer *tokenizer, bool is_raw, um_error *err) {
    memset(d, 0, sizeof *d);
    d->tokenizer = tokenizer;
    d->is_raw = is_raw;
    if (!is_raw && !um_tokenizer_has_chat_template(tokenizer)) {
        /* Asks why: no template is fine, a damaged one is not. */
        char *text = NULL;
        um_status status = um_tokenizer_render_chat(tokenizer, "[]", NULL, NULL, true, &text, err);
        um_free(text);
        if (status != UM_OK && status != UM_NOT_FOUND) return status;
        d->is_raw = true;
    }
    d->messages = json_array();
    if (!d->messages) FAIL(UM_NO_MEMORY, err, "no memory for a conversation");
    return UM_OK;
}

void dialogue_deinit(dialogue *d) {
    json_decref(d->messages);
    d->messages = NULL;
}

um_status dialogue_check_text(const char *what, const char *text, size_t n_bytes, um_error *err) {
    size_t at = terminal_invalid_utf8(text, n_bytes);
    if (at == n_bytes) return UM_OK;
    um_error_set(err, UM_INVALID, "%s is not valid UTF-8", what);
    um_error_at(err, "", (int64_t)at);
    return UM_INVALID;
}

static json_t *new_message(const char *role, const char *text) {
    return json_pack("{s:s, s:s}", "role", role, "content", text);
}

static bool has_system(const dialogue *d) {
    json_t *role = json_object_get(json_array_get(d->messages, 0), "role");
    return role && strcmp(json_string_value(role), "system") == 0;
}

um_status dialogue_set_system(dialogue *d, const char *text, um_error *err) {
    if (d->is_raw)
        FAIL(UM_UNSUPPORTED, err,
             "a system message needs a chat template, and this model has none in use");
    json_t *message = new_message("system", text);
    int failed = !message        ? -1
                 : has_system(d) ? json_array_set_new(d->messages, 0, message)
                                 : json_array_insert_new(d->messages, 0, message);
    if (failed) FAIL(UM_NO_MEMORY, err, "no memory for a message");
    return UM_OK;
}

um_status dialogue_say(dialogue *d, const char *role, const char *text, um_error *err) {
    json_t *message = new_message(role, text);
    if (!message || json_array_append_new(d->messages, message) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for a message");
    return UM_OK;
}

void dialogue_unsay(dialogue *d) {
    size_t n = json_array_size(d->messages);
    if (n) json_array_remove(d->messages, n - 1);
}

void dialogue_clear(dialogue *d) {
    size_t n_kept = has_system(d) ? 1 : 0;
    while (json_array_size(d->messages) > n_kept) dialogue_unsay(d);
}

um_status dialogue_encode(const dialogue *d, int32_t **ids, size_t *n_ids, um_error *err) {
    char *rendered = NULL, *messages = NULL;
    um_status status = UM_OK;
    const char *text;
    if (d->is_raw) {
        json_t *last = json_array_get(d->messages, json_array_size(d->messages) - 1);
        text = json_string_value(json_object_get(last, "content"));
    } else {
        messages = json_dumps(d->messages, JSON_COMPACT);
        if (!messages) FAIL(UM_NO_MEMORY, err, "no memory for a conversation");
        TRY_GOTO(um_tokenizer_render_chat(d->tokenizer, messages, NULL, NULL, true, &rendered, err),
                 cleanup);
        text = rendered;
    }
    status = um_tokenizer_encode(d->tokenizer, text, strlen(text), ids, n_ids, err);
cleanup:
    um_free(rendered);
    free(messages);
    return status;
}

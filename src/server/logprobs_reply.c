/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokens of an answer are told by where their bytes lie in its text: a chunk has those whose
 * first byte it has, a text that a stop string or a call of a tool cuts short has none of those
 * behind. So the tokens of all chunks are those of the whole reply. A token that a policy moved was
 * scored by no forward where it stands: its number is null.
 */
#include "server/logprobs_reply.h"

#include <math.h>
#include <string.h>

#include "server/json_value.h"

/* OpenAI's number for what is as good as impossible; JSON has no infinity. */
static const double least = -9999;

static json_t *number_of(float log_probability) {
    double x = (double)log_probability;
    if (isnan(x)) return json_null();
    return json_real(x < least ? least : x);
}

/* The text of one token by itself, with its bytes where they are wanted. Bytes that are no text
 * are spelled out, as OpenAI does it; so is an id where the model has no tokenizer. */
static json_t *name_of(const api_model *model, int32_t id, json_t **bytes) {
    char *raw = NULL;
    size_t n = 0;
    strbuf spelled;
    strbuf_init(&spelled);
    um_status status = UM_INVALID;
    if (model->tokenizer)
        status = um_tokenizer_token_bytes(model->tokenizer, id, false, &raw, &n, NULL);
    json_t *name = status == UM_OK ? json_stringn(raw, n) : NULL; /* NULL: no UTF-8 */
    if (bytes) *bytes = json_array();
    for (size_t i = 0; bytes && *bytes && i < n; i++)
        if (json_array_append_new(*bytes, json_integer((unsigned char)raw[i])) != 0) {
            json_decref(*bytes);
            *bytes = NULL;
        }
    if (status == UM_INVALID) strbuf_append_format(&spelled, "token_id:%d", id);
    if (status == UM_OK && !name) {
        strbuf_append_string(&spelled, "bytes:");
        for (size_t i = 0; i < n; i++)
            strbuf_append_format(&spelled, "\\x%02x", (unsigned)(unsigned char)raw[i]);
    }
    if (!name && spelled.n_bytes && !spelled.has_failed) name = json_string(spelled.data);
    strbuf_deinit(&spelled);
    um_free(raw);
    return name;
}

/* How many bytes a token adds to the text of an answer, or of a prompt, and how many characters
 * begin in them. */
static um_status measure(const api_model *model, int32_t id, bool is_prompt, size_t *n_bytes,
                         size_t *n_chars) {
    char *raw = NULL;
    *n_bytes = *n_chars = 0;
    if (!model->tokenizer) return UM_OK;
    TRY(um_tokenizer_token_bytes(model->tokenizer, id, !is_prompt, &raw, n_bytes, NULL));
    for (size_t i = 0; i < *n_bytes; i++) *n_chars += ((unsigned char)raw[i] & 0xc0) != 0x80;
    um_free(raw);
    return UM_OK;
}

/* ---- Chats ----------------------------------------------------------------------------------- */

static json_t *chat_token(const api_model *model, int32_t id, float log_probability) {
    json_t *bytes, *name = name_of(model, id, &bytes);
    return json_pack("{s:o, s:o, s:o}", "token", name, "logprob", number_of(log_probability),
                     "bytes", bytes);
}

static json_t *chat_entry(const api_model *model, const choice *c, int32_t cell) {
    const answer_logprobs *a = &c->logprobs;
    json_t *entry = chat_token(model, c->tokens[cell], a->log_probabilities[cell]);
    json_t *list = json_array();
    const um_token_logprob *top = a->top + (size_t)cell * (size_t)a->n_top_max;
    bool has_failed = false;
    for (int32_t i = 0; i < c->request->n_top && i < a->n_top[cell]; i++)
        has_failed |= json_array_append_new(
                          list, chat_token(model, top[i].token, top[i].log_probability)) != 0;
    if (json_object_set_new(entry, "top_logprobs", list) == 0 && !has_failed) return entry;
    json_decref(entry);
    return NULL;
}

/* ---- Completions ----------------------------------------------------------------------------- */

/* {token: log-probability}: the most probable ones, and the one that was written. */
static json_t *completion_top(const api_model *model, const choice *c, int32_t cell) {
    const answer_logprobs *a = &c->logprobs;
    json_t *map = json_object();
    const um_token_logprob *top = a->top + (size_t)cell * (size_t)a->n_top_max;
    bool has_failed = false;
    for (int32_t i = -1; i < c->request->n_top && i < a->n_top[cell]; i++) {
        int32_t id = i < 0 ? c->tokens[cell] : top[i].token;
        json_t *name = name_of(model, id, NULL);
        has_failed |= json_object_set_new(map, name ? json_string_value(name) : NULL,
                                          number_of(i < 0 ? a->log_probabilities[cell]
                                                          : top[i].log_probability)) != 0;
        json_decref(name);
    }
    if (!has_failed) return map;
    json_decref(map);
    return NULL;
}

/* cell: of the answer, or -1 for a token of the prompt. */
static bool add_completion_token(const job *j, const choice *c, int32_t id, int32_t cell,
                                 size_t offset, json_t *shape) {
    json_t *top = json_object_get(shape, "top_logprobs");
    bool is_known = cell >= 0;
    int failed =
        json_array_append_new(json_object_get(shape, "tokens"), name_of(j->model, id, NULL)) |
        json_array_append_new(json_object_get(shape, "token_logprobs"),
                              number_of(is_known ? c->logprobs.log_probabilities[cell] : NAN)) |
        json_array_append_new(json_object_get(shape, "text_offset"),
                              json_integer((json_int_t)offset));
    if (json_is_array(top))
        failed |=
            json_array_append_new(top, is_known ? completion_top(j->model, c, cell) : json_null());
    return failed == 0;
}

static bool add_prompt(const job *j, choice *c, json_t *shape) {
    const api_prompt *prompt = &j->request.prompts[c->i_prompt];
    for (size_t i = 0; i < prompt->n_ids; i++) {
        size_t n_bytes, n_chars;
        if (measure(j->model, prompt->ids[i], true, &n_bytes, &n_chars) != UM_OK ||
            !add_completion_token(j, c, prompt->ids[i], -1, c->n_echo_chars, shape))
            return false;
        c->n_echo_chars += n_chars;
    }
    c->has_echoed = true;
    return true;
}

/* ---- Both ------------------------------------------------------------------------------------ */

static json_t *empty_shape(const job *j) {
    if (j->request.kind == API_KIND_CHAT) return json_pack("{s:[], s:n}", "content", "refusal");
    return json_pack("{s:[], s:[], s:o, s:[]}", "tokens", "token_logprobs", "top_logprobs",
                     j->request.n_top ? json_array() : json_null(), "text_offset");
}

/* Characters of the answer that begin in its first n_bytes. */
static size_t count_chars(const choice *c, size_t n_bytes) {
    size_t n = 0;
    for (size_t i = 0; i < n_bytes && i < c->text.n_bytes; i++)
        n += ((unsigned char)c->text.data[i] & 0xc0) != 0x80;
    return n;
}

json_t *logprobs_reply(const job *j, choice *c, size_t n_text, bool is_whole) {
    if (!j->request.has_logprobs) return json_null();
    bool is_chat = j->request.kind == API_KIND_CHAT, has_failed = false, has_any = is_whole;
    json_t *shape = empty_shape(j);
    if (j->request.has_echo && !c->has_echoed) {
        has_failed = !add_prompt(j, c, shape);
        has_any = true;
    }
    size_t n_chars = count_chars(c, c->n_logged_bytes);
    int32_t end = c->end == CHOICE_OPEN ? c->n_final : c->n_tokens;
    while (!has_failed && c->n_logged < end && c->n_logged_bytes < n_text) {
        int32_t cell = c->n_logged, id = c->tokens[cell];
        size_t n_bytes, n_more;
        if (is_chat)
            has_failed = json_array_append_new(json_object_get(shape, "content"),
                                               chat_entry(j->model, c, cell)) != 0;
        else
            has_failed = !add_completion_token(j, c, id, cell, c->n_echo_chars + n_chars, shape);
        has_failed |= measure(j->model, id, false, &n_bytes, &n_more) != UM_OK;
        c->n_logged_bytes += n_bytes;
        n_chars += n_more;
        c->n_logged++;
        has_any = true;
    }
    if (has_any && !has_failed) return shape;
    json_decref(shape);
    return has_failed ? NULL : json_null();
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * OpenAI's shapes. What only these models have stands in extra fields that standard clients skip:
 * forwards in `usage`, the seed and the steps under `unmask`.
 */
#include "server/reply.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "server/json_value.h"
#include "server/logprobs_reply.h"
#include "server/tool_force.h"

static bool is_chat(const job *j) {
    return j->request.kind == API_KIND_CHAT;
}

static um_status no_memory(um_error *err) {
    return um_error_set(err, UM_NO_MEMORY, "no memory for a reply");
}

void reply_event(strbuf *out, const char *name, json_t *document) {
    size_t n_bytes = 0;
    char *text = json_value_write(document, &n_bytes);
    if (!text) out->has_failed = true;
    if (name) strbuf_append_format(out, "event: %s\n", name);
    strbuf_append_string(out, "data: ");
    if (text) strbuf_append(out, text, n_bytes);
    strbuf_append_string(out, "\n\n");
    memory_free(text);
}

void reply_error(const job *j, const um_error *err, bool in_stream, strbuf *out) {
    bool is_messages = j->request.kind == API_KIND_MESSAGES;
    char *body = api_error_body(err, api_error_http(err),
                                is_messages ? API_STYLE_ANTHROPIC : API_STYLE_OPENAI);
    if (!body) out->has_failed = true;
    if (in_stream) strbuf_append_string(out, is_messages ? "event: error\ndata: " : "data: ");
    if (body) strbuf_append_string(out, body);
    if (in_stream) strbuf_append_string(out, "\n\n");
    memory_free(body);
}

const char *reply_finish(const choice *c, const json_t *calls) {
    if (json_array_size(calls)) return "tool_calls";
    return c->end == CHOICE_LENGTH ? "length" : "stop";
}

um_status reply_split(const choice *c, json_t **calls, size_t *n_text, um_error *err) {
    *calls = NULL;
    *n_text = c->text.n_bytes;
    if (!c->request->has_tools || !c->text.n_bytes) return UM_OK;
    if (c->request->is_forced) {
        *n_text = 0;
        return tool_force_calls(c->request->forced_name, c->text.data, c->text.n_bytes, calls, err);
    }
    TRY(tool_shapes_find_calls(c->text.data, c->text.n_bytes, calls, n_text, err));
    while (c->request->is_single_call && json_array_size(*calls) > 1)
        json_array_remove(*calls, json_array_size(*calls) - 1);
    return UM_OK;
}

void reply_add_forwards(const job *j, json_t *usage) {
    double per = j->forwards ? (double)j->completion_tokens / (double)j->forwards : 0;
    json_object_set_new(usage, "forwards", json_integer(j->forwards));
    json_object_set_new(usage, "prefill_forwards", json_integer(j->prefill_forwards));
    json_object_set_new(usage, "tokens_per_forward", json_real(per));
}

static json_t *usage_of(const job *j) {
    json_t *usage =
        json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", (json_int_t)j->prompt_tokens,
                  "completion_tokens", (json_int_t)j->completion_tokens, "total_tokens",
                  (json_int_t)(j->prompt_tokens + j->completion_tokens), "prompt_tokens_details",
                  "cached_tokens", (json_int_t)j->cached_tokens);
    if (usage) reply_add_forwards(j, usage);
    return usage;
}

/* Calls in OpenAI's shape; `index` only in streams. */
static json_t *openai_calls(const job *j, const choice *c, const json_t *calls, bool in_stream) {
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i);
        char id[64];
        snprintf(id, sizeof id, "call_%s_%d_%zu", j->id + strcspn(j->id, "-") + 1, c->index, i);
        char *arguments = json_value_write(json_incref(json_object_get(call, "arguments")), NULL);
        json_t *shape =
            json_pack("{s:s, s:s, s:{s:O, s:s?}}", "id", id, "type", "function", "function", "name",
                      json_object_get(call, "name"), "arguments", arguments);
        if (shape && in_stream) json_object_set_new(shape, "index", json_integer((json_int_t)i));
        memory_free(arguments);
        if (json_array_append_new(list, shape) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *head_of(const job *j, bool in_stream) {
    const char *object = !is_chat(j) ? "text_completion"
                         : in_stream ? "chat.completion.chunk"
                                     : "chat.completion";
    return json_pack("{s:s, s:s, s:I, s:s, s:[]}", "id", j->id, "object", object, "created",
                     (json_int_t)j->created, "model", j->model->id, "choices");
}

/* The prompt's own text, for echo. */
static um_status prompt_text(const job *j, const choice *c, char **text, size_t *n_bytes,
                             um_error *err) {
    const api_prompt *prompt = &j->request.prompts[c->i_prompt];
    *text = NULL;
    *n_bytes = 0;
    if (!j->request.has_echo || !j->model->tokenizer) return UM_OK;
    return um_tokenizer_decode(j->model->tokenizer, prompt->ids, prompt->n_ids, false, text,
                               n_bytes, err);
}

static json_t *ids_of(const int32_t *ids, int32_t n) {
    json_t *list = json_array();
    for (int32_t i = 0; list && i < n; i++)
        if (json_array_append_new(list, json_integer(ids[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* Where the tokens end that the reply speaks of: with the text, where something cut it short. */
static size_t logged_end(const choice *c, size_t n_text) {
    return c->stop || n_text < c->text.n_bytes ? n_text : SIZE_MAX;
}

static um_status whole_choice(const job *j, choice *c, json_t *list, um_error *err) {
    json_t *calls = NULL, *item = NULL, *text = NULL;
    size_t n_text, n_echo = 0;
    char *echo = NULL;
    TRY(reply_split(c, &calls, &n_text, err));
    um_status status = prompt_text(j, c, &echo, &n_echo, err);
    strbuf joined;
    strbuf_init(&joined);
    if (echo) strbuf_append(&joined, echo, n_echo);
    if (n_text) strbuf_append(&joined, c->text.data, n_text);
    if (status == UM_OK && !joined.has_failed)
        text = json_value_text(joined.data ? joined.data : "", joined.n_bytes);
    const char *finish = reply_finish(c, calls);
    json_t *logprobs = logprobs_reply(j, c, logged_end(c, n_text), true);
    if (is_chat(j)) {
        json_t *message = json_pack("{s:s, s:o}", "role", "assistant", "content", text);
        if (message && json_array_size(calls)) {
            json_object_set_new(message, "tool_calls", openai_calls(j, c, calls, false));
            if (n_text == 0) json_object_set_new(message, "content", json_null());
        }
        item = json_pack("{s:i, s:o, s:o, s:s}", "index", c->index, "message", message, "logprobs",
                         logprobs, "finish_reason", finish);
    } else {
        item = json_pack("{s:i, s:o, s:o, s:s}", "index", c->index, "text", text, "logprobs",
                         logprobs, "finish_reason", finish);
        if (item && !j->model->tokenizer)
            json_object_set_new(item, "token_ids", ids_of(c->tokens, c->n_tokens));
    }
    if (item && c->stop) json_object_set_new(item, "stop_reason", json_string(c->stop));
    if (status == UM_OK && json_array_append_new(list, item) != 0) status = no_memory(err);
    strbuf_deinit(&joined);
    um_free(echo);
    json_decref(calls);
    return status;
}

/* The choices of a prompt, the best n by their mean log-probability first where more were made. */
static void rank_choices(const job *j, size_t i_prompt, choice **order) {
    size_t n_made = (size_t)j->request.best_of, n = (size_t)j->request.n;
    double means[API_CHOICES_MAX];
    for (size_t i = 0; i < n_made; i++) {
        choice *c = &j->choices[i_prompt * n_made + i];
        double mean = n_made > n ? answer_logprobs_mean(&c->logprobs, c->n_tokens) : 0.0;
        size_t at = i;
        for (; at > 0 && mean > means[at - 1]; at--) {
            order[at] = order[at - 1];
            means[at] = means[at - 1];
        }
        order[at] = c;
        means[at] = mean;
    }
    for (size_t i = 0; i < n; i++) order[i]->index = (int32_t)(i_prompt * n + i);
}

um_status reply_whole(const job *j, strbuf *out, um_error *err) {
    if (j->request.kind == API_KIND_MESSAGES) return messages_reply_whole(j, out, err);
    json_t *root = head_of(j, false);
    if (!root) return no_memory(err);
    um_status status = UM_OK;
    choice *order[API_CHOICES_MAX];
    for (size_t i = 0; status == UM_OK && i < j->request.n_prompts; i++) {
        rank_choices(j, i, order);
        for (size_t k = 0; status == UM_OK && k < (size_t)j->request.n; k++)
            status = whole_choice(j, order[k], json_object_get(root, "choices"), err);
    }
    if (status == UM_OK &&
        (json_object_set_new(root, "usage", usage_of(j)) != 0 ||
         json_object_set_new(root, "unmask",
                             json_pack("{s:I}", "seed", (json_int_t)j->request.options.seed)) != 0))
        status = no_memory(err);
    if (status != UM_OK) {
        json_decref(root);
        return status;
    }
    size_t n_bytes = 0;
    char *text = json_value_write(root, &n_bytes);
    if (!text) return no_memory(err);
    strbuf_append(out, text, n_bytes);
    memory_free(text);
    return UM_OK;
}

/* ---- Streams -------------------------------------------------------------------------------- */

/* A chunk with one choice, and the log-probabilities of the tokens that begin before byte n_text of
 * the answer; takes `text` or `delta` over. */
static void put_chunk(const job *j, choice *c, json_t *body, size_t n_text, const char *finish,
                      json_t *steps, strbuf *out) {
    json_t *root = head_of(j, true);
    json_t *item =
        json_pack("{s:i, s:o, s:o, s:s?}", "index", c->index, is_chat(j) ? "delta" : "text", body,
                  "logprobs", logprobs_reply(j, c, n_text, false), "finish_reason", finish);
    if (item && finish && c->stop) json_object_set_new(item, "stop_reason", json_string(c->stop));
    if (json_array_append_new(json_object_get(root, "choices"), item) != 0) out->has_failed = true;
    if (j->request.has_usage) json_object_set_new(root, "usage", json_null());
    if (steps) json_object_set_new(root, "unmask", steps);
    reply_event(out, NULL, root);
}

static json_t *text_body(const job *j, const char *text, size_t n_bytes) {
    json_t *value = json_value_text(text ? text : "", n_bytes);
    return is_chat(j) ? json_pack("{s:o}", "content", value) : value;
}

void reply_stream_begin(const job *j, strbuf *out) {
    if (j->request.kind == API_KIND_MESSAGES) {
        messages_reply_begin(j, out);
        return;
    }
    for (size_t i = 0; i < j->n_choices; i++) {
        choice *c = &j->choices[i];
        json_t *note = j->request.has_steps ? json_pack("{s:I, s:i, s:i}", "seed",
                                                        (json_int_t)j->request.options.seed,
                                                        "max_tokens", (int)c->n_cells, "mask_token",
                                                        (int)j->model->info->mask_token)
                                            : NULL;
        if (is_chat(j)) {
            put_chunk(j, c, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), 0, NULL,
                      note, out);
        } else if (j->request.has_echo || note) {
            char *echo = NULL;
            size_t n_echo = 0;
            if (prompt_text(j, c, &echo, &n_echo, NULL) != UM_OK) out->has_failed = true;
            put_chunk(j, c, text_body(j, echo, n_echo), 0, NULL, note, out);
            um_free(echo);
        }
    }
}

/* One forward: what it changed, by cell of the answer. */
static json_t *step_of(const job *j, const choice *c, const um_event *event) {
    json_t *changes = json_array();
    for (int32_t i = 0; changes && i < event->n_changes; i++) {
        const um_change *change = &event->changes[i];
        int32_t cell = change->position - c->n_prompt;
        char *text = NULL;
        size_t n_bytes = 0;
        if (cell < 0 || cell >= c->n_cells) continue;
        if (j->model->tokenizer)
            (void)um_tokenizer_decode(j->model->tokenizer, &change->token, 1, false, &text,
                                      &n_bytes, NULL);
        json_t *item =
            json_pack("{s:i, s:i, s:f, s:b}", "position", (int)cell, "token", (int)change->token,
                      "probability", (double)change->probability, "edit", (int)change->is_edit);
        if (item && text) json_object_set_new(item, "text", json_value_text(text, n_bytes));
        um_free(text);
        json_array_append_new(changes, item);
    }
    int32_t first = event->first_position - c->n_prompt;
    return json_pack("{s:{s:i, s:i, s:i, s:i, s:o}}", "step", "forward", (int)event->forward,
                     "block", (int)event->block, "first", (int)(first < 0 ? 0 : first), "end",
                     (int)(first + event->n_inputs), "changes", changes);
}

um_status reply_stream_text(const job *j, choice *c, const um_event *step, strbuf *out,
                            um_error *err) {
    (void)err;
    if (j->request.kind == API_KIND_MESSAGES) {
        messages_reply_text(j, c, out);
        return UM_OK;
    }
    size_t n = c->n_ready - c->n_sent;
    json_t *body = text_body(j, c->text.data ? c->text.data + c->n_sent : "", n);
    put_chunk(j, c, body, c->n_ready, NULL, step ? step_of(j, c, step) : NULL, out);
    c->n_sent = c->n_ready;
    return UM_OK;
}

um_status reply_stream_end_choice(const job *j, choice *c, strbuf *out, um_error *err) {
    json_t *calls = NULL, *body;
    size_t n_text;
    if (j->request.kind == API_KIND_MESSAGES) return UM_OK;
    TRY(reply_split(c, &calls, &n_text, err));
    size_t n = n_text > c->n_sent ? n_text - c->n_sent : 0;
    if (n) put_chunk(j, c, text_body(j, c->text.data + c->n_sent, n), n_text, NULL, NULL, out);
    c->n_sent += n;
    if (json_array_size(calls))
        put_chunk(j, c, json_pack("{s:o}", "tool_calls", openai_calls(j, c, calls, true)), n_text,
                  NULL, NULL, out);
    body = is_chat(j) ? json_object() : json_string("");
    put_chunk(j, c, body, logged_end(c, n_text), reply_finish(c, calls), NULL, out);
    json_decref(calls);
    return UM_OK;
}

um_status reply_stream_end(const job *j, strbuf *out, um_error *err) {
    if (j->request.kind == API_KIND_MESSAGES) return messages_reply_end(j, out, err);
    if (j->request.has_usage) {
        json_t *root = head_of(j, true);
        if (!root || json_object_set_new(root, "usage", usage_of(j)) != 0) {
            json_decref(root);
            return no_memory(err);
        }
        reply_event(out, NULL, root);
    }
    strbuf_append_string(out, "data: [DONE]\n\n");
    return UM_OK;
}

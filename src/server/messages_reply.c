/* SPDX-License-Identifier: Apache-2.0
 *
 * Anthropic's shapes: one message of blocks, and a stream that opens and closes each block.
 */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "server/json_value.h"
#include "server/reply.h"

static um_status no_memory(um_error *err) {
    return um_error_set(err, UM_NO_MEMORY, "no memory for a reply");
}

static json_t *usage_of(const job *j) {
    json_t *usage =
        json_pack("{s:I, s:I, s:i}", "input_tokens", (json_int_t)j->prompt_tokens, "output_tokens",
                  (json_int_t)j->completion_tokens, "cache_read_input_tokens", 0);
    if (usage) reply_add_forwards(j, usage);
    return usage;
}

static const char *stop_reason(const choice *c, const json_t *calls) {
    if (json_array_size(calls)) return "tool_use";
    if (c->stop) return "stop_sequence";
    return c->end == CHOICE_LENGTH ? "max_tokens" : "end_turn";
}

static json_t *tool_block(const job *j, const json_t *call, size_t i, json_t *input) {
    char id[64];
    snprintf(id, sizeof id, "toolu_%s_%zu", j->id + strcspn(j->id, "_") + 1, i);
    return json_pack("{s:s, s:s, s:O, s:O}", "type", "tool_use", "id", id, "name",
                     json_object_get(call, "name"), "input", input);
}

um_status messages_reply_whole(const job *j, strbuf *out, um_error *err) {
    const choice *c = &j->choices[0];
    json_t *calls = NULL, *blocks = json_array();
    size_t n_text = 0, n_bytes = 0;
    um_status status = blocks ? reply_split(c, &calls, &n_text, err) : no_memory(err);
    if (status != UM_OK) {
        json_decref(blocks);
        return status;
    }
    int failed = 0;
    if (n_text || !json_array_size(calls))
        failed |= json_array_append_new(
            blocks, json_pack("{s:s, s:o}", "type", "text", "text",
                              json_value_text(n_text ? c->text.data : "", n_text)));
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *call = json_array_get(calls, i);
        failed |= json_array_append_new(blocks,
                                        tool_block(j, call, i, json_object_get(call, "arguments")));
    }
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:s?, s:o}", "id", j->id, "type", "message",
                  "role", "assistant", "model", j->model->id, "content", blocks, "stop_reason",
                  stop_reason(c, calls), "stop_sequence", c->stop, "usage", usage_of(j));
    json_decref(calls);
    char *text = json_value_write(root, &n_bytes);
    if (text) strbuf_append(out, text, n_bytes);
    if (!text || failed) status = no_memory(err);
    memory_free(text);
    return status;
}

void messages_reply_begin(const job *j, strbuf *out) {
    json_t *message = json_pack("{s:s, s:s, s:s, s:s, s:[], s:n, s:n, s:o}", "id", j->id, "type",
                                "message", "role", "assistant", "model", j->model->id, "content",
                                "stop_reason", "stop_sequence", "usage", usage_of(j));
    reply_event(out, "message_start",
                json_pack("{s:s, s:o}", "type", "message_start", "message", message));
    reply_event(out, "content_block_start",
                json_pack("{s:s, s:i, s:{s:s, s:s}}", "type", "content_block_start", "index", 0,
                          "content_block", "type", "text", "text", ""));
}

void messages_reply_text(const job *j, choice *c, strbuf *out) {
    (void)j;
    json_t *text = json_value_text(c->text.data + c->n_sent, c->n_ready - c->n_sent);
    c->n_sent = c->n_ready;
    reply_event(out, "content_block_delta",
                json_pack("{s:s, s:i, s:{s:s, s:o}}", "type", "content_block_delta", "index", 0,
                          "delta", "type", "text_delta", "text", text));
}

static void put_block_end(size_t index, strbuf *out) {
    reply_event(out, "content_block_stop",
                json_pack("{s:s, s:I}", "type", "content_block_stop", "index", (json_int_t)index));
}

static void put_tool(const job *j, const json_t *call, size_t i, strbuf *out) {
    json_t *empty = json_object();
    json_int_t index = (json_int_t)i + 1;
    char *arguments = json_value_write(json_incref(json_object_get(call, "arguments")), NULL);
    reply_event(out, "content_block_start",
                json_pack("{s:s, s:I, s:o}", "type", "content_block_start", "index", index,
                          "content_block", tool_block(j, call, i, empty)));
    reply_event(out, "content_block_delta",
                json_pack("{s:s, s:I, s:{s:s, s:s?}}", "type", "content_block_delta", "index",
                          index, "delta", "type", "input_json_delta", "partial_json", arguments));
    put_block_end(i + 1, out);
    memory_free(arguments);
    json_decref(empty);
}

um_status messages_reply_end(const job *j, strbuf *out, um_error *err) {
    choice *c = &j->choices[0];
    json_t *calls = NULL;
    size_t n_text;
    TRY(reply_split(c, &calls, &n_text, err));
    c->n_ready = n_text > c->n_sent ? n_text : c->n_sent;
    if (c->n_ready > c->n_sent) messages_reply_text(j, c, out);
    put_block_end(0, out);
    for (size_t i = 0; i < json_array_size(calls); i++)
        put_tool(j, json_array_get(calls, i), i, out);
    reply_event(
        out, "message_delta",
        json_pack("{s:s, s:{s:s, s:s?}, s:o}", "type", "message_delta", "delta", "stop_reason",
                  stop_reason(c, calls), "stop_sequence", c->stop, "usage", usage_of(j)));
    reply_event(out, "message_stop", json_pack("{s:s}", "type", "message_stop"));
    json_decref(calls);
    return UM_OK;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Fields of messages are a closed list, as are the types of content: what a template would not see
 * is refused and not dropped.
 */
#include "server/tool_shapes.h"

#include <string.h>

#include "base/strbuf.h"
#include "server/api_error.h"
#include "server/json_value.h"

const char tool_call_open[] = "<tool_call>";
static const char call_close[] = "</tool_call>";

static um_status no_memory(um_error *err) {
    return um_error_set(err, UM_NO_MEMORY, "no memory for the conversation");
}

/* Content: a string, or an array of {"type": "text", "text": ...}, joined. */
static um_status read_content(const char *field, const json_t *content, json_t **text,
                              um_error *err) {
    strbuf joined;
    strbuf_init(&joined);
    if (json_is_string(content)) {
        *text = json_string(json_string_value(content));
        return *text ? UM_OK : no_memory(err);
    }
    if (!json_is_array(content))
        return api_refuse(err, field, "%s: content: expected a string or an array, found %s", field,
                          json_value_kind(content));
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i), *words = json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type || strcmp(type, "text") != 0 || !json_is_string(words)) {
            strbuf_deinit(&joined);
            return api_refuse(err, field,
                              "%s: content: expected parts of type \"text\", found \"%.40s\"",
                              field, type ? type : json_value_kind(part));
        }
        strbuf_append(&joined, json_string_value(words), json_string_length(words));
    }
    *text = joined.has_failed ? NULL : json_stringn(joined.data ? joined.data : "", joined.n_bytes);
    strbuf_deinit(&joined);
    return *text ? UM_OK : no_memory(err);
}

static um_status check_fields(json_t *message, size_t i, um_error *err) {
    static const char *const known[] = {"role", "content", "name", "tool_calls", "tool_call_id"};
    void *at = json_object_iter(message);
    for (; at; at = json_object_iter_next(message, at)) {
        const char *key = json_object_iter_key(at);
        bool is_known = json_is_null(json_object_iter_value(at));
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            is_known = is_known || strcmp(key, known[k]) == 0;
        if (!is_known)
            return api_refuse(err, "messages", "messages: item %zu: unknown field \"%.40s\"", i,
                              key);
    }
    return UM_OK;
}

static um_status read_message(json_t *message, size_t i, json_t *out, um_error *err) {
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *content = json_object_get(message, "content");
    bool has_calls = json_array_size(json_object_get(message, "tool_calls")) > 0, is_role = false;
    json_t *text = NULL, *copy;
    if (!json_is_object(message))
        return api_refuse(err, "messages", "messages: item %zu: expected an object, found %s", i,
                          json_value_kind(message));
    TRY(check_fields(message, i, err));
    for (size_t k = 0; role && k < sizeof roles / sizeof *roles; k++)
        is_role = is_role || strcmp(role, roles[k]) == 0;
    if (!is_role)
        return api_refuse(err, "messages",
                          "messages: item %zu: expected a role of system, developer, user, "
                          "assistant or tool, found \"%.40s\"",
                          i, role ? role : json_value_kind(json_object_get(message, "role")));
    if (has_calls && (!content || json_is_null(content)))
        text = json_string("");
    else
        TRY(read_content("messages", content, &text, err));
    copy = text ? json_copy(message) : NULL;
    /* What OpenAI calls developer, templates call system. */
    if (!copy || json_object_set_new(copy, "content", text) != 0 ||
        json_array_append(out, copy) != 0 ||
        (strcmp(role, "developer") == 0 &&
         json_object_set_new(copy, "role", json_string("system")) != 0)) {
        if (!copy) json_decref(text);
        json_decref(copy);
        return no_memory(err);
    }
    json_decref(copy);
    return UM_OK;
}

/* Anthropic's blocks of one message: text stays together, a use of a tool becomes a call of the
 * assistant, and a result a message of its own. */
static um_status read_blocks(json_t *message, size_t i, json_t *out, um_error *err) {
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *content = json_object_get(message, "content");
    if (!role || (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0) ||
        json_object_size(message) != 2 || !content)
        return api_refuse(err, "messages",
                          "messages: item %zu: expected a role of user or assistant, and content",
                          i);
    if (json_is_string(content)) return read_message(message, i, out, err);
    json_t *texts = json_array(), *calls = json_array(), *text = NULL, *result = NULL;
    um_status status = texts && calls ? UM_OK : no_memory(err);
    for (size_t k = 0; status == UM_OK && k < json_array_size(content); k++) {
        json_t *block = json_array_get(content, k);
        const char *type = json_string_value(json_object_get(block, "type"));
        const char *id = json_string_value(json_object_get(block, "id"));
        const char *of = json_string_value(json_object_get(block, "tool_use_id"));
        const char *name = json_string_value(json_object_get(block, "name"));
        json_t *input = json_object_get(block, "input");
        if (type && strcmp(type, "tool_use") == 0 && id && name && json_is_object(input)) {
            json_t *call = json_pack("{s:s, s:s, s:{s:s, s:O}}", "id", id, "type", "function",
                                     "function", "name", name, "arguments", input);
            if (json_array_append_new(calls, call) != 0) status = no_memory(err);
        } else if (type && strcmp(type, "tool_result") == 0 && of) {
            const json_t *inner = json_object_get(block, "content");
            if (inner)
                status = read_content("messages", inner, &result, err);
            else
                result = json_string("");
            if (status != UM_OK) break;
            json_t *reply =
                json_pack("{s:s, s:s, s:o}", "role", "tool", "tool_call_id", of, "content", result);
            if (json_array_append_new(out, reply) != 0) status = no_memory(err);
        } else if (json_array_append(texts, block) != 0) {
            status = no_memory(err);
        }
    }
    if (status == UM_OK && (json_array_size(texts) || json_array_size(calls))) {
        status = read_content("messages", texts, &text, err);
        if (status == UM_OK) {
            json_t *turn = json_pack("{s:s, s:o}", "role", role, "content", text);
            if (!turn || (json_array_size(calls) && json_object_set(turn, "tool_calls", calls)) ||
                json_array_append(out, turn) != 0)
                status = no_memory(err);
            json_decref(turn);
        }
    }
    json_decref(texts);
    json_decref(calls);
    return status;
}

um_status tool_shapes_messages(const json_t *root, bool is_anthropic, json_t **messages,
                               um_error *err) {
    const json_t *given = json_object_get(root, "messages");
    const json_t *system = json_object_get(root, "system");
    um_status status = UM_OK;
    if (json_array_size(given) == 0)
        return api_refuse(err, "messages", "messages: expected an array of messages, found %s",
                          json_is_array(given) ? "none" : json_value_kind(given));
    *messages = json_array();
    if (!*messages) return no_memory(err);
    if (is_anthropic && system && !json_is_null(system)) {
        json_t *text = NULL, *turn = NULL;
        status = read_content("system", system, &text, err);
        if (status == UM_OK) turn = json_pack("{s:s, s:o}", "role", "system", "content", text);
        if (status == UM_OK && json_array_append_new(*messages, turn) != 0) status = no_memory(err);
    }
    for (size_t i = 0; status == UM_OK && i < json_array_size(given); i++) {
        json_t *message = json_array_get(given, i);
        status = is_anthropic ? read_blocks(message, i, *messages, err)
                              : read_message(message, i, *messages, err);
    }
    if (status == UM_OK) return UM_OK;
    json_decref(*messages);
    *messages = NULL;
    return status;
}

static um_status refuse_choice(bool is_anthropic, um_error *err) {
    return api_refuse(err, "tool_choice", "tool_choice: expected %s",
                      is_anthropic
                          ? "{\"type\": ...} of auto, any, none, or tool with a name"
                          : "\"auto\", \"none\", \"required\", or {\"type\": \"function\", "
                            "\"function\": {\"name\": ...}}");
}

/* {"type": "auto" | "any" | "none" | "tool", "name", "disable_parallel_tool_use"} */
static um_status read_anthropic_choice(const json_t *value, tool_choice *choice, um_error *err) {
    const char *word = json_string_value(json_object_get(value, "type"));
    const json_t *single = json_object_get(value, "disable_parallel_tool_use");
    bool is_tool = word && strcmp(word, "tool") == 0, is_any = word && strcmp(word, "any") == 0;
    choice->name = json_string_value(json_object_get(value, "name"));
    choice->is_single = json_is_true(single);
    choice->is_forced = is_tool || is_any;
    choice->is_shown = !word || strcmp(word, "none") != 0;
    bool is_known = choice->is_forced || !choice->is_shown || (word && strcmp(word, "auto") == 0);
    size_t n_fields = 1u + (single != NULL) + is_tool;
    if (!is_known || json_object_size(value) != n_fields || is_tool != (choice->name != NULL) ||
        (single && !json_is_boolean(single)))
        return refuse_choice(true, err);
    return UM_OK;
}

static um_status read_openai_choice(const json_t *value, tool_choice *choice, um_error *err) {
    const char *word = json_string_value(value);
    const char *type = json_string_value(json_object_get(value, "type"));
    if (type && strcmp(type, "function") == 0 && json_object_size(value) == 2) {
        const json_t *function = json_object_get(value, "function");
        choice->name = json_string_value(json_object_get(function, "name"));
        if (!choice->name || json_object_size(function) != 1) return refuse_choice(false, err);
        choice->is_forced = true;
        return UM_OK;
    }
    choice->is_forced = word && strcmp(word, "required") == 0;
    choice->is_shown = !word || strcmp(word, "none") != 0;
    if (choice->is_forced || !choice->is_shown || (word && strcmp(word, "auto") == 0)) return UM_OK;
    return refuse_choice(false, err);
}

um_status tool_shapes_choice(const json_t *root, bool is_anthropic, tool_choice *choice,
                             um_error *err) {
    const json_t *value = json_object_get(root, "tool_choice");
    *choice = (tool_choice){.is_shown = true};
    const json_t *parallel = json_object_get(root, "parallel_tool_calls");
    if (parallel && !json_is_boolean(parallel) && !json_is_null(parallel))
        return api_refuse(err, "parallel_tool_calls",
                          "parallel_tool_calls: expected true or false, found %s",
                          json_value_kind(parallel));
    choice->is_single = json_is_false(parallel);
    if (!value || json_is_null(value)) return UM_OK;
    return is_anthropic ? read_anthropic_choice(value, choice, err)
                        : read_openai_choice(value, choice, err);
}

um_status tool_shapes_tools(const json_t *root, bool is_anthropic, bool is_shown, json_t **tools,
                            um_error *err) {
    const json_t *given = json_object_get(root, "tools");
    *tools = NULL;
    if (given && !json_is_null(given) && !json_is_array(given))
        return api_refuse(err, "tools", "tools: expected an array, found %s",
                          json_value_kind(given));
    if (json_array_size(given) == 0) return UM_OK;
    json_t *list = json_array();
    um_status status = list ? UM_OK : no_memory(err);
    for (size_t i = 0; status == UM_OK && i < json_array_size(given); i++) {
        json_t *tool = json_array_get(given, i), *shape = NULL;
        const json_t *f = is_anthropic ? tool : json_object_get(tool, "function");
        const char *name = json_string_value(json_object_get(f, "name"));
        json_t *input = json_object_get(tool, "input_schema");
        json_t *description = json_object_get(tool, "description");
        if (!name || (is_anthropic && !json_is_object(input))) {
            status =
                api_refuse(err, "tools", "tools: item %zu: expected a function with a name", i);
        } else if (is_anthropic) {
            shape = json_pack("{s:s, s:{s:s, s:O*, s:O}}", "type", "function", "function", "name",
                              name, "description", description, "parameters", input);
        } else {
            shape = json_incref(tool);
        }
        if (status == UM_OK && json_array_append_new(list, shape) != 0) status = no_memory(err);
    }
    if (status == UM_OK && is_shown) {
        *tools = list;
        return UM_OK;
    }
    json_decref(list);
    return status;
}

um_status tool_shapes_find_calls(const char *text, size_t n_bytes, json_t **calls, size_t *n_text,
                                 um_error *err) {
    const char *end = text + n_bytes, *at = text;
    size_t n_open = strlen(tool_call_open), n_close = sizeof call_close - 1;
    *n_text = n_bytes;
    *calls = json_array();
    if (!*calls) return no_memory(err);
    for (;;) {
        const char *open = memmem(at, (size_t)(end - at), tool_call_open, n_open);
        if (!open) break;
        const char *close = memmem(open, (size_t)(end - open), call_close, n_close);
        const char *body = open + n_open;
        json_error_t fault;
        json_t *call =
            close ? json_loadb(body, (size_t)(close - body), JSON_REJECT_DUPLICATES, &fault) : NULL;
        bool is_call = json_is_string(json_object_get(call, "name")) &&
                       json_is_object(json_object_get(call, "arguments"));
        if (!is_call) {
            json_decref(call);
            json_array_clear(*calls);
            *n_text = n_bytes;
            return UM_OK;
        }
        if (json_array_append_new(*calls, call) != 0) {
            json_decref(*calls);
            *calls = NULL;
            return no_memory(err);
        }
        if (*n_text == n_bytes) *n_text = (size_t)(open - text);
        at = close + n_close;
    }
    while (json_array_size(*calls) && *n_text > 0 && strchr(" \t\r\n", text[*n_text - 1]))
        --*n_text;
    return UM_OK;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * With one function to call, its name is settled: {"name": "f", "arguments": stands in the prompt,
 * and the schema is that of the parameters. With several the model chooses: the schema is that one
 * of them is called, and references inside of each lead to where it lies now.
 */
#include "server/tool_force.h"

#include <string.h>

#include "base/memory.h"
#include "server/api_error.h"
#include "server/json_value.h"

static um_status no_memory(um_error *err) {
    return um_error_set(err, UM_NO_MEMORY, "no memory for the schema of a call");
}

static const json_t *function_of(const json_t *tools, size_t i) {
    return json_object_get(json_array_get(tools, i), "function");
}

static const char *name_of(const json_t *tools, size_t i) {
    return json_string_value(json_object_get(function_of(tools, i), "name"));
}

/* A schema for a function's arguments, which are an object also where it does not say so; without
 * parameters an empty one. */
static json_t *arguments_of(const json_t *tools, size_t i) {
    json_t *parameters = json_object_get(function_of(tools, i), "parameters");
    if (!json_object_size(parameters))
        return json_pack("{s:s, s:{}, s:b}", "type", "object", "properties", "additionalProperties",
                         0);
    json_t *copy = json_deep_copy(parameters);
    bool says_what = json_object_get(copy, "type") || json_object_get(copy, "anyOf") ||
                     json_object_get(copy, "$ref");
    if (!says_what && json_object_set_new(copy, "type", json_string("object")) != 0) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

/* "#/$defs/x" becomes prefix + "/$defs/x", everywhere below a schema that now lies at prefix. */
static bool move_references(json_t *schema, const char *prefix, int depth) {
    bool is_moved = depth > 0; /* what is nested deeper than any parser bears */
    if (json_is_array(schema))
        for (size_t i = 0; is_moved && i < json_array_size(schema); i++)
            is_moved = move_references(json_array_get(schema, i), prefix, depth - 1);
    void *at = json_object_iter(schema);
    for (; is_moved && at; at = json_object_iter_next(schema, at)) {
        const char *key = json_object_iter_key(at);
        json_t *value = json_object_iter_value(at);
        const char *reference = strcmp(key, "$ref") == 0 ? json_string_value(value) : NULL;
        if (reference && reference[0] == '#') {
            json_t *moved = json_sprintf("%s%s", prefix, reference + 1);
            is_moved = moved && json_object_iter_set_new(schema, at, moved) == 0;
        } else if (strcmp(key, "enum") != 0 && strcmp(key, "const") != 0) {
            is_moved = move_references(value, prefix, depth - 1);
        }
    }
    return is_moved;
}

/* An object of name and arguments, of one of the tools. */
static json_t *any_call(const json_t *tools) {
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(tools); i++) {
        char prefix[64];
        json_t *arguments = arguments_of(tools, i);
        snprintf(prefix, sizeof prefix, "#/anyOf/%zu/properties/arguments", i);
        bool is_moved = move_references(arguments, prefix, 2048);
        json_t *call =
            json_pack("{s:s, s:{s:{s:s}, s:o}, s:[ss], s:b}", "type", "object", "properties",
                      "name", "const", name_of(tools, i), "arguments", arguments, "required",
                      "name", "arguments", "additionalProperties", 0);
        if (json_array_append_new(list, call) != 0 || !is_moved) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:o}", "anyOf", list);
}

um_status tool_force(const json_t *tools, const tool_choice *choice, strbuf *opening,
                     const char **name, char **schema, size_t *n_schema, um_error *err) {
    size_t n = json_array_size(tools), i = 0;
    if (n == 0) return api_refuse(err, "tool_choice", "tool_choice: there is no tool to call");
    for (; choice->name && i < n; i++)
        if (strcmp(choice->name, name_of(tools, i)) == 0) break;
    if (i == n)
        return api_refuse(err, "tool_choice", "tool_choice: no tool is called \"%.60s\"",
                          choice->name);
    bool is_one = choice->name || n == 1;
    json_t *made = is_one ? arguments_of(tools, i) : any_call(tools);
    *name = is_one ? name_of(tools, i) : NULL;
    strbuf_append_string(opening, tool_call_open);
    strbuf_append_string(opening, "\n");
    if (is_one) {
        char *quoted = json_value_write(json_string(*name), NULL);
        if (!quoted) opening->has_failed = true;
        strbuf_append_format(opening, "{\"name\": %s, \"arguments\":", quoted ? quoted : "");
        memory_free(quoted);
    }
    *schema = json_value_write_exact(made, n_schema);
    return *schema && !opening->has_failed ? UM_OK : no_memory(err);
}

um_status tool_force_calls(const char *name, const char *text, size_t n_bytes, json_t **calls,
                           um_error *err) {
    json_error_t fault;
    json_t *written = json_loadb(text, n_bytes, 0, &fault), *call = written;
    *calls = NULL;
    if (!written && json_error_code(&fault) != json_error_out_of_memory)
        FAIL(UM_INTERNAL, err, "a call was written that does not parse: %s", fault.text);
    *calls = json_array();
    if (name) call = json_pack("{s:s, s:o}", "name", name, "arguments", written);
    if (json_is_object(json_object_get(call, "arguments")) &&
        json_array_append_new(*calls, call) == 0)
        return UM_OK;
    json_decref(*calls);
    *calls = NULL;
    return no_memory(err);
}

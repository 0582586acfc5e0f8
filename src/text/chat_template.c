/* SPDX-License-Identifier: Apache-2.0
 *
 * Templates and conversations from JSON. A model may have two templates, one for conversations with
 * tools; which one is used depends on whether tools are given at all, as in transformers.
 */
#include "text/chat_template.h"

#include <jansson.h>
#include <string.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "text/jinja_exec.h"
#include "text/jinja_parser.h"
#include "text/json_field.h"

enum { FILE_MAX_BYTES = 64 * 1024 * 1024, TREE_MAX_BYTES = 256 * 1024 * 1024 };

struct chat_template {
    jinja_pool pool; /* both trees and the special tokens */
    jinja_nodes body;
    jinja_nodes tool_body;
    bool has_body;
    bool has_tool_body;
    jinja_dict tokens; /* bos_token and so on */
};

/* ---- JSON to values -------------------------------------------------------------------------- */

/* Strings are copied, so that the JSON may go before the values do. */
static um_status to_value(jinja_run *run, const json_t *json, int depth, jinja_value *out);

static um_status to_list(jinja_run *run, const json_t *json, int depth, jinja_value *out) {
    size_t n = json_array_size(json);
    jinja_value *items;
    TRY(jinja_value_alloc(run, n, sizeof *items, &items));
    for (size_t i = 0; i < n; i++)
        TRY(to_value(run, json_array_get(json, i), depth + 1, &items[i]));
    return jinja_value_sequence(run, JINJA_LIST, items, n, out);
}

/* jansson iterates in the order of insertion, which is the order of the text. */
static um_status to_dict(jinja_run *run, json_t *json, int depth, jinja_value *out) {
    TRY(jinja_value_dict(run, JINJA_DICT, out));
    for (void *at = json_object_iter(json); at; at = json_object_iter_next(json, at)) {
        jinja_value key, value;
        const char *name = json_object_iter_key(at);
        TRY(jinja_value_copy_text(run, name, strlen(name), &key));
        TRY(to_value(run, json_object_iter_value(at), depth + 1, &value));
        TRY(jinja_value_dict_add(run, out->as.dict, key, value));
    }
    return UM_OK;
}

static um_status to_value(jinja_run *run, const json_t *json, int depth, jinja_value *out) {
    if (depth > JINJA_DEPTH_MAX)
        FAIL(UM_INVALID, run->err, "JSON nests deeper than %d levels", JINJA_DEPTH_MAX);
    switch (json_typeof(json)) {
        case JSON_OBJECT: {
            json_t *mutable_json;
            memcpy(&mutable_json, &json, sizeof json); /* jansson's iterator takes no const */
            return to_dict(run, mutable_json, depth, out);
        }
        case JSON_ARRAY:
            return to_list(run, json, depth, out);
        case JSON_STRING:
            return jinja_value_copy_text(run, json_string_value(json), json_string_length(json),
                                         out);
        case JSON_INTEGER:
            *out = jinja_value_int(json_integer_value(json));
            return UM_OK;
        case JSON_REAL:
            *out = jinja_value_float(json_real_value(json));
            return UM_OK;
        case JSON_TRUE:
        case JSON_FALSE:
            *out = jinja_value_bool(json_is_true(json));
            return UM_OK;
        default:
            *out = jinja_value_none();
            return UM_OK;
    }
}

/* Parses a text into a value; `what` names it in errors, is_list says array or object. The items of
 * a list must be objects. */
static um_status read_json(jinja_run *run, const char *text, const char *what, bool is_list,
                           jinja_value *out) {
    json_error_t mistake;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &mistake);
    if (!json)
        FAIL(UM_INVALID, run->err, "%s are not valid JSON: %s at line %d, column %d", what,
             mistake.text, mistake.line, mistake.column);
    um_status status = UM_OK;
    if (is_list ? !json_is_array(json) : !json_is_object(json))
        status = um_error_set(run->err, UM_INVALID, "%s must be a JSON %s", what,
                              is_list ? "array" : "object");
    for (size_t i = 0; status == UM_OK && is_list && i < json_array_size(json); i++)
        if (!json_is_object(json_array_get(json, i)))
            status = um_error_set(run->err, UM_INVALID,
                                  "%s must be an array of objects, item %zu is not", what, i);
    if (status == UM_OK) status = to_value(run, json, 0, out);
    json_decref(json);
    return status;
}

/* ---- Special tokens and templates ------------------------------------------------------------ */

static const char *const token_names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};
enum { N_TOKEN_NAMES = sizeof token_names / sizeof token_names[0] };

static um_status read_tokens(chat_template *t, const json_t *config, um_error *err) {
    t->tokens.pairs = jinja_pool_alloc(&t->pool, N_TOKEN_NAMES, sizeof *t->tokens.pairs);
    if (!t->tokens.pairs) FAIL(UM_NO_MEMORY, err, "no memory for a chat template");
    for (int i = 0; i < N_TOKEN_NAMES; i++) {
        const json_t *token = json_object_get(config, token_names[i]);
        if (json_is_object(token)) token = json_object_get(token, "content");
        if (!json_is_string(token)) continue;
        size_t n = json_string_length(token);
        char *text = jinja_pool_alloc(&t->pool, n, 1);
        if (!text) FAIL(UM_NO_MEMORY, err, "no memory for a chat template");
        memcpy(text, json_string_value(token), n);
        t->tokens.pairs[t->tokens.n_pairs++] =
            (jinja_pair){jinja_value_string(token_names[i]), jinja_value_text(text, n)};
    }
    return UM_OK;
}

static um_status add_template(chat_template *t, const char *text, size_t n_bytes, bool is_for_tools,
                              um_error *err) {
    TRY(jinja_parser_run(&t->pool, text, n_bytes, is_for_tools ? &t->tool_body : &t->body, err));
    *(is_for_tools ? &t->has_tool_body : &t->has_body) = true;
    return UM_OK;
}

/* The "chat_template" of tokenizer_config.json. Names other than the two known ones are templates
 * that a caller of transformers chooses by name; nothing here does. */
static um_status add_from_config(chat_template *t, const json_t *config, um_error *err) {
    const json_t *found = json_object_get(config, "chat_template");
    if (json_is_string(found))
        return add_template(t, json_string_value(found), json_string_length(found), false, err);
    if (!found || json_is_null(found)) return UM_OK;
    if (!json_is_array(found))
        FAIL(UM_FORMAT, err, "\"chat_template\" must be a string or a list of named templates");
    for (size_t i = 0; i < json_array_size(found); i++) {
        const json_t *item = json_array_get(found, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        const json_t *text = json_object_get(item, "template");
        if (!name || !json_is_string(text))
            FAIL(UM_FORMAT, err, "item %zu of \"chat_template\" lacks a name or a template", i);
        bool is_for_tools = strcmp(name, "tool_use") == 0;
        if (!is_for_tools && strcmp(name, "default") != 0) continue;
        TRY(add_template(t, json_string_value(text), json_string_length(text), is_for_tools, err));
    }
    return UM_OK;
}

static um_status parse_config(const char *text, json_t **config, um_error *err) {
    TRY(json_field_parse(text, strlen(text), "tokenizer_config.json", true, config, err));
    if (json_is_object(*config)) return UM_OK;
    json_decref(*config);
    *config = NULL;
    FAIL(UM_FORMAT, err, "tokenizer_config.json is not a JSON object");
}

static um_status create(chat_template **out, um_error *err) {
    *out = memory_calloc(1, sizeof **out);
    if (!*out) FAIL(UM_NO_MEMORY, err, "no memory for a chat template");
    jinja_pool_init(&(*out)->pool, TREE_MAX_BYTES);
    return UM_OK;
}

/* Reads directory/name if it exists; *text stays NULL where it does not. */
static um_status read_file(const char *directory, const char *name, char **text, size_t *n_bytes,
                           um_error *err) {
    char *path = file_path_join(directory, name);
    if (!path) FAIL(UM_NO_MEMORY, err, "no memory for a path");
    um_status status = UM_OK;
    if (file_exists(path)) status = file_read(path, FILE_MAX_BYTES, text, n_bytes, err);
    memory_free(path);
    return status;
}

static um_status add_file(chat_template *t, const char *directory, const char *name,
                          bool is_for_tools, um_error *err) {
    char *text = NULL;
    size_t n_bytes = 0;
    TRY(read_file(directory, name, &text, &n_bytes, err));
    um_status status = UM_OK;
    if (text) status = add_template(t, text, n_bytes, is_for_tools, err);
    if (status != UM_OK) um_error_at(err, name, -1);
    memory_free(text);
    return status;
}

um_status chat_template_open(const char *directory, chat_template **out, um_error *err) {
    chat_template *t = NULL;
    json_t *config = NULL;
    char *text = NULL;
    size_t n_bytes = 0;
    um_status status;
    *out = NULL;
    TRY_GOTO(create(&t, err), cleanup);
    TRY_GOTO(read_file(directory, "tokenizer_config.json", &text, &n_bytes, err), cleanup);
    if (text) {
        status = parse_config(text, &config, err);
        if (status == UM_OK) status = read_tokens(t, config, err);
        if (status != UM_OK) um_error_at(err, "tokenizer_config.json", -1);
        if (status != UM_OK) goto cleanup;
    }
    TRY_GOTO(add_file(t, directory, "chat_template.jinja", false, err), cleanup);
    if (t->has_body) {
        TRY_GOTO(add_file(t, directory, "additional_chat_templates/tool_use.jinja", true, err),
                 cleanup);
    } else if (config) {
        status = add_from_config(t, config, err);
        if (status != UM_OK) um_error_at(err, "tokenizer_config.json", -1);
        if (status != UM_OK) goto cleanup;
    }
    if (!t->has_body && !t->has_tool_body) {
        status = um_error_set(err, UM_NOT_FOUND, "there is no chat template");
        um_error_at(err, directory, -1);
        goto cleanup;
    }
    *out = t;
    t = NULL;
cleanup:
    json_decref(config);
    memory_free(text);
    chat_template_close(t);
    return status;
}

um_status chat_template_parse(const char *template_text, size_t n_bytes,
                              const char *tokenizer_config_json, chat_template **out,
                              um_error *err) {
    chat_template *t = NULL;
    json_t *config = NULL;
    um_status status;
    *out = NULL;
    TRY_GOTO(create(&t, err), cleanup);
    if (tokenizer_config_json) {
        TRY_GOTO(parse_config(tokenizer_config_json, &config, err), cleanup);
        TRY_GOTO(read_tokens(t, config, err), cleanup);
    }
    TRY_GOTO(add_template(t, template_text, n_bytes, false, err), cleanup);
    *out = t;
    t = NULL;
cleanup:
    json_decref(config);
    chat_template_close(t);
    return status;
}

void chat_template_close(chat_template *t) {
    if (!t) return;
    jinja_pool_deinit(&t->pool);
    memory_free(t);
}

/* ---- Rendering ------------------------------------------------------------------------------- */

/* A message's reasoning goes by three names; transformers fills the first and, in front of all
 * keys, the second: {"thinking": r, **message, "reasoning_content": r}. */
static um_status alias_reasoning(jinja_run *run, jinja_value *message) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const jinja_dict *old = message->as.dict;
    const jinja_value *found = NULL;
    for (int i = 0; i < 3 && !found; i++) {
        found = jinja_value_dict_find(old, names[i], strlen(names[i]));
        if (found && found->kind == JINJA_NONE) found = NULL;
    }
    if (!found) return UM_OK;
    jinja_value fresh, reasoning = *found;
    TRY(jinja_value_dict(run, JINJA_DICT, &fresh));
    TRY(jinja_value_dict_add(run, fresh.as.dict, jinja_value_string(names[1]), reasoning));
    for (size_t i = 0; i < old->n_pairs; i++)
        TRY(jinja_value_dict_set(run, fresh.as.dict, old->pairs[i].key, old->pairs[i].value));
    TRY(jinja_value_dict_set(run, fresh.as.dict, jinja_value_string(names[0]), reasoning));
    *message = fresh;
    return UM_OK;
}

static um_status set_variable(jinja_run *run, jinja_dict *variables, const char *name,
                              jinja_value value) {
    return jinja_value_dict_set(run, variables, jinja_value_string(name), value);
}

/* Everything the template can see, in the order in which later ones win. */
static um_status make_variables(jinja_run *run, const chat_template *t, const char *messages_json,
                                const char *tools_json, const char *variables_json,
                                bool add_generation_prompt, jinja_dict *variables) {
    jinja_value messages, tools = jinja_value_none(), more;
    TRY(read_json(run, messages_json, "messages", true, &messages));
    for (size_t i = 0; i < messages.as.list->n_items; i++)
        TRY(alias_reasoning(run, &messages.as.list->items[i]));
    if (tools_json) TRY(read_json(run, tools_json, "tools", true, &tools));
    for (size_t i = 0; i < t->tokens.n_pairs; i++)
        TRY(jinja_value_dict_set(run, variables, t->tokens.pairs[i].key, t->tokens.pairs[i].value));
    TRY(set_variable(run, variables, "documents", jinja_value_none()));
    if (variables_json) {
        TRY(read_json(run, variables_json, "variables", false, &more));
        for (size_t i = 0; i < more.as.dict->n_pairs; i++)
            TRY(jinja_value_dict_set(run, variables, more.as.dict->pairs[i].key,
                                     more.as.dict->pairs[i].value));
    }
    TRY(set_variable(run, variables, "messages", messages));
    TRY(set_variable(run, variables, "tools", tools));
    return set_variable(run, variables, "add_generation_prompt",
                        jinja_value_bool(add_generation_prompt));
}

um_status chat_template_render(const chat_template *t, const char *messages_json,
                               const char *tools_json, const char *variables_json,
                               bool add_generation_prompt, char **text, um_error *err) {
    jinja_run run = {.line = 1, .err = err};
    jinja_dict variables = {.n_pairs = 0};
    strbuf out;
    um_status status;
    *text = NULL;
    bool uses_tools = t->has_tool_body && tools_json;
    if (!uses_tools && !t->has_body)
        FAIL(UM_INVALID, err, "the model has a chat template for tools only, and none are given");
    jinja_pool_init(&run.pool, JINJA_VALUES_MAX_BYTES);
    strbuf_init(&out);
    out.limit = JINJA_TEXT_MAX_BYTES;
    run.out = &out;
    run.variables = &variables;
    TRY_GOTO(make_variables(&run, t, messages_json, tools_json, variables_json,
                            add_generation_prompt, &variables),
             cleanup);
    run.n_steps = 0;
    TRY_GOTO(jinja_exec_template(&run, uses_tools ? &t->tool_body : &t->body), cleanup);
    *text = strbuf_take(&out, NULL);
    if (!*text) status = um_error_set(err, UM_NO_MEMORY, "no memory for the rendered text");
cleanup:
    strbuf_deinit(&out);
    jinja_pool_deinit(&run.pool);
    return status;
}

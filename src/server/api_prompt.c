/* SPDX-License-Identifier: Apache-2.0
 *
 * Prompts as ids: text or ids for completions; messages and tools, through the model's template,
 * for chats. A template that does not read what a request gives would ignore it without a word, so
 * tools are rendered twice, with and without, and refused where nothing differs.
 */
#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "server/api_request.h"
#include "server/json_value.h"
#include "server/tool_force.h"

um_status api_prompt_encode(const api_model *model, const char *field, const char *text,
                            size_t n_bytes, api_prompt *prompt, um_error *err) {
    if (!model->tokenizer)
        return api_refuse(err, field, "%s: the model has no tokenizer; give ids", field);
    TRY(um_tokenizer_encode(model->tokenizer, text, n_bytes, &prompt->ids, &prompt->n_ids, err));
    if (prompt->n_ids > 0) return UM_OK;
    return api_refuse(err, field, "%s: expected at least one token, found none", field);
}

um_status api_prompt_ids(const api_model *model, const char *field, const json_t *array,
                         api_prompt *prompt, um_error *err) {
    size_t n = json_array_size(array);
    if (n == 0) return api_refuse(err, field, "%s: expected at least one token, found none", field);
    prompt->ids = memory_alloc_array(n, sizeof *prompt->ids);
    if (!prompt->ids) FAIL(UM_NO_MEMORY, err, "no memory for a prompt of %zu tokens", n);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(array, i);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value >= model->info->vocab)
            return api_refuse(err, field, "%s: item %zu: expected an id of 0 to %d", field, i,
                              model->info->vocab - 1);
        prompt->ids[i] = (int32_t)value;
    }
    prompt->n_ids = n;
    return UM_OK;
}

static um_status hold_prompts(api_request *r, size_t n, um_error *err) {
    r->prompts = memory_calloc(n, sizeof *r->prompts);
    if (!r->prompts) FAIL(UM_NO_MEMORY, err, "no memory for %zu prompts", n);
    r->n_prompts = n;
    return UM_OK;
}

static um_status read_one(const api_model *model, const char *field, const json_t *value,
                          api_prompt *prompt, um_error *err) {
    if (json_is_string(value))
        return api_prompt_encode(model, field, json_string_value(value), json_string_length(value),
                                 prompt, err);
    if (json_is_array(value)) return api_prompt_ids(model, field, value, prompt, err);
    return api_refuse(err, field, "%s: expected text or ids%s, found %s", field,
                      strcmp(field, "prompt") == 0 ? ", or an array of either" : "",
                      json_value_kind(value));
}

/* What stands behind the answer; an empty text is none. */
static um_status read_suffix(api_request *r, const api_model *model, um_error *err) {
    const json_t *value = json_object_get(r->root, "suffix");
    if (!value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0))
        return UM_OK;
    TRY(read_one(model, "suffix", value, &r->suffix, err));
    r->options.suffix = r->suffix.ids;
    r->options.n_suffix = r->suffix.n_ids;
    return UM_OK;
}

/* Text, ids, an array of texts, or an array of arrays of ids. */
static um_status read_completion(api_request *r, const api_model *model, um_error *err) {
    const json_t *value = json_object_get(r->root, "prompt");
    bool is_list = json_is_array(value) && !json_is_integer(json_array_get(value, 0));
    size_t n = is_list ? json_array_size(value) : 1;
    if (n == 0 || n > API_PROMPTS_MAX)
        return api_refuse(err, "prompt", "prompt: expected 1 to %d prompts, found %zu",
                          API_PROMPTS_MAX, n);
    TRY(hold_prompts(r, n, err));
    for (size_t i = 0; i < n; i++)
        TRY(read_one(model, "prompt", is_list ? json_array_get(value, i) : value, &r->prompts[i],
                     err));
    return read_suffix(r, model, err);
}

/* The beginning of the call that the answer must be, and a schema for the rest. */
static um_status force_call(api_request *r, const json_t *tools, const tool_choice *choice,
                            strbuf *prompt, um_error *err) {
    if (tools && !strstr(prompt->data, tool_call_open))
        return api_refuse(err, "tool_choice",
                          "tool_choice: the model's chat template says nothing of %s, in which a "
                          "call would be written",
                          tool_call_open);
    if (r->constraint_field)
        return api_refuse(err, "response_format",
                          "response_format: does not go with a tool_choice that forces a call");
    if (r->n_stops)
        return api_refuse(err, "stop", "stop: would cut the call that tool_choice forces");
    const char *name = NULL;
    TRY(tool_force(tools, choice, prompt, &name, &r->schema, &r->n_schema, err));
    if (name) r->forced_name = memory_copy_string(name, strlen(name));
    if (name && !r->forced_name) FAIL(UM_NO_MEMORY, err, "no memory for the name of a tool");
    r->constraint_field = "tools";
    r->is_forced = true;
    return UM_OK;
}

static um_status encode_chat(api_request *r, const api_model *model, json_t *messages,
                             json_t *tools, const tool_choice *choice, json_t *variables,
                             um_error *err) {
    strbuf prompt;
    strbuf_init(&prompt);
    um_status status = UM_NO_MEMORY;
    char *with = NULL, *without = NULL;
    char *messages_text = json_value_write(json_incref(messages), NULL);
    char *tools_text = tools ? json_value_write(json_incref(tools), NULL) : NULL;
    char *variables_text = variables ? json_value_write(json_incref(variables), NULL) : NULL;
    um_error_set(err, UM_NO_MEMORY, "no memory for the conversation");
    if (!messages_text || (tools && !tools_text) || (variables && !variables_text)) goto cleanup;
    status = um_tokenizer_render_chat(model->tokenizer, messages_text, tools_text, variables_text,
                                      true, &with, err);
    if (status == UM_OK && tools) {
        status = um_tokenizer_render_chat(model->tokenizer, messages_text, NULL, variables_text,
                                          true, &without, err);
        if (status == UM_OK && strcmp(with, without) == 0)
            status =
                api_refuse(err, "tools", "tools: the model's chat template does not read them");
    }
    if (status == UM_OK) {
        strbuf_append_string(&prompt, with);
        if (prompt.has_failed) status = um_error_set(err, UM_NO_MEMORY, "no memory for a prompt");
    }
    if (status == UM_OK && choice->is_forced) status = force_call(r, tools, choice, &prompt, err);
    if (status == UM_OK) status = hold_prompts(r, 1, err);
    if (status == UM_OK)
        status =
            api_prompt_encode(model, "messages", prompt.data, prompt.n_bytes, &r->prompts[0], err);
    if (status == UM_FORMAT) /* a template that raises an exception speaks of the messages */
        err->status = status = UM_INVALID;
    if (status == UM_INVALID) um_error_at(err, "messages", -1);
cleanup:
    strbuf_deinit(&prompt);
    memory_free(messages_text);
    memory_free(tools_text);
    memory_free(variables_text);
    um_free(with);
    um_free(without);
    return status;
}

static um_status read_chat(api_request *r, const api_model *model, um_error *err) {
    json_t *messages = NULL, *tools = NULL;
    tool_choice choice;
    json_t *variables = json_object_get(r->root, "chat_template_kwargs");
    if (json_is_null(variables)) variables = NULL;
    if (variables && !json_is_object(variables))
        return api_refuse(err, "chat_template_kwargs",
                          "chat_template_kwargs: expected an object, found %s",
                          json_value_kind(variables));
    if (!model->tokenizer || !um_tokenizer_has_chat_template(model->tokenizer))
        return api_refuse(err, "messages",
                          "messages: the model has no chat template; use /v1/completions");
    bool is_anthropic = r->kind == API_KIND_MESSAGES;
    um_status status = tool_shapes_messages(r->root, is_anthropic, &messages, err);
    if (status == UM_OK) status = tool_shapes_choice(r->root, is_anthropic, &choice, err);
    if (status == UM_OK)
        status = tool_shapes_tools(r->root, is_anthropic, choice.is_shown, &tools, err);
    r->has_tools = tools != NULL;
    r->is_single_call = r->has_tools && choice.is_single;
    if (status == UM_OK) status = encode_chat(r, model, messages, tools, &choice, variables, err);
    json_decref(messages);
    json_decref(tools);
    return status;
}

um_status api_prompt_read(api_request *r, const api_model *model, um_error *err) {
    return r->kind == API_KIND_COMPLETION ? read_completion(r, model, err)
                                          : read_chat(r, model, err);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Parameters first: they are cheap, and a wrong one saves the work on the prompt.
 */
#include "server/api_request.h"

#include <string.h>

#include "base/memory.h"
#include "server/json_value.h"

um_status api_request_parse(api_kind kind, const char *body, size_t n_bytes, const api_model *model,
                            api_request *request, um_error *err) {
    memset(request, 0, sizeof *request);
    request->kind = kind;
    request->n = 1;
    um_request_options_init(&request->options);
    um_status status = json_value_read_object(body, n_bytes, &request->root, err);
    if (status == UM_OK) status = api_parameters_read(request, model, err);
    if (status == UM_OK) status = api_format_read(request, model, err);
    if (status == UM_OK) status = api_prompt_read(request, model, err);
    if (status != UM_OK) api_request_deinit(request);
    return status;
}

void api_request_deinit(api_request *request) {
    for (size_t i = 0; i < request->n_prompts; i++) um_free(request->prompts[i].ids);
    memory_free(request->prompts);
    um_free(request->suffix.ids);
    memory_free(request->bias);
    memory_free(request->stop_ids);
    memory_free(request->schema);
    memory_free(request->forced_name);
    json_decref(request->root);
    memset(request, 0, sizeof *request);
}

const char *api_parameter_name(const char *field) {
    if (strcmp(field, "block_len") == 0) return "block";
    if (strcmp(field, "cfg_scale") == 0) return "cfg";
    if (strcmp(field, "stop_tokens") == 0) return "stop_token_ids";
    return field;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * One table from the library's status codes to those of HTTP and to the words of the two APIs.
 */
#include "server/api_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/json_value.h"

um_status api_refuse(um_error *err, const char *parameter, const char *format, ...) {
    char text[sizeof err->message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    um_error_set(err, UM_INVALID, "%s", text);
    um_error_at(err, parameter, -1);
    return UM_INVALID;
}

int api_error_http(const um_error *err) {
    switch (err->status) {
        case UM_INVALID:
        case UM_FORMAT:
        case UM_LIMIT:
        case UM_UNSUPPORTED:
            return 400;
        case UM_NOT_FOUND:
            return 404;
        case UM_AGAIN:
            return 429;
        case UM_NO_MEMORY:
        case UM_CANCELLED:
            return 503;
        default:
            return 500;
    }
}

static const char *openai_type(int http) {
    if (http == 401) return "authentication_error";
    if (http == 429) return "rate_limit_error";
    return http < 500 ? "invalid_request_error" : "server_error";
}

static const char *anthropic_type(int http) {
    switch (http) {
        case 401:
            return "authentication_error";
        case 404:
            return "not_found_error";
        case 413:
            return "request_too_large";
        case 429:
            return "rate_limit_error";
        case 503:
            return "overloaded_error";
        default:
            return http < 500 ? "invalid_request_error" : "api_error";
    }
}

static const char *openai_code(const um_error *err, int http) {
    if (http == 401) return "invalid_api_key";
    if (err->status == UM_LIMIT) return "context_length_exceeded";
    if (err->status == UM_NOT_FOUND && strcmp(err->where, "model") == 0) return "model_not_found";
    return NULL;
}

char *api_error_body(const um_error *err, int http, api_style style) {
    const char *message = err->message[0] ? err->message : um_status_sentence(err->status);
    json_t *text = json_value_text(message, strlen(message)), *root;
    if (style == API_STYLE_ANTHROPIC)
        root = json_pack("{s:s, s:{s:s, s:o}}", "type", "error", "error", "type",
                         anthropic_type(http), "message", text);
    else
        root = json_pack("{s:{s:o, s:s, s:s?, s:s?}}", "error", "message", text, "type",
                         openai_type(http), "param", err->where[0] ? err->where : NULL, "code",
                         openai_code(err, http));
    return json_value_write(root, NULL);
}

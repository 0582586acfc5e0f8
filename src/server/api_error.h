/* SPDX-License-Identifier: Apache-2.0
 *
 * Errors as clients expect them: a status of HTTP and a body in the shape of OpenAI or Anthropic.
 * um_error.where carries the name of the parameter at fault.
 */
#ifndef SERVER_API_ERROR_H
#define SERVER_API_ERROR_H

#include "base/status.h"

typedef enum api_style { API_STYLE_OPENAI = 0, API_STYLE_ANTHROPIC = 1 } api_style;

/* Sets UM_INVALID (or another status) with a parameter's name and a sentence; returns it. */
um_status api_refuse(um_error *err, const char *parameter, const char *format, ...)
    BASE_PRINTF(3, 4);

/* The status of HTTP for an error: what is the request's fault is in the four hundreds. */
int api_error_http(const um_error *err);
/* The body, for memory_free; NULL when memory runs out. http: as it is sent. */
char *api_error_body(const um_error *err, int http, api_style style);

#endif

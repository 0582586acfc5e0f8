/* SPDX-License-Identifier: Apache-2.0
 *
 * Conversations and tools in the one shape that chat templates read, from OpenAI's and Anthropic's;
 * and calls of tools found in what a model wrote.
 */
#ifndef SERVER_TOOL_SHAPES_H
#define SERVER_TOOL_SHAPES_H

#include <jansson.h>
#include <stdbool.h>

#include "base/status.h"

/* How a call begins in what a model writes (Qwen, LLaDA2, SDAR and their kin). */
extern const char tool_call_open[];

typedef struct tool_choice {
    bool is_shown;    /* the template sees the tools */
    bool is_forced;   /* the answer is a call */
    const char *name; /* ... of this function; NULL: of any. Borrowed from the body */
    bool is_single;   /* at most one call */
} tool_choice;

/* tool_choice, and whether calls may stand beside each other. */
um_status tool_shapes_choice(const json_t *root, bool is_anthropic, tool_choice *choice,
                             um_error *err);

/* Messages for the template: content as one string. The caller's, for json_decref. */
um_status tool_shapes_messages(const json_t *root, bool is_anthropic, json_t **messages,
                               um_error *err);
/* Tools for the template, or NULL where there are none or they are not shown. */
um_status tool_shapes_tools(const json_t *root, bool is_anthropic, bool is_shown, json_t **tools,
                            um_error *err);

/* Calls that a model wrote as <tool_call>{"name": ..., "arguments": {...}}</tool_call>. *calls is
 * an array of {"name", "arguments"}, empty where there is none or where one is no JSON: then the
 * text stays as it is. *n_text is the length of the text before the first call. UM_NO_MEMORY. */
um_status tool_shapes_find_calls(const char *text, size_t n_bytes, json_t **calls, size_t *n_text,
                                 um_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * A call that the answer must be (tool_choice): its beginning goes into the prompt, in the syntax
 * that tool_shapes_find_calls reads, and the rest is put under a schema.
 */
#ifndef SERVER_TOOL_FORCE_H
#define SERVER_TOOL_FORCE_H

#include "base/strbuf.h"
#include "server/tool_shapes.h"

/* tools: for the template, as tool_shapes_tools gives them. Appends to `opening` what the prompt
 * goes on with. *schema (for memory_free) is what comes after it: the arguments of the one function
 * that it can be, whose name is then borrowed in *name, or with NULL there an object of name and
 * arguments. UM_INVALID names the parameter. */
um_status tool_force(const json_t *tools, const tool_choice *choice, strbuf *opening,
                     const char **name, char **schema, size_t *n_schema, um_error *err);

/* What was written under that schema, as tool_shapes_find_calls gives calls. UM_NO_MEMORY. */
um_status tool_force_calls(const char *name, const char *text, size_t n_bytes, json_t **calls,
                           um_error *err);

#endif

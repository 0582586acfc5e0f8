/* SPDX-License-Identifier: Apache-2.0
 *
 * The chat template of a model: turns a conversation in JSON into the text that the model was
 * trained on. Finds the template where transformers finds it and gives it the same variables;
 * the language itself is in jinja_*.c. Knows no vocabulary.
 */
#ifndef TEXT_CHAT_TEMPLATE_H
#define TEXT_CHAT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/* Immutable after open; any number of threads may render with it at once. */
typedef struct chat_template chat_template;

/* Reads a model directory: chat_template.jinja (with additional_chat_templates/tool_use.jinja
 * beside it), else the "chat_template" of tokenizer_config.json, which is a text or a list of
 * {"name", "template"}. The special tokens come from tokenizer_config.json in either case.
 * UM_NOT_FOUND where the directory has no template, UM_FORMAT where it is damaged, with the line;
 * UM_UNSUPPORTED for parts of Jinja2 that chat templates do not use. On success *out is the
 * caller's, to be closed. */
um_status chat_template_open(const char *directory, chat_template **out, um_error *err);
/* The same from memory: template_text [n_bytes] of UTF-8, and the text of tokenizer_config.json for
 * the special tokens, or NULL. Keeps neither pointer. */
um_status chat_template_parse(const char *template_text, size_t n_bytes,
                              const char *tokenizer_config_json, chat_template **out,
                              um_error *err);
void chat_template_close(chat_template *template_); /* accepts NULL */

/* Renders a conversation. messages_json: an array of objects. tools_json: an array of objects, or
 * NULL. variables_json: an object of further variables, which replace special tokens of the same
 * name, or NULL. *text is the caller's, freed with memory_free.
 * UM_INVALID for JSON of another shape, for what the template itself refuses (raise_exception: its
 * message is the error), for any error of the template's run, and where the template exceeds the
 * limits: 10 million steps, 64 MiB of output, 256 MiB of values, 200 nested macro calls. */
um_status chat_template_render(const chat_template *template_, const char *messages_json,
                               const char *tools_json, const char *variables_json,
                               bool add_generation_prompt, char **text, um_error *err);

#endif

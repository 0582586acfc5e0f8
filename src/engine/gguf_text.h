/* SPDX-License-Identifier: Apache-2.0
 *
 * The text side of a GGUF file: its keys "tokenizer.*" as a tokenizer and a chat template.
 */
#ifndef ENGINE_GGUF_TEXT_H
#define ENGINE_GGUF_TEXT_H

#include "text/chat_template.h"
#include "text/tokenizer.h"

/* Opens the file at path, the first part of a split model. *vocabulary and *chat are the caller's,
 * or NULL where vocabulary_error and chat_error say why: UM_NOT_FOUND where the file has none.
 * Fails only where the file itself cannot be read, or for want of memory. */
um_status gguf_text_open(const char *path, tokenizer **vocabulary, um_error *vocabulary_error,
                         chat_template **chat, um_error *chat_error, um_error *err);

#endif

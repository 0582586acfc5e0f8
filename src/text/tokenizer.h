/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokenizer of a model directory: tokenizer.json as Hugging Face's `tokenizers` reads it, for
 * byte-level BPE. Gives the same ids and the same text as that library; what it does not implement
 * it refuses by name when the file is opened.
 */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/strbuf.h"

/* Immutable once open; any thread. */
typedef struct tokenizer tokenizer;

/* Parses the text of a tokenizer.json. *out is the caller's (tokenizer_close). UM_FORMAT for a
 * damaged file, UM_UNSUPPORTED for parts that are not implemented. */
um_status tokenizer_parse(const char *json, size_t n_bytes, tokenizer **out, um_error *err);

/* The same from the object that such a text parses to; borrowed for the call. */
um_status tokenizer_from_json(const json_t *root, tokenizer **out, um_error *err);

/* Opens directory/tokenizer.json, and adds the tokens and special flags that only
 * tokenizer_config.json has (added_tokens_decoder). UM_NOT_FOUND where there is no tokenizer.json.
 */
um_status tokenizer_open(const char *directory, tokenizer **out, um_error *err);
void tokenizer_close(tokenizer *t); /* accepts NULL */

/* See um_tokenizer_encode and um_tokenizer_decode. The results are freed with memory_free. */
um_status tokenizer_encode(const tokenizer *t, const char *text, size_t n_bytes, int32_t **ids,
                           size_t *n_ids, um_error *err);
um_status tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special,
                           char **text, size_t *n_bytes, um_error *err);

/* Appends the bytes of one token, which need not be whole characters; nothing for a special token
 * under skip_special. UM_INVALID for an id that is no token's. A failure of memory stays in *out.
 */
um_status tokenizer_append_bytes(const tokenizer *t, int32_t id, bool skip_special, strbuf *out,
                                 um_error *err);

/* The id of a token by its text ("<|mask|>"), or -1. */
int32_t tokenizer_token_id(const tokenizer *t, const char *text);
/* The highest id + 1; there may be holes below. */
int32_t tokenizer_size(const tokenizer *t);
/* False also for ids that are no token's. */
bool tokenizer_is_special(const tokenizer *t, int32_t id);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The text side of a model directory as GGUF files carry it: the opposite of listed_tokenizer.h.
 * Reads files, knows no key of GGUF.
 */
#ifndef TEXT_TOKENIZER_EXPORT_H
#define TEXT_TOKENIZER_EXPORT_H

#include <jansson.h>

#include "text/listed_tokenizer.h"

/* Tokens that have a name in tokenizer_config.json. */
typedef enum named_token {
    NAMED_TOKEN_BOS,
    NAMED_TOKEN_EOS,
    NAMED_TOKEN_UNK,
    NAMED_TOKEN_SEP,
    NAMED_TOKEN_PAD,
    NAMED_TOKEN_CLS,
    NAMED_TOKEN_MASK,
    NAMED_TOKENS
} named_token;

/* Freed with tokenizer_export_deinit; all strings are its own. */
typedef struct tokenizer_export {
    bool has_tokenizer; /* false: there is no tokenizer.json, and nothing but a template is set */
    char *json; /* tokenizer.json with what only tokenizer_config.json knew added, compact */
    listed_text *tokens; /* [n_tokens] */
    int32_t *kinds;      /* [n_tokens] token_kind */
    size_t n_tokens;
    listed_text *merges; /* [n_merges] two tokens with a space between */
    size_t n_merges;
    const char *pre; /* llama.cpp's name of the pre-tokenizer, or NULL where none is known */
    int32_t named[NAMED_TOKENS]; /* ids, or -1 */
    int32_t adds_bos;            /* 0 or 1 as tokenizer_config.json says, or -1 */
    char *chat_template;         /* or NULL; of several the one named "default" */
    json_t *root;                /* what tokens and merges point into */
    char *pool;
} tokenizer_export;

/* Reads directory's tokenizer.json, tokenizer_config.json and chat_template.jinja, each where it is
 * there. n_tokens: rows of the embedding; ids that no token has are "[PAD7]" of kind UNUSED, and
 * tokens beyond are left out of the list, since the model has no row for them. The tokenizer must
 * be one that tokenizer_open accepts; what that refuses is refused here with its error. */
um_status tokenizer_export_read(const char *directory, size_t n_tokens, tokenizer_export *out,
                                um_error *err);
void tokenizer_export_deinit(tokenizer_export *e); /* accepts an all-zero struct */

#endif

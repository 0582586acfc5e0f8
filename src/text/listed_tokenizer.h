/* SPDX-License-Identifier: Apache-2.0
 *
 * A tokenizer out of lists, as GGUF files carry it: token texts in the order of their ids, kinds,
 * merges, and the name of a pre-tokenizer. Knows the names that llama.cpp gives to pre-tokenizers;
 * which keys hold the lists is not known here.
 */
#ifndef TEXT_LISTED_TOKENIZER_H
#define TEXT_LISTED_TOKENIZER_H

#include "text/tokenizer.h"

/* The numbers are llama.cpp's (llama_token_type). */
typedef enum token_kind {
    TOKEN_KIND_NORMAL = 1,
    TOKEN_KIND_UNKNOWN = 2,
    TOKEN_KIND_CONTROL = 3,      /* found in text as a whole, and special */
    TOKEN_KIND_USER_DEFINED = 4, /* found in text as a whole */
    TOKEN_KIND_UNUSED = 5,       /* fills a hole between ids: no token */
    TOKEN_KIND_BYTE = 6
} token_kind;

/* Borrowed bytes, not zero-terminated. */
typedef struct listed_text {
    const char *text;
    size_t n_bytes;
} listed_text;

/* Everything is borrowed for the call. */
typedef struct listed_tokenizer {
    const listed_text *tokens; /* [n_tokens] */
    const int32_t *kinds;      /* [n_tokens], or NULL: all normal */
    size_t n_tokens;
    const listed_text *merges; /* [n_merges] two tokens with a space between */
    size_t n_merges;
    const char *pre; /* "qwen2" */
} listed_tokenizer;

/* Builds the tokenizer; *out is the caller's (tokenizer_close). UM_UNSUPPORTED names a
 * pre-tokenizer that is not known, UM_FORMAT says what is wrong with the lists. */
um_status listed_tokenizer_open(const listed_tokenizer *lists, tokenizer **out, um_error *err);

/* The name of the pre-tokenizer that cuts by these patterns, in this order, or NULL where none that
 * is known does; without patterns ByteLevel's own. Constant. */
const char *listed_tokenizer_pre_name(const char *const *patterns, size_t n_patterns);

#endif

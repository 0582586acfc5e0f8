/* SPDX-License-Identifier: Apache-2.0
 *
 * Splits a template into tokens as Jinja2 does with trim_blocks and lstrip_blocks on: text outside
 * of tags, and the pieces inside. All whitespace control happens here; the parser sees only the
 * text that is left.
 */
#ifndef TEXT_JINJA_LEXER_H
#define TEXT_JINJA_LEXER_H

#include "base/status.h"
#include "text/jinja_pool.h"
#include "text/jinja_value.h"

typedef enum jinja_token_kind {
    JINJA_TOKEN_END, /* of the template */
    JINJA_TOKEN_DATA,
    JINJA_TOKEN_BLOCK_BEGIN,
    JINJA_TOKEN_BLOCK_END,
    JINJA_TOKEN_VARIABLE_BEGIN,
    JINJA_TOKEN_VARIABLE_END,
    JINJA_TOKEN_NAME,
    JINJA_TOKEN_STRING,
    JINJA_TOKEN_INTEGER,
    JINJA_TOKEN_FLOAT,
    JINJA_TOKEN_ADD,
    JINJA_TOKEN_SUB,
    JINJA_TOKEN_MUL,
    JINJA_TOKEN_DIV,
    JINJA_TOKEN_FLOORDIV,
    JINJA_TOKEN_MOD,
    JINJA_TOKEN_POW,
    JINJA_TOKEN_TILDE,
    JINJA_TOKEN_LBRACKET,
    JINJA_TOKEN_RBRACKET,
    JINJA_TOKEN_LPAREN,
    JINJA_TOKEN_RPAREN,
    JINJA_TOKEN_LBRACE,
    JINJA_TOKEN_RBRACE,
    JINJA_TOKEN_EQ,
    JINJA_TOKEN_NE,
    JINJA_TOKEN_GT,
    JINJA_TOKEN_GE,
    JINJA_TOKEN_LT,
    JINJA_TOKEN_LE,
    JINJA_TOKEN_ASSIGN,
    JINJA_TOKEN_DOT,
    JINJA_TOKEN_COLON,
    JINJA_TOKEN_PIPE,
    JINJA_TOKEN_COMMA,
    JINJA_TOKEN_SEMICOLON
} jinja_token_kind;

typedef struct jinja_token {
    jinja_token_kind kind;
    int line;          /* from 1 */
    jinja_value value; /* data, name and string: text; numbers: the number */
} jinja_token;

typedef struct jinja_tokens {
    jinja_token *items; /* the last one is JINJA_TOKEN_END */
    size_t n_items;
} jinja_tokens;

/* source [n_bytes] need not outlive the call: text is copied into the pool. UM_FORMAT names the
 * line of the first mistake; text that is not UTF-8 or holds a zero byte is one. */
um_status jinja_lexer_run(jinja_pool *pool, const char *source, size_t n_bytes,
                          jinja_tokens *tokens, um_error *err);
/* A short description for error messages, such as "end of statement block". */
const char *jinja_lexer_describe(jinja_token_kind kind);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The syntax tree of a template and the parser that builds it. The tree lives in a pool and never
 * changes, so any number of threads may run it. Follows jinja2/parser.py rule by rule, including
 * where it is lenient.
 */
#ifndef TEXT_JINJA_PARSER_H
#define TEXT_JINJA_PARSER_H

#include "text/jinja_lexer.h"

/* What each kind uses: a, b, c (nodes), items, more (lists of nodes), value. */
typedef enum jinja_node_kind {
    /* Expressions. */
    JINJA_NODE_CONST,   /* value */
    JINJA_NODE_NAME,    /* value: the name */
    JINJA_NODE_TUPLE,   /* items */
    JINJA_NODE_LIST,    /* items */
    JINJA_NODE_DICT,    /* items: key, value, key, value */
    JINJA_NODE_BINARY,  /* op: a token kind; a, b */
    JINJA_NODE_CONCAT,  /* items */
    JINJA_NODE_AND,     /* a, b */
    JINJA_NODE_OR,      /* a, b */
    JINJA_NODE_NOT,     /* a */
    JINJA_NODE_NEGATE,  /* a */
    JINJA_NODE_PLUS,    /* a */
    JINJA_NODE_COMPARE, /* a; items: operands */
    JINJA_NODE_OPERAND, /* op: a token kind, or a jinja_operand; a */
    JINJA_NODE_COND,    /* a if b else c; c may be NULL */
    JINJA_NODE_ATTR,    /* a . value */
    JINJA_NODE_ITEM,    /* a [b] */
    JINJA_NODE_SLICE,   /* a [items]: start, stop, step, each may be NULL */
    JINJA_NODE_CALL,    /* a (items, more: keywords, *b, **c) */
    JINJA_NODE_FILTER,  /* a | value (as CALL); a is NULL in a filter block; builtin */
    JINJA_NODE_TEST,    /* a is value (as CALL); builtin */
    JINJA_NODE_KEYWORD, /* value = a */
    JINJA_NODE_NSREF,   /* a (a name) . value, to be assigned */
    /* Statements. */
    JINJA_NODE_DATA,         /* value */
    JINJA_NODE_OUTPUT,       /* a */
    JINJA_NODE_IF,           /* items: branches */
    JINJA_NODE_BRANCH,       /* a: condition or NULL for else; items: body */
    JINJA_NODE_FOR,          /* for a in b if c; items: body, more: else */
    JINJA_NODE_SET,          /* a = b */
    JINJA_NODE_SET_BLOCK,    /* a = items | b; b may be NULL */
    JINJA_NODE_MACRO,        /* value: name; items: parameters, more: body; op: jinja_macro_flags */
    JINJA_NODE_PARAM,        /* value: name; a: default or NULL */
    JINJA_NODE_CALL_BLOCK,   /* a: the call; b: the MACRO that is its caller */
    JINJA_NODE_FILTER_BLOCK, /* items | a */
    JINJA_NODE_WITH,         /* items: SETs, more: body */
    JINJA_NODE_SCOPE,        /* items: a body with variables of its own */
    JINJA_NODE_BREAK,
    JINJA_NODE_CONTINUE
} jinja_node_kind;

/* Comparisons that are words, in `op` beside the token kinds. */
typedef enum jinja_operand { JINJA_OPERAND_IN = 100, JINJA_OPERAND_NOT_IN } jinja_operand;

/* Special names that a macro's body reads, which decides what it accepts when called. */
typedef enum jinja_macro_flags {
    JINJA_MACRO_USES_VARARGS = 1,
    JINJA_MACRO_USES_KWARGS = 2,
    JINJA_MACRO_USES_CALLER = 4
} jinja_macro_flags;

typedef struct jinja_node jinja_node;

typedef struct jinja_nodes {
    jinja_node **items;
    size_t n_items;
    size_t capacity;
} jinja_nodes;

struct jinja_node {
    jinja_node_kind kind;
    int op;
    int line;
    jinja_value value;
    jinja_node *a;
    jinja_node *b;
    jinja_node *c;
    jinja_nodes items;
    jinja_nodes more;
    const struct jinja_builtin *builtin; /* of a filter or test; NULL: unknown, fails when used */
};

/* Parses a template into *body, in the pool. UM_FORMAT with the line of a mistake, UM_UNSUPPORTED
 * for what Jinja2 has and this interpreter has not. */
um_status jinja_parser_run(jinja_pool *pool, const char *source, size_t n_bytes, jinja_nodes *body,
                           um_error *err);

/* ---- Between jinja_parser.c (statements) and jinja_expression.c (expressions) ---- */

typedef struct jinja_parser {
    jinja_pool *pool;
    const jinja_token *at;
    int depth;
    int n_loops;         /* around this place, within the same macro */
    bool is_soft;        /* directly within an if: an unknown filter fails only when it is used */
    int macro_flags;     /* special names seen since the macro's body began */
    jinja_nodes unknown; /* filters and tests that do not exist, to be reported at the end */
    um_status status;
    um_error *err;
} jinja_parser;

/* These return NULL, or false, once the parser's status is a failure. */
jinja_node *jinja_parser_node(jinja_parser *p, jinja_node_kind kind, int line);
bool jinja_parser_add(jinja_parser *p, jinja_nodes *list, jinja_node *node);
void *jinja_parser_fail(jinja_parser *p, um_status status, int line, const char *format, ...)
    BASE_PRINTF(4, 5);
bool jinja_parser_is_name(const jinja_parser *p, const char *name);
bool jinja_parser_skip(jinja_parser *p, jinja_token_kind kind);
bool jinja_parser_skip_name(jinja_parser *p, const char *name);
bool jinja_parser_expect(jinja_parser *p, jinja_token_kind kind);
/* Counts a level of nesting; false past the limit. Each true is paired with --p->depth. */
bool jinja_parser_enter(jinja_parser *p);

jinja_node *jinja_expression_parse(jinja_parser *p, bool with_cond);
/* A tuple without brackets, or a single expression. end_name ("in", "recursive") may be NULL. */
jinja_node *jinja_expression_parse_tuple(jinja_parser *p, bool with_cond, const char *end_name,
                                         bool has_parens);
/* The left side of an assignment. */
jinja_node *jinja_expression_parse_target(jinja_parser *p, const char *end_name,
                                          bool with_namespace);
/* "| name(args) | ...", applied to node. With is_inline the first bar is left out. */
jinja_node *jinja_expression_parse_filter(jinja_parser *p, jinja_node *node, bool is_inline);

#endif

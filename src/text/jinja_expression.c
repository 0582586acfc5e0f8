/* SPDX-License-Identifier: Apache-2.0
 *
 * The expressions of jinja2/parser.py, one function a rule. Note two habits of Jinja2 that are
 * kept: a minus binds looser than a call but tighter than a filter, and "is" takes a following name
 * or literal as its argument without brackets.
 */
#include <string.h>

#include "text/jinja_builtins.h"
#include "text/jinja_parser.h"

static jinja_node *parse_or(jinja_parser *p);
static jinja_node *parse_unary(jinja_parser *p, bool with_filter);
static jinja_node *parse_primary(jinja_parser *p, bool with_namespace);
static jinja_node *parse_postfix(jinja_parser *p, jinja_node *node);

static bool text_is(jinja_value v, const char *text) {
    return jinja_value_equals_text(v, text);
}

static const char *describe(const jinja_parser *p) {
    return jinja_lexer_describe(p->at->kind);
}

static jinja_node *node_of(jinja_parser *p, jinja_node_kind kind, int line, jinja_node *a,
                           jinja_node *b) {
    jinja_node *node = jinja_parser_node(p, kind, line);
    if (!node) return NULL;
    node->a = a;
    node->b = b;
    return node;
}

/* Marks the special names that the body of the macro around reads. */
static void note_name(jinja_parser *p, jinja_value name) {
    if (text_is(name, "varargs")) p->macro_flags |= JINJA_MACRO_USES_VARARGS;
    if (text_is(name, "kwargs")) p->macro_flags |= JINJA_MACRO_USES_KWARGS;
    if (text_is(name, "caller")) p->macro_flags |= JINJA_MACRO_USES_CALLER;
}

static jinja_node *parse_list(jinja_parser *p, jinja_token_kind close) {
    bool is_dict = close == JINJA_TOKEN_RBRACE;
    jinja_node *node =
        jinja_parser_node(p, is_dict ? JINJA_NODE_DICT : JINJA_NODE_LIST, p->at->line);
    if (!node) return NULL;
    p->at++;
    while (p->at->kind != close) {
        if (node->items.n_items && !jinja_parser_expect(p, JINJA_TOKEN_COMMA)) return NULL;
        if (p->at->kind == close) break;
        if (!jinja_parser_add(p, &node->items, jinja_expression_parse(p, true))) return NULL;
        if (!is_dict) continue;
        if (!jinja_parser_expect(p, JINJA_TOKEN_COLON)) return NULL;
        if (!jinja_parser_add(p, &node->items, jinja_expression_parse(p, true))) return NULL;
    }
    return jinja_parser_expect(p, close) ? node : NULL;
}

/* Adjacent strings are one, as in Python. */
static jinja_node *parse_string(jinja_parser *p) {
    jinja_node *node = jinja_parser_node(p, JINJA_NODE_CONST, p->at->line);
    if (!node) return NULL;
    size_t n = 0;
    const jinja_token *token = p->at;
    for (; token->kind == JINJA_TOKEN_STRING; token++) n += token->value.n_bytes;
    char *text = jinja_pool_alloc(p->pool, n + 1, 1);
    if (!text) return jinja_parser_fail(p, UM_NO_MEMORY, 0, "no memory for a chat template");
    n = 0;
    for (; p->at->kind == JINJA_TOKEN_STRING; p->at++) {
        memcpy(text + n, p->at->value.as.text, p->at->value.n_bytes);
        n += p->at->value.n_bytes;
    }
    node->value = jinja_value_text(text, n);
    return node;
}

static jinja_node *parse_name(jinja_parser *p, bool with_namespace) {
    static const struct {
        const char *name;
        jinja_kind kind;
        bool boolean;
    } constants[] = {{"true", JINJA_BOOL, true},   {"True", JINJA_BOOL, true},
                     {"false", JINJA_BOOL, false}, {"False", JINJA_BOOL, false},
                     {"none", JINJA_NONE, false},  {"None", JINJA_NONE, false}};
    const jinja_token *token = p->at++;
    jinja_node *node = jinja_parser_node(p, JINJA_NODE_NAME, token->line);
    if (!node) return NULL;
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        if (!text_is(token->value, constants[i].name)) continue;
        node->kind = JINJA_NODE_CONST;
        node->value = constants[i].kind == JINJA_NONE ? jinja_value_none()
                                                      : jinja_value_bool(constants[i].boolean);
        return node;
    }
    node->value = token->value;
    if (with_namespace && jinja_parser_skip(p, JINJA_TOKEN_DOT)) {
        jinja_node *ref = node_of(p, JINJA_NODE_NSREF, token->line, node, NULL);
        if (!ref) return NULL;
        ref->value = p->at->value;
        return jinja_parser_expect(p, JINJA_TOKEN_NAME) ? ref : NULL;
    }
    note_name(p, node->value);
    return node;
}

static jinja_node *parse_primary(jinja_parser *p, bool with_namespace) {
    jinja_node *node;
    switch (p->at->kind) {
        case JINJA_TOKEN_NAME:
            return parse_name(p, with_namespace);
        case JINJA_TOKEN_STRING:
            return parse_string(p);
        case JINJA_TOKEN_INTEGER:
        case JINJA_TOKEN_FLOAT:
            node = jinja_parser_node(p, JINJA_NODE_CONST, p->at->line);
            if (node) node->value = p->at++->value;
            return node;
        case JINJA_TOKEN_LPAREN:
            p->at++;
            node = jinja_expression_parse_tuple(p, true, NULL, true);
            return node && jinja_parser_expect(p, JINJA_TOKEN_RPAREN) ? node : NULL;
        case JINJA_TOKEN_LBRACKET:
            return parse_list(p, JINJA_TOKEN_RBRACKET);
        case JINJA_TOKEN_LBRACE:
            return parse_list(p, JINJA_TOKEN_RBRACE);
        default:
            return jinja_parser_fail(p, UM_FORMAT, p->at->line, "unexpected '%s'", describe(p));
    }
}

static bool ends_tuple(const jinja_parser *p, const char *end_name) {
    return p->at->kind == JINJA_TOKEN_VARIABLE_END || p->at->kind == JINJA_TOKEN_BLOCK_END ||
           p->at->kind == JINJA_TOKEN_RPAREN || (end_name && jinja_parser_is_name(p, end_name));
}

static jinja_node *parse_tuple(jinja_parser *p, bool is_target, bool with_namespace, bool with_cond,
                               const char *end_name, bool has_parens) {
    int line = p->at->line;
    jinja_nodes items = {0};
    bool is_tuple = false;
    for (;;) {
        if (items.n_items && !jinja_parser_expect(p, JINJA_TOKEN_COMMA)) return NULL;
        if (ends_tuple(p, end_name)) break;
        jinja_node *item =
            is_target ? parse_primary(p, with_namespace) : jinja_expression_parse(p, with_cond);
        if (!jinja_parser_add(p, &items, item)) return NULL;
        if (p->at->kind != JINJA_TOKEN_COMMA) break;
        is_tuple = true;
    }
    if (!is_tuple && items.n_items) return items.items[0];
    if (!is_tuple && !has_parens)
        return jinja_parser_fail(p, UM_FORMAT, p->at->line, "expected an expression, got '%s'",
                                 describe(p));
    jinja_node *node = jinja_parser_node(p, JINJA_NODE_TUPLE, line);
    if (node) node->items = items;
    return node;
}

jinja_node *jinja_expression_parse_tuple(jinja_parser *p, bool with_cond, const char *end_name,
                                         bool has_parens) {
    if (!jinja_parser_enter(p)) return NULL;
    jinja_node *node = parse_tuple(p, false, false, with_cond, end_name, has_parens);
    p->depth--;
    return node;
}

static bool can_assign(jinja_parser *p, const jinja_node *target) {
    if (target->kind == JINJA_NODE_TUPLE) {
        if (!jinja_parser_enter(p)) return false;
        bool is_good = true;
        for (size_t i = 0; i < target->items.n_items && is_good; i++)
            is_good = can_assign(p, target->items.items[i]);
        p->depth--;
        return is_good;
    }
    return target->kind == JINJA_NODE_NAME || target->kind == JINJA_NODE_NSREF;
}

jinja_node *jinja_expression_parse_target(jinja_parser *p, const char *end_name,
                                          bool with_namespace) {
    int flags = p->macro_flags;
    jinja_node *target = parse_tuple(p, true, with_namespace, true, end_name, false);
    p->macro_flags = flags;
    if (!target) return NULL;
    if (!can_assign(p, target))
        return jinja_parser_fail(p, UM_FORMAT, target->line, "cannot assign to this expression");
    return target;
}

static jinja_node *parse_slice(jinja_parser *p, jinja_node *object, jinja_node *start, int line) {
    jinja_node *node = node_of(p, JINJA_NODE_SLICE, line, object, NULL);
    if (!node) return NULL;
    jinja_node **parts = jinja_pool_alloc(p->pool, 3, sizeof *parts);
    if (!parts) return jinja_parser_fail(p, UM_NO_MEMORY, 0, "no memory for a chat template");
    parts[0] = start;
    parts[1] = parts[2] = NULL;
    node->items = (jinja_nodes){parts, 3, 3};
    for (int i = 1; i < 3 && jinja_parser_skip(p, JINJA_TOKEN_COLON); i++) {
        jinja_token_kind kind = p->at->kind;
        if (kind == JINJA_TOKEN_COLON || kind == JINJA_TOKEN_RBRACKET || kind == JINJA_TOKEN_COMMA)
            continue;
        parts[i] = jinja_expression_parse(p, true);
        if (!parts[i]) return NULL;
    }
    return node;
}

static jinja_node *parse_subscript(jinja_parser *p, jinja_node *object) {
    int line = p->at->line;
    if (p->at++->kind == JINJA_TOKEN_DOT) {
        jinja_token_kind kind = p->at->kind;
        if (kind != JINJA_TOKEN_NAME && kind != JINJA_TOKEN_INTEGER)
            return jinja_parser_fail(p, UM_FORMAT, line, "expected name or number after '.'");
        jinja_node *node = node_of(p, JINJA_NODE_ATTR, line, object, NULL);
        if (!node) return NULL;
        if (kind == JINJA_TOKEN_NAME) {
            node->value = p->at++->value;
            return node;
        }
        node->kind = JINJA_NODE_ITEM;
        node->b = jinja_parser_node(p, JINJA_NODE_CONST, line);
        if (!node->b) return NULL;
        node->b->value = p->at++->value;
        return node;
    }
    jinja_node *node, *index = NULL;
    if (p->at->kind != JINJA_TOKEN_COLON) {
        /* Jinja2 takes nothing for the empty tuple, which is no key of anything. */
        index = p->at->kind == JINJA_TOKEN_RBRACKET ? jinja_parser_node(p, JINJA_NODE_TUPLE, line)
                                                    : jinja_expression_parse(p, true);
        if (!index) return NULL;
    }
    if (p->at->kind == JINJA_TOKEN_COLON)
        node = parse_slice(p, object, index, line);
    else if (p->at->kind == JINJA_TOKEN_COMMA)
        return jinja_parser_fail(p, UM_UNSUPPORTED, line, "a subscript of several parts");
    else
        node = node_of(p, JINJA_NODE_ITEM, line, object, index);
    if (!node || !jinja_parser_expect(p, JINJA_TOKEN_RBRACKET)) return NULL;
    return node;
}

/* Fills the arguments of a call, filter or test; p->at is the opening bracket. */
static bool parse_arguments(jinja_parser *p, jinja_node *node) {
    int line = p->at++->line;
    bool is_first = true;
    while (p->at->kind != JINJA_TOKEN_RPAREN) {
        if (!is_first && !jinja_parser_expect(p, JINJA_TOKEN_COMMA)) return false;
        if (!is_first && p->at->kind == JINJA_TOKEN_RPAREN) break;
        is_first = false;
        bool is_good = true;
        if (jinja_parser_skip(p, JINJA_TOKEN_MUL)) {
            is_good = !node->b && !node->c;
            node->b = jinja_expression_parse(p, true);
            if (!node->b) return false;
        } else if (jinja_parser_skip(p, JINJA_TOKEN_POW)) {
            is_good = !node->c;
            node->c = jinja_expression_parse(p, true);
            if (!node->c) return false;
        } else if (p->at->kind == JINJA_TOKEN_NAME && p->at[1].kind == JINJA_TOKEN_ASSIGN) {
            is_good = !node->c;
            jinja_node *keyword = jinja_parser_node(p, JINJA_NODE_KEYWORD, p->at->line);
            if (!jinja_parser_add(p, &node->more, keyword)) return false;
            keyword->value = p->at->value;
            for (size_t i = 0; i + 1 < node->more.n_items; i++)
                if (node->more.items[i]->value.n_bytes == keyword->value.n_bytes &&
                    !memcmp(node->more.items[i]->value.as.text, keyword->value.as.text,
                            keyword->value.n_bytes))
                    is_good = false;
            p->at += 2;
            keyword->a = jinja_expression_parse(p, true);
            if (!keyword->a) return false;
        } else {
            is_good = !node->b && !node->c && !node->more.n_items;
            if (!jinja_parser_add(p, &node->items, jinja_expression_parse(p, true))) return false;
        }
        if (!is_good) {
            jinja_parser_fail(p, UM_FORMAT, line, "the arguments of a call are in a wrong order");
            return false;
        }
    }
    return jinja_parser_expect(p, JINJA_TOKEN_RPAREN);
}

static jinja_node *parse_call(jinja_parser *p, jinja_node *callee) {
    jinja_node *node = node_of(p, JINJA_NODE_CALL, p->at->line, callee, NULL);
    return node && parse_arguments(p, node) ? node : NULL;
}

/* The name of a filter or test, which may have dots. */
static bool parse_builtin_name(jinja_parser *p, jinja_node *node) {
    const jinja_token *token = p->at;
    if (!jinja_parser_expect(p, JINJA_TOKEN_NAME)) return false;
    node->value = token->value;
    node->line = token->line;
    if (p->at->kind == JINJA_TOKEN_DOT) {
        jinja_parser_fail(p, UM_UNSUPPORTED, token->line, "a filter's name with a dot");
        return false;
    }
    bool is_filter = node->kind == JINJA_NODE_FILTER;
    node->builtin =
        is_filter ? jinja_builtins_find_filter(node->value) : jinja_builtins_find_test(node->value);
    if (!node->builtin && !p->is_soft) return jinja_parser_add(p, &p->unknown, node);
    return true;
}

jinja_node *jinja_expression_parse_filter(jinja_parser *p, jinja_node *node, bool is_inline) {
    while (is_inline || p->at->kind == JINJA_TOKEN_PIPE) {
        if (!is_inline) p->at++;
        is_inline = false;
        node = node_of(p, JINJA_NODE_FILTER, p->at->line, node, NULL);
        if (!node || !parse_builtin_name(p, node)) return NULL;
        if (p->at->kind == JINJA_TOKEN_LPAREN && !parse_arguments(p, node)) return NULL;
    }
    return node;
}

static bool starts_test_argument(const jinja_parser *p) {
    switch (p->at->kind) {
        case JINJA_TOKEN_NAME:
            return !jinja_parser_is_name(p, "else") && !jinja_parser_is_name(p, "or") &&
                   !jinja_parser_is_name(p, "and");
        case JINJA_TOKEN_STRING:
        case JINJA_TOKEN_INTEGER:
        case JINJA_TOKEN_FLOAT:
        case JINJA_TOKEN_LBRACKET:
        case JINJA_TOKEN_LBRACE:
            return true;
        default:
            return false;
    }
}

static jinja_node *parse_test(jinja_parser *p, jinja_node *subject) {
    jinja_node *node = node_of(p, JINJA_NODE_TEST, p->at->line, subject, NULL);
    if (!node) return NULL;
    p->at++;
    int line = node->line;
    bool is_negated = jinja_parser_skip_name(p, "not");
    if (!parse_builtin_name(p, node)) return NULL;
    if (p->at->kind == JINJA_TOKEN_LPAREN) {
        if (!parse_arguments(p, node)) return NULL;
    } else if (starts_test_argument(p)) {
        if (jinja_parser_is_name(p, "is"))
            return jinja_parser_fail(p, UM_FORMAT, p->at->line,
                                     "cannot chain multiple tests with is");
        if (!jinja_parser_enter(p)) return NULL;
        jinja_node *argument = parse_primary(p, false);
        if (argument) argument = parse_postfix(p, argument);
        p->depth--;
        if (!jinja_parser_add(p, &node->items, argument)) return NULL;
    }
    return is_negated ? node_of(p, JINJA_NODE_NOT, line, node, NULL) : node;
}

static jinja_node *parse_postfix(jinja_parser *p, jinja_node *node) {
    while (node) {
        if (p->at->kind == JINJA_TOKEN_DOT || p->at->kind == JINJA_TOKEN_LBRACKET)
            node = parse_subscript(p, node);
        else if (p->at->kind == JINJA_TOKEN_LPAREN)
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

static jinja_node *parse_filter_expr(jinja_parser *p, jinja_node *node) {
    while (node) {
        if (p->at->kind == JINJA_TOKEN_PIPE)
            node = jinja_expression_parse_filter(p, node, false);
        else if (jinja_parser_is_name(p, "is"))
            node = parse_test(p, node);
        else if (p->at->kind == JINJA_TOKEN_LPAREN)
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

static jinja_node *parse_unary(jinja_parser *p, bool with_filter) {
    if (!jinja_parser_enter(p)) return NULL;
    jinja_token_kind kind = p->at->kind;
    int line = p->at->line;
    jinja_node *node;
    if (kind == JINJA_TOKEN_SUB || kind == JINJA_TOKEN_ADD) {
        p->at++;
        node = parse_unary(p, false);
        if (node)
            node = node_of(p, kind == JINJA_TOKEN_SUB ? JINJA_NODE_NEGATE : JINJA_NODE_PLUS, line,
                           node, NULL);
    } else {
        node = parse_primary(p, false);
    }
    node = parse_postfix(p, node);
    if (with_filter) node = parse_filter_expr(p, node);
    p->depth--;
    return node;
}

/* Left-associative binary operators of one level; `next` reads an operand. */
static jinja_node *parse_pow(jinja_parser *p) {
    jinja_node *left = parse_unary(p, true);
    while (left && p->at->kind == JINJA_TOKEN_POW) {
        int line = p->at++->line;
        jinja_node *right = parse_unary(p, true);
        left = right ? node_of(p, JINJA_NODE_BINARY, line, left, right) : NULL;
        if (left) left->op = JINJA_TOKEN_POW;
    }
    return left;
}

static jinja_node *parse_product(jinja_parser *p) {
    jinja_node *left = parse_pow(p);
    while (left && (p->at->kind == JINJA_TOKEN_MUL || p->at->kind == JINJA_TOKEN_DIV ||
                    p->at->kind == JINJA_TOKEN_FLOORDIV || p->at->kind == JINJA_TOKEN_MOD)) {
        const jinja_token *token = p->at++;
        jinja_node *right = parse_pow(p);
        left = right ? node_of(p, JINJA_NODE_BINARY, token->line, left, right) : NULL;
        if (left) left->op = (int)token->kind;
    }
    return left;
}

static jinja_node *parse_concat(jinja_parser *p) {
    jinja_node *first = parse_product(p);
    if (!first || p->at->kind != JINJA_TOKEN_TILDE) return first;
    jinja_node *node = jinja_parser_node(p, JINJA_NODE_CONCAT, p->at->line);
    if (!node || !jinja_parser_add(p, &node->items, first)) return NULL;
    while (jinja_parser_skip(p, JINJA_TOKEN_TILDE))
        if (!jinja_parser_add(p, &node->items, parse_product(p))) return NULL;
    return node;
}

static jinja_node *parse_sum(jinja_parser *p) {
    jinja_node *left = parse_concat(p);
    while (left && (p->at->kind == JINJA_TOKEN_ADD || p->at->kind == JINJA_TOKEN_SUB)) {
        const jinja_token *token = p->at++;
        jinja_node *right = parse_concat(p);
        left = right ? node_of(p, JINJA_NODE_BINARY, token->line, left, right) : NULL;
        if (left) left->op = (int)token->kind;
    }
    return left;
}

/* The comparison at p->at, which it steps over; -1 if there is none. */
static int comparison(jinja_parser *p) {
    if (p->at->kind >= JINJA_TOKEN_EQ && p->at->kind <= JINJA_TOKEN_LE) return (int)p->at++->kind;
    if (jinja_parser_skip_name(p, "in")) return JINJA_OPERAND_IN;
    if (jinja_parser_is_name(p, "not") && p->at[1].kind == JINJA_TOKEN_NAME &&
        text_is(p->at[1].value, "in")) {
        p->at += 2;
        return JINJA_OPERAND_NOT_IN;
    }
    return -1;
}

static jinja_node *parse_compare(jinja_parser *p) {
    int line = p->at->line;
    jinja_node *first = parse_sum(p);
    if (!first) return NULL;
    jinja_node *node = NULL;
    for (int op; (op = comparison(p)) >= 0;) {
        if (!node) node = node_of(p, JINJA_NODE_COMPARE, line, first, NULL);
        jinja_node *right = node ? parse_sum(p) : NULL;
        if (!right) return NULL;
        jinja_node *operand = node_of(p, JINJA_NODE_OPERAND, right->line, right, NULL);
        if (!jinja_parser_add(p, &node->items, operand)) return NULL;
        operand->op = op;
    }
    return node ? node : first;
}

static jinja_node *parse_not(jinja_parser *p) {
    if (!jinja_parser_is_name(p, "not")) return parse_compare(p);
    if (!jinja_parser_enter(p)) return NULL;
    int line = p->at++->line;
    jinja_node *node = parse_not(p);
    p->depth--;
    return node ? node_of(p, JINJA_NODE_NOT, line, node, NULL) : NULL;
}

static jinja_node *parse_and(jinja_parser *p) {
    jinja_node *left = parse_not(p);
    while (left && jinja_parser_is_name(p, "and")) {
        int line = p->at++->line;
        jinja_node *right = parse_not(p);
        left = right ? node_of(p, JINJA_NODE_AND, line, left, right) : NULL;
    }
    return left;
}

static jinja_node *parse_or(jinja_parser *p) {
    jinja_node *left = parse_and(p);
    while (left && jinja_parser_is_name(p, "or")) {
        int line = p->at++->line;
        jinja_node *right = parse_and(p);
        left = right ? node_of(p, JINJA_NODE_OR, line, left, right) : NULL;
    }
    return left;
}

jinja_node *jinja_expression_parse(jinja_parser *p, bool with_cond) {
    if (!jinja_parser_enter(p)) return NULL;
    size_t n_unknown = p->unknown.n_items;
    jinja_node *node = parse_or(p);
    while (node && with_cond && jinja_parser_is_name(p, "if")) {
        int line = p->at++->line;
        jinja_node *test = parse_or(p);
        jinja_node *cond = test ? node_of(p, JINJA_NODE_COND, line, node, test) : NULL;
        if (cond && jinja_parser_skip_name(p, "else")) {
            cond->c = jinja_expression_parse(p, true);
            if (!cond->c) cond = NULL;
        }
        /* Jinja2 lets a filter that does not exist pass in here until it is used. */
        p->unknown.n_items = n_unknown;
        node = cond;
    }
    p->depth--;
    return node;
}

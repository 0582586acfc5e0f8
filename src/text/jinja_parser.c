/* SPDX-License-Identifier: Apache-2.0
 *
 * The statements of jinja2/parser.py with the loop controls and the "generation" block that
 * transformers adds. Statements that load other templates do not exist for chat templates and are
 * refused by name.
 */
#include "text/jinja_parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_builtins.h"

void *jinja_parser_fail(jinja_parser *p, um_status status, int line, const char *format, ...) {
    if (p->status != UM_OK) return NULL; /* the first mistake counts */
    char message[400];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    p->status = line ? um_error_set(p->err, status, "line %d: %s", line, message)
                     : um_error_set(p->err, status, "%s", message);
    return NULL;
}

static void *fail_memory(jinja_parser *p) {
    if (p->pool->is_over_limit)
        return jinja_parser_fail(p, UM_UNSUPPORTED, 0, "the template is too large");
    return jinja_parser_fail(p, UM_NO_MEMORY, 0, "no memory for a chat template");
}

jinja_node *jinja_parser_node(jinja_parser *p, jinja_node_kind kind, int line) {
    jinja_node *node = jinja_pool_alloc(p->pool, 1, sizeof *node);
    if (!node) return fail_memory(p);
    memset(node, 0, sizeof *node);
    node->kind = kind;
    node->line = line;
    return node;
}

bool jinja_parser_add(jinja_parser *p, jinja_nodes *list, jinja_node *node) {
    if (!node) return false;
    if (list->n_items == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 4;
        jinja_node **grown = jinja_pool_alloc(p->pool, capacity, sizeof *grown);
        if (!grown) return fail_memory(p);
        if (list->n_items) memcpy(grown, list->items, list->n_items * sizeof *grown);
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->n_items++] = node;
    return true;
}

bool jinja_parser_enter(jinja_parser *p) {
    if (p->status != UM_OK) return false;
    if (p->depth >= JINJA_DEPTH_MAX * 2) {
        jinja_parser_fail(p, UM_UNSUPPORTED, p->at->line, "expressions or blocks nest too deep");
        return false;
    }
    p->depth++;
    return true;
}

bool jinja_parser_is_name(const jinja_parser *p, const char *name) {
    return p->at->kind == JINJA_TOKEN_NAME && jinja_value_equals_text(p->at->value, name);
}

bool jinja_parser_skip(jinja_parser *p, jinja_token_kind kind) {
    if (p->at->kind != kind) return false;
    p->at++;
    return true;
}

bool jinja_parser_skip_name(jinja_parser *p, const char *name) {
    if (!jinja_parser_is_name(p, name)) return false;
    p->at++;
    return true;
}

bool jinja_parser_expect(jinja_parser *p, jinja_token_kind kind) {
    if (p->status != UM_OK) return false;
    if (p->at->kind == kind) {
        if (kind != JINJA_TOKEN_END) p->at++;
        return true;
    }
    if (p->at->kind == JINJA_TOKEN_NAME)
        jinja_parser_fail(p, UM_FORMAT, p->at->line, "expected '%s', got '%.*s'",
                          jinja_lexer_describe(kind), (int)(p->at->value.n_bytes & 0xFF),
                          p->at->value.as.text);
    else
        jinja_parser_fail(p, UM_FORMAT, p->at->line, "expected '%s', got '%s'",
                          jinja_lexer_describe(kind), jinja_lexer_describe(p->at->kind));
    return false;
}

static bool expect_name(jinja_parser *p, const char *name) {
    if (jinja_parser_skip_name(p, name)) return true;
    jinja_parser_fail(p, UM_FORMAT, p->at->line, "expected '%s'", name);
    return false;
}

/* ---- Bodies -------------------------------------------------------------------------------- */

static jinja_node *parse_statement(jinja_parser *p);

/* True if p->at is one of the words, separated by spaces. */
static bool is_one_of(const jinja_parser *p, const char *words) {
    if (p->at->kind != JINJA_TOKEN_NAME) return false;
    size_t n = p->at->value.n_bytes;
    for (const char *w = words; *w;) {
        size_t length = strcspn(w, " ");
        if (length == n && !memcmp(w, p->at->value.as.text, n)) return true;
        w += length;
        w += strspn(w, " ");
    }
    return false;
}

/* Reads text and statements up to a tag that begins with one of the words (NULL: the end); p->at is
 * then that word. */
static bool parse_nodes(jinja_parser *p, const char *end_words, jinja_nodes *body) {
    for (;;) {
        const jinja_token *token = p->at;
        jinja_node *node;
        switch (token->kind) {
            case JINJA_TOKEN_END:
                if (!end_words) return true;
                jinja_parser_fail(p, UM_FORMAT, token->line,
                                  "unexpected end of template, looking for '%s'", end_words);
                return false;
            case JINJA_TOKEN_DATA:
                node = jinja_parser_node(p, JINJA_NODE_DATA, token->line);
                if (!jinja_parser_add(p, body, node)) return false;
                node->value = p->at++->value;
                break;
            case JINJA_TOKEN_VARIABLE_BEGIN:
                p->at++;
                node = jinja_parser_node(p, JINJA_NODE_OUTPUT, token->line);
                if (!jinja_parser_add(p, body, node)) return false;
                node->a = jinja_expression_parse_tuple(p, true, NULL, false);
                if (!node->a || !jinja_parser_expect(p, JINJA_TOKEN_VARIABLE_END)) return false;
                break;
            case JINJA_TOKEN_BLOCK_BEGIN:
                p->at++;
                if (end_words && is_one_of(p, end_words)) return true;
                node = parse_statement(p);
                if (!jinja_parser_add(p, body, node)) return false;
                if (!jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END)) return false;
                break;
            default:
                jinja_parser_fail(p, UM_FORMAT, token->line, "unexpected '%s'",
                                  jinja_lexer_describe(token->kind));
                return false;
        }
    }
}

/* The body after a tag's expression, up to one of the words. */
static bool parse_body(jinja_parser *p, const char *end_words, jinja_nodes *body) {
    jinja_parser_skip(p, JINJA_TOKEN_COLON);
    if (!jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END)) return false;
    if (!jinja_parser_enter(p)) return false;
    bool is_good = parse_nodes(p, end_words, body);
    p->depth--;
    return is_good;
}

/* A body up to one word, which it steps over; with a scope of its own, so not soft. */
static bool parse_scope(jinja_parser *p, const char *end_word, jinja_nodes *body) {
    bool is_soft = p->is_soft;
    p->is_soft = false;
    bool is_good = parse_body(p, end_word, body);
    p->is_soft = is_soft;
    if (is_good) p->at++;
    return is_good;
}

/* ---- Statements: p->at is past the statement's own word ------------------------------------- */

static bool parse_if(jinja_parser *p, jinja_node *node) {
    bool is_soft = p->is_soft;
    p->is_soft = true;
    bool is_good = false, has_condition = true;
    for (;;) {
        jinja_node *branch = jinja_parser_node(p, JINJA_NODE_BRANCH, p->at->line);
        if (!jinja_parser_add(p, &node->items, branch)) break;
        if (has_condition) {
            branch->a = jinja_expression_parse_tuple(p, false, NULL, false);
            if (!branch->a) break;
        }
        if (!parse_body(p, has_condition ? "elif else endif" : "endif", &branch->items)) break;
        if (jinja_parser_skip_name(p, "elif")) continue;
        if (jinja_parser_skip_name(p, "else")) {
            has_condition = false;
            continue;
        }
        p->at++;
        is_good = true;
        break;
    }
    p->is_soft = is_soft;
    return is_good;
}

static bool parse_for(jinja_parser *p, jinja_node *node) {
    node->a = jinja_expression_parse_target(p, "in", false);
    if (!node->a || !expect_name(p, "in")) return false;
    if (node->a->kind == JINJA_NODE_NAME && jinja_value_equals_text(node->a->value, "loop")) {
        jinja_parser_fail(p, UM_FORMAT, node->line, "cannot assign to the loop variable");
        return false;
    }
    node->b = jinja_expression_parse_tuple(p, false, "recursive", false);
    if (!node->b) return false;
    bool is_soft = p->is_soft;
    p->is_soft = false;
    bool is_good = false;
    if (jinja_parser_skip_name(p, "if")) {
        node->c = jinja_expression_parse(p, true);
        if (!node->c) goto done;
    }
    if (jinja_parser_is_name(p, "recursive")) {
        jinja_parser_fail(p, UM_UNSUPPORTED, p->at->line, "recursive loops are not supported");
        goto done;
    }
    p->n_loops++;
    is_good = parse_body(p, "endfor else", &node->items);
    p->n_loops--;
    if (is_good && jinja_parser_skip_name(p, "else"))
        is_good = parse_body(p, "endfor", &node->more);
    if (is_good) p->at++;
done:
    p->is_soft = is_soft;
    return is_good;
}

static bool parse_set(jinja_parser *p, jinja_node *node) {
    node->a = jinja_expression_parse_target(p, NULL, true);
    if (!node->a) return false;
    if (jinja_parser_skip(p, JINJA_TOKEN_ASSIGN)) {
        node->b = jinja_expression_parse_tuple(p, true, NULL, false);
        return node->b != NULL;
    }
    node->kind = JINJA_NODE_SET_BLOCK;
    if (p->at->kind == JINJA_TOKEN_PIPE) {
        node->b = jinja_expression_parse_filter(p, NULL, false);
        if (!node->b) return false;
    }
    return parse_scope(p, "endset", &node->items);
}

static bool parse_parameters(jinja_parser *p, jinja_node *macro) {
    if (!jinja_parser_expect(p, JINJA_TOKEN_LPAREN)) return false;
    while (p->at->kind != JINJA_TOKEN_RPAREN) {
        if (macro->items.n_items && !jinja_parser_expect(p, JINJA_TOKEN_COMMA)) return false;
        jinja_node *param = jinja_parser_node(p, JINJA_NODE_PARAM, p->at->line);
        if (!jinja_parser_add(p, &macro->items, param)) return false;
        param->value = p->at->value;
        if (!jinja_parser_expect(p, JINJA_TOKEN_NAME)) return false;
        if (jinja_parser_skip(p, JINJA_TOKEN_ASSIGN)) {
            param->a = jinja_expression_parse(p, true);
            if (!param->a) return false;
        } else if (macro->items.n_items > 1 && macro->items.items[macro->items.n_items - 2]->a) {
            jinja_parser_fail(p, UM_FORMAT, param->line,
                              "non-default argument follows default argument");
            return false;
        }
    }
    p->at++;
    return true;
}

/* The body of a macro or call block; notes which special names it reads. */
static bool parse_macro_body(jinja_parser *p, jinja_node *macro, const char *end_word) {
    int flags = p->macro_flags, n_loops = p->n_loops;
    p->macro_flags = 0;
    p->n_loops = 0;
    bool is_good = parse_scope(p, end_word, &macro->more);
    macro->op = p->macro_flags;
    for (size_t i = 0; i < macro->items.n_items && macro->op & JINJA_MACRO_USES_CALLER; i++) {
        const jinja_node *param = macro->items.items[i];
        if (!param->a && jinja_value_equals_text(param->value, "caller"))
            jinja_parser_fail(p, UM_FORMAT, param->line, "the argument 'caller' needs a default");
    }
    p->macro_flags |= flags; /* Jinja2 counts names of inner macros as well */
    p->n_loops = n_loops;
    return is_good && p->status == UM_OK;
}

static bool parse_macro(jinja_parser *p, jinja_node *node) {
    node->value = p->at->value;
    return jinja_parser_expect(p, JINJA_TOKEN_NAME) && parse_parameters(p, node) &&
           parse_macro_body(p, node, "endmacro");
}

static bool parse_call_block(jinja_parser *p, jinja_node *node) {
    node->b = jinja_parser_node(p, JINJA_NODE_MACRO, node->line);
    if (!node->b) return false;
    node->b->value = jinja_value_string("caller");
    if (p->at->kind == JINJA_TOKEN_LPAREN && !parse_parameters(p, node->b)) return false;
    node->a = jinja_expression_parse(p, true);
    if (!node->a) return false;
    if (node->a->kind != JINJA_NODE_CALL) {
        jinja_parser_fail(p, UM_FORMAT, node->line, "expected a call");
        return false;
    }
    return parse_macro_body(p, node->b, "endcall");
}

static bool parse_filter_block(jinja_parser *p, jinja_node *node) {
    node->a = jinja_expression_parse_filter(p, NULL, true);
    return node->a && parse_scope(p, "endfilter", &node->items);
}

static bool parse_with(jinja_parser *p, jinja_node *node) {
    while (p->at->kind != JINJA_TOKEN_BLOCK_END) {
        if (node->items.n_items && !jinja_parser_expect(p, JINJA_TOKEN_COMMA)) return false;
        jinja_node *set = jinja_parser_node(p, JINJA_NODE_SET, p->at->line);
        if (!jinja_parser_add(p, &node->items, set)) return false;
        set->a = jinja_expression_parse_target(p, NULL, false);
        if (!set->a || !jinja_parser_expect(p, JINJA_TOKEN_ASSIGN)) return false;
        set->b = jinja_expression_parse(p, true);
        if (!set->b) return false;
    }
    return parse_scope(p, "endwith", &node->more);
}

static bool parse_print(jinja_parser *p, jinja_node *node) {
    node->a = jinja_expression_parse(p, true);
    if (node->a && p->at->kind == JINJA_TOKEN_COMMA)
        jinja_parser_fail(p, UM_UNSUPPORTED, node->line, "print with several values");
    return node->a && p->status == UM_OK;
}

static bool parse_generation(jinja_parser *p, jinja_node *node) {
    int n_loops = p->n_loops;
    p->n_loops = 0;
    bool is_good = parse_scope(p, "endgeneration", &node->items);
    p->n_loops = n_loops;
    return is_good;
}

static bool parse_loop_control(jinja_parser *p, jinja_node *node) {
    if (!p->n_loops)
        jinja_parser_fail(p, UM_FORMAT, node->line, "a loop control outside of a loop");
    return p->n_loops > 0;
}

static jinja_node *parse_statement(jinja_parser *p) {
    static const struct {
        const char *word;
        jinja_node_kind kind;
        bool (*parse)(jinja_parser *, jinja_node *);
    } statements[] = {
        {"if", JINJA_NODE_IF, parse_if},
        {"for", JINJA_NODE_FOR, parse_for},
        {"set", JINJA_NODE_SET, parse_set},
        {"macro", JINJA_NODE_MACRO, parse_macro},
        {"call", JINJA_NODE_CALL_BLOCK, parse_call_block},
        {"filter", JINJA_NODE_FILTER_BLOCK, parse_filter_block},
        {"with", JINJA_NODE_WITH, parse_with},
        {"print", JINJA_NODE_OUTPUT, parse_print},
        {"generation", JINJA_NODE_SCOPE, parse_generation},
        {"break", JINJA_NODE_BREAK, parse_loop_control},
        {"continue", JINJA_NODE_CONTINUE, parse_loop_control},
    };
    const jinja_token *token = p->at;
    if (token->kind != JINJA_TOKEN_NAME)
        return jinja_parser_fail(p, UM_FORMAT, token->line, "tag name expected");
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (!jinja_parser_is_name(p, statements[i].word)) continue;
        jinja_node *node = jinja_parser_node(p, statements[i].kind, token->line);
        p->at++;
        return node && statements[i].parse(p, node) ? node : NULL;
    }
    int n = token->value.n_bytes < 80 ? (int)token->value.n_bytes : 80;
    if (is_one_of(p, "extends block include import from autoescape"))
        return jinja_parser_fail(p, UM_UNSUPPORTED, token->line, "the tag '%.*s' is not supported",
                                 n, token->value.as.text);
    return jinja_parser_fail(p, UM_FORMAT, token->line, "unknown tag '%.*s'", n,
                             token->value.as.text);
}

um_status jinja_parser_run(jinja_pool *pool, const char *source, size_t n_bytes, jinja_nodes *body,
                           um_error *err) {
    jinja_tokens tokens;
    TRY(jinja_lexer_run(pool, source, n_bytes, &tokens, err));
    jinja_parser p = {.pool = pool, .at = tokens.items, .status = UM_OK, .err = err};
    memset(body, 0, sizeof *body);
    if (!parse_nodes(&p, NULL, body)) return p.status;
    if (p.unknown.n_items) {
        const jinja_node *node = p.unknown.items[0];
        int n = node->value.n_bytes < 80 ? (int)node->value.n_bytes : 80;
        FAIL(UM_FORMAT, err, "line %d: no %s named '%.*s'", node->line,
             node->kind == JINJA_NODE_FILTER ? "filter" : "test", n, node->value.as.text);
    }
    return UM_OK;
}

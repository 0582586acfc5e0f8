/* SPDX-License-Identifier: Apache-2.0
 *
 * A walk over the tree. Every node visited costs a step of the budget and a level of depth, so that
 * no template runs or nests without end. Local variables are few here, because this is what
 * recurses on the stack.
 */
#include "text/jinja_eval.h"

#include <stdio.h>
#include <string.h>

#include "text/jinja_text.h"
#include "text/jinja_utf8.h"

/* ---- Attributes and items ------------------------------------------------------------------- */

static jinja_value undefined_of(jinja_value object, jinja_value name) {
    name.kind = JINJA_UNDEFINED;
    name.origin = (uint8_t)(JINJA_UNDEFINED_OF + object.kind);
    return name;
}

/* A method as a value. Those that change a list or a dict are unsafe: Jinja2's sandbox gives an
 * undefined that says so. */
static um_status bind_method(jinja_run *run, jinja_value object, jinja_value name, jinja_value *out,
                             bool *is_found) {
    bool is_dunder = name.n_bytes > 4 && !memcmp(name.as.text, "__", 2) &&
                     !memcmp(name.as.text + name.n_bytes - 2, "__", 2);
    const jinja_builtin *builtin = jinja_builtins_find_method(object, name);
    *is_found = builtin || is_dunder;
    if (!*is_found) return UM_OK;
    bool is_mutator = builtin && !builtin->function && object.kind != JINJA_STRING;
    if (is_dunder || is_mutator) {
        char *text;
        TRY(jinja_value_alloc(run, 160, 1, &text));
        snprintf(text, 160, "access to attribute '%.*s' of '%s' object is unsafe",
                 (int)(name.n_bytes < 60 ? name.n_bytes : 60), name.as.text,
                 jinja_value_type_name(object));
        *out = jinja_value_sentence(text);
        return UM_OK;
    }
    jinja_method *method;
    TRY(jinja_value_alloc(run, 1, sizeof *method, &method));
    *method = (jinja_method){object, builtin};
    *out = (jinja_value){.kind = JINJA_METHOD, .as.method = method};
    return UM_OK;
}

um_status jinja_eval_attribute(jinja_run *run, jinja_value object, jinja_value name,
                               jinja_value *out) {
    if (object.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, object);
    bool is_found;
    if (object.kind == JINJA_LOOP) {
        TRY(jinja_exec_loop_attribute(run, object.as.loop, name, out, &is_found));
        if (is_found) return UM_OK;
    }
    TRY(bind_method(run, object, name, out, &is_found));
    if (is_found) return UM_OK;
    const jinja_value *found = NULL;
    if (object.kind == JINJA_DICT || object.kind == JINJA_NAMESPACE) {
        TRY(jinja_value_spend_search(run, object.as.dict, name));
        found = jinja_value_dict_get(object.as.dict, name);
    }
    *out = found ? *found : undefined_of(object, name);
    return UM_OK;
}

/* The i-th item of a sequence; false where it has none or i is outside. */
static bool find_item(jinja_value object, int64_t i, jinja_value *out) {
    size_t n;
    if (object.kind != JINJA_LIST && object.kind != JINJA_TUPLE && object.kind != JINJA_STRING &&
        object.kind != JINJA_RANGE)
        return false;
    jinja_value_length(object, &n);
    if (i < 0) i += (int64_t)n;
    if (i < 0 || i >= (int64_t)n) return false;
    if (object.kind == JINJA_RANGE) {
        *out = jinja_value_int(object.as.range->start + i * object.as.range->step);
    } else if (object.kind == JINJA_STRING) {
        size_t at = jinja_utf8_offset(object.as.text, object.n_bytes, (size_t)i), n_bytes;
        jinja_utf8_read(object.as.text + at, object.as.text + object.n_bytes, &n_bytes);
        *out = jinja_value_text(object.as.text + at, n_bytes);
    } else {
        *out = object.as.list->items[i];
    }
    return true;
}

um_status jinja_eval_item(jinja_run *run, jinja_value object, jinja_value key, jinja_value *out) {
    if (object.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, object);
    int64_t i;
    if (object.kind == JINJA_DICT) {
        TRY(jinja_value_spend_search(run, object.as.dict, key));
        const jinja_value *found =
            jinja_value_is_hashable(key) ? jinja_value_dict_get(object.as.dict, key) : NULL;
        if (found) {
            *out = *found;
            return UM_OK;
        }
    } else if (jinja_value_is_integer(key, &i)) {
        if (object.kind == JINJA_STRING) TRY(jinja_value_spend(run, object.n_bytes / 64));
        if (find_item(object, i, out)) return UM_OK;
    }
    if (key.kind == JINJA_STRING) {
        bool is_found = false;
        if (object.kind == JINJA_LOOP)
            TRY(jinja_exec_loop_attribute(run, object.as.loop, key, out, &is_found));
        if (!is_found) TRY(bind_method(run, object, key, out, &is_found));
        if (is_found) return UM_OK;
        if (object.kind == JINJA_NAMESPACE) {
            const jinja_value *found = jinja_value_dict_get(object.as.dict, key);
            if (found) {
                *out = *found;
                return UM_OK;
            }
        }
        *out = undefined_of(object, key);
        return UM_OK;
    }
    jinja_value name;
    TRY(jinja_text_of(run, key, &name));
    *out = undefined_of(object, name);
    return UM_OK;
}

/* ---- Calls ---------------------------------------------------------------------------------- */

/* Evaluates the arguments of a CALL, FILTER or TEST node. */
static um_status eval_arguments(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                                const jinja_value *caller, jinja_call *call) {
    jinja_value star = {.kind = JINJA_MISSING}, *args, *more = NULL;
    size_t n_args = node->items.n_items, n_more = 0, n_named = 0;
    if (node->b) {
        TRY(jinja_eval(run, node->b, frame, &star));
        TRY(jinja_value_iterate(run, star, &more, &n_more));
    }
    TRY(jinja_value_alloc(run, n_args + n_more, sizeof *args, &args));
    for (size_t i = 0; i < n_args; i++) TRY(jinja_eval(run, node->items.items[i], frame, &args[i]));
    if (n_more) memcpy(args + n_args, more, n_more * sizeof *args);
    call->args = args;
    call->n_args = n_args + n_more;
    jinja_value named;
    if (!node->more.n_items && !node->c && !caller) return UM_OK;
    TRY(jinja_value_dict(run, JINJA_DICT, &named));
    for (size_t i = 0; i < node->more.n_items; i++) {
        const jinja_node *keyword = node->more.items[i];
        TRY(jinja_eval(run, keyword->a, frame, &star));
        TRY(jinja_value_dict_add(run, named.as.dict, keyword->value, star));
    }
    if (caller)
        TRY(jinja_value_dict_add(run, named.as.dict, jinja_value_string("caller"), *caller));
    if (node->c) {
        TRY(jinja_eval(run, node->c, frame, &star));
        if (star.kind != JINJA_DICT)
            return jinja_value_fail(run, UM_INVALID, "argument after ** must be a mapping, not %s",
                                    jinja_value_type_name(star));
        for (size_t i = 0; i < star.as.dict->n_pairs; i++) {
            n_named = named.as.dict->n_pairs;
            TRY(jinja_value_dict_set(run, named.as.dict, star.as.dict->pairs[i].key,
                                     star.as.dict->pairs[i].value));
            if (star.as.dict->pairs[i].key.kind != JINJA_STRING ||
                n_named == named.as.dict->n_pairs)
                return jinja_value_fail(run, UM_INVALID, "bad keyword arguments after **");
        }
    }
    call->named = named.as.dict->pairs;
    call->n_named = named.as.dict->n_pairs;
    return UM_OK;
}

um_status jinja_eval_call(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                          const jinja_value *caller, jinja_value *out) {
    jinja_value callee;
    jinja_call call = {.n_args = 0};
    TRY(jinja_eval(run, node->a, frame, &callee));
    TRY(eval_arguments(run, node, frame, caller, &call));
    run->line = node->line;
    switch ((jinja_kind)callee.kind) {
        case JINJA_FUNCTION:
            return jinja_builtins_invoke(run, callee.as.function, &call, out);
        case JINJA_METHOD:
            call.self = callee.as.method->self;
            return jinja_builtins_invoke(run, callee.as.method->function, &call, out);
        case JINJA_MACRO:
            return jinja_exec_call_macro(run, callee.as.macro, &call, out);
        case JINJA_UNDEFINED:
            return jinja_value_fail_undefined(run, callee);
        default:
            return jinja_value_fail(run, UM_INVALID, "'%s' object is not callable",
                                    jinja_value_type_name(callee));
    }
}

/* A filter or a test. */
static um_status eval_builtin(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                              const jinja_value *input, jinja_value *out) {
    jinja_call call = {.n_args = 0};
    if (node->a && node->kind == JINJA_NODE_FILTER)
        TRY(jinja_eval_filter_chain(run, node->a, frame, input ? *input : call.self, &call.self));
    else if (node->a)
        TRY(jinja_eval(run, node->a, frame, &call.self));
    else if (input)
        call.self = *input;
    TRY(eval_arguments(run, node, frame, NULL, &call));
    run->line = node->line;
    if (!node->builtin)
        return jinja_value_fail(run, UM_INVALID, "no %s named '%.*s' found",
                                node->kind == JINJA_NODE_FILTER ? "filter" : "test",
                                (int)(node->value.n_bytes < 80 ? node->value.n_bytes : 80),
                                node->value.as.text);
    return jinja_builtins_invoke(run, node->builtin, &call, out);
}

um_status jinja_eval_filter_chain(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                                  jinja_value input, jinja_value *out) {
    if (node->kind != JINJA_NODE_FILTER) return jinja_eval(run, node, frame, out);
    if (run->depth >= JINJA_EVAL_DEPTH_MAX)
        return jinja_value_fail(run, UM_INVALID, "expressions nest too deep");
    run->depth++;
    um_status status = eval_builtin(run, node, frame, &input, out);
    run->depth--;
    return status;
}

/* ---- Operators ------------------------------------------------------------------------------ */

static um_status eval_compare(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                              jinja_value *out) {
    jinja_value left, right;
    TRY(jinja_eval(run, node->a, frame, &left));
    bool is_true = true;
    for (size_t i = 0; i < node->items.n_items && is_true; i++) {
        const jinja_node *operand = node->items.items[i];
        TRY(jinja_eval(run, operand->a, frame, &right));
        run->line = node->line;
        TRY(jinja_operators_compare(run, operand->op, left, right, &is_true));
        left = right;
    }
    *out = jinja_value_bool(is_true);
    return UM_OK;
}

static um_status eval_concat(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                             jinja_value *out) {
    jinja_value joined = jinja_value_string(""), item;
    for (size_t i = 0; i < node->items.n_items; i++) {
        TRY(jinja_eval(run, node->items.items[i], frame, &item));
        TRY(jinja_text_of(run, item, &item));
        TRY(jinja_value_concat(run, joined, item, &joined));
    }
    *out = joined;
    return UM_OK;
}

static um_status eval_list(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                           jinja_value *out) {
    jinja_value *items;
    size_t n = node->items.n_items;
    TRY(jinja_value_alloc(run, n, sizeof *items, &items));
    for (size_t i = 0; i < n; i++) TRY(jinja_eval(run, node->items.items[i], frame, &items[i]));
    return jinja_value_sequence(run, node->kind == JINJA_NODE_LIST ? JINJA_LIST : JINJA_TUPLE,
                                items, n, out);
}

static um_status eval_dict(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                           jinja_value *out) {
    jinja_value dict, key, value;
    TRY(jinja_value_dict(run, JINJA_DICT, &dict));
    for (size_t i = 0; i + 1 < node->items.n_items; i += 2) {
        TRY(jinja_eval(run, node->items.items[i], frame, &key));
        TRY(jinja_eval(run, node->items.items[i + 1], frame, &value));
        TRY(jinja_value_dict_set(run, dict.as.dict, key, value));
    }
    *out = dict;
    return UM_OK;
}

static um_status eval_slice(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                            jinja_value *out) {
    jinja_value object, parts[3];
    TRY(jinja_eval(run, node->a, frame, &object));
    for (int i = 0; i < 3; i++) {
        parts[i] = jinja_value_none();
        if (node->items.items[i]) TRY(jinja_eval(run, node->items.items[i], frame, &parts[i]));
    }
    run->line = node->line;
    return jinja_operators_slice(run, object, parts, out);
}

static um_status eval_cond(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                           jinja_value *out) {
    TRY(jinja_eval(run, node->b, frame, out));
    if (jinja_value_truth(*out)) return jinja_eval(run, node->a, frame, out);
    if (node->c) return jinja_eval(run, node->c, frame, out);
    *out = jinja_value_sentence(
        "the inline if-expression evaluated to false and no else section was defined");
    return UM_OK;
}

static um_status eval_plus(jinja_run *run, jinja_value v, jinja_value *out) {
    int64_t i;
    *out = v;
    if (jinja_value_is_integer(v, &i)) *out = jinja_value_int(i);
    if (jinja_value_is_number(v)) return UM_OK;
    if (v.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, v);
    return jinja_value_fail(run, UM_INVALID, "bad operand type for unary +: '%s'",
                            jinja_value_type_name(v));
}

static um_status eval_node(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                           jinja_value *out) {
    jinja_value a, b;
    switch (node->kind) {
        case JINJA_NODE_CONST:
            *out = node->value;
            return UM_OK;
        case JINJA_NODE_NAME:
            return jinja_exec_lookup(run, frame, node->value, out);
        case JINJA_NODE_TUPLE:
        case JINJA_NODE_LIST:
            return eval_list(run, node, frame, out);
        case JINJA_NODE_DICT:
            return eval_dict(run, node, frame, out);
        case JINJA_NODE_CONCAT:
            return eval_concat(run, node, frame, out);
        case JINJA_NODE_COMPARE:
            return eval_compare(run, node, frame, out);
        case JINJA_NODE_COND:
            return eval_cond(run, node, frame, out);
        case JINJA_NODE_SLICE:
            return eval_slice(run, node, frame, out);
        case JINJA_NODE_CALL:
            return jinja_eval_call(run, node, frame, NULL, out);
        case JINJA_NODE_FILTER:
        case JINJA_NODE_TEST:
            return eval_builtin(run, node, frame, NULL, out);
        default:
            break;
    }
    TRY(jinja_eval(run, node->a, frame, &a));
    run->line = node->line;
    switch (node->kind) {
        case JINJA_NODE_AND:
        case JINJA_NODE_OR:
            if (jinja_value_truth(a) == (node->kind == JINJA_NODE_AND))
                return jinja_eval(run, node->b, frame, out);
            *out = a;
            return UM_OK;
        case JINJA_NODE_NOT:
            *out = jinja_value_bool(!jinja_value_truth(a));
            return UM_OK;
        case JINJA_NODE_NEGATE:
            return jinja_operators_negate(run, a, out);
        case JINJA_NODE_PLUS:
            return eval_plus(run, a, out);
        case JINJA_NODE_ATTR:
            return jinja_eval_attribute(run, a, node->value, out);
        case JINJA_NODE_ITEM:
            TRY(jinja_eval(run, node->b, frame, &b));
            run->line = node->line;
            return jinja_eval_item(run, a, b, out);
        default:
            TRY(jinja_eval(run, node->b, frame, &b));
            run->line = node->line;
            return jinja_operators_binary(run, node->op, a, b, out);
    }
}

um_status jinja_eval(jinja_run *run, const jinja_node *node, jinja_frame *frame, jinja_value *out) {
    TRY(jinja_value_spend(run, 1));
    if (run->depth >= JINJA_EVAL_DEPTH_MAX)
        return jinja_value_fail(run, UM_INVALID, "expressions nest too deep");
    run->depth++;
    run->line = node->line;
    um_status status = eval_node(run, node, frame, out);
    run->depth--;
    return status;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Statements. A loop's items are an array from the start, but its filter runs only as far as the
 * loop looks ahead, because the filter may read what the body changes. Break and continue are a
 * signal in the run that every body passes on until its loop takes it.
 */
#include "text/jinja_exec.h"

#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_text.h"

typedef enum leave { LEAVE_NONE, LEAVE_BREAK, LEAVE_CONTINUE } leave;

struct jinja_loop {
    jinja_value *items;
    size_t n_items;
    size_t i_next; /* the first item not yet looked at */
    const jinja_node *node;
    jinja_frame *frame; /* around the loop: where the filter looks up names */
    bool is_filtered;   /* the items from i_next on have yet to pass the filter */
    bool has_ahead;     /* `ahead` holds the next item */
    jinja_value ahead;
    jinja_value current;
    jinja_value previous;
    int64_t index0;
    jinja_value changed; /* what loop.changed() saw last */
};

struct jinja_macro {
    const jinja_node *node;
    jinja_frame *frame; /* where it was defined */
};

static um_status exec_nodes(jinja_run *run, const jinja_nodes *body, jinja_frame *frame,
                            leave *left);

/* ---- Variables ------------------------------------------------------------------------------ */

um_status jinja_exec_lookup(jinja_run *run, const jinja_frame *frame, jinja_value name,
                            jinja_value *out) {
    size_t n_seen = 0;
    const jinja_value *found = NULL;
    for (; frame && !found; frame = frame->parent) {
        n_seen += 1 + frame->variables.n_pairs;
        found = jinja_value_dict_get(&frame->variables, name);
    }
    TRY(jinja_value_spend(run, n_seen / 16 + n_seen * name.n_bytes / 256));
    if (!found) found = jinja_value_dict_get(run->variables, name);
    if (found) {
        *out = *found;
        return UM_OK;
    }
    const jinja_builtin *builtin = jinja_builtins_find_global(name);
    if (builtin) {
        *out = (jinja_value){.kind = JINJA_FUNCTION, .as.function = builtin};
    } else {
        *out = name;
        out->kind = JINJA_UNDEFINED;
    }
    return UM_OK;
}

static um_status assign_attribute(jinja_run *run, const jinja_node *target, jinja_frame *frame,
                                  jinja_value value) {
    jinja_value object;
    TRY(jinja_exec_lookup(run, frame, target->a->value, &object));
    if (object.kind != JINJA_NAMESPACE)
        return jinja_value_fail(run, UM_INVALID, "cannot assign attribute on non-namespace object");
    if (target->value.as.text[0] == '_')
        return jinja_value_fail(run, UM_INVALID,
                                "a namespace cannot store underscore-prefixed attributes");
    return jinja_value_dict_set(run, object.as.dict, target->value, value);
}

static um_status assign(jinja_run *run, const jinja_node *target, jinja_frame *frame,
                        jinja_value value) {
    if (target->kind == JINJA_NODE_NAME)
        return jinja_value_dict_set(run, &frame->variables, target->value, value);
    if (target->kind == JINJA_NODE_NSREF) return assign_attribute(run, target, frame, value);
    jinja_value *items;
    size_t n_items;
    TRY(jinja_value_iterate(run, value, &items, &n_items));
    if (n_items != target->items.n_items)
        return jinja_value_fail(run, UM_INVALID, "cannot unpack: expected %zu values, got %zu",
                                target->items.n_items, n_items);
    for (size_t i = 0; i < n_items; i++) TRY(assign(run, target->items.items[i], frame, items[i]));
    return UM_OK;
}

/* ---- Output --------------------------------------------------------------------------------- */

static um_status write_text(jinja_run *run, jinja_value v) {
    TRY(jinja_value_spend(run, v.n_bytes / 64));
    if (run->out->n_bytes + v.n_bytes > JINJA_TEXT_MAX_BYTES)
        return jinja_value_fail(run, UM_INVALID, "the output exceeds %d MiB",
                                JINJA_TEXT_MAX_BYTES >> 20);
    strbuf_append(run->out, v.as.text, v.n_bytes);
    if (run->out->has_failed) FAIL(UM_NO_MEMORY, run->err, "no memory to render a chat template");
    return UM_OK;
}

/* Runs a body with variables of its own and gives what it writes. */
static um_status capture(jinja_run *run, const jinja_nodes *body, jinja_frame *frame,
                         jinja_value *out) {
    strbuf *outer = run->out, buf;
    jinja_text_begin(&buf);
    run->out = &buf;
    leave left = LEAVE_NONE;
    um_status status = exec_nodes(run, body, frame, &left);
    run->out = outer;
    if (status == UM_OK) return jinja_value_take(run, &buf, out);
    strbuf_deinit(&buf);
    return status;
}

/* ---- Macros --------------------------------------------------------------------------------- */

jinja_value jinja_exec_macro_name(const jinja_macro *macro) {
    return macro->node->value;
}

static um_status make_macro(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                            jinja_value *out) {
    jinja_macro *macro;
    TRY(jinja_value_alloc(run, 1, sizeof *macro, &macro));
    *macro = (jinja_macro){node, frame};
    *out = (jinja_value){.kind = JINJA_MACRO, .as.macro = macro};
    return UM_OK;
}

/* Looks a keyword argument up and marks it as used. */
static const jinja_value *take_named(const jinja_call *call, jinja_value name, bool *used) {
    for (size_t i = 0; i < call->n_named; i++) {
        jinja_value key = call->named[i].key;
        if (key.n_bytes != name.n_bytes || memcmp(key.as.text, name.as.text, key.n_bytes)) continue;
        used[i] = true;
        return &call->named[i].value;
    }
    return NULL;
}

static um_status bind_parameters(jinja_run *run, const jinja_node *node, const jinja_call *call,
                                 bool *used, jinja_frame *frame) {
    for (size_t i = 0; i < node->items.n_items; i++) {
        const jinja_node *param = node->items.items[i];
        TRY(jinja_value_spend(run, 1 + call->n_named / 16));
        const jinja_value *given =
            i < call->n_args ? &call->args[i] : take_named(call, param->value, used);
        jinja_value value;
        if (given) {
            value = *given;
        } else if (param->a) {
            TRY(jinja_eval(run, param->a, frame, &value));
        } else {
            TRY(jinja_value_concat(run, jinja_value_string("parameter not provided: "),
                                   param->value, &value));
            value.kind = JINJA_UNDEFINED;
            value.origin = JINJA_UNDEFINED_SENTENCE;
        }
        TRY(jinja_value_dict_set(run, &frame->variables, param->value, value));
    }
    return UM_OK;
}

/* Arguments beyond the parameters: allowed where the body reads varargs or kwargs. */
static um_status bind_rest(jinja_run *run, const jinja_node *node, const jinja_call *call,
                           bool *used, jinja_frame *frame) {
    jinja_value value, key = jinja_value_string("caller");
    const jinja_value *caller = take_named(call, key, used);
    if (node->op & JINJA_MACRO_USES_CALLER && !jinja_value_dict_get(&frame->variables, key)) {
        value = caller ? *caller : jinja_value_sentence("No caller defined");
        TRY(jinja_value_dict_set(run, &frame->variables, key, value));
    }
    TRY(jinja_value_dict(run, JINJA_DICT, &value));
    for (size_t i = 0; i < call->n_named; i++)
        if (!used[i])
            TRY(jinja_value_dict_add(run, value.as.dict, call->named[i].key, call->named[i].value));
    if (node->op & JINJA_MACRO_USES_KWARGS)
        TRY(jinja_value_dict_set(run, &frame->variables, jinja_value_string("kwargs"), value));
    else if (value.as.dict->n_pairs)
        return jinja_value_fail(run, UM_INVALID, "a macro takes no keyword argument '%.*s'",
                                (int)(value.as.dict->pairs[0].key.n_bytes & 0xFF),
                                value.as.dict->pairs[0].key.as.text);
    size_t n_params = node->items.n_items;
    if (node->op & JINJA_MACRO_USES_VARARGS) {
        size_t n = call->n_args > n_params ? call->n_args - n_params : 0;
        jinja_value *items;
        TRY(jinja_value_alloc(run, n, sizeof *items, &items));
        if (n) memcpy(items, call->args + n_params, n * sizeof *items);
        TRY(jinja_value_sequence(run, JINJA_TUPLE, items, n, &value));
        return jinja_value_dict_set(run, &frame->variables, jinja_value_string("varargs"), value);
    }
    if (call->n_args > n_params)
        return jinja_value_fail(run, UM_INVALID, "a macro takes not more than %zu arguments",
                                n_params);
    return UM_OK;
}

um_status jinja_exec_call_macro(jinja_run *run, const jinja_macro *macro, const jinja_call *call,
                                jinja_value *out) {
    if (run->n_macros >= JINJA_DEPTH_MAX)
        return jinja_value_fail(run, UM_INVALID, "macros call each other too deep");
    jinja_frame *frame;
    bool *used;
    TRY(jinja_value_alloc(run, 1, sizeof *frame, &frame));
    *frame = (jinja_frame){.parent = macro->frame};
    TRY(jinja_value_alloc(run, call->n_named, sizeof *used, &used));
    if (call->n_named) memset(used, 0, call->n_named * sizeof *used);
    run->n_macros++;
    um_status status = bind_parameters(run, macro->node, call, used, frame);
    if (status == UM_OK) status = bind_rest(run, macro->node, call, used, frame);
    if (status == UM_OK) status = capture(run, &macro->node->more, frame, out);
    run->n_macros--;
    return status;
}

/* ---- Loops ---------------------------------------------------------------------------------- */

/* Whether an item passes the loop's filter. */
static um_status passes(jinja_run *run, jinja_loop *loop, jinja_value item, bool *does_pass) {
    jinja_frame frame = {.parent = loop->frame};
    jinja_value result;
    TRY(assign(run, loop->node->a, &frame, item));
    TRY(jinja_eval(run, loop->node->c, &frame, &result));
    *does_pass = jinja_value_truth(result);
    return UM_OK;
}

/* Makes sure that the next item, if there is one, is in loop->ahead. */
static um_status look_ahead(jinja_run *run, jinja_loop *loop) {
    while (!loop->has_ahead && loop->i_next < loop->n_items) {
        jinja_value item = loop->items[loop->i_next++];
        bool does_pass = true;
        if (loop->is_filtered) TRY(passes(run, loop, item, &does_pass));
        if (!does_pass) continue;
        loop->ahead = item;
        loop->has_ahead = true;
    }
    return UM_OK;
}

static um_status loop_length(jinja_run *run, jinja_loop *loop, int64_t *length) {
    if (loop->is_filtered) {
        jinja_value *items;
        size_t n = 0;
        TRY(jinja_value_alloc(run, loop->n_items, sizeof *items, &items));
        for (size_t i = loop->i_next; i < loop->n_items; i++) {
            bool does_pass;
            TRY(passes(run, loop, loop->items[i], &does_pass));
            if (does_pass) items[n++] = loop->items[i];
        }
        loop->items = items;
        loop->n_items = n;
        loop->i_next = 0;
        loop->is_filtered = false;
    }
    *length = loop->index0 + 1 + loop->has_ahead + (int64_t)(loop->n_items - loop->i_next);
    return UM_OK;
}

/* loop.cycle(a, b, ...) */
static um_status loop_cycle(jinja_run *run, const jinja_call *call, jinja_value *out) {
    if (!call->n_args) return jinja_value_fail(run, UM_INVALID, "no items for cycling given");
    *out = call->args[(size_t)call->self.as.loop->index0 % call->n_args];
    return UM_OK;
}

/* loop.changed(a, b, ...) */
static um_status loop_changed(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_loop *loop = call->self.as.loop;
    jinja_value seen, *items;
    TRY(jinja_value_alloc(run, call->n_args, sizeof *items, &items));
    if (call->n_args) memcpy(items, call->args, call->n_args * sizeof *items);
    TRY(jinja_value_sequence(run, JINJA_TUPLE, items, call->n_args, &seen));
    bool is_equal;
    TRY(jinja_value_equal(run, seen, loop->changed, &is_equal));
    loop->changed = seen;
    *out = jinja_value_bool(!is_equal);
    return UM_OK;
}

um_status jinja_exec_loop_attribute(jinja_run *run, jinja_loop *loop, jinja_value name,
                                    jinja_value *out, bool *is_found) {
    static const jinja_builtin methods[] = {{"cycle", NULL, 0, loop_cycle},
                                            {"changed", NULL, 0, loop_changed}};
    static const char *const names[] = {"index",  "index0", "revindex", "revindex0", "length",
                                        "first",  "last",   "previtem", "nextitem",  "depth",
                                        "depth0", "cycle",  "changed"};
    enum {
        INDEX,
        INDEX0,
        REVINDEX,
        REVINDEX0,
        LENGTH,
        FIRST,
        LAST,
        PREVITEM,
        NEXTITEM,
        DEPTH,
        DEPTH0,
        CYCLE,
        CHANGED,
        N_NAMES
    };
    int which = 0;
    while (which < N_NAMES && !jinja_value_equals_text(name, names[which])) which++;
    *is_found = which < N_NAMES;
    int64_t length = 0;
    if (which == LENGTH || which == REVINDEX || which == REVINDEX0)
        TRY(loop_length(run, loop, &length));
    if (which == LAST || which == NEXTITEM) TRY(look_ahead(run, loop));
    switch (which) {
        case INDEX:
        case INDEX0:
            *out = jinja_value_int(loop->index0 + (which == INDEX));
            break;
        case REVINDEX:
        case REVINDEX0:
            *out = jinja_value_int(length - loop->index0 - (which == REVINDEX0));
            break;
        case LENGTH:
            *out = jinja_value_int(length);
            break;
        case FIRST:
            *out = jinja_value_bool(loop->index0 == 0);
            break;
        case LAST:
            *out = jinja_value_bool(!loop->has_ahead);
            break;
        case PREVITEM:
            *out =
                loop->index0 ? loop->previous : jinja_value_sentence("there is no previous item");
            break;
        case NEXTITEM:
            *out = loop->has_ahead ? loop->ahead : jinja_value_sentence("there is no next item");
            break;
        case DEPTH:
        case DEPTH0:
            *out = jinja_value_int(which == DEPTH);
            break;
        case CYCLE:
        case CHANGED: {
            jinja_method *method;
            TRY(jinja_value_alloc(run, 1, sizeof *method, &method));
            method->self = (jinja_value){.kind = JINJA_LOOP, .as.loop = loop};
            method->function = &methods[which - CYCLE];
            *out = (jinja_value){.kind = JINJA_METHOD, .as.method = method};
            break;
        }
        default:
            break;
    }
    return UM_OK;
}

um_status jinja_exec_append_loop(jinja_run *run, jinja_loop *loop, strbuf *buf) {
    int64_t length;
    TRY(loop_length(run, loop, &length));
    strbuf_append_format(buf, "<LoopContext %lld/%lld>", (long long)loop->index0 + 1,
                         (long long)length);
    return UM_OK;
}

static um_status run_loop(jinja_run *run, const jinja_node *node, jinja_loop *loop,
                          jinja_frame *frame) {
    jinja_value value = {.kind = JINJA_LOOP, .as.loop = loop};
    leave left = LEAVE_NONE;
    for (;;) {
        TRY(look_ahead(run, loop));
        if (!loop->has_ahead || left == LEAVE_BREAK) return UM_OK;
        loop->previous = loop->current;
        loop->current = loop->ahead;
        loop->has_ahead = false;
        loop->index0++;
        frame->variables.n_pairs = 0;
        TRY(jinja_value_dict_set(run, &frame->variables, jinja_value_string("loop"), value));
        run->line = node->line;
        TRY(assign(run, node->a, frame, loop->current));
        left = LEAVE_NONE;
        TRY(exec_nodes(run, &node->items, frame, &left));
        if (left == LEAVE_BREAK) return UM_OK;
    }
}

static um_status exec_for(jinja_run *run, const jinja_node *node, jinja_frame *outer, leave *left) {
    jinja_value items;
    jinja_loop *loop;
    jinja_frame *frame;
    TRY(jinja_eval(run, node->b, outer, &items));
    run->line = node->line;
    TRY(jinja_value_alloc(run, 1, sizeof *loop, &loop));
    *loop = (jinja_loop){.node = node, .frame = outer, .is_filtered = node->c, .index0 = -1};
    loop->changed = (jinja_value){.kind = JINJA_MISSING};
    TRY(jinja_value_iterate(run, items, &loop->items, &loop->n_items));
    TRY(jinja_value_alloc(run, 1, sizeof *frame, &frame));
    *frame = (jinja_frame){.parent = outer};
    TRY(run_loop(run, node, loop, frame));
    if (loop->index0 >= 0 || !node->more.n_items) return UM_OK;
    frame->variables.n_pairs = 0;
    return exec_nodes(run, &node->more, frame, left);
}

/* ---- Other statements ----------------------------------------------------------------------- */

static um_status exec_if(jinja_run *run, const jinja_node *node, jinja_frame *frame, leave *left) {
    for (size_t i = 0; i < node->items.n_items; i++) {
        const jinja_node *branch = node->items.items[i];
        jinja_value condition = jinja_value_bool(true);
        if (branch->a) TRY(jinja_eval(run, branch->a, frame, &condition));
        if (jinja_value_truth(condition)) return exec_nodes(run, &branch->items, frame, left);
    }
    return UM_OK;
}

static um_status make_frame(jinja_run *run, jinja_frame *parent, jinja_frame **frame) {
    TRY(jinja_value_alloc(run, 1, sizeof **frame, frame));
    **frame = (jinja_frame){.parent = parent};
    return UM_OK;
}

static um_status exec_set_block(jinja_run *run, const jinja_node *node, jinja_frame *frame) {
    jinja_value text;
    jinja_frame *inner;
    TRY(make_frame(run, frame, &inner));
    TRY(capture(run, &node->items, inner, &text));
    if (node->b) TRY(jinja_eval_filter_chain(run, node->b, inner, text, &text));
    return assign(run, node->a, frame, text);
}

static um_status exec_filter_block(jinja_run *run, const jinja_node *node, jinja_frame *frame) {
    jinja_value text;
    jinja_frame *inner;
    TRY(make_frame(run, frame, &inner));
    TRY(capture(run, &node->items, inner, &text));
    TRY(jinja_eval_filter_chain(run, node->a, inner, text, &text));
    TRY(jinja_text_of(run, text, &text));
    return write_text(run, text);
}

static um_status exec_with(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                           leave *left) {
    jinja_frame *inner;
    TRY(make_frame(run, frame, &inner));
    for (size_t i = 0; i < node->items.n_items; i++) {
        jinja_value value;
        TRY(jinja_eval(run, node->items.items[i]->b, frame, &value));
        TRY(assign(run, node->items.items[i]->a, inner, value));
    }
    return exec_nodes(run, &node->more, inner, left);
}

static um_status exec_call_block(jinja_run *run, const jinja_node *node, jinja_frame *frame) {
    jinja_value caller, text;
    TRY(make_macro(run, node->b, frame, &caller));
    TRY(jinja_eval_call(run, node->a, frame, &caller, &text));
    TRY(jinja_text_of(run, text, &text));
    return write_text(run, text);
}

static um_status exec_node(jinja_run *run, const jinja_node *node, jinja_frame *frame,
                           leave *left) {
    jinja_value value;
    jinja_frame *inner;
    switch (node->kind) {
        case JINJA_NODE_DATA:
            return write_text(run, node->value);
        case JINJA_NODE_OUTPUT:
            TRY(jinja_eval(run, node->a, frame, &value));
            TRY(jinja_text_of(run, value, &value));
            return write_text(run, value);
        case JINJA_NODE_IF:
            return exec_if(run, node, frame, left);
        case JINJA_NODE_FOR:
            return exec_for(run, node, frame, left);
        case JINJA_NODE_SET:
            TRY(jinja_eval(run, node->b, frame, &value));
            return assign(run, node->a, frame, value);
        case JINJA_NODE_SET_BLOCK:
            return exec_set_block(run, node, frame);
        case JINJA_NODE_MACRO:
            TRY(make_macro(run, node, frame, &value));
            return jinja_value_dict_set(run, &frame->variables, node->value, value);
        case JINJA_NODE_CALL_BLOCK:
            return exec_call_block(run, node, frame);
        case JINJA_NODE_FILTER_BLOCK:
            return exec_filter_block(run, node, frame);
        case JINJA_NODE_WITH:
            return exec_with(run, node, frame, left);
        case JINJA_NODE_SCOPE:
            TRY(make_frame(run, frame, &inner));
            return exec_nodes(run, &node->items, inner, left);
        case JINJA_NODE_BREAK:
            *left = LEAVE_BREAK;
            return UM_OK;
        default:
            *left = LEAVE_CONTINUE;
            return UM_OK;
    }
}

static um_status exec_nodes(jinja_run *run, const jinja_nodes *body, jinja_frame *frame,
                            leave *left) {
    if (run->depth >= JINJA_EVAL_DEPTH_MAX)
        return jinja_value_fail(run, UM_INVALID, "blocks nest too deep");
    run->depth++;
    um_status status = UM_OK;
    for (size_t i = 0; i < body->n_items && status == UM_OK && *left == LEAVE_NONE; i++) {
        run->line = body->items[i]->line;
        status = jinja_value_spend(run, 1);
        if (status == UM_OK) status = exec_node(run, body->items[i], frame, left);
    }
    run->depth--;
    return status;
}

um_status jinja_exec_template(jinja_run *run, const jinja_nodes *body) {
    jinja_frame *frame;
    leave left = LEAVE_NONE;
    TRY(make_frame(run, NULL, &frame));
    return exec_nodes(run, body, frame, &left);
}

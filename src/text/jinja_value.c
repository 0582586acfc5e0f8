/* SPDX-License-Identifier: Apache-2.0
 *
 * Values: making, comparing, iterating them. Dicts are arrays searched from the front: those of
 * chat templates have a handful of keys, and each search is charged to the budget of steps by the
 * evaluation around it.
 */
#include "text/jinja_value.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "text/jinja_utf8.h"

/* ---- Errors and budget ---------------------------------------------------------------------- */

um_status jinja_value_fail(jinja_run *run, um_status status, const char *format, ...) {
    char message[500];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return um_error_set(run->err, status, "line %d: %s", run->line, message);
}

um_status jinja_value_spend(jinja_run *run, size_t n) {
    run->n_steps += n;
    if (run->n_steps > JINJA_STEPS_MAX)
        return jinja_value_fail(run, UM_INVALID, "the template runs for too long");
    return UM_OK;
}

static um_status fail_memory(jinja_run *run) {
    if (run->pool.is_over_limit)
        return jinja_value_fail(run, UM_INVALID, "the template's values exceed %d MiB",
                                JINJA_VALUES_MAX_BYTES >> 20);
    FAIL(UM_NO_MEMORY, run->err, "no memory to render a chat template");
}

um_status jinja_value_alloc(jinja_run *run, size_t n, size_t item_bytes, void *memory) {
    void *found = NULL;
    memcpy(memory, &found, sizeof found); /* `memory` points to a pointer of some type */
    TRY(jinja_value_spend(run, 1 + n / 64));
    found = jinja_pool_alloc(&run->pool, n, item_bytes);
    if (!found) return fail_memory(run);
    memcpy(memory, &found, sizeof found);
    return UM_OK;
}

/* ---- Making --------------------------------------------------------------------------------- */

jinja_value jinja_value_text(const char *text, size_t n_bytes) {
    return (jinja_value){.kind = JINJA_STRING, .n_bytes = n_bytes, .as.text = text};
}

jinja_value jinja_value_string(const char *text) {
    return jinja_value_text(text, strlen(text));
}

jinja_value jinja_value_undefined(const char *name) {
    jinja_value v = jinja_value_string(name);
    v.kind = JINJA_UNDEFINED;
    return v;
}

jinja_value jinja_value_sentence(const char *sentence) {
    jinja_value v = jinja_value_undefined(sentence);
    v.origin = JINJA_UNDEFINED_SENTENCE;
    return v;
}

jinja_value jinja_value_none(void) {
    return (jinja_value){.kind = JINJA_NONE};
}

jinja_value jinja_value_bool(bool b) {
    return (jinja_value){.kind = JINJA_BOOL, .as.boolean = b};
}

jinja_value jinja_value_int(int64_t i) {
    return (jinja_value){.kind = JINJA_INT, .as.integer = i};
}

jinja_value jinja_value_float(double d) {
    return (jinja_value){.kind = JINJA_FLOAT, .as.real = d};
}

um_status jinja_value_sequence(jinja_run *run, jinja_kind kind, jinja_value *items, size_t n_items,
                               jinja_value *out) {
    jinja_list *list;
    TRY(jinja_value_alloc(run, 1, sizeof *list, &list));
    *list = (jinja_list){.items = items, .n_items = n_items};
    *out = (jinja_value){.kind = (uint8_t)kind, .as.list = list};
    return UM_OK;
}

um_status jinja_value_copy_text(jinja_run *run, const char *text, size_t n_bytes,
                                jinja_value *out) {
    char *copy;
    TRY(jinja_value_alloc(run, n_bytes, 1, &copy));
    if (n_bytes) memcpy(copy, text, n_bytes);
    *out = jinja_value_text(copy, n_bytes);
    return UM_OK;
}

um_status jinja_value_take(jinja_run *run, strbuf *buf, jinja_value *out) {
    um_status status;
    if (buf->has_failed && buf->limit && buf->n_bytes > buf->limit / 2)
        status = jinja_value_fail(run, UM_INVALID, "a text exceeds %zu MiB", buf->limit >> 20);
    else if (buf->has_failed)
        status = um_error_set(run->err, UM_NO_MEMORY, "no memory to render a chat template");
    else
        status = jinja_value_copy_text(run, buf->data, buf->n_bytes, out);
    strbuf_deinit(buf);
    return status;
}

/* The growing string that ends with this text, if there is one with room for n_more bytes. */
static jinja_growing *find_growing(jinja_run *run, jinja_value a, size_t n_more) {
    for (size_t i = 0; i < sizeof run->growing / sizeof run->growing[0]; i++) {
        jinja_growing *g = &run->growing[i];
        if (g->text == a.as.text && g->n_bytes == a.n_bytes && g->text &&
            n_more <= g->capacity - g->n_bytes)
            return g;
    }
    return NULL;
}

um_status jinja_value_concat(jinja_run *run, jinja_value a, jinja_value b, jinja_value *out) {
    TRY(jinja_value_spend(run, 1 + b.n_bytes / 64));
    if (!b.n_bytes || !a.n_bytes) {
        *out = a.n_bytes ? a : b;
        return UM_OK;
    }
    if (a.n_bytes > JINJA_TEXT_MAX_BYTES - b.n_bytes)
        return jinja_value_fail(run, UM_INVALID, "a text exceeds %d MiB",
                                JINJA_TEXT_MAX_BYTES >> 20);
    jinja_growing *g = find_growing(run, a, b.n_bytes);
    if (!g) {
        size_t n_bytes = a.n_bytes + b.n_bytes;
        size_t capacity = n_bytes < 512 ? n_bytes : n_bytes * 2;
        char *text;
        TRY(jinja_value_alloc(run, capacity, 1, &text));
        memcpy(text, a.as.text, a.n_bytes);
        jinja_growing fresh = {text, a.n_bytes, capacity};
        if (capacity == n_bytes) {
            memcpy(text + a.n_bytes, b.as.text, b.n_bytes);
            *out = jinja_value_text(text, n_bytes);
            return UM_OK;
        }
        g = &run->growing[run->i_growing++ % (sizeof run->growing / sizeof run->growing[0])];
        *g = fresh;
    }
    memcpy(g->text + g->n_bytes, b.as.text, b.n_bytes);
    g->n_bytes += b.n_bytes;
    *out = jinja_value_text(g->text, g->n_bytes);
    return UM_OK;
}

/* ---- Dicts ---------------------------------------------------------------------------------- */

um_status jinja_value_dict(jinja_run *run, jinja_kind kind, jinja_value *out) {
    jinja_dict *dict;
    TRY(jinja_value_alloc(run, 1, sizeof *dict, &dict));
    memset(dict, 0, sizeof *dict);
    *out = (jinja_value){.kind = (uint8_t)kind, .as.dict = dict};
    return UM_OK;
}

um_status jinja_value_dict_add(jinja_run *run, jinja_dict *dict, jinja_value key,
                               jinja_value value) {
    if (dict->n_pairs == dict->capacity) {
        size_t capacity = dict->capacity ? dict->capacity * 2 : 4;
        jinja_pair *grown;
        TRY(jinja_value_alloc(run, capacity, sizeof *grown, &grown));
        if (dict->n_pairs) memcpy(grown, dict->pairs, dict->n_pairs * sizeof *grown);
        dict->pairs = grown;
        dict->capacity = capacity;
    }
    dict->pairs[dict->n_pairs++] = (jinja_pair){key, value};
    return UM_OK;
}

/* Equality of keys, which cannot fail: keys are scalars, or tuples of such. */
static bool is_same_key(jinja_value a, jinja_value b) {
    if (a.kind == JINJA_STRING || b.kind == JINJA_STRING)
        return a.kind == b.kind && a.n_bytes == b.n_bytes &&
               (!a.n_bytes || !memcmp(a.as.text, b.as.text, a.n_bytes));
    bool is_equal = false;
    /* A tuple may hold another one many times over: the comparison has a budget of its own. */
    jinja_run run = {.n_steps = JINJA_STEPS_MAX - 1000};
    return jinja_value_equal(&run, a, b, &is_equal) == UM_OK && is_equal;
}

um_status jinja_value_spend_search(jinja_run *run, const jinja_dict *dict, jinja_value key) {
    size_t n_bytes = key.kind == JINJA_STRING ? key.n_bytes : 1024;
    return jinja_value_spend(run, 1 + dict->n_pairs / 16 + dict->n_pairs * n_bytes / 256);
}

const jinja_value *jinja_value_dict_get(const jinja_dict *dict, jinja_value key) {
    for (size_t i = 0; i < dict->n_pairs; i++)
        if (is_same_key(dict->pairs[i].key, key)) return &dict->pairs[i].value;
    return NULL;
}

const jinja_value *jinja_value_dict_find(const jinja_dict *dict, const char *key, size_t n_bytes) {
    return jinja_value_dict_get(dict, jinja_value_text(key, n_bytes));
}

um_status jinja_value_dict_set(jinja_run *run, jinja_dict *dict, jinja_value key,
                               jinja_value value) {
    TRY(jinja_value_spend_search(run, dict, key));
    if (!jinja_value_is_hashable(key))
        return jinja_value_fail(run, UM_INVALID, "unhashable type: '%s'",
                                jinja_value_type_name(key));
    for (size_t i = 0; i < dict->n_pairs; i++) {
        if (!is_same_key(dict->pairs[i].key, key)) continue;
        dict->pairs[i].value = value;
        return UM_OK;
    }
    return jinja_value_dict_add(run, dict, key, value);
}

/* ---- Questions ------------------------------------------------------------------------------ */

bool jinja_value_is_number(jinja_value v) {
    return v.kind == JINJA_BOOL || v.kind == JINJA_INT || v.kind == JINJA_FLOAT;
}

bool jinja_value_is_integer(jinja_value v, int64_t *i) {
    if (v.kind == JINJA_INT)
        *i = v.as.integer;
    else if (v.kind == JINJA_BOOL)
        *i = v.as.boolean;
    else
        return false;
    return true;
}

/* A tuple with more than n_left values in all counts as not hashable. */
static bool is_hashable(jinja_value v, int depth, int *n_left) {
    if (v.kind == JINJA_LIST || v.kind == JINJA_DICT || depth > JINJA_DEPTH_MAX || --*n_left < 0)
        return false;
    if (v.kind == JINJA_TUPLE)
        for (size_t i = 0; i < v.as.list->n_items; i++)
            if (!is_hashable(v.as.list->items[i], depth + 1, n_left)) return false;
    return true;
}

bool jinja_value_is_hashable(jinja_value v) {
    int n_left = 1000;
    return is_hashable(v, 0, &n_left);
}

bool jinja_value_equals_text(jinja_value v, const char *text) {
    size_t n = strlen(text);
    return v.kind == JINJA_STRING && v.n_bytes == n && !memcmp(v.as.text, text, n);
}

double jinja_value_to_double(jinja_value v) {
    if (v.kind == JINJA_FLOAT) return v.as.real;
    return v.kind == JINJA_INT ? (double)v.as.integer : v.as.boolean;
}

bool jinja_value_truth(jinja_value v) {
    switch ((jinja_kind)v.kind) {
        case JINJA_UNDEFINED:
        case JINJA_MISSING:
        case JINJA_NONE:
            return false;
        case JINJA_BOOL:
            return v.as.boolean;
        case JINJA_INT:
            return v.as.integer != 0;
        case JINJA_FLOAT:
            return v.as.real != 0;
        case JINJA_STRING:
            return v.n_bytes != 0;
        case JINJA_LIST:
        case JINJA_TUPLE:
        case JINJA_VIEW:
            return v.as.list->n_items != 0;
        case JINJA_DICT:
            return v.as.dict->n_pairs != 0;
        case JINJA_RANGE:
            return v.as.range->n_items != 0;
        default:
            return true;
    }
}

const char *jinja_value_type_name(jinja_value v) {
    switch ((jinja_kind)v.kind) {
        case JINJA_UNDEFINED:
        case JINJA_MISSING:
            return "Undefined";
        case JINJA_NONE:
            return "NoneType";
        case JINJA_BOOL:
            return "bool";
        case JINJA_INT:
            return "int";
        case JINJA_FLOAT:
            return "float";
        case JINJA_STRING:
            return "str";
        case JINJA_LIST:
            return "list";
        case JINJA_TUPLE:
            return "tuple";
        case JINJA_VIEW:
            return v.as.list->name;
        case JINJA_ITERATOR:
            return "generator";
        case JINJA_DICT:
            return "dict";
        case JINJA_NAMESPACE:
            return "TemplateNamespace";
        case JINJA_RANGE:
            return "range";
        case JINJA_LOOP:
            return "LoopContext";
        case JINJA_MACRO:
            return "Macro";
        case JINJA_FUNCTION:
            return "function";
        case JINJA_METHOD:
            return "builtin_function_or_method";
    }
    return "object";
}

um_status jinja_value_fail_undefined(jinja_run *run, jinja_value v) {
    int n = v.n_bytes < 200 ? (int)v.n_bytes : 200;
    if (v.origin == JINJA_UNDEFINED_NAME)
        return jinja_value_fail(run, UM_INVALID, "'%.*s' is undefined", n, v.as.text);
    if (v.origin == JINJA_UNDEFINED_SENTENCE)
        return jinja_value_fail(run, UM_INVALID, "%.*s", n, v.as.text);
    jinja_value owner = {.kind = (uint8_t)(v.origin - JINJA_UNDEFINED_OF)};
    const char *name = owner.kind == JINJA_VIEW ? "dict view" : jinja_value_type_name(owner);
    return jinja_value_fail(run, UM_INVALID, "'%s object' has no attribute '%.*s'", name, n,
                            v.as.text);
}

bool jinja_value_length(jinja_value v, size_t *n) {
    switch ((jinja_kind)v.kind) {
        case JINJA_UNDEFINED:
            *n = 0;
            return true;
        case JINJA_STRING:
            *n = jinja_utf8_count(v.as.text, v.n_bytes);
            return true;
        case JINJA_LIST:
        case JINJA_TUPLE:
        case JINJA_VIEW:
            *n = v.as.list->n_items;
            return true;
        case JINJA_DICT:
            *n = v.as.dict->n_pairs;
            return true;
        case JINJA_RANGE:
            *n = v.as.range->n_items;
            return true;
        default:
            return false;
    }
}

/* ---- Comparing ------------------------------------------------------------------------------ */

/* -1, 0, 1; 2 where a NaN is involved. A 64-bit integer fits a long double on all our machines. */
static int compare_numbers(jinja_value a, jinja_value b) {
    int64_t i, j;
    if (jinja_value_is_integer(a, &i) && jinja_value_is_integer(b, &j)) return (i > j) - (i < j);
    long double x = jinja_value_is_integer(a, &i) ? (long double)i : (long double)a.as.real;
    long double y = jinja_value_is_integer(b, &j) ? (long double)j : (long double)b.as.real;
    return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

static int compare_texts(jinja_value a, jinja_value b) {
    size_t n = a.n_bytes < b.n_bytes ? a.n_bytes : b.n_bytes;
    int order = n ? memcmp(a.as.text, b.as.text, n) : 0;
    if (order) return order < 0 ? -1 : 1;
    return (a.n_bytes > b.n_bytes) - (a.n_bytes < b.n_bytes);
}

static um_status enter(jinja_run *run) {
    if (run->depth >= JINJA_EVAL_DEPTH_MAX)
        return jinja_value_fail(run, UM_INVALID, "values nest too deep");
    run->depth++;
    return UM_OK;
}

static um_status equal_lists(jinja_run *run, const jinja_list *a, const jinja_list *b,
                             bool *is_equal) {
    *is_equal = a->n_items == b->n_items;
    for (size_t i = 0; *is_equal && i < a->n_items; i++)
        TRY(jinja_value_equal(run, a->items[i], b->items[i], is_equal));
    return UM_OK;
}

static um_status equal_dicts(jinja_run *run, const jinja_dict *a, const jinja_dict *b,
                             bool *is_equal) {
    *is_equal = a->n_pairs == b->n_pairs;
    for (size_t i = 0; *is_equal && i < a->n_pairs; i++) {
        TRY(jinja_value_spend_search(run, b, a->pairs[i].key));
        const jinja_value *other = jinja_value_dict_get(b, a->pairs[i].key);
        *is_equal = other != NULL;
        if (other) TRY(jinja_value_equal(run, a->pairs[i].value, *other, is_equal));
    }
    return UM_OK;
}

um_status jinja_value_equal(jinja_run *run, jinja_value a, jinja_value b, bool *is_equal) {
    *is_equal = false;
    TRY(jinja_value_spend(run, 1));
    if (jinja_value_is_number(a) && jinja_value_is_number(b)) {
        *is_equal = compare_numbers(a, b) == 0;
        return UM_OK;
    }
    if (a.kind != b.kind) return UM_OK;
    um_status status = UM_OK;
    switch ((jinja_kind)a.kind) {
        case JINJA_UNDEFINED:
        case JINJA_NONE:
            *is_equal = true;
            break;
        case JINJA_STRING:
            if (a.n_bytes != b.n_bytes) break;
            TRY(jinja_value_spend(run, a.n_bytes / 64));
            *is_equal = compare_texts(a, b) == 0;
            break;
        case JINJA_LIST:
        case JINJA_TUPLE:
            TRY(enter(run));
            status = equal_lists(run, a.as.list, b.as.list, is_equal);
            run->depth--;
            break;
        case JINJA_DICT:
            TRY(enter(run));
            status = equal_dicts(run, a.as.dict, b.as.dict, is_equal);
            run->depth--;
            break;
        case JINJA_RANGE:
            *is_equal = a.as.range->n_items == b.as.range->n_items &&
                        (!a.as.range->n_items || a.as.range->start == b.as.range->start) &&
                        (a.as.range->n_items < 2 || a.as.range->step == b.as.range->step);
            break;
        default:
            *is_equal = a.as.list == b.as.list;
    }
    return status;
}

um_status jinja_value_less(jinja_run *run, jinja_value a, jinja_value b, bool *is_less) {
    TRY(jinja_value_spend(run, 1));
    *is_less = false;
    if (jinja_value_is_number(a) && jinja_value_is_number(b)) {
        *is_less = compare_numbers(a, b) == -1;
        return UM_OK;
    }
    if (a.kind == JINJA_STRING && b.kind == JINJA_STRING) {
        *is_less = compare_texts(a, b) < 0;
        return jinja_value_spend(run, (a.n_bytes < b.n_bytes ? a.n_bytes : b.n_bytes) / 64);
    }
    if (a.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, a);
    if (b.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, b);
    if (a.kind != b.kind || (a.kind != JINJA_LIST && a.kind != JINJA_TUPLE))
        return jinja_value_fail(run, UM_INVALID, "'%s' and '%s' have no order",
                                jinja_value_type_name(a), jinja_value_type_name(b));
    const jinja_list *x = a.as.list, *y = b.as.list;
    TRY(enter(run));
    um_status status = UM_OK;
    bool is_equal = true;
    size_t i = 0;
    for (; i < x->n_items && i < y->n_items; i++) {
        status = jinja_value_equal(run, x->items[i], y->items[i], &is_equal);
        if (status != UM_OK || !is_equal) break;
    }
    if (status == UM_OK && is_equal) *is_less = x->n_items < y->n_items;
    if (status == UM_OK && !is_equal)
        status = jinja_value_less(run, x->items[i], y->items[i], is_less);
    run->depth--;
    return status;
}

/* ---- Iterating ------------------------------------------------------------------------------ */

um_status jinja_value_contains(jinja_run *run, jinja_value container, jinja_value item,
                               bool *is_in) {
    *is_in = false;
    if (container.kind == JINJA_STRING) {
        if (item.kind != JINJA_STRING)
            return jinja_value_fail(run, UM_INVALID,
                                    "'in <string>' requires string as left operand, not %s",
                                    jinja_value_type_name(item));
        TRY(jinja_value_spend(run, 1 + container.n_bytes / 64));
        *is_in = !item.n_bytes || (container.n_bytes && memmem(container.as.text, container.n_bytes,
                                                               item.as.text, item.n_bytes));
        return UM_OK;
    }
    if (container.kind == JINJA_DICT) {
        TRY(jinja_value_spend_search(run, container.as.dict, item));
        if (!jinja_value_is_hashable(item))
            return jinja_value_fail(run, UM_INVALID, "unhashable type: '%s'",
                                    jinja_value_type_name(item));
        *is_in = jinja_value_dict_get(container.as.dict, item) != NULL;
        return UM_OK;
    }
    jinja_value *items;
    size_t n_items;
    TRY(jinja_value_iterate(run, container, &items, &n_items));
    for (size_t i = 0; i < n_items && !*is_in; i++)
        TRY(jinja_value_equal(run, items[i], item, is_in));
    return UM_OK;
}

static um_status iterate_text(jinja_run *run, jinja_value v, jinja_value *items) {
    size_t at = 0;
    for (size_t i = 0; at < v.n_bytes; i++) {
        size_t n;
        jinja_utf8_read(v.as.text + at, v.as.text + v.n_bytes, &n);
        items[i] = jinja_value_text(v.as.text + at, n);
        at += n;
    }
    return jinja_value_spend(run, v.n_bytes / 8);
}

um_status jinja_value_iterate(jinja_run *run, jinja_value v, jinja_value **items, size_t *n_items) {
    *items = NULL;
    *n_items = 0;
    switch ((jinja_kind)v.kind) {
        case JINJA_UNDEFINED:
            return UM_OK;
        case JINJA_LIST:
        case JINJA_TUPLE:
        case JINJA_VIEW:
            *items = v.as.list->items;
            *n_items = v.as.list->n_items;
            return UM_OK;
        case JINJA_ITERATOR:
            if (!v.as.list->n_items) return UM_OK;
            *items = v.as.list->items + v.as.list->i_next;
            *n_items = v.as.list->n_items - v.as.list->i_next;
            v.as.list->i_next = v.as.list->n_items;
            return UM_OK;
        case JINJA_STRING:
        case JINJA_DICT:
        case JINJA_RANGE:
            break;
        default:
            return jinja_value_fail(run, UM_INVALID, "'%s' object is not iterable",
                                    jinja_value_type_name(v));
    }
    jinja_value_length(v, n_items);
    TRY(jinja_value_alloc(run, *n_items, sizeof **items, items));
    if (v.kind == JINJA_STRING) return iterate_text(run, v, *items);
    TRY(jinja_value_spend(run, *n_items / 8));
    for (size_t i = 0; i < *n_items; i++) {
        if (v.kind == JINJA_DICT)
            (*items)[i] = v.as.dict->pairs[i].key;
        else
            (*items)[i] = jinja_value_int(v.as.range->start + (int64_t)i * v.as.range->step);
    }
    return UM_OK;
}

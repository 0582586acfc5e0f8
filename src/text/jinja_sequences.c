/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters over sequences. Those that are generators in Jinja2 give an iterator here: it is true
 * even when empty, has no length and can be read once, and templates depend on that.
 */
#include <string.h>

#include "text/jinja_builtins.h"
#include "text/jinja_eval.h"
#include "text/jinja_text.h"
#include "text/jinja_utf8.h"

/* Jinja2's attribute getter: "a.b.0" walks down, numbers are indexes. */
static um_status get_attribute(jinja_run *run, jinja_value item, jinja_value path,
                               jinja_value fallback, jinja_value *out) {
    *out = item;
    if (path.kind == JINJA_NONE || path.kind == JINJA_MISSING) return UM_OK;
    if (path.kind != JINJA_STRING) return jinja_eval_item(run, item, path, out);
    TRY(jinja_value_spend(run, path.n_bytes / 16));
    const char *p = path.as.text, *end = p + path.n_bytes;
    for (;;) {
        const char *start = p;
        bool is_number = true;
        int64_t i = 0;
        for (; p < end && *p != '.'; p++) {
            is_number = is_number && *p >= '0' && *p <= '9' && i < 100000000;
            if (is_number) i = i * 10 + (*p - '0');
        }
        jinja_value key = jinja_value_text(start, (size_t)(p - start));
        if (is_number && p > start) key = jinja_value_int(i);
        TRY(jinja_eval_item(run, *out, key, out));
        if (out->kind == JINJA_UNDEFINED && fallback.kind != JINJA_MISSING &&
            fallback.kind != JINJA_NONE)
            *out = fallback;
        if (p++ == end) return UM_OK;
    }
}

static um_status fold_case(jinja_run *run, bool is_case_sensitive, jinja_value *v) {
    if (is_case_sensitive || v->kind != JINJA_STRING) return UM_OK;
    jinja_call call = {.self = *v};
    return jinja_builtins_find_filter(jinja_value_string("lower"))->function(run, &call, v);
}

static um_status filter_length(jinja_run *run, const jinja_call *call, jinja_value *out) {
    size_t n;
    if (call->self.kind == JINJA_LOOP)
        return jinja_eval_attribute(run, call->self, jinja_value_string("length"), out);
    if (!jinja_value_length(call->self, &n))
        return jinja_value_fail(run, UM_INVALID, "object of type '%s' has no len()",
                                jinja_value_type_name(call->self));
    *out = jinja_value_int((int64_t)n);
    return jinja_value_spend(run, call->self.n_bytes / 64);
}

/* Copies what v iterates over into an array that the caller may change. */
static um_status copy_items(jinja_run *run, jinja_value v, jinja_value **items, size_t *n_items) {
    jinja_value *found;
    TRY(jinja_value_iterate(run, v, &found, n_items));
    TRY(jinja_value_alloc(run, *n_items, sizeof **items, items));
    if (*n_items) memcpy(*items, found, *n_items * sizeof **items);
    return UM_OK;
}

static um_status filter_list(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value *items;
    size_t n_items;
    TRY(copy_items(run, call->self, &items, &n_items));
    return jinja_value_sequence(run, JINJA_LIST, items, n_items, out);
}

static um_status filter_first(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value *items, v = call->self;
    size_t n_items;
    *out = jinja_value_sentence("No first item, sequence was empty.");
    if (v.kind == JINJA_ITERATOR) { /* takes one item and leaves the others */
        if (v.as.list->i_next < v.as.list->n_items) *out = v.as.list->items[v.as.list->i_next++];
        return UM_OK;
    }
    TRY(jinja_value_iterate(run, v, &items, &n_items));
    if (n_items) *out = items[0];
    return UM_OK;
}

static um_status filter_last(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value *items;
    size_t n_items;
    if (call->self.kind == JINJA_ITERATOR)
        return jinja_value_fail(run, UM_INVALID, "'%s' object is not reversible",
                                jinja_value_type_name(call->self));
    TRY(jinja_value_iterate(run, call->self, &items, &n_items));
    *out = n_items ? items[n_items - 1] : jinja_value_sentence("No last item, sequence was empty.");
    return UM_OK;
}

static um_status filter_reverse(jinja_run *run, const jinja_call *call, jinja_value *out) {
    if (call->self.kind == JINJA_STRING) {
        jinja_value parts[3] = {jinja_value_none(), jinja_value_none(), jinja_value_int(-1)};
        return jinja_operators_slice(run, call->self, parts, out);
    }
    jinja_value *items;
    size_t n_items;
    TRY(copy_items(run, call->self, &items, &n_items));
    for (size_t i = 0; i < n_items / 2; i++) {
        jinja_value swapped = items[i];
        items[i] = items[n_items - 1 - i];
        items[n_items - 1 - i] = swapped;
    }
    return jinja_value_sequence(run, JINJA_ITERATOR, items, n_items, out);
}

static um_status filter_join(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value *items, separator, item;
    size_t n_items;
    TRY(jinja_text_of(run, jinja_builtins_param(call, 0, jinja_value_string("")), &separator));
    TRY(jinja_value_iterate(run, call->self, &items, &n_items));
    *out = jinja_value_string("");
    for (size_t i = 0; i < n_items; i++) {
        TRY(get_attribute(run, items[i], call->bound[1], (jinja_value){.kind = JINJA_MISSING},
                          &item));
        TRY(jinja_text_of(run, item, &item));
        if (i) TRY(jinja_value_concat(run, *out, separator, out));
        TRY(jinja_value_concat(run, *out, item, out));
    }
    return UM_OK;
}

static um_status filter_sum(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value *items, item;
    size_t n_items;
    *out = jinja_builtins_param(call, 1, jinja_value_int(0));
    if (out->kind == JINJA_STRING)
        return jinja_value_fail(run, UM_INVALID, "sum() cannot sum strings");
    TRY(jinja_value_iterate(run, call->self, &items, &n_items));
    for (size_t i = 0; i < n_items; i++) {
        TRY(get_attribute(run, items[i], call->bound[0], (jinja_value){.kind = JINJA_MISSING},
                          &item));
        TRY(jinja_operators_binary(run, JINJA_TOKEN_ADD, *out, item, out));
    }
    return UM_OK;
}

/* ---- Order ----------------------------------------------------------------------------------- */

/* Stable merge sort of items by keys; both arrays are rearranged. */
static um_status sort(jinja_run *run, jinja_pair *pairs, jinja_pair *scratch, size_t n,
                      bool is_reverse) {
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t start = 0; start < n; start += 2 * width) {
            size_t middle = start + width < n ? start + width : n;
            size_t end = middle + width < n ? middle + width : n;
            size_t i = start, j = middle;
            for (size_t at = start; at < end; at++) {
                bool takes_right = i == middle;
                if (i < middle && j < end)
                    TRY(is_reverse
                            ? jinja_value_less(run, pairs[i].key, pairs[j].key, &takes_right)
                            : jinja_value_less(run, pairs[j].key, pairs[i].key, &takes_right));
                scratch[at] = takes_right ? pairs[j++] : pairs[i++];
            }
        }
        memcpy(pairs, scratch, n * sizeof *pairs);
    }
    return UM_OK;
}

/* The sort key of an item: one attribute, or a list of those that commas separate. */
static um_status sort_key(jinja_run *run, jinja_value item, jinja_value path,
                          bool is_case_sensitive, jinja_value *out) {
    if (path.kind != JINJA_STRING || !path.n_bytes || !memchr(path.as.text, ',', path.n_bytes)) {
        TRY(get_attribute(run, item, path, (jinja_value){.kind = JINJA_MISSING}, out));
        return fold_case(run, is_case_sensitive, out);
    }
    jinja_value *keys;
    size_t n_keys = 0;
    TRY(jinja_value_alloc(run, path.n_bytes + 1, sizeof *keys, &keys));
    const char *p = path.as.text, *end = p + path.n_bytes;
    for (;;) {
        const char *start = p;
        while (p < end && *p != ',') p++;
        TRY(get_attribute(run, item, jinja_value_text(start, (size_t)(p - start)),
                          (jinja_value){.kind = JINJA_MISSING}, &keys[n_keys]));
        TRY(fold_case(run, is_case_sensitive, &keys[n_keys++]));
        if (p++ == end) break;
    }
    return jinja_value_sequence(run, JINJA_LIST, keys, n_keys, out);
}

static um_status sort_items(jinja_run *run, jinja_value *items, size_t n_items, jinja_value path,
                            bool is_case_sensitive, bool is_reverse, jinja_value *out) {
    jinja_pair *pairs;
    TRY(jinja_value_alloc(run, n_items * 2, sizeof *pairs, &pairs));
    for (size_t i = 0; i < n_items; i++) {
        pairs[i].value = items[i];
        TRY(sort_key(run, items[i], path, is_case_sensitive, &pairs[i].key));
    }
    TRY(sort(run, pairs, pairs + n_items, n_items, is_reverse));
    jinja_value *sorted;
    TRY(jinja_value_alloc(run, n_items, sizeof *sorted, &sorted));
    for (size_t i = 0; i < n_items; i++) sorted[i] = pairs[i].value;
    return jinja_value_sequence(run, JINJA_LIST, sorted, n_items, out);
}

static um_status filter_sort(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value *items;
    size_t n_items;
    TRY(jinja_value_iterate(run, call->self, &items, &n_items));
    return sort_items(run, items, n_items, call->bound[2], jinja_builtins_flag(call, 1, false),
                      jinja_builtins_flag(call, 0, false), out);
}

/* The pairs of a dict as tuples. */
static um_status dict_items(jinja_run *run, const jinja_dict *dict, jinja_value **items) {
    TRY(jinja_value_alloc(run, dict->n_pairs, sizeof **items, items));
    for (size_t i = 0; i < dict->n_pairs; i++) {
        jinja_value *pair;
        TRY(jinja_value_alloc(run, 2, sizeof *pair, &pair));
        pair[0] = dict->pairs[i].key;
        pair[1] = dict->pairs[i].value;
        TRY(jinja_value_sequence(run, JINJA_TUPLE, pair, 2, &(*items)[i]));
    }
    return UM_OK;
}

static um_status filter_dictsort(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value by = jinja_builtins_param(call, 1, jinja_value_string("key")), *items;
    bool is_by_value = jinja_value_equals_text(by, "value");
    if (!is_by_value && !jinja_value_equals_text(by, "key"))
        return jinja_value_fail(run, UM_INVALID, "dictsort sorts by \"key\" or \"value\"");
    if (call->self.kind != JINJA_DICT)
        return jinja_value_fail(run, UM_INVALID, "dictsort needs a mapping");
    TRY(dict_items(run, call->self.as.dict, &items));
    return sort_items(run, items, call->self.as.dict->n_pairs, jinja_value_int(is_by_value),
                      jinja_builtins_flag(call, 0, false), jinja_builtins_flag(call, 2, false),
                      out);
}

static um_status filter_items(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value *items = NULL;
    if (call->self.kind == JINJA_UNDEFINED)
        return jinja_value_sequence(run, JINJA_ITERATOR, items, 0, out);
    if (call->self.kind != JINJA_DICT)
        return jinja_value_fail(run, UM_INVALID, "can only get item pairs from a mapping");
    TRY(dict_items(run, call->self.as.dict, &items));
    return jinja_value_sequence(run, JINJA_ITERATOR, items, call->self.as.dict->n_pairs, out);
}

static um_status pick(jinja_run *run, const jinja_call *call, bool wants_most, jinja_value *out) {
    jinja_value *items, best = {.kind = JINJA_MISSING}, key;
    size_t n_items;
    *out = jinja_value_sentence("No aggregated item, sequence was empty.");
    TRY(jinja_value_iterate(run, call->self, &items, &n_items));
    for (size_t i = 0; i < n_items; i++) {
        TRY(get_attribute(run, items[i], call->bound[1], (jinja_value){.kind = JINJA_MISSING},
                          &key));
        TRY(fold_case(run, jinja_builtins_flag(call, 0, false), &key));
        bool is_better = i == 0;
        if (i)
            TRY(wants_most ? jinja_value_less(run, best, key, &is_better)
                           : jinja_value_less(run, key, best, &is_better));
        if (!is_better) continue;
        best = key;
        *out = items[i];
    }
    return UM_OK;
}

static um_status filter_min(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return pick(run, call, false, out);
}

static um_status filter_max(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return pick(run, call, true, out);
}

static um_status filter_unique(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value *items, *kept, *keys;
    size_t n_items, n = 0;
    TRY(jinja_value_iterate(run, call->self, &items, &n_items));
    TRY(jinja_value_alloc(run, n_items, sizeof *kept, &kept));
    TRY(jinja_value_alloc(run, n_items, sizeof *keys, &keys));
    for (size_t i = 0; i < n_items; i++) {
        jinja_value key;
        TRY(get_attribute(run, items[i], call->bound[1], (jinja_value){.kind = JINJA_MISSING},
                          &key));
        TRY(fold_case(run, jinja_builtins_flag(call, 0, false), &key));
        if (!jinja_value_is_hashable(key))
            return jinja_value_fail(run, UM_INVALID, "unhashable type: '%s'",
                                    jinja_value_type_name(key));
        bool is_seen = false;
        for (size_t j = 0; j < n && !is_seen; j++)
            TRY(jinja_value_equal(run, keys[j], key, &is_seen));
        if (is_seen) continue;
        keys[n] = key;
        kept[n++] = items[i];
    }
    return jinja_value_sequence(run, JINJA_ITERATOR, kept, n, out);
}

static um_status filter_batch(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value *items, *rows, *row, fill = jinja_builtins_param(call, 1, jinja_value_none());
    size_t n_items;
    int64_t size;
    TRY(jinja_builtins_integer(run, call, 0, 1, &size));
    if (size < 1 || size > 100000)
        return jinja_value_fail(run, UM_INVALID, "a batch has from 1 to 100000 items");
    TRY(jinja_value_iterate(run, call->self, &items, &n_items));
    size_t n_each = (size_t)size, n_rows = (n_items + n_each - 1) / n_each;
    TRY(jinja_value_alloc(run, n_rows, sizeof *rows, &rows));
    for (size_t i = 0; i < n_rows; i++) {
        size_t n_left = n_items - i * n_each, n = n_left < n_each ? n_left : n_each;
        TRY(jinja_value_alloc(run, n_each, sizeof *row, &row));
        for (size_t j = 0; j < n_each; j++) row[j] = j < n ? items[i * n_each + j] : fill;
        if (fill.kind != JINJA_NONE) n = n_each;
        TRY(jinja_value_sequence(run, JINJA_LIST, row, n, &rows[i]));
    }
    return jinja_value_sequence(run, JINJA_ITERATOR, rows, n_rows, out);
}

/* ---- map, select and their kin --------------------------------------------------------------- */

/* Runs a filter or test that was named by a value, on one item. */
static um_status apply(jinja_run *run, const jinja_builtin *builtin, jinja_value item,
                       const jinja_call *outer, size_t n_skip, jinja_value *out) {
    jinja_call call = {.self = item};
    call.args = outer->n_args > n_skip ? outer->args + n_skip : NULL;
    call.n_args = outer->n_args > n_skip ? outer->n_args - n_skip : 0;
    call.named = outer->named;
    call.n_named = outer->n_named;
    if (run->depth >= JINJA_EVAL_DEPTH_MAX)
        return jinja_value_fail(run, UM_INVALID, "filters nest too deep");
    run->depth++;
    um_status status = jinja_builtins_invoke(run, builtin, &call, out);
    run->depth--;
    return status;
}

static um_status fail_unknown(jinja_run *run, const char *what, jinja_value name) {
    if (name.kind != JINJA_STRING)
        return jinja_value_fail(run, UM_INVALID, "the name of a %s must be a string", what);
    return jinja_value_fail(run, UM_INVALID, "no %s named '%.*s'", what,
                            (int)(name.n_bytes < 80 ? name.n_bytes : 80), name.as.text);
}

static um_status filter_map(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value *items, *mapped, path = {.kind = JINJA_MISSING}, fallback = path;
    size_t n_items;
    const jinja_builtin *builtin = NULL;
    if (!jinja_value_truth(call->self))
        return jinja_value_sequence(run, JINJA_ITERATOR, NULL, 0, out);
    if (call->n_args) {
        builtin = jinja_builtins_find_filter(call->args[0]);
        if (!builtin) return fail_unknown(run, "filter", call->args[0]);
    }
    for (size_t i = 0; i < call->n_named && !builtin; i++) {
        if (jinja_value_equals_text(call->named[i].key, "attribute"))
            path = call->named[i].value;
        else if (jinja_value_equals_text(call->named[i].key, "default"))
            fallback = call->named[i].value;
        else
            return jinja_value_fail(run, UM_INVALID, "map got an unexpected keyword argument");
    }
    if (!builtin && path.kind == JINJA_MISSING)
        return jinja_value_fail(run, UM_INVALID, "map requires a filter argument");
    TRY(jinja_value_iterate(run, call->self, &items, &n_items));
    TRY(jinja_value_alloc(run, n_items, sizeof *mapped, &mapped));
    for (size_t i = 0; i < n_items; i++)
        TRY(builtin ? apply(run, builtin, items[i], call, 1, &mapped[i])
                    : get_attribute(run, items[i], path, fallback, &mapped[i]));
    return jinja_value_sequence(run, JINJA_ITERATOR, mapped, n_items, out);
}

static um_status select_items(jinja_run *run, const jinja_call *call, bool has_attribute,
                              bool wanted, jinja_value *out) {
    jinja_value *items, *kept = NULL, path = {.kind = JINJA_MISSING}, item;
    size_t n_items, n = 0, n_skip = has_attribute ? 1 : 0;
    const jinja_builtin *test = NULL;
    if (!jinja_value_truth(call->self))
        return jinja_value_sequence(run, JINJA_ITERATOR, kept, 0, out);
    if (has_attribute && !call->n_args)
        return jinja_value_fail(run, UM_INVALID, "missing parameter for attribute name");
    if (has_attribute) path = call->args[0];
    if (call->n_args > n_skip) {
        test = jinja_builtins_find_test(call->args[n_skip]);
        if (!test) return fail_unknown(run, "test", call->args[n_skip]);
    }
    TRY(jinja_value_iterate(run, call->self, &items, &n_items));
    TRY(jinja_value_alloc(run, n_items, sizeof *kept, &kept));
    for (size_t i = 0; i < n_items; i++) {
        TRY(get_attribute(run, items[i], path, (jinja_value){.kind = JINJA_MISSING}, &item));
        if (test) TRY(apply(run, test, item, call, n_skip + 1, &item));
        if (jinja_value_truth(item) == wanted) kept[n++] = items[i];
    }
    return jinja_value_sequence(run, JINJA_ITERATOR, kept, n, out);
}

static um_status filter_select(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return select_items(run, call, false, true, out);
}

static um_status filter_reject(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return select_items(run, call, false, false, out);
}

static um_status filter_selectattr(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return select_items(run, call, true, true, out);
}

static um_status filter_rejectattr(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return select_items(run, call, true, false, out);
}

const jinja_builtin jinja_sequences[] = {
    {"length", "", 0, filter_length},
    {"count", "", 0, filter_length},
    {"list", "", 0, filter_list},
    {"first", "", 0, filter_first},
    {"last", "", 0, filter_last},
    {"reverse", "", 0, filter_reverse},
    {"join", "d attribute", 0, filter_join},
    {"sum", "attribute start", 0, filter_sum},
    {"sort", "reverse case_sensitive attribute", 0, filter_sort},
    {"dictsort", "case_sensitive by reverse", 0, filter_dictsort},
    {"items", "", 0, filter_items},
    {"min", "case_sensitive attribute", 0, filter_min},
    {"max", "case_sensitive attribute", 0, filter_max},
    {"unique", "case_sensitive attribute", 0, filter_unique},
    {"batch", "linecount fill_with", 1, filter_batch},
    {"map", NULL, 0, filter_map},
    {"select", NULL, 0, filter_select},
    {"reject", NULL, 0, filter_reject},
    {"selectattr", NULL, 0, filter_selectattr},
    {"rejectattr", NULL, 0, filter_rejectattr},
    {NULL, NULL, 0, NULL},
};

/* SPDX-License-Identifier: Apache-2.0
 *
 * The lookup of names, the binding of arguments, and the two small families: tests and global
 * functions (those of Jinja2 and the two that transformers adds).
 */
#include "text/jinja_builtins.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "text/jinja_eval.h"
#include "text/jinja_text.h"
#include "text/jinja_utf8.h"

/* ---- Binding -------------------------------------------------------------------------------- */

/* The index of a name in a list of names with spaces between; -1 if it is not there. */
static int find_param(const char *params, jinja_value name) {
    for (int i = 0; *params; i++) {
        size_t n = strcspn(params, " ");
        if (n == name.n_bytes && !memcmp(params, name.as.text, n)) return i;
        params += n;
        params += strspn(params, " ");
    }
    return -1;
}

static size_t count_params(const char *params) {
    size_t n = *params != '\0';
    for (; *params; params++) n += *params == ' ';
    return n;
}

static um_status bind(jinja_run *run, const jinja_builtin *builtin, jinja_call *call) {
    size_t n_params = count_params(builtin->params);
    for (size_t i = 0; i < JINJA_PARAMS_MAX; i++)
        call->bound[i] = (jinja_value){.kind = JINJA_MISSING};
    if (call->n_args > n_params)
        return jinja_value_fail(run, UM_INVALID, "%s takes at most %zu arguments, got %zu",
                                builtin->name, n_params, call->n_args);
    for (size_t i = 0; i < call->n_args; i++) call->bound[i] = call->args[i];
    for (size_t i = 0; i < call->n_named; i++) {
        int at = find_param(builtin->params, call->named[i].key);
        if (at < 0 || call->bound[at].kind != JINJA_MISSING)
            return jinja_value_fail(run, UM_INVALID, "%s got an unexpected argument '%.*s'",
                                    builtin->name, (int)(call->named[i].key.n_bytes & 0xFF),
                                    call->named[i].key.as.text);
        call->bound[at] = call->named[i].value;
    }
    for (int i = 0; i < builtin->n_required; i++)
        if (call->bound[i].kind == JINJA_MISSING)
            return jinja_value_fail(run, UM_INVALID, "%s lacks an argument", builtin->name);
    return UM_OK;
}

um_status jinja_builtins_invoke(jinja_run *run, const jinja_builtin *builtin, jinja_call *call,
                                jinja_value *out) {
    if (!builtin->function)
        return jinja_value_fail(run, UM_UNSUPPORTED, "the method '%s' is not supported",
                                builtin->name);
    if (builtin->params) TRY(bind(run, builtin, call));
    return builtin->function(run, call, out);
}

jinja_value jinja_builtins_param(const jinja_call *call, size_t i, jinja_value fallback) {
    return call->bound[i].kind == JINJA_MISSING ? fallback : call->bound[i];
}

bool jinja_builtins_flag(const jinja_call *call, size_t i, bool fallback) {
    return jinja_value_truth(jinja_builtins_param(call, i, jinja_value_bool(fallback)));
}

um_status jinja_builtins_integer(jinja_run *run, const jinja_call *call, size_t i, int64_t fallback,
                                 int64_t *out) {
    jinja_value v = jinja_builtins_param(call, i, jinja_value_int(fallback));
    if (v.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, v);
    if (!jinja_value_is_integer(v, out))
        return jinja_value_fail(run, UM_INVALID, "expected an integer, got '%s'",
                                jinja_value_type_name(v));
    return UM_OK;
}

int64_t jinja_builtins_clamp(int64_t i, size_t n) {
    if (i < 0) i = i < -(int64_t)n ? 0 : i + (int64_t)n;
    return i > (int64_t)n ? (int64_t)n : i;
}

/* ---- Tests ---------------------------------------------------------------------------------- */

static um_status answer(jinja_value *out, bool b) {
    *out = jinja_value_bool(b);
    return UM_OK;
}

/* Whether the kind of self is one of a set of bits. */
static um_status answer_kind(const jinja_call *call, unsigned kinds, jinja_value *out) {
    return answer(out, kinds >> call->self.kind & 1u);
}

enum {
    IS_UNDEFINED = 1 << JINJA_UNDEFINED,
    IS_LIST = 1 << JINJA_LIST | 1 << JINJA_TUPLE,
    IS_SEQUENCE = IS_UNDEFINED | IS_LIST | 1 << JINJA_STRING | 1 << JINJA_DICT | 1 << JINJA_RANGE,
    IS_ITERABLE = IS_SEQUENCE | 1 << JINJA_VIEW | 1 << JINJA_ITERATOR | 1 << JINJA_LOOP,
    IS_CALLABLE =
        IS_UNDEFINED | 1 << JINJA_FUNCTION | 1 << JINJA_METHOD | 1 << JINJA_MACRO | 1 << JINJA_LOOP,
    IS_NUMBER = 1 << JINJA_BOOL | 1 << JINJA_INT | 1 << JINJA_FLOAT
};

static um_status test_defined(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, ~(unsigned)IS_UNDEFINED, out);
}

static um_status test_undefined(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, (unsigned)IS_UNDEFINED, out);
}

static um_status test_none(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, 1u << JINJA_NONE, out);
}

static um_status test_boolean(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, 1u << JINJA_BOOL, out);
}

static um_status test_integer(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, 1u << JINJA_INT, out);
}

static um_status test_float(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, 1u << JINJA_FLOAT, out);
}

static um_status test_number(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, (unsigned)IS_NUMBER, out);
}

static um_status test_string(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, 1u << JINJA_STRING, out);
}

static um_status test_mapping(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, 1u << JINJA_DICT, out);
}

static um_status test_sequence(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, (unsigned)IS_SEQUENCE, out);
}

static um_status test_iterable(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, (unsigned)IS_ITERABLE, out);
}

static um_status test_callable(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, (unsigned)IS_CALLABLE, out);
}

static um_status test_escaped(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer_kind(call, 0u, out);
}

static um_status test_true(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer(out, call->self.kind == JINJA_BOOL && call->self.as.boolean);
}

static um_status test_false(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer(out, call->self.kind == JINJA_BOOL && !call->self.as.boolean);
}

static um_status remainder_of(jinja_run *run, jinja_value a, jinja_value b, int64_t wanted,
                              jinja_value *out) {
    jinja_value rest;
    bool is_equal;
    TRY(jinja_operators_binary(run, JINJA_TOKEN_MOD, a, b, &rest));
    TRY(jinja_value_equal(run, rest, jinja_value_int(wanted), &is_equal));
    return answer(out, is_equal);
}

static um_status test_odd(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return remainder_of(run, call->self, jinja_value_int(2), 1, out);
}

static um_status test_even(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return remainder_of(run, call->self, jinja_value_int(2), 0, out);
}

static um_status test_divisibleby(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return remainder_of(run, call->self, call->bound[0], 0, out);
}

static um_status compare(jinja_run *run, int op, const jinja_call *call, jinja_value *out) {
    bool is_true;
    TRY(jinja_operators_compare(run, op, call->self, call->bound[0], &is_true));
    return answer(out, is_true);
}

static um_status test_eq(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return compare(run, JINJA_TOKEN_EQ, call, out);
}

static um_status test_ne(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return compare(run, JINJA_TOKEN_NE, call, out);
}

static um_status test_lt(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return compare(run, JINJA_TOKEN_LT, call, out);
}

static um_status test_le(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return compare(run, JINJA_TOKEN_LE, call, out);
}

static um_status test_gt(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return compare(run, JINJA_TOKEN_GT, call, out);
}

static um_status test_ge(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return compare(run, JINJA_TOKEN_GE, call, out);
}

static um_status test_in(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return compare(run, JINJA_OPERAND_IN, call, out);
}

/* Identity: the same object; for scalars, which Python shares as well, the same value. */
static um_status test_sameas(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value a = call->self, b = call->bound[0];
    if (a.kind == JINJA_LIST || a.kind == JINJA_DICT || a.kind == JINJA_TUPLE)
        return answer(out, a.kind == b.kind && a.as.list == b.as.list);
    bool is_equal;
    TRY(jinja_value_equal(run, a, b, &is_equal));
    return answer(out, is_equal && a.kind == b.kind);
}

static um_status is_cased(jinja_run *run, const jinja_call *call, bool wants_upper,
                          jinja_value *out) {
    jinja_value v;
    TRY(jinja_text_of(run, call->self, &v));
    TRY(jinja_value_spend(run, v.n_bytes / 16));
    bool has_cased = false;
    for (const char *p = v.as.text, *end = p + v.n_bytes; p < end;) {
        size_t n;
        uint32_t c = jinja_utf8_read(p, end, &n);
        bool is_upper = jinja_utf8_is_upper(c), is_lower = jinja_utf8_is_lower(c);
        if (wants_upper ? is_lower : is_upper) return answer(out, false);
        has_cased = has_cased || is_upper || is_lower;
        p += n;
    }
    return answer(out, has_cased);
}

static um_status test_upper(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return is_cased(run, call, true, out);
}

static um_status test_lower(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return is_cased(run, call, false, out);
}

static um_status test_filter(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer(out, jinja_builtins_find_filter(call->self) != NULL);
}

static um_status test_test(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    return answer(out, jinja_builtins_find_test(call->self) != NULL);
}

static const jinja_builtin tests[] = {
    {"defined", "", 0, test_defined},    {"undefined", "", 0, test_undefined},
    {"none", "", 0, test_none},          {"boolean", "", 0, test_boolean},
    {"true", "", 0, test_true},          {"false", "", 0, test_false},
    {"integer", "", 0, test_integer},    {"float", "", 0, test_float},
    {"number", "", 0, test_number},      {"string", "", 0, test_string},
    {"mapping", "", 0, test_mapping},    {"sequence", "", 0, test_sequence},
    {"iterable", "", 0, test_iterable},  {"callable", "", 0, test_callable},
    {"escaped", "", 0, test_escaped},    {"odd", "", 0, test_odd},
    {"even", "", 0, test_even},          {"divisibleby", "num", 1, test_divisibleby},
    {"upper", "", 0, test_upper},        {"lower", "", 0, test_lower},
    {"sameas", "other", 1, test_sameas}, {"in", "seq", 1, test_in},
    {"filter", "", 0, test_filter},      {"test", "", 0, test_test},
    {"eq", "other", 1, test_eq},         {"equalto", "other", 1, test_eq},
    {"==", "other", 1, test_eq},         {"ne", "other", 1, test_ne},
    {"!=", "other", 1, test_ne},         {"lt", "other", 1, test_lt},
    {"lessthan", "other", 1, test_lt},   {"<", "other", 1, test_lt},
    {"le", "other", 1, test_le},         {"<=", "other", 1, test_le},
    {"gt", "other", 1, test_gt},         {"greaterthan", "other", 1, test_gt},
    {">", "other", 1, test_gt},          {"ge", "other", 1, test_ge},
    {">=", "other", 1, test_ge},         {NULL, NULL, 0, NULL},
};

/* ---- Global functions ----------------------------------------------------------------------- */

static um_status global_range(jinja_run *run, const jinja_call *call, jinja_value *out) {
    enum { ITEMS_MAX = 100000 }; /* Jinja2's sandbox has this limit */
    int64_t start = 0, stop, step;
    if (call->bound[1].kind == JINJA_MISSING) {
        TRY(jinja_builtins_integer(run, call, 0, 0, &stop));
    } else {
        TRY(jinja_builtins_integer(run, call, 0, 0, &start));
        TRY(jinja_builtins_integer(run, call, 1, 0, &stop));
    }
    TRY(jinja_builtins_integer(run, call, 2, 1, &step));
    if (step == 0) return jinja_value_fail(run, UM_INVALID, "range() step must not be zero");
    /* In unsigned numbers, where no difference of two integers overflows. */
    uint64_t n = 0, stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    if (step > 0 ? start < stop : start > stop) {
        uint64_t distance =
            step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
        n = (distance - 1) / stride + 1;
    }
    if (n > ITEMS_MAX)
        return jinja_value_fail(run, UM_INVALID, "a range of more than %d items", ITEMS_MAX);
    jinja_range *range;
    TRY(jinja_value_alloc(run, 1, sizeof *range, &range));
    *range = (jinja_range){start, stop, step, (size_t)n};
    *out = (jinja_value){.kind = JINJA_RANGE, .as.range = range};
    return UM_OK;
}

/* dict(mapping or pairs, key=value, ...) */
static um_status make_dict(jinja_run *run, const jinja_call *call, jinja_kind kind,
                           jinja_value *out) {
    jinja_value *items, *pair;
    size_t n_items, n_pair;
    if (call->n_args > 1)
        return jinja_value_fail(run, UM_INVALID, "dict expected at most 1 argument, got %zu",
                                call->n_args);
    TRY(jinja_value_dict(run, kind, out));
    jinja_dict *dict = out->as.dict;
    if (call->n_args && call->args[0].kind == JINJA_DICT) {
        const jinja_dict *from = call->args[0].as.dict;
        for (size_t i = 0; i < from->n_pairs; i++)
            TRY(jinja_value_dict_add(run, dict, from->pairs[i].key, from->pairs[i].value));
    } else if (call->n_args) {
        TRY(jinja_value_iterate(run, call->args[0], &items, &n_items));
        for (size_t i = 0; i < n_items; i++) {
            TRY(jinja_value_iterate(run, items[i], &pair, &n_pair));
            if (n_pair != 2) return jinja_value_fail(run, UM_INVALID, "dict() needs pairs");
            TRY(jinja_value_dict_set(run, dict, pair[0], pair[1]));
        }
    }
    for (size_t i = 0; i < call->n_named; i++)
        TRY(jinja_value_dict_set(run, dict, call->named[i].key, call->named[i].value));
    return UM_OK;
}

static um_status global_dict(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return make_dict(run, call, JINJA_DICT, out);
}

static um_status global_namespace(jinja_run *run, const jinja_call *call, jinja_value *out) {
    TRY(make_dict(run, call, JINJA_NAMESPACE, out));
    for (size_t i = 0; i < out->as.dict->n_pairs; i++) {
        jinja_value key = out->as.dict->pairs[i].key;
        if (key.kind == JINJA_STRING && key.n_bytes && key.as.text[0] == '_')
            return jinja_value_fail(run, UM_INVALID,
                                    "a namespace cannot store underscore-prefixed attributes");
    }
    return UM_OK;
}

/* The template's own refusal: its message is the error, as it is. */
static um_status global_raise_exception(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value message;
    TRY(jinja_text_of(run, call->bound[0], &message));
    *out = message;
    size_t n = message.n_bytes < 600 ? message.n_bytes : 600;
    while (n < message.n_bytes && n && ((unsigned char)message.as.text[n] & 0xC0) == 0x80) n--;
    FAIL(UM_INVALID, run->err, "%.*s", (int)n, n ? message.as.text : "");
}

static um_status global_strftime_now(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value format = call->bound[0];
    char text[1024], pattern[256];
    if (format.kind != JINJA_STRING || format.n_bytes >= sizeof pattern)
        return jinja_value_fail(run, UM_INVALID, "strftime_now() needs a short string");
    if (format.n_bytes) memcpy(pattern, format.as.text, format.n_bytes);
    pattern[format.n_bytes] = '\0';
    time_t now = time(NULL);
    struct tm broken;
    if (!localtime_r(&now, &broken))
        return jinja_value_fail(run, UM_INVALID, "the clock has no date");
    size_t n = strftime(text, sizeof text, pattern, &broken);
    if (!jinja_utf8_is_valid(text, n))
        return jinja_value_fail(run, UM_INVALID, "the date is not UTF-8");
    return jinja_value_copy_text(run, text, n, out);
}

static const jinja_builtin globals[] = {
    {"range", "start stop step", 1, global_range},
    {"dict", NULL, 0, global_dict},
    {"namespace", NULL, 0, global_namespace},
    {"raise_exception", "message", 1, global_raise_exception},
    {"strftime_now", "format", 1, global_strftime_now},
    {NULL, NULL, 0, NULL},
};

/* ---- Lookup --------------------------------------------------------------------------------- */

static const jinja_builtin *find(const jinja_builtin *table, jinja_value name) {
    if (name.kind != JINJA_STRING) return NULL;
    for (; table->name; table++)
        if (jinja_value_equals_text(name, table->name)) return table;
    return NULL;
}

const jinja_builtin *jinja_builtins_find_filter(jinja_value name) {
    const jinja_builtin *found = find(jinja_filters, name);
    return found ? found : find(jinja_sequences, name);
}

const jinja_builtin *jinja_builtins_find_test(jinja_value name) {
    return find(tests, name);
}

const jinja_builtin *jinja_builtins_find_global(jinja_value name) {
    return find(globals, name);
}

const jinja_builtin *jinja_builtins_find_method(jinja_value self, jinja_value name) {
    switch ((jinja_kind)self.kind) {
        case JINJA_STRING:
            return find(jinja_string_methods, name);
        case JINJA_DICT:
            return find(jinja_dict_methods, name);
        case JINJA_LIST:
            return find(jinja_list_methods, name);
        case JINJA_TUPLE:
            if (jinja_value_equals_text(name, "index") || jinja_value_equals_text(name, "count"))
                return find(jinja_list_methods, name);
            return NULL;
        default:
            return NULL;
    }
}

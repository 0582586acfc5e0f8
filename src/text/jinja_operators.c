/* SPDX-License-Identifier: Apache-2.0
 *
 * Arithmetic, comparison and slicing with Python's rules: floor division rounds down, the remainder
 * takes the sign of the divisor, a slice never fails. Integers have 64 bits and say so when they
 * do not suffice.
 */
#include <math.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_utf8.h"

static um_status fail_types(jinja_run *run, int op, jinja_value a, jinja_value b) {
    if (a.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, a);
    if (b.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, b);
    return jinja_value_fail(run, UM_INVALID, "unsupported operand types for %s: '%s' and '%s'",
                            jinja_lexer_describe((jinja_token_kind)op), jinja_value_type_name(a),
                            jinja_value_type_name(b));
}

static um_status fail_overflow(jinja_run *run) {
    return jinja_value_fail(run, UM_INVALID, "an integer does not fit into 64 bits");
}

static um_status power(jinja_run *run, int64_t a, int64_t b, jinja_value *out) {
    int64_t result = 1;
    while (b > 0) {
        if (b & 1 && __builtin_mul_overflow(result, a, &result)) return fail_overflow(run);
        b >>= 1;
        if (b && __builtin_mul_overflow(a, a, &a)) return fail_overflow(run);
    }
    *out = jinja_value_int(result);
    return UM_OK;
}

static um_status integers(jinja_run *run, int op, int64_t a, int64_t b, jinja_value *out) {
    int64_t result = 0;
    bool is_over = false;
    switch (op) {
        case JINJA_TOKEN_ADD:
            is_over = __builtin_add_overflow(a, b, &result);
            break;
        case JINJA_TOKEN_SUB:
            is_over = __builtin_sub_overflow(a, b, &result);
            break;
        case JINJA_TOKEN_MUL:
            is_over = __builtin_mul_overflow(a, b, &result);
            break;
        case JINJA_TOKEN_POW:
            return power(run, a, b, out);
        default:
            if (b == 0) return jinja_value_fail(run, UM_INVALID, "division by zero");
            is_over = a == INT64_MIN && b == -1;
            if (is_over) break;
            result = op == JINJA_TOKEN_FLOORDIV ? a / b : a % b;
            if (a % b && (a < 0) != (b < 0)) result += op == JINJA_TOKEN_FLOORDIV ? -1 : b;
    }
    if (is_over) return fail_overflow(run);
    *out = jinja_value_int(result);
    return UM_OK;
}

static um_status floats(jinja_run *run, int op, double a, double b, jinja_value *out) {
    double result, rest;
    switch (op) {
        case JINJA_TOKEN_ADD:
            result = a + b;
            break;
        case JINJA_TOKEN_SUB:
            result = a - b;
            break;
        case JINJA_TOKEN_MUL:
            result = a * b;
            break;
        case JINJA_TOKEN_POW:
            if (a == 0 && b < 0) return jinja_value_fail(run, UM_INVALID, "division by zero");
            if (a < 0 && b != floor(b))
                return jinja_value_fail(run, UM_UNSUPPORTED, "a power that is a complex number");
            result = pow(a, b);
            if (isinf(result) && !isinf(a) && !isinf(b))
                return jinja_value_fail(run, UM_INVALID, "a power is out of range");
            break;
        default:
            if (b == 0) return jinja_value_fail(run, UM_INVALID, "division by zero");
            if (op == JINJA_TOKEN_DIV) {
                result = a / b;
                break;
            }
            rest = fmod(a, b);
            if (rest && (b < 0) != (rest < 0)) rest += b;
            result = op == JINJA_TOKEN_MOD ? rest : floor((a - rest) / b + 0.5);
            if (op == JINJA_TOKEN_MOD && !rest) result = copysign(0, b);
    }
    *out = jinja_value_float(result);
    return UM_OK;
}

static um_status repeat(jinja_run *run, jinja_value a, int64_t n, jinja_value *out) {
    if (n < 0) n = 0;
    size_t n_each = a.kind == JINJA_STRING ? a.n_bytes : a.as.list->n_items, n_all;
    if (__builtin_mul_overflow(n_each, (size_t)n, &n_all) || n_all > JINJA_TEXT_MAX_BYTES)
        return jinja_value_fail(run, UM_INVALID, "a repetition is too long");
    TRY(jinja_value_spend(run, n_all / 64 + (n_each ? (size_t)n / 16 : 0)));
    if (a.kind == JINJA_STRING) {
        char *text;
        TRY(jinja_value_alloc(run, n_all, 1, &text));
        for (size_t at = 0; at < n_all; at += n_each) memcpy(text + at, a.as.text, n_each);
        *out = jinja_value_text(text, n_all);
        return UM_OK;
    }
    jinja_value *items;
    TRY(jinja_value_alloc(run, n_all, sizeof *items, &items));
    for (size_t i = 0; i < n_all; i++) items[i] = a.as.list->items[i % n_each];
    return jinja_value_sequence(run, (jinja_kind)a.kind, items, n_all, out);
}

static um_status join_lists(jinja_run *run, jinja_value a, jinja_value b, jinja_value *out) {
    size_t n = a.as.list->n_items, m = b.as.list->n_items;
    jinja_value *items;
    TRY(jinja_value_alloc(run, n + m, sizeof *items, &items));
    if (n) memcpy(items, a.as.list->items, n * sizeof *items);
    if (m) memcpy(items + n, b.as.list->items, m * sizeof *items);
    return jinja_value_sequence(run, (jinja_kind)a.kind, items, n + m, out);
}

um_status jinja_operators_binary(jinja_run *run, int op, jinja_value a, jinja_value b,
                                 jinja_value *out) {
    int64_t i, j;
    bool is_a = jinja_value_is_integer(a, &i), is_b = jinja_value_is_integer(b, &j);
    if (is_a && is_b && op != JINJA_TOKEN_DIV && !(op == JINJA_TOKEN_POW && j < 0))
        return integers(run, op, i, j, out);
    if (jinja_value_is_number(a) && jinja_value_is_number(b))
        return floats(run, op, jinja_value_to_double(a), jinja_value_to_double(b), out);
    bool is_list = a.kind == JINJA_LIST || a.kind == JINJA_TUPLE;
    if (op == JINJA_TOKEN_ADD && a.kind == b.kind && a.kind == JINJA_STRING)
        return jinja_value_concat(run, a, b, out);
    if (op == JINJA_TOKEN_ADD && a.kind == b.kind && is_list) return join_lists(run, a, b, out);
    if (op == JINJA_TOKEN_MUL && is_b && (is_list || a.kind == JINJA_STRING))
        return repeat(run, a, j, out);
    if (op == JINJA_TOKEN_MUL && is_a &&
        (b.kind == JINJA_LIST || b.kind == JINJA_TUPLE || b.kind == JINJA_STRING))
        return repeat(run, b, i, out);
    if (op == JINJA_TOKEN_MOD && a.kind == JINJA_STRING && b.kind != JINJA_UNDEFINED)
        return jinja_filters_printf(run, a, b, out);
    return fail_types(run, op, a, b);
}

um_status jinja_operators_negate(jinja_run *run, jinja_value a, jinja_value *out) {
    int64_t i;
    if (a.kind == JINJA_FLOAT) {
        *out = jinja_value_float(-a.as.real);
        return UM_OK;
    }
    if (jinja_value_is_integer(a, &i)) {
        if (i == INT64_MIN) return fail_overflow(run);
        *out = jinja_value_int(-i);
        return UM_OK;
    }
    if (a.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, a);
    return jinja_value_fail(run, UM_INVALID, "bad operand type for unary -: '%s'",
                            jinja_value_type_name(a));
}

um_status jinja_operators_compare(jinja_run *run, int op, jinja_value a, jinja_value b,
                                  bool *is_true) {
    bool is_equal;
    switch (op) {
        case JINJA_TOKEN_EQ:
            return jinja_value_equal(run, a, b, is_true);
        case JINJA_TOKEN_NE:
            TRY(jinja_value_equal(run, a, b, is_true));
            *is_true = !*is_true;
            return UM_OK;
        case JINJA_TOKEN_LT:
            return jinja_value_less(run, a, b, is_true);
        case JINJA_TOKEN_GT:
            return jinja_value_less(run, b, a, is_true);
        case JINJA_TOKEN_LE:
        case JINJA_TOKEN_GE:
            TRY(op == JINJA_TOKEN_LE ? jinja_value_less(run, a, b, is_true)
                                     : jinja_value_less(run, b, a, is_true));
            TRY(jinja_value_equal(run, a, b, &is_equal));
            *is_true = *is_true || is_equal;
            return UM_OK;
        default:
            TRY(jinja_value_contains(run, b, a, is_true));
            if (op == JINJA_OPERAND_NOT_IN) *is_true = !*is_true;
            return UM_OK;
    }
}

/* ---- Slices --------------------------------------------------------------------------------- */

typedef struct bounds {
    int64_t start;
    int64_t step;
    size_t n_items;
} bounds;

/* One bound of a slice over n items, as PySlice_AdjustIndices places it. */
static int64_t place(int64_t i, int64_t n, bool is_backward) {
    if (i < 0) {
        i = i < -n ? -1 : i + n;
        return i < 0 ? (is_backward ? -1 : 0) : i;
    }
    return i >= n ? (is_backward ? n - 1 : n) : i;
}

static um_status find_bounds(jinja_run *run, const jinja_value *parts, size_t n_items,
                             bounds *found) {
    int64_t values[3] = {0, 0, 1}, n = (int64_t)n_items;
    for (int i = 0; i < 3; i++)
        if (parts[i].kind != JINJA_NONE && !jinja_value_is_integer(parts[i], &values[i]))
            return jinja_value_fail(run, UM_INVALID, "slice indices must be integers or None");
    int64_t step = values[2];
    if (step == 0) return jinja_value_fail(run, UM_INVALID, "slice step cannot be zero");
    if (step < -INT64_MAX) step = -INT64_MAX;
    bool is_backward = step < 0;
    int64_t start =
        parts[0].kind == JINJA_NONE ? (is_backward ? n - 1 : 0) : place(values[0], n, is_backward);
    int64_t stop =
        parts[1].kind == JINJA_NONE ? (is_backward ? -1 : n) : place(values[1], n, is_backward);
    found->start = start;
    found->step = step;
    found->n_items = 0;
    if (!is_backward && start < stop) found->n_items = (size_t)((stop - start - 1) / step + 1);
    if (is_backward && stop < start) found->n_items = (size_t)((start - stop - 1) / -step + 1);
    return UM_OK;
}

static um_status slice_text(jinja_run *run, jinja_value object, bounds b, jinja_value *out) {
    if (b.step == 1) {
        size_t from = jinja_utf8_offset(object.as.text, object.n_bytes, (size_t)b.start);
        size_t n = jinja_utf8_offset(object.as.text + from, object.n_bytes - from, b.n_items);
        *out = jinja_value_text(object.as.text + from, n);
        return UM_OK;
    }
    jinja_value *items;
    size_t n_items;
    TRY(jinja_value_iterate(run, object, &items, &n_items));
    char *text;
    TRY(jinja_value_alloc(run, object.n_bytes, 1, &text));
    size_t n = 0;
    for (size_t i = 0; i < b.n_items; i++) {
        jinja_value c = items[b.start + (int64_t)i * b.step];
        memcpy(text + n, c.as.text, c.n_bytes);
        n += c.n_bytes;
    }
    *out = jinja_value_text(text, n);
    return UM_OK;
}

um_status jinja_operators_slice(jinja_run *run, jinja_value object, const jinja_value *parts,
                                jinja_value *out) {
    bounds b;
    size_t n;
    if (object.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, object);
    if (object.kind == JINJA_STRING) {
        TRY(jinja_value_spend(run, 1 + object.n_bytes / 64));
        jinja_value_length(object, &n);
        TRY(find_bounds(run, parts, n, &b));
        return slice_text(run, object, b, out);
    }
    if (object.kind == JINJA_RANGE) {
        const jinja_range *range = object.as.range;
        TRY(find_bounds(run, parts, range->n_items, &b));
        jinja_range *part;
        TRY(jinja_value_alloc(run, 1, sizeof *part, &part));
        part->start = range->start + b.start * range->step;
        /* Steps past the range's end only matter for what is printed. */
        part->step = b.n_items > 1 ? b.step * range->step : range->step;
        part->stop = part->start + (int64_t)b.n_items * part->step;
        part->n_items = b.n_items;
        *out = (jinja_value){.kind = JINJA_RANGE, .as.range = part};
        return UM_OK;
    }
    if (object.kind != JINJA_LIST && object.kind != JINJA_TUPLE)
        return jinja_value_fail(run, UM_INVALID, "'%s' object has no slices",
                                jinja_value_type_name(object));
    TRY(find_bounds(run, parts, object.as.list->n_items, &b));
    if (b.step == 1)
        return jinja_value_sequence(run, (jinja_kind)object.kind,
                                    object.as.list->items + (b.n_items ? b.start : 0), b.n_items,
                                    out);
    jinja_value *items;
    TRY(jinja_value_alloc(run, b.n_items, sizeof *items, &items));
    for (size_t i = 0; i < b.n_items; i++)
        items[i] = object.as.list->items[b.start + (int64_t)i * b.step];
    return jinja_value_sequence(run, (jinja_kind)object.kind, items, b.n_items, out);
}

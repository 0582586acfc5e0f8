/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters over texts and numbers, tojson among them, and printf-style formatting. A filter that
 * works on text takes any value and converts it first, as Jinja2's do.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_builtins.h"
#include "text/jinja_eval.h"
#include "text/jinja_text.h"
#include "text/jinja_utf8.h"

/* ---- Filters that are methods of strings ----------------------------------------------------- */

/* Runs a string method on self as text, with the same arguments. */
static um_status as_method(jinja_run *run, const jinja_call *call, const char *name,
                           jinja_value *out) {
    jinja_call method = *call;
    TRY(jinja_text_of(run, call->self, &method.self));
    return jinja_builtins_invoke(
        run, jinja_builtins_find_method(method.self, jinja_value_string(name)), &method, out);
}

static um_status filter_upper(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return as_method(run, call, "upper", out);
}

static um_status filter_lower(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return as_method(run, call, "lower", out);
}

static um_status filter_capitalize(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return as_method(run, call, "capitalize", out);
}

static um_status filter_trim(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return as_method(run, call, "strip", out);
}

static um_status filter_center(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_call method = *call;
    jinja_value width = jinja_builtins_param(call, 0, jinja_value_int(80));
    method.args = &width;
    method.n_args = 1;
    method.n_named = 0;
    return as_method(run, &method, "center", out);
}

static um_status filter_replace(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value args[3];
    jinja_call method = *call;
    TRY(jinja_text_of(run, call->bound[0], &args[0]));
    TRY(jinja_text_of(run, call->bound[1], &args[1]));
    args[2] = jinja_builtins_param(call, 2, jinja_value_none());
    if (args[2].kind == JINJA_NONE) args[2] = jinja_value_int(-1);
    method.args = args;
    method.n_args = 3;
    method.n_named = 0;
    return as_method(run, &method, "replace", out);
}

/* Words begin after spaces, hyphens and opening brackets. */
static um_status filter_title(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value v;
    TRY(jinja_text_of(run, call->self, &v));
    TRY(jinja_value_spend(run, v.n_bytes / 8));
    strbuf buf;
    jinja_text_begin(&buf);
    bool is_start = true;
    for (const char *p = v.as.text, *end = p + v.n_bytes; p < end;) {
        size_t n;
        uint32_t c = jinja_utf8_read(p, end, &n), mapped[3];
        if (jinja_utf8_is_space(c) || (c < 128 && c && strchr("-({[<", (int)c))) {
            strbuf_append(&buf, p, n);
            is_start = true;
        } else if (is_start) {
            size_t n_upper = jinja_utf8_upper(c, mapped);
            for (size_t i = 0; i < n_upper; i++) strbuf_append_codepoint(&buf, mapped[i]);
            is_start = false;
        } else {
            size_t n_lower = jinja_utf8_lower(c, mapped);
            for (size_t i = 0; i < n_lower; i++) strbuf_append_codepoint(&buf, mapped[i]);
        }
        p += n;
    }
    return jinja_value_take(run, &buf, out);
}

/* ---- Other text filters ---------------------------------------------------------------------- */

static um_status filter_string(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return jinja_text_of(run, call->self, out);
}

static um_status filter_escape(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value v;
    TRY(jinja_text_of(run, call->self, &v));
    TRY(jinja_value_spend(run, v.n_bytes / 16));
    strbuf buf;
    jinja_text_begin(&buf);
    for (size_t i = 0; i < v.n_bytes; i++) {
        char c = v.as.text[i];
        switch (c) {
            case '&':
                strbuf_append_string(&buf, "&amp;");
                break;
            case '<':
                strbuf_append_string(&buf, "&lt;");
                break;
            case '>':
                strbuf_append_string(&buf, "&gt;");
                break;
            case '"':
                strbuf_append_string(&buf, "&#34;");
                break;
            case '\'':
                strbuf_append_string(&buf, "&#39;");
                break;
            default:
                strbuf_append_char(&buf, c);
        }
    }
    return jinja_value_take(run, &buf, out);
}

static um_status filter_indent(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value v = call->self, width = jinja_builtins_param(call, 0, jinja_value_int(4));
    bool does_first = jinja_builtins_flag(call, 1, false);
    bool does_blank = jinja_builtins_flag(call, 2, false);
    if (v.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, v);
    if (v.kind != JINJA_STRING) return jinja_value_fail(run, UM_INVALID, "indent needs a string");
    int64_t n_spaces = 0;
    if (width.kind != JINJA_STRING) TRY(jinja_builtins_integer(run, call, 0, 4, &n_spaces));
    if (n_spaces > 10000) return jinja_value_fail(run, UM_INVALID, "an indent is too wide");
    TRY(jinja_value_spend(run, v.n_bytes / 16));
    strbuf buf;
    jinja_text_begin(&buf);
    const char *p = v.as.text, *end = p + v.n_bytes;
    bool is_first = true, has_ended = false;
    /* The lines are those of the text with one more newline, so an empty last line counts. */
    while (!has_ended) {
        const char *start = p;
        size_t n = 0;
        uint32_t c = 0;
        while (p < end) {
            c = jinja_utf8_read(p, end, &n);
            if (jinja_utf8_is_line_end(c)) break;
            p += n;
        }
        has_ended = p == end;
        if (!is_first) strbuf_append_char(&buf, '\n');
        if (is_first ? does_first : does_blank || p > start) {
            if (width.kind == JINJA_STRING) strbuf_append(&buf, width.as.text, width.n_bytes);
            for (int64_t i = 0; i < n_spaces && !buf.has_failed; i++) strbuf_append_char(&buf, ' ');
        }
        strbuf_append(&buf, start, (size_t)(p - start));
        is_first = false;
        if (has_ended) break;
        p += n;
        if (c == '\r' && p < end && *p == '\n') p++;
    }
    return jinja_value_take(run, &buf, out);
}

static um_status filter_wordcount(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value v;
    TRY(jinja_text_of(run, call->self, &v));
    TRY(jinja_value_spend(run, v.n_bytes / 16));
    int64_t n_words = 0;
    bool is_inside = false;
    for (const char *p = v.as.text, *end = p + v.n_bytes; p < end;) {
        size_t n;
        uint32_t c = jinja_utf8_read(p, end, &n);
        bool is_word = c == '_' || jinja_utf8_is_alpha(c) || jinja_utf8_is_digit(c);
        n_words += is_word && !is_inside;
        is_inside = is_word;
        p += n;
    }
    *out = jinja_value_int(n_words);
    return UM_OK;
}

/* tojson as transformers defines it: json.dumps without HTML escapes. */
static um_status filter_tojson(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value indent = jinja_builtins_param(call, 1, jinja_value_none());
    jinja_value separators = jinja_builtins_param(call, 2, jinja_value_none());
    jinja_json_style style = {.is_ascii = jinja_builtins_flag(call, 0, false),
                              .is_sorted = jinja_builtins_flag(call, 3, false),
                              .item_separator = jinja_value_string(", "),
                              .key_separator = jinja_value_string(": ")};
    int64_t n_spaces;
    if (indent.kind == JINJA_STRING) {
        style.indent = indent.as.text;
        style.n_indent = indent.n_bytes;
    } else if (indent.kind != JINJA_NONE) {
        static const char spaces[] = "                                ";
        TRY(jinja_builtins_integer(run, call, 1, 0, &n_spaces));
        if (n_spaces >= (int64_t)sizeof spaces)
            return jinja_value_fail(run, UM_INVALID, "an indent is too wide");
        style.indent = spaces;
        style.n_indent = n_spaces > 0 ? (size_t)n_spaces : 0;
    }
    if (style.indent) style.item_separator = jinja_value_string(",");
    if (separators.kind != JINJA_NONE) {
        jinja_value *items;
        size_t n_items;
        TRY(jinja_value_iterate(run, separators, &items, &n_items));
        if (n_items != 2 || items[0].kind != JINJA_STRING || items[1].kind != JINJA_STRING)
            return jinja_value_fail(run, UM_INVALID, "separators must be two strings");
        style.item_separator = items[0];
        style.key_separator = items[1];
    }
    strbuf buf;
    jinja_text_begin(&buf);
    um_status status = jinja_text_append_json(run, call->self, &style, &buf);
    if (status == UM_OK) return jinja_value_take(run, &buf, out);
    strbuf_deinit(&buf);
    return status;
}

/* ---- Numbers --------------------------------------------------------------------------------- */

/* Python's float(text): spaces around, underscores between digits, inf and nan. */
static bool parse_float(jinja_value v, double *out) {
    char text[512];
    size_t n = 0;
    const char *p = v.as.text, *end = p + v.n_bytes;
    while (p < end && jinja_utf8_is_space((unsigned char)*p)) p++;
    while (end > p && jinja_utf8_is_space((unsigned char)end[-1])) end--;
    for (; p < end; p++) {
        if (*p == '_') {
            if (!n || p + 1 == end || text[n - 1] < '0' || text[n - 1] > '9') return false;
            continue;
        }
        if (n + 1 == sizeof text || !strchr("0123456789+-.eEinfatyINFATY", *p)) return false;
        text[n++] = *p;
    }
    text[n] = '\0';
    if (!n) return false;
    /* strtod reads the locale's point; a template's is always a dot. */
    char *dot = strchr(text, '.');
    char probe[8];
    snprintf(probe, sizeof probe, "%.1f", 0.5);
    if (dot) *dot = probe[1];
    char *stop;
    *out = strtod(text, &stop);
    return *stop == '\0';
}

/* Python's int(text, base). */
static bool parse_int(jinja_value v, int64_t base, int64_t *out) {
    const char *p = v.as.text, *end = p + v.n_bytes;
    while (p < end && jinja_utf8_is_space((unsigned char)*p)) p++;
    while (end > p && jinja_utf8_is_space((unsigned char)end[-1])) end--;
    bool is_negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    if (end - p > 2 && *p == '0') {
        char c = (char)(p[1] | 32);
        int64_t prefix = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        if (prefix && (base == prefix || base == 0)) {
            base = prefix;
            p += 2 + (p[2] == '_');
        }
    }
    if (base == 0) base = 10;
    if (p == end) return false;
    int64_t value = 0;
    for (const char *start = p; p < end; p++) {
        if (*p == '_' && p > start && p[-1] != '_' && p + 1 < end) continue;
        int digit = *p >= '0' && *p <= '9'                 ? *p - '0'
                    : (*p | 32) >= 'a' && (*p | 32) <= 'z' ? (*p | 32) - 'a' + 10
                                                           : 99;
        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_sub_overflow(value, digit, &value))
            return false;
    }
    if (!is_negative && value == INT64_MIN) return false;
    *out = is_negative ? value : -value;
    return true;
}

static um_status float_to_int(jinja_run *run, double d, jinja_value fallback, jinja_value *out) {
    if (isnan(d) || isinf(d)) {
        *out = fallback;
        return UM_OK;
    }
    if (d >= 9223372036854775808.0 || d < -9223372036854775808.0)
        return jinja_value_fail(run, UM_INVALID, "an integer does not fit into 64 bits");
    *out = jinja_value_int((int64_t)d);
    return UM_OK;
}

static um_status filter_int(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value v = call->self, fallback = jinja_builtins_param(call, 0, jinja_value_int(0));
    int64_t base, i;
    double d;
    TRY(jinja_builtins_integer(run, call, 1, 10, &base));
    TRY(jinja_value_spend(run, v.kind == JINJA_STRING ? v.n_bytes / 64 : 0));
    if (v.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, v);
    if (v.kind == JINJA_FLOAT) return float_to_int(run, v.as.real, fallback, out);
    if (jinja_value_is_integer(v, &i) || (v.kind == JINJA_STRING && parse_int(v, base, &i))) {
        *out = jinja_value_int(i);
        return UM_OK;
    }
    if (v.kind == JINJA_STRING && parse_float(v, &d)) return float_to_int(run, d, fallback, out);
    *out = fallback;
    return UM_OK;
}

static um_status filter_float(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value v = call->self;
    double d;
    if (v.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, v);
    if (jinja_value_is_number(v))
        *out = jinja_value_float(jinja_value_to_double(v));
    else if (v.kind == JINJA_STRING && parse_float(v, &d))
        *out = jinja_value_float(d);
    else
        *out = jinja_builtins_param(call, 0, jinja_value_float(0));
    return UM_OK;
}

static um_status filter_abs(jinja_run *run, const jinja_call *call, jinja_value *out) {
    int64_t i;
    if (call->self.kind == JINJA_FLOAT) {
        *out = jinja_value_float(fabs(call->self.as.real));
        return UM_OK;
    }
    if (!jinja_value_is_integer(call->self, &i))
        return jinja_value_fail(run, UM_INVALID, "bad operand type for abs(): '%s'",
                                jinja_value_type_name(call->self));
    if (i < 0) return jinja_operators_negate(run, jinja_value_int(i), out);
    *out = jinja_value_int(i);
    return UM_OK;
}

/* round() of Python works on the exact decimal value, which is what printf prints. */
static double round_common(double d, int64_t precision) {
    char text[512];
    if (isnan(d) || isinf(d) || precision > 300) return d;
    if (precision >= 0) {
        if (fabs(d) > 1e22) return d;
        snprintf(text, sizeof text, "%.*f", (int)precision, d);
        return strtod(text, NULL);
    }
    if (precision < -308) return 0;
    double unit = pow(10, (double)-precision);
    return nearbyint(d / unit) * unit;
}

static um_status filter_round(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value v = call->self;
    jinja_value method = jinja_builtins_param(call, 1, jinja_value_string("common"));
    int64_t precision, i;
    TRY(jinja_builtins_integer(run, call, 0, 0, &precision));
    if (v.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, v);
    if (!jinja_value_is_number(v))
        return jinja_value_fail(run, UM_INVALID, "type %s cannot be rounded",
                                jinja_value_type_name(v));
    bool is_integer = jinja_value_is_integer(v, &i);
    double d = jinja_value_to_double(v), unit = pow(10, (double)precision);
    if (jinja_value_equals_text(method, "common")) {
        if (!is_integer)
            *out = jinja_value_float(round_common(d, precision));
        else if (precision >= 0)
            *out = jinja_value_int(i);
        else
            return float_to_int(run, round_common(d, precision), jinja_value_int(0), out);
        return UM_OK;
    }
    bool is_ceil = jinja_value_equals_text(method, "ceil");
    if (!is_ceil && !jinja_value_equals_text(method, "floor"))
        return jinja_value_fail(run, UM_INVALID, "method must be common, ceil or floor");
    if (isnan(d) || isinf(d * unit))
        return jinja_value_fail(run, UM_INVALID, "a number is too large to be rounded");
    *out = jinja_value_float((is_ceil ? ceil(d * unit) : floor(d * unit)) / unit);
    return UM_OK;
}

/* ---- printf ---------------------------------------------------------------------------------- */

typedef struct conversion {
    char flags[8];
    int width;
    int precision; /* -1: none */
    char letter;
} conversion;

static void pad(strbuf *buf, const char *text, size_t n_bytes, const conversion *c) {
    size_t n = jinja_utf8_count(text, n_bytes);
    size_t n_pad = c->width > 0 && (size_t)c->width > n ? (size_t)c->width - n : 0;
    bool is_left = strchr(c->flags, '-');
    for (size_t i = 0; !is_left && i < n_pad; i++) strbuf_append_char(buf, ' ');
    strbuf_append(buf, text, n_bytes);
    for (size_t i = 0; is_left && i < n_pad; i++) strbuf_append_char(buf, ' ');
}

static um_status convert_text(jinja_run *run, jinja_value v, const conversion *c, strbuf *buf) {
    strbuf text;
    jinja_text_begin(&text);
    um_status status =
        c->letter == 's' ? jinja_text_append(run, v, &text) : jinja_text_append_repr(run, v, &text);
    jinja_value taken;
    if (status == UM_OK) {
        TRY(jinja_value_take(run, &text, &taken));
    } else {
        strbuf_deinit(&text);
        return status;
    }
    size_t n = taken.n_bytes;
    if (c->precision >= 0) n = jinja_utf8_offset(taken.as.text, n, (size_t)c->precision);
    pad(buf, taken.as.text, n, c);
    return UM_OK;
}

static um_status convert_number(jinja_run *run, jinja_value v, const conversion *c, strbuf *buf) {
    char format[24], text[512];
    if (v.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, v);
    if (!jinja_value_is_number(v))
        return jinja_value_fail(run, UM_INVALID, "%%%c format: a number is required, not %s",
                                c->letter, jinja_value_type_name(v));
    int precision = c->precision;
    if (c->width > 400 || precision > 60)
        return jinja_value_fail(run, UM_UNSUPPORTED, "a format is too wide");
    if (strchr("fFeEgG", c->letter)) {
        double d = jinja_value_to_double(v);
        if (fabs(d) > 1e60 && strchr("fF", c->letter) && !isinf(d))
            return jinja_value_fail(run, UM_UNSUPPORTED, "a number is too long to be printed");
        snprintf(format, sizeof format, "%%%s*.*%c", c->flags, c->letter);
        snprintf(text, sizeof text, format, c->width, precision < 0 ? 6 : precision, d);
    } else {
        int64_t i;
        if (v.kind == JINJA_FLOAT && c->letter != 'd' && c->letter != 'i' && c->letter != 'u')
            return jinja_value_fail(run, UM_INVALID,
                                    "%%%c format: an integer is required, not float", c->letter);
        if (!jinja_value_is_integer(v, &i)) {
            jinja_value whole = jinja_value_int(0);
            TRY(float_to_int(run, v.as.real, jinja_value_int(0), &whole));
            i = whole.as.integer;
        }
        if (i < 0 && strchr("xXo", c->letter))
            return jinja_value_fail(run, UM_UNSUPPORTED, "%%%c of a negative number", c->letter);
        snprintf(format, sizeof format, "%%%s*.*ll%c", c->flags,
                 c->letter == 'u' ? 'd' : c->letter);
        snprintf(text, sizeof text, format, c->width, precision, (long long)i);
    }
    strbuf_append_string(buf, text);
    return UM_OK;
}

static um_status convert(jinja_run *run, jinja_value v, const conversion *c, strbuf *buf) {
    int64_t i;
    switch (c->letter) {
        case 's':
        case 'r':
            return convert_text(run, v, c, buf);
        case 'c':
            if (v.kind == JINJA_STRING && jinja_utf8_count(v.as.text, v.n_bytes) == 1) {
                pad(buf, v.as.text, v.n_bytes, c);
                return UM_OK;
            }
            if (jinja_value_is_integer(v, &i) && i > 0 && i < 0xD800) {
                char utf8[4];
                pad(buf, utf8, jinja_utf8_write((uint32_t)i, utf8), c);
                return UM_OK;
            }
            return jinja_value_fail(run, UM_INVALID, "%%c requires an integer or a character");
        case 'd':
        case 'i':
        case 'u':
        case 'x':
        case 'X':
        case 'o':
        case 'f':
        case 'F':
        case 'e':
        case 'E':
        case 'g':
        case 'G':
            return convert_number(run, v, c, buf);
        default:
            return jinja_value_fail(run, UM_INVALID, "unsupported format character");
    }
}

/* Reads a number, or a star that takes an argument; digits past five are refused by the caller. */
static int read_number(const char **p, const char *end) {
    int n = 0;
    while (*p < end && **p >= '0' && **p <= '9') {
        if (n < 100000) n = n * 10 + (**p - '0');
        (*p)++;
    }
    return n;
}

static um_status printf_into(jinja_run *run, jinja_value format, jinja_value argument,
                             strbuf *buf) {
    const char *p = format.as.text, *end = p + format.n_bytes;
    bool is_tuple = argument.kind == JINJA_TUPLE;
    size_t n_args = is_tuple ? argument.as.list->n_items : 1, i_arg = 0;
    bool has_named = false;
    while (p < end && !buf->has_failed) {
        if (*p != '%') {
            strbuf_append_char(buf, *p++);
            continue;
        }
        p++;
        if (p < end && *p == '%') {
            strbuf_append_char(buf, *p++);
            continue;
        }
        jinja_value v = argument;
        bool is_named = p < end && *p == '(';
        if (is_named) {
            const char *name = ++p;
            while (p < end && *p != ')') p++;
            if (p == end || argument.kind != JINJA_DICT)
                return jinja_value_fail(run, UM_INVALID, "format requires a mapping");
            const jinja_value *found =
                jinja_value_dict_find(argument.as.dict, name, (size_t)(p++ - name));
            if (!found) return jinja_value_fail(run, UM_INVALID, "a format's key is missing");
            v = *found;
            has_named = true;
        }
        conversion c = {.precision = -1};
        for (size_t n = 0; p < end && strchr("-+ 0#", *p) && n + 1 < sizeof c.flags; p++)
            if (!strchr(c.flags, *p)) c.flags[n++] = *p;
        c.width = read_number(&p, end);
        if (p < end && *p == '.') {
            p++;
            c.precision = read_number(&p, end);
        }
        if (c.width >= 100000 || c.precision >= 100000)
            return jinja_value_fail(run, UM_INVALID, "a format is too wide");
        if (p == end) return jinja_value_fail(run, UM_INVALID, "incomplete format");
        c.letter = *p++;
        if (!is_named) {
            if (i_arg >= n_args)
                return jinja_value_fail(run, UM_INVALID, "not enough arguments for format string");
            if (is_tuple) v = argument.as.list->items[i_arg];
            i_arg++;
        }
        TRY(convert(run, v, &c, buf));
    }
    if (i_arg < n_args && !has_named && argument.kind != JINJA_DICT && argument.kind != JINJA_LIST)
        return jinja_value_fail(run, UM_INVALID, "not all arguments converted");
    return jinja_value_spend(run, format.n_bytes / 16);
}

um_status jinja_filters_printf(jinja_run *run, jinja_value format, jinja_value argument,
                               jinja_value *out) {
    strbuf buf;
    jinja_text_begin(&buf);
    um_status status = printf_into(run, format, argument, &buf);
    if (status == UM_OK) return jinja_value_take(run, &buf, out);
    strbuf_deinit(&buf);
    return status;
}

static um_status filter_format(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value format, argument;
    TRY(jinja_text_of(run, call->self, &format));
    if (call->n_args && call->n_named)
        return jinja_value_fail(run, UM_INVALID, "format takes positional or keyword arguments");
    jinja_value *items;
    TRY(jinja_value_alloc(run, call->n_args, sizeof *items, &items));
    if (call->n_args) memcpy(items, call->args, call->n_args * sizeof *items);
    TRY(jinja_value_sequence(run, JINJA_TUPLE, items, call->n_args, &argument));
    if (call->n_named) {
        TRY(jinja_value_dict(run, JINJA_DICT, &argument));
        for (size_t i = 0; i < call->n_named; i++)
            TRY(jinja_value_dict_add(run, argument.as.dict, call->named[i].key,
                                     call->named[i].value));
    }
    return jinja_filters_printf(run, format, argument, out);
}

static um_status filter_default(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    bool is_absent = call->self.kind == JINJA_UNDEFINED ||
                     (jinja_builtins_flag(call, 1, false) && !jinja_value_truth(call->self));
    *out = is_absent ? jinja_builtins_param(call, 0, jinja_value_string("")) : call->self;
    return UM_OK;
}

const jinja_builtin jinja_filters[] = {
    {"trim", "chars", 0, filter_trim},
    {"tojson", "ensure_ascii indent separators sort_keys", 0, filter_tojson},
    {"upper", "", 0, filter_upper},
    {"lower", "", 0, filter_lower},
    {"title", "", 0, filter_title},
    {"capitalize", "", 0, filter_capitalize},
    {"replace", "old new count", 2, filter_replace},
    {"default", "default_value boolean", 0, filter_default},
    {"d", "default_value boolean", 0, filter_default},
    {"string", "", 0, filter_string},
    {"safe", "", 0, filter_string},
    {"escape", "", 0, filter_escape},
    {"e", "", 0, filter_escape},
    {"forceescape", "", 0, filter_escape},
    {"indent", "width first blank", 0, filter_indent},
    {"center", "width", 0, filter_center},
    {"wordcount", "", 0, filter_wordcount},
    {"format", NULL, 0, filter_format},
    {"int", "default base", 0, filter_int},
    {"float", "default", 0, filter_float},
    {"abs", "", 0, filter_abs},
    {"round", "precision method", 0, filter_round},
    {NULL, NULL, 0, NULL},
};

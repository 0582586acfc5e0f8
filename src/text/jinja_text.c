/* SPDX-License-Identifier: Apache-2.0
 *
 * Python's conversions to text. The float digits come from printf at rising precision until they
 * read back: slow, short, and right in every locale, because only digits are taken from its output.
 * Once a buffer is full, loops over it stop; jinja_value_take reports that.
 */
#include "text/jinja_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_builtins.h"
#include "text/jinja_exec.h"
#include "text/jinja_utf8.h"

void jinja_text_begin(strbuf *buf) {
    strbuf_init(buf);
    buf->limit = JINJA_TEXT_MAX_BYTES;
}

void jinja_text_append_float(double d, strbuf *buf) {
    if (isnan(d)) {
        strbuf_append_string(buf, "nan");
        return;
    }
    if (isinf(d)) {
        strbuf_append_string(buf, d < 0 ? "-inf" : "inf");
        return;
    }
    char text[64], digits[32];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, d);
        if (strtod(text, NULL) == d) break;
    }
    int n = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    int exponent = *p ? atoi(p + 1) : 0;
    if (signbit(d)) strbuf_append_char(buf, '-');
    if (exponent < -4 || exponent >= 16) {
        strbuf_append_char(buf, digits[0]);
        if (n > 1) {
            strbuf_append_char(buf, '.');
            strbuf_append(buf, digits + 1, (size_t)(n - 1));
        }
        strbuf_append_format(buf, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    if (exponent < 0) {
        strbuf_append_string(buf, "0.");
        for (int i = -1; i > exponent; i--) strbuf_append_char(buf, '0');
        strbuf_append(buf, digits, (size_t)n);
        return;
    }
    for (int i = 0; i < n || i <= exponent; i++) {
        if (i == exponent + 1) strbuf_append_char(buf, '.');
        strbuf_append_char(buf, i < n ? digits[i] : '0');
    }
    if (n <= exponent + 1) strbuf_append_string(buf, ".0");
}

static void append_quoted(jinja_value v, strbuf *buf) {
    const char *p = v.as.text, *end = p + v.n_bytes;
    bool has_single = v.n_bytes && memchr(p, '\'', v.n_bytes);
    char quote = has_single && !memchr(p, '"', v.n_bytes) ? '"' : '\'';
    strbuf_append_char(buf, quote);
    while (p < end) {
        size_t n;
        uint32_t c = jinja_utf8_read(p, end, &n);
        if (c == (uint32_t)quote || c == '\\')
            strbuf_append_format(buf, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            strbuf_append_format(buf, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if ((c >= 32 && c < 127) || (c > 127 && jinja_utf8_is_printable(c)))
            strbuf_append(buf, p, n);
        else if (c < 0x100)
            strbuf_append_format(buf, "\\x%02x", (unsigned)c);
        else
            strbuf_append_format(buf, c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
        p += n;
    }
    strbuf_append_char(buf, quote);
}

static um_status enter(jinja_run *run) {
    if (run->depth >= JINJA_EVAL_DEPTH_MAX)
        return jinja_value_fail(run, UM_INVALID, "values nest too deep");
    run->depth++;
    return UM_OK;
}

static um_status append_list(jinja_run *run, const jinja_list *list, const char *open,
                             const char *close, strbuf *buf) {
    strbuf_append_string(buf, open);
    for (size_t i = 0; i < list->n_items && !buf->has_failed; i++) {
        if (i) strbuf_append_string(buf, ", ");
        TRY(jinja_text_append_repr(run, list->items[i], buf));
    }
    strbuf_append_string(buf, close);
    return UM_OK;
}

static um_status append_dict(jinja_run *run, const jinja_dict *dict, strbuf *buf) {
    strbuf_append_char(buf, '{');
    for (size_t i = 0; i < dict->n_pairs && !buf->has_failed; i++) {
        if (i) strbuf_append_string(buf, ", ");
        TRY(jinja_text_append_repr(run, dict->pairs[i].key, buf));
        strbuf_append_string(buf, ": ");
        TRY(jinja_text_append_repr(run, dict->pairs[i].value, buf));
    }
    strbuf_append_char(buf, '}');
    return UM_OK;
}

static um_status append_container(jinja_run *run, jinja_value v, strbuf *buf) {
    const jinja_range *range = v.as.range;
    switch ((jinja_kind)v.kind) {
        case JINJA_LIST:
            return append_list(run, v.as.list, "[", "]", buf);
        case JINJA_TUPLE:
            return append_list(run, v.as.list, "(", v.as.list->n_items == 1 ? ",)" : ")", buf);
        case JINJA_VIEW:
            strbuf_append_string(buf, v.as.list->name);
            return append_list(run, v.as.list, "([", "])", buf);
        case JINJA_DICT:
            return append_dict(run, v.as.dict, buf);
        case JINJA_NAMESPACE:
            strbuf_append_string(buf, "<Namespace ");
            TRY(append_dict(run, v.as.dict, buf));
            strbuf_append_char(buf, '>');
            return UM_OK;
        case JINJA_RANGE:
            strbuf_append_format(buf, "range(%lld, %lld", (long long)range->start,
                                 (long long)range->stop);
            if (range->step != 1) strbuf_append_format(buf, ", %lld", (long long)range->step);
            strbuf_append_char(buf, ')');
            return UM_OK;
        case JINJA_LOOP:
            return jinja_exec_append_loop(run, v.as.loop, buf);
        case JINJA_MACRO:
            strbuf_append_string(buf, "<Macro ");
            append_quoted(jinja_exec_macro_name(v.as.macro), buf);
            strbuf_append_char(buf, '>');
            return UM_OK;
        default: /* Python prints an address, which no template can want. */
            strbuf_append_format(buf, "<%s object>", jinja_value_type_name(v));
            return UM_OK;
    }
}

um_status jinja_text_append_repr(jinja_run *run, jinja_value v, strbuf *buf) {
    if (v.kind == JINJA_STRING) {
        append_quoted(v, buf);
        return jinja_value_spend(run, 1 + v.n_bytes / 64);
    }
    if (v.kind == JINJA_UNDEFINED) {
        strbuf_append_string(buf, "Undefined");
        return UM_OK;
    }
    return jinja_text_append(run, v, buf);
}

um_status jinja_text_append(jinja_run *run, jinja_value v, strbuf *buf) {
    TRY(jinja_value_spend(run, 1));
    um_status status;
    switch ((jinja_kind)v.kind) {
        case JINJA_UNDEFINED:
        case JINJA_MISSING:
            return UM_OK;
        case JINJA_NONE:
            strbuf_append_string(buf, "None");
            return UM_OK;
        case JINJA_BOOL:
            strbuf_append_string(buf, v.as.boolean ? "True" : "False");
            return UM_OK;
        case JINJA_INT:
            strbuf_append_format(buf, "%lld", (long long)v.as.integer);
            return UM_OK;
        case JINJA_FLOAT:
            jinja_text_append_float(v.as.real, buf);
            return UM_OK;
        case JINJA_STRING:
            strbuf_append(buf, v.as.text, v.n_bytes);
            return jinja_value_spend(run, v.n_bytes / 64);
        default:
            TRY(enter(run));
            status = append_container(run, v, buf);
            run->depth--;
            return status;
    }
}

um_status jinja_text_of(jinja_run *run, jinja_value v, jinja_value *out) {
    if (v.kind == JINJA_STRING) {
        *out = v;
        return UM_OK;
    }
    strbuf buf;
    jinja_text_begin(&buf);
    um_status status = jinja_text_append(run, v, &buf);
    if (status == UM_OK) return jinja_value_take(run, &buf, out);
    strbuf_deinit(&buf);
    return status;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

/* The letter after the backslash for characters that have one, else 0. */
static char json_escape(uint32_t c) {
    switch (c) {
        case '"':
        case '\\':
            return (char)c;
        case '\n':
            return 'n';
        case '\r':
            return 'r';
        case '\t':
            return 't';
        case '\f':
            return 'f';
        case '\b':
            return 'b';
        default:
            return 0;
    }
}

static void append_json_text(jinja_value v, bool is_ascii, strbuf *buf) {
    const char *p = v.as.text, *end = p + v.n_bytes;
    strbuf_append_char(buf, '"');
    while (p < end) {
        size_t n;
        uint32_t c = jinja_utf8_read(p, end, &n);
        if (json_escape(c))
            strbuf_append_format(buf, "\\%c", json_escape(c));
        else if (c < 32 || (is_ascii && c > 127 && c < 0x10000))
            strbuf_append_format(buf, "\\u%04x", (unsigned)c);
        else if (is_ascii && c >= 0x10000)
            strbuf_append_format(buf, "\\u%04x\\u%04x", 0xD7C0u + (unsigned)(c >> 10),
                                 0xDC00u + (unsigned)(c & 0x3FF));
        else
            strbuf_append(buf, p, n);
        p += n;
    }
    strbuf_append_char(buf, '"');
}

static void append_json_float(double d, strbuf *buf) {
    if (isnan(d))
        strbuf_append_string(buf, "NaN");
    else if (isinf(d))
        strbuf_append_string(buf, d < 0 ? "-Infinity" : "Infinity");
    else
        jinja_text_append_float(d, buf);
}

static void append_line(const jinja_json_style *style, int level, strbuf *buf) {
    if (!style->indent) return;
    strbuf_append_char(buf, '\n');
    for (int i = 0; i < level; i++) strbuf_append(buf, style->indent, style->n_indent);
}

static um_status append_json(jinja_run *run, jinja_value v, const jinja_json_style *style,
                             int level, strbuf *buf);

static um_status append_json_list(jinja_run *run, const jinja_list *list,
                                  const jinja_json_style *style, int level, strbuf *buf) {
    strbuf_append_char(buf, '[');
    for (size_t i = 0; i < list->n_items && !buf->has_failed; i++) {
        if (i) strbuf_append(buf, style->item_separator.as.text, style->item_separator.n_bytes);
        append_line(style, level + 1, buf);
        TRY(append_json(run, list->items[i], style, level + 1, buf));
    }
    if (list->n_items) append_line(style, level, buf);
    strbuf_append_char(buf, ']');
    return UM_OK;
}

static um_status append_json_key(jinja_run *run, jinja_value key, bool is_ascii, strbuf *buf) {
    if (key.kind == JINJA_STRING) {
        append_json_text(key, is_ascii, buf);
        return UM_OK;
    }
    if (!jinja_value_is_number(key) && key.kind != JINJA_NONE)
        return jinja_value_fail(run, UM_INVALID, "a key of JSON cannot be of type '%s'",
                                jinja_value_type_name(key));
    strbuf_append_char(buf, '"');
    TRY(append_json(run, key, NULL, 0, buf));
    strbuf_append_char(buf, '"');
    return UM_OK;
}

/* The order of the pairs: as they are, or by key. An insertion sort: tools have few keys. */
static um_status json_order(jinja_run *run, const jinja_dict *dict, bool is_sorted,
                            const jinja_pair ***order) {
    TRY(jinja_value_alloc(run, dict->n_pairs, sizeof **order, order));
    for (size_t i = 0; i < dict->n_pairs; i++) {
        size_t at = i;
        while (is_sorted && at > 0) {
            bool is_less;
            TRY(jinja_value_less(run, dict->pairs[i].key, (*order)[at - 1]->key, &is_less));
            if (!is_less) break;
            (*order)[at] = (*order)[at - 1];
            at--;
        }
        (*order)[at] = &dict->pairs[i];
    }
    return UM_OK;
}

static um_status append_json_dict(jinja_run *run, const jinja_dict *dict,
                                  const jinja_json_style *style, int level, strbuf *buf) {
    const jinja_pair **order;
    TRY(json_order(run, dict, style->is_sorted, &order));
    strbuf_append_char(buf, '{');
    for (size_t i = 0; i < dict->n_pairs && !buf->has_failed; i++) {
        if (i) strbuf_append(buf, style->item_separator.as.text, style->item_separator.n_bytes);
        append_line(style, level + 1, buf);
        TRY(append_json_key(run, order[i]->key, style->is_ascii, buf));
        strbuf_append(buf, style->key_separator.as.text, style->key_separator.n_bytes);
        TRY(append_json(run, order[i]->value, style, level + 1, buf));
    }
    if (dict->n_pairs) append_line(style, level, buf);
    strbuf_append_char(buf, '}');
    return UM_OK;
}

static um_status append_json(jinja_run *run, jinja_value v, const jinja_json_style *style,
                             int level, strbuf *buf) {
    TRY(jinja_value_spend(run, 1 + (v.kind == JINJA_STRING ? v.n_bytes / 64 : 0)));
    um_status status;
    switch ((jinja_kind)v.kind) {
        case JINJA_NONE:
            strbuf_append_string(buf, "null");
            return UM_OK;
        case JINJA_BOOL:
            strbuf_append_string(buf, v.as.boolean ? "true" : "false");
            return UM_OK;
        case JINJA_INT:
            strbuf_append_format(buf, "%lld", (long long)v.as.integer);
            return UM_OK;
        case JINJA_FLOAT:
            append_json_float(v.as.real, buf);
            return UM_OK;
        case JINJA_STRING:
            append_json_text(v, style->is_ascii, buf);
            return UM_OK;
        case JINJA_LIST:
        case JINJA_TUPLE:
            TRY(enter(run));
            status = append_json_list(run, v.as.list, style, level, buf);
            run->depth--;
            return status;
        case JINJA_DICT:
            TRY(enter(run));
            status = append_json_dict(run, v.as.dict, style, level, buf);
            run->depth--;
            return status;
        default:
            return jinja_value_fail(run, UM_INVALID, "an object of type %s has no JSON",
                                    jinja_value_type_name(v));
    }
}

um_status jinja_text_append_json(jinja_run *run, jinja_value v, const jinja_json_style *style,
                                 strbuf *buf) {
    return append_json(run, v, style, 0, buf);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The methods of Python's str, dict and list that templates call. The tables also hold the names of
 * methods that exist in Python but not here: they shadow the keys of a dict as they do in Python,
 * and those that would change a list or a dict are the ones the sandbox forbids.
 */
#include <string.h>

#include "text/jinja_builtins.h"
#include "text/jinja_eval.h"
#include "text/jinja_text.h"
#include "text/jinja_utf8.h"

static um_status need_text(jinja_run *run, jinja_value v) {
    if (v.kind == JINJA_STRING) return UM_OK;
    if (v.kind == JINJA_UNDEFINED) return jinja_value_fail_undefined(run, v);
    return jinja_value_fail(run, UM_INVALID, "expected a string, got '%s'",
                            jinja_value_type_name(v));
}

static const char *end_of(jinja_value v) {
    return v.as.text + v.n_bytes;
}

static jinja_value between(const char *from, const char *to) {
    return jinja_value_text(from, (size_t)(to - from));
}

/* The first place of `what` in [from, to), or NULL. */
static const char *find_text(const char *from, const char *to, jinja_value what) {
    if (!what.n_bytes) return from;
    if (from == to) return NULL;
    if (what.n_bytes == 1) return memchr(from, what.as.text[0], (size_t)(to - from));
    return memmem(from, (size_t)(to - from), what.as.text, what.n_bytes);
}

/* Compares at each place: spend_product pays for it. */
static const char *find_text_back(const char *from, const char *to, jinja_value what) {
    for (const char *p = to - what.n_bytes; (size_t)(to - from) >= what.n_bytes && p >= from; p--)
        if (!what.n_bytes || !memcmp(p, what.as.text, what.n_bytes)) return p;
    return NULL;
}

/* Pays for a search of `what` backwards in n_bytes, or for that many searches in `what`. */
static um_status spend_product(jinja_run *run, size_t n_bytes, jinja_value what) {
    return jinja_value_spend(run, n_bytes / 64 + n_bytes * what.n_bytes / 256);
}

/* ---- Stripping ------------------------------------------------------------------------------- */

static bool is_stripped(uint32_t c, const char *at, size_t n, jinja_value chars) {
    if (chars.kind == JINJA_NONE) return jinja_utf8_is_space(c);
    return find_text(chars.as.text, end_of(chars), jinja_value_text(at, n)) != NULL;
}

static um_status strip(jinja_run *run, const jinja_call *call, bool at_left, bool at_right,
                       jinja_value *out) {
    jinja_value chars = jinja_builtins_param(call, 0, jinja_value_none());
    if (chars.kind != JINJA_NONE) {
        TRY(need_text(run, chars));
        TRY(spend_product(run, call->self.n_bytes, chars));
    }
    const char *from = call->self.as.text, *to = end_of(call->self);
    size_t n;
    while (at_left && from < to) {
        uint32_t c = jinja_utf8_read(from, to, &n);
        if (!is_stripped(c, from, n, chars)) break;
        from += n;
    }
    while (at_right && from < to) {
        const char *back = jinja_utf8_back(from, to);
        uint32_t c = jinja_utf8_read(back, to, &n);
        if (!is_stripped(c, back, n, chars)) break;
        to = back;
    }
    *out = between(from, to);
    return jinja_value_spend(run, call->self.n_bytes / 64);
}

static um_status string_strip(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return strip(run, call, true, true, out);
}

static um_status string_lstrip(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return strip(run, call, true, false, out);
}

static um_status string_rstrip(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return strip(run, call, false, true, out);
}

/* ---- Splitting ------------------------------------------------------------------------------- */

typedef struct pieces {
    jinja_value *items;
    size_t n_items;
    size_t capacity;
} pieces;

static um_status add_piece(jinja_run *run, pieces *p, const char *from, const char *to) {
    if (p->n_items == p->capacity) {
        size_t capacity = p->capacity ? p->capacity * 2 : 8;
        jinja_value *grown;
        TRY(jinja_value_alloc(run, capacity, sizeof *grown, &grown));
        if (p->n_items) memcpy(grown, p->items, p->n_items * sizeof *grown);
        p->items = grown;
        p->capacity = capacity;
    }
    p->items[p->n_items++] = between(from, to);
    return jinja_value_spend(run, 1);
}

static um_status split_spaces(jinja_run *run, jinja_value v, int64_t n_max, pieces *out) {
    const char *p = v.as.text, *end = end_of(v);
    size_t n;
    for (;;) {
        while (p < end && jinja_utf8_is_space(jinja_utf8_read(p, end, &n))) p += n;
        if (p == end) return UM_OK;
        const char *start = p;
        if (n_max >= 0 && out->n_items == (size_t)n_max) return add_piece(run, out, start, end);
        while (p < end && !jinja_utf8_is_space(jinja_utf8_read(p, end, &n))) p += n;
        TRY(add_piece(run, out, start, p));
    }
}

static um_status split_spaces_back(jinja_run *run, jinja_value v, int64_t n_max, pieces *out) {
    const char *start = v.as.text, *p = end_of(v), *end = p;
    size_t n;
    for (;;) {
        const char *back;
        while (p > start && (back = jinja_utf8_back(start, p),
                             jinja_utf8_is_space(jinja_utf8_read(back, end, &n))))
            p = back;
        if (p == start) return UM_OK;
        const char *stop = p;
        if (n_max >= 0 && out->n_items == (size_t)n_max) return add_piece(run, out, start, stop);
        while (p > start && (back = jinja_utf8_back(start, p),
                             !jinja_utf8_is_space(jinja_utf8_read(back, end, &n))))
            p = back;
        TRY(add_piece(run, out, p, stop));
    }
}

static void reverse_pieces(pieces *p) {
    for (size_t i = 0; i < p->n_items / 2; i++) {
        jinja_value swapped = p->items[i];
        p->items[i] = p->items[p->n_items - 1 - i];
        p->items[p->n_items - 1 - i] = swapped;
    }
}

static um_status split(jinja_run *run, const jinja_call *call, bool is_back, jinja_value *out) {
    jinja_value v = call->self, separator = jinja_builtins_param(call, 0, jinja_value_none());
    int64_t n_max;
    pieces found = {.items = NULL};
    TRY(jinja_builtins_integer(run, call, 1, -1, &n_max));
    TRY(jinja_value_spend(run, v.n_bytes / 64));
    if (separator.kind == JINJA_NONE) {
        TRY(is_back ? split_spaces_back(run, v, n_max, &found)
                    : split_spaces(run, v, n_max, &found));
    } else {
        TRY(need_text(run, separator));
        if (!separator.n_bytes) return jinja_value_fail(run, UM_INVALID, "empty separator");
        if (is_back) TRY(spend_product(run, v.n_bytes, separator));
        const char *from = v.as.text, *to = end_of(v);
        while (n_max < 0 || found.n_items < (size_t)n_max) {
            const char *at =
                is_back ? find_text_back(from, to, separator) : find_text(from, to, separator);
            if (!at) break;
            TRY(is_back ? add_piece(run, &found, at + separator.n_bytes, to)
                        : add_piece(run, &found, from, at));
            if (is_back)
                to = at;
            else
                from = at + separator.n_bytes;
        }
        TRY(add_piece(run, &found, from, to));
    }
    if (is_back) reverse_pieces(&found);
    return jinja_value_sequence(run, JINJA_LIST, found.items, found.n_items, out);
}

static um_status string_split(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return split(run, call, false, out);
}

static um_status string_rsplit(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return split(run, call, true, out);
}

static um_status string_splitlines(jinja_run *run, const jinja_call *call, jinja_value *out) {
    bool keeps_ends = jinja_builtins_flag(call, 0, false);
    pieces found = {.items = NULL};
    const char *p = call->self.as.text, *end = end_of(call->self), *start = p;
    TRY(jinja_value_spend(run, call->self.n_bytes / 16));
    while (p < end) {
        size_t n;
        uint32_t c = jinja_utf8_read(p, end, &n);
        const char *stop = p;
        p += n;
        if (!jinja_utf8_is_line_end(c)) continue;
        if (c == '\r' && p < end && *p == '\n') p++;
        TRY(add_piece(run, &found, start, keeps_ends ? p : stop));
        start = p;
    }
    if (start < end) TRY(add_piece(run, &found, start, end));
    return jinja_value_sequence(run, JINJA_LIST, found.items, found.n_items, out);
}

static um_status partition(jinja_run *run, const jinja_call *call, bool is_back, jinja_value *out) {
    jinja_value v = call->self, separator = call->bound[0], *parts;
    TRY(need_text(run, separator));
    if (!separator.n_bytes) return jinja_value_fail(run, UM_INVALID, "empty separator");
    if (is_back) TRY(spend_product(run, v.n_bytes, separator));
    TRY(jinja_value_spend(run, v.n_bytes / 64));
    TRY(jinja_value_alloc(run, 3, sizeof *parts, &parts));
    const char *at = is_back ? find_text_back(v.as.text, end_of(v), separator)
                             : find_text(v.as.text, end_of(v), separator);
    parts[0] = parts[1] = parts[2] = jinja_value_string("");
    if (at) {
        parts[0] = between(v.as.text, at);
        parts[1] = separator;
        parts[2] = between(at + separator.n_bytes, end_of(v));
    } else {
        parts[is_back ? 2 : 0] = v;
    }
    return jinja_value_sequence(run, JINJA_TUPLE, parts, 3, out);
}

static um_status string_partition(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return partition(run, call, false, out);
}

static um_status string_rpartition(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return partition(run, call, true, out);
}

/* ---- Searching ------------------------------------------------------------------------------- */

/* The part of self that the optional start and end arguments (from index i) choose; false where
 * start lies past the end, so that not even the empty string is in it. */
static um_status choose_part(jinja_run *run, const jinja_call *call, size_t i, jinja_value *part,
                             size_t *n_before, bool *is_part) {
    jinja_value v = call->self;
    *part = v;
    *n_before = 0;
    *is_part = true;
    TRY(jinja_value_spend(run, 1 + v.n_bytes / 64));
    if (call->bound[i].kind == JINJA_MISSING) return UM_OK;
    size_t n = jinja_utf8_count(v.as.text, v.n_bytes);
    int64_t start = 0, end = (int64_t)n;
    if (call->bound[i].kind != JINJA_NONE) TRY(jinja_builtins_integer(run, call, i, 0, &start));
    if (call->bound[i + 1].kind != JINJA_MISSING && call->bound[i + 1].kind != JINJA_NONE)
        TRY(jinja_builtins_integer(run, call, i + 1, 0, &end));
    if (start > (int64_t)n) *is_part = false;
    start = jinja_builtins_clamp(start, n);
    end = jinja_builtins_clamp(end, n);
    if (end < start) {
        *is_part = false;
        end = start;
    }
    size_t from = jinja_utf8_offset(v.as.text, v.n_bytes, (size_t)start);
    size_t to = jinja_utf8_offset(v.as.text, v.n_bytes, (size_t)end);
    *part = jinja_value_text(v.as.text + from, to - from);
    *n_before = (size_t)start;
    return UM_OK;
}

static um_status find(jinja_run *run, const jinja_call *call, bool is_back, bool must_find,
                      jinja_value *out) {
    jinja_value part;
    size_t n_before;
    bool is_part;
    TRY(need_text(run, call->bound[0]));
    TRY(choose_part(run, call, 1, &part, &n_before, &is_part));
    if (is_back) TRY(spend_product(run, part.n_bytes, call->bound[0]));
    const char *at = !is_part  ? NULL
                     : is_back ? find_text_back(part.as.text, end_of(part), call->bound[0])
                               : find_text(part.as.text, end_of(part), call->bound[0]);
    if (!at && must_find) return jinja_value_fail(run, UM_INVALID, "substring not found");
    *out = jinja_value_int(-1);
    if (at)
        *out = jinja_value_int(
            (int64_t)(n_before + jinja_utf8_count(part.as.text, (size_t)(at - part.as.text))));
    return UM_OK;
}

static um_status string_find(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return find(run, call, false, false, out);
}

static um_status string_rfind(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return find(run, call, true, false, out);
}

static um_status string_index(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return find(run, call, false, true, out);
}

static um_status string_rindex(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return find(run, call, true, true, out);
}

static um_status string_count(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value part, what = call->bound[0];
    size_t n_before;
    bool is_part;
    TRY(need_text(run, what));
    TRY(choose_part(run, call, 1, &part, &n_before, &is_part));
    int64_t n = 0;
    if (is_part && !what.n_bytes) n = (int64_t)jinja_utf8_count(part.as.text, part.n_bytes) + 1;
    if (is_part && what.n_bytes)
        for (const char *p = part.as.text, *at; (at = find_text(p, end_of(part), what)); n++)
            p = at + what.n_bytes;
    TRY(jinja_value_spend(run, (size_t)n / 4));
    *out = jinja_value_int(n);
    return UM_OK;
}

static bool has_affix(jinja_value v, jinja_value affix, bool is_end) {
    return affix.n_bytes <= v.n_bytes &&
           (!affix.n_bytes ||
            !memcmp(is_end ? end_of(v) - affix.n_bytes : v.as.text, affix.as.text, affix.n_bytes));
}

static um_status test_affix(jinja_run *run, const jinja_call *call, bool is_end, jinja_value *out) {
    jinja_value part, affix = call->bound[0];
    size_t n_before, n_affixes = 1;
    bool is_part, is_there = false;
    TRY(choose_part(run, call, 1, &part, &n_before, &is_part));
    const jinja_value *affixes = &affix;
    if (affix.kind == JINJA_TUPLE) {
        affixes = affix.as.list->items;
        n_affixes = affix.as.list->n_items;
    }
    for (size_t i = 0; i < n_affixes; i++) {
        TRY(need_text(run, affixes[i]));
        is_there = is_there || (is_part && has_affix(part, affixes[i], is_end));
    }
    *out = jinja_value_bool(is_there);
    return UM_OK;
}

static um_status string_startswith(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return test_affix(run, call, false, out);
}

static um_status string_endswith(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return test_affix(run, call, true, out);
}

static um_status string_removeprefix(jinja_run *run, const jinja_call *call, jinja_value *out) {
    TRY(need_text(run, call->bound[0]));
    bool is_there = has_affix(call->self, call->bound[0], false);
    *out = is_there ? between(call->self.as.text + call->bound[0].n_bytes, end_of(call->self))
                    : call->self;
    return UM_OK;
}

static um_status string_removesuffix(jinja_run *run, const jinja_call *call, jinja_value *out) {
    TRY(need_text(run, call->bound[0]));
    bool is_there = has_affix(call->self, call->bound[0], true);
    *out = is_there ? between(call->self.as.text, end_of(call->self) - call->bound[0].n_bytes)
                    : call->self;
    return UM_OK;
}

/* ---- Changing -------------------------------------------------------------------------------- */

static um_status string_replace(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value v = call->self, old = call->bound[0], fresh = call->bound[1];
    int64_t n_max;
    TRY(need_text(run, old));
    TRY(need_text(run, fresh));
    TRY(jinja_builtins_integer(run, call, 2, -1, &n_max));
    TRY(jinja_value_spend(run, v.n_bytes / 16));
    strbuf buf;
    jinja_text_begin(&buf);
    const char *p = v.as.text, *end = end_of(v);
    for (int64_t i = 0; n_max < 0 || i < n_max; i++) {
        const char *at = find_text(p, end, old);
        if (!at) break;
        strbuf_append(&buf, p, (size_t)(at - p));
        strbuf_append(&buf, fresh.as.text, fresh.n_bytes);
        p = at + old.n_bytes;
        if (old.n_bytes) continue;
        if (p == end) break; /* an empty string is found before and after each character */
        size_t n;
        jinja_utf8_read(p, end, &n);
        strbuf_append(&buf, p, n);
        p += n;
    }
    if (p < end) strbuf_append(&buf, p, (size_t)(end - p));
    return jinja_value_take(run, &buf, out);
}

typedef enum casing { CASE_UPPER, CASE_LOWER, CASE_CAPITALIZE, CASE_TITLE, CASE_SWAP } casing;

static um_status change_case(jinja_run *run, jinja_value v, casing how, jinja_value *out) {
    strbuf buf;
    TRY(jinja_value_spend(run, v.n_bytes / 16));
    jinja_text_begin(&buf);
    bool is_start = true;
    for (const char *p = v.as.text, *end = end_of(v); p < end;) {
        size_t n, n_mapped = 1;
        uint32_t c = jinja_utf8_read(p, end, &n), mapped[3];
        bool is_cased = jinja_utf8_is_upper(c) || jinja_utf8_is_lower(c);
        if (how == CASE_UPPER || (how == CASE_SWAP && !jinja_utf8_is_upper(c)))
            n_mapped = jinja_utf8_upper(c, mapped);
        else if ((how == CASE_CAPITALIZE || how == CASE_TITLE) && is_start)
            mapped[0] = jinja_utf8_title(c);
        else
            n_mapped = jinja_utf8_lower(c, mapped);
        for (size_t i = 0; i < n_mapped; i++) strbuf_append_codepoint(&buf, mapped[i]);
        is_start = how == CASE_TITLE && !is_cased;
        p += n;
    }
    return jinja_value_take(run, &buf, out);
}

static um_status string_upper(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return change_case(run, call->self, CASE_UPPER, out);
}

static um_status string_lower(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return change_case(run, call->self, CASE_LOWER, out);
}

static um_status string_capitalize(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return change_case(run, call->self, CASE_CAPITALIZE, out);
}

static um_status string_title(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return change_case(run, call->self, CASE_TITLE, out);
}

static um_status string_swapcase(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return change_case(run, call->self, CASE_SWAP, out);
}

static um_status string_join(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_value *items;
    size_t n_items;
    TRY(jinja_value_iterate(run, call->bound[0], &items, &n_items));
    *out = jinja_value_string("");
    for (size_t i = 0; i < n_items; i++) {
        TRY(need_text(run, items[i]));
        if (i) TRY(jinja_value_concat(run, *out, call->self, out));
        TRY(jinja_value_concat(run, *out, items[i], out));
    }
    return UM_OK;
}

/* Fills up to a width; at_left and at_right say where. */
static um_status fill(jinja_run *run, const jinja_call *call, bool at_left, bool at_right,
                      jinja_value *out) {
    int64_t width;
    jinja_value c = jinja_builtins_param(call, 1, jinja_value_string(" "));
    TRY(jinja_builtins_integer(run, call, 0, 0, &width));
    TRY(need_text(run, c));
    int64_t n = (int64_t)jinja_utf8_count(call->self.as.text, call->self.n_bytes);
    if (jinja_utf8_count(c.as.text, c.n_bytes) != 1 || width > 1000000)
        return jinja_value_fail(run, UM_INVALID, "a fill character or a width is out of range");
    int64_t n_fill = width > n ? width - n : 0;
    /* Python puts the odd one of center() to the left where the width is odd. */
    int64_t n_left = !at_left ? 0 : !at_right ? n_fill : n_fill / 2 + (n_fill & width & 1);
    TRY(jinja_value_spend(run, (size_t)n_fill / 16));
    strbuf buf;
    jinja_text_begin(&buf);
    for (int64_t i = 0; i < n_left; i++) strbuf_append(&buf, c.as.text, c.n_bytes);
    strbuf_append(&buf, call->self.as.text, call->self.n_bytes);
    for (int64_t i = n_left; i < n_fill; i++) strbuf_append(&buf, c.as.text, c.n_bytes);
    return jinja_value_take(run, &buf, out);
}

static um_status string_ljust(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return fill(run, call, false, true, out);
}

static um_status string_rjust(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return fill(run, call, true, false, out);
}

static um_status string_center(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return fill(run, call, true, true, out);
}

static um_status string_zfill(jinja_run *run, const jinja_call *call, jinja_value *out) {
    jinja_call digits = *call;
    bool is_signed = call->self.n_bytes && strchr("+-", call->self.as.text[0]) != NULL;
    int64_t width;
    TRY(jinja_builtins_integer(run, call, 0, 0, &width));
    digits.bound[0] = jinja_value_int(width > INT64_MIN ? width - is_signed : width);
    digits.bound[1] = jinja_value_string("0");
    digits.self = between(call->self.as.text + is_signed, end_of(call->self));
    TRY(fill(run, &digits, true, false, out));
    if (!is_signed) return UM_OK;
    return jinja_value_concat(run, jinja_value_text(call->self.as.text, 1), *out, out);
}

/* ---- Questions ------------------------------------------------------------------------------- */

/* True where the string is not empty and all its characters pass. */
static um_status all_pass(jinja_run *run, jinja_value v, bool (*passes)(uint32_t),
                          jinja_value *out) {
    bool is_true = v.n_bytes != 0;
    TRY(jinja_value_spend(run, v.n_bytes / 16));
    for (const char *p = v.as.text, *end = end_of(v); p < end && is_true;) {
        size_t n;
        is_true = passes(jinja_utf8_read(p, end, &n));
        p += n;
    }
    *out = jinja_value_bool(is_true);
    return UM_OK;
}

static bool is_alnum(uint32_t c) {
    return jinja_utf8_is_alpha(c) || jinja_utf8_is_digit(c);
}

static um_status string_isdigit(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return all_pass(run, call->self, jinja_utf8_is_digit, out);
}

static um_status string_isalpha(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return all_pass(run, call->self, jinja_utf8_is_alpha, out);
}

static um_status string_isalnum(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return all_pass(run, call->self, is_alnum, out);
}

static um_status string_isspace(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return all_pass(run, call->self, jinja_utf8_is_space, out);
}

static um_status ask_test(jinja_run *run, const jinja_call *call, const char *test,
                          jinja_value *out) {
    jinja_call asked = {.self = call->self};
    return jinja_builtins_invoke(run, jinja_builtins_find_test(jinja_value_string(test)), &asked,
                                 out);
}

static um_status string_isupper(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return ask_test(run, call, "upper", out);
}

static um_status string_islower(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return ask_test(run, call, "lower", out);
}

/* "{} {0} {name}".format(...): fields without a format of their own. */
static um_status format_field(jinja_run *run, const jinja_call *call, jinja_value field,
                              size_t *i_auto, strbuf *buf) {
    size_t n = field.n_bytes;
    bool is_repr = n >= 2 && !memcmp(end_of(field) - 2, "!r", 2);
    if (is_repr || (n >= 2 && !memcmp(end_of(field) - 2, "!s", 2))) n -= 2;
    bool is_number = n > 0;
    size_t i = 0;
    for (size_t k = 0; k < n; k++) {
        char c = field.as.text[k];
        if (strchr(":![].", c))
            return jinja_value_fail(run, UM_UNSUPPORTED, "str.format() supports plain fields only");
        is_number = is_number && c >= '0' && c <= '9' && k < 6;
        if (is_number) i = i * 10 + (size_t)(c - '0');
    }
    if (!n) i = (*i_auto)++;
    const jinja_value *found = NULL;
    if ((is_number || !n) && i < call->n_args) found = &call->args[i];
    for (size_t k = 0; n && !is_number && k < call->n_named; k++)
        if (call->named[k].key.n_bytes == n &&
            !memcmp(call->named[k].key.as.text, field.as.text, n))
            found = &call->named[k].value;
    if (!found) return jinja_value_fail(run, UM_INVALID, "str.format() lacks an argument");
    return is_repr ? jinja_text_append_repr(run, *found, buf) : jinja_text_append(run, *found, buf);
}

static um_status format_into(jinja_run *run, const jinja_call *call, strbuf *buf) {
    size_t i_auto = 0;
    for (const char *p = call->self.as.text, *end = end_of(call->self); p < end; p++) {
        if ((*p == '{' || *p == '}') && p + 1 < end && p[1] == *p) {
            strbuf_append_char(buf, *p++);
        } else if (*p == '{') {
            const char *start = p + 1;
            p = memchr(p, '}', (size_t)(end - p));
            if (!p) return jinja_value_fail(run, UM_INVALID, "expected '}' in a format string");
            TRY(format_field(run, call, between(start, p), &i_auto, buf));
        } else if (*p == '}') {
            return jinja_value_fail(run, UM_INVALID, "single '}' in a format string");
        } else {
            strbuf_append_char(buf, *p);
        }
    }
    return jinja_value_spend(run, call->self.n_bytes / 16);
}

static um_status string_format(jinja_run *run, const jinja_call *call, jinja_value *out) {
    strbuf buf;
    jinja_text_begin(&buf);
    um_status status = format_into(run, call, &buf);
    if (status == UM_OK) return jinja_value_take(run, &buf, out);
    strbuf_deinit(&buf);
    return status;
}

/* ---- dict and list --------------------------------------------------------------------------- */

static um_status dict_get(jinja_run *run, const jinja_call *call, jinja_value *out) {
    if (!jinja_value_is_hashable(call->bound[0]))
        return jinja_value_fail(run, UM_INVALID, "unhashable type: '%s'",
                                jinja_value_type_name(call->bound[0]));
    TRY(jinja_value_spend(run, call->self.as.dict->n_pairs / 16));
    const jinja_value *found = jinja_value_dict_get(call->self.as.dict, call->bound[0]);
    *out = found ? *found : jinja_builtins_param(call, 1, jinja_value_none());
    return UM_OK;
}

static um_status dict_view(jinja_run *run, const jinja_call *call, const char *name, bool has_keys,
                           bool has_values, jinja_value *out) {
    const jinja_dict *dict = call->self.as.dict;
    jinja_value *items, *pair;
    TRY(jinja_value_alloc(run, dict->n_pairs, sizeof *items, &items));
    for (size_t i = 0; i < dict->n_pairs; i++) {
        items[i] = has_keys ? dict->pairs[i].key : dict->pairs[i].value;
        if (!has_keys || !has_values) continue;
        TRY(jinja_value_alloc(run, 2, sizeof *pair, &pair));
        pair[0] = dict->pairs[i].key;
        pair[1] = dict->pairs[i].value;
        TRY(jinja_value_sequence(run, JINJA_TUPLE, pair, 2, &items[i]));
    }
    TRY(jinja_value_sequence(run, JINJA_VIEW, items, dict->n_pairs, out));
    out->as.list->name = name;
    return UM_OK;
}

static um_status dict_items(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return dict_view(run, call, "dict_items", true, true, out);
}

static um_status dict_keys(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return dict_view(run, call, "dict_keys", true, false, out);
}

static um_status dict_values(jinja_run *run, const jinja_call *call, jinja_value *out) {
    return dict_view(run, call, "dict_values", false, true, out);
}

/* Values do not change, so a copy is the thing itself. */
static um_status copy_self(jinja_run *run, const jinja_call *call, jinja_value *out) {
    (void)run;
    *out = call->self;
    return UM_OK;
}

static um_status list_count(jinja_run *run, const jinja_call *call, jinja_value *out) {
    int64_t n = 0;
    for (size_t i = 0; i < call->self.as.list->n_items; i++) {
        bool is_equal;
        TRY(jinja_value_equal(run, call->self.as.list->items[i], call->bound[0], &is_equal));
        n += is_equal;
    }
    *out = jinja_value_int(n);
    return UM_OK;
}

static um_status list_index(jinja_run *run, const jinja_call *call, jinja_value *out) {
    int64_t start, stop, n = (int64_t)call->self.as.list->n_items;
    TRY(jinja_builtins_integer(run, call, 1, 0, &start));
    TRY(jinja_builtins_integer(run, call, 2, n, &stop));
    start = jinja_builtins_clamp(start, (size_t)n);
    stop = jinja_builtins_clamp(stop, (size_t)n);
    for (int64_t i = start; i < stop; i++) {
        bool is_equal;
        TRY(jinja_value_equal(run, call->self.as.list->items[i], call->bound[0], &is_equal));
        if (!is_equal) continue;
        *out = jinja_value_int(i);
        return UM_OK;
    }
    return jinja_value_fail(run, UM_INVALID, "the value is not in the list");
}

const jinja_builtin jinja_string_methods[] = {
    {"strip", "chars", 0, string_strip},
    {"lstrip", "chars", 0, string_lstrip},
    {"rstrip", "chars", 0, string_rstrip},
    {"split", "sep maxsplit", 0, string_split},
    {"rsplit", "sep maxsplit", 0, string_rsplit},
    {"splitlines", "keepends", 0, string_splitlines},
    {"partition", "sep", 1, string_partition},
    {"rpartition", "sep", 1, string_rpartition},
    {"startswith", "prefix start end", 1, string_startswith},
    {"endswith", "suffix start end", 1, string_endswith},
    {"find", "sub start end", 1, string_find},
    {"rfind", "sub start end", 1, string_rfind},
    {"index", "sub start end", 1, string_index},
    {"rindex", "sub start end", 1, string_rindex},
    {"count", "sub start end", 1, string_count},
    {"replace", "old new count", 2, string_replace},
    {"removeprefix", "prefix", 1, string_removeprefix},
    {"removesuffix", "suffix", 1, string_removesuffix},
    {"upper", "", 0, string_upper},
    {"lower", "", 0, string_lower},
    {"casefold", "", 0, string_lower},
    {"capitalize", "", 0, string_capitalize},
    {"title", "", 0, string_title},
    {"swapcase", "", 0, string_swapcase},
    {"join", "iterable", 1, string_join},
    {"ljust", "width fillchar", 1, string_ljust},
    {"rjust", "width fillchar", 1, string_rjust},
    {"center", "width fillchar", 1, string_center},
    {"zfill", "width", 1, string_zfill},
    {"format", NULL, 0, string_format},
    {"isdigit", "", 0, string_isdigit},
    {"isdecimal", "", 0, string_isdigit},
    {"isnumeric", "", 0, string_isdigit},
    {"isalpha", "", 0, string_isalpha},
    {"isalnum", "", 0, string_isalnum},
    {"isspace", "", 0, string_isspace},
    {"isupper", "", 0, string_isupper},
    {"islower", "", 0, string_islower},
    {"encode", "", 0, NULL},
    {"expandtabs", "", 0, NULL},
    {"format_map", "", 0, NULL},
    {"isascii", "", 0, NULL},
    {"isidentifier", "", 0, NULL},
    {"isprintable", "", 0, NULL},
    {"istitle", "", 0, NULL},
    {"maketrans", "", 0, NULL},
    {"translate", "", 0, NULL},
    {NULL, NULL, 0, NULL},
};

const jinja_builtin jinja_dict_methods[] = {
    {"get", "key default", 1, dict_get},
    {"items", "", 0, dict_items},
    {"keys", "", 0, dict_keys},
    {"values", "", 0, dict_values},
    {"copy", "", 0, copy_self},
    {"clear", "", 0, NULL},
    {"pop", "", 0, NULL},
    {"popitem", "", 0, NULL},
    {"setdefault", "", 0, NULL},
    {"update", "", 0, NULL},
    {NULL, NULL, 0, NULL},
};

const jinja_builtin jinja_list_methods[] = {
    {"index", "value start stop", 1, list_index},
    {"count", "value", 1, list_count},
    {"copy", "", 0, copy_self},
    {"append", "", 0, NULL},
    {"clear", "", 0, NULL},
    {"extend", "", 0, NULL},
    {"insert", "", 0, NULL},
    {"pop", "", 0, NULL},
    {"remove", "", 0, NULL},
    {"reverse", "", 0, NULL},
    {"sort", "", 0, NULL},
    {NULL, NULL, 0, NULL},
};

/* SPDX-License-Identifier: Apache-2.0
 *
 * The Unicode forms take decomposition and composition from utf8proc, but order the combining marks
 * here: utf8proc_decompose sorts by insertion, and a megabyte of marks would keep it busy for
 * hours. Characters that Hugging Face's tables do not know (unicode_young) count as unassigned:
 * they have no class and no decomposition, and compose with nothing. So the ids are the same.
 */
#include "text/normalizer.h"

#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "text/json_field.h"
#include "text/unicode_young.h"
#include "text/utf8.h"

enum { DEPTH_MAX = 16, STEPS_MAX = 64 };
/* Prepend and Replace can grow a text exponentially in the number of steps. */
static const size_t TEXT_BYTES_MAX = (size_t)1 << 31;

typedef enum step_kind {
    STEP_KIND_FORM = 0, /* one of the four normal forms */
    STEP_KIND_LOWERCASE = 1,
    STEP_KIND_PREPEND = 2,
    STEP_KIND_REPLACE = 3,
    STEP_KIND_STRIP = 4
} step_kind;

typedef struct normalizer_step {
    step_kind kind;
    bool is_composed, is_compatible; /* FORM */
    bool is_left, is_right;          /* STRIP */
    split_regex *regex;              /* REPLACE */
    char *content;                   /* PREPEND, REPLACE */
    size_t n_content;
} normalizer_step;

/* ---- Parsing ---- */

static um_status parse_content(const json_t *value, const char *type, const char *name,
                               normalizer_step *step, um_error *err) {
    const char *text;
    size_t n_bytes;
    TRY(json_field_string(value, type, name, true, &text, &n_bytes, err));
    step->content = memory_copy_string(text, n_bytes);
    if (!step->content) FAIL(UM_NO_MEMORY, err, "no memory for a normalizer");
    step->n_content = n_bytes;
    return UM_OK;
}

static um_status parse_replace(const json_t *value, normalizer_step *step, um_error *err) {
    step->kind = STEP_KIND_REPLACE;
    const json_t *pattern = json_object_get(value, "pattern");
    if (!json_is_object(pattern))
        FAIL(UM_FORMAT, err, "Replace.pattern is %s; an object is expected",
             json_field_kind(pattern));
    bool is_literal = json_object_get(pattern, "String") != NULL;
    const char *text;
    size_t n_bytes;
    TRY(json_field_string(pattern, "Replace.pattern", is_literal ? "String" : "Regex", true, &text,
                          &n_bytes, err));
    TRY(parse_content(value, "Replace", "content", step, err));
    return split_regex_create(text, n_bytes, is_literal, &step->regex, err);
}

static um_status parse_step(const json_t *value, const char *type, normalizer_step *step,
                            um_error *err) {
    static const struct {
        const char *name;
        bool is_composed, is_compatible;
    } forms[] = {
        {"NFC", true, false}, {"NFD", false, false}, {"NFKC", true, true}, {"NFKD", false, true}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(type, forms[i].name) != 0) continue;
        step->kind = STEP_KIND_FORM;
        step->is_composed = forms[i].is_composed;
        step->is_compatible = forms[i].is_compatible;
        return UM_OK;
    }
    if (strcmp(type, "Lowercase") == 0) {
        step->kind = STEP_KIND_LOWERCASE;
        return UM_OK;
    }
    if (strcmp(type, "Prepend") == 0) {
        step->kind = STEP_KIND_PREPEND;
        return parse_content(value, "Prepend", "prepend", step, err);
    }
    if (strcmp(type, "Replace") == 0) return parse_replace(value, step, err);
    if (strcmp(type, "Strip") == 0) {
        step->kind = STEP_KIND_STRIP;
        TRY(json_field_bool(value, "Strip", "strip_left", false, &step->is_left, err));
        return json_field_bool(value, "Strip", "strip_right", false, &step->is_right, err);
    }
    FAIL(UM_UNSUPPORTED, err, "normalizer type %.80s is not supported", type);
}

static um_status parse_value(const json_t *value, int depth, normalizer *n, um_error *err) {
    if (!json_is_object(value))
        FAIL(UM_FORMAT, err, "a normalizer is %s; an object is expected", json_field_kind(value));
    if (depth > DEPTH_MAX) FAIL(UM_UNSUPPORTED, err, "normalizers are nested too deeply");
    const char *type;
    size_t n_type;
    TRY(json_field_string(value, "normalizer", "type", true, &type, &n_type, err));
    if (strcmp(type, "Sequence") == 0) {
        json_t *items;
        TRY(json_field_array(value, "normalizer", "normalizers", true, &items, err));
        size_t i;
        const json_t *item;
        json_array_foreach(items, i, item) TRY(parse_value(item, depth + 1, n, err));
        return UM_OK;
    }
    if (n->n_steps == STEPS_MAX)
        FAIL(UM_UNSUPPORTED, err, "more than %d normalizers in a row", STEPS_MAX);
    if (memory_grow(&n->steps, &n->capacity, n->n_steps, sizeof *n->steps) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for a normalizer");
    normalizer_step *step = &n->steps[n->n_steps++];
    memset(step, 0, sizeof *step);
    return parse_step(value, type, step, err);
}

um_status normalizer_parse(const json_t *value, normalizer *n, um_error *err) {
    memset(n, 0, sizeof *n);
    return value && !json_is_null(value) ? parse_value(value, 0, n, err) : UM_OK;
}

void normalizer_deinit(normalizer *n) {
    for (size_t i = 0; i < n->n_steps; i++) {
        split_regex_destroy(n->steps[i].regex);
        memory_free(n->steps[i].content);
    }
    memory_free(n->steps);
    memset(n, 0, sizeof *n);
}

/* ---- Normal forms ---- */

/* No character below `limit` (a first byte of UTF-8) changes under the form: U+0300 is the first
 * one that does in NFC, U+00A0 in NFKC, U+00C0 in NFD. */
static bool is_unchanged(const normalizer_step *step, const char *text, size_t n_bytes) {
    unsigned char limit = step->is_composed && !step->is_compatible ? 0xCC : 0x80;
    for (size_t i = 0; i < n_bytes; i++)
        if ((unsigned char)text[i] >= limit) return false;
    return true;
}

static int combining_class(utf8proc_int32_t c) {
    if (c < 0x300) return 0;
    int class = (int)utf8proc_get_property(c)->combining_class;
    return class && unicode_young_has((unsigned)c) ? 0 : class;
}

/* Sorts one run of marks by class, keeping the order within a class: counting over 256 classes, or
 * insertion where that is cheaper. `spare` has room for the run. */
static void order_run(utf8proc_int32_t *run, size_t n, utf8proc_int32_t *spare) {
    if (n <= 32) {
        for (size_t i = 1; i < n; i++) {
            utf8proc_int32_t c = run[i];
            int class = combining_class(c);
            size_t j = i;
            for (; j > 0 && combining_class(run[j - 1]) > class; j--) run[j] = run[j - 1];
            run[j] = c;
        }
        return;
    }
    size_t starts[257] = {0};
    for (size_t i = 0; i < n; i++) starts[combining_class(run[i]) + 1]++;
    for (size_t i = 0; i < 256; i++) starts[i + 1] += starts[i];
    for (size_t i = 0; i < n; i++) spare[starts[combining_class(run[i])]++] = run[i];
    memcpy(run, spare, n * sizeof *run);
}

static void order_marks(utf8proc_int32_t *points, size_t n, utf8proc_int32_t *spare) {
    size_t i = 0;
    while (i < n) {
        if (combining_class(points[i]) == 0) {
            i++;
            continue;
        }
        size_t end = i + 1;
        while (end < n && combining_class(points[end]) != 0) end++;
        order_run(points + i, end - i, spare);
        i = end;
    }
}

/* Decomposes one character into dst, which has room for n_room; returns the number. */
static utf8proc_ssize_t decompose(unsigned c, utf8proc_int32_t *dst, size_t n_room,
                                  utf8proc_option_t options) {
    if (c < 0x80 || unicode_young_has(c)) {
        if (n_room) *dst = (utf8proc_int32_t)c;
        return 1;
    }
    return utf8proc_decompose_char((utf8proc_int32_t)c, dst, (utf8proc_ssize_t)n_room, options,
                                   NULL);
}

/* Composes in place, from one young character to the next; returns the new number. */
static size_t compose(utf8proc_int32_t *points, size_t n, utf8proc_option_t options) {
    size_t n_out = 0, i = 0;
    while (i < n) {
        size_t start = n_out;
        while (i < n && !unicode_young_has((unsigned)points[i])) points[n_out++] = points[i++];
        n_out = start + (size_t)utf8proc_normalize_utf32(
                            points + start, (utf8proc_ssize_t)(n_out - start), options);
        if (i < n) points[n_out++] = points[i++];
    }
    return n_out;
}

static um_status apply_form(const normalizer_step *step, const char *text, size_t n_bytes,
                            strbuf *out, um_error *err) {
    if (is_unchanged(step, text, n_bytes)) {
        strbuf_append(out, text, n_bytes);
        return UM_OK;
    }
    utf8proc_option_t options =
        UTF8PROC_STABLE | (step->is_composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
    if (step->is_compatible) options |= UTF8PROC_COMPAT;
    /* First count, then fill: a character becomes up to 18. */
    size_t n_points = 0, length;
    for (size_t i = 0; i < n_bytes; i += length) {
        utf8proc_ssize_t n = decompose(utf8_decode(text + i, &length), NULL, 0, options);
        if (n < 0) FAIL(UM_INTERNAL, err, "%s", utf8proc_errmsg(n));
        n_points += (size_t)n;
    }
    utf8proc_int32_t *points = memory_alloc_array(n_points + 1, 2 * sizeof *points);
    if (!points) FAIL(UM_NO_MEMORY, err, "no memory to normalize %zu bytes", n_bytes);
    size_t done = 0;
    for (size_t i = 0; i < n_bytes; i += length)
        done += (size_t)decompose(utf8_decode(text + i, &length), points + done, n_points - done,
                                  options);
    order_marks(points, n_points, points + n_points + 1);
    if (step->is_composed) n_points = compose(points, n_points, options);
    for (size_t i = 0; i < n_points; i++) strbuf_append_codepoint(out, (unsigned)points[i]);
    memory_free(points);
    return UM_OK;
}

/* ---- The other steps ---- */

/* One character at a time, as Rust's char::to_lowercase does: no final sigma; U+0130 alone becomes
 * two. */
static void lowercase(const char *text, size_t n_bytes, strbuf *out) {
    for (size_t i = 0; i < n_bytes;) {
        size_t length;
        unsigned c = utf8_decode(text + i, &length);
        if (c == 0x130)
            strbuf_append_string(out, "i\xCC\x87");
        else
            strbuf_append_codepoint(out, (unsigned)utf8proc_tolower((utf8proc_int32_t)c));
        i += length;
    }
}

static um_status replace(const normalizer_step *step, const char *text, size_t n_bytes, strbuf *out,
                         um_error *err) {
    if (n_bytes == 0) return UM_OK;
    split_regex_match *match;
    TRY(split_regex_match_create(&match, err));
    split_regex_walk walk = {0};
    size_t done = 0;
    um_status status;
    for (;;) {
        bool is_found;
        size_t start, end;
        TRY_GOTO(split_regex_next(step->regex, match, text, n_bytes, &walk, &is_found, &start, &end,
                                  err),
                 cleanup);
        if (!is_found) break;
        strbuf_append(out, text + done, start - done);
        strbuf_append(out, step->content, step->n_content);
        done = end;
    }
    strbuf_append(out, text + done, n_bytes - done);
cleanup:
    split_regex_match_destroy(match);
    return status;
}

static void strip(const normalizer_step *step, const char *text, size_t n_bytes, strbuf *out) {
    size_t start = 0, end = n_bytes, length;
    while (step->is_left && start < end && utf8_is_space(utf8_decode(text + start, &length)))
        start += length;
    while (step->is_right && end > start) {
        size_t last = utf8_last(text, end);
        if (!utf8_is_space(utf8_decode(text + last, &length))) break;
        end = last;
    }
    strbuf_append(out, text + start, end - start);
}

static um_status apply(const normalizer_step *step, const char *text, size_t n_bytes, strbuf *out,
                       um_error *err) {
    switch (step->kind) {
        case STEP_KIND_FORM:
            return apply_form(step, text, n_bytes, out, err);
        case STEP_KIND_LOWERCASE:
            lowercase(text, n_bytes, out);
            break;
        case STEP_KIND_PREPEND:
            if (n_bytes) strbuf_append(out, step->content, step->n_content);
            strbuf_append(out, text, n_bytes);
            break;
        case STEP_KIND_REPLACE:
            return replace(step, text, n_bytes, out, err);
        case STEP_KIND_STRIP:
            strip(step, text, n_bytes, out);
            break;
    }
    return UM_OK;
}

um_status normalizer_run(const normalizer *n, const char *text, size_t n_bytes, strbuf *out,
                         um_error *err) {
    out->n_bytes = 0;
    if (n->n_steps == 0) strbuf_append(out, text, n_bytes);
    strbuf before;
    strbuf_init(&before);
    um_status status = UM_OK;
    for (size_t i = 0; i < n->n_steps; i++) {
        if (i > 0) {
            strbuf old = before;
            before = *out;
            *out = old;
            out->n_bytes = 0;
            text = before.data ? before.data : "";
            n_bytes = before.n_bytes;
        }
        out->limit = TEXT_BYTES_MAX;
        TRY_GOTO(apply(&n->steps[i], text, n_bytes, out, err), cleanup);
        if (out->has_failed) break;
    }
    if (out->has_failed)
        status = um_error_set(err, UM_NO_MEMORY, "no memory for the normalized text");
cleanup:
    strbuf_deinit(&before);
    return status;
}

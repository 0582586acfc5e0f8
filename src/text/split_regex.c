/* SPDX-License-Identifier: Apache-2.0
 *
 * Oniguruma's syntax for PCRE2. Classes are spelled out by property (\s is White_Space; PCRE2's own
 * \s also takes U+180E), scripts mean Script and not Script_Extensions, ^ and $ are lines' ends.
 * One difference stays: the engines' Unicode versions. PCRE2 10.42 knows Unicode 14, the Oniguruma
 * of Hugging Face's tokenizers 0.23 knows 16; characters that are younger than 14 are unassigned
 * here. Another is by choice: (?i) folds single characters only ("ss" does not match U+00DF).
 */
#include "text/split_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "text/utf8.h"

/* Steps of one search: a base, and some for each byte, since "\s*[\r\n]+" walks back over a run of
 * spaces. Backtracking that grows faster than the text is refused. */
enum { MATCH_STEPS_BASE = 100000, MATCH_STEPS_PER_BYTE = 64 };
enum { MATCH_HEAP_KIB = 256 * 1024, PATTERN_BYTES_MAX = 65536 };

struct split_regex {
    pcre2_code *code;
    pcre2_general_context *general;
    bool has_failed_alloc; /* set by the allocator below, while compiling */
};

struct split_regex_match {
    pcre2_general_context *general;
    pcre2_match_context *context;
    pcre2_match_data *data;
    bool has_failed_alloc;
};

static void *pcre2_alloc(size_t n_bytes, void *has_failed_alloc) {
    void *memory = memory_alloc(n_bytes);
    if (!memory) *(bool *)has_failed_alloc = true;
    return memory;
}

static void pcre2_free_memory(void *memory, void *unused) {
    (void)unused;
    memory_free(memory);
}

/* ---- Translation ---- */

typedef struct translation {
    const char *in;
    size_t n, at;
    strbuf out;
    bool is_in_class;
    pcre2_general_context *general;
} translation;

/* Oniguruma's \w. On its own, not in a class, it goes by another table for Latin-1, which has the
 * superscript digits and the fractions too. */
#define WORD_IN_CLASS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define WORD_ALONE WORD_IN_CLASS "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"

static um_status refuse(const translation *t, um_error *err, const char *what) {
    um_error_set(err, UM_UNSUPPORTED,
                 "the pattern \"%.*s\" has %s at byte %zu; it is not supported",
                 t->n > 200 ? 200 : (int)t->n, t->in, what, t->at);
    um_error_at(err, NULL, (int64_t)t->at);
    return UM_UNSUPPORTED;
}

static bool starts_with(const translation *t, const char *text) {
    size_t n = strlen(text);
    return t->n - t->at >= n && memcmp(t->in + t->at, text, n) == 0;
}

static bool is_script(const translation *t, const char *name, size_t n_name) {
    char pattern[64] = "\\p{sc:";
    if (n_name > 40) return false;
    memcpy(pattern + 6, name, n_name);
    pattern[6 + n_name] = '}';
    pcre2_compile_context *context = pcre2_compile_context_create(t->general);
    if (!context) return false;
    int code;
    PCRE2_SIZE at;
    pcre2_code *probe =
        pcre2_compile((PCRE2_SPTR)pattern, n_name + 7, PCRE2_UTF, &code, &at, context);
    pcre2_code_free(probe);
    pcre2_compile_context_free(context);
    return probe != NULL;
}

/* \p{Name} and \P{Name}, with `at` on the p. */
static um_status translate_property(translation *t, um_error *err) {
    char p = t->in[t->at];
    if (t->at + 1 >= t->n || t->in[t->at + 1] != '{')
        return refuse(t, err, "a property without braces");
    size_t start = t->at + 2, end = start;
    while (end < t->n && t->in[end] != '}') end++;
    if (end == t->n) return refuse(t, err, "a property that does not end");
    const char *name = t->in + start;
    size_t n_name = end - start;
    bool is_negated = n_name && *name == '^';
    if (is_negated) {
        name++;
        n_name--;
    }
    for (size_t i = 0; i < n_name; i++) {
        char c = name[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == ' '))
            return refuse(t, err, "an unknown property");
    }
    if (is_negated) p = p == 'p' ? 'P' : 'p';
    /* One and two letters are general categories; longer names may be scripts. */
    const char *prefix = n_name > 2 && is_script(t, name, n_name) ? "sc:" : "";
    strbuf_append_char(&t->out, '\\');
    strbuf_append_char(&t->out, p);
    strbuf_append_char(&t->out, '{');
    strbuf_append_string(&t->out, prefix);
    strbuf_append(&t->out, name, n_name);
    strbuf_append_char(&t->out, '}');
    t->at = end + 1;
    return UM_OK;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* \xHH, \x{H...} and \uHHHH, with `at` on the letter. */
static um_status translate_number(translation *t, um_error *err) {
    bool has_braces = t->in[t->at] == 'x' && t->at + 1 < t->n && t->in[t->at + 1] == '{';
    size_t digits = has_braces ? 8 : t->in[t->at] == 'u' ? 4 : 2;
    size_t at = t->at + (has_braces ? 2 : 1), n_digits = 0;
    unsigned long value = 0;
    while (n_digits < digits && at < t->n && hex_value(t->in[at]) >= 0) {
        value = value * 16 + (unsigned long)hex_value(t->in[at]);
        at++;
        n_digits++;
    }
    if (n_digits == 0 || (has_braces && (at >= t->n || t->in[at] != '}')) ||
        (t->in[t->at] == 'u' && n_digits != 4))
        return refuse(t, err, "a damaged character number");
    if (has_braces) at++;
    /* Without braces Oniguruma means a byte, which is a character only in ASCII. */
    if (t->in[t->at] == 'x' && !has_braces && value > 0x7F)
        return refuse(t, err, "a byte that is no character");
    strbuf_append_format(&t->out, "\\x{%lx}", value);
    t->at = at;
    return UM_OK;
}

/* An escape, with `at` behind the backslash. */
static um_status translate_escape(translation *t, um_error *err) {
    if (t->at >= t->n) return refuse(t, err, "a backslash at its end");
    char c = t->in[t->at];
    const char *text = NULL;
    switch (c) {
        case 'p':
        case 'P':
            return translate_property(t, err);
        case 'x':
        case 'u':
            return translate_number(t, err);
        case 's':
            text = "\\p{White_Space}";
            break;
        case 'S':
            text = "\\P{White_Space}";
            break;
        case 'd':
            text = "\\p{Nd}";
            break;
        case 'D':
            text = "\\P{Nd}";
            break;
        case 'w':
            text = t->is_in_class ? WORD_IN_CLASS : "[" WORD_ALONE "]";
            break;
        case 'W':
            if (!t->is_in_class) text = "[^" WORD_ALONE "]";
            break;
        case 'h':
            text = t->is_in_class ? "0-9A-Fa-f" : "[0-9A-Fa-f]";
            break;
        case 'H':
            if (!t->is_in_class) text = "[^0-9A-Fa-f]";
            break;
        case 'v':
            text = "\\x0b";
            break;
        case 'b':
            if (t->is_in_class)
                text = "\\x08";
            else
                text = "(?:(?<=[" WORD_ALONE "])(?![" WORD_ALONE "])|(?<![" WORD_ALONE
                       "])(?=[" WORD_ALONE "]))";
            break;
        case 'A':
        case 'z':
        case 'Z':
            if (t->is_in_class) break;
            strbuf_append_char(&t->out, '\\');
            strbuf_append_char(&t->out, c);
            t->at++;
            return UM_OK;
        case 'n':
        case 'r':
        case 't':
        case 'f':
        case 'a':
        case 'e':
            strbuf_append_char(&t->out, '\\');
            strbuf_append_char(&t->out, c);
            t->at++;
            return UM_OK;
        default: {
            bool is_alphanumeric =
                (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
            if (is_alphanumeric) break;
            if ((unsigned char)c < 0x80) strbuf_append_char(&t->out, '\\');
            size_t length; /* the pattern is valid UTF-8: the character stays whole */
            utf8_decode(t->in + t->at, &length);
            strbuf_append(&t->out, t->in + t->at, length);
            t->at += length;
            return UM_OK;
        }
    }
    if (!text) return refuse(t, err, "an escape");
    strbuf_append_string(&t->out, text);
    t->at++;
    return UM_OK;
}

/* What follows "(": groups, lookaround and options. `at` is on the parenthesis. */
static um_status translate_group(translation *t, um_error *err) {
    if (starts_with(t, "(*")) return refuse(t, err, "a verb");
    if (!starts_with(t, "(?")) {
        strbuf_append_char(&t->out, '(');
        t->at++;
        return UM_OK;
    }
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!starts_with(t, known[i])) continue;
        strbuf_append_string(&t->out, known[i]);
        t->at += strlen(known[i]);
        return UM_OK;
    }
    /* Options: i, and m, which is PCRE2's s. Those of the rest of a group ("(?i)") bind
     * alternatives otherwise than in PCRE2, except at the beginning of the pattern. */
    size_t end = t->at + 2;
    while (end < t->n && (t->in[end] == 'i' || t->in[end] == 'm' || t->in[end] == '-')) end++;
    if (end == t->at + 2 || end == t->n || (t->in[end] != ':' && t->in[end] != ')') ||
        (t->in[end] == ')' && t->at != 0))
        return refuse(t, err, "a group");
    for (; t->at <= end; t->at++) {
        char c = t->in[t->at];
        strbuf_append_char(&t->out, c == 'm' ? 's' : c);
    }
    return UM_OK;
}

/* "{...}": an interval if it looks like one. `at` is on the brace. */
static um_status translate_interval(translation *t, um_error *err) {
    size_t at = t->at + 1, n_low = 0, n_high = 0;
    bool has_comma = false;
    while (at < t->n && t->in[at] >= '0' && t->in[at] <= '9') at++, n_low++;
    if (at < t->n && t->in[at] == ',') {
        has_comma = true;
        at++;
        while (at < t->n && t->in[at] >= '0' && t->in[at] <= '9') at++, n_high++;
    }
    if (at >= t->n || t->in[at] != '}' || n_low + n_high == 0) {
        strbuf_append_string(&t->out, "\\{");
        t->at++;
        return UM_OK;
    }
    /* In Ruby "{n,m}+" repeats the interval, and "{n}?" makes it optional. */
    if (at + 1 < t->n && (t->in[at + 1] == '+' || (t->in[at + 1] == '?' && !has_comma)))
        return refuse(t, err, "a sign behind an interval");
    if (n_low == 0) {
        strbuf_append_string(&t->out, "{0");
        t->at++;
    }
    strbuf_append(&t->out, t->in + t->at, at + 1 - t->at);
    t->at = at + 1;
    return UM_OK;
}

static um_status translate_class_start(translation *t) {
    t->is_in_class = true;
    strbuf_append_char(&t->out, '[');
    t->at++;
    if (t->at < t->n && t->in[t->at] == '^') {
        strbuf_append_char(&t->out, '^');
        t->at++;
    }
    if (t->at < t->n && t->in[t->at] == ']') {
        strbuf_append_string(&t->out, "\\]");
        t->at++;
    }
    return UM_OK;
}

static um_status translate(translation *t, um_error *err) {
    while (t->at < t->n) {
        char c = t->in[t->at];
        if (c == '\\') {
            t->at++;
            TRY(translate_escape(t, err));
        } else if (t->is_in_class) {
            if (c == '[') return refuse(t, err, "a class within a class");
            if (starts_with(t, "&&")) return refuse(t, err, "an intersection of classes");
            if (c == ']') t->is_in_class = false;
            strbuf_append_char(&t->out, c);
            t->at++;
        } else if (c == '[') {
            TRY(translate_class_start(t));
        } else if (c == '(') {
            TRY(translate_group(t, err));
        } else if (c == '{') {
            TRY(translate_interval(t, err));
        } else {
            strbuf_append_char(&t->out, c);
            t->at++;
        }
    }
    return UM_OK;
}

/* ---- Compiling ---- */

static um_status compile(split_regex *regex, const char *pattern, size_t n_bytes, uint32_t options,
                         um_error *err) {
    pcre2_compile_context *context = pcre2_compile_context_create(regex->general);
    if (!context) FAIL(UM_NO_MEMORY, err, "no memory for a pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code;
    PCRE2_SIZE at;
    regex->code = pcre2_compile((PCRE2_SPTR)pattern, n_bytes, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!regex->code) {
        if (regex->has_failed_alloc) FAIL(UM_NO_MEMORY, err, "no memory for a pattern");
        char reason[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        FAIL(UM_FORMAT, err, "the pattern \"%.*s\" is not one that is known: %s",
             n_bytes > 300 ? 300 : (int)n_bytes, pattern, reason);
    }
    /* Where the system gives no executable memory, the interpreter does the same, slower. */
    if (pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE) != 0 && regex->has_failed_alloc)
        FAIL(UM_NO_MEMORY, err, "no memory for a pattern");
    return UM_OK;
}

um_status split_regex_create(const char *pattern, size_t n_bytes, bool is_literal,
                             split_regex **out, um_error *err) {
    if (n_bytes > PATTERN_BYTES_MAX)
        FAIL(UM_UNSUPPORTED, err, "a pattern of %zu bytes; at most %d are supported", n_bytes,
             PATTERN_BYTES_MAX);
    if (!utf8_is_valid(pattern, n_bytes, NULL)) FAIL(UM_FORMAT, err, "a pattern is not UTF-8");
    split_regex *regex = memory_calloc(1, sizeof *regex);
    if (!regex) FAIL(UM_NO_MEMORY, err, "no memory for a pattern");
    um_status status = UM_OK;
    translation t = {.in = pattern, .n = n_bytes};
    regex->general =
        pcre2_general_context_create(pcre2_alloc, pcre2_free_memory, &regex->has_failed_alloc);
    if (!regex->general) {
        status = um_error_set(err, UM_NO_MEMORY, "no memory for a pattern");
        goto cleanup;
    }
    t.general = regex->general;
    uint32_t options = PCRE2_UTF | PCRE2_NO_UTF_CHECK;
    if (is_literal) {
        TRY_GOTO(compile(regex, pattern, n_bytes, options | PCRE2_LITERAL, err), cleanup);
    } else {
        status = translate(&t, err);
        if (t.out.has_failed || regex->has_failed_alloc)
            status = um_error_set(err, UM_NO_MEMORY, "no memory for a pattern");
        if (status != UM_OK) goto cleanup;
        options |= PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
        TRY_GOTO(compile(regex, t.out.data ? t.out.data : "", t.out.n_bytes, options, err),
                 cleanup);
    }
    *out = regex;
    regex = NULL;
cleanup:
    strbuf_deinit(&t.out);
    split_regex_destroy(regex);
    return status;
}

void split_regex_destroy(split_regex *regex) {
    if (!regex) return;
    pcre2_code_free(regex->code);
    pcre2_general_context_free(regex->general);
    memory_free(regex);
}

/* ---- Matching ---- */

um_status split_regex_match_create(split_regex_match **out, um_error *err) {
    split_regex_match *match = memory_calloc(1, sizeof *match);
    if (!match) FAIL(UM_NO_MEMORY, err, "no memory for a search");
    match->general =
        pcre2_general_context_create(pcre2_alloc, pcre2_free_memory, &match->has_failed_alloc);
    if (match->general) {
        match->context = pcre2_match_context_create(match->general);
        match->data = pcre2_match_data_create(1, match->general);
    }
    if (!match->context || !match->data) {
        split_regex_match_destroy(match);
        FAIL(UM_NO_MEMORY, err, "no memory for a search");
    }
    pcre2_set_heap_limit(match->context, MATCH_HEAP_KIB);
    *out = match;
    return UM_OK;
}

void split_regex_match_destroy(split_regex_match *match) {
    if (!match) return;
    pcre2_match_data_free(match->data);
    pcre2_match_context_free(match->context);
    pcre2_general_context_free(match->general);
    memory_free(match);
}

um_status split_regex_find(const split_regex *regex, split_regex_match *match, const char *text,
                           size_t n_bytes, size_t from, bool *is_found, size_t *start, size_t *end,
                           um_error *err) {
    *is_found = false;
    size_t steps_max =
        MATCH_STEPS_BASE +
        MATCH_STEPS_PER_BYTE * (n_bytes < UINT32_MAX / 128 ? n_bytes : UINT32_MAX / 128);
    pcre2_set_match_limit(match->context, (uint32_t)steps_max);
    int code = pcre2_match(regex->code, (PCRE2_SPTR)text, n_bytes, from, PCRE2_NO_UTF_CHECK,
                           match->data, match->context);
    if (code == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter's stack is the heap */
        code = pcre2_match(regex->code, (PCRE2_SPTR)text, n_bytes, from,
                           PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match->data, match->context);
    if (code == PCRE2_ERROR_NOMATCH) return UM_OK;
    if (code == PCRE2_ERROR_NOMEMORY) FAIL(UM_NO_MEMORY, err, "no memory for a search");
    if (code < 0) {
        char reason[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        FAIL(UM_LIMIT, err, "a pattern of the tokenizer gave up on the text: %s", reason);
    }
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(match->data);
    if (bounds[0] < from || bounds[1] < bounds[0])
        FAIL(UM_UNSUPPORTED, err, "a pattern of the tokenizer matches behind where it looks");
    *is_found = true;
    *start = bounds[0];
    *end = bounds[1];
    return UM_OK;
}

um_status split_regex_next(const split_regex *regex, split_regex_match *match, const char *text,
                           size_t n_bytes, split_regex_walk *walk, bool *is_found, size_t *start,
                           size_t *end, um_error *err) {
    *is_found = false;
    while (walk->from <= n_bytes) {
        TRY(split_regex_find(regex, match, text, n_bytes, walk->from, is_found, start, end, err));
        if (!*is_found) return UM_OK;
        if (*start != *end || !walk->has_last || walk->last_end != *end) {
            walk->from = walk->last_end = *end;
            walk->has_last = true;
            return UM_OK;
        }
        /* Empty, right behind the last match: search on from the next character. */
        *is_found = false;
        size_t length = 1;
        if (walk->from < n_bytes) utf8_decode(text + walk->from, &length);
        walk->from += length;
    }
    return UM_OK;
}

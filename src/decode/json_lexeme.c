/* SPDX-License-Identifier: Apache-2.0
 *
 * Characters, strings and numbers, one edge after another. A character's inner states depend on
 * where it leads alone, so a loop over characters has them once.
 */
#include "decode/json_lexeme.h"

#include <stdio.h>
#include <string.h>

static int32_t state(byte_nfa *nfa) {
    return byte_nfa_state(nfa);
}

static void one_of(byte_nfa *nfa, int32_t from, const char *bytes, int32_t to) {
    for (; *bytes; bytes++)
        byte_nfa_edge(nfa, from, (unsigned char)*bytes, (unsigned char)*bytes, to);
}

static void hex_digit(byte_nfa *nfa, int32_t from, int32_t to) {
    byte_nfa_edge(nfa, from, '0', '9', to);
    byte_nfa_edge(nfa, from, 'a', 'f', to);
    byte_nfa_edge(nfa, from, 'A', 'F', to);
}

void json_lexeme_space(byte_nfa *nfa, int32_t at) {
    one_of(nfa, at, " \t\n\r", at);
}

/* The three kinds of places inside a character of several bytes, of one to three more. */
typedef struct tails {
    int32_t one, two, three;
} tails;

/* Characters of two to four bytes as RFC 3629 has them. */
static void wide_character(byte_nfa *nfa, int32_t from, int32_t to) {
    tails left = {state(nfa), state(nfa), state(nfa)};
    byte_nfa_edge(nfa, left.one, 0x80, 0xBF, to);
    byte_nfa_edge(nfa, left.two, 0x80, 0xBF, left.one);
    byte_nfa_edge(nfa, left.three, 0x80, 0xBF, left.two);
    byte_nfa_edge(nfa, from, 0xC2, 0xDF, left.one);
    byte_nfa_edge(nfa, from, 0xE1, 0xEC, left.two);
    byte_nfa_edge(nfa, from, 0xEE, 0xEF, left.two);
    byte_nfa_edge(nfa, from, 0xF1, 0xF3, left.three);
    const struct {
        int lead, low, high;
        int32_t next;
    } narrow[] = {{0xE0, 0xA0, 0xBF, left.one},  /* nothing overlong */
                  {0xED, 0x80, 0x9F, left.one},  /* no surrogate */
                  {0xF0, 0x90, 0xBF, left.two},  /* nothing overlong */
                  {0xF4, 0x80, 0x8F, left.two}}; /* nothing above U+10FFFF */
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++) {
        int32_t second = state(nfa);
        byte_nfa_edge(nfa, from, narrow[i].lead, narrow[i].lead, second);
        byte_nfa_edge(nfa, second, narrow[i].low, narrow[i].high, narrow[i].next);
    }
}

/* \uXXXX: no surrogate, and not zero, which C strings cannot hold. */
static void unicode_escape(byte_nfa *nfa, int32_t from, int32_t to) {
    int32_t three = state(nfa), two = state(nfa), one = state(nfa), after_d = state(nfa);
    int32_t zero = state(nfa), zeros = state(nfa), last = state(nfa);
    hex_digit(nfa, three, two);
    hex_digit(nfa, two, one);
    hex_digit(nfa, one, to);
    byte_nfa_edge(nfa, after_d, '0', '7', two);
    one_of(nfa, from, "123456789abcefABCEF", three);
    one_of(nfa, from, "dD", after_d);
    one_of(nfa, from, "0", zero);
    one_of(nfa, zero, "0", zeros);
    one_of(nfa, zero, "123456789abcdefABCDEF", two);
    one_of(nfa, zeros, "0", last);
    one_of(nfa, zeros, "123456789abcdefABCDEF", one);
    one_of(nfa, last, "123456789abcdefABCDEF", to);
}

/* Any character of a string. */
static void character(byte_nfa *nfa, int32_t from, int32_t to) {
    int32_t escape = state(nfa), unicode = state(nfa);
    byte_nfa_edge(nfa, from, 0x20, '"' - 1, to);
    byte_nfa_edge(nfa, from, '"' + 1, '\\' - 1, to);
    byte_nfa_edge(nfa, from, '\\' + 1, 0x7F, to);
    one_of(nfa, from, "\\", escape);
    one_of(nfa, escape, "\"\\/bfnrt", to);
    one_of(nfa, escape, "u", unicode);
    unicode_escape(nfa, unicode, to);
    wide_character(nfa, from, to);
}

void json_lexeme_string(byte_nfa *nfa, int32_t from, int64_t minimum, int64_t maximum, int32_t to) {
    int32_t at = state(nfa);
    one_of(nfa, from, "\"", at);
    for (int64_t n = 0; nfa->status == UM_OK; n++) {
        if (n >= minimum) one_of(nfa, at, "\"", to);
        if (n == maximum) break;
        if (n >= minimum && maximum < 0) {
            character(nfa, at, at);
            break;
        }
        int32_t next = state(nfa);
        character(nfa, at, next);
        at = next;
    }
}

/* Strings that differ from all names. `wide` has the edges of a wide character to free_text. */
typedef struct other_strings {
    const char *const *names;
    size_t n_names;
    int32_t free_text, wide, to;
} other_strings;

/* What may follow the first n_prefix bytes of a name at a state: its end, if they are no name
 * themselves, and every byte with which no name goes on. Where one goes on with a wide character,
 * others with the same first byte are left out: half a character has no place of its own here. */
static void leave_names(byte_nfa *nfa, const other_strings *o, int32_t at, const char *prefix,
                        size_t n_prefix) {
    uint8_t is_taken[256] = {0};
    bool is_name = false;
    for (size_t i = 0; i < o->n_names; i++) {
        if (strncmp(o->names[i], prefix, n_prefix) != 0) continue;
        if (o->names[i][n_prefix])
            is_taken[(unsigned char)o->names[i][n_prefix]] = 1;
        else
            is_name = true;
    }
    if (!is_name) one_of(nfa, at, "\"", o->to);
    for (int byte = 0x20; byte < 0x80; byte++)
        if (!is_taken[byte] && byte != '"' && byte != '\\')
            byte_nfa_edge(nfa, at, byte, byte, o->free_text);
    for (int32_t e = nfa->status == UM_OK ? nfa->first_edge[o->wide] : -1; e >= 0;) {
        nfa_edge edge = nfa->edges[e];
        for (int byte = edge.low; byte <= edge.high; byte++)
            if (!is_taken[byte]) byte_nfa_edge(nfa, at, byte, byte, edge.target);
        e = edge.next;
    }
}

void json_lexeme_other_string(byte_nfa *nfa, int32_t from, const char *const *names, size_t n_names,
                              int32_t to) {
    int32_t start = state(nfa), free_text = state(nfa), wide = state(nfa);
    other_strings o = {names, n_names, free_text, wide, to};
    one_of(nfa, from, "\"", start);
    byte_nfa_edge(nfa, free_text, 0x20, '"' - 1, free_text);
    byte_nfa_edge(nfa, free_text, '"' + 1, '\\' - 1, free_text);
    byte_nfa_edge(nfa, free_text, '\\' + 1, 0x7F, free_text);
    wide_character(nfa, free_text, free_text);
    wide_character(nfa, wide, free_text);
    one_of(nfa, free_text, "\"", to);
    leave_names(nfa, &o, start, "", 0);
    /* Down each name. Names that begin alike have states of their own, which agree. A name that
     * needs an escape is not written here, so its way ends before that. */
    for (size_t i = 0; i < n_names; i++) {
        int32_t at = start;
        for (size_t k = 0; names[i][k]; k++) {
            unsigned char byte = (unsigned char)names[i][k];
            unsigned char after = (unsigned char)names[i][k + 1];
            if (byte < 0x20 || byte == '"' || byte == '\\') break;
            int32_t next = state(nfa);
            byte_nfa_edge(nfa, at, byte, byte, next);
            if ((after & 0xC0) != 0x80) leave_names(nfa, &o, next, names[i], k + 1);
            at = next;
        }
    }
}

void json_lexeme_quoted(byte_nfa *nfa, int32_t from, const char *text, size_t n_bytes, int32_t to) {
    int32_t at = state(nfa);
    one_of(nfa, from, "\"", at);
    for (size_t i = 0; i < n_bytes; i++) {
        unsigned char byte = (unsigned char)text[i];
        int32_t next = state(nfa);
        char escape[8];
        static const char short_bytes[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
        const char *found = byte ? strchr(short_bytes, byte) : NULL;
        int n = 1;
        if (found)
            n = snprintf(escape, sizeof escape, "\\%c", letters[found - short_bytes]);
        else if (byte < 0x20)
            n = snprintf(escape, sizeof escape, "\\u%04x", byte);
        else
            escape[0] = (char)byte;
        byte_nfa_text(nfa, at, escape, (size_t)n, next);
        at = next;
    }
    one_of(nfa, at, "\"", to);
}

/* ---- Numbers ---- */

/* 0, or digits that do not begin with it. */
static void digits(byte_nfa *nfa, int32_t from, int32_t to) {
    int32_t at = state(nfa);
    one_of(nfa, from, "0", to);
    byte_nfa_edge(nfa, from, '1', '9', at);
    byte_nfa_empty(nfa, at, to);
    for (int n = 1; n < JSON_INTEGER_DIGITS; n++) {
        int32_t next = state(nfa);
        byte_nfa_edge(nfa, at, '0', '9', next);
        byte_nfa_empty(nfa, next, to);
        at = next;
    }
}

void json_lexeme_integer(byte_nfa *nfa, int32_t from, int32_t to) {
    int32_t unsigned_part = state(nfa);
    one_of(nfa, from, "-", unsigned_part);
    byte_nfa_empty(nfa, from, unsigned_part);
    digits(nfa, unsigned_part, to);
}

/* A point and digits; nothing as well. */
static void fraction(byte_nfa *nfa, int32_t from, int32_t to) {
    int32_t at = state(nfa);
    byte_nfa_empty(nfa, from, to);
    one_of(nfa, from, ".", at);
    for (int n = 0; n < JSON_FRACTION_DIGITS; n++) {
        int32_t next = state(nfa);
        byte_nfa_edge(nfa, at, '0', '9', next);
        byte_nfa_empty(nfa, next, to);
        at = next;
    }
}

void json_lexeme_number(byte_nfa *nfa, int32_t from, int32_t to) {
    int32_t whole = state(nfa), mantissa = state(nfa);
    int32_t exponent = state(nfa), sign = state(nfa), first = state(nfa);
    json_lexeme_integer(nfa, from, whole);
    fraction(nfa, whole, mantissa);
    byte_nfa_empty(nfa, mantissa, to);
    one_of(nfa, mantissa, "eE", exponent);
    one_of(nfa, exponent, "+-", sign);
    byte_nfa_empty(nfa, exponent, sign);
    byte_nfa_edge(nfa, sign, '0', '9', first);
    byte_nfa_empty(nfa, first, to);
    byte_nfa_edge(nfa, first, '0', '9', to);
}

/* Numbers of as many digits as low and high, from one to the other. any[n] is where n more digits,
 * whatever they are, lead to the end. */
static void same_length(byte_nfa *nfa, int32_t from, const char *low, const char *high,
                        const int32_t *any) {
    size_t n = strlen(low);
    /* Along both bounds at once while they agree, then along each of them. */
    for (; n && *low == *high; low++, high++, n--) {
        int32_t next = n == 1 ? any[0] : state(nfa);
        byte_nfa_edge(nfa, from, *low, *low, next);
        from = next;
    }
    if (!n) return;
    if (high[0] - low[0] > 1) byte_nfa_edge(nfa, from, low[0] + 1, high[0] - 1, any[n - 1]);
    for (int is_high = 0; is_high < 2; is_high++) {
        const char *bound = is_high ? high : low;
        int32_t at = from;
        for (size_t i = 0; i < n; i++) {
            if (i && is_high && bound[i] > '0')
                byte_nfa_edge(nfa, at, '0', bound[i] - 1, any[n - 1 - i]);
            if (i && !is_high && bound[i] < '9')
                byte_nfa_edge(nfa, at, bound[i] + 1, '9', any[n - 1 - i]);
            int32_t next = i + 1 == n ? any[0] : state(nfa);
            byte_nfa_edge(nfa, at, bound[i], bound[i], next);
            at = next;
        }
    }
}

/* 0 <= low <= high. */
static void unsigned_range(byte_nfa *nfa, int32_t from, int64_t low, int64_t high, int32_t to) {
    int32_t any[JSON_INTEGER_DIGITS] = {to};
    for (int n = 1; n < JSON_INTEGER_DIGITS; n++) {
        any[n] = state(nfa);
        byte_nfa_edge(nfa, any[n], '0', '9', any[n - 1]);
    }
    for (int64_t start = 0, end = 9; start <= high; start = end + 1, end = start * 10 - 1) {
        if (end < low) continue;
        char least[24], most[24];
        snprintf(least, sizeof least, "%lld", (long long)(low > start ? low : start));
        snprintf(most, sizeof most, "%lld", (long long)(high < end ? high : end));
        same_length(nfa, from, least, most, any);
    }
}

void json_lexeme_range(byte_nfa *nfa, int32_t from, int64_t minimum, int64_t maximum, int32_t to) {
    if (maximum >= 0) unsigned_range(nfa, from, minimum > 0 ? minimum : 0, maximum, to);
    if (minimum >= 0) return;
    int32_t negative = state(nfa);
    one_of(nfa, from, "-", negative);
    unsigned_range(nfa, negative, maximum < 0 ? -maximum : 1, -minimum, to);
}

/* low + fractions up to high, without a sign. 0 <= low <= high. */
static void unsigned_decimals(byte_nfa *nfa, int32_t from, int64_t low, int64_t high, int32_t to) {
    int32_t whole = state(nfa);
    unsigned_range(nfa, from, high, high, to);
    if (high > low) unsigned_range(nfa, from, low, high - 1, whole);
    fraction(nfa, whole, to);
}

void json_lexeme_decimal_range(byte_nfa *nfa, int32_t from, int64_t minimum, int64_t maximum,
                               int32_t to) {
    if (maximum >= 0) unsigned_decimals(nfa, from, minimum > 0 ? minimum : 0, maximum, to);
    if (minimum >= 0) return;
    int32_t negative = state(nfa);
    one_of(nfa, from, "-", negative);
    unsigned_decimals(nfa, negative, maximum < 0 ? -maximum : 0, -minimum, to);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokenizer of jinja2/lexer.py written out by hand: its regular expressions try raw, comment,
 * block and variable at each place, which a scan for '{' does as well. The rule for lstrip_blocks
 * is the delicate part: whitespace before a tag goes only if it reaches back to a line's start,
 * where the start of the text counts if the tag before it swallowed a newline.
 */
#include "text/jinja_lexer.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_utf8.h"

typedef struct lexer {
    jinja_pool *pool;
    const char *source;
    const char *end;
    const char *at;
    int line;
    bool is_line_start; /* the last match ended with a newline */
    jinja_token *items;
    size_t n_items;
    size_t capacity;
    um_error *err;
} lexer;

static const struct {
    char text[3];
    jinja_token_kind kind;
} operators[] = {
    /* The longer ones first. */
    {"//", JINJA_TOKEN_FLOORDIV}, {"**", JINJA_TOKEN_POW},      {"==", JINJA_TOKEN_EQ},
    {"!=", JINJA_TOKEN_NE},       {">=", JINJA_TOKEN_GE},       {"<=", JINJA_TOKEN_LE},
    {"+", JINJA_TOKEN_ADD},       {"-", JINJA_TOKEN_SUB},       {"/", JINJA_TOKEN_DIV},
    {"*", JINJA_TOKEN_MUL},       {"%", JINJA_TOKEN_MOD},       {"~", JINJA_TOKEN_TILDE},
    {"[", JINJA_TOKEN_LBRACKET},  {"]", JINJA_TOKEN_RBRACKET},  {"(", JINJA_TOKEN_LPAREN},
    {")", JINJA_TOKEN_RPAREN},    {"{", JINJA_TOKEN_LBRACE},    {"}", JINJA_TOKEN_RBRACE},
    {">", JINJA_TOKEN_GT},        {"<", JINJA_TOKEN_LT},        {"=", JINJA_TOKEN_ASSIGN},
    {".", JINJA_TOKEN_DOT},       {":", JINJA_TOKEN_COLON},     {"|", JINJA_TOKEN_PIPE},
    {",", JINJA_TOKEN_COMMA},     {";", JINJA_TOKEN_SEMICOLON},
};

const char *jinja_lexer_describe(jinja_token_kind kind) {
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++)
        if (operators[i].kind == kind) return operators[i].text;
    switch (kind) {
        case JINJA_TOKEN_END:
            return "end of template";
        case JINJA_TOKEN_DATA:
            return "text";
        case JINJA_TOKEN_BLOCK_BEGIN:
            return "begin of statement block";
        case JINJA_TOKEN_BLOCK_END:
            return "end of statement block";
        case JINJA_TOKEN_VARIABLE_BEGIN:
            return "begin of print statement";
        case JINJA_TOKEN_VARIABLE_END:
            return "end of print statement";
        case JINJA_TOKEN_NAME:
            return "name";
        case JINJA_TOKEN_STRING:
            return "string";
        case JINJA_TOKEN_INTEGER:
            return "integer";
        default:
            return "float";
    }
}

static um_status no_memory(lexer *lex) {
    if (lex->pool->is_over_limit)
        FAIL(UM_UNSUPPORTED, lex->err, "line %d: the template is too large", lex->line);
    FAIL(UM_NO_MEMORY, lex->err, "no memory for a chat template");
}

static um_status push(lexer *lex, jinja_token_kind kind, int line, jinja_value value) {
    if (lex->n_items == lex->capacity) {
        size_t capacity = lex->capacity ? lex->capacity * 2 : 256;
        jinja_token *grown = jinja_pool_alloc(lex->pool, capacity, sizeof *grown);
        if (!grown) return no_memory(lex);
        if (lex->n_items) memcpy(grown, lex->items, lex->n_items * sizeof *grown);
        lex->items = grown;
        lex->capacity = capacity;
    }
    lex->items[lex->n_items++] = (jinja_token){kind, line, value};
    return UM_OK;
}

static bool starts(const lexer *lex, const char *at, const char *text) {
    size_t n = strlen(text);
    return (size_t)(lex->end - at) >= n && memcmp(at, text, n) == 0;
}

static int count_lines(const char *from, const char *to) {
    int n = 0;
    for (; from < to; from++) n += *from == '\n';
    return n;
}

static const char *skip_space(const lexer *lex, const char *at) {
    while (at < lex->end) {
        size_t n;
        if (!jinja_utf8_is_space(jinja_utf8_read(at, lex->end, &n))) break;
        at += n;
    }
    return at;
}

/* Moves on to `to`, keeping the count of lines. */
static void advance(lexer *lex, const char *to) {
    lex->line += count_lines(lex->at, to);
    if (to > lex->at) lex->is_line_start = to[-1] == '\n';
    lex->at = to;
}

/* Emits the text from lex->at to `to`, stripped for a tag with this sign ('-', '+' or 0). */
static um_status push_data(lexer *lex, const char *to, char sign, bool is_variable) {
    const char *from = lex->at, *stop = to;
    if (sign == '-') {
        while (stop > from) {
            const char *back = jinja_utf8_back(from, stop);
            size_t n;
            if (!jinja_utf8_is_space(jinja_utf8_read(back, stop, &n))) break;
            stop = back;
        }
    } else if (sign != '+' && !is_variable) {
        const char *line = stop;
        while (line > from && line[-1] != '\n') line--;
        if (line > from || lex->is_line_start) {
            const char *p = line;
            while (p < stop) {
                size_t n;
                if (!jinja_utf8_is_space(jinja_utf8_read(p, stop, &n))) break;
                p += n;
            }
            if (p == stop) stop = line;
        }
    }
    if (stop == from) return UM_OK;
    return push(lex, JINJA_TOKEN_DATA, lex->line, jinja_value_text(from, (size_t)(stop - from)));
}

/* Where a tag that may end here ends: past "%}" with its sign and what it swallows; NULL if none.
 * `close` is "%}", "#}" or "}}". Only '-' is a sign of "}}", and only it leaves the newline. */
static const char *tag_end(const lexer *lex, const char *at, const char *close) {
    bool is_variable = close[0] == '}';
    if (at < lex->end && *at == '-' && starts(lex, at + 1, close)) return skip_space(lex, at + 3);
    if (at < lex->end && *at == '+' && !is_variable && starts(lex, at + 1, close)) return at + 3;
    if (!starts(lex, at, close)) return NULL;
    at += 2;
    return !is_variable && at < lex->end && *at == '\n' ? at + 1 : at;
}

/* "{%- raw -%}" at `at`: past it, or NULL. */
static const char *raw_begin(const lexer *lex, const char *at) {
    at += 2;
    if (at < lex->end && (*at == '-' || *at == '+')) at++;
    at = skip_space(lex, at);
    if (!starts(lex, at, "raw")) return NULL;
    at = skip_space(lex, at + 3);
    if (starts(lex, at, "-%}")) return skip_space(lex, at + 3);
    return starts(lex, at, "%}") ? at + 2 : NULL;
}

static um_status lex_raw(lexer *lex) {
    for (const char *p = lex->at; p < lex->end; p++) {
        if (!starts(lex, p, "{%")) continue;
        const char *q = p + 2;
        char sign = q < lex->end && (*q == '-' || *q == '+') ? *q++ : 0;
        q = skip_space(lex, q);
        if (!starts(lex, q, "endraw")) continue;
        q = tag_end(lex, skip_space(lex, q + 6), "%}");
        if (!q) continue;
        TRY(push_data(lex, p, sign, false));
        advance(lex, q);
        return UM_OK;
    }
    FAIL(UM_FORMAT, lex->err, "line %d: missing end of raw directive", lex->line);
}

static um_status lex_comment(lexer *lex) {
    for (const char *p = lex->at; p < lex->end; p++) {
        const char *q = tag_end(lex, p, "#}");
        if (!q) continue;
        advance(lex, q);
        return UM_OK;
    }
    FAIL(UM_FORMAT, lex->err, "line %d: missing end of comment tag", lex->line);
}

static bool is_digit(const lexer *lex, const char *p) {
    return p < lex->end && *p >= '0' && *p <= '9';
}

/* Past "12_000", or `p` itself where no digit is. */
static const char *digits_end(const lexer *lex, const char *p) {
    while (is_digit(lex, p) || (p < lex->end && *p == '_' && p > lex->source &&
                                is_digit(lex, p - 1) && is_digit(lex, p + 1)))
        p++;
    return p;
}

static um_status lex_float(lexer *lex, const char *stop) {
    char text[64];
    size_t n = 0;
    char point = localeconv()->decimal_point[0];
    for (const char *p = lex->at; p < stop; p++) {
        if (*p == '_') continue;
        if (n + 1 == sizeof text)
            FAIL(UM_UNSUPPORTED, lex->err, "line %d: a number is too long", lex->line);
        text[n++] = *p == '.' ? point : *p;
    }
    text[n] = '\0';
    TRY(push(lex, JINJA_TOKEN_FLOAT, lex->line, jinja_value_float(strtod(text, NULL))));
    advance(lex, stop);
    return UM_OK;
}

static int digit_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

static um_status lex_integer(lexer *lex) {
    const char *p = lex->at;
    int base = 10;
    if (*p == '0' && p + 2 < lex->end) {
        char c = (char)(p[1] | 32);
        int wanted = c == 'b' ? 2 : c == 'o' ? 8 : c == 'x' ? 16 : 0;
        const char *q = p + 2 + (p[2] == '_');
        if (wanted && q < lex->end && digit_of(*q) < wanted) {
            base = wanted;
            p = q;
        }
    }
    bool is_zero = base == 10 && *p == '0'; /* "00" is zero; the 7 of "007" is a token of its own */
    int64_t value = 0;
    while (p < lex->end) {
        if (*p == '_' && p + 1 < lex->end && digit_of(p[1]) < base && !(is_zero && p[1] != '0')) {
            p++;
            continue;
        }
        int digit = digit_of(*p);
        if (digit >= base || (is_zero && digit)) break;
        if (__builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value))
            FAIL(UM_UNSUPPORTED, lex->err, "line %d: an integer does not fit into 64 bits",
                 lex->line);
        p++;
    }
    TRY(push(lex, JINJA_TOKEN_INTEGER, lex->line, jinja_value_int(value)));
    advance(lex, p);
    return UM_OK;
}

/* Reads n hexadecimal digits; false where there are fewer. */
static bool read_hex(const char *p, const char *end, int n, uint32_t *value) {
    *value = 0;
    if (end - p < n) return false;
    for (int i = 0; i < n; i++) {
        int digit = digit_of(p[i]);
        if (digit > 15) return false;
        *value = *value * 16 + (uint32_t)digit;
    }
    return true;
}

static um_status lex_string(lexer *lex, const char *stop) {
    char quote = *lex->at;
    (void)quote;
    const char *p = lex->at + 1, *end = stop - 1;
    /* No escape is shorter than the character that it stands for. */
    char *text = jinja_pool_alloc(lex->pool, (size_t)(end - p) + 4, 1);
    if (!text) return no_memory(lex);
    size_t n = 0;
    while (p < end) {
        if (*p != '\\') {
            text[n++] = *p++;
            continue;
        }
        static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
        char c = p[1];
        const char *found = NULL;
        for (const char *q = plain; *q && !found; q += 2)
            if (*q == c) found = q;
        p += 2;
        if (found) {
            text[n++] = found[1];
        } else if (c == '\n') {
            continue;
        } else if (c == 'x' || c == 'u' || c == 'U' || (c >= '0' && c <= '7')) {
            uint32_t value;
            if (c >= '0' && c <= '7') {
                value = (uint32_t)(c - '0');
                for (int i = 0; i < 2 && p < end && *p >= '0' && *p <= '7'; i++)
                    value = value * 8 + (uint32_t)(*p++ - '0');
            } else {
                int n_digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
                if (!read_hex(p, end, n_digits, &value) || value > 0x10FFFF)
                    FAIL(UM_FORMAT, lex->err, "line %d: bad \\%c escape in a string", lex->line, c);
                p += n_digits;
            }
            if (!value || (value >= 0xD800 && value < 0xE000))
                FAIL(UM_UNSUPPORTED, lex->err, "line %d: a string holds U+%04X", lex->line,
                     (unsigned)value);
            n += jinja_utf8_write(value, text + n);
        } else if (c == 'N') {
            FAIL(UM_UNSUPPORTED, lex->err, "line %d: \\N escapes are not supported", lex->line);
        } else {
            text[n++] = '\\';
            p--; /* the character itself may be longer than a byte */
        }
    }
    TRY(push(lex, JINJA_TOKEN_STRING, lex->line, jinja_value_text(text, n)));
    advance(lex, stop);
    return UM_OK;
}

/* Past the string that begins at lex->at, or NULL if it does not end. */
static const char *string_end(const lexer *lex) {
    for (const char *p = lex->at + 1; p < lex->end; p++) {
        if (*p == '\\')
            p++;
        else if (*p == *lex->at)
            return p + 1;
    }
    return NULL;
}

static bool is_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (unsigned char)c >= 0x80;
}

/* One token inside of a tag that is not its end. */
static um_status lex_piece(lexer *lex, char *brackets, int *depth, int depth_max) {
    const char *at = lex->at;
    if (is_digit(lex, at)) {
        const char *stop = digits_end(lex, at), *p = stop;
        bool is_float = false;
        if (p + 1 < lex->end && *p == '.' && is_digit(lex, p + 1)) {
            is_float = true;
            p = stop = digits_end(lex, p + 1);
        }
        if (p < lex->end && (*p | 32) == 'e') {
            const char *q = p + 1;
            if (q < lex->end && (*q == '+' || *q == '-')) q++;
            if (is_digit(lex, q)) {
                is_float = true;
                stop = digits_end(lex, q);
            }
        }
        if (at > lex->source && at[-1] == '.') is_float = false;
        return is_float ? lex_float(lex, stop) : lex_integer(lex);
    }
    if (is_name_byte(*at)) {
        const char *p = at;
        while (p < lex->end && is_name_byte(*p)) p++;
        TRY(push(lex, JINJA_TOKEN_NAME, lex->line, jinja_value_text(at, (size_t)(p - at))));
        advance(lex, p);
        return UM_OK;
    }
    if (*at == '\'' || *at == '"') {
        const char *stop = string_end(lex);
        if (!stop) FAIL(UM_FORMAT, lex->err, "line %d: a string does not end", lex->line);
        return lex_string(lex, stop);
    }
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (!starts(lex, at, operators[i].text)) continue;
        char c = *at;
        if (c == '(' || c == '[' || c == '{') {
            if (*depth == depth_max)
                FAIL(UM_FORMAT, lex->err, "line %d: brackets nest too deep", lex->line);
            brackets[(*depth)++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            if (!*depth) FAIL(UM_FORMAT, lex->err, "line %d: unexpected '%c'", lex->line, c);
            char wanted = brackets[--*depth];
            if (wanted != c)
                FAIL(UM_FORMAT, lex->err, "line %d: unexpected '%c', expected '%c'", lex->line, c,
                     wanted);
        }
        TRY(push(lex, operators[i].kind, lex->line, jinja_value_none()));
        advance(lex, at + strlen(operators[i].text));
        return UM_OK;
    }
    FAIL(UM_FORMAT, lex->err, "line %d: unexpected character '%c'", lex->line,
         *at >= 32 && *at < 127 ? *at : '?');
}

static um_status lex_tag(lexer *lex, bool is_variable) {
    enum { BRACKETS_MAX = 256 };
    char brackets[BRACKETS_MAX];
    int depth = 0;
    while (lex->at < lex->end) {
        const char *stop = depth ? NULL : tag_end(lex, lex->at, is_variable ? "}}" : "%}");
        if (stop) {
            TRY(push(lex, is_variable ? JINJA_TOKEN_VARIABLE_END : JINJA_TOKEN_BLOCK_END, lex->line,
                     jinja_value_none()));
            advance(lex, stop);
            return UM_OK;
        }
        const char *p = skip_space(lex, lex->at);
        if (p > lex->at)
            advance(lex, p);
        else
            TRY(lex_piece(lex, brackets, &depth, BRACKETS_MAX));
    }
    return UM_OK; /* the parser reports the end of the template */
}

static um_status lex_root(lexer *lex) {
    while (lex->at < lex->end) {
        const char *p = lex->at;
        while (p < lex->end && !starts(lex, p, "{{") && !starts(lex, p, "{%") &&
               !starts(lex, p, "{#"))
            p++;
        if (p == lex->end) {
            TRY(push_data(lex, p, '+', false));
            advance(lex, p);
            break;
        }
        char kind = p[1];
        char sign = p + 2 < lex->end && (p[2] == '-' || p[2] == '+') ? p[2] : 0;
        TRY(push_data(lex, p, sign, kind == '{'));
        const char *raw = kind == '%' ? raw_begin(lex, p) : NULL;
        if (raw) {
            advance(lex, raw);
            TRY(lex_raw(lex));
            continue;
        }
        advance(lex, p + 2 + (sign != 0));
        if (kind == '#') {
            TRY(lex_comment(lex));
            continue;
        }
        TRY(push(lex, kind == '{' ? JINJA_TOKEN_VARIABLE_BEGIN : JINJA_TOKEN_BLOCK_BEGIN, lex->line,
                 jinja_value_none()));
        TRY(lex_tag(lex, kind == '{'));
    }
    return push(lex, JINJA_TOKEN_END, lex->line, jinja_value_none());
}

um_status jinja_lexer_run(jinja_pool *pool, const char *source, size_t n_bytes,
                          jinja_tokens *tokens, um_error *err) {
    lexer lex = {.pool = pool, .line = 1, .is_line_start = true, .err = err};
    if (!jinja_utf8_is_valid(source, n_bytes) || memchr(source, '\0', n_bytes))
        FAIL(UM_FORMAT, err, "the template is not UTF-8 text");
    char *text = jinja_pool_alloc(pool, n_bytes + 1, 1);
    if (!text) return no_memory(&lex);
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        char c = source[i];
        if (c == '\r') {
            c = '\n';
            if (i + 1 < n_bytes && source[i + 1] == '\n') i++;
        }
        text[n++] = c;
    }
    if (n && text[n - 1] == '\n') n--;
    lex.source = lex.at = text;
    lex.end = text + n;
    TRY(lex_root(&lex));
    tokens->items = lex.items;
    tokens->n_items = lex.n_items;
    return UM_OK;
}

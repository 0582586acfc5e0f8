/* SPDX-License-Identifier: Apache-2.0
 *
 * Character properties over utf8proc; the two sets that Python defines itself are listed here.
 */
#include "text/jinja_utf8.h"

#include <utf8proc.h>

uint32_t jinja_utf8_read(const char *text, const char *end, size_t *n_bytes) {
    const unsigned char *p = (const unsigned char *)text;
    size_t n_left = (size_t)(end - text);
    if (p[0] >= 0xF0 && n_left >= 4) {
        *n_bytes = 4;
        return (p[0] & 7u) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
    }
    if (p[0] >= 0xE0 && n_left >= 3) {
        *n_bytes = 3;
        return (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
    }
    if (p[0] >= 0xC0 && n_left >= 2) {
        *n_bytes = 2;
        return (p[0] & 31u) << 6 | (p[1] & 63u);
    }
    *n_bytes = 1;
    return p[0];
}

const char *jinja_utf8_back(const char *start, const char *text) {
    text--;
    while (text > start && ((unsigned char)*text & 0xC0) == 0x80) text--;
    return text;
}

size_t jinja_utf8_write(uint32_t c, char *utf8) {
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)c, (utf8proc_uint8_t *)utf8);
}

bool jinja_utf8_is_valid(const char *text, size_t n_bytes) {
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
    for (size_t i = 0; i < n_bytes;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate(p + i, (utf8proc_ssize_t)(n_bytes - i), &c);
        if (n <= 0) return false;
        i += (size_t)n;
    }
    return true;
}

size_t jinja_utf8_count(const char *text, size_t n_bytes) {
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++) n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

size_t jinja_utf8_offset(const char *text, size_t n_bytes, size_t i) {
    size_t at = 0;
    for (; at < n_bytes; at++) {
        if (((unsigned char)text[at] & 0xC0) == 0x80) continue;
        if (i-- == 0) break;
    }
    return at;
}

bool jinja_utf8_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool jinja_utf8_is_line_end(uint32_t c) {
    return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

static utf8proc_category_t category(uint32_t c) {
    return utf8proc_category((utf8proc_int32_t)c);
}

bool jinja_utf8_is_printable(uint32_t c) {
    if (c == ' ') return true;
    switch (category(c)) {
        case UTF8PROC_CATEGORY_CC:
        case UTF8PROC_CATEGORY_CF:
        case UTF8PROC_CATEGORY_CS:
        case UTF8PROC_CATEGORY_CO:
        case UTF8PROC_CATEGORY_CN:
        case UTF8PROC_CATEGORY_ZL:
        case UTF8PROC_CATEGORY_ZP:
        case UTF8PROC_CATEGORY_ZS:
            return false;
        default:
            return true;
    }
}

bool jinja_utf8_is_alpha(uint32_t c) {
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool jinja_utf8_is_digit(uint32_t c) {
    return category(c) == UTF8PROC_CATEGORY_ND || c == 0xB2 || c == 0xB3 || c == 0xB9;
}

bool jinja_utf8_is_upper(uint32_t c) {
    return category(c) == UTF8PROC_CATEGORY_LU;
}

bool jinja_utf8_is_lower(uint32_t c) {
    return category(c) == UTF8PROC_CATEGORY_LL || c == 0xAA || c == 0xBA;
}

size_t jinja_utf8_upper(uint32_t c, uint32_t *mapped) {
    mapped[0] = (uint32_t)utf8proc_toupper((utf8proc_int32_t)c);
    if (c != 0xDF) return 1;
    mapped[0] = mapped[1] = 'S';
    return 2;
}

size_t jinja_utf8_lower(uint32_t c, uint32_t *mapped) {
    mapped[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    if (c != 0x130) return 1;
    mapped[0] = 'i';
    mapped[1] = 0x307; /* the dot, as a combining character */
    return 2;
}

uint32_t jinja_utf8_title(uint32_t c) {
    return (uint32_t)utf8proc_totitle((utf8proc_int32_t)c);
}

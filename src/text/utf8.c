/* SPDX-License-Identifier: Apache-2.0
 *
 * The table 3-7 of the Unicode standard, as code: the second byte's range depends on the first.
 */
#include "text/utf8.h"

#include <string.h>

/* Length of a character by its first byte, 0 for a byte that begins none; *low and *high bound the
 * second byte. */
static size_t lead_length(unsigned char lead, unsigned char *low, unsigned char *high) {
    *low = 0x80;
    *high = 0xBF;
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    if (lead < 0xE0) return 2;
    if (lead < 0xF0) {
        if (lead == 0xE0) *low = 0xA0;
        if (lead == 0xED) *high = 0x9F;
        return 3;
    }
    if (lead > 0xF4) return 0;
    if (lead == 0xF0) *low = 0x90;
    if (lead == 0xF4) *high = 0x8F;
    return 4;
}

utf8_kind utf8_next(const char *text, size_t n, size_t *length) {
    unsigned char low, high;
    size_t wanted = lead_length((unsigned char)text[0], &low, &high);
    if (wanted == 0) {
        *length = 1;
        return UTF8_KIND_BAD;
    }
    for (size_t i = 1; i < wanted; i++) {
        if (i == n) {
            *length = n;
            return UTF8_KIND_PARTIAL;
        }
        unsigned char c = (unsigned char)text[i];
        if (c < low || c > high) {
            *length = i;
            return UTF8_KIND_BAD;
        }
        low = 0x80;
        high = 0xBF;
    }
    *length = wanted;
    return UTF8_KIND_CHARACTER;
}

bool utf8_is_valid(const char *text, size_t n, size_t *bad_pos) {
    size_t i = 0;
    while (i < n) {
        if ((unsigned char)text[i] < 0x80) {
            i++;
            continue;
        }
        size_t length;
        if (utf8_next(text + i, n - i, &length) != UTF8_KIND_CHARACTER) {
            if (bad_pos) *bad_pos = i;
            return false;
        }
        i += length;
    }
    return true;
}

unsigned utf8_decode(const char *text, size_t *length) {
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80) {
        *length = 1;
        return p[0];
    }
    if (p[0] < 0xE0) {
        *length = 2;
        return (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    }
    if (p[0] < 0xF0) {
        *length = 3;
        return (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    }
    *length = 4;
    return (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
}

size_t utf8_last(const char *text, size_t n) {
    size_t i = n - 1;
    while (i > 0 && ((unsigned char)text[i] & 0xC0) == 0x80) i--;
    return i;
}

void utf8_append_lossy(strbuf *out, const char *text, size_t n) {
    size_t start = 0, i = 0;
    while (i < n) {
        size_t length;
        if (utf8_next(text + i, n - i, &length) != UTF8_KIND_CHARACTER) {
            strbuf_append(out, text + start, i - start);
            strbuf_append_codepoint(out, 0xFFFD);
            start = i + length;
        }
        i += length;
    }
    strbuf_append(out, text + start, n - start);
}

bool utf8_is_space(unsigned c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

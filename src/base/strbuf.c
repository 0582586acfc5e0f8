/* SPDX-License-Identifier: Apache-2.0
 *
 * The growing string. Capacity doubles; the terminating zero is kept at every moment.
 */
#include "base/strbuf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

void strbuf_init(strbuf *buf) {
    memset(buf, 0, sizeof *buf);
}

void strbuf_deinit(strbuf *buf) {
    memory_free(buf->data);
    strbuf_init(buf);
}

/* Makes room for n_more bytes and the zero. */
static bool reserve(strbuf *buf, size_t n_more) {
    if (buf->has_failed) return false;
    size_t needed;
    if (__builtin_add_overflow(buf->n_bytes, n_more, &needed) || needed == SIZE_MAX ||
        (buf->limit && needed > buf->limit)) {
        buf->has_failed = true;
        return false;
    }
    needed++;
    if (needed <= buf->capacity) return true;
    size_t wanted = buf->capacity ? buf->capacity : 64;
    while (wanted < needed) wanted = wanted > SIZE_MAX / 2 ? needed : wanted * 2;
    char *grown = memory_realloc_array(buf->data, wanted, 1);
    if (!grown) {
        buf->has_failed = true;
        return false;
    }
    buf->data = grown;
    buf->capacity = wanted;
    return true;
}

void strbuf_append(strbuf *buf, const char *bytes, size_t n_bytes) {
    if (!reserve(buf, n_bytes)) return;
    if (n_bytes) memcpy(buf->data + buf->n_bytes, bytes, n_bytes);
    buf->n_bytes += n_bytes;
    buf->data[buf->n_bytes] = '\0';
}

void strbuf_append_string(strbuf *buf, const char *text) {
    strbuf_append(buf, text, strlen(text));
}

void strbuf_append_char(strbuf *buf, char c) {
    strbuf_append(buf, &c, 1);
}

void strbuf_append_format(strbuf *buf, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0 && reserve(buf, (size_t)n)) {
        vsnprintf(buf->data + buf->n_bytes, (size_t)n + 1, format, again);
        buf->n_bytes += (size_t)n;
    }
    va_end(again);
}

void strbuf_append_codepoint(strbuf *buf, unsigned codepoint) {
    char utf8[4];
    size_t n;
    if (codepoint < 0x80) {
        utf8[0] = (char)codepoint;
        n = 1;
    } else if (codepoint < 0x800) {
        utf8[0] = (char)(0xC0 | (codepoint >> 6));
        utf8[1] = (char)(0x80 | (codepoint & 0x3F));
        n = 2;
    } else if (codepoint < 0x10000) {
        utf8[0] = (char)(0xE0 | (codepoint >> 12));
        utf8[1] = (char)(0x80 | ((codepoint >> 6) & 0x3F));
        utf8[2] = (char)(0x80 | (codepoint & 0x3F));
        n = 3;
    } else {
        utf8[0] = (char)(0xF0 | (codepoint >> 18));
        utf8[1] = (char)(0x80 | ((codepoint >> 12) & 0x3F));
        utf8[2] = (char)(0x80 | ((codepoint >> 6) & 0x3F));
        utf8[3] = (char)(0x80 | (codepoint & 0x3F));
        n = 4;
    }
    strbuf_append(buf, utf8, n);
}

char *strbuf_take(strbuf *buf, size_t *n_bytes) {
    if (!reserve(buf, 0)) {
        strbuf_deinit(buf);
        return NULL;
    }
    buf->data[buf->n_bytes] = '\0';
    char *text = buf->data;
    if (n_bytes) *n_bytes = buf->n_bytes;
    strbuf_init(buf);
    return text;
}

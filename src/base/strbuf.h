/* SPDX-License-Identifier: Apache-2.0
 *
 * A growing string of bytes, always zero-terminated. Failure sticks: after an allocation failed,
 * appends do nothing and strbuf_take returns NULL, so a writer checks once at the end.
 */
#ifndef BASE_STRBUF_H
#define BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef struct strbuf {
    char *data; /* NULL until the first append */
    size_t n_bytes;
    size_t capacity;
    size_t limit; /* appends beyond it fail as if memory had run out; 0: no limit */
    bool has_failed;
} strbuf;

void strbuf_init(strbuf *buf);
void strbuf_deinit(strbuf *buf);
void strbuf_append(strbuf *buf, const char *bytes, size_t n_bytes);
void strbuf_append_string(strbuf *buf, const char *text);
void strbuf_append_char(strbuf *buf, char c);
void strbuf_append_format(strbuf *buf, const char *format, ...) BASE_PRINTF(2, 3);
/* Appends a Unicode scalar value as UTF-8. */
void strbuf_append_codepoint(strbuf *buf, unsigned codepoint);
/* Gives the string to the caller (memory_free) and empties the buffer. NULL if an append failed. */
char *strbuf_take(strbuf *buf, size_t *n_bytes);

#endif

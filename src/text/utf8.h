/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. Tells
 * characters from damage; it knows no normal forms.
 */
#ifndef TEXT_UTF8_H
#define TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "base/strbuf.h"

typedef enum utf8_kind {
    UTF8_KIND_CHARACTER = 0, /* a whole character */
    UTF8_KIND_BAD = 1,       /* bytes that no continuation makes a character of */
    UTF8_KIND_PARTIAL = 2    /* all n bytes are the beginning of a character */
} utf8_kind;

/* Looks at the first of n (at least 1) bytes. *length is the character's length, or that of the
 * longest prefix that could have become one (1 where there is none), or n. */
utf8_kind utf8_next(const char *text, size_t n, size_t *length);

/* True if all n bytes are characters; otherwise *bad_pos (may be NULL) is the first damaged one. */
bool utf8_is_valid(const char *text, size_t n, size_t *bad_pos);

/* The character at the front of valid text, and its length. */
unsigned utf8_decode(const char *text, size_t *length);
/* The start of the last character of valid text of n (at least 1) bytes. */
size_t utf8_last(const char *text, size_t n);

/* Appends text with each damaged part replaced by U+FFFD, one for each maximal prefix of a
 * character (Unicode 15, section 3.9, "substitution of maximal subparts": what Python and Rust do).
 */
void utf8_append_lossy(strbuf *out, const char *text, size_t n);

/* Unicode's White_Space property. */
bool utf8_is_space(unsigned codepoint);

#endif

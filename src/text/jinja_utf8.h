/* SPDX-License-Identifier: Apache-2.0
 *
 * Characters of valid UTF-8 with Python's notions of them: what str.strip takes for whitespace,
 * what splitlines takes for a line's end, what repr prints as it is. Knows no values.
 */
#ifndef TEXT_JINJA_UTF8_H
#define TEXT_JINJA_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads one character of valid UTF-8 at text; *n_bytes receives its length. text < end. */
uint32_t jinja_utf8_read(const char *text, const char *end, size_t *n_bytes);
/* The byte at which the character before `text` begins; start < text. */
const char *jinja_utf8_back(const char *start, const char *text);
/* Writes one character to utf8 [4]; returns its length. */
size_t jinja_utf8_write(uint32_t c, char *utf8);
bool jinja_utf8_is_valid(const char *text, size_t n_bytes);
size_t jinja_utf8_count(const char *text, size_t n_bytes);
/* The byte offset of character i, or n_bytes past the end. */
size_t jinja_utf8_offset(const char *text, size_t n_bytes, size_t i);

bool jinja_utf8_is_space(uint32_t c);
bool jinja_utf8_is_line_end(uint32_t c);
bool jinja_utf8_is_printable(uint32_t c);
bool jinja_utf8_is_alpha(uint32_t c);
bool jinja_utf8_is_digit(uint32_t c);
bool jinja_utf8_is_upper(uint32_t c);
bool jinja_utf8_is_lower(uint32_t c);
/* Case mapping; `mapped` [3] receives the characters, whose count is returned. Of the mappings to
 * several, only sharp s and the dotted I are known. */
size_t jinja_utf8_upper(uint32_t c, uint32_t *mapped);
size_t jinja_utf8_lower(uint32_t c, uint32_t *mapped);
uint32_t jinja_utf8_title(uint32_t c);

#endif

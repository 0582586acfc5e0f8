/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON from files, with errors in the project's terms. Jansson does the parsing; this file decides
 * what it accepts: UTF-8, no duplicate keys, no NaN, an object at the top. Knows no keys.
 */
#ifndef FORMATS_JSON_TEXT_H
#define FORMATS_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum { JSON_TEXT_EXCERPT_BYTES = 128 };

/* What else a text may hold. Integers beyond int64 (transformers writes "model_max_length": 10^30)
 * make every integer of the text a real; \u0000 in strings occurs in vocabularies. */
enum { JSON_TEXT_BIG_NUMBERS = 1, JSON_TEXT_NUL = 2 };

/* Parses an object. `file` is the name that messages begin with. UM_FORMAT carries the byte within
 * the text. On success *root is the caller's, to be freed with json_decref. */
um_status json_text_parse(const char *text, size_t n_bytes, const char *file, unsigned allowed,
                          json_t **root, um_error *err);

/* The same over directory/name, a file of at most limit_bytes. Errors name the path in err->where.
 * UM_NOT_FOUND where there is no such file. */
um_status json_text_open(const char *directory, const char *name, size_t limit_bytes,
                         unsigned allowed, json_t **root, um_error *err);

/* The start of a text from a file, fit for a message: control characters become '?', a cut is
 * marked by "...". Returns out. */
const char *json_text_excerpt(const char *text, char out[JSON_TEXT_EXCERPT_BYTES]);

/* "\"abc\"", "-3", "true", "a list of 2", "an object", "nothing" (value NULL): the "found" of a
 * message. Returns out. */
const char *json_text_describe(const json_t *value, char out[JSON_TEXT_EXCERPT_BYTES]);

/* True for an integer, and for a real that is exactly one, at most 2^53 in size ("32.0", 1e3). */
bool json_text_is_integer(const json_t *value, int64_t *integer);

#endif

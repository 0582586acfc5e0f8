/* SPDX-License-Identifier: Apache-2.0
 *
 * What the routes need of JSON beyond jansson: text that may hold bytes which are not UTF-8, and
 * documents as memory of the project.
 */
#ifndef SERVER_JSON_VALUE_H
#define SERVER_JSON_VALUE_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"

/* A string; bytes that are not UTF-8 become '?'. NULL when memory runs out. */
json_t *json_value_text(const char *bytes, size_t n_bytes);
/* Writes a document on one line, and releases it. The result is for memory_free; NULL when memory
 * ran out, or where root is NULL. */
char *json_value_write(json_t *root, size_t *n_bytes);
/* The same with all digits of a number, for documents that are read again. */
char *json_value_write_exact(json_t *root, size_t *n_bytes);
/* Reads an object. UM_INVALID with the place and the reason. The caller's, for json_decref. */
um_status json_value_read_object(const char *bytes, size_t n_bytes, json_t **root, um_error *err);
/* "a string", "null", ...: what was found in place of what was expected. Constant. */
const char *json_value_kind(const json_t *value);

#endif

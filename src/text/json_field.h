/* SPDX-License-Identifier: Apache-2.0
 *
 * Fields of JSON objects with their types checked: each failure is a sentence that names the field.
 * `where` is the path of the object for that sentence ("model", "added_tokens[3]").
 */
#ifndef TEXT_JSON_FIELD_H
#define TEXT_JSON_FIELD_H

#include <jansson.h>

#include "base/status.h"

/* "an object", "null", "nothing" for NULL: for sentences. */
const char *json_field_kind(const json_t *value);

/* A boolean; absent or null gives `otherwise`. */
um_status json_field_bool(const json_t *object, const char *where, const char *name, bool otherwise,
                          bool *value, um_error *err);

/* A borrowed string. Absent or null gives NULL if the field is optional, else UM_FORMAT. */
um_status json_field_string(const json_t *object, const char *where, const char *name,
                            bool is_required, const char **text, size_t *n_bytes, um_error *err);

/* A borrowed array. Absent or null gives NULL if the field is optional. */
um_status json_field_array(const json_t *object, const char *where, const char *name,
                           bool is_required, json_t **array, um_error *err);

/* Parses a document: duplicate keys refused, zero characters in strings allowed. An integer beyond
 * 64 bits is UM_FORMAT, or, with has_big_numbers, all integers are read as reals. The caller owns
 * *root (json_decref). `name` is the file's name for the sentence. */
um_status json_field_parse(const char *text, size_t n_bytes, const char *name, bool has_big_numbers,
                           json_t **root, um_error *err);

#endif

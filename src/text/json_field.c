/* SPDX-License-Identifier: Apache-2.0
 *
 * Typed reading of jansson values. Null counts as absent, as Hugging Face's files have it.
 */
#include "text/json_field.h"

#include <string.h>

const char *json_field_kind(const json_t *value) {
    if (!value) return "nothing";
    switch (json_typeof(value)) {
        case JSON_OBJECT:
            return "an object";
        case JSON_ARRAY:
            return "an array";
        case JSON_STRING:
            return "a string";
        case JSON_INTEGER:
            return "an integer";
        case JSON_REAL:
            return "a fraction";
        case JSON_TRUE:
        case JSON_FALSE:
            return "a boolean";
        case JSON_NULL:
            return "null";
    }
    return "something else";
}

um_status json_field_bool(const json_t *object, const char *where, const char *name, bool otherwise,
                          bool *value, um_error *err) {
    const json_t *field = json_object_get(object, name);
    *value = otherwise;
    if (!field || json_is_null(field)) return UM_OK;
    if (!json_is_boolean(field))
        FAIL(UM_FORMAT, err, "%s.%s is %s; a boolean is expected", where, name,
             json_field_kind(field));
    *value = json_is_true(field);
    return UM_OK;
}

um_status json_field_string(const json_t *object, const char *where, const char *name,
                            bool is_required, const char **text, size_t *n_bytes, um_error *err) {
    const json_t *field = json_object_get(object, name);
    *text = NULL;
    *n_bytes = 0;
    if ((!field || json_is_null(field)) && !is_required) return UM_OK;
    if (!json_is_string(field))
        FAIL(UM_FORMAT, err, "%s.%s is %s; a string is expected", where, name,
             json_field_kind(field));
    *text = json_string_value(field);
    *n_bytes = json_string_length(field);
    return UM_OK;
}

um_status json_field_array(const json_t *object, const char *where, const char *name,
                           bool is_required, json_t **array, um_error *err) {
    json_t *field = json_object_get(object, name);
    *array = NULL;
    if ((!field || json_is_null(field)) && !is_required) return UM_OK;
    if (!json_is_array(field))
        FAIL(UM_FORMAT, err, "%s.%s is %s; an array is expected", where, name,
             json_field_kind(field));
    *array = field;
    return UM_OK;
}

um_status json_field_parse(const char *text, size_t n_bytes, const char *name, bool has_big_numbers,
                           json_t **root, um_error *err) {
    json_error_t fault;
    size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    *root = json_loadb(text, n_bytes, flags, &fault);
    /* transformers writes "no limit" as model_max_length 10^30, which no 64-bit integer holds. */
    if (!*root && has_big_numbers && json_error_code(&fault) == json_error_numeric_overflow)
        *root = json_loadb(text, n_bytes, flags | JSON_DECODE_INT_AS_REAL, &fault);
    if (*root) return UM_OK;
    /* jansson names most of its own failures of memory, and leaves the text empty for the others.
     */
    if (json_error_code(&fault) == json_error_out_of_memory || !fault.text[0])
        FAIL(UM_NO_MEMORY, err, "no memory for the contents of %s", name);
    um_error_set(err, UM_FORMAT, "%s is not the JSON that is expected: %s, line %d", name,
                 fault.text, fault.line);
    um_error_at(err, name, fault.position);
    return UM_FORMAT;
}

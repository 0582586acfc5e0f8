/* SPDX-License-Identifier: Apache-2.0
 *
 * Duplicate keys are refused, as one of the two would be ignored; so are zeros in strings, which
 * would cut texts short on their way through C.
 */
#include "server/json_value.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

json_t *json_value_text(const char *bytes, size_t n_bytes) {
    json_t *value = json_stringn(bytes, n_bytes);
    if (value) return value;
    char *clean = memory_copy_string(bytes, n_bytes);
    if (!clean) return NULL;
    for (size_t i = 0; i < n_bytes; i++)
        if ((unsigned char)clean[i] >= 0x80) clean[i] = '?';
    value = json_stringn(clean, n_bytes);
    memory_free(clean);
    return value;
}

static char *write_digits(json_t *root, size_t n_digits, size_t *n_bytes) {
    if (!root) return NULL;
    char *text = json_dumps(root, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(n_digits));
    json_decref(root);
    char *copy = text ? memory_copy_string(text, strlen(text)) : NULL;
    if (copy && n_bytes) *n_bytes = strlen(copy);
    free(text);
    return copy;
}

char *json_value_write(json_t *root, size_t *n_bytes) {
    return write_digits(root, 9, n_bytes);
}

char *json_value_write_exact(json_t *root, size_t *n_bytes) {
    return write_digits(root, 17, n_bytes);
}

um_status json_value_read_object(const char *bytes, size_t n_bytes, json_t **root, um_error *err) {
    json_error_t fault;
    *root = json_loadb(bytes, n_bytes, JSON_REJECT_DUPLICATES, &fault);
    if (!*root) {
        if (json_error_code(&fault) == json_error_out_of_memory)
            FAIL(UM_NO_MEMORY, err, "no memory for the request");
        FAIL(UM_INVALID, err, "the body: expected a JSON object; line %d, column %d: %s",
             fault.line, fault.column, fault.text);
    }
    if (json_is_object(*root)) return UM_OK;
    const char *kind = json_value_kind(*root);
    json_decref(*root);
    *root = NULL;
    FAIL(UM_INVALID, err, "the body: expected a JSON object, found %s", kind);
}

const char *json_value_kind(const json_t *value) {
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
            return "a number";
        case JSON_TRUE:
        case JSON_FALSE:
            return "a boolean";
        default:
            return "null";
    }
}

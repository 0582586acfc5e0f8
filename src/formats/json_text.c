/* SPDX-License-Identifier: Apache-2.0
 *
 * Jansson behind the project's conventions. Jansson's lexer reports a failed allocation as an
 * invalid token, or not at all; malloc's errno tells the two apart (jansson clears errno when it
 * reads a number, so one that is followed by numbers may still come out as UM_FORMAT).
 */
#include "formats/json_text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file_map.h"
#include "base/memory.h"

/* Length of text without a UTF-8 sequence that is cut off at its end. */
static size_t whole_characters(const char *text, size_t n_bytes) {
    size_t i = n_bytes;
    for (int back = 0; back < 4 && i > 0; back++) {
        unsigned char c = (unsigned char)text[--i];
        if ((c & 0xC0) == 0x80) continue;
        size_t n_expected = c < 0x80 ? 1 : c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
        return n_bytes - i < n_expected ? i : n_bytes;
    }
    return n_bytes;
}

const char *json_text_excerpt(const char *text, char out[JSON_TEXT_EXCERPT_BYTES]) {
    size_t n = strnlen(text, JSON_TEXT_EXCERPT_BYTES);
    bool is_cut = n > JSON_TEXT_EXCERPT_BYTES - 4;
    if (is_cut) n = JSON_TEXT_EXCERPT_BYTES - 4;
    n = whole_characters(text, n);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        out[i] = c < 0x20 || c == 0x7F ? '?' : text[i];
    }
    memcpy(out + n, is_cut ? "..." : "", is_cut ? 4 : 1);
    return out;
}

const char *json_text_describe(const json_t *value, char out[JSON_TEXT_EXCERPT_BYTES]) {
    char excerpt[JSON_TEXT_EXCERPT_BYTES];
    size_t n = JSON_TEXT_EXCERPT_BYTES;
    if (!value) {
        snprintf(out, n, "nothing");
        return out;
    }
    switch (json_typeof(value)) {
        case JSON_OBJECT:
            snprintf(out, n, "an object");
            break;
        case JSON_ARRAY:
            snprintf(out, n, "a list of %zu", json_array_size(value));
            break;
        case JSON_STRING:
            snprintf(out, n, "\"%.100s\"", json_text_excerpt(json_string_value(value), excerpt));
            break;
        case JSON_INTEGER:
            snprintf(out, n, "%lld", (long long)json_integer_value(value));
            break;
        case JSON_REAL:
            snprintf(out, n, "%.17g", json_real_value(value));
            break;
        case JSON_TRUE:
            snprintf(out, n, "true");
            break;
        case JSON_FALSE:
            snprintf(out, n, "false");
            break;
        case JSON_NULL:
            snprintf(out, n, "null");
            break;
    }
    return out;
}

bool json_text_is_integer(const json_t *value, int64_t *integer) {
    if (json_is_integer(value)) {
        *integer = json_integer_value(value);
        return true;
    }
    if (!json_is_real(value)) return false;
    double real = json_real_value(value);
    if (!(fabs(real) <= 0x1p53) || trunc(real) != real) return false;
    *integer = (int64_t)real;
    return true;
}

um_status json_text_parse(const char *text, size_t n_bytes, const char *file, unsigned allowed,
                          json_t **root, um_error *err) {
    json_error_t error;
    char excerpt[JSON_TEXT_EXCERPT_BYTES];
    size_t flags = JSON_REJECT_DUPLICATES | (allowed & JSON_TEXT_NUL ? JSON_ALLOW_NUL : 0);
    *root = NULL;
    memset(&error, 0, sizeof error);
    errno = 0;
    if (!text) text = "";
    json_t *value = json_loadb(text, n_bytes, flags, &error);
    if (!value && allowed & JSON_TEXT_BIG_NUMBERS &&
        json_error_code(&error) == json_error_numeric_overflow) {
        memset(&error, 0, sizeof error);
        value = json_loadb(text, n_bytes, flags | JSON_DECODE_INT_AS_REAL, &error);
    }
    /* Jansson leaves the text empty where an allocation of the parser itself failed. */
    if (errno == ENOMEM || (!value && !error.text[0]) ||
        (!value && json_error_code(&error) == json_error_out_of_memory)) {
        json_decref(value);
        FAIL(UM_NO_MEMORY, err, "no memory to parse the %zu bytes of %s", n_bytes, file);
    }
    if (!value) {
        um_error_set(err, UM_FORMAT, "%s: invalid JSON at line %d, byte %d: %s", file, error.line,
                     error.position, json_text_excerpt(error.text, excerpt));
        um_error_at(err, NULL, error.position);
        return UM_FORMAT;
    }
    if (!json_is_object(value)) {
        um_error_set(err, UM_FORMAT, "%s: expected an object, found %s", file,
                     json_text_describe(value, excerpt));
        um_error_at(err, NULL, 0);
        json_decref(value);
        return UM_FORMAT;
    }
    *root = value;
    return UM_OK;
}

um_status json_text_open(const char *directory, const char *name, size_t limit_bytes,
                         unsigned allowed, json_t **root, um_error *err) {
    char *text = NULL;
    size_t n_bytes = 0;
    *root = NULL;
    char *path = file_path_join(directory, name);
    if (!path) FAIL(UM_NO_MEMORY, err, "no memory for the path of %s", name);
    um_status status;
    TRY_GOTO(file_read(path, limit_bytes, &text, &n_bytes, err), cleanup);
    TRY_GOTO(json_text_parse(text, n_bytes, name, allowed, root, err), cleanup);
cleanup:
    if (status != UM_OK) um_error_at(err, path, -1);
    memory_free(text);
    memory_free(path);
    return status;
}

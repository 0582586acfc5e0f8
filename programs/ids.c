/* SPDX-License-Identifier: Apache-2.0
 *
 * The parser of token ids: one pass, one byte of lookahead. Whether an id is in the vocabulary is
 * the engine's question.
 */
#include "programs/ids.h"

#include <stdbool.h>
#include <string.h>

#include "base/memory.h"

typedef struct id_reader {
    const char *text;
    size_t n_bytes, at;
    int32_t *ids;
    size_t n_ids, capacity;
} id_reader;

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_spaces(id_reader *r) {
    while (r->at < r->n_bytes && is_space(r->text[r->at])) r->at++;
}

static bool take(id_reader *r, char c) {
    if (r->at >= r->n_bytes || r->text[r->at] != c) return false;
    r->at++;
    return true;
}

/* Sets an error about the byte at the reader. */
static um_status refuse(const id_reader *r, const char *expected, um_error *err) {
    if (r->at >= r->n_bytes) {
        um_error_set(err, UM_INVALID, "token ids: expected %s, found the end", expected);
    } else {
        unsigned char byte = (unsigned char)r->text[r->at];
        if (byte > 0x20 && byte < 0x7f)
            um_error_set(err, UM_INVALID, "token ids: expected %s, found '%c'", expected, byte);
        else
            um_error_set(err, UM_INVALID, "token ids: expected %s, found byte 0x%02x", expected,
                         byte);
    }
    um_error_at(err, "", (int64_t)r->at);
    return UM_INVALID;
}

static um_status read_id(id_reader *r, um_error *err) {
    size_t first = r->at;
    int64_t value = 0;
    while (r->at < r->n_bytes && r->text[r->at] >= '0' && r->text[r->at] <= '9') {
        value = value * 10 + (r->text[r->at++] - '0');
        if (value <= INT32_MAX) continue;
        um_error_set(err, UM_INVALID, "token ids: expected 0 to %d, found a larger number",
                     INT32_MAX);
        um_error_at(err, "", (int64_t)first);
        return UM_INVALID;
    }
    if (r->at == first) return refuse(r, "a decimal number", err);
    if (r->n_ids == IDS_MAX) FAIL(UM_INVALID, err, "token ids: more than %d of them", IDS_MAX);
    if (memory_grow(&r->ids, &r->capacity, r->n_ids, sizeof *r->ids) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for %zu token ids", r->n_ids + 1);
    r->ids[r->n_ids++] = (int32_t)value;
    return UM_OK;
}

static um_status read_list(id_reader *r, um_error *err) {
    skip_spaces(r);
    bool has_bracket = take(r, '[');
    skip_spaces(r);
    for (;;) {
        TRY(read_id(r, err));
        size_t end = r->at;
        skip_spaces(r);
        if (r->at == r->n_bytes || r->text[r->at] == ']') break;
        if (take(r, ','))
            skip_spaces(r);
        else if (r->at == end)
            return refuse(r, "a space, a comma or a digit", err);
    }
    if (has_bracket && !take(r, ']')) return refuse(r, "']'", err);
    skip_spaces(r);
    return r->at == r->n_bytes ? UM_OK : refuse(r, "the end", err);
}

um_status ids_parse(const char *text, size_t n_bytes, int32_t **ids, size_t *n_ids, um_error *err) {
    id_reader reader = {.text = text, .n_bytes = n_bytes};
    um_status status = read_list(&reader, err);
    if (status != UM_OK) {
        memory_free(reader.ids);
        return status;
    }
    *ids = reader.ids;
    *n_ids = reader.n_ids;
    return UM_OK;
}

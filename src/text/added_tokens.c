/* SPDX-License-Identifier: Apache-2.0
 *
 * Two tries over bytes, one for text as it came and one for normalized text, walked from each
 * position. Children are linked lists: there are a few dozen tokens, nearly all begin with "<", and
 * other bytes end at the root after one table look-up.
 */
#include "text/added_tokens.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "text/utf8.h"

/* Bounds the walk from one position, and so the search to a multiple of the text. */
enum { TOKEN_BYTES_MAX = 4096, TOKENS_MAX = 65536 };

typedef struct added_node {
    uint32_t child, sibling; /* 0: none; nodes 0 and 1 are nobody's child */
    int32_t id;              /* -1: no token ends here */
    unsigned char byte;
} added_node;

void added_tokens_init(added_tokens *a) {
    memset(a, 0, sizeof *a);
}

static void token_deinit(added_token *token) {
    memory_free(token->text);
    memory_free(token->pattern);
}

void added_tokens_deinit(added_tokens *a) {
    for (size_t i = 0; i < a->n; i++) token_deinit(&a->items[i]);
    memory_free(a->items);
    memory_free(a->nodes);
    added_tokens_init(a);
}

um_status added_tokens_add_take(added_tokens *a, added_token *token, um_error *err) {
    if (token->n_pattern > TOKEN_BYTES_MAX) {
        size_t n_bytes = token->n_pattern;
        token_deinit(token);
        FAIL(UM_UNSUPPORTED, err, "an added token of %zu bytes; at most %d are supported", n_bytes,
             TOKEN_BYTES_MAX);
    }
    /* Ids mostly come in rising order: then nothing is searched. */
    if (a->n && a->items[a->n - 1].id >= token->id) {
        for (size_t i = 0; i < a->n; i++) {
            if (a->items[i].id != token->id) continue;
            token_deinit(&a->items[i]);
            a->items[i] = *token;
            return UM_OK;
        }
    }
    if (a->n == TOKENS_MAX) {
        token_deinit(token);
        FAIL(UM_UNSUPPORTED, err, "more than %d added tokens", TOKENS_MAX);
    }
    if (memory_grow(&a->items, &a->capacity, a->n, sizeof *a->items) != 0) {
        token_deinit(token);
        FAIL(UM_NO_MEMORY, err, "no memory for an added token");
    }
    size_t i = a->n++;
    for (; i > 0 && a->items[i - 1].id > token->id; i--) a->items[i] = a->items[i - 1];
    a->items[i] = *token;
    return UM_OK;
}

const added_token *added_tokens_find(const added_tokens *a, int64_t id) {
    size_t low = 0, high = a->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (a->items[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < a->n && a->items[low].id == id ? &a->items[low] : NULL;
}

/* ---- Tries ---- */

static um_status add_node(added_tokens *a, unsigned char byte, uint32_t sibling, um_error *err) {
    if (memory_grow(&a->nodes, &a->nodes_capacity, a->n_nodes, sizeof *a->nodes) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory to search for added tokens");
    a->nodes[a->n_nodes++] = (added_node){.id = -1, .byte = byte, .sibling = sibling};
    return UM_OK;
}

static uint32_t child_of(const added_tokens *a, uint32_t node, unsigned char byte) {
    uint32_t child = a->nodes[node].child;
    while (child && a->nodes[child].byte != byte) child = a->nodes[child].sibling;
    return child;
}

static um_status add_pattern(added_tokens *a, const added_token *token, um_error *err) {
    uint32_t node = token->is_normalized ? 1 : 0;
    for (size_t i = 0; i < token->n_pattern; i++) {
        unsigned char byte = (unsigned char)token->pattern[i];
        uint32_t child = child_of(a, node, byte);
        if (!child) {
            child = (uint32_t)a->n_nodes;
            TRY(add_node(a, byte, a->nodes[node].child, err));
            a->nodes[node].child = child;
        }
        node = child;
    }
    /* Two tokens with one normalized text: the lower id stays. */
    if (node > 1 && a->nodes[node].id < 0) a->nodes[node].id = token->id;
    return UM_OK;
}

um_status added_tokens_index(added_tokens *a, um_error *err) {
    TRY(add_node(a, 0, 0, err));
    TRY(add_node(a, 0, 0, err));
    for (size_t i = 0; i < a->n; i++) TRY(add_pattern(a, &a->items[i], err));
    return UM_OK;
}

/* ---- Searching ---- */

/* Rust's \w: Alphabetic, marks, decimal digits, connectors and joiners. The ranges are the letters
 * among the symbols (Other_Alphabetic of category So). */
static bool is_word(unsigned c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_MC:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_PC:
            return true;
        default:
            return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
                   (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
                   (c >= 0x1F170 && c <= 0x1F189);
    }
}

static bool ends_with_word(const char *text, size_t n_bytes) {
    size_t length;
    return n_bytes && is_word(utf8_decode(text + utf8_last(text, n_bytes), &length));
}

static bool starts_with_word(const char *text, size_t n_bytes) {
    size_t length;
    return n_bytes && is_word(utf8_decode(text, &length));
}

static um_status add_span(added_span_list *spans, size_t start, size_t end, int32_t id,
                          um_error *err) {
    if (memory_grow(&spans->items, &spans->capacity, spans->n, sizeof *spans->items) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for %zu parts of the text", spans->n + 1);
    spans->items[spans->n++] = (added_span){start, end, id};
    return UM_OK;
}

/* The longest token at the front of text, or -1. */
static int32_t longest(const added_tokens *a, uint32_t root, const char *text, size_t n_bytes,
                       size_t *length) {
    int32_t id = -1;
    uint32_t node = root;
    for (size_t i = 0; i < n_bytes; i++) {
        node = child_of(a, node, (unsigned char)text[i]);
        if (!node) break;
        if (a->nodes[node].id >= 0) {
            id = a->nodes[node].id;
            *length = i + 1;
        }
    }
    return id;
}

um_status added_tokens_split(const added_tokens *a, bool is_normalized, const char *text,
                             size_t n_bytes, added_span_list *spans, um_error *err) {
    spans->n = 0;
    uint32_t root = is_normalized ? 1 : 0;
    bool is_first[256] = {false};
    for (uint32_t c = a->nodes[root].child; c; c = a->nodes[c].sibling)
        is_first[a->nodes[c].byte] = true;
    size_t done = 0, at = 0, space_end = 0;
    while (at < n_bytes) {
        size_t length = 0;
        int32_t id = -1;
        if (is_first[(unsigned char)text[at]])
            id = longest(a, root, text + at, n_bytes - at, &length);
        if (id < 0) {
            at++;
            continue;
        }
        const added_token *token = added_tokens_find(a, id);
        size_t start = at, end = at + length;
        at = end; /* the search goes on here, whatever the flags make of this match */
        if (token->is_single_word &&
            (ends_with_word(text, start) || starts_with_word(text + end, n_bytes - end)))
            continue;
        if (token->is_lstrip) {
            while (start > done) {
                size_t last = utf8_last(text, start), n;
                if (!utf8_is_space(utf8_decode(text + last, &n))) break;
                start = last;
            }
        }
        if (token->is_rstrip) {
            size_t n;
            if (end < space_end) end = space_end; /* in a run of spaces that was walked before */
            while (end < n_bytes && utf8_is_space(utf8_decode(text + end, &n))) end += n;
            space_end = end;
        }
        if (done < start) TRY(add_span(spans, done, start, -1, err));
        TRY(add_span(spans, start, end, id, err));
        done = end;
    }
    if (done < n_bytes) TRY(add_span(spans, done, n_bytes, -1, err));
    return UM_OK;
}

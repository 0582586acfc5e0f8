/* SPDX-License-Identifier: Apache-2.0
 *
 * Merging with a heap of candidates over a linked list of symbols, so that a megabyte of one letter
 * takes n log n and not n^2 steps. The order is that of Hugging Face's word.rs: lowest rank first,
 * then leftmost; an entry of the heap counts as expired when its pair no longer gives its token.
 * That test looks at the result and not at the rank, which is kept here to give equal ids.
 */
#include "text/bpe.h"

#include <string.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "text/json_field.h"

typedef struct bpe_symbol {
    int32_t id; /* -1: swallowed by its left neighbour */
    int32_t previous, next;
} bpe_symbol;

typedef struct bpe_candidate {
    uint32_t rank;
    int32_t position; /* of the left symbol */
    int32_t joined;
} bpe_candidate;

/* ---- The alphabet ---- */

/* Printable Latin-1 stands for itself; the 68 others take U+0100 on, in order
 * (github.com/openai/gpt-2, src/encoder.py, bytes_to_unicode). */
static bool stands_for_itself(unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

unsigned bpe_byte_character(unsigned char byte) {
    if (stands_for_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte <= 0xA0) return 0x100u + 0x21 + (byte - 0x7Fu);
    return 0x100 + 0x43; /* U+00AD */
}

int bpe_character_byte(unsigned codepoint) {
    if (codepoint < 0x100) return stands_for_itself(codepoint) ? (int)codepoint : -1;
    unsigned index = codepoint - 0x100;
    if (index <= 0x20) return (int)index;
    if (index < 0x43) return (int)(0x7F + index - 0x21);
    return index == 0x43 ? 0xAD : -1;
}

/* ---- Merge rules ---- */

static size_t merge_slot(const bpe *b, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t mask = b->n_slots - 1;
    /* Fibonacci hashing: the high half of the product mixes both ids. */
    size_t i_slot = (size_t)((key * 0x9E3779B97F4A7C15u) >> 32) & mask;
    while (b->merges[i_slot].left >= 0 &&
           (b->merges[i_slot].left != left || b->merges[i_slot].right != right))
        i_slot = (i_slot + 1) & mask;
    return i_slot;
}

static const bpe_merge *find_merge(const bpe *b, int32_t left, int32_t right) {
    const bpe_merge *merge = &b->merges[merge_slot(b, left, right)];
    return merge->left >= 0 ? merge : NULL;
}

/* ---- Parsing ---- */

/* Options that change what tokens come out, and are not implemented. */
static um_status check_options(const json_t *model, um_error *err) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const char *text;
        size_t n_bytes;
        TRY(json_field_string(model, "model", affixes[i], false, &text, &n_bytes, err));
        if (n_bytes)
            FAIL(UM_UNSUPPORTED, err, "model.%s is \"%.80s\"; only an empty one is supported",
                 affixes[i], text);
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (dropout && !json_is_null(dropout) && !json_is_number(dropout))
        FAIL(UM_FORMAT, err, "model.dropout is %s; a number is expected", json_field_kind(dropout));
    if (json_number_value(dropout) != 0.0)
        FAIL(UM_UNSUPPORTED, err, "model.dropout is %g; only none is supported",
             json_number_value(dropout));
    return UM_OK;
}

static um_status parse_vocabulary(const json_t *model, vocabulary *vocab, um_error *err) {
    json_t *texts = json_object_get(model, "vocab");
    if (!json_is_object(texts))
        FAIL(UM_FORMAT, err, "model.vocab is %s; an object is expected", json_field_kind(texts));
    if (json_object_size(texts) == 0) FAIL(UM_FORMAT, err, "model.vocab is empty");
    int64_t id_max = -1;
    const char *text;
    json_t *id;
    json_object_foreach(texts, text, id) {
        if (!json_is_integer(id))
            FAIL(UM_FORMAT, err, "the id of token \"%.80s\" is %s; an integer is expected", text,
                 json_field_kind(id));
        if (json_integer_value(id) > id_max) id_max = json_integer_value(id);
    }
    TRY(vocabulary_reserve(vocab, json_object_size(texts), id_max, err));
    json_object_foreach(texts, text, id)
        TRY(vocabulary_add(vocab, text, strlen(text), json_integer_value(id), err));
    return UM_OK;
}

/* One merge, in either spelling. */
static um_status merge_halves(const json_t *item, size_t i_merge, const char *halves[2],
                              size_t n_bytes[2], um_error *err) {
    if (json_is_string(item)) {
        const char *text = json_string_value(item);
        size_t n = json_string_length(item);
        const char *space = memchr(text, ' ', n);
        if (!space || memchr(space + 1, ' ', n - (size_t)(space + 1 - text)))
            FAIL(UM_FORMAT, err,
                 "model.merges[%zu] is \"%.80s\"; two tokens and one space between"
                 " them are expected",
                 i_merge, text);
        halves[0] = text;
        n_bytes[0] = (size_t)(space - text);
        halves[1] = space + 1;
        n_bytes[1] = n - n_bytes[0] - 1;
        return UM_OK;
    }
    if (!json_is_array(item) || json_array_size(item) != 2 ||
        !json_is_string(json_array_get(item, 0)) || !json_is_string(json_array_get(item, 1)))
        FAIL(UM_FORMAT, err, "model.merges[%zu] is %s; a string or a pair of strings is expected",
             i_merge, json_field_kind(item));
    for (size_t i = 0; i < 2; i++) {
        halves[i] = json_string_value(json_array_get(item, i));
        n_bytes[i] = json_string_length(json_array_get(item, i));
    }
    return UM_OK;
}

static um_status find_token(const bpe *b, size_t i_merge, const char *text, size_t n_bytes,
                            int32_t *id, um_error *err) {
    *id = vocabulary_find(b->vocab, text, n_bytes);
    if (*id < 0)
        FAIL(UM_FORMAT, err,
             "model.merges[%zu] needs the token \"%.*s\", which is not in the"
             " vocabulary",
             i_merge, n_bytes > 80 ? 80 : (int)n_bytes, text);
    return UM_OK;
}

static um_status parse_merges(const json_t *model, bpe *b, um_error *err) {
    json_t *items = json_object_get(model, "merges");
    if (!items) FAIL(UM_FORMAT, err, "model.merges is missing; a BPE tokenizer needs its merges");
    if (!json_is_array(items))
        FAIL(UM_FORMAT, err, "model.merges is %s; an array is expected", json_field_kind(items));
    size_t n_items = json_array_size(items);
    if (n_items > INT32_MAX) FAIL(UM_LIMIT, err, "model.merges has %zu entries", n_items);
    b->n_slots = 16;
    while (b->n_slots < n_items * 2) b->n_slots *= 2;
    b->merges = memory_alloc_array(b->n_slots, sizeof *b->merges);
    if (!b->merges) FAIL(UM_NO_MEMORY, err, "no memory for %zu merges", n_items);
    for (size_t i = 0; i < b->n_slots; i++) b->merges[i].left = -1;

    strbuf joined;
    strbuf_init(&joined);
    um_status status = UM_OK;
    size_t i_merge;
    const json_t *item;
    uint32_t rank = 0;
    json_array_foreach(items, i_merge, item) {
        /* The first line of a merges.txt, which old files carry along. */
        if (json_is_string(item) && strncmp(json_string_value(item), "#version", 8) == 0) continue;
        const char *halves[2];
        size_t n_bytes[2];
        bpe_merge merge = {.rank = rank++};
        TRY_GOTO(merge_halves(item, i_merge, halves, n_bytes, err), cleanup);
        TRY_GOTO(find_token(b, i_merge, halves[0], n_bytes[0], &merge.left, err), cleanup);
        TRY_GOTO(find_token(b, i_merge, halves[1], n_bytes[1], &merge.right, err), cleanup);
        joined.n_bytes = 0;
        strbuf_append(&joined, halves[0], n_bytes[0]);
        strbuf_append(&joined, halves[1], n_bytes[1]);
        if (joined.has_failed) {
            status = um_error_set(err, UM_NO_MEMORY, "no memory for a merge");
            goto cleanup;
        }
        TRY_GOTO(find_token(b, i_merge, joined.data, joined.n_bytes, &merge.joined, err), cleanup);
        b->merges[merge_slot(b, merge.left, merge.right)] = merge; /* of two, the last one holds */
    }
cleanup:
    strbuf_deinit(&joined);
    return status;
}

um_status bpe_parse(const json_t *model, vocabulary *vocab, bpe *b, um_error *err) {
    memset(b, 0, sizeof *b);
    b->vocab = vocab;
    if (!json_is_object(model))
        FAIL(UM_FORMAT, err, "\"model\" is %s; an object is expected", json_field_kind(model));
    const char *text;
    size_t n_bytes;
    /* Files of before 2020 (GPT-2's) name no type. */
    TRY(json_field_string(model, "model", "type", false, &text, &n_bytes, err));
    if (text && strcmp(text, "BPE") != 0)
        FAIL(UM_UNSUPPORTED, err, "model.type is \"%.80s\"; only BPE is supported", text);
    TRY(check_options(model, err));
    TRY(json_field_bool(model, "model", "fuse_unk", false, &b->fuse_unk, err));
    TRY(json_field_bool(model, "model", "ignore_merges", false, &b->ignore_merges, err));
    bool has_byte_fallback;
    TRY(json_field_bool(model, "model", "byte_fallback", false, &has_byte_fallback, err));

    TRY(parse_vocabulary(model, vocab, err));
    b->n_model_tokens = vocab->n_entries;
    TRY(parse_merges(model, b, err));

    bool has_all_bytes = true;
    for (unsigned byte = 0; byte < 256; byte++) {
        char utf8[3];
        unsigned c = bpe_byte_character((unsigned char)byte);
        size_t n = 1;
        utf8[0] = (char)c;
        if (c >= 0x80) {
            utf8[0] = (char)(0xC0 | c >> 6);
            utf8[1] = (char)(0x80 | (c & 0x3F));
            n = 2;
        }
        b->byte_ids[byte] = vocabulary_find(vocab, utf8, n);
        if (b->byte_ids[byte] < 0) has_all_bytes = false;
    }
    if (has_byte_fallback && !has_all_bytes)
        FAIL(UM_UNSUPPORTED, err,
             "model.byte_fallback is true and the vocabulary lacks byte"
             " tokens; only byte-level BPE is supported");
    b->unk_id = -1;
    TRY(json_field_string(model, "model", "unk_token", false, &text, &n_bytes, err));
    if (text) b->unk_id = vocabulary_find(vocab, text, n_bytes);
    return UM_OK;
}

void bpe_deinit(bpe *b) {
    memory_free(b->merges);
    memset(b, 0, sizeof *b);
}

/* ---- Encoding ---- */

um_status token_list_append(token_list *list, int32_t id, um_error *err) {
    if (memory_grow(&list->ids, &list->capacity, list->n, sizeof *list->ids) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for %zu token ids", list->n + 1);
    list->ids[list->n++] = id;
    return UM_OK;
}

void bpe_scratch_deinit(bpe_scratch *scratch) {
    memory_free(scratch->symbols);
    memory_free(scratch->heap);
    memory_free(scratch->spelled);
    memset(scratch, 0, sizeof *scratch);
}

static bool goes_before(const bpe_candidate *a, const bpe_candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static um_status heap_push(bpe_scratch *s, bpe_candidate item, um_error *err) {
    if (memory_grow(&s->heap, &s->heap_capacity, s->n_heap, sizeof *s->heap) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for %zu merge candidates", s->n_heap + 1);
    size_t i = s->n_heap++;
    while (i > 0) {
        size_t parent = (i - 1) / 2;
        if (!goes_before(&item, &s->heap[parent])) break;
        s->heap[i] = s->heap[parent];
        i = parent;
    }
    s->heap[i] = item;
    return UM_OK;
}

static bpe_candidate heap_pop(bpe_scratch *s) {
    bpe_candidate top = s->heap[0], item = s->heap[--s->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->n_heap) break;
        if (child + 1 < s->n_heap && goes_before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!goes_before(&s->heap[child], &item)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = item;
    return top;
}

static um_status push_pair(const bpe *b, bpe_scratch *s, int32_t left, int32_t right,
                           um_error *err) {
    const bpe_merge *merge = find_merge(b, s->symbols[left].id, s->symbols[right].id);
    if (!merge) return UM_OK;
    return heap_push(s, (bpe_candidate){merge->rank, left, merge->joined}, err);
}

/* Fills the symbols from bytes; *n_symbols is their number. A byte without a token becomes the
 * unknown token, a run of them one if fuse_unk. */
static um_status fill_symbols(const bpe *b, const char *piece, size_t n_bytes, bpe_scratch *s,
                              size_t *n_symbols, um_error *err) {
    if (n_bytes > INT32_MAX) FAIL(UM_LIMIT, err, "a word of %zu bytes", n_bytes);
    if (n_bytes > s->n_symbols_room) {
        memory_free(s->symbols);
        s->n_symbols_room = 0;
        size_t wanted = n_bytes + n_bytes / 2 + 64;
        s->symbols = memory_alloc_array(wanted, sizeof *s->symbols);
        if (!s->symbols) FAIL(UM_NO_MEMORY, err, "no memory for a word of %zu bytes", n_bytes);
        s->n_symbols_room = wanted;
    }
    size_t n = 0;
    bool was_unknown = false;
    for (size_t i = 0; i < n_bytes; i++) {
        unsigned char byte = (unsigned char)piece[i];
        int32_t id = b->byte_ids[byte];
        bool is_unknown = id < 0;
        if (is_unknown) {
            if (b->unk_id < 0)
                FAIL(UM_INVALID, err, "the vocabulary has no token for the byte 0x%02X", byte);
            if (was_unknown && b->fuse_unk) continue;
            id = b->unk_id;
        }
        was_unknown = is_unknown;
        s->symbols[n] = (bpe_symbol){id, (int32_t)n - 1, (int32_t)n + 1};
        n++;
    }
    if (n) s->symbols[n - 1].next = -1;
    *n_symbols = n;
    return UM_OK;
}

static um_status merge_symbols(const bpe *b, bpe_scratch *s, size_t n_symbols, um_error *err) {
    s->n_heap = 0;
    for (size_t i = 0; i + 1 < n_symbols; i++)
        TRY(push_pair(b, s, (int32_t)i, (int32_t)i + 1, err));
    while (s->n_heap) {
        bpe_candidate top = heap_pop(s);
        bpe_symbol *symbol = &s->symbols[top.position];
        if (symbol->id < 0 || symbol->next < 0) continue;
        bpe_symbol *right = &s->symbols[symbol->next];
        const bpe_merge *merge = find_merge(b, symbol->id, right->id);
        if (!merge || merge->joined != top.joined) continue;
        symbol->id = top.joined;
        symbol->next = right->next;
        right->id = -1;
        if (symbol->next >= 0) s->symbols[symbol->next].previous = top.position;
        if (symbol->previous >= 0) TRY(push_pair(b, s, symbol->previous, top.position, err));
        if (symbol->next >= 0) TRY(push_pair(b, s, top.position, symbol->next, err));
    }
    return UM_OK;
}

/* The id of the piece as a whole, or -1: for ignore_merges. */
static um_status find_whole(const bpe *b, const char *piece, size_t n_bytes, bpe_scratch *s,
                            int32_t *id, um_error *err) {
    if (n_bytes > SIZE_MAX / 2 || n_bytes * 2 > s->spelled_room) {
        char *spelled = memory_realloc_array(s->spelled, n_bytes, 4);
        if (!spelled) FAIL(UM_NO_MEMORY, err, "no memory for a word of %zu bytes", n_bytes);
        s->spelled = spelled;
        s->spelled_room = n_bytes * 4;
    }
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        unsigned c = bpe_byte_character((unsigned char)piece[i]);
        if (c >= 0x80) {
            s->spelled[n++] = (char)(0xC0 | c >> 6);
            c = 0x80 | (c & 0x3F);
        }
        s->spelled[n++] = (char)c;
    }
    *id = vocabulary_find_among(b->vocab, b->n_model_tokens, s->spelled, n);
    return UM_OK;
}

um_status bpe_encode(const bpe *b, const char *piece, size_t n_bytes, bpe_scratch *scratch,
                     token_list *out, um_error *err) {
    if (n_bytes == 0) return UM_OK;
    if (b->ignore_merges) {
        int32_t id = -1;
        TRY(find_whole(b, piece, n_bytes, scratch, &id, err));
        if (id >= 0) return token_list_append(out, id, err);
    }
    size_t n_symbols = 0;
    TRY(fill_symbols(b, piece, n_bytes, scratch, &n_symbols, err));
    TRY(merge_symbols(b, scratch, n_symbols, err));
    for (size_t i = 0; i < n_symbols; i++)
        if (scratch->symbols[i].id >= 0) TRY(token_list_append(out, scratch->symbols[i].id, err));
    return UM_OK;
}

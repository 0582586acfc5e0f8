/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte-pair encoding over the 256 byte tokens: the "model" of tokenizer.json. It gets one piece of
 * bytes at a time and knows nothing of words, special tokens or Unicode.
 */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include <jansson.h>
#include <stdint.h>

#include "base/status.h"
#include "text/vocabulary.h"

/* The rule that joins the tokens left and right. */
typedef struct bpe_merge {
    int32_t left, right; /* left -1: a free slot */
    int32_t joined;
    uint32_t rank; /* lower goes first */
} bpe_merge;

/* Immutable once parsed; any thread. Borrows the vocabulary. */
typedef struct bpe {
    const vocabulary *vocab;
    size_t n_model_tokens; /* the first entries of vocab are the model's, the others are added */
    int32_t byte_ids[256]; /* -1: this byte has no token */
    int32_t unk_id;        /* -1: none */
    bool fuse_unk, ignore_merges;
    bpe_merge *merges; /* [n_slots] open addressing */
    size_t n_slots;
} bpe;

/* Ids, growing. */
typedef struct token_list {
    int32_t *ids;
    size_t n, capacity;
} token_list;

um_status token_list_append(token_list *list, int32_t id, um_error *err);

/* Memory that successive pieces share. All zero to begin with. */
typedef struct bpe_scratch {
    struct bpe_symbol *symbols;
    size_t n_symbols_room;
    struct bpe_candidate *heap;
    size_t n_heap, heap_capacity;
    char *spelled;
    size_t spelled_room;
} bpe_scratch;
void bpe_scratch_deinit(bpe_scratch *scratch);

/* Reads vocabulary and merges from the object "model" of tokenizer.json. `vocab` is filled and must
 * outlive the bpe. bpe_deinit also after a failure. */
um_status bpe_parse(const json_t *model, vocabulary *vocab, bpe *b, um_error *err);
void bpe_deinit(bpe *b);

/* Appends the tokens of a piece. UM_INVALID where a byte has no token and there is no unknown one.
 * O(n log n) in the piece's length. */
um_status bpe_encode(const bpe *b, const char *piece, size_t n_bytes, bpe_scratch *scratch,
                     token_list *out, um_error *err);

/* The character that stands for a byte in token texts (GPT-2's alphabet, U+0021 to U+0143), and
 * back: -1 for a character that stands for none. */
unsigned bpe_byte_character(unsigned char byte);
int bpe_character_byte(unsigned codepoint);

#endif

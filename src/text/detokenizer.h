/* SPDX-License-Identifier: Apache-2.0
 *
 * Text from tokens one at a time, for streams: gives out whole characters only and keeps the
 * beginning of a character until its rest comes. The parts together are tokenizer_decode's text.
 */
#ifndef TEXT_DETOKENIZER_H
#define TEXT_DETOKENIZER_H

#include "base/strbuf.h"
#include "text/tokenizer.h"

/* One for each stream; one thread at a time. Holds no memory: it needs no deinit. */
typedef struct detokenizer {
    const tokenizer *t; /* must outlive it */
    bool skip_special;
    char pending[4]; /* the beginning of a character */
    size_t n_pending;
} detokenizer;

void detokenizer_init(detokenizer *d, const tokenizer *t, bool skip_special);

/* Appends the characters that the token completes, perhaps none. UM_INVALID for an id that is no
 * token's: then nothing changes. UM_NO_MEMORY where *out could not grow. */
um_status detokenizer_push(detokenizer *d, int32_t id, strbuf *out, um_error *err);

/* Ends the text: a character that never became whole is U+FFFD. The detokenizer starts anew. */
um_status detokenizer_flush(detokenizer *d, strbuf *out, um_error *err);

#endif

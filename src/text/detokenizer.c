/* SPDX-License-Identifier: Apache-2.0
 *
 * At most three bytes wait: a prefix that can still become a character. Anything else is either
 * whole or damaged, and both can be given out at once.
 */
#include "text/detokenizer.h"

#include <string.h>

#include "text/utf8.h"

void detokenizer_init(detokenizer *d, const tokenizer *t, bool skip_special) {
    *d = (detokenizer){.t = t, .skip_special = skip_special};
}

/* Length of the text without a partial character at its end. */
static size_t whole_length(const char *text, size_t n) {
    for (size_t n_tail = 1; n_tail <= 3 && n_tail <= n; n_tail++) {
        unsigned char c = (unsigned char)text[n - n_tail];
        if (c < 0x80) break;
        if (c < 0xC0) continue;
        size_t length;
        return utf8_next(text + n - n_tail, n_tail, &length) == UTF8_KIND_PARTIAL ? n - n_tail : n;
    }
    return n;
}

um_status detokenizer_push(detokenizer *d, int32_t id, strbuf *out, um_error *err) {
    strbuf bytes;
    strbuf_init(&bytes);
    um_status status = UM_OK;
    strbuf_append(&bytes, d->pending, d->n_pending);
    TRY_GOTO(tokenizer_append_bytes(d->t, id, d->skip_special, &bytes, err), cleanup);
    if (!bytes.has_failed && bytes.n_bytes) {
        size_t n_whole = whole_length(bytes.data, bytes.n_bytes);
        utf8_append_lossy(out, bytes.data, n_whole);
        d->n_pending = bytes.n_bytes - n_whole;
        memcpy(d->pending, bytes.data + n_whole, d->n_pending);
    }
    if (bytes.has_failed || out->has_failed)
        status = um_error_set(err, UM_NO_MEMORY, "no memory for the text of a token");
cleanup:
    strbuf_deinit(&bytes);
    return status;
}

um_status detokenizer_flush(detokenizer *d, strbuf *out, um_error *err) {
    utf8_append_lossy(out, d->pending, d->n_pending);
    d->n_pending = 0;
    if (out->has_failed) FAIL(UM_NO_MEMORY, err, "no memory for the end of the text");
    return UM_OK;
}

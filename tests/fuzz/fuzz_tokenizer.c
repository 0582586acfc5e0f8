/* SPDX-License-Identifier: Apache-2.0
 *
 * A tokenizer.json and a text, with a zero byte between: if the file opens, the text is encoded,
 * decoded and streamed, and the two ways back must agree.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void check(int is_true) {
    if (!is_true) abort();
}

static void use(const tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special) {
    um_error err;
    char *text;
    size_t n_text;
    if (tokenizer_decode(t, ids, n_ids, skip_special, &text, &n_text, &err) != UM_OK) return;
    detokenizer d;
    strbuf out;
    detokenizer_init(&d, t, skip_special);
    strbuf_init(&out);
    for (size_t i = 0; i < n_ids; i++) check(detokenizer_push(&d, ids[i], &out, &err) == UM_OK);
    check(detokenizer_flush(&d, &out, &err) == UM_OK);
    check(out.n_bytes == n_text && (!n_text || memcmp(out.data, text, n_text) == 0));
    strbuf_deinit(&out);
    memory_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    const char *json = (const char *)data;
    const char *end = n_bytes ? memchr(json, 0, n_bytes) : NULL;
    size_t n_json = end ? (size_t)(end - json) : n_bytes;
    tokenizer *t = NULL;
    um_error err;
    if (tokenizer_parse(json, n_json, &t, &err) != UM_OK) return 0;
    const char *text = end ? end + 1 : "";
    size_t n_text = end ? n_bytes - n_json - 1 : 0;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    if (tokenizer_encode(t, text, n_text, &ids, &n_ids, &err) == UM_OK) {
        for (size_t i = 0; i < n_ids; i++) check(ids[i] >= 0 && ids[i] < tokenizer_size(t));
        use(t, ids, n_ids, false);
        use(t, ids, n_ids, true);
        memory_free(ids);
    }
    /* The text's bytes as ids, too: characters in pieces. */
    int32_t raw[64];
    size_t n_raw = n_text < 64 ? n_text : 64;
    for (size_t i = 0; i < n_raw; i++) raw[i] = (unsigned char)text[i] % tokenizer_size(t);
    use(t, raw, n_raw, false);
    tokenizer_close(t);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * A schema. It is refused with a sentence, or becomes an automaton in which every state leads to
 * the end of a document; one of these ends must be JSON.
 */
#include <assert.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "decode/json_schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

enum { DOCUMENT_MAX = 1 << 16 };

/* For each state a byte on a way to an end; -1 at an end. By rounds: from what was found so far. */
static void find_ways(const byte_dfa *dfa, int16_t *ways) {
    int32_t n_left = 0;
    for (int32_t s = 0; s < dfa->n_states; s++) {
        ways[s] = dfa->accepts[s] ? -1 : -2;
        n_left += !dfa->accepts[s];
    }
    for (int32_t before = n_left + 1; n_left && n_left < before;) {
        before = n_left;
        for (int32_t s = 0; s < dfa->n_states; s++) {
            for (int byte = 0; ways[s] == -2 && byte < 256; byte++) {
                int32_t next = byte_dfa_next(dfa, s, (uint8_t)byte);
                if (next < 0 || ways[next] == -2) continue;
                ways[s] = (int16_t)byte;
                n_left--;
            }
        }
    }
    assert(n_left == 0);
}

static void check_document(const byte_dfa *dfa) {
    int16_t *ways = malloc((size_t)dfa->n_states * sizeof *ways);
    int32_t state = 0;
    char *text = malloc(DOCUMENT_MAX);
    size_t n = 0;
    assert(ways && text);
    find_ways(dfa, ways);
    for (; ways[state] >= 0 && n < DOCUMENT_MAX; n++) {
        text[n] = (char)ways[state];
        state = byte_dfa_next(dfa, state, (uint8_t)ways[state]);
        assert(state >= 0 && state < dfa->n_states);
    }
    if (n < DOCUMENT_MAX) {
        json_t *value = json_loadb(text, n, JSON_DECODE_ANY, NULL);
        assert(value);
        json_decref(value);
    }
    free(text);
    free(ways);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    byte_dfa dfa;
    um_error err = {.status = UM_OK};
    if (n_bytes > 1 << 14) return 0;
    um_status status = json_schema_compile((const char *)data, n_bytes, &dfa, &err);
    assert(status == err.status || status == UM_OK);
    if (status == UM_OK)
        check_document(&dfa);
    else
        assert(strlen(err.message) > 10);
    byte_dfa_deinit(&dfa);
    return 0;
}

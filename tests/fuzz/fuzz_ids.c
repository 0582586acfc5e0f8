/* SPDX-License-Identifier: Apache-2.0
 *
 * The parser of the command line's token ids. What it accepts must survive being printed and read
 * again; what it refuses must come with a sentence and a place within the input. The parser belongs
 * to the program, not to the library, so its source is taken in here.
 */
#include "programs/ids.c"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

#define CHECK(condition)           \
    do {                           \
        if (!(condition)) abort(); \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    int32_t *ids = NULL, *again = NULL;
    size_t n_ids = 0, n_again = 0;
    um_error err;
    if (ids_parse((const char *)data, n_bytes, &ids, &n_ids, &err) != UM_OK) {
        CHECK(!ids && err.status == UM_INVALID && err.message[0]);
        CHECK(err.byte_pos <= (int64_t)n_bytes);
        return 0;
    }
    CHECK(n_ids > 0 && n_ids <= n_bytes);
    char *text = malloc(n_ids * 12);
    CHECK(text);
    size_t n_text = 0;
    for (size_t i = 0; i < n_ids; i++) {
        CHECK(ids[i] >= 0);
        n_text += (size_t)sprintf(text + n_text, "%d,", ids[i]);
    }
    CHECK(ids_parse(text, n_text - 1, &again, &n_again, &err) == UM_OK);
    CHECK(n_again == n_ids && memcmp(ids, again, n_ids * sizeof *ids) == 0);
    memory_free(again);
    memory_free(ids);
    free(text);
    return 0;
}

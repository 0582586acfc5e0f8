/* SPDX-License-Identifier: Apache-2.0
 *
 * Rewrites text before it is cut: the "normalizer" of tokenizer.json. Takes and gives valid UTF-8.
 */
#ifndef TEXT_NORMALIZER_H
#define TEXT_NORMALIZER_H

#include <jansson.h>

#include "base/strbuf.h"
#include "text/split_regex.h"

/* Immutable once parsed; any thread. */
typedef struct normalizer {
    struct normalizer_step *steps;
    size_t n_steps, capacity;
} normalizer;

/* Reads "normalizer"; NULL and null give one that changes nothing. normalizer_deinit also after a
 * failure. */
um_status normalizer_parse(const json_t *value, normalizer *n, um_error *err);
void normalizer_deinit(normalizer *n);

/* Normalizes into *out, which the caller has initialised and later deinitialises. */
um_status normalizer_run(const normalizer *n, const char *text, size_t n_bytes, strbuf *out,
                         um_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tokenizer files of a directory say of the mask token. Knows three files that overlap and
 * at times contradict each other, and one order in which they are believed.
 */
#ifndef FORMATS_HF_MASK_TOKEN_H
#define FORMATS_HF_MASK_TOKEN_H

#include <stdint.h>

#include "base/status.h"

/* Looks through tokenizer_config.json, tokenizer.json and added_tokens.json, opening each only when
 * those before it do not answer. *token is -1 where none says. Absent files are skipped; damaged
 * ones, and a mask token outside [0, vocab), are UM_FORMAT with the file in err->where. */
um_status hf_mask_token_find(const char *directory, int64_t vocab, int32_t *token, um_error *err);

#endif

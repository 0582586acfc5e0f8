/* SPDX-License-Identifier: Apache-2.0
 *
 * The inside of a um_tokenizer, for the engine's other files.
 */
#ifndef ENGINE_TOKENIZER_API_H
#define ENGINE_TOKENIZER_API_H

#include "text/tokenizer.h"

/* Borrowed from the um_tokenizer. UM_NOT_FOUND where it is a chat template alone. */
um_status tokenizer_api_vocabulary(const um_tokenizer *t, const tokenizer **vocabulary,
                                   um_error *err);

#endif

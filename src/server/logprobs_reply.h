/* SPDX-License-Identifier: Apache-2.0
 *
 * Log-probabilities in OpenAI's two shapes: content[] of a chat, four lists of a completion.
 */
#ifndef SERVER_LOGPROBS_REPLY_H
#define SERVER_LOGPROBS_REPLY_H

#include "server/job.h"

/* Those of tokens that the reply does not have yet and whose text begins before byte n_text of the
 * answer; SIZE_MAX: of all that are left. null where none were asked for or, unless is_whole, where
 * there are no such tokens. With echo the prompt's tokens come first, once, without numbers.
 * NULL when memory runs out. */
json_t *logprobs_reply(const job *j, choice *c, size_t n_text, bool is_whole);

#endif

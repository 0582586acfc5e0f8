/* SPDX-License-Identifier: Apache-2.0
 *
 * What was said so far, and how it becomes a prompt: messages through the chat template to token
 * ids. The same path serves a single prompt and a conversation.
 */
#ifndef PROGRAMS_DIALOGUE_H
#define PROGRAMS_DIALOGUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* Until dialogue_deinit. */
typedef struct dialogue {
    const um_tokenizer *tokenizer; /* borrowed */
    bool is_raw;                   /* no template: a prompt is the last thing said, as it is */
    json_t *messages;              /* an array of {"role", "content"} */
} dialogue;

/* is_raw: do without the template even where the model has one. A template that is there but cannot
 * be read is an error, as leaving it out would change the answers. */
um_status dialogue_init(dialogue *d, const um_tokenizer *tokenizer, bool is_raw, um_error *err);
void dialogue_deinit(dialogue *d);

/* UM_INVALID for text that is not UTF-8. `what` names it: "the prompt". */
um_status dialogue_check_text(const char *what, const char *text, size_t n_bytes, um_error *err);

/* Replaces the system message, or sets the first; text must be UTF-8. UM_UNSUPPORTED without a
 * template. */
um_status dialogue_set_system(dialogue *d, const char *text, um_error *err);
/* role: "user", "assistant". */
um_status dialogue_say(dialogue *d, const char *role, const char *text, um_error *err);
/* Takes back what was said last. */
void dialogue_unsay(dialogue *d);
/* Forgets all but the system message. */
void dialogue_clear(dialogue *d);

/* The ids of all that was said, up to where the answer begins. *ids is freed with um_free. */
um_status dialogue_encode(const dialogue *d, int32_t **ids, size_t *n_ids, um_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * One generation on its way: the cells of the answer, the text of what is committed from its start,
 * and where it ends. Text is given out only once nothing can change it: up to the first mask, or up
 * to the last finished block where the policy may correct what it has committed.
 */
#ifndef SERVER_CHOICE_H
#define SERVER_CHOICE_H

#include "base/strbuf.h"
#include "server/answer_logprobs.h"
#include "server/api_request.h"

typedef enum choice_end { CHOICE_OPEN = 0, CHOICE_STOP = 1, CHOICE_LENGTH = 2 } choice_end;

/* Until choice_deinit. Owner: the driver's thread, until the job is done. */
typedef struct choice {
    const api_request *request;
    const api_model *model;
    um_request *live; /* NULL before it is queued and after it ended */
    int32_t index;    /* in the reply */
    size_t i_prompt;  /* of the request */
    int32_t n_prompt; /* tokens */
    int32_t *tokens;  /* [n_cells] the mask token where undecided */
    int32_t n_cells;
    int32_t n_final;  /* cells from the start that no longer change */
    int32_t n_frozen; /* cells of finished blocks */
    bool may_edit;
    strbuf text;    /* of the final cells, whole characters only */
    size_t n_ready; /* bytes of it that are no part of a stop string or a call of a tool */
    size_t n_sent;  /* bytes of it that chunks have carried */
    answer_logprobs logprobs;
    int32_t n_logged;      /* tokens whose log-probabilities the reply has */
    size_t n_logged_bytes; /* ... and the bytes of their text */
    bool has_echoed;       /* ... and those of the prompt's tokens */
    size_t n_echo_chars;   /* of the prompt */
    choice_end end;
    const char *stop; /* the stop string that ended it, or NULL */
    int32_t n_tokens; /* of the answer, once it has ended */
    int32_t forwards, prefill_forwards, blocks;
    int32_t n_cached; /* tokens of the prompt that the cache of prefixes had */
    int64_t n_commits, n_edits;
} choice;

/* options: as the request was queued with. */
um_status choice_init(choice *c, const api_request *request, const api_model *model,
                      const um_request_options *options, um_error *err);
void choice_deinit(choice *c);

/* Takes an event. After it, `end` says whether the answer is complete: by itself, or by a stop
 * string, in which case the engine's request still runs and is the caller's to destroy. */
um_status choice_take_event(choice *c, const um_event *event, um_error *err);

#endif

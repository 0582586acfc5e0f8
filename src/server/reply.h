/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies as bytes: whole bodies and the events of streams, in the shape of the route. Functions of
 * a job; they send nothing.
 */
#ifndef SERVER_REPLY_H
#define SERVER_REPLY_H

#include "server/job.h"

/* All append to `out`; what memory is missing for shows in out->has_failed. */

/* An error as the whole reply, or as the last event of a stream. */
void reply_error(const job *j, const um_error *err, bool in_stream, strbuf *out);
/* Every choice has ended. */
um_status reply_whole(const job *j, strbuf *out, um_error *err);
void reply_stream_begin(const job *j, strbuf *out);
/* Text that is ready and was not sent; with the step that brought it, if not NULL. */
um_status reply_stream_text(const job *j, choice *c, const um_event *step, strbuf *out,
                            um_error *err);
um_status reply_stream_end_choice(const job *j, choice *c, strbuf *out, um_error *err);
um_status reply_stream_end(const job *j, strbuf *out, um_error *err);

/* ---- For the shapes of other APIs ------------------------------------------------------------ */

/* Writes "event: NAME" (NULL: none) and "data: DOCUMENT"; releases the document. */
void reply_event(strbuf *out, const char *name, json_t *document);
/* "stop", "length" or "tool_calls". */
const char *reply_finish(const choice *c, const json_t *calls);
/* What a choice wrote, as text and calls of tools. *calls is an array, for json_decref. */
um_status reply_split(const choice *c, json_t **calls, size_t *n_text, um_error *err);
/* The token counts and forwards that both APIs report beside their own, into `usage`. */
void reply_add_forwards(const job *j, json_t *usage);

/* messages_reply.c: the same for Anthropic's messages. */
um_status messages_reply_whole(const job *j, strbuf *out, um_error *err);
void messages_reply_begin(const job *j, strbuf *out);
void messages_reply_text(const job *j, choice *c, strbuf *out);
um_status messages_reply_end(const job *j, strbuf *out, um_error *err);

#endif

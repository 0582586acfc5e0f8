/* SPDX-License-Identifier: Apache-2.0
 *
 * Turns between the user and the model, until one of them is through.
 */
#ifndef PROGRAMS_CONVERSATION_H
#define PROGRAMS_CONVERSATION_H

#include "programs/answer.h"
#include "programs/dialogue.h"

/* Reads turns from standard input and answers each. Without a terminal, the first turn that fails
 * ends it with its status; on a terminal it is told and taken back. */
um_status conversation_hold(answer_job *job, dialogue *talk, um_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The options of `unmask run` against each other. A parameter that the others make meaningless is
 * refused, never ignored. What depends on the model is the library's to refuse.
 */
#ifndef PROGRAMS_RUN_OPTIONS_H
#define PROGRAMS_RUN_OPTIONS_H

#include "programs/answer.h"
#include "programs/options.h"

/* UM_INVALID names the option that does not go with another one. `request` is what the options
 * say, from run_options_fill. */
um_status run_options_check(const options *o, const um_request_options *request, um_error *err);
/* Fills everything but the prompt. `request` keeps pointers into argv. */
void run_options_fill(const options *o, um_request_options *request);
/* True where the answer is held to JSON, which takes a tokenizer. */
bool run_options_constrain(const options *o);
answer_style run_options_style(const options *o);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands behind main.c: each takes its parsed options and returns the exit code.
 */
#ifndef PROGRAMS_COMMANDS_H
#define PROGRAMS_COMMANDS_H

#include "programs/options.h"

int run_command(const options *o);
int logits_command(const options *o);
int tokenize_command(const options *o);
int inspect_command(const options *o);
int score_command(const options *o);
int bench_command(const options *o);
int quantize_command(const options *o);
int serve_command(const options *o);

#endif

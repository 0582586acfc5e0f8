/* SPDX-License-Identifier: Apache-2.0
 *
 * The help texts, made from the table of options.
 */
#ifndef PROGRAMS_HELP_H
#define PROGRAMS_HELP_H

#include <stdio.h>

#include "programs/options.h"

void help_print_program(FILE *file);
void help_print_command(FILE *file, command_id command);
/* "run"; constant. */
const char *help_command_name(command_id command);
/* The command of that name, or COMMAND_COUNT. */
command_id help_find_command(const char *name);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the words of the command line and those of the library: which option sets which parameter
 * of a request, and which policies read it. Knows no policy by name: the library's table says all,
 * so help, errors and `unmask inspect --policies` follow it.
 */
#ifndef PROGRAMS_POLICY_OPTIONS_H
#define PROGRAMS_POLICY_OPTIONS_H

#include <stdio.h>

#include "programs/options.h"

enum { POLICY_OPTIONS_TEXT_BYTES = 512 };

/* Refuses a policy that does not exist, with the name that was probably meant, and a parameter that
 * the policy would not read. Needs no model. */
um_status policy_options_check(const um_request_options *request, um_error *err);
/* Where an error names a parameter of a request, names the option that sets it instead. */
void policy_options_rename(um_error *err);

/* The names of the built-in policies that read what an option sets, separated by commas; of all of
 * them for OPTION_POLICY; empty for an option that no policy reads. Returns how many. */
int policy_options_readers(option_id id, char text[POLICY_OPTIONS_TEXT_BYTES]);

/* Prints the built-in policies: name, options that it reads, source. */
void policy_options_print(FILE *file);
um_status policy_options_print_json(um_error *err);

#endif

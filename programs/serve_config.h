/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of `unmask serve` from the environment and from a file.
 */
#ifndef PROGRAMS_SERVE_CONFIG_H
#define PROGRAMS_SERVE_CONFIG_H

#include "programs/options.h"

/* Adds what the command line has not set: first from variables (UNMASK_MAX_QUEUE for --max-queue),
 * then from the lines "name = value" of --config. *text, for memory_free, holds the file as long as
 * the options live. */
um_status serve_config_read(options *o, char **text, um_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Token ids as the command line takes them: "1 2 3", "1,2,3" or "[1, 2, 3]".
 */
#ifndef PROGRAMS_IDS_H
#define PROGRAMS_IDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* More than any context; keeps a mistake from taking all memory. */
enum { IDS_MAX = 16 * 1024 * 1024 };

/* Reads decimal ids from 0 to 2147483647, separated by white space, or by one comma with white
 * space around it; the whole may stand in brackets, as `unmask tokenize` prints it. At least one
 * id. *ids [*n_ids] i32 is the caller's, freed with memory_free. UM_INVALID with the byte's
 * position for text that is anything else; *ids is then left alone. */
um_status ids_parse(const char *text, size_t n_bytes, int32_t **ids, size_t *n_ids, um_error *err);

#endif

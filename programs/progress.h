/* SPDX-License-Identifier: Apache-2.0
 *
 * Progress of loading and prefill on standard error: a line that is redrawn on a terminal, single
 * lines with --verbose elsewhere, otherwise nothing.
 */
#ifndef PROGRAMS_PROGRESS_H
#define PROGRAMS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "programs/terminal.h"

typedef struct progress {
    terminal screen; /* standard error */
    bool is_verbose;
    bool is_drawn; /* a line stands there and must be cleared */
    int last_percent;
} progress;

void progress_init(progress *p, bool is_verbose);
/* A um_progress_fn; user is a progress. */
void progress_load(void *user, const char *what, int64_t done, int64_t total);
void progress_prefill(progress *p, int32_t done, int32_t total);
/* Samples of all answers. */
void progress_score(progress *p, int64_t done, int64_t total);
/* Tokens of the text that importances are measured on. */
void progress_measure(progress *p, int64_t done, int64_t total);
/* Removes the line, so that something else can be printed. */
void progress_clear(progress *p);
/* True where the summary after an answer is wanted. */
bool progress_wants_summary(const progress *p);

#endif

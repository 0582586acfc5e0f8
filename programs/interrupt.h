/* SPDX-License-Identifier: Apache-2.0
 *
 * Ctrl-C. At first it ends the process at once, with exit code 1: nothing needs to be cleaned up
 * while a model loads. From interrupt_defer on it sets a flag that the loops look at; only a second
 * Ctrl-C before anyone looked ends the process, for whoever does not want to wait for the forward
 * in progress.
 */
#ifndef PROGRAMS_INTERRUPT_H
#define PROGRAMS_INTERRUPT_H

#include <stdbool.h>

/* Catches SIGINT and ignores SIGPIPE (writing to a closed pipe then fails like any other write). */
void interrupt_catch(void);
/* From now on, or no longer, Ctrl-C only sets the flag. */
void interrupt_defer(bool is_deferred);
/* True once after each Ctrl-C. */
bool interrupt_take(void);
/* The same without clearing it. */
bool interrupt_is_set(void);
/* Tells the handler whether the cursor is hidden, so that leaving at once brings it back. */
void interrupt_note_cursor(bool is_hidden);

#endif

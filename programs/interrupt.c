/* SPDX-License-Identifier: Apache-2.0
 *
 * The signal handler and its flags: the only mutable globals of the program, as a handler has no
 * other way to tell.
 */
#include "programs/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "programs/report.h"

static volatile sig_atomic_t is_interrupted;
static volatile sig_atomic_t is_flag_only;
static volatile sig_atomic_t is_cursor_hidden;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    if (is_flag_only && !is_interrupted) {
        is_interrupted = 1;
        return;
    }
    static const char restore[] = "\033[0m\033[?25h\n";
    if (is_cursor_hidden && write(STDOUT_FILENO, restore, sizeof restore - 1) < 0)
        _exit(REPORT_EXIT_FAULT);
    _exit(REPORT_EXIT_FAULT);
}

void interrupt_catch(void) {
    struct sigaction action = {0};
    sigemptyset(&action.sa_mask);
    action.sa_handler = on_interrupt; /* no SA_RESTART: a waiting read ends */
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL); /* a file that grows too large is an error of writing */
}

void interrupt_defer(bool is_deferred) {
    is_flag_only = is_deferred;
}

bool interrupt_is_set(void) {
    return is_interrupted;
}

bool interrupt_take(void) {
    bool was_set = is_interrupted;
    is_interrupted = 0;
    return was_set;
}

void interrupt_note_cursor(bool is_hidden) {
    is_cursor_hidden = is_hidden;
}

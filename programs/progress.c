/* SPDX-License-Identifier: Apache-2.0
 *
 * The progress line. It is cleared, not scrolled: after loading, the terminal shows the answer
 * alone.
 */
#include "programs/progress.h"

#include <string.h>

enum { BAR_CELLS = 24, TEXT_CELLS = 44 /* what may stand around the bar */ };

void progress_init(progress *p, bool is_verbose) {
    memset(p, 0, sizeof *p);
    terminal_init(&p->screen, stderr);
    p->is_verbose = is_verbose;
    p->last_percent = -1;
}

/* Draws a line that fits on one row: the bar shrinks first, then goes. */
static void draw(progress *p, const char *what, int64_t done, int64_t total, const char *unit,
                 int64_t unit_size) {
    int percent = total > 0 ? (int)((double)done * 100 / (double)total) : 0;
    if (percent == p->last_percent) return;
    p->last_percent = percent;
    terminal_measure(&p->screen);
    char bar[BAR_CELLS + 1], line[160];
    int n_cells = p->screen.n_columns - TEXT_CELLS;
    if (n_cells > BAR_CELLS) n_cells = BAR_CELLS;
    if (n_cells < 0) n_cells = 0;
    int n_full = (int)((int64_t)percent * n_cells / 100);
    if (n_full > n_cells) n_full = n_cells;
    memset(bar, '#', (size_t)n_full);
    memset(bar + n_full, '.', (size_t)(n_cells - n_full));
    bar[n_cells] = '\0';
    snprintf(line, sizeof line, "%s [%s] %lld/%lld %s", what, bar, (long long)(done / unit_size),
             (long long)(total / unit_size), unit);
    fprintf(stderr, "\r%.*s\033[K", p->screen.n_columns - 1, line);
    fflush(stderr);
    p->is_drawn = true;
}

void progress_load(void *user, const char *what, int64_t done, int64_t total) {
    progress *p = user;
    int64_t unit_size = total >= 10000000 ? 1000000 : 1000;
    const char *unit = total >= 10000000 ? "MB" : "kB";
    if (p->screen.can_move)
        draw(p, what, done, total, unit, unit_size);
    else if (p->is_verbose && done == total)
        fprintf(stderr, "%s: %lld %s\n", what, (long long)(total / unit_size), unit);
}

void progress_prefill(progress *p, int32_t done, int32_t total) {
    if (p->screen.can_move)
        draw(p, "reading the prompt", done, total, "tokens", 1);
    else if (p->is_verbose)
        fprintf(stderr, "reading the prompt: %d/%d tokens\n", done, total);
}

void progress_score(progress *p, int64_t done, int64_t total) {
    if (p->screen.can_move)
        draw(p, "scoring", done, total, "samples", 1);
    else if (p->is_verbose && done == total)
        fprintf(stderr, "scoring: %lld samples\n", (long long)total);
}

void progress_measure(progress *p, int64_t done, int64_t total) {
    if (p->screen.can_move)
        draw(p, "measuring", done, total, "tokens", 1);
    else if (p->is_verbose && done == total)
        fprintf(stderr, "measuring: %lld tokens\n", (long long)total);
}

void progress_clear(progress *p) {
    if (p->is_drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    p->is_drawn = false;
    p->last_percent = -1;
}

bool progress_wants_summary(const progress *p) {
    return p->screen.is_terminal || p->is_verbose;
}

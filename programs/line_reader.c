/* SPDX-License-Identifier: Apache-2.0
 *
 * libedit behind a small face. Its prompt goes to standard error, so that standard output carries
 * answers only. Characters are read here and not by libedit, which would hide an interrupted read.
 * The history is saved after each line: a conversation may end with a closed window.
 */
#include "programs/line_reader.h"

#include <errno.h>
#include <histedit.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "programs/interrupt.h"
#include "programs/report.h"

enum { HISTORY_LINES = 1000, CTRL_D = 4 };

struct line_reader {
    EditLine *editor;   /* NULL: plain lines */
    History *history;   /* NULL: none */
    char *history_path; /* NULL: not kept */
    char *line;         /* getline's, or the copy of libedit's without newline */
    size_t capacity;
};

static const char *prompt(EditLine *editor) {
    (void)editor;
    return "> ";
}

/* One character for libedit: 1, 0 at the end, -1 when interrupted or damaged. */
static int read_char(EditLine *editor, wchar_t *out) {
    char bytes[MB_LEN_MAX];
    (void)editor;
    for (size_t n = 0; n < sizeof bytes;) {
        ssize_t n_read = read(STDIN_FILENO, bytes + n, 1);
        if (n_read == 0) return 0;
        if (n_read < 0) {
            if (errno != EINTR || interrupt_is_set()) return -1;
            continue; /* the window's size changed, or the like */
        }
        mbstate_t state;
        memset(&state, 0, sizeof state);
        size_t n_used = mbrtowc(out, bytes, ++n, &state);
        if (n_used == (size_t)-2) continue;
        if (n_used == (size_t)-1) {
            n = 0; /* damage is left out */
            continue;
        }
        /* A Ctrl-D typed while the answer ran: the terminal kept the end of input as a zero. */
        if (*out == L'\0') *out = CTRL_D;
        return 1;
    }
    return -1;
}

/* Makes the directories that a path's last part needs. */
static bool make_parents(char *path) {
    for (char *at = path + 1; *at; at++) {
        if (*at != '/') continue;
        *at = '\0';
        bool is_made = mkdir(path, 0700) == 0 || errno == EEXIST;
        *at = '/';
        if (!is_made) return false;
    }
    return true;
}

/* $XDG_STATE_HOME/unmask/history, or below $HOME; NULL where there is no such place. */
static char *find_history(void) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    strbuf path;
    strbuf_init(&path);
    if (state && state[0] == '/')
        strbuf_append_format(&path, "%s/unmask/history", state);
    else if (home && home[0] == '/')
        strbuf_append_format(&path, "%s/.local/state/unmask/history", home);
    else
        return NULL;
    char *found = strbuf_take(&path, NULL);
    if (found && !make_parents(found)) {
        memory_free(found);
        return NULL;
    }
    return found;
}

static um_status open_editor(line_reader *r, um_error *err) {
    HistEvent event;
    r->editor = el_init("unmask", stdin, stderr, stderr);
    r->history = history_init();
    if (!r->editor || !r->history) FAIL(UM_NO_MEMORY, err, "no memory for line editing");
    history(r->history, &event, H_SETSIZE, HISTORY_LINES);
    history(r->history, &event, H_SETUNIQUE, 1);
    r->history_path = find_history();
    if (r->history_path) history(r->history, &event, H_LOAD, r->history_path);
    el_set(r->editor, EL_PROMPT, prompt);
    el_set(r->editor, EL_EDITOR, "emacs");
    el_set(r->editor, EL_SIGNAL, 0);
    el_set(r->editor, EL_GETCFN, read_char);
    el_set(r->editor, EL_HIST, history, r->history);
    el_source(r->editor, NULL); /* ~/.editrc */
    return UM_OK;
}

um_status line_reader_open(line_reader **reader, um_error *err) {
    line_reader *r = memory_calloc(1, sizeof *r);
    if (!r) FAIL(UM_NO_MEMORY, err, "no memory for reading lines");
    if (isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1) {
        um_status status = open_editor(r, err);
        if (status != UM_OK) {
            line_reader_close(r);
            return status;
        }
    }
    *reader = r;
    return UM_OK;
}

void line_reader_close(line_reader *r) {
    if (!r) return;
    if (r->history) history_end(r->history);
    if (r->editor) el_end(r->editor);
    memory_free(r->history_path);
    free(r->line);
    memory_free(r);
}

bool line_reader_is_interactive(const line_reader *r) {
    return r->editor != NULL;
}

static line_reader_result next_edited(line_reader *r, const char **line, um_error *err) {
    int n = 0;
    HistEvent event;
    /* libedit would show its prompt first: what is typed in between would be lost. */
    el_set(r->editor, EL_PREP_TERM, 1);
    const char *found = el_gets(r->editor, &n);
    if (interrupt_take()) {
        fputc('\n', stderr);
        return LINE_READER_INTERRUPTED;
    }
    if (!found || n <= 0) {
        fputc('\n', stderr);
        return LINE_READER_END;
    }
    size_t n_bytes = strlen(found);
    if (n_bytes && found[n_bytes - 1] == '\n') n_bytes--;
    free(r->line);
    r->line = strndup(found, n_bytes);
    if (!r->line) {
        um_error_set(err, UM_NO_MEMORY, "no memory for a line");
        return LINE_READER_FAILED;
    }
    if (n_bytes) {
        history(r->history, &event, H_ENTER, found);
        if (r->history_path) history(r->history, &event, H_SAVE, r->history_path);
    }
    *line = r->line;
    return LINE_READER_LINE;
}

line_reader_result line_reader_next(line_reader *r, const char **line, um_error *err) {
    if (r->editor) return next_edited(r, line, err);
    errno = 0;
    ssize_t n = getline(&r->line, &r->capacity, stdin);
    if (interrupt_take()) return LINE_READER_INTERRUPTED;
    if (n < 0) {
        if (feof(stdin)) return LINE_READER_END;
        report_system(err, "standard input", "cannot read", errno);
        return LINE_READER_FAILED;
    }
    if (memchr(r->line, '\0', (size_t)n)) {
        um_error_set(err, UM_FORMAT, "standard input: a line holds a zero byte");
        return LINE_READER_FAILED;
    }
    if (n > 0 && r->line[n - 1] == '\n') r->line[--n] = '\0';
    if (n > 0 && r->line[n - 1] == '\r') r->line[--n] = '\0';
    *line = r->line;
    return LINE_READER_LINE;
}

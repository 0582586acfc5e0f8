/* SPDX-License-Identifier: Apache-2.0
 *
 * Terminals by isatty, ioctl and the environment. UTF-8 is decoded here, so that widths do not hang
 * on mbrtowc's state; wcwidth needs a UTF-8 locale, which main sets.
 */
#include "programs/terminal.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

void terminal_init(terminal *t, FILE *file) {
    const char *kind = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    memset(t, 0, sizeof *t);
    t->file = file;
    t->is_terminal = isatty(fileno(file)) == 1;
    t->can_move = t->is_terminal && kind && kind[0] && strcmp(kind, "dumb") != 0;
    t->has_colour = t->can_move && !(no_colour && no_colour[0]);
    terminal_measure(t);
}

void terminal_measure(terminal *t) {
    struct winsize size = {0};
    t->n_columns = 80;
    t->n_rows = 24;
    if (!t->is_terminal || ioctl(fileno(t->file), TIOCGWINSZ, &size) != 0) return;
    if (size.ws_col > 0) t->n_columns = size.ws_col;
    if (size.ws_row > 0) t->n_rows = size.ws_row;
}

/* Decodes one character; returns its bytes, 0 for damage. */
static size_t decode(const char *text, size_t n_bytes, uint32_t *codepoint) {
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) {
        *codepoint = s[0];
        return 1;
    }
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (s[0] < 0xc2 || s[0] > 0xf4 || n > n_bytes) return 0;
    uint32_t value = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        value = value << 6 | (s[i] & 0x3f);
    }
    if (value < smallest[n] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return 0;
    *codepoint = value;
    return n;
}

size_t terminal_next_char(const char *text, size_t n_bytes, int *n_columns) {
    uint32_t codepoint;
    size_t n = decode(text, n_bytes, &codepoint);
    *n_columns = -1;
    if (n == 0) return 1;
    if (codepoint < 0x20 || (codepoint >= 0x7f && codepoint < 0xa0)) return n;
    int width = wcwidth((wchar_t)codepoint);
    *n_columns = width < 0 ? 1 : width; /* newer than the C library: most often one column */
    return n;
}

size_t terminal_invalid_utf8(const char *text, size_t n_bytes) {
    size_t at = 0;
    while (at < n_bytes) {
        uint32_t codepoint;
        size_t n = decode(text + at, n_bytes - at, &codepoint);
        if (n == 0) break;
        at += n;
    }
    return at;
}

void terminal_write(const terminal *t, const char *text, size_t n_bytes) {
    if (!t->is_terminal) {
        fwrite(text, 1, n_bytes, t->file);
        return;
    }
    size_t n;
    for (size_t at = 0; at < n_bytes; at += n) {
        int width;
        n = terminal_next_char(text + at, n_bytes - at, &width);
        if (width >= 0 || text[at] == '\n' || text[at] == '\t') fwrite(text + at, 1, n, t->file);
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * A frame is laid out as rows of styled text from the first live cell on, then written in one
 * piece: up to the first drawn row, each row over what stood there, the rest of the screen cleared.
 *
 *     settled rows         written once, belong to the scroll-back
 *     live rows            drawn again each frame, at most the height of the screen
 *     status row           block, forward, tokens
 */
#include "programs/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "programs/interrupt.h"
#include "programs/report.h"

enum {
    STYLE_PLAIN = -1,
    STYLE_MASK = -2,
    STYLE_EDIT = 1000,   /* added to a confidence's style */
    GROUP_CELLS_MAX = 4, /* tokens that may share one character, which has at most 4 bytes */
    LEGEND_COLUMNS = 70
};

/* Confidence up to `limit` has this colour of the 256-colour table. */
static const struct {
    float limit;
    int colour;
    const char *label;
} confidence_colours[] = {{0.3f, 196, "0"},    {0.5f, 202, ".3"}, {0.7f, 208, ".5"},
                          {0.8f, 214, ".7"},   {0.9f, 220, ".8"}, {0.95f, 190, ".9"},
                          {0.99f, 154, ".95"}, {2.0f, 82, ".99"}};
enum { N_COLOURS = sizeof confidence_colours / sizeof confidence_colours[0] };

#define MASK_TEXT "\xe2\x96\x91" /* U+2591, a light shade */
#define REPLACEMENT "\xef\xbf\xbd"

/* A place in the answer's text. */
typedef struct text_place {
    int32_t cell;
    size_t byte;
} text_place;

typedef struct frame_row {
    text_place start;
    size_t first_byte; /* in the frame's text */
} frame_row;

typedef struct frame {
    strbuf text;     /* all rows, each ends with its styles switched off */
    frame_row *rows; /* [n_rows] */
    size_t n_rows, capacity;
    int n_columns;
    int style, column;
    /* The last place of the row at which it may be broken. */
    bool has_break;
    text_place break_place;
    size_t break_byte;
} frame;

/* What a cell shows. Tokens that together make one character give it to the first of them. */
typedef struct cell_text {
    char *text; /* um_free */
    size_t n_bytes;
    int32_t n_cells;
} cell_text;

static um_status read_cell(const watch *w, const canvas *c, int32_t cell, int32_t end,
                           cell_text *out, um_error *err) {
    out->text = NULL;
    int32_t n_run = 0;
    while (n_run < GROUP_CELLS_MAX && cell + n_run < end && !c->cells[cell + n_run].is_masked)
        n_run++;
    for (int32_t n = 1; n <= n_run; n++) {
        char *text = NULL;
        size_t n_bytes;
        TRY(um_tokenizer_decode(w->tokenizer, c->tokens + cell, (size_t)n, true, &text, &n_bytes,
                                err));
        bool is_whole = !strstr(text, REPLACEMENT);
        if (n > 1 && !is_whole) {
            um_free(text);
            continue;
        }
        um_free(out->text);
        *out = (cell_text){text, n_bytes, n};
        if (is_whole) break;
    }
    return UM_OK;
}

static void set_style(frame *f, const watch *w, int style) {
    if (style == f->style) return;
    f->style = style;
    if (!w->screen->has_colour) return;
    strbuf_append_string(&f->text, "\033[0");
    if (style == STYLE_MASK) strbuf_append_string(&f->text, ";2");
    if (style >= STYLE_EDIT) strbuf_append_string(&f->text, ";7");
    if (style >= 0)
        strbuf_append_format(&f->text, ";38;5;%d", confidence_colours[style % STYLE_EDIT].colour);
    strbuf_append_char(&f->text, 'm');
}

static int style_of(const canvas_cell *cell) {
    if (cell->is_masked) return STYLE_MASK;
    int i = 0;
    while (i < N_COLOURS - 1 && cell->probability >= confidence_colours[i].limit) i++;
    return cell->is_edited ? STYLE_EDIT + i : i;
}

static um_status begin_row(frame *f, text_place start, um_error *err) {
    if (memory_grow(&f->rows, &f->capacity, f->n_rows, sizeof *f->rows) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for a frame");
    f->rows[f->n_rows++] = (frame_row){start, f->text.n_bytes};
    f->column = 0;
    f->has_break = false;
    return UM_OK;
}

static um_status end_row(frame *f, const watch *w, text_place next, um_error *err) {
    set_style(f, w, STYLE_PLAIN);
    return begin_row(f, next, err);
}

/* Adds one character. *next is where laying out goes on: after it, or, where the row had to be
 * broken at an earlier blank, there. */
static um_status add_char(frame *f, const watch *w, int style, const char *bytes, size_t n_bytes,
                          int n_columns, text_place at, text_place *next, um_error *err) {
    *next = (text_place){at.cell, at.byte + n_bytes};
    if (*bytes == '\n') return end_row(f, w, *next, err);
    if (*bytes == '\t') {
        bytes = " ";
        n_bytes = 1;
        n_columns = 1;
    }
    if (n_columns < 0) return UM_OK; /* other control characters */
    if (f->column + n_columns > f->n_columns && f->column > 0) {
        *next = f->has_break ? f->break_place : at;
        if (f->has_break) {
            f->text.n_bytes = f->break_byte;
            f->style = STYLE_MASK; /* whatever it is there, it gets switched off */
        }
        return end_row(f, w, *next, err);
    }
    set_style(f, w, style);
    strbuf_append(&f->text, bytes, n_bytes);
    f->column += n_columns;
    if (*bytes == ' ') {
        f->has_break = true;
        f->break_place = *next;
        f->break_byte = f->text.n_bytes;
    }
    return UM_OK;
}

/* Lays out a cell's text from place->byte on; moves *place to where to go on. */
static um_status add_cell(frame *f, const watch *w, const canvas *c, int32_t end, text_place *place,
                          um_error *err) {
    const canvas_cell *cell = &c->cells[place->cell];
    int style = style_of(cell);
    cell_text shown = {NULL, 0, 1};
    um_status status = UM_OK;
    if (!cell->is_masked) TRY(read_cell(w, c, place->cell, end, &shown, err));
    const char *text = cell->is_masked ? MASK_TEXT : shown.text;
    size_t n_bytes = cell->is_masked ? sizeof MASK_TEXT - 1 : shown.n_bytes;
    text_place at = *place;
    while (at.cell == place->cell && at.byte < n_bytes) {
        int n_columns;
        size_t n = terminal_next_char(text + at.byte, n_bytes - at.byte, &n_columns);
        text_place next;
        TRY_GOTO(add_char(f, w, style, text + at.byte, n, n_columns, at, &next, err), cleanup);
        at = next;
    }
    *place = at.cell == place->cell ? (text_place){place->cell + shown.n_cells, 0} : at;
cleanup:
    um_free(shown.text);
    return status;
}

/* All rows from the first live place to the end of the open blocks. */
static um_status lay_out(frame *f, const watch *w, const canvas *c, um_error *err) {
    text_place place = {w->live_cell, w->live_byte};
    int32_t end = c->n_open < c->n_cells ? c->n_open : c->n_cells;
    f->style = STYLE_PLAIN;
    f->n_columns = w->screen->n_columns > 2 ? w->screen->n_columns - 1 : 1;
    TRY(begin_row(f, place, err));
    while (place.cell < end) {
        bool is_row_start = f->rows[f->n_rows - 1].start.cell == place.cell &&
                            f->rows[f->n_rows - 1].start.byte == place.byte;
        if (w->n_columns && place.byte == 0 && place.cell > 0 && !is_row_start &&
            place.cell % w->n_columns == 0)
            TRY(end_row(f, w, place, err));
        TRY(add_cell(f, w, c, end, &place, err));
    }
    set_style(f, w, STYLE_PLAIN);
    if (f->text.has_failed) FAIL(UM_NO_MEMORY, err, "no memory for a frame");
    return UM_OK;
}

static void append_row(strbuf *out, const frame *f, size_t i_row) {
    size_t first = f->rows[i_row].first_byte;
    size_t end = i_row + 1 < f->n_rows ? f->rows[i_row + 1].first_byte : f->text.n_bytes;
    if (end > first) strbuf_append(out, f->text.data + first, end - first);
    strbuf_append_string(out, "\033[K\r\n");
}

/* Rows that no step can change any more: the next row, whose first word decided where this one was
 * broken, is in finished blocks to its end. */
static size_t count_settled(const frame *f, const canvas *c) {
    size_t n = 0;
    while (n + 2 < f->n_rows && f->rows[n + 2].start.cell < c->n_frozen) n++;
    return n;
}

static void append_status(strbuf *out, const watch *w, const canvas *c) {
    int32_t n_committed = 0;
    for (int32_t i = 0; i < c->n_open && i < c->n_cells; i++) n_committed += !c->cells[i].is_masked;
    char line[96], blocks[48];
    if (c->n_blocks > 1)
        snprintf(blocks, sizeof blocks, "blocks %d-%d", c->block, c->block + c->n_blocks - 1);
    else
        snprintf(blocks, sizeof blocks, "block %d", c->block);
    int n =
        snprintf(line, sizeof line, "%s, forward %d, %d tokens", blocks, c->n_steps, n_committed);
    if (n >= w->screen->n_columns) n = w->screen->n_columns - 1;
    strbuf_append_string(out, w->screen->has_colour ? "\033[2m" : "");
    strbuf_append(out, line, n > 0 ? (size_t)n : 0);
    strbuf_append_string(out, w->screen->has_colour ? "\033[0m" : "");
}

static um_status draw(watch *w, const canvas *c, bool is_last, um_error *err) {
    frame f = {0};
    strbuf out;
    um_status status = UM_OK;
    strbuf_init(&out);
    terminal_measure(w->screen);
    TRY_GOTO(lay_out(&f, w, c, err), cleanup);
    size_t n_settled = is_last ? f.n_rows : count_settled(&f, c);
    size_t n_live_max = w->screen->n_rows > 3 ? (size_t)w->screen->n_rows - 2 : 1;
    size_t first_live = n_settled;
    if (f.n_rows - first_live > n_live_max) first_live = f.n_rows - n_live_max;
    if (w->n_drawn > 1) strbuf_append_format(&out, "\033[%dA", w->n_drawn - 1);
    strbuf_append_char(&out, '\r');
    for (size_t i = 0; i < n_settled; i++) append_row(&out, &f, i);
    for (size_t i = first_live; i < f.n_rows; i++) append_row(&out, &f, i);
    if (!is_last) {
        append_status(&out, w, c);
        w->n_drawn = (int)(f.n_rows - first_live) + 1;
        w->live_cell = f.rows[n_settled].start.cell;
        w->live_byte = f.rows[n_settled].start.byte;
    }
    strbuf_append_string(&out, "\033[J");
    if (out.has_failed) {
        status = um_error_set(err, UM_NO_MEMORY, "no memory for a frame");
        goto cleanup;
    }
    fwrite(out.data, 1, out.n_bytes, w->screen->file);
    status = report_flush_output(err);
cleanup:
    strbuf_deinit(&out);
    strbuf_deinit(&f.text);
    memory_free(f.rows);
    return status;
}

static void print_legend(const watch *w) {
    FILE *file = w->screen->file;
    fprintf(file, "\033[2m" MASK_TEXT " masked\033[0m  confidence from");
    for (int i = 0; i < N_COLOURS; i++)
        fprintf(file, " \033[38;5;%dm\xe2\x96\xa0\033[0m %s", confidence_colours[i].colour,
                confidence_colours[i].label);
    fputs("\n\n", file);
}

void watch_begin(watch *w, terminal *screen, const um_tokenizer *tokenizer, int32_t n_columns,
                 int32_t delay_ms, bool has_legend) {
    memset(w, 0, sizeof *w);
    w->screen = screen;
    w->tokenizer = tokenizer;
    w->n_columns = n_columns;
    w->delay_ms = delay_ms;
    if (has_legend && screen->has_colour && screen->n_columns >= LEGEND_COLUMNS) print_legend(w);
    interrupt_note_cursor(true);
    fputs("\033[?25l", screen->file);
}

um_status watch_draw(watch *w, const canvas *c, um_error *err) {
    TRY(draw(w, c, false, err));
    if (w->delay_ms && !interrupt_is_set()) {
        struct timespec pause = {w->delay_ms / 1000, w->delay_ms % 1000 * 1000000L};
        nanosleep(&pause, NULL); /* Ctrl-C ends it early */
    }
    return UM_OK;
}

um_status watch_end(watch *w, const canvas *c, um_error *err) {
    um_status status = draw(w, c, true, err);
    fputs("\033[0m\033[?25h", w->screen->file);
    fflush(w->screen->file);
    interrupt_note_cursor(false);
    return status;
}

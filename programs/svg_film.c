/* SPDX-License-Identifier: Apache-2.0
 *
 * Every cell has its place in the finished text. Whatever stood in it at some time, a mask or an
 * earlier token, is drawn there, squeezed to the place; style rules, two for each forward, say when
 * things appear and go. Rows are of character cells of one width, kept by textLength whatever the
 * viewer's font is.
 */
#include "programs/svg_film.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/strbuf.h"
#include "programs/report.h"
#include "programs/terminal.h"

enum {
    CHARACTER_WIDTH = 9, /* tenths of a pixel would be finer, and no one would see it */
    ROW_HEIGHT = 22,
    MARGIN = 20,
    ROW_COLUMNS = 72,     /* a row breaks before a word that goes beyond */
    ROW_COLUMNS_MAX = 88, /* ... and anywhere here */
    STEP_MS = 300,        /* less where there are many */
    STEPS_MS = 15000,     /* all of them, at most */
    LEAD_MS = 700,
    HOLD_MS = 3000,
    GROUP_CELLS_MAX = 4 /* tokens that may share one character */
};

#define REPLACEMENT "\xef\xbf\xbd"

/* Confidence up to `limit`; as in the terminal (watch.c). */
static const struct {
    float limit;
    const char *light, *dark;
} colours[] = {{0.5f, "#c1272d", "#ff6b6b"},
               {0.7f, "#c75b12", "#ff9f43"},
               {0.9f, "#9a7500", "#f5cd47"},
               {0.99f, "#4d7f0f", "#b4e051"},
               {2.0f, "#0b7a3b", "#5fe08f"}};
enum { N_COLOURS = sizeof colours / sizeof *colours };

/* Where a cell stands, in characters, and its part of the text. */
typedef struct place {
    int32_t column, row, width;
    char *text; /* um_free; NULL: shown by the cell before it */
} place;

typedef struct picture {
    const svg_film *film;
    const um_tokenizer *tokenizer;
    const canvas *canvas;
    place *places; /* [n_cells] */
    int32_t n_rows, n_columns;
    strbuf out;
} picture;

/* ---- Keeping ---- */

um_status svg_film_open(svg_film *film, const char *path, um_error *err) {
    film->path = path;
    film->file = fopen(path, "w");
    if (!film->file) return report_system(err, path, "cannot write", errno);
    return UM_OK;
}

um_status svg_film_add(svg_film *film, const um_event *event, int32_t n_prompt, um_error *err) {
    if (!film->file) return UM_OK;
    int32_t end = event->first_position + event->n_inputs - n_prompt;
    for (int32_t cell = (int32_t)film->n_opened; cell < end; cell++) {
        if (memory_grow(&film->opened, &film->opened_capacity, film->n_opened,
                        sizeof *film->opened) != 0)
            FAIL(UM_NO_MEMORY, err, "no memory for a film");
        film->opened[film->n_opened++] = film->n_steps;
    }
    for (int32_t i = 0; i < event->n_changes; i++) {
        const um_change *change = &event->changes[i];
        if (memory_grow(&film->changes, &film->capacity, film->n_changes, sizeof *film->changes) !=
            0)
            FAIL(UM_NO_MEMORY, err, "no memory for a film");
        film->changes[film->n_changes++] = (svg_change){.cell = change->position - n_prompt,
                                                        .token = change->token,
                                                        .step = film->n_steps,
                                                        .probability = change->probability,
                                                        .is_edit = change->is_edit};
    }
    film->n_steps++;
    return UM_OK;
}

/* ---- Places ---- */

static int32_t width_of(const char *text) {
    int32_t width = 0;
    for (size_t at = 0, n = strlen(text); at < n;) {
        int n_columns;
        at += terminal_next_char(text + at, n - at, &n_columns);
        width += n_columns > 0 ? n_columns : 0;
    }
    return width;
}

/* The text of a cell, and of those behind it that end its last character. */
static um_status read_group(const picture *p, int32_t cell, int32_t *n_cells, char **text,
                            um_error *err) {
    int32_t n_left = p->canvas->n_cells - cell;
    *text = NULL;
    for (int32_t n = 1; n <= GROUP_CELLS_MAX && n <= n_left; n++) {
        char *longer;
        TRY(um_tokenizer_decode(p->tokenizer, p->canvas->tokens + cell, (size_t)n, true, &longer,
                                NULL, err));
        bool is_whole = !strstr(longer, REPLACEMENT);
        if (n > 1 && !is_whole) {
            um_free(longer);
            continue;
        }
        um_free(*text);
        *text = longer;
        *n_cells = n;
        if (is_whole) break;
    }
    return UM_OK;
}

static um_status lay_out(picture *p, int32_t n_columns, um_error *err) {
    int32_t column = 0, row = 0, n_group = 1;
    bool ends_word = true;
    for (int32_t i = 0; i < p->canvas->n_cells; i += n_group) {
        place *at = &p->places[i];
        TRY(read_group(p, i, &n_group, &at->text, err));
        int32_t width = width_of(at->text);
        bool starts_word = ends_word || *at->text == ' ';
        bool is_full = n_columns ? i && i % n_columns == 0
                                 : column && ((starts_word && column + width > ROW_COLUMNS) ||
                                              column + width > ROW_COLUMNS_MAX);
        if (is_full) {
            column = !n_columns && *at->text == ' ' ? -1 : 0; /* the blank falls off the edge */
            row++;
        }
        *at = (place){.column = column, .row = row, .width = width, .text = at->text};
        size_t n_bytes = strlen(at->text);
        ends_word = n_bytes && at->text[n_bytes - 1] == ' ';
        column += width;
        if (column > p->n_columns) p->n_columns = column;
        for (const char *c = at->text; *c && !n_columns; c++) {
            if (*c != '\n') continue;
            column = width_of(c + 1);
            row++;
        }
    }
    p->n_rows = row + 1;
    return UM_OK;
}

/* ---- Drawing ---- */

/* Text as XML has it; what it cannot hold is left out. */
static void append_escaped(strbuf *out, const char *text) {
    for (const char *c = text; *c; c++) {
        if (*c == '&' || *c == '<' || *c == '>')
            strbuf_append_format(out, "&#%d;", *c);
        else if (*c == '\t' || *c == '\n')
            strbuf_append_char(out, ' ');
        else if (strncmp(c, "\xef\xbf\xbe", 3) == 0 || strncmp(c, "\xef\xbf\xbf", 3) == 0)
            c += 2;
        else if ((unsigned char)*c >= 0x20 && *c != 0x7F)
            strbuf_append_char(out, *c);
    }
}

static int colour_of(float probability) {
    int i = 0;
    while (i < N_COLOURS - 1 && probability >= colours[i].limit) i++;
    return i;
}

/* Opens the groups of what is shown from a step on (-1: from the start), until another one (-1: to
 * the end). */
static void begin_shown(strbuf *out, int32_t from, int32_t until) {
    if (from >= 0)
        strbuf_append_format(out, "<g class=\"a%d\">", from);
    else
        strbuf_append_string(out, "<g>");
    if (until >= 0) strbuf_append_format(out, "<g class=\"d d%d\">", until);
}

static void end_shown(strbuf *out, int32_t until) {
    strbuf_append_string(out, until >= 0 ? "</g></g>\n" : "</g>\n");
}

static void draw_mask(picture *p, const place *at, int32_t from, int32_t until) {
    if (!at->width || from == until) return;
    begin_shown(&p->out, from, until);
    strbuf_append_format(
        &p->out, "<rect class=\"m\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>",
        MARGIN + at->column * CHARACTER_WIDTH + 1, MARGIN + at->row * ROW_HEIGHT + 3,
        at->width * CHARACTER_WIDTH - 2, ROW_HEIGHT - 6);
    end_shown(&p->out, until);
}

/* A token in its cell's place. Blanks before it are left as space, since viewers drop them. */
static um_status draw_token(picture *p, const place *at, const svg_change *change, int32_t until,
                            um_error *err) {
    char *own = NULL;
    const char *text = at->text;
    if (until >= 0) {
        TRY(um_tokenizer_decode(p->tokenizer, &change->token, 1, true, &own, NULL, err));
        text = own;
    }
    int32_t n_blanks = (int32_t)strspn(text, " \n\t"), n_newlines = 0;
    int32_t column = at->column, width = width_of(text + n_blanks);
    for (int32_t i = 0; i < n_blanks; i++) {
        bool breaks = text[i] == '\n' && until < 0;
        n_newlines += breaks;
        column = breaks ? 0 : column + (text[i] != '\n');
    }
    if (width > at->width && until >= 0) width = at->width;
    if (width && text[n_blanks]) {
        begin_shown(&p->out, change->step, until);
        strbuf_append_format(
            &p->out,
            "<text class=\"c%d%s\" x=\"%d\" y=\"%d\" textLength=\"%d\" "
            "lengthAdjust=\"spacingAndGlyphs\"><title>%.3f, forward %d</title>",
            colour_of(change->probability), change->is_edit ? " e" : "",
            MARGIN + column * CHARACTER_WIDTH, MARGIN + (at->row + n_newlines) * ROW_HEIGHT + 16,
            width * CHARACTER_WIDTH, (double)change->probability, change->step + 1);
        append_escaped(&p->out, text + n_blanks);
        strbuf_append_string(&p->out, "</text>");
        end_shown(&p->out, until);
    }
    um_free(own);
    return UM_OK;
}

/* What stood in a cell, one after the other: the mask, tokens, the mask again where it was opened.
 */
static um_status draw_cell(picture *p, int32_t cell, um_error *err) {
    const svg_film *film = p->film;
    const place *at = &p->places[cell];
    if (!at->text) return UM_OK;
    int32_t opened = (size_t)cell < film->n_opened ? film->opened[cell] : 0;
    /* The masks of a block are there before its first forward is done. */
    svg_change last = {.cell = cell, .token = p->canvas->mask_token, .step = opened - 1};
    for (size_t i = 0; i <= film->n_changes; i++) {
        bool is_end = i == film->n_changes;
        if (!is_end && film->changes[i].cell != cell) continue;
        int32_t until = is_end ? -1 : film->changes[i].step;
        if (last.token == p->canvas->mask_token)
            draw_mask(p, at, last.step, until);
        else
            TRY(draw_token(p, at, &last, until, err));
        if (!is_end) last = film->changes[i];
    }
    return UM_OK;
}

/* Milliseconds from the start to a step, or to the end of the film. */
static int32_t time_of(const svg_film *film, int32_t step) {
    int64_t steps_ms = (int64_t)film->n_steps * STEP_MS;
    if (steps_ms > STEPS_MS) steps_ms = STEPS_MS;
    return LEAD_MS + (int32_t)(steps_ms * step / film->n_steps) +
           (step == film->n_steps ? HOLD_MS : 0);
}

/* Where nothing may move, what is gone at the end is not shown and all else is. */
static void append_style(picture *p) {
    strbuf *out = &p->out;
    int32_t total = p->film->n_steps ? time_of(p->film, p->film->n_steps) : HOLD_MS;
    strbuf_append_string(out,
                         "<style>text{font:15px ui-monospace,Menlo,Consolas,monospace}"
                         ".p{fill:#fff}.m{fill:#8884}.s{fill:#666}.e{text-decoration:underline}"
                         ".d{opacity:0}");
    for (int i = 0; i < N_COLOURS; i++)
        strbuf_append_format(out, ".c%d{fill:%s}", i, colours[i].light);
    strbuf_append_string(out, "@media(prefers-color-scheme:dark){.p{fill:#16181c}.s{fill:#999}");
    for (int i = 0; i < N_COLOURS; i++)
        strbuf_append_format(out, ".c%d{fill:%s}", i, colours[i].dark);
    strbuf_append_string(out, "}\n@media(prefers-reduced-motion:no-preference){\n");
    for (int32_t step = 0; step < p->film->n_steps; step++) {
        double from = 100.0 * time_of(p->film, step) / total;
        strbuf_append_format(out,
                             "@keyframes a%d{0%%{opacity:0}%.3f%%{opacity:1}}"
                             "@keyframes d%d{0%%{opacity:1}%.3f%%{opacity:0}}"
                             ".a%d{animation:a%d %dms step-end infinite}"
                             ".d%d{animation:d%d %dms step-end infinite}\n",
                             step, from, step, from, step, step, total, step, step, total);
    }
    strbuf_append_string(out, "}</style>\n");
}

static void draw_status(picture *p) {
    int32_t n_committed = 0;
    size_t i = 0;
    for (int32_t step = 0; step < p->film->n_steps; step++) {
        for (; i < p->film->n_changes && p->film->changes[i].step == step; i++) {
            bool is_masked = p->film->changes[i].token == p->canvas->mask_token;
            bool is_inside = p->film->changes[i].cell < p->canvas->n_cells;
            if (is_inside && (is_masked || !p->film->changes[i].is_edit))
                n_committed += is_masked ? -1 : 1;
        }
        int32_t until = step + 1 < p->film->n_steps ? step + 1 : -1;
        begin_shown(&p->out, step, until);
        strbuf_append_format(
            &p->out, "<text class=\"s\" x=\"%d\" y=\"%d\">forward %d, %d tokens</text>", MARGIN,
            MARGIN + (p->n_rows + 1) * ROW_HEIGHT + 16, step + 1, n_committed);
        end_shown(&p->out, until);
    }
}

static um_status draw(picture *p, um_error *err) {
    int32_t n_columns = p->n_columns < 40 ? 40 : p->n_columns;
    int32_t width = 2 * MARGIN + n_columns * CHARACTER_WIDTH;
    int32_t height = 2 * MARGIN + (p->n_rows + 2) * ROW_HEIGHT;
    strbuf_append_format(&p->out,
                         "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
                         "width=\"%d\" height=\"%d\" xml:space=\"preserve\">\n",
                         width, height, width, height);
    append_style(p);
    strbuf_append_format(&p->out, "<rect class=\"p\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n",
                         width, height);
    for (int32_t i = 0; i < p->canvas->n_cells; i++) TRY(draw_cell(p, i, err));
    draw_status(p);
    strbuf_append_string(&p->out, "</svg>\n");
    if (p->out.has_failed) FAIL(UM_NO_MEMORY, err, "no memory for a film");
    return UM_OK;
}

um_status svg_film_write(svg_film *film, const um_tokenizer *tokenizer, const canvas *c,
                         int32_t n_columns, um_error *err) {
    if (!film->file) return UM_OK;
    picture p = {.film = film, .tokenizer = tokenizer, .canvas = c};
    um_status status = UM_OK;
    strbuf_init(&p.out);
    p.places = memory_calloc((size_t)c->n_cells, sizeof *p.places);
    if (!p.places) FAIL(UM_NO_MEMORY, err, "no memory for a film");
    TRY_GOTO(lay_out(&p, n_columns, err), cleanup);
    TRY_GOTO(draw(&p, err), cleanup);
    errno = 0;
    fwrite(p.out.data, 1, p.out.n_bytes, film->file);
    if (fflush(film->file) != 0 || ferror(film->file))
        status = report_system(err, film->path, "cannot write", errno ? errno : EIO);
    film->is_written = status == UM_OK;
cleanup:
    for (int32_t i = 0; i < c->n_cells; i++) um_free(p.places[i].text);
    memory_free(p.places);
    strbuf_deinit(&p.out);
    return status;
}

um_status svg_film_close(svg_film *film, um_error *err) {
    um_status status = UM_OK;
    if (!film->file) return UM_OK;
    errno = 0;
    if (fclose(film->file) != 0)
        status = report_system(err, film->path, "cannot write", errno ? errno : EIO);
    if (!film->is_written) unlink(film->path);
    memory_free(film->changes);
    memory_free(film->opened);
    memset(film, 0, sizeof *film);
    return status;
}

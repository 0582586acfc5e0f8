/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop around um_engine_step and what is printed on the way. Text is printed up to the last
 * finished block, never further: what is on standard output cannot be taken back.
 */
#include "programs/answer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "programs/canvas.h"
#include "programs/interrupt.h"
#include "programs/report.h"
#include "programs/watch.h"

#define REPLACEMENT "\xef\xbf\xbd"

/* One answer in progress. */
typedef struct writer {
    answer_job *job;
    answer_style style; /* the job's, or TEXT where nothing can be drawn */
    canvas canvas;
    watch watch;
    bool is_watching;
    size_t n_printed; /* bytes of text, or ids */
    bool is_finished;
    bool has_result;
    um_finish_reason finish;
    int32_t forwards, prefill_forwards;
    int64_t prefill_ns, decode_ns;
} writer;

/* The text of the first n_tokens cells. */
static um_status decode(const writer *w, int32_t n_tokens, char **text, size_t *n_bytes,
                        um_error *err) {
    return um_tokenizer_decode(w->job->tokenizer, w->canvas.tokens, (size_t)n_tokens, true, text,
                               n_bytes, err);
}

/* Prints the text of n_tokens tokens beyond what was printed. Unless it is the end, a character
 * whose bytes are not all there yet waits. */
static um_status print_text(writer *w, int32_t n_tokens, bool is_end, um_error *err) {
    char *text = NULL;
    size_t n_bytes;
    TRY(decode(w, n_tokens, &text, &n_bytes, err));
    size_t n_mark = sizeof REPLACEMENT - 1;
    while (!is_end && n_bytes >= n_mark &&
           memcmp(text + n_bytes - n_mark, REPLACEMENT, n_mark) == 0)
        n_bytes -= n_mark;
    if (n_bytes > w->n_printed) {
        terminal_write(w->job->screen, text + w->n_printed, n_bytes - w->n_printed);
        w->n_printed = n_bytes;
    }
    um_free(text);
    return UM_OK;
}

static void print_ids(writer *w, int32_t n_tokens) {
    for (; w->n_printed < (size_t)n_tokens; w->n_printed++)
        printf("%s%d", w->n_printed ? " " : "", w->canvas.tokens[w->n_printed]);
}

/* --columns without a terminal: rows of so many tokens. */
static um_status print_rows(writer *w, int32_t n_tokens, um_error *err) {
    int32_t n_columns = w->job->n_columns;
    for (int32_t i = 0; i < n_tokens; i += n_columns) {
        int32_t n = n_tokens - i < n_columns ? n_tokens - i : n_columns;
        char *text = NULL;
        size_t n_bytes;
        TRY(um_tokenizer_decode(w->job->tokenizer, w->canvas.tokens + i, (size_t)n, true, &text,
                                &n_bytes, err));
        terminal_write(w->job->screen, text, n_bytes);
        um_free(text);
        if (i + n < n_tokens) putchar('\n');
    }
    return UM_OK;
}

/* What a finished block adds to the output. */
static um_status print_block(writer *w, um_error *err) {
    progress_clear(w->job->progress);
    if (w->style == ANSWER_STYLE_IDS)
        print_ids(w, w->canvas.n_frozen);
    else if (w->style == ANSWER_STYLE_TEXT && !w->job->n_columns)
        TRY(print_text(w, w->canvas.n_frozen, false, err));
    return report_flush_output(err);
}

static double seconds(int64_t ns) {
    return (double)ns / 1e9;
}

static double tokens_per_forward(const writer *w) {
    return w->forwards ? (double)w->canvas.n_cells / w->forwards : 0;
}

static void print_summary(const writer *w) {
    double decode_s = seconds(w->decode_ns);
    int32_t n = w->canvas.n_cells;
    fprintf(stderr, "%d tokens, %d forwards, %.2f tokens per forward, %.1f tokens a second\n", n,
            w->forwards, tokens_per_forward(w), decode_s > 0 ? n / decode_s : 0);
}

static um_status print_json(const writer *w, um_error *err) {
    um_status status = UM_NO_MEMORY;
    char *text = NULL, *line = NULL;
    size_t n_bytes = 0;
    const canvas *c = &w->canvas;
    json_t *ids = json_array(), *root = NULL;
    um_error_set(err, UM_NO_MEMORY, "no memory for the JSON of an answer");
    if (w->job->tokenizer) TRY_GOTO(decode(w, c->n_cells, &text, &n_bytes, err), cleanup);
    status = UM_NO_MEMORY;
    if (!ids) goto cleanup;
    for (int32_t i = 0; i < c->n_cells; i++)
        if (json_array_append_new(ids, json_integer(c->tokens[i])) != 0) goto cleanup;
    root = json_pack("{s:o?, s:O, s:s, s:i, s:i, s:i, s:f, s:f, s:f}", "text",
                     text ? json_stringn(text, n_bytes) : json_null(), "ids", ids, "finish_reason",
                     w->finish == UM_FINISH_STOP ? "stop" : "length", "forwards", (int)w->forwards,
                     "prefill_forwards", (int)w->prefill_forwards, "tokens", (int)c->n_cells,
                     "tokens_per_forward", tokens_per_forward(w), "prefill_ms",
                     seconds(w->prefill_ns) * 1e3, "decode_ms", seconds(w->decode_ns) * 1e3);
    if (root) line = json_dumps(root, JSON_REAL_PRECISION(9));
    if (!line) goto cleanup;
    puts(line);
    status = UM_OK;
cleanup:
    free(line);
    um_free(text);
    json_decref(ids);
    json_decref(root);
    return status;
}

/* Ends the output: with the whole answer, or after Ctrl-C with what there is. */
static um_status finish(writer *w, um_error *err) {
    progress_clear(w->job->progress);
    switch (w->style) {
        case ANSWER_STYLE_WATCH:
            w->is_watching = false;
            TRY(watch_end(&w->watch, &w->canvas, err));
            break;
        case ANSWER_STYLE_JSON:
            if (w->has_result) TRY(print_json(w, err));
            break;
        case ANSWER_STYLE_IDS:
            print_ids(w, w->canvas.n_cells);
            putchar('\n');
            break;
        case ANSWER_STYLE_TEXT:
            if (w->job->n_columns)
                TRY(print_rows(w, w->canvas.n_cells, err));
            else
                TRY(print_text(w, w->canvas.n_cells, true, err));
            putchar('\n');
            break;
    }
    TRY(report_flush_output(err));
    if (w->job->film)
        TRY(svg_film_write(w->job->film, w->job->tokenizer, &w->canvas, w->job->n_columns, err));
    bool is_asked = w->job->style == ANSWER_STYLE_WATCH || progress_wants_summary(w->job->progress);
    if (w->has_result && is_asked) print_summary(w);
    return UM_OK;
}

static um_status take_step(writer *w, const um_event *event, um_error *err) {
    TRY(trace_file_write(w->job->trace, event, err));
    if (w->job->film) TRY(svg_film_add(w->job->film, event, w->canvas.n_prompt, err));
    bool has_new_cells = canvas_open_blocks(&w->canvas, event);
    if (w->style != ANSWER_STYLE_WATCH) {
        canvas_apply(&w->canvas, event);
        return UM_OK;
    }
    if (!w->is_watching) {
        progress_clear(w->job->progress);
        watch_begin(&w->watch, w->job->screen, w->job->tokenizer, w->job->n_columns,
                    w->job->delay_ms, w->job->has_legend);
        w->is_watching = true;
    }
    if (has_new_cells) TRY(watch_draw(&w->watch, &w->canvas, err));
    canvas_apply(&w->canvas, event);
    return watch_draw(&w->watch, &w->canvas, err);
}

static um_status take_event(writer *w, const um_event *event, um_error *err) {
    switch (event->kind) {
        case UM_EVENT_ACCEPTED:
            break;
        case UM_EVENT_PREFILL:
            progress_prefill(w->job->progress, event->prefill_done, event->prefill_total);
            break;
        case UM_EVENT_STEP:
            return take_step(w, event, err);
        case UM_EVENT_BLOCK:
            canvas_apply(&w->canvas, event);
            return print_block(w, err);
        case UM_EVENT_DONE:
            w->is_finished = w->has_result = true;
            w->finish = event->finish;
            w->forwards = event->forwards;
            w->prefill_forwards = event->prefill_forwards;
            w->prefill_ns = event->prefill_ns;
            w->decode_ns = event->decode_ns;
            memcpy(w->canvas.tokens, event->tokens,
                   (size_t)event->n_tokens * sizeof *event->tokens);
            canvas_finish(&w->canvas, event->n_tokens);
            return finish(w, err);
        case UM_EVENT_ERROR:
            w->is_finished = true;
            *err = event->error;
            return err->status;
    }
    return UM_OK;
}

static um_status drive(writer *w, um_request *request, um_error *err) {
    bool is_cancelled = false;
    while (!w->is_finished) {
        if (interrupt_is_set() && !is_cancelled) {
            um_request_cancel(request);
            is_cancelled = true;
        }
        um_status status = um_engine_step(w->job->engine, err);
        if (status != UM_OK && status != UM_AGAIN) return status;
        bool has_event = false;
        um_event event;
        while (!w->is_finished && um_request_next_event(request, &event) == UM_OK) {
            has_event = true;
            TRY(take_event(w, &event, err));
        }
        if (status == UM_AGAIN && !has_event)
            FAIL(UM_INTERNAL, err, "the engine has nothing to do and the request is not finished");
    }
    return UM_OK;
}

/* After Ctrl-C: what stands before the first mask is printed as the answer. */
static void finish_cancelled(writer *w) {
    um_error ignored;
    canvas_finish(&w->canvas, canvas_committed(&w->canvas));
    if (w->style == ANSWER_STYLE_WATCH && !w->is_watching) return;
    finish(w, &ignored);
}

um_status answer_write(answer_job *job, const int32_t *prompt, size_t n_prompt, char **text,
                       um_error *err) {
    writer w = {.job = job, .style = job->style};
    um_request *request = NULL;
    um_request_options options = *job->options;
    if (text) *text = NULL;
    if (w.style == ANSWER_STYLE_WATCH && !job->screen->can_move) w.style = ANSWER_STYLE_TEXT;
    options.prompt = prompt;
    options.n_prompt = n_prompt;
    TRY(um_request_create(job->engine, &options, &request, err));
    const um_model_info *info = um_engine_info(job->engine);
    int32_t block_len = options.block_len ? options.block_len : info->block_len;
    if (!block_len) block_len = options.max_tokens; /* the whole answer */
    um_status status = canvas_init(&w.canvas, (int32_t)n_prompt, options.max_tokens,
                                   info->mask_token, block_len, err);
    if (status != UM_OK) goto cleanup;
    status = drive(&w, request, err);
    if (status == UM_CANCELLED) finish_cancelled(&w);
    if ((status == UM_OK || status == UM_CANCELLED) && text) {
        um_status decoded = decode(&w, w.canvas.n_cells, text, NULL, err);
        if (decoded != UM_OK) status = decoded;
    }
cleanup:
    if (w.is_watching) {
        um_error ignored;
        (void)watch_end(&w.watch, &w.canvas, &ignored);
    }
    progress_clear(job->progress);
    um_request_destroy(&request);
    canvas_deinit(&w.canvas);
    return status;
}

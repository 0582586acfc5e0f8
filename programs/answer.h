/* SPDX-License-Identifier: Apache-2.0
 *
 * One request from prompt to printed answer: drives the engine, and gives each event to the trace,
 * to the progress line, and to the output in its style.
 */
#ifndef PROGRAMS_ANSWER_H
#define PROGRAMS_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "programs/progress.h"
#include "programs/svg_film.h"
#include "programs/terminal.h"
#include "programs/trace_file.h"

typedef enum answer_style {
    ANSWER_STYLE_TEXT = 0, /* blocks as they are finished */
    ANSWER_STYLE_IDS = 1,  /* the same as ids, separated by spaces */
    ANSWER_STYLE_JSON = 2, /* one object at the end */
    ANSWER_STYLE_WATCH = 3 /* drawn live; as text where standard output cannot be drawn on */
} answer_style;

/* What requests of one command line share. All pointers are borrowed. */
typedef struct answer_job {
    um_engine *engine;
    const um_tokenizer *tokenizer;     /* NULL: the model has none; TEXT and WATCH need one */
    const um_request_options *options; /* the prompt's fields are not read */
    answer_style style;
    int32_t delay_ms, n_columns; /* of WATCH */
    bool has_legend;             /* WATCH says what its colours mean */
    trace_file *trace;
    svg_film *film; /* may be NULL */
    progress *progress;
    terminal *screen; /* standard output */
} answer_job;

/* Writes the answer to prompt [n_prompt] i32 to standard output, a summary to standard error where
 * it is wanted. *text (unless NULL) is the answer, freed with um_free; it is also set, to what
 * there is, for UM_CANCELLED, which is what Ctrl-C leads to. */
um_status answer_write(answer_job *job, const int32_t *prompt, size_t n_prompt, char **text,
                       um_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop of a conversation and its commands. All that was said is sent again with each turn: the
 * engine keeps nothing between requests.
 */
#include "programs/conversation.h"

#include <stdio.h>
#include <string.h>

#include "programs/interrupt.h"
#include "programs/line_reader.h"
#include "programs/report.h"

typedef enum turn_result { TURN_NEXT, TURN_LEAVE } turn_result;

static const char help_text[] =
    "/help         this text\n"
    "/clear        forget what was said\n"
    "/system TEXT  set the system message and forget what was said\n"
    "/quit         leave, as does Ctrl-D\n"
    "Ctrl-C        end the answer\n";

/* A line that begins with '/'. */
static um_status obey(const char *line, dialogue *talk, turn_result *result, um_error *err) {
    if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0) {
        *result = TURN_LEAVE;
    } else if (strcmp(line, "/help") == 0) {
        fputs(help_text, stderr);
    } else if (strcmp(line, "/clear") == 0) {
        dialogue_clear(talk);
    } else if (strncmp(line, "/system ", 8) == 0 && line[8]) {
        TRY(dialogue_check_text("the system message", line + 8, strlen(line + 8), err));
        TRY(dialogue_set_system(talk, line + 8, err));
        dialogue_clear(talk);
    } else {
        FAIL(UM_INVALID, err, "unknown command; /help tells what there is");
    }
    return UM_OK;
}

static um_status answer_turn(answer_job *job, dialogue *talk, const char *line, um_error *err) {
    int32_t *ids = NULL;
    size_t n_ids = 0;
    char *text = NULL;
    um_status status = UM_OK;
    TRY(dialogue_check_text("the prompt", line, strlen(line), err));
    TRY(dialogue_say(talk, "user", line, err));
    TRY_GOTO(dialogue_encode(talk, &ids, &n_ids, err), cleanup);
    status = answer_write(job, ids, n_ids, &text, err);
    job->has_legend = false;
    /* An answer that was cut short stays part of the conversation. */
    if (text && text[0]) {
        um_error late;
        if (dialogue_say(talk, "assistant", text, &late) != UM_OK) {
            *err = late;
            status = late.status;
        }
    }
cleanup:
    if (!text || !text[0]) dialogue_unsay(talk);
    if (talk->is_raw) dialogue_clear(talk); /* each prompt stands alone */
    um_free(text);
    um_free(ids);
    return status;
}

/* Finds out whether the parameters fit the model before anything is typed. */
static um_status check_parameters(const answer_job *job, um_error *err) {
    const int32_t token = 0;
    um_request_options options = *job->options;
    um_request *request = NULL;
    options.prompt = &token;
    options.n_prompt = 1;
    um_status status = um_request_create(job->engine, &options, &request, err);
    um_request_destroy(&request);
    return status;
}

static um_status take_line(answer_job *job, dialogue *talk, const char *line, bool is_interactive,
                           turn_result *result, um_error *err) {
    um_error told = {.byte_pos = -1};
    um_status status;
    if (line[strspn(line, " \t")] == '\0') return UM_OK;
    status = line[0] == '/' ? obey(line, talk, result, &told) : answer_turn(job, talk, line, &told);
    if (status == UM_OK) return UM_OK;
    bool was_interrupted = interrupt_take();
    if (status == UM_CANCELLED && was_interrupted && is_interactive) return UM_OK;
    bool is_lasting = status == UM_IO || status == UM_INTERNAL || status == UM_DEVICE;
    if (!is_interactive || is_lasting) {
        /* What a pipe says is no word of the command line. */
        if (status == UM_INVALID) status = told.status = UM_FORMAT;
        *err = told;
        return status;
    }
    fprintf(stderr, "%s\n", told.message);
    if (status == UM_LIMIT) fputs("/clear makes room.\n", stderr);
    return UM_OK;
}

um_status conversation_hold(answer_job *job, dialogue *talk, um_error *err) {
    line_reader *reader = NULL;
    um_status status = UM_OK;
    turn_result result = TURN_NEXT;
    TRY(check_parameters(job, err));
    TRY(line_reader_open(&reader, err));
    bool is_interactive = line_reader_is_interactive(reader);
    if (is_interactive) fputs("/help tells the commands.\n", stderr);
    while (status == UM_OK && result == TURN_NEXT) {
        const char *line;
        switch (line_reader_next(reader, &line, err)) {
            case LINE_READER_LINE:
                status = take_line(job, talk, line, is_interactive, &result, err);
                break;
            case LINE_READER_INTERRUPTED:
                if (!is_interactive) status = um_error_set(err, UM_CANCELLED, "interrupted");
                break;
            case LINE_READER_END:
                result = TURN_LEAVE;
                break;
            case LINE_READER_FAILED:
                status = err->status;
                break;
        }
    }
    line_reader_close(reader);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * `unmask tokenize`: text to ids and back, chat templates to text or ids. Text from files is not
 * the command line's fault: what is wrong with it ends with exit code 1.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "programs/commands.h"
#include "programs/ids.h"
#include "programs/report.h"
#include "programs/terminal.h"

enum { FILE_BYTES_MAX = 1 << 30 };

/* An error about what a file holds: the file is named and the status never reads as wrong usage. */
static um_status blame_file(const char *path, um_error *err) {
    if (err->status == UM_INVALID) err->status = UM_FORMAT;
    um_error_at(err, path, -1);
    return err->status;
}

static void print_array(const int32_t *ids, size_t n_ids) {
    putchar('[');
    for (size_t i = 0; i < n_ids; i++) printf("%s%d", i ? ", " : "", ids[i]);
    puts("]");
}

static um_status print_ids_of(const um_tokenizer *tokenizer, const char *text, size_t n_bytes,
                              um_error *err) {
    int32_t *ids = NULL;
    size_t n_ids;
    TRY(um_tokenizer_encode(tokenizer, text, n_bytes, &ids, &n_ids, err));
    print_array(ids, n_ids);
    um_free(ids);
    return UM_OK;
}

/* Text as it is; on a terminal the prompt gets a line of its own. */
static void print_text(const char *text, size_t n_bytes) {
    terminal screen;
    terminal_init(&screen, stdout);
    terminal_write(&screen, text, n_bytes);
    if (screen.is_terminal && n_bytes && text[n_bytes - 1] != '\n') putchar('\n');
}

static um_status tokenize_file(const um_tokenizer *tokenizer, const char *path, um_error *err) {
    char *text = NULL;
    size_t n_bytes;
    TRY(file_read(path, FILE_BYTES_MAX, &text, &n_bytes, err));
    um_status status = print_ids_of(tokenizer, text, n_bytes, err);
    if (status != UM_OK) status = blame_file(path, err);
    memory_free(text);
    return status;
}

static um_status tokenize_line(const um_tokenizer *tokenizer, const char *line, size_t n_bytes,
                               size_t i_line, um_error *err) {
    json_error_t json_err;
    json_t *value = json_loadb(line, n_bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, &json_err);
    if (!value) {
        um_error_set(err, UM_FORMAT, "line %zu is not JSON: %s", i_line, json_err.text);
        return err->status;
    }
    um_status status;
    if (json_is_string(value)) {
        status = print_ids_of(tokenizer, json_string_value(value), json_string_length(value), err);
    } else {
        status = um_error_set(err, UM_FORMAT, "line %zu: expected a JSON string", i_line);
    }
    json_decref(value);
    return status;
}

static um_status tokenize_lines(const um_tokenizer *tokenizer, const char *path, um_error *err) {
    FILE *file = fopen(path, "r");
    if (!file) return report_system(err, path, "cannot read", errno);
    char *line = NULL;
    size_t capacity = 0, i_line = 0;
    ssize_t n;
    um_status status = UM_OK;
    while (status == UM_OK && (n = getline(&line, &capacity, file)) >= 0) {
        i_line++;
        status = tokenize_line(tokenizer, line, (size_t)n, i_line, err);
        if (status != UM_OK) status = blame_file(path, err);
        if (status == UM_OK && ferror(stdout)) break;
    }
    if (status == UM_OK && ferror(file)) status = report_system(err, path, "cannot read", errno);
    free(line);
    fclose(file);
    return status;
}

static um_status tokenize_chat(const um_tokenizer *tokenizer, const options *o, um_error *err) {
    const char *path = options_text(o, OPTION_CHAT), *tools_path = options_text(o, OPTION_TOOLS);
    char *messages = NULL, *tools = NULL, *text = NULL;
    size_t n_bytes;
    um_status status = UM_OK;
    TRY_GOTO(file_read(path, FILE_BYTES_MAX, &messages, &n_bytes, err), cleanup);
    if (strlen(messages) != n_bytes) {
        status = um_error_set(err, UM_FORMAT, "%s: it holds a zero byte", path);
        goto cleanup;
    }
    if (tools_path) TRY_GOTO(file_read(tools_path, FILE_BYTES_MAX, &tools, &n_bytes, err), cleanup);
    status = um_tokenizer_render_chat(tokenizer, messages, tools, NULL, true, &text, err);
    if (status == UM_OK && !options_has(o, OPTION_RENDER))
        status = print_ids_of(tokenizer, text, strlen(text), err);
    else if (status == UM_OK)
        print_text(text, strlen(text));
    /* The sentence says whether messages, tools or template are at fault: all of them are files. */
    if (status == UM_INVALID) status = err->status = UM_FORMAT;
cleanup:
    um_free(text);
    memory_free(tools);
    memory_free(messages);
    return status;
}

static um_status decode(const um_tokenizer *tokenizer, const char *list, um_error *err) {
    int32_t *ids = NULL;
    size_t n_ids = 0, n_bytes;
    char *text = NULL;
    TRY(ids_parse(list, strlen(list), &ids, &n_ids, err));
    um_status status = um_tokenizer_decode(tokenizer, ids, n_ids, false, &text, &n_bytes, err);
    if (status == UM_OK) print_text(text, n_bytes);
    um_free(text);
    memory_free(ids);
    return status;
}

static um_status check(const options *o, option_id *source, um_error *err) {
    static const option_id sources[] = {OPTION_PROMPT, OPTION_FILE, OPTION_JSONL, OPTION_CHAT,
                                        OPTION_DECODE};
    int n_sources = 0;
    TRY(options_require(o, OPTION_MODEL, err));
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        if (!options_has(o, sources[i])) continue;
        *source = sources[i];
        n_sources++;
    }
    if (n_sources != 1)
        FAIL(UM_INVALID, err,
             "expected one of -p, --file, --jsonl, --chat and --decode, found %d of them",
             n_sources);
    static const option_id of_chat[] = {OPTION_TOOLS, OPTION_RENDER};
    for (size_t i = 0; i < sizeof of_chat / sizeof of_chat[0]; i++)
        if (options_has(o, of_chat[i]) && *source != OPTION_CHAT)
            FAIL(UM_INVALID, err, "--%s needs --chat", option_table[of_chat[i]].name);
    return UM_OK;
}

static um_status run(const options *o, um_error *err) {
    option_id source = OPTION_PROMPT;
    um_tokenizer *tokenizer = NULL;
    TRY(check(o, &source, err));
    const char *directory = options_text(o, OPTION_MODEL), *text = options_text(o, source);
    if (options_has(o, OPTION_RENDER))
        TRY(um_tokenizer_open_template(directory, &tokenizer, err));
    else
        TRY(um_tokenizer_open(directory, &tokenizer, err));
    um_status status = source == OPTION_FILE     ? tokenize_file(tokenizer, text, err)
                       : source == OPTION_JSONL  ? tokenize_lines(tokenizer, text, err)
                       : source == OPTION_CHAT   ? tokenize_chat(tokenizer, o, err)
                       : source == OPTION_DECODE ? decode(tokenizer, text, err)
                                                 : print_ids_of(tokenizer, text, strlen(text), err);
    um_tokenizer_close(&tokenizer);
    TRY(status);
    return report_flush_output(err);
}

int tokenize_command(const options *o) {
    um_error err = {.byte_pos = -1};
    return run(o, &err) == UM_OK ? REPORT_EXIT_DONE : report_error("tokenize", &err);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * `unmask run`: opens tokenizer, trace and engine, then answers one prompt or holds a conversation.
 */
#include <string.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "programs/answer.h"
#include "programs/commands.h"
#include "programs/conversation.h"
#include "programs/dialogue.h"
#include "programs/engine_settings.h"
#include "programs/ids.h"
#include "programs/interrupt.h"
#include "programs/policy_options.h"
#include "programs/report.h"
#include "programs/run_options.h"

/* A tokenizer where text goes in or comes out. A model without one still runs on ids. */
static um_status open_tokenizer(const options *o, um_tokenizer **tokenizer, um_error *err) {
    bool has_ids = options_has(o, OPTION_IDS);
    answer_style style = run_options_style(o);
    bool needs_text =
        run_options_constrain(o) || options_has(o, OPTION_SVG) || options_has(o, OPTION_SUFFIX);
    if (has_ids && style == ANSWER_STYLE_IDS && !needs_text) return UM_OK;
    const char *directory = options_text(o, OPTION_MODEL);
    um_status status = um_tokenizer_open(directory, tokenizer, err);
    if (status != UM_NOT_FOUND) return status;
    if (has_ids && style == ANSWER_STYLE_JSON && !needs_text) return UM_OK; /* "text" is null */
    /* Where there is no model at all, that is what to say. */
    um_model_info info;
    um_error absent;
    if (um_model_inspect(directory, -1, &info, &absent) == UM_NOT_FOUND) {
        *err = absent;
        return UM_NOT_FOUND;
    }
    FAIL(UM_NOT_FOUND, err,
         "%s has no tokenizer: such a model takes --ids and gives --print-ids or --json",
         directory);
}

enum {
    SCHEMA_BYTES_MAX = 1 << 20,
    LANES_OF_GUIDANCE = 2,
    SMALL_CACHE_TOKENS = 16384,
    BLOCK_SLACK = 1024
};

/* Positions of the cache that one request needs: its canvas is rounded up to whole blocks, and its
 * table to pages. A request beyond the model's context is left to the library to refuse, with a
 * cache of the default size: it should hear of the context, and not of memory. */
static um_status cache_tokens(const options *o, const um_request_options *r, size_t n_prompt,
                              int64_t *n_tokens, um_error *err) {
    um_model_info info;
    int64_t n_lanes = r->cfg_scale > 0 ? LANES_OF_GUIDANCE : 1;
    int64_t n_canvas = (int64_t)n_prompt + r->max_tokens + (int64_t)r->n_suffix;
    int64_t block = r->block_len > BLOCK_SLACK ? r->block_len : BLOCK_SLACK;
    *n_tokens = n_lanes * (n_canvas + block);
    if (*n_tokens <= SMALL_CACHE_TOKENS) return UM_OK;
    TRY(um_model_inspect(options_text(o, OPTION_MODEL),
                         (int32_t)options_integer(o, OPTION_MASK_TOKEN, -1), &info, err));
    if (n_canvas > info.context || block > (int64_t)info.context + BLOCK_SLACK) *n_tokens = 0;
    return UM_OK;
}

static um_status open_engine(const options *o, int64_t n_cache_tokens, progress *p,
                             um_engine **engine, um_error *err) {
    um_engine_options settings;
    engine_settings(o, p, &settings);
    settings.cache_tokens = n_cache_tokens;
    um_status status = um_engine_open(&settings, engine, err);
    progress_clear(p);
    return status;
}

/* The prompt of -p or --ids as ids, freed with um_free. */
static um_status read_prompt(const options *o, dialogue *d, int32_t **ids, size_t *n_ids,
                             um_error *err) {
    const char *text = options_text(o, OPTION_PROMPT);
    if (!text) {
        text = options_text(o, OPTION_IDS);
        return ids_parse(text, strlen(text), ids, n_ids, err);
    }
    TRY(dialogue_say(d, "user", text, err));
    TRY(dialogue_encode(d, ids, n_ids, err));
    if (*n_ids == 0) FAIL(UM_INVALID, err, "-p: the prompt gives no token");
    return UM_OK;
}

/* The constraint of --json-object or --json-schema, or NULL. */
static um_status open_constraint(const options *o, const um_tokenizer *tokenizer,
                                 um_constraint **constraint, um_error *err) {
    const char *path = options_text(o, OPTION_JSON_SCHEMA);
    if (options_has(o, OPTION_JSON_OBJECT))
        return um_constraint_json_object(tokenizer, constraint, err);
    if (!path) return UM_OK;
    char *text;
    size_t n_bytes;
    TRY(file_read(path, SCHEMA_BYTES_MAX, &text, &n_bytes, err));
    um_status status = um_constraint_json_schema(tokenizer, text, n_bytes, constraint, err);
    if (status != UM_OK) um_error_at(err, path, -1);
    memory_free(text);
    return status;
}

static um_status check_texts(const options *o, um_error *err) {
    static const struct {
        option_id option;
        const char *name;
    } texts[] = {{OPTION_PROMPT, "the prompt after -p"},
                 {OPTION_SYSTEM, "the text of --system"},
                 {OPTION_SUFFIX, "the text of --suffix"}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *text = options_text(o, texts[i].option);
        if (text) TRY(dialogue_check_text(texts[i].name, text, strlen(text), err));
    }
    return UM_OK;
}

/* A status that is the command line's fault: what it asks for does not fit the model. */
static um_status start_dialogue(const options *o, const um_tokenizer *tokenizer, dialogue *d,
                                um_error *err) {
    TRY(dialogue_init(d, tokenizer, options_has(o, OPTION_RAW), err));
    const char *system = options_text(o, OPTION_SYSTEM);
    if (!system) return UM_OK;
    um_status status = dialogue_set_system(d, system, err);
    if (status == UM_UNSUPPORTED)
        FAIL(UM_INVALID, err, "--system needs a chat template, and this model has none");
    return status;
}

static um_status run(const options *o, um_error *err) {
    um_status status = UM_OK;
    um_tokenizer *tokenizer = NULL;
    um_engine *engine = NULL;
    dialogue talk = {0};
    trace_file trace = {0};
    svg_film film = {0};
    progress load;
    terminal screen;
    um_request_options request;
    int32_t *ids = NULL, *suffix = NULL;
    size_t n_ids = 0;
    bool has_prompt = options_has(o, OPTION_PROMPT) || options_has(o, OPTION_IDS);

    progress_init(&load, options_has(o, OPTION_VERBOSE));
    terminal_init(&screen, stdout);
    run_options_fill(o, &request);
    TRY(run_options_check(o, &request, err));
    TRY(check_texts(o, err));
    TRY_GOTO(open_tokenizer(o, &tokenizer, err), cleanup);
    if (!options_has(o, OPTION_IDS)) TRY_GOTO(start_dialogue(o, tokenizer, &talk, err), cleanup);
    if (has_prompt) TRY_GOTO(read_prompt(o, &talk, &ids, &n_ids, err), cleanup);
    const char *behind = options_text(o, OPTION_SUFFIX);
    if (behind)
        TRY_GOTO(
            um_tokenizer_encode(tokenizer, behind, strlen(behind), &suffix, &request.n_suffix, err),
            cleanup);
    request.suffix = suffix;
    TRY_GOTO(open_constraint(o, tokenizer, &request.constraint, err), cleanup);
    const char *trace_path = options_text(o, OPTION_TRACE);
    if (trace_path) TRY_GOTO(trace_file_open(&trace, trace_path, err), cleanup);
    const char *film_path = options_text(o, OPTION_SVG);
    if (film_path) TRY_GOTO(svg_film_open(&film, film_path, err), cleanup);
    int64_t n_cache_tokens = 0;
    if (has_prompt) TRY_GOTO(cache_tokens(o, &request, n_ids, &n_cache_tokens, err), cleanup);
    TRY_GOTO(open_engine(o, n_cache_tokens, &load, &engine, err), cleanup);
    answer_job job = {
        .engine = engine,
        .tokenizer = tokenizer,
        .options = &request,
        .style = run_options_style(o),
        .delay_ms = (int32_t)options_integer(o, OPTION_DELAY, 60),
        .n_columns = (int32_t)options_integer(o, OPTION_COLUMNS, 0),
        .has_legend = true,
        .trace = &trace,
        .film = &film,
        .progress = &load,
        .screen = &screen,
    };
    interrupt_defer(true);
    status = has_prompt ? answer_write(&job, ids, n_ids, NULL, err)
                        : conversation_hold(&job, &talk, err);
cleanup:;
    um_error late;
    if (trace_file_close(&trace, &late) != UM_OK && status == UM_OK) {
        *err = late;
        status = late.status;
    }
    if (svg_film_close(&film, &late) != UM_OK && status == UM_OK) {
        *err = late;
        status = late.status;
    }
    um_free(ids);
    um_free(suffix);
    um_engine_close(&engine);
    um_constraint_free(&request.constraint);
    dialogue_deinit(&talk);
    um_tokenizer_close(&tokenizer);
    return status;
}

int run_command(const options *o) {
    um_error err = {.byte_pos = -1};
    um_status status = run(o, &err);
    if (status == UM_OK) return REPORT_EXIT_DONE;
    if (status == UM_CANCELLED) um_error_set(&err, UM_CANCELLED, "interrupted");
    policy_options_rename(&err);
    return report_error("run", &err);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Items to token ids, as LLaDA's eval_llada.py does it (_encode_pair): white space at the end of
 * the prompt belongs to the answer; prompt and answer are encoded together, and the answer is what
 * follows as many tokens as the prompt alone has.
 */
#include "programs/score_items.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "programs/dialogue.h"
#include "programs/ids.h"
#include "programs/report.h"
#include "programs/score_space.h"

/* The tokenizer is opened when the first text needs it: a model without one takes ids. */
typedef struct encoder {
    const char *directory;
    bool has_template; /* prompts go through the model's chat template */
    um_tokenizer *tokenizer;
} encoder;

static um_status open_tokenizer(encoder *e, um_error *err) {
    if (e->tokenizer) return UM_OK;
    TRY(um_tokenizer_open(e->directory, &e->tokenizer, err));
    if (e->has_template && !um_tokenizer_has_chat_template(e->tokenizer))
        FAIL(UM_INVALID, err, "--template needs a chat template, and this model has none");
    return UM_OK;
}

static um_status encode(encoder *e, const char *text, size_t n_bytes, score_ids *out,
                        um_error *err) {
    TRY(open_tokenizer(e, err));
    return um_tokenizer_encode(e->tokenizer, text, n_bytes, &out->ids, &out->n, err);
}

/* An array of token ids. */
static um_status read_ids(const json_t *value, const char *key, score_ids *out, um_error *err) {
    size_t n = json_array_size(value);
    if (n > IDS_MAX) FAIL(UM_INVALID, err, "\"%s\" holds more than %d token ids", key, IDS_MAX);
    out->ids = memory_alloc_array(n, sizeof *out->ids);
    if (!out->ids) FAIL(UM_NO_MEMORY, err, "no memory for %zu token ids", n);
    out->n = n;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(value, i);
        json_int_t number = json_is_integer(id) ? json_integer_value(id) : -1;
        if (number < 0 || number > INT32_MAX)
            FAIL(UM_INVALID, err, "\"%s\": entry %zu is no token id", key, i);
        out->ids[i] = (int32_t)number;
    }
    return UM_OK;
}

static um_status render(encoder *e, const json_t *prompt, char **text, um_error *err) {
    TRY(open_tokenizer(e, err));
    json_t *list = json_pack("[{s:s, s:O}]", "role", "user", "content", prompt);
    char *messages = list ? json_dumps(list, JSON_COMPACT) : NULL;
    json_decref(list);
    if (!messages) FAIL(UM_NO_MEMORY, err, "no memory for a message");
    um_status status =
        um_tokenizer_render_chat(e->tokenizer, messages, NULL, NULL, true, text, err);
    free(messages);
    return status;
}

/* The answer's ids after a prompt's text: what the whole has beyond the prompt's n tokens. */
static um_status encode_after(encoder *e, const char *prompt, size_t n_prompt, const json_t *answer,
                              size_t n_skipped, score_ids *out, um_error *err) {
    size_t n_answer = json_string_length(answer);
    char *whole = memory_alloc(n_prompt + n_answer + 1);
    if (!whole) FAIL(UM_NO_MEMORY, err, "no memory for a text of %zu bytes", n_prompt + n_answer);
    memcpy(whole, prompt, n_prompt);
    memcpy(whole + n_prompt, json_string_value(answer), n_answer);
    um_status status = encode(e, whole, n_prompt + n_answer, out, err);
    memory_free(whole);
    if (status != UM_OK) return status;
    if (n_skipped > out->n) n_skipped = out->n;
    out->n -= n_skipped;
    memmove(out->ids, out->ids + n_skipped, out->n * sizeof *out->ids);
    return UM_OK;
}

static um_status read_answer(encoder *e, const json_t *answer, const char *key, const char *text,
                             size_t n_text, size_t n_kept, score_item *item, um_error *err) {
    score_ids *out = &item->answers[item->n_answers++];
    if (json_is_array(answer))
        TRY(read_ids(answer, key, out, err));
    else if (!json_is_string(answer))
        FAIL(UM_INVALID, err, "\"%s\": expected a text or an array of token ids", key);
    else if (json_string_length(answer) == 0)
        FAIL(UM_INVALID, err, "\"%s\": expected an answer, found an empty text", key);
    else if (text)
        TRY(encode_after(e, text, n_text, answer, n_kept, out, err));
    else
        TRY(encode(e, json_string_value(answer), json_string_length(answer), out, err));
    if (out->n == 0) FAIL(UM_INVALID, err, "\"%s\": the answer gives no token", key);
    return UM_OK;
}

/* The prompt's ids, and where it is a text, the text that the answers follow and how many tokens of
 * the whole are the prompt's. *rendered is freed by the caller. */
static um_status read_prompt(encoder *e, const json_t *prompt, score_item *item, char **rendered,
                             const char **text, size_t *n_text, um_error *err) {
    if (json_is_array(prompt)) {
        if (e->has_template) FAIL(UM_INVALID, err, "--template needs a text, found token ids");
        TRY(read_ids(prompt, "prompt", &item->prompt, err));
    } else if (json_is_string(prompt)) {
        *text = json_string_value(prompt);
        *n_text = json_string_length(prompt);
        size_t n_own = score_space_trim(*text, *n_text);
        if (e->has_template) {
            TRY(render(e, prompt, rendered, err));
            *text = *rendered;
            n_own = *n_text = strlen(*rendered);
        }
        TRY(encode(e, *text, n_own, &item->prompt, err));
    } else {
        FAIL(UM_INVALID, err, "\"prompt\": expected a text or an array of token ids");
    }
    if (item->prompt.n == 0) FAIL(UM_INVALID, err, "\"prompt\": the prompt gives no token");
    return UM_OK;
}

static um_status read_label(const json_t *label, score_item *item, um_error *err) {
    item->label = -1;
    if (!label) return UM_OK;
    if (!item->has_choices) FAIL(UM_INVALID, err, "\"label\" needs \"choices\"");
    json_int_t value = json_is_integer(label) ? json_integer_value(label) : -1;
    if (value < 0 || (size_t)value >= item->n_answers)
        FAIL(UM_INVALID, err, "\"label\": expected the index of a choice, 0 to %zu",
             item->n_answers - 1);
    item->label = (int32_t)value;
    return UM_OK;
}

static um_status read_object(encoder *e, const json_t *object, score_item *item, um_error *err) {
    const json_t *answer = json_object_get(object, "answer");
    const json_t *choices = json_object_get(object, "choices");
    const char *text = NULL;
    char *rendered = NULL;
    size_t n_text = 0, n = choices ? json_array_size(choices) : 1;
    um_status status = UM_OK;
    if (!json_is_object(object)) FAIL(UM_INVALID, err, "expected a JSON object");
    if (!answer == !choices)
        FAIL(UM_INVALID, err, "expected one of \"answer\" and \"choices\", found %s",
             answer ? "both" : "none");
    if (n == 0) FAIL(UM_INVALID, err, "\"choices\": expected an array of answers");
    item->answers = memory_calloc(n, sizeof *item->answers);
    if (!item->answers) FAIL(UM_NO_MEMORY, err, "no memory for %zu answers", n);
    item->has_choices = choices;
    TRY_GOTO(
        read_prompt(e, json_object_get(object, "prompt"), item, &rendered, &text, &n_text, err),
        cleanup);
    for (size_t i = 0; i < n; i++)
        TRY_GOTO(
            read_answer(e, choices ? json_array_get(choices, i) : answer,
                        choices ? "choices" : "answer", text, n_text, item->prompt.n, item, err),
            cleanup);
    status = read_label(json_object_get(object, "label"), item, err);
cleanup:
    um_free(rendered);
    return status;
}

/* Appends the object's item. */
static um_status add_item(encoder *e, const json_t *object, score_items *items, um_error *err) {
    if (memory_grow(&items->list, &items->capacity, items->n, sizeof *items->list) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for %zu items", items->n + 1);
    score_item *item = &items->list[items->n++];
    memset(item, 0, sizeof *item);
    TRY(read_object(e, object, item, err));
    items->n_answers += item->n_answers;
    for (size_t i = 0; i < item->n_answers; i++)
        if (item->prompt.n + item->answers[i].n > items->n_longest)
            items->n_longest = item->prompt.n + item->answers[i].n;
    return UM_OK;
}

static um_status add_line(encoder *e, const char *line, size_t n_bytes, size_t i_line,
                          score_items *items, um_error *err) {
    json_error_t json_err;
    json_t *object = json_loadb(line, n_bytes, JSON_REJECT_DUPLICATES, &json_err);
    if (!object) FAIL(UM_FORMAT, err, "line %zu is not JSON: %s", i_line, json_err.text);
    um_error inner = {.byte_pos = -1};
    um_status status = add_item(e, object, items, &inner);
    json_decref(object);
    if (status == UM_OK) return UM_OK;
    /* What is wrong with a file is not wrong usage. */
    FAIL(status == UM_INVALID ? UM_FORMAT : status, err, "line %zu: %s", i_line, inner.message);
}

static um_status add_lines(encoder *e, const char *path, score_items *items, um_error *err) {
    FILE *file = fopen(path, "r");
    if (!file) return report_system(err, path, "cannot read", errno);
    char *line = NULL;
    size_t capacity = 0, i_line = 0;
    ssize_t n;
    um_status status = UM_OK;
    while (status == UM_OK && (n = getline(&line, &capacity, file)) >= 0) {
        status = add_line(e, line, (size_t)n, ++i_line, items, err);
        if (status != UM_OK) um_error_at(err, path, -1);
    }
    if (status == UM_OK && ferror(file)) status = report_system(err, path, "cannot read", errno);
    if (status == UM_OK && items->n == 0)
        status = um_error_set(err, UM_FORMAT, "%s holds no item", path);
    free(line);
    fclose(file);
    return status;
}

/* A text of the command line. */
static um_status new_text(const options *o, option_id id, json_t **value, um_error *err) {
    const char *text = options_text(o, id);
    char name[40];
    snprintf(name, sizeof name, "the text of --%s", option_table[id].name);
    TRY(dialogue_check_text(name, text, strlen(text), err));
    *value = json_string(text);
    if (!*value) FAIL(UM_NO_MEMORY, err, "no memory for a text");
    return UM_OK;
}

static um_status new_ids(const options *o, option_id id, json_t **value, um_error *err) {
    const char *text = options_text(o, id);
    int32_t *ids = NULL;
    size_t n_ids = 0;
    TRY(ids_parse(text, strlen(text), &ids, &n_ids, err));
    *value = json_array();
    int failed = !*value;
    for (size_t i = 0; i < n_ids && !failed; i++)
        failed = json_array_append_new(*value, json_integer(ids[i]));
    memory_free(ids);
    if (failed) FAIL(UM_NO_MEMORY, err, "no memory for %zu token ids", n_ids);
    return UM_OK;
}

static um_status new_choices(const options *o, json_t **value, um_error *err) {
    json_error_t json_err;
    *value = json_loads(options_text(o, OPTION_CHOICES), 0, &json_err);
    if (!*value) FAIL(UM_INVALID, err, "--choices: not JSON: %s", json_err.text);
    if (!json_is_array(*value))
        FAIL(UM_INVALID, err, "--choices: expected a JSON array of answers");
    return UM_OK;
}

static um_status add_command_line(encoder *e, const options *o, score_items *items, um_error *err) {
    json_t *prompt = NULL, *answer = NULL, *object = json_object();
    bool has_choices = options_has(o, OPTION_CHOICES);
    um_status status = UM_OK;
    if (!object) FAIL(UM_NO_MEMORY, err, "no memory for an item");
    status = options_has(o, OPTION_IDS) ? new_ids(o, OPTION_IDS, &prompt, err)
                                        : new_text(o, OPTION_PROMPT, &prompt, err);
    if (status == UM_OK)
        status = has_choices                         ? new_choices(o, &answer, err)
                 : options_has(o, OPTION_ANSWER_IDS) ? new_ids(o, OPTION_ANSWER_IDS, &answer, err)
                                                     : new_text(o, OPTION_ANSWER, &answer, err);
    if (status == UM_OK && (json_object_set(object, "prompt", prompt) ||
                            json_object_set(object, has_choices ? "choices" : "answer", answer)))
        status = um_error_set(err, UM_NO_MEMORY, "no memory for an item");
    if (status == UM_OK) status = add_item(e, object, items, err);
    json_decref(answer);
    json_decref(prompt);
    json_decref(object);
    return status;
}

um_status score_items_read(const options *o, score_items *items, um_error *err) {
    encoder e = {.directory = options_text(o, OPTION_MODEL),
                 .has_template = options_has(o, OPTION_TEMPLATE)};
    const char *path = options_text(o, OPTION_ITEMS);
    memset(items, 0, sizeof *items);
    um_status status = path ? add_lines(&e, path, items, err) : add_command_line(&e, o, items, err);
    um_tokenizer_close(&e.tokenizer);
    return status;
}

void score_items_deinit(score_items *items) {
    for (size_t i = 0; i < items->n; i++) {
        score_item *item = &items->list[i];
        for (size_t j = 0; j < item->n_answers; j++) um_free(item->answers[j].ids);
        memory_free(item->answers);
        um_free(item->prompt.ids);
    }
    memory_free(items->list);
    memset(items, 0, sizeof *items);
}

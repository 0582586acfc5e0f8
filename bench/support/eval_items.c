/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading eval.jsonl, and judging answers.
 */
#include "support/eval_items.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELLS = 81, SIDE = 9 };

void bench_die(const char *what, const um_error *err) {
    fprintf(stderr, "bench: %s%s%s\n", what, err ? ": " : "", err ? err->message : "");
    exit(1);
}

static void *need(void *memory) {
    if (!memory) bench_die("no memory", NULL);
    return memory;
}

static int64_t integer(const json_t *line, const char *key) {
    return json_integer_value(json_object_get(line, key));
}

static const char *text_of(const json_t *line, const char *key) {
    const char *text = json_string_value(json_object_get(line, key));
    return text ? text : "";
}

static void read_item(const um_tokenizer *tokenizer, const json_t *line, eval_item *it) {
    um_error err;
    snprintf(it->kind, sizeof it->kind, "%s", text_of(line, "kind"));
    snprintf(it->answer, sizeof it->answer, "%s", text_of(line, "answer"));
    const char *clues = strstr(text_of(line, "prompt"), ": ");
    bool is_sudoku = strncmp(it->kind, "sudoku", 6) == 0;
    snprintf(it->puzzle, sizeof it->puzzle, "%s", is_sudoku && clues ? clues + 2 : "");
    json_t *messages =
        json_pack("[{s:s, s:O}]", "role", "user", "content", json_object_get(line, "prompt"));
    char *text = need(json_dumps(messages, 0)), *rendered;
    if (um_tokenizer_render_chat(tokenizer, text, NULL, NULL, true, &rendered, &err) != UM_OK ||
        um_tokenizer_encode(tokenizer, rendered, strlen(rendered), &it->prompt, &it->n_prompt,
                            &err) != UM_OK)
        bench_die("prompt", &err);
    free(text);
    um_free(rendered);
    json_decref(messages);
    const json_t *ids = json_object_get(line, "output_ids");
    it->n_expected = (int32_t)json_array_size(ids);
    it->expected = need(calloc((size_t)it->n_expected + 1, sizeof *it->expected));
    for (int32_t i = 0; i < it->n_expected; i++)
        it->expected[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
    it->forwards = (int32_t)integer(line, "forwards");
    it->block_len = (int32_t)integer(line, "block_length");
    it->max_tokens = (int32_t)integer(line, "gen_length");
    it->threshold = json_number_value(json_object_get(line, "threshold"));
    it->is_correct = json_is_true(json_object_get(line, "correct"));
}

eval_item *eval_items_read(const char *directory, const um_tokenizer *tokenizer, int *n_items) {
    char path[4096];
    snprintf(path, sizeof path, "%s/eval.jsonl", directory);
    FILE *file = fopen(path, "r");
    if (!file) bench_die(path, NULL);
    eval_item *items = NULL;
    char *line = NULL;
    size_t capacity = 0;
    *n_items = 0;
    while (getline(&line, &capacity, file) > 0) {
        json_t *json = json_loads(line, 0, NULL);
        if (!json) bench_die("eval.jsonl: a line is not JSON", NULL);
        items = need(realloc(items, (size_t)(*n_items + 1) * sizeof *items));
        read_item(tokenizer, json, &items[(*n_items)++]);
        json_decref(json);
    }
    free(line);
    fclose(file);
    return items;
}

void eval_item_options(const eval_item *item, um_request_options *options) {
    um_request_options_init(options);
    options->prompt = item->prompt;
    options->n_prompt = item->n_prompt;
    options->max_tokens = item->max_tokens;
    options->block_len = item->block_len;
    options->policy = "threshold";
    options->threshold = item->threshold;
}

void eval_items_free(eval_item *items, int n_items) {
    for (int i = 0; i < n_items; i++) {
        um_free(items[i].prompt);
        free(items[i].expected);
    }
    free(items);
}

/* The nine cells of row, column or box i of a kind 0, 1, 2 hold every digit once. */
static bool is_complete(const char *grid, int kind, int i) {
    unsigned seen = 0;
    for (int k = 0; k < SIDE; k++) {
        int row = kind == 0 ? i : kind == 1 ? k : i / 3 * 3 + k / 3;
        int column = kind == 0 ? k : kind == 1 ? i : i % 3 * 3 + k % 3;
        char c = grid[row * SIDE + column];
        if (c >= '1' && c <= '9') seen |= 1u << (c - '1');
    }
    return seen == (1u << SIDE) - 1;
}

bool eval_item_is_right(const eval_item *item, const char *text) {
    if (!item->puzzle[0]) return strcmp(text, item->answer) == 0;
    if (strlen(text) != CELLS) return false;
    for (int i = 0; i < CELLS; i++)
        if (item->puzzle[i] != '0' && item->puzzle[i] != text[i]) return false;
    for (int kind = 0; kind < 3; kind++)
        for (int i = 0; i < SIDE; i++)
            if (!is_complete(text, kind, i)) return false;
    return true;
}

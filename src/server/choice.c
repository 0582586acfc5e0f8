/* SPDX-License-Identifier: Apache-2.0
 *
 * Every time the final cells grow, all of them are decoded again: the text of tokens is not the sum
 * of their texts, and a pass over an answer costs far less than a forward.
 */
#include "server/choice.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "server/tool_shapes.h"

#define REPLACEMENT "\xef\xbf\xbd"

/* Whether committed tokens may change. Where no policy is named the engine infers one from the
 * parameters: thresholds, steps and remasking alone lead to none that corrects; of others nothing
 * is assumed. */
static bool may_edit(const um_request_options *o, const um_model_info *info) {
    const um_policy *policy = um_policy_find(o->policy ? o->policy : info->policy);
    bool is_plain = isnan(o->edit_threshold) && o->post_steps == -1 && isnan(o->low_threshold) &&
                    isnan(o->factor) && isnan(o->entropy_bound) && isnan(o->eps) &&
                    isnan(o->alg_temp) && isnan(o->credit_alpha) && isnan(o->credit_beta) &&
                    isnan(o->credit_gamma) && isnan(o->block_add) && isnan(o->block_ready) &&
                    o->window == 0 && o->metric == UM_METRIC_DEFAULT;
    if (!policy || (!o->policy && !is_plain)) return true;
    return policy->flags & (UM_POLICY_SCORES_COMMITTED | UM_POLICY_INSERTS);
}

um_status choice_init(choice *c, const api_request *request, const api_model *model,
                      const um_request_options *options, um_error *err) {
    c->request = request;
    c->model = model;
    c->n_prompt = (int32_t)options->n_prompt;
    c->n_cells = options->max_tokens;
    c->may_edit = may_edit(options, model->info);
    strbuf_init(&c->text);
    c->tokens = memory_alloc_array((size_t)c->n_cells, sizeof *c->tokens);
    if (!c->tokens) FAIL(UM_NO_MEMORY, err, "no memory for an answer of %d tokens", c->n_cells);
    for (int32_t i = 0; i < c->n_cells; i++) c->tokens[i] = model->info->mask_token;
    return answer_logprobs_init(&c->logprobs, c->n_cells, options->top_logprobs, err);
}

void choice_deinit(choice *c) {
    um_request_destroy(&c->live);
    memory_free(c->tokens);
    strbuf_deinit(&c->text);
    answer_logprobs_deinit(&c->logprobs);
    memset(c, 0, sizeof *c);
}

static void apply_step(choice *c, const um_event *event) {
    c->forwards++;
    for (int32_t i = 0; i < event->n_changes; i++) {
        const um_change *change = &event->changes[i];
        int32_t cell = change->position - c->n_prompt;
        if (cell < 0 || cell >= c->n_cells) continue;
        if (change->is_edit)
            c->n_edits++;
        else
            c->n_commits++;
        c->tokens[cell] = change->token;
        answer_logprobs_put(&c->logprobs, cell, change);
    }
}

/* A finished block as it is: deletes and inserts move tokens within it. */
static void apply_block(choice *c, const um_event *event) {
    c->blocks++;
    for (int32_t i = 0; i < event->n_inputs; i++) {
        int32_t cell = event->first_position + i - c->n_prompt;
        if (cell < 0 || cell >= c->n_cells) continue;
        if (c->tokens[cell] != event->inputs[i]) answer_logprobs_forget(&c->logprobs, cell);
        c->tokens[cell] = event->inputs[i];
        if (cell >= c->n_frozen) c->n_frozen = cell + 1;
    }
}

static bool is_among(const int32_t *ids, size_t n, int32_t id) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

/* Moves n_final forward to the first undecided cell or the first token that ends the text: there
 * the engine ends the request, at once or when its policy is done with the block. */
static void find_final(choice *c) {
    const um_model_info *info = c->model->info;
    const um_request_options *options = &c->request->options;
    int32_t limit = c->may_edit ? c->n_frozen : c->n_cells;
    while (c->n_final < limit) {
        int32_t token = c->tokens[c->n_final];
        if (token == info->mask_token) return;
        if (is_among(options->stop_tokens, (size_t)options->n_stop_tokens, token)) return;
        if (!options->ignore_eos && is_among(info->stop_tokens, (size_t)info->n_stop_tokens, token))
            return;
        c->n_final++;
    }
}

static um_status decode(const choice *c, int32_t n_tokens, char **text, size_t *n_bytes,
                        um_error *err) {
    return um_tokenizer_decode(c->model->tokenizer, c->tokens, (size_t)n_tokens, true, text,
                               n_bytes, err);
}

/* The fewest tokens whose text reaches n_bytes. */
static um_status count_tokens(const choice *c, size_t n_bytes, int32_t *n_tokens, um_error *err) {
    int32_t low = 0, high = c->n_final;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        char *text = NULL;
        size_t n = 0;
        TRY(decode(c, middle, &text, &n, err));
        um_free(text);
        if (n < n_bytes)
            low = middle + 1;
        else
            high = middle;
    }
    *n_tokens = low;
    return UM_OK;
}

/* How many bytes at the end of a text could be the beginning of a word that is still coming. */
static size_t overlap(const char *text, size_t n_bytes, const char *word) {
    size_t n = strlen(word) - 1;
    if (n > n_bytes) n = n_bytes;
    while (n > 0 && memcmp(text + n_bytes - n, word, n) != 0) n--;
    return n;
}

/* Looks for the earliest stop string behind what is ready, and sets what is ready now. */
static um_status find_stops(choice *c, um_error *err) {
    const char *text = c->text.data ? c->text.data : "";
    size_t n_bytes = c->text.n_bytes, n_held = 0, first = n_bytes;
    for (size_t i = 0; i < c->request->n_stops; i++) {
        const char *stop = c->request->stops[i];
        /* What is ready overlaps no stop string, so none begins before its end. */
        const char *found = memmem(text + c->n_ready, n_bytes - c->n_ready, stop, strlen(stop));
        if (found && (size_t)(found - text) < first) {
            first = (size_t)(found - text);
            c->stop = stop;
        }
        size_t n = overlap(text, n_bytes, stop);
        if (n > n_held) n_held = n;
    }
    if (c->stop) {
        TRY(count_tokens(c, first + strlen(c->stop), &c->n_tokens, err));
        c->end = CHOICE_STOP;
        c->text.n_bytes = first;
        c->text.data[first] = '\0';
        n_held = 0;
    } else if (c->end != CHOICE_OPEN) {
        n_held = 0;
    }
    /* A call is given out whole, at the end. */
    if (c->request->is_forced) {
        n_held = c->text.n_bytes;
    } else if (c->request->has_tools) {
        const char *call = memmem(text + c->n_ready, c->text.n_bytes - c->n_ready, tool_call_open,
                                  strlen(tool_call_open));
        size_t n = call ? c->text.n_bytes - (size_t)(call - text)
                        : overlap(text, c->text.n_bytes, tool_call_open);
        if (n > n_held) n_held = n;
    }
    size_t n_ready = c->text.n_bytes - n_held;
    if (n_ready > c->n_ready) c->n_ready = n_ready;
    return UM_OK;
}

static um_status update_text(choice *c, um_error *err) {
    if (!c->model->tokenizer) return UM_OK;
    char *text = NULL;
    size_t n_bytes = 0, n_mark = sizeof REPLACEMENT - 1, n_old = c->text.n_bytes;
    TRY(decode(c, c->n_final, &text, &n_bytes, err));
    /* A character whose bytes are not all there yet waits. */
    while (c->end == CHOICE_OPEN && n_bytes >= n_mark &&
           memcmp(text + n_bytes - n_mark, REPLACEMENT, n_mark) == 0)
        n_bytes -= n_mark;
    um_status status = UM_OK;
    if (n_bytes < n_old || (n_old > 0 && memcmp(text, c->text.data, n_old) != 0))
        status = um_error_set(err, UM_INTERNAL, "a token changed after its text was given out");
    else
        strbuf_append(&c->text, text + n_old, n_bytes - n_old);
    um_free(text);
    TRY(status);
    if (c->text.has_failed) FAIL(UM_NO_MEMORY, err, "no memory for the text of an answer");
    return find_stops(c, err);
}

/* The engine's last word. A stop string may lie in the tokens that came with it. */
static um_status finish(choice *c, const um_event *event, um_error *err) {
    int32_t n = event->n_tokens < c->n_cells ? event->n_tokens : c->n_cells;
    for (int32_t i = 0; i < n; i++) c->tokens[i] = event->tokens[i];
    c->forwards = event->forwards;
    c->prefill_forwards = event->prefill_forwards;
    c->end = event->finish == UM_FINISH_STOP ? CHOICE_STOP : CHOICE_LENGTH;
    c->n_tokens = c->n_final = c->n_frozen = n;
    return update_text(c, err);
}

um_status choice_take_event(choice *c, const um_event *event, um_error *err) {
    int32_t n_before = c->n_final;
    switch (event->kind) {
        case UM_EVENT_ACCEPTED:
            c->n_cached = event->n_cached;
            return UM_OK;
        case UM_EVENT_PREFILL:
            c->prefill_forwards++;
            return UM_OK;
        case UM_EVENT_STEP:
            apply_step(c, event);
            break;
        case UM_EVENT_BLOCK:
            apply_block(c, event);
            break;
        case UM_EVENT_DONE:
            return finish(c, event, err);
        case UM_EVENT_ERROR:
            if (err) *err = event->error;
            return event->error.status;
    }
    find_final(c);
    if (c->n_final == n_before && c->end == CHOICE_OPEN) return UM_OK;
    return update_text(c, err);
}

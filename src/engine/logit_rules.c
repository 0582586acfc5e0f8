/* SPDX-License-Identifier: Apache-2.0
 *
 * What a request does to its logits: bias, penalties for tokens that are there already, and no end
 * token before min_tokens. Counts are those of the committed answer before a step, whatever the
 * order in which positions were filled; so they depend on the request alone, and all positions of a
 * step see the same ones. A committed position that is scored again does not count itself: it would
 * be driven away from its own token.
 *
 * A step gets a list by rising token, once for all rows of a request; the head looks up what lies
 * in its tile, so that logits need not be stored.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/settings.h"

static int by_token(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

static int by_bias_token(const void *a, const void *b) {
    return by_token(&((const um_logit_bias *)a)->token, &((const um_logit_bias *)b)->token);
}

/* Sorts and leaves one of each. */
static int32_t sort_distinct(int32_t *tokens, int32_t n) {
    int32_t n_distinct = 0;
    if (n) qsort(tokens, (size_t)n, sizeof *tokens, by_token);
    for (int32_t i = 0; i < n; i++)
        if (!i || tokens[i] != tokens[i - 1]) tokens[n_distinct++] = tokens[i];
    return n_distinct;
}

/* The first place in a sorted list whose token is at least `token`. */
static int32_t lower_bound(const int32_t *tokens, int32_t n, int32_t token) {
    int32_t first = 0;
    while (n > 0) {
        int32_t half = n / 2;
        if (tokens[first + half] < token) {
            first += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return first;
}

static bool holds(const int32_t *tokens, int32_t n, int32_t token) {
    int32_t at = lower_bound(tokens, n, token);
    return at < n && tokens[at] == token;
}

static bool has_penalties(const logit_rules *rules) {
    return rules->frequency_penalty != 0 || rules->presence_penalty != 0 ||
           rules->repetition_penalty != 1;
}

/* ---- Options -------------------------------------------------------------------------------- */

static um_status check_bias(const um_request_options *o, int32_t vocab, um_error *err) {
    if (o->n_logit_bias < 0 || o->n_logit_bias > UM_LOGIT_BIAS_MAX ||
        (o->n_logit_bias && !o->logit_bias))
        return settings_refuse_int(err, "logit_bias", "0 to 65536 tokens", o->n_logit_bias);
    for (int32_t i = 0; i < o->n_logit_bias; i++) {
        float bias = o->logit_bias[i].bias;
        if (o->logit_bias[i].token < 0 || o->logit_bias[i].token >= vocab)
            return settings_refuse_int(err, "logit_bias", "tokens of the vocabulary",
                                       o->logit_bias[i].token);
        if (!(bias <= 1e6f && (bias >= -1e6f || bias == -INFINITY)))
            return settings_refuse_real(err, "logit_bias", "-1000000 to 1000000, or minus infinity",
                                        (double)bias);
    }
    return UM_OK;
}

um_status logit_rules_check(const um_model_info *info, const um_request_options *o, um_error *err) {
    TRY(check_bias(o, info->vocab, err));
    if (!(fabs(o->frequency_penalty) <= 1000))
        return settings_refuse_real(err, "frequency_penalty", "-1000 to 1000",
                                    o->frequency_penalty);
    if (!(fabs(o->presence_penalty) <= 1000))
        return settings_refuse_real(err, "presence_penalty", "-1000 to 1000", o->presence_penalty);
    if (!(o->repetition_penalty >= 0.001 && o->repetition_penalty <= 1000))
        return settings_refuse_real(err, "repetition_penalty", "0.001 to 1000",
                                    o->repetition_penalty);
    if (o->n_stop_tokens < 0 || o->n_stop_tokens > UM_REQUEST_STOP_TOKENS_MAX ||
        (o->n_stop_tokens && !o->stop_tokens))
        return settings_refuse_int(err, "stop_tokens", "0 to 1024 tokens", o->n_stop_tokens);
    for (int32_t i = 0; i < o->n_stop_tokens; i++)
        if (o->stop_tokens[i] < 0 || o->stop_tokens[i] >= info->vocab ||
            o->stop_tokens[i] == info->mask_token)
            return settings_refuse_int(err, "stop_tokens",
                                       "tokens of the vocabulary other than the mask",
                                       o->stop_tokens[i]);
    if (o->min_tokens < 0 || o->min_tokens > o->max_tokens)
        return settings_refuse_int(err, "min_tokens", "0 to max_tokens", o->min_tokens);
    if (o->top_logprobs < -1 || o->top_logprobs > UM_TOP_LOGPROBS_MAX)
        return settings_refuse_int(err, "top_logprobs", "-1 (none) to 20", o->top_logprobs);
    return UM_OK;
}

static um_status copy_bias(logit_rules *rules, const um_request_options *o, um_error *err) {
    rules->n_bias = o->n_logit_bias;
    if (!rules->n_bias) return UM_OK;
    rules->bias = memory_alloc_array((size_t)rules->n_bias, sizeof *rules->bias);
    if (!rules->bias) FAIL(UM_NO_MEMORY, err, "no memory for %d biased tokens", rules->n_bias);
    memcpy(rules->bias, o->logit_bias, (size_t)rules->n_bias * sizeof *rules->bias);
    qsort(rules->bias, (size_t)rules->n_bias, sizeof *rules->bias, by_bias_token);
    for (int32_t i = 1; i < rules->n_bias; i++)
        if (rules->bias[i].token == rules->bias[i - 1].token)
            return settings_refuse_int(err, "logit_bias", "each token once", rules->bias[i].token);
    return UM_OK;
}

/* The model's end tokens unless they are ignored, and the request's own. */
static um_status copy_ends(logit_rules *rules, const um_model_info *info,
                           const um_request_options *o, um_error *err) {
    int32_t n_of_model = o->ignore_eos ? 0 : info->n_stop_tokens;
    int32_t n = n_of_model + o->n_stop_tokens;
    if (!n) return UM_OK;
    rules->ends = memory_alloc_array((size_t)n, sizeof *rules->ends);
    if (!rules->ends) FAIL(UM_NO_MEMORY, err, "no memory for %d end tokens", n);
    if (n_of_model)
        memcpy(rules->ends, info->stop_tokens, (size_t)n_of_model * sizeof *rules->ends);
    if (o->n_stop_tokens)
        memcpy(rules->ends + n_of_model, o->stop_tokens,
               (size_t)o->n_stop_tokens * sizeof *rules->ends);
    rules->n_ends = sort_distinct(rules->ends, n);
    return UM_OK;
}

um_status logit_rules_init(logit_rules *rules, const um_model_info *info,
                           const um_request_options *o, int32_t n_canvas, um_error *err) {
    rules->frequency_penalty = (float)o->frequency_penalty;
    rules->presence_penalty = (float)o->presence_penalty;
    rules->repetition_penalty = (float)o->repetition_penalty;
    rules->min_end = (int32_t)o->n_prompt + o->min_tokens;
    TRY(copy_bias(rules, o, err));
    TRY(copy_ends(rules, info, o, err));
    bool counts_prompt = rules->repetition_penalty != 1;
    bool bans_ends = rules->n_ends && o->min_tokens;
    rules->is_used = rules->n_bias || has_penalties(rules) || bans_ends;
    if (!rules->is_used) return UM_OK;
    size_t n_prompt = o->n_prompt + o->n_suffix,
           n_seen = has_penalties(rules) ? (size_t)n_canvas : 0;
    size_t n_list = (size_t)rules->n_bias + (size_t)rules->n_ends + n_seen;
    rules->list = memory_alloc_array(n_list, sizeof *rules->list);
    rules->early = memory_alloc_array(n_list, sizeof *rules->early);
    rules->answer = memory_alloc_array(n_seen ? n_seen : 1, sizeof *rules->answer);
    rules->prompt = memory_alloc_array(n_prompt, sizeof *rules->prompt);
    if (!rules->list || !rules->early || !rules->answer || !rules->prompt)
        FAIL(UM_NO_MEMORY, err, "no memory for the changes of %zu logits", n_list);
    if (!counts_prompt) return UM_OK;
    memcpy(rules->prompt, o->prompt, o->n_prompt * sizeof *rules->prompt);
    if (o->n_suffix)
        memcpy(rules->prompt + o->n_prompt, o->suffix, o->n_suffix * sizeof *rules->prompt);
    rules->n_prompt = sort_distinct(rules->prompt, (int32_t)n_prompt);
    return UM_OK;
}

void logit_rules_deinit(logit_rules *rules) {
    memory_free(rules->bias);
    memory_free(rules->ends);
    memory_free(rules->list);
    memory_free(rules->early);
    memory_free(rules->answer);
    memory_free(rules->prompt);
    memset(rules, 0, sizeof *rules);
}

/* ---- Steps ---------------------------------------------------------------------------------- */

/* The change of one token that the answer holds `count` times. */
static logit_adjustment adjustment_of(const logit_rules *rules, int32_t token, int32_t count,
                                      bool is_in_prompt, float bias, bool is_banned) {
    float penalty = rules->frequency_penalty * (float)count;
    if (count) penalty += rules->presence_penalty;
    return (logit_adjustment){
        .token = token,
        .divisor = count || is_in_prompt ? rules->repetition_penalty : 1.0f,
        .bias = is_banned ? -INFINITY : bias - penalty,
    };
}

/* Merges the sorted lists of biased tokens, those of prompt and answer, and the end tokens. */
static int32_t merge(const logit_rules *rules, bool is_early, logit_adjustment *list) {
    int32_t i_bias = 0, i_prompt = 0, i_answer = 0, i_end = 0, n = 0;
    int32_t n_ends = is_early ? rules->n_ends : 0;
    for (;;) {
        int32_t token = INT32_MAX;
        if (i_bias < rules->n_bias) token = rules->bias[i_bias].token;
        if (i_prompt < rules->n_prompt && rules->prompt[i_prompt] < token)
            token = rules->prompt[i_prompt];
        if (i_answer < rules->n_answer && rules->answer[i_answer] < token)
            token = rules->answer[i_answer];
        if (i_end < n_ends && rules->ends[i_end] < token) token = rules->ends[i_end];
        if (token == INT32_MAX) return n;
        bool is_biased = i_bias < rules->n_bias && rules->bias[i_bias].token == token;
        bool is_in_prompt = i_prompt < rules->n_prompt && rules->prompt[i_prompt] == token;
        bool is_end = i_end < n_ends && rules->ends[i_end] == token;
        float bias = is_biased ? rules->bias[i_bias].bias : 0;
        int32_t count = 0;
        for (; i_answer < rules->n_answer && rules->answer[i_answer] == token; i_answer++) count++;
        list[n++] = adjustment_of(rules, token, count, is_in_prompt, bias, is_end);
        i_bias += is_biased;
        i_prompt += is_in_prompt;
        i_end += is_end;
    }
}

void logit_rules_update(um_request *request) {
    logit_rules *rules = &request->rules;
    if (!rules->is_used) return;
    rules->n_answer = 0;
    if (has_penalties(rules)) {
        for (int32_t p = request->n_prompt; p < request->window_end; p++)
            if (request->states[p] == UM_POSITION_COMMITTED)
                rules->answer[rules->n_answer++] = request->lanes[0].tokens[p];
        if (rules->n_answer)
            qsort(rules->answer, (size_t)rules->n_answer, sizeof *rules->answer, by_token);
    }
    rules->n_list = merge(rules, false, rules->list);
    rules->n_early = rules->min_end > request->window_first ? merge(rules, true, rules->early) : 0;
}

/* What holds for the token that a committed position has, without that position. */
static logit_adjustment without_own(const logit_rules *rules, int32_t token, bool is_early) {
    int32_t first = lower_bound(rules->answer, rules->n_answer, token);
    int32_t count = lower_bound(rules->answer, rules->n_answer, token + 1) - first - 1;
    float bias = 0;
    for (int32_t i = 0; i < rules->n_bias; i++)
        if (rules->bias[i].token == token) bias = rules->bias[i].bias;
    return adjustment_of(rules, token, count, holds(rules->prompt, rules->n_prompt, token), bias,
                         is_early && holds(rules->ends, rules->n_ends, token));
}

void logit_rules_apply(const um_request *request, int32_t position, score_request *q) {
    const logit_rules *rules = &request->rules;
    q->own.token = -1;
    if (!rules->is_used) return;
    bool is_early = position < rules->min_end;
    q->adjustments = is_early ? rules->early : rules->list;
    q->n_adjustments = is_early ? rules->n_early : rules->n_list;
    if (request->states[position] == UM_POSITION_COMMITTED && has_penalties(rules))
        q->own = without_own(rules, request->lanes[0].tokens[position], is_early);
}

bool logit_rules_are_fixed(const um_request *request) {
    return !has_penalties(&request->rules);
}

bool logit_rules_end_text(const um_request *request, int32_t position) {
    const logit_rules *rules = &request->rules;
    return position >= rules->min_end &&
           holds(rules->ends, rules->n_ends, request->lanes[0].tokens[position]);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of parameters. An entry says which routes know the name and how its value is read; what
 * has no entry is refused, and so is a known one that this version cannot honour, unless its value
 * asks for nothing.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/memory.h"
#include "server/api_request.h"
#include "server/json_value.h"

#define CHAT (1u << API_KIND_CHAT)
#define COMPLETION (1u << API_KIND_COMPLETION)
#define MESSAGES (1u << API_KIND_MESSAGES)
#define OPENAI (CHAT | COMPLETION)
#define ALL (OPENAI | MESSAGES)
#define INT32_LIMIT 2147483647.0

typedef enum value_type {
    VALUE_REAL,    /* a double of um_request_options */
    VALUE_INTEGER, /* an int32_t of um_request_options */
    VALUE_FLAG,    /* a bool of api_request */
    VALUE_CHOICE,  /* an enum of um_request_options: the word's index in `words` plus one */
    VALUE_FUNCTION,
    VALUE_NEUTRAL, /* refused, unless it asks for nothing: `low`, false, null, empty */
    VALUE_PROMPT   /* api_prompt.c or api_format.c reads it */
} value_type;

typedef struct parameter {
    const char *name;
    unsigned kinds;
    value_type type;
    size_t offset;
    double low, high;
    um_status (*read)(api_request *request, const char *name, json_t *value, um_error *err);
    const char *words; /* separated by '|' */
} parameter;

static um_status refuse_kind(const char *name, const char *expected, json_t *value, um_error *err) {
    return api_refuse(err, name, "%s: expected %s, found %s", name, expected,
                      json_value_kind(value));
}

static um_status read_max_tokens(api_request *r, const char *name, json_t *value, um_error *err) {
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value)) return refuse_kind(name, "an integer of at least 1", value, err);
    if (n < 1 || n > INT32_MAX)
        return api_refuse(err, name, "%s: expected at least 1, found %lld", name, (long long)n);
    if (r->has_max_tokens && r->options.max_tokens != n)
        return api_refuse(err, name, "%s: expected the same as in max_tokens, %d, found %lld", name,
                          r->options.max_tokens, (long long)n);
    r->options.max_tokens = (int32_t)n;
    r->has_max_tokens = true;
    return UM_OK;
}

static um_status read_count(int32_t *count, const char *name, json_t *value, um_error *err) {
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 1 || n > API_CHOICES_MAX)
        return api_refuse(err, name, "%s: expected an integer of 1 to %d", name, API_CHOICES_MAX);
    *count = (int32_t)n;
    return UM_OK;
}

static um_status read_n(api_request *r, const char *name, json_t *value, um_error *err) {
    return read_count(&r->n, name, value, err);
}

static um_status read_best_of(api_request *r, const char *name, json_t *value, um_error *err) {
    return read_count(&r->best_of, name, value, err);
}

static um_status read_seed(api_request *r, const char *name, json_t *value, um_error *err) {
    if (!json_is_integer(value)) return refuse_kind(name, "an integer", value, err);
    r->options.seed = (uint64_t)json_integer_value(value);
    return UM_OK;
}

static um_status read_ignore_eos(api_request *r, const char *name, json_t *value, um_error *err) {
    if (!json_is_boolean(value)) return refuse_kind(name, "true or false", value, err);
    r->options.ignore_eos = json_is_true(value);
    return UM_OK;
}

static um_status read_top_k(api_request *r, const char *name, json_t *value, um_error *err) {
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < -1 || n > INT32_MAX)
        return api_refuse(err, name, "%s: expected an integer of at least 0, or -1 for off", name);
    r->options.top_k = n < 0 ? 0 : (int32_t)n;
    return UM_OK;
}

static um_status add_stop(api_request *r, const char *name, json_t *value, um_error *err) {
    if (!json_is_string(value))
        return refuse_kind(name, "a string or an array of strings", value, err);
    if (json_string_length(value) == 0)
        return api_refuse(err, name, "%s: an empty string would stop everything", name);
    if (r->n_stops == API_STOPS_MAX)
        return api_refuse(err, name, "%s: expected at most %d strings", name, API_STOPS_MAX);
    r->stops[r->n_stops++] = json_string_value(value);
    return UM_OK;
}

static um_status read_stop(api_request *r, const char *name, json_t *value, um_error *err) {
    if (!json_is_array(value)) return add_stop(r, name, value, err);
    for (size_t i = 0; i < json_array_size(value); i++)
        TRY(add_stop(r, name, json_array_get(value, i), err));
    return UM_OK;
}

static um_status read_stop_ids(api_request *r, const char *name, json_t *value, um_error *err) {
    size_t n = json_array_size(value);
    if (!json_is_array(value)) return refuse_kind(name, "an array of ids", value, err);
    if (n > UM_REQUEST_STOP_TOKENS_MAX)
        return api_refuse(err, name, "%s: expected at most %d ids, found %zu", name,
                          UM_REQUEST_STOP_TOKENS_MAX, n);
    if (n == 0) return UM_OK;
    r->stop_ids = memory_alloc_array(n, sizeof *r->stop_ids);
    if (!r->stop_ids) FAIL(UM_NO_MEMORY, err, "no memory for %zu ids", n);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(value, i);
        json_int_t token = json_integer_value(id);
        if (!json_is_integer(id) || token < 0 || token > INT32_MAX)
            return api_refuse(err, name, "%s: item %zu is no id of a token", name, i);
        r->stop_ids[i] = (int32_t)token;
    }
    r->options.stop_tokens = r->stop_ids;
    r->options.n_stop_tokens = (int32_t)n;
    return UM_OK;
}

static um_status read_top(api_request *r, const char *name, json_t *value, um_error *err) {
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 0 || n > UM_TOP_LOGPROBS_MAX)
        return api_refuse(err, name, "%s: expected an integer of 0 to %d", name,
                          UM_TOP_LOGPROBS_MAX);
    r->n_top = (int32_t)n;
    return UM_OK;
}

/* A chat says whether, and how many in top_logprobs; a completion says how many. */
static um_status read_logprobs(api_request *r, const char *name, json_t *value, um_error *err) {
    if (json_is_false(value)) return UM_OK;
    r->has_logprobs = true;
    if (r->kind == API_KIND_COMPLETION) return read_top(r, name, value, err);
    return json_is_true(value) ? UM_OK : refuse_kind(name, "true or false", value, err);
}

/* {"id": bias}, ids as strings. */
static um_status read_logit_bias(api_request *r, const char *name, json_t *value, um_error *err) {
    size_t n = json_object_size(value);
    if (!json_is_object(value))
        return refuse_kind(name, "an object of ids and numbers", value, err);
    if (n > UM_LOGIT_BIAS_MAX)
        return api_refuse(err, name, "%s: expected at most %d tokens, found %zu", name,
                          UM_LOGIT_BIAS_MAX, n);
    if (n == 0) return UM_OK;
    r->bias = memory_alloc_array(n, sizeof *r->bias);
    if (!r->bias) FAIL(UM_NO_MEMORY, err, "no memory for %zu biased tokens", n);
    void *at = json_object_iter(value);
    for (; at; at = json_object_iter_next(value, at)) {
        const char *key = json_object_iter_key(at);
        const json_t *bias = json_object_iter_value(at);
        char *end = NULL;
        long id = strtol(key, &end, 10);
        if (end == key || *end || key[0] < '0' || key[0] > '9' || id > INT32_MAX)
            return api_refuse(err, name, "%s: \"%.40s\" is no id of a token", name, key);
        double x = json_number_value(bias);
        if (!json_is_number(bias) || !(x >= -100 && x <= 100))
            return api_refuse(err, name, "%s: expected -100 to 100 for token %ld", name, id);
        r->bias[r->options.n_logit_bias++] = (um_logit_bias){(int32_t)id, (float)x};
    }
    r->options.logit_bias = r->bias;
    return UM_OK;
}

static um_status read_stream_options(api_request *r, const char *name, json_t *value,
                                     um_error *err) {
    const char *key;
    json_t *item;
    if (!json_is_object(value)) return refuse_kind(name, "an object", value, err);
    if (!json_is_true(json_object_get(r->root, "stream")))
        return api_refuse(err, name, "%s: only a request with \"stream\": true may have it", name);
    void *at = json_object_iter(value);
    for (; at; at = json_object_iter_next(value, at)) {
        key = json_object_iter_key(at);
        item = json_object_iter_value(at);
        if (strcmp(key, "include_usage") != 0 || !json_is_boolean(item))
            return api_refuse(err, name, "%s: expected {\"include_usage\": true or false}", name);
        r->has_usage = json_is_true(item);
    }
    return UM_OK;
}

static um_status read_unmask(api_request *r, const char *name, json_t *value, um_error *err) {
    const json_t *events = json_object_get(value, "events");
    const char *word = json_string_value(events);
    if (json_object_size(value) != 1 || !word ||
        (strcmp(word, "steps") != 0 && strcmp(word, "none") != 0))
        return api_refuse(err, name, "%s: expected {\"events\": \"steps\" or \"none\"}", name);
    r->has_steps = strcmp(word, "steps") == 0;
    if (r->has_steps && !json_is_true(json_object_get(r->root, "stream")))
        return api_refuse(err, name, "%s: steps are reported in streams: set \"stream\": true",
                          name);
    return UM_OK;
}

static um_status read_user(api_request *r, const char *name, json_t *value, um_error *err) {
    if (!json_is_string(value)) return refuse_kind(name, "a string", value, err);
    r->user = json_string_value(value);
    return UM_OK;
}

static um_status read_policy(api_request *r, const char *name, json_t *value, um_error *err) {
    const char *word = json_string_value(value);
    if (!word) return refuse_kind(name, "the name of a policy", value, err);
    /* A path would make the server load a file of the client's choice. */
    if (!um_policy_find(word))
        return api_refuse(err, name, "%s: no built-in policy is called \"%.40s\"", name, word);
    r->options.policy = word;
    return UM_OK;
}

static um_status read_metadata(api_request *r, const char *name, json_t *value, um_error *err) {
    const json_t *id = json_object_get(value, "user_id");
    if (!json_is_object(value) || json_object_size(value) > (id ? 1u : 0u) ||
        (id && !json_is_string(id) && !json_is_null(id)))
        return api_refuse(err, name, "%s: expected {\"user_id\": a string}", name);
    r->user = json_string_value(id);
    return UM_OK;
}

#define REAL(name_, field, low_, high_)                                           \
    {                                                                             \
        .name = name_, .kinds = ALL, .type = VALUE_REAL,                          \
        .offset = offsetof(um_request_options, field), .low = low_, .high = high_ \
    }
#define INTEGER(name_, field, low_)                                                     \
    {                                                                                   \
        .name = name_, .kinds = ALL, .type = VALUE_INTEGER,                             \
        .offset = offsetof(um_request_options, field), .low = low_, .high = INT32_LIMIT \
    }
#define FLAG(name_, kinds_, field) \
    { .name = name_, .kinds = kinds_, .type = VALUE_FLAG, .offset = offsetof(api_request, field) }
#define CHOICE(name_, field, words_)                                   \
    {                                                                  \
        .name = name_, .kinds = ALL, .type = VALUE_CHOICE,             \
        .offset = offsetof(um_request_options, field), .words = words_ \
    }
#define FUNCTION(name_, kinds_, function) \
    { .name = name_, .kinds = kinds_, .type = VALUE_FUNCTION, .read = function }
#define NEUTRAL(name_, kinds_, value_) \
    { .name = name_, .kinds = kinds_, .type = VALUE_NEUTRAL, .low = value_ }
#define PROMPT(name_, kinds_) \
    { .name = name_, .kinds = kinds_, .type = VALUE_PROMPT }

static const parameter table[] = {
    PROMPT("model", ALL),
    PROMPT("messages", CHAT | MESSAGES),
    PROMPT("system", MESSAGES),
    PROMPT("tools", CHAT | MESSAGES),
    PROMPT("tool_choice", CHAT | MESSAGES),
    PROMPT("chat_template_kwargs", CHAT),
    PROMPT("prompt", COMPLETION),
    PROMPT("suffix", COMPLETION),
    FUNCTION("max_tokens", ALL, read_max_tokens),
    FUNCTION("max_completion_tokens", CHAT, read_max_tokens),
    FUNCTION("n", OPENAI, read_n),
    FUNCTION("seed", ALL, read_seed),
    FUNCTION("stop", OPENAI, read_stop),
    FUNCTION("stop_sequences", MESSAGES, read_stop),
    FUNCTION("stop_token_ids", ALL, read_stop_ids),
    FLAG("stream", ALL, is_stream),
    FUNCTION("stream_options", OPENAI, read_stream_options),
    FUNCTION("unmask", OPENAI, read_unmask),
    FLAG("echo", COMPLETION, has_echo),
    FUNCTION("user", OPENAI, read_user),
    FUNCTION("metadata", MESSAGES, read_metadata),
    PROMPT("response_format", OPENAI),
    REAL("temperature", temperature, 0, 1e6),
    REAL("top_p", top_p, 0, 1),
    REAL("min_p", min_p, 0, 1),
    FUNCTION("top_k", ALL, read_top_k),
    FUNCTION("policy", ALL, read_policy),
    REAL("threshold", threshold, 0, 1),
    REAL("edit_threshold", edit_threshold, 0, 1),
    REAL("low_threshold", low_threshold, 0, 1),
    REAL("factor", factor, 0, 1e6),
    REAL("entropy_bound", entropy_bound, 0, 1e6),
    REAL("eps", eps, 0, 1),
    REAL("alg_temp", alg_temp, 0, 1e6),
    REAL("credit_alpha", credit_alpha, 0, 1e6),
    REAL("credit_beta", credit_beta, 0, 1),
    REAL("credit_gamma", credit_gamma, 0, 1e6),
    REAL("block_add", block_add, 0, 1),
    REAL("block_ready", block_ready, 0, 1),
    REAL("cfg", cfg_scale, 0, 1e6),
    INTEGER("steps", steps, 1),
    INTEGER("post_steps", post_steps, 0),
    INTEGER("block", block_len, 1),
    INTEGER("sub_block", sub_block, 1),
    INTEGER("window", window, 1),
    CHOICE("remask", remask, "low-confidence|random"),
    CHOICE("metric", metric, "confidence|entropy"),
    CHOICE("cache", cache, "exact|none|prefix|dual"),
    FUNCTION("ignore_eos", ALL, read_ignore_eos),
    FUNCTION("logprobs", OPENAI, read_logprobs),
    FUNCTION("top_logprobs", CHAT, read_top),
    FUNCTION("logit_bias", OPENAI, read_logit_bias),
    REAL("frequency_penalty", frequency_penalty, -2, 2),
    REAL("presence_penalty", presence_penalty, -2, 2),
    REAL("repetition_penalty", repetition_penalty, 0.001, 1000),
    INTEGER("min_tokens", min_tokens, 0),
    FUNCTION("best_of", COMPLETION, read_best_of),
    NEUTRAL("store", CHAT, 0),
    PROMPT("parallel_tool_calls", CHAT),
};
enum { N_PARAMETERS = sizeof table / sizeof *table };

/* The index of a word in "a|b|c", or -1. */
static int find_word(const char *words, const char *word) {
    size_t n = strlen(word);
    for (int i = 0;; i++) {
        size_t length = strcspn(words, "|");
        if (n > 0 && length == n && memcmp(words, word, n) == 0) return i;
        if (!words[length]) return -1;
        words += length + 1;
    }
}

static um_status read_number(const parameter *p, api_request *r, json_t *value, um_error *err) {
    char *field = (char *)&r->options + p->offset;
    bool is_integer = p->type == VALUE_INTEGER;
    double x = json_number_value(value);
    if (is_integer ? !json_is_integer(value) : !json_is_number(value))
        return refuse_kind(p->name, is_integer ? "an integer" : "a number", value, err);
    if (!(x >= p->low && x <= p->high))
        return api_refuse(err, p->name, "%s: expected %g to %g, found %g", p->name, p->low, p->high,
                          x);
    if (is_integer) {
        int32_t n = (int32_t)json_integer_value(value);
        memcpy(field, &n, sizeof n);
    } else {
        memcpy(field, &x, sizeof x);
    }
    return UM_OK;
}

static bool asks_for_nothing(const parameter *p, json_t *value) {
    if (json_is_number(value)) return json_number_value(value) == p->low;
    return json_is_false(value) || (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

static um_status read_value(const parameter *p, api_request *r, json_t *value, um_error *err) {
    switch (p->type) {
        case VALUE_REAL:
        case VALUE_INTEGER:
            return read_number(p, r, value, err);
        case VALUE_FLAG:
            if (!json_is_boolean(value)) return refuse_kind(p->name, "true or false", value, err);
            *(bool *)((char *)r + p->offset) = json_is_true(value);
            return UM_OK;
        case VALUE_CHOICE: {
            const char *word = json_string_value(value);
            int i = word ? find_word(p->words, word) : -1;
            if (i < 0)
                return api_refuse(err, p->name, "%s: expected one of %s, found %.40s", p->name,
                                  p->words, word ? word : json_value_kind(value));
            unsigned chosen = (unsigned)i + 1; /* 0 is the default */
            memcpy((char *)&r->options + p->offset, &chosen, sizeof chosen);
            return UM_OK;
        }
        case VALUE_FUNCTION:
            return p->read(r, p->name, value, err);
        case VALUE_NEUTRAL:
            if (asks_for_nothing(p, value)) return UM_OK;
            return api_refuse(err, p->name, "%s: this version can not honour it", p->name);
        case VALUE_PROMPT:
            return UM_OK;
    }
    return UM_OK;
}

static const parameter *find(api_kind kind, const char *name) {
    for (size_t i = 0; i < N_PARAMETERS; i++)
        if (table[i].kinds & (1u << kind) && strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

static um_status check_model(const api_request *r, const api_model *model, um_error *err) {
    json_t *value = json_object_get(r->root, "model");
    const char *id = json_string_value(value);
    if (!id) return refuse_kind("model", "the name of a model", value, err);
    if (strcmp(id, model->id) == 0) return UM_OK;
    um_error_set(err, UM_NOT_FOUND, "model: \"%.100s\" is not served here; \"%.100s\" is", id,
                 model->id);
    um_error_at(err, "model", -1);
    return UM_NOT_FOUND;
}

/* More choices are made than the reply has; which ones are the best is known at the end. */
static um_status settle_best_of(api_request *r, um_error *err) {
    if (!r->best_of) r->best_of = r->n;
    if (r->best_of < r->n)
        return api_refuse(err, "best_of", "best_of: expected at least n, %d, found %d", r->n,
                          r->best_of);
    if (r->best_of > r->n && r->is_stream)
        return api_refuse(err, "best_of",
                          "best_of: does not go with a stream, unless it is n: which choices are "
                          "the best is known at the end");
    if (r->best_of > r->n && r->options.top_logprobs < 0) r->options.top_logprobs = 0;
    return UM_OK;
}

um_status api_parameters_read(api_request *r, const api_model *model, um_error *err) {
    TRY(check_model(r, model, err));
    void *at = json_object_iter(r->root);
    for (; at; at = json_object_iter_next(r->root, at)) {
        const char *name = json_object_iter_key(at);
        json_t *value = json_object_iter_value(at);
        const parameter *p = find(r->kind, name);
        if (!p) {
            um_error_set(err, UM_INVALID, "%.60s: unknown parameter", name);
            um_error_at(err, name, -1);
            return UM_INVALID;
        }
        if (!json_is_null(value)) TRY(read_value(p, r, value, err)); /* null: not given */
    }
    if (r->kind == API_KIND_MESSAGES && !r->has_max_tokens)
        return api_refuse(err, "max_tokens", "max_tokens: expected an integer, found nothing");
    if (r->n_top && !r->has_logprobs)
        return api_refuse(err, "top_logprobs",
                          "top_logprobs: expected \"logprobs\": true beside it");
    if (r->has_logprobs) r->options.top_logprobs = r->n_top;
    TRY(settle_best_of(r, err));
    if (json_is_integer(json_object_get(r->root, "seed"))) return UM_OK;
    /* Without a seed every request draws anew; the reply says which seed it was. 53 bits, so that
     * every client reads the number as it is. */
    if (getrandom(&r->options.seed, sizeof r->options.seed, 0) != sizeof r->options.seed)
        FAIL(UM_INTERNAL, err, "the system gives no random numbers");
    r->options.seed >>= 11;
    return UM_OK;
}

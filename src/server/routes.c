/* SPDX-License-Identifier: Apache-2.0
 *
 * A table of paths. Routes that name the model are refused until it is loaded; the page, health and
 * metrics are there from the start.
 */
#include "server/routes.h"

#include <string.h>

#include "base/memory.h"
#include "server/json_value.h"
#include "server/page.h"

typedef um_status (*route_function)(const routes *r, const route_request *q, route_reply *reply,
                                    um_error *err);

static um_status put_json(json_t *root, route_reply *reply, um_error *err) {
    reply->body = json_value_write(root, &reply->n_bytes);
    if (!reply->body) FAIL(UM_NO_MEMORY, err, "no memory for a reply");
    reply->http = reply->http ? reply->http : 200;
    reply->content_type = "application/json";
    return UM_OK;
}

static um_status start_job(const routes *r, api_kind kind, const route_request *q,
                           route_reply *reply, um_error *err) {
    api_request request;
    TRY(api_request_parse(kind, q->body ? q->body : "", q->n_bytes, r->model, &request, err));
    size_t n_choices = request.n_prompts * (size_t)request.best_of;
    if (n_choices > API_CHOICES_MAX) {
        const char *name = request.best_of > request.n ? "best_of" : "n";
        api_request_deinit(&request);
        return api_refuse(err, name, "%s: expected at most %d choices of all prompts, found %zu",
                          name, API_CHOICES_MAX, n_choices);
    }
    return job_create(&request, r->model, &reply->job, err);
}

static um_status chat(const routes *r, const route_request *q, route_reply *reply, um_error *err) {
    return start_job(r, API_KIND_CHAT, q, reply, err);
}

static um_status completions(const routes *r, const route_request *q, route_reply *reply,
                             um_error *err) {
    return start_job(r, API_KIND_COMPLETION, q, reply, err);
}

static um_status messages(const routes *r, const route_request *q, route_reply *reply,
                          um_error *err) {
    return start_job(r, API_KIND_MESSAGES, q, reply, err);
}

static json_t *model_card(const routes *r) {
    return json_pack("{s:s, s:s, s:I, s:s, s:i, s:s, s:s, s:i, s:f, s:s}", "id", r->model->id,
                     "object", "model", "created", (json_int_t)r->model->created, "owned_by",
                     "unmask", "max_model_len", (int)r->model->info->context, "architecture",
                     r->model->info->architecture, "policy", r->model->info->policy, "block",
                     (int)r->model->info->block_len, "threshold", r->model->info->threshold,
                     "attention",
                     r->model->info->attention == UM_ATTENTION_FULL ? "full" : "block-causal");
}

static um_status models(const routes *r, const route_request *q, route_reply *reply,
                        um_error *err) {
    const char *id = q->path + sizeof "/v1/models" - 1;
    if (!*id)
        return put_json(json_pack("{s:s, s:[o]}", "object", "list", "data", model_card(r)), reply,
                        err);
    if (strcmp(id + 1, r->model->id) == 0) return put_json(model_card(r), reply, err);
    um_error_set(err, UM_NOT_FOUND, "model: \"%.100s\" is not served here", id + 1);
    um_error_at(err, "model", -1);
    return UM_NOT_FOUND;
}

static um_status health(const routes *r, const route_request *q, route_reply *reply,
                        um_error *err) {
    static const char *const words[] = {"loading", "ready", "stuck", "draining"};
    (void)q;
    reply->http = r->health == ROUTE_READY ? 200 : 503;
    return put_json(json_pack("{s:s, s:i}", "status", words[r->health], "requests", (int)r->n_jobs),
                    reply, err);
}

static um_status show_metrics(const routes *r, const route_request *q, route_reply *reply,
                              um_error *err) {
    strbuf text;
    (void)q;
    strbuf_init(&text);
    metrics_write(r->metrics, r->model->id, &text);
    reply->body = strbuf_take(&text, &reply->n_bytes);
    strbuf_deinit(&text);
    if (!reply->body) FAIL(UM_NO_MEMORY, err, "no memory for metrics");
    reply->http = 200;
    reply->content_type = "text/plain; version=0.0.4; charset=utf-8";
    return UM_OK;
}

/* A body of at most `model` and one field; the rest is refused. */
static um_status read_field(const routes *r, const route_request *q, const char *field,
                            const char *other, json_t **root, um_error *err) {
    TRY(json_value_read_object(q->body ? q->body : "", q->n_bytes, root, err));
    void *at = json_object_iter(*root);
    for (; at; at = json_object_iter_next(*root, at)) {
        const char *key = json_object_iter_key(at);
        const char *id = json_string_value(json_object_iter_value(at));
        if (strcmp(key, field) == 0 || (other && strcmp(key, other) == 0)) continue;
        if (strcmp(key, "model") != 0) return api_refuse(err, key, "%.60s: unknown parameter", key);
        if (id && strcmp(id, r->model->id) == 0) continue;
        um_error_set(err, UM_NOT_FOUND, "model: \"%.100s\" is not served here", id ? id : "");
        um_error_at(err, "model", -1);
        return UM_NOT_FOUND;
    }
    return UM_OK;
}

static um_status tokenize(const routes *r, const route_request *q, route_reply *reply,
                          um_error *err) {
    json_t *root = NULL, *list = NULL;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    um_status status = read_field(r, q, "prompt", "text", &root, err);
    json_t *text = json_object_get(root, "prompt");
    if (!text) text = json_object_get(root, "text");
    if (status == UM_OK && !json_is_string(text))
        status =
            api_refuse(err, "prompt", "prompt: expected a string, found %s", json_value_kind(text));
    if (status == UM_OK && json_object_get(root, "text") && json_object_get(root, "prompt"))
        status = api_refuse(err, "text", "text: expected prompt or text, found both");
    if (status == UM_OK && !r->model->tokenizer)
        status = api_refuse(err, "prompt", "prompt: the model has no tokenizer");
    if (status == UM_OK)
        status = um_tokenizer_encode(r->model->tokenizer, json_string_value(text),
                                     json_string_length(text), &ids, &n_ids, err);
    if (status == UM_OK) {
        list = json_array();
        for (size_t i = 0; list && i < n_ids; i++)
            if (json_array_append_new(list, json_integer(ids[i])) != 0) {
                json_decref(list);
                list = NULL;
            }
        status = put_json(json_pack("{s:o, s:I, s:i}", "tokens", list, "count", (json_int_t)n_ids,
                                    "max_model_len", (int)r->model->info->context),
                          reply, err);
    }
    um_free(ids);
    json_decref(root);
    return status;
}

static um_status detokenize(const routes *r, const route_request *q, route_reply *reply,
                            um_error *err) {
    json_t *root = NULL;
    api_prompt ids = {0};
    char *text = NULL;
    size_t n_bytes = 0;
    um_status status = read_field(r, q, "tokens", NULL, &root, err);
    const json_t *list = json_object_get(root, "tokens");
    if (status == UM_OK && !json_is_array(list))
        status = api_refuse(err, "tokens", "tokens: expected an array of ids, found %s",
                            json_value_kind(list));
    if (status == UM_OK && !r->model->tokenizer)
        status = api_refuse(err, "tokens", "tokens: the model has no tokenizer");
    if (status == UM_OK && json_array_size(list))
        status = api_prompt_ids(r->model, "tokens", list, &ids, err);
    if (status == UM_OK && ids.n_ids)
        status = um_tokenizer_decode(r->model->tokenizer, ids.ids, ids.n_ids, false, &text,
                                     &n_bytes, err);
    if (status == UM_INVALID) um_error_at(err, "tokens", -1);
    if (status == UM_OK)
        status = put_json(json_pack("{s:o}", "prompt", json_value_text(text ? text : "", n_bytes)),
                          reply, err);
    um_free(text);
    um_free(ids.ids);
    json_decref(root);
    return status;
}

static um_status page(const routes *r, const route_request *q, route_reply *reply, um_error *err) {
    (void)r;
    (void)err;
    for (const page_file *file = page_files; file->path; file++) {
        if (strcmp(q->path, file->path) != 0) continue;
        reply->http = 200;
        reply->content_type = file->content_type;
        reply->is_page = true;
        reply->fixed = file->bytes;
        reply->n_bytes = file->n_bytes;
        return UM_OK;
    }
    FAIL(UM_NOT_FOUND, err, "%.100s: there is no such path", q->path);
}

static const struct {
    const char *path, *method;
    route_function function;
    bool needs_model, is_open; /* open: no key is asked for */
} table[] = {
    {"/v1/chat/completions", "POST", chat, true, false},
    {"/v1/completions", "POST", completions, true, false},
    {"/v1/messages", "POST", messages, true, false},
    {"/tokenize", "POST", tokenize, true, false},
    {"/detokenize", "POST", detokenize, true, false},
    {"/v1/models", "GET", models, true, false},
    {"/health", "GET", health, false, true},
    {"/metrics", "GET", show_metrics, false, false},
    {"/", "GET", page, false, true},
    {"/page.css", "GET", page, false, true},
    {"/page.js", "GET", page, false, true},
};

static size_t find_path(const char *path) {
    static const char prefix[] = "/v1/models/";
    size_t n = sizeof table / sizeof *table;
    if (strncmp(path, prefix, sizeof prefix - 1) == 0) path = "/v1/models";
    for (size_t i = 0; i < n; i++)
        if (strcmp(path, table[i].path) == 0) return i;
    return n;
}

bool routes_takes_body(const char *path) {
    size_t i = find_path(path);
    return i < sizeof table / sizeof *table && strcmp(table[i].method, "POST") == 0;
}

/* Compares in a time that depends on what was sent alone. */
static bool is_key(const char *key, const char *sent) {
    static const char bearer[] = "Bearer ";
    if (!sent) return false;
    if (strncmp(sent, bearer, sizeof bearer - 1) == 0) sent += sizeof bearer - 1;
    size_t n_key = strlen(key), n_sent = strlen(sent);
    unsigned difference = n_key != n_sent;
    for (size_t i = 0; i < n_sent; i++)
        difference |=
            (unsigned)((unsigned char)sent[i] ^ (unsigned char)key[n_key ? i % n_key : 0]);
    return difference == 0;
}

void routes_refuse(const char *path, int http, const um_error *err, route_reply *reply) {
    static const char last[] = "{\"error\":{\"message\":\"no memory for a reply\"}}";
    api_style style = strcmp(path, "/v1/messages") == 0 ? API_STYLE_ANTHROPIC : API_STYLE_OPENAI;
    reply->http = http;
    reply->content_type = "application/json";
    reply->body = api_error_body(err, http, style);
    reply->fixed = reply->body ? NULL : last;
    reply->n_bytes = strlen(reply->body ? reply->body : last);
}

void routes_answer(const routes *r, const route_request *q, route_reply *reply) {
    um_error err = {.byte_pos = -1};
    size_t i = find_path(q->path);
    int http = 0;
    memset(reply, 0, sizeof *reply);
    bool is_known = i < sizeof table / sizeof *table;
    bool is_method =
        is_known && (strcmp(q->method, table[i].method) == 0 ||
                     (strcmp(q->method, "HEAD") == 0 && strcmp(table[i].method, "GET") == 0));
    if (r->api_key && !(is_known && table[i].is_open) && !is_key(r->api_key, q->key)) {
        http = 401;
        um_error_set(&err, UM_INVALID, "expected the server's API key, found %s",
                     q->key ? "another one" : "none");
    } else if (!is_known) {
        http = 404;
        um_error_set(&err, UM_NOT_FOUND, "%.100s: there is no such path", q->path);
    } else if (!is_method) {
        http = 405;
        reply->allow = table[i].method;
        um_error_set(&err, UM_INVALID, "%s: expected %s, found %.20s", table[i].path,
                     table[i].method, q->method);
    } else if (table[i].needs_model && !r->model->info) {
        http = 503;
        um_error_set(&err, UM_AGAIN, "the model is still being loaded");
    } else if (table[i].function(r, q, reply, &err) == UM_OK) {
        return;
    }
    routes_refuse(q->path, http ? http : api_error_http(&err), &err, reply);
}

void route_reply_deinit(route_reply *reply) {
    memory_free(reply->body);
    job_release(reply->job);
    memset(reply, 0, sizeof *reply);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver writes whole replies or chunks into `output` and wakes the connection; nobody waits
 * for anybody with a lock held.
 */
#include "server/job.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "server/reply.h"

enum { UNSENT_MAX_BYTES = 1 << 20, DEFAULT_MAX_TOKENS = 256, LOGITS_MAX_BYTES = 1 << 30 };

static const char *const id_prefixes[] = {"chatcmpl-", "cmpl-", "msg_"};

um_status job_create(api_request *request, const api_model *model, job **out, um_error *err) {
    unsigned char noise[12];
    job *j = memory_calloc(1, sizeof *j);
    if (j) j->n_choices = request->n_prompts * (size_t)request->best_of;
    if (j) j->choices = memory_calloc(j->n_choices, sizeof *j->choices);
    if (!j || !j->choices || getrandom(noise, sizeof noise, 0) != sizeof noise) {
        memory_free(j);
        api_request_deinit(request);
        FAIL(UM_NO_MEMORY, err, "no memory for a request");
    }
    j->request = *request;
    memset(request, 0, sizeof *request);
    j->model = model;
    j->created = (int64_t)time(NULL);
    j->arrived_ns = clock_now_ns();
    j->socket = -1;
    int n = snprintf(j->id, sizeof j->id, "%s", id_prefixes[j->request.kind]);
    for (size_t i = 0; i < sizeof noise; i++)
        snprintf(j->id + n + 2 * i, sizeof j->id - (size_t)n - 2 * i, "%02x", noise[i]);
    pthread_mutex_init(&j->lock, NULL);
    strbuf_init(&j->output);
    atomic_init(&j->n_holders, 1);
    *out = j;
    return UM_OK;
}

void job_hold(job *j) {
    atomic_fetch_add(&j->n_holders, 1);
}

void job_release(job *j) {
    if (!j || atomic_fetch_sub(&j->n_holders, 1) != 1) return;
    job_stop(j);
    for (size_t i = 0; i < j->n_choices; i++) choice_deinit(&j->choices[i]);
    memory_free(j->choices);
    api_request_deinit(&j->request);
    strbuf_deinit(&j->output);
    pthread_mutex_destroy(&j->lock);
    memory_free(j);
}

/* Lock held. */
static void wake(job *j) {
    if (!j->is_waiting) return;
    j->is_waiting = false;
    j->wake(j->wake_user);
}

/* Adds what the choices have made to the reply. Fails the job where memory ran out. */
static void hand_over(job *j, strbuf *made, job_state state) {
    pthread_mutex_lock(&j->lock);
    if (made && made->n_bytes) strbuf_append(&j->output, made->data, made->n_bytes);
    if (j->http == 0) j->http = 200;
    if (state > j->state) j->state = state;
    if ((made && made->has_failed) || j->output.has_failed) {
        j->is_gone = true; /* the connection is cut: half a reply is no reply */
        j->state = JOB_DONE;
    }
    if (j->state == JOB_DONE || j->output.n_bytes || j->request.is_stream) wake(j);
    pthread_mutex_unlock(&j->lock);
}

void job_stop(job *j) {
    for (size_t i = 0; i < j->n_choices; i++) um_request_destroy(&j->choices[i].live);
    constraint_entry_release(j->constraint);
    j->constraint = NULL;
}

static void sum_up(job *j) {
    j->done_ns = clock_now_ns();
    j->completion_tokens = j->forwards = j->prefill_forwards = j->cached_tokens = 0;
    for (size_t i = 0; i < j->n_choices; i++) {
        const choice *c = &j->choices[i];
        j->completion_tokens += c->end == CHOICE_OPEN ? c->n_final : c->n_tokens;
        j->forwards += c->forwards;
        if (i % (size_t)j->request.best_of == 0) j->cached_tokens += c->n_cached;
        j->prefill_forwards += c->prefill_forwards;
    }
}

void job_fail(job *j, const um_error *err) {
    strbuf made;
    strbuf_init(&made);
    job_stop(j);
    j->has_failed = true;
    sum_up(j);
    pthread_mutex_lock(&j->lock);
    bool has_begun = j->request.is_stream && j->state == JOB_ACCEPTED;
    if (!has_begun) j->http = api_error_http(err);
    pthread_mutex_unlock(&j->lock);
    reply_error(j, err, has_begun, &made);
    hand_over(j, &made, JOB_DONE);
    strbuf_deinit(&made);
}

/* Without max_tokens: 256, or what there is room for. What is written before a suffix lies in one
 * block with it where the mask has blocks; where that leaves nothing, the engine says so. */
static int32_t default_tokens(const job *j, const api_prompt *prompt) {
    const um_request_options *o = &j->request.options;
    const um_model_info *info = j->model->info;
    int64_t n_prompt = (int64_t)prompt->n_ids, room = info->context - n_prompt;
    bool is_causal = info->attention == UM_ATTENTION_BLOCK_CAUSAL;
    int64_t block_len = o->block_len ? o->block_len : info->block_len;
    if (o->n_suffix && is_causal && block_len) room = block_len - n_prompt % block_len;
    room -= (int64_t)o->n_suffix;
    if (room < 1) room = o->n_suffix && is_causal ? 1 : DEFAULT_MAX_TOKENS;
    return room < DEFAULT_MAX_TOKENS ? (int32_t)room : DEFAULT_MAX_TOKENS;
}

/* For log-probabilities the engine stores the logits of a choice's open block. One request must not
 * take all memory. */
static um_status check_logits(const job *j, const um_request_options *o, um_error *err) {
    const um_model_info *info = j->model->info;
    if (o->top_logprobs < 0) return UM_OK;
    int64_t block_len = o->block_len ? o->block_len : info->block_len;
    if (!block_len || block_len > o->max_tokens + (int64_t)o->n_prompt) block_len = o->max_tokens;
    int64_t n_bytes = block_len * info->vocab * (int64_t)sizeof(float);
    if (n_bytes <= LOGITS_MAX_BYTES / (int64_t)j->n_choices) return UM_OK;
    const char *name = j->request.has_logprobs ? "logprobs" : "best_of";
    return api_refuse(err, name,
                      "%s: the logits of %zu choices in blocks of %lld tokens take %lld MiB; "
                      "expected at most %d. Set a smaller block, or ask for fewer choices",
                      name, j->n_choices, (long long)block_len,
                      (long long)(n_bytes * (int64_t)j->n_choices >> 20), LOGITS_MAX_BYTES >> 20);
}

static um_status start_choice(job *j, um_engine *engine, um_constraint *constraint, size_t i,
                              um_error *err) {
    choice *c = &j->choices[i];
    um_request_options options = j->request.options;
    size_t i_prompt = i / (size_t)j->request.best_of;
    const api_prompt *prompt = &j->request.prompts[i_prompt];
    options.prompt = prompt->ids;
    options.n_prompt = prompt->n_ids;
    options.constraint = constraint;
    /* The same for every prompt, so that one in a list gives what it gives alone. */
    options.request_key = i % (size_t)j->request.best_of;
    if (!j->request.has_max_tokens) options.max_tokens = default_tokens(j, prompt);
    c->index = (int32_t)i;
    c->i_prompt = i_prompt;
    if (i % (size_t)j->request.best_of == 0)
        j->prompt_tokens += (int64_t)(prompt->n_ids + options.n_suffix);
    TRY(check_logits(j, &options, err));
    TRY(um_request_create(engine, &options, &c->live, err));
    return choice_init(c, &j->request, j->model, &options, err);
}

/* The engine's word for a parameter is not always the API's. */
static void name_parameter(const job *j, um_error *err) {
    bool is_constraint = j->request.constraint_field && strcmp(err->where, "constraint") == 0;
    const char *name = is_constraint ? j->request.constraint_field : api_parameter_name(err->where);
    size_t n = strlen(err->where);
    if (name == err->where) return;
    if (strncmp(err->message, err->where, n) == 0) {
        um_error engine = *err;
        snprintf(err->message, sizeof err->message, "%s%s", name, engine.message + n);
    }
    err->where[0] = '\0';
    um_error_at(err, name, -1);
}

/* The constraint that the request asks for, if any. UM_AGAIN while it is being made. */
static um_status find_constraint(job *j, constraint_cache *constraints, um_constraint **constraint,
                                 um_error *err) {
    const api_request *r = &j->request;
    um_status status = UM_OK;
    if (!r->constraint_field) return UM_OK;
    if (!j->constraint)
        status = constraint_cache_acquire(constraints, j->model->tokenizer, r->schema, r->n_schema,
                                          &j->constraint, err);
    if (status == UM_OK) status = constraint_entry_get(j->constraint, constraint, err);
    if (status != UM_OK && status != UM_AGAIN) um_error_at(err, r->constraint_field, -1);
    return status;
}

um_status job_start(job *j, um_engine *engine, constraint_cache *constraints, um_error *err) {
    um_constraint *constraint = NULL;
    strbuf made;
    um_status status = find_constraint(j, constraints, &constraint, err);
    if (status == UM_AGAIN) return UM_OK;
    j->is_started = true;
    for (size_t i = 0; status == UM_OK && i < j->n_choices; i++)
        status = start_choice(j, engine, constraint, i, err);
    constraint_entry_release(j->constraint); /* the engine's requests hold it */
    j->constraint = NULL;
    if (status != UM_OK) {
        job_stop(j);
        name_parameter(j, err);
        return status;
    }
    j->accepted_ns = clock_now_ns();
    strbuf_init(&made);
    if (j->request.is_stream) reply_stream_begin(j, &made);
    hand_over(j, &made, JOB_ACCEPTED);
    strbuf_deinit(&made);
    return UM_OK;
}

/* Takes one choice's events; what they add to a stream goes into `made`. */
static um_status take_choice_events(job *j, choice *c, strbuf *made, bool *has_event,
                                    um_error *err) {
    um_event event;
    while (c->live && um_request_next_event(c->live, &event) == UM_OK) {
        *has_event = true;
        TRY(choice_take_event(c, &event, err));
        if (!j->first_text_ns && (c->n_ready > 0 || c->end != CHOICE_OPEN))
            j->first_text_ns = clock_now_ns();
        bool has_step = event.kind == UM_EVENT_STEP && j->request.has_steps;
        if (j->request.is_stream && (has_step || c->n_ready > c->n_sent))
            TRY(reply_stream_text(j, c, has_step ? &event : NULL, made, err));
        if (c->end == CHOICE_OPEN) continue;
        um_request_destroy(&c->live); /* ended by a stop string, it would go on */
        j->n_ended++;
        if (j->request.is_stream) TRY(reply_stream_end_choice(j, c, made, err));
    }
    return UM_OK;
}

bool job_take_events(job *j) {
    strbuf made;
    um_error err = {.byte_pos = -1};
    um_status status = UM_OK;
    bool has_event = false;
    strbuf_init(&made);
    for (size_t i = 0; status == UM_OK && i < j->n_choices; i++)
        status = take_choice_events(j, &j->choices[i], &made, &has_event, &err);
    bool is_complete = j->n_ended == j->n_choices;
    if (status == UM_OK && is_complete) {
        sum_up(j);
        status =
            j->request.is_stream ? reply_stream_end(j, &made, &err) : reply_whole(j, &made, &err);
    }
    if (status != UM_OK)
        job_fail(j, &err);
    else if (made.n_bytes || made.has_failed || is_complete)
        hand_over(j, &made, is_complete ? JOB_DONE : JOB_ACCEPTED);
    strbuf_deinit(&made);
    return has_event;
}

bool job_wants_more(job *j) {
    pthread_mutex_lock(&j->lock);
    bool wants = !j->is_gone && j->output.n_bytes < UNSENT_MAX_BYTES;
    pthread_mutex_unlock(&j->lock);
    return wants;
}

bool job_is_done(job *j) {
    pthread_mutex_lock(&j->lock);
    bool is_done = j->state == JOB_DONE || j->is_gone;
    pthread_mutex_unlock(&j->lock);
    return is_done;
}

void job_abandon(job *j, int socket) {
    pthread_mutex_lock(&j->lock);
    if (j->socket == socket && socket >= 0) {
        j->is_gone = true;
        wake(j);
    }
    pthread_mutex_unlock(&j->lock);
}

void job_leave(job *j) {
    pthread_mutex_lock(&j->lock);
    j->is_gone = true;
    j->socket = -1;
    j->is_waiting = false;
    pthread_mutex_unlock(&j->lock);
}

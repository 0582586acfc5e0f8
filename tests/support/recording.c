/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies events as they come. Test code: failures end the test.
 */
#include "support/recording.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

um_precision recording_precision = UM_PRECISION_FAST;

um_engine *recording_open_with(const um_engine_options *given) {
    um_engine_options copied = *given, *options = &copied;
    um_engine *engine = NULL;
    um_error err;
    if (options->ahead == UM_AHEAD_AUTO && getenv("UNMASK_TEST_AHEAD"))
        options->ahead = UM_AHEAD_ON;
    if (um_engine_open(options, &engine, &err) != UM_OK)
        fail_msg("%s: %s", options->synthetic ? options->synthetic : options->directory,
                 err.message);
    return engine;
}

um_engine *recording_open_capped(const char *directory, int n_threads, int64_t cache_tokens,
                                 int32_t expert_cap) {
    um_engine_options options;
    um_engine_options_init(&options);
    options.directory = directory;
    options.n_threads = n_threads;
    options.cache_tokens = cache_tokens;
    options.precision = recording_precision;
    options.expert_cap = expert_cap;
    return recording_open_with(&options);
}

um_engine *recording_open(const char *directory, int n_threads, int64_t cache_tokens) {
    return recording_open_capped(directory, n_threads, cache_tokens, 0);
}

static void *copy(const void *items, size_t n_bytes) {
    void *to = malloc(n_bytes ? n_bytes : 1);
    assert_non_null(to);
    if (n_bytes) memcpy(to, items, n_bytes);
    return to;
}

/* The lists that changes point to are the request's. */
static void copy_tops(recorded_step *step) {
    for (int32_t j = 0; j < step->n_changes; j++) {
        um_change *c = &step->changes[j];
        c->top = copy(c->top, (size_t)c->n_top * sizeof *c->top);
    }
}

static void free_step(recorded_step *step) {
    for (int32_t j = 0; j < step->n_changes; j++) {
        void *top;
        memcpy(&top, &step->changes[j].top, sizeof top);
        free(top);
    }
    free(step->inputs);
    free(step->changes);
}

static bool is_same_top(const um_change *c, const um_change *d) {
    bool is_same = c->n_top == d->n_top &&
                   memcmp(&c->log_probability, &d->log_probability, sizeof(float)) == 0;
    for (int32_t i = 0; is_same && i < c->n_top; i++)
        is_same =
            c->top[i].token == d->top[i].token &&
            memcmp(&c->top[i].log_probability, &d->top[i].log_probability, sizeof(float)) == 0;
    return is_same;
}

void recording_add(recording *r, const um_event *event) {
    if (event->kind == UM_EVENT_STEP) {
        r->steps = realloc(r->steps, (size_t)(r->n_steps + 1) * sizeof *r->steps);
        assert_non_null(r->steps);
        r->steps[r->n_steps++] = (recorded_step){
            .forward = event->forward,
            .block = event->block,
            .first_position = event->first_position,
            .n_inputs = event->n_inputs,
            .n_changes = event->n_changes,
            .inputs = copy(event->inputs, (size_t)event->n_inputs * sizeof(int32_t)),
            .changes = copy(event->changes, (size_t)event->n_changes * sizeof(um_change)),
        };
        copy_tops(&r->steps[r->n_steps - 1]);
    }
    r->n_blocks += event->kind == UM_EVENT_BLOCK;
    if (event->kind == UM_EVENT_DONE) {
        r->n_tokens = event->n_tokens;
        r->tokens = copy(event->tokens, (size_t)event->n_tokens * sizeof(int32_t));
        r->finish = event->finish;
        r->forwards = event->forwards;
        r->prefill_forwards = event->prefill_forwards;
        r->n_cached = event->n_cached;
        r->preemptions = event->preemptions;
    }
    if (event->kind == UM_EVENT_ERROR) {
        r->status = event->error.status;
        r->error = event->error;
    }
}

void recording_run(um_engine *engine, const um_request_options *options, int n, recording *out) {
    um_request *requests[64] = {NULL};
    um_error err;
    assert_in_range(n, 1, 64);
    for (int i = 0; i < n; i++) {
        memset(&out[i], 0, sizeof out[i]);
        if (um_request_create(engine, &options[i], &requests[i], &err) != UM_OK)
            fail_msg("request %d: %s", i, err.message);
    }
    for (;;) {
        um_status status = um_engine_step(engine, &err);
        if (status != UM_OK && status != UM_AGAIN) fail_msg("step: %s", err.message);
        bool has_events = false;
        for (int i = 0; i < n; i++) {
            um_event event;
            while (um_request_next_event(requests[i], &event) == UM_OK) {
                recording_add(&out[i], &event);
                has_events = true;
            }
        }
        if (status == UM_AGAIN && !has_events) break;
    }
    for (int i = 0; i < n; i++) um_request_destroy(&requests[i]);
}

static void insert_step(recording *r, int32_t at, recorded_step step) {
    r->steps = realloc(r->steps, (size_t)(r->n_steps + 1) * sizeof *r->steps);
    assert_non_null(r->steps);
    memmove(r->steps + at + 1, r->steps + at, (size_t)(r->n_steps - at) * sizeof *r->steps);
    r->steps[at] = step;
    r->n_steps++;
}

int recording_unfold(recording *r, int32_t block_len) {
    int n = 0;
    for (int32_t i = 0; i < r->n_steps; i++) {
        recorded_step *step = &r->steps[i];
        if (step->n_inputs <= block_len) continue;
        assert_int_equal(step->n_inputs, 2 * block_len);
        recorded_step settled = *step;
        settled.n_inputs = block_len;
        settled.n_changes = 0;
        settled.inputs = copy(step->inputs, (size_t)block_len * sizeof(int32_t));
        settled.changes = copy(NULL, 0);
        step->block++;
        step->first_position += block_len;
        step->n_inputs = block_len;
        memmove(step->inputs, step->inputs + block_len, (size_t)block_len * sizeof(int32_t));
        insert_step(r, i++, settled);
        n++;
    }
    r->forwards += n;
    return n;
}

void recording_free(recording *r) {
    for (int32_t i = 0; i < r->n_steps; i++) free_step(&r->steps[i]);
    free(r->steps);
    free(r->tokens);
    memset(r, 0, sizeof *r);
}

void recording_assert_equal(const recording *a, const recording *b, const char *what) {
    if (a->status != UM_OK || b->status != UM_OK)
        fail_msg("%s: %s%s", what, a->status ? a->error.message : "",
                 b->status ? b->error.message : "");
    if (a->n_steps != b->n_steps || a->forwards != b->forwards)
        fail_msg("%s: %d forwards and %d", what, a->n_steps, b->n_steps);
    for (int32_t i = 0; i < a->n_steps; i++) {
        const recorded_step *s = &a->steps[i], *t = &b->steps[i];
        if (s->block != t->block || s->first_position != t->first_position ||
            s->n_inputs != t->n_inputs || s->n_changes != t->n_changes ||
            memcmp(s->inputs, t->inputs, (size_t)s->n_inputs * sizeof(int32_t)) != 0)
            fail_msg("%s: forward %d has other inputs or another number of changes", what, i);
        for (int32_t j = 0; j < s->n_changes; j++) {
            const um_change *c = &s->changes[j], *d = &t->changes[j];
            if (c->position != d->position || c->token != d->token || c->is_edit != d->is_edit ||
                memcmp(&c->probability, &d->probability, sizeof c->probability) != 0)
                fail_msg("%s: forward %d, change %d: (%d, %d, %.9g) and (%d, %d, %.9g)", what, i, j,
                         c->position, c->token, (double)c->probability, d->position, d->token,
                         (double)d->probability);
            if (!is_same_top(c, d))
                fail_msg("%s: forward %d, change %d: other log-probabilities", what, i, j);
        }
    }
    if (a->n_tokens != b->n_tokens || a->finish != b->finish ||
        memcmp(a->tokens, b->tokens, (size_t)a->n_tokens * sizeof(int32_t)) != 0)
        fail_msg("%s: the answers differ", what);
}

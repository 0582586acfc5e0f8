/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole steps of decoding, from plan to event, with steps queued ahead and without: what the host
 * costs a device between two forwards. Random weights in a published shape; the policy `schedule`
 * commits one token a step, so that every block takes as many steps as it has positions.
 *
 *     bench_steps [SHAPE [TYPE [LAYERS [REQUESTS [PROMPT [BLOCKS]]]]]]
 *
 * LAYERS 0: all. The device is UNMASK_DEVICE's. Prints the median time between two step events of
 * one block, and the device's own gap between two steps; each way twice.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine.h"

enum { REQUESTS_MAX = 64, TIMES_MAX = 4096 };

typedef struct setting {
    const char *shape, *type;
    int32_t n_layers, n_requests, n_prompt, n_blocks;
} setting;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int stop(const char *what, const um_error *err) {
    fprintf(stderr, "bench_steps: %s: %s\n", what, err->message);
    return 1;
}

/* Drives all requests to their end; times of steps that follow another one of the same block. */
static int drive(um_engine *engine, um_request **requests, int32_t n, double *ms, int32_t *n_ms) {
    um_error err;
    int64_t last = 0;
    int32_t last_block = -1;
    for (;;) {
        um_status status = um_engine_step(engine, &err);
        int64_t now = clock_now_ns();
        bool has_events = false;
        for (int32_t i = 0; i < n; i++) {
            um_event event;
            while (um_request_next_event(requests[i], &event) == UM_OK) {
                has_events = true;
                if (event.kind == UM_EVENT_ERROR) return stop("step", &event.error);
                if (i || event.kind != UM_EVENT_STEP) continue;
                if (event.block == last_block && *n_ms < TIMES_MAX)
                    ms[(*n_ms)++] = (double)(now - last) / 1e6;
                last_block = event.block;
                last = now;
            }
        }
        if (status == UM_AGAIN && !has_events) return 0;
        if (status != UM_OK && status != UM_AGAIN) return stop("step", &err);
    }
}

/* The prompts differ, so that experts do. */
static int start(um_engine *engine, const setting *s, um_request **requests) {
    int32_t *prompt = calloc((size_t)s->n_prompt, sizeof *prompt);
    um_error err;
    int failed = !prompt;
    for (int32_t i = 0; i < s->n_requests && !failed; i++) {
        um_request_options o;
        um_request_options_init(&o);
        for (int32_t p = 0; p < s->n_prompt; p++) {
            rng_key key = {.seed = (uint64_t)i, .position = (uint32_t)p};
            prompt[p] = 1 + (int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, 0) * 30000);
        }
        o.prompt = prompt;
        o.n_prompt = (size_t)s->n_prompt;
        o.block_len = 32;
        o.max_tokens = 32 * s->n_blocks;
        o.policy = "schedule";
        o.steps = 32;
        o.ignore_eos = true;
        if (um_request_create(engine, &o, &requests[i], &err) != UM_OK)
            failed = stop("request", &err);
    }
    free(prompt);
    return failed;
}

static int run(um_engine *engine, const setting *s, bool is_ahead) {
    static double ms[TIMES_MAX];
    int32_t n_ms = 0;
    um_request *requests[REQUESTS_MAX] = {NULL};
    um_stats before, after;
    engine->ahead.is_on = is_ahead;
    um_engine_stats(engine, &before);
    int failed = start(engine, s, requests);
    if (!failed) failed = drive(engine, requests, s->n_requests, ms, &n_ms);
    um_engine_stats(engine, &after);
    if (!failed && n_ms) {
        double n_ahead = (double)(after.forwards_ahead - before.forwards_ahead);
        qsort(ms, (size_t)n_ms, sizeof *ms, by_value);
        printf("%s %s, %d layers, %d requests, %s: %d steps, median %.3f ms, least %.3f, 90%% %.3f",
               s->shape, s->type, um_engine_info(engine)->n_layers, s->n_requests,
               is_ahead ? "ahead" : "one by one", n_ms, ms[n_ms / 2], ms[0], ms[n_ms * 9 / 10]);
        if (n_ahead > 0)
            printf("; %.0f of %lld forwards ahead, gap %.1f us", n_ahead,
                   (long long)(after.forwards - before.forwards),
                   (double)(after.gaps_ns - before.gaps_ns) / 1e3 / n_ahead);
        printf("\n");
        fflush(stdout);
    }
    for (int32_t i = 0; i < s->n_requests; i++) um_request_destroy(&requests[i]);
    return failed;
}

static int open_engine(const setting *s, um_engine **engine) {
    um_engine_options options;
    um_error err;
    um_engine_options_init(&options);
    options.synthetic = s->shape;
    options.synthetic_type = s->type;
    options.synthetic_layers = s->n_layers;
    options.cache_tokens = (int64_t)s->n_requests * (s->n_prompt + 32 * (s->n_blocks + 2)) + 1024;
    return um_engine_open(&options, engine, &err) == UM_OK ? 0 : stop("open", &err);
}

int main(int argc, char **argv) {
    setting s = {.shape = argc > 1 ? argv[1] : "llada2-mini",
                 .type = argc > 2 ? argv[2] : "bf16",
                 .n_layers = argc > 3 ? atoi(argv[3]) : 2,
                 .n_requests = argc > 4 ? atoi(argv[4]) : 1,
                 .n_prompt = argc > 5 ? atoi(argv[5]) : 512,
                 .n_blocks = argc > 6 ? atoi(argv[6]) : 4};
    if (s.n_requests < 1 || s.n_requests > REQUESTS_MAX || s.n_prompt < 1 || s.n_blocks < 1) {
        fprintf(stderr, "bench_steps: expected 1 to 64 requests, a prompt and blocks\n");
        return 1;
    }
    um_engine *engine = NULL;
    int failed = open_engine(&s, &engine);
    for (int i = 0; i < 4 && !failed; i++) failed = run(engine, &s, i % 2);
    um_engine_close(&engine);
    return failed;
}

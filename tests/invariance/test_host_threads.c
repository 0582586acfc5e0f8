/* SPDX-License-Identifier: Apache-2.0
 *
 * A host program with threads of its own: some create requests, take their events and cancel a part
 * of them, while others drive the engine and ask for logits. Every answer is the one that the same
 * request gives alone, every page comes back, and the thread sanitizer has nothing to say.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/recording.h"

enum { N_CLIENTS = 4, N_REQUESTS = 6, N_DRIVERS = 2, N_PROMPT = 40, MAX_TOKENS = 24 };

typedef struct shared {
    um_engine *engine;
    atomic_int n_clients_left;
    recording expected[N_CLIENTS];
    int32_t prompts[N_CLIENTS][N_PROMPT];
} shared;

typedef struct client {
    shared *all;
    int i_client;
    int n_done, n_cancelled, n_wrong;
} client;

static void make_options(const shared *all, int i_client, um_request_options *o) {
    um_request_options_init(o);
    o->prompt = all->prompts[i_client];
    o->n_prompt = N_PROMPT;
    o->max_tokens = MAX_TOKENS;
    o->block_len = 16;
    o->ignore_eos = true;
}

static void *drive(void *argument) {
    shared *all = argument;
    while (atomic_load(&all->n_clients_left) > 0)
        if (um_engine_step(all->engine, NULL) == UM_AGAIN) sched_yield();
    return NULL;
}

/* One request after another; every third is cancelled on the way. */
static void *serve(void *argument) {
    client *self = argument;
    shared *all = self->all;
    const recording *expected = &all->expected[self->i_client];
    for (int i = 0; i < N_REQUESTS; i++) {
        um_request_options o;
        um_request *request;
        um_event event;
        make_options(all, self->i_client, &o);
        if (um_request_create(all->engine, &o, &request, NULL) != UM_OK) {
            self->n_wrong++;
            continue;
        }
        int n_events = 0;
        for (bool is_over = false; !is_over;) {
            if (um_request_next_event(request, &event) != UM_OK) {
                sched_yield();
                continue;
            }
            if (++n_events == 3 && i % 3 == 2) um_request_cancel(request);
            if (event.kind == UM_EVENT_DONE) {
                is_over = true;
                self->n_done++;
                if (event.n_tokens != expected->n_tokens ||
                    memcmp(event.tokens, expected->tokens,
                           (size_t)event.n_tokens * sizeof *event.tokens) != 0)
                    self->n_wrong++;
            }
            if (event.kind == UM_EVENT_ERROR) {
                is_over = true;
                self->n_cancelled++;
                if (event.error.status != UM_CANCELLED) self->n_wrong++;
            }
        }
        um_request_destroy(&request);
    }
    atomic_fetch_sub(&all->n_clients_left, 1);
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    static shared all;
    client clients[N_CLIENTS] = {{0}};
    pthread_t servers[N_CLIENTS], drivers[N_DRIVERS];
    um_error err;
    um_engine_options engine_options;
    um_engine_options_init(&engine_options);
    engine_options.directory = TEST_DATA_DIR "/models/llada2_moe";
    engine_options.n_threads = 2;
    engine_options.cache_tokens = 4096;
    engine_options.prefix_cache = true;
    all.engine = recording_open_with(&engine_options);
    for (int i = 0; i < N_CLIENTS; i++) {
        um_request_options o;
        for (int j = 0; j < N_PROMPT; j++) all.prompts[i][j] = (i * 101 + j * 17) % 480 + 3;
        make_options(&all, i, &o);
        recording_run(all.engine, &o, 1, &all.expected[i]);
        assert_int_equal(all.expected[i].status, UM_OK);
    }
    atomic_store(&all.n_clients_left, N_CLIENTS);
    for (int i = 0; i < N_CLIENTS; i++) {
        clients[i] = (client){.all = &all, .i_client = i};
        assert_int_equal(pthread_create(&servers[i], NULL, serve, &clients[i]), 0);
    }
    for (int i = 0; i < N_DRIVERS; i++)
        assert_int_equal(pthread_create(&drivers[i], NULL, drive, &all), 0);
    /* Meanwhile, logits. */
    size_t n_logits = N_PROMPT * (size_t)um_engine_info(all.engine)->vocab;
    float *first = malloc(n_logits * sizeof *first), *again = malloc(n_logits * sizeof *again);
    assert_non_null(first);
    assert_non_null(again);
    for (int i = 0; i < 5; i++) {
        if (um_engine_logits(all.engine, all.prompts[0], N_PROMPT, 16, i ? again : first, &err))
            fail_msg("%s", err.message);
        um_stats stats;
        um_engine_stats(all.engine, &stats);
        assert_true(stats.requests_running <= N_CLIENTS);
        if (i) assert_memory_equal(first, again, n_logits * sizeof *first);
    }
    for (int i = 0; i < N_CLIENTS; i++) pthread_join(servers[i], NULL);
    for (int i = 0; i < N_DRIVERS; i++) pthread_join(drivers[i], NULL);
    for (int i = 0; i < N_CLIENTS; i++) {
        assert_int_equal(clients[i].n_wrong, 0);
        assert_int_equal(clients[i].n_done + clients[i].n_cancelled, N_REQUESTS);
        assert_true(clients[i].n_cancelled <= N_REQUESTS / 3);
        recording_free(&all.expected[i]);
    }
    int64_t n_pages, n_free;
    um_engine_pages(all.engine, &n_pages, &n_free);
    assert_int_equal(n_pages, n_free);
    free(again);
    free(first);
    um_engine_close(&all.engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

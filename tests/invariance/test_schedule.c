/* SPDX-License-Identifier: Apache-2.0
 *
 * Many requests on few pages: put back and resumed, joined, left and cancelled at random, with
 * priorities, bounds, a bounded step and shared beginnings. Each answer is the one that the request
 * gets alone, bit for bit, and every page comes back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "support/recording.h"

enum { PROMPT_MAX = 400, PAGE = 32, N_MIX = 12 };

static um_engine *open_engine(const char *name, int64_t n_pages, bool has_prefix_cache,
                              const um_engine_options *more) {
    char directory[512];
    um_engine_options o;
    um_engine_options_init(&o);
    if (more) o = *more;
    snprintf(directory, sizeof directory, "%s/models/%s", TEST_DATA_DIR, name);
    o.directory = directory;
    o.n_threads = 2;
    o.cache_tokens = n_pages * PAGE;
    o.prefix_cache = has_prefix_cache;
    return recording_open_with(&o);
}

/* A draw in [0, n) that depends on its arguments alone. */
static int32_t draw(uint64_t seed, uint32_t i, uint32_t what, int32_t n) {
    rng_key key = {.seed = seed, .position = i};
    return (int32_t)(rng_uniform(&key, RNG_PURPOSE_TEST, what) * n);
}

static void fill_prompt(const um_engine *engine, uint64_t seed, int32_t *prompt, int32_t n) {
    int32_t vocab = um_engine_info(engine)->vocab;
    for (int32_t i = 0; i < n; i++) prompt[i] = 5 + draw(seed, (uint32_t)i, 1, vocab - 20);
}

static void expect_all_pages(um_engine *engine) {
    int64_t n_pages, n_free;
    um_engine_pages(engine, &n_pages, &n_free);
    assert_int_equal(n_pages, n_free);
    um_stats stats;
    um_engine_stats(engine, &stats);
    assert_int_equal(stats.pages_used, 0);
    assert_int_equal(stats.pages_free + stats.pages_cached, n_pages);
    assert_int_equal(stats.requests_running + stats.requests_waiting, 0);
}

/* ---- Put back and resumed ---------------------------------------------------------------------
 */

typedef struct way {
    const char *model, *policy;
    int32_t block_len, sub_block, window;
    double threshold, edit_threshold, temperature, cfg_scale;
    um_cache_mode cache;
    bool sees_blocks, is_penalised, never_put_back;
} way;

static const way ways[] = {
    {"llada2_moe", "threshold", .block_len = 16, .threshold = 0.6},
    {"llada2_moe", "edit", .block_len = 32, .threshold = 0.5, .edit_threshold = 0.3},
    {"llada2_moe", "threshold", .block_len = 24, .threshold = 0.5, .temperature = 0.8,
     .is_penalised = true},
    {"llada2_moe", "multi-block", .block_len = 16, .threshold = 0.5, .window = 3},
    {"llada2_moe", "schedule", .block_len = 16, .cfg_scale = 0.7},
    {"llada2_moe", "threshold", .block_len = 16, .threshold = 0.6, .cache = UM_CACHE_NONE},
    {"llada2_2", "levenshtein", .block_len = 32, .threshold = 0.5},
    {"sdar", "dynamic", .block_len = 4, .threshold = 0.5, .temperature = 1},
    {"fast_dllm_v2", "threshold", .block_len = 32, .sub_block = 8, .threshold = 0.6},
    {"fast_dllm_v2", "threshold", .block_len = 32, .sub_block = 8, .threshold = 0.6,
     .cache = UM_CACHE_DUAL},
    {"fast_dllm_v2", "edit", .block_len = 16, .threshold = 0.5, .edit_threshold = 0.3},
    {"llada", "multi-block", .block_len = 16, .threshold = 0.6, .window = 3, .sees_blocks = true},
    /* The whole canvas is held from the start: nobody has to give way. */
    {"llada", "threshold", .block_len = 16, .threshold = 0.6, .never_put_back = true},
    {"dream", "threshold", .block_len = 16, .threshold = 0.6, .cache = UM_CACHE_DUAL,
     .never_put_back = true},
};
enum { N_WAYS = sizeof ways / sizeof *ways, N_TOGETHER = 6 };

static void make(const um_engine *engine, const way *w, int i, int32_t prompt[PROMPT_MAX],
                 um_request_options *o) {
    um_request_options_init(o);
    o->n_prompt = (size_t)(20 + 17 * i);
    /* Every second one begins as the one before it does. */
    fill_prompt(engine, 100 + (uint64_t)i / 2, prompt, (int32_t)o->n_prompt);
    o->prompt = prompt;
    o->max_tokens = 120 - 8 * i;
    o->policy = w->policy;
    o->block_len = w->block_len;
    o->sub_block = w->sub_block;
    o->window = w->window;
    if (w->threshold > 0) o->threshold = w->threshold;
    if (w->edit_threshold > 0) o->edit_threshold = w->edit_threshold;
    o->temperature = w->temperature;
    o->cfg_scale = w->cfg_scale;
    o->cache = w->cache;
    if (w->sees_blocks) o->attention = UM_ATTENTION_OF_BLOCKS;
    if (w->is_penalised) {
        o->frequency_penalty = 0.4;
        o->repetition_penalty = 1.2;
        o->top_logprobs = 2;
    }
    o->seed = (uint64_t)i;
    o->ignore_eos = true;
}

static void check_way(const way *w, bool has_prefix_cache) {
    static int32_t prompts[N_TOGETHER][PROMPT_MAX];
    int64_t n_pages = w->cfg_scale > 0 ? 22 : 11;
    um_engine *tight = open_engine(w->model, n_pages, has_prefix_cache, NULL);
    um_engine *wide = open_engine(w->model, 60, false, NULL);
    um_request_options options[N_TOGETHER];
    recording together[N_TOGETHER], alone;
    um_stats stats;
    int32_t n_put_back = 0;
    for (int i = 0; i < N_TOGETHER; i++) make(tight, w, i, prompts[i], &options[i]);
    recording_run(tight, options, N_TOGETHER, together);
    for (int i = 0; i < N_TOGETHER; i++) {
        char what[128];
        snprintf(what, sizeof what, "%s, %s, cache %d, request %d", w->model, w->policy,
                 (int)has_prefix_cache, i);
        recording_run(wide, &options[i], 1, &alone);
        recording_assert_equal(&alone, &together[i], what);
        n_put_back += together[i].preemptions;
        recording_free(&alone);
        recording_free(&together[i]);
    }
    um_engine_stats(tight, &stats);
    assert_int_equal(stats.preemptions, n_put_back);
    if (w->never_put_back ? n_put_back : !n_put_back)
        fail_msg("%s, %s, block %d: put back %d times", w->model, w->policy, w->block_len,
                 n_put_back);
    expect_all_pages(tight);
    um_engine_close(&tight);
    um_engine_close(&wide);
}

static void test_put_back(void **state) {
    (void)state;
    for (int i = 0; i < N_WAYS; i++)
        for (int has_prefix_cache = 0; has_prefix_cache < 2; has_prefix_cache++)
            if (!TEST_IS_SAMPLED || (i + has_prefix_cache) % 4 == 0)
                check_way(&ways[i], has_prefix_cache);
}

/* ---- Shared beginnings ------------------------------------------------------------------------
 */

/* A conversation of three turns: each prefills only what is new, and says the same as without. */
static void check_turns(const char *model, int32_t block_len, um_kv_type type) {
    um_engine_options more;
    um_engine_options_init(&more);
    more.kv_type = type;
    um_engine *cached = open_engine(model, 40, true, &more);
    um_engine *plain = open_engine(model, 40, false, &more);
    int32_t prompt[PROMPT_MAX], n = 90, n_known = 0;
    int32_t unit = block_len > PAGE ? block_len : PAGE; /* powers of two */
    fill_prompt(cached, 3, prompt, n);
    for (int turn = 0; turn < 3; turn++) {
        um_request_options o;
        recording a, b;
        um_stats before, after;
        um_request_options_init(&o);
        o.prompt = prompt;
        o.n_prompt = (size_t)n;
        o.max_tokens = 50;
        o.block_len = block_len;
        o.ignore_eos = true;
        um_engine_stats(cached, &before);
        recording_run(cached, &o, 1, &a);
        um_engine_stats(cached, &after);
        recording_run(plain, &o, 1, &b);
        recording_assert_equal(&a, &b, "with and without a prefix cache");
        assert_int_equal(b.n_cached, 0);
        assert_int_equal(a.n_cached, n_known);
        assert_int_equal(after.tokens_cached - before.tokens_cached, n_known);
        int32_t n_prefill = n / block_len * block_len;
        if (um_engine_info(cached)->sub_block && n_prefill == n) n_prefill -= block_len;
        assert_int_equal(after.rows_prefill - before.rows_prefill, n_prefill - n_known);
        assert_int_equal(after.tokens_queried - before.tokens_queried, n_prefill);
        /* Of the last block nothing is known to be final. */
        int32_t n_final = (n + a.n_tokens - 1) / block_len * block_len;
        n_known = n_final / unit * unit;
        memcpy(prompt + n, a.tokens, (size_t)a.n_tokens * sizeof *prompt);
        n += a.n_tokens;
        fill_prompt(cached, 40 + (uint64_t)turn, prompt + n, 37);
        n += 37;
        recording_free(&a);
        recording_free(&b);
        expect_all_pages(cached);
    }
    um_engine_close(&cached);
    um_engine_close(&plain);
}

static void test_turns(void **state) {
    (void)state;
    check_turns("llada2_moe", 32, UM_KV_AUTO);
    check_turns("llada2_moe", 64, UM_KV_F32);
    check_turns("llada2_moe", 8, UM_KV_INT8);
    check_turns("sdar", 4, UM_KV_AUTO);
    check_turns("fast_dllm_v2", 32, UM_KV_AUTO);
}

/* What shapes keys and values besides the tokens keeps requests apart, and so does what is not
 * exact. */
static void test_not_shared(void **state) {
    (void)state;
    int32_t prompt[PROMPT_MAX];
    recording r;
    um_request_options o;
    um_request_options_init(&o);
    o.prompt = prompt;
    o.n_prompt = 200;
    o.max_tokens = 16;
    um_engine *engine = open_engine("llada2_moe", 40, true, NULL);
    fill_prompt(engine, 3, prompt, 200);
    static const struct {
        int32_t block_len;
        um_cache_mode cache;
        int32_t n_cached;
    } runs[] = {
        {32, UM_CACHE_EXACT, 0}, {16, UM_CACHE_EXACT, 0},   {32, UM_CACHE_NONE, 0},
        {64, UM_CACHE_EXACT, 0}, {32, UM_CACHE_EXACT, 192}, {16, UM_CACHE_EXACT, 192},
    };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        o.block_len = runs[i].block_len;
        o.cache = runs[i].cache;
        recording_run(engine, &o, 1, &r);
        assert_int_equal(r.n_cached, runs[i].n_cached);
        recording_free(&r);
    }
    um_engine_close(&engine);
    engine = open_engine("llada", 40, true, NULL);
    o.cache = UM_CACHE_DEFAULT;
    for (int i = 0; i < 2; i++) {
        o.attention = i ? UM_ATTENTION_OF_BLOCKS : UM_ATTENTION_OF_MODEL;
        for (int j = 0; j < 2; j++) {
            recording_run(engine, &o, 1, &r);
            assert_int_equal(r.n_cached, 0);
            recording_free(&r);
        }
    }
    um_engine_close(&engine);
}

/* ---- Joins, leaves and cancels at random ------------------------------------------------------
 */

typedef struct live {
    um_request *request;
    int i_mix;
    int32_t leaves_after; /* steps; then it is cancelled, or destroyed at once */
    bool is_slow;         /* takes its events in every third step */
} live;

static void make_mix(const um_engine *engine, int i, int32_t prompt[PROMPT_MAX],
                     um_request_options *o) {
    static const way kinds[] = {
        {"", "threshold", .block_len = 16, .threshold = 0.6},
        {"", "edit", .block_len = 32, .threshold = 0.5, .edit_threshold = 0.3},
        {"", "threshold", .block_len = 32, .threshold = 0.5, .temperature = 0.9,
         .is_penalised = true},
        {"", "multi-block", .block_len = 16, .threshold = 0.5, .window = 3},
    };
    make(engine, &kinds[i % 4], i % N_TOGETHER, prompt, o);
    o->n_prompt = (size_t)(1 + draw(9, (uint32_t)i, 2, 180));
    fill_prompt(engine, (uint64_t)(i % 3), prompt, (int32_t)o->n_prompt);
    o->max_tokens = 1 + draw(9, (uint32_t)i, 3, 90);
    o->seed = (uint64_t)i;
    o->priority = draw(9, (uint32_t)i, 4, 3) - 1;
}

/* Takes the events of a request; true when it has ended. */
static bool take_events(live *l, const recording *alone) {
    um_event event;
    while (um_request_next_event(l->request, &event) == UM_OK) {
        if (event.kind == UM_EVENT_DONE) {
            assert_int_equal(event.n_tokens, alone->n_tokens);
            assert_int_equal(event.forwards, alone->forwards);
            assert_memory_equal(event.tokens, alone->tokens,
                                (size_t)alone->n_tokens * sizeof(int32_t));
            return true;
        }
        if (event.kind == UM_EVENT_ERROR) {
            assert_int_equal(event.error.status, UM_CANCELLED);
            return true;
        }
    }
    return false;
}

static void stress(bool has_prefix_cache, uint64_t seed, int n_requests) {
    enum { N_LIVE = 16 };
    static int32_t prompts[N_MIX][PROMPT_MAX];
    um_engine_options more;
    um_engine_options_init(&more);
    more.max_step_ms = 2;
    more.max_requests = 10;
    um_engine *engine = open_engine("llada2_moe", 14, has_prefix_cache, &more);
    um_engine *wide = open_engine("llada2_moe", 60, false, NULL);
    um_request_options options[N_MIX];
    recording alone[N_MIX];
    live lives[N_LIVE] = {{0}};
    um_stats stats;
    um_error err;
    int n_created = 0, n_done = 0;
    for (int i = 0; i < N_MIX; i++) {
        make_mix(engine, i, prompts[i], &options[i]);
        recording_run(wide, &options[i], 1, &alone[i]);
        assert_int_equal(alone[i].status, UM_OK);
    }
    for (uint32_t step = 0; n_done < n_requests; step++) {
        for (uint32_t i = 0; i < N_LIVE; i++) {
            live *l = &lives[i];
            uint32_t at = step * N_LIVE + i;
            if (!l->request && n_created < n_requests && draw(seed, at, 0, 4) == 0) {
                l->i_mix = draw(seed, at, 1, N_MIX);
                l->leaves_after = draw(seed, at, 2, 3) ? INT32_MAX : draw(seed, at, 3, 20);
                l->is_slow = draw(seed, at, 4, 4) == 0;
                if (um_request_create(engine, &options[l->i_mix], &l->request, &err) != UM_OK)
                    fail_msg("%s", err.message);
                n_created++;
            }
            if (!l->request) continue;
            if (l->leaves_after-- == 0) {
                if (draw(seed, at, 5, 2))
                    um_request_cancel(l->request);
                else {
                    um_request_destroy(&l->request);
                    n_done++;
                    continue;
                }
            }
            if (l->is_slow && step % 3 != i % 3) continue;
            if (!take_events(l, &alone[l->i_mix])) continue;
            um_request_destroy(&l->request);
            n_done++;
        }
        um_engine_step(engine, &err);
        um_engine_stats(engine, &stats);
        assert_int_equal(stats.pages_free + stats.pages_cached + stats.pages_used, 14);
        assert_true(stats.requests_running <= 10);
        if (step > 200000) fail_msg("%d of %d requests have ended", n_done, n_requests);
    }
    expect_all_pages(engine);
    um_engine_stats(engine, &stats);
    assert_true(TEST_IS_SAMPLED || stats.preemptions > 0);
    assert_true(stats.requests_done > 0 && stats.requests_failed > 0);
    assert_true(has_prefix_cache == (stats.tokens_cached > 0));
    printf("%lld done, %lld cancelled, %lld put back, %lld of %lld tokens cached\n",
           (long long)stats.requests_done, (long long)stats.requests_failed,
           (long long)stats.preemptions, (long long)stats.tokens_cached,
           (long long)stats.tokens_queried);
    for (int i = 0; i < N_MIX; i++) recording_free(&alone[i]);
    um_engine_close(&engine);
    um_engine_close(&wide);
}

static void test_stress(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 2; seed++)
        for (int has_prefix_cache = 0; has_prefix_cache < 2; has_prefix_cache++)
            stress(has_prefix_cache, seed, TEST_IS_SAMPLED ? 30 : 150);
}

/* ---- Rank, bounds, cancels --------------------------------------------------------------------
 */

static um_request *create(um_engine *engine, const int32_t *prompt, int32_t n_prompt,
                          int32_t max_tokens, int32_t priority) {
    um_request_options o;
    um_request *request = NULL;
    um_error err;
    um_request_options_init(&o);
    o.prompt = prompt;
    o.n_prompt = (size_t)n_prompt;
    o.max_tokens = max_tokens;
    o.block_len = 32;
    o.ignore_eos = true;
    o.priority = priority;
    if (um_request_create(engine, &o, &request, &err) != UM_OK) fail_msg("%s", err.message);
    return request;
}

/* Takes all events; the number of prompt tokens that have gone through so far, -1: none was told.
 */
static int32_t drain(um_request *request, int *n_done) {
    um_event event;
    int32_t prefilled = -1;
    while (um_request_next_event(request, &event) == UM_OK) {
        if (event.kind == UM_EVENT_PREFILL) prefilled = event.prefill_done;
        if (n_done) *n_done += event.kind == UM_EVENT_DONE;
    }
    return prefilled;
}

/* A higher priority puts a lower one back at once; at the same one the younger waits. */
static void test_priority(void **state) {
    (void)state;
    um_engine *engine = open_engine("llada2_moe", 8, false, NULL);
    int32_t prompt[PROMPT_MAX];
    um_error err;
    um_stats stats;
    fill_prompt(engine, 1, prompt, PROMPT_MAX);
    um_request *low = create(engine, prompt, 160, 64, -1), *same, *high;
    um_engine_step(engine, &err);
    drain(low, NULL);
    same = create(engine, prompt, 100, 32, -1);
    um_engine_step(engine, &err);
    um_engine_stats(engine, &stats);
    assert_int_equal(stats.requests_running, 1);
    assert_int_equal(stats.requests_waiting, 1);
    drain(low, NULL);
    high = create(engine, prompt, 128, 64, 3);
    um_engine_step(engine, &err);
    um_engine_stats(engine, &stats);
    assert_int_equal(stats.preemptions, 1);
    assert_int_equal(stats.requests_running, 1);
    assert_int_equal(stats.requests_waiting, 2);
    int n_low = 0, n_same = 0, n_high = 0;
    while (!n_low || !n_same || !n_high) {
        drain(high, &n_high);
        drain(low, &n_low);
        drain(same, &n_same);
        assert_true(n_high >= n_low); /* first to last */
        assert_int_equal(um_engine_step(engine, &err) == UM_INTERNAL, 0);
    }
    um_request_destroy(&low);
    um_request_destroy(&same);
    um_request_destroy(&high);
    expect_all_pages(engine);
    um_engine_close(&engine);
}

static void test_bounds(void **state) {
    (void)state;
    um_engine_options more;
    um_engine_options_init(&more);
    more.max_requests = 2;
    more.max_queue = 3;
    um_engine *engine = open_engine("llada2_moe", 60, false, &more);
    int32_t prompt[40];
    um_request *requests[6] = {NULL};
    um_request_options o;
    um_error err;
    um_stats stats;
    fill_prompt(engine, 1, prompt, 40);
    um_request_options_init(&o);
    o.prompt = prompt;
    o.n_prompt = 40;
    for (int i = 0; i < 3; i++) requests[i] = create(engine, prompt, 40, 64, 0);
    assert_int_equal(um_request_create(engine, &o, &requests[3], &err), UM_AGAIN);
    assert_non_null(strstr(err.message, "max_queue"));
    um_engine_step(engine, &err); /* two are admitted: there is room for two more */
    um_engine_stats(engine, &stats);
    assert_int_equal(stats.requests_running, 2);
    assert_int_equal(stats.requests_waiting, 1);
    for (int i = 3; i < 5; i++) requests[i] = create(engine, prompt, 40, 64, 0);
    assert_int_equal(um_request_create(engine, &o, &requests[5], &err), UM_AGAIN);
    um_request_destroy(&requests[4]);
    requests[4] = create(engine, prompt, 40, 64, 0);
    /* A cancelled one gives its pages back in the next step, taken its events or not. */
    um_request_cancel(requests[0]);
    um_engine_stats(engine, &stats);
    int64_t n_used = stats.pages_used;
    um_engine_step(engine, &err);
    drain(requests[2], NULL);
    um_engine_stats(engine, &stats);
    assert_int_equal(stats.requests_running, 2); /* the third has its place */
    assert_int_equal(stats.pages_used, n_used);
    for (int i = 1; i < 5; i++) um_request_cancel(requests[i]);
    um_engine_step(engine, &err);
    um_engine_stats(engine, &stats);
    assert_int_equal(stats.pages_used, 0);
    for (int i = 0; i < 5; i++) um_request_destroy(&requests[i]);
    expect_all_pages(engine);
    um_engine_close(&engine);
    more.max_step_ms = -1;
    more.directory = TEST_DATA_DIR "/models/llada2_moe";
    assert_int_equal(um_engine_open(&more, &engine, &err), UM_INVALID);
    assert_string_equal(err.where, "max_step_ms");
}

/* A bound that no step can hold lets a block of a prompt through at a time while another request
 * denoises, and a bound that every step holds lets all through. */
static void test_step_bound(void **state) {
    (void)state;
    for (int is_loose = 0; is_loose < 2; is_loose++) {
        um_engine_options more;
        um_engine_options_init(&more);
        more.max_step_ms = is_loose ? 60000 : 1e-4;
        um_engine *engine = open_engine("llada2_moe", 60, false, &more);
        int32_t prompt[PROMPT_MAX], was = 0, n_parts = 0;
        um_error err;
        fill_prompt(engine, 1, prompt, PROMPT_MAX);
        um_request *running = create(engine, prompt, 10, 400, 0), *entering;
        for (int i = 0; i < 3; i++) {
            um_engine_step(engine, &err);
            drain(running, NULL);
        }
        entering = create(engine, prompt, 330, 8, 0);
        while (was < 320) {
            um_engine_step(engine, &err);
            int32_t now = drain(entering, NULL);
            drain(running, NULL);
            if (now < 0) continue;
            if (!is_loose) assert_int_equal(now - was, 32);
            was = now;
            n_parts++;
        }
        assert_int_equal(n_parts, is_loose ? 1 : 10);
        um_request_destroy(&running);
        um_request_destroy(&entering);
        expect_all_pages(engine);
        um_engine_close(&engine);
    }
}

/* The counters against the events that they count. */
static void test_counters(void **state) {
    (void)state;
    um_engine *engine = open_engine("llada2_moe", 40, false, NULL);
    int32_t prompt[PROMPT_MAX];
    um_request_options o;
    recording r;
    um_stats stats;
    um_request_options_init(&o);
    fill_prompt(engine, 1, prompt, 70);
    o.prompt = prompt;
    o.n_prompt = 70;
    o.max_tokens = 80;
    o.block_len = 16;
    o.policy = "edit";
    o.ignore_eos = true;
    recording_run(engine, &o, 1, &r);
    um_engine_stats(engine, &stats);
    int64_t n_commits = 0, n_edits = 0, n_inputs = 0;
    for (int32_t i = 0; i < r.n_steps; i++) {
        for (int32_t j = 0; j < r.steps[i].n_changes; j++)
            *(r.steps[i].changes[j].is_edit ? &n_edits : &n_commits) += 1;
        n_inputs += 16;
    }
    assert_int_equal(stats.commits, n_commits);
    assert_int_equal(stats.edits, n_edits);
    assert_int_equal(stats.blocks_finished, r.n_blocks);
    assert_int_equal(stats.rows_prefill, 64);
    assert_int_equal(stats.rows_block, n_inputs);
    assert_true(stats.rows_folded > 0 && stats.rows_folded % 16 == 0);
    assert_int_equal(stats.forwards, r.forwards + r.prefill_forwards);
    assert_int_equal(stats.requests_accepted, 1);
    assert_int_equal(stats.requests_done, 1);
    recording_free(&r);
    um_engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_back),   cmocka_unit_test(test_turns),
        cmocka_unit_test(test_not_shared), cmocka_unit_test(test_stress),
        cmocka_unit_test(test_priority),   cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_step_bound), cmocka_unit_test(test_counters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The demonstration model's own score: the 400 fixed items of its eval.jsonl, batched, against the
 * reference decoder's answers and numbers of forwards. Two passes: as a user runs it (end of text
 * ends a block early), and with the end of text ignored, counting up to the block where the
 * reference stopped. Prints a table; exits with 1 where fewer than 99 % of the answers are equal or
 * an equal answer took more forwards than the reference.
 *
 * With EXPERT_CAP, the first pass alone, whatever its answers: what the bound costs.
 *
 * PRECISION is reference (the default: the answers are compared with float32 ones) or fast.
 *
 *     bench_demo_score [DIRECTORY [THREADS [BATCH [EXPERT_CAP [PRECISION]]]]]
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "support/eval_items.h"
#include "unmask.h"

enum { BATCH_MAX = 64, KINDS_MAX = 16, BLOCK_SLACK = 512 };

typedef struct tally {
    char kind[32];
    int n_items, n_equal, n_correct, n_more;
    int64_t forwards, reference_forwards, tokens;
} tally;

/* One request of the batch that runs now. */
typedef struct slot {
    um_request *request;
    const eval_item *it;
    int32_t forwards; /* counted, up to the end of the reference's last block */
} slot;

static void start(um_engine *engine, const eval_item *it, bool ignore_eos, slot *s) {
    um_request_options options;
    um_error err;
    eval_item_options(it, &options);
    options.ignore_eos = ignore_eos;
    *s = (slot){.it = it};
    if (um_request_create(engine, &options, &s->request, &err) != UM_OK) bench_die("request", &err);
}

static tally *tally_of(tally *tallies, const char *kind) {
    for (int i = 0; i < KINDS_MAX; i++) {
        if (!tallies[i].kind[0]) snprintf(tallies[i].kind, sizeof tallies[i].kind, "%s", kind);
        if (strcmp(tallies[i].kind, kind) == 0) return &tallies[i];
    }
    bench_die("too many kinds", NULL);
    return NULL;
}

/* Right by its text; where the end of text is ignored, only where it is the reference's. */
static bool is_right(const um_tokenizer *tokenizer, const um_event *event, const eval_item *it) {
    char *text;
    um_error err;
    if (um_tokenizer_decode(tokenizer, event->tokens, (size_t)event->n_tokens, true, &text, NULL,
                            &err) != UM_OK)
        bench_die("decode", &err);
    bool is_right = eval_item_is_right(it, text);
    um_free(text);
    return is_right;
}

static void finish(const um_tokenizer *tokenizer, const um_event *event, bool ignore_eos,
                   const slot *s, tally *t) {
    const eval_item *it = s->it;
    bool is_equal =
        event->n_tokens >= it->n_expected &&
        memcmp(event->tokens, it->expected, (size_t)it->n_expected * sizeof(int32_t)) == 0;
    if (!ignore_eos) is_equal = is_equal && event->n_tokens == it->n_expected;
    t->n_items++;
    t->n_equal += is_equal;
    t->n_correct += ignore_eos ? is_equal && it->is_correct : is_right(tokenizer, event, it);
    t->forwards += s->forwards;
    t->reference_forwards += it->forwards;
    t->tokens += it->n_expected;
    t->n_more +=
        is_equal && (ignore_eos ? s->forwards != it->forwards : s->forwards > it->forwards);
}

/* The reference stops after the block that holds the end of text. */
static bool is_counted(const slot *s, const um_event *event) {
    int32_t end = (int32_t)s->it->n_prompt + s->it->n_expected; /* where the end of text stands */
    return event->first_position <= end;
}

static void run(um_engine *engine, const um_tokenizer *tokenizer, const eval_item *items,
                int n_items, int n_batch, bool ignore_eos, tally *tallies) {
    slot slots[BATCH_MAX] = {0};
    int n_started = 0, n_done = 0;
    um_error err;
    while (n_done < n_items) {
        for (int i = 0; i < n_batch && n_started < n_items; i++)
            if (!slots[i].request) start(engine, &items[n_started++], ignore_eos, &slots[i]);
        if (um_engine_step(engine, &err) != UM_OK) bench_die("step", &err);
        for (int i = 0; i < n_batch; i++) {
            slot *s = &slots[i];
            um_event event;
            while (s->request && um_request_next_event(s->request, &event) == UM_OK) {
                if (event.kind == UM_EVENT_STEP && is_counted(s, &event)) s->forwards++;
                if (event.kind == UM_EVENT_ERROR) bench_die("request", &event.error);
                if (event.kind != UM_EVENT_DONE) continue;
                finish(tokenizer, &event, ignore_eos, s, tally_of(tallies, s->it->kind));
                um_request_destroy(&s->request);
                n_done++;
            }
        }
    }
}

static void print_tally(const tally *t) {
    printf("%-12s %6d %7.1f%% %8.1f%% %12.2f %12.2f %10.2f\n", t->kind, t->n_items,
           100.0 * t->n_equal / t->n_items, 100.0 * t->n_correct / t->n_items,
           (double)t->forwards / t->n_items, (double)t->reference_forwards / t->n_items,
           (double)t->tokens / (double)t->forwards);
}

static bool report(const char *title, const tally *tallies, double seconds) {
    tally all = {.kind = "all"};
    printf("%s\n%-12s %6s %8s %9s %12s %12s %10s\n", title, "kind", "items", "equal", "right",
           "forwards", "reference's", "tokens/fwd");
    for (int i = 0; i < KINDS_MAX && tallies[i].n_items; i++) {
        const tally *t = &tallies[i];
        print_tally(t);
        all.n_items += t->n_items;
        all.n_equal += t->n_equal;
        all.n_correct += t->n_correct;
        all.n_more += t->n_more;
        all.forwards += t->forwards;
        all.reference_forwards += t->reference_forwards;
        all.tokens += t->tokens;
    }
    print_tally(&all);
    bool is_good = all.n_equal * 100 >= all.n_items * 99 && all.n_more == 0;
    printf(
        "%d of %d equal; %d took a wrong number of forwards; %.1f s, %.0f tokens a second: %s\n\n",
        all.n_equal, all.n_items, all.n_more, seconds, (double)all.tokens / seconds,
        is_good ? "good" : "NOT GOOD");
    return is_good;
}

int main(int argc, char **argv) {
    const char *directory = argc > 1 ? argv[1] : "models/demo";
    int n_threads = argc > 2 ? atoi(argv[2]) : 0, n_batch = argc > 3 ? atoi(argv[3]) : 16;
    if (n_batch < 1 || n_batch > BATCH_MAX) bench_die("BATCH: expected 1 to 64", NULL);
    um_tokenizer *tokenizer;
    um_engine *engine;
    um_error err;
    um_engine_options options;
    um_engine_options_init(&options);
    options.directory = directory;
    options.n_threads = n_threads;
    options.expert_cap = argc > 4 ? atoi(argv[4]) : 0;
    bool is_fast = argc > 5 && strcmp(argv[5], "fast") == 0;
    options.precision = is_fast ? UM_PRECISION_FAST : UM_PRECISION_REFERENCE;
    options.cache_tokens = (int64_t)n_batch * BLOCK_SLACK;
    if (um_tokenizer_open(directory, &tokenizer, &err) != UM_OK) bench_die("tokenizer", &err);
    if (um_engine_open(&options, &engine, &err) != UM_OK) bench_die("engine", &err);
    int n_items;
    eval_item *items = eval_items_read(directory, tokenizer, &n_items);
    printf("%s: %d items, %s kernels, %d threads, batches of %d\n\n", directory, n_items,
           um_engine_kernels(engine), um_engine_threads(engine), n_batch);
    bool is_good = true;
    for (int pass = 0; pass < (options.expert_cap ? 1 : 2); pass++) {
        tally tallies[KINDS_MAX] = {0};
        int64_t begin = clock_now_ns();
        run(engine, tokenizer, items, n_items, n_batch, pass == 1, tallies);
        is_good &= report(
            pass ? "end of text ignored, up to the reference's last block" : "as a user runs it",
            tallies, (double)(clock_now_ns() - begin) / 1e9);
    }
    eval_items_free(items, n_items);
    um_engine_close(&engine);
    um_tokenizer_close(&tokenizer);
    return is_good || options.expert_cap || is_fast ? 0 : 1;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The same requests on the CPU and on another device: items of the demonstration model at
 * temperature 0 and 0.7 under a fixed seed, step by step. Two devices add float32 numbers in
 * different orders, so a step may differ where two numbers are nearly equal; the first difference
 * of an item is shown with both probabilities. Exits with 1 where one is no near tie.
 *
 *     compare_devices [DIRECTORY [DEVICE [ITEMS [PRECISION]]]]
 *
 * DEVICE: cuda:0. ITEMS: 100. PRECISION: reference, or fast, whose products are rounded and whose
 * differences are larger.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/eval_items.h"
#include "unmask.h"

enum { CHANGES_MAX = 4096 };

/* The changes of a request, in the order in which they were made. */
typedef struct history {
    um_change changes[CHANGES_MAX];
    int32_t forwards[CHANGES_MAX]; /* of which each was made */
    int32_t n;
} history;

static um_engine *open_on(const char *directory, const char *device, bool is_fast) {
    um_engine_options options;
    um_engine *engine = NULL;
    um_error err;
    um_engine_options_init(&options);
    options.directory = directory;
    options.device = device;
    options.precision = is_fast ? UM_PRECISION_FAST : UM_PRECISION_REFERENCE;
    if (um_engine_open(&options, &engine, &err) != UM_OK) bench_die("open", &err);
    return engine;
}

static void run(um_engine *engine, const eval_item *it, double temperature, history *h) {
    um_request_options o;
    um_request *request = NULL;
    um_error err;
    um_event event = {.kind = UM_EVENT_STEP};
    eval_item_options(it, &o);
    o.temperature = temperature;
    o.seed = 7;
    h->n = 0;
    if (um_request_create(engine, &o, &request, &err) != UM_OK) bench_die("request", &err);
    while (event.kind != UM_EVENT_DONE) {
        if (um_engine_step(engine, &err) != UM_OK) bench_die("step", &err);
        while (um_request_next_event(request, &event) == UM_OK) {
            if (event.kind == UM_EVENT_ERROR) bench_die("request", &event.error);
            if (event.kind == UM_EVENT_DONE) break;
            for (int32_t i = 0; event.kind == UM_EVENT_STEP && i < event.n_changes; i++) {
                if (h->n == CHANGES_MAX) bench_die("an answer has too many changes", NULL);
                h->forwards[h->n] = event.forward;
                h->changes[h->n++] = event.changes[i];
            }
        }
    }
    um_request_destroy(&request);
}

/* Shows the first difference; false where it is no near tie: the two changes' probabilities, or a
 * probability and the threshold, are further apart than `tolerance`. */
static bool show_difference(const history *a, const history *b, int32_t at, int i_item,
                            double threshold, double tolerance) {
    const um_change *c = &a->changes[at], *d = &b->changes[at];
    if (at >= a->n || at >= b->n) {
        printf("item %d: one answer is longer\n", i_item);
        return false;
    }
    double p = (double)c->probability, q = (double)d->probability;
    bool is_tie = fabs(p - q) <= tolerance || fabs(p - threshold) <= tolerance ||
                  fabs(q - threshold) <= tolerance;
    printf(
        "item %d: forward %d position %d token %d p %.7f; forward %d position %d token %d "
        "p %.7f: %s\n",
        i_item, a->forwards[at], c->position, c->token, p, b->forwards[at], d->position, d->token,
        q, is_tie ? "a near tie" : "NO near tie");
    return is_tie;
}

int main(int argc, char **argv) {
    const char *directory = argc > 1 ? argv[1] : "models/demo";
    const char *device = argc > 2 ? argv[2] : "cuda:0";
    bool is_fast = argc > 4 && strcmp(argv[4], "fast") == 0;
    um_tokenizer *tokenizer;
    um_error err;
    int n_items, n_wanted = argc > 3 ? atoi(argv[3]) : 100, failed = 0;
    if (um_tokenizer_open(directory, &tokenizer, &err) != UM_OK) bench_die("tokenizer", &err);
    eval_item *items = eval_items_read(directory, tokenizer, &n_items);
    um_engine *cpu = open_on(directory, "cpu", is_fast),
              *other = open_on(directory, device, is_fast);
    history *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    if (!a || !b) bench_die("no memory", NULL);
    if (n_wanted < 1 || n_wanted > n_items) n_wanted = n_items;
    for (int k = 0; k < 2; k++) {
        double temperature = k ? 0.7 : 0, widest = 0;
        int n_equal = 0, n_changes = 0;
        for (int i = 0; i < n_wanted; i++) {
            /* Spread over all kinds of items. */
            const eval_item *it = &items[(int64_t)i * n_items / n_wanted];
            int32_t at = 0;
            run(cpu, it, temperature, a);
            run(other, it, temperature, b);
            for (; at < a->n && at < b->n; at++) {
                const um_change *c = &a->changes[at], *d = &b->changes[at];
                if (a->forwards[at] != b->forwards[at] || c->position != d->position ||
                    c->token != d->token)
                    break;
                widest = fmax(widest, fabs((double)c->probability - (double)d->probability));
            }
            n_changes += at;
            if (at == a->n && at == b->n)
                n_equal++;
            else if (!show_difference(a, b, at, i, it->threshold, is_fast ? 0.03 : 1e-5))
                failed = 1;
        }
        printf(
            "%s, temperature %.1f, %s: %d of %d items equal in every step; %d changes, "
            "probabilities at most %.2g apart\n",
            device, temperature, is_fast ? "fast" : "reference", n_equal, n_wanted, n_changes,
            widest);
        fflush(stdout);
    }
    free(a);
    free(b);
    um_engine_close(&cpu);
    um_engine_close(&other);
    eval_items_free(items, n_items);
    um_tokenizer_close(&tokenizer);
    return failed;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Quality against speed: the demonstration model's sums and sudokus under every policy and several
 * settings of each. Writes a line a setting (CSV), and a picture of accuracy over tokens per
 * forward (SVG). Tokens per forward do not depend on the machine; the times in the CSV do.
 *
 *     bench_policies [DIRECTORY [THREADS [ITEMS [CSV [SVG]]]]]
 *
 * ITEMS: of each kind (sums, and sudokus with 25, 35, 45 and 55 blanks), at most 200 and 50.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "support/eval_items.h"
#include "support/scatter_plot.h"

enum { BATCH = 16, BLOCK_SLACK = 512, SETTINGS_MAX = 160, VALUES_MAX = 8, KINDS = 2 };

typedef enum knob { KNOB_THRESHOLD, KNOB_STEPS, KNOB_FACTOR, KNOB_BOUND, KNOB_LOW, KNOB_NONE } knob;
static const char *const knob_names[] = {"threshold",     "steps",         "factor",
                                         "entropy_bound", "low_threshold", "-"};

/* One policy with one thing that is turned. `series` names it in the picture. */
typedef struct sweep {
    const char *series, *policy;
    knob knob;
    double values[VALUES_MAX]; /* ends with a 0 */
    um_metric metric;
    int32_t block_len, window; /* 0: the item's, the policy's */
    double edit_threshold, threshold;
    bool is_random;
} sweep;

#define THRESHOLDS \
    { 0.3, 0.5, 0.7, 0.9, 0.95, 0.99, 0.999 }
#define STEPS \
    { 2, 4, 8, 16, 32, 96 }
/* For policies that make a forward a step even where nothing is left for it. */
#define NOISE_STEPS \
    { 2, 4, 8, 16, 32 }
static const sweep sweeps[] = {
    {.series = "threshold", .policy = "threshold", KNOB_THRESHOLD, THRESHOLDS},
    {.series = "dynamic in 8 steps",
     .policy = "dynamic",
     KNOB_THRESHOLD,
     {0.5, 0.7, 0.9, 0.99},
     .window = 8},
    {.series = "factor", .policy = "factor", KNOB_FACTOR, {0.03, 0.1, 0.3, 1, 2, 4}},
    {.series = "hierarchy",
     .policy = "hierarchy",
     KNOB_LOW,
     {0.3, 0.5, 0.7, 0.9, 0.99},
     .threshold = 0.99},
    {.series = "credit", .policy = "credit", KNOB_THRESHOLD, {0.5, 0.7, 0.9, 0.95, 0.99, 0.999}},
    {.series = "entropy-bound",
     .policy = "entropy-bound",
     KNOB_BOUND,
     {0.01, 0.03, 0.1, 0.35, 1, 3}},
    {.series = "entropy-bound by confidence",
     .policy = "entropy-bound",
     KNOB_BOUND,
     {0.01, 0.03, 0.1, 0.35, 1, 3},
     UM_METRIC_CONFIDENCE},
    {.series = "edit 0.9",
     .policy = "edit",
     KNOB_THRESHOLD,
     {0.3, 0.5, 0.7, 0.9, 0.99},
     .edit_threshold = 0.9},
    {.series = "multi-block of 16",
     .policy = "multi-block",
     KNOB_THRESHOLD,
     {0.5, 0.7, 0.9, 0.95, 0.99, 0.999},
     .block_len = 16,
     .window = 4},
    {.series = "multi-block by entropy",
     .policy = "multi-block",
     KNOB_THRESHOLD,
     {0.5, 0.3, 0.1, 0.03, 0.01},
     UM_METRIC_ENTROPY,
     16,
     4},
    {.series = "schedule", .policy = "schedule", KNOB_STEPS, STEPS},
    {.series = "schedule at random", .policy = "schedule", KNOB_STEPS, STEPS, .is_random = true},
    {.series = "static", .policy = "static", KNOB_STEPS, STEPS},
    {.series = "sequential", .policy = "sequential", KNOB_STEPS, STEPS},
    {.series = "origin", .policy = "origin", KNOB_STEPS, NOISE_STEPS},
    {.series = "maskgit", .policy = "maskgit", KNOB_STEPS, NOISE_STEPS},
    {.series = "margin", .policy = "margin", KNOB_STEPS, NOISE_STEPS},
    {.series = "entropy", .policy = "entropy", KNOB_STEPS, NOISE_STEPS},
    {.series = "first-hitting", .policy = "first-hitting", KNOB_NONE, {1}},
};
enum { N_SWEEPS = sizeof sweeps / sizeof *sweeps };

/* What one setting came to: sums and sudokus apart. */
typedef struct outcome {
    const sweep *of;
    double value, seconds;
    int n_items[KINDS], n_right[KINDS];
    int64_t tokens[KINDS], forwards[KINDS];
    char label[96];
} outcome;

static void set_options(const outcome *o, const eval_item *item, um_request_options *options) {
    const sweep *s = o->of;
    um_request_options_init(options);
    options->prompt = item->prompt;
    options->n_prompt = item->n_prompt;
    options->max_tokens = item->max_tokens;
    options->block_len = s->block_len ? s->block_len : item->block_len;
    options->policy = s->policy;
    options->metric = s->metric;
    if (s->threshold > 0) options->threshold = s->threshold;
    if (s->edit_threshold > 0) options->edit_threshold = s->edit_threshold;
    if (s->is_random) options->remask = UM_REMASK_RANDOM;
    bool is_dynamic = strcmp(s->policy, "dynamic") == 0;
    if (is_dynamic) options->steps = s->window;
    if (s->window && !is_dynamic) options->window = s->window;
    switch (s->knob) {
        case KNOB_THRESHOLD:
            options->threshold = o->value;
            break;
        case KNOB_STEPS:
            options->steps = (int32_t)o->value;
            break;
        case KNOB_FACTOR:
            options->factor = o->value;
            break;
        case KNOB_BOUND:
            options->entropy_bound = o->value;
            break;
        case KNOB_LOW:
            options->low_threshold = o->value;
            break;
        case KNOB_NONE:
            break;
    }
}

typedef struct slot {
    um_request *request;
    const eval_item *item;
} slot;

static void finish(const um_tokenizer *tokenizer, const slot *s, const um_event *event,
                   outcome *o) {
    char *text;
    um_error err;
    int kind = s->item->puzzle[0] != 0;
    if (um_tokenizer_decode(tokenizer, event->tokens, (size_t)event->n_tokens, true, &text, NULL,
                            &err) != UM_OK)
        bench_die("decode", &err);
    o->n_items[kind]++;
    o->n_right[kind] += eval_item_is_right(s->item, text);
    o->tokens[kind] += event->n_tokens;
    o->forwards[kind] += event->forwards;
    um_free(text);
}

static void run(um_engine *engine, const um_tokenizer *tokenizer, const eval_item *const *items,
                int n_items, outcome *o) {
    slot slots[BATCH] = {0};
    int n_started = 0, n_done = 0;
    um_error err;
    int64_t begin = clock_now_ns();
    while (n_done < n_items) {
        for (int i = 0; i < BATCH && n_started < n_items; i++) {
            um_request_options options;
            if (slots[i].request) continue;
            slots[i].item = items[n_started++];
            set_options(o, slots[i].item, &options);
            if (um_request_create(engine, &options, &slots[i].request, &err) != UM_OK)
                bench_die(o->label, &err);
        }
        if (um_engine_step(engine, &err) != UM_OK) bench_die("step", &err);
        for (int i = 0; i < BATCH; i++) {
            um_event event;
            while (slots[i].request && um_request_next_event(slots[i].request, &event) == UM_OK) {
                if (event.kind == UM_EVENT_ERROR) bench_die(o->label, &event.error);
                if (event.kind != UM_EVENT_DONE) continue;
                finish(tokenizer, &slots[i], &event, o);
                um_request_destroy(&slots[i].request);
                n_done++;
            }
        }
    }
    o->seconds = (double)(clock_now_ns() - begin) / 1e9;
}

static double share(const outcome *o, int kind) {
    return o->n_items[kind] ? 100.0 * o->n_right[kind] / o->n_items[kind] : 0;
}

static double speed(const outcome *o, int kind) {
    return o->forwards[kind] ? (double)o->tokens[kind] / (double)o->forwards[kind] : 0;
}

static void write_csv(FILE *csv, const outcome *o) {
    fprintf(csv, "%s,%s,%s,%g", o->of->series, o->of->policy, knob_names[o->of->knob], o->value);
    for (int kind = 0; kind < KINDS; kind++)
        fprintf(csv, ",%d,%.1f,%.3f", o->n_items[kind], share(o, kind), speed(o, kind));
    fprintf(csv, ",%.2f\n", o->seconds);
    fflush(csv);
}

static void write_picture(const char *path, const outcome *outcomes, int n) {
    static plot_point points[KINDS][SETTINGS_MAX];
    int n_points[KINDS] = {0};
    for (int i = 0; i < n; i++)
        for (int kind = 0; kind < KINDS; kind++)
            if (speed(&outcomes[i], kind) > 0)
                points[kind][n_points[kind]++] =
                    (plot_point){outcomes[i].of->series, outcomes[i].label,
                                 speed(&outcomes[i], kind), share(&outcomes[i], kind)};
    plot_panel panels[KINDS] = {
        {"sums: right answers", "tokens per forward", points[0], n_points[0], 0.125, 16},
        {"sudokus: right answers", "tokens per forward", points[1], n_points[1], 0.5, 64},
    };
    FILE *svg = fopen(path, "w");
    if (!svg || !scatter_plot_write(svg, panels, KINDS) || fclose(svg) != 0) bench_die(path, NULL);
}

/* The first n of each kind. */
static int choose(const eval_item *items, int n_items, int n_each, const eval_item **chosen) {
    int n = 0;
    for (int i = 0, n_kind = 0; i < n_items; i++) {
        if (i && strcmp(items[i].kind, items[i - 1].kind) != 0) n_kind = 0;
        if (n_kind++ < n_each) chosen[n++] = &items[i];
    }
    return n;
}

int main(int argc, char **argv) {
    static outcome outcomes[SETTINGS_MAX];
    const char *directory = argc > 1 ? argv[1] : "models/demo";
    int n_each = argc > 3 ? atoi(argv[3]) : 20, n_items, n_outcomes = 0;
    um_tokenizer *tokenizer;
    um_engine *engine;
    um_error err;
    um_engine_options options;
    um_engine_options_init(&options);
    options.directory = directory;
    options.n_threads = argc > 2 ? atoi(argv[2]) : 0;
    options.cache_tokens = (int64_t)BATCH * BLOCK_SLACK;
    if (um_tokenizer_open(directory, &tokenizer, &err) != UM_OK) bench_die("tokenizer", &err);
    if (um_engine_open(&options, &engine, &err) != UM_OK) bench_die("engine", &err);
    eval_item *items = eval_items_read(directory, tokenizer, &n_items);
    const eval_item **chosen = malloc((size_t)n_items * sizeof *chosen);
    if (!chosen) bench_die("no memory", NULL);
    int n_chosen = choose(items, n_items, n_each, chosen);
    FILE *csv = argc > 4 ? fopen(argv[4], "w") : stdout;
    if (!csv) bench_die(argv[4], NULL);
    fprintf(csv,
            "series,policy,parameter,value,sums,sums_right_percent,sums_tokens_per_forward,"
            "sudokus,sudokus_right_percent,sudokus_tokens_per_forward,seconds\n");
    for (int i = 0; i < N_SWEEPS; i++) {
        for (int k = 0; k < VALUES_MAX && sweeps[i].values[k] > 0; k++) {
            outcome *o = &outcomes[n_outcomes++];
            *o = (outcome){.of = &sweeps[i], .value = sweeps[i].values[k]};
            snprintf(o->label, sizeof o->label, "%s, %s %g", sweeps[i].series,
                     knob_names[sweeps[i].knob], o->value);
            run(engine, tokenizer, chosen, n_chosen, o);
            write_csv(csv, o);
        }
    }
    if (argc > 5) write_picture(argv[5], outcomes, n_outcomes);
    if (csv != stdout && fclose(csv) != 0) bench_die(argv[4], NULL);
    free(chosen);
    eval_items_free(items, n_items);
    um_engine_close(&engine);
    um_tokenizer_close(&tokenizer);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Buckets are fixed: histograms of different servers can be added up.
 */
#include "server/metrics.h"

#include <inttypes.h>
#include <pthread.h>

#include "base/memory.h"

enum { BUCKETS_MAX = 16, STATUSES_MAX = 16 };

static const double second_buckets[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                        2.5,   5,    10,    30,   60,  120,  300};
static const double ratio_buckets[] = {1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32};
static const double forward_buckets[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64};

typedef struct histogram {
    const char *name, *help;
    const double *bounds;
    int n_bounds;
    uint64_t counts[BUCKETS_MAX]; /* of a bucket alone; the last one is what lies above all */
    uint64_t n;
    double sum;
} histogram;

enum { FIRST_TOKEN, LATENCY, QUEUE, STEP, PER_FORWARD, PER_BLOCK, N_HISTOGRAMS };

struct metrics {
    pthread_mutex_t lock;
    histogram histograms[N_HISTOGRAMS];
    int64_t n_running, n_waiting, n_pages, n_free;
    um_stats stats; /* after the last step */
    constraint_cache_stats constraints;
    uint64_t n_steps, n_jobs, n_failed, prompt_tokens, answer_tokens, forwards, prefill_forwards;
    uint64_t commits, edits, blocks;
    struct {
        int http;
        uint64_t n;
    } replies[STATUSES_MAX];
};

#define SECONDS(name_, help_)                                      \
    {                                                              \
        .name = name_, .help = help_, .bounds = second_buckets,    \
        .n_bounds = sizeof second_buckets / sizeof *second_buckets \
    }

static const histogram empty[N_HISTOGRAMS] = {
    [FIRST_TOKEN] = SECONDS("sglang:time_to_first_token_seconds",
                            "From a request's arrival to the first text that is final."),
    [LATENCY] = SECONDS("sglang:e2e_request_latency_seconds", "From arrival to the end."),
    [QUEUE] = SECONDS("sglang:queue_time_seconds", "From arrival to the engine."),
    [STEP] = SECONDS("unmask_step_seconds", "One forward over all running requests."),
    [PER_FORWARD] = {.name = "unmask_tokens_per_forward",
                     .help = "Tokens of an answer for each of its forwards.",
                     .bounds = ratio_buckets,
                     .n_bounds = sizeof ratio_buckets / sizeof *ratio_buckets},
    [PER_BLOCK] = {.name = "unmask_forwards_per_block",
                   .help = "Forwards of an answer for each of its blocks.",
                   .bounds = forward_buckets,
                   .n_bounds = sizeof forward_buckets / sizeof *forward_buckets},
};

um_status metrics_create(metrics **out, um_error *err) {
    metrics *m = memory_calloc(1, sizeof *m);
    if (!m) FAIL(UM_NO_MEMORY, err, "no memory for metrics");
    pthread_mutex_init(&m->lock, NULL);
    for (int i = 0; i < N_HISTOGRAMS; i++) m->histograms[i] = empty[i];
    *out = m;
    return UM_OK;
}

void metrics_destroy(metrics *m) {
    if (!m) return;
    pthread_mutex_destroy(&m->lock);
    memory_free(m);
}

static void observe(histogram *h, double value) {
    int i = 0;
    while (i < h->n_bounds && value > h->bounds[i]) i++;
    h->counts[i]++;
    h->n++;
    h->sum += value;
}

void metrics_step(metrics *m, int64_t elapsed_ns, int64_t n_running, int64_t n_waiting,
                  int64_t n_pages, int64_t n_free, const um_stats *stats) {
    pthread_mutex_lock(&m->lock);
    if (elapsed_ns > 0) {
        m->n_steps++;
        observe(&m->histograms[STEP], (double)elapsed_ns / 1e9);
    }
    m->n_running = n_running;
    m->n_waiting = n_waiting;
    m->n_pages = n_pages;
    m->n_free = n_free;
    m->stats = *stats;
    pthread_mutex_unlock(&m->lock);
}

void metrics_constraints(metrics *m, const constraint_cache_stats *stats) {
    pthread_mutex_lock(&m->lock);
    m->constraints = *stats;
    pthread_mutex_unlock(&m->lock);
}

void metrics_job(metrics *m, const job *j) {
    int64_t commits = 0, edits = 0, blocks = 0;
    for (size_t i = 0; i < j->n_choices; i++) {
        commits += j->choices[i].n_commits;
        edits += j->choices[i].n_edits;
        blocks += j->choices[i].blocks;
    }
    pthread_mutex_lock(&m->lock);
    m->n_jobs++;
    if (j->has_failed) m->n_failed++;
    m->prompt_tokens += (uint64_t)j->prompt_tokens;
    m->answer_tokens += (uint64_t)j->completion_tokens;
    m->forwards += (uint64_t)j->forwards;
    m->prefill_forwards += (uint64_t)j->prefill_forwards;
    m->commits += (uint64_t)commits;
    m->edits += (uint64_t)edits;
    m->blocks += (uint64_t)blocks;
    if (j->first_text_ns)
        observe(&m->histograms[FIRST_TOKEN], (double)(j->first_text_ns - j->arrived_ns) / 1e9);
    if (j->accepted_ns)
        observe(&m->histograms[QUEUE], (double)(j->accepted_ns - j->arrived_ns) / 1e9);
    if (j->done_ns && !j->has_failed) {
        observe(&m->histograms[LATENCY], (double)(j->done_ns - j->arrived_ns) / 1e9);
        if (j->forwards)
            observe(&m->histograms[PER_FORWARD],
                    (double)j->completion_tokens / (double)j->forwards);
        if (blocks) observe(&m->histograms[PER_BLOCK], (double)j->forwards / (double)blocks);
    }
    pthread_mutex_unlock(&m->lock);
}

void metrics_reply(metrics *m, int http) {
    pthread_mutex_lock(&m->lock);
    for (int i = 0; i < STATUSES_MAX; i++) {
        if (m->replies[i].n && m->replies[i].http != http) continue;
        m->replies[i].http = http;
        m->replies[i].n++;
        break;
    }
    pthread_mutex_unlock(&m->lock);
}

/* A label's value: what Prometheus escapes, escaped. */
static void write_label(strbuf *out, const char *text) {
    for (; *text; text++) {
        if (*text == '\\' || *text == '"') strbuf_append_char(out, '\\');
        strbuf_append_char(out, *text == '\n' ? ' ' : *text);
    }
}

static void write_head(strbuf *out, const char *name, const char *type, const char *help) {
    strbuf_append_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_value(strbuf *out, const char *name, const char *type, const char *help,
                        const char *model, double value) {
    write_head(out, name, type, help);
    strbuf_append_format(out, "%s{model_name=\"", name);
    write_label(out, model);
    strbuf_append_format(out, "\"} %.17g\n", value);
}

static void write_histogram(strbuf *out, const histogram *h, const char *model) {
    uint64_t n = 0;
    write_head(out, h->name, "histogram", h->help);
    for (int i = 0; i <= h->n_bounds; i++) {
        n += h->counts[i];
        strbuf_append_format(out, "%s_bucket{model_name=\"", h->name);
        write_label(out, model);
        if (i < h->n_bounds)
            strbuf_append_format(out, "\",le=\"%g\"} %" PRIu64 "\n", h->bounds[i], n);
        else
            strbuf_append_format(out, "\",le=\"+Inf\"} %" PRIu64 "\n", n);
    }
    strbuf_append_format(out, "%s_sum{model_name=\"", h->name);
    write_label(out, model);
    strbuf_append_format(out, "\"} %.9g\n%s_count{model_name=\"", h->sum, h->name);
    write_label(out, model);
    strbuf_append_format(out, "\"} %" PRIu64 "\n", h->n);
}

void metrics_write(metrics *m, const char *model, strbuf *out) {
    pthread_mutex_lock(&m->lock);
    struct metrics now = *m; /* numbers of one moment */
    pthread_mutex_unlock(&m->lock);
    const struct {
        const char *name, *type, *help;
        double value;
    } values[] = {
        {"sglang:num_running_reqs", "gauge", "Requests that the engine works on.",
         (double)now.n_running},
        {"sglang:num_queue_reqs", "gauge", "Requests that wait for the engine.",
         (double)now.n_waiting},
        {"sglang:num_requests_total", "counter", "Requests that have ended.", (double)now.n_jobs},
        {"unmask_requests_failed_total", "counter", "Requests that have ended with an error.",
         (double)now.n_failed},
        {"sglang:prompt_tokens_total", "counter", "Tokens of prompts.", (double)now.prompt_tokens},
        {"sglang:generation_tokens_total", "counter", "Tokens of answers.",
         (double)now.answer_tokens},
        {"unmask_forwards_total", "counter", "Forwards of requests, without those of prefill.",
         (double)now.forwards},
        {"unmask_prefill_forwards_total", "counter", "Forwards of requests in prefill.",
         (double)now.prefill_forwards},
        {"unmask_steps_total", "counter", "Steps of the engine, each for all running requests.",
         (double)now.n_steps},
        {"unmask_commits_total", "counter", "Positions that went from masked to a token.",
         (double)now.commits},
        {"unmask_edits_total", "counter", "Tokens that were replaced by another.",
         (double)now.edits},
        {"unmask_blocks_total", "counter", "Blocks that were finished.", (double)now.blocks},
        {"sglang:cache_hit_rate", "gauge", "Share of prompts' tokens that were in the cache.",
         now.stats.tokens_queried
             ? (double)now.stats.tokens_cached / (double)now.stats.tokens_queried
             : 0},
        {"unmask_cached_tokens_total", "counter", "Tokens of prompts that were in the cache.",
         (double)now.stats.tokens_cached},
        {"unmask_constraints_made_total", "counter", "Schemas that were new to the cache.",
         (double)now.constraints.misses},
        {"unmask_constraints_reused_total", "counter", "Schemas that the cache had.",
         (double)now.constraints.hits},
        {"unmask_constraints_bytes", "gauge", "Memory of the constraints in the cache.",
         (double)now.constraints.n_bytes},
        {"unmask_preemptions_total", "counter", "Requests that were put back for want of pages.",
         (double)now.stats.preemptions},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        write_value(out, values[i].name, values[i].type, values[i].help, model, values[i].value);
    write_head(out, "unmask_pages", "gauge", "Pages of the cache by state.");
    int64_t n_cached = now.stats.pages_cached < now.n_free ? now.stats.pages_cached : now.n_free;
    strbuf_append_format(out, "unmask_pages{state=\"free\"} %" PRId64 "\n", now.n_free - n_cached);
    strbuf_append_format(out, "unmask_pages{state=\"cached\"} %" PRId64 "\n", n_cached);
    strbuf_append_format(out, "unmask_pages{state=\"used\"} %" PRId64 "\n",
                         now.n_pages - now.n_free);
    write_head(out, "unmask_rows_total", "counter", "Rows of forwards by kind.");
    strbuf_append_format(out, "unmask_rows_total{kind=\"prefill\"} %" PRId64 "\n",
                         now.stats.rows_prefill);
    strbuf_append_format(out, "unmask_rows_total{kind=\"block\"} %" PRId64 "\n",
                         now.stats.rows_block);
    strbuf_append_format(out, "unmask_rows_total{kind=\"folded\"} %" PRId64 "\n",
                         now.stats.rows_folded);
    write_head(out, "unmask_http_replies_total", "counter", "Replies by status; 499: client left.");
    for (int i = 0; i < STATUSES_MAX && now.replies[i].n; i++)
        strbuf_append_format(out, "unmask_http_replies_total{status=\"%d\"} %" PRIu64 "\n",
                             now.replies[i].http, now.replies[i].n);
    for (int i = 0; i < N_HISTOGRAMS; i++) write_histogram(out, &now.histograms[i], model);
}

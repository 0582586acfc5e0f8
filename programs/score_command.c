/* SPDX-License-Identifier: Apache-2.0
 *
 * `unmask score`: the likelihood bound of answers. Everything is read and encoded before the model
 * is loaded, so that a mistake in a file is told at once.
 */
#include <string.h>

#include "base/memory.h"
#include "programs/commands.h"
#include "programs/engine_settings.h"
#include "programs/interrupt.h"
#include "programs/policy_options.h"
#include "programs/progress.h"
#include "programs/report.h"
#include "programs/run_options.h"
#include "programs/score_items.h"
#include "programs/score_report.h"

enum {
    CACHE_TOKENS = 2048, /* for the samples of one forward */
    CACHE_SLACK = 1024,  /* blocks and pages are rounded up */
    SAMPLES_DEFAULT = 128
};

/* What the progress function needs. */
typedef struct scoring {
    progress bar;
    size_t i_answer, n_answers; /* over all items */
    int64_t n_samples;
} scoring;

static bool show_progress(void *user, const char *what, int64_t done, int64_t total) {
    scoring *s = user;
    (void)what;
    int64_t n_done = (int64_t)((double)done / (double)total * (double)s->n_samples);
    progress_score(&s->bar, (int64_t)s->i_answer * s->n_samples + n_done,
                   (int64_t)s->n_answers * s->n_samples);
    return !interrupt_is_set();
}

static um_status check_sources(const options *o, um_error *err) {
    static const option_id of_prompt[] = {OPTION_PROMPT, OPTION_IDS, OPTION_ITEMS};
    static const option_id of_answer[] = {OPTION_ANSWER, OPTION_ANSWER_IDS, OPTION_CHOICES,
                                          OPTION_ITEMS};
    int n_prompts = 0, n_answers = 0;
    for (size_t i = 0; i < sizeof of_prompt / sizeof *of_prompt; i++)
        n_prompts += options_has(o, of_prompt[i]);
    for (size_t i = 0; i < sizeof of_answer / sizeof *of_answer; i++)
        n_answers += options_has(o, of_answer[i]);
    if (n_prompts != 1)
        FAIL(UM_INVALID, err, "expected one of -p, --ids and --jsonl, found %d of them", n_prompts);
    if (n_answers != 1)
        FAIL(UM_INVALID, err,
             "expected one of --answer, --answer-ids, --choices and --jsonl, found %d of them",
             n_answers);
    return UM_OK;
}

static um_status check(const options *o, um_error *err) {
    TRY(options_require(o, OPTION_MODEL, err));
    TRY(check_sources(o, err));
    if (options_has(o, OPTION_PROMPT) && !options_text(o, OPTION_PROMPT)[0])
        FAIL(UM_INVALID, err, "-p: expected a prompt, found an empty text");
    if (options_has(o, OPTION_ANSWER) && !options_text(o, OPTION_ANSWER)[0])
        FAIL(UM_INVALID, err, "--answer: expected an answer, found an empty text");
    TRY(options_refuse_pair(o, OPTION_IDS, OPTION_TEMPLATE, "ids go to the model as they are",
                            err));
    if (options_has(o, OPTION_MASKS) && !options_has(o, OPTION_JSON))
        FAIL(UM_INVALID, err, "--masks needs --json");
    return UM_OK;
}

/* Told here, where it is the command line's fault whatever a file holds. */
static um_status check_block(const options *o, const um_model_info *info, um_error *err) {
    int64_t block_len = options_integer(o, OPTION_BLOCK, 1);
    if (options_has(o, OPTION_BLOCK) && info->attention == UM_ATTENTION_FULL)
        FAIL(UM_INVALID, err, "--block is of block-causal models; this one has full attention");
    if (block_len > info->context)
        FAIL(UM_INVALID, err, "--block: expected at most %d (the context), found %lld",
             info->context, (long long)block_len);
    return UM_OK;
}

/* Twice what the samples of a forward need: the library leaves half of the pages to others. What
 * is beyond the model's context is left to the library to refuse, with a cache of its own size. */
static um_status open_engine(const options *o, const score_items *items, progress *bar,
                             um_engine **engine, um_error *err) {
    um_engine_options settings;
    um_model_info info;
    engine_settings(o, bar, &settings);
    TRY(um_model_inspect(settings.directory, settings.mask_token, &info, err));
    TRY(check_block(o, &info, err));
    int64_t n_sides = options_real(o, OPTION_CFG, 0) > 0 ? 2 : 1;
    if (items->n_longest <= (size_t)info.context)
        settings.cache_tokens =
            2 * (n_sides * (int64_t)(2 * items->n_longest + CACHE_SLACK) + CACHE_TOKENS);
    um_status status = um_engine_open(&settings, engine, err);
    progress_clear(bar);
    if (status != UM_OK) policy_options_rename(err);
    return status;
}

/* values [item->n_answers]. Choices of an item share its draws, so that their difference is
 * sharper than each of them. */
static um_status score_item_answers(um_engine *engine, const options *o, const score_item *item,
                                    size_t i_item, scoring *s, score_value *values, um_error *err) {
    for (size_t i = 0; i < item->n_answers; i++) {
        score_value *v = &values[i];
        um_score_options_init(&v->options);
        v->options.prompt = item->prompt.ids;
        v->options.n_prompt = item->prompt.n;
        v->options.answer = item->answers[i].ids;
        v->options.n_answer = item->answers[i].n;
        v->options.n_samples = (int32_t)s->n_samples;
        v->options.block_len = (int32_t)options_integer(o, OPTION_BLOCK, 0);
        v->options.cfg_scale = options_real(o, OPTION_CFG, 0);
        v->options.seed = (uint64_t)options_integer(o, OPTION_SEED, 0);
        v->options.item = i_item;
        v->options.progress = show_progress;
        v->options.progress_user = s;
        if (options_has(o, OPTION_MASKS)) {
            v->samples = memory_alloc_array((size_t)s->n_samples, sizeof *v->samples);
            if (!v->samples)
                FAIL(UM_NO_MEMORY, err, "no memory for %lld samples", (long long)s->n_samples);
        }
        TRY(um_engine_score(engine, &v->options, &v->result, v->samples, err));
        s->i_answer++;
    }
    return UM_OK;
}

static um_status score_one(um_engine *engine, const options *o, const score_items *items,
                           size_t i_item, scoring *s, score_report *report, um_error *err) {
    const score_item *item = &items->list[i_item];
    score_value *values = memory_calloc(item->n_answers, sizeof *values);
    if (!values) FAIL(UM_NO_MEMORY, err, "no memory for %zu results", item->n_answers);
    um_status status = score_item_answers(engine, o, item, i_item, s, values, err);
    progress_clear(&s->bar);
    if (status == UM_OK) status = score_report_item(report, item, i_item, values, err);
    if (status == UM_OK) status = report_flush_output(err);
    if (status != UM_OK && status != UM_CANCELLED && report->has_many && err->message[0]) {
        um_error inner = *err;
        um_error_set(err, status == UM_INVALID ? UM_FORMAT : status, "item %zu: %s", i_item,
                     inner.message);
    }
    for (size_t i = 0; i < item->n_answers; i++) memory_free(values[i].samples);
    memory_free(values);
    return status;
}

static um_status run(const options *o, um_error *err) {
    um_engine *engine = NULL;
    score_items items = {0};
    scoring s = {.n_samples = options_integer(o, OPTION_SAMPLES, SAMPLES_DEFAULT)};
    um_status status = UM_OK;
    TRY(check(o, err));
    progress_init(&s.bar, options_has(o, OPTION_VERBOSE));
    TRY_GOTO(score_items_read(o, &items, err), cleanup);
    s.n_answers = items.n_answers;
    TRY_GOTO(open_engine(o, &items, &s.bar, &engine, err), cleanup);
    score_report report = {
        .is_json = options_has(o, OPTION_JSON),
        .has_masks = options_has(o, OPTION_MASKS),
        .has_many = options_has(o, OPTION_ITEMS),
        .info = um_engine_info(engine),
    };
    interrupt_defer(true);
    for (size_t i = 0; status == UM_OK && i < items.n; i++)
        status = score_one(engine, o, &items, i, &s, &report, err);
    if (status == UM_OK) status = score_report_end(&report, items.n, err);
    if (status == UM_OK) status = report_flush_output(err);
cleanup:
    um_engine_close(&engine);
    score_items_deinit(&items);
    return status;
}

int score_command(const options *o) {
    um_error err = {.byte_pos = -1};
    um_status status = run(o, &err);
    if (status == UM_OK) return REPORT_EXIT_DONE;
    if (status == UM_CANCELLED) um_error_set(&err, UM_CANCELLED, "interrupted");
    return report_error("score", &err);
}

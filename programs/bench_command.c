/* SPDX-License-Identifier: Apache-2.0
 *
 * `unmask bench`: the machine's limits, then a model's forwards beside them. Output as a table, as
 * JSON or as CSV; --plot draws the same as a picture (programs/roofline.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "programs/bench_report.h"
#include "programs/commands.h"
#include "programs/engine_settings.h"
#include "programs/ids.h"
#include "programs/policy_options.h"
#include "programs/progress.h"
#include "programs/report.h"

enum { REPEATS_DEFAULT = 7, PREFILL_DEFAULT = 512, CONTEXT_DEFAULT = 512 };

static um_status open_engine(const options *o, int64_t n_positions, um_engine **engine, progress *p,
                             um_error *err) {
    um_engine_options settings;
    engine_settings(o, p, &settings);
    settings.cache_tokens = n_positions;
    um_status status = um_engine_open(&settings, engine, err);
    progress_clear(p);
    if (status != UM_OK) policy_options_rename(err);
    return status;
}

/* A list option, or its default. */
static um_status read_list(const options *o, option_id id, const char *fallback, int32_t **list,
                           size_t *n, um_error *err) {
    const char *text = options_text(o, id);
    if (!text) text = fallback;
    TRY(ids_parse(text, strlen(text), list, n, err));
    for (size_t i = 0; i < *n; i++)
        if ((*list)[i] < 1)
            FAIL(UM_INVALID, err, "--%s: expected numbers from 1, found %d", option_table[id].name,
                 (*list)[i]);
    return UM_OK;
}

static um_status check(const options *o, um_error *err) {
    TRY(engine_settings_check_model(o, err));
    return options_refuse_pair(o, OPTION_JSON, OPTION_CSV, "there is one output", err);
}

static um_status measure(const options *o, um_engine *engine, const int32_t *rows, size_t n_rows,
                         bench_report *report, um_error *err) {
    um_measure_options wanted = {.n_repeats =
                                     (int32_t)options_integer(o, OPTION_REPEAT, REPEATS_DEFAULT)};
    TRY(um_engine_machine(engine, &report->machine, err));
    wanted.phase = UM_PHASE_PREFILL;
    wanted.n_rows = (int32_t)options_integer(o, OPTION_PREFILL, PREFILL_DEFAULT);
    for (size_t i = 0; i <= n_rows; i++) {
        if (i) {
            wanted.phase = UM_PHASE_STEP;
            wanted.n_rows = rows[i - 1];
            wanted.context = (int32_t)options_integer(o, OPTION_CONTEXT, CONTEXT_DEFAULT);
        }
        if (!wanted.n_rows) continue; /* --prefill 0 */
        bench_result *r = &report->results[report->n_results];
        *r = (bench_result){.options = wanted};
        TRY(um_engine_measure(engine, &wanted, &report->machine, &r->measured, err));
        report->n_results++;
    }
    return UM_OK;
}

static um_status run(const options *o, um_error *err) {
    int32_t *rows = NULL, *rates = NULL;
    size_t n_rows = 0, n_rates = 0;
    um_engine *engine = NULL;
    bench_report report = {0};
    progress load;
    um_status status = UM_OK;
    TRY(check(o, err));
    TRY_GOTO(read_list(o, OPTION_ROWS, "1,8,32,64", &rows, &n_rows, err), cleanup);
    TRY_GOTO(read_list(o, OPTION_TOKENS_PER_FORWARD, "1,2,4,8", &rates, &n_rates, err), cleanup);
    int64_t longest = options_integer(o, OPTION_PREFILL, PREFILL_DEFAULT);
    for (size_t i = 0; i < n_rows; i++) {
        int64_t end = options_integer(o, OPTION_CONTEXT, CONTEXT_DEFAULT) + (int64_t)rows[i];
        if (end > longest) longest = end;
    }
    report.results = calloc(n_rows + 1, sizeof *report.results);
    if (!report.results) {
        status = um_error_set(err, UM_NO_MEMORY, "no memory for %zu results", n_rows + 1);
        goto cleanup;
    }
    progress_init(&load, options_has(o, OPTION_VERBOSE));
    TRY_GOTO(open_engine(o, longest, &engine, &load, err), cleanup);
    report.engine = engine;
    report.model = options_has(o, OPTION_SYNTHETIC) ? options_text(o, OPTION_SYNTHETIC)
                                                    : options_text(o, OPTION_MODEL);
    const char *type = options_text(o, OPTION_TYPE);
    report.type = options_has(o, OPTION_SYNTHETIC) ? (type ? type : "q4_0") : "as stored";
    report.rates = rates;
    report.n_rates = n_rates;
    TRY_GOTO(measure(o, engine, rows, n_rows, &report, err), cleanup);
    if (options_has(o, OPTION_PLOT))
        TRY_GOTO(bench_report_plot(&report, options_text(o, OPTION_PLOT), err), cleanup);
    if (options_has(o, OPTION_JSON))
        TRY_GOTO(bench_report_json(&report, err), cleanup);
    else if (options_has(o, OPTION_CSV))
        bench_report_csv(&report);
    else
        bench_report_table(&report);
    status = report_flush_output(err);
cleanup:
    um_engine_close(&engine);
    free(report.results);
    memory_free(rows);
    memory_free(rates);
    return status;
}

int bench_command(const options *o) {
    um_error err = {.byte_pos = -1};
    return run(o, &err) == UM_OK ? REPORT_EXIT_DONE : report_error("bench", &err);
}

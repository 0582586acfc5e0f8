/* SPDX-License-Identifier: Apache-2.0
 *
 * The text forms of a bench report.
 */
#include "programs/bench_report.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

static const char *phase_name(const bench_result *r) {
    return r->options.phase == UM_PHASE_STEP ? "step" : "prefill";
}

static bool is_scaled(const bench_report *report) {
    return um_engine_full_layers(report->engine) != um_engine_info(report->engine)->n_layers;
}

void bench_report_table(const bench_report *report) {
    const um_machine *machine = &report->machine;
    const um_model_info *info = um_engine_info(report->engine);
    printf("%s, %s, %d layers, %s kernels, %d threads\n", report->model, report->type,
           um_engine_full_layers(report->engine), um_engine_kernels(report->engine),
           um_engine_threads(report->engine));
    if (is_scaled(report))
        printf("measured with %d layers, scaled to %d\n", info->n_layers,
               um_engine_full_layers(report->engine));
    printf(
        "machine: read %.1f GB/s, float32 %.0f GFLOP/s, bfloat16 %.0f GFLOP/s, int8 %.0f GOP/s\n\n",
        machine->read_gbps, machine->f32_gflops, machine->bf16_gflops, machine->int8_gops);
    printf("phase    rows  context        ms   limit ms  binds  %% of limit     GB/s    GOP/s%s\n",
           info->n_experts ? "  experts" : "");
    for (size_t i = 0; i < report->n_results; i++) {
        const bench_result *r = &report->results[i];
        const um_measurement *m = &r->measured;
        printf("%-8s %4d %8d %9.2f %10.2f  %-5s %11.1f %8.1f %8.0f", phase_name(r),
               r->options.n_rows, r->options.context, m->ms, m->limit_ms, m->limit,
               m->percent_of_limit, m->bytes / m->ms / 1e6, bench_operations(m) / m->ms / 1e6);
        if (info->n_experts) printf("  %7.1f", m->experts_touched);
        putchar('\n');
    }
    printf("\ntokens a second, by tokens a forward\nrows   ");
    for (size_t k = 0; k < report->n_rates; k++) printf("%9d", report->rates[k]);
    putchar('\n');
    for (size_t i = 0; i < report->n_results; i++) {
        const bench_result *r = &report->results[i];
        if (r->options.phase != UM_PHASE_STEP) continue;
        printf("%-7d", r->options.n_rows);
        for (size_t k = 0; k < report->n_rates; k++)
            if (report->rates[k] <= r->options.n_rows)
                printf("%9.1f", 1e3 * report->rates[k] / r->measured.ms);
            else
                printf("%9s", "-");
        putchar('\n');
    }
}

void bench_report_csv(const bench_report *report) {
    printf(
        "model,type,threads,phase,rows,context,ms,ms_min,limit_ms,limit,percent_of_limit,gbps,gops,"
        "experts_touched\n");
    for (size_t i = 0; i < report->n_results; i++) {
        const bench_result *r = &report->results[i];
        const um_measurement *m = &r->measured;
        printf("\"%s\",%s,%d,%s,%d,%d,%.4f,%.4f,%.4f,%s,%.2f,%.2f,%.1f,%.2f\n", report->model,
               report->type, um_engine_threads(report->engine), phase_name(r), r->options.n_rows,
               r->options.context, m->ms, m->ms_min, m->limit_ms, m->limit, m->percent_of_limit,
               m->bytes / m->ms / 1e6, bench_operations(m) / m->ms / 1e6, m->experts_touched);
    }
}

static json_t *result_json(const bench_report *report, const bench_result *r) {
    const um_measurement *m = &r->measured;
    json_t *tokens = json_array();
    for (size_t k = 0; k < report->n_rates && r->options.phase == UM_PHASE_STEP; k++)
        if (report->rates[k] <= r->options.n_rows)
            json_array_append_new(
                tokens, json_pack("{s:i, s:f}", "tokens_per_forward", (int)report->rates[k],
                                  "tokens_per_second", 1e3 * report->rates[k] / m->ms));
    return json_pack("{s:s, s:i, s:i, s:f, s:f, s:f, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:o}",
                     "phase", phase_name(r), "rows", (int)r->options.n_rows, "context",
                     (int)r->options.context, "ms", m->ms, "ms_min", m->ms_min, "limit_ms",
                     m->limit_ms, "limit", m->limit, "percent_of_limit", m->percent_of_limit,
                     "bytes", m->bytes, "int8_ops", m->int8_ops, "bf16_ops", m->bf16_ops, "f32_ops",
                     m->f32_ops, "experts_touched", m->experts_touched, "speed", tokens);
}

um_status bench_report_json(const bench_report *report, um_error *err) {
    const um_machine *machine = &report->machine;
    json_t *results = json_array();
    for (size_t i = 0; i < report->n_results; i++)
        json_array_append_new(results, result_json(report, &report->results[i]));
    json_t *root = json_pack(
        "{s:{s:f, s:f, s:f, s:f}, s:i, s:s, s:s, s:s, s:i, s:i, s:b, s:o}", "machine", "read_gbps",
        machine->read_gbps, "f32_gflops", machine->f32_gflops, "bf16_gflops", machine->bf16_gflops,
        "int8_gops", machine->int8_gops, "threads", (int)um_engine_threads(report->engine),
        "kernels", um_engine_kernels(report->engine), "model", report->model, "type", report->type,
        "layers", (int)um_engine_full_layers(report->engine), "layers_measured",
        (int)um_engine_info(report->engine)->n_layers, "scaled", (int)is_scaled(report), "results",
        results);
    char *text = root ? json_dumps(root, JSON_REAL_PRECISION(9)) : NULL;
    bool is_printed = text && puts(text) >= 0;
    free(text);
    json_decref(root);
    if (!is_printed) FAIL(UM_NO_MEMORY, err, "no memory for the JSON of the results");
    return UM_OK;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * What `unmask bench` has measured, as a table, JSON, CSV, or a picture.
 */
#ifndef PROGRAMS_BENCH_REPORT_H
#define PROGRAMS_BENCH_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "unmask.h"

typedef struct bench_result {
    um_measure_options options;
    um_measurement measured;
} bench_result;

/* Borrows everything. */
typedef struct bench_report {
    um_engine *engine;
    const char *model, *type;
    um_machine machine;
    bench_result *results; /* [n_results] */
    size_t n_results;
    const int32_t *rates; /* [n_rates] tokens a forward */
    size_t n_rates;
} bench_report;

static inline double bench_operations(const um_measurement *m) {
    return m->int8_ops + m->bf16_ops + m->f32_ops;
}

void bench_report_table(const bench_report *report);
void bench_report_csv(const bench_report *report);
um_status bench_report_json(const bench_report *report, um_error *err);
/* A roofline: operations a byte against operations a second, both logarithmic; the machine's limits
 * as lines, each result as a dot. Self-contained SVG for light and dark pages. */
um_status bench_report_plot(const bench_report *report, const char *path, um_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The picture of a bench report: a roofline.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "programs/bench_report.h"

enum { WIDTH = 720, HEIGHT = 440, LEFT = 70, RIGHT = 150, TOP = 40, BOTTOM = 55 };

/* Axes in powers of ten. */
typedef struct axes {
    double x_low, x_high, y_low, y_high;
} axes;

static double x_of(const axes *a, double value) {
    double share = (log10(value) - a->x_low) / (a->x_high - a->x_low);
    return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static double y_of(const axes *a, double value) {
    double share = (log10(value) - a->y_low) / (a->y_high - a->y_low);
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
}

static axes axes_of(const bench_report *report) {
    axes a = {.x_low = 0, .x_high = 1, .y_low = 1, .y_high = 2};
    const um_machine *machine = &report->machine;
    double top = machine->int8_gops;
    if (machine->bf16_gflops > top) top = machine->bf16_gflops;
    if (machine->f32_gflops > top) top = machine->f32_gflops;
    a.y_high = ceil(log10(top * 1.05));
    for (size_t i = 0; i < report->n_results; i++) {
        const um_measurement *m = &report->results[i].measured;
        double x = log10(bench_operations(m) / m->bytes),
               y = log10(bench_operations(m) / m->ms / 1e6);
        if (x < a.x_low) a.x_low = floor(x);
        if (x + 0.1 > a.x_high) a.x_high = ceil(x + 0.1);
        if (y < a.y_low) a.y_low = floor(y);
    }
    return a;
}

static void draw_grid(FILE *file, const axes *a) {
    for (double x = a->x_low; x <= a->x_high; x++)
        fprintf(file,
                "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>"
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n",
                x_of(a, pow(10, x)), TOP, x_of(a, pow(10, x)), HEIGHT - BOTTOM, x_of(a, pow(10, x)),
                HEIGHT - BOTTOM + 18, pow(10, x));
    for (double y = a->y_low; y <= a->y_high; y++)
        fprintf(file,
                "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                LEFT, y_of(a, pow(10, y)), WIDTH - RIGHT, y_of(a, pow(10, y)), LEFT - 8,
                y_of(a, pow(10, y)) + 4, pow(10, y));
    fprintf(file, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">operations a byte read</text>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14);
    fprintf(
        file,
        "<text transform=\"translate(18 %d) rotate(-90)\" text-anchor=\"middle\">1e9 operations "
        "a second</text>\n",
        (TOP + HEIGHT - BOTTOM) / 2);
}

/* A peak from where reading allows it to the right edge. */
static void draw_peak(FILE *file, const axes *a, const um_machine *machine, double peak,
                      const char *name) {
    if (peak <= 0) return;
    double knee = peak / machine->read_gbps, low = pow(10, a->x_low);
    fprintf(file,
            "<line class=\"peak\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>"
            "<text x=\"%d\" y=\"%.1f\">%s %.0f</text>\n",
            x_of(a, knee > low ? knee : low), y_of(a, peak), WIDTH - RIGHT, y_of(a, peak),
            WIDTH - RIGHT + 6, y_of(a, peak) + 4, name, peak);
}

static void draw_read(FILE *file, const axes *a, const um_machine *machine) {
    double low = pow(10, a->x_low), high = pow(10, a->x_high), top = pow(10, a->y_high);
    double floor_x = pow(10, a->y_low) / machine->read_gbps;
    if (low < floor_x) low = floor_x;
    if (high * machine->read_gbps > top) high = top / machine->read_gbps;
    fprintf(file, "<line class=\"peak\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
            x_of(a, low), y_of(a, low * machine->read_gbps), x_of(a, high),
            y_of(a, high * machine->read_gbps));
    fprintf(file, "<text x=\"%.1f\" y=\"%.1f\">read %.1f GB/s</text>\n", x_of(a, low) + 8,
            y_of(a, low * machine->read_gbps) - 12, machine->read_gbps);
}

static void draw_results(FILE *file, const axes *a, const bench_report *report) {
    for (size_t i = 0; i < report->n_results; i++) {
        const bench_result *r = &report->results[i];
        double x = x_of(a, bench_operations(&r->measured) / r->measured.bytes);
        double y = y_of(a, bench_operations(&r->measured) / r->measured.ms / 1e6);
        bool is_step = r->options.phase == UM_PHASE_STEP;
        fprintf(file,
                "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>"
                "<text x=\"%.1f\" y=\"%.1f\">%s%d</text>\n",
                is_step ? "step" : "prefill", x, y, x + 8, y + 14, is_step ? "" : "prefill ",
                r->options.n_rows);
    }
}

/* The text of a name, without what XML would take for markup. */
static void print_name(FILE *file, const char *text) {
    for (; *text; text++)
        if (*text == '<' || *text == '&' || *text == '>')
            fprintf(file, "&#%d;", *text);
        else
            fputc(*text, file);
}

um_status bench_report_plot(const bench_report *report, const char *path, um_error *err) {
    FILE *file = fopen(path, "w");
    if (!file) FAIL(UM_IO, err, "cannot write %s: %s", path, strerror(errno));
    axes a = axes_of(report);
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
            "font-family=\"sans-serif\" "
            "font-size=\"12\">\n"
            "<style>text{fill:#333}.grid{stroke:#8884;stroke-width:1}.peak{stroke:#555;"
            "stroke-width:1.5}.step{fill:#1668c7}.prefill{fill:#c7661a}"
            "@media(prefers-color-scheme:dark){text{fill:#ccc}.peak{stroke:#aaa}}</style>\n"
            "<text x=\"%d\" y=\"22\" font-size=\"14\">",
            WIDTH, HEIGHT, LEFT);
    print_name(file, report->model);
    fprintf(file, ", %s, %d threads: rows of a step, and prefill</text>\n", report->type,
            um_engine_threads(report->engine));
    draw_grid(file, &a);
    draw_read(file, &a, &report->machine);
    draw_peak(file, &a, &report->machine, report->machine.f32_gflops, "float32");
    draw_peak(file, &a, &report->machine, report->machine.bf16_gflops, "bfloat16");
    draw_peak(file, &a, &report->machine, report->machine.int8_gops, "int8");
    draw_results(file, &a, report);
    fputs("</svg>\n", file);
    bool is_written = !ferror(file);
    if (fclose(file) != 0 || !is_written) {
        remove(path);
        FAIL(UM_IO, err, "cannot write %s: %s", path, strerror(errno));
    }
    return UM_OK;
}

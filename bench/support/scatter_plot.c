/* SPDX-License-Identifier: Apache-2.0
 *
 * The SVG is written as text; nothing outside it is referred to, so that it shows everywhere.
 */
#include "support/scatter_plot.h"

#include <math.h>
#include <string.h>

enum {
    WIDTH = 430,
    HEIGHT = 330,
    MARGIN_LEFT = 48,
    MARGIN_TOP = 34,
    PANEL_GAP = 24,
    LEGEND_COLUMNS = 4,
    LEGEND_ROW = 18,
    SERIES_MAX = 32
};

/* Colours that can be told apart on white and on dark grey (Okabe and Ito's, and darker ones). */
static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                      "#b8860b", "#56b4e9", "#7a3e9d", "#808080"};
enum { N_COLOURS = sizeof colours / sizeof *colours, N_MARKS = 4 };

typedef struct series_list {
    const char *names[SERIES_MAX];
    int n;
} series_list;

static int index_of(series_list *list, const char *name) {
    for (int i = 0; i < list->n; i++)
        if (strcmp(list->names[i], name) == 0) return i;
    if (list->n == SERIES_MAX) return SERIES_MAX - 1;
    list->names[list->n] = name;
    return list->n++;
}

static double x_of(const plot_panel *p, double x) {
    double share = (log(x) - log(p->x_min)) / (log(p->x_max) - log(p->x_min));
    return MARGIN_LEFT + share * (WIDTH - MARGIN_LEFT);
}

static double y_of(double percent) {
    return MARGIN_TOP + (100 - percent) / 100 * (HEIGHT - MARGIN_TOP);
}

static void draw_mark(FILE *file, int series, double x, double y, const char *label) {
    const char *colour = colours[series % N_COLOURS];
    fprintf(file, "<g fill=\"%s\"><title>%s</title>", colour, label);
    switch (series / N_COLOURS % N_MARKS) {
        case 0:
            fprintf(file, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>", x, y);
            break;
        case 1:
            fprintf(file, "<rect x=\"%.1f\" y=\"%.1f\" width=\"7\" height=\"7\"/>", x - 3.5,
                    y - 3.5);
            break;
        case 2:
            fprintf(file, "<path d=\"M%.1f %.1fl4.5 8h-9z\"/>", x, y - 5);
            break;
        default:
            fprintf(file, "<path d=\"M%.1f %.1fl4.5 5l-4.5 5l-4.5 -5z\"/>", x, y - 5);
    }
    fprintf(file, "</g>\n");
}

static void draw_axes(FILE *file, const plot_panel *p) {
    fprintf(file, "<text x=\"%d\" y=\"18\" font-weight=\"bold\">%s</text>\n", MARGIN_LEFT,
            p->title);
    for (int percent = 0; percent <= 100; percent += 20)
        fprintf(file,
                "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%d %%</text>\n",
                MARGIN_LEFT, y_of(percent), WIDTH, MARGIN_LEFT - 6, y_of(percent) + 4, percent);
    for (double x = 0.125; x <= p->x_max; x *= 2) {
        if (x < p->x_min) continue;
        fprintf(file,
                "<path class=\"grid\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" "
                "text-anchor=\"middle\">%g</text>\n",
                x_of(p, x), MARGIN_TOP, HEIGHT, x_of(p, x), HEIGHT + 16, x);
    }
    fprintf(file, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
            (WIDTH + MARGIN_LEFT) / 2, HEIGHT + 34, p->x_title);
}

static void draw_points(FILE *file, const plot_panel *p, series_list *list) {
    for (int i = 0; i < p->n_points; i++) {
        const plot_point *point = &p->points[i];
        int series = index_of(list, point->series);
        bool is_first = i == 0 || strcmp(p->points[i - 1].series, point->series) != 0;
        bool is_last = i + 1 == p->n_points || strcmp(p->points[i + 1].series, point->series) != 0;
        if (is_first)
            fprintf(file, "<polyline fill=\"none\" stroke=\"%s\" stroke-opacity=\"0.6\" points=\"",
                    colours[series % N_COLOURS]);
        fprintf(file, "%.1f,%.1f ", x_of(p, point->x), y_of(point->percent));
        if (is_last) fprintf(file, "\"/>\n");
    }
    for (int i = 0; i < p->n_points; i++)
        draw_mark(file, index_of(list, p->points[i].series), x_of(p, p->points[i].x),
                  y_of(p->points[i].percent), p->points[i].label);
}

bool scatter_plot_write(FILE *file, const plot_panel *panels, int n_panels) {
    series_list list = {.n = 0};
    for (int i = 0; i < n_panels; i++)
        for (int j = 0; j < panels[i].n_points; j++) index_of(&list, panels[i].points[j].series);
    int width = n_panels * (WIDTH + PANEL_GAP) + 8, top = HEIGHT + 48;
    int height = top + (list.n + LEGEND_COLUMNS - 1) / LEGEND_COLUMNS * LEGEND_ROW + 12;
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
            "height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n"
            "<style>.grid{stroke:#ccc}text{fill:#222}.page{fill:#fff}"
            "@media (prefers-color-scheme:dark){.grid{stroke:#444}text{fill:#ddd}"
            ".page{fill:#1b1b1b}}</style>\n<rect class=\"page\" width=\"%d\" height=\"%d\"/>\n",
            width, height, width, height, width, height);
    for (int i = 0; i < n_panels; i++) {
        fprintf(file, "<g transform=\"translate(%d 0)\">\n", i * (WIDTH + PANEL_GAP));
        draw_axes(file, &panels[i]);
        draw_points(file, &panels[i], &list);
        fprintf(file, "</g>\n");
    }
    for (int i = 0; i < list.n; i++) {
        double x = MARGIN_LEFT +
                   (double)(i % LEGEND_COLUMNS) * (width - MARGIN_LEFT) / (double)LEGEND_COLUMNS;
        double y = top + i / LEGEND_COLUMNS * LEGEND_ROW + 10;
        draw_mark(file, i, x, y, list.names[i]);
        fprintf(file, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", x + 10, y + 4, list.names[i]);
    }
    fprintf(file, "</svg>\n");
    return !ferror(file);
}

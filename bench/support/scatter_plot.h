/* SPDX-License-Identifier: Apache-2.0
 *
 * A picture of points in series, as a self-contained SVG: x on a logarithmic scale, y in percent.
 */
#ifndef SUPPORT_SCATTER_PLOT_H
#define SUPPORT_SCATTER_PLOT_H

#include <stdbool.h>
#include <stdio.h>

typedef struct plot_point {
    const char *series; /* points of a series follow each other and are joined by a line */
    const char *label;  /* shown where the pointer rests */
    double x, percent;
} plot_point;

typedef struct plot_panel {
    const char *title, *x_title;
    const plot_point *points;
    int n_points;
    double x_min, x_max; /* above 0 */
} plot_panel;

/* Writes panels side by side with one legend below. False where writing failed. */
bool scatter_plot_write(FILE *file, const plot_panel *panels, int n_panels);

#endif

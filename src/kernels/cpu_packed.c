/* SPDX-License-Identifier: Apache-2.0
 *
 * Products on packed weights over the pool: rows are quantized once, in tasks of a block and some
 * groups; then a task is a few panels, each read once from memory and met by all blocks of rows
 * while it is in the second-level cache. How it is cut changes no bit.
 */
#include <assert.h>

#include "kernels/cpu.h"

enum { GROUPS_A_TASK = 16, TASKS_PER_THREAD = 8, PANELS_MAX = 8 };

typedef struct pack_task {
    const cpu_kernels *kernels;
    packed_form form;
    unsigned char *records;
    const float *x;
    const int32_t *rows;
    int32_t n_rows, n_in, n_cuts;
} pack_task;

void cpu_pack_block(const cpu_kernels *kernels, packed_form form, unsigned char *records,
                    const float *x, const int32_t *rows, int32_t n_rows, int32_t n_in,
                    int32_t first_group, int32_t end_group) {
    pack_tile tile = {.records = records + (size_t)first_group * packed_record_bytes(form),
                      .n_rows = n_rows,
                      .n_groups = end_group - first_group};
    for (int32_t r = 0; r < n_rows; r++)
        tile.x[r] =
            x + (size_t)(rows ? rows[r] : r) * (size_t)n_in + (size_t)first_group * PACKED_GROUP;
    if (form == FORM_INT8)
        kernels->pack(&tile);
    else if (form == FORM_BF16)
        kernels->pack_bf16(&tile);
    else
        kernels->pack_tiled(&tile);
}

static void pack_part(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const pack_task *t = context;
    int32_t block = i_task / t->n_cuts, first_row = block * PACKED_ROWS;
    int32_t n_groups = t->n_in / PACKED_GROUP, first = i_task % t->n_cuts * GROUPS_A_TASK;
    int32_t end = n_groups - first < GROUPS_A_TASK ? n_groups : first + GROUPS_A_TASK;
    int32_t n_rows = t->n_rows - first_row < PACKED_ROWS ? t->n_rows - first_row : PACKED_ROWS;
    const float *x = t->rows ? t->x : t->x + (size_t)first_row * (size_t)t->n_in;
    cpu_pack_block(t->kernels, t->form,
                   t->records + (size_t)block * (size_t)n_groups * packed_record_bytes(t->form), x,
                   t->rows ? t->rows + first_row : NULL, n_rows, t->n_in, first, end);
}

void cpu_pack_gathered(device *dev, packed_form form, void *packed, const float *x,
                       const int32_t *rows, int32_t n_rows, int32_t n_in) {
    assert(n_in % PACKED_GROUP == 0);
    pack_task task = {.kernels = cpu_kernels_of(dev),
                      .form = form,
                      .records = packed,
                      .x = x,
                      .rows = rows,
                      .n_rows = n_rows,
                      .n_in = n_in,
                      .n_cuts = (n_in / PACKED_GROUP + GROUPS_A_TASK - 1) / GROUPS_A_TASK};
    thread_pool_run(dev->pool, pack_part, &task, packed_blocks(n_rows) * task.n_cuts);
}

size_t cpu_pack_scratch(const device *dev, int32_t n_rows, int32_t n_in) {
    (void)dev;
    return n_rows > 0 ? packed_rows_bytes(FORM_BF16, n_rows, n_in) : 0; /* the larger one */
}

um_status cpu_pack_rows(device *dev, packed_form form, void *packed, const float *x, int32_t n_rows,
                        int32_t n_in) {
    if (n_rows > 0) cpu_pack_gathered(dev, form, packed, x, NULL, n_rows, n_in);
    return UM_OK;
}

const unsigned char *cpu_panel_of(const matrix *w, int32_t i_panel) {
    if (!w->packed || i_panel >= packed_panels(w->n_out)) return NULL;
    return w->packed + (size_t)i_panel * packed_panel_bytes(w->type, w->n_in);
}

void cpu_packed_panels(const cpu_kernels *kernels, float *y, size_t y_stride,
                       const unsigned char *blocks, const matrix *w, const float *bias,
                       int32_t n_rows, int32_t first_panel, int32_t end_panel,
                       const unsigned char *next) {
    if (w->form == FORM_BF16) {
        int32_t first = first_panel * PANEL_OUTS;
        bf16_tile tile = {.y = y,
                          .y_stride = y_stride,
                          .blocks = blocks,
                          .w = (const unsigned char *)w->data + 2 * (size_t)first * (size_t)w->n_in,
                          .bias = bias ? bias + first : NULL,
                          .n_rows = n_rows,
                          .n_in = w->n_in,
                          .n_outs = (end_panel - first_panel) * PANEL_OUTS};
        assert(end_panel * PANEL_OUTS <= w->n_out);
        kernels->matmul_bf16(&tile);
        return;
    }
    size_t panel_bytes = packed_panel_bytes(w->type, w->n_in);
    int32_t n_groups = w->n_in / PACKED_GROUP;
    if (w->form == FORM_TILE) {
        int32_t first = first_panel * PANEL_OUTS, end = end_panel * PANEL_OUTS;
        panels_tile tile = {.y = y,
                            .y_stride = y_stride,
                            .blocks = blocks,
                            .panels = w->packed + (size_t)first_panel * panel_bytes,
                            .next = next,
                            .bias = bias ? bias + first : NULL,
                            .type = w->type,
                            .n_rows = n_rows,
                            .n_in = w->n_in,
                            .n_outs = (end < w->n_out ? end : w->n_out) - first};
        kernels->matmul_tiled(&tile);
        return;
    }
    for (int32_t p = first_panel; p < end_panel; p++) {
        int32_t out = p * PANEL_OUTS, n_outs = w->n_out - out;
        const unsigned char *panel = w->packed + (size_t)p * panel_bytes;
        packed_tile tile = {.y_stride = y_stride,
                            .panel = panel,
                            .next = p + 1 < end_panel ? panel + panel_bytes
                                    : next            ? next
                                                      : panel,
                            .bias = bias ? bias + out : NULL,
                            .type = w->type,
                            .n_groups = n_groups,
                            .n_outs = n_outs < PANEL_OUTS ? n_outs : PANEL_OUTS};
        for (int32_t r = 0; r < n_rows; r += PACKED_ROWS) {
            tile.y = y + (size_t)r * y_stride + (p - first_panel) * PANEL_OUTS;
            tile.records = blocks + (size_t)(r / PACKED_ROWS) * (size_t)n_groups * RECORD_BYTES;
            tile.n_rows = n_rows - r < PACKED_ROWS ? n_rows - r : PACKED_ROWS;
            kernels->matmul_packed(&tile);
            tile.next = panel;
        }
    }
}

typedef struct linear_task {
    const cpu_kernels *kernels;
    float *y;
    const unsigned char *blocks;
    const matrix *w;
    const float *bias;
    int32_t n_rows, panels_a_task;
} linear_task;

static void multiply_part(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const linear_task *t = context;
    int32_t n_panels = packed_panels(t->w->n_out), first = i_task * t->panels_a_task;
    int32_t end = n_panels - first < t->panels_a_task ? n_panels : first + t->panels_a_task;
    cpu_packed_panels(t->kernels, t->y + (size_t)first * PANEL_OUTS, (size_t)t->w->n_out, t->blocks,
                      t->w, t->bias, t->n_rows, first, end, cpu_panel_of(t->w, end));
}

um_status cpu_linear_packed(device *dev, float *y, const void *packed, const matrix *w,
                            const float *bias, int32_t n_rows) {
    if (n_rows <= 0) return UM_OK;
    assert(w->form != FORM_FLOAT);
    linear_task task = {.kernels = cpu_kernels_of(dev),
                        .y = y,
                        .blocks = packed,
                        .w = w,
                        .bias = bias,
                        .n_rows = n_rows};
    int32_t n_panels = packed_panels(w->n_out);
    task.panels_a_task = n_panels / (thread_pool_size(dev->pool) * TASKS_PER_THREAD);
    if (w->form != FORM_INT8) task.panels_a_task &= ~1; /* panels go in pairs there */
    if (task.panels_a_task < 1) task.panels_a_task = 1;
    if (task.panels_a_task > PANELS_MAX) task.panels_a_task = PANELS_MAX;
    thread_pool_run(dev->pool, multiply_part, &task,
                    (n_panels + task.panels_a_task - 1) / task.panels_a_task);
    return UM_OK;
}

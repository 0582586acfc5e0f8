/* SPDX-License-Identifier: Apache-2.0
 *
 * Events onto cells. The last block may reach past what is to be written, and the first one begins
 * within the prompt: both ends are clipped here.
 */
#include "programs/canvas.h"

#include <string.h>

#include "base/memory.h"

um_status canvas_init(canvas *c, int32_t n_prompt, int32_t n_cells, int32_t mask_token,
                      int32_t block_len, um_error *err) {
    memset(c, 0, sizeof *c);
    c->n_prompt = n_prompt;
    c->n_cells = n_cells;
    c->mask_token = mask_token;
    c->block_len = block_len;
    c->block = -1;
    c->cells = memory_calloc((size_t)n_cells, sizeof *c->cells);
    c->tokens = memory_alloc_array((size_t)n_cells, sizeof *c->tokens);
    if (!c->cells || !c->tokens) {
        canvas_deinit(c);
        FAIL(UM_NO_MEMORY, err, "no memory for an answer of %d tokens", n_cells);
    }
    for (int32_t i = 0; i < n_cells; i++) {
        c->cells[i] = (canvas_cell){.token = mask_token, .is_masked = true};
        c->tokens[i] = mask_token;
    }
    return UM_OK;
}

void canvas_deinit(canvas *c) {
    memory_free(c->cells);
    memory_free(c->tokens);
    memset(c, 0, sizeof *c);
}

static int32_t clip(const canvas *c, int32_t position) {
    int32_t cell = position - c->n_prompt;
    return cell < 0 ? 0 : cell > c->n_cells ? c->n_cells : cell;
}

bool canvas_open_blocks(canvas *c, const um_event *event) {
    int32_t end = clip(c, event->first_position + event->n_inputs);
    bool is_new = end > c->n_open;
    c->block = event->block;
    c->n_blocks = (event->n_inputs + c->block_len - 1) / c->block_len;
    if (is_new) c->n_open = end;
    return is_new;
}

void canvas_apply(canvas *c, const um_event *event) {
    if (event->kind == UM_EVENT_BLOCK) {
        c->n_frozen = clip(c, event->first_position + event->n_inputs);
        return;
    }
    c->n_steps++;
    for (int32_t i = 0; i < c->n_open; i++) c->cells[i].is_edited = false;
    for (int32_t i = 0; i < event->n_changes; i++) {
        const um_change *change = &event->changes[i];
        int32_t cell = change->position - c->n_prompt;
        if (cell < 0 || cell >= c->n_cells) continue;
        c->cells[cell] = (canvas_cell){.token = change->token,
                                       .probability = change->probability,
                                       .is_masked = change->token == c->mask_token,
                                       .is_edited = change->is_edit};
        c->tokens[cell] = change->token;
    }
}

int32_t canvas_committed(const canvas *c) {
    int32_t n = 0;
    while (n < c->n_cells && !c->cells[n].is_masked) n++;
    return n;
}

void canvas_finish(canvas *c, int32_t n_tokens) {
    for (int32_t i = 0; i < c->n_cells; i++) c->cells[i].is_edited = false;
    if (n_tokens < c->n_cells) c->n_cells = n_tokens;
    c->n_frozen = c->n_open = c->n_cells;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The arrays of a batch are laid out twice in the same way, in the host's scratch and in the
 * device's, so that one copy brings them over; page tables point to where their pages will be.
 */
#include "models/step_inputs.h"

#include <string.h>

typedef struct layout {
    int32_t *tokens, *positions, *seq, *visible_end, *scored, *pages;
    kv_table *tables;
} layout;

static int32_t count_seqs(const model_batch *batch) {
    int32_t last = -1;
    for (int32_t i = 0; i < batch->n_rows; i++)
        if (batch->seq[i] > last) last = batch->seq[i];
    return last + 1;
}

static size_t count_pages(const model_batch *batch, int32_t n_seqs) {
    size_t n = 0;
    for (int32_t i = 0; i < n_seqs; i++) n += (size_t)batch->tables[i].n_pages;
    return n;
}

/* Lays the arrays out at `base`, or, where it is NULL, only adds up their size. */
static size_t lay_out(const model_batch *batch, unsigned char *base, layout *l) {
    int32_t n_seqs = count_seqs(batch);
    size_t n_rows = (size_t)batch->n_rows, at = 0;
    struct piece {
        void **place;
        size_t n, item_bytes;
    } pieces[] = {
        {(void **)&l->tokens, n_rows, sizeof(int32_t)},
        {(void **)&l->positions, n_rows, sizeof(int32_t)},
        {(void **)&l->seq, n_rows, sizeof(int32_t)},
        {(void **)&l->visible_end, n_rows, sizeof(int32_t)},
        {(void **)&l->scored, n_rows, sizeof(int32_t)},
        {(void **)&l->tables, (size_t)n_seqs, sizeof(kv_table)},
        {(void **)&l->pages, count_pages(batch, n_seqs), sizeof(int32_t)},
    };
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        size_t n_bytes = arena_bytes(pieces[i].n, pieces[i].item_bytes);
        *pieces[i].place = base ? base + at : NULL;
        if (__builtin_add_overflow(at, n_bytes, &at)) return SIZE_MAX;
    }
    return at;
}

int32_t step_inputs_keys_max(const model_batch *batch) {
    enum { KEYS_STEP = 512 };
    int32_t n = 0;
    for (int32_t i = 0; i < batch->n_rows; i++)
        if (batch->visible_end[i] > n) n = batch->visible_end[i];
    return (n + KEYS_STEP - 1) / KEYS_STEP * KEYS_STEP;
}

size_t step_inputs_place_bytes(const model_batch *batch) {
    layout ignored;
    return lay_out(batch, NULL, &ignored);
}

size_t step_inputs_host_bytes(const model_batch *batch) {
    size_t n_bytes = step_inputs_place_bytes(batch);
    size_t requests = arena_bytes((size_t)batch->n_requests, sizeof(score_request));
    size_t places = arena_bytes((size_t)batch->n_rows, sizeof(int32_t));
    if (__builtin_add_overflow(n_bytes, requests, &n_bytes) ||
        __builtin_add_overflow(n_bytes, places, &n_bytes))
        return SIZE_MAX;
    return n_bytes;
}

/* Lists the rows that requests name, so that norm and head see no other, and renumbers the
 * requests. places [n_rows]. Returns how many rows there are. */
static int32_t list_scored(const model_batch *batch, int32_t *places, score_request *requests,
                           int32_t *scored) {
    int32_t n_scored = 0;
    for (int32_t i = 0; i < batch->n_rows; i++) places[i] = -1;
    for (int32_t i = 0; i < batch->n_requests; i++) {
        score_request *request = &requests[i];
        *request = batch->requests[i];
        int32_t *rows[2] = {&request->row, &request->guide_row};
        for (int j = 0; j < 2; j++) {
            if (*rows[j] < 0) continue;
            int32_t *place = &places[*rows[j]];
            if (*place < 0) {
                scored[n_scored] = *rows[j];
                *place = n_scored++;
            }
            *rows[j] = *place;
        }
    }
    return n_scored;
}

um_status step_inputs_bring(device *dev, const model_batch *batch, device_scratch *scratch,
                            step_inputs *inputs) {
    layout from, to;
    size_t n_rows = (size_t)batch->n_rows, n_bytes = step_inputs_place_bytes(batch);
    unsigned char *host = arena_alloc(&scratch->host, n_bytes, 1);
    unsigned char *place = arena_alloc(&scratch->place, n_bytes, 1);
    score_request *requests =
        arena_alloc(&scratch->host, (size_t)batch->n_requests, sizeof *requests);
    int32_t *places = arena_alloc(&scratch->host, n_rows, sizeof *places);
    if (!host || !place || !requests || !places) return UM_INTERNAL;
    lay_out(batch, host, &from);
    lay_out(batch, place, &to);
    memcpy(from.tokens, batch->tokens, n_rows * sizeof(int32_t));
    memcpy(from.positions, batch->positions, n_rows * sizeof(int32_t));
    memcpy(from.seq, batch->seq, n_rows * sizeof(int32_t));
    memcpy(from.visible_end, batch->visible_end, n_rows * sizeof(int32_t));
    int32_t n_seqs = count_seqs(batch);
    size_t at = 0;
    for (int32_t i = 0; i < n_seqs; i++) {
        size_t n = (size_t)batch->tables[i].n_pages;
        if (n) memcpy(from.pages + at, batch->tables[i].pages, n * sizeof(int32_t));
        from.tables[i] = (kv_table){.pages = to.pages + at, .n_pages = batch->tables[i].n_pages};
        at += n;
    }
    memset(inputs, 0, sizeof *inputs); /* padding, too: it becomes part of a key */
    inputs->tokens = to.tokens;
    inputs->positions = to.positions;
    inputs->seq = to.seq;
    inputs->visible_end = to.visible_end;
    inputs->tables = to.tables;
    inputs->scored = to.scored;
    inputs->requests = requests;
    inputs->n_keys_max = step_inputs_keys_max(batch);
    inputs->n_scored = list_scored(batch, places, requests, from.scored);
    return device_write(dev, place, host, n_bytes);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows of a scoring forward, written into arrays that the job has allocated. Position p of the
 * answer is scored by its own row, or by the row of p - 1 where logits are shifted.
 */
#include <assert.h>
#include <string.h>

#include "engine/score.h"

/* The first position of the page that holds position p. */
static int32_t page_start_of(int32_t p) {
    return p / KV_PAGE_LEN * KV_PAGE_LEN;
}

static int32_t pages_of(int32_t n_positions) {
    return (n_positions + KV_PAGE_LEN - 1) / KV_PAGE_LEN;
}

void score_rows_measure(score_job *job, int32_t *n_lane_rows) {
    const score_layout *layout = &job->layout;
    score_block last = score_layout_block(layout, layout->n_blocks - 1);
    job->n_sides = job->options->cfg_scale > 0 ? SCORE_SIDES_MAX : 1;
    job->n_clean = last.start;
    job->n_shared_pages = pages_of(last.start);
    job->n_table_pages = pages_of(layout->n_total);
    job->n_lane_pages = *n_lane_rows = 0;
    for (int32_t i = 0; i < layout->n_blocks; i++) {
        score_block block = score_layout_block(layout, i);
        int32_t n_rows = block.end - page_start_of(block.start);
        if (n_rows > *n_lane_rows) *n_lane_rows = n_rows;
    }
    job->n_lane_pages = pages_of(*n_lane_rows);
}

void score_rows_clear(score_job *job) {
    job->n_rows = job->n_scores = 0;
}

static int32_t visible_end(const score_layout *layout, int32_t position) {
    int64_t end = ((int64_t)position / layout->block_len + 1) * layout->block_len;
    return end < layout->n_total ? (int32_t)end : layout->n_total;
}

/* The token that a sample does not mask; on the side without prompt the prompt is masked. */
static int32_t clean_token(const score_job *job, int32_t i_side, int32_t position) {
    int32_t n_prompt = job->layout.n_prompt;
    if (position >= n_prompt) return job->options->answer[position - n_prompt];
    return i_side ? model_info(job->engine->mdl)->mask_token : job->options->prompt[position];
}

static void add_row(score_job *job, int32_t token, int32_t position, int32_t i_table) {
    assert(job->n_rows < job->rows_capacity);
    int32_t row = job->n_rows++;
    job->tokens[row] = token;
    job->positions[row] = position;
    job->seq[row] = i_table;
    job->visible_end[row] = visible_end(&job->layout, position);
}

/* Asks for the answer's token at a position. rows [n_sides]: where the row that scores it is. */
static void add_score(score_job *job, int32_t position, const int32_t *rows) {
    job->requests[job->n_scores++] = (score_request){
        .row = rows[0],
        .guide_row = job->n_sides > 1 ? rows[1] : -1,
        .cfg_scale = (float)job->options->cfg_scale,
        .top_p = 1,
        .removed = -1,
        .watched = {clean_token(job, 0, position), -1},
    };
}

void score_rows_add_clean(score_job *job, int32_t first, int32_t end) {
    const score_layout *layout = &job->layout;
    int32_t first_row[SCORE_SIDES_MAX];
    for (int32_t side = 0; side < job->n_sides; side++) {
        first_row[side] = job->n_rows;
        job->tables[side] = (kv_table){.pages = job->pages.pages + side * job->n_shared_pages,
                                       .n_pages = job->n_shared_pages};
        for (int32_t p = first; p < end; p++) add_row(job, clean_token(job, side, p), p, side);
    }
    for (int32_t i = 0; i < layout->n_blocks; i++) {
        score_block block = score_layout_block(layout, i);
        if (!block.has_seed || block.start <= first || block.start > end) continue;
        int32_t at = block.start - 1 - first, rows[SCORE_SIDES_MAX];
        for (int32_t side = 0; side < job->n_sides; side++) rows[side] = first_row[side] + at;
        add_score(job, block.start, rows);
    }
}

/* The shared pages before the block's first page, then the lane's own. */
static void fill_table(score_job *job, int32_t i_lane, int32_t side, int32_t page_start) {
    int32_t i_table = i_lane * job->n_sides + side, n_before = page_start / KV_PAGE_LEN;
    int32_t *pages = job->table_pages + (size_t)i_table * (size_t)job->n_table_pages;
    const int32_t *own = job->pages.pages + job->n_sides * job->n_shared_pages +
                         (size_t)i_table * (size_t)job->n_lane_pages;
    int32_t n_own = job->n_table_pages - n_before;
    if (n_own > job->n_lane_pages) n_own = job->n_lane_pages;
    memcpy(pages, job->pages.pages + side * job->n_shared_pages, (size_t)n_before * sizeof *pages);
    memcpy(pages + n_before, own, (size_t)n_own * sizeof *pages);
    job->tables[i_table] = (kv_table){.pages = pages, .n_pages = n_before + n_own};
}

void score_rows_add_lane(score_job *job, const score_block *block, int32_t i_lane) {
    score_lane *l = &job->lanes[i_lane];
    bool is_shifted = job->layout.is_shifted;
    int32_t mask_token = model_info(job->engine->mdl)->mask_token;
    int32_t page_start = page_start_of(block->start), first_row[SCORE_SIDES_MAX];
    if (l->page_start != page_start) l->page_start = l->n_clean = page_start;
    int32_t first = l->n_clean;
    for (int32_t side = 0; side < job->n_sides; side++) {
        int32_t i_table = i_lane * job->n_sides + side;
        fill_table(job, i_lane, side, page_start);
        first_row[side] = job->n_rows;
        for (int32_t p = first; p < block->end; p++) {
            bool is_masked = p >= block->first && job->masked[p - block->first];
            add_row(job, is_masked ? mask_token : clean_token(job, side, p), p, i_table);
        }
    }
    l->n_clean = block->start;
    l->first_score = job->n_scores;
    for (int32_t i = 0; i < block->n; i++) {
        if (!job->masked[i]) continue;
        int32_t at = block->first + i - is_shifted - first, rows[SCORE_SIDES_MAX];
        for (int32_t side = 0; side < job->n_sides; side++) rows[side] = first_row[side] + at;
        add_score(job, block->first + i, rows);
    }
    l->n_masked = job->n_scores - l->first_score;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Scoring inside: the blocks of a prompt with its answer, the masks of a sample, and the job that
 * takes samples through the model. score_layout.c draws and cuts and needs no engine; score_rows.c
 * makes rows of it; score.c runs and sums.
 *
 * Clean tokens before a block are the same in every sample, so their keys and values stand in pages
 * that all samples share. A lane is a sample in a forward: its own pages hold the open block alone,
 * and those clean positions that lie in the same page as the block's first.
 *
 *   shared pages   |clean...........|clean...........|clean.....
 *   a lane's table |^ shared        |^ shared        |own: clean | open block |
 *
 * Full attention is one block that covers prompt and answer, with nothing shared.
 */
#ifndef ENGINE_SCORE_H
#define ENGINE_SCORE_H

#include "engine/engine.h"

enum { SCORE_SAMPLES_MAX = 1000000, SCORE_SIDES_MAX = 2 /* guidance has a half without prompt */ };

/* ---- score_layout.c ------------------------------------------------------------------------ */

/* One block of the sequence [prompt | answer]. */
typedef struct score_block {
    int32_t start, end; /* its positions */
    int32_t first;      /* the first position that a sample may mask */
    int32_t n;          /* positions from there on that may be masked; 0: none */
    int32_t number;     /* start / block_len; the index of its draw of the count */
    bool has_seed;      /* its start is a token of the answer that the block before it writes */
} score_block;

/* How the sequence is cut: n_blocks blocks from i_first on hold the answer. */
typedef struct score_layout {
    bool is_causal, is_shifted;
    int32_t n_prompt, n_total, block_len;
    int32_t i_first, n_blocks;
} score_layout;

/* Checks lengths, samples and block length; every field of the layout is filled. */
um_status score_layout_init(score_layout *layout, const um_model_info *info,
                            const um_score_options *options, um_error *err);
/* Block i of the answer, 0 to n_blocks - 1. */
score_block score_layout_block(const score_layout *layout, int32_t i);
/* masked [block->n] u8 of a sample. draws [2 * block->n] f64 is scratch. */
void score_draw_masks(const um_score_options *options, const score_block *block, int32_t i_sample,
                      double *draws, uint8_t *masked);

/* ---- score_rows.c -------------------------------------------------------------------------- */

/* A sample in a forward. What its pages hold stays from forward to forward. */
typedef struct score_lane {
    int32_t page_start; /* its own pages hold positions from here on; -1: nothing yet */
    int32_t n_clean;    /* positions [page_start, n_clean) hold clean keys and values */
    int32_t n_masked, first_score;
} score_lane;

typedef struct score_job {
    um_engine *engine;
    const um_score_options *options;
    const uint8_t *masks; /* [n_samples, n_answer] given ones, or NULL: they are drawn */
    score_layout layout;
    int32_t n_sides;        /* 1, or 2 under guidance: the second has the prompt masked */
    int32_t n_clean;        /* positions that are prefilled: the blocks before the last one */
    int32_t n_shared_pages; /* of one side, for them */
    int32_t n_lanes, n_lane_pages; /* pages of one side of a lane */
    page_table pages;              /* [n_sides, n_shared_pages], [n_lanes, n_sides, n_lane_pages] */
    score_lane *lanes;             /* [n_lanes] */
    int32_t n_table_pages,
        *table_pages; /* [n_tables, n_table_pages], n_tables: n_lanes * n_sides */
    kv_table *tables; /* [n_tables] */
    int32_t n_rows, rows_capacity;
    int32_t *tokens, *positions, *seq, *visible_end; /* [rows_capacity] */
    int32_t n_scores;
    score_request *requests; /* [rows_capacity] */
    score *scores;
    double *draws;   /* [2 * rows of the longest block] */
    uint8_t *masked; /* [rows of the longest block] */
    double *sums;    /* [n_samples] */
} score_job;

/* Finds the sizes of a job that take no memory: sides, clean positions, pages and rows of a lane.
 * *n_lane_rows: the most rows that a lane has in a forward. */
void score_rows_measure(score_job *job, int32_t *n_lane_rows);
/* Plans the clean positions [first, end), whole blocks, on every side; the first tokens of blocks
 * that they write are scored. */
void score_rows_add_clean(score_job *job, int32_t first, int32_t end);
/* Plans one lane: what its pages lack before the block, and the block under job->masked. */
void score_rows_add_lane(score_job *job, const score_block *block, int32_t i_lane);
void score_rows_clear(score_job *job);

/* ---- score.c ------------------------------------------------------------------------------- */

/* um_engine_score with the masks given, [n_samples, n_answer] u8, or NULL. Every block of a sample
 * must have a mask; a seed token's mask is not looked at. */
um_status score_run(um_engine *engine, const um_score_options *options, const uint8_t *masks,
                    um_score_result *result, double *samples, um_error *err);

#endif

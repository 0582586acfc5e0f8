/* SPDX-License-Identifier: Apache-2.0
 *
 * um_engine_score: the clean positions once, then block after block all samples, as many in a
 * forward as rows and pages allow. The lock on the model is held for one forward at a time; nothing
 * is allocated between them but by the engine's scratch, which may grow.
 */
#include "engine/score.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

static um_status check_tokens(const um_model_info *info, const char *what, const int32_t *ids,
                              size_t n, um_error *err) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= info->vocab)
            FAIL(UM_INVALID, err, "%s: token number %zu is %d; expected 0 to %d", what, i, ids[i],
                 info->vocab - 1);
    return UM_OK;
}

static um_status check_options(const um_engine *engine, const um_score_options *options,
                               um_error *err) {
    const um_model_info *info = model_info(engine->mdl);
    TRY(check_tokens(info, "prompt", options->prompt, options->n_prompt, err));
    TRY(check_tokens(info, "answer", options->answer, options->n_answer, err));
    for (size_t i = 0; i < options->n_answer; i++)
        if (options->answer[i] == info->mask_token)
            FAIL(UM_INVALID, err,
                 "answer: token number %zu is the mask token %d, which has no likelihood", i,
                 info->mask_token);
    return UM_OK;
}

/* Where experts are chosen by blocks, all rows of one of these go together. */
static um_status check_block(const um_engine *engine, const score_layout *layout, um_error *err) {
    int32_t multiple = model_traits_of(engine->mdl)->block_multiple;
    if (!layout->is_causal || multiple <= 1 || layout->block_len % multiple == 0) return UM_OK;
    FAIL(UM_INVALID, err,
         "block_len: expected a multiple of %d, within which the model routes experts; found %d",
         multiple, layout->block_len);
}

/* As many lanes as a forward's rows and half of the free pages allow, at least one; then as few as
 * make the same number of forwards. The other half is left to requests. step_lock held. */
static um_status acquire(score_job *job, int32_t n_lane_rows, um_error *err) {
    page_pool *pool = job->engine->pool;
    int32_t n_samples = job->options->n_samples;
    int64_t n_shared = (int64_t)job->n_sides * job->n_shared_pages;
    int64_t n_of_lane = (int64_t)job->n_sides * job->n_lane_pages;
    if (n_shared + n_of_lane > page_pool_count(pool))
        FAIL(UM_LIMIT, err, "scoring %d tokens needs %lld pages of the cache; it has %d",
             job->layout.n_total, (long long)(n_shared + n_of_lane), page_pool_count(pool));
    int64_t n_lanes = STEP_ROWS_MAX / ((int64_t)job->n_sides * n_lane_rows);
    int64_t n_by_pages = (page_pool_free_count(pool) / 2 - n_shared) / n_of_lane;
    if (n_lanes > n_by_pages) n_lanes = n_by_pages;
    if (n_lanes < 1) n_lanes = 1;
    int64_t n_forwards = (n_samples + n_lanes - 1) / n_lanes;
    n_lanes = (n_samples + n_forwards - 1) / n_forwards;
    job->n_lanes = (int32_t)n_lanes;
    return page_table_acquire(pool, (n_shared + n_lanes * n_of_lane) * KV_PAGE_LEN, &job->pages,
                              err);
}

static void *array(size_t n, size_t item_bytes, bool *is_held) {
    void *memory = memory_calloc(n, item_bytes);
    *is_held = *is_held && memory;
    return memory;
}

static um_status job_alloc(score_job *job, int32_t n_lane_rows, um_error *err) {
    int32_t n_sides = job->n_sides, n_chunk = job->layout.block_len;
    if (n_chunk < PREFILL_CHUNK) n_chunk = PREFILL_CHUNK;
    int64_t n_rows = (int64_t)job->n_lanes * n_sides * n_lane_rows;
    if (n_rows < (int64_t)n_chunk * n_sides) n_rows = (int64_t)n_chunk * n_sides;
    if (n_rows > INT32_MAX)
        FAIL(UM_LIMIT, err, "a forward of %lld rows is too large", (long long)n_rows);
    size_t n = (size_t)n_rows, n_tables = (size_t)job->n_lanes * (size_t)n_sides;
    size_t n_answer = job->options->n_answer;
    bool is_held = true;
    job->rows_capacity = (int32_t)n_rows;
    job->tokens = array(n, sizeof *job->tokens, &is_held);
    job->positions = array(n, sizeof *job->positions, &is_held);
    job->seq = array(n, sizeof *job->seq, &is_held);
    job->visible_end = array(n, sizeof *job->visible_end, &is_held);
    job->requests = array(n, sizeof *job->requests, &is_held);
    job->scores = array(n, sizeof *job->scores, &is_held);
    job->lanes = array((size_t)job->n_lanes, sizeof *job->lanes, &is_held);
    job->tables = array(n_tables, sizeof *job->tables, &is_held);
    job->table_pages =
        array(n_tables * (size_t)job->n_table_pages, sizeof *job->table_pages, &is_held);
    job->draws = array(2 * n_answer, sizeof *job->draws, &is_held);
    job->masked = array(n_answer, sizeof *job->masked, &is_held);
    job->sums = array((size_t)job->options->n_samples, sizeof *job->sums, &is_held);
    if (!is_held)
        FAIL(UM_NO_MEMORY, err, "no memory for scoring %d samples of %d tokens",
             job->options->n_samples, job->layout.n_total);
    for (int32_t i = 0; i < job->n_lanes; i++) job->lanes[i].page_start = -1;
    return UM_OK;
}

static void job_deinit(score_job *job) {
    pthread_mutex_lock(&job->engine->step_lock);
    page_table_release(job->engine->pool, &job->pages);
    pthread_mutex_unlock(&job->engine->step_lock);
    memory_free(job->sums);
    memory_free(job->masked);
    memory_free(job->draws);
    memory_free(job->table_pages);
    memory_free(job->tables);
    memory_free(job->lanes);
    memory_free(job->scores);
    memory_free(job->requests);
    memory_free(job->visible_end);
    memory_free(job->seq);
    memory_free(job->positions);
    memory_free(job->tokens);
}

static um_status forward_locked(score_job *job, um_error *err) {
    um_engine *engine = job->engine;
    model_batch batch = {
        .n_rows = job->n_rows,
        .tokens = job->tokens,
        .positions = job->positions,
        .seq = job->seq,
        .visible_end = job->visible_end,
        .tables = job->tables,
        .n_requests = job->n_scores,
        .requests = job->requests,
        .forbidden_token = -1,
        .scores = job->scores,
    };
    return model_forward(engine->mdl, engine->dev, engine->kv, &batch, &engine->plan.scratch, err);
}

static um_status forward(score_job *job, um_error *err) {
    pthread_mutex_lock(&job->engine->step_lock);
    um_status status = forward_locked(job, err);
    pthread_mutex_unlock(&job->engine->step_lock);
    if (status != UM_OK) return status;
    for (int32_t i = 0; i < job->n_scores; i++)
        if (!job->scores[i].is_finite)
            FAIL(UM_NUMERIC, err, "the logits of position %d hold a NaN or an infinity",
                 job->positions[job->requests[i].row]);
    return UM_OK;
}

/* The sum of log-probabilities of n scores. */
static double sum_scores(const score_job *job, int32_t first, int32_t n) {
    double sum = 0;
    for (int32_t i = first; i < first + n; i++) sum += job->scores[i].watched_log_probability[0];
    return sum;
}

static um_status report(const score_job *job, int64_t n_done, um_error *err) {
    const um_score_options *options = job->options;
    int64_t n_all = (int64_t)options->n_samples * job->layout.n_blocks;
    if (options->progress && !options->progress(options->progress_user, "scoring", n_done, n_all))
        FAIL(UM_CANCELLED, err, "the scoring was cancelled");
    return UM_OK;
}

/* The clean positions go through in chunks of whole blocks; seed tokens are part of every sample.
 * Where blocks are no multiple of a page, a lane's own pages repeat a few of them. */
static um_status prefill(score_job *job, um_error *err) {
    int32_t block_len = job->layout.block_len;
    int32_t n_chunk =
        block_len >= PREFILL_CHUNK ? block_len : PREFILL_CHUNK / block_len * block_len;
    double sum = 0;
    for (int32_t first = 0; first < job->n_clean; first += n_chunk) {
        int32_t end = job->n_clean - first < n_chunk ? job->n_clean : first + n_chunk;
        score_rows_clear(job);
        score_rows_add_clean(job, first, end);
        TRY(forward(job, err));
        sum += sum_scores(job, 0, job->n_scores);
        TRY(report(job, 0, err));
    }
    for (int32_t s = 0; s < job->options->n_samples; s++) job->sums[s] = sum;
    return UM_OK;
}

/* Fills job->masked. */
static um_status find_masks(score_job *job, const score_block *block, int32_t i_sample,
                            um_error *err) {
    if (!job->masks) {
        score_draw_masks(job->options, block, i_sample, job->draws, job->masked);
        return UM_OK;
    }
    const uint8_t *given = job->masks + (size_t)i_sample * job->options->n_answer;
    memcpy(job->masked, given + block->first - job->layout.n_prompt, (size_t)block->n);
    if (!memchr(job->masked, 1, (size_t)block->n))
        FAIL(UM_INVALID, err, "masks: sample %d masks nothing of the block at position %d",
             i_sample, block->start);
    return UM_OK;
}

/* All samples of a block. A single position has a single mask: one sample stands for all. */
static um_status score_samples(score_job *job, const score_block *block, int64_t n_done,
                               um_error *err) {
    int32_t n_samples = job->options->n_samples;
    int32_t n_distinct = block->n == 1 ? 1 : n_samples;
    for (int32_t first = 0; first < n_distinct; first += job->n_lanes) {
        int32_t n = n_distinct - first < job->n_lanes ? n_distinct - first : job->n_lanes;
        score_rows_clear(job);
        for (int32_t i = 0; i < n; i++) {
            TRY(find_masks(job, block, first + i, err));
            score_rows_add_lane(job, block, i);
        }
        TRY(forward(job, err));
        for (int32_t i = 0; i < n; i++) {
            const score_lane *l = &job->lanes[i];
            double term = sum_scores(job, l->first_score, l->n_masked) * block->n / l->n_masked;
            int32_t end = n_distinct < n_samples ? n_samples : first + i + 1;
            for (int32_t s = first + i; s < end; s++) job->sums[s] += term;
        }
        bool is_last = first + n == n_distinct;
        TRY(report(job, n_done + (is_last ? n_samples : first + n), err));
    }
    return UM_OK;
}

static um_status run(score_job *job, um_error *err) {
    TRY(prefill(job, err));
    int64_t n_done = 0;
    for (int32_t i = 0; i < job->layout.n_blocks; i++) {
        score_block block = score_layout_block(&job->layout, i);
        if (block.n) TRY(score_samples(job, &block, n_done, err));
        n_done += job->options->n_samples;
    }
    return UM_OK;
}

static void summarise(const score_job *job, um_score_result *result, double *samples) {
    int32_t n = job->options->n_samples;
    double mean = 0, squares = 0;
    for (int32_t s = 0; s < n; s++) mean += job->sums[s];
    mean /= n;
    for (int32_t s = 0; s < n; s++) squares += (job->sums[s] - mean) * (job->sums[s] - mean);
    *result = (um_score_result){
        .log_likelihood = mean,
        .standard_error = n > 1 ? sqrt(squares / (n - 1.0) / n) : (double)NAN,
        .n_tokens = (int32_t)job->options->n_answer,
        .n_samples = n,
    };
    if (samples) memcpy(samples, job->sums, (size_t)n * sizeof *samples);
}

um_status score_run(um_engine *engine, const um_score_options *options, const uint8_t *masks,
                    um_score_result *result, double *samples, um_error *err) {
    score_job job = {.engine = engine, .options = options, .masks = masks};
    int32_t n_lane_rows;
    TRY(score_layout_init(&job.layout, model_info(engine->mdl), options, err));
    TRY(check_options(engine, options, err));
    TRY(check_block(engine, &job.layout, err));
    score_rows_measure(&job, &n_lane_rows);
    pthread_mutex_lock(&engine->step_lock);
    um_status status = acquire(&job, n_lane_rows, err);
    pthread_mutex_unlock(&engine->step_lock);
    if (status == UM_OK) status = job_alloc(&job, n_lane_rows, err);
    if (status == UM_OK) status = run(&job, err);
    if (status == UM_OK) summarise(&job, result, samples);
    job_deinit(&job);
    return status;
}

um_status um_engine_score(um_engine *engine, const um_score_options *options,
                          um_score_result *result, double *samples, um_error *err) {
    return score_run(engine, options, NULL, result, samples, err);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * One forward over a sequence for its logits: what comparisons with a family's own code need. Takes
 * pages from the pool like a request and gives them back.
 */
#include <string.h>

#include "base/memory.h"
#include "engine/engine.h"

/* Room for the rows of one sequence, all scored. */
typedef struct logits_rows {
    int32_t *positions, *seq, *visible_end;
    score_request *requests;
    score *scores;
} logits_rows;

static um_status rows_alloc(logits_rows *rows, size_t n, um_error *err) {
    memset(rows, 0, sizeof *rows);
    rows->positions = memory_alloc_array(n, sizeof *rows->positions);
    rows->seq = memory_calloc(n, sizeof *rows->seq);
    rows->visible_end = memory_alloc_array(n, sizeof *rows->visible_end);
    rows->requests = memory_calloc(n, sizeof *rows->requests);
    rows->scores = memory_calloc(n, sizeof *rows->scores);
    if (!rows->positions || !rows->seq || !rows->visible_end || !rows->requests || !rows->scores)
        FAIL(UM_NO_MEMORY, err, "no memory for %zu rows", n);
    return UM_OK;
}

static void rows_free(logits_rows *rows) {
    memory_free(rows->positions);
    memory_free(rows->seq);
    memory_free(rows->visible_end);
    memory_free(rows->requests);
    memory_free(rows->scores);
}

static um_status check_arguments(const um_engine *engine, const int32_t *ids, size_t n,
                                 int32_t block_len, um_error *err) {
    const um_model_info *info = model_info(engine->mdl);
    if (n < 1 || !ids) FAIL(UM_INVALID, err, "ids: expected at least one, found none");
    if (n > (size_t)info->context)
        FAIL(UM_LIMIT, err, "%zu ids are more than the model's context of %d", n, info->context);
    if (n > (size_t)page_pool_count(engine->pool) * KV_PAGE_LEN)
        FAIL(UM_LIMIT, err, "%zu ids are more than the cache's %d pages hold", n,
             page_pool_count(engine->pool));
    if (block_len < 1 || block_len > info->context)
        FAIL(UM_INVALID, err, "block_len: expected 1 to %d (the context), found %d", info->context,
             block_len);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= info->vocab)
            FAIL(UM_INVALID, err, "ids: number %zu is %d; expected 0 to %d", i, ids[i],
                 info->vocab - 1);
    return UM_OK;
}

static um_status forward_all(um_engine *engine, const int32_t *ids, int32_t n, int32_t block_len,
                             float *logits, logits_rows *rows, const page_table *pages,
                             um_error *err) {
    bool is_full = model_info(engine->mdl)->attention == UM_ATTENTION_FULL;
    int32_t vocab = model_info(engine->mdl)->vocab;
    for (int32_t i = 0; i < n; i++) {
        int64_t end = ((int64_t)i / block_len + 1) * block_len;
        rows->positions[i] = i;
        rows->visible_end[i] = is_full || end > n ? n : (int32_t)end;
        rows->requests[i] = (score_request){.row = i,
                                            .guide_row = -1,
                                            .top_p = 1,
                                            .removed = -1,
                                            .watched = {-1, -1},
                                            .logits = logits + (size_t)i * (size_t)vocab};
    }
    kv_table table = page_table_view(pages);
    model_batch batch = {
        .n_rows = n,
        .tokens = ids,
        .positions = rows->positions,
        .seq = rows->seq,
        .visible_end = rows->visible_end,
        .tables = &table,
        .n_requests = n,
        .requests = rows->requests,
        .forbidden_token = -1,
        .scores = rows->scores,
    };
    TRY(model_forward(engine->mdl, engine->dev, engine->kv, &batch, &engine->plan.scratch, err));
    for (int32_t i = 0; i < n; i++)
        if (!rows->scores[i].is_finite)
            FAIL(UM_NUMERIC, err, "the logits of position %d hold a NaN or an infinity", i);
    return UM_OK;
}

um_status um_engine_logits(um_engine *engine, const int32_t *ids, size_t n, int32_t block_len,
                           float *logits, um_error *err) {
    if (block_len == 0) block_len = model_info(engine->mdl)->block_len;
    if (block_len == 0) block_len = model_info(engine->mdl)->context; /* the whole sequence */
    TRY(check_arguments(engine, ids, n, block_len, err));
    logits_rows rows;
    page_table pages = {0};
    um_status status = rows_alloc(&rows, n, err);
    pthread_mutex_lock(&engine->step_lock);
    if (status == UM_OK) status = page_table_acquire(engine->pool, (int64_t)n, &pages, err);
    if (status == UM_OK)
        status = forward_all(engine, ids, (int32_t)n, block_len, logits, &rows, &pages, err);
    page_table_release(engine->pool, &pages);
    pthread_mutex_unlock(&engine->step_lock);
    rows_free(&rows);
    return status;
}

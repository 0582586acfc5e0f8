/* SPDX-License-Identifier: Apache-2.0
 *
 * Measuring: forwards of one span over a cache that is already there, beside what the machine's
 * limits would allow for the same bytes and operations.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "kernels/limits.h"

um_status um_engine_machine(um_engine *engine, um_machine *machine, um_error *err) {
    device_limits limits;
    pthread_mutex_lock(&engine->step_lock);
    um_status status = device_measure_limits(engine->dev, &limits, err);
    pthread_mutex_unlock(&engine->step_lock);
    if (status != UM_OK) return status;
    *machine = (um_machine){.read_gbps = limits.read_gbps,
                            .f32_gflops = limits.f32_gflops,
                            .bf16_gflops = limits.bf16_gflops,
                            .int8_gops = limits.int8_gops};
    return UM_OK;
}

int32_t um_engine_full_layers(const um_engine *engine) {
    return model_full_layers(engine->mdl);
}

/* Adds what n_rows rows cost in one weight. */
static void count_weight(const matrix *w, double n_rows, double share, um_measurement *m) {
    if (!w->data) return;
    double numbers = (double)w->n_out * (double)w->n_in;
    size_t stored = dtype_size(w->type, (size_t)w->n_out * (size_t)w->n_in);
    packed_form form = w->form;
    m->bytes +=
        share * (w->packed ? (double)packed_bytes(w->type, w->n_out, w->n_in) : (double)stored);
    double operations = 2 * numbers * n_rows;
    if (form == FORM_INT8)
        m->int8_ops += operations;
    else if (form != FORM_FLOAT)
        m->bf16_ops += operations;
    else
        m->f32_ops += operations;
}

static void count_mlp(const mlp_weights *w, double n_rows, double share, um_measurement *m) {
    count_weight(&w->gate, n_rows, share, m);
    count_weight(&w->up, n_rows, share, m);
    count_weight(&w->down, n_rows, share, m);
}

static void count_layer(const transformer_shape *s, const layer_weights *layer, double n_rows,
                        double n_experts, um_measurement *m) {
    count_weight(&layer->wq.w, n_rows, 1, m);
    count_weight(&layer->wk.w, n_rows, 1, m);
    count_weight(&layer->wv.w, n_rows, 1, m);
    count_weight(&layer->wo.w, n_rows, 1, m);
    if (!layer->is_moe) {
        count_mlp(&layer->mlp, n_rows, 1, m);
        return;
    }
    count_weight(&layer->moe.router, n_rows, 1, m);
    count_mlp(&layer->moe.shared, n_rows, 1, m);
    /* Every row meets n_active experts; the bytes are those of all that are touched. */
    count_mlp(&layer->moe.experts[0], n_rows * s->n_active, n_experts, m);
}

/* Scales what the layers cost to all layers of the shape. */
static void scale(um_measurement *m, double factor) {
    m->bytes *= factor;
    m->int8_ops *= factor;
    m->bf16_ops *= factor;
    m->f32_ops *= factor;
}

static void count(const um_engine *engine, const um_measure_options *o, const int32_t *touched,
                  um_measurement *m) {
    const transformer *t = model_transformer(engine->mdl);
    const transformer_shape *s = &t->shape;
    double n_rows = o->n_rows, n_touched = 0;
    int n_moe = 0;
    for (int32_t i = 0; i < s->n_layers; i++) {
        count_layer(s, &t->layers[i], n_rows, touched[i], m);
        n_moe += t->layers[i].is_moe;
        n_touched += touched[i];
    }
    /* Rows read keys and values of all positions before the span's end, once a step. */
    double n_seen = (double)o->context + n_rows, width = (double)s->n_heads * s->head_dim;
    m->bytes += n_seen * (double)model_info(engine->mdl)->cache_bytes_per_token;
    m->f32_ops += 4 * n_rows * n_seen * width * s->n_layers;
    m->experts_touched = n_moe ? n_touched / n_moe : 0;
    scale(m, (double)model_full_layers(engine->mdl) / s->n_layers);
    if (o->phase == UM_PHASE_STEP) count_weight(&t->head, n_rows, 1, m);
}

static void limit(const um_machine *machine, um_measurement *m) {
    double bf16_rate = machine->bf16_gflops > 0 ? machine->bf16_gflops : machine->f32_gflops;
    double read = m->bytes / machine->read_gbps / 1e6, f32 = m->f32_ops / machine->f32_gflops / 1e6;
    double bf16 = m->bf16_ops / bf16_rate / 1e6, int8 = m->int8_ops / machine->int8_gops / 1e6;
    double compute = f32 + bf16 + int8;
    m->limit_ms = read > compute ? read : compute;
    m->limit = read >= compute              ? "read"
               : f32 >= bf16 && f32 >= int8 ? "f32"
               : bf16 >= int8               ? "bf16"
                                            : "int8";
}

/* The rows of the span. */
typedef struct span_rows {
    int32_t *tokens, *positions, *seq, *visible_end, *touched;
    score_request *requests;
    score *scores;
    double *ms;
} span_rows;

static void rows_free(span_rows *r) {
    memory_free(r->tokens);
    memory_free(r->positions);
    memory_free(r->seq);
    memory_free(r->visible_end);
    memory_free(r->touched);
    memory_free(r->requests);
    memory_free(r->scores);
    memory_free(r->ms);
}

static um_status rows_alloc(span_rows *r, size_t n, size_t n_layers, size_t n_repeats,
                            um_error *err) {
    memset(r, 0, sizeof *r);
    r->tokens = memory_calloc(n, sizeof *r->tokens);
    r->positions = memory_calloc(n, sizeof *r->positions);
    r->seq = memory_calloc(n, sizeof *r->seq);
    r->visible_end = memory_calloc(n, sizeof *r->visible_end);
    r->touched = memory_calloc(n_layers, sizeof *r->touched);
    r->requests = memory_calloc(n, sizeof *r->requests);
    r->scores = memory_calloc(n, sizeof *r->scores);
    r->ms = memory_calloc(n_repeats, sizeof *r->ms);
    if (!r->tokens || !r->positions || !r->seq || !r->visible_end || !r->touched || !r->requests ||
        !r->scores || !r->ms)
        FAIL(UM_NO_MEMORY, err, "no memory for %zu rows", n);
    return UM_OK;
}

/* Tokens are scattered over the vocabulary, so that routers see different rows. */
static model_batch batch_of(const um_engine *engine, span_rows *r, const kv_table *table,
                            int32_t first, int32_t n, bool is_scored) {
    int32_t vocab = model_info(engine->mdl)->vocab;
    for (int32_t i = 0; i < n; i++) {
        r->tokens[i] = (int32_t)((uint32_t)(first + i + 1) * 2654435761u % (uint32_t)vocab);
        r->positions[i] = first + i;
        r->visible_end[i] = first + n;
        r->requests[i] = (score_request){
            .row = i, .guide_row = -1, .top_p = 1, .removed = -1, .watched = {-1, -1}};
    }
    return (model_batch){.n_rows = n,
                         .tokens = r->tokens,
                         .positions = r->positions,
                         .seq = r->seq,
                         .visible_end = r->visible_end,
                         .tables = table,
                         .n_requests = is_scored ? n : 0,
                         .requests = r->requests,
                         .forbidden_token = -1,
                         .scores = r->scores};
}

static um_status forward(um_engine *engine, const model_batch *batch, um_error *err) {
    TRY(model_forward(engine->mdl, engine->dev, engine->kv, batch, &engine->plan.scratch, err));
    if (device_wait(engine->dev) != UM_OK)
        FAIL(UM_DEVICE, err, "%s: a forward failed: %s", engine->dev->name,
             device_fault(engine->dev));
    return UM_OK;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Median and least of the span's forwards, after one that is not counted. */
static um_status time_span(um_engine *engine, const um_measure_options *o, span_rows *r,
                           const kv_table *table, bool is_scored, double *median, double *least,
                           um_error *err) {
    model_batch batch = batch_of(engine, r, table, o->context, o->n_rows, is_scored);
    batch.experts_touched = r->touched;
    TRY(forward(engine, &batch, err));
    batch.experts_touched = NULL;
    for (int32_t i = 0; i < o->n_repeats; i++) {
        int64_t begin = clock_now_ns();
        TRY(forward(engine, &batch, err));
        r->ms[i] = (double)(clock_now_ns() - begin) / 1e6;
    }
    for (int32_t i = 0; is_scored && i < o->n_rows; i++)
        if (!r->scores[i].is_finite)
            FAIL(UM_NUMERIC, err, "the logits of row %d hold a NaN or an infinity", i);
    qsort(r->ms, (size_t)o->n_repeats, sizeof *r->ms, by_size);
    *median = r->ms[o->n_repeats / 2];
    *least = r->ms[0];
    return UM_OK;
}

static um_status run(um_engine *engine, const um_measure_options *o, span_rows *r,
                     const kv_table *table, um_measurement *m, um_error *err) {
    enum { CHUNK = 512 };
    for (int32_t at = 0; at < o->context; at += CHUNK) { /* what the span will see */
        int32_t n = o->context - at < CHUNK ? o->context - at : CHUNK;
        model_batch before = batch_of(engine, r, table, at, n, false);
        TRY(forward(engine, &before, err));
    }
    bool is_scored = o->phase == UM_PHASE_STEP;
    TRY(time_span(engine, o, r, table, is_scored, &m->ms, &m->ms_min, err));
    int32_t n_layers = model_info(engine->mdl)->n_layers;
    int32_t n_missing = model_full_layers(engine->mdl) - n_layers;
    if (n_missing == 0) return UM_OK;
    /* The missing layers take what those do that are there, without the head. */
    double layers = m->ms, least;
    if (is_scored) TRY(time_span(engine, o, r, table, false, &layers, &least, err));
    m->ms += layers / n_layers * n_missing;
    m->ms_min += layers / n_layers * n_missing;
    return UM_OK;
}

static um_status check(const um_engine *engine, const um_measure_options *o, um_error *err) {
    int64_t n = (int64_t)o->context + o->n_rows;
    int64_t n_slots = (int64_t)page_pool_count(engine->pool) * KV_PAGE_LEN;
    if (o->n_rows < 1 || o->context < 0 || o->n_repeats < 1 || o->n_repeats > 1000)
        FAIL(UM_INVALID, err,
             "measure: expected at least 1 row, a context of 0 or more and 1 to 1000 repeats, "
             "found %d, %d and %d",
             o->n_rows, o->context, o->n_repeats);
    int32_t context = model_info(engine->mdl)->context;
    if (n > context)
        FAIL(UM_LIMIT, err,
             "measure: %d positions of context and %d rows are more than the model's "
             "context of %d",
             o->context, o->n_rows, context);
    if (n > n_slots)
        FAIL(UM_LIMIT, err, "measure: %lld positions are more than the cache's %lld", (long long)n,
             (long long)n_slots);
    return UM_OK;
}

um_status um_engine_measure(um_engine *engine, const um_measure_options *o,
                            const um_machine *machine, um_measurement *m, um_error *err) {
    TRY(check(engine, o, err));
    span_rows rows;
    page_table pages = {0};
    *m = (um_measurement){0};
    int32_t n_layers = model_info(engine->mdl)->n_layers;
    size_t n_rows = (size_t)(o->n_rows > 512 ? o->n_rows : 512);
    um_status status = rows_alloc(&rows, n_rows, (size_t)n_layers, (size_t)o->n_repeats, err);
    pthread_mutex_lock(&engine->step_lock);
    if (status == UM_OK)
        status = page_table_acquire(engine->pool, (int64_t)o->context + o->n_rows, &pages, err);
    if (status == UM_OK) {
        kv_table table = page_table_view(&pages);
        status = run(engine, o, &rows, &table, m, err);
    }
    if (status == UM_OK) count(engine, o, rows.touched, m);
    page_table_release(engine->pool, &pages);
    pthread_mutex_unlock(&engine->step_lock);
    rows_free(&rows);
    if (status != UM_OK) return status;
    limit(machine, m);
    m->percent_of_limit = 100 * m->limit_ms / m->ms;
    return UM_OK;
}

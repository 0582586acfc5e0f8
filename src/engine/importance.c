/* SPDX-License-Identifier: Apache-2.0
 *
 * Importances of weights' inputs: the error of a product is sum_i (w'_i - w_i) x_i, whose square is
 * in the mean about sum_i (w'_i - w_i)^2 mean(x_i^2) where inputs are not correlated. So the mean
 * square of each input is what an encoder weighs errors with.
 *
 * The forward pass knows nothing of this. It calls operations through a table; while text is
 * measured the device has a copy of the table whose products look at their inputs first. What the
 * operation over experts keeps to itself, the inputs of each expert's last product, is computed
 * once more.
 */
#include "engine/importance.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "engine/engine.h"

enum { PIECE_LEN = 256 };

/* A column that no text has used is not worthless: each gets this share of the mean. */
static const double floor_share = 0.01;

struct importance_entry {
    char name[160];
    gguf_role role;
    int32_t n_in, n_parts;
    double *sums;  /* [n_parts, n_in] of squares; freed by finish */
    int64_t *rows; /* [n_parts] that were added */
    float *means;  /* [n_parts, n_in] */
};

struct um_importance {
    importance_entry *entries; /* [n] */
    size_t n;
};

/* The table that a device has while it is watched; `ops` is what dev->ops points to. */
typedef struct watch {
    kernel_ops ops;
    const kernel_ops *real;
    um_importance *importance;
    gguf_export list; /* as the entries: by which address a weight is known */
    float *gathered;  /* [PIECE_LEN, hidden] rows of one expert */
    float *gate, *up; /* [PIECE_LEN, expert_inner] */
} watch;

void um_importance_options_init(um_importance_options *options) {
    memset(options, 0, sizeof *options);
    options->mask_token = -1;
}

/* ---- The result ----------------------------------------------------------------------------- */

void um_importance_close(um_importance **handle) {
    if (!handle || !*handle) return;
    for (size_t i = 0; i < (*handle)->n; i++) {
        memory_free((*handle)->entries[i].sums);
        memory_free((*handle)->entries[i].rows);
        memory_free((*handle)->entries[i].means);
    }
    memory_free((*handle)->entries);
    memory_free(*handle);
    *handle = NULL;
}

static int32_t parts_of(const gguf_source *source) {
    return source->experts ? (int32_t)source->shape[0] : 1;
}

const importance_entry *importance_find(const um_importance *importance,
                                        const gguf_source *source) {
    int32_t n_parts = source->n_dims == 3 ? (int32_t)source->shape[0] : 1;
    for (size_t i = 0; importance && i < importance->n; i++) {
        const importance_entry *entry = &importance->entries[i];
        if (strcmp(entry->name, source->name) == 0 && entry->n_in == source->n_in &&
            entry->n_parts == n_parts && entry->means)
            return entry;
    }
    return NULL;
}

const float *importance_inputs(const importance_entry *entry, int64_t i_part) {
    return entry ? entry->means + (size_t)i_part * (size_t)entry->n_in : NULL;
}

static um_status create(const gguf_export *list, um_importance **out, um_error *err) {
    um_importance *importance = memory_calloc(1, sizeof *importance);
    *out = importance;
    if (importance) importance->entries = memory_calloc(list->n, sizeof *importance->entries);
    if (!importance || !importance->entries)
        FAIL(UM_NO_MEMORY, err, "no memory for the importances of %zu tensors", list->n);
    for (size_t i = 0; i < list->n; i++) {
        const gguf_source *source = &list->items[i];
        importance_entry *entry = &importance->entries[importance->n++];
        memcpy(entry->name, source->name, sizeof entry->name);
        entry->role = source->role;
        entry->n_in = source->n_in;
        entry->n_parts = parts_of(source);
        if (gguf_export_is_plain(source)) continue;
        size_t n_rows = (size_t)entry->n_parts;
        entry->sums = memory_calloc(n_rows * (size_t)entry->n_in, sizeof *entry->sums);
        entry->rows = memory_calloc(n_rows, sizeof *entry->rows);
        if (!entry->sums || !entry->rows)
            FAIL(UM_NO_MEMORY, err, "no memory for the importances of %s", entry->name);
    }
    return UM_OK;
}

/* Sums to means. An expert that no row met has the mean of all. */
static um_status finish_entry(importance_entry *entry, um_error *err) {
    size_t n_in = (size_t)entry->n_in;
    int64_t n_rows = 0;
    for (int32_t p = 0; entry->rows && p < entry->n_parts; p++) n_rows += entry->rows[p];
    if (n_rows == 0) return UM_OK;
    entry->means = memory_alloc_array((size_t)entry->n_parts * n_in, sizeof *entry->means);
    double *whole = memory_calloc(n_in, sizeof *whole);
    if (!entry->means || !whole) {
        memory_free(whole);
        FAIL(UM_NO_MEMORY, err, "no memory for the importances of %s", entry->name);
    }
    for (int32_t p = 0; p < entry->n_parts; p++)
        for (size_t i = 0; i < n_in; i++) whole[i] += entry->sums[(size_t)p * n_in + i];
    for (int32_t p = 0; p < entry->n_parts; p++) {
        bool is_met = entry->rows[p] > 0;
        const double *sums = is_met ? entry->sums + (size_t)p * n_in : whole;
        double n = (double)(is_met ? entry->rows[p] : n_rows), mean = 0;
        for (size_t i = 0; i < n_in; i++) mean += sums[i] / n / (double)n_in;
        for (size_t i = 0; i < n_in; i++)
            entry->means[(size_t)p * n_in + i] = (float)(sums[i] / n + floor_share * mean);
    }
    memory_free(whole);
    memory_free(entry->sums);
    entry->sums = NULL;
    return UM_OK;
}

/* ---- Watching ------------------------------------------------------------------------------- */

static void add_rows(importance_entry *entry, int32_t i_part, const float *x, int32_t n_rows) {
    size_t n_in = (size_t)entry->n_in;
    double *sums = entry->sums + (size_t)i_part * n_in;
    for (int32_t r = 0; r < n_rows; r++)
        for (size_t i = 0; i < n_in; i++) {
            double value = (double)x[(size_t)r * n_in + i];
            sums[i] += value * value;
        }
    entry->rows[i_part] += n_rows;
}

/* The entry whose first part is this weight: parts that share a tensor share their inputs. */
static importance_entry *entry_of(const watch *w, const void *data) {
    for (size_t i = 0; i < w->list.n; i++)
        if (w->list.items[i].n_parts && w->list.items[i].parts[0].data == data)
            return w->importance->entries[i].sums ? &w->importance->entries[i] : NULL;
    return NULL;
}

static const watch *watch_of(const device *dev) {
    return (const watch *)(const void *)dev->ops;
}

static um_status watched_linear(device *dev, float *y, const float *x, const matrix *w,
                                const float *bias, int32_t n_rows) {
    const watch *on = watch_of(dev);
    importance_entry *entry = entry_of(on, w->data);
    if (entry) add_rows(entry, 0, x, n_rows);
    return on->real->linear(dev, y, x, w, bias, n_rows);
}

/* The rows of one expert: their inputs, and the products up to those of its last weight. */
static um_status watch_expert(device *dev, const watch *on, const experts_args *args,
                              importance_entry *entries[3], int32_t i_expert) {
    const mlp_weights *expert = &args->experts[i_expert];
    size_t hidden = (size_t)expert->gate.n_in;
    int32_t n = 0;
    for (int32_t r = 0; r < args->n_rows; r++)
        for (int32_t k = 0; k < args->n_active; k++)
            if (args->ids[r * args->n_active + k] == i_expert)
                memcpy(on->gathered + (size_t)n++ * hidden, args->x + (size_t)r * hidden,
                       hidden * sizeof *args->x);
    if (n == 0) return UM_OK;
    add_rows(entries[0], i_expert, on->gathered, n);
    add_rows(entries[1], i_expert, on->gathered, n);
    TRY(on->real->linear(dev, on->gate, on->gathered, &expert->gate, NULL, n));
    TRY(on->real->linear(dev, on->up, on->gathered, &expert->up, NULL, n));
    TRY(on->real->swiglu(dev, on->gate, on->gate, on->up, (size_t)n * (size_t)expert->gate.n_out));
    add_rows(entries[2], i_expert, on->gate, n);
    return UM_OK;
}

static um_status watched_experts(device *dev, const experts_args *args, void *scratch) {
    const watch *on = watch_of(dev);
    importance_entry *entries[3] = {NULL, NULL, NULL};
    for (size_t i = 0; i < on->list.n; i++)
        if (on->list.items[i].experts == args->experts)
            entries[on->list.items[i].role - GGUF_ROLE_EXPERT_GATE] = &on->importance->entries[i];
    for (int32_t e = 0; entries[0] && e < args->n_experts; e++)
        TRY(watch_expert(dev, on, args, entries, e));
    return on->real->experts(dev, args, scratch);
}

static um_status watched_head(device *dev, const head_args *args, void *scratch) {
    const watch *on = watch_of(dev);
    importance_entry *entry = entry_of(on, args->w.data);
    if (entry) add_rows(entry, 0, args->x, args->n_rows);
    return on->real->head(dev, args, scratch);
}

static um_status watch_init(watch *w, um_engine *engine, um_error *err) {
    const transformer_shape *s = &model_transformer(engine->mdl)->shape;
    size_t inner = (size_t)s->expert_inner;
    memset(w, 0, sizeof *w);
    w->real = engine->dev->ops;
    w->ops = *w->real;
    w->ops.linear = watched_linear;
    w->ops.experts = watched_experts;
    w->ops.head = watched_head;
    TRY(gguf_export_list_weights(engine->mdl, &w->list, err));
    w->gathered = memory_alloc_array(PIECE_LEN, (size_t)s->hidden * sizeof(float));
    w->gate = memory_alloc_array(PIECE_LEN, inner * sizeof(float));
    w->up = memory_alloc_array(PIECE_LEN, inner * sizeof(float));
    if (!w->gathered || !w->gate || !w->up)
        FAIL(UM_NO_MEMORY, err, "no memory to watch %d rows", PIECE_LEN);
    return create(&w->list, &w->importance, err);
}

static void watch_deinit(watch *w) {
    gguf_export_deinit(&w->list);
    memory_free(w->gathered);
    memory_free(w->gate);
    memory_free(w->up);
    um_importance_close(&w->importance);
}

/* ---- Text ----------------------------------------------------------------------------------- */

/* Masks a random share of each block, or of the whole piece. Shares run evenly through (0, 1) over
 * the units of all pieces, from a random start (multiples of the golden ratio's inverse). */
static void mask_piece(const um_importance_options *o, const um_model_info *info, int32_t *ids,
                       int32_t n, uint32_t i_piece) {
    bool is_causal = info->attention == UM_ATTENTION_BLOCK_CAUSAL;
    int32_t unit_len = is_causal ? info->block_len : PIECE_LEN;
    rng_key start = {.seed = o->seed};
    double first = rng_uniform(&start, RNG_PURPOSE_IMPORTANCE, 0);
    for (int32_t i = 0; i < n; i++) {
        double unit = (double)i_piece * ((double)PIECE_LEN / unit_len) + i / unit_len;
        double share = first + 0.6180339887498949 * unit;
        rng_key key = {.seed = o->seed, .position = (uint32_t)i, .step = i_piece + 1};
        share -= floor(share);
        if (rng_uniform(&key, RNG_PURPOSE_IMPORTANCE, 0) < share) ids[i] = info->mask_token;
    }
}

static um_status measure(const um_importance_options *o, um_engine *engine, um_error *err) {
    const um_model_info *info = um_engine_info(engine);
    int32_t ids[PIECE_LEN];
    size_t piece_len = info->context < PIECE_LEN ? (size_t)info->context : PIECE_LEN;
    float *logits = memory_alloc_array(piece_len, (size_t)info->vocab * sizeof *logits);
    if (!logits) FAIL(UM_NO_MEMORY, err, "no memory for the logits of %zu tokens", piece_len);
    um_status status = UM_OK;
    uint32_t i_piece = 0;
    for (size_t first = 0; first < o->n_ids && status == UM_OK; first += piece_len) {
        size_t n = o->n_ids - first < piece_len ? o->n_ids - first : piece_len;
        memcpy(ids, o->ids + first, n * sizeof *ids);
        mask_piece(o, info, ids, (int32_t)n, i_piece++);
        status = um_engine_logits(engine, ids, n, 0, logits, err);
        if (status == UM_OK && o->progress &&
            !o->progress(o->progress_user, "measuring", (int64_t)(first + n), (int64_t)o->n_ids))
            status = um_error_set(err, UM_CANCELLED, "interrupted");
    }
    memory_free(logits);
    return status;
}

/* Nobody else knows this engine, so that its device may be watched without a lock. */
static um_status measure_watched(const um_importance_options *o, um_engine *engine,
                                 um_importance **out, um_error *err) {
    watch w;
    um_status status = watch_init(&w, engine, err);
    if (status == UM_OK) {
        engine->dev->ops = &w.ops;
        status = measure(o, engine, err);
        engine->dev->ops = w.real;
    }
    for (size_t i = 0; status == UM_OK && i < w.importance->n; i++)
        status = finish_entry(&w.importance->entries[i], err);
    if (status == UM_OK) {
        *out = w.importance;
        w.importance = NULL;
    }
    watch_deinit(&w);
    return status;
}

um_status um_importance_measure(const um_importance_options *options, um_importance **out,
                                um_error *err) {
    if (!options || !options->directory || !out)
        FAIL(UM_INVALID, err, "the model's directory is missing");
    if (!options->ids || options->n_ids == 0)
        FAIL(UM_INVALID, err, "ids: expected at least one, found none");
    *out = NULL;
    um_engine_options settings;
    um_engine *engine = NULL;
    um_engine_options_init(&settings);
    settings.directory = options->directory;
    settings.n_threads = options->n_threads;
    settings.mask_token = options->mask_token;
    settings.precision = UM_PRECISION_REFERENCE;
    settings.device = "cpu"; /* what is watched is read where it lies */
    settings.cache_tokens = 2 * PIECE_LEN;
    TRY(um_engine_open(&settings, &engine, err));
    um_status status = measure_watched(options, engine, out, err);
    um_engine_close(&engine);
    return status;
}

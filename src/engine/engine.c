/* SPDX-License-Identifier: Apache-2.0
 *
 * Loading: model, memory check, device, pages. What is needed is computed before anything large is
 * taken, so that a machine that is too small hears it in a sentence and not from the kernel.
 */
#include "engine/engine.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum {
    CANVAS_SLACK_TOKENS = 1024, /* a canvas is rounded up to whole blocks past the context */
    CACHE_TOKENS_DEFAULT_MAX = 32768
};

void um_engine_options_init(um_engine_options *options) {
    memset(options, 0, sizeof *options);
    options->mask_token = -1;
    options->precision = UM_PRECISION_FAST;
}

um_status um_model_inspect(const char *directory, int32_t mask_token, um_model_info *info,
                           um_error *err) {
    model *m;
    if (!directory) FAIL(UM_INVALID, err, "the model's directory is missing");
    TRY(model_open(directory, mask_token, &m, err));
    *info = *model_info(m);
    model_close(m);
    return UM_OK;
}

/* The kernels' name of a type that is not AUTO. */
static kv_type stored_as(um_kv_type type) {
    return type == UM_KV_BF16 ? KV_BF16 : type == UM_KV_INT8 ? KV_INT8 : KV_F32;
}

int64_t um_model_cache_bytes(const um_model_info *info, um_kv_type type) {
    return (int64_t)page_pool_bytes_per_token(stored_as(type), info->n_layers, info->n_kv_heads,
                                              info->head_dim);
}

static um_status resolve_kv_type(const um_engine_options *options, um_kv_type *type,
                                 um_error *err) {
    bool is_fast = options->precision == UM_PRECISION_FAST;
    switch (options->kv_type) {
        case UM_KV_AUTO:
            *type = is_fast ? UM_KV_BF16 : UM_KV_F32;
            return UM_OK;
        case UM_KV_F32:
        case UM_KV_BF16:
        case UM_KV_INT8:
            *type = options->kv_type;
            return UM_OK;
    }
    um_error_set(err, UM_INVALID, "kv_type: expected a um_kv_type (0 to 3), found %d",
                 (int)options->kv_type);
    um_error_at(err, "kv_type", -1);
    return UM_INVALID;
}

static double gigabytes(int64_t n_bytes) {
    return (double)n_bytes / 1e9;
}

/* Weights are mapped and may be dropped and read again, but a model that does not fit reads them
 * from disk at every step: that is no way to run, and is said instead. */
static um_status check_memory(const model *m, const device *dev, int64_t n_positions, bool is_fast,
                              um_error *err) {
    int64_t weights = model_weight_bytes(m), available = device_available_bytes(dev), cache, needed;
    /* Repacked blocks are a copy, a few per cent larger at most. */
    if (is_fast && dev->has_int8) weights += model_info(m)->bytes_blocks / 32 * 33;
    if (is_fast && dev->has_panels) weights += model_info(m)->bytes_blocks / 32; /* no copy */
    if (__builtin_mul_overflow(n_positions, model_info(m)->cache_bytes_per_token, &cache) ||
        __builtin_add_overflow(cache, weights, &needed))
        FAIL(UM_NO_MEMORY, err, "a cache of %lld positions is larger than any memory",
             (long long)n_positions);
    if (needed <= available) return UM_OK;
    FAIL(UM_NO_MEMORY, err,
         "memory does not suffice: %.2f GB are needed (weights %.2f GB, a cache of %lld positions "
         "%.2f GB), %.2f GB are there (%s)",
         gigabytes(needed), gigabytes(weights), (long long)n_positions, gigabytes(cache),
         gigabytes(available), dev->name);
}

static um_status open_synthetic(um_engine *engine, const um_engine_options *options,
                                um_error *err) {
    const char *wanted = options->synthetic_type ? options->synthetic_type : "q4_0";
    dtype type;
    if (!dtype_find(wanted, &type))
        FAIL(UM_INVALID, err,
             "synthetic_type: expected f32, f16, bf16, q8_0, q4_0, q4_k, q5_k or q6_k, "
             "found \"%.40s\"",
             wanted);
    return model_open_synthetic(options->synthetic, type, options->synthetic_layers, engine->dev,
                                &engine->mdl, err);
}

static um_status open_parts(um_engine *engine, const um_engine_options *options, um_error *err) {
    TRY(device_open(options->device, options->n_threads, &engine->dev, err));
    if (options->synthetic)
        TRY(open_synthetic(engine, options, err));
    else
        TRY(model_open(options->directory, options->mask_token, &engine->mdl, err));
    if (options->expert_cap) TRY(model_cap_experts(engine->mdl, options->expert_cap, err));
    const um_model_info *info = model_info(engine->mdl);
    model_set_kv_type(engine->mdl, stored_as(engine->kv_type));
    int64_t n_tokens = options->cache_tokens;
    if (n_tokens == 0) {
        n_tokens =
            info->context < CACHE_TOKENS_DEFAULT_MAX ? info->context : CACHE_TOKENS_DEFAULT_MAX;
        n_tokens += CANVAS_SLACK_TOKENS;
    }
    if (n_tokens < 1 || n_tokens > INT32_MAX - KV_PAGE_LEN)
        FAIL(UM_INVALID, err, "cache_tokens: expected 1 to %d, found %lld", INT32_MAX - KV_PAGE_LEN,
             (long long)n_tokens);
    int32_t n_pages = (int32_t)((n_tokens + KV_PAGE_LEN - 1) / KV_PAGE_LEN);
    TRY(check_memory(engine->mdl, engine->dev, (int64_t)n_pages * KV_PAGE_LEN,
                     options->precision == UM_PRECISION_FAST, err));
    bool is_fast = options->precision == UM_PRECISION_FAST, is_read = false;
    if (options->pack_cache)
        TRY(model_read_packed(engine->mdl, engine->dev, options->pack_cache, options->progress,
                              options->progress_user, &is_read, err));
    if (!options->synthetic && !is_read)
        TRY(model_check_weights(engine->mdl, engine->dev, options->progress, options->progress_user,
                                err));
    TRY(page_pool_create(engine->dev, stored_as(engine->kv_type), info->n_layers, info->n_kv_heads,
                         info->head_dim, n_pages, &engine->pool, err));
    engine->kv = memory_alloc_array((size_t)info->n_layers, sizeof *engine->kv);
    if (!engine->kv) FAIL(UM_NO_MEMORY, err, "no memory for %d layers", info->n_layers);
    for (int32_t i = 0; i < info->n_layers; i++) engine->kv[i] = page_pool_layer(engine->pool, i);
    /* No sequence is longer than the pool, nor than the context rounded up to a block. */
    int64_t n_positions = (int64_t)n_pages * KV_PAGE_LEN;
    int64_t n_longest = 2 * (int64_t)info->context;
    TRY(model_prepare(engine->mdl, (int32_t)(n_positions < n_longest ? n_positions : n_longest),
                      err));
    TRY(model_pack(engine->mdl, engine->dev, is_fast && !is_read, options->progress,
                   options->progress_user, err));
    if (!options->pack_cache || is_read) return UM_OK;
    return model_write_packed(engine->mdl, engine->dev, options->pack_cache, err);
}

/* How requests share the engine. */
static um_status resolve_schedule(um_engine *engine, const um_engine_options *o, um_error *err) {
    const char *wrong = !(o->max_step_ms >= 0 && o->max_step_ms <= 1e9) ? "max_step_ms"
                        : o->max_requests < 0                           ? "max_requests"
                        : o->max_queue < 0                              ? "max_queue"
                                                                        : NULL;
    if (wrong) {
        um_error_set(err, UM_INVALID, "%s: expected 0 (no bound) or more", wrong);
        um_error_at(err, wrong, -1);
        return UM_INVALID;
    }
    if (o->ahead != UM_AHEAD_AUTO && o->ahead != UM_AHEAD_ON && o->ahead != UM_AHEAD_OFF) {
        um_error_set(err, UM_INVALID, "ahead: expected a um_ahead (0 to 2), found %d",
                     (int)o->ahead);
        um_error_at(err, "ahead", -1);
        return UM_INVALID;
    }
    engine->ahead.is_on =
        o->ahead == UM_AHEAD_ON || (o->ahead == UM_AHEAD_AUTO && engine->dev->runs_ahead);
    engine->max_step_ns = (int64_t)(o->max_step_ms * 1e6);
    engine->max_requests = o->max_requests;
    engine->max_queue = o->max_queue;
    if (!o->prefix_cache) return UM_OK;
    return prefix_index_create(engine->pool, UINT64_MAX, &engine->prefixes, err);
}

um_status um_engine_open(const um_engine_options *options, um_engine **out, um_error *err) {
    if (!options || (!options->directory && !options->synthetic) || !out)
        FAIL(UM_INVALID, err, "the model's directory is missing");
    if (options->precision != UM_PRECISION_REFERENCE && options->precision != UM_PRECISION_FAST)
        FAIL(UM_INVALID, err, "precision: expected reference (0) or fast (1), found %d",
             (int)options->precision);
    if (options->pack_cache && (options->synthetic || options->precision != UM_PRECISION_FAST)) {
        um_error_set(err, UM_INVALID,
                     "pack_cache: expected a model's files and the fast precision, found %s",
                     options->synthetic ? "a synthetic model" : "the reference precision");
        um_error_at(err, "pack_cache", -1);
        return UM_INVALID;
    }
    um_kv_type stored;
    TRY(resolve_kv_type(options, &stored, err));
    um_engine *engine = memory_calloc(1, sizeof *engine);
    if (!engine) FAIL(UM_NO_MEMORY, err, "no memory for an engine");
    pthread_mutex_init(&engine->step_lock, NULL);
    pthread_mutex_init(&engine->state_lock, NULL);
    engine->kv_type = stored;
    um_status status = open_parts(engine, options, err);
    if (status == UM_OK) status = resolve_schedule(engine, options, err);
    if (status != UM_OK) {
        um_engine_close(&engine);
        return status;
    }
    engine_publish_stats(engine);
    *out = engine;
    return UM_OK;
}

void um_engine_close(um_engine **handle) {
    if (!handle || !*handle) return;
    um_engine *engine = *handle;
    *handle = NULL;
    ahead_deinit(&engine->ahead);
    plan_deinit(&engine->plan);
    memory_free(engine->kv);
    memory_free(engine->ready);
    prefix_index_destroy(engine->prefixes);
    page_pool_destroy(engine->pool);
    if (engine->mdl) model_unpack(engine->mdl, engine->dev);
    device_close(engine->dev);
    model_close(engine->mdl);
    pthread_mutex_destroy(&engine->state_lock);
    pthread_mutex_destroy(&engine->step_lock);
    memory_free(engine);
}

const um_model_info *um_engine_info(const um_engine *engine) {
    return model_info(engine->mdl);
}

const char *um_engine_device(const um_engine *engine) {
    return engine->dev->name;
}

const char *um_engine_kernels(const um_engine *engine) {
    return engine->dev->tier;
}

int32_t um_engine_threads(const um_engine *engine) {
    return thread_pool_size(engine->dev->pool);
}

um_kv_type um_engine_kv_type(const um_engine *engine) {
    return engine->kv_type;
}

void um_engine_pages(um_engine *engine, int64_t *n_pages, int64_t *n_free) {
    pthread_mutex_lock(&engine->step_lock);
    *n_pages = page_pool_count(engine->pool);
    *n_free = page_pool_free_count(engine->pool);
    pthread_mutex_unlock(&engine->step_lock);
}

void engine_publish_stats(um_engine *engine) {
    um_stats *s = &engine->stats;
    int64_t n_idle = page_pool_idle_count(engine->pool);
    s->pages_cached = n_idle;
    s->pages_free = page_pool_free_count(engine->pool) - n_idle;
    s->pages_used = page_pool_count(engine->pool) - s->pages_free - n_idle;
    s->requests_running = s->requests_waiting = 0;
    for (um_request *r = engine->requests; r; r = r->next) {
        bool is_waiting = r->phase == PHASE_WAITING;
        if (r->is_queued && !(is_waiting && !r->is_started)) {
            r->is_queued = false;
            engine->n_queued--;
        }
        s->requests_waiting += is_waiting && !r->is_queued;
        s->requests_running += !is_waiting && r->phase != PHASE_FINISHED;
    }
    engine->published = *s;
}

void um_engine_stats(um_engine *engine, um_stats *stats) {
    pthread_mutex_lock(&engine->state_lock);
    *stats = engine->published;
    stats->requests_waiting += engine->n_queued;
    pthread_mutex_unlock(&engine->state_lock);
}

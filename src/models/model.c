/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a model: files to catalog, config to family, family to transformer. The catalog stays
 * open as long as the model, because the weights are its mapped bytes.
 */
#include "models/model.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "cache/page_pool.h"
#include "models/family.h"
#include "models/gguf_model.h"
#include "models/pack_cache.h"
#include "models/synthetic.h"
#include "quant/blocks.h"

struct model {
    hf_config *config;
    tensor_catalog *catalog;
    const family *kind;
    const gguf_architecture *gguf; /* NULL for a directory */
    gguf_rows rows;
    transformer weights;
    model_traits traits;
    um_model_info info;
    int64_t weight_bytes;
    synthetic_memory synthetic;
    int32_t full_layers;
};

static void copy_name(char *to, size_t capacity, const char *from) {
    snprintf(to, capacity, "%s", from ? from : "");
}

static void count_tensors(model *m) {
    um_model_info *info = &m->info;
    for (int64_t i = 0; i < tensor_catalog_count(m->catalog); i++) {
        const tensor *t = tensor_catalog_at(m->catalog, i);
        info->n_parameters += t->n_items;
        m->weight_bytes += (int64_t)t->n_bytes;
        if (t->type == DTYPE_F32) info->bytes_f32 += (int64_t)t->n_bytes;
        if (t->type == DTYPE_F16) info->bytes_f16 += (int64_t)t->n_bytes;
        if (t->type == DTYPE_BF16) info->bytes_bf16 += (int64_t)t->n_bytes;
        if (dtype_is_block(t->type)) info->bytes_blocks += (int64_t)t->n_bytes;
    }
    info->n_tensors = tensor_catalog_count(m->catalog);
}

/* The order of the task's documentation: the caller, config, tokenizer files, the architecture. */
static um_status find_mask(model *m, const char *directory, int32_t wanted, um_error *err) {
    int32_t vocab = m->weights.shape.vocab;
    if (wanted != -1) {
        if (wanted < 0 || wanted >= vocab) {
            um_error_set(err, UM_INVALID, "mask token: expected 0 to %d, found %d", vocab - 1,
                         wanted);
            um_error_at(err, "mask_token", -1);
            return UM_INVALID;
        }
        m->info.mask_token = wanted;
        return UM_OK;
    }
    TRY(hf_config_mask_token(m->config, directory, vocab, &m->info.mask_token, err));
    if (m->info.mask_token < 0) m->info.mask_token = m->traits.mask_token;
    if (m->info.mask_token < 0)
        FAIL(UM_FORMAT, err,
             "no file of the model says which token is the mask (\"mask_token_id\" in config.json, "
             "\"tokenizer.ggml.mask_token_id\" in a GGUF file), "
             "and %s has no known one for a vocabulary of %d; name it with --mask-token",
             m->kind->name, vocab);
    return UM_OK;
}

/* A model whose edits are its mask would never finish a block. */
static um_status check_edit_tokens(const model *m, um_error *err) {
    int32_t mask = m->info.mask_token;
    if (mask != m->traits.delete_token && mask != m->traits.split_token) return UM_OK;
    FAIL(UM_FORMAT, err,
         "config.json: \"delete_token_id\" and \"split_token_id\" are %d and %d; expected others "
         "than the mask, %d",
         m->traits.delete_token, m->traits.split_token, mask);
}

/* Adds a token that the family knows of, unless it is -1, there, or one too many. */
static void add_stop_token(um_model_info *info, int32_t token) {
    if (token < 0 || info->n_stop_tokens == UM_STOP_TOKENS_MAX) return;
    for (int32_t i = 0; i < info->n_stop_tokens; i++)
        if (info->stop_tokens[i] == token) return;
    info->stop_tokens[info->n_stop_tokens++] = token;
}

static um_status find_stop_tokens(model *m, um_error *err) {
    um_model_info *info = &m->info;
    int32_t vocab = m->weights.shape.vocab;
    TRY(hf_config_stop_tokens(m->config, vocab, info->stop_tokens, UM_STOP_TOKENS_MAX,
                              &info->n_stop_tokens, err));
    int32_t n_kept = 0;
    for (int32_t i = 0; i < info->n_stop_tokens; i++)
        /* Ling 2.0's generation_config lists the mask among the end tokens: never an end here. */
        if (info->stop_tokens[i] != info->mask_token)
            info->stop_tokens[n_kept++] = info->stop_tokens[i];
    info->n_stop_tokens = n_kept;
    add_stop_token(info, m->traits.extra_stop_token);
    add_stop_token(info, m->traits.other_stop_token);
    info->eos_token = info->n_stop_tokens ? info->stop_tokens[0] : -1;
    info->eot_token = info->n_stop_tokens > 1 ? info->stop_tokens[1] : -1;
    return UM_OK;
}

/* Defaults of the family, then generation_config.json over them. */
static um_status find_defaults(model *m, um_error *err) {
    um_model_info *info = &m->info;
    const model_traits *traits = &m->traits;
    int64_t value;
    double real;
    const hf_config *config = m->config;
    copy_name(info->policy, sizeof info->policy, traits->policy);
    info->remask = UM_REMASK_LOW_CONFIDENCE;
    TRY(hf_config_generation_int_or(config, "block_length", 1, SIZE_CONTEXT_MAX, 0, &value, err));
    if (value > traits->context)
        FAIL(UM_FORMAT, err,
             "generation_config.json: \"block_length\" is %lld, more than the context of %d",
             (long long)value, traits->context);
    info->block_len = value ? (int32_t)value : traits->block_len;
    if (info->block_len > traits->context) info->block_len = traits->context;
    if (value && traits->block_multiple && value % traits->block_multiple != 0)
        FAIL(UM_FORMAT, err,
             "generation_config.json: \"block_length\" is %d; the experts are chosen for blocks of "
             "%d, "
             "so expected a multiple of that",
             (int32_t)value, traits->block_multiple);
    info->steps = traits->steps;
    info->post_steps = traits->post_steps;
    TRY(hf_config_generation_real_or(config, "threshold", 0, 1, traits->threshold, &info->threshold,
                                     err));
    info->edit_threshold = traits->edit_threshold;
    /* Published generation configs carry values for sampling (temperature 0.7 and the like) that
     * the families' own generate() never reads; only a config that names a block length is one of
     * ours or of a block-diffusion model, and is believed. */
    bool is_diffusion = value != 0;
    TRY(hf_config_generation_real_or(config, "temperature", 0, 1e6, 0, &real, err));
    info->temperature = is_diffusion ? real : 0;
    info->top_p = 1;
    info->top_k = 0;
    info->cfg_scale = 0;
    return UM_OK;
}

void model_set_kv_type(model *m, kv_type type) {
    const transformer_shape *s = &m->weights.shape;
    m->info.cache_bytes_per_token =
        (int64_t)page_pool_bytes_per_token(type, s->n_layers, s->n_kv_heads, s->head_dim);
}

static void fill_info(model *m) {
    const transformer_shape *s = &m->weights.shape;
    um_model_info *info = &m->info;
    copy_name(info->architecture, sizeof info->architecture,
              m->config ? hf_config_architecture(m->config) : NULL);
    copy_name(info->family, sizeof info->family, m->kind->name);
    info->attention = m->traits.attention;
    info->n_layers = s->n_layers;
    info->hidden = s->hidden;
    info->n_heads = s->n_heads;
    info->n_kv_heads = s->n_kv_heads;
    info->head_dim = s->head_dim;
    info->vocab = s->vocab;
    info->is_shifted = m->traits.is_shifted;
    info->delete_token = m->traits.delete_token;
    info->split_token = m->traits.split_token;
    info->sub_block = m->traits.sub_block;
    info->context = m->traits.context;
    info->n_experts = s->n_experts;
    info->n_active = s->n_active;
    info->n_shared_experts = s->expert_inner ? s->shared_inner / s->expert_inner : 0;
    model_set_kv_type(m, KV_F32);
}

/* Weights of a quantized checkpoint mean nothing without the rule that this key describes. */
static um_status refuse_quantized(const hf_config *config, um_error *err) {
    if (!hf_config_has(config, "quantization_config")) return UM_OK;
    um_error_set(err, UM_UNSUPPORTED,
                 "config.json: \"quantization_config\" is set; this version reads weights in "
                 "float32, float16 and bfloat16");
    um_error_at(err, "quantization_config", -1);
    return UM_UNSUPPORTED;
}

/* Families speak of config.json; a GGUF file has none. */
static um_status name_gguf(const model *m, um_status status, um_error *err) {
    static const char theirs[] = "config.json: ";
    const char *path = tensor_catalog_gguf(m->catalog)->path, *slash = strrchr(path, '/');
    if (err && strncmp(err->message, theirs, sizeof theirs - 1) == 0) {
        char message[sizeof err->message];
        snprintf(message, sizeof message, "%s: with the keys of config.json: %s",
                 slash ? slash + 1 : path, err->message + sizeof theirs - 1);
        memcpy(err->message, message, sizeof message);
    }
    return status;
}

static um_status describe(model *m, um_error *err) {
    TRY(family_find(m->config, &m->kind, err));
    m->traits.mask_token = m->traits.extra_stop_token = m->traits.other_stop_token = -1;
    m->traits.delete_token = m->traits.split_token = -1;
    return m->kind->describe(m->config, &m->weights.shape, &m->traits, err);
}

/* Files to config, config to shape and traits. */
static um_status open_config(model *m, const char *path, um_error *err) {
    if (!file_exists(path)) {
        TRY(hf_config_open(path, &m->config, err));
        TRY(refuse_quantized(m->config, err));
        return describe(m, err);
    }
    TRY(tensor_catalog_open_gguf(path, &m->catalog, err));
    TRY(gguf_config_create(m->catalog, &m->gguf, &m->config, err));
    um_status status = describe(m, err);
    if (status != UM_OK) return name_gguf(m, status, err);
    return gguf_config_check(m->catalog, m->gguf, &m->weights.shape, &m->traits, err);
}

static um_status bind_weights(model *m, um_error *err) {
    count_tensors(m);
    m->weights.layers = memory_calloc((size_t)m->weights.shape.n_layers, sizeof *m->weights.layers);
    if (!m->weights.layers) FAIL(UM_NO_MEMORY, err, "no memory for the layers' table");
    if (m->gguf) return gguf_bind(m->catalog, m->gguf, &m->weights, &m->rows, err);
    return m->kind->bind(m->config, m->catalog, &m->weights, err);
}

um_status model_open(const char *path, int32_t mask_token, model **out, um_error *err) {
    um_status status = UM_OK;
    model *m = memory_calloc(1, sizeof *m);
    if (!m) FAIL(UM_NO_MEMORY, err, "no memory for a model");
    TRY_GOTO(open_config(m, path, err), cleanup);
    fill_info(m);
    TRY_GOTO(find_mask(m, m->gguf ? NULL : path, mask_token, err), cleanup);
    TRY_GOTO(check_edit_tokens(m, err), cleanup);
    TRY_GOTO(find_stop_tokens(m, err), cleanup);
    TRY_GOTO(find_defaults(m, err), cleanup);
    if (!m->gguf) TRY_GOTO(tensor_catalog_open_directory(path, &m->catalog, err), cleanup);
    TRY_GOTO(bind_weights(m, err), cleanup);
    *out = m;
    return UM_OK;
cleanup:
    model_close(m);
    return status;
}

um_status model_open_synthetic(const char *name, dtype type, int32_t n_layers, device *dev,
                               model **out, um_error *err) {
    static const family none = {.name = "synthetic"};
    const synthetic_shape *shape = synthetic_find(name);
    if (!shape) FAIL(UM_INVALID, err, "synthetic: no shape is named \"%.40s\"", name);
    int32_t all = shape->shape.n_layers, n_dense = shape->shape.n_dense_layers;
    if (n_layers < 0 || n_layers > all || (n_layers > 0 && n_layers <= n_dense))
        FAIL(UM_INVALID, err, "layers: expected %d to %d, found %d", n_dense + 1, all, n_layers);
    model *m = memory_calloc(1, sizeof *m);
    if (!m) FAIL(UM_NO_MEMORY, err, "no memory for a model");
    m->kind = &none;
    m->full_layers = all;
    m->weights.shape = shape->shape;
    if (n_layers) m->weights.shape.n_layers = n_layers;
    m->traits = (model_traits){.attention = shape->attention,
                               .context = shape->context,
                               .mask_token = 0,
                               .extra_stop_token = -1,
                               .other_stop_token = -1,
                               .delete_token = -1,
                               .split_token = -1,
                               .policy = "threshold",
                               .block_len = shape->block_len,
                               .threshold = 0.9};
    fill_info(m);
    copy_name(m->info.architecture, sizeof m->info.architecture, shape->name);
    copy_name(m->info.policy, sizeof m->info.policy, m->traits.policy);
    m->info.block_len = shape->block_len;
    m->info.remask = UM_REMASK_LOW_CONFIDENCE;
    m->info.threshold = m->traits.threshold;
    m->info.top_p = 1;
    m->info.eos_token = m->info.eot_token = -1;
    um_status status =
        synthetic_fill(&m->weights, type, shape->has_qk_norm, dev, &m->synthetic, err);
    if (status != UM_OK) {
        model_unpack(m, dev);
        model_close(m);
        return status;
    }
    *out = m;
    return UM_OK;
}

int32_t model_full_layers(const model *m) {
    return m->full_layers ? m->full_layers : m->weights.shape.n_layers;
}

const transformer *model_transformer(const model *m) {
    return &m->weights;
}

um_status model_cap_experts(model *m, int32_t n, um_error *err) {
    enum { BLOCK_OF_NONE = 32 };
    transformer_shape *s = &m->weights.shape;
    if (!s->n_experts)
        um_error_set(err, UM_INVALID,
                     "expert_cap: expected a mixture of experts; %s is a dense model",
                     m->info.architecture);
    else if (s->n_block_experts)
        um_error_set(err, UM_INVALID,
                     "expert_cap: the model has its own, of %d experts for blocks of %d positions",
                     s->n_block_experts, s->expert_block_len);
    else if (n < s->n_active || n > s->n_experts)
        um_error_set(err, UM_INVALID,
                     "expert_cap: expected %d to %d (the experts of a token, and all of them), "
                     "found %d",
                     s->n_active, s->n_experts, n);
    else {
        s->n_block_experts = n;
        s->expert_block_len = m->info.block_len ? m->info.block_len : BLOCK_OF_NONE;
        m->traits.block_multiple = s->expert_block_len;
        return UM_OK;
    }
    um_error_at(err, "expert_cap", -1);
    return UM_INVALID;
}

void model_close(model *m) {
    if (!m) return;
    transformer_deinit(&m->weights);
    gguf_rows_deinit(&m->rows);
    tensor_catalog_close(m->catalog);
    hf_config_close(m->config);
    memory_free(m);
}

const um_model_info *model_info(const model *m) {
    return &m->info;
}

const model_traits *model_traits_of(const model *m) {
    return &m->traits;
}

const tensor_catalog *model_files(const model *m) {
    return m->catalog;
}

const gguf_architecture *model_gguf(const model *m) {
    return m->gguf;
}

int64_t model_weight_bytes(const model *m) {
    return m->weight_bytes;
}

um_status model_prepare(model *m, int32_t n_positions, um_error *err) {
    gguf_rows_fill(&m->rows);
    return transformer_build_rope(&m->weights, n_positions, err);
}

um_status model_pack(model *m, device *dev, bool is_fast, um_progress_fn progress, void *user,
                     um_error *err) {
    if (is_fast) TRY(transformer_pack(&m->weights, dev, progress, user, err));
    TRY(transformer_place(&m->weights, dev, progress, user, err));
    return device_reserve_decode(dev, (size_t)transformer_widest_decoded(&m->weights), err);
}

/* What tells these weights from others: names, types and places of all tensors, the size and the
 * time of their files, and the first and the last bytes of each. */
static uint64_t fingerprint(const model *m) {
    enum { SAMPLE_BYTES = 256 };
    uint64_t key = 0;
    const char *file = NULL;
    for (int64_t i = 0; i < tensor_catalog_count(m->catalog); i++) {
        const tensor *t = tensor_catalog_at(m->catalog, i);
        size_t n = t->n_bytes < SAMPLE_BYTES ? t->n_bytes : SAMPLE_BYTES;
        struct stat known;
        if (t->file != file && stat(t->file, &known) == 0) {
            int64_t said[] = {(int64_t)known.st_size, (int64_t)known.st_mtim.tv_sec,
                              (int64_t)known.st_mtim.tv_nsec};
            key = XXH3_64bits_withSeed(said, sizeof said, key);
        }
        file = t->file;
        int64_t said[] = {(int64_t)t->type, t->n_items};
        key = XXH3_64bits_withSeed(t->name, strlen(t->name), key);
        key = XXH3_64bits_withSeed(said, sizeof said, key);
        key = XXH3_64bits_withSeed(t->data, n, key);
        key = XXH3_64bits_withSeed((const char *)t->data + t->n_bytes - n, n, key);
    }
    return key;
}

um_status model_read_packed(model *m, device *dev, const char *path, um_progress_fn progress,
                            void *user, bool *is_read, um_error *err) {
    return transformer_read_packed(&m->weights, dev, path, fingerprint(m), progress, user, is_read,
                                   err);
}

um_status model_write_packed(model *m, device *dev, const char *path, um_error *err) {
    return pack_cache_write(path, fingerprint(m), &m->weights, dev, err);
}

void model_unpack(model *m, device *dev) {
    transformer_unplace(&m->weights, dev);
    transformer_unpack(&m->weights, dev);
    synthetic_free(&m->synthetic);
}

um_status model_forward(const model *m, device *dev, const kv_layer *kv, const model_batch *batch,
                        device_scratch *scratch, um_error *err) {
    TRY(transformer_reserve(&m->weights, dev, batch, scratch, err));
    um_status status = transformer_forward(&m->weights, dev, kv, batch, scratch, err);
    if (status == UM_OK || status == UM_INTERNAL) return status;
    FAIL(status, err, "%s: a forward of %d rows failed: %s", dev->name, batch->n_rows,
         status == UM_NO_MEMORY ? "no memory for the scores" : device_fault(dev));
}

/* ---- The weights' numbers ------------------------------------------------------------------- */

enum { CHECK_ITEMS = 1 << 20 }; /* numbers a task looks at */

typedef struct weight_check {
    const tensor *checked;
    int64_t *bad; /* [n_tasks] first bad index of each task, or -1 */
} weight_check;

static void check_part(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const weight_check *check = context;
    const tensor *t = check->checked;
    int64_t first = (int64_t)i_task * CHECK_ITEMS;
    int64_t n = t->n_items - first < CHECK_ITEMS ? t->n_items - first : CHECK_ITEMS;
    int64_t at = dtype_find_not_finite(
        t->type, (const char *)t->data + dtype_size(t->type, (size_t)first), (size_t)n);
    check->bad[i_task] = at < 0 ? -1 : first + at;
}

um_status model_check_weights(const model *m, device *dev, um_progress_fn progress, void *user,
                              um_error *err) {
    int64_t done = 0, n_tasks_max = 1;
    for (int64_t i = 0; i < tensor_catalog_count(m->catalog); i++) {
        int64_t n = tensor_catalog_at(m->catalog, i)->n_items / CHECK_ITEMS + 1;
        if (n > n_tasks_max) n_tasks_max = n;
    }
    int64_t *bad = memory_alloc_array((size_t)n_tasks_max, sizeof *bad);
    if (!bad) FAIL(UM_NO_MEMORY, err, "no memory to check the weights");
    if (progress) progress(user, "loading", 0, m->weight_bytes);
    for (int64_t i = 0; i < tensor_catalog_count(m->catalog); i++) {
        weight_check check = {.checked = tensor_catalog_at(m->catalog, i), .bad = bad};
        const tensor *t = check.checked;
        int n_tasks = (int)((t->n_items + CHECK_ITEMS - 1) / CHECK_ITEMS);
        thread_pool_run(dev->pool, check_part, &check, n_tasks);
        for (int task = 0; task < n_tasks; task++) {
            if (bad[task] < 0) continue;
            int64_t at = bad[task];
            memory_free(bad);
            float block[BLOCK_K_LEN];
            size_t len = dtype_block_len(t->type), first = (size_t)at / len * len;
            dtype_decode(t->type, (const char *)t->data + dtype_size(t->type, first), len, block);
            float value = block[(size_t)at - first];
            um_error_set(err, UM_NUMERIC,
                         "%s: weight %lld of %lld is %f; expected a finite number (in %s)", t->name,
                         (long long)at, (long long)t->n_items, (double)value, t->file);
            um_error_at(err, t->name, -1);
            return UM_NUMERIC;
        }
        done += (int64_t)t->n_bytes;
        if (progress) progress(user, "loading", done, m->weight_bytes);
    }
    memory_free(bad);
    return UM_OK;
}

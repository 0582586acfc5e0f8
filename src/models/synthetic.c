/* SPDX-License-Identifier: Apache-2.0
 *
 * Shapes from the models' published config.json; weights of about the size of real ones (a standard
 * deviation of some hundredths), so that activations stay finite and routers choose many experts.
 */
#include "models/synthetic.h"

#include <string.h>

#include "base/memory.h"
#include "quant/blocks.h"

#define DENSE(layers, width, heads, kv, dim, mlp, tokens)                                     \
    .n_layers = layers, .hidden = width, .n_heads = heads, .n_kv_heads = kv, .head_dim = dim, \
    .inner = mlp, .vocab = tokens, .embeddings = tokens, .rms_eps = 1e-5f, .logit_scale = 1,  \
    .rope_theta = 500000

static const synthetic_shape shapes[] = {
    {"llada2-mini",
     UM_ATTENTION_BLOCK_CAUSAL,
     32,
     32768,
     true,
     {DENSE(20, 2048, 16, 4, 128, 5120, 157184), .rotary_dim = 64, .n_experts = 256, .n_active = 8,
      .n_group = 8, .topk_group = 4, .expert_inner = 512, .shared_inner = 512, .n_dense_layers = 1,
      .router_score = ROUTE_SCORE_SIGMOID, .is_router_normalised = true, .router_scale = 2.5f}},
    {"llada-8b",
     UM_ATTENTION_FULL,
     32,
     4096,
     false,
     {DENSE(32, 4096, 32, 32, 128, 12288, 126464), .rotary_dim = 128}},
    {"llada-moe",
     UM_ATTENTION_FULL,
     32,
     8192,
     true,
     {DENSE(16, 2048, 16, 16, 128, 0, 157184), .rotary_dim = 128, .n_experts = 64, .n_active = 8,
      .n_group = 1, .topk_group = 1, .expert_inner = 1024, .router_score = ROUTE_SCORE_SOFTMAX,
      .router_scale = 1}},
    {"sdar-8b",
     UM_ATTENTION_BLOCK_CAUSAL,
     4,
     32768,
     true,
     {DENSE(36, 4096, 32, 8, 128, 12288, 151936), .rotary_dim = 128}},
    {"dream-7b",
     UM_ATTENTION_FULL,
     32,
     2048,
     false,
     {DENSE(28, 3584, 28, 4, 128, 18944, 152064), .rotary_dim = 128}},
    {"llada-169m",
     UM_ATTENTION_FULL,
     32,
     4096,
     false,
     {DENSE(12, 768, 12, 12, 64, 2304, 50304), .rotary_dim = 64}},
};

const synthetic_shape *synthetic_find(const char *name) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(shapes[i].name, name) == 0) return &shapes[i];
    return NULL;
}

/* ---- Random stored numbers --------------------------------------------------------------------
 */

/* SplitMix64: noise by index, so that any thread makes any part. */
static uint64_t noise(uint64_t i) {
    i += 0x9E3779B97F4A7C15u;
    i = (i ^ i >> 30) * 0xBF58476D1CE4E5B9u;
    i = (i ^ i >> 27) * 0x94D049BB133111EBu;
    return i ^ i >> 31;
}

/* Scales of binary16 that make the deviation of a block's numbers about 0.02, whatever its noise.
 * Their sign is drawn, so that numbers have no mean: with one, all rows would grow alike. */
static void tame_block(dtype type, bool is_negative, unsigned char *block) {
    uint16_t d = 0, dmin = 0, sign = is_negative ? 0x8000 : 0;
    switch (type) {
        case DTYPE_Q8_0:
            d = sign | 0x0C00; /* 2^-12 */
            memcpy(block, &d, sizeof d);
            break;
        case DTYPE_Q4_0:
            d = sign | 0x1C00; /* 2^-8 */
            memcpy(block, &d, sizeof d);
            break;
        case DTYPE_Q4_K:
        case DTYPE_Q5_K:
            d = sign |
                (type == DTYPE_Q4_K ? 0x0800 : 0x0400); /* 2^-13, 2^-14; the mean is dmin's */
            dmin = sign | 0x1400;                       /* 2^-10 */
            memcpy(block, &d, sizeof d);
            memcpy(block + 2, &dmin, sizeof dmin);
            break;
        case DTYPE_Q6_K:
            d = sign | 0x0100; /* 2^-16 */
            memcpy(block + offsetof(block_q6_k, d), &d, sizeof d);
            break;
        default:
            break;
    }
}

static void fill_float(dtype type, unsigned char *to, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) {
        float value = ((float)(uint32_t)noise(seed + i) * 0x1p-32f - 0.5f) * 0.07f;
        if (type == DTYPE_F32) {
            memcpy(to + 4 * i, &value, sizeof value);
            continue;
        }
        uint16_t half = type == DTYPE_F16 ? dtype_to_f16(value) : dtype_to_bf16(value);
        memcpy(to + 2 * i, &half, sizeof half);
    }
}

typedef struct noise_task {
    unsigned char *to;
    dtype type;
    size_t n; /* numbers */
    uint64_t seed;
} noise_task;

enum { PART = 1 << 20 };

static void fill_part(void *context, int i_task, int i_worker) {
    (void)i_worker;
    const noise_task *t = context;
    size_t first = (size_t)i_task * PART, n = t->n - first < PART ? t->n - first : PART;
    unsigned char *to = t->to + dtype_size(t->type, first);
    if (!dtype_is_block(t->type)) {
        fill_float(t->type, to, n, t->seed + first);
        return;
    }
    size_t n_bytes = dtype_size(t->type, n), block_bytes = dtype_block_bytes(t->type);
    for (size_t i = 0; i < n_bytes; i++) to[i] = (unsigned char)noise(t->seed + first + i);
    for (size_t i = 0; i < n_bytes; i += block_bytes)
        tame_block(t->type, noise(~(t->seed + first + i)) & 1, to + i);
}

static um_status make_numbers(device *dev, synthetic_memory *memory, dtype type, size_t n,
                              uint64_t seed, void **numbers, um_error *err) {
    TRY(host_block_alloc(dtype_size(type, n), numbers, err));
    memory->buffers[memory->n_used++] = *numbers;
    noise_task task = {*numbers, type, n, seed};
    thread_pool_run(dev->pool, fill_part, &task, (int)((n + PART - 1) / PART));
    return UM_OK;
}

/* ---- The transformer --------------------------------------------------------------------------
 */

typedef struct filler {
    device *dev;
    synthetic_memory *memory;
    dtype type;
    void *pool; /* of a block type; big enough for the largest weight */
    uint64_t seed;
    um_error *err;
} filler;

static um_status fill_matrix(filler *f, matrix *w, int32_t n_out, int32_t n_in) {
    *w = (matrix){.data = f->pool, .type = f->type, .n_out = n_out, .n_in = n_in};
    if ((size_t)n_in % dtype_block_len(f->type) != 0)
        FAIL(UM_UNSUPPORTED, f->err, "rows of %d numbers are no whole blocks of %s", n_in,
             dtype_name(f->type));
    f->seed += (uint64_t)n_out * (uint64_t)n_in;
    if (f->pool) return UM_OK;
    void *numbers;
    TRY(make_numbers(f->dev, f->memory, f->type, (size_t)n_out * (size_t)n_in, f->seed, &numbers,
                     f->err));
    w->data = numbers;
    return UM_OK;
}

static um_status fill_ones(float **ones, int32_t n, um_error *err) {
    *ones = memory_alloc_array((size_t)n, sizeof **ones);
    if (!*ones) FAIL(UM_NO_MEMORY, err, "no memory for a norm of %d numbers", n);
    for (int32_t i = 0; i < n; i++) (*ones)[i] = 1.0f;
    return UM_OK;
}

static um_status fill_mlp(filler *f, mlp_weights *w, int32_t hidden, int32_t inner) {
    TRY(fill_matrix(f, &w->gate, inner, hidden));
    TRY(fill_matrix(f, &w->up, inner, hidden));
    return fill_matrix(f, &w->down, hidden, inner);
}

static um_status fill_moe(filler *f, const transformer_shape *s, moe_weights *moe) {
    void *router;
    size_t n = (size_t)s->n_experts * (size_t)s->hidden;
    moe->experts = memory_calloc((size_t)s->n_experts, sizeof *moe->experts);
    if (!moe->experts) FAIL(UM_NO_MEMORY, f->err, "no memory for %d experts", s->n_experts);
    f->seed += n;
    TRY(make_numbers(f->dev, f->memory, DTYPE_F32, n, f->seed, &router, f->err));
    moe->router =
        (matrix){.data = router, .type = DTYPE_F32, .n_out = s->n_experts, .n_in = s->hidden};
    for (int32_t e = 0; e < s->n_experts; e++)
        TRY(fill_mlp(f, &moe->experts[e], s->hidden, s->expert_inner));
    return s->shared_inner ? fill_mlp(f, &moe->shared, s->hidden, s->shared_inner) : UM_OK;
}

static um_status fill_layer(filler *f, const transformer_shape *s, bool has_qk_norm,
                            layer_weights *layer) {
    int32_t q_width = s->n_heads * s->head_dim, kv_width = s->n_kv_heads * s->head_dim;
    TRY(fill_ones(&layer->attn_norm, s->hidden, f->err));
    TRY(fill_ones(&layer->mlp_norm, s->hidden, f->err));
    if (has_qk_norm) {
        TRY(fill_ones(&layer->q_norm, s->head_dim, f->err));
        TRY(fill_ones(&layer->k_norm, s->head_dim, f->err));
    }
    TRY(fill_matrix(f, &layer->wq.w, q_width, s->hidden));
    TRY(fill_matrix(f, &layer->wk.w, kv_width, s->hidden));
    TRY(fill_matrix(f, &layer->wv.w, kv_width, s->hidden));
    TRY(fill_matrix(f, &layer->wo.w, s->hidden, q_width));
    if (layer->is_moe) return fill_moe(f, s, &layer->moe);
    return fill_mlp(f, &layer->mlp, s->hidden, s->inner);
}

um_status synthetic_fill(transformer *t, dtype type, bool has_qk_norm, device *dev,
                         synthetic_memory *memory, um_error *err) {
    const transformer_shape *s = &t->shape;
    filler f = {.dev = dev, .memory = memory, .type = type, .seed = 1, .err = err};
    memory->n_buffers = 3 + s->n_layers * (12 + 3 * s->n_experts);
    memory->buffers = memory_calloc((size_t)memory->n_buffers, sizeof *memory->buffers);
    t->layers = memory_calloc((size_t)s->n_layers, sizeof *t->layers);
    if (!memory->buffers || !t->layers) FAIL(UM_NO_MEMORY, err, "no memory for the weights' table");
    if (dtype_is_block(type))
        TRY(make_numbers(dev, memory, type, (size_t)s->embeddings * (size_t)s->hidden, 1, &f.pool,
                         err));
    TRY(fill_matrix(&f, &t->embedding, s->embeddings, s->hidden));
    TRY(fill_matrix(&f, &t->head, s->vocab, s->hidden));
    TRY(fill_ones(&t->final_norm, s->hidden, err));
    for (int32_t i = 0; i < s->n_layers; i++) {
        t->layers[i].is_moe = s->n_experts > 0 && i >= s->n_dense_layers;
        TRY(fill_layer(&f, s, has_qk_norm, &t->layers[i]));
    }
    return UM_OK;
}

void synthetic_free(synthetic_memory *memory) {
    for (int i = 0; i < memory->n_used; i++) host_block_free(memory->buffers[i]);
    memory_free(memory->buffers);
    *memory = (synthetic_memory){0};
}

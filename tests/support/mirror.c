/* SPDX-License-Identifier: Apache-2.0 */
#include "support/mirror.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/device_kind.h"
#include "kernels/ops.h"

enum { BLOCKS_MAX = 64, ALIGNMENT = 256 };

typedef struct mirror {
    device base;
    device *real;
    void *blocks[BLOCKS_MAX]; /* of the running operation */
    int n_blocks;
} mirror;

/* ---- Memory ---------------------------------------------------------------------------------- */

static mirror *mirror_of(device *dev) {
    mirror *m = (mirror *)dev;
    assert_int_equal(m->n_blocks, 0);
    return m;
}

static void *take(mirror *m, size_t n_bytes) {
    um_error err = {0};
    assert_true(m->n_blocks < BLOCKS_MAX);
    if (device_alloc(m->real, n_bytes, &m->blocks[m->n_blocks], &err) != UM_OK)
        fail_msg("%s", err.message);
    return m->blocks[m->n_blocks++];
}

static void *bring(mirror *m, const void *from, size_t n_bytes) {
    if (!from) return NULL;
    void *to = take(m, n_bytes);
    assert_int_equal(device_write(m->real, to, from, n_bytes), UM_OK);
    return to;
}

static void *scratch_of(mirror *m, size_t n_bytes) {
    unsigned char *ones = malloc(n_bytes + 1);
    assert_non_null(ones);
    memset(ones, 0xFF, n_bytes);
    void *scratch = bring(m, ones, n_bytes);
    free(ones);
    return scratch;
}

/* Ends an operation: status, results, memory. to NULL: nothing is brought back. */
static um_status done(mirror *m, um_status status, void *to, const void *from, size_t n_bytes) {
    if (status == UM_OK && to) status = device_read(m->real, to, from, n_bytes);
    while (m->n_blocks > 0) device_free(m->real, m->blocks[--m->n_blocks]);
    if (status != UM_OK) print_message("%s: %s\n", m->real->name, device_fault(m->real));
    return status;
}

static size_t floats(int64_t n) {
    return (size_t)n * sizeof(float);
}

static matrix bring_matrix(mirror *m, const matrix *w) {
    matrix there = *w;
    there.packed = NULL;
    if (w->form == FORM_TILE)
        there.packed = bring(m, w->packed, packed_bytes(w->type, w->n_out, w->n_in));
    there.data = bring(m, w->data, dtype_size(w->type, (size_t)w->n_out * (size_t)w->n_in));
    return there;
}

/* ---- Operations ------------------------------------------------------------------------------ */

static um_status linear(device *dev, float *y, const float *x, const matrix *w, const float *bias,
                        int32_t n_rows) {
    mirror *m = mirror_of(dev);
    matrix there = bring_matrix(m, w);
    float *out = take(m, floats(n_rows * w->n_out));
    const float *in = bring(m, x, floats(n_rows * w->n_in));
    um_status status =
        m->real->ops->linear(m->real, out, in, &there, bring(m, bias, floats(w->n_out)), n_rows);
    return done(m, status, y, out, floats(n_rows * w->n_out));
}

static size_t pack_scratch(const device *dev, int32_t n_rows, int32_t n_in) {
    const device *real = ((const mirror *)dev)->real;
    return real->ops->pack_scratch(real, n_rows, n_in);
}

static um_status pack_rows(device *dev, packed_form form, void *packed, const float *x,
                           int32_t n_rows, int32_t n_in) {
    mirror *m = mirror_of(dev);
    size_t n_bytes = pack_scratch(dev, n_rows, n_in);
    void *out = take(m, n_bytes);
    const float *in = bring(m, x, floats(n_rows * n_in));
    um_status status = m->real->ops->pack_rows(m->real, form, out, in, n_rows, n_in);
    return done(m, status, packed, out, n_bytes);
}

static um_status linear_packed(device *dev, float *y, const void *packed, const matrix *w,
                               const float *bias, int32_t n_rows) {
    mirror *m = mirror_of(dev);
    matrix there = bring_matrix(m, w);
    float *out = take(m, floats(n_rows * w->n_out));
    const void *in = bring(m, packed, pack_scratch(dev, n_rows, w->n_in));
    um_status status = m->real->ops->linear_packed(m->real, out, in, &there,
                                                   bring(m, bias, floats(w->n_out)), n_rows);
    return done(m, status, y, out, floats(n_rows * w->n_out));
}

static um_status embed(device *dev, float *y, const matrix *table, const int32_t *tokens,
                       int32_t n_rows) {
    mirror *m = mirror_of(dev);
    matrix there = bring_matrix(m, table);
    float *out = take(m, floats(n_rows * table->n_in));
    const int32_t *ids = bring(m, tokens, (size_t)n_rows * sizeof *tokens);
    um_status status = m->real->ops->embed(m->real, out, &there, ids, n_rows);
    return done(m, status, y, out, floats(n_rows * table->n_in));
}

/* In place there where it is in place here. */
static um_status rms_norm(device *dev, float *y, const float *x, const float *gain, int32_t n_rows,
                          int32_t dim, float eps) {
    mirror *m = mirror_of(dev);
    float *in = bring(m, x, floats(n_rows * dim));
    float *out = y == x ? in : take(m, floats(n_rows * dim));
    um_status status =
        m->real->ops->rms_norm(m->real, out, in, bring(m, gain, floats(dim)), n_rows, dim, eps);
    return done(m, status, y, out, floats(n_rows * dim));
}

static um_status rope(device *dev, float *x, const int32_t *positions, const float *cosines,
                      const float *sines, int32_t n_rows, int32_t n_heads, int32_t head_dim,
                      int32_t rotary_dim) {
    mirror *m = mirror_of(dev);
    int32_t n_positions = 0;
    for (int32_t i = 0; i < n_rows; i++)
        if (positions[i] >= n_positions) n_positions = positions[i] + 1;
    size_t n = floats(n_rows * n_heads * head_dim), angles = floats(n_positions * (rotary_dim / 2));
    float *out = bring(m, x, n);
    const int32_t *rows = bring(m, positions, (size_t)n_rows * sizeof *positions);
    um_status status =
        m->real->ops->rope(m->real, out, rows, bring(m, cosines, angles), bring(m, sines, angles),
                           n_rows, n_heads, head_dim, rotary_dim);
    return done(m, status, x, out, n);
}

/* The tables that rows name, and the extent of the cache that they name. */
static const kv_table *bring_tables(mirror *m, const kv_table *tables, const int32_t *seq,
                                    int32_t n_rows, int32_t *n_pages) {
    int32_t n_seqs = 0;
    *n_pages = 0;
    for (int32_t i = 0; i < n_rows; i++)
        if (seq[i] >= n_seqs) n_seqs = seq[i] + 1;
    kv_table *there = malloc(((size_t)n_seqs + 1) * sizeof *there);
    assert_non_null(there);
    for (int32_t i = 0; i < n_seqs; i++) {
        for (int32_t p = 0; p < tables[i].n_pages; p++)
            if (tables[i].pages[p] >= *n_pages) *n_pages = tables[i].pages[p] + 1;
        there[i] = tables[i];
        there[i].pages = bring(m, tables[i].pages, (size_t)tables[i].n_pages * sizeof(int32_t));
    }
    const kv_table *brought = bring(m, there, (size_t)n_seqs * sizeof *there);
    free(there);
    return brought;
}

static um_status kv_write(device *dev, const kv_layer *kv, const float *k, const float *v,
                          const int32_t *seq, const int32_t *positions, const kv_table *tables,
                          int32_t n_rows, int32_t n_kv_heads, int32_t head_dim) {
    mirror *m = mirror_of(dev);
    int32_t n_pages;
    const kv_table *lists = bring_tables(m, tables, seq, n_rows, &n_pages);
    size_t n = floats(n_rows * n_kv_heads * head_dim), n_row_bytes = (size_t)n_rows * sizeof *seq;
    size_t n_bytes = kv_part_bytes(kv->type, head_dim) * (size_t)n_pages * (size_t)n_kv_heads;
    kv_layer there = {bring(m, kv->keys, n_bytes), bring(m, kv->values, n_bytes), kv->type};
    um_status status = m->real->ops->kv_write(
        m->real, &there, bring(m, k, n), bring(m, v, n), bring(m, seq, n_row_bytes),
        bring(m, positions, n_row_bytes), lists, n_rows, n_kv_heads, head_dim);
    if (status == UM_OK) status = device_read(m->real, kv->keys, there.keys, n_bytes);
    return done(m, status, kv->values, there.values, n_bytes);
}

static size_t attention_scratch(const device *dev, const attention_args *args) {
    const device *real = ((const mirror *)dev)->real;
    return real->ops->attention_scratch(real, args);
}

static um_status attention(device *dev, const attention_args *a, void *scratch) {
    mirror *m = mirror_of(dev);
    attention_args there = *a;
    int32_t n_pages;
    size_t n = floats(a->n_rows * a->n_heads * a->head_dim);
    size_t n_row_bytes = (size_t)a->n_rows * sizeof *a->seq;
    (void)scratch;
    there.tables = bring_tables(m, a->tables, a->seq, a->n_rows, &n_pages);
    size_t n_bytes =
        kv_part_bytes(a->kv.type, a->head_dim) * (size_t)n_pages * (size_t)a->n_kv_heads;
    there.kv.keys = bring(m, a->kv.keys, n_bytes);
    there.kv.values = bring(m, a->kv.values, n_bytes);
    there.q = bring(m, a->q, n);
    there.out = take(m, n);
    there.seq = bring(m, a->seq, n_row_bytes);
    there.visible_end = bring(m, a->visible_end, n_row_bytes);
    /* Sizes come from the host's rows. */
    void *memory = scratch_of(m, m->real->ops->attention_scratch(m->real, a));
    um_status status = m->real->ops->attention(m->real, &there, memory);
    return done(m, status, a->out, there.out, n);
}

static um_status swiglu(device *dev, float *y, const float *gate, const float *up, size_t n) {
    mirror *m = mirror_of(dev);
    float *in = bring(m, gate, n * sizeof *y), *out = y == gate ? in : take(m, n * sizeof *y);
    um_status status = m->real->ops->swiglu(m->real, out, in, bring(m, up, n * sizeof *y), n);
    return done(m, status, y, out, n * sizeof *y);
}

static um_status add(device *dev, float *y, const float *x, size_t n) {
    mirror *m = mirror_of(dev);
    float *out = bring(m, y, n * sizeof *y);
    um_status status = m->real->ops->add(m->real, out, bring(m, x, n * sizeof *y), n);
    return done(m, status, y, out, n * sizeof *y);
}

static um_status gather(device *dev, float *y, const float *x, const int32_t *rows, int32_t n_rows,
                        int32_t dim) {
    mirror *m = mirror_of(dev);
    int32_t n_x = 0;
    for (int32_t i = 0; i < n_rows; i++)
        if (rows[i] >= n_x) n_x = rows[i] + 1;
    float *out = take(m, floats(n_rows * dim));
    const float *in = bring(m, x, floats(n_x * dim));
    um_status status = m->real->ops->gather(
        m->real, out, in, bring(m, rows, (size_t)n_rows * sizeof *rows), n_rows, dim);
    return done(m, status, y, out, floats(n_rows * dim));
}

static size_t route_scratch(const device *dev, const route_args *args) {
    const device *real = ((const mirror *)dev)->real;
    return real->ops->route_scratch(real, args);
}

static um_status route(device *dev, const route_args *a, void *scratch) {
    mirror *m = mirror_of(dev);
    route_args there = *a;
    size_t n_row_bytes = (size_t)a->n_rows * sizeof(int32_t);
    size_t n_bytes = (size_t)a->n_rows * (size_t)a->n_active * sizeof(int32_t);
    (void)scratch;
    there.w = bring_matrix(m, &a->w);
    there.x = bring(m, a->x, floats(a->n_rows * a->w.n_in));
    there.bias = bring(m, a->bias, floats(a->n_experts));
    there.seq = bring(m, a->seq, n_row_bytes);
    there.positions = bring(m, a->positions, n_row_bytes);
    there.ids = take(m, n_bytes);
    there.weights = take(m, n_bytes);
    void *memory = scratch_of(m, m->real->ops->route_scratch(m->real, a));
    um_status status = m->real->ops->route(m->real, &there, memory);
    if (status == UM_OK) status = device_read(m->real, a->ids, there.ids, n_bytes);
    return done(m, status, a->weights, there.weights, n_bytes);
}

static size_t experts_scratch(const device *dev, const experts_args *args) {
    const device *real = ((const mirror *)dev)->real;
    return real->ops->experts_scratch(real, args);
}

/* One weight of all experts, at an even distance. */
static void bring_experts(mirror *m, const experts_args *a, mlp_weights *there, size_t offset) {
    const matrix *w = (const matrix *)(const void *)((const char *)a->experts + offset);
    bool is_tile = w->form == FORM_TILE;
    size_t n_bytes = is_tile ? packed_bytes(w->type, w->n_out, w->n_in)
                             : dtype_size(w->type, (size_t)w->n_out * (size_t)w->n_in);
    size_t stride = (n_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    unsigned char *base = take(m, stride * (size_t)a->n_experts);
    for (int32_t e = 0; e < a->n_experts; e++) {
        w = (const matrix *)(const void *)((const char *)&a->experts[e] + offset);
        matrix *to = (matrix *)(void *)((char *)&there[e] + offset);
        *to = *w;
        unsigned char *place = base + (size_t)e * stride;
        to->packed = is_tile ? place : NULL;
        to->data = is_tile ? NULL : place;
        assert_int_equal(device_write(m->real, place, is_tile ? w->packed : w->data, n_bytes),
                         UM_OK);
    }
}

static um_status experts(device *dev, const experts_args *a, void *scratch) {
    mirror *m = mirror_of(dev);
    experts_args there = *a;
    size_t n_slots = (size_t)a->n_rows * (size_t)a->n_active;
    size_t n = floats(a->n_rows * a->experts[0].gate.n_in);
    mlp_weights *weights = calloc((size_t)a->n_experts, sizeof *weights);
    (void)scratch;
    assert_non_null(weights);
    bring_experts(m, a, weights, offsetof(mlp_weights, gate));
    bring_experts(m, a, weights, offsetof(mlp_weights, up));
    bring_experts(m, a, weights, offsetof(mlp_weights, down));
    there.experts = weights;
    there.x = bring(m, a->x, n);
    there.y = take(m, n);
    there.ids = bring(m, a->ids, n_slots * sizeof *a->ids);
    there.weights = bring(m, a->weights, n_slots * sizeof *a->weights);
    void *memory = scratch_of(m, m->real->ops->experts_scratch(m->real, a));
    um_status status = m->real->ops->experts(m->real, &there, memory);
    free(weights);
    return done(m, status, a->y, there.y, n);
}

static size_t head_scratch(const device *dev, const head_args *args) {
    const device *real = ((const mirror *)dev)->real;
    return real->ops->head_scratch(real, args);
}

static um_status head(device *dev, const head_args *a, void *scratch) {
    mirror *m = mirror_of(dev);
    head_args there = *a;
    (void)scratch;
    there.w = bring_matrix(m, &a->w);
    there.x = bring(m, a->x, floats(a->n_rows * a->w.n_in));
    void *memory = scratch_of(m, m->real->ops->head_scratch(m->real, a));
    return done(m, m->real->ops->head(m->real, &there, memory), NULL, NULL, 0);
}

static um_status decide(device *dev, const decide_args *a) {
    mirror *m = mirror_of(dev);
    decide_args there = *a;
    int32_t n_items = 0, n_scores = 0, n_rows = 0;
    for (int32_t i = 0; i < a->n_blocks; i++) n_items += a->blocks[i].n;
    for (int32_t i = 0; i < n_items; i++) {
        if (a->i_score[i] >= n_scores) n_scores = a->i_score[i] + 1;
        if (a->rows[i] >= n_rows) n_rows = a->rows[i] + 1;
    }
    size_t n = (size_t)n_items * sizeof(int32_t), n_blocks = (size_t)a->n_blocks;
    there.blocks = bring(m, a->blocks, n_blocks * sizeof *a->blocks);
    there.scores = bring(m, a->scores, (size_t)n_scores * sizeof *a->scores);
    there.i_score = bring(m, a->i_score, n);
    there.rows = bring(m, a->rows, n);
    there.states = bring(m, a->states, n);
    there.tokens = bring(m, a->tokens, n);
    there.row_tokens = bring(m, a->row_tokens, (size_t)n_rows * sizeof(int32_t));
    there.gate = bring(m, a->gate, sizeof *a->gate);
    um_status status = m->real->ops->decide(m->real, &there);
    struct piece {
        void *to;
        const void *from;
        size_t n_bytes;
    } pieces[] = {{a->blocks, there.blocks, n_blocks * sizeof *a->blocks},
                  {a->states, there.states, n},
                  {a->tokens, there.tokens, n},
                  {a->row_tokens, there.row_tokens, (size_t)n_rows * sizeof(int32_t)}};
    for (size_t i = 0; status == UM_OK && i < sizeof pieces / sizeof *pieces; i++)
        status = device_read(m->real, pieces[i].to, pieces[i].from, pieces[i].n_bytes);
    return done(m, status, a->gate, there.gate, sizeof *a->gate);
}

static const kernel_ops mirror_ops = {
    .linear = linear,
    .pack_scratch = pack_scratch,
    .pack_rows = pack_rows,
    .linear_packed = linear_packed,
    .embed = embed,
    .rms_norm = rms_norm,
    .rope = rope,
    .kv_write = kv_write,
    .attention_scratch = attention_scratch,
    .attention = attention,
    .swiglu = swiglu,
    .add = add,
    .gather = gather,
    .route_scratch = route_scratch,
    .route = route,
    .experts_scratch = experts_scratch,
    .experts = experts,
    .head_scratch = head_scratch,
    .head = head,
    .decide = decide,
};

/* ---- The device ------------------------------------------------------------------------------ */

static void close_mirror(device *dev) {
    device_close(((mirror *)dev)->real);
    free(dev);
}

static um_status reserve_decode(device *dev, size_t n_in, um_error *err) {
    return device_reserve_decode(((mirror *)dev)->real, n_in, err);
}

static const device_kind mirror_kind = {.close = close_mirror, .reserve_decode = reserve_decode};

device *mirror_open(device *real) {
    mirror *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->real = real;
    m->base = *real;
    m->base.ops = &mirror_ops;
    m->base.kind = &mirror_kind;
    return &m->base;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors of block types in their places: rows that are put back in order, rows of a fused matrix,
 * experts of a stack. Whole models in F32 and BF16 are compared by tests/cli/test_gguf.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "models/gguf_model.h"
#include "quant/blocks.h"
#include "support/gguf_bytes.h"
#include "support/temp_dir.h"

enum { HIDDEN = 64, HEAD_DIM = 16, HEADS = 4, KV_HEADS = 2, KV_WIDTH = HEAD_DIM * KV_HEADS };
enum { VOCAB = 5, INNER = 96, N_EXPERTS = 3, TENSORS_MAX = 16 };
enum { ID_F32 = 0, ID_Q4_0 = 2, ID_Q8_0 = 8 };

/* A file under construction. */
typedef struct file {
    struct {
        const char *name;
        uint64_t dims[3]; /* as the file has them */
        uint32_t n_dims, type;
    } tensors[TENSORS_MAX];
    int n;
} file;

/* Dimensions outermost first; 0 for those that are not there. */
static void add(file *f, const char *name, uint64_t d0, uint64_t d1, uint64_t d2, uint32_t type) {
    assert_true(f->n < TENSORS_MAX);
    uint64_t dims[] = {d0, d1, d2};
    uint32_t n_dims = d2 ? 3 : d1 ? 2 : 1;
    f->tensors[f->n].name = name;
    f->tensors[f->n].n_dims = n_dims;
    f->tensors[f->n].type = type;
    for (uint32_t i = 0; i < n_dims; i++) f->tensors[f->n].dims[i] = dims[n_dims - 1 - i];
    f->n++;
}

static tensor_catalog *open_file(const temp_dir *dir, const file *f) {
    strbuf out;
    char path[400];
    tensor_catalog *catalog;
    um_error err;
    uint64_t offset = 0;
    strbuf_init(&out);
    gguf_bytes_start(&out, 3, (uint64_t)f->n, 0);
    for (int i = 0; i < f->n; i++) {
        gguf_bytes_tensor(&out, f->tensors[i].name, f->tensors[i].n_dims, f->tensors[i].dims,
                          f->tensors[i].type, offset);
        size_t n_items = 1;
        for (uint32_t j = 0; j < f->tensors[i].n_dims; j++) n_items *= f->tensors[i].dims[j];
        offset += dtype_size(gguf_tensor_type(f->tensors[i].type), n_items);
        offset = (offset + 31) / 32 * 32;
    }
    gguf_bytes_data(&out, 32, offset);
    temp_dir_write(dir, "bind.gguf", out.data, out.n_bytes);
    strbuf_deinit(&out);
    snprintf(path, sizeof path, "%s/bind.gguf", dir->path);
    if (tensor_catalog_open_gguf(path, &catalog, &err) != UM_OK) fail_msg("%s", err.message);
    return catalog;
}

static void add_common(file *f) {
    add(f, "token_embd.weight", VOCAB, HIDDEN, 0, ID_Q8_0);
    add(f, "output_norm.weight", HIDDEN, 0, 0, ID_F32);
    add(f, "blk.0.attn_norm.weight", HIDDEN, 0, 0, ID_F32);
    add(f, "blk.0.ffn_norm.weight", HIDDEN, 0, 0, ID_F32);
    add(f, "blk.0.attn_output.weight", HIDDEN, HIDDEN, 0, ID_Q4_0);
}

static void add_dense(file *f) {
    add(f, "blk.0.ffn_gate.weight", INNER, HIDDEN, 0, ID_Q8_0);
    add(f, "blk.0.ffn_up.weight", INNER, HIDDEN, 0, ID_Q8_0);
    add(f, "blk.0.ffn_down.weight", HIDDEN, INNER, 0, ID_Q4_0);
}

static void add_separate(file *f) {
    add(f, "blk.0.attn_q.weight", HIDDEN, HIDDEN, 0, ID_Q8_0);
    add(f, "blk.0.attn_k.weight", KV_WIDTH, HIDDEN, 0, ID_Q4_0);
    add(f, "blk.0.attn_v.weight", KV_WIDTH, HIDDEN, 0, ID_Q8_0);
}

static void add_moe(file *f, uint32_t up_type) {
    add(f, "blk.0.ffn_gate_inp.weight", N_EXPERTS, HIDDEN, 0, ID_F32);
    add(f, "blk.0.ffn_gate_exps.weight", N_EXPERTS, INNER, HIDDEN, ID_Q4_0);
    add(f, "blk.0.ffn_up_exps.weight", N_EXPERTS, INNER, HIDDEN, up_type);
    add(f, "blk.0.ffn_down_exps.weight", N_EXPERTS, HIDDEN, INNER, ID_Q8_0);
    add(f, "blk.0.attn_q_norm.weight", HEAD_DIM, 0, 0, ID_F32);
    add(f, "blk.0.attn_k_norm.weight", HEAD_DIM, 0, 0, ID_F32);
}

/* What a test binds; freed by unbind. */
typedef struct bound {
    tensor_catalog *catalog;
    transformer t;
    gguf_rows rows;
    layer_weights *layer;
    um_error err;
} bound;

static um_status bind(bound *b, const temp_dir *dir, const file *f, const char *architecture) {
    memset(b, 0, sizeof *b);
    b->catalog = open_file(dir, f);
    b->layer = b->t.layers = memory_calloc(1, sizeof *b->layer);
    assert_non_null(b->layer);
    b->t.shape = (transformer_shape){.n_layers = 1,
                                     .hidden = HIDDEN,
                                     .n_heads = HEADS,
                                     .n_kv_heads = KV_HEADS,
                                     .head_dim = HEAD_DIM,
                                     .inner = INNER,
                                     .vocab = VOCAB,
                                     .embeddings = VOCAB};
    if (strcmp(architecture, "llada") != 0) {
        b->t.shape.n_experts = N_EXPERTS;
        b->t.shape.expert_inner = INNER;
    }
    return gguf_bind(b->catalog, gguf_architecture_find(architecture), &b->t, &b->rows, &b->err);
}

static void unbind(bound *b) {
    transformer_deinit(&b->t);
    gguf_rows_deinit(&b->rows);
    tensor_catalog_close(b->catalog);
}

static const unsigned char *stored(const bound *b, const char *name) {
    const tensor *t = tensor_catalog_find(b->catalog, name);
    assert_non_null(t);
    return t->data;
}

/* Rows of w, number by number, are those of the file in the converter's order. */
static void assert_reordered(const matrix *w, const unsigned char *from, size_t block_bytes) {
    size_t row = HIDDEN / BLOCK_LEN * block_bytes;
    const unsigned char *data = w->data;
    for (int32_t head = 0; head < w->n_out / HEAD_DIM; head++)
        for (int32_t i = 0; i < HEAD_DIM; i++) {
            int32_t half = i / (HEAD_DIM / 2), pair = i % (HEAD_DIM / 2);
            size_t ours = (size_t)(head * HEAD_DIM + i);
            size_t theirs = (size_t)(head * HEAD_DIM + 2 * pair + half);
            assert_memory_equal(data + ours * row, from + theirs * row, row);
        }
}

static void test_reordered_rows(void **state) {
    file f = {.n = 0};
    bound b;
    add_common(&f);
    add_separate(&f);
    add_dense(&f);
    if (bind(&b, *state, &f, "llada") != UM_OK) fail_msg("%s", b.err.message);
    gguf_rows_fill(&b.rows);
    assert_int_equal(b.layer->wq.w.type, DTYPE_Q8_0);
    assert_int_equal(b.layer->wk.w.type, DTYPE_Q4_0);
    assert_reordered(&b.layer->wq.w, stored(&b, "blk.0.attn_q.weight"), sizeof(block_q8_0));
    assert_reordered(&b.layer->wk.w, stored(&b, "blk.0.attn_k.weight"), sizeof(block_q4_0));
    assert_ptr_equal(b.layer->wv.w.data, stored(&b, "blk.0.attn_v.weight"));
    assert_ptr_equal(b.t.head.data, b.t.embedding.data); /* no output.weight */
    unbind(&b);
}

static void test_fused_rows(void **state) {
    file f = {.n = 0};
    bound b;
    add_common(&f);
    add(&f, "blk.0.attn_qkv.weight", HIDDEN + 2 * KV_WIDTH, HIDDEN, 0, ID_Q8_0);
    add_moe(&f, ID_Q4_0);
    if (bind(&b, *state, &f, "llada2") != UM_OK) fail_msg("%s", b.err.message);
    size_t row = HIDDEN / BLOCK_LEN * sizeof(block_q8_0);
    const unsigned char *qkv = stored(&b, "blk.0.attn_qkv.weight");
    assert_ptr_equal(b.layer->wq.w.data, qkv);
    assert_ptr_equal(b.layer->wk.w.data, qkv + HIDDEN * row);
    assert_ptr_equal(b.layer->wv.w.data, qkv + (HIDDEN + KV_WIDTH) * row);
    assert_int_equal(b.layer->wv.w.n_out, KV_WIDTH);
    size_t gate = (size_t)INNER * HIDDEN / BLOCK_LEN * sizeof(block_q4_0);
    size_t down = (size_t)HIDDEN * INNER / BLOCK_LEN * sizeof(block_q8_0);
    for (int32_t e = 0; e < N_EXPERTS; e++) {
        const mlp_weights *expert = &b.layer->moe.experts[e];
        size_t i = (size_t)e;
        assert_ptr_equal(expert->gate.data, stored(&b, "blk.0.ffn_gate_exps.weight") + i * gate);
        assert_ptr_equal(expert->up.data, stored(&b, "blk.0.ffn_up_exps.weight") + i * gate);
        assert_ptr_equal(expert->down.data, stored(&b, "blk.0.ffn_down_exps.weight") + i * down);
        assert_int_equal(expert->gate.n_out, INNER);
        assert_int_equal(expert->down.n_out, HIDDEN);
        assert_int_equal(expert->down.type, DTYPE_Q8_0);
    }
    unbind(&b);
}

static void assert_refused(void **state, const file *f, const char *architecture,
                           um_status expected, const char *part) {
    bound b;
    um_status status = bind(&b, *state, f, architecture);
    if (status != expected || !strstr(b.err.message, part))
        fail_msg("expected %s with \"%s\", found %s: %s", um_status_name(expected), part,
                 um_status_name(status), status ? b.err.message : "");
    unbind(&b);
}

static void test_refused(void **state) {
    file mixed = {.n = 0}, more = {.n = 0}, fewer = {.n = 0};
    add_common(&mixed);
    add_separate(&mixed);
    add_moe(&mixed, ID_Q8_0);
    assert_refused(state, &mixed, "rnd1", UM_UNSUPPORTED,
                   "ffn_gate_exps.weight is stored as Q4_0, blk.0.ffn_up_exps.weight as Q8_0");
    add_common(&more);
    add_separate(&more);
    add_dense(&more);
    add(&more, "blk.1.attn_norm.weight", HIDDEN, 0, 0, ID_F32);
    assert_refused(state, &more, "llada", UM_UNSUPPORTED,
                   "blk.1.attn_norm.weight: a model of architecture \"llada\" has no place");
    more.tensors[more.n - 1].name = "rope_freqs.weight";
    assert_refused(state, &more, "llada", UM_UNSUPPORTED, "rope_freqs.weight");
    add_common(&fewer);
    add_separate(&fewer);
    assert_refused(state, &fewer, "llada", UM_NOT_FOUND,
                   "blk.0.ffn_gate.weight: expected a tensor of shape [96, 64], found none");
}

static int make_dir(void **state) {
    static temp_dir dir;
    temp_dir_create(&dir);
    *state = &dir;
    return 0;
}

static int remove_dir(void **state) {
    temp_dir_destroy(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reordered_rows),
        cmocka_unit_test(test_fused_rows),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

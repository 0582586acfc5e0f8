/* SPDX-License-Identifier: Apache-2.0
 *
 * Helpers of family files: sizes out of a config, tensors out of a catalog, each with a check and a
 * sentence that says what was expected.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "models/family.h"

um_status config_size(const hf_config *config, const char *key, const char *other, int32_t max,
                      int32_t *value, um_error *err) {
    if (other && !hf_config_has(config, key) && hf_config_has(config, other)) key = other;
    int64_t wide;
    TRY(hf_config_int(config, key, 1, max, &wide, err));
    *value = (int32_t)wide;
    return UM_OK;
}

um_status config_refuse(const hf_config *config, const char *key, um_error *err) {
    bool is_on;
    TRY(hf_config_bool_or(config, key, false, &is_on, err));
    if (!is_on) return UM_OK;
    um_error_set(err, UM_UNSUPPORTED,
                 "config.json: \"%s\" is true; this version runs models without it only", key);
    um_error_at(err, key, -1);
    return UM_UNSUPPORTED;
}

um_status config_expect_string(const hf_config *config, const char *key, const char *expected,
                               um_error *err) {
    const char *text;
    TRY(hf_config_string_or(config, key, expected, &text, err));
    if (strcmp(text, expected) == 0) return UM_OK;
    um_error_set(err, UM_UNSUPPORTED, "config.json: \"%s\": expected \"%s\", found \"%s\"", key,
                 expected, text);
    um_error_at(err, key, -1);
    return UM_UNSUPPORTED;
}

/* What an object with a rotary kind in it may say: nothing that changes frequencies. */
static um_status refuse_scaled_rope(const hf_config *config, const char *object, um_error *err) {
    char key[64];
    double factor;
    snprintf(key, sizeof key, "%s.rope_type", object);
    if (!hf_config_has(config, key)) snprintf(key, sizeof key, "%s.type", object);
    TRY(config_expect_string(config, key, "default", err));
    snprintf(key, sizeof key, "%s.factor", object);
    TRY(hf_config_real_or(config, key, -1e12, 1e12, 1, &factor, err));
    if (factor != 1)
        FAIL(UM_UNSUPPORTED, err, "config.json: \"%s\": expected 1, found %g", key, factor);
    return UM_OK;
}

um_status config_rope_theta(const hf_config *config, double fallback, double *theta,
                            um_error *err) {
    static const char flat[] = "rope_theta", nested[] = "rope_parameters.rope_theta";
    const double low = 1, high = 1e12;
    if (hf_config_is_set(config, "rope_scaling"))
        TRY(refuse_scaled_rope(config, "rope_scaling", err));
    TRY(refuse_scaled_rope(config, "rope_parameters", err));
    if (hf_config_has(config, nested)) {
        double other;
        TRY(hf_config_real(config, nested, low, high, theta, err));
        TRY(hf_config_real_or(config, flat, low, high, *theta, &other, err));
        if (other != *theta)
            FAIL(UM_FORMAT, err, "config.json: \"%s\" is %g, but \"%s\" is %g", flat, other, nested,
                 *theta);
        return UM_OK;
    }
    if (fallback != 0) return hf_config_real_or(config, flat, low, high, fallback, theta, err);
    return hf_config_real(config, flat, low, high, theta, err);
}

um_status config_rotary_share(const hf_config *config, double fallback, double *share,
                              um_error *err) {
    const char *key = "rope_parameters.partial_rotary_factor";
    if (!hf_config_has(config, key)) key = "partial_rotary_factor";
    return hf_config_real_or(config, key, 0, 1, fallback, share, err);
}

um_status shape_check_heads(const hf_config *config, const transformer_shape *s, um_error *err) {
    const char *heads = hf_config_has(config, "n_heads") ? "n_heads" : "num_attention_heads";
    const char *kv = hf_config_has(config, "n_kv_heads") ? "n_kv_heads" : "num_key_value_heads";
    if (s->n_heads % s->n_kv_heads != 0)
        FAIL(UM_FORMAT, err, "config.json: \"%s\" is %d, not a multiple of \"%s\", %d", heads,
             s->n_heads, kv, s->n_kv_heads);
    if (s->rotary_dim % 2 != 0 || s->rotary_dim > s->head_dim || s->rotary_dim < 0)
        FAIL(
            UM_FORMAT, err,
            "config.json: the rotary dimension must be even and at most \"head_dim\", %d; found %d",
            s->head_dim, s->rotary_dim);
    return UM_OK;
}

const char *tensor_name(char buffer[160], const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(buffer, 160, format, args);
    va_end(args);
    return buffer;
}

um_status bind_matrix(const tensor_catalog *catalog, const char *name, int32_t n_out, int32_t n_in,
                      matrix *w, um_error *err) {
    const tensor *found;
    TRY(tensor_catalog_require(catalog, name, n_out, n_in, &found, err));
    *w = (matrix){.data = found->data, .type = found->type, .n_out = n_out, .n_in = n_in};
    return UM_OK;
}

um_status bind_absent(const tensor_catalog *catalog, const char *name, const char *key,
                      int32_t value, um_error *err) {
    if (!tensor_catalog_find(catalog, name)) return UM_OK;
    um_error_set(err, UM_FORMAT, "config.json: \"%s\" is %d, but the files hold %s", key, value,
                 name);
    um_error_at(err, key, -1);
    return UM_FORMAT;
}

um_status bind_mlp(const tensor_catalog *catalog, const char *prefix, int32_t hidden, int32_t inner,
                   mlp_weights *mlp, um_error *err) {
    char name[160];
    TRY(bind_matrix(catalog, tensor_name(name, "%s.gate_proj.weight", prefix), inner, hidden,
                    &mlp->gate, err));
    TRY(bind_matrix(catalog, tensor_name(name, "%s.up_proj.weight", prefix), inner, hidden,
                    &mlp->up, err));
    return bind_matrix(catalog, tensor_name(name, "%s.down_proj.weight", prefix), hidden, inner,
                       &mlp->down, err);
}

um_status bind_stack(const tensor_catalog *catalog, const char *name, int32_t n_items,
                     int32_t n_out, int32_t n_in, const tensor **found, um_error *err) {
    const tensor *t = tensor_catalog_find(catalog, name);
    if (!t)
        FAIL(UM_NOT_FOUND, err, "%s: expected a tensor of shape [%d, %d, %d], found none", name,
             n_items, n_out, n_in);
    if (t->n_dims != 3 || t->shape[0] != n_items || t->shape[1] != n_out || t->shape[2] != n_in ||
        t->type == (dtype)-1)
        FAIL(UM_FORMAT, err,
             "%s: expected floats of shape [%d, %d, %d], found %d dimensions [%lld, %lld, %lld]",
             name, n_items, n_out, n_in, t->n_dims, (long long)t->shape[0], (long long)t->shape[1],
             (long long)t->shape[2]);
    *found = t;
    return UM_OK;
}

matrix stack_rows(const tensor *t, int32_t i_item, int32_t first, int32_t n_rows) {
    size_t n_in = (size_t)t->shape[2], row = (size_t)i_item * (size_t)t->shape[1] + (size_t)first;
    return (matrix){.data = (const char *)t->data + row * dtype_size(t->type, n_in),
                    .type = t->type,
                    .n_out = n_rows,
                    .n_in = (int32_t)n_in};
}

static um_status bind_stacked_experts(const tensor_catalog *catalog, const char *prefix,
                                      const transformer_shape *s, moe_weights *moe, um_error *err) {
    char name[160];
    const tensor *gate_up, *down;
    int32_t inner = s->expert_inner;
    TRY(bind_stack(catalog, tensor_name(name, "%s.experts.gate_up_proj", prefix), s->n_experts,
                   2 * inner, s->hidden, &gate_up, err));
    TRY(bind_stack(catalog, tensor_name(name, "%s.experts.down_proj", prefix), s->n_experts,
                   s->hidden, inner, &down, err));
    for (int32_t i = 0; i < s->n_experts; i++)
        moe->experts[i] = (mlp_weights){.gate = stack_rows(gate_up, i, 0, inner),
                                        .up = stack_rows(gate_up, i, inner, inner),
                                        .down = stack_rows(down, i, 0, s->hidden)};
    return UM_OK;
}

um_status bind_experts(const tensor_catalog *catalog, const char *prefix,
                       const transformer_shape *s, moe_weights *moe, um_error *err) {
    char name[160], expert[160];
    moe->experts = memory_calloc((size_t)s->n_experts, sizeof *moe->experts);
    if (!moe->experts) FAIL(UM_NO_MEMORY, err, "no memory for %d experts", s->n_experts);
    if (tensor_catalog_find(catalog, tensor_name(name, "%s.experts.gate_up_proj", prefix))) {
        TRY(bind_stacked_experts(catalog, prefix, s, moe, err));
    } else {
        for (int32_t i = 0; i < s->n_experts; i++)
            TRY(bind_mlp(catalog, tensor_name(expert, "%s.experts.%d", prefix, i), s->hidden,
                         s->expert_inner, &moe->experts[i], err));
        TRY(bind_absent(catalog,
                        tensor_name(name, "%s.experts.%d.gate_proj.weight", prefix, s->n_experts),
                        "num_experts", s->n_experts, err));
    }
    dtype type = moe->experts[0].gate.type;
    for (int32_t i = 0; i < s->n_experts; i++)
        if (moe->experts[i].gate.type != type || moe->experts[i].up.type != type ||
            moe->experts[i].down.type != type)
            FAIL(UM_UNSUPPORTED, err, "%s: experts are stored in different types", prefix);
    return UM_OK;
}

um_status bind_head(const hf_config *config, const tensor_catalog *catalog, transformer *t,
                    um_error *err) {
    bool is_tied;
    TRY(hf_config_bool_or(config, "tie_word_embeddings", false, &is_tied, err));
    if (!is_tied)
        return bind_matrix(catalog, "lm_head.weight", t->shape.vocab, t->shape.hidden, &t->head,
                           err);
    t->head = t->embedding;
    return UM_OK;
}

matrix matrix_rows(const matrix *w, int32_t first, int32_t n) {
    size_t row_bytes = dtype_size(w->type, (size_t)w->n_in);
    return (matrix){.data = (const char *)w->data + (size_t)first * row_bytes,
                    .type = w->type,
                    .n_out = n,
                    .n_in = w->n_in};
}

um_status bind_vector(const tensor_catalog *catalog, const char *name, int32_t n, float **values,
                      um_error *err) {
    const tensor *found;
    TRY(tensor_catalog_require(catalog, name, n, 0, &found, err));
    *values = memory_alloc_array((size_t)n, sizeof **values);
    if (!*values) FAIL(UM_NO_MEMORY, err, "no memory for %d numbers of %s", n, name);
    dtype_decode(found->type, found->data, (size_t)n, *values);
    return UM_OK;
}

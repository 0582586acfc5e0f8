/* SPDX-License-Identifier: Apache-2.0
 *
 * Helpers of family files: sizes out of a config, tensors out of a catalog, each with a check and a
 * sentence that says what was expected.
 */
#include <stdarg.h>
#include <stdio.h>

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

um_status shape_check_heads(const transformer_shape *s, um_error *err) {
    if (s->n_heads % s->n_kv_heads != 0)
        FAIL(UM_FORMAT, err,
             "config.json: %d attention heads are not a multiple of %d key-value heads", s->n_heads,
             s->n_kv_heads);
    if (s->rotary_dim % 2 != 0 || s->rotary_dim > s->head_dim || s->rotary_dim < 0)
        FAIL(UM_FORMAT, err,
             "config.json: the rotary dimension must be even and at most the head dimension %d; "
             "found %d",
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

matrix matrix_rows(const matrix *w, int32_t first, int32_t n) {
    size_t row_bytes = (size_t)w->n_in * dtype_bytes(w->type);
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

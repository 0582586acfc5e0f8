/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights of block types with their packed twins, for tests of products.
 */
#ifndef TESTS_PACKED_CHECK_H
#define TESTS_PACKED_CHECK_H

#include "kernel_check.h"
#include "kernels/packed.h"
#include "quant/encode.h"

static const dtype types[] = {DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
enum { N_TYPES = sizeof types / sizeof *types };

/* A weight of a block type with its packed twin; free the three. */
typedef struct weight {
    matrix w;
    unsigned char *stored;
    float *decoded;
    void *packed;
} weight;

static inline weight make_weight(dtype type, int32_t n_out, int32_t n_in, uint64_t seed) {
    size_t n = (size_t)n_out * (size_t)n_in;
    weight made = {.decoded = check_floats(n, 0.5f, seed)};
    made.stored = malloc(dtype_size(type, n) + 1);
    assert_non_null(made.stored);
    for (int32_t o = 0; o < n_out; o++) { /* rows of different sizes and means */
        float *row = made.decoded + (size_t)o * (size_t)n_in;
        for (int32_t i = 0; i < n_in; i++) row[i] = row[i] * (1.0f + (float)(o % 5)) + 0.1f;
    }
    quant_encode(type, made.decoded, NULL, n, made.stored + 1);
    dtype_decode(type, made.stored + 1, n, made.decoded);
    made.packed = check_scratch(packed_bytes(type, n_out, n_in));
    for (int32_t p = 0; p < packed_panels(n_out); p++)
        packed_fill_panel(type, made.stored + 1, n_out, n_in, p,
                          (unsigned char *)made.packed + p * packed_panel_bytes(type, n_in));
    made.w = (matrix){.data = made.stored + 1,
                      .type = type,
                      .n_out = n_out,
                      .n_in = n_in,
                      .packed = made.packed,
                      .form = FORM_INT8};
    return made;
}

static inline void free_weight(weight *made) {
    free(made->stored);
    free(made->decoded);
    free(made->packed);
}

static inline float *multiply(device *dev, const matrix *w, const float *x, const float *bias,
                              int32_t n_rows) {
    const kernel_ops *ops = dev->ops;
    size_t n = (size_t)n_rows * (size_t)w->n_out;
    float *y = malloc(n * sizeof *y);
    void *packed = check_scratch(ops->pack_scratch(dev, n_rows, w->n_in));
    assert_int_equal(ops->pack_rows(dev, w->form, packed, x, n_rows, w->n_in), UM_OK);
    assert_int_equal(ops->linear_packed(dev, y, packed, w, bias, n_rows), UM_OK);
    free(packed);
    return y;
}

/* The specification of a form against float64 products of the decoded weights, for each type. */
static inline void check_near_exact(packed_form form, double nmse_max) {
    enum { ROWS = 5, OUT = 21, IN = 512 };
    device *dev = check_open("scalar", 1);
    float *x = check_floats(ROWS * IN, 3.0f, 7), *bias = check_floats(OUT, 1.0f, 8);
    for (int k = 0; k < N_TYPES; k++) {
        weight made = make_weight(types[k], OUT, IN, 11);
        made.w.form = form;
        float *y = multiply(dev, &made.w, x, bias, ROWS);
        double expected[ROWS * OUT];
        for (int r = 0; r < ROWS; r++)
            for (int o = 0; o < OUT; o++) {
                double sum = bias[o];
                for (int i = 0; i < IN; i++)
                    sum += (double)x[r * IN + i] * made.decoded[o * IN + i];
                expected[r * OUT + o] = sum;
            }
        check_close(dtype_name(types[k]), "scalar", y, expected, ROWS * OUT, nmse_max);
        free(y);
        free_weight(&made);
    }
    free(x);
    free(bias);
    device_close(dev);
}

static inline float *run_experts(device *dev, const mlp_weights *experts, const float *x,
                                 const int32_t *ids, const float *weights, int32_t n_rows,
                                 int32_t n_active, int32_t n_experts) {
    int32_t hidden = experts[0].gate.n_in;
    float *y = malloc((size_t)n_rows * (size_t)hidden * sizeof *y);
    experts_args args = {.x = x,
                         .y = y,
                         .ids = ids,
                         .weights = weights,
                         .experts = experts,
                         .n_rows = n_rows,
                         .n_active = n_active,
                         .n_experts = n_experts};
    void *scratch = check_scratch(dev->ops->experts_scratch(dev, &args));
    assert_int_equal(dev->ops->experts(dev, &args, scratch), UM_OK);
    free(scratch);
    return y;
}

#endif

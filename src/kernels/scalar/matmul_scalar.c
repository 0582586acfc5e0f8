/* SPDX-License-Identifier: Apache-2.0
 *
 * The specification of the matrix product and of decoding: one float32 sum in index order an
 * output. Stored numbers are read with memcpy, since a tensor may begin at any byte.
 */
#include <string.h>

#include "kernels/cpu.h"

static float dot(const float *x, const unsigned char *w, dtype type, int32_t n) {
    float sum = 0.0f;
    if (type == DTYPE_F32) {
        for (int32_t i = 0; i < n; i++) {
            float value;
            memcpy(&value, w + 4 * (size_t)i, sizeof value);
            sum += x[i] * value;
        }
        return sum;
    }
    for (int32_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, w + 2 * (size_t)i, sizeof bits);
        sum += x[i] * (type == DTYPE_BF16 ? dtype_from_bf16(bits) : dtype_from_f16(bits));
    }
    return sum;
}

static void matmul(const matmul_tile *t) {
    size_t row_bytes = (size_t)t->n_in * dtype_bytes(t->type);
    for (int32_t o = 0; o < t->n_out; o++) {
        const unsigned char *w = (const unsigned char *)t->w + (size_t)o * row_bytes;
        for (int32_t r = 0; r < t->n_rows; r++) {
            size_t x_row = (size_t)(t->x_rows ? t->x_rows[r] : r);
            float sum = dot(t->x + x_row * t->x_stride, w, t->type, t->n_in);
            t->y[(size_t)r * t->y_stride + (size_t)o] = t->bias ? sum + t->bias[o] : sum;
        }
    }
}

void matmul_fill_scalar(cpu_kernels *k) {
    k->matmul = matmul;
    k->decode = dtype_decode;
}

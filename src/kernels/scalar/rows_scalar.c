/* SPDX-License-Identifier: Apache-2.0
 *
 * The specification of what happens to rows one number at a time: norm, rotation, gates, sums.
 */
#include <math.h>

#include "kernels/cpu.h"

static void rms_norm(float *y, const float *x, const float *gain, int32_t dim, float eps) {
    float sum = 0.0f;
    for (int32_t i = 0; i < dim; i++) sum += x[i] * x[i];
    float inverse = 1.0f / sqrtf(sum / (float)dim + eps);
    for (int32_t i = 0; i < dim; i++) y[i] = x[i] * inverse * gain[i];
}

static void rope(float *x, const float *cosines, const float *sines, int32_t half) {
    for (int32_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cosines[i] - b * sines[i];
        x[i + half] = b * cosines[i] + a * sines[i];
    }
}

static void swiglu(float *y, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static void add(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

static void add_scaled(float *y, const float *x, float scale, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += scale * x[i];
}

static void sigmoid(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = 1.0f / (1.0f + expf(-x[i]));
}

static void softmax(float *y, const float *x, size_t n) {
    float top = -INFINITY, sum = 0.0f;
    for (size_t i = 0; i < n; i++)
        if (x[i] > top) top = x[i];
    for (size_t i = 0; i < n; i++) {
        y[i] = expf(x[i] - top);
        sum += y[i];
    }
    for (size_t i = 0; i < n; i++) y[i] /= sum;
}

void rows_fill_scalar(cpu_kernels *k) {
    k->rms_norm = rms_norm;
    k->rope = rope;
    k->swiglu = swiglu;
    k->add = add;
    k->add_scaled = add_scaled;
    k->sigmoid = sigmoid;
    k->softmax = softmax;
}

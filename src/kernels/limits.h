/* SPDX-License-Identifier: Apache-2.0
 *
 * What the machine can do at most, measured with loops that do nothing else: the yardstick of
 * `unmask bench`.
 */
#ifndef KERNELS_LIMITS_H
#define KERNELS_LIMITS_H

#include "kernels/device.h"

/* All of the device's threads together, with the instructions that its kernels use. */
typedef struct device_limits {
    double read_gbps;   /* 1e9 bytes a second, from memory, each read once */
    double f32_gflops;  /* fused multiply-adds count two operations */
    double bf16_gflops; /* 0 where no kernel multiplies bfloat16: it is widened to float32 */
    double int8_gops;   /* 8-bit products with sums in 32 bits */
} device_limits;

/* Takes about a second, and memory of 1 GiB meanwhile. Each figure is the best of several runs. */
um_status device_measure_limits(device *dev, device_limits *limits, um_error *err);

#endif

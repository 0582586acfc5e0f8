/* SPDX-License-Identifier: Apache-2.0
 *
 * A place that computes: its table of operations, its buffers, its workers. Above this header
 * nothing knows which processor it runs on.
 */
#ifndef KERNELS_DEVICE_H
#define KERNELS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "base/threads.h"

struct kernel_ops;

/* Owned by the engine; used by one thread at a time. */
typedef struct device {
    const struct kernel_ops *ops; /* kernels/ops.h */
    const char *tier;             /* "scalar", "avx2", "avx512", "amx" */
    bool has_tiles;               /* products of bfloat16 are the fastest ones: FORM_BF16 and
                                     FORM_TILE instead of FORM_FLOAT and FORM_INT8 */
    thread_pool *pool;            /* owned */
} device;

/* Opens the CPU with its best tier, or the one that the environment variable UNMASK_CPU names:
 * scalar, avx2, avx512 or amx. UM_INVALID for another name, UM_UNSUPPORTED for a tier that this
 * processor lacks. n_threads 0: one for each core. */
um_status device_open(int n_threads, device **dev, um_error *err);
void device_close(device *dev); /* accepts NULL */

/* Sets memory aside so that products with float32 activations can decode block types of up to n_in
 * numbers a row; needed before the first such product. */
um_status device_reserve_decode(device *dev, size_t n_in, um_error *err);

/* Memory of the device, 64-byte aligned, zeroed; freed with device_free. */
um_status device_alloc(device *dev, size_t n_bytes, void **memory, um_error *err);
void device_free(device *dev, void *memory); /* accepts NULL */

#endif

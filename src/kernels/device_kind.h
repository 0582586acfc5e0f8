/* SPDX-License-Identifier: Apache-2.0
 *
 * What a kind of device implements besides its operations. Used by device.c and by the files that
 * open a kind; the functions of device.h say what each entry does.
 */
#ifndef KERNELS_DEVICE_KIND_H
#define KERNELS_DEVICE_KIND_H

#include "kernels/device.h"
#include "kernels/limits.h"

typedef struct device_kind {
    void (*close)(device *dev);
    int64_t (*available_bytes)(const device *dev);
    um_status (*reserve_decode)(device *dev, size_t n_in, um_error *err);
    um_status (*alloc)(device *dev, size_t n_bytes, void **memory, um_error *err);
    void (*free)(device *dev, void *memory);
    um_status (*write)(device *dev, void *to, const void *from, size_t n_bytes);
    um_status (*read)(device *dev, void *to, const void *from, size_t n_bytes);
    um_status (*replay)(device *dev, const void *key, size_t n_bytes, bool *is_replayed);
    um_status (*replay_end)(device *dev, um_status status);
    um_status (*replay_gated)(device *dev, const void *key, size_t n_bytes, device_gate *gate,
                              bool *is_replayed);
    um_status (*mark)(device *dev, int i_mark);
    um_status (*wait_mark)(device *dev, int i_mark);
    um_status (*alloc_host)(device *dev, size_t n_bytes, void **memory, um_error *err);
    void (*free_host)(device *dev, void *memory);
    const char *(*fault)(const device *dev);
    um_status (*measure_limits)(device *dev, device_limits *limits, um_error *err);
} device_kind;

um_status cpu_open(int n_threads, device **dev, um_error *err);
um_status cpu_measure_limits(device *dev, device_limits *limits, um_error *err);
/* i_device: the number of a GPU, as CUDA counts those it sees. In a build without CUDA the function
 * of cuda_absent.c says so. */
um_status cuda_open(int i_device, int n_threads, device **dev, um_error *err);

#endif

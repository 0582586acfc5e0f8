/* SPDX-License-Identifier: Apache-2.0
 *
 * The scratch of a step: an arena in the device's memory, for the operations, and one in the
 * host's, for what is made ready before them. On the CPU both are the process's memory.
 */
#ifndef KERNELS_DEVICE_SCRATCH_H
#define KERNELS_DEVICE_SCRATCH_H

#include "base/arena.h"
#include "kernels/device.h"

/* Zero-initialised is empty. One thread at a time. */
typedef struct device_scratch {
    device *dev; /* whose memory `place` is; NULL: none yet. Must outlive it */
    arena place; /* its data are addresses of the device */
    arena host;
} device_scratch;

/* Empties both arenas and makes sure that they hold so many bytes: the only call that allocates. */
um_status device_scratch_reserve(device_scratch *scratch, device *dev, size_t place_bytes,
                                 size_t host_bytes, um_error *err);
void device_scratch_deinit(device_scratch *scratch);

#endif

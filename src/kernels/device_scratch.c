/* SPDX-License-Identifier: Apache-2.0
 *
 * Scratch of a step. The device's part grows by a quarter more than is asked for: its allocations
 * may wait for all work.
 */
#include "kernels/device_scratch.h"

#include <string.h>

um_status device_scratch_reserve(device_scratch *scratch, device *dev, size_t place_bytes,
                                 size_t host_bytes, um_error *err) {
    TRY(arena_reserve(&scratch->host, host_bytes, err));
    scratch->dev = dev;
    scratch->place.n_used = 0;
    if (place_bytes <= scratch->place.capacity) return UM_OK;
    size_t capacity = place_bytes < SIZE_MAX / 2 ? place_bytes + place_bytes / 4 : place_bytes;
    void *data;
    device_free(dev, scratch->place.data);
    scratch->place = (arena){0};
    TRY(device_alloc(dev, capacity, &data, err));
    scratch->place.data = data;
    scratch->place.capacity = capacity;
    return UM_OK;
}

void device_scratch_deinit(device_scratch *scratch) {
    if (scratch->dev) device_free(scratch->dev, scratch->place.data);
    arena_deinit(&scratch->host);
    memset(scratch, 0, sizeof *scratch);
}

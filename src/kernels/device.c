/* SPDX-License-Identifier: Apache-2.0
 *
 * Opens a device by its name and passes calls on to its kind. Blocks of host memory live here
 * because the CPU's memory and what is built for another device come from the same place.
 */
#include "kernels/device.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/device_kind.h"

um_status device_open(const char *name, int n_threads, device **out, um_error *err) {
    const char *from = "device";
    if (!name || !name[0]) {
        name = getenv("UNMASK_DEVICE");
        from = "UNMASK_DEVICE";
    }
    if (!name || !name[0] || strcmp(name, "cpu") == 0) return cpu_open(n_threads, out, err);
    if (strncmp(name, "cuda:", 5) == 0) {
        const char *digits = name + 5;
        size_t n = strspn(digits, "0123456789");
        if (n >= 1 && n <= 3 && digits[n] == '\0')
            return cuda_open((int)strtol(digits, NULL, 10), n_threads, out, err);
    }
    um_error_set(err, UM_INVALID,
                 "%s: expected cpu or cuda:N (the number of a GPU), found \"%.40s\"", from, name);
    um_error_at(err, from, -1);
    return UM_INVALID;
}

void device_close(device *dev) {
    if (dev) dev->kind->close(dev);
}

int64_t device_available_bytes(const device *dev) {
    return dev->kind->available_bytes(dev);
}

um_status device_reserve_decode(device *dev, size_t n_in, um_error *err) {
    return dev->kind->reserve_decode(dev, n_in, err);
}

um_status device_alloc(device *dev, size_t n_bytes, void **memory, um_error *err) {
    return dev->kind->alloc(dev, n_bytes, memory, err);
}

void device_free(device *dev, void *memory) {
    if (memory) dev->kind->free(dev, memory);
}

um_status device_write(device *dev, void *to, const void *from, size_t n_bytes) {
    return dev->kind->write(dev, to, from, n_bytes);
}

um_status device_read(device *dev, void *to, const void *from, size_t n_bytes) {
    return dev->kind->read(dev, to, from, n_bytes);
}

um_status device_replay(device *dev, const void *key, size_t n_bytes, bool *is_replayed) {
    return dev->kind->replay(dev, key, n_bytes, is_replayed);
}

um_status device_replay_end(device *dev, um_status status) {
    return dev->kind->replay_end(dev, status);
}

um_status device_replay_gated(device *dev, const void *key, size_t n_bytes, device_gate *gate,
                              bool *is_replayed) {
    return dev->kind->replay_gated(dev, key, n_bytes, gate, is_replayed);
}

um_status device_mark(device *dev, int i_mark) {
    return dev->kind->mark(dev, i_mark);
}

um_status device_wait_mark(device *dev, int i_mark) {
    return dev->kind->wait_mark(dev, i_mark);
}

um_status device_alloc_host(device *dev, size_t n_bytes, void **memory, um_error *err) {
    return dev->kind->alloc_host(dev, n_bytes, memory, err);
}

void device_free_host(device *dev, void *memory) {
    if (memory) dev->kind->free_host(dev, memory);
}

um_status device_wait(device *dev) {
    return dev->kind->read(dev, NULL, NULL, 0);
}

const char *device_fault(const device *dev) {
    return dev->kind->fault(dev);
}

um_status device_measure_limits(device *dev, device_limits *limits, um_error *err) {
    return dev->kind->measure_limits(dev, limits, err);
}

/* Stands in the 64 bytes before the aligned block. */
typedef struct block_head {
    void *raw;
    size_t mapped_bytes; /* 0: raw is from memory_calloc, else from memory_map */
} block_head;

enum { ALIGNMENT = 64, MAPPED_MIN = 4 << 20 };

/* Large blocks (packed weights, the cache) are on huge pages: reading them through pages of 4 KiB
 * costs a good part of the bandwidth. */
um_status host_block_alloc(size_t n_bytes, void **memory, um_error *err) {
    block_head head = {0};
    if (n_bytes <= SIZE_MAX - 2 * ALIGNMENT) {
        size_t wanted = n_bytes + 2 * ALIGNMENT;
        if (n_bytes >= MAPPED_MIN) head.mapped_bytes = wanted;
        head.raw = head.mapped_bytes ? memory_map(wanted) : memory_calloc(1, wanted);
    }
    if (!head.raw) FAIL(UM_NO_MEMORY, err, "no memory for a buffer of %zu bytes", n_bytes);
    unsigned char *raw = head.raw, *aligned = raw + (2 * ALIGNMENT - (uintptr_t)raw % ALIGNMENT);
    memcpy(aligned - sizeof head, &head, sizeof head);
    *memory = aligned;
    return UM_OK;
}

void host_block_free(void *memory) {
    if (!memory) return;
    block_head head;
    memcpy(&head, (unsigned char *)memory - sizeof head, sizeof head);
    if (head.mapped_bytes)
        memory_unmap(head.raw, head.mapped_bytes);
    else
        memory_free(head.raw);
}

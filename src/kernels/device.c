/* SPDX-License-Identifier: Apache-2.0
 *
 * Opens the CPU: picks a tier, fills its table, starts the pool. Buffers are zeroed memory that
 * the system gives page by page as it is touched (the cache).
 */
#include "kernels/device.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/cpu.h"

static const kernel_ops cpu_ops = {
    .linear = cpu_linear,
    .pack_scratch = cpu_pack_scratch,
    .pack_rows = cpu_pack_rows,
    .linear_packed = cpu_linear_packed,
    .embed = cpu_embed,
    .rms_norm = cpu_rms_norm,
    .rope = cpu_rope,
    .kv_write = cpu_kv_write,
    .attention_scratch = cpu_attention_scratch,
    .attention = cpu_attention,
    .swiglu = cpu_swiglu,
    .add = cpu_add,
    .route_scratch = cpu_route_scratch,
    .route = cpu_route,
    .experts_scratch = cpu_experts_scratch,
    .experts = cpu_experts,
    .head_scratch = cpu_head_scratch,
    .head = cpu_head,
};

void cpu_fill_scalar(cpu_kernels *k) {
    k->name = "scalar";
    matmul_fill_scalar(k);
    packed_fill_scalar(k);
    tiled_fill_scalar(k);
    limits_fill_scalar(k);
    rows_fill_scalar(k);
    attention_fill_scalar(k);
    head_fill_scalar(k);
}

/* Fills the table upward to the tier that is asked for; NULL or "": the best there is. */
static um_status select_tier(const char *wanted, cpu_kernels *k, um_error *err) {
    static const struct {
        const char *name;
        bool (*is_there)(void);
        void (*fill)(cpu_kernels *k);
    } tiers[] = {{"avx2", cpu_has_avx2, cpu_fill_avx2},
                 {"avx512", cpu_has_avx512, cpu_fill_avx512},
                 {"amx", cpu_has_amx, cpu_fill_amx}};
    const int n_tiers = sizeof tiers / sizeof *tiers;
    int n_there = 0, n_wanted = -1;
    while (n_there < n_tiers && tiers[n_there].is_there()) n_there++;
    const char *best = n_there ? tiers[n_there - 1].name : "scalar";
    if (!wanted || !wanted[0]) wanted = best;
    if (strcmp(wanted, "scalar") == 0) n_wanted = 0;
    for (int i = 0; i < n_tiers; i++)
        if (strcmp(wanted, tiers[i].name) == 0) n_wanted = i + 1;
    if (n_wanted < 0)
        FAIL(UM_INVALID, err, "UNMASK_CPU: expected scalar, avx2, avx512 or amx, found \"%.40s\"",
             wanted);
    if (n_wanted > n_there)
        FAIL(UM_UNSUPPORTED, err, "UNMASK_CPU: expected a processor with %s, found one with %s",
             wanted, best);
    cpu_fill_scalar(k);
    for (int i = 0; i < n_wanted; i++) tiers[i].fill(k);
    return UM_OK;
}

um_status device_open(int n_threads, device **out, um_error *err) {
    cpu_kernels kernels = {0};
    TRY(select_tier(getenv("UNMASK_CPU"), &kernels, err));
    cpu_device *cpu = memory_calloc(1, sizeof *cpu);
    if (!cpu) FAIL(UM_NO_MEMORY, err, "no memory for the device");
    um_status status = thread_pool_create(n_threads, &cpu->base.pool, err);
    if (status != UM_OK) {
        memory_free(cpu);
        return status;
    }
    cpu->kernels = kernels;
    cpu->base.ops = &cpu_ops;
    cpu->base.tier = cpu->kernels.name;
    cpu->base.has_tiles = cpu->kernels.has_tiles;
    *out = &cpu->base;
    return UM_OK;
}

void device_close(device *dev) {
    if (!dev) return;
    thread_pool_destroy(dev->pool);
    memory_free(((cpu_device *)dev)->decoded);
    memory_free(dev);
}

um_status device_reserve_decode(device *dev, size_t n_in, um_error *err) {
    cpu_device *cpu = (cpu_device *)dev;
    if (n_in <= cpu->decoded_width) return UM_OK;
    memory_free(cpu->decoded);
    cpu->decoded_width = 0;
    cpu->decoded = memory_alloc_array((size_t)thread_pool_size(dev->pool),
                                      DECODED_ROWS * n_in * sizeof(float));
    if (!cpu->decoded) FAIL(UM_NO_MEMORY, err, "no memory to decode rows of %zu numbers", n_in);
    cpu->decoded_width = n_in;
    return UM_OK;
}

/* Stands in the 64 bytes before the aligned block. */
typedef struct block_head {
    void *raw;
    size_t mapped_bytes; /* 0: raw is from memory_calloc, else from memory_map */
} block_head;

enum { ALIGNMENT = 64, MAPPED_MIN = 4 << 20 };

/* Large blocks (packed weights, the cache) are on huge pages: reading them through pages of 4 KiB
 * costs a good part of the bandwidth. */
um_status device_alloc(device *dev, size_t n_bytes, void **memory, um_error *err) {
    (void)dev;
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

void device_free(device *dev, void *memory) {
    (void)dev;
    if (!memory) return;
    block_head head;
    memcpy(&head, (unsigned char *)memory - sizeof head, sizeof head);
    if (head.mapped_bytes)
        memory_unmap(head.raw, head.mapped_bytes);
    else
        memory_free(head.raw);
}

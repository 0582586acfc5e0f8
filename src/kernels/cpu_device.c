/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU as a device: picks a tier, fills its table, starts the pool. Its memory is the process's.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/system_memory.h"
#include "kernels/cpu.h"
#include "kernels/device_kind.h"

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
    .gather = cpu_gather,
    .route_scratch = cpu_route_scratch,
    .route = cpu_route,
    .experts_scratch = cpu_experts_scratch,
    .experts = cpu_experts,
    .head_scratch = cpu_head_scratch,
    .head = cpu_head,
    .head_place_bytes = cpu_head_place_bytes,
    .head_place = cpu_head_place,
    .head_placed = cpu_head_placed,
    .decide = cpu_decide,
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

/* Fills the table upward to the tier that is asked for; NULL or "": the fastest there is. A
 * processor may lack one in between: AVX-512 came before AVX-VNNI. */
static um_status select_tier(const char *wanted, cpu_kernels *k, um_error *err) {
    static const struct {
        const char *name;
        bool (*is_there)(void), (*is_faster)(void);
        void (*fill)(cpu_kernels *k);
    } tiers[] = {{"avx2", cpu_has_avx2, cpu_has_avx2, cpu_fill_avx2},
                 {"avxvnni", cpu_has_avxvnni, cpu_has_avxvnni, cpu_fill_avxvnni},
                 {"avx512", cpu_has_avx512, cpu_has_avx512, cpu_fill_avx512},
                 {"avx512bf16", cpu_has_avx512bf16, cpu_is_fast_at_bf16, cpu_fill_avx512bf16},
                 {"amx", cpu_has_amx, cpu_has_amx, cpu_fill_amx}};
    const int n_tiers = sizeof tiers / sizeof *tiers;
    int best = -1, chosen = -2;
    for (int i = 0; i < n_tiers; i++)
        if (tiers[i].is_faster()) best = i;
    if (!wanted || !wanted[0]) wanted = best < 0 ? "scalar" : tiers[best].name;
    if (strcmp(wanted, "scalar") == 0) chosen = -1;
    for (int i = 0; i < n_tiers; i++)
        if (strcmp(wanted, tiers[i].name) == 0) chosen = i;
    if (chosen < -1)
        FAIL(UM_INVALID, err,
             "UNMASK_CPU: expected scalar, avx2, avxvnni, avx512, avx512bf16 or amx, found "
             "\"%.40s\"",
             wanted);
    if (chosen >= 0 && !tiers[chosen].is_there())
        FAIL(UM_UNSUPPORTED, err, "UNMASK_CPU: expected a processor with %s, found one with %s",
             wanted, best < 0 ? "scalar" : tiers[best].name);
    cpu_fill_scalar(k);
    for (int i = 0; i <= chosen; i++)
        if (tiers[i].is_there()) tiers[i].fill(k);
    return UM_OK;
}

static void cpu_close(device *dev) {
    thread_pool_destroy(dev->pool);
    memory_free(((cpu_device *)dev)->decoded);
    memory_free(dev);
}

static int64_t cpu_available_bytes(const device *dev) {
    (void)dev;
    return system_memory_bytes();
}

static um_status cpu_reserve_decode(device *dev, size_t n_in, um_error *err) {
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

static um_status cpu_alloc(device *dev, size_t n_bytes, void **memory, um_error *err) {
    (void)dev;
    return host_block_alloc(n_bytes, memory, err);
}

static void cpu_free(device *dev, void *memory) {
    (void)dev;
    host_block_free(memory);
}

static um_status cpu_copy(device *dev, void *to, const void *from, size_t n_bytes) {
    (void)dev;
    if (n_bytes) memcpy(to, from, n_bytes);
    return UM_OK;
}

static um_status cpu_replay(device *dev, const void *key, size_t n_bytes, bool *is_replayed) {
    (void)dev;
    (void)key;
    (void)n_bytes;
    *is_replayed = false;
    return UM_OK;
}

static um_status cpu_replay_end(device *dev, um_status status) {
    (void)dev;
    return status;
}

static um_status cpu_replay_gated(device *dev, const void *key, size_t n_bytes, device_gate *gate,
                                  bool *is_replayed) {
    (void)dev;
    (void)key;
    (void)n_bytes;
    *is_replayed = !gate->is_open;
    if (gate->is_open) gate->begin_ns = clock_now_ns();
    return UM_OK;
}

/* What was called is done. */
static um_status cpu_mark(device *dev, int i_mark) {
    (void)dev;
    (void)i_mark;
    return UM_OK;
}

static const char *cpu_fault(const device *dev) {
    (void)dev;
    return "";
}

static const device_kind cpu_kind = {
    .close = cpu_close,
    .available_bytes = cpu_available_bytes,
    .reserve_decode = cpu_reserve_decode,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .write = cpu_copy,
    .read = cpu_copy,
    .replay = cpu_replay,
    .replay_end = cpu_replay_end,
    .replay_gated = cpu_replay_gated,
    .mark = cpu_mark,
    .wait_mark = cpu_mark,
    .alloc_host = cpu_alloc,
    .free_host = cpu_free,
    .fault = cpu_fault,
    .measure_limits = cpu_measure_limits,
};

um_status cpu_open(int n_threads, device **out, um_error *err) {
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
    cpu->base.kind = &cpu_kind;
    cpu->base.name = "cpu";
    cpu->base.tier = cpu->kernels.name;
    cpu->base.is_host = true;
    cpu->base.has_bf16 = cpu->kernels.has_bf16;
    cpu->base.has_tiles = cpu->kernels.has_tiles;
    cpu->base.has_int8 = true;
    *out = &cpu->base;
    return UM_OK;
}

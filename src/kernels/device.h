/* SPDX-License-Identifier: Apache-2.0
 *
 * A place that computes: its table of operations, its memory, its workers. Above this header
 * nothing knows which processor it runs on.
 *
 * Operations take addresses of the device's memory. On the CPU that is the process's own, and what
 * a file map holds can be used where it lies; another device has memory of its own, in which a
 * host pointer means nothing: weights are brought there once (models/place.c), a step's rows and
 * page tables with one device_write. Work on such a device is queued in order: an operation may
 * return before it is done, device_read waits.
 */
#ifndef KERNELS_DEVICE_H
#define KERNELS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/threads.h"

struct kernel_ops;
struct device_kind;

/* Owned by the engine; used by one thread at a time. */
typedef struct device {
    const struct kernel_ops *ops;   /* kernels/ops.h */
    const struct device_kind *kind; /* of device.c and its like: what the functions below call */
    const char *tier;               /* "scalar", "avx2", "avxvnni", "avx512", "avx512bf16",
                                       "amx", "cuda" */
    const char *name;               /* "cpu", "cuda:0" */
    bool is_host;                   /* its memory is the process's */
    bool has_bf16;                  /* products of bfloat16 are faster than those of float32:
                                       FORM_BF16 instead of FORM_FLOAT */
    bool has_tiles;                 /* and than those of 8 bits: FORM_TILE, not FORM_INT8 */
    bool runs_ahead;                /* queued work goes on while the host does something else */
    bool has_int8;                  /* packed twins of block types (kernels/packed.h) are used */
    bool has_panels;                /* weights of block types are brought to it as panels, and
                                       meet activations in FORM_TILE, experts' as well */
    thread_pool *pool;              /* of the host, for work on files; owned */
} device;

/* Opens a device by its name: "cpu", or "cuda:N" with the number of a GPU. NULL or "": what the
 * environment variable UNMASK_DEVICE names, or else the CPU. The CPU comes with its best tier, or
 * the one that UNMASK_CPU names: scalar, avx2, avxvnni, avx512, avx512bf16 or amx. UM_INVALID for
 * another name or number, UM_UNSUPPORTED for what this build or this machine lacks, UM_DEVICE where
 * a driver fails. n_threads 0: one for each core. */
um_status device_open(const char *name, int n_threads, device **dev, um_error *err);
void device_close(device *dev); /* accepts NULL */

/* Bytes that device_alloc can still give; an upper bound. */
int64_t device_available_bytes(const device *dev);

/* Sets memory aside so that products with float32 activations can decode block types of up to n_in
 * numbers a row; needed before the first such product. */
um_status device_reserve_decode(device *dev, size_t n_in, um_error *err);

/* Memory of the device, 64-byte aligned, zeroed; freed with device_free. */
um_status device_alloc(device *dev, size_t n_bytes, void **memory, um_error *err);
void device_free(device *dev, void *memory); /* accepts NULL */

/* Copies n_bytes of the host's memory to the device's; `from` may change when it returns. */
um_status device_write(device *dev, void *to, const void *from, size_t n_bytes);
/* Copies n_bytes of the device's memory to the host's, after all work that was queued before. */
um_status device_read(device *dev, void *to, const void *from, size_t n_bytes);

enum { DEVICE_KEY_BYTES = 512 };

/* A run of operations that comes again and again can be queued at once. key [n_bytes, at most
 * DEVICE_KEY_BYTES] holds all that they depend on but the contents of the device's memory. Where
 * *is_replayed, the device has queued what it did under this key before; otherwise the caller calls
 * the operations, without device_write and device_read between them, and ends with
 * device_replay_end, whatever became of them: it takes their status and returns it or its own. */
um_status device_replay(device *dev, const void *key, size_t n_bytes, bool *is_replayed);
um_status device_replay_end(device *dev, um_status status);

/* What runs that are queued before it is known that they are wanted wait for. In the device's
 * memory. */
typedef struct device_gate {
    int32_t is_open;          /* 0: what is behind it is not done */
    int32_t n_steps;          /* counted by whoever closes it (kernels/decide.h) */
    int64_t begin_ns, end_ns; /* of the last run that was done: by the device's clock */
} device_gate;

/* As device_replay, for a run that is done only if the gate is open when its turn comes; the run
 * itself may close it. *is_replayed is true as well where it is known to be closed by now.
 * UM_UNSUPPORTED: not with this driver; nothing is queued. */
um_status device_replay_gated(device *dev, const void *key, size_t n_bytes, device_gate *gate,
                              bool *is_replayed);

enum { DEVICE_MARKS = 2 };

/* Marks what has been queued up to now with a number below DEVICE_MARKS; device_wait_mark waits for
 * that, and for no work behind it. */
um_status device_mark(device *dev, int i_mark);
um_status device_wait_mark(device *dev, int i_mark);
/* Memory of the host that operations of the device can write, 64-byte aligned. */
um_status device_alloc_host(device *dev, size_t n_bytes, void **memory, um_error *err);
void device_free_host(device *dev, void *memory); /* accepts NULL; waits for queued work */

/* Waits for all work that was queued. */
um_status device_wait(device *dev);
/* What went wrong, in the driver's words, where an operation or a copy has failed; else "". */
const char *device_fault(const device *dev);

/* Blocks of the host's memory, on huge pages where they are large; zeroed, 64-byte aligned. */
um_status host_block_alloc(size_t n_bytes, void **memory, um_error *err);
void host_block_free(void *memory); /* accepts NULL */

#endif

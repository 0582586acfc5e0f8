/* SPDX-License-Identifier: Apache-2.0
 *
 * The GPU as a device: its stream, and what its operations in C share.
 */
#ifndef KERNELS_CUDA_DEVICE_H
#define KERNELS_CUDA_DEVICE_H

#include "kernels/cuda/cuda_launch.h"
#include "kernels/device_kind.h"
#include "kernels/head_merge.h"
#include "kernels/ops.h"

/* Requests of the head that share one product; bounds its scratch. */
enum { CUDA_HEAD_REQUESTS = 128 };
/* Steps that are kept. */
enum { CUDA_GRAPHS = 16 };

/* A chunk of the head's requests, as the device reads it. */
typedef struct cuda_head_inputs {
    cuda_head_request requests[CUDA_HEAD_REQUESTS];
    int32_t rows[2 * CUDA_HEAD_REQUESTS]; /* [n_used] of x, that requests name, each once */
    int32_t n_used, n_stored;
} cuda_head_inputs;

typedef struct cuda_graph {
    unsigned char key[DEVICE_KEY_BYTES];
    size_t key_bytes;
    uint64_t last_use;    /* 0: an empty place */
    cudaGraphExec_t exec; /* NULL: seen once, not recorded */
} cuda_graph;

typedef struct cuda_device {
    device base;
    device *host; /* owned: its pool and its kernels finish the head */
    char name[16];
    int i_device, n_multiprocessors;
    bool has_clusters; /* of blocks */
    cudaStream_t stream;
    char fault[256]; /* of the driver, "" while all is well */
    /* Of the head, in the host's memory; they grow. */
    void *placed, *stored; /* bytes of requests on their way; logits [.., vocab] f32 */
    size_t placed_capacity, stored_capacity;
    cuda_graph graphs[CUDA_GRAPHS];
    cuda_graph *recording;       /* NULL: launches run as they come */
    cudaGraph_t recording_whole; /* what is recorded is behind a gate in it; NULL: is all of it */
    cudaEvent_t marks[DEVICE_MARKS];
    uint64_t n_graph_uses;
} cuda_device;

static inline cuda_device *cuda_of(device *dev) {
    return (cuda_device *)dev;
}

/* Of packed activations: whole blocks of 8 rows, then the sums. */
static inline size_t cuda_packed_bytes(size_t n_rows, size_t n_in) {
    size_t n = (n_rows + 7) / 8 * 8 * n_in;
    return round_up_64(n * sizeof(uint16_t) + n / 32 * sizeof(float));
}

/* The sums of n_rows packed rows; NULL where the form has none. */
static inline float *cuda_packed_sums(packed_form form, const void *packed, int32_t n_rows,
                                      int32_t n_in) {
    size_t n = ((size_t)n_rows + 7) / 8 * 8 * (size_t)n_in;
    return form == FORM_TILE ? (float *)((uintptr_t)packed + n * sizeof(uint16_t)) : NULL;
}

/* UM_OK, or UM_DEVICE and the driver's words in `fault`. */
um_status cuda_check(cuda_device *cuda, cudaError_t error);
/* The same for whatever was launched last. */
um_status cuda_check_launch(cuda_device *cuda);

extern const kernel_ops cuda_ops;

um_status cuda_replay(device *dev, const void *key, size_t n_bytes, bool *is_replayed);
um_status cuda_replay_gated(device *dev, const void *key, size_t n_bytes, device_gate *gate,
                            bool *is_replayed);
um_status cuda_replay_end(device *dev, um_status status);
void cuda_graphs_destroy(cuda_device *cuda);

/* cuda_products.c */
const void *cuda_weight_of(const matrix *w);
/* Plans and launches a product whose weights are like w: of its type, form and n_in. */
void cuda_multiply(cuda_device *cuda, cuda_product *p, const matrix *w);
um_status cuda_linear(device *dev, float *y, const float *x, const matrix *w, const float *bias,
                      int32_t n_rows);
size_t cuda_pack_scratch(const device *dev, int32_t n_rows, int32_t n_in);
um_status cuda_pack_rows(device *dev, packed_form form, void *packed, const float *x,
                         int32_t n_rows, int32_t n_in);
um_status cuda_linear_packed(device *dev, float *y, const void *packed, const matrix *w,
                             const float *bias, int32_t n_rows);
um_status cuda_linear_shared(device *dev, const void *packed, const shared_product *products,
                             int32_t n_products, int32_t n_rows);
um_status cuda_linear_added(device *dev, float *y, const void *packed, const matrix *w,
                            const float *bias, int32_t n_rows);
um_status cuda_linear_gated(device *dev, packed_form form, void *inner, const void *packed,
                            const matrix *gate, const matrix *up, int32_t n_rows);
size_t cuda_experts_scratch(const device *dev, const experts_args *args);
um_status cuda_experts(device *dev, const experts_args *args, void *scratch);

um_status cuda_measure_limits(device *dev, device_limits *limits, um_error *err);
size_t cuda_head_place_bytes(const device *dev, const head_args *args);
um_status cuda_head_place(device *dev, const head_args *args, void *placed);
um_status cuda_head_placed(device *dev, const head_args *args, void *placed, void *scores,
                           void *scratch);
size_t cuda_head_scratch(const device *dev, const head_args *args);
um_status cuda_head(device *dev, const head_args *args, void *scratch);
um_status cuda_decide(device *dev, const decide_args *args);

#endif

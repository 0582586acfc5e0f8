/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits of a GPU: times of loops that do nothing else, by the device's own clock.
 */
#include "kernels/cuda/cuda_device.h"

enum { RUNS = 5, ROUNDS = 4096 };
#define READ_BYTES ((size_t)4 << 30) /* far more than any cache */

typedef double (*burn)(cudaStream_t stream, int n_multiprocessors, int n_rounds, float *sink);

/* 1e9 units a second, the best of some runs: bytes where `run` is NULL, else operations. */
static um_status best_rate(cuda_device *cuda, cudaEvent_t begin, cudaEvent_t end, burn run,
                           void *memory, size_t n_bytes, double *best) {
    *best = 0;
    for (int i = 0; i <= RUNS; i++) { /* the first one is not counted */
        double units = (double)n_bytes;
        float ms = 0;
        cudaEventRecord(begin, cuda->stream);
        if (run)
            units = run(cuda->stream, cuda->n_multiprocessors, ROUNDS, memory);
        else
            cuda_launch_read(cuda->stream, memory, n_bytes, memory);
        TRY(cuda_check_launch(cuda));
        cudaEventRecord(end, cuda->stream);
        TRY(cuda_check(cuda, cudaEventSynchronize(end)));
        TRY(cuda_check(cuda, cudaEventElapsedTime(&ms, begin, end)));
        double rate = units / (double)ms / 1e6;
        if (i > 0 && rate > *best) *best = rate;
    }
    return UM_OK;
}

um_status cuda_measure_limits(device *dev, device_limits *limits, um_error *err) {
    cuda_device *cuda = cuda_of(dev);
    size_t n_bytes = READ_BYTES;
    while (n_bytes > (size_t)device_available_bytes(dev) / 2) n_bytes /= 2;
    void *memory;
    TRY(device_alloc(dev, n_bytes, &memory, err));
    cudaEvent_t begin = NULL, end = NULL;
    um_status status = cuda_check(cuda, cudaEventCreate(&begin));
    TRY_GOTO(status, cleanup);
    TRY_GOTO(cuda_check(cuda, cudaEventCreate(&end)), cleanup);
    TRY_GOTO(best_rate(cuda, begin, end, NULL, memory, n_bytes, &limits->read_gbps), cleanup);
    TRY_GOTO(best_rate(cuda, begin, end, cuda_launch_burn_f32, memory, 0, &limits->f32_gflops),
             cleanup);
    TRY_GOTO(best_rate(cuda, begin, end, cuda_launch_burn_bf16, memory, 0, &limits->bf16_gflops),
             cleanup);
    TRY_GOTO(best_rate(cuda, begin, end, cuda_launch_burn_int8, memory, 0, &limits->int8_gops),
             cleanup);
cleanup:
    if (begin) cudaEventDestroy(begin);
    if (end) cudaEventDestroy(end);
    device_free(dev, memory);
    if (status != UM_OK)
        FAIL(status, err, "%s: measuring its limits failed: %s", cuda->name, cuda->fault);
    return UM_OK;
}

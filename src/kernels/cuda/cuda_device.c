/* SPDX-License-Identifier: Apache-2.0
 *
 * Opens a GPU and owns its memory. One stream: operations run in the order in which they are
 * called. What is wrong with the machine is said when it opens, before anything is loaded.
 */
#include "kernels/cuda/cuda_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { CAPABILITY_MIN = 80 }; /* products of bfloat16 on the tensor cores */

um_status cuda_check(cuda_device *cuda, cudaError_t error) {
    if (error == cudaSuccess) return UM_OK;
    snprintf(cuda->fault, sizeof cuda->fault, "%s (%s)", cudaGetErrorString(error),
             cudaGetErrorName(error));
    cudaGetLastError(); /* errors that can be forgotten are */
    return UM_DEVICE;
}

um_status cuda_check_launch(cuda_device *cuda) {
    return cuda_check(cuda, cudaPeekAtLastError());
}

static void cuda_close(device *dev) {
    cuda_device *cuda = cuda_of(dev);
    if (cuda->stream) {
        cudaStreamSynchronize(cuda->stream);
        cuda_graphs_destroy(cuda);
        cudaStreamDestroy(cuda->stream);
    }
    for (int k = 0; k < DEVICE_MARKS; k++)
        if (cuda->marks[k]) cudaEventDestroy(cuda->marks[k]);
    memory_free(cuda->stored);
    memory_free(cuda->placed);
    device_close(cuda->host);
    memory_free(cuda);
}

/* The driver keeps a current GPU for each thread; an engine may be driven by any. Every forward
 * begins with a copy, and so with this. */
static void make_current(const device *dev) {
    cudaSetDevice(((const cuda_device *)dev)->i_device);
}

static int64_t cuda_available_bytes(const device *dev) {
    size_t n_free = 0, n_total = 0;
    make_current(dev);
    return cudaMemGetInfo(&n_free, &n_total) == cudaSuccess ? (int64_t)n_free : 0;
}

/* Blocks are decoded number by number: nothing is set aside. */
static um_status cuda_reserve_decode(device *dev, size_t n_in, um_error *err) {
    (void)dev;
    (void)n_in;
    (void)err;
    return UM_OK;
}

static um_status cuda_alloc(device *dev, size_t n_bytes, void **memory, um_error *err) {
    cuda_device *cuda = cuda_of(dev);
    make_current(dev);
    cudaError_t error = cudaMalloc(memory, n_bytes ? n_bytes : 1);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        FAIL(UM_NO_MEMORY, err, "%s: no memory for %.3f GB; %.3f GB are free", cuda->name,
             (double)n_bytes / 1e9, (double)cuda_available_bytes(dev) / 1e9);
    }
    if (error == cudaSuccess && n_bytes) {
        error = cudaMemsetAsync(*memory, 0, n_bytes, cuda->stream);
        if (error != cudaSuccess) cudaFree(*memory);
    }
    if (cuda_check(cuda, error) != UM_OK)
        FAIL(UM_DEVICE, err, "%s: allocating %zu bytes failed: %s", cuda->name, n_bytes,
             cuda->fault);
    return UM_OK;
}

static void cuda_free(device *dev, void *memory) {
    make_current(dev);
    cudaFree(memory);
}

static um_status cuda_write(device *dev, void *to, const void *from, size_t n_bytes) {
    cuda_device *cuda = cuda_of(dev);
    make_current(dev);
    if (n_bytes == 0) return UM_OK;
    return cuda_check(cuda,
                      cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyHostToDevice, cuda->stream));
}

static um_status cuda_read(device *dev, void *to, const void *from, size_t n_bytes) {
    cuda_device *cuda = cuda_of(dev);
    make_current(dev);
    if (n_bytes)
        TRY(cuda_check(cuda,
                       cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToHost, cuda->stream)));
    return cuda_check(cuda, cudaStreamSynchronize(cuda->stream));
}

static um_status cuda_mark(device *dev, int i_mark) {
    cuda_device *cuda = cuda_of(dev);
    make_current(dev);
    return cuda_check(cuda, cudaEventRecord(cuda->marks[i_mark], cuda->stream));
}

static um_status cuda_wait_mark(device *dev, int i_mark) {
    make_current(dev);
    return cuda_check(cuda_of(dev), cudaEventSynchronize(cuda_of(dev)->marks[i_mark]));
}

static um_status cuda_alloc_host(device *dev, size_t n_bytes, void **memory, um_error *err) {
    cuda_device *cuda = cuda_of(dev);
    make_current(dev);
    cudaError_t error = cudaHostAlloc(memory, n_bytes ? n_bytes : 1, cudaHostAllocDefault);
    if (cuda_check(cuda, error) == UM_OK) return UM_OK;
    FAIL(error == cudaErrorMemoryAllocation ? UM_NO_MEMORY : UM_DEVICE, err,
         "%s: pinning %zu bytes of the host's memory failed: %s", cuda->name, n_bytes, cuda->fault);
}

static void cuda_free_host(device *dev, void *memory) {
    make_current(dev);
    cudaStreamSynchronize(cuda_of(dev)->stream);
    cudaFreeHost(memory);
}

static const char *cuda_fault(const device *dev) {
    return ((const cuda_device *)dev)->fault;
}

static const device_kind cuda_kind = {
    .close = cuda_close,
    .available_bytes = cuda_available_bytes,
    .reserve_decode = cuda_reserve_decode,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .write = cuda_write,
    .read = cuda_read,
    .replay = cuda_replay,
    .replay_end = cuda_replay_end,
    .replay_gated = cuda_replay_gated,
    .mark = cuda_mark,
    .wait_mark = cuda_wait_mark,
    .alloc_host = cuda_alloc_host,
    .free_host = cuda_free_host,
    .fault = cuda_fault,
    .measure_limits = cuda_measure_limits,
};

/* What can be known before a context is made. */
static um_status check_machine(int i_device, um_error *err) {
    int n_devices = 0, driver = 0;
    cudaError_t error = cudaGetDeviceCount(&n_devices);
    cudaDriverGetVersion(&driver);
    cudaGetLastError();
    if (error == cudaErrorInsufficientDriver && driver > 0)
        FAIL(UM_UNSUPPORTED, err,
             "device cuda:%d: expected a driver for CUDA %d.%d or later, found one for CUDA %d.%d",
             i_device, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10, driver / 1000,
             driver % 1000 / 10);
    if (error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice || n_devices == 0)
        FAIL(UM_UNSUPPORTED, err, "device cuda:%d: this machine has no %s", i_device,
             driver > 0 ? "NVIDIA GPU that this process may use" : "NVIDIA driver");
    if (error != cudaSuccess)
        FAIL(UM_DEVICE, err, "device cuda:%d: the driver fails: %s", i_device,
             cudaGetErrorString(error));
    if (i_device >= n_devices)
        FAIL(UM_INVALID, err,
             "device: expected the number of one of %d GPUs, from 0; found cuda:%d", n_devices,
             i_device);
    return UM_OK;
}

static um_status open_gpu(cuda_device *cuda, um_error *err) {
    int major = 0, minor = 0, i = cuda->i_device;
    cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, i);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&cuda->n_multiprocessors, cudaDevAttrMultiProcessorCount, i);
    if (error == cudaSuccess && 10 * major + minor < CAPABILITY_MIN)
        FAIL(UM_UNSUPPORTED, err,
             "device %s: expected a GPU of compute capability 8.0 or higher, found %d.%d",
             cuda->name, major, minor);
    cuda->has_clusters = major >= 9;
    if (error == cudaSuccess) error = cudaSetDevice(i);
    if (error == cudaSuccess)
        error = cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking);
    for (int k = 0; k < DEVICE_MARKS && error == cudaSuccess; k++)
        error = cudaEventCreateWithFlags(&cuda->marks[k], cudaEventDisableTiming);
    if (cuda_check(cuda, error) != UM_OK)
        FAIL(error == cudaErrorMemoryAllocation ? UM_NO_MEMORY : UM_DEVICE, err,
             "device %s cannot be opened: %s", cuda->name, cuda->fault);
    return UM_OK;
}

um_status cuda_open(int i_device, int n_threads, device **out, um_error *err) {
    TRY(check_machine(i_device, err));
    cuda_device *cuda = memory_calloc(1, sizeof *cuda);
    if (!cuda) FAIL(UM_NO_MEMORY, err, "no memory for the device");
    cuda->i_device = i_device;
    snprintf(cuda->name, sizeof cuda->name, "cuda:%d", i_device);
    um_status status = cpu_open(n_threads, &cuda->host, err);
    if (status == UM_OK) status = open_gpu(cuda, err);
    if (status != UM_OK) {
        cuda_close(&cuda->base);
        return status;
    }
    cuda->base = (device){.ops = &cuda_ops,
                          .kind = &cuda_kind,
                          .tier = "cuda",
                          .name = cuda->name,
                          .has_bf16 = true,
                          .has_panels = true,
                          .runs_ahead = true,
                          .pool = cuda->host->pool};
    *out = &cuda->base;
    return UM_OK;
}

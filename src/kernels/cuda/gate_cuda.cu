/* SPDX-License-Identifier: Apache-2.0
 *
 * What stands in front of a run that may turn out not to be wanted.
 */
#include "kernels/cuda/common.cuh"
#include "kernels/device.h"

static __global__ void look_at_gate(cudaGraphConditionalHandle handle, device_gate *gate) {
    if (gate->is_open) gate->begin_ns = device_clock_ns();
    cudaGraphSetConditional(handle, gate->is_open != 0);
}

extern "C" void cuda_launch_gate(cudaStream_t stream, cudaGraphConditionalHandle handle,
                                 device_gate *gate) {
    look_at_gate<<<1, 1, 0, stream>>>(handle, gate);
}

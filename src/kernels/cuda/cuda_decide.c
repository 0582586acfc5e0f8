/* SPDX-License-Identifier: Apache-2.0
 *
 * Decisions on the GPU.
 */
#include "kernels/cuda/cuda_device.h"

um_status cuda_decide(device *dev, const decide_args *a) {
    if (a->n_blocks <= 0) return UM_OK;
    cuda_launch_decide(cuda_of(dev)->stream, a);
    return cuda_check_launch(cuda_of(dev));
}

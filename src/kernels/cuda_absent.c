/* SPDX-License-Identifier: Apache-2.0
 *
 * Stands in for cuda/ where the library is built without CUDA.
 */
#include "kernels/device_kind.h"

um_status cuda_open(int i_device, int n_threads, device **dev, um_error *err) {
    (void)n_threads;
    (void)dev;
    FAIL(UM_UNSUPPORTED, err,
         "device cuda:%d: this build of unmask has no CUDA; build it with -DUNMASK_CUDA=ON where "
         "CUDA's compiler, nvcc, is installed",
         i_device);
}

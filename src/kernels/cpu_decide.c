/* SPDX-License-Identifier: Apache-2.0
 *
 * Decisions on the CPU: the specification, block by block; there is nothing to gain.
 */
#include "base/clock.h"
#include "kernels/cpu.h"

um_status cpu_decide(device *dev, const decide_args *a) {
    (void)dev;
    for (int32_t i = 0; i < a->n_blocks; i++)
        if (!decide_block_scalar(a, &a->blocks[i], a->gate->n_steps)) a->gate->is_open = 0;
    a->gate->n_steps++;
    a->gate->end_ns = clock_now_ns();
    return UM_OK;
}

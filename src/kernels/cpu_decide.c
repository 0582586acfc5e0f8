/* SPDX-License-Identifier: Apache-2.0
 *
 * Decisions on the CPU: the specification, block by block; there is nothing to gain.
 */
#include <string.h>

#include "base/clock.h"
#include "kernels/cpu.h"

um_status cpu_decide(device *dev, const decide_args *a) {
    (void)dev;
    for (int32_t i = 0; i < a->n_blocks; i++)
        if (!decide_block_scalar(a, &a->blocks[i], a->gate->n_steps)) a->gate->is_open = 0;
    int i_report = a->gate->n_steps++ % 2;
    a->gate->end_ns = clock_now_ns();
    if (a->report_bytes) memcpy(a->reports[i_report], a->report, a->report_bytes);
    return UM_OK;
}

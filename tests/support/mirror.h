/* SPDX-License-Identifier: Apache-2.0
 *
 * A device that takes host pointers and lets another one compute: it brings what an operation reads
 * to the other's memory, and back what it writes. With it the kernel tests, which know host memory
 * only, run over a GPU. Scratch is the other device's own, filled with NaN.
 */
#ifndef TESTS_MIRROR_H
#define TESTS_MIRROR_H

#include "kernels/device.h"

/* Takes `real`, which is closed with the mirror. Fails the test where memory runs out. */
device *mirror_open(device *real);

#endif

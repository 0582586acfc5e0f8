/* SPDX-License-Identifier: Apache-2.0
 *
 * Monotonic time. For reports only: no result depends on it.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds since an arbitrary start. Any thread. */
int64_t clock_now_ns(void);

#endif

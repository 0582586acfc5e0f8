/* SPDX-License-Identifier: Apache-2.0
 *
 * How much memory this process may use, for a clear sentence before it is too late.
 */
#ifndef BASE_SYSTEM_MEMORY_H
#define BASE_SYSTEM_MEMORY_H

#include <stdint.h>

/* The smallest of: the machine's memory, the limit of the process's control group, the limit of its
 * address space. Bytes; INT64_MAX where nothing says. */
int64_t system_memory_bytes(void);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * Every allocation of the project goes through here, so that a test can make any one of them fail.
 * Owns no memory itself. The fault counter is the only mutable global of the library; it is off
 * unless a test switches it on.
 */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* All return NULL on failure or overflow; none returns NULL for a size of 0. Any thread.
 * What they return is freed with memory_free. */
void *memory_alloc(size_t n_bytes);
void *memory_calloc(size_t n, size_t item_bytes);                   /* zeroed */
void *memory_alloc_array(size_t n, size_t item_bytes);              /* not zeroed */
void *memory_realloc_array(void *old, size_t n, size_t item_bytes); /* old stays on failure */
void *memory_alloc_aligned(size_t alignment, size_t n_bytes);       /* power of two, at least 16 */
char *memory_copy_string(const char *text, size_t n_bytes);         /* adds the zero */
void memory_free(void *memory);

/* Zeroed memory on huge pages where the system has any, 2 MiB aligned, for large blocks that last;
 * given page by page as it is touched. NULL on failure. Freed with memory_unmap and the same size.
 */
void *memory_map(size_t n_bytes);
void memory_unmap(void *memory, size_t n_bytes);

/* Grows an array so that it has room for one more item. `items` is a pointer to the array pointer;
 * capacity doubles. Returns 0 on success, -1 when memory runs out (the array stays as it was). */
int memory_grow(void *items, size_t *capacity, size_t n_used, size_t item_bytes);

/* For tests: the n-th allocation from now on fails (from 1), and all after it as well if `sticky`.
 * 0 switches faults off. */
void memory_fault_at(uint64_t n, int sticky);
/* Allocations asked for since the last memory_fault_at. */
uint64_t memory_fault_count(void);

#endif

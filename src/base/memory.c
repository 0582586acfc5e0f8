/* SPDX-License-Identifier: Apache-2.0
 *
 * Allocation over malloc with overflow checks and fault injection. The counters are relaxed
 * atomics: they cost a few nanoseconds on paths that allocate, and no step does.
 */
#include "base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/status.h"

static atomic_uint_fast64_t fault_target;
static atomic_uint_fast64_t fault_seen;
static atomic_int fault_sticky;

void memory_fault_at(uint64_t n, int sticky) {
    atomic_store(&fault_target, 0);
    atomic_store(&fault_seen, 0);
    atomic_store(&fault_sticky, sticky);
    atomic_store(&fault_target, n);
}

uint64_t memory_fault_count(void) {
    return atomic_load(&fault_seen);
}

static int must_fail(void) {
    uint64_t seen = atomic_fetch_add_explicit(&fault_seen, 1, memory_order_relaxed) + 1;
    uint64_t target = atomic_load_explicit(&fault_target, memory_order_relaxed);
    if (!target) return 0;
    return seen == target || (seen > target && atomic_load(&fault_sticky));
}

void *memory_alloc(size_t n_bytes) {
    if (must_fail()) return NULL;
    return malloc(n_bytes ? n_bytes : 1);
}

void *memory_calloc(size_t n, size_t item_bytes) {
    if (must_fail()) return NULL;
    return calloc(n ? n : 1, item_bytes ? item_bytes : 1);
}

void *memory_alloc_array(size_t n, size_t item_bytes) {
    size_t n_bytes;
    if (__builtin_mul_overflow(n, item_bytes, &n_bytes)) return NULL;
    return memory_alloc(n_bytes);
}

void *memory_realloc_array(void *old, size_t n, size_t item_bytes) {
    size_t n_bytes;
    if (__builtin_mul_overflow(n, item_bytes, &n_bytes)) return NULL;
    if (must_fail()) return NULL;
    return realloc(old, n_bytes ? n_bytes : 1);
}

void *memory_alloc_aligned(size_t alignment, size_t n_bytes) {
    if (must_fail()) return NULL;
    void *memory = NULL;
    if (n_bytes > SIZE_MAX - alignment) return NULL;
    if (posix_memalign(&memory, alignment, n_bytes ? n_bytes : 1) != 0) return NULL;
    return memory;
}

char *memory_copy_string(const char *text, size_t n_bytes) {
    if (n_bytes == SIZE_MAX) return NULL;
    char *copy = memory_alloc(n_bytes + 1);
    if (!copy) return NULL;
    memcpy(copy, text, n_bytes);
    copy[n_bytes] = '\0';
    return copy;
}

void memory_free(void *memory) {
    free(memory);
}

enum { HUGE_PAGE_BYTES = 2 << 20 };

/* Maps a huge page too much and gives back what lies before and behind the aligned part. */
void *memory_map(size_t n_bytes) {
    if (must_fail() || n_bytes == 0 || n_bytes > SIZE_MAX - 2 * (size_t)HUGE_PAGE_BYTES)
        return NULL;
    n_bytes = (n_bytes + HUGE_PAGE_BYTES - 1) & ~((size_t)HUGE_PAGE_BYTES - 1);
    unsigned char *raw = mmap(NULL, n_bytes + HUGE_PAGE_BYTES, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) return NULL;
    size_t before = -(uintptr_t)raw & ((size_t)HUGE_PAGE_BYTES - 1);
    if (before) munmap(raw, before);
    if (before < HUGE_PAGE_BYTES) munmap(raw + before + n_bytes, HUGE_PAGE_BYTES - before);
    madvise(raw + before, n_bytes, MADV_HUGEPAGE); /* a wish: small pages do as well */
    return raw + before;
}

void memory_unmap(void *memory, size_t n_bytes) {
    if (memory) munmap(memory, (n_bytes + HUGE_PAGE_BYTES - 1) & ~((size_t)HUGE_PAGE_BYTES - 1));
}

int memory_grow(void *items, size_t *capacity, size_t n_used, size_t item_bytes) {
    if (n_used < *capacity) return 0;
    size_t wanted = *capacity ? *capacity * 2 : 16;
    if (wanted <= n_used) return -1;
    void *old;
    memcpy(&old, items, sizeof old); /* `items` points to a pointer of some type */
    void *grown = memory_realloc_array(old, wanted, item_bytes);
    if (!grown) return -1;
    memcpy(items, &grown, sizeof grown);
    *capacity = wanted;
    return 0;
}

void um_free(void *memory) {
    memory_free(memory);
}

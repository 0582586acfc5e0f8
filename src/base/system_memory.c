/* SPDX-License-Identifier: Apache-2.0
 *
 * Asks the system for its limits. A control group's limit is read from the one file in which the
 * kernel publishes it (cgroup v2 memory.max, Documentation/admin-guide/cgroup-v2.rst).
 */
#include "base/system_memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

int64_t system_memory_bytes(void) {
    int64_t limit = INT64_MAX;
    long n_pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    if (n_pages > 0 && page_bytes > 0) limit = (int64_t)n_pages * page_bytes;
    struct rlimit space;
    if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY &&
        space.rlim_cur < (rlim_t)INT64_MAX)
        limit = smaller(limit, (int64_t)space.rlim_cur);
    FILE *file = fopen("/sys/fs/cgroup/memory.max", "re");
    if (file) {
        int64_t group;
        if (fscanf(file, "%" SCNd64, &group) == 1 && group > 0) limit = smaller(limit, group);
        fclose(file);
    }
    return limit;
}

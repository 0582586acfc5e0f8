/* SPDX-License-Identifier: Apache-2.0
 *
 * Policies from shared objects: loading, and the checks that can be made before one runs.
 */
#include <dlfcn.h>
#include <string.h>

#include "base/memory.h"
#include "engine/engine.h"

struct plugin {
    void *handle;
    const um_policy *policy;
};

enum {
    KNOWN_FLAGS = (UM_POLICY_INSERTS << 1) - 1,
    KNOWN_READS = (UM_READS_ARGUMENTS << 1) - 1,
    NAME_BYTES_MAX = 31
};

static um_status refuse(um_error *err, const char *path, const char *sentence) {
    um_error_set(err, UM_INVALID, "policy: %s: %s", path, sentence);
    um_error_at(err, "policy", -1);
    return UM_INVALID;
}

static um_status check_policy(const char *path, const um_policy *p, um_error *err) {
    if (!p) return refuse(err, path, "um_policy_entry returns NULL");
    if (p->abi != UM_POLICY_ABI) {
        um_error_set(err, UM_UNSUPPORTED, "policy: %s: interface version %u; expected %d", path,
                     p->abi, UM_POLICY_ABI);
        um_error_at(err, "policy", -1);
        return UM_UNSUPPORTED;
    }
    if (!p->step) return refuse(err, path, "its policy has no step function");
    if (!p->name || !*p->name || strlen(p->name) > NAME_BYTES_MAX)
        return refuse(err, path, "its policy has no name of 1 to 31 bytes");
    if ((p->flags & ~(uint32_t)KNOWN_FLAGS) || (p->reads & ~(uint32_t)KNOWN_READS))
        return refuse(err, path, "its policy sets flags that this version does not know");
    return UM_OK;
}

um_status plugin_open(const char *path, plugin **out, um_error *err) {
    plugin *p = memory_calloc(1, sizeof *p);
    if (!p) FAIL(UM_NO_MEMORY, err, "no memory for a policy");
    p->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!p->handle) {
        const char *reason = dlerror();
        um_error_set(err, UM_NOT_FOUND, "policy: %s", reason ? reason : path);
        um_error_at(err, "policy", -1);
        plugin_close(p);
        return UM_NOT_FOUND;
    }
    /* A function's address comes as a data pointer: POSIX lets it be copied. */
    const um_policy *(*entry)(void) = NULL;
    void *symbol = dlsym(p->handle, "um_policy_entry");
    memcpy(&entry, &symbol, sizeof entry);
    um_status status = entry ? check_policy(path, p->policy = entry(), err)
                             : refuse(err, path, "it has no function um_policy_entry");
    if (status != UM_OK) {
        plugin_close(p);
        return status;
    }
    *out = p;
    return UM_OK;
}

const um_policy *plugin_policy(const plugin *p) {
    return p->policy;
}

void plugin_close(plugin *p) {
    if (!p) return;
    if (p->handle) dlclose(p->handle);
    memory_free(p);
}

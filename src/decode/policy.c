/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of policies.
 */
#include "decode/policy.h"

#include <string.h>

static const policy *const policies[] = {&policy_threshold, &policy_schedule, &policy_edit};

const policy *policy_at(int32_t i) {
    return i >= 0 && (size_t)i < sizeof policies / sizeof *policies ? policies[i] : NULL;
}

const policy *policy_find(const char *name) {
    for (int32_t i = 0; policy_at(i); i++)
        if (strcmp(policy_at(i)->name, name) == 0) return policy_at(i);
    return NULL;
}

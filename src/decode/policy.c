/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of built-in policies.
 */
#include "decode/policy.h"

#include <string.h>

static const um_policy *const policies[] = {
    &policy_threshold,   &policy_schedule, &policy_edit,          &policy_origin,
    &policy_maskgit,     &policy_margin,   &policy_entropy,       &policy_sequential,
    &policy_static,      &policy_dynamic,  &policy_entropy_bound, &policy_factor,
    &policy_hierarchy,   &policy_credit,   &policy_first_hitting, &policy_multi_block,
    &policy_levenshtein,
};

const um_policy *um_policy_at(int32_t i) {
    return i >= 0 && (size_t)i < sizeof policies / sizeof *policies ? policies[i] : NULL;
}

const um_policy *um_policy_find(const char *name) {
    for (int32_t i = 0; name && um_policy_at(i); i++)
        if (strcmp(um_policy_at(i)->name, name) == 0) return um_policy_at(i);
    return NULL;
}

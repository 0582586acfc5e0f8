/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of families and how a config is recognised: by architectures[0] where it is there
 * (model_type is shared by unlike models: LLaDA-MoE also says "llada"), else by model_type.
 */
#include <string.h>

#include "base/strbuf.h"
#include "models/family.h"

static const family *const families[] = {
    &family_llada2_moe, &family_llada,    &family_illada, &family_llada_moe,    &family_dream,
    &family_sdar,       &family_sdar_moe, &family_rnd1,   &family_fast_dllm_v2,
};
enum { N_FAMILIES = sizeof families / sizeof *families };

static bool is_listed(const char *const *names, const char *name) {
    for (; *names; names++)
        if (strcmp(*names, name) == 0) return true;
    return false;
}

um_status family_find(const hf_config *config, const family **found, um_error *err) {
    const char *architecture = hf_config_architecture(config);
    const char *model_type = hf_config_model_type(config);
    for (int i = 0; i < N_FAMILIES; i++) {
        if (architecture ? is_listed(families[i]->architectures, architecture)
                         : model_type && is_listed(families[i]->model_types, model_type)) {
            *found = families[i];
            return UM_OK;
        }
    }
    strbuf known;
    strbuf_init(&known);
    for (int i = 0; i < N_FAMILIES; i++)
        strbuf_append_format(&known, "%s%s", i ? ", " : "", families[i]->architectures[0]);
    um_error_set(err, UM_UNSUPPORTED,
                 "config.json: architecture %s (model_type %s) is not known; known are %s",
                 architecture ? architecture : "(none)", model_type ? model_type : "(none)",
                 known.data ? known.data : "");
    um_error_at(err, "architectures", -1);
    strbuf_deinit(&known);
    return UM_UNSUPPORTED;
}

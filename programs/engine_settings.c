/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/engine_settings.h"

void engine_settings(const options *o, progress *bar, um_engine_options *settings) {
    um_engine_options_init(settings);
    settings->directory = options_text(o, OPTION_MODEL);
    settings->device = options_text(o, OPTION_DEVICE);
    settings->n_threads = (int32_t)options_integer(o, OPTION_THREADS, 0);
    settings->mask_token = (int32_t)options_integer(o, OPTION_MASK_TOKEN, -1);
    settings->precision = (um_precision)options_integer(o, OPTION_PRECISION, UM_PRECISION_FAST);
    settings->kv_type = (um_kv_type)options_integer(o, OPTION_KV_TYPE, UM_KV_AUTO);
    settings->expert_cap = (int32_t)options_integer(o, OPTION_EXPERT_CAP, 0);
    settings->synthetic = options_text(o, OPTION_SYNTHETIC);
    settings->synthetic_type = options_text(o, OPTION_TYPE);
    settings->synthetic_layers = (int32_t)options_integer(o, OPTION_LAYERS, 0);
    settings->pack_cache = options_text(o, OPTION_PACK_CACHE);
    settings->progress = progress_load;
    settings->progress_user = bar;
}

um_status engine_settings_check_model(const options *o, um_error *err) {
    static const option_id of_synthetic[] = {OPTION_TYPE, OPTION_LAYERS};
    TRY(options_refuse_pair(o, OPTION_MODEL, OPTION_SYNTHETIC, "it is one model or the other",
                            err));
    if (options_has(o, OPTION_SYNTHETIC)) return UM_OK;
    TRY(options_require(o, OPTION_MODEL, err));
    for (size_t i = 0; i < 2; i++)
        if (options_has(o, of_synthetic[i]))
            FAIL(UM_INVALID, err, "--%s goes with --synthetic", option_table[of_synthetic[i]].name);
    return UM_OK;
}

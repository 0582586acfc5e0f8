/* SPDX-License-Identifier: Apache-2.0
 *
 * `unmask logits`: one forward over a sequence of ids, its scores to a safetensors file.
 */
#include <string.h>

#include "base/memory.h"
#include "programs/commands.h"
#include "programs/engine_settings.h"
#include "programs/ids.h"
#include "programs/interrupt.h"
#include "programs/policy_options.h"
#include "programs/progress.h"
#include "programs/report.h"
#include "programs/run_options.h"
#include "programs/tensor_file.h"

static um_status compute(const options *o, const int32_t *ids, size_t n_ids, progress *p,
                         float **logits, size_t *vocab, um_error *err) {
    um_engine_options settings;
    um_engine *engine = NULL;
    engine_settings(o, p, &settings);
    um_status status = um_engine_open(&settings, &engine, err);
    progress_clear(p);
    if (status != UM_OK) policy_options_rename(err);
    if (status != UM_OK) return status;
    *vocab = (size_t)um_engine_info(engine)->vocab;
    int32_t context = um_engine_info(engine)->context;
    size_t n_values = 0;
    if (n_ids > (size_t)context) {
        status =
            um_error_set(err, UM_LIMIT, "%zu token ids; the model's context is %d", n_ids, context);
        goto cleanup;
    }
    if (!__builtin_mul_overflow(n_ids, *vocab, &n_values))
        *logits = memory_alloc_array(n_values, sizeof **logits);
    if (!*logits) {
        status = um_error_set(err, UM_NO_MEMORY,
                              "no memory for the logits of %zu positions: %.1f MB are needed",
                              n_ids, (double)n_ids * (double)*vocab * sizeof **logits / 1e6);
        goto cleanup;
    }
    status = um_engine_logits(engine, ids, n_ids, (int32_t)options_integer(o, OPTION_BLOCK, 0),
                              *logits, err);
cleanup:
    um_engine_close(&engine);
    return status;
}

static um_status run(const options *o, um_error *err) {
    int32_t *ids = NULL;
    size_t n_ids = 0, vocab = 0;
    float *logits = NULL;
    progress load;
    um_status status = UM_OK;
    TRY(options_require(o, OPTION_MODEL, err));
    TRY(options_require(o, OPTION_IDS, err));
    TRY(options_require(o, OPTION_OUTPUT, err));
    const char *text = options_text(o, OPTION_IDS);
    TRY(ids_parse(text, strlen(text), &ids, &n_ids, err));
    progress_init(&load, options_has(o, OPTION_VERBOSE));
    TRY_GOTO(compute(o, ids, n_ids, &load, &logits, &vocab, err), cleanup);
    interrupt_defer(true); /* a file half written is removed */
    status = tensor_file_write(options_text(o, OPTION_OUTPUT), "logits", logits, n_ids, vocab, err);
cleanup:
    memory_free(logits);
    memory_free(ids);
    return status;
}

int logits_command(const options *o) {
    um_error err = {.byte_pos = -1};
    return run(o, &err) == UM_OK ? REPORT_EXIT_DONE : report_error("logits", &err);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * `unmask quantize`: a model to a GGUF file of another type. The file is the answer; the table of
 * tensors and the summary are for people, on standard error, and --json for programs.
 */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "programs/commands.h"
#include "programs/interrupt.h"
#include "programs/progress.h"
#include "programs/report.h"

enum { TEXT_BYTES_MAX = 1 << 28, NAME_COLUMNS = 30 };

typedef struct quantization {
    const options *o;
    progress bar;
    json_t *tensors; /* with --json */
    bool has_header;
} quantization;

/* A um_work_progress_fn: false after Ctrl-C. */
static bool on_progress(void *user, const char *what, int64_t done, int64_t total) {
    quantization *q = user;
    if (strcmp(what, "measuring") == 0)
        progress_measure(&q->bar, done, total);
    else
        progress_load(&q->bar, what, done, total);
    return !interrupt_is_set();
}

/* ---- The importances ------------------------------------------------------------------------ */

static um_status read_ids(const options *o, int32_t **ids, size_t *n_ids, um_error *err) {
    const char *path = options_text(o, OPTION_IMATRIX);
    um_tokenizer *tokenizer = NULL;
    char *text = NULL;
    size_t n_bytes;
    TRY(file_read(path, TEXT_BYTES_MAX, &text, &n_bytes, err));
    um_status status = um_tokenizer_open(options_text(o, OPTION_MODEL), &tokenizer, err);
    if (status != UM_OK) goto cleanup;
    status = um_tokenizer_encode(tokenizer, text, n_bytes, ids, n_ids, err);
    if (status == UM_OK && *n_ids == 0)
        status = um_error_set(err, UM_FORMAT, "%s: expected text, found none", path);
    if (status == UM_INVALID) { /* of the file, not of the command line */
        err->status = status = UM_FORMAT;
        um_error_at(err, path, -1);
    }
cleanup:
    um_tokenizer_close(&tokenizer);
    memory_free(text);
    return status;
}

static um_status measure(quantization *q, um_importance **importance, um_error *err) {
    um_importance_options settings;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    um_importance_options_init(&settings);
    TRY(read_ids(q->o, &ids, &n_ids, err));
    settings.directory = options_text(q->o, OPTION_MODEL);
    settings.ids = ids;
    settings.n_ids = n_ids;
    settings.n_threads = (int32_t)options_integer(q->o, OPTION_THREADS, 0);
    settings.mask_token = (int32_t)options_integer(q->o, OPTION_MASK_TOKEN, -1);
    settings.progress = on_progress;
    settings.progress_user = q;
    um_status status = um_importance_measure(&settings, importance, err);
    progress_clear(&q->bar);
    um_free(ids);
    return status;
}

/* ---- The report ----------------------------------------------------------------------------- */

static json_t *tensor_json(const um_quantized_tensor *t) {
    return json_pack("{s:s, s:s, s:s, s:s?, s:I, s:I, s:f, s:b}", "name", t->name, "from", t->from,
                     "type", t->to, "wanted", t->wanted, "items", (json_int_t)t->n_items, "bytes",
                     (json_int_t)t->n_bytes, "error", t->error, "importance",
                     (int)t->has_importance);
}

/* A line of the table. */
static void on_tensor(void *user, const um_quantized_tensor *t) {
    quantization *q = user;
    if (q->tensors) json_array_append_new(q->tensors, tensor_json(t));
    if (!progress_wants_summary(&q->bar)) return;
    progress_clear(&q->bar);
    if (!q->has_header)
        fprintf(stderr, "%-*s %-12s %10s  %s\n", NAME_COLUMNS, "tensor", "type", "kB",
                "relative error");
    q->has_header = true;
    fprintf(stderr, "%-*s %-4s > %-5s %10" PRId64 "  %.5f", NAME_COLUMNS, t->name, t->from, t->to,
            (t->n_bytes + 500) / 1000, t->error);
    if (t->wanted) fprintf(stderr, "  its rows are no whole blocks of %s", t->wanted);
    fputc('\n', stderr);
}

static void print_summary(const um_quantize_result *r, const char *path) {
    fprintf(stderr,
            "%s: %.1f MB, %" PRId64
            " tensors, %.1f million parameters, %.2f bits a weight, "
            "relative error %.5f\n",
            path, (double)r->file_bytes / 1e6, r->n_tensors, (double)r->n_parameters / 1e6,
            r->bits_per_weight, r->error);
}

static um_status print_json(quantization *q, const um_quantize_result *r, um_error *err) {
    json_t *root = json_pack(
        "{s:s, s:s, s:O, s:I, s:I, s:I, s:f, s:f}", "file", options_text(q->o, OPTION_OUTPUT),
        "type", options_text(q->o, OPTION_TYPE), "tensors", q->tensors, "parameters",
        (json_int_t)r->n_parameters, "bytes", (json_int_t)r->n_bytes, "file_bytes",
        (json_int_t)r->file_bytes, "bits_per_weight", r->bits_per_weight, "error", r->error);
    char *text = root ? json_dumps(root, JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    if (!text) FAIL(UM_NO_MEMORY, err, "no memory for the JSON of a file");
    puts(text);
    free(text);
    return report_flush_output(err);
}

static um_status write_file(quantization *q, const um_importance *importance, um_error *err) {
    um_quantize_options settings;
    um_quantize_result result;
    const options *o = q->o;
    um_quantize_options_init(&settings);
    settings.directory = options_text(o, OPTION_MODEL);
    settings.output = options_text(o, OPTION_OUTPUT);
    settings.type = options_text(o, OPTION_TYPE);
    settings.is_pure = options_has(o, OPTION_PURE);
    settings.may_replace = options_has(o, OPTION_FORCE);
    settings.n_threads = (int32_t)options_integer(o, OPTION_THREADS, 0);
    settings.mask_token = (int32_t)options_integer(o, OPTION_MASK_TOKEN, -1);
    settings.importance = importance;
    settings.progress = on_progress;
    settings.tensor = on_tensor;
    settings.user = q;
    um_status status = um_quantize(&settings, &result, err);
    progress_clear(&q->bar);
    if (status != UM_OK) return status;
    if (progress_wants_summary(&q->bar)) print_summary(&result, settings.output);
    return q->tensors ? print_json(q, &result, err) : UM_OK;
}

static um_status run(const options *o, um_error *err) {
    quantization q = {.o = o};
    um_importance *importance = NULL;
    um_status status = UM_OK;
    TRY(options_require(o, OPTION_MODEL, err));
    TRY(options_require(o, OPTION_TYPE, err));
    TRY(options_require(o, OPTION_OUTPUT, err));
    progress_init(&q.bar, options_has(o, OPTION_VERBOSE));
    interrupt_defer(true); /* a file half written is removed */
    /* Before the minutes that measuring takes. */
    if (!options_has(o, OPTION_FORCE) && file_exists(options_text(o, OPTION_OUTPUT)))
        FAIL(UM_IO, err, "%s: exists already; it is replaced with --force only",
             options_text(o, OPTION_OUTPUT));
    if (options_has(o, OPTION_JSON)) q.tensors = json_array();
    if (options_has(o, OPTION_IMATRIX)) status = measure(&q, &importance, err);
    if (status == UM_OK) status = write_file(&q, importance, err);
    um_importance_close(&importance);
    json_decref(q.tensors);
    return status;
}

int quantize_command(const options *o) {
    um_error err = {.byte_pos = -1};
    return run(o, &err) == UM_OK ? REPORT_EXIT_DONE : report_error("quantize", &err);
}

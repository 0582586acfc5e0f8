/* SPDX-License-Identifier: Apache-2.0
 *
 * um_quantize: a model's tensors, one after another, into a GGUF file. Before the file gets its
 * name it is opened as a model and compared with the source, so that a setting for which the format
 * has no key is an error here and not nonsense later.
 */
#include "engine/quantize.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"

typedef struct quantizer {
    const um_quantize_options *options;
    um_quantize_result *result;
    dtype type;
    model *m;
    gguf_export list;
    dtype *types, *wanted; /* [list.n] */
    gguf_writer *writer;
    thread_pool *pool;
    quantize_rows rows;
    int64_t done, total; /* bytes of the source */
    quantize_error sum;
} quantizer;

void um_quantize_options_init(um_quantize_options *options) {
    memset(options, 0, sizeof *options);
    options->mask_token = -1;
}

static um_status refuse(const char *parameter, const char *sentence, um_error *err) {
    um_error_set(err, UM_INVALID, "%s", sentence);
    um_error_at(err, parameter, -1);
    return UM_INVALID;
}

static um_status check_options(const um_quantize_options *o, dtype *type, um_error *err) {
    struct stat known;
    if (!o || !o->directory) return refuse("directory", "the model's directory is missing", err);
    if (!o->output || !o->output[0])
        return refuse("output", "the name of the file to write is missing", err);
    if (!o->type) return refuse("type", "the type to write is missing", err);
    TRY(quantize_type_find(o->type, type, err));
    if (o->may_replace || stat(o->output, &known) != 0 || !S_ISREG(known.st_mode)) return UM_OK;
    um_error_set(err, UM_IO, "%s: exists already; it is replaced with --force only", o->output);
    um_error_at(err, o->output, -1);
    return UM_IO;
}

/* ---- The source ----------------------------------------------------------------------------- */

/* The mapped bytes of a source would change under it. */
static um_status check_other_file(const quantizer *q, um_error *err) {
    struct stat output, input;
    if (stat(q->options->output, &output) != 0) return UM_OK;
    for (int64_t i = 0; i < tensor_catalog_count(model_files(q->m)); i++) {
        const tensor *t = tensor_catalog_at(model_files(q->m), i);
        if (stat(t->file, &input) != 0 || input.st_dev != output.st_dev ||
            input.st_ino != output.st_ino)
            continue;
        um_error_set(err, UM_INVALID, "%s is a file of the model that is read", q->options->output);
        um_error_at(err, "output", -1);
        return UM_INVALID;
    }
    return UM_OK;
}

static um_status check_source(const quantizer *q, um_error *err) {
    for (int64_t i = 0; i < tensor_catalog_count(model_files(q->m)); i++) {
        const tensor *t = tensor_catalog_at(model_files(q->m), i);
        if (!dtype_is_block(t->type)) continue;
        um_error_set(err, UM_UNSUPPORTED,
                     "%s is stored as %s: the model is quantized already; expected F32, F16 or "
                     "BF16, since errors would add up",
                     t->name, dtype_name(t->type));
        um_error_at(err, t->file, -1);
        return UM_UNSUPPORTED;
    }
    return check_other_file(q, err);
}

static dtype source_type(const gguf_source *source) {
    int32_t row;
    return gguf_export_part(source, 0, &row)->type;
}

/* The types of all tensors, which the header holds. */
static um_status plan_tensors(quantizer *q, um_error *err) {
    const transformer *t = model_transformer(q->m);
    bool has_head = t->head.data != t->embedding.data;
    int32_t n_in_max = 1;
    q->types = memory_alloc_array(q->list.n, sizeof *q->types);
    q->wanted = memory_alloc_array(q->list.n, sizeof *q->wanted);
    if (!q->types || !q->wanted) FAIL(UM_NO_MEMORY, err, "no memory for a list of types");
    for (size_t i = 0; i < q->list.n; i++) {
        const gguf_source *source = &q->list.items[i];
        size_t n_items = (size_t)source->n_rows * (size_t)source->n_in;
        q->types[i] = quantize_type_of(source, q->type, q->options->is_pure, has_head, &t->shape,
                                       &q->wanted[i]);
        gguf_writer_tensor(q->writer, source->name, q->types[i], source->n_dims, source->shape);
        q->total += (int64_t)dtype_size(source_type(source), n_items);
        if (source->n_in > n_in_max) n_in_max = source->n_in;
    }
    return quantize_rows_init(&q->rows, q->pool, n_in_max, err);
}

/* ---- The work ------------------------------------------------------------------------------- */

static bool step(void *user, int64_t n_bytes) {
    quantizer *q = user;
    const um_quantize_options *o = q->options;
    q->done += n_bytes;
    return !o->progress || o->progress(o->user, "quantizing", q->done, q->total);
}

static double relative(quantize_error sum) {
    return sum.total > 0 ? sqrt(sum.difference / sum.total) : 0;
}

static um_status write_tensor(quantizer *q, size_t i, um_error *err) {
    const gguf_source *source = &q->list.items[i];
    const um_quantize_options *o = q->options;
    quantize_error sum;
    TRY(quantize_rows_run(&q->rows, source, q->types[i], o->importance, q->writer, step, q, &sum,
                          err));
    q->sum.difference += sum.difference;
    q->sum.total += sum.total;
    um_quantized_tensor told = {
        .name = source->name,
        .from = dtype_name(source_type(source)),
        .to = dtype_name(q->types[i]),
        .wanted = q->wanted[i] != q->types[i] ? dtype_name(q->wanted[i]) : NULL,
        .n_items = source->n_rows * source->n_in,
        .error = relative(sum),
        .has_importance = importance_find(o->importance, source) != NULL,
    };
    told.n_bytes = (int64_t)dtype_size(q->types[i], (size_t)told.n_items);
    q->result->n_tensors++;
    q->result->n_parameters += told.n_items;
    q->result->n_bytes += told.n_bytes;
    if (o->tensor) o->tensor(o->user, &told);
    return UM_OK;
}

/* Opens what was written as a model. */
static um_status check_written(quantizer *q, um_error *err) {
    const char *path = gguf_writer_path(q->writer);
    model *written;
    if (!path) return UM_OK;
    TRY(model_open(path, -1, &written, err));
    const char *what = gguf_export_difference(q->m, written);
    model_close(written);
    if (!what) return UM_OK;
    FAIL(UM_UNSUPPORTED, err, "a GGUF file cannot say all of this model: its %s would be others",
         what);
}

static um_status work(quantizer *q, um_error *err) {
    const um_quantize_options *o = q->options;
    TRY(model_open(o->directory, o->mask_token, &q->m, err));
    TRY(check_source(q, err));
    TRY(gguf_export_list(q->m, &q->list, err));
    TRY(thread_pool_create(o->n_threads, &q->pool, err));
    TRY(gguf_writer_create(o->output, &q->writer, err));
    TRY(quantize_metadata(q->m, o->directory, q->type, q->writer, err));
    TRY(plan_tensors(q, err));
    TRY(gguf_writer_begin(q->writer, err));
    if (o->progress && !o->progress(o->user, "quantizing", 0, q->total))
        FAIL(UM_CANCELLED, err, "interrupted");
    for (size_t i = 0; i < q->list.n; i++) TRY(write_tensor(q, i, err));
    TRY(gguf_writer_close(q->writer, err));
    TRY(check_written(q, err));
    TRY(gguf_writer_finish(q->writer, err));
    q->result->file_bytes = gguf_writer_file_bytes(q->writer);
    q->result->bits_per_weight = 8 * (double)q->result->n_bytes / (double)q->result->n_parameters;
    q->result->error = relative(q->sum);
    return UM_OK;
}

um_status um_quantize(const um_quantize_options *options, um_quantize_result *result,
                      um_error *err) {
    um_quantize_result ignored;
    quantizer q = {.options = options, .result = result ? result : &ignored};
    TRY(check_options(options, &q.type, err));
    memset(q.result, 0, sizeof *q.result);
    um_status status = work(&q, err);
    gguf_writer_destroy(q.writer);
    quantize_rows_deinit(&q.rows);
    memory_free(q.types);
    memory_free(q.wanted);
    thread_pool_destroy(q.pool);
    gguf_export_deinit(&q.list);
    model_close(q.m);
    return status;
}

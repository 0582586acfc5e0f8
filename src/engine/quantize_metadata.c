/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys of a written file. A directory's tokenizer is written twice: as the lists that llama.cpp
 * reads, and as the whole tokenizer.json, which says more (flags of added tokens, normalizers) and
 * which this project's reader prefers. Of a GGUF file all keys are taken over but those that speak
 * of types and of files.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "engine/quantize.h"
#include "formats/json_text.h"
#include "text/tokenizer_export.h"

enum { QUANTIZATION_VERSION = 2, GENERATION_BYTES_MAX = 16 << 20, EOS_KEYS = 2 };

/* llama.cpp's numbers of a file's prevailing type (llama_ftype; K types are its "medium" ones). */
static uint32_t file_type(dtype type) {
    switch (type) {
        case DTYPE_F32:
            return 0;
        case DTYPE_F16:
            return 1;
        case DTYPE_Q4_0:
            return 2;
        case DTYPE_Q8_0:
            return 7;
        case DTYPE_Q4_K:
            return 15;
        case DTYPE_Q5_K:
            return 17;
        case DTYPE_Q6_K:
            return 18;
        default:
            return 32;
    }
}

static void write_text(gguf_writer *writer, const char *key, const char *text) {
    gguf_writer_string(writer, key, text, strlen(text));
}

/* The directory's last part; "model" for "." and the like. */
static void write_name(gguf_writer *writer, const char *directory) {
    size_t n = strlen(directory);
    while (n > 1 && directory[n - 1] == '/') n--;
    size_t first = n;
    while (first > 0 && directory[first - 1] != '/') first--;
    bool is_name = n > first && directory[first] != '.' && directory[first] != '/';
    if (is_name)
        gguf_writer_string(writer, "general.name", directory + first, n - first);
    else
        write_text(writer, "general.name", "model");
}

/* ---- Tokens --------------------------------------------------------------------------------- */

static void write_texts(gguf_writer *writer, const char *key, const listed_text *texts, size_t n) {
    gguf_writer_array(writer, key, GGUF_TYPE_STRING, n);
    for (size_t i = 0; i < n; i++) gguf_writer_item_string(writer, texts[i].text, texts[i].n_bytes);
}

static void write_lists(gguf_writer *writer, const tokenizer_export *e) {
    write_text(writer, "tokenizer.ggml.model", "gpt2");
    write_text(writer, "tokenizer.ggml.pre", e->pre ? e->pre : "default");
    write_texts(writer, "tokenizer.ggml.tokens", e->tokens, e->n_tokens);
    gguf_writer_array(writer, "tokenizer.ggml.token_type", GGUF_TYPE_I32, e->n_tokens);
    for (size_t i = 0; i < e->n_tokens; i++) gguf_writer_item_i32(writer, e->kinds[i]);
    write_texts(writer, "tokenizer.ggml.merges", e->merges, e->n_merges);
    if (e->adds_bos >= 0) gguf_writer_bool(writer, "tokenizer.ggml.add_bos_token", e->adds_bos);
    write_text(writer, "tokenizer.huggingface.json", e->json);
}

static void write_token(gguf_writer *writer, const char *key, int32_t token) {
    if (token >= 0) gguf_writer_u32(writer, key, (uint32_t)token);
}

/* End tokens and the mask are the model's, whoever says them; the others have names only. */
static void write_special(gguf_writer *writer, const um_model_info *info,
                          const tokenizer_export *e) {
    write_token(writer, "tokenizer.ggml.bos_token_id", e->named[NAMED_TOKEN_BOS]);
    write_token(writer, gguf_key_eos_token, info->eos_token);
    write_token(writer, gguf_key_eot_token, info->eot_token);
    write_token(writer, "tokenizer.ggml.unknown_token_id", e->named[NAMED_TOKEN_UNK]);
    write_token(writer, "tokenizer.ggml.seperator_token_id", e->named[NAMED_TOKEN_SEP]);
    write_token(writer, "tokenizer.ggml.padding_token_id", e->named[NAMED_TOKEN_PAD]);
    write_token(writer, "tokenizer.ggml.cls_token_id", e->named[NAMED_TOKEN_CLS]);
    write_token(writer, gguf_key_mask_token, info->mask_token);
}

/* ---- Defaults of decoding ------------------------------------------------------------------- */

/* generation_config.json as it is; where a model has more end tokens than there are keys for, all
 * of them are in it. */
static um_status write_generation(gguf_writer *writer, const um_model_info *info,
                                  const char *directory, um_error *err) {
    json_t *root = NULL;
    um_error missing;
    um_status status = json_text_open(directory, "generation_config.json", GENERATION_BYTES_MAX,
                                      JSON_TEXT_BIG_NUMBERS, &root, &missing);
    if (status != UM_OK && status != UM_NOT_FOUND) {
        if (err) *err = missing;
        return status;
    }
    if (!root && info->n_stop_tokens <= EOS_KEYS) return UM_OK;
    if (!root) root = json_object();
    if (info->n_stop_tokens > EOS_KEYS) {
        json_t *stops = json_array();
        for (int32_t i = 0; i < info->n_stop_tokens; i++)
            json_array_append_new(stops, json_integer(info->stop_tokens[i]));
        json_object_set_new(root, "eos_token_id", stops);
    }
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (!text) FAIL(UM_NO_MEMORY, err, "no memory for the defaults of decoding");
    write_text(writer, gguf_key_generation, text);
    free(text);
    return UM_OK;
}

/* ---- The whole ------------------------------------------------------------------------------ */

static um_status from_directory(const model *m, const char *directory, gguf_writer *writer,
                                um_error *err) {
    const um_model_info *info = model_info(m);
    tokenizer_export e;
    TRY(tokenizer_export_read(directory, (size_t)info->vocab, &e, err));
    gguf_export_keys(m, writer);
    write_name(writer, directory);
    um_status status = write_generation(writer, info, directory, err);
    if (e.has_tokenizer)
        write_lists(writer, &e);
    else
        write_text(writer, "tokenizer.ggml.model", "none");
    write_special(writer, info, &e);
    if (e.chat_template) write_text(writer, "tokenizer.chat_template", e.chat_template);
    tokenizer_export_deinit(&e);
    return status;
}

static void from_file(const model *m, gguf_writer *writer) {
    const gguf *header = tensor_catalog_gguf(model_files(m));
    static const char *const left_out[] = {"general.file_type", "general.quantization_version",
                                           "general.alignment"};
    bool has_mask = gguf_find(header, gguf_key_mask_token) != NULL;
    for (size_t i = 0; i < header->n_values; i++) {
        const gguf_value *value = &header->values[i];
        bool is_left_out = strncmp(value->key, "split.", 6) == 0;
        for (size_t j = 0; j < sizeof left_out / sizeof *left_out; j++)
            is_left_out |= strcmp(value->key, left_out[j]) == 0;
        if (strcmp(value->key, gguf_key_mask_token) == 0)
            write_token(writer, gguf_key_mask_token, model_info(m)->mask_token);
        else if (!is_left_out)
            gguf_writer_value(writer, value);
    }
    if (!has_mask) write_token(writer, gguf_key_mask_token, model_info(m)->mask_token);
}

um_status quantize_metadata(const model *m, const char *directory, dtype type, gguf_writer *writer,
                            um_error *err) {
    if (model_gguf(m))
        from_file(m, writer);
    else
        TRY(from_directory(m, directory, writer, err));
    gguf_writer_u32(writer, "general.file_type", file_type(type));
    gguf_writer_u32(writer, "general.quantization_version", QUANTIZATION_VERSION);
    return UM_OK;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * A loaded model, as the engine sees it: what it is, and a forward pass over rows of many
 * sequences. Knows files and devices; knows neither requests nor policies.
 */
#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include "formats/tensor_catalog.h"
#include "kernels/ops.h"
#include "models/transformer.h"
#include "unmask.h"

/* What the engine must know of a family beyond um_model_info. */
typedef struct model_traits {
    um_attention attention;
    int32_t context;
    int32_t mask_token;       /* of the architecture's published models, or -1; the last resort */
    int32_t extra_stop_token; /* a second end token of the published models, or -1 */
    int32_t other_stop_token; /* a third, or -1 */
    /* The confidence of a drawn token: its probability under softmax(l / T) over the candidates
     * (LLaDA2), or under the untempered softmax (LLaDA). */
    bool has_tempered_confidence;
    bool has_inclusive_threshold; /* p >= threshold (Fast-dLLM) instead of p > threshold */
    bool has_even_steps;          /* Dream's kin of policies: eps is 0 unless it is given (RND1) */
    bool is_top_p_first;          /* top_p cuts candidates before top_k (Dream), not after it */
    bool is_shifted; /* row i predicts position i + 1 (Dream, Fast-dLLM v2) instead of its own */
    /* A finished block goes through the model once more, and its last row writes the first token of
     * the next block (Fast-dLLM v2); shifted, block-causal models only. */
    bool has_seed;
    int32_t block_multiple; /* block_len is a multiple of it (routing by blocks); 0: any */
    int32_t sub_block;      /* positions that are denoised together inside a block; 0: the block */
    int32_t delete_token;   /* an edit token that takes its position away (LLaDA2.2), or -1 */
    int32_t split_token; /* an edit token that puts a mask before its position (LLaDA2.2), or -1 */
    /* Decoding defaults; generation_config.json may change them. */
    const char *policy;
    int32_t block_len; /* 0: the whole answer (full attention only) */
    int32_t steps, post_steps;
    double threshold, edit_threshold;
} model_traits;

typedef struct model model;

/* Reads a directory of the Hugging Face hub's layout, or a GGUF file, and checks every tensor that
 * the model needs, without reading weights.
 * mask_token: -1, or the caller's. On success *out is the caller's. */
um_status model_open(const char *path, int32_t mask_token, model **out, um_error *err);
void model_close(model *m); /* accepts NULL */

/* A model of a published shape (models/synthetic.h) with random weights of `type`, for measuring.
 * n_layers 0: all. model_unpack frees what it took of the device. */
um_status model_open_synthetic(const char *name, dtype type, int32_t n_layers, device *dev,
                               model **out, um_error *err);
/* All layers of the shape that was asked for, of which fewer may be there. */
int32_t model_full_layers(const model *m);
/* Borrowed: what measuring reads. */
const transformer *model_transformer(const model *m);

/* Borrowed, valid until the model is closed. */
const um_model_info *model_info(const model *m);
const model_traits *model_traits_of(const model *m);
const tensor_catalog *model_files(const model *m);
/* How its GGUF file is laid out; NULL for a directory. */
const struct gguf_architecture *model_gguf(const model *m);
/* Bytes of weights in the files. */
int64_t model_weight_bytes(const model *m);

/* Lets the positions of a block reach at most n experts a layer, as LLaDA2.2 does: an approximation
 * of a model that was not trained so. Blocks are of the model's own length, or of 32 positions
 * where it has none; block-causal models are then denoised in multiples of them. Once, before the
 * first forward. UM_INVALID where the model is dense, routes by blocks itself, or n is out of
 * range. */
um_status model_cap_experts(model *m, int32_t n, um_error *err);

/* Says how the cache stores keys and values, for um_model_info. */
void model_set_kv_type(model *m, kv_type type);
/* Reads every weight once: UM_NUMERIC names the first tensor with a NaN or an infinity. */
um_status model_check_weights(const model *m, device *dev, um_progress_fn progress, void *user,
                              um_error *err);
/* Makes ready for positions [0, n_positions). Once, before the first forward. */
um_status model_prepare(model *m, int32_t n_positions, um_error *err);
/* Packed weights from a file, instead of model_check_weights and model_pack: whoever wrote it has
 * checked them, and the model's files are the same by size, time and samples. *is_read is false
 * where the file does not fit: then those two are to do. */
um_status model_read_packed(model *m, device *dev, const char *path, um_progress_fn progress,
                            void *user, bool *is_read, um_error *err);
/* After model_pack. */
um_status model_write_packed(model *m, device *dev, const char *path, um_error *err);
/* After model_prepare. is_fast: weights of block types get packed twins, for products with
 * quantized activations; otherwise they are decoded in every product. Then weights go where the
 * device reads them. model_unpack before the device closes. */
um_status model_pack(model *m, device *dev, bool is_fast, um_progress_fn progress, void *user,
                     um_error *err);
void model_unpack(model *m, device *dev);

/* One forward: see transformer_forward. scratch grows where the batch needs more than it holds. */
um_status model_forward(const model *m, device *dev, const kv_layer *kv, const model_batch *batch,
                        device_scratch *scratch, um_error *err);

#endif
